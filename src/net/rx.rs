//! [`Rx`]: makes and takes connections, shakes hands, receives, and tells the other agents of links.
//!
//! Of each pair the node with the higher id dials, so there is one connection a pair and nothing to settle when both begin at once. A
//! connection that proves to be a peer's replaces an older one: the peer knows that it lost the other, this node may not yet.
//!
//! A link's life is announced in one order to `open`, `seal` and `tx`: up, frames, down; and its socket is closed only after `tx` has
//! been told, so nothing is ever sent over a socket that is another's by then. Those who find a link beyond use say so by a number.

mod connections;
mod ends;
mod handshakes;
mod roster;
mod turn;

pub use roster::Following;

use super::backoff::Backoff;
use super::connection::{Connection, Stage};
use super::handshake::{Identity, Lives};
use crate::base::ring::Producer;
use crate::base::{Instant, NodeId, Prng};
use crate::io::driver::listen_for;
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

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port`, or a path; none for who only dials.
    pub listen: Option<String>,
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
    lives: Lives,
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
    /// Where members change.
    following: Option<Following>,
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
    fn new(dials: bool, PeerAddress { address, numbers }: PeerAddress, settings: &Settings) -> Peer {
        Peer {
            address,
            numbers,
            dials,
            dialling: false,
            dial_at: dials.then_some(Instant::ZERO),
            backoff: Backoff::new(settings.reconnect_min, settings.reconnect_max),
            connection: None,
            refused: String::new(),
        }
    }
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
        let peer = |(id, peer)| (id, Peer::new(id < identity.node, peer, &settings));
        let peers = peers.into_iter().map(peer).collect();
        Rx {
            prng: Prng::from_seed(entropy.seed()),
            settings,
            identity,
            lives: Lives::new(),
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
            following: None,
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
}

impl Agent for Rx {
    fn name(&self) -> &'static str {
        "rx"
    }
    fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> io::Result<()> {
        self.slot = slot;
        let Some(address) = &self.settings.listen else { return Ok(()) };
        let listener = listen_for("peers", address, driver)?;
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
        let mut done = self.heed_roster(driver) + self.shake_hands(driver);
        done += self.heed_numbers(driver) + self.tick(driver);
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
