//! Many nodes under random faults. [`World::run`] is one run: events under faults, then healing, progress, equality.

use super::check::{Checks, progress};
use super::disk::Snapshot;
use super::host::{Effect, Host};
use super::machine::mix;
use super::network::Network;
use super::swarm::Swarm;
use crate::base::{Body, GROUP_ONE, Instant, JobId, NodeId, Prng, Slot, Stamp, Ticket};
use crate::protocol::Fetched;
use crate::replica::Effects;
use crate::wire::Message;
use crate::wire::hop::{Answer, Demand, Failure, Keep, LogFetch, Opened, Outgoing};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// How long a healed cluster may take to make progress and become equal.
const HEALING_MAX: Duration = Duration::from_secs(60);

enum Event {
    Deliver {
        opened: Opened,
    },
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
    Lost {
        peer: NodeId,
    },
    Wake,
    Restart,
    Crash,
}

/// An event happens at a node; except for restarts and messages, in that life only.
struct Planned {
    node: usize,
    boot: u64,
    event: Event,
}

/// What the outside of a node keeps of it.
#[derive(Clone, Default)]
struct Outside {
    /// Local time is `offset + now * rate / 1000`.
    rate: u64,
    offset: u64,
    /// The wall clock is so many milliseconds ahead.
    wall: u64,
    paused_until: Instant,
    wake_at: Option<Instant>,
    applying: bool,
    snapshotting: bool,
    snapshot_at: Slot,
    /// Numbers of this life's front.
    sequence: u64,
    read: u64,
    /// What clients of this life wait for, and what had been shown when they asked.
    writes: BTreeMap<u64, Slot>,
    reads: BTreeMap<u64, Slot>,
    /// Writes that were acknowledged in all lives.
    written: u64,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of everything that happened, in order.
    pub transcript: u64,
    /// How many events there were.
    pub events: u64,
    /// Slots committed.
    pub committed: u64,
    /// Writes acknowledged to clients.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Snapshots that went from a leader to a follower.
    pub installed: u64,
    /// Misdeeds that nodes accused each other of: none, for nobody lies here.
    pub faults: u64,
    /// Lives of all nodes.
    pub lives: u64,
}

/// The world.
pub struct World {
    now: Instant,
    prng: Prng,
    swarm: Swarm,
    hosts: Vec<Host>,
    outside: Vec<Outside>,
    network: Network,
    is_broken: bool,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    plans: BTreeMap<u64, Planned>,
    serial: u64,
    checks: Checks,
    effects: Effects,
    events: u64,
    transcript: u64,
    installed: u64,
    faults: u64,
}

impl World {
    /// One run: `events` under the faults that `seed` stands for, then healing. Panics when a property does not hold.
    pub fn run(seed: u64, events: u64) -> Outcome {
        let mut world = World::new(seed);
        while world.events < events {
            world.tick();
            world.harm();
            world.want();
        }
        world.heal();
        world.outcome()
    }

    /// The cluster of a seed, just started.
    pub fn new(seed: u64) -> World {
        let mut prng = Prng::from_seed(seed);
        let swarm = Swarm::draw(&mut prng);
        let nodes = swarm.common.nodes;
        let mut outside = Vec::new();
        for _ in 0..nodes {
            let rate = 1000 - swarm.drift_per_mille + prng.below(2 * swarm.drift_per_mille + 1);
            let (offset, wall) = (prng.below(1 << 40), prng.below(10_000));
            outside.push(Outside { rate, offset, wall, ..Outside::default() });
        }
        let hosts = (0..nodes)
            .map(|n| Host::new(n, &swarm.common, Instant(outside[n].offset), prng.next_u64()))
            .collect();
        let mut world = World {
            now: Instant::ZERO,
            prng,
            swarm,
            hosts,
            outside,
            network: Network::new(nodes),
            is_broken: false,
            queue: BinaryHeap::new(),
            plans: BTreeMap::new(),
            serial: 0,
            checks: Checks::default(),
            effects: Effects::default(),
            events: 0,
            transcript: seed,
            installed: 0,
            faults: 0,
        };
        (0..nodes).for_each(|node| world.settle(node));
        world
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            transcript: self.transcript,
            events: self.events,
            committed: self.checks.state_machine_safety.reference().applied.0,
            acknowledged: self.checks.exactly_once.acknowledged,
            reads: self.checks.linearizability.reads,
            installed: self.installed,
            faults: self.faults,
            lives: self.hosts.iter().map(|h| h.boot).sum(),
        }
    }

    fn plan(&mut self, at: Instant, node: usize, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial)));
        self.plans.insert(self.serial, Planned { node, boot: self.hosts[node].boot, event });
    }
    fn after_us(&mut self, max: u64) -> Instant {
        self.now.after(Duration::from_micros(1 + self.prng.below(max)))
    }
    fn any_node(&mut self) -> usize {
        self.prng.below(self.hosts.len() as u64) as usize
    }
    fn local(&self, node: usize) -> Instant {
        let Outside { rate, offset, .. } = self.outside[node];
        Instant(offset + self.now.0 / 1000 * rate)
    }
    fn clock(&self, node: usize) -> Stamp {
        Stamp(self.outside[node].wall + self.now.0 / 1_000_000)
    }

    /// Lets the next event happen.
    fn tick(&mut self) {
        let Reverse((at, serial)) = self.queue.pop().expect("somebody always waits for a time-out");
        assert!(self.now <= at);
        self.now = at;
        let Planned { node, boot, event } = self.plans.remove(&serial).expect("each serial names one event");
        let paused = self.outside[node].paused_until;
        if at < paused {
            self.serial += 1;
            self.queue.push(Reverse((paused, self.serial)));
            self.plans.insert(self.serial, Planned { node, boot, event });
            return;
        }
        self.events += 1;
        let host = &self.hosts[node];
        let meant = match event {
            Event::Restart => !host.is_up,
            Event::Deliver { .. } => host.is_up,
            _ => host.is_up && host.boot == boot,
        };
        if meant {
            self.happen(node, event);
        }
    }

    fn happen(&mut self, node: usize, event: Event) {
        let (now, clock) = (self.local(node), self.clock(node));
        let host = &mut self.hosts[node];
        match event {
            Event::Deliver { opened } => host.shard.receive(now, clock, opened),
            Event::Written { ticket } => match host.disk.finish(ticket) {
                Some(watermark) => host.shard.durable(now, watermark),
                None => return,
            },
            Event::Apply => self.apply(node),
            Event::Fetched { job, found } => host.shard.fetched(now, GROUP_ONE, job, found),
            Event::Snapshotted { snapshot } => {
                let (id, bytes) = (snapshot.id, snapshot.bytes.len() as u64);
                host.disk.keep_snapshot(snapshot);
                self.outside[node].snapshotting = false;
                host.shard.snapshotted(now, id, bytes);
            }
            Event::Installed { snapshot } => {
                host.install(&snapshot);
                self.installed += 1;
                let (id, bytes) = (snapshot.id, snapshot.bytes.len() as u64);
                let last = host.machine.last_of(host.origin());
                // Their effects came without replies.
                let outside = &mut self.outside[node];
                outside.writes = outside.writes.split_off(&(last + 1));
                host.shard.installed(now, id, bytes, last);
            }
            Event::Lost { peer } => host.shard.lost(now, peer),
            Event::Wake => self.outside[node].wake_at = None,
            Event::Restart => return self.restart(node),
            Event::Crash => return self.crash(node),
        }
        self.settle(node);
    }

    /// The store takes some of what is decided.
    fn apply(&mut self, node: usize) {
        let count = 1 + self.prng.below(20) as usize;
        let effects = self.hosts[node].apply(count);
        for effect in effects {
            let (host, outside) = (&self.hosts[node], &mut self.outside[node]);
            match effect {
                Effect::Applied(slot) if slot == host.machine.applied => self.checks.applied(host, slot),
                Effect::Applied(_) => (),
                Effect::Written { sequence, slot } => {
                    self.checks.exactly_once.acknowledged(host.origin(), sequence, slot);
                    outside.written += 1;
                    if let Some(invoked) = outside.writes.remove(&sequence) {
                        self.checks.linearizability.wrote(invoked, slot);
                    }
                }
                Effect::Read { id } => {
                    let invoked = outside.reads.remove(&id).expect("a read is answered once");
                    self.checks.linearizability.read(invoked, host.machine.applied);
                }
            }
        }
        self.outside[node].applying = false;
        let (now, applied) = (self.local(node), self.hosts[node].machine.applied);
        self.hosts[node].shard.applied(now, GROUP_ONE, applied, 0, None);
        let outside = &mut self.outside[node];
        if !outside.snapshotting && outside.snapshot_at.0 + self.swarm.snapshot_every <= applied.0 {
            outside.snapshotting = true;
            outside.snapshot_at = applied;
            let machine = &self.hosts[node].machine;
            let snapshot = Snapshot { id: machine.id(GROUP_ONE), bytes: machine.save() };
            let at = self.after_us(20 * self.swarm.write_us_max);
            self.plan(at, node, Event::Snapshotted { snapshot });
        }
    }

    /// Ends a node's burst: its checkers first, then what it wants from the world.
    fn settle(&mut self, node: usize) {
        let (now, clock) = (self.local(node), self.clock(node));
        let mut effects = std::mem::take(&mut self.effects);
        self.hosts[node].shard.settle(now, clock, &mut effects);
        self.checks.burst(&self.hosts, node, &effects);
        let standing = self.hosts[node].raft().standing();
        let what = [self.now.0, node as u64, standing.term, standing.commit.0, standing.last.0];
        self.transcript = what.into_iter().fold(self.transcript, mix);
        for Outgoing { to, message, .. } in effects.outgoing.drain(..) {
            let from = self.hosts[node].id();
            self.transmit(node, to, Opened::assumed(from, GROUP_ONE, message));
        }
        if let Some(ticket) = self.hosts[node].disk.write(std::mem::take(&mut effects.records)) {
            let at = self.after_us(self.swarm.write_us_max);
            self.plan(at, node, Event::Written { ticket });
        }
        self.hosts[node].decided.extend(effects.decided.drain(..));
        if !self.outside[node].applying && !self.hosts[node].decided.is_empty() {
            self.outside[node].applying = true;
            let at = self.after_us(self.swarm.apply_us_max);
            self.plan(at, node, Event::Apply);
        }
        effects.fetches.drain(..).for_each(|fetch| self.fetch(node, fetch));
        effects.keeps.drain(..).for_each(|keep| self.keep(node, keep));
        effects.answers.drain(..).for_each(|answer| self.answer(node, answer));
        self.faults += effects.faults.drain(..).count() as u64;
        self.effects = effects;
        self.plan_wake(node);
    }

    fn plan_wake(&mut self, node: usize) {
        let Some(due) = self.hosts[node].shard.deadline() else { return };
        let Outside { rate, offset, wake_at, .. } = self.outside[node];
        let at = Instant(due.0.saturating_sub(offset).div_ceil(rate) * 1000 + 1000)
            .max(Instant(self.now.0 + 1000));
        if wake_at.is_none_or(|planned| at < planned) {
            self.outside[node].wake_at = Some(at);
            self.plan(at, node, Event::Wake);
        }
    }

    fn transmit(&mut self, node: usize, to: NodeId, opened: Opened) {
        let to = to.0 as usize - 1;
        assert_ne!(node, to);
        if !self.network.is_up(node, to) || self.prng.chance(self.swarm.drop_per_mille, 1000) {
            return;
        }
        // A core must endure repeated messages; a route may rely on the counters of the link, which lets no frame in twice: it
        // believes that a batch was not appended when the one frame that carried it was refused.
        let repeats = !matches!(opened.message, Message::Forward(_));
        let copies = 1 + u64::from(repeats && self.prng.chance(self.swarm.repeat_per_mille, 1000));
        for _ in 0..copies {
            let is_late = self.prng.chance(self.swarm.late_per_mille, 1000);
            let at = self.after_us(if is_late { 2_000_000 } else { self.swarm.delay_us_max });
            self.plan(at, to, Event::Deliver { opened: opened.clone() });
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
                if let Some(snapshot) = self.hosts[node].stage(id, offset, total, body.bytes()) {
                    self.plan(at, node, Event::Installed { snapshot });
                }
            }
            Keep::Fetch { job, slot, offset, bytes, .. } => {
                let found = self.hosts[node].disk.piece(slot, offset, bytes);
                self.plan(at, node, Event::Fetched { job, found });
            }
            Keep::Begin(_) | Keep::Chunk(_) | Keep::End => unreachable!("a shard says no such thing"),
        }
    }

    fn answer(&mut self, node: usize, answer: Answer) {
        let (origin, outside) = (self.hosts[node].origin(), &mut self.outside[node]);
        match answer {
            Answer::WriteFailed { sequence, why } => {
                outside.writes.remove(&sequence);
                if why != Failure::Indeterminate {
                    self.checks.exactly_once.refused(origin, sequence);
                }
            }
            Answer::ReadFailed { id, .. } => {
                outside.reads.remove(&id);
            }
            Answer::Write { .. } | Answer::Read { .. } | Answer::Superseded { .. } => {
                unreachable!("the store answers these")
            }
        }
    }

    /// Perhaps something goes wrong now.
    fn harm(&mut self) {
        let one_in = |prng: &mut Prng, chance| prng.chance(chance, 100_000);
        let Swarm { crash, blackout, pause, split, relink, drain, compact, .. } = self.swarm;
        if one_in(&mut self.prng, crash) {
            let node = self.any_node();
            self.crash(node);
        }
        if one_in(&mut self.prng, blackout) {
            (0..self.hosts.len()).for_each(|node| self.crash(node));
        }
        if one_in(&mut self.prng, pause) {
            let node = self.any_node();
            self.outside[node].paused_until = self.after_us(1_000_000);
        }
        if one_in(&mut self.prng, split) {
            if self.is_broken {
                self.mend();
            } else {
                self.network.break_somehow(&mut self.prng);
            }
            self.is_broken = !self.is_broken;
        }
        if one_in(&mut self.prng, relink) {
            let (a, b) = (self.any_node(), self.any_node());
            self.relink(a, b);
        }
        if one_in(&mut self.prng, drain) {
            self.drain();
        }
        if one_in(&mut self.prng, compact) {
            let node = self.any_node();
            self.hosts[node].disk.compact();
        }
    }

    fn crash(&mut self, node: usize) {
        if self.hosts[node].is_up {
            let keep = self.prng.below(self.hosts[node].disk.unfinished() as u64 + 1) as usize;
            self.hosts[node].crash(keep);
            let at = self.after_us(800_000);
            self.plan(at, node, Event::Restart);
        }
    }

    fn restart(&mut self, node: usize) {
        let (now, seed) = (self.local(node), self.prng.next_u64());
        self.hosts[node].start(&self.swarm.common, now, seed);
        let Outside { rate, offset, wall, paused_until, written, .. } = self.outside[node].clone();
        // Wall clocks are set forward and back.
        let wall = wall.saturating_add(self.prng.below(1000)).saturating_sub(500);
        let snapshot_at = self.hosts[node].machine.applied;
        self.outside[node] =
            Outside { rate, offset, wall, paused_until, written, snapshot_at, ..Outside::default() };
        self.settle(node);
    }

    /// A node is told to go down in order, and is gone a little later.
    fn drain(&mut self) {
        let node = self.any_node();
        if self.hosts[node].is_up {
            let now = self.local(node);
            self.hosts[node].shard.drain(now);
            self.settle(node);
            let at = self.after_us(1_000_000);
            self.plan(at, node, Event::Crash);
        }
    }

    fn mend(&mut self) {
        for (a, b) in self.network.heal() {
            self.relink(a, b);
        }
    }

    fn relink(&mut self, a: usize, b: usize) {
        if a != b {
            let at = self.after_us(self.swarm.delay_us_max);
            let (peer_of_a, peer_of_b) = (self.hosts[b].id(), self.hosts[a].id());
            self.plan(at, a, Event::Lost { peer: peer_of_a });
            self.plan(at, b, Event::Lost { peer: peer_of_b });
        }
    }

    /// Perhaps a client wants something now.
    fn want(&mut self) {
        if self.prng.chance(self.swarm.demand_per_mille, 1000) {
            let node = self.any_node();
            let is_read = self.prng.chance(self.swarm.reads_of_ten, 10);
            self.demand(node, is_read);
        }
    }

    fn demand(&mut self, node: usize, is_read: bool) {
        let host = &mut self.hosts[node];
        if !host.is_up || !host.shard.has_room(GROUP_ONE) || self.now < self.outside[node].paused_until {
            return;
        }
        let (outside, invoked) = (&mut self.outside[node], self.checks.linearizability.invoked());
        let demand = if is_read {
            outside.read += 1;
            outside.reads.insert(outside.read, invoked);
            Demand::Read { id: outside.read, body: Bytes::new() }
        } else {
            outside.sequence += 1;
            outside.writes.insert(outside.sequence, invoked);
            let (key, value) = (self.prng.below(8) as u8, self.prng.next_u64());
            let body = [[key; 8], value.to_le_bytes()].concat();
            Demand::Write { sequence: outside.sequence, body: Body::new(body.into()), growth: 1 }
        };
        let now = self.local(node);
        self.hosts[node].shard.demand(now, GROUP_ONE, demand);
        self.settle(node);
    }

    /// Everything works again: the cluster must make progress at every node, and become equal.
    fn heal(&mut self) {
        self.swarm.calm();
        self.mend();
        for node in 0..self.hosts.len() {
            self.outside[node].paused_until = Instant::ZERO;
            // A node that is going down in order takes nothing any more: it comes back.
            self.crash(node);
        }
        let (begun, written) = (self.now, self.outside.iter().map(|o| o.written).collect::<Vec<_>>());
        loop {
            self.tick();
            let behind = (0..self.hosts.len()).find(|n| self.outside[*n].written == written[*n]);
            let is_equal = progress::is_equal(&self.hosts, self.checks.state_machine_safety.reference());
            match behind {
                None if is_equal => return,
                Some(node) if self.outside[node].writes.is_empty() => self.demand(node, false),
                Some(_) | None => (),
            }
            if HEALING_MAX < self.now.since(begun) {
                let missing =
                    if behind.is_some() { "a node's writes take no effect" } else { "nodes differ" };
                progress::fail(&self.hosts, self.checks.state_machine_safety.reference(), missing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_function_of_its_seed() {
        let (first, again, other) = (World::run(7, 3000), World::run(7, 3000), World::run(8, 3000));
        assert_eq!(first, again);
        assert_ne!(first.transcript, other.transcript);
        assert!(0 < first.committed);
    }
}
