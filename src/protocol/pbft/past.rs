//! What this replica has executed, for those that are behind: digests of the last slots, and the newest values themselves. What has left
//! memory the log still has (`catch_up`), as long as no stable snapshot holds it; and so long its digest stays, for without that nobody
//! could tell which of the log's values is the decided one.

use crate::base::{Digest, Slot};
use crate::wire::Entry;
use crate::wire::pbft::Vote;
use std::collections::VecDeque;

/// Consecutive slots, ending at the newest executed one.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The newest slot. Zero while nothing is here.
    last: Slot,
    digests: VecDeque<Digest>,
    /// The values of the newest of them.
    entries: VecDeque<Entry>,
    /// Of their bodies.
    bytes: usize,
}

impl Past {
    /// The next slot was executed. Of digests the newest `entries_max` stay and all above `floor`, where the log begins: as many as it has
    /// places for. Of values so many stay that their bodies have no more than `bytes_max`.
    pub fn push(&mut self, digest: Digest, entry: Entry, floor: Slot, entries_max: usize, bytes_max: usize) {
        assert!(self.digests.is_empty() || self.last.next() == entry.slot);
        self.last = entry.slot;
        self.bytes += entry.body.len();
        self.digests.push_back(digest);
        self.entries.push_back(entry);
        while entries_max < self.digests.len() && self.first().is_some_and(|first| first <= floor) {
            if self.digests.len() == self.entries.len() {
                self.shed();
            }
            self.digests.pop_front();
        }
        while bytes_max < self.bytes {
            self.shed();
        }
    }
    fn shed(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.body.len());
    }
    /// The state came whole from others.
    pub fn clear(&mut self) {
        *self = Past::default();
    }
    /// The first slot of which the digest is here.
    pub fn first(&self) -> Option<Slot> {
        let before = self.last.0.checked_sub(self.digests.len() as u64)?;
        (!self.digests.is_empty()).then_some(Slot(before + 1))
    }
    /// Slots from `slot` on: what each holds, by digest, and the value if it is here.
    pub fn from(&self, slot: Slot) -> impl Iterator<Item = (Slot, Digest, Option<&Entry>)> {
        let first = self.first().unwrap_or_default();
        let shed = self.digests.len() - self.entries.len();
        let one = move |(at, digest): (usize, &Digest)| {
            let entry = at.checked_sub(shed).and_then(|at| self.entries.get(at));
            (Slot(first.0 + at as u64), *digest, entry)
        };
        let skip = slot.0.saturating_sub(first.0).min(self.digests.len() as u64) as usize;
        self.digests.iter().enumerate().skip(skip).map(one)
    }
    /// The value that was executed at a slot, if it has this digest and is still here.
    pub fn value(&self, vote: Vote) -> Option<&Entry> {
        let here = self
            .from(vote.slot)
            .next()
            .filter(|(slot, digest, _)| (*slot, *digest) == (vote.slot, vote.digest));
        here.and_then(|(.., entry)| entry)
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self, executed: Slot) {
        assert!(self.digests.is_empty() || self.last == executed);
        assert!(self.entries.len() <= self.digests.len());
        assert_eq!(self.bytes, self.entries.iter().map(|entry| entry.body.len()).sum::<usize>());
        assert!(self.entries.back().is_none_or(|entry| entry.slot == self.last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Body;

    #[test]
    fn values_leave_memory_before_their_digests_do() {
        let mut past = Past::default();
        assert_eq!((past.first(), past.from(Slot(1)).count()), (None, 0));
        for slot in 5..=14 {
            let entry = Entry { slot: Slot(slot), body: Body::new(vec![1; 10].into()), ..Entry::default() };
            past.push(Digest([slot as u8; 32]), entry, Slot(11), 6, 25);
            past.check(Slot(slot));
        }
        assert_eq!(past.first(), Some(Slot(9)));
        let all: Vec<_> =
            past.from(Slot(1)).map(|(slot, d, e)| (slot.0, d.0[0], e.map(|e| e.slot.0))).collect();
        let shed = (9..=12).map(|slot| (slot, slot as u8, None));
        let here = (13..=14).map(|slot| (slot, slot as u8, Some(slot)));
        let value = |slot: u64, digest: u64| {
            let vote = Vote { slot: Slot(slot), digest: Digest([digest as u8; 32]) };
            past.value(vote).map(|entry| entry.slot.0)
        };
        assert_eq!([value(8, 8), value(12, 12), value(14, 13), value(15, 15)], [None; 4]);
        assert_eq!([value(13, 13), value(14, 14)], [Some(13), Some(14)]);
        assert_eq!(all, shed.chain(here).collect::<Vec<_>>());
        assert_eq!(
            past.from(Slot(14)).count() + past.from(Slot(15)).count() + past.from(Slot(99)).count(),
            1
        );
    }
    #[test]
    fn digests_stay_for_as_long_as_the_log_has_their_values() {
        let mut past = Past::default();
        let mut push = |slots: std::ops::RangeInclusive<u64>, floor| {
            for slot in slots {
                let entry = Entry { slot: Slot(slot), ..Entry::default() };
                past.push(Digest([slot as u8; 32]), entry, Slot(floor), 6, 25);
            }
            (past.first(), past.digests.len())
        };
        assert_eq!(push(1..=40, 4), (Some(Slot(5)), 36), "a snapshot is long in the making");
        assert_eq!(push(41..=41, 32), (Some(Slot(33)), 9));
        assert_eq!(push(42..=42, 42), (Some(Slot(37)), 6));
    }
}
