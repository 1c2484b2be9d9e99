//! Monotonicity: terms, commit and applied indexes, and what a leader knows of its followers only rise (thesis 3.3: "current term
//! numbers increase monotonically over time"; figure 3.1: commitIndex, lastApplied and matchIndex "increase monotonically"; thesis
//! 3.5: a leader never removes entries of its own log).

use crate::base::{NodeId, Slot, Term};
use crate::protocol::raft::Raft;
use crate::sim::host::Host;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq)]
struct Seen {
    boot: u64,
    term: Term,
    vote: Option<NodeId>,
    leads: bool,
    commit: Slot,
    applied: Slot,
    last: Slot,
    floor: Slot,
    matched: Vec<Slot>,
}

/// Each node as it was seen last.
#[derive(Default)]
pub struct Monotonic {
    seen: BTreeMap<NodeId, Seen>,
}

impl Monotonic {
    /// Compares a node with how it was seen last in the same life.
    pub fn observe(&mut self, host: &Host) {
        let raft: &Raft = host.raft();
        let matched = if raft.is_leader() {
            raft.status().followers.iter().map(|f| f.matched).collect()
        } else {
            Vec::new()
        };
        let now = Seen {
            boot: host.boot,
            term: raft.term(),
            vote: raft.vote(),
            leads: raft.is_leader(),
            commit: raft.commit(),
            applied: host.machine.applied,
            last: raft.last(),
            floor: raft.tail().floor().slot,
            matched,
        };
        if let Some(before) = self.seen.get(&host.id()).filter(|before| before.boot == now.boot) {
            assert!(before.term <= now.term, "monotonic: term");
            let is_same_term = before.term == now.term;
            assert!(!is_same_term || before.vote.is_none() || before.vote == now.vote, "monotonic: vote");
            assert!(before.commit <= now.commit, "monotonic: commit index");
            assert!(before.applied <= now.applied, "monotonic: applied index");
            assert!(before.floor <= now.floor, "monotonic: floor");
            if is_same_term && before.leads && now.leads {
                assert!(before.last <= now.last, "monotonic: a leader's log");
                let pairs = before.matched.iter().zip(&now.matched);
                assert!(pairs.into_iter().all(|(a, b)| a <= b), "monotonic: match index");
            }
        }
        self.seen.insert(host.id(), now);
    }
}
