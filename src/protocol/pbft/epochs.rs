//! Epochs: who is in the group changes, or which keys they have, without a moment at which two groups could decide. The last slot of one
//! configuration is agreed on before the first of the next (Lamport, Malkhi and Zhou, "Reconfiguring a State Machine", SIGACT News 2010).
//!
//! 1. An operator's *amendment* is ordered like a request. It names the next membership whole ([`crate::wire::members`]).
//! 2. It takes effect at its *boundary*, the first checkpoint a whole window above its slot. Whoever has not executed it has its window
//!    below the boundary, and whoever has takes no part beyond: so no slot is open in two epochs. The primary fills the way there with
//!    empty values, and is watched lest it do not.
//! 3. At the boundary each member signs which state it has and who is next (a *succession*). A quorum of such words is the *charter* of
//!    the next epoch, and nothing else lets a replica enter it. Charters make a chain: whoever knows the members of one epoch knows by
//!    its charter those of the next, however long it has slept.
//! 4. Above the boundary nothing was ever assigned, so an epoch begins as a group does: in a view that needs no proof. A view's number
//!    begins with its epoch's, so whatever names a view names its epoch, and words of one count in no other.
//! 5. The charter certifies the state at the boundary, of which everybody makes a snapshot: a newcomer needs one honest source.

use super::quorum::Quorum;
use super::{NUMBER_MAX, Pbft, lineage, set};
use crate::base::canary::{self, Canary};
use crate::base::{Body, Instant, NodeId, NodeSet, Slot, View};
use crate::crypto::{Signature, SigningKey};
use crate::protocol::{FaultKind, Outbox, Target, Unfit};
use crate::wire::members::{Amendment, Members, Membership, OPERATOR};
use crate::wire::pbft::{Charter, Message, Note, Succession, Vote};
use crate::wire::{Batch, Entry, EntryKind};
use std::collections::BTreeMap;

/// Charters that are kept for those who come late. Each stays in memory and is written again above every floor: some hundred bytes a
/// member. Whoever has slept through more epochs, or begins now with the first members, needs a file that was written before (`ctl members
/// charter`).
const CHARTERS_MAX: usize = 64;
/// Most charters in one answer: who has slept for longer asks again from where they lead.
const SHOWN_MAX: usize = 8;
/// The way to a boundary is longer than a request's, and may take so many times as long.
const PATIENCE_FACTOR: u32 = 4;

/// The epoch whose members a replica is configured with, and the state above which it begins: the first one, unless the replica joins a
/// group later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Anchor {
    /// Its number.
    pub epoch: u64,
    /// The state.
    pub base: Vote,
}

/// Where a replica stands among epochs.
#[derive(Clone, Debug)]
pub(super) struct Epochs {
    /// The one that it is in. Rises; a record is written in the step that changes it.
    pub number: u64,
    /// The state that the epoch begins above.
    pub base: Vote,
    /// Its members, unless it is the one that this replica was set up with.
    membership: Option<Membership>,
    /// What the executed log says of members.
    pub state: Members,
    /// Since when an amendment waits for its boundary.
    pub waits_since: Option<Instant>,
    /// Words that this epoch ends: the first of each of its members.
    words: BTreeMap<NodeId, Succession>,
    /// How the epochs that this replica knows of began, the newest few.
    charters: BTreeMap<u64, Charter>,
}

impl Epochs {
    /// In the epoch of an anchor, after what a state says.
    pub fn new(anchor: Anchor, state: Members) -> Epochs {
        Epochs {
            number: anchor.epoch,
            base: anchor.base,
            membership: None,
            state,
            waits_since: None,
            words: BTreeMap::new(),
            charters: BTreeMap::new(),
        }
    }
    /// Keeps a charter for those who come later.
    pub fn keep(&mut self, charter: Charter) {
        if !charter.signatures.is_empty() {
            self.charters.insert(charter.membership.epoch, charter);
        }
        if CHARTERS_MAX < self.charters.len() {
            self.charters.pop_first();
        }
    }
    /// The membership that this replica has yet to enter, and the last slot before it.
    fn pending(&self) -> Option<&(Slot, Membership)> {
        let later = |one: &&(Slot, Membership)| self.number < one.1.epoch;
        self.state.now().into_iter().chain(self.state.next()).find(later)
    }
}

impl Pbft {
    /// Which epoch this replica is in.
    pub fn epoch(&self) -> u64 {
        self.epochs.number
    }
    /// The state above which it begins.
    pub fn epoch_base(&self) -> Vote {
        self.epochs.base
    }
    /// Its members.
    pub fn member_set(&self) -> NodeSet {
        set(&self.members)
    }
    /// Whether this replica is one of them: else it stands by, and says no more than how the epochs came about that it has seen.
    pub fn is_member(&self) -> bool {
        self.members.contains(&self.me)
    }
    /// The last slot of this epoch, once that is known.
    pub fn boundary(&self) -> Option<Slot> {
        self.epochs.pending().map(|(slot, _)| *slot)
    }
    /// Whether an amendment is under way, as far as this replica knows.
    pub fn is_amended(&self) -> bool {
        self.boundary().is_some() || self.requests.hears(OPERATOR)
    }
    /// Can show from now on how an epoch began.
    pub fn remember(&mut self, charter: Charter) {
        self.epochs.keep(charter);
    }
    /// How the epochs began of which this replica can show it; rising.
    pub fn charters(&self) -> impl Iterator<Item = &Charter> {
        self.epochs.charters.values()
    }
    /// What the executed log says of members.
    pub fn members_state(&self) -> &Members {
        &self.epochs.state
    }

    /// Whether an operator's batch may be ordered in this epoch, if it is signed. Whoever votes in a view is in its epoch, so all come to
    /// one verdict.
    pub(super) fn is_amendment(&self, batch: &Batch) -> bool {
        let amendment = Amendment::decode(batch.body.bytes());
        amendment.is_some_and(|amendment| self.fits(&amendment).is_ok())
    }
    fn fits(&self, amendment: &Amendment) -> Result<(), Unfit> {
        let super::Options { window, checkpoint_every, .. } = self.options;
        let (found, known) = ((amendment.window, amendment.checkpoint_every), (window, checkpoint_every));
        let next = &amendment.membership;
        let (members, faulty) = (next.members.len(), usize::from(next.faulty));
        let stay = next.nodes().iter().filter(|node| self.members.contains(node)).count();
        let quorum = Quorum::new(members, faulty).ok_or(Unfit::Malformed)?;
        if amendment.cluster != self.cluster && !canary::on(Canary::AmendmentOfAnyCluster) {
            return Err(Unfit::Cluster { found: amendment.cluster, known: self.cluster });
        }
        if next.epoch != self.epochs.number + 1 {
            return Err(Unfit::Epoch { found: next.epoch, known: self.epochs.number });
        }
        if found != known {
            return Err(Unfit::Pace { found, known });
        }
        // Somebody honest must be there who has the state.
        if stay <= faulty {
            return Err(Unfit::Strangers { stay, faulty });
        }
        if self.options.new_view_bytes_max < self.options.new_view_bytes(quorum) {
            return Err(Unfit::Many { members, window });
        }
        Ok(())
    }
    /// Why an amendment would have no effect if this replica had it ordered now, for whoever hands it in.
    pub fn judge_amendment(&self, batch: &Batch) -> Result<(), Unfit> {
        if !self.is_member() {
            return Err(Unfit::NoMember { epoch: self.epochs.number });
        }
        let amendment = Amendment::decode(batch.body.bytes()).filter(|_| batch.origin.node == OPERATOR);
        let amendment = amendment.ok_or(Unfit::Malformed)?;
        self.fits(&amendment)?;
        if !self.is_signed(batch) {
            return Err(Unfit::Unsigned);
        }
        if let Some(boundary) = self.boundary() {
            return Err(Unfit::UnderWay { boundary });
        }
        let next = &amendment.membership;
        let gone = self.epochs.membership.as_ref().map_or(NodeSet::default(), |now| now.retired);
        let left = self.members.iter().copied().filter(|node| !next.nodes().contains(*node));
        match left.chain(gone.iter()).find(|node| !next.retired.contains(*node)) {
            Some(node) => Err(Unfit::Returns { node }),
            None => Ok(()),
        }
    }
    /// Who is in the group in this epoch; `None` in the one that this replica was set up with.
    pub fn membership(&self) -> Option<&Membership> {
        self.epochs.membership.as_ref()
    }
    /// Holds another key, to sign with from the epoch on that lists it for this replica.
    pub fn hold(&mut self, key: SigningKey) {
        self.keys = self.keys.clone().with_spare(key);
    }

    /// An entry was executed: perhaps it is an amendment, perhaps it ends the epoch.
    pub(super) fn heed(&mut self, now: Instant, entry: &Entry) {
        let is_batch = entry.kind == EntryKind::Batch && entry.origin.node == OPERATOR;
        let is_amended = is_batch && self.epochs.state.amend(entry.slot, entry.body.bytes());
        let is_reached = self.epochs.state.reach(entry.slot);
        if is_amended && self.boundary().is_some() {
            self.epochs.waits_since = Some(now);
        }
        if is_amended || is_reached {
            self.fence();
        }
    }

    /// Nobody takes part in anything beyond the boundary before the next epoch is entered.
    pub(super) fn fence(&mut self) {
        self.slots.fence = self.boundary();
    }

    /// The primary fills the way to the boundary, else a group in which nobody writes would never come there.
    pub(super) fn pad(&mut self) {
        let Some(boundary) = self.boundary().filter(|_| self.is_primary()) else { return };
        while self.assigned.max(self.executed).max(self.slots.base()) < boundary {
            let assigned = self.assign(Batch::default());
            assert!(assigned.is_ok(), "what carries a stamp alone is never refused");
        }
    }

    /// When a primary is suspected that does not lead the group to its boundary.
    pub(super) fn boundary_suspicion_at(&self) -> Option<Instant> {
        let waits_since = self.epochs.waits_since.filter(|_| !self.is_primary())?;
        let is_ahead = self.boundary().is_some_and(|boundary| self.executed < boundary);
        let since = waits_since.max(self.changing.entered);
        is_ahead.then(|| since.after(PATIENCE_FACTOR * self.changing.patience.span()))
    }

    /// The own state at a checkpoint is on the disk. At the boundary that is the time to say who is next.
    pub(super) fn succeed(&mut self, vote: Vote, out: &mut Outbox) {
        let Some((boundary, next)) = self.epochs.pending() else { return };
        if vote.slot != *boundary || self.epochs.words.contains_key(&self.me) || !self.is_member() {
            return;
        }
        let (epoch, members) = (next.epoch, next.digest());
        let mut word = Succession { epoch, vote, members, signature: Signature::NONE };
        word.signature = self.keys.sign(&word.signed(self.group));
        self.epochs.words.insert(self.me, word);
        self.say(Target::Others, Message::Succession(word), out);
    }

    /// The own word may have been lost on its way to this one.
    pub(super) fn succeed_again(&self, to: NodeId, out: &mut Outbox) {
        if let Some(word) = self.epochs.words.get(&self.me) {
            self.say(Target::One(to), Message::Succession(*word), out);
        }
    }

    pub(super) fn on_succession(&mut self, from: NodeId, word: Succession, out: &mut Outbox) {
        if word.epoch != self.epochs.number + 1 {
            return;
        }
        if !self.keys.verify(from, &word.signed(self.group), &word.signature) {
            out.fault(from, FaultKind::BadSignature);
            return;
        }
        let first = *self.epochs.words.entry(from).or_insert(word);
        if (first.vote, first.members) != (word.vote, word.members) {
            out.fault(from, FaultKind::Contradicts { slot: word.vote.slot });
        }
    }

    /// Enters the next epoch once a quorum says what this replica says.
    pub(super) fn cross(&mut self, now: Instant, out: &mut Outbox) {
        let Some(own) = self.epochs.words.get(&self.me) else { return };
        let same = |word: &Succession| (word.vote, word.members) == (own.vote, own.members);
        let agreed = self.epochs.words.iter().filter(|(_, word)| same(word));
        let signatures: Vec<_> = agreed.map(|(node, word)| (*node, word.signature)).collect();
        if signatures.len() < self.quorum.strong() {
            return;
        }
        let vote = own.vote;
        let (_, membership) = self.epochs.pending().expect("a word is said about what is pending");
        let membership = membership.clone();
        self.enter(now, Charter { vote, membership, signatures }, out);
    }

    /// How an epoch began that this replica has not come to: its members of this epoch have signed it.
    pub(super) fn on_charter(&mut self, now: Instant, charter: Charter, out: &mut Outbox) {
        let slot = charter.vote.slot;
        let is_checkpoint = slot.0 < NUMBER_MAX && slot.0.is_multiple_of(self.options.checkpoint_every);
        if charter.membership.epoch != self.epochs.number + 1 || !is_checkpoint || slot < self.slots.low() {
            return;
        }
        if !lineage::is_signed(&charter, self.group, (self.member_set(), self.quorum), &self.keys) {
            return;
        }
        if self.checkpoints.own(slot).is_some_and(|own| own != charter.vote.digest) {
            // The own disk, memory or code is at fault.
            out.fault(self.me, FaultKind::StateDiverges { slot });
            return;
        }
        self.enter(now, charter, out);
    }

    /// A state came whole from others, and `f + 1` members of this epoch or its charter vouch for it: it knows who is in the group.
    pub(super) fn learn_members(&mut self, now: Instant, vote: Vote, members: &Body, out: &mut Outbox) {
        self.epochs.state = Members::decode(members.bytes()).expect("it was read before it was installed");
        self.epochs.waits_since = self.boundary().map(|_| now);
        self.fence();
        if let Some((_, membership)) = self.epochs.state.now().cloned()
            && self.epochs.number < membership.epoch
        {
            self.enter(now, Charter { vote, membership, signatures: Vec::new() }, out);
        }
    }

    /// The log's floor is about to pass the record that says which epoch this is. It is written once more above: a snapshot at the next
    /// boundary says who is next, and no longer who is in the group until then. So are those of earlier ones, for whoever begins with the
    /// first members.
    pub(super) fn note_epoch_above(&mut self, floor: Slot, out: &mut Outbox) {
        let membership = self.epochs.membership.clone().filter(|_| !canary::on(Canary::EpochLeavesTheLog));
        let Some(membership) = membership else { return };
        let (vote, epoch) = (self.epochs.base, membership.epoch);
        let kept = self.epochs.charters.get(&epoch).cloned();
        let present = kept.unwrap_or(Charter { vote, membership, signatures: Vec::new() });
        let earlier = self.epochs.charters.range(..epoch).map(|(_, charter)| charter);
        let bodies: Vec<Body> = earlier.chain([&present]).map(Charter::body).collect();
        for charter in bodies {
            self.note(Note::Epoch { since: floor, charter }, out);
        }
    }

    /// The members change, and with them the quorums, the primaries and the keys. What only the last epoch's words stood for is over.
    pub(super) fn enter(&mut self, now: Instant, charter: Charter, out: &mut Outbox) {
        let Charter { vote, membership, .. } = charter.clone();
        assert!(self.epochs.number < membership.epoch);
        // First of all: a checkpoint that is stable without it would leave nobody who can tell how the epoch began.
        self.note(Note::Epoch { since: vote.slot, charter: charter.body() }, out);
        self.quit_view(now, View::first_of(membership.epoch));
        let left = self.take_on(&membership);
        self.epochs.number = membership.epoch;
        self.epochs.base = vote;
        self.epochs.words.clear();
        self.epochs.waits_since = self.boundary().map(|_| now);
        self.epochs.keep(charter);
        self.fence();
        self.forget(left);
        self.raise_low(vote);
        self.slots.begin(vote.slot);
        if self.checkpoints.stable.slot < vote.slot && self.checkpoints.own(vote.slot) == Some(vote.digest) {
            self.stabilize(vote, out);
        }
        self.slots.collect(self.executed);
        self.slots.drop_far(self.executed);
        self.note(Note::View { view: self.view, active: true, proof: Default::default() }, out);
        self.active = true;
        self.changing.begin_epoch(now);
        self.falls_behind = false;
        self.pace.begin(now, self.members.len());
        (self.begun, self.assigned, self.assigned_stamp) = (vote.slot, vote.slot, self.stamp);
        if self.is_member() {
            self.order_heard();
            self.say_status(now, out);
        }
    }

    /// Takes on the members, quorums and keys of a membership. Gives back whose earlier key is believed no more.
    pub(super) fn take_on(&mut self, membership: &Membership) -> NodeSet {
        let before = set(&self.members);
        let keys = self.keys.renewed(self.me, before, membership.signing_keys());
        let left = before.iter().filter(|node| keys.listed(*node) != self.keys.listed(*node)).collect();
        self.members = membership.nodes().iter().collect();
        self.epochs.membership = Some(membership.clone());
        if !canary::on(Canary::EpochKeepsQuorum) {
            let quorum = Quorum::new(self.members.len(), membership.faulty.into());
            self.quorum = quorum.expect("a membership bears its liars");
        }
        if !canary::on(Canary::EpochKeepsKeys) {
            self.keys = keys;
        }
        left
    }

    /// What these have said counts no longer.
    fn forget(&mut self, left: NodeSet) {
        let members = set(&self.members);
        self.peers.retain(members);
        self.checkpoints.retain(members);
        if !canary::on(Canary::EpochKeepsVoices) {
            self.slots.forget_voices();
        }
        self.evidence.forgive(left);
        self.requests.forget_nodes(|node| node == OPERATOR || left.contains(node));
    }

    /// A replica that speaks of an earlier epoch is shown how the later ones came about.
    pub(super) fn show_charters(&mut self, now: Instant, to: NodeId, epoch: u64, out: &mut Outbox) {
        if self.peers.may_answer(now, to) {
            self.say_charters(to, epoch, out);
        }
    }
    pub(super) fn say_charters(&self, to: NodeId, epoch: u64, out: &mut Outbox) {
        for charter in self.epochs.charters.range(epoch + 1..).map(|(_, charter)| charter).take(SHOWN_MAX) {
            self.say(Target::One(to), Message::Charter(charter.clone()), out);
        }
    }
}
