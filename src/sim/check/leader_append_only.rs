//! Leader Append-Only: "a leader never overwrites or deletes entries in its log; it only appends new entries" (thesis, figure 3.2).

use crate::base::{NodeId, Slot, Term};
use crate::protocol::raft::Raft;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use crate::wire::Entry;
use std::collections::BTreeMap;

const PROPERTY: &str = "leader-append-only";

/// The logs of leaders as they were seen last.
#[derive(Default)]
pub struct LeaderAppendOnly {
    /// By node: the life, the term that it led, and its newest slot.
    led: BTreeMap<NodeId, (u64, Term, Slot)>,
}

impl LeaderAppendOnly {
    /// A node's core wrote `entry` in the burst that has just ended.
    pub fn appended(&self, host: &Host, core: &Raft, entry: &Entry) {
        if let Some(last) = self.last(host, core) {
            let Entry { slot, term, .. } = entry;
            hold!(PROPERTY, last < *slot, "leader {} writes slot {slot} of term {term} again", host.id());
        }
    }

    /// A burst of a node has ended.
    pub fn observe(&mut self, host: &Host, core: &Raft) {
        if let Some(last) = self.last(host, core) {
            hold!(
                PROPERTY,
                last <= core.last(),
                "leader {} had slot {last}, and has {}",
                host.id(),
                core.last()
            );
        }
        if core.is_leader() {
            self.led.insert(host.id(), (host.boot, core.term(), core.last()));
        }
    }

    /// The newest slot of a node that leads the same term as before.
    fn last(&self, host: &Host, core: &Raft) -> Option<Slot> {
        let (boot, term, last) = *self.led.get(&host.id())?;
        (core.is_leader() && (boot, term) == (host.boot, core.term())).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::check::testing::{Leader, entry, hosts};
    use crate::sim::options::ProtocolName;
    use crate::sim::violation::violates;

    #[test]
    fn a_leader_that_writes_a_slot_again_or_has_lost_one_is_told() {
        let (mut leader, mut seen) = (Leader::new(), LeaderAppendOnly::default());
        let mut host = hosts(ProtocolName::Raft, 1).remove(0);
        let before = leader.core.clone();
        seen.observe(&host, &before);
        leader.append();
        seen.appended(&host, &leader.core, &entry(1, 2, b"x"));
        seen.observe(&host, &leader.core);
        violates("leader-append-only", || seen.appended(&host, &leader.core, &entry(1, 2, b"y")));
        violates("leader-append-only", || seen.observe(&host, &before));
        host.boot += 1;
        seen.observe(&host, &before);
    }
}
