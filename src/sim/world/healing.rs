//! After the faults: what must be so when nothing goes wrong any more, and what may not be demanded.
//!
//! 1. The network is cut in two once more. Whatever clients asked for ends on both sides, with an answer or an error. A side with a
//!    majority makes progress at each of its nodes; a side without may wait, and a run does not fail because it does.
//! 2. The cut heals. All replicas become equal without new writes, then each node's clients write once more.

use super::World;
use crate::protocol::Engine;
use crate::sim::check::progress::{self, Right};
use crate::sim::coverage::Reached;
use std::time::Duration;

/// A node that applies nothing more for so long, and has not what is awaited, is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// However much is applied, each step ends: with limits as tiny as a seed may draw them, reading a long log back takes minutes.
const STEP_MAX: Duration = Duration::from_secs(1200);

impl World {
    /// Everything works again, part by part.
    pub(super) fn heal(&mut self) {
        self.swarm.calm();
        self.adversary = self.adversary.take().filter(|_| !self.corrupted.is_empty());
        if let Some(adversary) = &mut self.adversary {
            adversary.calm();
        }
        self.mend();
        for node in 0..self.hosts.len() {
            if self.outside[node].is_paused {
                self.resume(node);
            }
            self.outside[node].storm = 0;
        }
        self.until_settled();
        let nodes = self.hosts.len();
        let side = self.dice.harm.below(1 << nodes);
        self.network.split(side);
        // Nothing is demanded of those that lie, nor of a part in which they may be all that speak.
        let correct = self.correct_members();
        for part in [side, !side & ((1 << nodes) - 1)] {
            self.heal_part(part & correct);
        }
        self.mend();
        self.until_equal(correct);
        self.until_each_writes(correct);
        self.until_equal(correct);
    }

    /// The members that do not lie.
    pub(super) fn correct_members(&self) -> u64 {
        self.members() & !(self.corrupted.0 >> 1)
    }

    /// How many nodes must agree. One that lies may be in an epoch that is over.
    fn quorum(&self) -> usize {
        match self.hosts[self.correct_members().trailing_zeros() as usize].engine() {
            Engine::Raft(_) => self.hosts.len() / 2 + 1,
            Engine::Pbft(pbft) => pbft.quorum().strong(),
        }
    }

    fn heal_part(&mut self, part: u64) {
        match progress::right_of(part, self.quorum()) {
            Right::Nobody => (),
            Right::ToWait => {
                self.until_quiet(part);
                self.saw(Reached::RightToWait);
            }
            Right::ToProgress => {
                self.until_quiet(part);
                self.until_equal(part);
                self.until_each_writes(part);
                self.saw(Reached::CoreProgress);
            }
        }
    }

    /// Everything that clients of these nodes wait for ends, with an answer or an error.
    fn until_quiet(&mut self, part: u64) {
        self.until(part, "what clients asked for does not end", |world| {
            let mut members = members(part);
            members.all(|node| world.hosts[node].is_up && world.outside[node].front.is_quiet())
        });
    }

    /// These nodes have applied the same, and it is all that was ever committed.
    fn until_equal(&mut self, part: u64) {
        self.until(part, "nodes do not become equal", |world| {
            let reference = world.checks.state_machine_safety.reference();
            members(part).all(|node| progress::is_equal(&world.hosts[node], reference))
        });
    }

    /// A write of each of these nodes takes effect, one after another.
    fn until_each_writes(&mut self, part: u64) {
        for node in members(part) {
            let before = (self.hosts[node].boot, self.outside[node].front.written);
            self.until(part, "a node's writes take no effect", |world| {
                let front = &world.outside[node].front;
                if (world.hosts[node].boot, front.written) != before && 0 < front.written {
                    return true;
                }
                if front.writes.is_empty() {
                    world.demand(node, false);
                }
                false
            });
        }
    }

    /// The world goes on until `is_so`. It is stuck if the node that is farthest behind comes no farther, or it takes too long.
    pub(super) fn until(&mut self, part: u64, missing: &str, mut is_so: impl FnMut(&mut World) -> bool) {
        let (begun, mut moved, mut least) = (self.now, self.now, None);
        while !is_so(self) {
            self.tick();
            let now_least = members(part).map(|node| self.hosts[node].machine.applied).min();
            if least < now_least {
                (moved, least) = (self.now, now_least);
            }
            if SILENCE_MAX < self.now.since(moved) || STEP_MAX < self.now.since(begun) {
                let reference = self.checks.state_machine_safety.reference();
                progress::stuck(&self.hosts, reference, members(part), missing);
            }
        }
    }
}

fn members(part: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |node| part >> node & 1 == 1)
}
