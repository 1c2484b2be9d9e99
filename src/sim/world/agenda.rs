//! What will happen, by time. Things of the same time happen in the order in which they were planned.

use crate::base::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Plans by time. The heap holds numbers only, for plans are large and a heap moves what it holds.
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    plans: Vec<Option<T>>,
    free: Vec<u32>,
    serial: u64,
}

impl<T> Agenda<T> {
    /// Nothing is planned.
    pub fn new() -> Agenda<T> {
        Agenda { heap: BinaryHeap::new(), plans: Vec::new(), free: Vec::new(), serial: 0 }
    }

    /// Plans something.
    pub fn plan(&mut self, at: Instant, what: T) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.plans.push(None);
            u32::try_from(self.plans.len() - 1).expect("fewer than 2^32 plans")
        });
        self.plans[place as usize] = Some(what);
        self.serial += 1;
        self.heap.push(Reverse((at, self.serial, place)));
    }

    /// The next thing, and when.
    pub fn next(&mut self) -> Option<(Instant, T)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        let what = self.plans[place as usize].take().expect("each place is taken once");
        Some((at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_by_time_and_then_by_order() {
        let mut agenda = Agenda::new();
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            agenda.plan(Instant(at), name);
        }
        let mut names = Vec::new();
        while let Some((_, name)) = agenda.next() {
            names.push(name);
            if name == 'a' {
                agenda.plan(Instant(5), 'e');
            }
        }
        assert_eq!(names, ['a', 'b', 'c', 'd', 'e']);
    }
}
