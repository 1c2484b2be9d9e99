//! The equivocating primary: "assigns the same sequence number to different requests" (Castro and Liskov 1999, 4.2).

use super::{Lie, Scene, Word, word};
use crate::base::{Digest, NodeId, Slot, View};
use crate::crypto::Signature;
use crate::wire::pbft::{Message, Proposal, Vote, digest};
use crate::wire::{Entry, Message as Any};
use std::collections::BTreeMap;

/// What was told to whom is remembered of so many slots.
const TOLD_MAX: usize = 4096;

/// See the module.
pub struct Equivocating {
    told: BTreeMap<(View, Slot, NodeId), Digest>,
    /// Whoever was told one value is told the other too.
    tells_both: bool,
    /// The other value is a batch with another stamp; else it is no batch.
    keeps_batch: bool,
    /// Which views are attacked, of four.
    of_four: u64,
    salt: u64,
}

impl Equivocating {
    /// In some way.
    pub fn new(scene: &mut Scene) -> Equivocating {
        let prng = &mut scene.prng;
        Equivocating {
            told: BTreeMap::new(),
            tells_both: prng.chance(1, 3),
            keeps_batch: prng.chance(1, 2),
            of_four: 1 + prng.below(4),
            salt: prng.next_u64(),
        }
    }

    /// Whether a node is on the side that is told something else in this view.
    fn is_other_side(&self, view: View, node: NodeId) -> bool {
        let drawn = (view.0 + 1).wrapping_mul(self.salt | 1).rotate_left(23) ^ self.salt;
        drawn % 4 < self.of_four && drawn >> (8 + node.0 % 32) & 1 == 1
    }

    fn other(&self, proposal: &Proposal) -> Proposal {
        let entry = &proposal.entry;
        let stamp = crate::base::Stamp(entry.stamp.0 + 1);
        match self.keeps_batch {
            true => Proposal { entry: Entry { stamp, ..entry.clone() }, signature: proposal.signature },
            false => Proposal {
                entry: Entry { slot: entry.slot, stamp, ..Entry::default() },
                signature: Signature::NONE,
            },
        }
    }

    fn tell(&mut self, view: View, to: NodeId, proposals: &[Proposal]) -> Vec<Vote> {
        let vote = |p: &Proposal| Vote { slot: p.entry.slot, digest: digest(&p.entry) };
        let votes: Vec<Vote> = proposals.iter().map(vote).collect();
        for vote in &votes {
            self.told.insert((view, vote.slot, to), vote.digest);
        }
        while TOLD_MAX < self.told.len() {
            self.told.pop_first();
        }
        votes
    }

    /// Votes as the receiver would like them.
    fn please(&self, view: View, to: NodeId, votes: &mut [Vote]) {
        for vote in votes {
            if let Some(digest) = self.told.get(&(view, vote.slot, to)) {
                vote.digest = *digest;
            }
        }
    }
}

impl Lie for Equivocating {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        let (from, to) = (said.from, said.to);
        match &mut said.message {
            Any::Pbft(Message::PrePrepare { view, proposals, signature })
                if self.is_other_side(*view, to) =>
            {
                let (view, signature) = (*view, *signature);
                let others: Vec<Proposal> = proposals.iter().map(|p| self.other(p)).collect();
                let votes = self.tell(view, to, &others);
                let lie = Message::PrePrepare { view, proposals: others, signature };
                if self.tells_both && scene.prng.chance(1, 2) {
                    out.push(said.clone());
                }
                out.push(word(from, to, scene.signed(from, lie)));
                for liar in scene.corrupted.iter() {
                    if liar != from {
                        out.push(word(liar, to, Message::Prepare { view, votes: votes.clone() }));
                    }
                    out.push(word(liar, to, Message::Commit { view, votes: votes.clone() }));
                }
                if self.tells_both {
                    out.push(said);
                }
            }
            Any::Pbft(Message::Prepare { view, votes } | Message::Commit { view, votes }) => {
                self.please(*view, to, votes);
                out.push(said);
            }
            _ => out.push(said),
        }
    }
}
