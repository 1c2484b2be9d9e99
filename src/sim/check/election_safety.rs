//! Election Safety: "at most one leader can be elected in a given term" (thesis, figure 3.2; 3.4: "each server will vote for at
//! most one candidate in a given term").

use crate::base::{NodeId, Term};
use std::collections::BTreeMap;

/// Leaders and votes of all terms.
#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
}

impl ElectionSafety {
    /// `id` leads `term`. True if this is new.
    pub fn observe(&mut self, term: Term, id: NodeId) -> bool {
        let is_new = !self.leaders.contains_key(&term);
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "election safety: two leaders in term {term}");
        is_new
    }

    /// A vote that is free to leave: over all lives of `voter` it is the only one in `term`.
    pub fn voted(&mut self, term: Term, voter: NodeId, candidate: NodeId) {
        let first = *self.votes.entry((term, voter)).or_insert(candidate);
        assert_eq!(first, candidate, "election safety: {voter} voted for two candidates in term {term}");
    }

    /// The leader of the newest term.
    pub fn newest(&self) -> Option<NodeId> {
        self.leaders.last_key_value().map(|(_, id)| *id)
    }
}
