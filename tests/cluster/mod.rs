//! Real processes: clusters of `quorate start` on loopback, with faults that only an operating system can make.

mod bench;
mod clients;
mod clocks;
mod faults;
mod full_disk;
pub mod harness;
mod identity;
#[cfg(feature = "byzantine")]
mod liars;
mod limits;
pub mod load;
pub mod members;
mod memory;
mod metrics;
mod native;
mod operator;
mod partitions;
mod pbft;
mod placement;
mod recovery;
mod root;
mod slow_network;
mod verify;
