//! The context store: what clients see. Deterministic, snapshotted, digested; it knows no clock, no file, no socket.
//!
//! - [`Store`]: the state machine of a group. Entries go in, replies come out; snapshots and digests are made beside the traffic.
//! - `execute`: from a command to its function; `strings`, `keys`, `expiry`, `hashes`, `scan`: the functions.
//! - `warm`: caches. `table`: all records in buckets; `record`, `fields`: one record; `deadlines`: which expire; `graveyard`: what is to be dropped.
//! - [`inspect`]: reads a snapshot offline. [`sessions`]: exactly once. [`last_replies`]: what native clients may ask for again. [`vouch`]: replies that other nodes compare. `merkle`: the digest. `format`, `saving`, `load`: snapshots;
//!   [`ranges`], [`gather`]: only what differs of one.

pub mod agent;
mod apply;
mod bits;
mod deadlines;
mod digest_pace;
mod digesting;
mod error;
mod execute;
mod expiry;
mod extents;
mod fields;
mod format;
pub mod gather;
mod glob;
mod graveyard;
mod hashes;
pub mod inspect;
mod keys;
pub mod last_replies;
mod load;
mod merkle;
mod numbers;
pub mod ranges;
mod record;
mod reply;
mod saving;
mod scan;
pub mod sessions;
mod state;
mod strings;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcript;
pub mod vouch;
mod warm;

pub use agent::{Ports, StoreAgent, Told, Triggers};
pub use apply::{BUCKET_BITS, Loading, Options, Replies, Store};
pub use error::CommandError;
pub use extents::Extent;
pub use format::Header;
pub use load::Damage;
pub use numbers::VALUE_BYTES_MAX;
pub use sessions::{Admission, Sessions};
pub use table::HashKey;
