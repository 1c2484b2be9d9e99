//! Poisoned state transfer: pieces that are not the certified state's, of another size, or never enough.

use super::{Lie, Scene, Word};
use crate::base::{Body, Stamp};
use crate::wire::Message as Any;
use crate::wire::pbft::Message;

/// See the module.
pub struct PoisonedState {
    how: u64,
}

impl PoisonedState {
    /// In some way.
    pub fn new(scene: &mut Scene) -> PoisonedState {
        PoisonedState { how: scene.prng.below(4) }
    }
}

impl Lie for PoisonedState {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(Message::Piece { offset, total, body, stamp, .. }) = &mut said.message {
            let mut bytes = body.bytes().to_vec();
            match self.how {
                // Whole words, so that what comes of it is a state, and not this one.
                0 if 48 <= *offset && !bytes.is_empty() => {
                    let at = scene.prng.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1;
                }
                0 => (),
                1 => *total += 8 * (1 + scene.prng.below(1 << 20)),
                2 => bytes.truncate(bytes.len() / 2),
                _ => *stamp = Stamp(stamp.0 + 1),
            }
            *body = Body::new(bytes.into());
        }
        out.push(said);
    }
}
