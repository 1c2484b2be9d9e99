//! A role as an agent: it takes what has come over its rings, does a bounded turn of work, and says how much it did.
//!
//! Which agents share a core is a value (`node::placement`). A turn of a core: reap, hand each completion to its agent, let every
//! agent work once in the order of the wiring, then park if nothing was done.

use super::{Completion, Driver};
use crate::base::Instant;

/// A role on some core.
pub trait Agent: Send {
    /// For logs and metrics.
    fn name(&self) -> &'static str;
    /// Called once, on the agent's own thread, before anything else. `slot` is the `Token::agent` to submit with.
    fn start(&mut self, _slot: u8, _driver: &mut dyn Driver) -> std::io::Result<()> {
        Ok(())
    }
    /// An operation of this agent has completed. Take it in; heavy work belongs into `work`. Whoever submits operations says this anew.
    fn complete(&mut self, completion: Completion, _driver: &mut dyn Driver) {
        unreachable!("{} submits nothing, and was told of {:?}", self.name(), completion.token);
    }
    /// One bounded turn. Returns how much was done; 0 lets the core sleep.
    fn work(&mut self, driver: &mut dyn Driver) -> usize;
    /// When to be called although nothing has come.
    fn deadline(&self) -> Option<Instant>;
    /// Why this agent cannot go on, with the cure, once it cannot: the core prints it and ends the process with exit code 6.
    fn failure(&self) -> Option<String> {
        None
    }
}
