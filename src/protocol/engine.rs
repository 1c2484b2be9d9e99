//! Every protocol that a node can host, behind one type.

use super::raft::Raft;
use super::raft::status::Follower;
use super::{FaultKind, FollowerStanding, Input, Lead, Outbox, Protocol, Standing};
use crate::base::{Instant, NodeId, Slot};
use crate::wire::Message;

/// The closed set of cores.
pub enum Engine {
    /// Crash faults, one leader.
    Raft(Box<Raft>),
}

impl Protocol for Engine {
    type Message = Message;

    fn step(&mut self, now: Instant, input: Input<Message>, out: &mut Outbox) {
        match self {
            Engine::Raft(raft) => {
                let input = match input {
                    Input::Receive { from, message: Message::Raft(message) } => {
                        Input::Receive { from, message }
                    }
                    Input::Receive { from, .. } => return out.fault(from, FaultKind::OtherProtocol),
                    Input::Propose { batch, clock } => Input::Propose { batch, clock },
                    Input::Read { id } => Input::Read { id },
                    Input::Durable { ticket } => Input::Durable { ticket },
                    Input::Applied { slot } => Input::Applied { slot },
                    Input::Fetched { job, found } => Input::Fetched { job, found },
                    Input::Snapshotted { slot, bytes } => Input::Snapshotted { slot, bytes },
                    Input::Installed { slot, term, stamp, bytes } => {
                        Input::Installed { slot, term, stamp, bytes }
                    }
                    Input::Rewound { slot, next } => Input::Rewound { slot, next },
                    Input::Lost { peer } => Input::Lost { peer },
                    Input::Drain => Input::Drain,
                    Input::Transfer { to } => Input::Transfer { to },
                    Input::Timeout => Input::Timeout,
                };
                raft.step(now, input, out);
            }
        }
    }
    fn settle(&mut self, now: Instant, out: &mut Outbox) {
        match self {
            Engine::Raft(raft) => raft.settle(now, out),
        }
    }
    fn deadline(&self) -> Option<Instant> {
        match self {
            Engine::Raft(raft) => raft.deadline(),
        }
    }
    fn check(&self) {
        match self {
            Engine::Raft(raft) => raft.check(),
        }
    }
}

impl Lead for Engine {
    fn leader(&self) -> Option<NodeId> {
        match self {
            Engine::Raft(raft) => raft.leader(),
        }
    }
    fn is_leader(&self) -> bool {
        match self {
            Engine::Raft(raft) => raft.is_leader(),
        }
    }
    fn last(&self) -> Slot {
        match self {
            Engine::Raft(raft) => raft.last(),
        }
    }
    fn commit(&self) -> Slot {
        match self {
            Engine::Raft(raft) => raft.commit(),
        }
    }
    fn standing(&self) -> Standing {
        match self {
            Engine::Raft(raft) => raft.standing(),
        }
    }
    fn followers(&self) -> Vec<FollowerStanding> {
        match self {
            Engine::Raft(raft) => {
                let standing =
                    |Follower { id, matched, heard, mode, .. }| FollowerStanding { id, matched, heard, mode };
                raft.status().followers.into_iter().map(standing).collect()
            }
        }
    }
    fn is_transferring(&self) -> bool {
        match self {
            Engine::Raft(raft) => raft.is_transferring(),
        }
    }
    fn set_short(&mut self, short: bool) {
        match self {
            Engine::Raft(raft) => raft.set_short(short),
        }
    }
    fn is_drained(&self) -> bool {
        match self {
            Engine::Raft(raft) => raft.is_drained(),
        }
    }
}
