//! [`Seal`]: gathers what the replica says, one frame a turn for each peer and lane, and hands the frames to the sender.
//!
//! It is the only place where something for a peer is dropped: behind it each frame is counted, and a gap would end the link. So it
//! bounds what waits for a peer (`queue_bytes_max`), by the bytes that it has sealed and those that have left. After a drop the
//! peer's number `lost` rises as soon as half of the queue is free again: telling it earlier would only fill the queue anew.

use super::PEERS_MAX;
use crate::base::ring::{Consumer, Producer};
use crate::base::{Instant, NodeId};
use crate::io::{Agent, Driver};
use crate::meter::{Metered, Report};
use crate::wire::frame::Lane;
use crate::wire::hop::{LinkId, Outgoing, PeerNumbers, SealLink, SealedFrame};
use crate::wire::sealer::{NotTaken, Sealer};
use std::collections::BTreeMap;
use std::time::Duration;

/// Messages that one turn takes.
const TURN_MESSAGES_MAX: usize = 1024;
/// Bytes that the urgent lane may use beyond the queue's limit: no data can starve heartbeats and votes.
const URGENT_BYTES_MORE: u64 = 64 << 10;

/// How often a quiet link says that this node lives, unless there is a reason for another figure.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// What an operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Most bytes that wait for one peer. Costs as much memory for each slow peer.
    pub queue_bytes_max: usize,
    /// A link over which nothing was said for this long says that this node lives. A peer that hears nothing for several of
    /// these gives the link up.
    pub keep_alive: Duration,
}

/// Seals frames.
pub struct Seal {
    settings: Settings,
    /// From the replica, and from the store.
    outgoing: [Consumer<Outgoing>; 2],
    links: Consumer<SealLink>,
    out: Producer<SealedFrame>,
    /// What flows back, for everybody to whom there may ever be a link.
    numbers: BTreeMap<NodeId, PeerNumbers>,
    /// To whom there is a link, or was. Rising by id.
    peers: Vec<Peer>,
    /// Where somebody stands in `peers`, by the id.
    places: [Option<u8>; PEERS_MAX],
    /// Something waits for room, so the next turn has work although nothing may have come.
    unfinished: bool,
    /// When the next link is to be kept alive, or earlier.
    due: Option<Instant>,
    counters: Counters,
}

struct Peer {
    id: NodeId,
    numbers: PeerNumbers,
    link: Option<Link>,
    /// Bytes handed to the sender, over all links. Invariant: at least `numbers.left`.
    sealed_bytes: u64,
    /// Something was dropped since `lost` rose last.
    dropping: bool,
}

struct Link {
    id: LinkId,
    sealer: Sealer,
    spoke: Instant,
}

/// What has been done so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Frames sealed.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Messages for a peer without a link.
    pub unlinked: u64,
    /// Messages dropped because too much waited for their peer.
    pub overflowed: u64,
    /// Messages that fit in no frame.
    pub too_large: u64,
}

impl Seal {
    /// An agent between replica and store and the sender.
    pub fn new(
        settings: Settings,
        outgoing: [Consumer<Outgoing>; 2],
        links: Consumer<SealLink>,
        out: Producer<SealedFrame>,
        numbers: BTreeMap<NodeId, PeerNumbers>,
    ) -> Seal {
        let (places, peers) = ([None; PEERS_MAX], Vec::new());
        let (unfinished, counters) = (false, Counters::default());
        Seal { settings, outgoing, links, out, numbers, peers, places, unfinished, due: None, counters }
    }
    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// One bounded turn.
    pub fn turn(&mut self, now: Instant) -> usize {
        let mut done = self.take_links(now);
        for _ in 0..TURN_MESSAGES_MAX {
            let [replica, store] = &mut self.outgoing;
            let Some(outgoing) = replica.pop().or_else(|| store.pop()) else { break };
            done += 1;
            self.take(now, &outgoing);
        }
        let due = self.due.is_some_and(|due| due <= now);
        if 0 < done || due || self.unfinished {
            done += self.hand_over(now);
        }
        done
    }

    fn take_links(&mut self, now: Instant) -> usize {
        let mut done = 0;
        while let Some(change) = self.links.pop() {
            done += 1;
            let (SealLink::Up { peer, .. } | SealLink::Down { peer, .. }) = &change;
            let Some(place) = self.place_of(*peer) else { continue };
            let peer = &mut self.peers[place];
            match change {
                SealLink::Up { link, keys, .. } => {
                    let sealer = Sealer::new(self.settings.node, keys);
                    peer.link = Some(Link { id: link, sealer, spoke: now });
                    self.due = Some(now);
                }
                SealLink::Down { link, .. } => {
                    if peer.link.as_ref().is_some_and(|known| known.id == link) {
                        peer.link = None;
                    }
                }
            }
        }
        done
    }

    /// Where a peer stands: members come while this node runs.
    fn place_of(&mut self, id: NodeId) -> Option<usize> {
        if let Some(place) = self.places[usize::from(id.0)] {
            return Some(place.into());
        }
        let numbers = self.numbers.get(&id)?.clone();
        let place = self.peers.partition_point(|peer| peer.id < id);
        self.peers.insert(place, Peer { id, numbers, link: None, sealed_bytes: 0, dropping: false });
        for (place, peer) in self.peers.iter().enumerate() {
            self.places[usize::from(peer.id.0)] = Some(place as u8);
        }
        Some(place)
    }

    fn take(&mut self, now: Instant, outgoing: &Outgoing) {
        let Some(place) = self.places[usize::from(outgoing.to.0)] else {
            self.counters.unlinked += 1;
            return;
        };
        let peer = &mut self.peers[usize::from(place)];
        let mut lane = Lane::of(&outgoing.message);
        let waiting = peer.waiting_bytes();
        let Some(link) = &mut peer.link else {
            self.counters.unlinked += 1;
            return;
        };
        let more = if lane == Lane::Urgent { URGENT_BYTES_MORE } else { 0 };
        let bulk_waits = 0 < waiting || 0 < link.sealer.waiting(Lane::Bulk);
        if bulk_waits && Lane::keeps_its_place(&outgoing.message) {
            lane = Lane::Bulk;
        }
        if self.settings.queue_bytes_max as u64 + more <= waiting {
            self.counters.overflowed += 1;
            peer.dropping = true;
            return;
        }
        let mut taken = link.sealer.push(lane, outgoing.group, &outgoing.message);
        if taken == Err(NotTaken::Full) && self.out.room() != 0 {
            seal(peer, lane, now, &mut self.out, &mut self.counters);
            let link = peer.link.as_mut().expect("it was there");
            taken = link.sealer.push(lane, outgoing.group, &outgoing.message);
        }
        match taken {
            Ok(()) => {}
            Err(NotTaken::Full) => {
                self.counters.overflowed += 1;
                peer.dropping = true;
            }
            Err(NotTaken::TooLarge { .. }) => self.counters.too_large += 1,
        }
    }

    /// Seals what was gathered, keeps quiet links alive, tells of what was lost.
    fn hand_over(&mut self, now: Instant) -> usize {
        let (mut done, mut due, mut unfinished) = (0, None, false);
        for peer in &mut self.peers {
            peer.tell_lost(self.settings.queue_bytes_max);
            unfinished |= peer.dropping;
            for lane in Lane::ALL {
                let Some(link) = &peer.link else { continue };
                let quiet = lane == Lane::Urgent && link.spoke.after(self.settings.keep_alive) <= now;
                if 0 < link.sealer.waiting(lane) || quiet {
                    if self.out.room() == 0 {
                        unfinished = true;
                        continue;
                    }
                    seal(peer, lane, now, &mut self.out, &mut self.counters);
                    done += 1;
                }
            }
            let next = peer.link.as_ref().map(|link| link.spoke.after(self.settings.keep_alive));
            due = due.into_iter().chain(next).min();
        }
        (self.due, self.unfinished) = (due, unfinished);
        done
    }
}

/// Seals a lane's frame and hands it over. There is room: whoever calls has looked.
fn seal(peer: &mut Peer, lane: Lane, now: Instant, out: &mut Producer<SealedFrame>, counters: &mut Counters) {
    let link = peer.link.as_mut().expect("only links seal");
    let sealed = link.sealer.seal(lane);
    link.spoke = now;
    peer.sealed_bytes += sealed.bytes as u64;
    counters.frames += 1;
    counters.bytes += sealed.bytes as u64;
    counters.messages += sealed.messages as u64;
    let frame = SealedFrame { peer: peer.id, link: link.id, lane, sealed };
    assert!(out.push(frame).is_ok());
}

impl Peer {
    /// Bytes that were sealed and have not left.
    fn waiting_bytes(&self) -> u64 {
        self.sealed_bytes.saturating_sub(self.numbers.left.get())
    }
    fn tell_lost(&mut self, queue_bytes_max: usize) {
        if self.dropping && self.waiting_bytes() <= queue_bytes_max as u64 / 2 {
            self.dropping = false;
            self.numbers.lost.add(1);
        }
    }
}

impl Agent for Seal {
    fn name(&self) -> &'static str {
        "seal"
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        self.turn(driver.now())
    }
    fn deadline(&self) -> Option<Instant> {
        self.due
    }
}
impl Metered for Seal {
    fn report(&self, to: &mut dyn Report) {
        let Counters { frames, bytes, messages, unlinked, overflowed, too_large } = self.counters;
        to.counter("quorate_peer_frames_sealed_total", "Frames made for peers.", &[], frames);
        to.counter("quorate_peer_sealed_bytes_total", "Bytes of frames made for peers.", &[], bytes);
        to.counter("quorate_peer_messages_sealed_total", "Messages made into frames.", &[], messages);
        for (why, count) in [("no_link", unlinked), ("queue_full", overflowed), ("too_large", too_large)] {
            let help = "Messages for peers that were dropped; the core repeats what still matters.";
            to.counter("quorate_peer_messages_dropped_total", help, &[("why", why)], count);
        }
        for peer in &self.peers {
            let id = peer.id.to_string();
            let help = "Bytes that wait to be sent to a peer.";
            to.gauge("quorate_peer_queue_bytes", help, &[("peer", &id)], peer.waiting_bytes() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ring::ring;
    use crate::base::{Body, GroupId, Slot, Stamp, Term};
    use crate::crypto::DirectionKeys;
    use crate::wire::opener::Opener;
    use crate::wire::{Message, raft};

    const SELF: NodeId = NodeId(1);
    const PEERS: [NodeId; 2] = [NodeId(2), NodeId(3)];
    const QUEUE: usize = 100_000;

    struct Rig {
        replica: Producer<Outgoing>,
        rx: Producer<SealLink>,
        seal: Seal,
        tx: Consumer<SealedFrame>,
        numbers: BTreeMap<NodeId, PeerNumbers>,
    }
    fn keys() -> DirectionKeys {
        DirectionKeys::derive(&[1; 32], false)
    }
    fn rig(room: usize) -> Rig {
        let ((replica, outgoing), (mut rx, links), (out, tx)) = (ring(4096), ring(16), ring(room));
        let numbers: BTreeMap<_, _> = PEERS.into_iter().map(|peer| (peer, PeerNumbers::default())).collect();
        let settings = Settings { node: SELF, queue_bytes_max: QUEUE, keep_alive: KEEP_ALIVE };
        let seal = Seal::new(settings, [outgoing, ring(1).1], links, out, numbers.clone());
        for peer in PEERS {
            rx.push(SealLink::Up { peer, link: LinkId(1), keys: keys() }).expect("room");
        }
        Rig { replica, rx, seal, tx, numbers }
    }
    fn urgent(term: u64) -> Message {
        raft::Message::TimeoutNow { term: Term(term) }.into()
    }
    fn heartbeat() -> Message {
        let (term, slot) = (Term(1), Slot(0));
        let entries = Vec::new();
        raft::Message::Append { term, prev_slot: slot, prev_term: term, commit: slot, entries, round: 0 }
            .into()
    }
    fn bulk(bytes: usize) -> Message {
        raft::Message::Piece {
            term: Term(1),
            slot: Slot(1),
            slot_term: Term(1),
            stamp: Stamp(1),
            offset: 0,
            total: 0,
            body: Body::new(vec![0; bytes].into()),
        }
        .into()
    }
    impl Rig {
        fn say(&mut self, to: NodeId, message: Message) {
            self.replica.push(Outgoing { to, group: GroupId(1), message }).expect("room");
        }
        fn frames(&mut self) -> Vec<(NodeId, Lane, usize)> {
            let frames = std::iter::from_fn(|| self.tx.pop());
            frames.map(|frame| (frame.peer, frame.lane, frame.sealed.messages)).collect()
        }
    }

    #[test]
    fn what_a_turn_says_shares_one_frame_a_peer_and_lane() {
        let mut rig = rig(16);
        for term in 0..10 {
            rig.say(PEERS[0], urgent(term));
            rig.say(PEERS[1], urgent(term));
            rig.say(PEERS[1], bulk(100));
        }
        rig.seal.turn(Instant::ZERO);
        let expected =
            [(PEERS[0], Lane::Urgent, 10), (PEERS[1], Lane::Urgent, 10), (PEERS[1], Lane::Bulk, 10)];
        assert_eq!(rig.frames(), expected);
    }

    #[test]
    fn what_is_sealed_opens_with_the_keys_of_the_link_and_counters_start_anew_with_it() {
        let mut rig = rig(16);
        for link in 2..4 {
            rig.rx.push(SealLink::Up { peer: PEERS[0], link: LinkId(link), keys: keys() }).expect("room");
            let mut opener = Opener::new(SELF, keys());
            for term in 0..3 {
                rig.say(PEERS[0], urgent(term));
                rig.seal.turn(Instant::ZERO);
                let frame = rig.tx.pop().expect("a frame");
                assert_eq!(frame.link, LinkId(link));
                let mut out = Vec::new();
                opener.open(frame.sealed.parts.concat().into(), &mut out).expect("authentic and in order");
                assert_eq!(out[0].message, urgent(term));
            }
        }
    }

    #[test]
    fn a_slow_peer_is_cut_off_at_its_limit_while_others_and_heartbeats_pass_and_lost_rises_once_there_is_room()
     {
        let mut rig = rig(64);
        let mut sealed = 0;
        for _ in 0..20 {
            rig.say(PEERS[0], bulk(10_000));
            rig.say(PEERS[1], bulk(10_000));
            rig.seal.turn(Instant::ZERO);
            while let Some(frame) = rig.tx.pop() {
                // The second peer takes what it gets, the first nothing.
                if frame.peer == PEERS[1] {
                    rig.numbers[&PEERS[1]].left.add(frame.sealed.bytes as u64);
                } else {
                    sealed += frame.sealed.bytes as u64;
                }
            }
        }
        assert_eq!(rig.seal.counters().overflowed, 10);
        assert!(QUEUE as u64 <= sealed && sealed < QUEUE as u64 + 11_000);
        rig.say(PEERS[0], urgent(1));
        rig.seal.turn(Instant::ZERO);
        assert_eq!(rig.frames(), [(PEERS[0], Lane::Urgent, 1)]);
        assert_eq!(rig.numbers[&PEERS[0]].lost.get(), 0, "there is no room to say anything again");
        rig.numbers[&PEERS[0]].left.add(sealed / 2 + 10_000);
        rig.seal.turn(Instant::ZERO);
        rig.seal.turn(Instant::ZERO);
        assert_eq!(rig.numbers[&PEERS[0]].lost.get(), 1);
        assert_eq!(rig.numbers[&PEERS[1]].lost.get(), 0);
    }

    #[test]
    fn a_heartbeat_overtakes_no_entries_and_is_not_dropped_for_them() {
        let mut rig = rig(64);
        rig.say(PEERS[0], heartbeat());
        rig.seal.turn(Instant::ZERO);
        let Some(first) = rig.tx.pop() else { panic!("nothing waits before it") };
        assert_eq!(first.lane, Lane::Urgent);
        rig.numbers[&PEERS[0]].left.add(first.sealed.bytes as u64);
        for message in [bulk(100), heartbeat(), urgent(1)] {
            rig.say(PEERS[0], message);
        }
        rig.seal.turn(Instant::ZERO);
        assert_eq!(rig.frames(), [(PEERS[0], Lane::Urgent, 1), (PEERS[0], Lane::Bulk, 2)]);
        for message in [bulk(QUEUE), heartbeat(), bulk(1), heartbeat()] {
            rig.say(PEERS[0], message);
            rig.seal.turn(Instant::ZERO);
        }
        let bulk = [1, 1, 1].map(|messages| (PEERS[0], Lane::Bulk, messages));
        assert_eq!((rig.frames(), rig.seal.counters().overflowed), (bulk.to_vec(), 1));
    }

    #[test]
    fn a_full_ring_to_the_sender_keeps_messages_for_the_next_turn() {
        let mut rig = rig(1);
        rig.say(PEERS[0], urgent(1));
        rig.say(PEERS[1], urgent(2));
        rig.seal.turn(Instant::ZERO);
        assert_eq!(rig.frames(), [(PEERS[0], Lane::Urgent, 1)]);
        assert_eq!(rig.seal.turn(Instant::ZERO), 1);
        assert_eq!(rig.frames(), [(PEERS[1], Lane::Urgent, 1)]);
        assert_eq!(rig.seal.turn(Instant::ZERO), 0);
    }

    #[test]
    fn a_quiet_link_says_that_this_node_lives_and_a_link_that_is_gone_says_nothing() {
        let mut rig = rig(16);
        rig.seal.turn(Instant::ZERO);
        assert_eq!(rig.frames(), []);
        rig.rx.push(SealLink::Down { peer: PEERS[1], link: LinkId(1) }).expect("room");
        rig.say(PEERS[1], urgent(1));
        let half = Instant::ZERO.after(KEEP_ALIVE / 2);
        rig.seal.turn(half);
        assert_eq!((rig.frames(), rig.seal.counters().unlinked), (vec![], 1));
        assert_eq!(rig.seal.deadline(), Some(Instant::ZERO.after(KEEP_ALIVE)));
        rig.seal.turn(Instant::ZERO.after(KEEP_ALIVE));
        assert_eq!(rig.frames(), [(PEERS[0], Lane::Urgent, 0)]);
        assert_eq!(rig.seal.deadline(), Some(Instant::ZERO.after(KEEP_ALIVE * 2)));
    }
}
