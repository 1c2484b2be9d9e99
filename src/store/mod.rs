//! The context store: deterministic, snapshotted, digested.
