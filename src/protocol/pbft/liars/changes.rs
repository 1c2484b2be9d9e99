//! View-changes that lie: P that nobody else accepted, P and Q left out, water marks in the clouds, views that nobody wants, another
//! view-change for each receiver.

use super::{Lie, Scene, Word, word};
use crate::base::{Digest, NodeId, Slot, View};
use crate::crypto::Signature;
use crate::wire::Message as Any;
use crate::wire::pbft::{Accepted, Change, Message, Prepared, Vote};

/// See the module.
pub struct FalseChanges {
    fabricates: bool,
    forgets: bool,
    soars: bool,
    /// Of a hundred messages heard, so many are answered by a wish for another view.
    wishes: u64,
    differs: bool,
}

impl FalseChanges {
    /// In some ways.
    pub fn new(scene: &mut Scene) -> FalseChanges {
        let prng = &mut scene.prng;
        FalseChanges {
            fabricates: prng.chance(1, 2),
            forgets: prng.chance(1, 3),
            soars: prng.chance(1, 5),
            wishes: [0, 0, 3][prng.below(3) as usize],
            differs: prng.chance(1, 3),
        }
    }

    fn lie(&self, scene: &mut Scene, change: &mut Change, to: NodeId) {
        if self.forgets {
            change.prepared.clear();
            change.accepted.clear();
        }
        if self.soars {
            let every = scene.options.checkpoint_every;
            let slot = Slot((change.stable.0 / every + 1 + scene.prng.below(5)) * every);
            change.stable = slot;
            change.checkpoints = vec![Vote { slot, digest: Digest([7; 32]) }];
            (change.prepared, change.accepted) = (Vec::new(), Vec::new());
        }
        if self.fabricates && 0 < change.view.0 {
            let slots = 1 + scene.prng.below(scene.options.window);
            let view = View(change.view.0 - 1);
            let value = if self.differs { to.0 } else { 1 };
            let vote = |slot| Vote { slot: Slot(change.stable.0 + slot), digest: Digest([value; 32]) };
            change.prepared = (1..=slots).map(|slot| Prepared { vote: vote(slot), view }).collect();
            change.accepted = (1..=slots).map(|slot| Accepted { vote: vote(slot), view }).collect();
        }
    }
}

impl Lie for FalseChanges {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(Message::ViewChange(change)) = &mut said.message {
            self.lie(scene, change, said.to);
            let lie = scene.signed(said.from, Message::ViewChange(change.clone()));
            said.message = lie.into();
        }
        out.push(said);
    }

    fn overhear(&mut self, scene: &mut Scene, _: NodeId, _: &Message, out: &mut Vec<Word>) {
        if scene.prng.chance(self.wishes, 100) {
            let ahead = [1, 1, 2, 1 << 40][scene.prng.below(4) as usize];
            let empty = Vote { slot: Slot::ZERO, digest: crate::wire::pbft::NULL };
            let change = Change {
                view: View(scene.view.0.saturating_add(ahead)),
                node: scene.any_liar(),
                stable: Slot::ZERO,
                checkpoints: vec![empty],
                prepared: Vec::new(),
                accepted: Vec::new(),
                signature: Signature::NONE,
            };
            let from = change.node;
            let lie = scene.signed(from, Message::ViewChange(change));
            out.extend(scene.correct().map(|to| word(from, to, lie.clone())));
        }
    }
}
