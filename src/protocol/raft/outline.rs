//! A replica without times, drawn numbers and absolute tickets: what decides what it will do once any time-out may come at any moment.
//! A model checker takes replicas with equal outlines for one.

use super::Raft;
use super::shipping::Staging;
use super::tail::Tail;
use std::hash::{Hash, Hasher};

impl Raft {
    /// Feeds everything that the outline consists of. Settled replicas only: what a burst gathers is not part of it.
    pub fn outline(&self, to: &mut impl Hasher) {
        assert!(self.acknowledgement.is_none() && !self.beat, "between bursts");
        (self.term, self.vote, self.role as u8, self.leader, self.votes.0).hash(to);
        (self.commit, self.delivered, self.applied, self.verified, self.owes_reset).hash(to);
        (self.staging.as_ref().map(Staging::outline), self.round_echoed).hash(to);
        (self.transfer.is_under_way(), self.catch_up.job.is_some()).hash(to);
        outline_of_log(&self.tail, to);
        self.writes.outline(to);
        self.peers.iter().for_each(|peer| peer.outline(to));
        self.reads.outline(to);
    }
}

fn outline_of_log(tail: &Tail, to: &mut impl Hasher) {
    let floor = tail.floor();
    (floor.slot, floor.term, tail.base(), tail.last()).hash(to);
    let above = floor.slot.0 + 1..=tail.last().0;
    above.map(|slot| tail.term_at(crate::base::Slot(slot))).for_each(|term| term.hash(to));
    for slot in tail.base().0 + 1..=tail.last().0 {
        let entry = tail.get(crate::base::Slot(slot)).expect("above the base");
        (entry.kind as u8, entry.origin, entry.sequence, entry.floor, entry.body.digest()).hash(to);
    }
}
