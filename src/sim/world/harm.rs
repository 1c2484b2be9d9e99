//! What goes wrong.

use super::{Event, Outside, Planned, World};
use crate::base::Prng;
use crate::sim::coverage::Reached;
use crate::sim::network::Break;
use crate::sim::swarm::Swarm;

/// A cut that comes and goes does so at most so many times.
const FLAPS_MAX: u64 = 40;
/// A node that crashes as soon as it is back does so at most so many times in a row.
const STORM_MAX: u64 = 5;
/// Wall clocks are set back or forward by up to this many milliseconds.
const JUMP_MS_MAX: u64 = 60_000;

impl World {
    /// Perhaps something goes wrong now: at most one thing an event.
    pub(super) fn harm(&mut self) {
        let Swarm { crash, blackout, pause, split, relink, drain, compact, jump, amend, .. } = self.swarm;
        let mut drawn = self.dice.harm.below(100_000);
        let mut falls_on = |chance: u64| {
            let is_drawn = drawn < chance;
            drawn = if is_drawn { u64::MAX } else { drawn - chance };
            is_drawn
        };
        if falls_on(crash) {
            let node = self.any_node();
            self.crash(node);
        } else if falls_on(compact) {
            let node = self.any_node();
            self.hosts[node].disk.compact();
        } else if falls_on(relink) {
            let (a, b) = (self.any_node(), self.any_node());
            self.relink(a, b);
        } else if falls_on(split) {
            self.break_or_heal();
        } else if falls_on(blackout) {
            self.saw(Reached::Blackout);
            (0..self.hosts.len()).for_each(|node| self.crash(node));
        } else if falls_on(pause) {
            let node = self.any_node();
            self.pause(node);
        } else if falls_on(drain) {
            self.drain();
        } else if falls_on(jump) {
            self.jump();
        } else if falls_on(amend) {
            self.amend();
        }
    }

    pub(super) fn any_node(&mut self) -> usize {
        self.dice.harm.below(self.hosts.len() as u64) as usize
    }

    /// Power is lost. Of the records under way a random prefix survives.
    pub(super) fn crash(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if !host.is_up {
            return;
        }
        let unfinished = host.disk.unfinished();
        let keep = self.dice.harm.below(unfinished as u64 + 1) as usize;
        host.crash(keep);
        if 0 < keep && keep < unfinished {
            self.saw(Reached::Torn);
        }
        // What has not been taken in dies with the node.
        for Planned { event, .. } in std::mem::take(&mut self.outside[node].inbox) {
            if let Event::Deliver { from, .. } = event {
                self.network.arrive(from, node);
            }
        }
        let at = self.after_us(800_000);
        self.plan(at, node, Event::Restart);
    }

    pub(super) fn restart(&mut self, node: usize) {
        let (now, seed) = (self.local(node), self.dice.seeds.next_u64());
        self.hosts[node].start(&self.swarm.common, now, seed);
        let before = std::mem::take(&mut self.outside[node]);
        let storm = if before.storm == 0 { self.draw_storm() } else { before.storm - 1 };
        let snapshot_at = self.hosts[node].machine.applied;
        self.outside[node] = Outside { clock: before.clock, storm, snapshot_at, ..Outside::default() };
        if 0 < storm {
            self.saw(Reached::Storm);
            let at = self.after_us(20_000);
            self.plan(at, node, Event::Crash);
        }
        self.settle(node);
    }

    fn draw_storm(&mut self) -> u64 {
        let dice = &mut self.dice.harm;
        let (is_storm, times) = (dice.chance(self.swarm.storm_of_ten, 10), 1 + dice.below(STORM_MAX));
        if is_storm { times } else { 0 }
    }

    fn pause(&mut self, node: usize) {
        if self.hosts[node].is_up && !self.outside[node].is_paused {
            self.saw(Reached::Paused);
            self.outside[node].is_paused = true;
            let at = self.after_us(1_000_000);
            self.plan(at, node, Event::Resume);
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        self.outside[node].is_paused = false;
        self.unload(node);
    }

    /// A node is told to go down in order, and is gone a little later.
    fn drain(&mut self) {
        let node = self.any_node();
        if self.hosts[node].is_up && !self.outside[node].is_paused {
            self.saw(Reached::Drained);
            let now = self.local(node);
            self.hosts[node].shard.drain(now);
            self.touch(node);
            let at = self.after_us(1_000_000);
            self.plan(at, node, Event::Crash);
        }
    }

    fn jump(&mut self) {
        let node = self.any_node();
        let (is_back, by) = (self.dice.harm.chance(1, 2), self.dice.harm.below(JUMP_MS_MAX));
        let wall = &mut self.outside[node].clock.wall_ms;
        *wall = if is_back { wall.saturating_sub(by) } else { wall.saturating_add(by) };
        self.saw(Reached::Jumped);
    }

    fn break_or_heal(&mut self) {
        if self.network.is_broken() {
            self.mend();
        } else {
            self.break_somehow();
            let dice = &mut self.dice.harm;
            let (flaps, left) = (dice.chance(self.swarm.flap_of_ten, 10), 1 + dice.below(FLAPS_MAX));
            if flaps {
                let at = self.after_us(50_000);
                self.plan(at, 0, Event::Flap { left });
            }
        }
    }

    fn break_somehow(&mut self) {
        let way = Break::ALL[self.dice.harm.below(Break::ALL.len() as u64) as usize];
        let mut dice = Prng::from_seed(self.dice.harm.next_u64());
        self.network.break_as(way, &mut dice);
        self.saw(way.reached());
        if let Some(trace) = &mut self.trace {
            trace.network(self.now, &format!("the network breaks: {way:?}"));
        }
    }

    /// A cut goes or comes, until it has done so often enough or faults are over.
    pub(super) fn flap(&mut self, left: u64) {
        if self.swarm.split == 0 {
            return;
        }
        self.saw(Reached::Flapped);
        if self.network.is_broken() {
            self.mend();
        } else {
            self.break_somehow();
        }
        if 0 < left {
            let at = self.after_us(50_000);
            self.plan(at, 0, Event::Flap { left: left - 1 });
        }
    }

    /// All links are up again.
    pub(super) fn mend(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.network(self.now, "the network heals");
        }
        for (a, b) in self.network.heal() {
            self.relink(a, b);
        }
    }

    pub(super) fn relink(&mut self, a: usize, b: usize) {
        // Who has not come yet has no links.
        if a != b && a.max(b) < self.hosts.len() {
            let (peer_of_a, peer_of_b) = (self.hosts[b].id(), self.hosts[a].id());
            self.lose(a, peer_of_a);
            self.lose(b, peer_of_b);
        }
    }
}
