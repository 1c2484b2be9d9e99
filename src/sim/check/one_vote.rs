//! One vote a term: "each server will vote for at most one candidate in a given term" (thesis 3.4), and keeps it through a crash:
//! votedFor is "updated on stable storage before responding" (figure 3.1). So over all lives of a node no vote changes within a term.

use crate::base::{NodeId, Term};
use crate::protocol::raft::Raft;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use std::collections::BTreeMap;

const PROPERTY: &str = "one-vote";

/// All votes.
#[derive(Default)]
pub struct OneVote {
    /// Those that were free to leave, of all lives.
    granted: BTreeMap<(Term, NodeId), NodeId>,
    /// By node: life, term and vote as they were seen last.
    held: BTreeMap<NodeId, (u64, Term, Option<NodeId>)>,
}

impl OneVote {
    /// What a node holds its vote to be now. Within a life it does not change but to a newer term.
    pub fn holds(&mut self, host: &Host, core: &Raft) {
        let now = (host.boot, core.term(), core.vote());
        let before = self.held.insert(host.id(), now).unwrap_or(now);
        let is_same_term = (before.0, before.1) == (now.0, now.1);
        hold!(
            PROPERTY,
            !is_same_term || before.2.is_none() || before.2 == now.2,
            "node {} changes its vote of term {} from {:?} to {:?}",
            host.id(),
            now.1,
            before.2,
            now.2
        );
    }

    /// A vote is free to leave: over all lives of `voter` it is the only one in `term`.
    pub fn granted(&mut self, term: Term, voter: NodeId, candidate: NodeId) {
        let first = *self.granted.entry((term, voter)).or_insert(candidate);
        hold!(PROPERTY, first == candidate, "{voter} votes for {first} and {candidate} in term {term}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::GROUP_ONE;
    use crate::sim::check::testing::{hosts, recovered};
    use crate::sim::options::ProtocolName;
    use crate::sim::violation::violates;
    use crate::wire::Record;

    fn voter(term: u64, vote: Option<u8>) -> Raft {
        recovered([Record::Vote { group: GROUP_ONE, term: Term(term), vote: vote.map(NodeId) }])
    }

    #[test]
    fn a_vote_that_changes_within_a_term_is_told() {
        let (host, mut seen) = (&hosts(ProtocolName::Raft, 1)[0], OneVote::default());
        for (term, vote) in [(1, None), (1, Some(2)), (1, Some(2)), (2, Some(3))] {
            seen.holds(host, &voter(term, vote));
        }
        violates("one-vote", || seen.holds(host, &voter(2, Some(2))));
    }

    #[test]
    fn a_second_vote_of_a_term_is_told_in_whatever_life() {
        let mut seen = OneVote::default();
        for (term, candidate) in [(1, 2), (1, 2), (2, 3)] {
            seen.granted(Term(term), NodeId(1), NodeId(candidate));
        }
        violates("one-vote", || seen.granted(Term(1), NodeId(1), NodeId(3)));
    }
}
