//! Level 2 of the simulator: whole nodes. All agents as `node::wiring` connects them, with real frames, handshakes, log files, recovery
//! and client connections, over simulated disks and sockets, in one thread. Like at level 1 a run is a function of its seed.
//!
//! - [`World`]: the cluster under faults, then healed; clients, whose histories are judged.
//! - [`Swarm`]: which faults and limits a seed stands for; [`Pbft`]: of a PBFT group, with nodes that lie.
//! - [`driver`]: the simulated `io::Driver`; [`disk`] and [`sockets`] are what it drives.
//!
//! What is not the production code: the keeper of snapshots ([`keeper`]), the service plane, and the loop of a core ([`node`]), which
//! lets the agents work in an order drawn from the seed, so that one core stands for every placement.

mod checks;
pub mod client;
pub mod disk;
pub mod driver;
mod gather;
mod harm;
pub mod keeper;
pub mod node;
pub mod pbft;
pub mod sockets;
pub mod swarm;
mod tamper;
mod trace;
mod traffic;
pub mod world;

pub use pbft::Pbft;
pub use swarm::Swarm;
pub use world::{Outcome, World};
