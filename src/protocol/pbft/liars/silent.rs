//! Silence: crashed for some, well for others.

use super::{Lie, Scene, Word};
use crate::base::NodeSet;
use crate::wire::Message as Any;
use crate::wire::pbft::Message;

/// What is not said.
pub struct Silent {
    /// To whom nothing is said.
    to: NodeSet,
    /// Which kind is said to nobody.
    kind: Option<u8>,
}

impl Silent {
    /// Nobody is told anything.
    pub fn to_all(scene: &mut Scene) -> Silent {
        Silent { to: scene.all().collect(), kind: None }
    }
    /// As many as may be faulty are told nothing: those who are told make a quorum without them. Or all are told all but one thing.
    pub fn to_some(scene: &mut Scene) -> Silent {
        if scene.prng.chance(1, 2) {
            return Silent { to: NodeSet::default(), kind: Some(scene.prng.below(KINDS) as u8) };
        }
        let mut to = NodeSet::default();
        while to.len() < scene.quorum.f() {
            let victim = scene.any_correct();
            to.insert(victim);
        }
        Silent { to, kind: None }
    }
}

/// Kinds of messages that can be left out.
const KINDS: u64 = 7;

fn kind_of(message: &Any) -> Option<u8> {
    let Any::Pbft(message) = message else { return None };
    Some(match message {
        Message::PrePrepare { .. } => 0,
        Message::Prepare { .. } => 1,
        Message::Commit { .. } => 2,
        Message::Checkpoint { .. } => 3,
        Message::ViewChange(_) => 4,
        Message::NewView(_) => 5,
        Message::Status { .. } | Message::Decided { .. } | Message::Have { .. } => 6,
        Message::Want { .. } | Message::Request { .. } | Message::Shown { .. } => return None,
        Message::Accuse { .. } | Message::Succession(_) | Message::Charter(_) => return None,
        Message::PieceWant { .. } | Message::Piece { .. } => return None,
    })
}

impl Lie for Silent {
    fn twist(&mut self, _: &mut Scene, word: Word, out: &mut Vec<Word>) {
        let is_left_out = self.kind.is_some() && kind_of(&word.message) == self.kind;
        if !self.to.contains(word.to) && !is_left_out {
            out.push(word);
        }
    }
}
