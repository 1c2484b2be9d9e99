//! Ending connections, and telling why there is no link.

use super::{Announcement, Kind, Rx};
use crate::base::{Instant, NodeId};
use crate::io::{Driver, Fd, Op};
use crate::net::connection::{Linked, Stage};
use crate::wire::hop::{LinkEvent, LinkId};

impl Rx {
    /// Ends a connection, whatever its stage.
    pub(super) fn end(&mut self, id: u64, why: &str, driver: &mut dyn Driver) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let (fd, now) = (connection.fd, driver.now());
        match connection.stage {
            Stage::Linked(linked) => self.end_link(id, fd, *linked, why, driver),
            Stage::Closing { .. } => driver.submit(Op::Close { fd }, self.token(Kind::Send, 0)),
            Stage::Shaking { dialled, .. } => {
                driver.submit(Op::Close { fd }, self.token(Kind::Send, 0));
                self.counters.refused += 1;
                if let Some(peer) = dialled {
                    self.peers.get_mut(&peer).expect("only peers are dialled").connection = None;
                    self.dial_later(peer, now);
                }
                self.tell_refused(dialled, format!("no handshake: {why}"));
            }
        }
    }

    pub(super) fn end_link(
        &mut self,
        id: u64,
        fd: Fd,
        mut linked: Linked,
        why: &str,
        driver: &mut dyn Driver,
    ) {
        let (peer, link) = (linked.peer, LinkId(id));
        let state = self.peers.get_mut(&peer).expect("links are of peers");
        if state.connection == Some(id) {
            state.connection = None;
        }
        // A link that never lasts is no reason to hurry.
        if linked.since.after(self.settings.reconnect_max) <= driver.now() {
            state.backoff.reset();
        }
        self.dial_later(peer, driver.now());
        self.counters.ended += 1;
        if linked.is_announced() {
            // What a peer said before it went still counts.
            let frames = std::iter::from_fn(|| linked.pop());
            self.announcements.extend(frames.map(|frame| Announcement::Frame { peer, link, frame }));
            self.announcements.push_back(Announcement::Down { peer, link, fd });
        } else {
            self.announcements
                .retain(|told| !matches!(told, Announcement::Up { link: waiting, .. } if *waiting == link));
            driver.submit(Op::Close { fd }, self.token(Kind::Send, 0));
        }
        self.tell(LinkEvent::Down { peer, why: why.into() });
    }

    pub(super) fn dial_later(&mut self, to: NodeId, now: Instant) {
        let peer = self.peers.get_mut(&to).expect("only peers are dialled");
        if peer.dials && peer.connection.is_none() && !peer.dialling {
            let at = now.after(peer.backoff.pause(&mut self.prng));
            peer.dial_at = Some(at);
            self.due_by(at);
        }
    }

    pub(super) fn tell(&mut self, event: LinkEvent) {
        self.counters.events_dropped += u64::from(self.rings.events.push(event).is_err());
    }

    /// Tells why there is no link, unless that has been told.
    pub(super) fn tell_refused(&mut self, peer: Option<NodeId>, why: String) {
        let told = match peer.and_then(|peer| self.peers.get_mut(&peer)) {
            Some(peer) => &mut peer.refused,
            None => &mut self.stranger_refused,
        };
        if *told != why {
            told.clone_from(&why);
            let who = peer.map_or("a stranger".into(), |peer| format!("node {peer}"));
            self.tell(LinkEvent::Refused { who, why });
        }
    }
}
