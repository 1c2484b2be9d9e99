//! Leader Completeness: "if a log entry is committed in a given term, then that entry will be present in the logs of the leaders for
//! all higher-numbered terms" (thesis, figure 3.2).

use crate::base::{Slot, Term};
use crate::protocol::raft::Raft;
use crate::sim::violation::hold;
use crate::wire::Entry;

const PROPERTY: &str = "leader-completeness";

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
                let (found, term) = (raft.tail().term_at(slot), raft.term());
                hold!(
                    PROPERTY,
                    found == Some(*of),
                    "slot {slot} is committed of term {of}; the leader of term {term} has {found:?} there"
                );
            }
        }
    }
}
