//! Making, taking and reading connections.

use super::{Announcement, Kind, Rx, STRANGERS_MAX};
use crate::base::{Instant, NodeId};
use crate::io::{Driver, Fd, Op, Outcome};
use crate::net::connection::{BACKLOG_BYTES_MAX, Connection, Receiving, Stage};
use crate::net::handshake::Handshake;
use crate::wire::hop::LinkId;
use std::io;

impl Rx {
    pub(super) fn accepted(&mut self, fd: Fd, driver: &mut dyn Driver) {
        self.counters.accepted += 1;
        if STRANGERS_MAX <= self.connections.values().filter(|c| c.is_stranger()).count() {
            self.counters.evicted += 1;
            let oldest = self.connections.iter().find(|(_, c)| c.is_stranger()).map(|(id, _)| *id);
            self.end(oldest.expect("there are many"), "too many strangers came after it", driver);
        }
        let entropy = self.fresh_entropy();
        let handshake = Handshake::accept(&self.identity, entropy);
        self.shake(fd, handshake, None, Vec::new(), driver);
    }

    pub(super) fn dialled(&mut self, to: NodeId, fd: Fd, driver: &mut dyn Driver) {
        // It may have ceased to be a member meanwhile.
        let peer = self.peers.get_mut(&to);
        let is_wanted = peer.is_some_and(|peer| {
            peer.dialling = false;
            peer.connection.is_none()
        });
        if !is_wanted {
            return driver.submit(Op::Close { fd }, self.token(Kind::Send, 0));
        }
        let entropy = self.fresh_entropy();
        let mut hello = Vec::new();
        let handshake = Handshake::dial(&self.identity, to, entropy, &mut hello);
        let id = self.shake(fd, handshake, Some(to), hello, driver);
        self.peers.get_mut(&to).expect("it is wanted").connection = Some(id);
    }

    pub(super) fn dial_failed(&mut self, to: NodeId, error: &io::Error, now: Instant) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        peer.dialling = false;
        let why = format!("cannot connect to {}: {error}", peer.address);
        self.dial_later(to, now);
        self.tell_refused(Some(to), why);
    }

    pub(super) fn fresh_entropy(&mut self) -> [u8; 32] {
        let mut entropy = [0; 32];
        self.entropy.fill(&mut entropy);
        entropy
    }

    /// Takes a socket in, to shake hands over it.
    pub(super) fn shake(
        &mut self,
        fd: Fd,
        handshake: Handshake,
        dialled: Option<NodeId>,
        hello: Vec<u8>,
        driver: &mut dyn Driver,
    ) -> u64 {
        self.last_connection += 1;
        let id = self.last_connection;
        assert!(id < 1 << 56);
        let (now, until) = (driver.now(), driver.now().after(self.settings.handshake_max));
        let stage = Stage::Shaking { handshake: Box::new(handshake), inbox: Vec::new(), until, dialled };
        let connection = Connection { outbox: hello, ..Connection::new(fd, stage, now) };
        self.connections.insert(id, connection);
        self.due_by(until);
        driver.submit(Op::Receive { fd }, self.token(Kind::Receive, id));
        self.flush(id, driver);
        id
    }

    pub(super) fn received(&mut self, id: u64, bytes: &[u8], now: Instant) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.take(bytes, now)?;
        match &connection.stage {
            Stage::Shaking { .. } => self.shaking.push_back(id),
            Stage::Linked(_) => self.counters.bytes += bytes.len() as u64,
            Stage::Closing { .. } => {}
        }
        Ok(())
    }

    /// Stops to receive for a link whose frames wait, and goes on when they have been taken.
    pub(super) fn hold_back(&mut self, id: u64, driver: &mut dyn Driver) {
        let token = self.token(Kind::Receive, id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Stage::Linked(linked) = &connection.stage else { return };
        let fd = connection.fd;
        match connection.receiving {
            Receiving::On if BACKLOG_BYTES_MAX < linked.bytes() => {
                connection.receiving = Receiving::Stopping;
                self.counters.held_back += 1;
                driver.submit(Op::StopReceive { fd }, token);
            }
            Receiving::Off if linked.bytes() <= BACKLOG_BYTES_MAX / 2 => {
                connection.receiving = Receiving::On;
                connection.listens_again(driver.now());
                let heard_by = connection.heard.after(self.settings.silence_max);
                self.due_by(heard_by);
                driver.submit(Op::Receive { fd }, token);
            }
            _ => {}
        }
    }

    /// A receive is over.
    pub(super) fn receive_over(&mut self, id: u64, outcome: &Outcome, driver: &mut dyn Driver) {
        let token = self.token(Kind::Receive, id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match outcome {
            Outcome::Closed { stopped: true } => {
                connection.receiving = Receiving::Off;
                self.hold_back(id, driver);
            }
            Outcome::Received { .. } => driver.submit(Op::Receive { fd: connection.fd }, token),
            _ => {
                // The last thing that the other side said may be why it went.
                self.shake_one(id, driver);
                let why = match outcome {
                    Outcome::Failed { error, .. } => format!("receiving failed: {error}"),
                    _ => "the other side closed the connection".into(),
                };
                self.end(id, &why, driver);
            }
        }
    }

    /// Sends what the handshake wants to say; when all of it has left, does what waited for that.
    pub(super) fn flush(&mut self, id: u64, driver: &mut dyn Driver) {
        let token = self.token(Kind::Send, id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.sending {
            return;
        }
        if !connection.outbox.is_empty() {
            let parts = vec![std::mem::take(&mut connection.outbox).into()];
            connection.sending = true;
            return driver.submit(Op::Send { fd: connection.fd, parts }, token);
        }
        match &connection.stage {
            Stage::Linked(linked) if !linked.is_announced() => {
                let (peer, link) = (linked.peer, LinkId(id));
                self.announcements.push_back(Announcement::Up { peer, link });
            }
            Stage::Closing { .. } => self.end(id, "refused", driver),
            _ => {}
        }
    }
}
