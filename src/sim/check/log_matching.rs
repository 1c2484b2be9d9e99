//! Log Matching: "if two logs contain an entry with the same index and term, then the logs are identical in all entries up through
//! the given index" (thesis, figure 3.2). Equivalently, by induction: slot and term name one content and one predecessor's term.

use crate::base::{Slot, Term};
use crate::protocol::raft::Raft;
use crate::sim::machine::digest;
use crate::sim::violation::hold;
use crate::wire::Entry;
use std::collections::BTreeMap;

const PROPERTY: &str = "log-matching";

/// Every entry that was ever in any log.
#[derive(Default)]
pub struct LogMatching {
    entries: BTreeMap<(Slot, Term), (u64, Option<Term>)>,
}

impl LogMatching {
    /// `entry` was appended to the log of `raft`.
    pub fn observe(&mut self, raft: &Raft, entry: &Entry) {
        let content = digest(entry);
        // Within a burst it may have been cut again: then its predecessor is not to be seen any more.
        let tail = raft.tail();
        let is_there = tail.term_at(entry.slot) == Some(entry.term);
        let before = tail.term_at(entry.slot.prev()).filter(|_| is_there);
        let known = self.entries.entry((entry.slot, entry.term)).or_insert((content, before));
        let Entry { slot, term, .. } = entry;
        hold!(PROPERTY, known.0 == content, "two entries at slot {slot} of term {term}");
        known.1 = known.1.or(before);
        hold!(
            PROPERTY,
            before.is_none() || known.1 == before,
            "before slot {slot} of term {term} stand terms {:?} and {before:?}",
            known.1
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::check::testing::{entry, with_log};
    use crate::sim::violation::violates;

    #[test]
    fn one_slot_and_term_with_two_contents_or_two_predecessors_is_told() {
        let mut seen = LogMatching::default();
        for _ in 0..2 {
            seen.observe(&with_log(&[1, 2]), &entry(2, 2, b"x"));
        }
        seen.observe(&with_log(&[1, 3]), &entry(3, 2, b"y"));
        violates("log-matching", || seen.observe(&with_log(&[1, 2]), &entry(2, 2, b"y")));
        violates("log-matching", || seen.observe(&with_log(&[2, 2]), &entry(2, 2, b"x")));
    }
}
