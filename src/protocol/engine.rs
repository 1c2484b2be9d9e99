//! Every protocol that a node can host, behind one type.

use super::pbft::Pbft;
use super::raft::Raft;
use super::raft::status::Follower;
use super::{FaultKind, FollowerStanding, Input, Lead, Outbox, Protocol, Room, Standing, Unfit};
use crate::base::{Instant, NodeId, NodeSet, Slot};
use crate::crypto::SigningKey;
use crate::wire::members::Membership;
use crate::wire::pbft::{Charter, Vote};
use crate::wire::{Batch, Message};

/// The closed set of cores.
pub enum Engine {
    /// Crash faults, one leader.
    Raft(Box<Raft>),
    /// Byzantine faults, a primary that is watched.
    Pbft(Box<Pbft>),
}

impl Protocol for Engine {
    type Message = Message;

    fn step(&mut self, now: Instant, input: Input<Message>, out: &mut Outbox) {
        match self {
            Engine::Raft(raft) => {
                let own = |message| if let Message::Raft(message) = message { Some(message) } else { None };
                match own_protocol(input, own) {
                    Ok(input) => raft.step(now, input, out),
                    Err(from) => out.fault(from, FaultKind::OtherProtocol),
                }
            }
            Engine::Pbft(pbft) => {
                let own = |message| if let Message::Pbft(message) = message { Some(message) } else { None };
                match own_protocol(input, own) {
                    Ok(input) => pbft.step(now, input, out),
                    Err(from) => out.fault(from, FaultKind::OtherProtocol),
                }
            }
        }
    }
    fn settle(&mut self, now: Instant, out: &mut Outbox) {
        match self {
            Engine::Raft(raft) => raft.settle(now, out),
            Engine::Pbft(pbft) => pbft.settle(now, out),
        }
    }
    fn deadline(&self) -> Option<Instant> {
        match self {
            Engine::Raft(raft) => raft.deadline(),
            Engine::Pbft(pbft) => pbft.deadline(),
        }
    }
    fn check(&self) {
        match self {
            Engine::Raft(raft) => raft.check(),
            Engine::Pbft(pbft) => pbft.check(),
        }
    }
}

/// The same fact for a core that knows one protocol's messages; or who sent another's.
fn own_protocol<M>(
    input: Input<Message>,
    own: impl FnOnce(Message) -> Option<M>,
) -> Result<Input<M>, NodeId> {
    Ok(match input {
        Input::Receive { from, message } => Input::Receive { from, message: own(message).ok_or(from)? },
        Input::Propose { batch, clock } => Input::Propose { batch, clock },
        Input::Heard { from, batch } => Input::Heard { from, batch },
        Input::Clock { clock } => Input::Clock { clock },
        Input::Digested { slot, digest } => Input::Digested { slot, digest },
        Input::Read { id } => Input::Read { id },
        Input::Durable { ticket } => Input::Durable { ticket },
        Input::Applied { slot } => Input::Applied { slot },
        Input::Fetched { job, found } => Input::Fetched { job, found },
        Input::Snapshotted { slot, bytes } => Input::Snapshotted { slot, bytes },
        Input::Installed { slot, term, stamp, bytes, members } => {
            Input::Installed { slot, term, stamp, bytes, members }
        }
        Input::Rewound { slot, next } => Input::Rewound { slot, next },
        Input::Wanted { slot, ranges } => Input::Wanted { slot, ranges },
        Input::Poisoned { slot } => Input::Poisoned { slot },
        Input::Lost { peer } => Input::Lost { peer },
        Input::Drain => Input::Drain,
        Input::Transfer { to } => Input::Transfer { to },
        Input::Timeout => Input::Timeout,
    })
}

impl Lead for Engine {
    fn leader(&self) -> Option<NodeId> {
        match self {
            Engine::Raft(raft) => raft.leader(),
            Engine::Pbft(pbft) => pbft.leader(),
        }
    }
    fn is_leader(&self) -> bool {
        match self {
            Engine::Raft(raft) => raft.is_leader(),
            Engine::Pbft(pbft) => pbft.is_leader(),
        }
    }
    fn members(&self) -> Option<NodeSet> {
        match self {
            Engine::Raft(_) => None,
            Engine::Pbft(pbft) => Some(pbft.member_set()),
        }
    }
    fn epoch(&self) -> (u64, Option<Slot>) {
        match self {
            Engine::Raft(_) => (0, None),
            Engine::Pbft(pbft) => (pbft.epoch(), pbft.boundary()),
        }
    }
    fn membership(&self) -> Option<(&Membership, Vote)> {
        match self {
            Engine::Raft(_) => None,
            Engine::Pbft(pbft) => pbft.membership().map(|membership| (membership, pbft.epoch_base())),
        }
    }
    fn charters(&self) -> Vec<Charter> {
        match self {
            Engine::Raft(_) => Vec::new(),
            Engine::Pbft(pbft) => pbft.charters().cloned().collect(),
        }
    }
    fn judge(&self, amendment: &Batch) -> Result<(), Unfit> {
        match self {
            Engine::Raft(_) => Err(Unfit::Fixed),
            Engine::Pbft(pbft) => pbft.judge_amendment(amendment),
        }
    }
    fn hold(&mut self, key: SigningKey) {
        match self {
            Engine::Raft(_) => (),
            Engine::Pbft(pbft) => pbft.hold(key),
        }
    }
    fn is_watched(&self) -> bool {
        matches!(self, Engine::Pbft(_))
    }
    fn vouch(&self, batch: &mut Batch) {
        match self {
            Engine::Raft(_) => (),
            Engine::Pbft(pbft) => pbft.vouch(batch),
        }
    }
    fn last(&self) -> Slot {
        match self {
            Engine::Raft(raft) => raft.last(),
            Engine::Pbft(pbft) => pbft.last(),
        }
    }
    fn commit(&self) -> Slot {
        match self {
            Engine::Raft(raft) => raft.commit(),
            Engine::Pbft(pbft) => pbft.executed(),
        }
    }
    fn standing(&self) -> Standing {
        match self {
            Engine::Raft(raft) => raft.standing(),
            Engine::Pbft(pbft) => pbft.standing(),
        }
    }
    fn followers(&self) -> Vec<FollowerStanding> {
        match self {
            Engine::Raft(raft) => {
                let standing =
                    |Follower { id, matched, heard, mode, .. }| FollowerStanding { id, matched, heard, mode };
                raft.status().followers.into_iter().map(standing).collect()
            }
            Engine::Pbft(pbft) => pbft.followers(),
        }
    }
    fn convicted(&self) -> Vec<(NodeId, &'static str)> {
        match self {
            Engine::Raft(_) => Vec::new(),
            Engine::Pbft(pbft) => pbft.proofs().map(|(node, kind, _)| (node, kind)).collect(),
        }
    }
    fn is_transferring(&self) -> bool {
        match self {
            Engine::Raft(raft) => raft.is_transferring(),
            // Whose turn it is to lead is a matter of the view.
            Engine::Pbft(_) => false,
        }
    }
    fn set_room(&mut self, room: Room) {
        match self {
            Engine::Raft(raft) => raft.set_room(room),
            Engine::Pbft(pbft) => pbft.set_room(room),
        }
    }
    fn is_drained(&self) -> bool {
        match self {
            Engine::Raft(raft) => raft.is_drained(),
            Engine::Pbft(pbft) => pbft.is_drained(),
        }
    }
}
