//! The authentication role: opens what came in, seals what goes out.
//!
//! Two agents, because one for both directions would close a cycle of rings: [`Open`] stands between the network and the replica,
//! [`Seal`] between the replica and the network. Both learn of links from the network's receiver and hold the keys of one life of
//! each link.

pub mod open;
pub mod seal;

pub use open::Open;
pub use seal::Seal;

/// Places in tables by peer: the ids of nodes and native clients are below it.
const PEERS_MAX: usize = 1 + crate::config::limits::NODES_MAX + crate::config::limits::CLIENTS_MAX;
