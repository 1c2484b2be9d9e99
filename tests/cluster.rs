//! See `cluster/mod.rs`.
#[path = "cluster/mod.rs"]
mod cluster;
