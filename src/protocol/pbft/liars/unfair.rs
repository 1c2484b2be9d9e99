//! The unfair primary: one node's requests are never ordered, all others' are (RBFT, Aublin and others, ICDCS 2013).

use super::{Lie, Scene};
use crate::base::NodeId;
use crate::wire::pbft::Message;
use crate::wire::{Message as Any, forward};

/// See the module.
pub struct Unfair {
    victim: NodeId,
}

impl Unfair {
    /// Against one of the correct.
    pub fn new(scene: &mut Scene) -> Unfair {
        Unfair { victim: scene.any_correct() }
    }
}

impl Lie for Unfair {
    fn hears(&mut self, _: &mut Scene, _: NodeId, message: &Any) -> bool {
        match message {
            Any::Pbft(Message::Request { batch }) | Any::Forward(forward::Message::Batch { batch, .. }) => {
                batch.origin.node != self.victim
            }
            _ => true,
        }
    }
}
