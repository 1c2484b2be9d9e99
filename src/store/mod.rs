//! The context store: deterministic, snapshotted, digested.
//!
//! - [`sessions`]: exactly once.

pub mod sessions;
