//! Why a core cannot start from what was stored.

use crate::base::{Slot, View};

/// What was stored cannot be what this replica wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Hole {
    /// Entries are missing between the newest snapshot and the log.
    #[error(
        "the log goes on at slot {found} where {expected} is missing: entries above the newest snapshot are gone; \
         restore the missing snapshot or log files, or replace this node"
    )]
    Entries {
        /// The slot that should have come.
        expected: Slot,
        /// The slot that came.
        found: Slot,
    },
    /// The log holds records of another protocol.
    #[error(
        "the log was written by a group of another protocol; a group keeps its protocol: set group.protocol back, or begin a new cluster"
    )]
    OtherProtocol,
    /// The log says that a snapshot is durable which is not there.
    #[error(
        "the log was cut at slot {floor} for a snapshot that is not there (the newest is at {snapshot}); \
         restore it, or replace this node"
    )]
    Snapshot {
        /// Where the log begins.
        floor: Slot,
        /// The newest snapshot's slot.
        snapshot: Slot,
    },
    /// The notes of a view hold what was never written.
    #[error("the record of view {view} cannot be read: it was written by another version or a faulty one")]
    View {
        /// The view.
        view: View,
    },
}
