//! Checkpoints: every K slots each replica says which state it has; equal words of a quorum make it stable, and what led there is
//! forgotten (TOCS 2002, 4.3).

use super::slots::{Counted, Tally};
use super::{NUMBER_MAX, Pbft, Spoken};
use crate::base::canary::{self, Canary};
use crate::base::{Digest, NodeId, NodeSet, Slot, Stamp, Term};
use crate::crypto::Signature;
use crate::protocol::{FaultKind, Outbox, Target};
use crate::wire::Record;
use crate::wire::pbft::{Message, NULL, Note, Proof, Vote, signed_checkpoint};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// Own states at slots of snapshots that are remembered.
const KEPT_MAX: usize = 16;

/// What is known of checkpoints.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    /// The newest that is stable and that this replica has itself. Its state is on the own disk.
    pub stable: Vote,
    /// The one at the low water mark: `stable`, or a later one that is known to be certified and whose state is not here.
    pub low: Vote,
    /// Own states from `stable` on: digest and stamp.
    own: BTreeMap<Slot, (Digest, Stamp)>,
    /// Digests that the store was asked for: the stamps of their slots.
    asked: BTreeMap<Slot, Stamp>,
    /// Words about slots within the window.
    votes: BTreeMap<Slot, Tally>,
    /// The newest words of each about states that can be transferred, signed. Several, for whoever holds an older state may not have made
    /// a snapshot of the newest.
    snapshots: BTreeMap<NodeId, BTreeMap<Slot, (Digest, Signature)>>,
    /// Signed words of others about the stable slot and those within the window: what convicts whoever says something else.
    signed: BTreeMap<Slot, BTreeMap<NodeId, (Digest, Signature)>>,
    /// Own states at slots of snapshots, the newest few.
    kept: BTreeMap<Slot, Digest>,
    /// The newest own snapshot on stable storage.
    pub snapshot: Slot,
    /// Where the log begins.
    pub floor: Slot,
}

impl Checkpoints {
    /// None but the empty state, or the one that was recovered.
    pub fn new(stable: Vote, floor: Slot) -> Checkpoints {
        Checkpoints {
            stable,
            low: stable,
            own: BTreeMap::new(),
            asked: BTreeMap::new(),
            votes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            signed: BTreeMap::new(),
            kept: BTreeMap::new(),
            snapshot: floor,
            floor,
        }
    }
    /// See `Pbft::outline`.
    pub fn outline(&self, to: &mut impl Hasher) {
        let vote = |vote: &Vote| (vote.slot, vote.digest);
        (vote(&self.stable), vote(&self.low), self.snapshot, self.floor).hash(to);
        self.own.iter().for_each(|(slot, (digest, _))| (slot, digest).hash(to));
        self.asked.keys().for_each(|slot| slot.hash(to));
        for (slot, tally) in &self.votes {
            slot.hash(to);
            tally.outline(to);
        }
    }
    /// The own states, for a view-change (C).
    pub fn all(&self) -> Vec<Vote> {
        let mut all: Vec<Vote> =
            self.own.iter().map(|(slot, (digest, _))| Vote { slot: *slot, digest: *digest }).collect();
        all.extend([self.stable, self.low]);
        all.sort_unstable();
        all.dedup_by_key(|vote| vote.slot);
        all
    }
    /// The own state at a slot.
    pub fn own(&self, slot: Slot) -> Option<Digest> {
        self.own.get(&slot).map(|(digest, _)| *digest)
    }
    /// Forgets own states below the stable one.
    pub fn trim(&mut self) {
        self.own = self.own.split_off(&self.stable.slot);
        self.signed = self.signed.split_off(&self.stable.slot);
    }
    /// What `node` has signed for this slot, as far as that is remembered.
    fn word(&self, node: NodeId, slot: Slot) -> Option<(Vote, Signature)> {
        let within = self.signed.get(&slot).and_then(|words| words.get(&node));
        let known = within.or_else(|| self.snapshots.get(&node)?.get(&slot));
        known.map(|(digest, signature)| (Vote { slot, digest: *digest }, *signature))
    }
    /// An own state, as recovered or transferred.
    pub fn know(&mut self, vote: Vote, stamp: Stamp, snapshot_every: u64) {
        self.own.insert(vote.slot, (vote.digest, stamp));
        if vote.slot.0.is_multiple_of(snapshot_every) {
            self.kept.insert(vote.slot, vote.digest);
            while KEPT_MAX < self.kept.len() {
                self.kept.pop_first();
            }
        }
    }
    /// Who has said which state that can be transferred, above `slot`.
    pub fn said_above(&self, slot: Slot) -> impl Iterator<Item = (Vote, NodeId)> {
        let of = move |(node, words): (&NodeId, &BTreeMap<Slot, (Digest, Signature)>)| {
            let vote =
                |(slot, (digest, _)): (&Slot, &(Digest, Signature))| Vote { slot: *slot, digest: *digest };
            words.range(slot.next()..).map(vote).zip(std::iter::repeat(*node)).collect::<Vec<_>>()
        };
        self.snapshots.iter().flat_map(of)
    }
    /// Remembers a word about a state that can be transferred: of each as many as others vouch for, and the one that is not stable yet
    /// (`Options::check`). A snapshot may be long in the making.
    fn remember(&mut self, node: NodeId, vote: Vote, signature: Signature) {
        let words = self.snapshots.entry(node).or_default();
        words.insert(vote.slot, (vote.digest, signature));
        while KEPT_MAX + 1 < words.len() {
            words.pop_first();
        }
    }
    /// Another epoch: only words of these count.
    pub fn retain(&mut self, members: NodeSet) {
        self.snapshots.retain(|node, _| members.contains(*node));
        self.signed.clear();
        self.votes.clear();
    }
    /// Own states above `slot` that are stable and of which snapshots were wanted.
    pub fn kept(&self, slot: Slot) -> Vec<Vote> {
        let vote = |(slot, digest): (&Slot, &Digest)| Vote { slot: *slot, digest: *digest };
        self.kept.range(slot.next()..).map(vote).filter(|vote| vote.slot <= self.stable.slot).collect()
    }
}

impl Pbft {
    /// "A checkpoint is taken when a request with a sequence number divisible by K is executed."
    pub(super) fn ask_digest(&mut self, out: &mut Outbox) {
        let slot = self.executed;
        if !slot.0.is_multiple_of(self.options.checkpoint_every) {
            return;
        }
        let is_new = self.checkpoints.stable.slot < slot && self.checkpoints.own(slot).is_none();
        if is_new {
            self.checkpoints.asked.insert(slot, self.stamp);
        }
        let ends_epoch = self.boundary() == Some(slot) || self.epochs.base.slot == slot;
        let keep = ends_epoch || slot.0.is_multiple_of(self.options.snapshot_every);
        // A snapshot that was not whole when the last life ended is made now: others may have been told that it is there, and what an
        // epoch begins with perhaps nobody else has.
        let is_lost = keep && self.checkpoints.snapshot < slot && !canary::on(Canary::LostSnapshotStaysLost);
        if is_new || is_lost {
            out.digest(slot, keep);
        }
    }

    /// The store's digest: the own word, said when it is on the disk.
    pub(super) fn digested(&mut self, slot: Slot, digest: Digest, out: &mut Outbox) {
        let Some(stamp) = self.checkpoints.asked.remove(&slot) else { return };
        if slot <= self.checkpoints.stable.slot {
            return;
        }
        let vote = Vote { slot, digest };
        self.checkpoints.know(vote, stamp, self.options.snapshot_every);
        let ticket = self.note(Note::Checkpoint { vote, stable: false }, out);
        self.unspoken.push_back((ticket, Spoken::Checkpoint { vote }));
        self.say_checkpoint(Target::Others, vote, out);
        if vote == self.epochs.base {
            // A quorum of the last epoch has certified it.
            self.stabilize(vote, out);
        }
        if canary::on(Canary::CollectUnstable) {
            self.stabilize(vote, out);
        }
    }

    pub(super) fn say_checkpoint(&mut self, to: Target, vote: Vote, out: &mut Outbox) {
        let signature = self.keys.sign(&signed_checkpoint(self.group, &vote));
        self.say(to, Message::Checkpoint { vote, signature }, out);
    }

    pub(super) fn on_checkpoint(&mut self, from: NodeId, vote: Vote, signature: Signature, out: &mut Outbox) {
        if NUMBER_MAX <= vote.slot.0 || !vote.slot.0.is_multiple_of(self.options.checkpoint_every) {
            out.fault(from, FaultKind::Disordered { slot: vote.slot });
            return;
        }
        let snapshot_every = self.options.snapshot_every;
        let is_within = self.slots.is_open(vote.slot) || vote.slot == self.checkpoints.stable.slot;
        let is_kept = is_within || vote.slot.0.is_multiple_of(snapshot_every);
        if !is_kept {
            return;
        }
        let known = self.checkpoints.word(from, vote.slot);
        // What is not signed convicts nobody, so it is not listened to either; the same word again was checked before.
        let is_known = known.is_some_and(|(before, _)| before == vote);
        if !is_known && !self.keys.verify(from, &signed_checkpoint(self.group, &vote), &signature) {
            // What lies below the epoch may have been said with a key of the last one.
            if self.epochs.number == 0 || self.epochs.base.slot < vote.slot {
                out.fault(from, FaultKind::BadSignature);
            }
            return;
        }
        if let Some(one) = known.filter(|(before, _)| *before != vote) {
            self.convict(from, Proof::Checkpoints(one, (vote, signature)), out);
            out.fault(from, FaultKind::Contradicts { slot: vote.slot });
            return;
        }
        if is_within {
            // A word that was known keeps the signature that was checked.
            let words = self.checkpoints.signed.entry(vote.slot).or_default();
            words.entry(from).or_insert((vote.digest, signature));
        }
        if vote.slot.0.is_multiple_of(snapshot_every) {
            self.checkpoints.remember(from, vote, signature);
        }
        if is_within && self.checkpoints.stable.slot < vote.slot {
            self.count_checkpoint(from, vote, out);
        }
        self.judge_checkpoint(vote.slot, out);
    }

    /// Who has signed another state than a quorum is convicted by that quorum's signatures.
    pub(super) fn judge_checkpoint(&mut self, slot: Slot, out: &mut Outbox) {
        let Some(words) = self.checkpoints.signed.get(&slot) else { return };
        let own = self.checkpoints.own(slot);
        let mut digests = words.values().map(|(digest, _)| *digest).chain(own);
        let first = digests.next();
        if digests.all(|digest| Some(digest) == first) {
            return;
        }
        let mut said = words.clone();
        if let Some(digest) = own {
            let signature = self.keys.sign(&signed_checkpoint(self.group, &Vote { slot, digest }));
            said.insert(self.me, (digest, signature));
        }
        let voices = |digest: Digest| said.iter().filter(move |(_, (other, _))| *other == digest);
        let agreed = said.values().map(|(digest, _)| *digest);
        let Some(digest) = agreed.into_iter().find(|d| self.quorum.strong() <= voices(*d).count()) else {
            return;
        };
        let others: Vec<_> = voices(digest).map(|(node, (_, signature))| (*node, *signature)).collect();
        let liars = said.iter().filter(|(node, (other, _))| *other != digest && **node != self.me);
        let liars: Vec<_> = liars.map(|(node, (other, signature))| (*node, *other, *signature)).collect();
        for (node, other, signature) in liars {
            let word = (Vote { slot, digest: other }, signature);
            out.fault(node, FaultKind::Contradicts { slot });
            self.convict(node, Proof::Checkpoint { word, digest, others: others.clone() }, out);
        }
    }

    /// Counts a word; equal ones of a quorum, the own among them, make the state stable.
    pub(super) fn count_checkpoint(&mut self, node: NodeId, vote: Vote, out: &mut Outbox) {
        if vote.slot <= self.checkpoints.stable.slot {
            return;
        }
        let tally = self.checkpoints.votes.entry(vote.slot).or_default();
        if tally.add(node, vote.digest) == Counted::Contradicts {
            out.fault(node, FaultKind::Contradicts { slot: vote.slot });
            return;
        }
        let enough = match canary::on(Canary::WeakCheckpoint) {
            true => self.quorum.weak(),
            false => self.quorum.strong(),
        };
        if let Some(digest) = tally.agreed(enough) {
            self.agreed_checkpoint(Vote { slot: vote.slot, digest }, out);
        }
        self.follow_checkpoints(out);
    }

    fn agreed_checkpoint(&mut self, vote: Vote, out: &mut Outbox) {
        match self.checkpoints.own(vote.slot) {
            // The end of an epoch is stable once the next one is entered: its charter must be written first.
            Some(own) if own == vote.digest && self.boundary() == Some(vote.slot) => (),
            Some(own) if own == vote.digest => self.stabilize(vote, out),
            // The own disk, memory or code is at fault: what others say is what they all have.
            Some(_) => out.fault(self.me, FaultKind::StateDiverges { slot: vote.slot }),
            // Not there yet; counted again once it is.
            None => (),
        }
    }

    /// For a replica that catches up: a state that a correct replica calls stable was certified, though its certificate has gone.
    pub(super) fn follow_checkpoints(&mut self, out: &mut Outbox) {
        let vouched = self.peers.vouched_stable(self.quorum.weak());
        let vouched = self.boundary().map_or(vouched, |boundary| vouched.min(boundary.prev()));
        let own = &self.checkpoints.own;
        let newest = own
            .range(..=vouched)
            .next_back()
            .map(|(slot, (digest, _))| Vote { slot: *slot, digest: *digest });
        if let Some(vote) = newest.filter(|vote| self.checkpoints.stable.slot < vote.slot) {
            self.stabilize(vote, out);
        }
    }

    /// A checkpoint is known to be certified.
    pub(super) fn raise_low(&mut self, vote: Vote) {
        if self.slots.low() < vote.slot {
            self.checkpoints.low = vote;
            self.slots.raise(vote.slot);
        }
    }

    /// "It discards all pre-prepare, prepare and commit messages with sequence numbers less than or equal to n, and all earlier
    /// checkpoints" (4.3).
    pub(super) fn stabilize(&mut self, vote: Vote, out: &mut Outbox) {
        assert!(self.checkpoints.stable.slot < vote.slot && vote.slot <= self.executed);
        self.checkpoints.stable = vote;
        self.note(Note::Checkpoint { vote, stable: true }, out);
        self.raise_low(vote);
        self.slots.collect(self.executed);
        self.checkpoints.trim();
        self.checkpoints.votes = self.checkpoints.votes.split_off(&vote.slot.next());
        self.lower_log(out);
    }

    /// An own snapshot is on stable storage.
    pub(super) fn snapshotted(&mut self, slot: Slot, out: &mut Outbox) {
        self.checkpoints.snapshot = self.checkpoints.snapshot.max(slot);
        self.lower_log(out);
    }

    /// What a stable snapshot holds may leave the log.
    fn lower_log(&mut self, out: &mut Outbox) {
        let slot = self.checkpoints.snapshot;
        if self.checkpoints.floor < slot && slot <= self.checkpoints.stable.slot {
            self.checkpoints.floor = slot;
            let stamp = Stamp::ZERO;
            self.write_late(out);
            self.note_epoch_above(slot, out);
            out.append(Record::Floor { group: self.group, slot, term: Term::ZERO, stamp, reset: false });
        }
    }

    /// The newest own state that others can be given whole.
    pub(super) fn shippable(&self) -> Option<Slot> {
        let slot = self.checkpoints.snapshot.min(self.checkpoints.floor);
        (slot != Slot::ZERO).then_some(slot)
    }
}

/// The state before the first slot.
pub(super) const EMPTY: Vote = Vote { slot: Slot::ZERO, digest: NULL };
