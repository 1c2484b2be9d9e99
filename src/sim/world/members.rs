//! The operator of a simulated PBFT group: members come, go and are given other keys, one amendment at a time.

use super::{Outside, World};
use crate::base::{GROUP_ONE, NodeId};
use crate::protocol::pbft::Pbft;
use crate::sim::coverage::Reached;
use crate::sim::host::{self, Host};
use crate::wire::Batch;
use crate::wire::members::{Member, Membership};

/// Nodes that may come to a group beside those that it began with.
pub(super) const NEWCOMERS_MAX: usize = 3;

/// What the operator remembers.
#[derive(Default)]
pub(super) struct Operator {
    /// Amendments that were handed in.
    number: u64,
    /// The newest of them, and the epoch that it would bring.
    newest: Option<(u64, Batch)>,
    /// The newest epoch that somebody was seen in.
    seen: u64,
}

impl World {
    /// Whether members may change in this run.
    pub(super) fn is_amended(&self) -> bool {
        self.swarm.amends
    }

    /// Who is in the group after everything that was ever decided.
    fn membership(&self) -> Membership {
        let reference = self.checks.state_machine_safety.reference();
        let first = || {
            let members: Vec<Member> =
                host::members(self.swarm.common.nodes).iter().map(|id| host::member(id, 0)).collect();
            let most = (members.len() - 1) / 3;
            let faulty = self.swarm.common.pbft.faulty_max.unwrap_or(most) as u8;
            Membership { epoch: 0, faulty, retired: Default::default(), members }
        };
        reference.members.now().map_or_else(first, |(_, membership)| membership.clone())
    }

    /// The members as bits by node; all nodes where that never changes.
    pub(super) fn members(&self) -> u64 {
        let all = (1 << self.hosts.len()) - 1;
        if self.is_amended() { self.membership().nodes().0 >> 1 & all } else { all }
    }

    /// A correct replica that is in this epoch, and one of its members.
    fn one_in(&self, epoch: u64) -> Option<&Pbft> {
        let mut cores = self.correct().filter(|host| host.is_up).filter_map(Host::pbft);
        cores.find(|core| core.epoch() == epoch && core.is_member())
    }

    /// Whether no amendment is under way, and all correct members are in one epoch and have the state that it begins with. Before that a
    /// newcomer is one that is missing: a quorum with it may know less than the group has decided.
    pub(super) fn is_settled(&self) -> bool {
        let reference = self.checks.state_machine_safety.reference();
        let (epoch, members) = (reference.members.epoch(), self.membership());
        let is_in = |id: NodeId| {
            let host = self.hosts.get(usize::from(id.0) - 1);
            let core = host.filter(|host| host.is_up).and_then(Host::pbft);
            self.corrupted.contains(id)
                || core.is_some_and(|core| {
                    let has_state = core.epoch_base().slot <= core.executed();
                    core.epoch() == epoch && has_state && !core.is_amended()
                })
        };
        reference.members.next().is_none() && members.nodes().iter().all(is_in)
    }

    /// The operator asks for other members, unless an amendment is under way.
    pub(super) fn amend(&mut self) {
        let reference = self.checks.state_machine_safety.reference();
        let is_free = reference.members.next().is_none() && self.one_in(reference.members.epoch()).is_some();
        let Some(membership) = self.draw_membership().filter(|_| is_free) else { return };
        self.operator.number += 1;
        let epoch = membership.epoch;
        let batch = host::amendment(&self.swarm.common.pbft, membership, self.operator.number);
        self.operator.newest = Some((epoch, batch.clone()));
        self.checks.validity.asked(batch.origin, batch.body.digest());
        // To some of the nodes; whoever hears of it watches that it is ordered.
        let told = 1 + self.dice.harm.below(self.hosts.len() as u64) as usize;
        let (first, count) = (self.any_node(), self.hosts.len());
        (0..told).map(|at| (first + at) % count).for_each(|node| self.hand_in(node, &batch));
    }

    fn hand_in(&mut self, node: usize, batch: &Batch) {
        if self.hosts[node].is_up && !self.outside[node].is_paused {
            let (now, clock) = (self.local(node), self.outside[node].clock.stamp(self.now));
            self.hosts[node].shard.amend(now, clock, GROUP_ONE, batch.clone());
            self.touch(node);
        }
    }

    /// What was asked for and not ordered is asked for again, of everybody: else a message that is late, or a liar that alone was told,
    /// would bring other members at any time later, when it has been decided of whom what is demanded.
    fn amend_again(&mut self) {
        let members = &self.checks.state_machine_safety.reference().members;
        let next = members.next().is_none().then(|| members.epoch() + 1);
        if let Some((_, batch)) = self.operator.newest.clone().filter(|(epoch, _)| Some(*epoch) == next) {
            (0..self.hosts.len()).for_each(|node| self.hand_in(node, &batch));
        }
    }

    /// The next membership: one with other keys, one replaced, one more or one fewer. None where the group could not bear its liars.
    fn draw_membership(&mut self) -> Option<Membership> {
        let mut next = self.membership();
        let dice = &mut self.dice.harm;
        let (how, at) = (dice.below(4), dice.below(next.members.len() as u64) as usize);
        let generation = 1 + dice.below(200) as u8;
        let (leaves, comes) = ([1, 3].contains(&how), [1, 2].contains(&how));
        next.epoch += 1;
        if how == 0 {
            let member = &mut next.members[at];
            *member = host::member(member.id, member.signing_key.0[1].wrapping_add(generation));
        }
        if leaves {
            next.retired.insert(next.members.remove(at).id);
        }
        if comes {
            let id = NodeId(self.hosts.len() as u8 + 1);
            next.members.push(host::member(id, generation));
        }
        let room = self.swarm.common.nodes + NEWCOMERS_MAX;
        let liars = next.nodes().iter().filter(|id| self.corrupted.contains(*id)).count();
        next.faulty = (next.members.len().max(1) as u8 - 1) / 3;
        let known = next.nodes().iter().filter(|id| usize::from(id.0) <= self.hosts.len()).count();
        let is_possible = usize::from(next.faulty) < known && liars <= next.faulty.into();
        (is_possible && (!comes || self.hosts.len() < room)).then_some(next)
    }

    /// Whoever has become a member is started, with the word of a replica that is in that epoch.
    pub(super) fn welcome(&mut self) {
        let epoch = self.checks.state_machine_safety.reference().members.epoch();
        if !self.is_amended() || self.operator.seen == epoch {
            return;
        }
        let Some(base) = self.one_in(epoch).map(Pbft::epoch_base) else { return };
        self.operator.seen = epoch;
        self.saw(Reached::Amended);
        let membership = self.membership();
        let newcomers = membership.nodes().iter().filter(|id| self.hosts.len() < usize::from(id.0)).count();
        for _ in 0..newcomers {
            let node = self.hosts.len();
            self.outside.push(Outside { clock: self.outside[0].clock, ..Outside::default() });
            let (now, of) = (self.local(node), (base, membership.clone()));
            self.hosts.push(Host::newcomer(node, &self.swarm.common, now, of));
            self.saw(Reached::Joined);
            self.settle(node);
        }
    }

    /// What is under way with members comes to its end.
    pub(super) fn until_settled(&mut self) {
        if self.is_amended() {
            self.until(self.correct_members(), "members do not come to one epoch", |world| {
                if world.is_settled() {
                    world.amend_again();
                }
                world.is_settled()
            });
        }
    }
}
