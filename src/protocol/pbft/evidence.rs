//! Signed words that contradict each other: proof that whoever holds the group's public keys can check without trusting anyone here.
//!
//! What only a tag vouches for (prepares, commits) convicts nobody; it is counted as a fault. A correct replica never signs two such
//! words, over crashes too, since it writes them down before it says them.

use super::Pbft;
use super::choose::choose;
use super::quorum::Quorum;
use crate::base::{Body, Digest, GroupId, NodeId, Slot, View};
use crate::crypto::{Keyring, Signature};
use crate::protocol::{FaultKind, Outbox};
use crate::wire::pbft::{Change, NewView, Vote, signed_checkpoint, signed_proposals};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// Two words, or one, that a correct replica would not have signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// Two values for one slot of one view, in two pre-prepares.
    Proposals {
        /// The view, what was assigned, the signature.
        one: (View, Vec<Vote>, Signature),
        /// See `one`.
        other: (View, Vec<Vote>, Signature),
    },
    /// Two states at one slot.
    Checkpoints {
        /// What was said, and the signature.
        one: (Vote, Signature),
        /// See `one`.
        other: (Vote, Signature),
    },
    /// Two view-changes for one view.
    Changes {
        /// One.
        one: Box<Change>,
        /// The other.
        other: Box<Change>,
    },
    /// A new-view whose view-changes do not allow its view to begin.
    NewView {
        /// It.
        view: Box<NewView>,
    },
}

impl Proof {
    /// Whether it convicts `node`.
    pub fn convicts(
        &self,
        node: NodeId,
        group: GroupId,
        keys: &Keyring,
        quorum: Quorum,
        window: u64,
    ) -> bool {
        match self {
            Proof::Proposals { one, other } => {
                let signed = |(view, votes, signature): &(View, Vec<Vote>, Signature)| {
                    keys.verify(node, &signed_proposals(group, *view, votes), signature)
                };
                let clash = |a: &Vote| other.1.iter().any(|b| a.slot == b.slot && a.digest != b.digest);
                one.0 == other.0 && one.1.iter().any(clash) && signed(one) && signed(other)
            }
            Proof::Checkpoints { one, other } => {
                let signed = |(vote, signature): &(Vote, Signature)| {
                    keys.verify(node, &signed_checkpoint(group, vote), signature)
                };
                one.0.slot == other.0.slot && one.0 != other.0 && signed(one) && signed(other)
            }
            Proof::Changes { one, other } => {
                let signed = |change: &Change| keys.verify(node, &change.signed(group), &change.signature);
                let same = (one.view, one.node) == (other.view, other.node) && one.node == node;
                same && one != other && signed(one) && signed(other)
            }
            Proof::NewView { view } => {
                let fits = |change: &Change| {
                    change.view == view.view
                        && keys.verify(change.node, &change.signed(group), &change.signature)
                };
                let changes: Vec<&Change> = view.changes.iter().collect();
                let begins =
                    changes.iter().all(|change| fits(change)) && choose(&changes, quorum, window).is_some();
                keys.verify(node, &view.signed(group), &view.signature) && !begins
            }
        }
    }
    /// What it is, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Proof::Proposals { .. } => "two-proposals",
            Proof::Checkpoints { .. } => "two-checkpoints",
            Proof::Changes { .. } => "two-view-changes",
            Proof::NewView { .. } => "bad-new-view",
        }
    }
}

/// The proofs at hand: one of each kind a replica is enough, so this stays small.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    proofs: BTreeMap<(NodeId, &'static str), Proof>,
}

impl Evidence {
    /// A primary's words in a form that is kept with the slots they are about, and shared by them.
    pub fn said(&self, view: View, votes: &[Vote], signature: &Signature) -> Body {
        if *signature == Signature::NONE {
            return Body::EMPTY;
        }
        let mut bytes = BytesMut::with_capacity(72 + 40 * votes.len());
        bytes.put_u64(view.0);
        bytes.put_slice(&signature.0);
        for vote in votes {
            bytes.put_u64(vote.slot.0);
            bytes.put_slice(&vote.digest.0);
        }
        Body::new(bytes.freeze())
    }
    fn keep(&mut self, node: NodeId, proof: Proof) {
        self.proofs.entry((node, proof.name())).or_insert(proof);
    }
    /// Whether there is proof against this replica.
    pub fn convicts(&self, node: NodeId) -> bool {
        self.proofs.keys().any(|(convict, _)| *convict == node)
    }
    /// All of it.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &Proof)> {
        self.proofs.iter().map(|((node, _), proof)| (*node, proof))
    }
}

fn read_said(bytes: &Bytes) -> Option<(View, Vec<Vote>, Signature)> {
    let (view, rest) = bytes.split_first_chunk::<8>()?;
    let (signature, rest) = rest.split_first_chunk::<64>()?;
    let (votes, _) = rest.as_chunks::<40>();
    let vote = |bytes: &[u8; 40]| {
        let (slot, digest) = bytes.split_first_chunk::<8>()?;
        Some(Vote { slot: Slot(u64::from_be_bytes(*slot)), digest: Digest(digest.try_into().ok()?) })
    };
    let votes = votes.iter().map(vote).collect::<Option<_>>()?;
    Some((View(u64::from_be_bytes(*view)), votes, Signature(*signature)))
}

impl Pbft {
    /// The primary assigned a second value to a slot of its view.
    pub(super) fn equivocated(&mut self, primary: NodeId, vote: Vote, said: &Body, out: &mut Outbox) {
        out.fault(primary, FaultKind::Equivocates { view: self.view, slot: vote.slot });
        let before = self.slots.get(vote.slot).map(|place| place.said.clone()).unwrap_or_default();
        if let (Some(one), Some(other)) = (read_said(before.bytes()), read_said(said.bytes())) {
            self.convict(primary, Proof::Proposals { one, other });
        }
    }

    /// Keeps a proof if it is one: whoever accuses looks first.
    pub(super) fn convict(&mut self, node: NodeId, proof: Proof) {
        if proof.convicts(node, self.group, &self.keys, self.quorum, self.options.window) {
            self.evidence.keep(node, proof);
        }
    }
}
