//! [`Open`]: checks the frames that came in and hands their messages to the replica.

use super::PEERS_MAX;
use crate::base::ring::{Consumer, Producer};
use crate::base::{Instant, NodeId};
use crate::io::{Agent, Driver};
use crate::meter::{Metered, Report};
use crate::wire::Opened;
use crate::wire::frame::FrameError;
use crate::wire::hop::{Incoming, LinkId, PeerNumbers};
use crate::wire::opener::Opener;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes of frames that one turn opens: hashing them takes about a tenth of a millisecond.
const TURN_BYTES_MAX: usize = 1 << 20;
/// Frames that one turn opens.
const TURN_FRAMES_MAX: usize = 256;

/// Opens frames. A link that brings one that does not open is given up: its number `refused` tells the receiver.
pub struct Open {
    incoming: Consumer<Incoming>,
    out: Producer<Opened>,
    numbers: BTreeMap<NodeId, PeerNumbers>,
    links: [Option<Link>; PEERS_MAX],
    /// Messages of one frame that found no room. While there are any, no frame is taken: the receiver stops reading in turn.
    waiting: Vec<Opened>,
    counters: Counters,
}

struct Link {
    id: LinkId,
    opener: Opener,
}

/// What has been done so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Frames opened.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages handed on.
    pub messages: u64,
    /// Frames whose tag did not hold.
    pub forged: u64,
    /// Frames that were repeated, missing or reordered.
    pub disordered: u64,
    /// Frames that were malformed although authentic, or no frames at all.
    pub malformed: u64,
}

impl Open {
    /// An agent between the receiver and the replica.
    pub fn new(
        incoming: Consumer<Incoming>,
        out: Producer<Opened>,
        numbers: BTreeMap<NodeId, PeerNumbers>,
    ) -> Open {
        assert!(numbers.keys().all(|peer| usize::from(peer.0) < PEERS_MAX));
        Open {
            incoming,
            out,
            numbers,
            links: [const { None }; PEERS_MAX],
            waiting: Vec::new(),
            counters: Counters::default(),
        }
    }
    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// One bounded turn.
    pub fn turn(&mut self) -> usize {
        let mut done = self.flush();
        let (mut frames, mut bytes) = (0, 0);
        while self.waiting.is_empty() && frames < TURN_FRAMES_MAX && bytes < TURN_BYTES_MAX {
            let Some(incoming) = self.incoming.pop() else { break };
            done += 1;
            match incoming {
                Incoming::Up { peer, link, keys } => {
                    self.links[usize::from(peer.0)] =
                        Some(Link { id: link, opener: Opener::new(peer, keys) });
                }
                Incoming::Down { peer, link } => self.forget(peer, link),
                Incoming::Frame { peer, link, frame } => {
                    frames += 1;
                    bytes += frame.len();
                    self.open(peer, link, frame);
                    self.flush();
                }
            }
        }
        done
    }

    fn open(&mut self, peer: NodeId, link: LinkId, frame: Bytes) {
        let known = self.links[usize::from(peer.0)].as_mut().filter(|known| known.id == link);
        // Frames behind one that did not open come from a link that has been given up.
        let Some(known) = known else { return };
        match known.opener.open(frame, &mut self.waiting) {
            Ok(header) => {
                self.counters.frames += 1;
                self.counters.bytes += header.length as u64;
                self.waiting.reverse();
            }
            Err(error) => {
                match error {
                    FrameError::Tag => self.counters.forged += 1,
                    FrameError::Counter { .. } => self.counters.disordered += 1,
                    _ => self.counters.malformed += 1,
                }
                self.forget(peer, link);
                if let Some(numbers) = self.numbers.get(&peer) {
                    numbers.refused.set(link.0);
                }
            }
        }
    }
    fn forget(&mut self, peer: NodeId, link: LinkId) {
        let place = &mut self.links[usize::from(peer.0)];
        if place.as_ref().is_some_and(|known| known.id == link) {
            *place = None;
        }
    }
    /// Hands on what waits, oldest last in the vector.
    fn flush(&mut self) -> usize {
        let mut done = 0;
        while let Some(message) = self.waiting.pop() {
            if let Err(message) = self.out.push(message) {
                self.waiting.push(message);
                break;
            }
            done += 1;
        }
        self.counters.messages += done as u64;
        done
    }
}

impl Agent for Open {
    fn name(&self) -> &'static str {
        "open"
    }
    fn work(&mut self, _driver: &mut dyn Driver) -> usize {
        self.turn()
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
impl Metered for Open {
    fn report(&self, to: &mut dyn Report) {
        let Counters { frames, bytes, messages, forged, disordered, malformed } = self.counters;
        to.counter("quorate_peer_frames_opened_total", "Frames of peers that were authentic.", &[], frames);
        to.counter("quorate_peer_received_bytes_total", "Bytes of opened frames.", &[], bytes);
        to.counter("quorate_peer_messages_opened_total", "Messages handed to the replica.", &[], messages);
        for (why, count) in [("tag", forged), ("counter", disordered), ("malformed", malformed)] {
            let help = "Frames that ended their link.";
            to.counter("quorate_peer_frames_refused_total", help, &[("why", why)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ring::ring;
    use crate::base::{GroupId, Term};
    use crate::crypto::DirectionKeys;
    use crate::wire::frame::Lane;
    use crate::wire::raft;
    use crate::wire::sealer::Sealer;

    const PEER: NodeId = NodeId(2);
    const LINK: LinkId = LinkId(7);

    struct Rig {
        rx: Producer<Incoming>,
        open: Open,
        replica: Consumer<Opened>,
        numbers: PeerNumbers,
        sealer: Sealer,
    }
    fn keys() -> DirectionKeys {
        DirectionKeys::derive(&[1; 32], false)
    }
    fn rig(room: usize) -> Rig {
        let (mut rx, incoming) = ring(64);
        let (out, replica) = ring(room);
        let numbers = PeerNumbers::default();
        let open = Open::new(incoming, out, BTreeMap::from([(PEER, numbers.clone())]));
        rx.push(Incoming::Up { peer: PEER, link: LINK, keys: keys() }).expect("room");
        Rig { rx, open, replica, numbers, sealer: Sealer::new(PEER, keys()) }
    }
    impl Rig {
        fn frame(&mut self, terms: std::ops::Range<u64>) -> Bytes {
            for term in terms {
                let message = raft::Message::TimeoutNow { term: Term(term) }.into();
                self.sealer.push(Lane::Urgent, GroupId(1), &message).expect("it fits");
            }
            self.sealer.seal(Lane::Urgent).parts.concat().into()
        }
        fn bring(&mut self, frame: Bytes) {
            self.rx.push(Incoming::Frame { peer: PEER, link: LINK, frame }).expect("room");
        }
        fn terms(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.replica.pop())
                .map(|opened| match opened.message {
                    crate::wire::Message::Raft(raft::Message::TimeoutNow { term }) => term.0,
                    other => panic!("nobody sent {other:?}"),
                })
                .collect()
        }
    }

    #[test]
    fn messages_come_out_in_order_and_a_full_ring_holds_the_next_frame_back() {
        let mut rig = rig(4);
        for start in [0, 6, 12] {
            let frame = rig.frame(start..start + 6);
            rig.bring(frame);
        }
        let mut seen = Vec::new();
        while rig.open.turn() != 0 {
            seen.append(&mut rig.terms());
        }
        assert_eq!(seen, (0..18).collect::<Vec<_>>());
        assert_eq!(rig.open.counters().messages, 18);
    }

    #[test]
    fn a_frame_that_does_not_open_ends_its_link_and_what_comes_behind_it_is_not_read() {
        let mut rig = rig(64);
        let (good, bad, behind) = (rig.frame(0..1), rig.frame(1..2), rig.frame(2..3));
        rig.bring(good);
        let mut bad = bad.to_vec();
        *bad.last_mut().expect("not empty") ^= 1;
        rig.bring(bad.into());
        rig.bring(behind);
        while rig.open.turn() != 0 {}
        assert_eq!(rig.terms(), [0]);
        assert_eq!(rig.numbers.refused.get(), LINK.0);
        let counters = rig.open.counters();
        assert_eq!((counters.frames, counters.forged, counters.disordered, counters.malformed), (1, 1, 0, 0));
    }

    #[test]
    fn a_repeated_frame_ends_its_link() {
        let mut rig = rig(64);
        let frame = rig.frame(0..1);
        rig.bring(frame.clone());
        rig.bring(frame);
        while rig.open.turn() != 0 {}
        assert_eq!((rig.terms(), rig.open.counters().disordered), (vec![0], 1));
        assert_eq!(rig.numbers.refused.get(), LINK.0);
    }

    #[test]
    fn frames_of_an_older_life_of_the_link_are_dropped() {
        let mut rig = rig(64);
        let old = rig.frame(0..1);
        rig.rx.push(Incoming::Up { peer: PEER, link: LinkId(8), keys: keys() }).expect("room");
        rig.bring(old);
        rig.rx.push(Incoming::Down { peer: PEER, link: LINK }).expect("room");
        rig.sealer = Sealer::new(PEER, keys());
        let frame = rig.frame(5..6);
        rig.rx.push(Incoming::Frame { peer: PEER, link: LinkId(8), frame }).expect("room");
        while rig.open.turn() != 0 {}
        assert_eq!(rig.terms(), [5]);
    }
}
