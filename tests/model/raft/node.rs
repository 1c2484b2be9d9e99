//! A node of the model: the real core, its disk, and what waits for the disk.

use quorate::base::{GROUP_ONE, Instant, NodeId, Term, Ticket};
use quorate::protocol::raft::recover::Replay;
use quorate::protocol::raft::{Mark, Options, Raft, Setup};
use quorate::protocol::{Input, Outbox, Protocol, Target};
use quorate::wire::raft::Message;
use quorate::wire::{Entry, Record};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Nodes have the ids 1 to 3.
pub const NODES: u8 = 3;

/// Time is abstracted: no answer may depend on who was heard when, so neither trial votes nor a leader's doubt are on.
fn options() -> Options {
    Options { pre_vote: false, check_quorum: false, ..Options::default() }
}

/// A message on its way.
#[derive(Clone)]
pub struct Mail {
    /// Stands for all the rest.
    pub key: u64,
    pub from: NodeId,
    pub to: NodeId,
    pub message: Arc<Message>,
}

impl Mail {
    fn new(from: NodeId, to: NodeId, message: Message) -> Mail {
        let mut hasher = DefaultHasher::new();
        (from, to, format!("{message:?}")).hash(&mut hasher);
        Mail { key: hasher.finish(), from, to, message: Arc::new(message) }
    }
}

/// What a restart would read, without what was overwritten.
#[derive(Clone, Default)]
struct Disk {
    term: Term,
    vote: Option<NodeId>,
    /// From slot 1 on.
    entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Vote { term, vote, .. } => (self.term, self.vote) = (term, vote),
                Record::Entry { entry, .. } => {
                    self.entries.truncate(entry.slot.0 as usize - 1);
                    self.entries.push(entry);
                }
                Record::Floor { .. } | Record::Pbft { .. } => panic!("no snapshots, and no other protocol"),
            }
        }
    }
    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let vote = Record::Vote { group: GROUP_ONE, term: self.term, vote: self.vote };
        let entry = |entry: &Entry| Record::Entry { group: GROUP_ONE, entry: entry.clone() };
        std::iter::once(vote).chain(self.entries.iter().map(entry))
    }
}

#[derive(Clone)]
pub struct Node {
    id: NodeId,
    pub raft: Raft,
    out: Outbox,
    disk: Disk,
    durable: Ticket,
    /// Writes under way, oldest first: each a burst's records, and the ticket of the last.
    writes: Vec<(Ticket, Vec<Record>)>,
    /// Said, and waiting for a write.
    held: Vec<(Ticket, Mail)>,
    /// Stands for everything above, with tickets counted from the newest durable one and without times.
    outline: u64,
}

/// What a step brings to the outside.
#[derive(Default)]
pub struct Effects {
    pub sent: Vec<Mail>,
    pub decided: Vec<Entry>,
    /// A peer was accused of a misdeed.
    pub accused: bool,
}

impl Node {
    pub fn new(id: NodeId) -> Node {
        Node::start(id, Disk::default())
    }
    /// A life that begins with what the disk holds.
    fn start(id: NodeId, disk: Disk) -> Node {
        let setup = Setup { me: id, members: (1..=NODES).map(NodeId).collect(), options: options(), seed: 1 };
        let mut replay = Replay::new(&setup.options);
        disk.records().for_each(|record| replay.record(record).expect("a log without holes"));
        let raft = Raft::recover(setup, Instant::ZERO, Mark::ZERO, replay).expect("a log without holes");
        let mut out = Outbox::default();
        out.enter(GROUP_ONE);
        let (durable, writes, held) = (Ticket::ZERO, Vec::new(), Vec::new());
        let mut node = Node { id, raft, out, disk, durable, writes, held, outline: 0 };
        node.draw();
        node
    }
    pub fn outline(&self) -> u64 {
        self.outline
    }
    /// How many writes are under way.
    pub fn writes(&self) -> usize {
        self.writes.len()
    }

    /// Tells the core one fact and ends the burst. Everything that is decided is applied at once.
    pub fn step(&mut self, input: Input<Message>) -> Effects {
        // A clock that stands at the next deadline: any time-out may come now.
        let now = self.raft.deadline().expect("a core always waits for something");
        let mut effects = Effects::default();
        self.raft.step(now, input, &mut self.out);
        self.raft.settle(now, &mut self.out);
        while !self.out.commits.is_empty() {
            effects.decided.extend(self.out.commits.drain(..).map(|commit| commit.entry));
            let slot = effects.decided.last().expect("some are decided").slot;
            self.raft.step(now, Input::Applied { slot }, &mut self.out);
            self.raft.settle(now, &mut self.out);
        }
        self.raft.check();
        self.drain(&mut effects);
        self.draw();
        effects
    }
    /// All writes under way are finished.
    pub fn finish_writes(&mut self) -> Effects {
        let last = self.writes.last().expect("something is written").0;
        std::mem::take(&mut self.writes).into_iter().for_each(|(_, records)| self.disk.write(records));
        self.durable = last;
        // Nothing waits for anything else.
        let free = std::mem::take(&mut self.held);
        let mut effects = self.step(Input::Durable { ticket: last });
        effects.sent.extend(free.into_iter().map(|(_, mail)| mail));
        effects
    }
    /// The node goes down and comes up again. Of its writes under way the first `kept` survive.
    pub fn crash(&self, kept: usize) -> Node {
        let mut disk = self.disk.clone();
        self.writes.iter().take(kept).for_each(|(_, records)| disk.write(records.clone()));
        Node::start(self.id, disk)
    }

    fn drain(&mut self, effects: &mut Effects) {
        let (id, out) = (self.id, &mut self.out);
        effects.accused = 0 < out.faults.drain(..).count();
        assert!(out.ships.is_empty() && out.installs.is_empty(), "everything is in memory");
        out.refuse.clear();
        if !out.records.is_empty() {
            self.writes.push((out.last_ticket(), std::mem::take(&mut out.records)));
        }
        for send in out.sends.drain(..) {
            let quorate::wire::Message::Raft(message) = send.message else { panic!("only of this protocol") };
            let is_for =
                |to: &NodeId| *to != id && (send.to == Target::Others || send.to == Target::One(*to));
            for to in (1..=NODES).map(NodeId).filter(is_for) {
                let mail = Mail::new(id, to, message.clone());
                match send.after {
                    Some(ticket) if self.durable < ticket => self.held.push((ticket, mail)),
                    _ => effects.sent.push(mail),
                }
            }
        }
    }

    fn draw(&mut self) {
        let mut to = DefaultHasher::new();
        self.raft.outline(&mut to);
        (self.disk.term, self.disk.vote).hash(&mut to);
        self.disk.entries.iter().for_each(|entry| hash_entry(entry, &mut to));
        for record in self.writes.iter().flat_map(|(_, records)| records) {
            match record {
                Record::Entry { entry, .. } => hash_entry(entry, &mut to),
                other => format!("{other:?}").hash(&mut to),
            }
        }
        self.writes.iter().for_each(|(ticket, _)| (ticket.0 - self.durable.0).hash(&mut to));
        self.held.iter().for_each(|(ticket, mail)| (ticket.0 - self.durable.0, mail.key).hash(&mut to));
        self.outline = to.finish();
    }
}

fn hash_entry(entry: &Entry, to: &mut impl Hasher) {
    (entry.slot, entry.term, entry.kind as u8, entry.body.digest()).hash(to);
}
