//! One shard: many groups, one outbox, one log stream, one gate. This very type runs in production, fed by rings, and in the
//! simulator, fed by its queues.
//!
//! Feed it any number of facts, then call [`Shard::settle`] once: that ends the burst.

use super::deadlines::Deadlines;
use super::gate::Gate;
use super::reads;
use super::route::{self, Dispatch, Route};
use super::seat::{Guards, LOG_RESERVE, Seat};
use crate::base::canary::{self, Canary};
use crate::base::{Body, GroupId, Instant, JobId, NodeId, NodeSet, Origin, Slot, Stamp, Ticket, place};
use crate::crypto::SigningKey;
use crate::protocol::outbox::Refused;
use crate::protocol::{Fault, Fetch, Fetched, Input, Lead, Outbox, RefusalKind, Room, Send, Target};
use crate::wire::forward::{self, Refusal};
use crate::wire::hop::{
    Answer, Decided, Demand, Digested, Failure, Keep, LogFetch, Opened, Outgoing, SnapshotId,
};
use crate::wire::sequence::Verdict;
use crate::wire::{Batch, Message, Record};
use std::collections::BTreeMap;

/// What a shard is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub me: NodeId,
    /// All members of the groups, where a core does not say.
    pub members: NodeSet,
    /// This shard's number on its node: the lane of its front.
    pub lane: u8,
    /// This life of the node.
    pub boot: u64,
    /// See there.
    pub route: route::Options,
    /// See there.
    pub reads: reads::Options,
    /// See there.
    pub guards: Guards,
}

/// What a burst has brought: one lane a room, drained whole by the driver.
#[derive(Default, Debug, PartialEq)]
pub struct Effects {
    /// Free to leave, in order.
    pub outgoing: Vec<Outgoing>,
    /// To the log, in order, with rising tickets.
    pub records: Vec<(Ticket, Record)>,
    /// To the store.
    pub decided: Vec<Decided>,
    /// To the log.
    pub fetches: Vec<LogFetch>,
    /// To the keeper of snapshots.
    pub keeps: Vec<Keep>,
    /// To the clients of this node.
    pub answers: Vec<Answer>,
    /// Misdeeds of peers.
    pub faults: Vec<Fault>,
}

/// Many groups that share a core, a log stream and a gate.
pub struct Shard<E> {
    options: Options,
    seats: BTreeMap<GroupId, Seat<E>>,
    out: Outbox,
    gate: Gate,
    deadlines: Deadlines,
    touched: Vec<GroupId>,
    free: Vec<Send>,
    dispatches: Vec<Dispatch>,
    /// Answers that came up between two settles.
    answers: Vec<Answer>,
    /// Refusals that are to be told to other nodes.
    replies: Vec<Outgoing>,
    /// What native clients ask of the store alone.
    asked: Vec<Decided>,
    handed: Ticket,
    /// Messages that found no room.
    unroomed: u64,
    /// Bytes that the log can still take; all there are while its disk is not full.
    room: u64,
}

impl<E: Lead> Shard<E> {
    /// No group yet.
    pub fn new(options: Options) -> Shard<E> {
        Shard {
            options,
            seats: BTreeMap::new(),
            out: Outbox::default(),
            gate: Gate::default(),
            deadlines: Deadlines::default(),
            touched: Vec::new(),
            free: Vec::new(),
            dispatches: Vec::new(),
            answers: Vec::new(),
            replies: Vec::new(),
            asked: Vec::new(),
            handed: Ticket::ZERO,
            unroomed: 0,
            room: u64::MAX,
        }
    }

    /// Hosts a group. Its core has been recovered.
    pub fn add(&mut self, group: GroupId, engine: E) {
        let Options { me, lane, boot, .. } = self.options;
        let route = Route::new(Origin { node: me, lane, boot }, self.options.route);
        let seat = Seat::new(engine, route, self.options.reads, self.options.guards);
        let replaced = self.seats.insert(group, seat);
        assert!(replaced.is_none(), "group {group} is hosted twice");
        self.touched.push(group);
    }

    /// The group's seat.
    pub fn seat(&self, group: GroupId) -> Option<&Seat<E>> {
        self.seats.get(&group)
    }
    /// Who is in the group.
    fn members(&self, group: GroupId) -> NodeSet {
        let of_core = self.seats.get(&group).and_then(|seat| seat.engine.members());
        of_core.unwrap_or(self.options.members)
    }
    /// An operator's batch, which its signature vouches for: the core has it ordered, whoever leads.
    pub fn amend(&mut self, now: Instant, clock: Stamp, group: GroupId, batch: Batch) {
        let from = self.options.me;
        self.tell_clock(now, clock, group);
        self.step(now, group, |_| Input::Heard { from, batch });
    }
    /// Holds another key of this node's own, to sign with once the group's members list it.
    pub fn hold(&mut self, group: GroupId, key: SigningKey) {
        if let Some(seat) = self.seats.get_mut(&group) {
            seat.engine.hold(key);
        }
    }
    /// All seats, by group.
    pub fn seats(&self) -> impl Iterator<Item = (GroupId, &Seat<E>)> {
        self.seats.iter().map(|(group, seat)| (*group, seat))
    }
    /// When to call `settle` although nothing has come.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }
    /// Whether demands of the front may be handed over.
    pub fn has_room(&self, group: GroupId) -> bool {
        self.seats.get(&group).is_some_and(|s| s.route.has_room() && s.reads.has_room())
    }
    /// Whether batches of this node's clients are outstanding.
    pub fn is_quiet(&self) -> bool {
        self.seats.values().all(|s| s.route.is_empty())
    }
    /// How many messages wait for their tickets.
    pub fn held(&self) -> usize {
        self.gate.len()
    }

    /// A message of a peer.
    pub fn receive(&mut self, now: Instant, clock: Stamp, opened: Opened) {
        let Opened { from, group, message, .. } = opened;
        self.tell_clock(now, clock, group);
        match message {
            Message::Forward(message) => self.forwarded(now, clock, from, group, message),
            // As if it had been lost on its way: it comes again when there is room on the disk, or the disk has caught up. Heartbeats and
            // votes are heard all the same, so this replica neither loses its leader nor disturbs the others.
            message if (self.is_short() || self.gate.is_full()) && message.takes_room() => self.unroomed += 1,
            message => self.step(now, group, |_| Input::Receive { from, message }),
        }
    }

    /// Commands of this node's clients.
    pub fn demand(&mut self, now: Instant, group: GroupId, demand: Demand) {
        let is_short = self.is_short();
        let Some(seat) = self.seats.get_mut(&group) else { return };
        match demand {
            // This node could not apply it, so it could not answer.
            Demand::Write { sequence, .. } if is_short => {
                self.answers.push(Answer::WriteFailed { sequence, why: Failure::DiskFull });
            }
            Demand::Write { sequence, body, growth, .. } => seat.route.submit(now, sequence, body, growth),
            Demand::Read { id, body } => seat.reads.submit(now, id, body),
        }
        self.touched.push(group);
    }

    /// The log can take so many bytes more; `u64::MAX` while its disk is not full. A replica whose log is short of room takes no entries,
    /// and hands leadership to one that does.
    pub fn room(&mut self, bytes: u64) {
        let was_short = self.is_short();
        self.room = bytes;
        let (is_short, is_free) = (self.is_short(), bytes == u64::MAX);
        if was_short != is_short || is_free {
            for (&group, seat) in &mut self.seats {
                seat.engine.set_room(if is_short { Room::None } else { Room::Enough });
                self.touched.push(group);
            }
        }
    }
    /// Messages that were not taken in for want of room.
    pub fn unroomed(&self) -> u64 {
        self.unroomed
    }
    fn is_short(&self) -> bool {
        self.room < LOG_RESERVE
    }

    /// Every record up to `ticket` is on stable storage.
    pub fn durable(&mut self, now: Instant, ticket: Ticket) {
        self.gate.open(ticket, &mut self.free);
        for (&group, seat) in &mut self.seats {
            self.out.enter(group);
            seat.engine.step(now, Input::Durable { ticket }, &mut self.out);
            self.touched.push(group);
        }
    }

    /// The store has applied everything up to `slot`; it holds `memory` logical bytes and next expires a key at `due`.
    pub fn applied(&mut self, now: Instant, group: GroupId, slot: Slot, memory: u64, due: Option<Stamp>) {
        place::enter_slot(group, slot);
        if let Some(seat) = self.seats.get_mut(&group) {
            seat.applied(slot);
            seat.store_says(memory, due);
        }
        self.step(now, group, |_| Input::Applied { slot });
    }

    /// The store's digest that a core asked for.
    pub fn digested(&mut self, now: Instant, Digested { group, slot, digest }: Digested) {
        self.step(now, group, |_| Input::Digested { slot, digest });
    }

    /// What was fetched for the core.
    pub fn fetched(&mut self, now: Instant, group: GroupId, job: JobId, found: Fetched) {
        self.step(now, group, |_| Input::Fetched { job, found });
    }

    /// A snapshot of the own store is durable.
    pub fn snapshotted(&mut self, now: Instant, id: SnapshotId, bytes: u64) {
        self.step(now, id.group, |_| Input::Snapshotted { slot: id.slot, bytes });
    }

    /// A leader's snapshot has become the store's state, in which this front's batches up to `sequence` are settled.
    pub fn installed(&mut self, now: Instant, id: SnapshotId, bytes: u64, members: Body, sequence: u64) {
        if let Some(seat) = self.seats.get_mut(&id.group) {
            seat.route.settle(sequence);
        }
        let SnapshotId { slot, term, stamp, .. } = id;
        self.step(now, id.group, |_| Input::Installed { slot, term, stamp, bytes, members });
    }

    /// Pieces of a leader's snapshot are wanted again from `next` on.
    pub fn rewound(&mut self, now: Instant, id: SnapshotId, next: u64) {
        self.step(now, id.group, |_| Input::Rewound { slot: id.slot, next });
    }

    /// These ranges of a certified state are wanted next.
    pub fn wanted(&mut self, now: Instant, id: SnapshotId, ranges: Body) {
        self.step(now, id.group, |_| Input::Wanted { slot: id.slot, ranges });
    }

    /// What came of a certified state is not what was certified.
    pub fn poisoned(&mut self, now: Instant, id: SnapshotId) {
        self.step(now, id.group, |_| Input::Poisoned { slot: id.slot });
    }

    /// What was sent to `peer` may be lost.
    pub fn lost(&mut self, now: Instant, peer: NodeId) {
        for (&group, seat) in &mut self.seats {
            seat.route.lost(peer);
            self.out.enter(group);
            seat.engine.step(now, Input::Lost { peer }, &mut self.out);
            self.touched.push(group);
        }
    }

    /// Orderly shutdown: leadership is handed over, what was certainly not appended fails.
    pub fn drain(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for (&group, seat) in &mut self.seats {
            self.out.enter(group);
            seat.engine.step(now, Input::Drain, &mut self.out);
            seat.route.drain(&mut failed);
            self.touched.push(group);
        }
        self.answers.extend(failed.into_iter().map(|(sequence, why)| Answer::WriteFailed { sequence, why }));
    }

    /// An operator wishes that another replica leads the group: `to`, or whoever is furthest.
    pub fn transfer(&mut self, now: Instant, group: GroupId, to: Option<NodeId>) {
        self.step(now, group, |_| Input::Transfer { to });
    }

    /// Its number on its node.
    pub fn number(&self) -> u8 {
        self.options.lane
    }
    /// Ends the burst: time-outs that are due, one settle a touched group, all lanes.
    pub fn settle(&mut self, now: Instant, clock: Stamp, effects: &mut Effects) {
        while let Some(group) = self.deadlines.pop_due(now) {
            self.time_out(now, clock, group);
        }
        self.touched.sort_unstable();
        self.touched.dedup();
        let touched = std::mem::take(&mut self.touched);
        for &group in &touched {
            self.settle_group(now, clock, group, effects);
        }
        self.touched = touched;
        self.touched.clear();
        self.hand_over(effects);
    }

    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        self.seats.values().for_each(Seat::check);
    }

    fn step(&mut self, now: Instant, group: GroupId, input: impl FnOnce(&E) -> Input<Message>) {
        if let Some(seat) = self.seats.get_mut(&group) {
            self.out.enter(group);
            let input = input(&seat.engine);
            seat.engine.step(now, input, &mut self.out);
            self.touched.push(group);
        }
    }

    /// A core that judges stamps is told the clock.
    fn tell_clock(&mut self, now: Instant, clock: Stamp, group: GroupId) {
        if let Some(seat) = self.seats.get_mut(&group).filter(|seat| seat.engine.is_watched()) {
            self.out.enter(group);
            seat.engine.step(now, Input::Clock { clock }, &mut self.out);
        }
    }

    /// Another node's route speaks to this one's.
    fn forwarded(
        &mut self,
        now: Instant,
        clock: Stamp,
        from: NodeId,
        group: GroupId,
        message: forward::Message,
    ) {
        match message {
            forward::Message::Batch { batch, attempt } => {
                let is_client = !self.members(group).contains(from);
                if is_client && batch.origin.node != from {
                    return;
                }
                if is_client && 1 < attempt {
                    self.asked.push(Decided::Again { group, origin: batch.origin, sequence: batch.sequence });
                }
                let (boot, lane, sequence) = (batch.origin.boot, batch.origin.lane, batch.sequence);
                let is_witness = |seat: &Seat<E>| seat.engine.is_watched() && !seat.engine.is_leader();
                if self.seats.get(&group).is_some_and(is_witness) {
                    return self.step(now, group, |_| Input::Heard { from, batch });
                }
                if batch.origin.node == from
                    && let Err(why) = self.propose(now, clock, group, batch)
                {
                    let message = forward::Message::Refused { boot, lane, sequence, attempt, why }.into();
                    self.replies.push(Outgoing { to: from, group, message });
                }
            }
            forward::Message::Refused { boot, lane, sequence, attempt, why } => {
                if (boot, lane) == (self.options.boot, self.options.lane) {
                    self.refused(now, group, from, sequence, attempt, why);
                }
            }
            forward::Message::Read { boot, lane, id, body } => {
                if !self.members(group).contains(from) {
                    let (origin, body) = (Origin { node: from, lane, boot }, body.bytes().clone());
                    self.asked.push(Decided::Ask { group, origin, id, body });
                    self.touched.push(group);
                }
            }
            forward::Message::Replied(reply) => {
                let forward::Reply { boot, lane, sequence, digest, .. } = reply;
                let is_own = (boot, lane) == (self.options.boot, self.options.lane);
                if is_own && self.members(group).contains(from) {
                    self.answers.push(Answer::Vouched { sequence, from, digest });
                    self.touched.push(group);
                }
            }
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        group: GroupId,
        from: NodeId,
        sequence: u64,
        attempt: u32,
        why: Refusal,
    ) {
        let Some(seat) = self.seats.get_mut(&group) else { return };
        if seat.engine.is_watched() {
            seat.route.loosen(sequence);
        }
        if let Some((sequence, why)) = seat.route.refused(now, from, sequence, attempt, why) {
            self.answers.push(Answer::WriteFailed { sequence, why });
        }
        self.touched.push(group);
    }

    /// Lets the core append a batch, if this node leads and its bounds allow.
    fn propose(&mut self, now: Instant, clock: Stamp, group: GroupId, batch: Batch) -> Result<(), Refusal> {
        let is_short = self.is_short();
        let seat = self.seats.get_mut(&group).ok_or(Refusal::NotLeader)?;
        if let Err(why) = seat.admit(&batch, self.room) {
            if matches!(why, Refusal::DiskFull) {
                // Too large for what is left of the disk, where smaller ones may still fit: another may have room for it.
                seat.engine.set_room(if is_short { Room::None } else { Room::Little });
                self.touched.push(group);
            }
            return Err(why);
        }
        let (growth, bytes) = (batch.growth, batch.body.len());
        self.out.enter(group);
        self.touched.push(group);
        seat.engine.step(now, Input::Propose { batch, clock }, &mut self.out);
        let refusal = self.out.refuse.iter().position(|r| matches!(r.what, Refused::Batch(_)));
        match refusal.map(|index| self.out.refuse.remove(index).why) {
            None => {
                seat.appended(now, growth, bytes);
                Ok(())
            }
            Some(RefusalKind::NotLeader { .. }) => Err(Refusal::NotLeader),
            Some(RefusalKind::Draining) => Err(Refusal::Draining),
            Some(RefusalKind::Overloaded) => Err(Refusal::Overloaded),
            Some(RefusalKind::Unsigned) => Err(Refusal::Unsigned),
            // It is on its way already.
            Some(RefusalKind::Void) => Ok(()),
        }
    }

    fn time_out(&mut self, now: Instant, clock: Stamp, group: GroupId) {
        self.touched.push(group);
        let Some(seat) = self.seats.get_mut(&group) else { return };
        if seat.engine.deadline().is_some_and(|at| at <= now) {
            self.out.enter(group);
            seat.engine.step(now, Input::Timeout, &mut self.out);
        }
        let mut failed = Vec::new();
        seat.route.expire(now, &mut failed);
        self.answers.extend(failed.drain(..).map(|(sequence, why)| Answer::WriteFailed { sequence, why }));
        seat.reads.expire(now, &mut failed);
        self.answers.extend(failed.drain(..).map(|(id, why)| Answer::ReadFailed { id, why }));
        if seat.wants_stamp(now, clock) {
            // An empty batch carries the stamp alone. If the core refuses, it no longer leads, and the next leader will.
            let _ = self.propose(now, clock, group, Batch::default());
        }
    }

    fn settle_group(&mut self, now: Instant, clock: Stamp, group: GroupId, effects: &mut Effects) {
        self.dispatch(now, clock, group, effects);
        let Some(seat) = self.seats.get_mut(&group) else { return };
        self.out.enter(group);
        if seat.leader().is_some()
            && let Some(round) = seat.reads.ask(now)
        {
            seat.engine.step(now, Input::Read { id: round }, &mut self.out);
        }
        seat.engine.settle(now, &mut self.out);
        seat.time_trips(now);
        let own = seat.route.origin();
        let mut digests = self.out.digests.drain(..).peekable();
        for commit in self.out.commits.drain(..) {
            let mut entry = commit.entry;
            // The digest after a slot is asked for behind that slot and before the next.
            while let Some(d) = digests.next_if(|d| d.slot < entry.slot) {
                effects.decided.push(Decided::Digest { group, slot: d.slot, keep: d.keep });
            }
            if canary::on(Canary::ExpiryByLocalClock) {
                entry.stamp = clock;
            }
            seat.committed(now, entry.slot);
            if entry.origin == own {
                let _: Verdict = seat.route.committed(entry.sequence, entry.floor);
            }
            effects.decided.push(Decided::Commit { group, entry, at: now });
        }
        effects.decided.extend(digests.map(|d| Decided::Digest { group, slot: d.slot, keep: d.keep }));
        for read in self.out.reads.drain(..) {
            seat.reads.granted(read.id, read.slot);
        }
        seat.reads.serve(seat.engine.commit(), |demand, slot| {
            effects.decided.push(Decided::Read { group, id: demand.id, slot, body: demand.body });
        });
        for refusal in self.out.refuse.drain(..) {
            if let Refused::Reads { id } = refusal.what {
                seat.reads.refused(now, id);
            }
        }
        // Leadership may have changed in this burst: what waits goes to the new leader in the next, which is due at once.
        seat.follow();
        self.deadlines.set(group, seat.deadline(now, clock));
    }

    /// Hands what waits to whoever leads: to the own core, or over the link.
    fn dispatch(&mut self, now: Instant, clock: Stamp, group: GroupId, effects: &mut Effects) {
        let Some(seat) = self.seats.get_mut(&group) else { return };
        seat.follow();
        seat.route.dispatch(now, &mut self.dispatches);
        let mut dispatches = std::mem::take(&mut self.dispatches);
        let is_watched = seat.engine.is_watched();
        for Dispatch { to, attempt, mut batch } in dispatches.drain(..) {
            if is_watched {
                self.vouch(now, group, (to, attempt), &mut batch, effects);
            }
            if to == self.options.me {
                let sequence = batch.sequence;
                if let Err(why) = self.propose(now, clock, group, batch) {
                    self.refused(now, group, to, sequence, attempt, why);
                }
            } else {
                let message = forward::Message::Batch { batch, attempt }.into();
                effects.outgoing.push(Outgoing { to, group, message });
            }
        }
        self.dispatches = dispatches;
    }

    /// A leader that is not trusted gets a signed batch, and this node's core hears of it; when it goes again, everybody does.
    fn vouch(
        &mut self,
        now: Instant,
        group: GroupId,
        (to, attempt): (NodeId, u32),
        batch: &mut Batch,
        effects: &mut Effects,
    ) {
        let (me, members) = (self.options.me, self.members(group));
        let Some(seat) = self.seats.get_mut(&group) else { return };
        seat.engine.vouch(batch);
        if to != me {
            self.out.enter(group);
            seat.engine.step(now, Input::Heard { from: me, batch: batch.clone() }, &mut self.out);
        }
        if 1 < attempt {
            for other in members.iter().filter(|other| ![me, to].contains(other)) {
                let message = forward::Message::Batch { batch: batch.clone(), attempt }.into();
                effects.outgoing.push(Outgoing { to: other, group, message });
            }
        }
    }

    fn hand_over(&mut self, effects: &mut Effects) {
        let first = self.handed.0 + 1;
        let records = self.out.records.drain(..);
        effects.records.extend((first..).map(Ticket).zip(records));
        self.handed = self.out.last_ticket();
        assert_eq!(effects.records.last().map_or(self.handed, |(t, _)| *t), self.handed, "a ticket a record");
        self.gate.admit(&mut self.out.sends, &mut self.free);
        let me = self.options.me;
        let mut free = std::mem::take(&mut self.free);
        for Send { group, to, message, .. } in free.drain(..) {
            match to {
                Target::One(to) => effects.outgoing.push(Outgoing { to, group, message }),
                Target::Others => {
                    for to in self.members(group).iter().filter(|n| *n != me) {
                        effects.outgoing.push(Outgoing { to, group, message: message.clone() });
                    }
                }
            }
        }
        self.free = free;
        effects.outgoing.append(&mut self.replies);
        effects.decided.append(&mut self.asked);
        effects.answers.append(&mut self.answers);
        effects.faults.append(&mut self.out.faults);
        for ship in self.out.ships.drain(..) {
            let (job, group) = (ship.job, ship.group);
            match ship.fetch {
                Fetch::Entries { from, count, bytes } => {
                    effects.fetches.push(LogFetch { job, group, from, count, bytes });
                }
                Fetch::Ranges { slot, ranges, offset, bytes } => {
                    effects.keeps.push(Keep::FetchRange { job, group, slot, ranges, offset, bytes });
                }
                Fetch::Piece { slot, offset, bytes } => {
                    effects.keeps.push(Keep::Fetch { job, group, slot, offset, bytes });
                }
            }
        }
        for c in self.out.convictions.drain(..) {
            effects.keeps.push(Keep::Proof { accused: c.accused, kind: c.kind, proof: c.proof });
        }
        for i in self.out.installs.drain(..) {
            let id = SnapshotId { group: i.group, slot: i.slot, term: i.term, stamp: i.stamp };
            let (offset, total, body) = (i.offset, i.total, i.body);
            effects.keeps.push(match i.certified {
                Some(certified) => Keep::Range { id, offset, total, body, certified },
                None => Keep::Piece { id, offset, total, body },
            });
        }
    }
}
