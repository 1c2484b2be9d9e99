//! The replica as an agent: one shard between its rings.
//!
//! It does no I/O of its own. What must not be lost (records, decisions, answers) waits here when a ring is full, and no input is
//! taken meanwhile; what is weak by contract (messages to peers) is dropped and counted.

#[cfg(test)]
mod tests;

use super::catch_up::CatchUp;
use super::shard::{Effects, Shard};
use crate::base::ring::{Consumer, Producer};
use crate::base::{Body, GROUP_ONE, GroupId, Instant, NodeId, Number, Reign, Slot, Stamp, Ticket};
use crate::crypto::SigningKey;
use crate::io::driver::Doorbell;
use crate::io::{Agent, Driver};
use crate::meter::stages::Stage;
use crate::meter::{Metered, Report, latencies};
use crate::protocol::pbft::Quorum;
use crate::protocol::{Fault, Fetched, FollowerStanding, Lead};
use crate::wire::hop::{
    Answer, Decided, Demand, Digested, FollowerNumbers, Keep, Kept, LogFetch, LogFetched, Opened, Outgoing,
    SnapshotId, Stored,
};
use crate::wire::members::Membership;
use crate::wire::pbft::Note;
use crate::wire::roster::{Roll, Roster};
use crate::wire::{Batch, Entry, Record};
use crossbeam::channel::Receiver;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most inputs of each ring in a turn.
const BURST_MAX: usize = 256;

/// Snapshot errands that wait for the keeper before no input is taken; it is slow on purpose.
const KEEPS_WAITING_MAX: usize = 64;

/// How often a leader tells how far the others are: about as often as it hears of them.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// How long to wait when a ring is full: whoever drains it may not wake us.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Reads whose id has this bit are the node's own probes, not a client's.
const PROBE: u64 = 1 << 63;

/// What the service plane asks of the replica.
pub enum Question {
    /// Could a linearizable read be made that begins now?
    Read(Probe),
    /// Let another replica lead.
    Transfer {
        /// Which; `None` for whoever is furthest.
        to: Option<NodeId>,
        /// Told what came of it, in a sentence either way.
        answer: Verdict,
    },
    /// Have an operator's amendment ordered.
    Amend {
        /// Its batch.
        batch: Batch,
        /// Told whether it is on its way.
        answer: Verdict,
    },
    /// Hold another key, to sign with once the members list it.
    Hold(SigningKey),
}

/// Asks for one linearizable read; called when it could be made, dropped when it could not.
pub type Probe = Box<dyn FnOnce() + std::marker::Send>;
/// Hears what became of a transfer, or of an amendment.
pub type Verdict = Box<dyn FnOnce(Result<String, String>) + std::marker::Send>;

/// The ends of the rings and channels that meet in this agent.
pub struct Ports {
    /// From `auth::open`.
    pub opened: Consumer<Opened>,
    /// From `front::take`.
    pub demands: Consumer<Demand>,
    /// From the log.
    pub fetched: Consumer<LogFetched>,
    /// From the store.
    pub digested: Consumer<Digested>,
    /// From the keeper of snapshots.
    pub kept: Consumer<Kept>,
    /// From the service plane.
    pub questions: Receiver<Question>,
    /// To `auth::seal`.
    pub outgoing: Producer<Outgoing>,
    /// To the log.
    pub records: Producer<Stored>,
    /// To the log.
    pub fetches: Producer<LogFetch>,
    /// To the store.
    pub decided: Producer<Decided>,
    /// To the keeper of snapshots, and what wakes it.
    pub keeps: Producer<Keep>,
    /// See `keeps`.
    pub keeper: Arc<dyn Doorbell>,
    /// To `front::reply`.
    pub answers: Producer<Answer>,
    /// Who is in the group: what this agent says of it, all others know.
    pub roster: Roster,
}

/// The numbers that flow back to this agent.
pub struct Heard {
    /// The log's watermark: a ticket.
    pub durable: Number,
    /// Bytes that the log can still take; `u64::MAX` while its disk is not full.
    pub room: Number,
    /// The store's newest slot.
    pub applied: Number,
    /// The store's logical bytes.
    pub memory: Number,
    /// The store's next expiry, in ms since the epoch; `u64::MAX` for none.
    pub due: Number,
    /// The newest sequence of this node's own front that the store has seen take effect.
    pub settled: Number,
    /// For everybody who is, or may come to be, a peer a number that rises when something sent to it may be lost.
    pub lost: Vec<(NodeId, Number)>,
    /// 1 once the node is going down.
    pub drain: Number,
}

/// The numbers that this agent publishes, for whoever shows them.
#[derive(Clone, Default)]
pub struct Told {
    /// Who leads; 0 for nobody.
    pub leader: Number,
    /// The term, view or ballot.
    pub term: Number,
    /// The newest committed slot.
    pub commit: Number,
    /// The newest slot of the own log.
    pub last: Number,
    /// Elections that this replica has stood in.
    pub elections: Number,
    /// What moved the last of them, or the loss of the last leader: the number of a [`Cause`](crate::protocol::Cause).
    pub cause: Number,
    /// At the leader, how far the others are. Touched once a second.
    pub followers: Arc<Mutex<Vec<FollowerStanding>>>,
    /// The same as numbers, more often.
    pub members: Vec<(NodeId, FollowerNumbers)>,
    /// 0 while a node that has just started brings its store up to its log (`catch_up`).
    pub loaded: Number,
    /// How many members there are.
    pub replicas: Number,
    /// So many members that one of them is correct.
    pub weak: Number,
    /// So many that any two such sets have a correct one in common.
    pub strong: Number,
    /// 1 when no batch of this node's clients is outstanding and leadership has been handed over.
    pub drained: Number,
}

impl Told {
    /// For a replica whose group has these other members.
    pub fn of(others: impl Iterator<Item = NodeId>) -> Told {
        let members = others.map(|other| (other, FollowerNumbers::default())).collect();
        Told { members, ..Told::default() }
    }
    /// How many these members are, and how many of them must agree.
    pub fn tell_quorum(&self, membership: &Membership) {
        self.replicas.set(membership.members.len() as u64);
        if let Some(quorum) = Quorum::new(membership.members.len(), membership.faulty.into()) {
            self.weak.set(quorum.weak() as u64);
            self.strong.set(quorum.strong() as u64);
        }
    }
}

/// One shard between its rings.
pub struct ReplicaAgent<E> {
    shard: Shard<E>,
    ports: Ports,
    heard: Heard,
    told: Told,
    effects: Effects,
    records_waiting: VecDeque<Stored>,
    decided_waiting: VecDeque<Decided>,
    answers_waiting: VecDeque<Answer>,
    fetches_waiting: VecDeque<LogFetch>,
    /// No input was taken then, because a ring was full.
    blocked_at: Option<Instant>,
    lost_seen: Vec<u64>,
    /// The places in `heard.lost` of the peers that there are.
    near: Vec<usize>,
    /// The epoch and its last slot, as last told.
    epoch: Option<(u64, Option<Slot>)>,
    durable_seen: u64,
    applied_seen: u64,
    room_seen: u64,
    draining: bool,
    catch_up: CatchUp,
    /// When the numbers of followers were last told.
    told_at: Option<Instant>,
    keeps_waiting: VecDeque<Keep>,
    /// Installed, as the keeper says; the store has yet to come there.
    installing: Option<(SnapshotId, u64, Body)>,
    probes: Vec<(u64, Option<Slot>, Probe)>,
    probe_next: u64,
    /// A transfer is under way: to whom it was wished, and who waits for its end.
    transfer: Option<(Option<NodeId>, Verdict)>,
    messages_in: u64,
    messages_dropped: u64,
    pieces_dropped: u64,
    commits: u64,
    /// Nanoseconds that batches of the front waited for a turn.
    queue: Histogram<u64>,
    faults: Vec<(Fault, u64)>,
}

impl<E: Lead + Send> ReplicaAgent<E> {
    /// `shard` has its groups, recovered; its store has applied up to `applied`.
    pub fn new(shard: Shard<E>, ports: Ports, heard: Heard, told: Told) -> ReplicaAgent<E> {
        let last = shard.seat(GROUP_ONE).map_or(Slot::ZERO, |seat| seat.engine.last());
        let catch_up = CatchUp::new(last);
        let lost_seen = heard.lost.iter().map(|(_, n)| n.get()).collect();
        ReplicaAgent {
            shard,
            ports,
            heard,
            told,
            effects: Effects::default(),
            records_waiting: VecDeque::new(),
            decided_waiting: VecDeque::new(),
            answers_waiting: VecDeque::new(),
            fetches_waiting: VecDeque::new(),
            blocked_at: None,
            lost_seen,
            near: Vec::new(),
            epoch: None,
            durable_seen: 0,
            applied_seen: 0,
            room_seen: u64::MAX,
            draining: false,
            catch_up,
            told_at: None,
            keeps_waiting: VecDeque::new(),
            installing: None,
            probes: Vec::new(),
            probe_next: PROBE,
            transfer: None,
            messages_in: 0,
            messages_dropped: 0,
            pieces_dropped: 0,
            commits: 0,
            queue: latencies(),
            faults: Vec::new(),
        }
    }

    /// Takes in the numbers that have moved. Returns how many.
    fn hear(&mut self, now: Instant) -> usize {
        let mut count = 0;
        let durable = self.heard.durable.get();
        if self.durable_seen < durable {
            self.durable_seen = durable;
            self.shard.durable(now, Ticket(durable));
            count += 1;
        }
        let room = self.heard.room.get();
        if self.room_seen != room {
            self.room_seen = room;
            self.shard.room(room);
            count += 1;
        }
        let applied = self.heard.applied.get();
        if self.applied_seen < applied {
            self.applied_seen = applied;
            let due = self.heard.due.get();
            let due = (due != u64::MAX).then_some(Stamp(due));
            self.shard.applied(now, GROUP_ONE, Slot(applied), self.heard.memory.get(), due);
            self.installed(now, Slot(applied));
            self.answer_probes(Slot(applied));
            count += 1;
        }
        for &place in &self.near {
            let ((peer, number), seen) = (&self.heard.lost[place], &mut self.lost_seen[place]);
            let lost = number.get();
            if *seen != lost {
                *seen = lost;
                self.shard.lost(now, *peer);
                count += 1;
            }
        }
        if !self.draining && self.heard.drain.get() != 0 {
            self.draining = true;
            self.shard.drain(now);
            count += 1;
        }
        count
    }

    /// Takes a bounded number of inputs from each ring.
    fn take(&mut self, now: Instant, clock: Stamp, fresh: impl Fn() -> Instant) -> usize {
        let (mut count, mut taken) = (0, None);
        for _ in 0..BURST_MAX {
            let Some(opened) = self.ports.opened.pop() else { break };
            self.shard.receive(now, clock, opened);
            self.messages_in += 1;
            count += 1;
        }
        for _ in 0..BURST_MAX {
            if !self.shard.has_room(GROUP_ONE) {
                break;
            }
            let Some(demand) = self.ports.demands.pop() else { break };
            if let Demand::Write { left, .. } = &demand {
                let taken = *taken.get_or_insert_with(&fresh);
                self.queue.saturating_record(taken.since(*left).as_nanos() as u64);
            }
            self.shard.demand(now, GROUP_ONE, demand);
            count += 1;
        }
        while let Some(LogFetched { job, group, records }) = self.ports.fetched.pop() {
            self.shard.fetched(now, group, job, entries(records));
            count += 1;
        }
        while let Some(digested) = self.ports.digested.pop() {
            self.shard.digested(now, digested);
            count += 1;
        }
        count += self.take_kept(now);
        while let Ok(question) = self.ports.questions.try_recv() {
            match question {
                Question::Read(probe) => {
                    self.probe_next += 1;
                    self.probes.push((self.probe_next, None, probe));
                    let demand = Demand::Read { id: self.probe_next, body: bytes::Bytes::new() };
                    self.shard.demand(now, GROUP_ONE, demand);
                }
                Question::Transfer { to, answer } => self.begin_transfer(now, to, answer),
                Question::Amend { batch, answer } => self.amend(now, clock, batch, answer),
                Question::Hold(key) => self.shard.hold(GROUP_ONE, key),
            }
            count += 1;
        }
        count
    }

    /// Hands an operator's amendment to the core, unless it could not take effect.
    fn amend(&mut self, now: Instant, clock: Stamp, batch: Batch, answer: Verdict) {
        let Some(seat) = self.shard.seat(GROUP_ONE) else { return };
        if let Err(why) = seat.engine.judge(&batch) {
            return answer(Err(why.to_string()));
        }
        let epoch = batch.origin.boot;
        self.shard.amend(now, clock, GROUP_ONE, batch);
        answer(Ok(format!("the amendment that makes epoch {epoch} is on its way")));
    }

    /// Tells everybody on this node when other members come into force, or are about to.
    fn tell_members(&mut self) {
        let Some(seat) = self.shard.seat(GROUP_ONE) else { return };
        let epoch = seat.engine.epoch();
        if self.epoch == Some(epoch) {
            return;
        }
        self.epoch = Some(epoch);
        let latest = self.ports.roster.latest();
        let mut roll = Roll { boundary: epoch.1, ..(*latest).clone() };
        if let Some((membership, base)) = seat.engine.membership() {
            (roll.membership, roll.base) = (membership.clone(), base);
        }
        roll.charters = seat.engine.charters();
        let lost = self.heard.lost.iter().enumerate();
        self.near = lost.filter(|(_, (id, _))| roll.contains(*id)).map(|(place, _)| place).collect();
        self.told.tell_quorum(&roll.membership);
        if roll != *latest {
            self.ports.roster.put(roll);
        }
    }

    fn begin_transfer(&mut self, now: Instant, to: Option<NodeId>, answer: Verdict) {
        let Some(seat) = self.shard.seat(GROUP_ONE) else { return };
        let known = |id: NodeId| self.told.members.iter().any(|(member, _)| *member == id);
        let refusal = match (to, seat.engine.standing().leader) {
            _ if self.draining => {
                Some("this node is shutting down and hands leadership over anyway".to_string())
            }
            _ if self.transfer.is_some() => Some("another transfer is under way".to_string()),
            (_, None) => Some("no leader is known".to_string()),
            (_, Some(leader)) if !seat.engine.is_leader() => Some(format!("node {leader} leads; ask it")),
            (Some(to), Some(leader)) if to == leader => Some(format!("node {to} leads already")),
            (Some(to), _) if !known(to) => Some(format!("node {to} is no member of the group")),
            (None, _) if self.told.members.is_empty() => Some("there is no other member".to_string()),
            _ => None,
        };
        if let Some(why) = refusal {
            return answer(Err(why));
        }
        self.shard.transfer(now, GROUP_ONE, to);
        self.transfer = Some((to, answer));
    }

    /// Tells whoever has wished for another leader what has come of it, once something has.
    fn end_transfer(&mut self) {
        let Some(seat) = self.shard.seat(GROUP_ONE).filter(|seat| !seat.engine.is_transferring()) else {
            return;
        };
        let standing = seat.engine.standing();
        // Between two leaders nothing can be said yet.
        let Some(leader) = standing.leader else { return };
        if let Some((to, answer)) = self.transfer.take() {
            let leads = format!("node {leader} leads {}", Reign::of(standing.term));
            let wished =
                to.map_or("no other node took over".to_string(), |to| format!("node {to} did not take over"));
            answer(match to {
                _ if seat.engine.is_leader() => Err(format!("{wished} in time; {leads} as before")),
                Some(to) if to != leader => Err(format!("{leads}, not node {to}")),
                _ => Ok(leads),
            });
        }
    }

    /// Takes what the keeper says. Also while errands wait for it: it may be waiting for this replica to listen, and each of its answers
    /// leaves at most one errand behind.
    fn take_kept(&mut self, now: Instant) -> usize {
        let mut count = 0;
        while let Some(kept) = self.ports.kept.pop() {
            self.kept(now, kept);
            count += 1;
        }
        count
    }

    fn kept(&mut self, now: Instant, kept: Kept) {
        match kept {
            Kept::Snapshotted { id, bytes } => self.shard.snapshotted(now, id, bytes),
            Kept::Installed { id, bytes, members } => {
                self.installing = Some((id, bytes, members));
                self.installed(now, Slot(self.applied_seen));
            }
            Kept::Rewound { id, next } => self.shard.rewound(now, id, next),
            Kept::Wanted { id, ranges } => self.shard.wanted(now, id, ranges),
            Kept::Poisoned { id } => self.shard.poisoned(now, id),
            Kept::Fetched { job, group, piece } => {
                let found = piece.map_or(Fetched::Gone, |(id, total, offset, body)| Fetched::Piece {
                    slot: id.slot,
                    term: id.term,
                    stamp: id.stamp,
                    offset,
                    total,
                    body,
                });
                self.shard.fetched(now, group, job, found);
            }
        }
    }

    /// Tells the shard of a leader's snapshot once it is the store's state, and no earlier: what is committed next goes on from it.
    fn installed(&mut self, now: Instant, applied: Slot) {
        if let Some((id, bytes, members)) = self.installing.take_if(|(id, ..)| id.slot <= applied) {
            self.shard.installed(now, id, bytes, members, self.heard.settled.get());
        }
    }

    /// Moves a burst's effects to the rings; what must not be lost waits when a ring is full.
    fn hand_over(&mut self) {
        let records = self.effects.records.drain(..).map(|(ticket, record)| record.store(ticket));
        pass(records, &mut self.records_waiting, &mut self.ports.records);
        self.commits += self.effects.decided.len() as u64;
        let probes = &mut self.probes;
        let decided = self.effects.decided.drain(..).filter(|d| match d {
            Decided::Read { id, slot, .. } if PROBE < *id => {
                probes.iter_mut().filter(|p| p.0 == *id).for_each(|p| p.1 = Some(*slot));
                false
            }
            _ => true,
        });
        pass(decided, &mut self.decided_waiting, &mut self.ports.decided);
        let answers = self.effects.answers.drain(..).filter(|a| match a {
            Answer::ReadFailed { id, .. } if PROBE < *id => {
                // Dropping it tells the prober.
                probes.retain(|p| p.0 != *id);
                false
            }
            _ => true,
        });
        pass(answers, &mut self.answers_waiting, &mut self.ports.answers);
        pass(self.effects.fetches.drain(..), &mut self.fetches_waiting, &mut self.ports.fetches);
        for outgoing in self.effects.outgoing.drain(..) {
            // Delivery is weak by contract: the protocol sends again what still matters.
            self.messages_dropped += u64::from(self.ports.outgoing.push(outgoing).is_err());
        }
        if !self.effects.keeps.is_empty() {
            for keep in self.effects.keeps.drain(..) {
                // A piece that finds the ring full is dropped, for the keeper asks again: a slow disk must not make this replica deaf.
                match self.ports.keeps.push(keep) {
                    Err(Keep::Piece { .. } | Keep::Range { .. }) => self.pieces_dropped += 1,
                    Err(keep) => self.keeps_waiting.push_back(keep),
                    Ok(()) => {}
                }
            }
            self.ports.keeper.ring();
        }
        for fault in self.effects.faults.drain(..) {
            count_fault(&mut self.faults, fault);
        }
        self.answer_probes(Slot(self.applied_seen));
    }

    fn answer_probes(&mut self, applied: Slot) {
        while let Some(index) = self.probes.iter().position(|(_, slot, _)| slot.is_some_and(|s| s <= applied))
        {
            let (_, _, probe) = self.probes.swap_remove(index);
            probe();
        }
    }

    /// Whether a ring that must lose nothing is full.
    fn is_blocked(&mut self) -> bool {
        pass(std::iter::empty(), &mut self.records_waiting, &mut self.ports.records);
        pass(std::iter::empty(), &mut self.decided_waiting, &mut self.ports.decided);
        pass(std::iter::empty(), &mut self.answers_waiting, &mut self.ports.answers);
        pass(std::iter::empty(), &mut self.fetches_waiting, &mut self.ports.fetches);
        pass(std::iter::empty(), &mut self.keeps_waiting, &mut self.ports.keeps);
        !(self.records_waiting.is_empty()
            && self.decided_waiting.is_empty()
            && self.answers_waiting.is_empty()
            && self.fetches_waiting.is_empty())
    }

    fn tell(&mut self, now: Instant) {
        let Some(seat) = self.shard.seat(GROUP_ONE) else { return };
        let standing = seat.engine.standing();
        self.told.leader.set(standing.leader.map_or(0, |n| u64::from(n.0)));
        self.told.term.set(standing.term);
        self.told.commit.set(standing.commit.0);
        self.told.last.set(standing.last.0);
        self.told.elections.set(standing.elections);
        self.told.cause.set(standing.cause as u64);
        let (leads, applied) = (standing.leader.is_some(), Slot(self.heard.applied.get()));
        let loading = self.catch_up.is_loading(leads, standing.commit, standing.last, applied);
        self.told.loaded.set(u64::from(!loading));
        let drained = self.draining && self.shard.is_quiet() && seat.engine.is_drained();
        self.told.drained.set(u64::from(drained));
        if seat.engine.is_leader() && self.told_at.is_none_or(|at| TELL_EVERY <= now.since(at)) {
            self.told_at = Some(now);
            for follower in seat.engine.followers() {
                let numbers = self.told.members.iter().find(|(id, _)| *id == follower.id);
                let Some((_, numbers)) = numbers else { continue };
                numbers.matched.set(follower.matched.0);
                numbers.heard.set(follower.heard.0);
                numbers.restored.set(u64::from(follower.mode == "snapshot"));
            }
        }
    }
}

/// Pushes what waits, then `more`, keeping the order; what does not fit waits.
fn pass<T>(more: impl Iterator<Item = T>, waiting: &mut VecDeque<T>, ring: &mut Producer<T>) {
    while let Some(value) = waiting.pop_front() {
        if let Err(value) = ring.push(value) {
            waiting.push_front(value);
            break;
        }
    }
    for value in more {
        if !waiting.is_empty() {
            waiting.push_back(value);
        } else if let Err(value) = ring.push(value) {
            waiting.push_back(value);
        }
    }
}

fn entries(records: Vec<Stored>) -> Fetched {
    let entry = |stored: &Stored| match Record::load(stored) {
        Ok(Record::Entry { entry, .. }) => Some(entry),
        Ok(Record::Pbft { note: Note::PrePrepared { entry, .. } | Note::Learned { entry }, .. }) => {
            Some(entry)
        }
        _ => None,
    };
    let entries: Option<Vec<Entry>> = records.iter().map(entry).collect();
    match entries {
        Some(entries) if !entries.is_empty() => Fetched::Entries(entries),
        _ => Fetched::Gone,
    }
}

fn count_fault(faults: &mut Vec<(Fault, u64)>, fault: Fault) {
    let same = |known: &Fault| {
        known.peer == fault.peer && std::mem::discriminant(&known.kind) == std::mem::discriminant(&fault.kind)
    };
    match faults.iter_mut().find(|(known, _)| same(known)) {
        // The newest stands for its kind: kinds and peers are few, so this stays small.
        Some((known, count)) => (*known, *count) = (fault, *count + 1),
        None => faults.push((fault, 1)),
    }
}

impl<E: Lead + Send> Agent for ReplicaAgent<E> {
    fn name(&self) -> &'static str {
        "replica"
    }
    /// Arms the groups' deadlines: a node that hears of nobody, such as the only one of its cluster, must come to an election too.
    fn start(&mut self, _slot: u8, driver: &mut dyn Driver) -> io::Result<()> {
        self.tell_members();
        self.shard.settle(driver.now(), driver.clock(), &mut self.effects);
        self.hand_over();
        self.tell(driver.now());
        Ok(())
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        let (now, clock) = (driver.now(), driver.clock());
        self.blocked_at = self.is_blocked().then_some(now);
        if self.blocked_at.is_some() {
            return 0;
        }
        let count = if self.keeps_waiting.len() < KEEPS_WAITING_MAX {
            self.hear(now) + self.take(now, clock, || driver.fresh())
        } else {
            self.take_kept(now)
        };
        if count == 0 && self.shard.deadline().is_none_or(|at| now < at) {
            return 0;
        }
        self.shard.settle(now, clock, &mut self.effects);
        self.hand_over();
        self.tell(now);
        self.tell_members();
        if self.transfer.is_some() {
            self.end_transfer();
        }
        // A time-out alone is work too: what it has brought about is for other agents, perhaps on other cores.
        count.max(1)
    }
    fn deadline(&self) -> Option<Instant> {
        // While a ring is full a time-out that is due could do nothing: its core would burn until there is room.
        self.blocked_at.map_or_else(|| self.shard.deadline(), |at| Some(at.after(FULL_PAUSE)))
    }
}

impl<E: Lead + Send> Metered for ReplicaAgent<E> {
    fn report(&self, to: &mut dyn Report) {
        let shard = self.shard.number().to_string();
        let of_all: &[(&str, &str)] = &[("shard", &shard)];
        to.counter("quorate_messages_received_total", "Messages of peers.", of_all, self.messages_in);
        to.counter(
            "quorate_messages_dropped_total",
            "Messages to peers that found the ring full.",
            of_all,
            self.messages_dropped,
        );
        to.counter(
            "quorate_snapshot_pieces_dropped_total",
            "Pieces of a leader's snapshot that found the keeper's ring full.",
            of_all,
            self.pieces_dropped,
        );
        to.counter(
            "quorate_messages_without_room_total",
            "Messages of peers that were not taken in because the disk is full.",
            of_all,
            self.shard.unroomed(),
        );
        to.counter("quorate_decided_total", "Entries and reads handed to the store.", of_all, self.commits);
        Stage::Queue.report(("shard", &shard), &self.queue, to);
        to.gauge(
            "quorate_gate_held",
            "Messages that wait for their write to be durable.",
            of_all,
            self.shard.held() as f64,
        );
        for (fault, count) in &self.faults {
            let peer = fault.peer.to_string();
            let kind = format!("{:?}", fault.kind);
            let kind = kind.split([' ', '{']).next().unwrap_or_default();
            to.counter(
                "quorate_faults_total",
                "Misdeeds of peers.",
                &[("shard", &shard), ("peer", &peer), ("kind", kind)],
                *count,
            );
        }
        for (group, seat) in self.shard.seats() {
            report_group(to, group, seat);
            let followers = seat.engine.followers();
            // A list is whole whenever the lock is free.
            *self.told.followers.lock().unwrap_or_else(PoisonError::into_inner) = followers;
        }
    }
}

fn report_group<E: Lead>(to: &mut dyn Report, group: GroupId, seat: &super::seat::Seat<E>) {
    let group = group.to_string();
    let standing = seat.engine.standing();
    let labels: &[(&str, &str)] = &[("group", &group)];
    let leads = f64::from(u8::from(seat.engine.is_leader()));
    to.gauge("quorate_is_leader", "1 when this replica leads the group.", labels, leads);
    let Reign { epoch, term } = Reign::of(standing.term);
    to.gauge("quorate_epoch", "Which membership of the group is in force.", labels, epoch as f64);
    to.gauge("quorate_term", "The group's term, or its view within the epoch.", labels, term as f64);
    to.gauge("quorate_commit_slot", "The newest committed slot.", labels, standing.commit.0 as f64);
    to.gauge("quorate_last_slot", "The newest slot of the own log.", labels, standing.last.0 as f64);
    to.counter(
        "quorate_elections_total",
        "Elections that this replica has stood in.",
        labels,
        standing.elections,
    );
    for follower in seat.engine.followers() {
        let peer = follower.id.to_string();
        let labels: &[(&str, &str)] = &[("group", &group), ("peer", &peer)];
        let behind = standing.last.0.saturating_sub(follower.matched.0) as f64;
        to.gauge("quorate_follower_behind", "Slots that a follower is not known to hold.", labels, behind);
    }
    for (node, kind) in seat.engine.convicted() {
        let peer = node.to_string();
        let labels: &[(&str, &str)] = &[("group", &group), ("peer", &peer), ("kind", kind)];
        to.counter("quorate_evidence_total", "Proofs that a replica lies, kept by this node.", labels, 1);
    }
    Stage::Replicate.report(("group", &group), seat.trips(), to);
    Stage::Quorum.report(("group", &group), &seat.quorum, to);
}
