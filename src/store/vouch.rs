//! What this store replied to batches of other nodes, for them to compare with what others replied.
//!
//! Delivery is weak: the newest words to each node are kept, and said again when its link has come up anew.

use crate::base::ring::Producer;
use crate::base::{Body, Digest, GroupId, NodeId, Number, Origin};
use crate::wire::forward::{Message, Reply};
use crate::wire::hop::Outgoing;
use std::collections::VecDeque;

/// Words that are kept for each node: more batches than a front has under way. Each costs about 100 bytes.
const KEPT_MAX: usize = 1024;

/// Somebody who waits for words.
struct Listener {
    id: NodeId,
    /// Rises when something said to it may be lost, and what it was when that was last looked at.
    lost: Number,
    lost_seen: u64,
    kept: VecDeque<Reply>,
    /// How many of `kept` have been said.
    said: usize,
}

/// The words of one group's store.
pub struct Vouching {
    group: GroupId,
    out: Producer<Outgoing>,
    /// Who leads, as the replica publishes it.
    leader: Number,
    /// By id.
    listeners: Vec<Listener>,
}

impl Vouching {
    /// For these nodes, each with the number that rises when something said to it may be lost.
    pub fn new(
        group: GroupId,
        out: Producer<Outgoing>,
        leader: Number,
        listeners: impl Iterator<Item = (NodeId, Number)>,
    ) -> Vouching {
        let listener = |(id, lost): (NodeId, Number)| {
            let lost_seen = lost.get();
            Listener { id, lost, lost_seen, kept: VecDeque::new(), said: 0 }
        };
        let mut listeners: Vec<Listener> = listeners.map(listener).collect();
        listeners.sort_by_key(|listener| listener.id);
        Vouching { group, out, leader, listeners }
    }
    fn find(&mut self, node: NodeId) -> Option<&mut Listener> {
        let at = self.listeners.binary_search_by_key(&node, |listener| listener.id).ok()?;
        Some(&mut self.listeners[at])
    }
    /// Whether that node waits for what this store replies to its batches.
    pub fn is_owed(&mut self, node: NodeId) -> bool {
        self.find(node).is_some()
    }
    /// The replies to a batch, one after another.
    pub fn replied(&mut self, origin: Origin, sequence: u64, replies: &[u8]) {
        let leader = NodeId(self.leader.get() as u8);
        let Some(listener) = self.find(origin.node) else { return };
        let (Origin { boot, lane, .. }, digest) = (origin, Digest::of(replies));
        if listener.kept.len() == KEPT_MAX {
            listener.kept.pop_front();
            listener.said = listener.said.saturating_sub(1);
        }
        listener.kept.push_back(Reply { boot, lane, sequence, leader, digest, body: Body::EMPTY });
    }
    /// Says what is not said yet, as far as there is room.
    pub fn say(&mut self) -> usize {
        let mut count = 0;
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
        let mut vouching =
            Vouching::new(GROUP_ONE, to_seal, Number::new(3), [(PEER, lost.clone())].into_iter());
        assert!(vouching.is_owed(PEER) && !vouching.is_owed(NodeId(1)));
        vouching.replied(origin(NodeId(1)), 9, b"+OK\r\n");
        (1..=3).for_each(|sequence| vouching.replied(origin(PEER), sequence, b"+OK\r\n"));
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
        let mut vouching =
            Vouching::new(GROUP_ONE, to_seal, Number::default(), [(PEER, Number::default())].into_iter());
        (1..=3 * KEPT_MAX as u64).for_each(|sequence| vouching.replied(origin(PEER), sequence, b"+OK\r\n"));
        assert_eq!(vouching.listeners[0].kept.len(), KEPT_MAX);
    }
}
