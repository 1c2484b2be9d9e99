//! Validity: what is executed was asked for by a client of the node that it is said to come from (Castro and Liskov 1999, 3: a faulty
//! replica "cannot ... forge" a client's request). What the clients of a liar ask is whatever the liar says.

use crate::base::{Digest, NodeSet, Origin};
use crate::sim::violation::hold;
use crate::wire::{Entry, EntryKind};
use std::collections::BTreeSet;

const PROPERTY: &str = "validity";

/// What clients have asked for.
#[derive(Default)]
pub struct Validity {
    asked: BTreeSet<(Origin, Digest)>,
}

impl Validity {
    /// A client of this front hands over commands.
    pub fn asked(&mut self, origin: Origin, body: Digest) {
        self.asked.insert((origin, body));
    }
    /// An entry of the one history.
    pub fn committed(&self, entry: &Entry, corrupted: NodeSet) {
        let is_batch = entry.kind == EntryKind::Batch && !corrupted.contains(entry.origin.node);
        let is_known = self.asked.contains(&(entry.origin, entry.body.digest()));
        hold!(PROPERTY, !is_batch || is_known, "slot {}: nobody asked {} for this", entry.slot, entry.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;
    use crate::sim::check::testing::entry;
    use crate::sim::violation::violates;

    #[test]
    fn what_nobody_asked_for_is_told_unless_it_comes_from_a_liar() {
        let (mut seen, asked, forged) = (Validity::default(), entry(1, 1, b"x"), entry(1, 2, b"y"));
        seen.asked(asked.origin, asked.body.digest());
        seen.committed(&asked, NodeSet::default());
        seen.committed(&Entry { kind: EntryKind::Empty, ..forged.clone() }, NodeSet::default());
        seen.committed(&forged, NodeSet::from_iter([NodeId(1)]));
        violates("validity", || seen.committed(&forged, NodeSet::default()));
    }
}
