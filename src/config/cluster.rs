//! What is equal on every node of a cluster.

use crate::base::{NodeId, NodeSet};
use crate::crypto::{ClusterId, PublicKey, VerifyingKey};

/// Changes when a node of the old format could not read what a node of the new one writes or sends.
pub const FORMAT_VERSION: u32 = 1;

/// A node as every other node knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name, 1 to `limits::NODES_MAX`.
    pub id: NodeId,
    /// Where other nodes reach it: `host:port`, or the path of a Unix socket.
    pub peer: String,
    /// Where clients reach it: what `CLUSTER SLOTS` and a redirection say.
    pub client: String,
    /// Where its service plane listens, if anybody else is to know.
    pub admin: Option<String>,
    /// Its static public key.
    pub key: PublicKey,
    /// The public half of the key that it signs with, which a Byzantine group needs.
    pub signing_key: Option<VerifyingKey>,
}

/// A client that talks to the group itself, not through a node: one that an operator has let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NativeClient {
    /// Its name, above those of all possible members.
    pub id: NodeId,
    /// Its static public key.
    pub key: PublicKey,
    /// The public half of the key that it signs with.
    pub signing_key: VerifyingKey,
}

/// The cluster: who is in it, under which name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// The cluster's name.
    pub id: ClusterId,
    /// Those with which the group began. Rising by id, without duplicates, at least one.
    pub members: Vec<Member>,
    /// Rising by id, without duplicates.
    pub clients: Vec<NativeClient>,
    /// This node itself, where it came later.
    pub joined: Option<Member>,
    /// The public half of the key that changes members and keys; without one they stay as they are.
    pub operator: Option<VerifyingKey>,
}

impl Cluster {
    /// The first member of that name, or this node where it came later.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().chain(&self.joined).find(|m| m.id == id)
    }
    /// The ids of all first members.
    pub fn nodes(&self) -> NodeSet {
        self.members.iter().map(|m| m.id).collect()
    }
}
