//! The replication role: hosts the groups of one core and connects their protocol cores with log, network, store and fronts.
//!
//! - [`Shard`]: many groups, one outbox, one log stream, one gate. Sans-IO; the simulator drives this very type.
//! - [`gate`]: holds a message that speaks of a write until that write is durable.
//! - [`route`]: takes this node's commands to whoever leads, and knows what became of each.
//! - [`deadlines`]: the next time-out over all groups.

pub mod agent;
mod catch_up;
pub mod deadlines;
pub mod gate;
pub mod reads;
pub mod route;
pub mod seat;
pub mod shard;
mod trips;

pub use agent::ReplicaAgent;
pub use shard::{Effects, Shard};
