//! [`Rx`]: makes and takes connections, shakes hands, receives, and tells the other agents of links.
//!
//! Of each pair the node with the higher id dials, so there is one connection a pair and nothing to settle when both begin at once. A
//! connection that proves to be a peer's replaces an older one: the peer knows that it lost the other, this node may not yet.
//!
//! A link's life is announced in one order to `open`, `seal` and `tx`: up, frames, down; and its socket is closed only after `tx` has
//! been told, so nothing is ever sent over a socket that is another's by then. Those who find a link beyond use say so by a number.

use super::backoff::Backoff;
use super::connection::{BACKLOG_BYTES_MAX, Connection, Linked, Receiving, Stage};
use super::handshake::{Established, Handshake, HandshakeError, Identity};
use crate::base::ring::Producer;
use crate::base::{Instant, NodeId, Prng};
use crate::io::{Agent, Completion, Driver, Entropy, Fd, Op, Outcome, Token};
use crate::meter::{Metered, Report};
use crate::wire::hop::{Incoming, LinkEvent, LinkId, PeerNumbers, SealLink, SendLink};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

/// Connections whose other end has not proved to be anyone. A further one ends the oldest: a flood of strangers costs strangers.
const STRANGERS_MAX: usize = 64;
/// Handshakes that one turn moves on: each costs up to a quarter of a millisecond of arithmetic.
const TURN_HANDSHAKES_MAX: usize = 4;
/// Frames of one link that one turn hands on.
const TURN_FRAMES_MAX: usize = 64;
/// How long a refusal may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Accepting goes on after this long when it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A handshake takes a few round trips; this is for a machine that is very busy.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Six keep-alives of a peer.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port`, or a path.
    pub listen: String,
    /// First pause before dialling again.
    pub reconnect_min: Duration,
    /// Longest pause before dialling again.
    pub reconnect_max: Duration,
    /// A handshake that takes longer ends.
    pub handshake_max: Duration,
    /// A link over which nothing came for this long ends: several keep-alives of the peer.
    pub silence_max: Duration,
}

/// A peer as this node reaches it.
#[derive(Clone, Debug)]
pub struct PeerAddress {
    /// `host:port`, or a path.
    pub address: String,
    /// What flows back.
    pub numbers: PeerNumbers,
}

/// Whom the receiver tells what.
pub struct Rings {
    /// Frames.
    pub open: Producer<Incoming>,
    /// Links.
    pub seal: Producer<SealLink>,
    /// Links.
    pub tx: Producer<SendLink>,
    /// What operators want to hear. Full: dropped and counted.
    pub events: Producer<LinkEvent>,
}

/// Makes and takes connections, and receives.
pub struct Rx {
    settings: Settings,
    identity: Identity,
    entropy: Box<dyn Entropy>,
    prng: Prng,
    rings: Rings,
    slot: u8,
    listener: Option<Fd>,
    /// Accepting ended and goes on then.
    accept_at: Option<Instant>,
    /// By a number that rises and is the link's id too. Oldest first.
    connections: BTreeMap<u64, Connection>,
    last_connection: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// Connections whose handshake has something to look at.
    shaking: VecDeque<u64>,
    /// Scratch of `hand_over`, kept for its capacity.
    links: Vec<u64>,
    announcements: VecDeque<Announcement>,
    /// No deadline is before it.
    due: Instant,
    /// The last reason for which a stranger was turned away.
    stranger_refused: String,
    counters: Counters,
}

struct Peer {
    address: String,
    numbers: PeerNumbers,
    /// This node makes the connection.
    dials: bool,
    dialling: bool,
    /// When to dial. Running while there is neither a connection nor an attempt, for peers that this node dials.
    dial_at: Option<Instant>,
    backoff: Backoff,
    /// Its link, or the connection that was dialled to become one.
    connection: Option<u64>,
    /// The last reason for which there was no link; told once.
    refused: String,
}

impl Peer {
    /// Its link, if another agent has found that it is beyond use, and why.
    fn beyond_use(&self) -> Option<(u64, &'static str)> {
        let id = self.connection?;
        if self.numbers.refused.get() == id {
            Some((id, "it brought a frame that is not authentic, in order and well formed"))
        } else if self.numbers.stalled.get() == id {
            Some((id, "nothing more could be sent over it"))
        } else {
            None
        }
    }
}

/// What waits for room in the rings; each keeps its place in the order.
enum Announcement {
    Up { peer: NodeId, link: LinkId },
    Frame { peer: NodeId, link: LinkId, frame: Bytes },
    Down { peer: NodeId, link: LinkId, fd: Fd },
}

/// What has been done so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Links that came up.
    pub links: u64,
    /// Links that ended.
    pub ended: u64,
    /// Connections taken in.
    pub accepted: u64,
    /// Attempts to connect.
    pub dialled: u64,
    /// Handshakes that came to nothing, on either side.
    pub refused: u64,
    /// Strangers hung up on because too many of them were there.
    pub evicted: u64,
    /// Bytes received over links.
    pub bytes: u64,
    /// Whole frames handed on.
    pub frames: u64,
    /// Times that a link was not read from because its frames waited.
    pub held_back: u64,
    /// Events that nobody took.
    pub events_dropped: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Accept = 0,
    Connect = 1,
    Receive = 2,
    Send = 3,
}

impl Rx {
    /// An agent that reaches `peers`, which must be those of `identity`.
    pub fn new(
        settings: Settings,
        identity: Identity,
        peers: BTreeMap<NodeId, PeerAddress>,
        mut entropy: Box<dyn Entropy>,
        rings: Rings,
    ) -> Rx {
        assert!(peers.keys().eq(identity.peers.keys()));
        let peers = peers.into_iter().map(|(id, PeerAddress { address, numbers })| {
            let dials = id < identity.node;
            let backoff = Backoff::new(settings.reconnect_min, settings.reconnect_max);
            let dial_at = dials.then_some(Instant::ZERO);
            let refused = String::new();
            (
                id,
                Peer {
                    address,
                    numbers,
                    dials,
                    dialling: false,
                    dial_at,
                    backoff,
                    connection: None,
                    refused,
                },
            )
        });
        let peers = peers.collect();
        Rx {
            prng: Prng::from_seed(entropy.seed()),
            settings,
            identity,
            entropy,
            rings,
            slot: 0,
            listener: None,
            accept_at: None,
            connections: BTreeMap::new(),
            last_connection: 0,
            peers,
            shaking: VecDeque::new(),
            links: Vec::new(),
            announcements: VecDeque::new(),
            due: Instant::ZERO,
            stranger_refused: String::new(),
            counters: Counters::default(),
        }
    }
    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// The socket that peers connect to, once it has started.
    pub fn listener(&self) -> Option<Fd> {
        self.listener
    }

    fn token(&self, kind: Kind, value: u64) -> Token {
        Token { agent: self.slot, value: (kind as u64) << 56 | value }
    }
    fn due_by(&mut self, at: Instant) {
        self.due = self.due.min(at);
    }

    // ---- connections ----------------------------------------------------------------------------------------------

    fn accepted(&mut self, fd: Fd, driver: &mut dyn Driver) {
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

    fn dialled(&mut self, to: NodeId, fd: Fd, driver: &mut dyn Driver) {
        let peer = self.peers.get_mut(&to).expect("only peers are dialled");
        peer.dialling = false;
        if peer.connection.is_some() {
            return driver.submit(Op::Close { fd }, self.token(Kind::Send, 0));
        }
        let entropy = self.fresh_entropy();
        let mut hello = Vec::new();
        let handshake = Handshake::dial(&self.identity, to, entropy, &mut hello);
        let id = self.shake(fd, handshake, Some(to), hello, driver);
        self.peers.get_mut(&to).expect("as above").connection = Some(id);
    }

    fn dial_failed(&mut self, to: NodeId, error: &io::Error, now: Instant) {
        self.peers.get_mut(&to).expect("only peers are dialled").dialling = false;
        self.dial_later(to, now);
        let why = format!("cannot connect to {}: {error}", self.peers[&to].address);
        self.tell_refused(Some(to), why);
    }

    fn fresh_entropy(&mut self) -> [u8; 32] {
        let mut entropy = [0; 32];
        self.entropy.fill(&mut entropy);
        entropy
    }

    /// Takes a socket in, to shake hands over it.
    fn shake(
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

    fn received(&mut self, id: u64, bytes: &[u8], now: Instant) -> Result<(), String> {
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
    fn hold_back(&mut self, id: u64, driver: &mut dyn Driver) {
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
                connection.heard = driver.now();
                let heard_by = connection.heard.after(self.settings.silence_max);
                self.due_by(heard_by);
                driver.submit(Op::Receive { fd }, token);
            }
            _ => {}
        }
    }

    /// A receive is over.
    fn receive_over(&mut self, id: u64, outcome: &Outcome, driver: &mut dyn Driver) {
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
    fn flush(&mut self, id: u64, driver: &mut dyn Driver) {
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

    // ---- handshakes -----------------------------------------------------------------------------------------------

    /// Moves some handshakes on.
    fn shake_hands(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        while done < TURN_HANDSHAKES_MAX {
            let Some(id) = self.shaking.pop_front() else { break };
            done += usize::from(self.shake_one(id, driver));
        }
        done
    }

    /// Looks at what has come for a handshake; whether there was anything.
    fn shake_one(&mut self, id: u64, driver: &mut dyn Driver) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let Stage::Shaking { handshake, inbox, .. } = &mut connection.stage else { return false };
        if inbox.is_empty() {
            return false;
        }
        let bytes = std::mem::take(inbox);
        match handshake.receive(&self.identity, &bytes, &mut connection.outbox) {
            Ok(None) => {}
            Ok(Some(established)) => self.established(id, established, driver),
            Err(error) => self.refused(id, &error, driver.now()),
        }
        self.flush(id, driver);
        true
    }

    fn established(&mut self, id: u64, established: Established, driver: &mut dyn Driver) {
        let Established { peer, keys, rest, .. } = established;
        let older = self.peers[&peer].connection.filter(|older| *older != id);
        if let Some(older) = older {
            self.end(older, "the peer has connected anew", driver);
        }
        let now = driver.now();
        let mut linked = Linked::new(peer, keys, now);
        let taken = linked.take(&rest);
        let connection = self.connections.get_mut(&id).expect("it has just shaken hands");
        connection.stage = Stage::Linked(Box::new(linked));
        let state = self.peers.get_mut(&peer).expect("the handshake knows members only");
        (state.connection, state.dial_at) = (Some(id), None);
        self.due_by(now.after(self.settings.silence_max));
        if let Err(error) = taken {
            self.end(id, &error.to_string(), driver);
        }
    }

    fn refused(&mut self, id: u64, error: &HandshakeError, now: Instant) {
        let connection = self.connections.get_mut(&id).expect("it has just shaken hands");
        let until = now.after(FAREWELL);
        let shaking = std::mem::replace(&mut connection.stage, Stage::Closing { until });
        self.due_by(until);
        self.counters.refused += 1;
        let Stage::Shaking { handshake, dialled, .. } = shaking else { unreachable!("it was shaking hands") };
        if let Some(peer) = dialled {
            self.peers.get_mut(&peer).expect("only peers are dialled").connection = None;
            self.dial_later(peer, now);
        }
        let who = dialled.or(handshake.peer().filter(|peer| self.peers.contains_key(peer)));
        self.tell_refused(who, error.to_string());
    }

    // ---- ends -----------------------------------------------------------------------------------------------------

    /// Ends a connection, whatever its stage.
    fn end(&mut self, id: u64, why: &str, driver: &mut dyn Driver) {
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

    fn end_link(&mut self, id: u64, fd: Fd, mut linked: Linked, why: &str, driver: &mut dyn Driver) {
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

    fn dial_later(&mut self, to: NodeId, now: Instant) {
        let peer = self.peers.get_mut(&to).expect("only peers are dialled");
        if peer.dials && peer.connection.is_none() && !peer.dialling {
            let at = now.after(peer.backoff.pause(&mut self.prng));
            peer.dial_at = Some(at);
            self.due_by(at);
        }
    }

    fn tell(&mut self, event: LinkEvent) {
        self.counters.events_dropped += u64::from(self.rings.events.push(event).is_err());
    }

    /// Tells why there is no link, unless that has been told.
    fn tell_refused(&mut self, peer: Option<NodeId>, why: String) {
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

    // ---- a turn ---------------------------------------------------------------------------------------------------

    /// Ends links that others have found beyond use.
    fn heed_numbers(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        while let Some((id, why)) = self.peers.values().find_map(Peer::beyond_use) {
            self.end(id, why, driver);
            done += 1;
        }
        done
    }

    /// Does what is due by the clock, and finds out when the next thing will be.
    fn tick(&mut self, driver: &mut dyn Driver) -> usize {
        let now = driver.now();
        if now < self.due {
            return 0;
        }
        let silence_max = self.settings.silence_max;
        if self.due != Instant::ZERO && silence_max / 4 < now.since(self.due) {
            // This node was stopped for a while: what its peers said meanwhile is still on its way in.
            self.connections.values_mut().for_each(|connection| connection.heard = now);
        }
        let late = |c: &Connection| c.deadline(silence_max).is_some_and(|at| at <= now);
        let late: Vec<u64> = self.connections.iter().filter(|(_, c)| late(c)).map(|(id, _)| *id).collect();
        let mut done = late.len();
        for id in late {
            let why = match &self.connections[&id].stage {
                Stage::Linked(_) => format!("nothing was heard for {silence_max:?}"),
                _ => "it took too long".into(),
            };
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

    fn dial_due(&mut self, driver: &mut dyn Driver) -> usize {
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
    fn announce(&mut self, driver: &mut dyn Driver) -> usize {
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

    fn announce_up(&mut self, peer: NodeId, link: LinkId, driver: &mut dyn Driver) {
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
    fn hand_over(&mut self, driver: &mut dyn Driver) -> usize {
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

impl Agent for Rx {
    fn name(&self) -> &'static str {
        "rx"
    }
    fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> io::Result<()> {
        self.slot = slot;
        let listener = driver.listen(&self.settings.listen).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen for peers on {}: {error}", self.settings.listen),
            )
        })?;
        self.listener = Some(listener);
        driver.submit(Op::Accept { listener }, self.token(Kind::Accept, 0));
        Ok(())
    }
    fn complete(&mut self, completion: Completion, driver: &mut dyn Driver) {
        let Completion { token: Token { value, .. }, outcome, last } = completion;
        let (kind, id) = (value >> 56, value & ((1 << 56) - 1));
        if kind == Kind::Accept as u64 {
            if let Outcome::Accepted(fd) = outcome {
                self.accepted(fd, driver);
            }
            if last {
                let at = driver.now().after(ACCEPT_PAUSE);
                self.accept_at = Some(at);
                self.due_by(at);
            }
        } else if kind == Kind::Connect as u64 {
            match outcome {
                Outcome::Connected(fd) => self.dialled(NodeId(id as u8), fd, driver),
                Outcome::Failed { error, .. } => self.dial_failed(NodeId(id as u8), &error, driver.now()),
                _ => unreachable!("connecting ends in a connection or fails"),
            }
        } else if kind == Kind::Receive as u64 {
            let mut taken = Ok(());
            if let Outcome::Received { buffer, len } = outcome {
                let now = driver.now();
                taken = self.received(id, driver.received(buffer, len), now);
                driver.recycle(buffer);
            }
            match taken {
                Err(why) => self.end(id, &why, driver),
                Ok(()) if last => self.receive_over(id, &outcome, driver),
                Ok(()) => self.hold_back(id, driver),
            }
        } else {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            connection.sending = false;
            match outcome {
                Outcome::Failed { error, .. } => self.end(id, &format!("sending failed: {error}"), driver),
                _ => self.flush(id, driver),
            }
        }
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = self.shake_hands(driver) + self.heed_numbers(driver) + self.tick(driver);
        done += self.announce(driver);
        if self.announcements.is_empty() {
            done += self.hand_over(driver);
        }
        done
    }
    fn deadline(&self) -> Option<Instant> {
        (self.due != Instant(u64::MAX)).then_some(self.due)
    }
}
impl Metered for Rx {
    fn report(&self, to: &mut dyn Report) {
        let c = self.counters;
        for (name, help, value) in [
            ("quorate_peer_links_total", "Links that came up.", c.links),
            ("quorate_peer_links_ended_total", "Links that ended.", c.ended),
            ("quorate_peer_accepted_total", "Connections taken in on the port for peers.", c.accepted),
            ("quorate_peer_dialled_total", "Attempts to connect to a peer.", c.dialled),
            ("quorate_peer_handshakes_refused_total", "Handshakes that came to nothing.", c.refused),
            (
                "quorate_peer_strangers_evicted_total",
                "Strangers hung up on to make room for others.",
                c.evicted,
            ),
            ("quorate_peer_link_bytes_total", "Bytes received over links.", c.bytes),
            ("quorate_peer_frames_received_total", "Whole frames received.", c.frames),
            ("quorate_peer_held_back_total", "Times that a link was not read from.", c.held_back),
            ("quorate_peer_events_dropped_total", "Events of links that nobody took.", c.events_dropped),
        ] {
            to.counter(name, help, &[], value);
        }
        for (id, peer) in &self.peers {
            let linked = peer.connection.and_then(|id| self.connections.get(&id));
            let up = linked.is_some_and(|c| matches!(c.stage, Stage::Linked(_)));
            to.gauge("quorate_peer_up", "1 while there is a link.", &[("peer", &id.to_string())], up.into());
        }
    }
}
