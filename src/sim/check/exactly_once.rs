//! Exactly once, and honesty: a batch takes effect at most once (thesis 6.3: "the servers ... filter out duplicates"), one that was
//! acknowledged took effect where its client was told, and one that was refused as certainly not appended never does.

use crate::base::{Digest, Origin, Slot};
use crate::sim::violation::hold;
use crate::wire::Entry;
use crate::wire::sequence::Verdict;
use std::collections::{BTreeMap, BTreeSet};

const PROPERTY: &str = "exactly-once";
const HONESTY: &str = "honest-refusal";

/// What became of every batch.
#[derive(Default)]
pub struct ExactlyOnce {
    applied: BTreeMap<(Origin, u64), Slot>,
    /// The same by content, which is unique here: numbers may be what is wrong.
    effects: BTreeMap<(Origin, Digest), Slot>,
    refused: BTreeSet<(Origin, u64)>,
    /// How many were acknowledged.
    pub acknowledged: u64,
}

impl ExactlyOnce {
    /// An entry of the one history.
    pub fn committed(&mut self, entry: &Entry, verdict: Option<Verdict>) {
        if verdict == Some(Verdict::Applied) {
            let name = (entry.origin, entry.sequence);
            let earlier = self.applied.insert(name, entry.slot);
            hold!(PROPERTY, earlier.is_none(), "batch {name:?} took effect twice");
            let earlier = self.effects.insert((entry.origin, entry.body.digest()), entry.slot);
            hold!(PROPERTY, earlier.is_none(), "commands of {} took effect twice", entry.origin);
            hold!(HONESTY, !self.refused.contains(&name), "batch {name:?} was refused and took effect");
        }
    }
    /// A client was told that its batch took effect at `slot`.
    pub fn acknowledged(&mut self, origin: Origin, sequence: u64, slot: Slot) {
        let found = self.applied.get(&(origin, sequence));
        hold!(PROPERTY, found == Some(&slot), "batch {sequence} of {origin} was acknowledged at {slot}");
        self.acknowledged += 1;
    }
    /// A client was told that its batch was certainly not appended.
    pub fn refused(&mut self, origin: Origin, sequence: u64) {
        let name = (origin, sequence);
        hold!(HONESTY, !self.applied.contains_key(&name), "batch {name:?} took effect and was refused");
        self.refused.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::check::testing::entry;
    use crate::sim::violation::violates;

    #[test]
    fn a_batch_that_takes_effect_twice_is_told_by_its_number_and_by_its_content() {
        let (mut seen, first) = (ExactlyOnce::default(), entry(1, 1, b"x"));
        seen.committed(&first, Some(Verdict::Applied));
        seen.committed(&Entry { slot: Slot(2), ..first.clone() }, Some(Verdict::Duplicate));
        seen.acknowledged(first.origin, 1, Slot(1));
        violates("exactly-once", || seen.acknowledged(first.origin, 1, Slot(2)));
        let again = |sequence, text| Entry { sequence, ..entry(1, 2, text) };
        violates("exactly-once", || seen.committed(&again(1, b"y"), Some(Verdict::Applied)));
        violates("exactly-once", || seen.committed(&again(2, b"x"), Some(Verdict::Applied)));
    }

    #[test]
    fn a_batch_that_was_refused_and_takes_effect_is_told_in_either_order() {
        let (mut seen, first) = (ExactlyOnce::default(), entry(1, 1, b"x"));
        let refused = Entry { sequence: 2, ..entry(1, 2, b"y") };
        seen.committed(&first, Some(Verdict::Applied));
        seen.refused(refused.origin, refused.sequence);
        violates("honest-refusal", || seen.refused(first.origin, first.sequence));
        violates("honest-refusal", || seen.committed(&refused, Some(Verdict::Applied)));
    }
}
