//! What is asked of the nodes, and what becomes of it.

use super::{Event, World};
use crate::base::{Body, Digest, GROUP_ONE, Instant, Slot};
use crate::protocol::Lead;
use crate::sim::coverage::Reached;
use crate::sim::disk::Snapshot;
use crate::sim::host::Effect;
use crate::wire::hop::{Answer, Demand, Digested, Failure};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a node's front keeps of one life.
#[derive(Default)]
pub struct Front {
    sequence: u64,
    read: u64,
    /// What clients wait for, and what had been shown when they asked.
    pub writes: BTreeMap<u64, Slot>,
    /// See `writes`.
    pub reads: BTreeMap<u64, Slot>,
    /// Writes that were acknowledged.
    pub written: u64,
}

impl Front {
    /// A leader's snapshot brought what batches up to `last` did, without their replies.
    pub fn superseded(&mut self, last: u64) {
        self.writes = self.writes.split_off(&(last + 1));
    }
    /// Whether clients wait for anything.
    pub fn is_quiet(&self) -> bool {
        self.writes.is_empty() && self.reads.is_empty()
    }
}

impl World {
    /// Perhaps a client wants something now.
    pub(super) fn want(&mut self) {
        let dice = &mut self.dice.clients;
        let is_wanted = dice.chance(self.swarm.demand_per_mille, 1000);
        if is_wanted {
            let node = dice.below(self.hosts.len() as u64) as usize;
            let is_read = dice.chance(self.swarm.reads_of_ten, 10);
            self.demand(node, is_read);
        }
    }

    /// A client of a node asks, if the node takes demands now. True if it does.
    pub(super) fn demand(&mut self, node: usize, is_read: bool) -> bool {
        let (host, outside) = (&mut self.hosts[node], &mut self.outside[node]);
        let is_full = self.swarm.decided_max <= host.decided.len();
        if !host.is_up || outside.is_paused || is_full || !host.shard.has_room(GROUP_ONE) {
            return false;
        }
        let (front, invoked) = (&mut outside.front, self.checks.linearizability.invoked());
        let demand = if is_read {
            front.read += 1;
            front.reads.insert(front.read, invoked);
            Demand::Read { id: front.read, body: Bytes::new() }
        } else {
            front.sequence += 1;
            front.writes.insert(front.sequence, invoked);
            let dice = &mut self.dice.clients;
            let (key, value) = (dice.below(8) as u8, dice.next_u64());
            let body = Body::new([[key; 8], value.to_le_bytes()].concat().into());
            self.checks.validity.asked(host.origin(), body.digest());
            Demand::Write { sequence: front.sequence, body, growth: 1, left: self.now }
        };
        if let Some(trace) = &mut self.trace {
            trace.demands(self.now, node, &demand);
        }
        let now = self.local(node);
        self.hosts[node].shard.demand(now, GROUP_ONE, demand);
        self.touch(node);
        true
    }

    /// The store takes some of what is decided, and answers.
    pub(super) fn apply(&mut self, node: usize) {
        let count = 1 + self.dice.times.below(20) as usize;
        let effects = self.hosts[node].apply(count);
        let mut digests = Vec::new();
        let is_follower = !self.hosts[node].engine().is_leader();
        let is_correct = !self.is_corrupted(node);
        for effect in effects {
            let (host, front) = (&self.hosts[node], &mut self.outside[node].front);
            match effect {
                Effect::Applied(slot) if is_correct && slot == host.machine.applied => {
                    self.checks.applied(host, slot);
                }
                Effect::Applied(_) => (),
                // What a liar tells its own clients is nobody's promise.
                Effect::Written { sequence, .. } if !is_correct => drop(front.writes.remove(&sequence)),
                Effect::Read { id } if !is_correct => drop(front.reads.remove(&id)),
                Effect::Written { sequence, slot } => {
                    self.checks.exactly_once.acknowledged(host.origin(), sequence, slot);
                    front.written += 1;
                    if let Some(invoked) = front.writes.remove(&sequence) {
                        self.checks.linearizability.wrote(invoked, slot);
                    }
                    self.saw(Reached::Written);
                    if let Some(trace) = &mut self.trace {
                        trace.answers(self.now, node, format_args!("> write {sequence} answered at {slot}"));
                    }
                }
                Effect::Digested { slot, digest, keep } => digests.push((slot, digest, keep)),
                Effect::Read { id } => {
                    let invoked = front.reads.remove(&id).expect("a read is answered once");
                    let slot = host.machine.applied;
                    self.checks.linearizability.read(invoked, slot);
                    self.saw(if is_follower { Reached::FollowerRead } else { Reached::Read });
                    if let Some(trace) = &mut self.trace {
                        trace.answers(self.now, node, format_args!("> read {id} answered at {slot}"));
                    }
                }
            }
        }
        self.outside[node].is_applying = false;
        let (now, applied) = (self.local(node), self.hosts[node].machine.applied);
        self.hosts[node].shard.applied(now, GROUP_ONE, applied, 0, None);
        self.digested(node, digests);
        if !self.hosts[node].engine().is_watched() {
            self.snapshot(node);
        }
    }

    /// The store tells the digests that the core wanted.
    fn digested(&mut self, node: usize, digests: Vec<(Slot, Digest, Option<Snapshot>)>) {
        let now = self.local(node);
        for (slot, digest, keep) in digests {
            self.hosts[node].shard.digested(now, Digested { group: GROUP_ONE, slot, digest });
            // What newcomers begin with is made whatever else is being saved.
            let ends_epoch = self.hosts[node].machine.members.now().is_some_and(|(since, _)| *since == slot);
            if let Some(snapshot) = keep.filter(|_| ends_epoch || !self.outside[node].is_snapshotting) {
                let at = self.after_us(20 * self.swarm.write_us_max);
                let outside = &mut self.outside[node];
                let at = at.max(Instant(outside.snapshots_until.0 + 1));
                (outside.is_snapshotting, outside.snapshots_until) = (true, at);
                self.plan(at, node, Event::Snapshotted { snapshot });
            }
        }
    }

    /// The store makes a snapshot, if one is due.
    fn snapshot(&mut self, node: usize) {
        let (machine, outside) = (&self.hosts[node].machine, &mut self.outside[node]);
        if !outside.is_snapshotting && outside.snapshot_at.0 + self.swarm.snapshot_every <= machine.applied.0
        {
            outside.is_snapshotting = true;
            outside.snapshot_at = machine.applied;
            let snapshot = Snapshot { id: machine.id(GROUP_ONE), bytes: machine.save() };
            let at = self.after_us(20 * self.swarm.write_us_max);
            self.plan(at, node, Event::Snapshotted { snapshot });
        }
    }

    /// The replica answers what will not come to the store.
    pub(super) fn answer(&mut self, node: usize, answer: &Answer) {
        let (is_corrupted, origin) = (self.is_corrupted(node), self.hosts[node].origin());
        let front = &mut self.outside[node].front;
        match *answer {
            Answer::WriteFailed { sequence, why } => {
                front.writes.remove(&sequence);
                if why == Failure::Indeterminate || is_corrupted {
                    self.saw(Reached::WriteUnknown);
                } else {
                    self.checks.exactly_once.refused(origin, sequence);
                    self.saw(Reached::WriteRefused);
                }
            }
            Answer::ReadFailed { id, .. } => {
                front.reads.remove(&id);
                self.saw(Reached::ReadRefused);
            }
            Answer::Vouched { .. } => unreachable!("these stores vouch for nothing"),
            Answer::Write { .. } | Answer::Read { .. } | Answer::Superseded { .. } => {
                unreachable!("the store answers these")
            }
        }
    }
}
