//! What a node asks of its agents.

use crate::io::Agent;
use crate::meter::Metered;

/// An agent that has figures.
pub trait NodeAgent: Agent + Metered {}
impl<T: Agent + Metered> NodeAgent for T {}
