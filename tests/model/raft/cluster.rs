//! Three nodes and a network that loses, delays and reorders: all that can happen within bounds.

use super::super::explore::{Model, Property};
use super::node::{Effects, Mail, NODES, Node};
use quorate::base::canary::{self, Canary};
use quorate::base::{Body, NodeId, Origin, Slot, Stamp, Term};
use quorate::protocol::Input;
use quorate::protocol::raft::Role;
use quorate::wire::raft::Message;
use quorate::wire::{Batch, Entry};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How far is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// No node stands for election beyond this term.
    pub terms: u64,
    /// So many commands are proposed.
    pub commands: u64,
    /// So many crashes happen.
    pub crashes: u8,
    /// So many heartbeats leave without being asked for.
    pub heartbeats: u8,
    /// So many writes take time, and may be lost by a crash; the others are durable at once.
    pub slow_writes: u8,
    /// So many nodes stand for election; the others vote.
    pub candidates: u8,
    /// A link remembers so many messages, which arrive in any order or never; when one more is sent, the oldest is lost.
    pub link: usize,
}

/// The model.
pub struct Cluster {
    pub bounds: Bounds,
    pub canary: Option<Canary>,
}

/// Something that happens. What is written in it is durable at once, unless the action is slow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Action {
    what: What,
    is_slow: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum What {
    /// A time-out fires: an election, or a heartbeat.
    Timeout(u8),
    /// A client hands the leader a command.
    Propose(u8),
    /// All writes of a node become durable.
    Durable(u8),
    /// The message with this key arrives.
    Deliver(u64),
    /// A node loses power and starts again; so many of its writes survive.
    Crash(u8, usize),
}

/// A state. The sets at its end are what has been seen so far.
#[derive(Clone)]
pub struct State {
    pub nodes: [Arc<Node>; NODES as usize],
    /// In the order in which it was sent; no message twice.
    mail: Vec<Mail>,
    commands: u64,
    crashes: u8,
    heartbeats: u8,
    slow_writes: u8,
    /// Somebody was accused of a misdeed.
    accused: bool,
    /// Who has led which term.
    pub leaders: BTreeSet<(Term, NodeId)>,
    /// What has been decided, and the term of the node that said so first.
    pub decided: BTreeSet<Decided>,
}

/// A decided entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Decided {
    pub slot: Slot,
    pub term: Term,
    /// 0 for an entry without command.
    pub command: u64,
    pub during: Term,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.nodes.iter().for_each(|node| node.outline().hash(to));
        self.mail.iter().for_each(|mail| mail.key.hash(to));
        (self.commands, self.crashes, self.heartbeats, self.slow_writes, self.accused).hash(to);
        (&self.leaders, &self.decided).hash(to);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            let (raft, log) = (&node.raft, self.log(index).collect::<Vec<_>>());
            writeln!(
                f,
                "{} {:?} term {} commit {} {log:?}",
                index + 1,
                raft.role(),
                raft.term(),
                raft.commit()
            )?;
        }
        self.mail.iter().try_for_each(|mail| writeln!(f, "{}>{} {:?}", mail.from, mail.to, mail.message))
    }
}

impl State {
    fn post(&mut self, mail: Mail, link: usize) {
        if self.mail.iter().any(|other| other.key == mail.key) {
            return;
        }
        let on_link = |other: &Mail| (other.from, other.to) == (mail.from, mail.to);
        if self.mail.iter().filter(|other| on_link(other)).count() == link {
            let oldest = self.mail.iter().position(on_link).expect("a link is not without room");
            self.mail.remove(oldest);
        }
        // Between links there is no order.
        let place = self.mail.partition_point(|other| (other.from, other.to) <= (mail.from, mail.to));
        self.mail.insert(place, mail);
    }
    fn settle(&mut self, at: usize, link: usize, effects: Effects) {
        let raft = &self.nodes[at].raft;
        let during = raft.term();
        self.accused |= effects.accused;
        if raft.is_leader() {
            self.leaders.insert((during, NodeId(at as u8 + 1)));
        }
        for Entry { slot, term, sequence, .. } in effects.decided {
            let is_known = |d: &Decided| (d.slot, d.term, d.command) == (slot, term, sequence);
            if !self.decided.iter().any(is_known) {
                self.decided.insert(Decided { slot, term, command: sequence, during });
            }
        }
        effects.sent.into_iter().for_each(|mail| self.post(mail, link));
    }
    /// Lets a node do something.
    fn at(&mut self, node: u8, link: usize, is_slow: bool, act: impl FnOnce(&mut Node) -> Effects) {
        let at = usize::from(node);
        let was_idle = self.nodes[at].writes() == 0;
        let effects = act(Arc::make_mut(&mut self.nodes[at]));
        self.settle(at, link, effects);
        // A log is written in order: behind a slow write all others wait.
        while was_idle && !is_slow && 0 < self.nodes[at].writes() {
            let effects = Arc::make_mut(&mut self.nodes[at]).finish_writes();
            self.settle(at, link, effects);
        }
    }
    /// The commands, 0 for none, and terms of a node's log.
    fn log(&self, node: usize) -> impl Iterator<Item = (Term, u64)> + '_ {
        let tail = self.nodes[node].raft.tail();
        (1..=tail.last().0).map(|slot| {
            let entry = tail.get(Slot(slot)).expect("everything is in memory");
            (entry.term, entry.sequence)
        })
    }
}

impl Cluster {
    fn happen(&self, state: &mut State, Action { what, is_slow }: Action) {
        match what {
            What::Timeout(node) => {
                let is_heartbeat = state.nodes[usize::from(node)].raft.is_leader();
                state.heartbeats += u8::from(is_heartbeat);
                state.at(node, self.bounds.link, is_slow, |node| node.step(Input::Timeout));
            }
            What::Propose(node) => {
                state.commands += 1;
                let sequence = state.commands;
                let origin = Origin { node: NodeId(1), lane: 0, boot: 1 };
                let body = Body::new(vec![sequence as u8].into());
                let batch = Batch { origin, sequence, floor: 1, body, ..Batch::default() };
                state.at(node, self.bounds.link, is_slow, |node| {
                    node.step(Input::Propose { batch, clock: Stamp::ZERO })
                });
            }
            What::Durable(node) => state.at(node, self.bounds.link, is_slow, Node::finish_writes),
            What::Deliver(key) => {
                let place = state.mail.iter().position(|mail| mail.key == key).expect("it is on its way");
                let Mail { from, to, message, .. } = state.mail.remove(place);
                let message = Message::clone(&message);
                state.at(to.0 - 1, self.bounds.link, is_slow, |node| {
                    node.step(Input::Receive { from, message })
                });
            }
            What::Crash(node, kept) => {
                state.crashes += 1;
                let at = usize::from(node);
                state.nodes[at] = Arc::new(state.nodes[at].crash(kept));
            }
        }
    }
    /// What can happen, whether slow or not.
    fn possible(&self, state: &State) -> Vec<What> {
        let mut possible = Vec::new();
        // At the start all candidates are alike: whatever happens first may as well happen to the first.
        let is_start = state.nodes.iter().all(|node| node.raft.term() == Term::ZERO);
        for node in 0..if is_start { 1 } else { NODES } {
            let it = &state.nodes[usize::from(node)];
            let may_time_out = match it.raft.role() {
                Role::Leader => state.heartbeats < self.bounds.heartbeats,
                _ => it.raft.term().0 < self.bounds.terms && node < self.bounds.candidates,
            };
            if may_time_out {
                possible.push(What::Timeout(node));
            }
            if it.raft.is_leader() && state.commands < self.bounds.commands {
                possible.push(What::Propose(node));
            }
            if 0 < it.writes() {
                possible.push(What::Durable(node));
            }
            if state.crashes < self.bounds.crashes && !is_start {
                possible.extend((0..=it.writes()).map(|kept| What::Crash(node, kept)));
            }
        }
        possible.extend(state.mail.iter().map(|mail| What::Deliver(mail.key)));
        possible
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;
    const PROPERTIES: &'static [Property<Cluster>] = PROPERTIES;
    const SOMETIMES: &'static [Property<Cluster>] = SOMETIMES;

    fn first(&self) -> State {
        State {
            nodes: [1, 2, 3].map(|id| Arc::new(Node::new(NodeId(id)))),
            mail: Vec::new(),
            commands: 0,
            crashes: 0,
            heartbeats: 0,
            slow_writes: 0,
            accused: false,
            leaders: BTreeSet::new(),
            decided: BTreeSet::new(),
        }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let slow: &[bool] =
            if state.slow_writes < self.bounds.slow_writes { &[false, true] } else { &[false] };
        let both = |what| slow.iter().map(move |&is_slow| Action { what, is_slow });
        self.possible(state).into_iter().flat_map(both).collect()
    }

    fn after(&self, last: &State, action: Action) -> Option<State> {
        // A slow action that writes nothing is no other than a quick one.
        let mut state = last.clone();
        match self.canary {
            Some(bug) => canary::with(bug, || self.happen(&mut state, action)),
            None => self.happen(&mut state, action),
        }
        let writes = |state: &State| state.nodes.iter().filter(|node| 0 < node.writes()).count();
        let is_slow = writes(last) < writes(&state);
        state.slow_writes += u8::from(is_slow);
        (is_slow || !action.is_slow).then_some(state)
    }

    fn tell(&self, state: &State) -> String {
        format!("{state:?}")
    }
}

/// What holds in every state.
const PROPERTIES: &[Property<Cluster>] = &[
    ("election safety", |_, state| {
        let terms: BTreeSet<Term> = state.leaders.iter().map(|(term, _)| *term).collect();
        terms.len() == state.leaders.len()
    }),
    ("log matching", |_, state| (0..3).all(|a| (0..a).all(|b| logs_match(state, a, b)))),
    ("leader completeness", |_, state| (0..3).all(|node| is_complete(state, node))),
    ("state machine safety", |_, state| {
        let slots: BTreeSet<Slot> = state.decided.iter().map(|decided| decided.slot).collect();
        slots.len() == state.decided.len()
    }),
    ("nobody is accused", |_, state| !state.accused),
];

/// What holds in some, or the bounds are too tight to mean anything.
const SOMETIMES: &[Property<Cluster>] = &[
    ("a later leader is elected", |_, state| 1 < state.leaders.len()),
    ("a later leader decides an earlier one's entry", |_, state| {
        state.decided.iter().any(|decided| 0 < decided.command && decided.term < decided.during)
    }),
    ("every command is decided", |cluster, state| {
        let commands = state.decided.iter().filter(|decided| 0 < decided.command).count();
        commands as u64 == cluster.bounds.commands
    }),
    ("a command is decided after a crash", |_, state| {
        0 < state.crashes && state.decided.iter().any(|decided| 0 < decided.command)
    }),
];

/// "If two logs contain an entry with the same index and term, then the logs are identical in all entries up through the given
/// index" (thesis, figure 3.2).
fn logs_match(state: &State, a: usize, b: usize) -> bool {
    let (a, b): (Vec<_>, Vec<_>) = (state.log(a).collect(), state.log(b).collect());
    let last = a.iter().zip(&b).rposition(|(a, b)| a.0 == b.0);
    last.is_none_or(|last| a[..=last] == b[..=last])
}

/// "If a log entry is committed in a given term, then that entry will be present in the logs of the leaders for all higher-numbered
/// terms" (thesis, figure 3.2).
fn is_complete(state: &State, node: usize) -> bool {
    let raft = &state.nodes[node].raft;
    let log: Vec<(Term, u64)> = state.log(node).collect();
    let has = |d: &Decided| log.get(d.slot.0 as usize - 1) == Some(&(d.term, d.command));
    !raft.is_leader() || state.decided.iter().filter(|d| d.during < raft.term()).all(has)
}
