//! A turn: what others have found, what is due, what is to be told, what has come in.

use super::{Announcement, Kind, Peer, Rx, TURN_FRAMES_MAX};
use crate::base::ring::Producer;
use crate::base::{Instant, NodeId};
use crate::io::{Driver, Op, Token};
use crate::net::connection::{Connection, Stage};
use crate::wire::hop::{Incoming, LinkEvent, LinkId, SealLink, SendLink};

impl Rx {
    /// Ends links that others have found beyond use.
    pub(super) fn heed_numbers(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        while let Some((id, why)) = self.peers.values().find_map(Peer::beyond_use) {
            self.end(id, why, driver);
            done += 1;
        }
        done
    }

    /// Does what is due by the clock, and finds out when the next thing will be.
    pub(super) fn tick(&mut self, driver: &mut dyn Driver) -> usize {
        let now = driver.now();
        if now < self.due {
            return 0;
        }
        let silence_max = self.settings.silence_max;
        if self.due != Instant::ZERO && silence_max / 4 < now.since(self.due) {
            // This node was stopped for a while: what its peers said meanwhile is still on its way in.
            self.connections.values_mut().for_each(|connection| connection.listens_again(now));
        }
        let late = |c: &Connection| c.deadline(silence_max).is_some_and(|at| at <= now);
        let late: Vec<u64> = self.connections.iter().filter(|(_, c)| late(c)).map(|(id, _)| *id).collect();
        let mut done = late.len();
        for id in late {
            let why = self.connections[&id].lateness(now, silence_max);
            self.end(id, &why, driver);
        }
        done += self.dial_due(driver);
        if let (Some(at), Some(listener)) = (self.accept_at, self.listener)
            && at <= now
        {
            self.accept_at = None;
            driver.submit(Op::Accept { listener }, self.token(Kind::Accept, 0));
        }
        let connections = self.connections.values().filter_map(|c| c.deadline(silence_max));
        let dials = self.peers.values().filter_map(|peer| peer.dial_at);
        self.due = connections.chain(dials).chain(self.accept_at).min().unwrap_or(Instant(u64::MAX));
        done
    }

    pub(super) fn dial_due(&mut self, driver: &mut dyn Driver) -> usize {
        let (now, slot, mut done) = (driver.now(), self.slot, 0);
        for (id, peer) in &mut self.peers {
            if peer.dial_at.is_some_and(|at| at <= now) {
                (peer.dial_at, peer.dialling) = (None, true);
                let token = Token { agent: slot, value: (Kind::Connect as u64) << 56 | u64::from(id.0) };
                driver.submit(Op::Connect { address: peer.address.clone() }, token);
                self.counters.dialled += 1;
                done += 1;
            }
        }
        done
    }

    /// Tells the other agents what waits to be told, in order, as far as there is room in their rings.
    pub(super) fn announce(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        while !self.announcements.is_empty()
            && 0 < self.rings.open.room()
            && 0 < self.rings.seal.room()
            && 0 < self.rings.tx.room()
        {
            done += 1;
            match self.announcements.pop_front().expect("not empty") {
                Announcement::Up { peer, link } => self.announce_up(peer, link, driver),
                Announcement::Frame { peer, link, frame } => {
                    self.counters.frames += 1;
                    push(&mut self.rings.open, Incoming::Frame { peer, link, frame });
                }
                Announcement::Down { peer, link, fd } => {
                    push(&mut self.rings.open, Incoming::Down { peer, link });
                    push(&mut self.rings.seal, SealLink::Down { peer, link });
                    push(&mut self.rings.tx, SendLink::Down { peer, link });
                    driver.submit(Op::Close { fd }, self.token(Kind::Send, 0));
                }
            }
        }
        done
    }

    pub(super) fn announce_up(&mut self, peer: NodeId, link: LinkId, driver: &mut dyn Driver) {
        let connection = self.connections.get_mut(&link.0).expect("ending it takes its announcement back");
        let fd = connection.fd;
        let Stage::Linked(linked) = &mut connection.stage else { unreachable!("only links are announced") };
        let keys = linked.keys.take().expect("it is announced once");
        push(&mut self.rings.open, Incoming::Up { peer, link, keys: keys.receive });
        push(&mut self.rings.seal, SealLink::Up { peer, link, keys: keys.send });
        push(&mut self.rings.tx, SendLink::Up { peer, link, socket: fd.0 });
        self.counters.links += 1;
        let state = self.peers.get_mut(&peer).expect("links are of peers");
        state.refused.clear();
        state.numbers.lost.add(1);
        let address = driver.peer_address(fd).unwrap_or_default();
        self.tell(LinkEvent::Up { peer, address });
    }

    /// Hands frames on, some of each link.
    pub(super) fn hand_over(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        let mut links = std::mem::take(&mut self.links);
        links.extend(self.peers.values().filter_map(|peer| peer.connection));
        for id in links.drain(..) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let Stage::Linked(linked) = &mut connection.stage else { continue };
            if !linked.is_announced() {
                continue;
            }
            for _ in 0..TURN_FRAMES_MAX {
                if linked.bytes() == 0 || self.rings.open.room() == 0 {
                    break;
                }
                let frame = linked.pop().expect("there are bytes of frames");
                push(&mut self.rings.open, Incoming::Frame { peer: linked.peer, link: LinkId(id), frame });
                self.counters.frames += 1;
                done += 1;
            }
            self.hold_back(id, driver);
        }
        self.links = links;
        done
    }
}

fn push<T>(ring: &mut Producer<T>, value: T) {
    assert!(ring.push(value).is_ok(), "the caller has looked for room");
}
