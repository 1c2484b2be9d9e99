//! Signed words that contradict each other: proof that whoever holds the group's public keys can check without trusting anyone here.
//!
//! What only a tag vouches for (prepares, commits) convicts nobody; it is counted as a fault. A correct replica never signs two such
//! words, over crashes too, since it writes them down before it says them.
//!
//! A proof is kept on disk, shown to operators, and told to the other replicas, each of which looks for itself. A convicted replica is
//! no longer served as a primary: its views are left and skipped. That takes only time from the group, never safety, so nothing here
//! waits for the disk.

use super::Pbft;
use super::choose::choose;
use super::peers::Long;
use super::quorum::Quorum;
use super::view_change::is_change_sane;
use crate::base::{Body, GroupId, Instant, NodeId, NodeSet, Slot, View};
use crate::crypto::{Keyring, Signature};
use crate::protocol::{Conviction, FaultKind, Outbox, Target};
use crate::wire::pbft::{
    Accusation, Change, Message, Proof, Vote, Words, signed_checkpoint, signed_proposals,
};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// What a judge knows beside the proof: everything is equal on all replicas, so that all come to one verdict.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The group.
    pub group: GroupId,
    /// Its members' public keys; whose the own one is does not matter.
    pub keys: &'a Keyring,
    /// How many of them must agree.
    pub quorum: Quorum,
    /// See `Options::window`.
    pub window: u64,
    /// See `Options::checkpoint_every`.
    pub checkpoint_every: u64,
}

impl Rules<'_> {
    /// Whether the words convict whom they are said to convict.
    pub fn convict(&self, accusation: &Accusation) -> bool {
        let Accusation { group, accused, proof } = accusation;
        let (node, keys) = (*accused, self.keys);
        if *group != self.group {
            return false;
        }
        let checkpoint = |node, vote: &Vote, signature: &Signature| {
            keys.verify(node, &signed_checkpoint(self.group, vote), signature)
        };
        match proof {
            Proof::Proposals(one, other) => {
                let signed = |words: &Words| {
                    keys.verify(
                        node,
                        &signed_proposals(self.group, words.view, &words.votes),
                        &words.signature,
                    )
                };
                one.view == other.view && clash(one, other).is_some() && signed(one) && signed(other)
            }
            Proof::Checkpoints(one, other) => {
                let signed = |(vote, signature): &(Vote, Signature)| checkpoint(node, vote, signature);
                one.0.slot == other.0.slot && one.0 != other.0 && signed(one) && signed(other)
            }
            Proof::Changes(one, other) => {
                let same = (one.view, one.node) == (other.view, other.node) && one.node == node;
                same && one.signed(self.group) != other.signed(self.group)
                    && self.is_signed(one)
                    && self.is_signed(other)
            }
            Proof::NewView(view) => {
                let fits = |change: &Change| {
                    change.view == view.view
                        && is_change_sane(change, self.window, self.checkpoint_every)
                        && self.is_signed(change)
                };
                let changes: Vec<&Change> = view.changes.iter().collect();
                let begins = changes.iter().all(|change| fits(change))
                    && choose(&changes, self.quorum, self.window).is_some();
                keys.verify(node, &view.signed(self.group), &view.signature) && !begins
            }
            Proof::Checkpoint { word: (vote, signature), digest, others } => {
                let truth = Vote { digest: *digest, ..*vote };
                // The nodes rise, so they are as many as there are signatures.
                vote.digest != *digest
                    && self.quorum.strong() <= others.len()
                    && checkpoint(node, vote, signature)
                    && others.iter().all(|(node, signature)| checkpoint(*node, &truth, signature))
            }
        }
    }
    fn is_signed(&self, change: &Change) -> bool {
        self.keys.verify(change.node, &change.signed(self.group), &change.signature)
    }
}

/// A slot to which both assign, and not the same.
fn clash(one: &Words, other: &Words) -> Option<Slot> {
    let differs = |a: &&Vote| other.votes.iter().any(|b| a.slot == b.slot && a.digest != b.digest);
    one.votes.iter().find(differs).map(|vote| vote.slot)
}

/// The proofs at hand: one of each kind a replica is enough, so this stays small.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    proofs: BTreeMap<(NodeId, &'static str), Body>,
    convicts: NodeSet,
    /// Who has accused others without proof: it is not listened to again. Costs a liar's accusations one check of signatures.
    slanderers: NodeSet,
    /// Whom the primary's signed words were shown in this view: once is enough.
    shown: NodeSet,
}

impl Evidence {
    /// A primary's words in a form that is kept with the slots they are about, and shared by them.
    pub fn said(&self, view: View, votes: &[Vote], signature: &Signature) -> Body {
        if *signature == Signature::NONE {
            return Body::EMPTY;
        }
        Body::new(Words { view, votes: votes.to_vec(), signature: *signature }.encode())
    }
    /// Whether there is proof against this replica.
    pub fn convicts(&self, node: NodeId) -> bool {
        self.convicts.contains(node)
    }
    /// All of it: who, of what, by which bytes.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &'static str, &Body)> {
        self.proofs.iter().map(|((node, name), body)| (*node, *name, body))
    }
    fn against(&self, node: NodeId) -> Option<&Body> {
        self.all().find(|(convict, ..)| *convict == node).map(|(.., body)| body)
    }
    fn keep(&mut self, accusation: &Accusation, body: Body) {
        self.convicts.insert(accusation.accused);
        self.proofs.insert((accusation.accused, accusation.proof.name()), body);
    }
    fn has(&self, accusation: &Accusation) -> bool {
        self.proofs.contains_key(&(accusation.accused, accusation.proof.name()))
    }
    /// These have other keys now, or are here no more: what they did was done by somebody else.
    pub fn forgive(&mut self, nodes: NodeSet) {
        nodes.iter().for_each(|node| {
            self.convicts.remove(node);
            self.slanderers.remove(node);
        });
        self.proofs.retain(|(node, _), _| !nodes.contains(*node));
    }
    /// See `Pbft::outline`.
    pub fn outline(&self, to: &mut impl Hasher) {
        (self.convicts.0, self.slanderers.0, self.shown.0).hash(to);
    }
    /// Another view begins.
    pub fn leave_view(&mut self) {
        self.shown = NodeSet::default();
    }
}

impl Pbft {
    /// By what accusations are judged.
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            group: self.group,
            keys: &self.keys,
            quorum: self.quorum,
            window: self.options.window,
            checkpoint_every: self.options.checkpoint_every,
        }
    }

    /// The primary assigned a second value to a slot of its view.
    pub(super) fn equivocated(&mut self, primary: NodeId, vote: Vote, said: &Body, out: &mut Outbox) {
        out.fault(primary, FaultKind::Equivocates { view: self.view, slot: vote.slot });
        let before = self.slots.get(vote.slot).map(|place| place.said.clone()).unwrap_or_default();
        if let (Some(one), Some(other)) = (Words::decode(before.bytes()), Words::decode(said.bytes())) {
            self.convict(primary, Proof::Proposals(one, other), out);
        }
    }

    /// A backup says that the primary assigned something else to a slot than it did here: one of the two lies. What the primary signed
    /// here, shown to that backup, convicts the primary if it is the one (a primary that tells each half of the group another story
    /// shows nobody both).
    pub(super) fn show_words(&mut self, to: NodeId, vote: Vote, out: &mut Outbox) {
        let Some(place) = self.slots.get(vote.slot) else { return };
        let differs = place.assigned.is_some_and(|digest| digest != vote.digest) && !place.said.is_empty();
        if differs && !self.evidence.shown.contains(to) && !self.evidence.convicts(self.primary()) {
            let words = place.said.clone();
            self.evidence.shown.insert(to);
            out.send(Target::One(to), Message::Shown { words });
        }
    }

    pub(super) fn on_shown(&mut self, words: &Body, out: &mut Outbox) {
        let primary = self.primary();
        if !self.active || self.evidence.convicts(primary) {
            return;
        }
        let Some(shown) = Words::decode(words.bytes()).filter(|words| words.view == self.view) else {
            return;
        };
        let own = |vote: &Vote| {
            let place = self.slots.get(vote.slot)?;
            (place.assigned? != vote.digest).then(|| place.said.clone())
        };
        let own = shown.votes.iter().find_map(own).and_then(|said| Words::decode(said.bytes()));
        if let Some(own) = own {
            self.convict(primary, Proof::Proposals(own, shown), out);
        }
    }

    /// Keeps a proof if it is one, and tells the others.
    pub(super) fn convict(&mut self, accused: NodeId, proof: Proof, out: &mut Outbox) {
        let accusation = Accusation { group: self.group, accused, proof };
        if !self.evidence.has(&accusation) && self.rules().convict(&accusation) {
            let body = Body::new(accusation.encode());
            self.keep_proof(&accusation, body, out);
        }
    }

    fn keep_proof(&mut self, accusation: &Accusation, body: Body, out: &mut Outbox) {
        self.evidence.keep(accusation, body.clone());
        let (accused, kind) = (accusation.accused, accusation.proof.name());
        out.convict(Conviction { group: self.group, accused, kind, proof: body.clone() });
        // The own word may be among the voices: it is said when it is written.
        self.say(Target::Others, Message::Accuse { proof: body }, out);
    }

    /// Others need not be believed: the proof speaks for itself.
    pub(super) fn on_accuse(&mut self, from: NodeId, body: Body, out: &mut Outbox) {
        if self.evidence.slanderers.contains(from) {
            return;
        }
        match Accusation::decode(body.bytes()) {
            Some(accusation) if self.evidence.has(&accusation) => (),
            Some(accusation) if self.rules().convict(&accusation) => {
                self.keep_proof(&accusation, body, out);
            }
            // Words of another epoch are judged by its keys.
            Some(accusation) if !self.is_of_this_epoch(&accusation.proof) => (),
            Some(_) | None => {
                self.evidence.slanderers.insert(from);
                out.fault(from, FaultKind::Slanders);
            }
        }
    }

    fn is_of_this_epoch(&self, proof: &Proof) -> bool {
        let of_view = |view: View| view.epoch() == self.epochs.number;
        match proof {
            Proof::Proposals(one, _) => of_view(one.view),
            Proof::Changes(one, _) => of_view(one.view),
            Proof::NewView(view) => of_view(view.view),
            Proof::Checkpoints((vote, _), _) | Proof::Checkpoint { word: (vote, _), .. } => {
                self.epochs.base.slot < vote.slot && self.slots.is_open(vote.slot)
            }
        }
    }

    /// Proof that was kept on disk, before the first step. What convicts nobody (any more) is left out.
    pub fn recall(&mut self, proof: &Body) {
        if let Some(accusation) = Accusation::decode(proof.bytes())
            && self.rules().convict(&accusation)
        {
            self.evidence.keep(&accusation, proof.clone());
        }
    }

    /// Whether this replica leaves the views of `node`. Proof against more than `f` says that the group's assumption does not hold; then
    /// nobody is left out, for else nobody might be left.
    pub(super) fn shuns(&self, node: NodeId) -> bool {
        self.evidence.convicts(node) && self.evidence.convicts.len() <= self.quorum.f()
    }

    /// The next view from `view` on whose primary is not convicted.
    pub(super) fn fit_view(&self, view: View) -> View {
        let views = (0..self.members.len() as u64).map(|ahead| View(view.0 + ahead));
        views.into_iter().find(|view| !self.shuns(self.primary_of(*view))).unwrap_or(view)
    }

    /// Leaves the view of a primary that stands convicted.
    pub(super) fn shun(&mut self, now: Instant, out: &mut Outbox) {
        if self.shuns(self.primary()) {
            self.leave(now, self.view.next(), out);
        }
    }

    /// A replica follows a primary that it would not follow if it knew.
    pub(super) fn warn(&mut self, now: Instant, node: NodeId, view: View, out: &mut Outbox) {
        let primary = self.primary_of(view);
        if self.shuns(primary)
            && let Some(proof) = self.evidence.against(primary)
            && self.peers.may_tell(now, node, Long::Proof, self.options.status_every)
        {
            out.send(Target::One(node), Message::Accuse { proof: proof.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
