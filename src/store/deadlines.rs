//! Which records expire, in the order in which they do.

use super::table::Place;
use crate::base::Stamp;
use std::collections::BTreeMap;

/// Deadlines in order, each with the place of its key; equal ones (places may collide) are counted, so that the order in which
/// records are purged is a function of the records alone.
#[derive(Default)]
pub(super) struct Deadlines {
    counts: BTreeMap<(Stamp, Place), u32>,
}

impl Deadlines {
    /// A record changes its deadline; zero stands for none, before it is made and after it is gone, too.
    pub fn change(&mut self, place: Place, from: Stamp, to: Stamp) {
        if from == to {
            return;
        }
        if from != Stamp::ZERO {
            let count = self.counts.get_mut(&(from, place)).expect("every deadline is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&(from, place));
            }
        }
        if to != Stamp::ZERO {
            *self.counts.entry((to, place)).or_default() += 1;
        }
    }
    /// The earliest.
    pub fn first(&self) -> Option<(Stamp, Place)> {
        self.counts.first_key_value().map(|(k, _)| *k)
    }
    /// Forgets up to `count`; whether any are left.
    pub fn shed(&mut self, count: usize) -> bool {
        (0..count).for_each(|_| {
            self.counts.pop_first();
        });
        !self.counts.is_empty()
    }
    /// Number of different ones.
    pub fn len(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_deadlines_of_equal_places_are_counted() {
        let place = Place { bucket: 1, mark: 2 };
        let mut deadlines = Deadlines::default();
        deadlines.change(place, Stamp::ZERO, Stamp(5));
        deadlines.change(place, Stamp::ZERO, Stamp(5));
        deadlines.change(place, Stamp::ZERO, Stamp(9));
        deadlines.change(place, Stamp(5), Stamp::ZERO);
        assert_eq!(deadlines.first(), Some((Stamp(5), place)));
        deadlines.change(place, Stamp(5), Stamp(10));
        assert_eq!(deadlines.first(), Some((Stamp(9), place)));
        assert_eq!(deadlines.len(), 2);
        assert!(!deadlines.shed(2));
    }
}
