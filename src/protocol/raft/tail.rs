//! The newest part of the log, in memory. Older entries are on disk and come back by an errand; still older ones are in a snapshot.
//!
//! ```text
//!   in a snapshot only      on disk                 in memory
//!   1 ........... floor | floor+1 ....... base | base+1 ....... last
//! ```
//!
//! What is on disk only need not be applied, nor even committed: a log that is longer than memory is read back as it is applied.

use crate::base::{Slot, Stamp, Term};
use crate::wire::Entry;
use std::collections::VecDeque;

/// Bytes that an entry adds to the log beside its body, about.
const ENTRY_OVERHEAD: u64 = 128;

/// An entry without its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Its place.
    pub slot: Slot,
    /// Its term.
    pub term: Term,
    /// Its stamp.
    pub stamp: Stamp,
}

impl Mark {
    /// Before the first entry.
    pub const ZERO: Mark = Mark { slot: Slot::ZERO, term: Term::ZERO, stamp: Stamp::ZERO };

    fn of(entry: &Entry) -> Mark {
        Mark { slot: entry.slot, term: entry.term, stamp: entry.stamp }
    }
}

/// See the module. Invariant: `floor.slot <= base.slot`.
#[derive(Clone, Debug)]
pub struct Tail {
    floor: Mark,
    base: Mark,
    /// Invariant: consecutive from `base.slot + 1`; terms and stamps do not fall.
    entries: VecDeque<Entry>,
    /// Sum of the lengths of their bodies.
    bytes: usize,
    /// Bytes that entries have added to the log since this value was made, about: those that were cut and heads included.
    grown: u64,
    /// The first slot of each term above `floor`. Invariant: both rise; the first run begins at `floor.slot + 1`.
    /// So the term of any slot is known without its entry, and one can go back over a term at a time.
    runs: VecDeque<(Slot, Term)>,
}

impl Tail {
    /// Nothing above `floor`.
    pub fn new(floor: Mark) -> Tail {
        Tail { floor, base: floor, entries: VecDeque::new(), bytes: 0, grown: 0, runs: VecDeque::new() }
    }

    /// What lies at and below it is in a snapshot only.
    pub fn floor(&self) -> Mark {
        self.floor
    }
    /// What lies above it is in memory.
    pub fn base(&self) -> Slot {
        self.base.slot
    }
    /// The newest entry.
    pub fn last(&self) -> Slot {
        Slot(self.base.slot.0 + self.entries.len() as u64)
    }
    /// The newest entry's place, term and stamp.
    pub fn last_mark(&self) -> Mark {
        self.entries.back().map_or(self.base, Mark::of)
    }
    /// Bytes of bodies in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Bytes by which the log has grown, about; a number to be compared with an earlier one.
    pub fn grown(&self) -> u64 {
        self.grown
    }
    /// Entries in memory.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The term of the entry at `slot`, from the floor to the last.
    pub fn term_at(&self, slot: Slot) -> Option<Term> {
        if slot == self.floor.slot {
            return Some(self.floor.term);
        }
        if slot < self.floor.slot || self.last() < slot {
            return None;
        }
        match self.runs.back() {
            Some((first, term)) if *first <= slot => Some(*term),
            _ => self.runs.get(self.runs.partition_point(|(first, _)| *first <= slot) - 1).map(|run| run.1),
        }
    }

    /// An entry in memory.
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        let index = slot.0.checked_sub(self.base.slot.0 + 1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// At most `count` entries from `from` on, of at most `bytes` (but at least one). Empty unless `from` is in memory.
    pub fn slice(&self, from: Slot, count: usize, bytes: usize) -> Vec<Entry> {
        assert!(self.base.slot < from);
        let start = (from.0 - self.base.slot.0 - 1) as usize;
        let available = self.entries.len().saturating_sub(start);
        let mut entries = Vec::with_capacity(available.min(count));
        let mut sum = 0;
        for entry in self.entries.iter().skip(start).take(count) {
            sum += entry.body.len();
            if bytes < sum && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// The last slot at or below `slot` whose term is at most `term`; the floor if there is none. Everything between it and
    /// `slot` has a larger term, so it cannot agree with a log that has `term` there (thesis 3.5).
    pub fn back_to(&self, slot: Slot, term: Term) -> Slot {
        let mut end = slot.min(self.last());
        for (first, of) in self.runs.iter().rev() {
            if *of <= term && *first <= end {
                return end;
            }
            if *first <= end {
                end = first.prev();
            }
        }
        self.floor.slot
    }

    /// Appends.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last_mark();
        assert_eq!(entry.slot, last.slot.next(), "a log has no holes");
        assert!(last.term <= entry.term, "terms do not fall within a log");
        if self.runs.back().is_none_or(|(_, term)| *term < entry.term) {
            self.runs.push_back((entry.slot, entry.term));
        }
        self.bytes += entry.body.len();
        self.grown += ENTRY_OVERHEAD + entry.body.len() as u64;
        self.entries.push_back(entry);
    }

    /// Removes `from` and everything above.
    pub fn cut(&mut self, from: Slot) {
        assert!(self.floor.slot < from, "what is in a snapshot is never cut");
        let before = from.prev();
        if before < self.base.slot {
            // The stamp of an entry that has left memory is not known any more: the nearest that is known.
            let term = self.term_at(before).expect("between floor and last");
            self.entries.clear();
            self.bytes = 0;
            self.base = Mark { slot: before, term, stamp: self.floor.stamp };
        }
        while from <= self.last() {
            let entry = self.entries.pop_back().expect("above the base");
            self.bytes -= entry.body.len();
        }
        while self.runs.back().is_some_and(|(first, _)| from <= *first) {
            self.runs.pop_back();
        }
    }

    /// Lets the oldest entries at or below `until` go from memory, so that at most `entries_max` and `bytes_max` of them stay.
    pub fn evict(&mut self, until: Slot, entries_max: usize, bytes_max: usize) {
        assert!(until <= self.last());
        while self.base.slot < until && (entries_max < self.entries.len() || bytes_max < self.bytes) {
            self.pop_front();
        }
    }

    /// Everything at and below `floor` is in a snapshot and leaves the log.
    pub fn compact(&mut self, floor: Slot) {
        assert!(self.floor.slot <= floor && floor <= self.last());
        let term = self.term_at(floor).expect("between floor and last");
        while self.base.slot < floor {
            self.pop_front();
        }
        // An entry that has left memory leaves its stamp behind only at the base: the nearest that is known.
        let stamp = if self.base.slot == floor { self.base.stamp } else { self.floor.stamp };
        self.floor = Mark { slot: floor, term, stamp };
        while self.runs.get(1).is_some_and(|(first, _)| *first <= floor.next()) {
            self.runs.pop_front();
        }
        if floor == self.last() {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.0 = run.0.max(floor.next());
        }
    }

    /// Like `compact`, when all of the mark is known.
    pub fn compact_to(&mut self, floor: Mark) {
        if self.floor.slot < floor.slot {
            self.compact(floor.slot);
        }
        self.floor = floor;
        if self.base.slot == floor.slot {
            self.base = floor;
        }
    }

    /// A snapshot replaces everything.
    pub fn reset(&mut self, floor: Mark) {
        *self = Tail { grown: self.grown, ..Tail::new(floor) };
    }

    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        assert!(self.floor.slot <= self.base.slot);
        assert_eq!(self.bytes, self.entries.iter().map(|e| e.body.len()).sum::<usize>());
        assert!(self.entries.iter().zip(self.base.slot.0 + 1..).all(|(e, slot)| e.slot.0 == slot));
        assert!(self.entries.iter().is_sorted_by(|a, b| a.term <= b.term && a.stamp <= b.stamp));
        assert!(self.runs.iter().zip(self.runs.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 < b.1));
        assert_eq!(self.runs.is_empty(), self.floor.slot == self.last());
        assert!(self.runs.front().is_none_or(|(first, _)| *first == self.floor.slot.next()));
        assert!(self.entries.iter().all(|e| self.term_at(e.slot) == Some(e.term)));
    }

    fn pop_front(&mut self) {
        let entry = self.entries.pop_front().expect("base is below last");
        self.bytes -= entry.body.len();
        self.base = Mark::of(&entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Body;
    use bytes::Bytes;

    fn tail(terms: &[u64]) -> Tail {
        let mut tail = Tail::new(Mark::ZERO);
        for (term, slot) in terms.iter().zip(1..) {
            let body = Body::new(Bytes::from_static(b"0123456789"));
            let stamp = Stamp(slot * 10);
            tail.push(Entry { term: Term(*term), slot: Slot(slot), stamp, body, ..Entry::default() });
        }
        tail.check();
        tail
    }
    fn terms(tail: &Tail) -> Vec<u64> {
        (tail.floor().slot.0..=tail.last().0).map(|s| tail.term_at(Slot(s)).unwrap().0).collect()
    }

    #[test]
    fn terms_are_known_below_what_is_in_memory() {
        let mut t = tail(&[1, 1, 2, 4, 4, 4]);
        t.evict(Slot(5), 1, 1000);
        t.check();
        assert_eq!((t.base(), t.len(), t.bytes()), (Slot(5), 1, 10));
        assert_eq!(terms(&t), [0, 1, 1, 2, 4, 4, 4]);
        assert!(t.get(Slot(5)).is_none() && t.get(Slot(6)).is_some());
        t.compact(Slot(2));
        t.check();
        assert_eq!((terms(&t), t.term_at(Slot(1)), t.term_at(Slot(7))), (vec![1, 2, 4, 4, 4], None, None));
        t.compact(Slot(6));
        t.check();
        assert_eq!((t.last_mark().stamp, terms(&t)), (Stamp(60), vec![4]));
        t.push(Entry { term: Term(4), slot: Slot(7), stamp: Stamp(61), ..Entry::default() });
        t.check();
        assert_eq!(terms(&t), [4, 4]);
    }

    #[test]
    fn eviction_keeps_what_is_not_applied_and_obeys_both_bounds() {
        let mut t = tail(&[1; 8]);
        t.evict(Slot(3), 0, 0);
        assert_eq!((t.base(), t.len()), (Slot(3), 5));
        t.evict(Slot(8), 8, 25);
        assert_eq!((t.base(), t.len()), (Slot(6), 2));
        t.check();
    }

    #[test]
    fn a_cut_forgets_terms_too() {
        let mut t = tail(&[1, 2, 2, 3]);
        t.cut(Slot(3));
        t.check();
        assert_eq!((t.last(), t.last_mark().term, terms(&t)), (Slot(2), Term(2), vec![0, 1, 2]));
        t.cut(Slot(2));
        t.check();
        assert_eq!(terms(&t), [0, 1]);
    }

    #[test]
    fn a_slice_has_at_least_one_entry_and_stops_at_the_bytes() {
        let t = tail(&[1; 8]);
        assert_eq!(t.slice(Slot(2), 100, 35).iter().map(|e| e.slot.0).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(t.slice(Slot(8), 100, 1).len(), 1);
        assert_eq!(t.slice(Slot(2), 2, 1000).len(), 2);
        assert!(t.slice(Slot(9), 2, 1000).is_empty());
    }

    #[test]
    fn going_back_a_term_at_a_time_agrees_with_going_back_slot_by_slot() {
        let mut t = tail(&[1, 1, 2, 2, 5, 5, 5, 7]);
        t.compact(Slot(1));
        for slot in 1..=10 {
            for term in 0..=8 {
                let one_by_one = (2..=slot.min(8)).rev().find(|s| t.term_at(Slot(*s)).unwrap() <= Term(term));
                assert_eq!(t.back_to(Slot(slot), Term(term)).0, one_by_one.unwrap_or(1), "{slot} {term}");
            }
        }
    }
}
