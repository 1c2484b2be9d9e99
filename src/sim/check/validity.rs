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
