//! What whoever asks a group does that trusts none of its members alone.
//!
//! - [`Core`]: the native client without clock, socket and key file: what was asked of whom, which replies came, what is due again. The
//!   simulator drives this very type.
//! - [`Tally`]: what the replicas say that the reply to one request is, until enough say the same.
//! - `latency`: after which silence something goes again. `split`: where each reply ends. [`ClientAgent`]: the core between the rings of
//!   a process (`node::outside`).
//!
//! Sources: Castro and Liskov, TOCS 20(4), 2002, 4.2 and 5.1.3; Clement and others, "Making Byzantine Fault Tolerant Systems Tolerate
//! Byzantine Faults" (Aardvark), NSDI 2009; Berger, Reiser and Bessani, "Making Reads in BFT State Machine Replication Fast,
//! Linearizable, and Live", SRDS 2021.

mod agent;
mod core;
mod latency;
mod split;
mod tally;

pub use self::core::{Auth, Core, Settings, WINDOW};
pub use agent::{ClientAgent, Ports};
pub use tally::Tally;
