//! Monotonicity of what Raft keeps: "current term numbers increase monotonically over time" (thesis 3.3), also over a crash; and
//! "index of highest log entry known to be replicated ... increases monotonically" (figure 3.1, matchIndex), as does a log's floor.

use crate::base::{NodeId, Slot, Term};
use crate::protocol::raft::Raft;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use std::collections::BTreeMap;

const PROPERTY: &str = "monotonic";

#[derive(Default)]
struct Seen {
    boot: u64,
    term: Term,
    leads: bool,
    floor: Slot,
    /// The followers of a leader, in their order.
    matched: Vec<Slot>,
}

/// Each node as it was seen last.
#[derive(Default)]
pub struct Monotonic {
    seen: BTreeMap<NodeId, Seen>,
}

impl Monotonic {
    /// Compares a node with how it was seen last in the same life.
    pub fn observe(&mut self, host: &Host, core: &Raft) {
        let (id, seen) = (host.id(), self.seen.entry(host.id()).or_default());
        let (term, floor) = (core.term(), core.tail().floor().slot);
        let is_same_life = seen.boot == host.boot;
        if is_same_life {
            hold!(PROPERTY, seen.term <= term, "node {id} goes from term {} to {term}", seen.term);
            hold!(PROPERTY, seen.floor <= floor, "node {id}: the log's floor falls to {floor}");
        }
        let goes_on = is_same_life && seen.leads && core.is_leader() && seen.term == term;
        if !goes_on {
            seen.matched.clear();
        }
        if core.is_leader() {
            for (place, (peer, matched)) in core.holdings().enumerate() {
                match seen.matched.get_mut(place) {
                    Some(before) => {
                        hold!(
                            PROPERTY,
                            *before <= matched,
                            "leader {id}: match index of {peer} falls to {matched}"
                        );
                        *before = matched;
                    }
                    None => seen.matched.push(matched),
                }
            }
        }
        (seen.boot, seen.term, seen.leads, seen.floor) = (host.boot, term, core.is_leader(), floor);
    }
}
