//! What clients are told of the node and the cluster: facts that never change while the node runs, and numbers that others publish.

use super::bound::Extent;
use crate::base::hex::to_hex;
use crate::base::{Digest, Instant, NodeId, Number};
use crate::wire::hop::FollowerNumbers;
use crate::wire::roster::Roster;
use std::time::Duration;

/// A node of the cluster as clients see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it; 0 for a Unix socket.
    pub port: u16,
}

/// Numbers that other agents publish. Each is written by one of them and read here.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Who leads; 0 for nobody.
    pub leader: Number,
    /// The term.
    pub term: Number,
    /// So many replicas speak to each other about each batch; 0 where only a leader speaks to the others. Moves with the members.
    pub replicas: Number,
    /// The newest committed slot.
    pub committed: Number,
    /// The newest applied slot.
    pub applied: Number,
    /// How large the store is, and what it holds; `extent.memory` counts against the bound of memory.
    pub extent: Extent,
    /// Keys in the store.
    pub keys: Number,
    /// Those of them that expire.
    pub expiring: Number,
    /// What this node knows of the others while it leads.
    pub followers: Vec<(NodeId, FollowerNumbers)>,
    /// 1 once the node has loaded its state; before that commands get `-LOADING`.
    pub loaded: Number,
    /// 1 once the node is going down: what is asked is answered, nothing more is read.
    pub drain: Number,
    /// Published by `Take`: open connections.
    pub connections: Number,
    /// Published by `Take`: 1 when it is draining and every connection is answered and closed.
    pub drained: Number,
}

/// What clients are told.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub node: NodeId,
    /// Names the cluster.
    pub cluster: u128,
    /// How many times this node has been started (the superblock's generation).
    pub generation: u64,
    /// All members, by id.
    pub members: Vec<Member>,
    /// Where members come and go: who is in the group, and how many changes of it have been looked at.
    pub roster: Option<(Roster, u64)>,
    /// Bound of the store's logical bytes; 0 for none.
    pub memory_max: u64,
    /// Of the operating system.
    pub process: u32,
    /// What moves.
    pub facts: Facts,
}

/// Another member, as this node sees it while it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follower<'a> {
    /// Which.
    pub member: &'a Member,
    /// Its log agrees, durably, up to this slot.
    pub matched: u64,
    /// How long ago it was heard.
    pub silent: Duration,
    /// It is sent a snapshot.
    pub restored: bool,
}

/// A follower that was not heard for so long is not connected: an answer comes with every heartbeat.
const SILENT_MAX: Duration = Duration::from_secs(3);

/// The version of Redis whose clients are served: what they may expect of commands and replies.
pub const REDIS_VERSION: &str = "7.4.0";

impl Member {
    /// The node that clients reach at `address`: `host:port`, or the path of a Unix socket.
    pub fn at(node: NodeId, address: &str) -> Member {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        Member { node, host: host.to_string(), port: port.parse().unwrap_or(0) }
    }
}

impl View {
    /// Looks whether others are in the group by now.
    pub fn follow(&mut self) {
        let Some((roster, seen)) = &mut self.roster else { return };
        if let Some(roll) = roster.news(seen) {
            let members = roll.membership.members.iter();
            self.members = members.map(|member| Member::at(member.id, &member.client)).collect();
        }
    }
    /// This node's own line among the members.
    pub fn own(&self) -> Option<&Member> {
        self.member(self.node)
    }
    /// A member.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.node == node)
    }
    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        match self.facts.leader.get() {
            0 => None,
            node => u8::try_from(node).ok().map(NodeId),
        }
    }
    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leader() == Some(self.node)
    }
    /// The others that this node, while it leads, hears.
    pub fn followers(&self, now: Instant) -> Vec<Follower<'_>> {
        let seen = |(node, numbers): &(NodeId, FollowerNumbers)| {
            let silent = now.since(Instant(numbers.heard.get()));
            let (matched, restored) = (numbers.matched.get(), numbers.restored.get() == 1);
            Some(Follower { member: self.member(*node)?, matched, silent, restored })
        };
        let heard = |follower: &Follower| follower.silent < SILENT_MAX;
        self.facts.followers.iter().filter_map(seen).filter(heard).collect()
    }
    /// The newest slot that a member is known to hold: this node's own, or, while it leads, what it hears of the others.
    pub fn offset(&self, node: NodeId) -> u64 {
        let numbers = || self.facts.followers.iter().find(|(id, _)| *id == node);
        match numbers() {
            _ if node == self.node => self.facts.applied.get(),
            Some((_, numbers)) if self.leads() => numbers.matched.get(),
            _ => 0,
        }
    }
    /// As clients know it.
    pub fn role(&self) -> &'static str {
        if self.leads() { "master" } else { "slave" }
    }
    /// The name of a node in Redis's cluster commands: 40 hexadecimal digits.
    pub fn name_of(&self, node: NodeId) -> String {
        let mut named = self.cluster.to_le_bytes().to_vec();
        named.push(node.0);
        to_hex(&Digest::of(&named).0[..20])
    }
    /// Names this life of this node: 40 hexadecimal digits.
    pub fn run_name(&self) -> String {
        let mut named = self.cluster.to_le_bytes().to_vec();
        named.push(self.node.0);
        named.extend_from_slice(&self.generation.to_le_bytes());
        to_hex(&Digest::of(&named).0[..20])
    }
    /// How many other nodes have made durable what is acknowledged: a majority, without the one that says so.
    pub fn replicas_of_a_write(&self) -> i64 {
        (self.members.len() / 2) as i64
    }
}
