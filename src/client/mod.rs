//! What whoever asks a group does that trusts none of its members alone.
//!
//! - [`Tally`]: what the replicas say that the reply to one request is, until enough say the same.

mod tally;

pub use tally::Tally;
