//! How commands get from the node that a client talks to to the node that can order them, whatever the protocol of the group.

use super::Batch;
use crate::base::{Body, Digest, NodeId};

/// A message between the routes of two nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Commands of the sender's clients, for the leader to append.
    Batch {
        /// The commands.
        batch: Batch,
        /// Counts how often this batch has been forwarded, so that a late refusal is not taken for that of a newer attempt.
        attempt: u32,
    },
    /// The forwarded batch was certainly not appended by this node.
    Refused {
        /// The origin's boot, so that an answer to an earlier life is dropped.
        boot: u64,
        /// The origin's lane.
        lane: u8,
        /// The batch's sequence.
        sequence: u64,
        /// Echo.
        attempt: u32,
        /// Why.
        why: Refusal,
    },
    /// Commands that only read, of a native client: answered from what the receiver's store holds, at no place of the log.
    Read {
        /// The client's boot.
        boot: u64,
        /// The lane that its reply will name.
        lane: u8,
        /// The sequence that its reply will name.
        id: u64,
        /// The commands, in `resp::batch` form.
        body: Body,
    },
    /// What the sender's store replied to a batch whose origin is the receiver.
    Replied(Reply),
}

/// What one replica says that the replies to a batch are. A group whose members are not trusted says it from each of them, and whoever
/// asked believes what `f + 1` say.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The origin's boot.
    pub boot: u64,
    /// The origin's lane.
    pub lane: u8,
    /// The batch's sequence.
    pub sequence: u64,
    /// Who leads, as the sender sees it; none is known at zero. A hint: whom to ask next.
    pub leader: NodeId,
    /// In which epoch the sender's store was when it said so. Words of two epochs are not counted together: a quorum of one need not meet
    /// a quorum of the other.
    pub epoch: u64,
    /// Of all replies to the batch, one after another (`Digest::of`).
    pub digest: Digest,
    /// The replies themselves, where the sender is the one to say them. Invariant: empty, or its digest is `digest`.
    pub body: Body,
}

/// Why a leader did not append a batch that was forwarded to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// It does not lead.
    NotLeader = 1,
    /// It is handing leadership over.
    Draining = 2,
    /// More is in flight than its limits allow.
    Overloaded = 3,
    /// The store's memory bound would be passed.
    OutOfMemory = 4,
    /// Its log's disk is full.
    DiskFull = 5,
    /// It is not signed, and must be: the group's clients sign, or this one's tags have held the group up.
    Unsigned = 6,
}
