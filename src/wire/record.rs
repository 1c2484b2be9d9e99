//! What a core wants stored. `log` sees only a group, a kind, a place and bytes.

use super::{Entry, pbft};
use crate::base::{GroupId, NodeId, Slot, Stamp, Term};

/// What a core wants stored, in the one stream of its shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The term and whom this replica voted for in it (Raft thesis 3.3, "persistent state").
    Vote {
        /// The group.
        group: GroupId,
        /// Rises.
        term: Term,
        /// At most one a term.
        vote: Option<NodeId>,
    },
    /// Cuts every entry of the group at `entry.slot` and above, then appends.
    Entry {
        /// The group.
        group: GroupId,
        /// The entry.
        entry: Entry,
    },
    /// A durable snapshot holds everything up to `slot`: older records may go. With `reset`, everything above goes too (a leader's
    /// snapshot replaced a log that did not agree with it).
    Floor {
        /// The group.
        group: GroupId,
        /// The snapshot's last slot.
        slot: Slot,
        /// That slot's term.
        term: Term,
        /// That slot's stamp.
        stamp: Stamp,
        /// Whether entries above `slot` are void.
        reset: bool,
    },
    /// What a PBFT replica must not forget.
    Pbft {
        /// The group.
        group: GroupId,
        /// What.
        note: pbft::Note,
    },
}
