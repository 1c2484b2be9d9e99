//! How long appends take to each follower and back, seen from outside the core: by when a slot was proposed, and by when a follower is
//! known to hold it durably.

use crate::base::{Instant, NodeId, Slot};
use crate::meter::latencies;
use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// Proposals that are remembered; a follower that is farther behind is timed again once it has caught up.
const LEFT_MAX: usize = 4096;

/// The round trips of one leader.
pub(super) struct Trips {
    /// When each slot's append left. Invariant: slots rise.
    left: VecDeque<(Slot, Instant)>,
    /// How far each follower was when it was last looked at.
    matched: Vec<(NodeId, Slot)>,
    pub nanos: Histogram<u64>,
}

impl Trips {
    pub fn new() -> Trips {
        Trips { left: VecDeque::new(), matched: Vec::new(), nanos: latencies() }
    }
    /// The append of `slot` leaves.
    pub fn leaves(&mut self, slot: Slot, now: Instant) {
        assert!(self.left.back().is_none_or(|(last, _)| *last < slot), "slots rise");
        if self.left.len() == LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back((slot, now));
    }
    /// Whether anybody's acknowledgement is waited for.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
    /// Leadership is over.
    pub fn clear(&mut self) {
        self.left.clear();
        self.matched.clear();
    }
    /// The followers hold so much: each that holds more than before is one trip, that of the newest slot it has come to.
    pub fn heard(&mut self, now: Instant, followers: impl Iterator<Item = (NodeId, Slot)>) {
        let mut all = None::<Slot>;
        for (id, slot) in followers {
            all = Some(all.map_or(slot, |least| least.min(slot)));
            let before = match self.matched.iter_mut().find(|(known, _)| *known == id) {
                Some((_, matched)) => std::mem::replace(matched, slot),
                None => {
                    self.matched.push((id, slot));
                    Slot::ZERO
                }
            };
            let arrived = self.left.partition_point(|(left, _)| *left <= slot);
            if let Some((left, at)) = arrived.checked_sub(1).map(|newest| self.left[newest])
                && before < left
            {
                self.nanos.saturating_record(now.since(at).as_nanos() as u64);
            }
        }
        while self.left.front().is_some_and(|(slot, _)| all.is_none_or(|least| *slot <= least)) {
            self.left.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_followers_acknowledgement_is_one_trip_of_its_newest_slot() {
        let mut trips = Trips::new();
        let standing = |a, b| [(NodeId(2), Slot(a)), (NodeId(3), Slot(b))].into_iter();
        (1..=3).for_each(|slot| trips.leaves(Slot(slot), Instant(slot * 1_000_000)));
        trips.heard(Instant(5_000_000), standing(2, 0));
        assert_eq!((trips.nanos.len(), trips.nanos.max() / 100_000), (1, 30), "of slot 2, not of slot 1");
        trips.heard(Instant(6_000_000), standing(2, 0));
        assert_eq!(trips.nanos.len(), 1, "nothing new was acknowledged");
        trips.heard(Instant(9_000_000), standing(3, 3));
        assert_eq!((trips.nanos.len(), trips.is_empty()), (3, true));
    }

    #[test]
    fn a_follower_that_never_answers_costs_a_bounded_memory() {
        let mut trips = Trips::new();
        for slot in 1..=3 * LEFT_MAX as u64 {
            trips.leaves(Slot(slot), Instant(slot));
            trips.heard(Instant(slot), [(NodeId(2), Slot(slot)), (NodeId(3), Slot::ZERO)].into_iter());
        }
        assert_eq!((trips.left.len(), trips.nanos.len()), (LEFT_MAX, 3 * LEFT_MAX as u64));
    }
}
