//! Election Safety: "at most one leader can be elected in a given term" (thesis, figure 3.2).

use crate::base::{NodeId, Term};
use crate::sim::violation::hold;
use std::collections::BTreeMap;

const PROPERTY: &str = "election-safety";

/// Leaders of all terms.
#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    /// Who led last, and in which term: what is asked nearly always.
    newest: Option<(Term, NodeId)>,
}

impl ElectionSafety {
    /// `id` leads `term`. True if this is new.
    pub fn leads(&mut self, term: Term, id: NodeId) -> bool {
        if self.newest == Some((term, id)) {
            return false;
        }
        let is_new = !self.leaders.contains_key(&term);
        let leader = *self.leaders.entry(term).or_insert(id);
        hold!(PROPERTY, leader == id, "{leader} and {id} lead term {term}");
        self.newest = Some((term, id));
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::violation::violates;

    #[test]
    fn a_second_leader_of_a_term_is_told() {
        let mut seen = ElectionSafety::default();
        assert!(seen.leads(Term(1), NodeId(1)) && !seen.leads(Term(1), NodeId(1)));
        assert!(seen.leads(Term(2), NodeId(2)), "another term may have another leader");
        violates("election-safety", || {
            seen.leads(Term(1), NodeId(2));
        });
    }
}
