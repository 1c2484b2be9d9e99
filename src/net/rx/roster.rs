//! Whom the links know: the members of the epoch that the own replica is in. Who has left is hung up on and turned away, who has come is
//! dialled and let in, who has other keys must show them.
//!
//! Two replicas need not be in one epoch. One that is behind lists a key that is not in force any more, and only a link can bring it
//! forward. So a node that holds two keys shows the other one to whoever refuses the first; each side believes what its own epoch lists.

use super::{Peer, PeerAddress, Rx};
use crate::base::NodeId;
use crate::config::limits::NODES_MAX;
use crate::crypto::{PublicKey, SecretKey};
use crate::io::Driver;
use crate::net::connection::{Connection, Stage};
use crate::net::handshake::HandshakeError;
use crate::wire::hello::RefusalCode;
use crate::wire::hop::PeerNumbers;
use crate::wire::roster::{Roll, Roster};
use crossbeam::channel::Receiver;
use std::collections::BTreeMap;

/// What the receiver follows.
pub struct Following {
    /// Who is in the group.
    pub roster: Roster,
    /// For everybody who may ever be.
    pub numbers: BTreeMap<NodeId, PeerNumbers>,
    /// Keys of this node's own that an operator has had made since it started.
    pub keys: Receiver<SecretKey>,
    /// How many changes of the roster have been looked at.
    pub seen: u64,
}

impl Rx {
    /// Lets the links follow the group's members.
    #[must_use]
    pub fn following(mut self, following: Following) -> Rx {
        self.following = Some(following);
        self
    }

    /// Looks whether the members have changed.
    pub(super) fn heed_roster(&mut self, driver: &mut dyn Driver) -> usize {
        let Some(following) = &mut self.following else { return 0 };
        let Some(roll) = following.roster.news(&mut following.seen) else { return 0 };
        self.take_keys();
        let listed = |id: NodeId| roll.membership.members.iter().find(|member| member.id == id);
        let own = listed(self.identity.node).map(|member| member.key);
        if let Some(own) = own {
            self.identity.take_up(own);
        }
        // A node that is no member has nobody to talk to.
        let is_heard = own.is_some() || NODES_MAX < usize::from(self.identity.node.0);
        let others: BTreeMap<NodeId, (PublicKey, String)> = roll
            .membership
            .members
            .iter()
            .filter(|member| is_heard && member.id != self.identity.node)
            .map(|member| (member.id, (member.key, member.peer.clone())))
            .collect();
        self.hang_up(&others, &roll, driver);
        for (id, (key, address)) in others {
            self.let_in(id, key, address);
        }
        self.due_by(driver.now());
        1
    }

    /// Ends what there is with those who are no members any more, or have other keys than they had.
    fn hang_up(
        &mut self,
        others: &BTreeMap<NodeId, (PublicKey, String)>,
        roll: &Roll,
        driver: &mut dyn Driver,
    ) {
        let epoch = roll.membership.epoch;
        let nodes = self.identity.peers.iter().filter(|(id, _)| usize::from(id.0) <= NODES_MAX);
        let changed = nodes.filter(|(id, key)| others.get(id).is_none_or(|(listed, _)| listed != *key));
        for id in changed.map(|(id, _)| *id).collect::<Vec<_>>() {
            let why = match others.contains_key(&id) {
                true => format!("node {id} has other keys from epoch {epoch} on"),
                false => format!("node {id} is no member from epoch {epoch} on"),
            };
            let is_its = |connection: &Connection| match &connection.stage {
                Stage::Linked(linked) => linked.peer == id,
                Stage::Shaking { handshake, dialled, .. } => {
                    *dialled == Some(id) || handshake.peer() == Some(id)
                }
                Stage::Closing { .. } => false,
            };
            let its = self.connections.iter().filter(|(_, connection)| is_its(connection));
            for connection in its.map(|(number, _)| *number).collect::<Vec<_>>() {
                self.end(connection, &why, driver);
            }
            if !others.contains_key(&id) {
                self.peers.remove(&id);
                self.identity.peers.remove(&id);
            }
        }
    }

    /// From now on that node is a peer, by that key, at that address.
    fn let_in(&mut self, id: NodeId, key: PublicKey, address: String) {
        self.identity.peers.insert(id, key);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.address = address;
            return;
        }
        let following = self.following.as_ref().expect("only who follows lets anybody in");
        let numbers = following.numbers.get(&id).expect("ids of members are bounded").clone();
        let peer = Peer::new(id < self.identity.node, PeerAddress { address, numbers }, &self.settings);
        self.peers.insert(id, peer);
    }

    /// Keys that were made meanwhile.
    fn take_keys(&mut self) {
        let Some(following) = &self.following else { return };
        if let Some(newest) = following.keys.try_iter().last() {
            self.identity.other = Some(newest);
        }
    }

    /// A peer may have refused a key that is not in force where it is.
    pub(super) fn try_other_key(&mut self, peer: Option<NodeId>, error: &HandshakeError) {
        let is_key = matches!(error, HandshakeError::RefusedByPeer { code: Some(RefusalCode::Key), .. });
        if let Some(peer) = peer.filter(|_| is_key) {
            self.take_keys();
            self.identity.change_key_for(peer);
        }
    }
}
