//! What travels between clients and nodes: RESP2 and RESP3.
//!
//! - [`command`]: the table of commands, and [`Op`], the ones that reach the store.
//! - [`batch`]: commands as they travel from a front through the log to every store.
//! - [`reply`]: the writer of replies.

pub mod batch;
pub mod command;
pub mod reply;

pub use command::Op;
