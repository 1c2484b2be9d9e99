//! Votes that differ from receiver to receiver: each hears what it wants, something else, the same twice, or all at once.

use super::{Lie, Scene, Word, word};
use crate::base::Digest;
use crate::wire::Message as Any;
use crate::wire::pbft::{Message, Vote};

/// See the module.
pub struct TwoFaced {
    /// Of ten votes, so many come twice.
    repeats: u64,
    /// Of ten votes, so many name another value.
    lies: u64,
    /// Of ten votes heard, so many are echoed to all at once by all liars, in both phases.
    echoes: u64,
}

impl TwoFaced {
    /// In some way.
    pub fn new(scene: &mut Scene) -> TwoFaced {
        let of_ten = |scene: &mut Scene| [0, 3, 10][scene.prng.below(3) as usize];
        TwoFaced { repeats: of_ten(scene), lies: of_ten(scene).min(3), echoes: of_ten(scene) }
    }

    fn turn(&self, scene: &mut Scene, votes: &mut [Vote]) {
        for vote in votes {
            if scene.prng.chance(self.lies, 10) {
                vote.digest = Digest([scene.prng.below(3) as u8; 32]);
            }
        }
    }
}

impl Lie for TwoFaced {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(Message::Prepare { votes, .. } | Message::Commit { votes, .. }) = &mut said.message {
            self.turn(scene, votes);
            if scene.prng.chance(self.repeats, 10) {
                out.push(said.clone());
            }
        }
        out.push(said);
    }

    fn overhear(&mut self, scene: &mut Scene, _: crate::base::NodeId, said: &Message, out: &mut Vec<Word>) {
        let (view, votes) = match said {
            Message::PrePrepare { view, proposals, .. } => {
                let vote = |p: &crate::wire::pbft::Proposal| Vote {
                    slot: p.entry.slot,
                    digest: crate::wire::pbft::digest(&p.entry),
                };
                (*view, proposals.iter().map(vote).collect::<Vec<_>>())
            }
            Message::Prepare { view, votes } => (*view, votes.clone()),
            _ => return,
        };
        if !scene.prng.chance(self.echoes, 10) {
            return;
        }
        // Whoever accepted it is told at once that all liars have, and that they know it prepared.
        let to = scene.any_correct();
        for liar in scene.corrupted.iter() {
            out.push(word(liar, to, Message::Prepare { view, votes: votes.clone() }));
            out.push(word(liar, to, Message::Commit { view, votes: votes.clone() }));
        }
    }
}
