//! The delay attack: a primary that assigns just before it would be suspected (Amir and others, Prime; Clement and others, NSDI 2009).

use super::{Lie, Scene, Word};
use crate::wire::Message as Any;
use crate::wire::pbft::Message;
use std::time::Duration;

/// See the module.
pub struct Slow {
    /// By how much.
    delay: Duration,
}

impl Slow {
    /// By a part of what the group bears.
    pub fn new(scene: &mut Scene) -> Slow {
        let tenths = [3, 6, 8][scene.prng.below(3) as usize];
        Slow { delay: scene.options.request_timeout * tenths / 10 }
    }
}

impl Lie for Slow {
    fn twist(&mut self, _: &mut Scene, mut word: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(Message::PrePrepare { .. }) = word.message {
            word.after += self.delay;
        }
        out.push(word);
    }
}
