//! Exactly once, and honesty: a batch takes effect at most once (thesis 6.3: "the servers ... filter out duplicates"), one that was
//! acknowledged took effect where its client was told, and one that was refused as certainly not appended never does.

use crate::base::{Origin, Slot};
use crate::wire::Entry;
use crate::wire::sequence::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// What became of every batch.
#[derive(Default)]
pub struct ExactlyOnce {
    applied: BTreeMap<(Origin, u64), Slot>,
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
            assert_eq!(earlier, None, "exactly once: batch {name:?} took effect twice");
            assert!(!self.refused.contains(&name), "honesty: batch {name:?} was refused and took effect");
        }
    }
    /// A client was told that its batch took effect at `slot`.
    pub fn acknowledged(&mut self, origin: Origin, sequence: u64, slot: Slot) {
        let found = self.applied.get(&(origin, sequence));
        assert_eq!(found, Some(&slot), "exactly once: batch {sequence} of {origin} was acknowledged");
        self.acknowledged += 1;
    }
    /// A client was told that its batch was certainly not appended.
    pub fn refused(&mut self, origin: Origin, sequence: u64) {
        let name = (origin, sequence);
        assert!(!self.applied.contains_key(&name), "honesty: batch {name:?} took effect and was refused");
        self.refused.insert(name);
    }
}
