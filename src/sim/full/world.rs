//! Whole nodes under random faults. [`World::run`] is one run: events under faults, then healing, progress, equality.
//!
//! One thread, one queue of what is going to happen, virtual time that jumps from one event to the next.

use super::checks::{Checks, Lies};
use super::client::{Account, Client};
use super::disk::Harms;
use super::harm::RESTS_AFTER_MS;
use super::node::{Common, Down, Node};
use super::pbft;
use super::sockets::Streams;
use super::swarm::Swarm;
use super::trace::Trace;
use crate::base::{NodeSet, Prng};
use crate::io::Token;
use crate::sim::coverage::{Coverage, Reached};
use crate::sim::machine::mix;
use crate::sim::network::Network;
use crate::sim::violation::{self, fail, hold};
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Nanoseconds of a millisecond.
pub(super) const MS: u64 = 1_000_000;
/// How long a healed cluster may take to make progress and become equal.
const HEALING_MAX: u64 = 120_000 * MS;
/// How long a cluster without a live majority is watched.
const WATCHED: u64 = 3_000 * MS;
/// Who has lost nothing that was durable starts: "damage" that is none would take nodes away (hazard S7).
const SOUND_STARTS: &str = "sound nodes start";
/// A connection over which came what its peer did not say in that order ends (RFC 4303, 3.4.3).
const TAMPERED_ENDS: &str = "tampered connections end";
/// What a healed cluster owes.
const PROGRESS: &str = "progress after healing";
/// Turns in a row, a microsecond apart, that an agent may ask for and do nothing in: a core would burn for as long.
const VAIN_WAKES_MAX: u32 = 1000;
/// Who has nothing to do sleeps.
const BUSY: &str = "no busy waiting";
/// Starts in vain, all faults healed, after which a node is taken to refuse.
const VAIN_STARTS_MAX: u32 = 3;

/// What is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A node was to be called at this time.
    Wake { node: usize, life: u64 },
    /// A node has been left in the midst of its work.
    GoOn { node: usize, life: u64 },
    /// A node is started.
    Start { node: usize },
    /// A node has started, as far as its disk is concerned.
    Up { node: usize, life: u64 },
    /// An operation on a disk is over.
    File { node: usize, life: u64, operation: u64 },
    /// A segment of a stream arrives.
    Arrive { stream: u64, from: usize },
    /// A node's attempt to connect arrives.
    Connect { node: usize, life: u64, token: Token, address: String },
    /// Its answer arrives.
    Connected { node: usize, life: u64, token: Token, made: Result<u64, std::io::ErrorKind> },
    /// A client wants something, or looks at its watch.
    Client { index: usize, timer: u64 },
    /// A node that goes down in order is gone.
    Gone { node: usize, life: u64 },
    /// A disk works again as it should.
    DiskWell { node: usize },
}

struct Planned {
    at: u64,
    serial: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.serial == other.serial
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// What the world keeps of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    pub(super) paused_until: u64,
    pub(super) wake_at: Option<u64>,
    /// The machine has no power: its kernel does not answer.
    pub(super) dark: bool,
    /// Its disk is slow.
    pub(super) slow: bool,
    /// It is going down in order.
    pub(super) draining: bool,
    /// Writes that clients of this node were told of.
    pub(super) written: u64,
    /// The newest term that it led.
    led: u64,
    vain_starts: u32,
    /// Times in a row that an agent asked to be called at once and had nothing to do.
    vain_wakes: u32,
    /// Bytes may have been lost that it had acknowledged.
    pub(super) has_lied: bool,
}

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Whatever they like.
    Work,
    /// Nothing, until all that was asked is answered.
    Settle,
    /// They read every key once.
    Audit,
    /// Nothing more.
    Rest,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of everything that happened, in order.
    pub transcript: u64,
    /// How many events there were.
    pub events: u64,
    /// Nanoseconds of simulated time.
    pub simulated: u64,
    /// Slots applied.
    pub committed: u64,
    /// Writes acknowledged to clients.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Commands refused.
    pub refused: u64,
    /// Writes of unknown outcome.
    pub unknown: u64,
    /// Own snapshots made durable.
    pub snapshots: u64,
    /// A leader's snapshots made durable and loaded.
    pub installed: u64,
    /// Lives of all nodes.
    pub lives: u64,
    /// Lives that ended by an error of the node's own.
    pub failures: u64,
    /// Nodes that would not start with what they found.
    pub refusals: u64,
    /// Sectors that crashes left old.
    pub torn: u64,
    /// Writes that failed once with EIO, and for lack of space.
    pub errors: u64,
    /// See `errors`.
    pub full: u64,
    /// Bits flipped at rest, and reads of sectors that could not be read.
    pub flipped: u64,
    /// See `flipped`.
    pub unreadable: u64,
    /// Connections that ended by a reset.
    pub resets: u64,
    /// 1 when too few nodes were left for any progress: they were right to wait.
    pub waiting: u64,
    /// 1 when a device lied about a sync: safety was not to be had.
    pub lied: u64,
    /// Keys whose history the search left undecided.
    pub undecided: u64,
    /// What happened along the way.
    pub coverage: Coverage,
}

/// See the module.
pub struct World {
    pub(super) now: u64,
    pub(super) prng: Prng,
    pub(super) swarm: Swarm,
    pub(super) common: Common,
    pub(super) nodes: Vec<Node>,
    pub(super) outside: Vec<Outside>,
    pub(super) network: Network,
    /// Nodes of which nothing is demanded.
    pub(super) liars: NodeSet,
    /// Nodes whose disks may rot.
    pub(super) rotting: Vec<usize>,
    is_healing: bool,
    pub(super) streams: Streams,
    pub(super) clients: Vec<Client>,
    pub(super) timers: Vec<u64>,
    pub(super) account: Account,
    /// Times that somebody changed what nodes say to each other, and repeated a frame of it.
    pub(super) tampered: u64,
    /// See `tampered`.
    pub(super) replayed: u64,
    /// A frame that was recorded, to be repeated later.
    pub(super) recorded: Option<Bytes>,
    pub(super) trace: Option<Trace>,
    pub(super) coverage: Coverage,
    pub(super) phase: Phase,
    /// While healing: the node at which a write is owed.
    pub(super) wanted: Option<usize>,
    queue: BinaryHeap<Reverse<Planned>>,
    serial: u64,
    pub(super) checks: Checks,
    events: u64,
    transcript: u64,
    pub(super) failures: u64,
    pub(super) resets: u64,
    refusals: u64,
}

impl World {
    /// One run: `events` under the faults that `seed` stands for, then healing. Panics when a property does not hold.
    pub fn run(seed: u64, events: u64) -> Outcome {
        World::run_swarm(seed, Swarm::draw(&mut Prng::from_seed(seed)), events)
    }

    /// One run with a mixture of one's own.
    pub fn run_swarm(seed: u64, swarm: Swarm, events: u64) -> Outcome {
        World::new(seed, swarm).play(events)
    }
    /// The same run; each input and each effect becomes a line.
    pub fn run_traced(seed: u64, swarm: Swarm, events: u64, line: impl FnMut(&str) + 'static) -> Outcome {
        let mut world = World::new(seed, swarm);
        world.trace = Some(Trace::new(line));
        world.play(events)
    }
    fn play(mut self, events: u64) -> Outcome {
        while self.events < events {
            self.tick();
            self.harm();
        }
        let waiting = !self.heal();
        self.close(waiting)
    }

    /// A cluster that is about to be started.
    pub fn new(seed: u64, swarm: Swarm) -> World {
        let mut prng = Prng::from_seed(seed ^ 0x2545_F491);
        let common = Common::new(&swarm, &mut prng);
        let node = |index| {
            let rate = 1000 - swarm.drift_per_mille + prng.below(2 * swarm.drift_per_mille + 1);
            Node::new(index, &common, rate, prng.below(1 << 40), 1_000_000 + prng.below(10_000))
        };
        let nodes: Vec<Node> = (0..swarm.nodes).map(node).collect();
        let account = Account::new(swarm.keys, swarm.ballast);
        let mut world = World {
            now: 0,
            outside: vec![Outside::default(); nodes.len()],
            network: Network::new(nodes.len()),
            liars: swarm.liars(),
            rotting: swarm.rotting(),
            is_healing: false,
            streams: Streams::default(),
            clients: (0..swarm.clients).map(Client::new).collect(),
            timers: vec![0; swarm.clients],
            account,
            tampered: 0,
            replayed: 0,
            recorded: None,
            trace: None,
            coverage: Coverage::default(),
            phase: Phase::Work,
            wanted: None,
            queue: BinaryHeap::new(),
            serial: 0,
            checks: Checks::new(common.store_options(), swarm.liars(), swarm.pbft.is_none()),
            events: 0,
            transcript: seed,
            failures: 0,
            resets: 0,
            refusals: 0,
            prng,
            swarm,
            common,
            nodes,
        };
        for node in 0..world.swarm.lying_disks.min(world.nodes.len()) {
            world.nodes[node].disk().lies = true;
        }
        for node in 0..world.nodes.len() {
            world.plan_within(10_000, Event::Start { node });
        }
        for index in 0..world.clients.len() {
            world.set_timer(index, 100 * MS);
        }
        world
    }

    pub(super) fn plan(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse(Planned { at, serial: self.serial, event }));
    }
    /// Plans an event within so many microseconds.
    pub(super) fn plan_within(&mut self, us: u64, event: Event) {
        let at = self.after_us(us);
        self.plan(at, event);
    }
    pub(super) fn after_us(&mut self, max: u64) -> u64 {
        self.now + 1000 * (1 + self.prng.below(max.max(1)))
    }
    pub(super) fn set_timer(&mut self, index: usize, after: u64) {
        self.serial += 1;
        self.timers[index] = self.serial;
        let event = Event::Client { index, timer: self.serial };
        self.plan(self.now + after, event);
    }
    /// Whether the node runs, in this life.
    pub(super) fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life.is_some() && self.nodes[node].lives == life
    }

    /// Lets the next event happen.
    fn tick(&mut self) {
        let Reverse(Planned { at, event, .. }) = self.queue.pop().expect("clients never rest before the end");
        assert!(self.now <= at);
        self.now = at;
        let paused = match &event {
            Event::Wake { node, .. }
            | Event::GoOn { node, .. }
            | Event::File { node, .. }
            | Event::Connected { node, .. } => self.outside[*node].paused_until,
            _ => 0,
        };
        if at < paused {
            // It goes on when the pause is over, and then finds out anew when it is to be called.
            if let Event::Wake { node, .. } = event {
                self.outside[node].wake_at = None;
                return;
            }
            return self.plan(paused, event);
        }
        self.events += 1;
        violation::at(self.events);
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node, life } => {
                if self.outside[node].wake_at == Some(self.now) {
                    self.outside[node].wake_at = None;
                    if self.lives(node, life) {
                        self.turn(node);
                    }
                }
            }
            Event::GoOn { node, life } => {
                if self.lives(node, life) {
                    self.turn(node);
                }
            }
            Event::Start { node } => self.start(node),
            Event::Up { node, life } => {
                if self.lives(node, life) {
                    self.outside[node].dark = false;
                    self.turn(node);
                }
            }
            Event::File { node, life, operation } => {
                if self.lives(node, life) {
                    self.say_of_file(node, "<", operation);
                    let driver = &mut self.nodes[node].life.as_mut().expect("it lives").driver;
                    driver.finish(operation);
                    self.turn(node);
                }
            }
            Event::Arrive { stream, from } => self.arrive(stream, from),
            Event::Connect { node, life, token, address } => self.connect(node, life, token, &address),
            Event::Connected { node, life, token, made } => self.connected(node, life, token, made),
            Event::Client { index, timer } => {
                if self.timers[index] == timer {
                    self.client(index);
                }
            }
            Event::Gone { node, life } => {
                if self.lives(node, life) {
                    self.crash(node, false);
                }
            }
            Event::DiskWell { node } => {
                self.outside[node].slow = false;
                self.nodes[node].disk().capacity = None;
                self.nodes[node].shelf.capacity = None;
            }
        }
    }

    /// Starts a node that is down.
    fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() || matches!(self.nodes[node].down, Some(Down::Refused(_))) {
            return;
        }
        let (seed, power) = (self.prng.next_u64(), self.prng.chance(self.swarm.power_of_ten, 10));
        let cut = self.prng.chance(self.swarm.cut_of_ten, 10);
        let writes = cut.then(|| self.prng.below(12) as u32);
        let started = self.nodes[node].start(&self.common, self.now, seed, writes, power);
        let outside = &mut self.outside[node];
        (outside.wake_at, outside.draining) = (None, false);
        let life = self.nodes[node].lives;
        match started {
            Some(took) => {
                outside.vain_starts = 0;
                let at = self.now + took.as_nanos() as u64 + MS;
                self.plan(at, Event::Up { node, life });
            }
            None if self.nodes[node].down == Some(Down::Crashed) => {
                outside.vain_starts += 1;
                self.coverage.saw(Reached::CutStart);
                if self.is_healing && VAIN_STARTS_MAX < outside.vain_starts {
                    self.nodes[node].down = Some(Down::Refused("it cannot read or write its disk".into()));
                    self.refusals += 1;
                } else {
                    self.plan_within(300_000, Event::Start { node });
                }
            }
            None => self.refused(node),
        }
        self.note(node);
    }
    /// A node would not start: it must have been given reason to.
    fn refused(&mut self, node: usize) {
        self.refusals += 1;
        let has_lost = self.nodes[node].harms().iter().any(Harms::has_lost);
        let has_lied = self.nodes[node].disk().lies;
        let Some(Down::Refused(why)) = &self.nodes[node].down else {
            unreachable!("who does not start is down")
        };
        let why = why.clone();
        self.say_of(node, format_args!("refuses to start: {why}"));
        hold!(
            SOUND_STARTS,
            has_lost || has_lied,
            "node {} lost nothing and refuses to start: {why}",
            node + 1
        );
    }
    /// A file operation begins or ends.
    pub(super) fn say_of_file(&mut self, node: usize, arrow: &str, operation: u64) {
        if self.trace.is_some()
            && let Some(what) =
                self.nodes[node].life.as_ref().and_then(|life| life.driver.describe(operation))
        {
            self.say_of(node, format_args!("{arrow} {what}"));
        }
    }

    /// A turn of a node that runs, and what it wants from the world.
    pub(super) fn turn(&mut self, node: usize) {
        if self.now < self.outside[node].paused_until {
            return;
        }
        let turn = self.nodes[node].turn(self.now, &mut self.prng, self.swarm.skip_per_mille);
        if let Some(why) = turn.failure {
            self.failures += 1;
            self.say_of(node, format_args!("> cannot go on: {why}"));
            return self.crash(node, false);
        }
        self.grant(node);
        self.checks.turn(&mut self.nodes[node], self.events, &mut self.coverage);
        self.note(node);
        let life = self.nodes[node].lives;
        let running = self.nodes[node].life.as_ref().expect("it has just had a turn");
        if turn.unfinished || !running.driver.ready.is_empty() {
            return self.plan_within(100, Event::GoOn { node, life });
        }
        let Some(due) = running.deadline() else { return };
        let in_vain = turn.was_idle && due <= running.driver.now;
        let outside = &mut self.outside[node];
        outside.vain_wakes = if in_vain { outside.vain_wakes + 1 } else { 0 };
        must_rest(outside.vain_wakes, node, || running.impatient());
        let at = self.nodes[node].world_time(due).max(self.now + 1000);
        if self.outside[node].wake_at.is_none_or(|planned| at < planned) {
            self.outside[node].wake_at = Some(at);
            self.plan(at, Event::Wake { node, life });
        }
    }

    /// Adds where a node stands to the transcript.
    fn note(&mut self, node: usize) {
        self.say_standing(node);
        let mut what = [self.now, node as u64, self.nodes[node].lives, 0, 0, 0];
        if let Some(life) = &self.nodes[node].life {
            (what[3], what[4], what[5]) =
                (life.told.term.get(), life.told.commit.get(), life.store.applied.get());
            let leads = if life.told.leader.get() == node as u64 + 1 { what[3] } else { 0 };
            if self.outside[node].led < leads {
                self.outside[node].led = leads;
                self.coverage.saw(Reached::Elected);
            }
        }
        self.transcript = what.into_iter().fold(self.transcript, mix);
    }

    /// A node's life ends; it comes back a little later.
    pub(super) fn crash(&mut self, node: usize, power: bool) {
        let Some(life) = &self.nodes[node].life else { return };
        let connections: Vec<_> = life.driver.connections().collect();
        if !power {
            connections.into_iter().for_each(|connection| self.hang_up(connection));
        }
        let seed = self.prng.next_u64();
        let strayed = self.nodes[node].disk().strayed.map(|at| at * MS + RESTS_AFTER_MS * MS);
        // A write that is not where it was said to be, and of which the log has not said yet that it is durable, looks torn.
        let has_strayed = strayed.is_some_and(|rests| self.now < rests);
        self.outside[node].has_lied |= has_strayed || power && self.nodes[node].disk().lies;
        self.checks.lenient |= self.outside[node].has_lied;
        self.say_of(node, format_args!("crash{}", if power { ": no power" } else { "" }));
        self.nodes[node].crash(power, seed);
        self.outside[node].dark = power;
        self.outside[node].wake_at = None;
        self.note(node);
        self.plan_within(800_000, Event::Start { node });
    }

    // ---- afterwards ---------------------------------------------------------------------------------------------

    /// Correct nodes that start.
    fn live(&self) -> Vec<usize> {
        let is_up = |node: &usize| !matches!(self.nodes[*node].down, Some(Down::Refused(_)));
        let live = |node: &usize| is_up(node) && !self.is_liar(*node);
        (0..self.nodes.len()).filter(live).collect()
    }

    /// Whether nothing is demanded of a node.
    pub(super) fn is_liar(&self, node: usize) -> bool {
        self.liars.contains(self.nodes[node].id())
    }

    /// Everything works again: a cluster with a live quorum must make progress at every live node, answer everything, and become
    /// equal. Gives back whether there was a quorum.
    fn heal(&mut self) -> bool {
        self.calm();
        let begun = self.now;
        let written: Vec<u64> = self.outside.iter().map(|o| o.written).collect();
        loop {
            self.tick();
            let live = self.live();
            let passed = self.now - begun;
            if live.len() < self.swarm.quorum() || self.checks.lenient {
                if WATCHED < passed {
                    return false;
                }
                continue;
            }
            let behind = live.iter().find(|node| self.outside[**node].written == written[**node]);
            self.wanted = behind.copied().filter(|_| self.phase == Phase::Work);
            let busy = self.clients.iter().any(Client::is_busy);
            match self.phase {
                Phase::Work if behind.is_none() => self.phase = Phase::Settle,
                Phase::Settle if !busy => {
                    self.account.begin_audit();
                    self.phase = Phase::Audit;
                }
                Phase::Audit if self.account.audit_left() == 0 && !busy => self.phase = Phase::Rest,
                Phase::Rest if self.tampered_links() == 0 && self.checks.are_equal(&self.nodes, &live) => {
                    return true;
                }
                _ => (),
            }
            if HEALING_MAX < passed {
                self.stuck(behind.copied());
            }
        }
    }

    fn calm(&mut self) {
        self.swarm.heal();
        self.network.heal();
        self.is_healing = true;
        for node in 0..self.nodes.len() {
            self.outside[node].paused_until = 0;
            self.outside[node].vain_starts = 0;
            self.happen(Event::DiskWell { node });
            self.nodes[node].disk().errors_due = 0;
            self.nodes[node].disk().misdirect = None;
            pbft::calm(&self.nodes[node].turn);
            if self.outside[node].draining {
                // It takes nothing any more: it comes back.
                self.crash(node, false);
            }
            let life = self.nodes[node].lives;
            self.plan(self.now, Event::GoOn { node, life });
        }
    }

    fn stuck(&self, behind: Option<usize>) -> ! {
        let standing = |node: &Node| match &node.life {
            None => format!("node {}: down, {:?}", node.index + 1, node.down),
            Some(life) => format!("node {}: {}", node.index + 1, life.standing()),
        };
        let nodes: Vec<String> = self.nodes.iter().map(standing).collect();
        let tampered = self.tampered_links();
        if self.phase == Phase::Rest && 0 < tampered {
            fail(TAMPERED_ENDS, format_args!("{tampered} go on\n{}", nodes.join("\n")));
        }
        let missing = match (self.phase, behind) {
            (Phase::Work, Some(node)) => format!("a write at node {} takes no effect", node + 1),
            (Phase::Settle, _) => "clients wait for answers".to_string(),
            (Phase::Audit, _) => format!("{} keys cannot be read", self.account.audit_left()),
            _ => "the nodes differ".to_string(),
        };
        fail(PROGRESS, format_args!("{missing}\n{}", nodes.join("\n")))
    }

    /// The checks of everything that clients were told, and the sums.
    fn close(mut self, waiting: bool) -> Outcome {
        for index in 0..self.clients.len() {
            self.account.lose(&mut self.clients[index], self.now);
        }
        let lied = self.checks.lenient;
        let Account { acknowledged, reads, refused, unknown, .. } = self.account;
        let account = std::mem::replace(&mut self.account, Account::new(0, 0));
        let (history, appended) = account.close();
        let undecided = if lied { 0 } else { self.checks.clients(&history) };
        if !waiting {
            appended.check(&history);
        }
        let mut outcome = Outcome {
            transcript: self.transcript,
            events: self.events,
            simulated: self.now,
            committed: self.checks.applied(),
            acknowledged,
            reads,
            refused,
            unknown,
            failures: self.failures,
            refusals: self.refusals,
            resets: self.resets,
            waiting: u64::from(waiting && !lied),
            lied: u64::from(lied),
            undecided,
            ..Outcome::default()
        };
        for node in &mut self.nodes {
            if let Some(life) = node.life.as_ref().filter(|_| self.liars.contains(node.id())) {
                life.report(&mut Lies(&mut self.coverage));
            }
            outcome.lives += node.lives;
            let running = node.life.as_ref().map(|life| life.keeper.counts).unwrap_or_default();
            outcome.snapshots += node.kept.made + running.made;
            outcome.installed += node.kept.installed + running.installed;
            for harms in node.harms() {
                outcome.torn += harms.torn;
                outcome.errors += harms.errors;
                outcome.full += harms.full;
                outcome.flipped += harms.flipped;
                outcome.unreadable += harms.unreadable;
            }
        }
        outcome.coverage = self.reached(&outcome);
        outcome
    }

    /// What was met with, of what is counted elsewhere too.
    fn reached(&mut self, came_to: &Outcome) -> Coverage {
        let harms: Vec<Harms> = self.nodes.iter_mut().flat_map(Node::harms).collect();
        let misdirected = harms.iter().map(|harms| harms.misdirected).sum();
        let short = harms.iter().map(|harms| harms.short).sum();
        for (what, times) in [
            (Reached::Written, came_to.acknowledged),
            (Reached::Read, came_to.reads),
            (Reached::WriteRefused, came_to.refused),
            (Reached::WriteUnknown, came_to.unknown),
            (Reached::Snapshotted, came_to.snapshots),
            (Reached::Installed, came_to.installed),
            (Reached::Torn, came_to.torn),
            (Reached::WriteFailed, came_to.errors),
            (Reached::DiskFull, came_to.full),
            (Reached::BitFlipped, came_to.flipped),
            (Reached::Unreadable, came_to.unreadable),
            (Reached::Misdirected, misdirected),
            (Reached::ShortTransfer, short),
            (Reached::Ended, came_to.failures),
            (Reached::Refused, came_to.refusals),
            (Reached::Reset, came_to.resets),
            (Reached::Tampered, self.tampered),
            (Reached::Replayed, self.replayed),
        ] {
            self.coverage.saw_times(what, times);
        }
        self.coverage
    }
}

/// Who is woken again and again and has nothing to do would take a whole core.
fn must_rest(vain_wakes: u32, node: usize, impatient: impl FnOnce() -> Vec<&'static str>) {
    let rests = vain_wakes < VAIN_WAKES_MAX;
    hold!(BUSY, rests, "node {}: {:?} with nothing to do", node + 1, impatient());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::violation::violates;

    #[test]
    fn a_calm_cluster_elects_a_leader_and_answers() {
        let outcome = World::run_swarm(1, Swarm::calm(3), 20_000);
        assert!(100 < outcome.acknowledged && 100 < outcome.reads, "{outcome:?}");
        assert_eq!((outcome.failures, outcome.refusals, outcome.waiting, outcome.lives), (0, 0, 0, 3));
    }

    #[test]
    fn a_node_that_never_rests_is_told() {
        must_rest(VAIN_WAKES_MAX - 1, 0, Vec::new);
        violates("no busy waiting", || must_rest(VAIN_WAKES_MAX, 0, || vec!["log"]));
    }

    #[test]
    fn a_cluster_that_does_not_go_on_is_told() {
        let world = World::new(1, Swarm::calm(3));
        violates("progress after healing", || world.stuck(None));
    }
}
