//! Proof that bytes were authentic and well formed.

use super::Message;
use crate::base::{GroupId, NodeId};

/// open -> replica: a message whose frame was authentic and well formed. Only `wire` makes one, by opening a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Whose key opened the frame.
    pub from: NodeId,
    /// The group it is about.
    pub group: GroupId,
    /// What it says.
    pub message: Message,
    proof: Proof,
}

/// Cannot be made outside this room.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Proof;

impl Opened {
    pub(super) fn new(from: NodeId, group: GroupId, message: Message) -> Opened {
        Opened { from, group, message, proof: Proof }
    }
    /// For the simulator, whose network carries values and forges none, and for unit tests of rooms that no bytes reach.
    pub(crate) fn assumed(from: NodeId, group: GroupId, message: Message) -> Opened {
        Opened::new(from, group, message)
    }
}
