//! [`Tx`]: sends sealed frames, one outstanding send a link with everything in it that has gathered meanwhile.

use super::queue::Queue;
use crate::base::ring::Consumer;
use crate::base::{Instant, NodeId};
use crate::io::{Agent, Completion, Driver, Fd, Op, Outcome, Token};
use crate::meter::{Metered, Report};
use crate::wire::hop::{LinkId, PeerNumbers, SealedFrame, SendLink};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Sends frames. A link over which nothing can be sent is given up: its number `stalled` tells the receiver.
pub struct Tx {
    /// A send that takes longer than this ends its link.
    stall_max: Duration,
    frames: Consumer<SealedFrame>,
    links: Consumer<SendLink>,
    /// What flows back, for everybody to whom there may ever be a link.
    numbers: BTreeMap<NodeId, PeerNumbers>,
    /// To whom there is a link, or was.
    peers: BTreeMap<NodeId, Peer>,
    slot: u8,
    counters: Counters,
}

#[derive(Default)]
struct Peer {
    numbers: PeerNumbers,
    link: Option<Link>,
    /// Empty vectors, for their capacity: one is with the driver at most.
    spare: Vec<Bytes>,
}

struct Link {
    id: LinkId,
    fd: Fd,
    queue: Queue,
    sending: Option<Sending>,
    /// Nothing more is sent: the receiver has been told and will close it.
    given_up: bool,
}

/// The outstanding send.
struct Sending {
    bytes: usize,
    since: Instant,
}

/// What has been done so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Sends handed to the driver.
    pub sends: u64,
    /// Frames taken in.
    pub frames: u64,
    /// Bytes that the kernel has taken.
    pub bytes: u64,
    /// Bytes of frames that died with their link.
    pub discarded_bytes: u64,
    /// Sends that failed, and links given up because one took too long.
    pub failures: u64,
}

impl Tx {
    /// An agent between `seal` and the network.
    pub fn new(
        stall_max: Duration,
        frames: Consumer<SealedFrame>,
        links: Consumer<SendLink>,
        numbers: BTreeMap<NodeId, PeerNumbers>,
    ) -> Tx {
        let peers = BTreeMap::new();
        Tx { stall_max, frames, links, numbers, peers, slot: 0, counters: Counters::default() }
    }
    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn take_links(&mut self) -> usize {
        let mut done = 0;
        while let Some(change) = self.links.pop() {
            done += 1;
            let (SendLink::Up { peer, .. } | SendLink::Down { peer, .. }) = change;
            let Some(numbers) = self.numbers.get(&peer) else { continue };
            let fresh = || Peer { numbers: numbers.clone(), ..Peer::default() };
            let peer = self.peers.entry(peer).or_insert_with(fresh);
            match change {
                SendLink::Up { link, socket, .. } => {
                    self.counters.discarded_bytes += peer.drop_link();
                    let queue = Queue::default();
                    peer.link =
                        Some(Link { id: link, fd: Fd(socket), queue, sending: None, given_up: false });
                }
                SendLink::Down { link, .. } => {
                    if peer.link.as_ref().is_some_and(|known| known.id == link) {
                        self.counters.discarded_bytes += peer.drop_link();
                    }
                }
            }
        }
        done
    }

    fn take_frames(&mut self) -> usize {
        let mut done = 0;
        while let Some(frame) = self.frames.pop() {
            done += 1;
            let link = self.peers.get_mut(&frame.peer).and_then(|peer| peer.link.as_mut());
            match link {
                Some(link) if link.id == frame.link && !link.given_up => {
                    link.queue.push(frame.lane, frame.sealed);
                    self.counters.frames += 1;
                }
                // Its keys have gone with its link.
                _ => {
                    self.numbers[&frame.peer].left.add(frame.sealed.bytes as u64);
                    self.counters.discarded_bytes += frame.sealed.bytes as u64;
                }
            }
        }
        done
    }

    fn send(&mut self, driver: &mut dyn Driver) -> usize {
        let (now, mut done) = (driver.now(), 0);
        for (id, peer) in &mut self.peers {
            let Some(link) = &mut peer.link else { continue };
            match &link.sending {
                None if !link.queue.is_empty() => {
                    let mut parts = std::mem::take(&mut peer.spare);
                    let bytes = link.queue.take(&mut parts);
                    link.sending = Some(Sending { bytes, since: now });
                    let token = Token { agent: self.slot, value: token_value(*id, link.id) };
                    driver.submit(Op::Send { fd: link.fd, parts }, token);
                    self.counters.sends += 1;
                    done += 1;
                }
                Some(sending) if sending.since.after(self.stall_max) <= now && !link.given_up => {
                    self.counters.failures += 1;
                    peer.give_up();
                    done += 1;
                }
                _ => {}
            }
        }
        done
    }
}

impl Peer {
    /// Forgets the link and what waits for it; says how many bytes that were.
    fn drop_link(&mut self) -> u64 {
        let Some(link) = self.link.take() else { return 0 };
        let bytes = link.queue.bytes() + link.sending.map_or(0, |sending| sending.bytes);
        self.numbers.left.add(bytes as u64);
        bytes as u64
    }
    fn give_up(&mut self) {
        if let Some(link) = &mut self.link {
            link.given_up = true;
            self.numbers.stalled.set(link.id.0);
        }
    }
}

/// Peer and link in one word, so that a completion of an older link is told apart.
fn token_value(peer: NodeId, link: LinkId) -> u64 {
    u64::from(peer.0) | link.0 << 8
}

impl Agent for Tx {
    fn name(&self) -> &'static str {
        "tx"
    }
    fn start(&mut self, slot: u8, _driver: &mut dyn Driver) -> std::io::Result<()> {
        self.slot = slot;
        Ok(())
    }
    fn complete(&mut self, completion: Completion, _driver: &mut dyn Driver) {
        let peer = NodeId(completion.token.value as u8);
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        let link = LinkId(completion.token.value >> 8);
        let current = peer.link.as_mut().filter(|known| known.id == link);
        match completion.outcome {
            Outcome::Sent { bytes, mut parts } => {
                parts.clear();
                peer.spare = parts;
                self.counters.bytes += bytes as u64;
                // The bytes of an older link were counted when it went.
                if let Some(sending) = current.and_then(|link| link.sending.take()) {
                    peer.numbers.left.add(sending.bytes as u64);
                }
            }
            _ if current.is_some() => {
                self.counters.failures += 1;
                peer.give_up();
            }
            _ => {}
        }
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        // Links first: nothing may be sent over one that is about to be closed.
        self.take_links() + self.take_frames() + self.send(driver)
    }
    fn deadline(&self) -> Option<Instant> {
        let links = self.peers.values().filter_map(|peer| peer.link.as_ref());
        let sending = links.filter(|link| !link.given_up).filter_map(|link| link.sending.as_ref());
        sending.map(|sending| sending.since.after(self.stall_max)).min()
    }
}
impl Metered for Tx {
    fn report(&self, to: &mut dyn Report) {
        let Counters { sends, frames, bytes, discarded_bytes, failures } = self.counters;
        to.counter("quorate_peer_sends_total", "Sends handed to the kernel.", &[], sends);
        to.counter("quorate_peer_frames_sent_total", "Frames handed to the kernel.", &[], frames);
        to.counter("quorate_peer_sent_bytes_total", "Bytes that the kernel has taken.", &[], bytes);
        let help = "Bytes of frames that died with their link.";
        to.counter("quorate_peer_discarded_bytes_total", help, &[], discarded_bytes);
        let help = "Sends that failed or took too long.";
        to.counter("quorate_peer_send_failures_total", help, &[], failures);
    }
}
