//! Monotonic commit: what a node holds to be decided, and what its store has applied, only rise (thesis, figure 3.1: commitIndex and
//! lastApplied are "initialized to 0, increases monotonically"), and nothing is applied that is not decided.

use crate::base::{NodeId, Slot};
use crate::protocol::Lead;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use std::collections::BTreeMap;

const PROPERTY: &str = "monotonic-commit";

/// Each node as it was seen last: life, commit, applied.
#[derive(Default)]
pub struct MonotonicCommit {
    seen: BTreeMap<NodeId, (u64, Slot, Slot)>,
}

impl MonotonicCommit {
    /// Compares a node with how it was seen last in the same life.
    pub fn observe(&mut self, host: &Host) {
        let (id, applied) = (host.id(), host.machine.applied);
        let commit = host.engine().commit();
        let seen = self.seen.entry(id).or_default();
        if seen.0 == host.boot {
            hold!(
                PROPERTY,
                seen.1 <= commit,
                "node {id}: the commit index falls from {} to {commit}",
                seen.1
            );
            hold!(PROPERTY, seen.2 <= applied, "node {id}: applied falls from {} to {applied}", seen.2);
        }
        *seen = (host.boot, commit, applied);
    }
}
