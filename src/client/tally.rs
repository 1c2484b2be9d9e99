//! Who says what the reply to one request is.

use crate::base::{Digest, NodeId, NodeSet};

/// What replicas say that the reply to one request is, by its digest. The first word of each counts: one that says two things has one
/// voice, and a group with `f` liars bears that of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    heard: NodeSet,
    said: Vec<(Digest, NodeSet)>,
}

impl Tally {
    /// Counts a replica's word. False if it has spoken before.
    pub fn hear(&mut self, from: NodeId, digest: Digest) -> bool {
        let is_first = self.heard.insert(from);
        if is_first {
            match self.said.iter_mut().find(|(known, _)| *known == digest) {
                Some((_, nodes)) => {
                    nodes.insert(from);
                }
                None => self.said.push((digest, [from].into_iter().collect())),
            }
        }
        is_first
    }
    /// How many say `digest`.
    pub fn count(&self, digest: Digest) -> usize {
        self.said.iter().find(|(known, _)| *known == digest).map_or(0, |(_, nodes)| nodes.len())
    }
    /// What at least `enough` of them say. Of `f + 1` one is correct, so with that many there is only one such.
    pub fn agreed(&self, enough: usize) -> Option<Digest> {
        self.said.iter().find(|(_, nodes)| enough <= nodes.len()).map(|(digest, _)| *digest)
    }
    /// Whether `node` says `digest`.
    pub fn has(&self, node: NodeId, digest: Digest) -> bool {
        self.said.iter().any(|(known, nodes)| *known == digest && nodes.contains(node))
    }
    /// How many say what most say.
    pub fn most(&self) -> usize {
        self.said.iter().map(|(_, nodes)| nodes.len()).max().unwrap_or(0)
    }
    /// How many have spoken.
    pub fn len(&self) -> usize {
        self.heard.len()
    }
    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_has_one_voice_and_enough_equal_ones_agree() {
        let (right, wrong) = (Digest([1; 32]), Digest([2; 32]));
        let mut tally = Tally::default();
        assert!(tally.hear(NodeId(4), wrong));
        assert!(!tally.hear(NodeId(4), wrong), "a word that is repeated is no second voice");
        assert!(!tally.hear(NodeId(4), right), "nor is another word");
        assert_eq!((tally.agreed(2), tally.count(wrong), tally.len()), (None, 1, 1));
        assert!(tally.hear(NodeId(1), right));
        assert_eq!(tally.agreed(2), None);
        assert!(tally.hear(NodeId(2), right));
        assert_eq!((tally.agreed(2), tally.agreed(3)), (Some(right), None));
    }
}
