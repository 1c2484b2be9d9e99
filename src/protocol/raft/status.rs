//! What operators and metrics see of a replica.

use super::progress::Mode;
use super::{Raft, Role};
use crate::base::{Instant, NodeId, Slot, Term};
use crate::protocol::{Room, Standing};

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// What is decided.
    pub commit: Slot,
    /// What the store has applied.
    pub applied: Slot,
    /// What is durable here.
    pub durable: Slot,
    /// The newest entry.
    pub last: Slot,
    /// What has left the log.
    pub floor: Slot,
    /// Entries in memory.
    pub cached: usize,
    /// Elections stood in since the start.
    pub elections: u64,
    /// At the leader.
    pub followers: Vec<Follower>,
}

/// A follower, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Who.
    pub id: NodeId,
    /// Its log agrees, durably, up to here.
    pub matched: Slot,
    /// The next entry to send.
    pub next: Slot,
    /// When it last answered.
    pub heard: Instant,
    /// Appends on their way.
    pub inflight: usize,
    /// `probe`, `replicate` or `snapshot`.
    pub mode: &'static str,
}

impl Raft {
    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
    /// Who leads, as far as is known. This replica only while it takes proposals.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader.filter(|leader| *leader != self.me || !self.transfer.is_under_way())
    }
    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }
    /// Its term.
    pub fn term(&self) -> Term {
        self.term
    }
    /// Whom it voted for in its term.
    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }
    /// What is decided.
    pub fn commit(&self) -> Slot {
        self.commit
    }
    /// What the store has applied, as far as it has told.
    pub fn applied(&self) -> Slot {
        self.applied
    }
    /// The newest entry.
    pub fn last(&self) -> Slot {
        self.tail.last()
    }
    /// What is durable here.
    pub fn durable(&self) -> Slot {
        self.writes.slot()
    }
    /// The log in memory.
    pub fn tail(&self) -> &super::tail::Tail {
        &self.tail
    }
    /// What the log has room for.
    pub fn set_room(&mut self, room: Room) {
        self.transfer.set_room(room, self.members.len() as u8 - 1);
    }
    /// Whether leadership, if it was held, has been handed over after `Input::Drain`.
    pub fn is_drained(&self) -> bool {
        self.transfer.is_draining() && (self.role != Role::Leader || self.members.len() == 1)
    }
    /// At the leader: what each other member is known to hold durably.
    pub fn holdings(&self) -> impl Iterator<Item = (NodeId, Slot)> {
        self.peers.iter().map(|peer| (peer.id, peer.matched))
    }
    /// At the leader: how many appends with entries are on their way to each other member.
    pub fn inflight(&self) -> impl Iterator<Item = usize> {
        self.peers.iter().map(|peer| peer.inflight())
    }
    /// Whether this replica leads and tries to have another lead, as `Input::Transfer` wished.
    pub fn is_transferring(&self) -> bool {
        self.transfer.is_wished()
    }
    /// The few figures that every protocol has.
    pub fn standing(&self) -> Standing {
        Standing {
            leader: self.leader,
            term: self.term.0,
            commit: self.commit,
            last: self.tail.last(),
            elections: self.elections,
            cause: self.cause,
        }
    }
    /// Everything.
    pub fn status(&self) -> Status {
        let followers = self.peers.iter().map(|p| Follower {
            id: p.id,
            matched: p.matched,
            next: p.next,
            heard: p.heard,
            inflight: p.inflight(),
            mode: match p.mode {
                Mode::Probe { .. } => "probe",
                Mode::Replicate => "replicate",
                Mode::Snapshot(_) => "snapshot",
            },
        });
        Status {
            role: self.role,
            leader: self.leader,
            term: self.term,
            commit: self.commit,
            applied: self.applied,
            durable: self.writes.slot(),
            last: self.tail.last(),
            floor: self.tail.floor().slot,
            cached: self.tail.len(),
            elections: self.elections,
            followers: followers.collect(),
        }
    }
}
