//! Someone who sees every message and may act on it. Within the crash model it is the network at its worst: it may hold back or lose
//! what anyone sends, and never forges. Nodes that it has corrupted, where a protocol endures such, say what it wants them to say
//! ([`super::liars`]).

pub use crate::protocol::pbft::liars::{Fate, Word};

use crate::base::{Instant, NodeId, NodeSet, Prng, Term};
use crate::wire::{Message, raft};
use std::time::Duration;

/// See the module. Calls come in the order in which messages leave their senders, so an adversary is a function of the run.
///
/// A corrupted node goes on running a correct replica: the adversary twists what that says, keeps from it what it should not hear, and
/// says in its name, with its keys, whatever it likes.
pub trait Adversary {
    /// The nodes that it has corrupted: checkers demand nothing of them.
    fn corrupted(&self) -> NodeSet {
        NodeSet::default()
    }
    /// A corrupted node's replica wants to say `word`. What is said instead goes into `out`.
    fn instead(&mut self, _now: Instant, word: Word, out: &mut Vec<Word>) {
        out.push(word);
    }
    /// Whether a corrupted node's replica is to hear of this.
    fn hears(&mut self, _now: Instant, _from: NodeId, _to: NodeId, _message: &Message) -> bool {
        true
    }
    /// What corrupted nodes say of their own accord: asked after each message that leaves any node.
    fn unasked(&mut self, _now: Instant, _out: &mut Vec<Word>) {}
    /// A message of a correct node is leaving.
    fn fate(&mut self, now: Instant, from: NodeId, to: NodeId, message: &Message) -> Fate;
    /// From now on the network obeys nobody. Lies go on; work that has no end does not.
    fn calm(&mut self) {}
}

/// Goes after leaders: as soon as one has something to replicate, all but a few nodes hear it late, so that its entries reach a
/// minority and another leader comes (thesis, figure 3.7 is such a story).
pub struct Hunter {
    prng: Prng,
    nodes: u64,
    /// The newest term that it has seen anyone lead in.
    term: Term,
    /// Who still hears that leader, as bits by node.
    hears: u64,
    until: Instant,
}

impl Hunter {
    /// Against a cluster of so many nodes.
    pub fn new(prng: Prng, nodes: usize) -> Hunter {
        Hunter { prng, nodes: nodes as u64, term: Term::default(), hears: u64::MAX, until: Instant::ZERO }
    }
}

impl Adversary for Hunter {
    fn fate(&mut self, now: Instant, _: NodeId, to: NodeId, message: &Message) -> Fate {
        let Message::Raft(raft::Message::Append { term, entries, .. }) = message else { return Fate::Pass };
        if self.term < *term && !entries.is_empty() {
            self.term = *term;
            let is_hunted = self.prng.chance(1, 2);
            self.hears = if is_hunted { self.prng.below(1 << self.nodes) } else { u64::MAX };
            self.until = now.after(Duration::from_millis(self.prng.below(3000)));
        }
        let is_deaf = *term == self.term && now < self.until && self.hears >> (to.0 - 1) & 1 == 0;
        if is_deaf { Fate::Hold(self.until.since(now)) } else { Fate::Pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Slot;
    use crate::wire::Entry;

    #[test]
    fn a_hunter_parts_some_leader_from_a_majority() {
        let append = |term| {
            let entries = vec![Entry { term: Term(term), slot: Slot(term), ..Entry::default() }];
            let (prev_slot, prev_term, commit) = (Slot(0), Term(0), Slot(0));
            Message::Raft(raft::Message::Append {
                term: Term(term),
                prev_slot,
                prev_term,
                commit,
                entries,
                round: 0,
            })
        };
        let mut hunter = Hunter::new(Prng::from_seed(1), 5);
        let held = |hunter: &mut Hunter, term| {
            let fates = (2..=5).map(|to| hunter.fate(Instant::ZERO, NodeId(1), NodeId(to), &append(term)));
            fates.filter(|fate| matches!(fate, Fate::Hold(_))).count()
        };
        let counts: Vec<usize> = (1..40).map(|term| held(&mut hunter, term)).collect();
        assert!(counts.contains(&0) && counts.iter().any(|held| 3 <= *held), "{counts:?}");
    }
}
