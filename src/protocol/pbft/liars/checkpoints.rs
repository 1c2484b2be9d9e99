//! Lying checkpoints: another state for each receiver, states of slots that nobody has executed, standings that are not.

use super::{Lie, Scene, Word, word};
use crate::base::{Digest, NodeId, Slot};
use crate::wire::Message as Any;
use crate::wire::pbft::{Message, Vote};

/// See the module.
pub struct FalseCheckpoints {
    differs: bool,
    /// Of ten standings, so many say that more is stable and executed.
    boasts: u64,
    /// An own checkpoint for each that is heard, before the own state is there.
    hurries: bool,
}

impl FalseCheckpoints {
    /// In some ways.
    pub fn new(scene: &mut Scene) -> FalseCheckpoints {
        let prng = &mut scene.prng;
        FalseCheckpoints {
            differs: prng.chance(2, 3),
            boasts: [0, 5][prng.below(2) as usize],
            hurries: prng.chance(1, 2),
        }
    }
}

impl Lie for FalseCheckpoints {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        let to = said.to;
        match &mut said.message {
            Any::Pbft(Message::Checkpoint { vote, .. }) if self.differs => {
                let digest = Digest([to.0; 32]);
                let lie =
                    Message::Checkpoint { vote: Vote { digest, ..*vote }, signature: Default::default() };
                said.message = scene.signed(said.from, lie).into();
            }
            Any::Pbft(Message::Status { stable, executed, .. }) if scene.prng.chance(self.boasts, 10) => {
                let every = scene.options.checkpoint_every;
                let more = every * [1, 5, 1 << 40][scene.prng.below(3) as usize];
                *stable = Slot(executed.0 / every * every + more);
                *executed = Slot(stable.0 + 1);
            }
            _ => (),
        }
        out.push(said);
    }

    fn overhear(&mut self, scene: &mut Scene, _: NodeId, said: &Message, out: &mut Vec<Word>) {
        let Message::Checkpoint { vote, .. } = said else { return };
        if self.hurries && scene.prng.chance(1, 4) {
            let far = Vote {
                slot: Slot(vote.slot.0.saturating_add(scene.options.snapshot_every)),
                digest: vote.digest,
            };
            let vote = if scene.prng.chance(1, 2) { *vote } else { far };
            for liar in scene.corrupted.iter() {
                let lie = Message::Checkpoint { vote, signature: Default::default() };
                let to = scene.any_correct();
                out.push(word(liar, to, scene.signed(liar, lie)));
            }
        }
    }
}
