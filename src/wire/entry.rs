//! One place of a group's log.

use crate::base::{Body, Origin, Slot, Stamp, Term};
use crate::crypto::Signature;

/// What an entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: the entry that a leader starts its term with (Raft thesis 6.4), or one that only carries a stamp (expiry).
    #[default]
    Empty = 0,
    /// A batch of commands.
    Batch = 1,
}

/// One place of a group's log: its head is flat, its body is shared with every frame and record that carries it.
///
/// # Exactly once
/// An entry names its origin and its place in the origin's stream. A store applies a batch with `sequence` of an origin whose newest
/// boot and last applied sequence it knows by one rule (`store::sessions`): an older boot is *stale*; `sequence <= last` is a
/// *duplicate*; `max(last + 1, floor) < sequence` is a *gap* (an earlier batch, that may still come, is missing); anything else is
/// applied. All but the last have no effect. So a batch is applied at most once however often it is forwarded, and those of one
/// origin take effect in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its place.
    pub slot: Slot,
    /// Never below the previous entry's.
    pub stamp: Stamp,
    /// What it is for.
    pub kind: EntryKind,
    /// Whose commands it carries (`EntryKind::Batch`).
    pub origin: Origin,
    /// The batch's number within the origin's life, from 1.
    pub sequence: u64,
    /// Sequences below it are settled or abandoned at the origin. Invariant: `floor <= sequence`.
    pub floor: u64,
    /// The commands.
    pub body: Body,
}

/// Commands of one origin as one body.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Batch {
    /// Whose it is.
    pub origin: Origin,
    /// Its number within the origin's life, from 1.
    pub sequence: u64,
    /// The lowest sequence that was still unsettled at its origin when this batch was made (see [`Entry`]).
    pub floor: u64,
    /// Upper bound of the logical bytes by which the commands can make a store grow. Travels to the leader, is not logged.
    pub growth: u64,
    /// The origin's signature, where the group's protocol asks for one (`pbft::signed_batch`).
    pub signature: Signature,
    /// The commands, in `resp::batch` form. Empty for an entry that only carries a stamp.
    pub body: Body,
}
