//! Quorate: a thread-per-core, io_uring replication node.
//!
//! Read `docs/ARCHITECTURE.md` first. The rooms below stand in reading order.

// What is told.
pub mod base;
pub mod config;
pub mod crypto;
pub mod resp;
pub mod wire;
// What decides.
pub mod protocol;
pub mod replica;
pub mod store;
// What meets the kernel.
pub mod io;
pub mod log;
pub mod meter;
// What meets others.
pub mod auth;
pub mod client;
pub mod front;
pub mod net;
// What is run.
pub mod admin;
pub mod cli;
pub mod load;
pub mod node;
pub mod sim;
