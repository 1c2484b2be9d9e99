//! How commands get from the node that a client talks to to the node that can order them, whatever the protocol of the group.

use super::Batch;

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
}
