//! A start from what was stored: the newest durable snapshot, and the notes above it in the order of their writing. A replica that
//! comes back says nothing that contradicts what it said before.

use super::checkpoint::{Checkpoints, EMPTY};
use super::choose::{choose, is_certified};
use super::epochs::{Anchor, Epochs};
use super::evidence::Evidence;
use super::options::Options;
use super::pace::Pace;
use super::past::Past;
use super::patience::Patience;
use super::peers::Peers;
use super::quorum::Quorum;
use super::requests::Requests;
use super::slots::{Place, Slots};
use super::speak::Speech;
use super::tags::Tags;
use super::transfer::Transfer;
use super::view_change::Changing;
use super::{Pbft, set};
use crate::base::canary::{self, Canary};
use crate::base::{Body, Digest, GroupId, Instant, JobId, NodeId, NodeSet, Slot, Stamp, View};
use crate::crypto::{ClusterId, Keyring};
use crate::protocol::{Hole, Outbox, Room};
use crate::wire::members::{Members, Membership};
use crate::wire::pbft::{Change, Charter, NULL, NewView, Note, Proposal, Vote, digest};
use crate::wire::{Entry, Record};
use std::collections::{BTreeMap, VecDeque};

/// What a replica is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The cluster that the group is of.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// This replica.
    pub me: NodeId,
    /// All replicas of the group as it is configured.
    pub members: NodeSet,
    /// The epoch in which these are the members.
    pub anchor: Anchor,
    /// What the newest snapshot's state says of members.
    pub state: Members,
    /// This life of the node: numbers its reads.
    pub boot: u64,
    /// See there.
    pub options: Options,
    /// Everybody's signing keys.
    pub keys: Keyring,
}

/// What the notes add up to, as they are read.
pub struct Replay {
    floor: Slot,
    view: View,
    active: bool,
    proof: Body,
    slots: Slots,
    /// Assigned in the view of the note: slot, view, digest, whether it prepared.
    said: BTreeMap<Slot, (View, Digest, bool)>,
    states: BTreeMap<Slot, Digest>,
    stable: Vote,
    /// How the epochs began that were entered, as bytes; rising.
    charters: Vec<Body>,
}

impl Replay {
    /// Nothing has been read yet.
    pub fn new(options: &Options) -> Replay {
        Replay {
            floor: Slot::ZERO,
            view: View::ZERO,
            active: true,
            proof: Body::EMPTY,
            slots: Slots::new(Slot::ZERO, options.window),
            said: BTreeMap::new(),
            states: BTreeMap::new(),
            stable: EMPTY,
            charters: Vec::new(),
        }
    }

    /// Takes the next record, in the order of their writing.
    pub fn record(&mut self, record: Record) -> Result<(), Hole> {
        match record {
            Record::Floor { slot, .. } => {
                self.floor = self.floor.max(slot);
                self.forget(slot);
            }
            Record::Pbft { note, .. } => self.note(note),
            Record::Vote { .. } | Record::Entry { .. } => return Err(Hole::OtherProtocol),
        }
        Ok(())
    }

    fn note(&mut self, note: Note) {
        if !matches!(note, Note::View { .. }) && canary::on(Canary::ForgetWhatWasSaid) {
            return;
        }
        match note {
            Note::View { view, active, proof } => {
                assert!(self.view <= view, "views are written in rising order");
                (self.view, self.active, self.proof) = (view, active, proof);
            }
            Note::PrePrepared { view, entry } => {
                let vote = self.keep(entry);
                self.assigned(view, vote);
            }
            Note::Assigned { view, vote } => self.assigned(view, vote),
            Note::Prepared { view, vote } => {
                let place = self.slots.at(vote.slot);
                place.p = Some((vote.digest, view));
                if let Some(said) = self.said.get_mut(&vote.slot).filter(|said| said.0 == view) {
                    said.2 = true;
                }
            }
            Note::Committed { vote } => self.decided_is(vote),
            Note::Learned { entry } => {
                let vote = self.keep(entry);
                self.decided_is(vote);
            }
            Note::Epoch { charter, .. } => self.charters.push(charter),
            Note::Checkpoint { vote, stable } => {
                self.states.insert(vote.slot, vote.digest);
                if stable && self.stable.slot < vote.slot {
                    self.stable = vote;
                }
            }
        }
    }

    fn decided_is(&mut self, vote: Vote) {
        let place = self.slots.at(vote.slot);
        (place.committed, place.noted) = (Some(vote.digest), true);
    }

    fn keep(&mut self, entry: Entry) -> Vote {
        let vote = Vote { slot: entry.slot, digest: digest(&entry) };
        let place = self.slots.at(vote.slot);
        place.keep(vote.digest, Proposal { entry, signature: Default::default() }, true);
        place.stored.push(vote.digest);
        vote
    }

    fn assigned(&mut self, view: View, vote: Vote) {
        self.slots.at(vote.slot).accept(vote.digest, view);
        self.said.insert(vote.slot, (view, vote.digest, false));
    }
}

impl Pbft {
    /// A replica that has never run.
    pub fn new(setup: Setup, now: Instant) -> Pbft {
        let nothing = Replay::new(&setup.options);
        let recovered = Pbft::recover(setup, now, (Slot::ZERO, Stamp::ZERO), nothing);
        recovered.expect("nothing has no holes")
    }

    /// A replica as it was when its node went down. `snapshot` is the newest durable one's slot and stamp (zero if there is none),
    /// `replay` has taken all records that the log still holds.
    pub fn recover(
        setup: Setup,
        now: Instant,
        snapshot: (Slot, Stamp),
        mut replay: Replay,
    ) -> Result<Pbft, Hole> {
        if snapshot.0 < replay.floor {
            return Err(Hole::Snapshot { floor: replay.floor, snapshot: snapshot.0 });
        }
        let hole = Hole::View { view: replay.view };
        let charters: Option<Vec<Charter>> =
            replay.charters.iter().map(|charter| Charter::decode(charter.bytes())).collect();
        let charters = charters.ok_or(hole)?;
        // Not the last one: a crash may have ended the writing of those that a floor passed, of which the present epoch's comes last.
        let newest = charters.iter().max_by_key(|charter| charter.membership.epoch);
        let of_log = newest.map(|charter| (charter.vote, charter.membership.clone()));
        // Beyond its last slot only the next epoch goes on; and its charter leaves the log only when it lies below the window.
        let passed = setup.state.now().filter(|(since, _)| *since < snapshot.0);
        let of_state = passed.map(|(slot, members)| (Vote { slot: *slot, digest: NULL }, members.clone()));
        let later = [of_log, of_state].into_iter().flatten().filter(|one| setup.anchor.epoch < one.1.epoch);
        let entered = later.max_by_key(|(vote, members)| (members.epoch, vote.digest));
        let number = entered.as_ref().map_or(setup.anchor.epoch, |(_, members)| members.epoch);
        replay.enter(number);
        let (proof, active) = (replay.proof.clone(), replay.active);
        let mut pbft = Pbft::start(setup, now, snapshot, replay);
        pbft.resume_epoch(now, entered, charters);
        let mut begun = Vec::new();
        if active && !proof.is_empty() {
            let new_view = NewView::decode(proof.bytes()).ok_or(hole)?;
            let changes: Vec<&Change> = new_view.changes.iter().collect();
            let choice = choose(&changes, pbft.quorum, pbft.options.window).ok_or(hole)?;
            if is_certified(choice.checkpoint.slot, &changes, pbft.quorum) {
                pbft.rebase(choice.checkpoint);
            }
            pbft.slots.begin(choice.checkpoint.slot);
            pbft.new_view = Some(new_view);
            begun = choice.values;
        } else if !active {
            let change = Change::decode(proof.bytes()).ok_or(hole)?;
            let base = change.checkpoints.iter().find(|vote| vote.slot == change.stable).copied();
            pbft.rebase(base.ok_or(hole)?);
            pbft.changing.restore(change);
        }
        // The log still has what the last life had dropped.
        let decided =
            pbft.replayed.iter().flatten().next_back().map_or(pbft.executed, |(_, entry)| entry.slot);
        pbft.slots.drop_far(decided);
        pbft.resume();
        pbft.bind(&begun);
        Ok(pbft)
    }

    /// In the epoch that this replica had come to.
    fn resume_epoch(&mut self, now: Instant, entered: Option<(Vote, Membership)>, charters: Vec<Charter>) {
        if let Some((base, membership)) = entered {
            self.take_on(&membership);
            (self.epochs.number, self.epochs.base) = (membership.epoch, base);
        }
        charters.into_iter().for_each(|charter| self.epochs.keep(charter));
        self.epochs.waits_since = self.boundary().map(|_| now);
        self.fence();
        if self.epochs.base.digest != NULL {
            self.rebase(self.epochs.base);
        }
    }

    /// The window begins where it did before the restart. Lower down it would end before slots that prepared here, and the next view-change
    /// would not speak of them.
    fn rebase(&mut self, base: Vote) {
        self.raise_low(base);
        self.slots.collect(self.executed);
    }

    fn start(setup: Setup, now: Instant, (slot, stamp): (Slot, Stamp), mut replay: Replay) -> Pbft {
        let Setup { cluster, group, me, members, anchor, state, boot, options, keys } = setup;
        options.check();
        let members: Vec<NodeId> = members.iter().collect();
        let quorum = match options.faulty_max {
            Some(f) => Quorum::new(members.len(), f).expect("config has checked that so many bear f liars"),
            None => Quorum::most(members.len()),
        };
        // Of what the snapshot holds already others may want the values that the log still has.
        let mut decided = replay.decided(replay.decided_since(slot));
        let replayed = decided.split_off(decided.iter().take_while(|(_, entry)| entry.slot <= slot).count());
        let mut past = Past::default();
        for (digest, entry) in decided {
            past.push(digest, entry, replay.floor, options.cache_entries_max, options.cache_bytes_max);
        }
        replay.restore_view();
        replay.slots.raise(replay.stable.slot);
        replay.slots.collect(slot);
        let mut checkpoints = Checkpoints::new(replay.stable, slot.min(replay.stable.slot));
        for (slot, digest) in std::mem::take(&mut replay.states) {
            checkpoints.know(Vote { slot, digest }, Stamp::ZERO, options.snapshot_every);
        }
        checkpoints.trim();
        let patience = Patience::new(now, options.request_timeout, options.request_timeout_max);
        debug_assert_eq!(set(&members).len(), members.len());
        Pbft {
            cluster,
            group,
            me,
            boot,
            quorum,
            keys,
            epochs: Epochs::new(anchor, state),
            view: replay.view,
            active: replay.active,
            slots: replay.slots,
            executed: slot,
            stamp,
            past,
            reading: BTreeMap::new(),
            replayed: Some(replayed),
            begun: Slot::ZERO,
            bound: Slot::ZERO,
            assigned: Slot::ZERO,
            assigned_stamp: stamp,
            waiting: VecDeque::new(),
            speech: Speech::default(),
            unspoken: VecDeque::new(),
            requests: Requests::default(),
            tags: Tags::default(),
            checkpoints,
            changing: Changing::new(now, patience),
            pace: Pace::new(now),
            falls_behind: false,
            new_view: None,
            peers: Peers::new(now, options.stall_after),
            transfer: Transfer::default(),
            evidence: Evidence::default(),
            clock: Stamp::ZERO,
            draining: false,
            room: Room::Enough,
            passed_on_at: None,
            ahead: Vec::new(),
            next_job: JobId::default(),
            options,
            members,
        }
    }

    /// What was accepted and prepared in the present view counts, for it is durable. The primary goes on above it.
    fn resume(&mut self) {
        let slots: Vec<Slot> = self.slots.iter().map(|(slot, _)| slot).collect();
        let (me, primary) = (self.me, self.primary());
        for slot in slots {
            let place = self.slots.at(slot);
            let Some(digest) = place.assigned else { continue };
            place.prepares.add(me, digest);
            place.prepares.add(primary, digest);
            if place.prepared {
                place.commits.add(me, digest);
            }
            let stamp = place.value(digest).map_or(Stamp::ZERO, |proposal| proposal.entry.stamp);
            self.assigned = self.assigned.max(slot);
            self.assigned_stamp = self.assigned_stamp.max(stamp);
        }
        self.assigned = self.assigned.max(self.slots.base());
    }

    /// The view was entered, durably, but perhaps not all that it began with was written: its new-view binds all the same. Without this
    /// a primary that comes back would assign those slots a second time, and a backup would let it.
    fn bind(&mut self, begun: &[Vote]) {
        let base = self.slots.base();
        self.begun = begun.last().map_or(base, |vote| vote.slot);
        for vote in begun.iter().filter(|vote| base < vote.slot) {
            let place = self.slots.at(vote.slot);
            if place.committed.is_none_or(|digest| digest == vote.digest) {
                assert!(
                    place.assigned.is_none_or(|digest| digest == vote.digest),
                    "a view begins in one way"
                );
                place.assigned = Some(vote.digest);
            }
            let stamp = place.value(vote.digest).map_or(Stamp::ZERO, |proposal| proposal.entry.stamp);
            self.assigned = self.assigned.max(vote.slot);
            self.assigned_stamp = self.assigned_stamp.max(stamp);
        }
    }

    /// What the view began with and was not accepted yet is accepted now, as far as it is known and within the water marks.
    pub(super) fn accept_the_rest(&mut self, now: Instant, out: &mut Outbox) {
        let rest = |(slot, place): (Slot, &Place)| {
            let is_open = !place.accepted && !place.doubted && self.slots.contains(slot);
            let digest = place.assigned.filter(|digest| is_open && place.knows(*digest))?;
            Some(Vote { slot, digest })
        };
        let votes: Vec<Vote> = self.slots.iter().filter_map(rest).collect();
        if self.active {
            votes.into_iter().for_each(|vote| self.accept(now, vote, None, out));
        }
    }

    /// Hands what was decided before this life to the store, once.
    pub(super) fn replay(&mut self, out: &mut Outbox) {
        let Some(replayed) = self.replayed.take() else { return };
        // The word about the snapshot's own state may have been lost.
        self.ask_digest(out);
        for (digest, entry) in replayed {
            let now = self.peers.moved_at;
            self.execute_one(now, digest, entry, out);
        }
        let now = self.peers.moved_at;
        self.accept_the_rest(now, out);
        // What was written and not yet counted counts now.
        for vote in self.checkpoints.all() {
            if self.checkpoints.own(vote.slot) == Some(vote.digest) {
                self.count_checkpoint(self.me, vote, out);
                self.succeed(vote, out);
            }
        }
        let slots: Vec<Slot> = self.slots.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.check_prepared(slot, out);
            self.check_committed(now, slot, out);
        }
    }
}

impl Replay {
    /// What was said in an earlier epoch than this one binds nobody any more, and this one begins without proof.
    fn enter(&mut self, epoch: u64) {
        if self.view.epoch() < epoch {
            (self.view, self.active, self.proof) = (View::first_of(epoch), true, Body::EMPTY);
        }
    }
    /// A stable snapshot holds what lies at and below.
    fn forget(&mut self, floor: Slot) {
        self.said = self.said.split_off(&floor.next());
        self.slots.forget(floor);
    }

    /// What stands of the present view.
    fn restore_view(&mut self) {
        if !self.active {
            return;
        }
        for (slot, (view, digest, prepared)) in std::mem::take(&mut self.said) {
            let place = self.slots.at(slot);
            if view == self.view && place.knows(digest) {
                (place.assigned, place.accepted, place.prepared) = (Some(digest), true, prepared);
            }
        }
    }

    /// What is decided at a slot, if that is known and its value as well.
    fn decision(&self, slot: Slot) -> Option<(Digest, &Place)> {
        let place = self.slots.get(slot)?;
        Some((place.committed.filter(|digest| place.knows(*digest))?, place))
    }

    /// The slot behind which all that is decided is known, up to and including `slot`.
    fn decided_since(&self, mut slot: Slot) -> Slot {
        while slot != Slot::ZERO && self.decision(slot).is_some() {
            slot = slot.prev();
        }
        slot
    }

    /// Decided slots above `after`, as far as there is no hole.
    fn decided(&self, after: Slot) -> VecDeque<(Digest, Entry)> {
        let mut decided = VecDeque::new();
        let mut slot = after.next();
        while let Some((digest, place)) = self.decision(slot) {
            let null = || Entry { slot, ..Entry::default() };
            let value = if digest == NULL { None } else { place.value(digest) };
            decided.push_back((digest, value.map_or_else(null, |proposal| proposal.entry.clone())));
            slot = slot.next();
        }
        decided
    }
}
