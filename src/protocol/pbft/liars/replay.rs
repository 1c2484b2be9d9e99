//! Replays: what was once said rightly comes again when it is wrong. Links let no frame in twice, so only what the liars said
//! themselves, and what carries its author's signature, can.

use super::{Lie, Scene, Word, word};
use crate::base::NodeId;
use crate::wire::pbft::Message;
use crate::wire::{Message as Any, forward};
use std::collections::VecDeque;

/// So many words and requests are remembered.
const KEPT_MAX: usize = 64;

/// See the module.
pub struct Replaying {
    kept: VecDeque<Message>,
    own: VecDeque<Word>,
    /// Of a hundred messages, so many are followed by an old one.
    often: u64,
}

impl Replaying {
    /// Often, or now and then.
    pub fn new(scene: &mut Scene) -> Replaying {
        Replaying {
            kept: VecDeque::new(),
            own: VecDeque::new(),
            often: [3, 20][scene.prng.below(2) as usize],
        }
    }

    fn keep(&mut self, message: Message) {
        self.kept.push_back(message);
        if KEPT_MAX < self.kept.len() {
            self.kept.pop_front();
        }
    }
}

impl Lie for Replaying {
    fn twist(&mut self, scene: &mut Scene, said: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(_) = said.message {
            self.own.push_back(said.clone());
            if KEPT_MAX < self.own.len() {
                self.own.pop_front();
            }
            if scene.prng.chance(self.often, 100) {
                out.push(self.own[scene.prng.below(self.own.len() as u64) as usize].clone());
            }
        }
        out.push(said);
    }

    fn hears(&mut self, _: &mut Scene, _: NodeId, message: &Any) -> bool {
        if let Any::Forward(forward::Message::Batch { batch, .. }) = message {
            self.keep(Message::Request { batch: batch.clone() });
        }
        true
    }

    fn overhear(&mut self, scene: &mut Scene, _: NodeId, said: &Message, out: &mut Vec<Word>) {
        match said {
            Message::Request { .. } | Message::ViewChange(_) | Message::NewView(_) => self.keep(said.clone()),
            Message::PrePrepare { proposals, .. } => {
                let batches = proposals.iter().filter_map(crate::wire::pbft::batch_of);
                batches.for_each(|batch| self.keep(Message::Request { batch }));
            }
            _ => (),
        }
        if !self.kept.is_empty() && scene.prng.chance(self.often, 100) {
            let old = self.kept[scene.prng.below(self.kept.len() as u64) as usize].clone();
            let (from, to) = (scene.any_liar(), scene.any_correct());
            out.push(word(from, to, old));
        }
    }
}
