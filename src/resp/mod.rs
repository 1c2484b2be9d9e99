//! What travels between clients and nodes: RESP2 and RESP3.
//!
//! - [`command`]: what a command is, and [`Op`], the ones that reach the store. [`table`]: all of them.
//! - [`batch`]: commands as they travel from a front through the log to every store.
//! - [`parse`]: the parser of commands. [`reply`]: the writer of replies.

pub mod batch;
pub mod command;
pub mod parse;
pub mod reply;
pub mod table;

pub use command::Op;
