//! Decisions that were never made: values of the liar's own, told to those who are a little behind.

use super::{Lie, Scene, Word, word};
use crate::base::{NodeId, Slot};
use crate::wire::Message as Any;
use crate::wire::pbft::Message;
use crate::wire::{Entry, pbft};

/// See the module.
pub struct FalseDecisions {
    /// Of a hundred standings heard, so many are answered.
    answers: u64,
}

impl FalseDecisions {
    /// Often, or now and then.
    pub fn new(scene: &mut Scene) -> FalseDecisions {
        FalseDecisions { answers: [10, 60][scene.prng.below(2) as usize] }
    }
}

impl Lie for FalseDecisions {
    fn twist(&mut self, _: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(Message::Decided { entries, .. } | Message::Have { entries }) = &mut said.message {
            for entry in entries {
                entry.stamp.0 += 1;
            }
        }
        out.push(said);
    }

    fn overhear(&mut self, scene: &mut Scene, from: NodeId, said: &Message, out: &mut Vec<Word>) {
        let Message::Status { executed, .. } = said else { return };
        if !scene.prng.chance(self.answers, 100) {
            return;
        }
        let value = |slot: u64| Entry { slot: Slot(executed.0 + slot), ..Entry::default() };
        let entries: Vec<Entry> = (1..=1 + scene.prng.below(4)).map(value).collect();
        let vote = |entry: &Entry| pbft::Vote { slot: entry.slot, digest: pbft::digest(entry) };
        let votes = entries.iter().map(vote).collect();
        let is_whole = scene.prng.chance(1, 2);
        for liar in scene.corrupted.iter() {
            let lie = match is_whole {
                true => Message::Decided { entries: entries.clone(), votes: Vec::new() },
                false => Message::Decided { entries: Vec::new(), votes: Vec::clone(&votes) },
            };
            out.push(word(liar, from, lie));
        }
    }
}
