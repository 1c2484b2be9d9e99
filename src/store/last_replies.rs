//! What was replied last to each lane of a native client: part of the replicated state, so that a client whose first answer was lost is
//! told the same by any replica, also by one whose state came whole from others ("the last reply per client": TOCS 2002, 4.2; that
//! fast reads need it replicated: Berger, Reiser and Bessani, SRDS 2021).
//!
//! A client has at most [`WINDOW`] batches of a lane under way, so older replies are asked for no more. Long replies stay by their digest
//! alone, the oldest first: which is a function of the batches, like everything here.

use crate::base::{Digest, NodeId, Origin};
use crate::config::limits;
use bytes::{BufMut, Bytes};
use std::collections::{BTreeMap, VecDeque};

/// Replies that are kept for each lane of a native client; it has no more batches under way.
pub const WINDOW: usize = 32;
/// Lanes of a client that are kept: what it writes, and reads that are ordered.
const LANES_MAX: u8 = 2;
/// Most bytes of replies that are kept for a lane.
const BYTES_MAX: usize = 64 << 10;

/// Bytes of a lane's head, and of a reply's, in a snapshot.
const LANE_HEAD: usize = 11;
const REPLY_HEAD: usize = 13;
/// Longest encoding of all there can be.
pub(super) const ENCODED_BYTES_MAX: usize = limits::CLIENTS_MAX
    * LANES_MAX as usize
    * (LANE_HEAD + WINDOW * (REPLY_HEAD + size_of::<Digest>()) + BYTES_MAX);

/// A reply that can be said again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Of all replies to the batch, one after another.
    pub digest: Digest,
    /// They themselves, unless they were too long to stay.
    pub replies: Option<Bytes>,
}

/// Those of a lane.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Lane {
    boot: u64,
    /// Invariant: sequences rise; at most `WINDOW`; together at most `BYTES_MAX` bytes of replies.
    kept: VecDeque<(u64, Kept)>,
}

/// The last replies to all native clients.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LastReplies {
    lanes: BTreeMap<(NodeId, u8), Lane>,
}

/// Whether replies to batches of this origin are kept.
pub fn is_kept(origin: Origin) -> bool {
    limits::NODES_MAX < usize::from(origin.node.0) && origin.lane < LANES_MAX
}

impl Lane {
    fn bytes(&self) -> usize {
        self.kept.iter().filter_map(|(_, kept)| kept.replies.as_ref()).map(Bytes::len).sum()
    }
    fn shrink(&mut self) {
        if WINDOW < self.kept.len() {
            self.kept.pop_front();
        }
        while BYTES_MAX < self.bytes() {
            let oldest = self.kept.iter_mut().find(|(_, kept)| kept.replies.is_some());
            oldest.expect("there are bytes").1.replies = None;
        }
    }
}

impl LastReplies {
    /// A batch has taken effect, with these replies.
    pub fn keep(&mut self, origin: Origin, sequence: u64, replies: &[u8]) {
        assert!(is_kept(origin));
        let lane = self.lanes.entry((origin.node, origin.lane)).or_default();
        if lane.boot != origin.boot {
            *lane = Lane { boot: origin.boot, kept: VecDeque::new() };
        }
        assert!(lane.kept.back().is_none_or(|(last, _)| *last < sequence), "a batch takes effect once");
        let digest = Digest::of(replies);
        lane.kept.push_back((sequence, Kept { digest, replies: Some(Bytes::copy_from_slice(replies)) }));
        lane.shrink();
    }
    /// What was replied to that batch, if it is one of the last.
    pub fn find(&self, origin: Origin, sequence: u64) -> Option<&Kept> {
        let lane = self.lanes.get(&(origin.node, origin.lane)).filter(|lane| lane.boot == origin.boot)?;
        let at = lane.kept.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        Some(&lane.kept[at].1)
    }
    /// Whether no native client has ever written.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
    /// Bytes of the encoding.
    pub fn len(&self) -> usize {
        let reply = |(_, kept): &(u64, Kept)| REPLY_HEAD + kept.replies.as_ref().map_or(32, Bytes::len);
        self.lanes.values().map(|lane| LANE_HEAD + lane.kept.iter().map(reply).sum::<usize>()).sum()
    }
    /// Appends what stands for all of it in the digest of a state.
    pub fn outline(&self, out: &mut Vec<u8>) {
        for ((node, number), lane) in &self.lanes {
            out.put_slice(&[node.0, *number, lane.kept.len() as u8]);
            out.put_u64_le(lane.boot);
            for (sequence, kept) in &lane.kept {
                out.put_u64_le(*sequence);
                out.put_u8(kept.replies.is_some().into());
                out.put_slice(&kept.digest.0);
            }
        }
    }
    /// Appends all of it. The same replies give the same bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for ((node, number), lane) in &self.lanes {
            out.put_slice(&[node.0, *number, lane.kept.len() as u8]);
            out.put_u64_le(lane.boot);
            for (sequence, kept) in &lane.kept {
                let bytes = kept.replies.as_deref();
                out.put_u64_le(*sequence);
                out.put_u8(bytes.is_some().into());
                out.put_u32_le(bytes.map_or(32, <[u8]>::len) as u32);
                out.put_slice(bytes.unwrap_or(&kept.digest.0));
            }
        }
    }
    /// Reads it back; `None` where no encoding could be so.
    pub fn decode(mut bytes: &[u8]) -> Option<LastReplies> {
        let mut all = LastReplies::default();
        while !bytes.is_empty() {
            let ([node, number, count], boot) =
                (take::<3>(&mut bytes)?, u64::from_le_bytes(take(&mut bytes)?));
            let (origin, mut lane) =
                (Origin { node: NodeId(node), lane: number, boot }, Lane { boot, ..Lane::default() });
            let place = (origin.node, number);
            let rises = all.lanes.last_key_value().is_none_or(|(last, _)| *last < place);
            if !is_kept(origin) || !rises || WINDOW < usize::from(count) || count == 0 {
                return None;
            }
            for _ in 0..count {
                let reply = reply(&mut bytes)?;
                if lane.kept.back().is_some_and(|(last, _)| reply.0 <= *last) {
                    return None;
                }
                lane.kept.push_back(reply);
            }
            if BYTES_MAX < lane.bytes() {
                return None;
            }
            all.lanes.insert(place, lane);
        }
        Some(all)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

fn reply(bytes: &mut &[u8]) -> Option<(u64, Kept)> {
    let sequence = u64::from_le_bytes(take(bytes)?);
    let [is_whole] = take(bytes)?;
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (replies, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let kept = match is_whole {
        1 => Kept { digest: Digest::of(replies), replies: Some(Bytes::copy_from_slice(replies)) },
        0 => Kept { digest: Digest(replies.try_into().ok()?), replies: None },
        _ => return None,
    };
    Some((sequence, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(node: u8, lane: u8, boot: u64) -> Origin {
        Origin { node: NodeId(node), lane, boot }
    }
    fn encoded(replies: &LastReplies) -> Vec<u8> {
        let mut bytes = Vec::new();
        replies.encode(&mut bytes);
        assert_eq!(bytes.len(), replies.len());
        bytes
    }

    #[test]
    fn a_window_of_replies_stays_for_the_present_life_of_a_client() {
        assert!(!is_kept(origin(63, 0, 1)) && is_kept(origin(64, 1, 1)) && !is_kept(origin(64, 2, 1)));
        let (mut last, client) = (LastReplies::default(), origin(64, 0, 7));
        for sequence in 1..=WINDOW as u64 + 3 {
            last.keep(client, sequence, format!(":{sequence}\r\n").as_bytes());
        }
        assert_eq!((last.find(client, 3), last.find(origin(64, 1, 7), 9)), (None, None));
        let kept = last.find(client, 4).expect("it is the oldest");
        assert_eq!((kept.digest, kept.replies.as_deref()), (Digest::of(b":4\r\n"), Some(&b":4\r\n"[..])));
        last.keep(origin(64, 0, 8), 1, b"+OK\r\n");
        assert_eq!(last.find(client, 30), None, "that life is over");
        assert!(last.find(origin(64, 0, 8), 1).is_some());
    }

    #[test]
    fn the_oldest_of_long_replies_stay_by_their_digest() {
        let (mut last, client) = (LastReplies::default(), origin(65, 1, 1));
        let long = vec![b'x'; BYTES_MAX / 2];
        (1..=3).for_each(|sequence| last.keep(client, sequence, &long));
        let whole = |last: &LastReplies, at| last.find(client, at).map(|kept| kept.replies.is_some());
        assert_eq!([1, 2, 3].map(|at| whole(&last, at)), [Some(false), Some(true), Some(true)]);
        last.keep(client, 4, &vec![b'y'; BYTES_MAX + 1]);
        assert_eq!([1, 2, 3, 4].map(|at| whole(&last, at)), [Some(false); 4]);
        assert_eq!(last.find(client, 1).map(|kept| kept.digest), Some(Digest::of(&long)));
    }

    #[test]
    fn the_encoding_is_read_back_and_what_it_cannot_be_is_refused() {
        let mut last = LastReplies::default();
        for (node, lane) in [(70, 0), (64, 1), (64, 0)] {
            (1..=40).for_each(|at| last.keep(origin(node, lane, 3), at, &vec![node; at as usize * 90]));
        }
        let bytes = encoded(&last);
        assert_eq!(LastReplies::decode(&bytes).as_ref(), Some(&last));
        assert!(bytes.len() <= ENCODED_BYTES_MAX);
        let outline = |last: &LastReplies| {
            let mut out = Vec::new();
            last.outline(&mut out);
            out
        };
        for at in (0..bytes.len()).step_by(61) {
            assert!(LastReplies::decode(&bytes[..at]).is_none_or(|read| read != last), "{at}");
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            // Every byte counts in what stands for it.
            assert!(LastReplies::decode(&bad).is_none_or(|read| outline(&read) != outline(&last)), "{at}");
        }
        let lane = &bytes[..bytes.len() / 3];
        assert_eq!(LastReplies::decode(&[lane, lane].concat()), None);
    }
}
