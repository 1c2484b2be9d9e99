//! What goes wrong: drawn after every event, with the chances of the seed's mixture.

use super::sockets::Segment;
use super::swarm::Swarm;
use super::world::{Event, MS, World};
use crate::base::Prng;
use crate::sim::coverage::Reached;
use crate::sim::network::Break;

/// Harm at rest hits what has lain for so long: before that a log cannot tell it from a write that never came to rest.
pub(super) const RESTS_AFTER_MS: u64 = 3_000;

impl World {
    fn any_node(&mut self) -> usize {
        self.prng.below(self.nodes.len() as u64) as usize
    }

    /// A node whose disk is at work, if there is one: that is when a loss of power tears something.
    fn any_busy_node(&mut self) -> usize {
        let is_busy =
            |node: &usize| self.nodes[*node].life.as_ref().is_some_and(|life| 0 < life.driver.outstanding());
        let busy: Vec<usize> = (0..self.nodes.len()).filter(is_busy).collect();
        match busy.len() as u64 {
            0 => self.any_node(),
            count => busy[self.prng.below(count) as usize],
        }
    }

    /// Perhaps something goes wrong now.
    pub(super) fn harm(&mut self) {
        let one_in = |prng: &mut Prng, chance| 0 < chance && prng.chance(chance, 100_000);
        let Swarm { crash, blackout, pause, split, reset, drain, step, tamper, replay, .. } = self.swarm;
        if one_in(&mut self.prng, crash) {
            let power = self.draw_power();
            let node = if power { self.any_busy_node() } else { self.any_node() };
            self.crash(node, power);
        }
        if one_in(&mut self.prng, blackout) {
            let power = self.draw_power();
            self.coverage.saw(Reached::Blackout);
            (0..self.nodes.len()).for_each(|node| self.crash(node, power));
        }
        if one_in(&mut self.prng, pause) {
            let node = self.any_node();
            self.outside[node].paused_until = self.after_us(1_500_000);
            self.coverage.saw(Reached::Paused);
            self.say_of(node, format_args!("pause"));
            let (at, life) = (self.outside[node].paused_until, self.nodes[node].lives);
            self.plan(at, Event::GoOn { node, life });
        }
        if one_in(&mut self.prng, split) {
            if self.network.is_broken() {
                self.network.heal();
                self.say_of_network(format_args!("the network is whole"));
            } else {
                let way = Break::ALL[self.prng.below(Break::ALL.len() as u64) as usize];
                self.network.break_as(way, &mut self.prng);
                let what = way.reached();
                self.coverage.saw(what);
                self.say_of_network(format_args!("{}", what.name()));
            }
        }
        if one_in(&mut self.prng, reset) {
            self.reset();
        }
        if one_in(&mut self.prng, drain) {
            self.drain();
        }
        if one_in(&mut self.prng, step) {
            let node = self.any_node();
            let wall = self.nodes[node].wall;
            self.coverage.saw(Reached::Jumped);
            self.say_of(node, format_args!("its wall clock is set"));
            self.nodes[node].wall = (wall + self.prng.below(20_000)).saturating_sub(10_000);
        }
        if one_in(&mut self.prng, tamper) {
            self.tamper();
        }
        if one_in(&mut self.prng, replay) {
            self.replay();
        }
        self.harm_disks();
    }
    fn draw_power(&mut self) -> bool {
        self.prng.chance(self.swarm.power_of_ten, 10)
    }

    fn harm_disks(&mut self) {
        let one_in = |prng: &mut Prng, chance| 0 < chance && prng.chance(chance, 100_000);
        let Swarm { error, full, slow, flip, wear, misdirect, .. } = self.swarm;
        let few = self.rotting.len() as u64;
        if one_in(&mut self.prng, error) {
            let node = self.any_node();
            let of_log = self.prng.chance(1, 2);
            let node = &mut self.nodes[node];
            if of_log { node.disk().errors_due = 1 } else { node.shelf.errors_due = 1 }
        }
        if one_in(&mut self.prng, full) {
            let node = self.any_node();
            let room = self.prng.below(64 << 10) as usize;
            let disk = self.nodes[node].disk();
            disk.capacity = Some(disk.held() + room);
            self.nodes[node].shelf.capacity = Some(self.nodes[node].shelf.held() + room);
            self.plan_within(5_000_000, Event::DiskWell { node });
        }
        if one_in(&mut self.prng, slow) {
            let node = self.any_node();
            self.outside[node].slow = true;
            self.coverage.saw(Reached::DiskSlow);
            self.say_of(node, format_args!("its disk is slow"));
            self.plan_within(3_000_000, Event::DiskWell { node });
        }
        if 0 < few && one_in(&mut self.prng, flip) {
            let node = self.rotting[self.prng.below(few) as usize];
            self.rot(node, true);
        }
        if 0 < few && one_in(&mut self.prng, wear) {
            let node = self.rotting[self.prng.below(few) as usize];
            self.rot(node, false);
        }
        if 0 < few && one_in(&mut self.prng, misdirect) {
            let node = self.rotting[self.prng.below(few) as usize];
            let seed = self.prng.next_u64();
            self.nodes[node].disk().misdirect = Some((RESTS_AFTER_MS, seed));
        }
    }
    fn rot(&mut self, node: usize, flips: bool) {
        if self.nodes[node].life.is_none() {
            return;
        }
        let of_log = self.prng.chance(3, 4);
        let (node, prng) = (&mut self.nodes[node], &mut self.prng);
        let disk = if of_log { node.disk() } else { &mut node.shelf };
        if flips {
            disk.flip(RESTS_AFTER_MS, prng);
        } else {
            disk.wear(RESTS_AFTER_MS, prng);
        }
    }

    /// A connection is cut in the midst of whatever travels over it: both sides hear of it.
    fn reset(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let at = self.prng.below(self.streams.len() as u64) as usize;
        let id = self.streams.nth(at).expect("within the number");
        self.resets += 1;
        self.void(id);
    }
    fn void(&mut self, id: u64) {
        for side in 0..2 {
            let Some(stream) = self.streams.get(id) else { return };
            stream.pipes[side].flight.clear();
            stream.pipes[side].closed = true;
        }
        for side in 0..2 {
            self.launch(super::driver::Connection { id, side }, Segment::Reset);
        }
    }

    /// A node is told to go down in order, and is gone when it is done or a little later.
    fn drain(&mut self) {
        let node = self.any_node();
        let Some(life) = &self.nodes[node].life else { return };
        life.ending.drain.set(1);
        self.coverage.saw(Reached::Drained);
        self.say_of(node, format_args!("is to go down in order"));
        self.outside[node].draining = true;
        let life = self.nodes[node].lives;
        self.plan_within(1_000, Event::GoOn { node, life });
        let at = self.now + 2_000 * MS;
        self.plan(at, Event::Gone { node, life });
    }
}
