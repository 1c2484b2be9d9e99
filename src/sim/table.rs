//! PBFT replicas around a table: the real cores with a disk, a machine and nothing between them but letters. There is no network, no
//! clock that runs and no chance: whoever sits the replicas down says which letter comes next and when time passes. Cheap enough for
//! a hundred thousand short stories ([`super::twins`]), small enough for a model checker, plain enough for directed tests.

use super::host::keys;
use super::machine::Machine;
use super::violation::hold;
use crate::base::{Body, Digest, GROUP_ONE, Instant, NodeId, NodeSet, Origin, Slot, Stamp, Ticket};
use crate::protocol::pbft::{Anchor, Options, Pbft, Replay, Setup};
use crate::protocol::{Fault, Fetched, Input, Outbox, Protocol, Target};
use crate::wire::members::Membership;
use crate::wire::pbft::{Message, Note, Vote};
use crate::wire::{Batch, Entry, Message as Any, Record};
use bytes::Bytes;
use std::collections::VecDeque;

/// Of what correct replicas have executed.
const AGREEMENT: &str = "agreement";
/// Snapshots that a seat keeps.
const SNAPSHOTS_MAX: usize = 2;

/// A letter between two replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Who wrote it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// What it says.
    pub message: Message,
}

/// A replica with what it needs.
#[derive(Clone)]
pub struct Seat {
    /// The replica.
    pub core: Pbft,
    /// What it has executed, from the first slot that it did itself.
    pub history: Vec<Entry>,
    /// Whom it accuses.
    pub faults: Vec<Fault>,
    /// What it wants to send.
    pub mail: Vec<Letter>,
    /// Its state.
    pub machine: Machine,
    setup: Setup,
    out: Outbox,
    disk: Vec<Record>,
    snapshots: VecDeque<(Slot, Stamp, Bytes)>,
    /// Messages that wait for their records.
    held: Vec<(Ticket, Target, Message)>,
    /// Records that are not durable yet, when writes wait to be finished.
    writes: Vec<Record>,
    /// Writes wait until `finish_writes`.
    pub writes_wait: bool,
    /// Snapshots are in the making and never whole, as long as this is so.
    pub snapshots_wait: bool,
}

/// What a replica of `nodes` is made of.
pub fn setup(me: NodeId, nodes: usize, boot: u64, options: &Options) -> Setup {
    let members: NodeSet = (1..=nodes as u8).map(NodeId).collect();
    let (options, keys) = (options.clone(), keys(me, nodes));
    let (cluster, anchor, state) = Default::default();
    Setup { cluster, group: GROUP_ONE, me, members, anchor, state, boot, options, keys }
}

impl Seat {
    /// A replica that has never run.
    pub fn new(setup: Setup, now: Instant) -> Seat {
        let mut out = Outbox::default();
        out.enter(setup.group);
        Seat {
            core: Pbft::new(setup.clone(), now),
            history: Vec::new(),
            faults: Vec::new(),
            mail: Vec::new(),
            machine: Machine::default(),
            setup,
            out,
            disk: Vec::new(),
            snapshots: VecDeque::new(),
            held: Vec::new(),
            writes: Vec::new(),
            writes_wait: false,
            snapshots_wait: false,
        }
    }

    /// Who sits here.
    pub fn id(&self) -> NodeId {
        self.setup.me
    }

    /// The slot of its newest snapshot.
    pub fn snapshot(&self) -> Slot {
        self.snapshots.back().map_or(Slot::ZERO, |(slot, ..)| *slot)
    }

    /// The node loses power, with all that it has not finished writing, and starts again.
    pub fn restart(&mut self, now: Instant) {
        self.setup.boot += 1;
        let newest = self.snapshots.back().cloned();
        let (slot, stamp) =
            newest.as_ref().map_or((Slot::ZERO, Stamp::ZERO), |(slot, stamp, _)| (*slot, *stamp));
        self.machine = newest.map_or_else(Machine::default, |(_, _, bytes)| Machine::load(&bytes));
        self.setup.state = self.machine.members.clone();
        self.compact();
        let mut replay = Replay::new(&self.setup.options);
        self.disk.iter().cloned().for_each(|record| replay.record(record).expect("what it wrote itself"));
        let core = Pbft::recover(self.setup.clone(), now, (slot, stamp), replay);
        self.core = core.expect("what it wrote itself");
        self.out = Outbox::default();
        self.out.enter(self.setup.group);
        self.history.retain(|entry| entry.slot <= slot);
        (self.held, self.writes, self.mail) = Default::default();
        self.settle(now);
    }

    /// Drops what the newest floor has made superfluous.
    fn compact(&mut self) {
        let floor = self.disk.iter().rev().find_map(|record| match record {
            Record::Floor { slot, .. } => Some(*slot),
            _ => None,
        });
        self.disk.retain(|record| match record {
            Record::Pbft { note: Note::View { .. }, .. } => true,
            Record::Pbft { note, .. } => floor.is_none_or(|floor| floor < note.place()),
            _ => true,
        });
    }

    /// A letter comes.
    pub fn hear(&mut self, now: Instant, from: NodeId, message: Message) {
        self.step(now, Input::Receive { from, message });
    }

    /// Tells the replica one fact and ends the burst.
    pub fn step(&mut self, now: Instant, input: Input<Message>) {
        self.core.step(now, input, &mut self.out);
        self.settle(now);
    }

    /// Whatever is due now happens.
    pub fn tick(&mut self, now: Instant) {
        if self.core.deadline().is_some_and(|at| at <= now) {
            self.step(now, Input::Timeout);
        }
    }

    /// All writes under way are durable.
    pub fn finish_writes(&mut self, now: Instant) {
        self.disk.append(&mut self.writes);
        let ticket = self.out.last_ticket();
        for (_, to, message) in std::mem::take(&mut self.held) {
            self.post(to, message);
        }
        self.core.step(now, Input::Durable { ticket }, &mut self.out);
        self.settle(now);
    }

    /// A batch of this node's clients, signed.
    pub fn batch(&self, sequence: u64, text: &[u8]) -> Batch {
        let origin = Origin { node: self.id(), lane: 0, boot: 1 };
        let body = Body::new(Bytes::copy_from_slice(text));
        // Whatever came before it is settled or given up.
        let mut batch = Batch { origin, sequence, floor: sequence, body, ..Batch::default() };
        self.core.vouch(&mut batch);
        batch
    }

    fn settle(&mut self, now: Instant) {
        loop {
            self.core.settle(now, &mut self.out);
            self.core.check();
            let again = self.drain(now);
            if !again {
                return;
            }
        }
    }

    /// Does what the core asks for. Whether that told it something.
    fn drain(&mut self, now: Instant) -> bool {
        self.faults.append(&mut self.out.faults);
        self.out.refuse.clear();
        self.out.convictions.clear();
        self.out.reads.clear();
        self.writes.append(&mut self.out.records);
        let durable = if self.writes_wait { self.durable() } else { self.out.last_ticket() };
        for send in std::mem::take(&mut self.out.sends) {
            let Any::Pbft(message) = send.message else { panic!("a core speaks its own protocol") };
            match send.after.filter(|ticket| durable < *ticket) {
                Some(ticket) => self.held.push((ticket, send.to, message)),
                None => self.post(send.to, message),
            }
        }
        let mut again = self.execute(now);
        again |= self.transfer(now);
        if !self.writes_wait && !self.writes.is_empty() {
            self.disk.append(&mut self.writes);
            self.core.step(now, Input::Durable { ticket: durable }, &mut self.out);
            again = true;
        }
        again
    }

    fn durable(&self) -> Ticket {
        Ticket(self.out.last_ticket().0 - self.writes.len() as u64)
    }

    fn post(&mut self, to: Target, message: Message) {
        let me = self.id();
        match to {
            Target::One(to) => self.mail.push(Letter { from: me, to, message }),
            Target::Others => {
                let members = self.core.member_set();
                let others = members.iter().filter(|node| *node != me);
                self.mail.extend(others.map(|to| Letter { from: me, to, message: message.clone() }));
            }
        }
    }

    fn execute(&mut self, now: Instant) -> bool {
        let commits = std::mem::take(&mut self.out.commits);
        let mut digests = std::mem::take(&mut self.out.digests).into_iter().peekable();
        let again = digests.peek().is_some();
        // What is asked after a slot is answered before the next is executed.
        let mut states: Vec<(Slot, Digest)> = Vec::new();
        let mut answer = |seat: &mut Seat, upto: Slot| {
            while let Some(asked) = digests.next_if(|asked| asked.slot <= upto) {
                if asked.slot == seat.machine.applied {
                    let bytes = seat.machine.save();
                    states.push((asked.slot, Digest::of(&bytes)));
                    if asked.keep && !seat.snapshots_wait {
                        seat.keep(asked.slot, bytes);
                    }
                }
            }
        };
        for commit in commits {
            answer(self, commit.entry.slot.prev());
            self.machine.apply(&commit.entry);
            self.history.push(commit.entry);
        }
        answer(self, Slot(u64::MAX));
        for (slot, digest) in states {
            self.core.step(now, Input::Digested { slot, digest }, &mut self.out);
            if self.snapshots.back().is_some_and(|kept| kept.0 == slot) {
                self.core.step(now, Input::Snapshotted { slot, bytes: 1 }, &mut self.out);
            }
        }
        again
    }

    fn keep(&mut self, slot: Slot, bytes: Bytes) {
        self.snapshots.push_back((slot, self.machine.id(GROUP_ONE).stamp, bytes));
        if SNAPSHOTS_MAX < self.snapshots.len() {
            self.snapshots.pop_front();
        }
    }

    /// Nobody is given a whole state here: what replicas hold in memory reaches back to the beginning.
    fn transfer(&mut self, now: Instant) -> bool {
        let ships = std::mem::take(&mut self.out.ships);
        let again = !ships.is_empty();
        for ship in ships {
            let gone = Input::Fetched { job: ship.job, found: Fetched::Gone };
            self.core.step(now, gone, &mut self.out);
        }
        self.out.installs.clear();
        again
    }
}

/// Most letters that are read before everything must be quiet.
const LETTERS_MAX: usize = 200_000;

/// Replicas and the letters between them, in the order of their writing.
#[derive(Clone)]
pub struct Table {
    /// The replicas. Several may have one id.
    pub seats: Vec<Seat>,
    /// The time, everywhere.
    pub now: Instant,
    post: VecDeque<(usize, Letter)>,
}

impl Table {
    /// One replica for each of these ids, of a group of `nodes`.
    pub fn new(ids: &[NodeId], nodes: usize, options: &Options) -> Table {
        let now = Instant(1_000_000);
        let seats = ids.iter().map(|id| Seat::new(setup(*id, nodes, 1, options), now)).collect();
        Table { seats, now, post: VecDeque::new() }
    }

    /// `nodes` replicas.
    pub fn of(nodes: usize, options: &Options) -> Table {
        Table::new(&(1..=nodes as u8).map(NodeId).collect::<Vec<_>>(), nodes, options)
    }

    /// A replica sits down that comes to a group with these members above that state.
    pub fn join(&mut self, me: NodeId, nodes: usize, options: &Options, (base, of): (Vote, &Membership)) {
        let mut setup = setup(me, nodes, 1, options);
        setup.anchor = Anchor { epoch: of.epoch, base };
        setup.keys = setup.keys.renewed(me, setup.members, of.signing_keys());
        setup.options.faulty_max = Some(of.faulty.into());
        setup.members = of.nodes();
        self.seats.push(Seat::new(setup, self.now));
    }

    /// Somebody wants this batch ordered, and tells these replicas.
    pub fn ask(&mut self, batch: &Batch, seats: impl IntoIterator<Item = usize>) {
        let now = self.now;
        for at in seats {
            let from = batch.origin.node;
            self.seats[at].step(now, Input::Heard { from, batch: batch.clone() });
        }
    }

    /// Reads letters until nobody writes any more. `may` says whether a letter of the seat comes to the other; `read` sees it first,
    /// and gives back what arrives in its stead.
    pub fn run_with(
        &mut self,
        may: impl Fn(usize, usize) -> bool,
        mut read: impl FnMut(usize, Letter) -> Option<Letter>,
    ) {
        self.collect();
        for _ in 0..LETTERS_MAX {
            let Some((from, letter)) = self.post.pop_front() else { return };
            let Some(letter) = read(from, letter) else { continue };
            for at in 0..self.seats.len() {
                if self.seats[at].id() == letter.to && at != from && may(from, at) {
                    self.seats[at].hear(self.now, letter.from, letter.message.clone());
                }
            }
            self.collect();
        }
        panic!("a storm of letters");
    }

    /// The same, with nobody who reads others' letters.
    pub fn run(&mut self, may: impl Fn(usize, usize) -> bool) {
        self.run_with(may, |_, letter| Some(letter));
    }

    /// Time passes until the next deadline of anybody, at least a moment.
    pub fn pass(&mut self) {
        let next = self.seats.iter().filter_map(|seat| seat.core.deadline()).min();
        self.now = next.unwrap_or(self.now).max(Instant(self.now.0 + 1_000));
        let now = self.now;
        self.seats.iter_mut().for_each(|seat| seat.tick(now));
    }

    /// Lets so much time pass, with letters read as they are written.
    pub fn pass_for(&mut self, time: std::time::Duration, may: impl Fn(usize, usize) -> bool) {
        let end = self.now.after(time);
        while self.now < end {
            self.pass();
            self.run(&may);
        }
    }

    /// Drops what is on its way.
    pub fn burn(&mut self) {
        self.collect();
        self.post.clear();
    }

    fn collect(&mut self) {
        for (at, seat) in self.seats.iter_mut().enumerate() {
            self.post.extend(seat.mail.drain(..).map(|letter| (at, letter)));
        }
    }

    /// Panics unless these replicas have executed the same, as far as they have come.
    pub fn agree(&self, seats: impl IntoIterator<Item = usize>) {
        let mut known: std::collections::BTreeMap<Slot, &Entry> = std::collections::BTreeMap::new();
        let mut states: std::collections::BTreeMap<Slot, u64> = std::collections::BTreeMap::new();
        for at in seats {
            let seat = &self.seats[at];
            for entry in &seat.history {
                let first = known.entry(entry.slot).or_insert(entry);
                hold!(AGREEMENT, *first == entry, "two values at slot {}", entry.slot);
            }
            let state = *states.entry(seat.machine.applied).or_insert(seat.machine.chain);
            let (slot, is_same) = (seat.machine.applied, state == seat.machine.chain);
            hold!(AGREEMENT, is_same, "two states at slot {slot}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::violation::violates;
    use std::time::Duration;

    #[test]
    fn a_request_is_executed_everywhere_and_again_after_every_restart() {
        let options = Options { window: 8, checkpoint_every: 2, snapshot_every: 16, ..Options::default() };
        let mut table = Table::of(4, &options);
        for round in 1..=12 {
            let batch = table.seats[1].batch(round, &[round as u8]);
            table.ask(&batch, 0..4);
            table.run(|_, _| true);
            table.pass_for(Duration::from_millis(300), |_, _| true);
            assert!(table.seats.iter().all(|seat| seat.machine.applied == Slot(round)), "round {round}");
            table.agree(0..4);
            let now = table.now;
            table.seats[round as usize % 4].restart(now);
        }
    }

    #[test]
    fn two_values_at_a_slot_and_two_states_are_told() {
        let value = |text: &'static [u8]| Entry {
            slot: Slot(1),
            body: Body::new(Bytes::from_static(text)),
            ..Entry::default()
        };
        let mut table = Table::of(4, &Options::default());
        table.seats[..2].iter_mut().for_each(|seat| seat.history.push(value(b"x")));
        table.agree(0..4);
        table.seats[2].history.push(value(b"y"));
        table.agree([0, 1, 3]);
        violates("agreement", || table.agree(0..4));
        table.seats[3].machine.chain = 1;
        violates("agreement", || table.agree([0, 1, 3]));
    }
}
