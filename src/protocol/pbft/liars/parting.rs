//! A scheduler that goes after views: some correct nodes hear the news of a view late, so that each knows another part of it.

use super::{Fate, Lie, Scene};
use crate::base::NodeId;
use crate::wire::Message as Any;
use crate::wire::pbft::Message;
use std::time::Duration;

/// See the module.
pub struct Parting {
    salt: u64,
    /// Messages are late by up to so much.
    late: Duration,
}

impl Parting {
    /// By a little, or by more than anybody waits.
    pub fn new(scene: &mut Scene) -> Parting {
        let times = [1, 4][scene.prng.below(2) as usize];
        Parting { salt: scene.prng.next_u64(), late: scene.options.request_timeout * times }
    }
}

impl Lie for Parting {
    fn fate(&mut self, scene: &mut Scene, _: NodeId, to: NodeId, message: &Any) -> Fate {
        let Any::Pbft(message) = message else { return Fate::Pass };
        let (view, phase) = match message {
            Message::PrePrepare { view, .. } => (*view, 1),
            Message::Prepare { view, .. } => (*view, 2),
            Message::Commit { view, .. } => (*view, 3),
            Message::NewView(new_view) => (new_view.view, 4),
            Message::ViewChange(change) => (change.view, 5),
            Message::Decided { .. } => (scene.view, 6),
            _ => return Fate::Pass,
        };
        let drawn =
            view.0.wrapping_mul(8).wrapping_add(phase + 1).wrapping_mul(self.salt | 1).rotate_left(29);
        let is_hunted = drawn & 3 == 0;
        if is_hunted && drawn >> (8 + to.0 % 32) & 1 == 1 {
            let nanos = scene.prng.below(self.late.as_nanos() as u64);
            return Fate::Hold(Duration::from_nanos(nanos));
        }
        Fate::Pass
    }
}
