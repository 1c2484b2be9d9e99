//! The simulated world: real shards and real cores around a network, disks and clocks that obey a seed. A run is a function of its
//! seed, so whatever a run finds can be run again.
//!
//! - [`World`]: many nodes under random faults, then healed; its checkers are in [`check`], one file a property.
//! - [`Script`]: the scenario language, in which everything is explicit.
//! - [`Swarm`]: which faults and limits a seed stands for.
//! - [`history`]: whether what clients saw, here or of a real cluster, is linearizable.
//!
//! The network drops, delays, repeats and reorders; it never forges. A disk finishes writes in any order; a crash keeps what was
//! acknowledged and any prefix of the rest.

pub mod check;
pub mod disk;
pub mod history;
pub mod host;
pub mod machine;
pub mod network;
pub mod script;
pub mod swarm;
pub mod world;

pub use script::Script;
pub use swarm::Swarm;
pub use world::{Outcome, World};
