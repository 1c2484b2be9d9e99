//! Many nodes under random faults. [`World::run`] is one run: events under faults, then healing, progress, equality.
//!
//! - this file: what happens to a node, and what a node does to the world
//! - `members`: the operator, who changes members and keys
//! - `harm`: what goes wrong; `lies`: what corrupted nodes do; `clients`: what is asked of the nodes; `healing`: what must be so when nothing goes wrong any more

mod agenda;
mod clients;
mod clock;
mod harm;
mod healing;
mod lies;
mod members;
mod trace;

use super::adversary::{Adversary, Hunter};
use super::check::Checks;
use super::coverage::{Coverage, Reached};
use super::disk::Snapshot;
use super::host::Host;
use super::liars::{self, Attack};
use super::machine::{Machine, mix};
use super::network::Network;
use super::options::{Fault, Options};
use super::ranges::Brought;
use super::swarm::Swarm;
use super::violation;
use crate::base::{Body, GROUP_ONE, Instant, JobId, NodeId, NodeSet, Prng, Slot, Ticket};
use crate::protocol::{Fetched, Lead};
use crate::replica::Effects;
use crate::wire::Message;
use crate::wire::hop::{Keep, LogFetch, Opened, Outgoing, SnapshotId};
use agenda::Agenda;
use clock::Clock;
use std::collections::VecDeque;
use std::time::Duration;
use trace::Trace;

enum Event {
    Deliver {
        from: usize,
        opened: Opened,
    },
    /// A write has finished.
    Written {
        ticket: Ticket,
    },
    Apply,
    Fetched {
        job: JobId,
        found: Fetched,
    },
    /// A snapshot of the own store becomes durable.
    Snapshotted {
        snapshot: Snapshot,
    },
    /// A leader's snapshot becomes durable.
    Installed {
        snapshot: Snapshot,
    },
    /// What came of a state is not what was certified.
    Poisoned {
        id: SnapshotId,
    },
    /// Ranges of a certified state are wanted next.
    Wanted {
        id: SnapshotId,
        ranges: Body,
    },
    Lost {
        peer: NodeId,
    },
    Wake,
    /// The replica's turn ends.
    Turn,
    /// A pause is over.
    Resume,
    Restart,
    Crash,
    /// The network breaks or heals, and will again so many times.
    Flap {
        left: u64,
    },
}

/// An event happens at a node; except for restarts and messages, in that life only.
struct Planned {
    node: usize,
    boot: u64,
    event: Event,
}

/// What the outside of a node keeps of it.
#[derive(Default)]
struct Outside {
    clock: Clock,
    is_paused: bool,
    /// Peers of which it is about to hear that something may be lost: a number, not a queue.
    lost: NodeSet,
    /// What has come while the node takes nothing: it stands still, or its store is full.
    inbox: VecDeque<Planned>,
    /// Times that it will crash again as soon as it is back.
    storm: u64,
    wake_at: Option<Instant>,
    is_turning: bool,
    is_applying: bool,
    is_snapshotting: bool,
    snapshot_at: Slot,
    /// The newest snapshot under way is durable by then: a later one comes after it.
    snapshots_until: Instant,
    leads: bool,
    front: clients::Front,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of everything that happened, in order.
    pub transcript: u64,
    /// How many events there were.
    pub events: u64,
    /// How long it took in the world.
    pub simulated: Duration,
    /// Slots committed.
    pub committed: u64,
    /// Writes acknowledged to clients.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Liars that a correct node has accused of something.
    pub accused: NodeSet,
    /// Liars that a correct node has proof against.
    pub convicted: NodeSet,
    /// The highest term or view that a correct node has come to.
    pub term: u64,
    /// Lives of all nodes.
    pub lives: u64,
    /// What happened along the way.
    pub coverage: Coverage,
}

/// Where chance comes from: one stream for each purpose, so that a run with one fault less stays as it was for as long as it can.
struct Dice {
    harm: Prng,
    network: Prng,
    clients: Prng,
    times: Prng,
    seeds: Prng,
}

/// The world.
pub struct World {
    now: Instant,
    dice: Dice,
    swarm: Swarm,
    hosts: Vec<Host>,
    outside: Vec<Outside>,
    network: Network,
    adversary: Option<Box<dyn Adversary>>,
    corrupted: NodeSet,
    agenda: Agenda<Planned>,
    checks: Checks,
    effects: Effects,
    events: u64,
    transcript: u64,
    accused: NodeSet,
    operator: members::Operator,
    trace: Option<Trace>,
}

impl World {
    /// One run: `options.events` under the faults that `seed` stands for, then healing. Panics when a property does not hold.
    pub fn run(seed: u64, options: &Options) -> Outcome {
        World::new(seed, options).play(options)
    }

    /// The same run; each input and each effect becomes a line.
    pub fn run_traced(seed: u64, options: &Options, line: impl FnMut(&str) + 'static) -> Outcome {
        let mut world = World::new(seed, options);
        world.trace = Some(Trace::new(line));
        world.play(options)
    }

    /// A run in which someone else decides what becomes of messages.
    pub fn run_against(seed: u64, options: &Options, adversary: Box<dyn Adversary>) -> Outcome {
        let mut world = World::new(seed, options);
        world.face(adversary);
        world.play(options)
    }

    /// A run in which these nodes lie, and no others.
    pub fn run_among(seed: u64, options: &Options, corrupted: NodeSet, attacks: &[Attack]) -> Outcome {
        let honest = Options { faults: options.faults.without(Fault::Liars), ..*options };
        let mut world = World::new(seed, &honest);
        let liars = liars::among(Prng::from_seed(seed ^ 7), &world.swarm.common, corrupted, attacks);
        world.face(Box::new(liars));
        world.play(options)
    }

    fn play(mut self, options: &Options) -> Outcome {
        (0..self.hosts.len()).for_each(|node| self.settle(node));
        while self.events < options.events {
            self.tick();
            self.harm();
            self.want();
        }
        self.heal();
        self.outcome()
    }

    /// The cluster of a seed, which has not yet done anything.
    fn new(seed: u64, options: &Options) -> World {
        let mut prng = Prng::from_seed(seed);
        let swarm = Swarm::draw(&mut prng, options);
        let stream = |number| Prng::from_seed(seed.rotate_left(17) ^ number);
        let dice = Dice {
            harm: stream(1),
            network: stream(2),
            clients: stream(3),
            times: stream(4),
            seeds: stream(5),
        };
        let (nodes, is_amended) = (swarm.common.nodes, swarm.amends);
        let mut outside = Vec::new();
        for _ in 0..nodes {
            let rate = 1000 - swarm.drift_per_mille + prng.below(2 * swarm.drift_per_mille + 1);
            let clock = Clock { rate, offset: prng.below(1 << 40), wall_ms: prng.below(10_000) };
            outside.push(Outside { clock, ..Outside::default() });
        }
        let start = |n: usize| Host::new(n, &swarm.common, Instant(outside[n].clock.offset), prng.next_u64());
        let hosts = (0..nodes).map(start).collect();
        let checks = Checks::of(&swarm.common);
        let hunter = Hunter::new(stream(6), nodes);
        let hunter: Option<Box<dyn Adversary>> = if swarm.hunt { Some(Box::new(hunter)) } else { None };
        let liars = liars::draw(stream(7), &swarm.common, options);
        let mut world = World {
            now: Instant::ZERO,
            dice,
            swarm,
            hosts,
            outside,
            network: Network::new(nodes + if is_amended { members::NEWCOMERS_MAX } else { 0 }),
            adversary: None,
            corrupted: NodeSet::default(),
            agenda: Agenda::new(),
            checks,
            effects: Effects::default(),
            events: 0,
            transcript: seed,
            accused: NodeSet::default(),
            operator: members::Operator::default(),
            trace: None,
        };
        if let Some(adversary) = liars.map(|liars| Box::new(liars) as Box<dyn Adversary>).or(hunter) {
            world.face(adversary);
        }
        world
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            transcript: self.transcript,
            events: self.events,
            simulated: self.now.since(Instant::ZERO),
            committed: self.checks.state_machine_safety.reference().applied.0,
            acknowledged: self.checks.exactly_once.acknowledged,
            reads: self.checks.linearizability.reads,
            accused: self.accused,
            convicted: self.checks.convicted(),
            term: self.correct().map(|host| host.engine().standing().term).max().unwrap_or(0),
            lives: self.hosts.iter().map(|h| h.boot).sum(),
            coverage: self.checks.coverage,
        }
    }

    fn plan(&mut self, at: Instant, node: usize, event: Event) {
        let boot = self.hosts[node].boot;
        self.agenda.plan(at, Planned { node, boot, event });
    }
    fn after_us(&mut self, max: u64) -> Instant {
        self.now.after(Duration::from_micros(1 + self.dice.times.below(max)))
    }
    fn local(&self, node: usize) -> Instant {
        self.outside[node].clock.local(self.now)
    }
    fn saw(&mut self, what: Reached) {
        self.checks.coverage.saw(what);
    }

    /// The next thing happens.
    fn tick(&mut self) {
        let (at, planned) = self.agenda.next().expect("cores always ask for a deadline");
        self.now = self.now.max(at);
        self.events += 1;
        violation::at(self.events);
        self.take(planned);
        self.welcome();
    }

    /// Something comes to a node, which may have no room for it now.
    fn take(&mut self, planned: Planned) {
        let node = planned.node;
        let is_outside =
            matches!(planned.event, Event::Restart | Event::Crash | Event::Resume | Event::Flap { .. });
        let needs_room = !is_outside && !matches!(planned.event, Event::Apply | Event::Turn);
        let is_held = self.outside[node].is_paused && !is_outside;
        if is_held {
            self.outside[node].inbox.push_back(planned);
        } else if needs_room && self.swarm.decided_max <= self.hosts[node].decided.len() {
            self.saw(Reached::Stalled);
            self.outside[node].inbox.push_back(planned);
        } else {
            self.happen(planned);
        }
    }

    /// A node may have room again: what has come meanwhile is taken, in order.
    fn unload(&mut self, node: usize) {
        for planned in std::mem::take(&mut self.outside[node].inbox) {
            self.take(planned);
        }
    }

    fn happen(&mut self, Planned { node, boot, event }: Planned) {
        if let Event::Deliver { from, .. } = event {
            self.network.arrive(from, node);
        }
        let host = &self.hosts[node];
        let is_meant = match event {
            Event::Restart => !host.is_up,
            Event::Deliver { .. } => host.is_up,
            Event::Flap { .. } => true,
            _ => host.is_up && host.boot == boot,
        };
        if is_meant {
            if let Some(trace) = &mut self.trace {
                trace.happens(self.now, node, &event);
            }
            match event {
                Event::Restart => self.restart(node),
                Event::Crash => self.crash(node),
                Event::Resume => self.resume(node),
                Event::Flap { left } => self.flap(left),
                Event::Turn => self.settle(node),
                Event::Apply => {
                    self.apply(node);
                    self.touch(node);
                    self.unload(node);
                }
                event => self.tell(node, event),
            }
        }
    }

    /// A fact for the replica of a node.
    fn tell(&mut self, node: usize, event: Event) {
        let now = self.local(node);
        let host = &mut self.hosts[node];
        match event {
            Event::Deliver { opened, .. } => {
                host.shard.receive(now, self.outside[node].clock.stamp(self.now), opened);
            }
            Event::Written { ticket } => match host.disk.finish(ticket) {
                Some(watermark) => host.shard.durable(now, watermark),
                None => return,
            },
            Event::Fetched { job, found } => {
                if matches!(found, Fetched::Entries(_)) {
                    self.checks.coverage.saw(Reached::Fetched);
                }
                host.shard.fetched(now, GROUP_ONE, job, found);
            }
            Event::Snapshotted { snapshot } => {
                let (id, bytes) = (snapshot.id, snapshot.bytes.len() as u64);
                host.disk.keep_snapshot(snapshot);
                self.outside[node].is_snapshotting = false;
                host.shard.snapshotted(now, id, bytes);
            }
            Event::Installed { snapshot } => self.installed(node, &snapshot),
            Event::Poisoned { id } => host.shard.poisoned(now, id),
            Event::Wanted { id, ranges } => host.shard.wanted(now, id, ranges),
            Event::Lost { peer } => {
                self.outside[node].lost.remove(peer);
                host.shard.lost(now, peer);
            }
            Event::Wake => self.outside[node].wake_at = None,
            Event::Restart
            | Event::Crash
            | Event::Resume
            | Event::Flap { .. }
            | Event::Turn
            | Event::Apply => {
                unreachable!("no facts for a replica")
            }
        }
        self.touch(node);
    }

    fn installed(&mut self, node: usize, snapshot: &Snapshot) {
        let now = self.local(node);
        let host = &mut self.hosts[node];
        host.install(snapshot);
        let last = host.machine.last_of(host.origin());
        let members = Body::new(Machine::load(&snapshot.bytes).members.bytes().into());
        host.shard.installed(now, snapshot.id, snapshot.bytes.len() as u64, members, last);
        // Their effects came without replies.
        self.outside[node].front.superseded(last);
        if !self.corrupted.contains(self.hosts[node].id()) {
            self.checks.applied(&self.hosts[node], self.hosts[node].machine.applied);
        }
        self.saw(Reached::Installed);
    }

    /// A fact has been told. The turn ends now or soon, and takes in what comes meanwhile.
    fn touch(&mut self, node: usize) {
        if self.swarm.turn_us_max == 0 {
            self.settle(node);
        } else if !self.outside[node].is_turning {
            self.outside[node].is_turning = true;
            let at = self.after_us(self.swarm.turn_us_max);
            self.plan(at, node, Event::Turn);
        }
    }

    /// Ends a node's burst: its checkers first, then what it wants from the world.
    fn settle(&mut self, node: usize) {
        self.outside[node].is_turning = false;
        let (now, stamp) = (self.local(node), self.outside[node].clock.stamp(self.now));
        let mut effects = std::mem::take(&mut self.effects);
        self.hosts[node].shard.settle(now, stamp, &mut effects);
        let id = self.hosts[node].id();
        if !self.corrupted.contains(id) {
            self.checks.burst(&self.hosts, node, &effects);
        }
        self.look(node, &effects);
        if let Some(trace) = &mut self.trace {
            trace.wants(self.now, node, &effects);
        }
        for Outgoing { to, message, .. } in effects.outgoing.drain(..) {
            self.leave(node, to, message);
        }
        if let Some(ticket) = self.hosts[node].disk.write(std::mem::take(&mut effects.records)) {
            let at = self.after_us(self.swarm.write_us_max);
            self.plan(at, node, Event::Written { ticket });
        }
        self.hosts[node].decided.extend(effects.decided.drain(..));
        if !self.outside[node].is_applying && !self.hosts[node].decided.is_empty() {
            self.outside[node].is_applying = true;
            let at = self.after_us(self.swarm.apply_us_max);
            self.plan(at, node, Event::Apply);
        }
        effects.fetches.drain(..).for_each(|fetch| self.fetch(node, fetch));
        effects.keeps.drain(..).for_each(|keep| self.keep(node, keep));
        effects.answers.drain(..).for_each(|answer| self.answer(node, &answer));
        let is_correct = !self.corrupted.contains(id);
        for fault in effects.faults.drain(..).filter(|_| is_correct) {
            self.accuse(node, &fault);
        }
        self.effects = effects;
        self.plan_wake(node);
    }

    /// Notes what a burst has come to: in the transcript's hash, and in what the run has met with.
    fn look(&mut self, node: usize, effects: &Effects) {
        let engine = self.hosts[node].engine();
        let (standing, leads) = (engine.standing(), engine.is_leader());
        let sizes =
            [effects.outgoing.len(), effects.records.len(), effects.decided.len(), effects.answers.len()];
        let what =
            [self.now.0, node as u64, standing.term, standing.commit.0, standing.last.0, u64::from(leads)];
        let all = what.into_iter().chain(sizes.map(|size| size as u64));
        self.transcript = all.fold(self.transcript, mix);
        if leads != std::mem::replace(&mut self.outside[node].leads, leads) {
            self.saw(if leads { Reached::Elected } else { Reached::Deposed });
        }
    }

    fn plan_wake(&mut self, node: usize) {
        let Some(due) = self.hosts[node].shard.deadline() else { return };
        let outside = &mut self.outside[node];
        let soonest = Instant(self.now.0 + 1000);
        let at = Instant(outside.clock.world(due).0 + 1000).max(soonest);
        if outside.wake_at.is_none_or(|planned| at < planned) {
            outside.wake_at = Some(at);
            self.plan(at, node, Event::Wake);
        }
    }

    /// The network takes a message.
    fn transmit(&mut self, node: usize, to: NodeId, message: Message, hold: Option<Duration>) {
        let (from, to_id, to) = (self.hosts[node].id(), to, to.0 as usize - 1);
        assert_ne!(node, to);
        let Swarm { drop_per_mille, repeat_per_mille, late_per_mille, delay_us_max, keeps_order, .. } =
            self.swarm;
        let dice = &mut self.dice.network;
        let (is_lost, is_repeated) = (dice.chance(drop_per_mille, 1000), dice.chance(repeat_per_mille, 1000));
        let is_late = dice.chance(late_per_mille, 1000);
        let is_there = to < self.hosts.len();
        if is_lost || !is_there || !self.network.is_up(node, to) {
            return;
        }
        if self.swarm.queue_max <= self.network.holds(node, to) {
            self.saw(Reached::Overflow);
            return self.lose(node, to_id);
        }
        // A core must endure repeated messages; a route may rely on the counters of the link, which lets no frame in twice: it
        // believes that a batch was not appended when the one frame that carried it was refused.
        let is_repeated = is_repeated && !matches!(message, Message::Forward(_));
        let opened = Opened::assumed(from, GROUP_ONE, message);
        let again = is_repeated.then(|| opened.clone());
        let delay = if is_late { 2_000_000 } else { delay_us_max };
        for opened in again.into_iter().chain([opened]) {
            let micros = 1 + self.dice.network.below(delay);
            let at = self.now.after(hold.unwrap_or_default() + Duration::from_micros(micros));
            let at = self.network.send(node, to, at, keeps_order);
            self.plan(at, to, Event::Deliver { from: node, opened });
        }
    }

    /// A node will hear that something it sent to `peer` may be lost: once, however much it is.
    fn lose(&mut self, node: usize, peer: NodeId) {
        if self.hosts[node].is_up && self.outside[node].lost.insert(peer) {
            let at = self.after_us(self.swarm.delay_us_max);
            self.plan(at, node, Event::Lost { peer });
        }
    }

    fn fetch(&mut self, node: usize, fetch: LogFetch) {
        let LogFetch { job, from, count, bytes, .. } = fetch;
        let found = self.hosts[node].disk.entries(from, count, bytes);
        let at = self.after_us(self.swarm.write_us_max);
        self.plan(at, node, Event::Fetched { job, found });
    }

    fn keep(&mut self, node: usize, keep: Keep) {
        let at = self.after_us(self.swarm.write_us_max);
        match keep {
            Keep::Piece { id, offset, total, body } => {
                let Some(snapshot) = self.hosts[node].stage(id, offset, total, body.bytes()) else { return };
                self.plan(at, node, Event::Installed { snapshot });
            }
            Keep::Range { id, offset, total, body, certified } => {
                let event = match self.hosts[node].gather(id, (offset, total, body.bytes()), &certified) {
                    Brought::Nothing => return,
                    Brought::Wanted(ranges) => Event::Wanted { id, ranges },
                    Brought::Poisoned => Event::Poisoned { id },
                    Brought::Whole(snapshot) => Event::Installed { snapshot },
                };
                self.plan(at, node, event);
            }
            Keep::FetchRange { job, slot, ranges, offset, bytes, .. } => {
                let found = self.hosts[node].disk.range_piece(slot, ranges.bytes(), offset, bytes);
                self.plan(at, node, Event::Fetched { job, found });
            }
            Keep::Fetch { job, slot, offset, bytes, .. } => {
                let found = self.hosts[node].disk.piece(slot, offset, bytes);
                self.plan(at, node, Event::Fetched { job, found });
            }
            Keep::Proof { proof, .. } => self.hosts[node].disk.proofs.push(proof),
            Keep::Begin(_) | Keep::Chunk(_) | Keep::End => unreachable!("a shard says no such thing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::adversary::{Fate, Word};
    use crate::sim::options::Faults;

    #[test]
    fn a_run_is_a_function_of_its_seed() {
        let options = Options::of(3000);
        let (first, again, other) =
            (World::run(7, &options), World::run(7, &options), World::run(8, &options));
        assert_eq!(first, again);
        assert_ne!(first.transcript, other.transcript);
        assert!(0 < first.committed);
        let traced = World::run_traced(7, &options, |_| ());
        assert_eq!(traced, first, "who looks on changes nothing");
    }

    #[test]
    fn a_world_without_faults_has_one_life_a_node() {
        let options = Options { faults: Faults::NONE, nodes: Some(3), ..Options::of(3000) };
        let outcome = World::run(1, &options);
        assert_eq!(outcome.lives, 3);
        assert!(0 < outcome.acknowledged + outcome.reads, "{outcome:?}");
    }

    /// Loses everything that one node says.
    struct Mute(NodeId);
    impl Adversary for Mute {
        fn corrupted(&self) -> NodeSet {
            [self.0].into_iter().collect()
        }
        fn instead(&mut self, _: Instant, _: Word, _: &mut Vec<Word>) {}
        fn fate(&mut self, _: Instant, from: NodeId, _: NodeId, _: &Message) -> Fate {
            assert_ne!(from, self.0, "what a corrupted node sends is not the network's to judge");
            Fate::Pass
        }
    }

    #[test]
    fn an_adversary_speaks_for_the_nodes_that_it_has_corrupted() {
        let options = Options { faults: Faults::NONE, nodes: Some(3), ..Options::of(3000) };
        let mut world = World::new(1, &options);
        world.face(Box::new(Mute(NodeId(1))));
        (0..3).for_each(|node| world.settle(node));
        while world.events < 3000 {
            world.tick();
            world.want();
        }
        assert!(!world.hosts[0].engine().is_leader(), "nobody hears it");
        assert!(world.hosts[1..].iter().any(|host| host.engine().is_leader()));
    }
}
