//! What PBFT replicas tell each other (Castro and Liskov, "Practical Byzantine Fault Tolerance and Proactive Recovery", TOCS 2002),
//! what they sign, and what they store.
//!
//! Most messages carry no signature: the tag of their frame convinces the receiver, and nobody else needs convincing. Signed are
//! batches (by the node whose clients they serve), pre-prepares, checkpoints, and the messages of a view change.

use super::{Batch, Entry, EntryKind};
use crate::base::{Body, Digest, GroupId, Slot, Stamp, View};
use crate::crypto::Signature;

pub use super::pbft_change::{Accepted, Change, NewView, Prepared};
pub use super::pbft_epoch::{Charter, Succession};
pub use super::pbft_proof::{Accusation, Proof, Words};

/// A slot and what a replica says belongs there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Vote {
    /// The place.
    pub slot: Slot,
    /// The value, by its digest ([`digest`]).
    pub digest: Digest,
}

/// A value and the signature of the node whose batch it carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The value; its term is zero, for a value belongs to no view.
    pub entry: Entry,
    /// Over the batch ([`signed_batch`]); none for an entry that carries only a stamp.
    pub signature: Signature,
}

/// A message of a PBFT group.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The primary's assignment of values to slots.
    PrePrepare {
        /// The primary's view.
        view: View,
        /// Consecutive slots.
        proposals: Vec<Proposal>,
        /// Over view, slots and digests ([`signed_proposals`]); none when pre-prepares are not signed.
        signature: Signature,
    },
    /// "I have accepted the primary's assignment, durably."
    Prepare {
        /// The view.
        view: View,
        /// Which assignments.
        votes: Vec<Vote>,
    },
    /// "A quorum has accepted the assignment, and I know it durably."
    Commit {
        /// The view.
        view: View,
        /// Which assignments.
        votes: Vec<Vote>,
    },
    /// "After applying `slot` my state has this digest."
    Checkpoint {
        /// The checkpoint.
        vote: Vote,
        /// Over group, slot and digest ([`signed_checkpoint`]).
        signature: Signature,
    },
    /// "I have left my view for this one, and this is what I bring along."
    ViewChange(Change),
    /// The new primary's proof that its view may begin.
    NewView(NewView),
    /// Where the sender stands: asks for what it misses, and shows to others what they miss.
    Status {
        /// The sender's view.
        view: View,
        /// Whether it has begun, or is being changed to.
        active: bool,
        /// The newest stable checkpoint.
        stable: Slot,
        /// The newest executed slot.
        executed: Slot,
        /// Whether the receiver is the one to send bodies; others are asked for digests.
        bodies: bool,
        /// Whether the sender finds the view's primary slow or unfair.
        complains: bool,
    },
    /// "These slots are decided, with these values."
    Decided {
        /// The values whose bodies were asked for.
        entries: Vec<Entry>,
        /// The others, by digest.
        votes: Vec<Vote>,
    },
    /// Asks for the values of these digests.
    Want {
        /// Which.
        votes: Vec<Vote>,
    },
    /// Values that were asked for; whoever asked compares the digests.
    Have {
        /// The values.
        entries: Vec<Entry>,
    },
    /// A batch whose origin signed it: on its way to the primary, and to those who watch the primary.
    Request {
        /// The batch.
        batch: Batch,
    },
    /// Asks for a piece of the outline of the state at a certified checkpoint, or of some of its ranges.
    PieceWant {
        /// The checkpoint.
        slot: Slot,
        /// Where the piece begins, in bytes of what is asked for.
        offset: u64,
        /// Names the question: rises with each that asks for something else.
        round: u64,
        /// The numbers of the ranges, 32 bits each, little endian; none for the outline.
        ranges: Body,
    },
    /// A piece of what was asked for: of an outline, or of ranges one after the other, each behind its length (32 bits).
    Piece {
        /// The question's.
        round: u64,
        /// The checkpoint.
        slot: Slot,
        /// Its stamp.
        stamp: Stamp,
        /// Where the piece begins, in bytes.
        offset: u64,
        /// The whole size of what was asked for, in bytes.
        total: u64,
        /// The piece; empty when the state is not there.
        body: Body,
    },
    /// "This is what your view's primary signed for me": to a replica that says it was assigned something else.
    Shown {
        /// [`Words`], as bytes.
        words: Body,
    },
    /// Proof that a replica lies, for everybody to see for themselves.
    Accuse {
        /// An [`Accusation`], as bytes.
        proof: Body,
    },
    /// The sender has come to the end of its epoch.
    Succession(Succession),
    /// How an epoch began, for those who have not come there.
    Charter(Charter),
}

/// What a replica stores, beside floors, in the one stream of its shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The view entered, or being changed to; the newest counts.
    View {
        /// Which.
        view: View,
        /// Whether it has begun.
        active: bool,
        /// The new-view that it began with, or the view-change that was signed: a replica that returns must not sign another.
        proof: Body,
    },
    /// A value was accepted at its slot, in a view.
    PrePrepared {
        /// The view.
        view: View,
        /// The value.
        entry: Entry,
    },
    /// A new view assigned a value that is stored already (or null) to a slot.
    Assigned {
        /// The view.
        view: View,
        /// The assignment.
        vote: Vote,
    },
    /// A quorum accepted the assignment.
    Prepared {
        /// The view.
        view: View,
        /// The assignment.
        vote: Vote,
    },
    /// A slot is decided; its value is stored already (or null).
    Committed {
        /// What is decided.
        vote: Vote,
    },
    /// A slot is decided with a value that came from others.
    Learned {
        /// The value.
        entry: Entry,
    },
    /// The own state after a slot.
    Checkpoint {
        /// Slot and digest.
        vote: Vote,
        /// Whether a quorum has said the same.
        stable: bool,
    },
    /// Another epoch was entered.
    Epoch {
        /// The last slot before it.
        since: Slot,
        /// A [`Charter`], as bytes.
        charter: Body,
    },
}

impl Note {
    /// Where the note stands: at the slot that it is about. A checkpoint's and an epoch's stand above it, to outlive the floor that it
    /// allows.
    pub fn place(&self) -> Slot {
        match self {
            Note::View { .. } => Slot::ZERO,
            Note::PrePrepared { entry, .. } | Note::Learned { entry } => entry.slot,
            Note::Assigned { vote, .. } | Note::Prepared { vote, .. } | Note::Committed { vote } => vote.slot,
            Note::Checkpoint { vote, .. } => vote.slot.next(),
            Note::Epoch { since, .. } => since.next(),
        }
    }
}

/// The digest of the null value: a slot of a new view for which nothing was prepared (TOCS 2002, 4.4).
pub const NULL: Digest = Digest([0; 32]);

/// Names a value: everything but the view, for the same value may be decided in different views. The body's digest stands for the body,
/// so a batch is hashed once a node.
pub fn digest(entry: &Entry) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("quorate v1 pbft value");
    // Always zero in a correct value: one that differs in it alone must not pass for it.
    hasher.update(&entry.term.0.to_le_bytes());
    hasher.update(&entry.slot.0.to_le_bytes());
    hasher.update(&entry.stamp.0.to_le_bytes());
    hasher.update(&[entry.kind as u8, entry.origin.node.0, entry.origin.lane]);
    hasher.update(&entry.origin.boot.to_le_bytes());
    hasher.update(&entry.sequence.to_le_bytes());
    hasher.update(&entry.floor.to_le_bytes());
    hasher.update(&entry.body.digest().0);
    Digest(*hasher.finalize().as_bytes())
}

/// What an origin signs of a batch.
pub fn signed_batch(group: GroupId, batch: &Batch) -> [u8; 32] {
    let Batch { origin, sequence, floor, body, .. } = batch;
    let mut hasher = blake3::Hasher::new_derive_key("quorate v1 pbft batch");
    hasher.update(&group.0.to_le_bytes());
    hasher.update(&[origin.node.0, origin.lane]);
    hasher.update(&origin.boot.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&floor.to_le_bytes());
    hasher.update(&body.digest().0);
    *hasher.finalize().as_bytes()
}

/// The batch that a value carries, as its origin signed it.
pub fn batch_of(proposal: &Proposal) -> Option<Batch> {
    let Entry { kind, origin, sequence, floor, ref body, .. } = proposal.entry;
    let signature = proposal.signature;
    (kind == EntryKind::Batch).then(|| Batch {
        origin,
        sequence,
        floor,
        growth: 0,
        signature,
        body: body.clone(),
    })
}

/// Whether others can judge the value alone: a batch with its signature, or no batch.
pub fn is_whole(proposal: &Proposal) -> bool {
    proposal.entry.kind == EntryKind::Empty || proposal.signature != Signature::NONE
}

/// What a primary signs of a pre-prepare.
pub fn signed_proposals(group: GroupId, view: View, votes: &[Vote]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("quorate v1 pbft pre-prepare");
    hasher.update(&group.0.to_le_bytes());
    hasher.update(&view.0.to_le_bytes());
    votes.iter().for_each(|vote| {
        hasher.update(&vote.slot.0.to_le_bytes());
        hasher.update(&vote.digest.0);
    });
    *hasher.finalize().as_bytes()
}

/// What a replica signs of a checkpoint.
pub fn signed_checkpoint(group: GroupId, vote: &Vote) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("quorate v1 pbft checkpoint");
    hasher.update(&group.0.to_le_bytes());
    hasher.update(&vote.slot.0.to_le_bytes());
    hasher.update(&vote.digest.0);
    *hasher.finalize().as_bytes()
}
