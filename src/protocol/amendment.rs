//! Why an operator's amendment is not taken: values, limits and cures for whoever made it.

use crate::base::{NodeId, Slot};
use crate::crypto::ClusterId;

/// Why a replica does not have an amendment ordered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Another protocol's group.
    #[error("the members of a raft group are those of `init` and cannot be changed; only a pbft group's can")]
    Fixed,
    /// The replica stands by.
    #[error("this node is no member of epoch {epoch}; ask one that is")]
    NoMember {
        /// The epoch.
        epoch: u64,
    },
    /// It is none.
    #[error("it is no amendment that any group could have; make it with the `ctl` of the nodes' release")]
    Malformed,
    /// Made for another cluster.
    #[error("it is for cluster {found}, this is {known}; make it with the configuration of this cluster")]
    Cluster {
        /// For which.
        found: ClusterId,
        /// This one.
        known: ClusterId,
    },
    /// Made for another time.
    #[error("it makes epoch {found}, the group is in epoch {known}, after which comes {}; make it anew", known + 1)]
    Epoch {
        /// Which epoch it makes.
        found: u64,
        /// The present one.
        known: u64,
    },
    /// Made for a group that is tuned otherwise.
    #[error("it counts with a window of {} and checkpoints every {}, this group with {} and {}; make it with the nodes' release", found.0, found.1, known.0, known.1)]
    Pace {
        /// Its window and distance of checkpoints.
        found: (u64, u64),
        /// The group's.
        known: (u64, u64),
    },
    /// Too few stay.
    #[error(
        "{stay} members stay, and {faulty} may lie: nobody honest need be left who has the state; replace fewer at once"
    )]
    Strangers {
        /// Members of both epochs.
        stay: usize,
        /// Of the next one may lie.
        faulty: usize,
    },
    /// Too many come.
    #[error(
        "{members} members are too many for a group that began with a window of {window}: the beginning of a view would not fit a record; begin a larger cluster"
    )]
    Many {
        /// So many.
        members: usize,
        /// The group's.
        window: u64,
    },
    /// An id comes back.
    #[error(
        "node {node} was a member before or is being removed, and an id never comes back; choose another id"
    )]
    Returns {
        /// Whose.
        node: NodeId,
    },
    /// One at a time.
    #[error("another amendment is under way, which comes into force after slot {boundary}; wait for it")]
    UnderWay {
        /// The last slot of the present epoch.
        boundary: Slot,
    },
    /// Not the operator's.
    #[error(
        "it is not signed with the key that `cluster.operator` lists at this node; sign it with the operator's key"
    )]
    Unsigned,
}
