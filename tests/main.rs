//! One test binary: whole clusters, papers, house rules. What one room does alone is tested in that room.

#[cfg(feature = "canaries")]
mod canaries;
mod cluster;
mod full;
mod histories;
#[cfg(feature = "canaries")]
mod model;
mod paper;
mod pbft;
mod peers;
mod scenario;
mod store;
mod sweep;
mod tidy;
