//! Floods: votes for slots and views that are far away, questions without end. What correct nodes hold must stay bounded.

use super::{Lie, Scene, Word, word};
use crate::base::{Body, Digest, NodeId, Slot, Stamp, View};
use crate::crypto::Signature;
use crate::wire::Entry;
use crate::wire::pbft::{Message, Proposal, Vote};

/// See the module.
pub struct Flooding {
    /// Of ten messages heard, so many are followed by nonsense.
    often: u64,
}

impl Flooding {
    /// Much, or very much.
    pub fn new(scene: &mut Scene) -> Flooding {
        Flooding { often: [1, 5][scene.prng.below(2) as usize] }
    }
}

/// A number that is far away in some sense.
fn far(scene: &mut Scene, near: u64) -> u64 {
    let window = scene.options.window;
    let ahead = [1, window, 2 * window + 1, 1 << 20, 1 << 61, u64::MAX - near][scene.prng.below(6) as usize];
    near.saturating_add(ahead) - scene.prng.below(ahead.clamp(1, 8))
}

impl Lie for Flooding {
    fn overhear(&mut self, scene: &mut Scene, _: NodeId, _: &Message, out: &mut Vec<Word>) {
        if !scene.prng.chance(self.often, 10) {
            return;
        }
        let (from, to) = (scene.any_liar(), scene.any_correct());
        let view = scene.view;
        let ahead = View(far(scene, view.0));
        let view = if scene.prng.chance(1, 2) { view } else { ahead };
        let first = far(scene, 0);
        let vote = |n: u64| Vote { slot: Slot(first.saturating_add(n)), digest: Digest([n as u8; 32]) };
        let votes: Vec<Vote> = (0..32).map(vote).collect();
        let (slot, vote) = (votes[0].slot, votes[0]);
        let entry = Entry { slot, ..Entry::default() };
        let signature = Signature([1; 64]);
        let lie = match scene.prng.below(10) {
            0 | 1 => Message::Prepare { view, votes },
            2 | 3 => Message::Commit { view, votes },
            4 => Message::Want { votes },
            5 => Message::Decided { entries: vec![entry], votes },
            6 => {
                Message::PieceWant { slot, offset: far(scene, 0), round: far(scene, 0), ranges: Body::EMPTY }
            }
            7 => Message::Checkpoint { vote, signature },
            8 => Message::Piece {
                round: far(scene, 0),
                slot,
                stamp: Stamp(0),
                offset: 0,
                total: u64::MAX,
                body: Body::EMPTY,
            },
            _ => Message::PrePrepare { view, proposals: vec![Proposal { entry, signature }], signature },
        };
        out.push(word(from, to, scene.signed(from, lie)));
    }
}
