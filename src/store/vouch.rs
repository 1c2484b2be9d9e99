//! What this store replied to batches of others, for them to compare with what other stores replied: digests to nodes, which have the
//! replies themselves, and replies to native clients, long ones from one replica each.
//!
//! Delivery is weak. The newest words to each node are kept, and said again when its link has come up anew; a native client's last
//! replies are kept, and said again when it sends the batch again.

use super::last_replies::{Kept, WINDOW, is_kept};
use crate::base::ring::Producer;
use crate::base::{Body, Digest, GroupId, NodeId, NodeSet, Number, Origin};
use crate::wire::forward::{Message, Reply};
use crate::wire::hop::Outgoing;
use crate::wire::members::Members;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Words that are kept for each node: more batches than a front has under way. Each costs about 100 bytes.
const KEPT_MAX: usize = 1024;

/// Replies of so many bytes every replica sends whole, such as those to some thousands of writes; longer ones are sent by one of them, and
/// by each when it is asked again.
const WHOLE_BYTES_MAX: usize = 16 << 10;
/// Bytes of replies that are kept for a lane, beside the newest: a client may ask for more than a node has memory.
const LANE_BYTES_MAX: usize = 4 << 20;
/// Words to one native client that wait for room in the ring; what exceeds it is asked for again.
const PENDING_MAX: usize = 1024;
/// Their bytes, beside the first: the same.
const PENDING_BYTES_MAX: usize = 8 << 20;

/// Another node that waits for words.
struct Listener {
    id: NodeId,
    /// Rises when something said to it may be lost, and what it was when that was last looked at.
    lost: Number,
    lost_seen: u64,
    kept: VecDeque<Reply>,
    /// How many of `kept` have been said.
    said: usize,
}

/// A native client.
struct Guest {
    id: NodeId,
    /// Its last replies, by lane. Invariant: those of a lane are of one boot, and their sequences rise.
    last: BTreeMap<u8, VecDeque<Reply>>,
    pending: VecDeque<Reply>,
}

fn bytes(replies: &VecDeque<Reply>) -> usize {
    replies.iter().map(|reply| reply.body.len()).sum()
}

impl Guest {
    fn keep(&mut self, reply: &Reply) {
        let kept = self.last.entry(reply.lane).or_default();
        kept.retain(|earlier| earlier.boot == reply.boot);
        while WINDOW <= kept.len() || LANE_BYTES_MAX < bytes(kept) {
            kept.pop_front();
        }
        kept.push_back(reply.clone());
    }
    fn tell(&mut self, reply: Reply) {
        if self.pending.len() < PENDING_MAX && bytes(&self.pending) <= PENDING_BYTES_MAX {
            self.pending.push_back(reply);
        }
    }
}

/// The words of one group's store.
pub struct Vouching {
    group: GroupId,
    out: Producer<Outgoing>,
    /// Who leads, as the replica publishes it.
    leader: Number,
    me: NodeId,
    /// With whom the group began.
    first: NodeSet,
    /// The epoch of what the store has applied, and its members.
    epoch: u64,
    members: NodeSet,
    /// By id.
    listeners: Vec<Listener>,
    /// By id.
    guests: Vec<Guest>,
}

impl Vouching {
    /// For these nodes, each with the number that rises when something said to it may be lost, and these clients. The group of `me` began
    /// with `first`.
    pub fn new(
        group: GroupId,
        out: Producer<Outgoing>,
        leader: Number,
        (me, first): (NodeId, NodeSet),
        listeners: impl Iterator<Item = (NodeId, Number)>,
        clients: impl Iterator<Item = NodeId>,
    ) -> Vouching {
        let listener = |(id, lost): (NodeId, Number)| {
            let lost_seen = lost.get();
            Listener { id, lost, lost_seen, kept: VecDeque::new(), said: 0 }
        };
        let mut listeners: Vec<Listener> = listeners.map(listener).collect();
        listeners.sort_by_key(|listener| listener.id);
        let guest = |id| Guest { id, last: BTreeMap::new(), pending: VecDeque::new() };
        let mut guests: Vec<Guest> = clients.map(guest).collect();
        guests.sort_by_key(|guest| guest.id);
        Vouching { group, out, leader, me, first, epoch: 0, members: first, listeners, guests }
    }
    /// What the store has applied says of the members. What is said from now on is said in their epoch.
    pub fn heed(&mut self, members: &Members) {
        if self.epoch != members.epoch() {
            self.epoch = members.epoch();
            self.members = members.now().map_or(self.first, |(_, membership)| membership.nodes());
        }
    }
    /// Whether this replica is the one that sends a long reply: the members take turns. All that apply a batch do so in one epoch.
    fn is_mine(&self, lane: u8, sequence: u64) -> bool {
        let turn = sequence.wrapping_add(lane.into()) % self.members.len().max(1) as u64;
        self.members.iter().position(|member| member == self.me) == Some(turn as usize)
    }
    fn guest(&mut self, client: NodeId) -> Option<&mut Guest> {
        let at = self.guests.binary_search_by_key(&client, |guest| guest.id).ok()?;
        Some(&mut self.guests[at])
    }
    fn find(&mut self, node: NodeId) -> Option<&mut Listener> {
        let at = self.listeners.binary_search_by_key(&node, |listener| listener.id).ok()?;
        Some(&mut self.listeners[at])
    }
    /// Whether that node waits for what this store replies to its batches.
    pub fn is_owed(&mut self, node: NodeId) -> bool {
        self.find(node).is_some() || self.guest(node).is_some()
    }
    /// The replies to a batch, one after another.
    pub fn replied(&mut self, origin: Origin, sequence: u64, replies: Bytes) {
        let leader = NodeId(self.leader.get() as u8);
        let Origin { boot, lane, .. } = origin;
        let (epoch, is_mine) = (self.epoch, self.is_mine(lane, sequence));
        if let Some(guest) = self.guest(origin.node) {
            let body = Body::new(replies);
            let digest = Digest::of(body.bytes());
            let mut reply = Reply { boot, lane, sequence, leader, epoch, digest, body };
            if is_kept(origin) {
                guest.keep(&reply);
            }
            if WHOLE_BYTES_MAX < reply.body.len() && !is_mine {
                reply.body = Body::EMPTY;
            }
            return guest.tell(reply);
        }
        let Some(listener) = self.find(origin.node) else { return };
        let digest = Digest::of(&replies);
        if listener.kept.len() == KEPT_MAX {
            listener.kept.pop_front();
            listener.said = listener.said.saturating_sub(1);
        }
        listener.kept.push_back(Reply { boot, lane, sequence, leader, epoch, digest, body: Body::EMPTY });
    }
    /// The replies to what a native client asked beside the log. They are not kept: it may ask anew.
    pub fn answered(&mut self, origin: Origin, id: u64, replies: Bytes) {
        let (leader, epoch) = (NodeId(self.leader.get() as u8), self.epoch);
        let Origin { boot, lane, .. } = origin;
        let is_mine = self.is_mine(lane, id);
        let Some(guest) = self.guest(origin.node) else { return };
        let digest = Digest::of(&replies);
        let whole = replies.len() <= WHOLE_BYTES_MAX || is_mine;
        let body = if whole { Body::new(replies) } else { Body::EMPTY };
        guest.tell(Reply { boot, lane, sequence: id, leader, epoch, digest, body });
    }
    /// A native client has sent a batch again: the reply goes again, whole, if there was one. `kept` is what the replicated state knows of
    /// it, which is all there is when the state came whole from others.
    pub fn again(&mut self, origin: Origin, sequence: u64, kept: Option<&Kept>) {
        let (leader, epoch) = (NodeId(self.leader.get() as u8), self.epoch);
        let Some(guest) = self.guest(origin.node) else { return };
        let Origin { boot, lane, .. } = origin;
        let last = guest.last.get(&lane).into_iter().flatten();
        let found = last.rev().find(|reply| (reply.boot, reply.sequence) == (boot, sequence)).cloned();
        let of_state = |kept: &Kept| {
            let body = Body::new(kept.replies.clone().unwrap_or_default());
            Reply { boot, lane, sequence, leader, epoch, digest: kept.digest, body }
        };
        if let Some(reply) = found.or_else(|| kept.map(of_state)) {
            guest.tell(Reply { leader, epoch, ..reply });
        }
    }
    /// Says what is not said yet, as far as there is room.
    pub fn say(&mut self) -> usize {
        let mut count = 0;
        for guest in &mut self.guests {
            while let Some(reply) = guest.pending.pop_front() {
                let message = Message::Replied(reply.clone()).into();
                if self.out.push(Outgoing { to: guest.id, group: self.group, message }).is_err() {
                    guest.pending.push_front(reply);
                    return count;
                }
                count += 1;
            }
        }
        for listener in &mut self.listeners {
            let lost = listener.lost.get();
            if listener.lost_seen != lost {
                (listener.lost_seen, listener.said) = (lost, 0);
            }
            while let Some(reply) = listener.kept.get(listener.said) {
                let message = Message::Replied(reply.clone()).into();
                if self.out.push(Outgoing { to: listener.id, group: self.group, message }).is_err() {
                    return count;
                }
                listener.said += 1;
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::GROUP_ONE;
    use crate::base::ring::{Consumer, ring};
    use crate::wire;

    const PEER: NodeId = NodeId(2);

    const CLIENT: NodeId = NodeId(64);

    /// A replica of four.
    fn first(me: u8) -> (NodeId, NodeSet) {
        (NodeId(me), (1..=4).map(NodeId).collect())
    }
    fn ok() -> Bytes {
        Bytes::from_static(b"+OK\r\n")
    }
    fn origin(node: NodeId) -> Origin {
        Origin { node, lane: 0, boot: 7 }
    }
    fn said(out: &mut Consumer<Outgoing>) -> Vec<u64> {
        let sequence = |outgoing: Outgoing| match outgoing.message {
            wire::Message::Forward(Message::Replied(reply)) => {
                assert_eq!((outgoing.to, reply.boot, reply.digest), (PEER, 7, Digest::of(b"+OK\r\n")));
                reply.sequence
            }
            other => panic!("only words about replies: {other:?}"),
        };
        std::iter::from_fn(|| out.pop()).map(sequence).collect()
    }

    #[test]
    fn words_are_said_once_and_again_after_a_loss_and_a_full_ring_loses_none() {
        let (lost, (to_seal, mut out)) = (Number::default(), ring(2));
        let mut vouching = Vouching::new(
            GROUP_ONE,
            to_seal,
            Number::new(3),
            first(1),
            [(PEER, lost.clone())].into_iter(),
            [].into_iter(),
        );
        assert!(vouching.is_owed(PEER) && !vouching.is_owed(NodeId(1)));
        vouching.replied(origin(NodeId(1)), 9, ok());
        (1..=3).for_each(|sequence| vouching.replied(origin(PEER), sequence, ok()));
        assert_eq!((vouching.say(), said(&mut out)), (2, vec![1, 2]));
        assert_eq!((vouching.say(), said(&mut out)), (1, vec![3]));
        assert_eq!(vouching.say(), 0);
        lost.add(1);
        assert_eq!((vouching.say(), said(&mut out)), (2, vec![1, 2]));
        assert_eq!((vouching.say(), said(&mut out)), (1, vec![3]));
    }

    #[test]
    fn a_node_that_is_never_heard_costs_a_bounded_memory() {
        let (to_seal, _out) = ring(1);
        let mut vouching = Vouching::new(
            GROUP_ONE,
            to_seal,
            Number::default(),
            first(1),
            [(PEER, Number::default())].into_iter(),
            [].into_iter(),
        );
        (1..=3 * KEPT_MAX as u64).for_each(|sequence| vouching.replied(origin(PEER), sequence, ok()));
        assert_eq!(vouching.listeners[0].kept.len(), KEPT_MAX);
    }

    /// What was said to the client: sequence, and how many bytes of replies.
    fn told(out: &mut Consumer<Outgoing>) -> Vec<(u64, usize)> {
        let one = |outgoing: Outgoing| match outgoing.message {
            wire::Message::Forward(Message::Replied(reply)) => {
                assert_eq!((outgoing.to, reply.leader), (CLIENT, NodeId(2)));
                (reply.sequence, reply.body.len())
            }
            other => panic!("only words about replies: {other:?}"),
        };
        std::iter::from_fn(|| out.pop()).map(one).collect()
    }

    #[test]
    fn a_client_that_asks_for_more_than_it_hears_costs_a_bounded_memory() {
        let (to_seal, _out) = ring(1);
        let mut vouching =
            Vouching::new(GROUP_ONE, to_seal, Number::new(2), first(2), [].into_iter(), [CLIENT].into_iter());
        let long = || Bytes::from(vec![b'x'; LANE_BYTES_MAX / 2]);
        for sequence in 1..=20 {
            for lane in 0..=u8::MAX {
                vouching.replied(Origin { lane, ..origin(CLIENT) }, sequence, long());
            }
            vouching.say();
        }
        let guest = &vouching.guests[0];
        let kept: usize = guest.last.values().map(bytes).sum();
        assert!(kept <= 2 * (LANE_BYTES_MAX + long().len()), "{kept}");
        assert!(bytes(&guest.pending) <= PENDING_BYTES_MAX + long().len());
    }

    #[test]
    fn a_client_gets_short_replies_from_all_long_ones_from_one_and_each_again_when_it_asks() {
        let (to_seal, mut out) = ring(64);
        let mut vouching =
            Vouching::new(GROUP_ONE, to_seal, Number::new(2), first(2), [].into_iter(), [CLIENT].into_iter());
        let long = || Bytes::from(vec![b'x'; WHOLE_BYTES_MAX + 1]);
        vouching.replied(origin(CLIENT), 1, ok());
        (4..=6).for_each(|sequence| vouching.replied(origin(CLIENT), sequence, long()));
        vouching.say();
        assert_eq!(told(&mut out), [(1, 5), (4, 0), (5, WHOLE_BYTES_MAX + 1), (6, 0)]);
        vouching.again(origin(CLIENT), 4, None);
        vouching.again(origin(CLIENT), 7, None);
        vouching.again(Origin { boot: 8, ..origin(CLIENT) }, 5, None);
        vouching.say();
        assert_eq!(told(&mut out), [(4, WHOLE_BYTES_MAX + 1)], "nothing else was replied in that life");
        (10..10 + WINDOW as u64).for_each(|sequence| vouching.replied(origin(CLIENT), sequence, ok()));
        vouching.say();
        told(&mut out);
        vouching.again(origin(CLIENT), 6, None);
        vouching.again(origin(CLIENT), 10, None);
        vouching.say();
        assert_eq!(told(&mut out), [(10, 5)], "the window has gone past the other");
        let kept = Kept { digest: Digest::of(b"+OK\r\n"), replies: Some(ok()) };
        vouching.again(origin(CLIENT), 6, Some(&kept));
        vouching.again(origin(CLIENT), 7, Some(&Kept { replies: None, ..kept }));
        vouching.say();
        assert_eq!(told(&mut out), [(6, 5), (7, 0)], "the state knows it");
    }

    #[test]
    fn who_sends_a_long_reply_whole_follows_the_members_and_each_word_names_its_epoch() {
        use crate::crypto::{ClusterId, PublicKey, VerifyingKey};
        use crate::wire::members::{Amendment, Member, Membership};
        let members = [2, 5, 6].map(|id| Member {
            id: NodeId(id),
            key: PublicKey([id; 32]),
            signing_key: VerifyingKey([id; 32]),
            peer: String::new(),
            client: String::new(),
            admin: String::new(),
        });
        let membership = Membership {
            epoch: 1,
            faulty: 0,
            retired: [1, 3, 4].map(NodeId).into_iter().collect(),
            members: members.into(),
        };
        let amendment = Amendment { cluster: ClusterId([7; 16]), window: 4, checkpoint_every: 4, membership };
        let (to_seal, mut out) = ring(64);
        let mut vouching =
            Vouching::new(GROUP_ONE, to_seal, Number::new(2), first(2), [].into_iter(), [CLIENT].into_iter());
        let mut state = Members::default();
        let mut said = |vouching: &mut Vouching, state: &Members, sequences: std::ops::Range<u64>| {
            vouching.heed(state);
            let long = || Bytes::from(vec![b'x'; WHOLE_BYTES_MAX + 1]);
            sequences.for_each(|sequence| vouching.replied(origin(CLIENT), sequence, long()));
            vouching.say();
            let one = |outgoing: Outgoing| match outgoing.message {
                wire::Message::Forward(Message::Replied(reply)) => (reply.epoch, !reply.body.is_empty()),
                other => panic!("only words about replies: {other:?}"),
            };
            std::iter::from_fn(|| out.pop()).map(one).collect::<Vec<_>>()
        };
        assert_eq!(said(&mut vouching, &state, 4..8), [false, true, false, false].map(|whole| (0, whole)));
        assert!(state.amend(crate::base::Slot(1), &amendment.encode()));
        assert_eq!(said(&mut vouching, &state, 8..9), [(0, false)], "it is not in force yet");
        state.reach(crate::base::Slot(8));
        assert_eq!(said(&mut vouching, &state, 9..12), [true, false, false].map(|whole| (1, whole)));
        vouching.again(origin(CLIENT), 5, None);
        assert_eq!(said(&mut vouching, &state, 0..0), [(1, true)], "its state is of this epoch");
    }
}
