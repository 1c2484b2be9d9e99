//! Leader Completeness: "if a log entry is committed in a given term, then that entry will be present in the logs of the leaders for
//! all higher-numbered terms" (thesis, figure 3.2).

use crate::base::{Slot, Term};
use crate::protocol::raft::Raft;
use crate::wire::Entry;

/// What is committed, and in which term at the latest.
#[derive(Default)]
pub struct LeaderCompleteness {
    /// By slot, from 1: the entry's term, and the term of the node that first said so.
    committed: Vec<(Term, Term)>,
}

impl LeaderCompleteness {
    /// A node in `term` says that `entry` is committed, for the first time anywhere.
    pub fn committed(&mut self, term: Term, entry: &Entry) {
        assert_eq!(entry.slot.0, self.committed.len() as u64 + 1);
        self.committed.push((entry.term, term));
    }

    /// A leader has just been elected.
    pub fn elected(&self, raft: &Raft) {
        let floor = raft.tail().floor().slot.0 as usize;
        for (index, (of, during)) in self.committed.iter().enumerate().skip(floor) {
            let slot = Slot(index as u64 + 1);
            if *during < raft.term() {
                let found = raft.tail().term_at(slot);
                assert_eq!(
                    found,
                    Some(*of),
                    "leader completeness: slot {slot} at the leader of term {}",
                    raft.term()
                );
            }
        }
    }
}
