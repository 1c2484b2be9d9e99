//! The roster: who is in the group now, for all agents of a node that must know. The replica is its only writer, when an epoch begins or an
//! amendment is under way.

use super::members::Membership;
use super::pbft::{Charter, Vote};
use crate::base::{Latest, NodeId, Slot};

/// The latest roll, shared by the agents of a node.
pub type Roster = Latest<Roll>;

/// Where a group stands with its members, as one replica sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roll {
    /// Who is in it: of epoch 0 those whom the configuration lists.
    pub membership: Membership,
    /// The state above which the epoch began, as far as this replica knows it.
    pub base: Vote,
    /// How the epochs began of which this replica can show it, for whoever begins with the first members; rising.
    pub charters: Vec<Charter>,
    /// The last slot before other members, when an amendment waits for it.
    pub boundary: Option<Slot>,
    /// The group's window, which an amendment names.
    pub window: u64,
    /// The distance of its checkpoints, which an amendment names.
    pub checkpoint_every: u64,
}

impl Roll {
    /// Where a group stands in whose amendments nothing is under way, and of which nobody has shown how it came to this epoch.
    pub fn new(membership: Membership, base: Vote, window: u64, checkpoint_every: u64) -> Roll {
        Roll { membership, base, charters: Vec::new(), boundary: None, window, checkpoint_every }
    }
    /// Whether `node` is a member.
    pub fn contains(&self, node: NodeId) -> bool {
        self.membership.nodes().contains(node)
    }
}
