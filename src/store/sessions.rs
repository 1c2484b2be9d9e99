//! Exactly once: which batch of which origin took effect last.
//!
//! [`Sessions`] is part of the replicated state: every replica decides alike, the decision survives in snapshots, and the digest
//! covers it (a session table that is not replicated repeats commands after a change of leader; Raft thesis 6.3). So are the members
//! of a Byzantine group, and they stand here too.

use super::last_replies::{Kept, LastReplies};
use crate::base::{NodeId, Origin};
use crate::wire::members::Members;
use crate::wire::sequence::{Verdict, judge};

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It takes effect, once, here.
    Applied,
    /// It, or a later one of its origin, took effect before.
    Duplicate,
    /// An earlier batch of its origin, that may still come, is missing.
    Gap,
    /// A later life of its origin has been heard of.
    Stale,
}

/// The newest life of each lane and the last batch that took effect in it.
///
/// A lane costs 24 bytes and is kept for ever: forgetting one would let an old batch take effect again. There are at most as many as
/// nodes times fronts, so the table needs no limit of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sessions {
    /// Invariant: strictly rising by `(node, lane)`.
    lanes: Vec<Lane>,
    last_replies: LastReplies,
    members: Members,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lane {
    origin: Origin,
    /// The last batch that took effect, from 1.
    last: u64,
}

/// Bytes that a lane takes in a snapshot.
pub const LANE_BYTES: usize = 18;

impl Sessions {
    /// Decides about a batch by the rule of [`crate::wire::Entry`], and remembers it if it takes effect.
    pub fn admit(&mut self, origin: Origin, sequence: u64, floor: u64) -> Admission {
        let found = self.find(origin);
        let last = match found {
            Ok(at) if origin.boot < self.lanes[at].origin.boot => return Admission::Stale,
            Ok(at) if origin.boot == self.lanes[at].origin.boot => self.lanes[at].last,
            // A later life numbers its batches anew.
            _ => 0,
        };
        match judge(last, sequence, floor) {
            Verdict::Duplicate => return Admission::Duplicate,
            Verdict::Gap => return Admission::Gap,
            Verdict::Applied => {}
        }
        let lane = Lane { origin, last: sequence };
        match found {
            Ok(at) => self.lanes[at] = lane,
            Err(at) => self.lanes.insert(at, lane),
        }
        Admission::Applied
    }

    /// The last batch of this origin that took effect; 0 when there is none.
    pub fn last(&self, origin: Origin) -> u64 {
        match self.find(origin) {
            Ok(at) if self.lanes[at].origin == origin => self.lanes[at].last,
            _ => 0,
        }
    }
    /// A native client's batch has taken effect, with these replies.
    pub fn keep(&mut self, origin: Origin, sequence: u64, replies: &[u8]) {
        self.last_replies.keep(origin, sequence, replies);
    }
    /// What was replied to a native client's batch, if it is one of its last.
    pub fn reply(&self, origin: Origin, sequence: u64) -> Option<&Kept> {
        self.last_replies.find(origin, sequence)
    }
    /// The last replies to native clients.
    pub fn last_replies(&self) -> &LastReplies {
        &self.last_replies
    }
    /// What was read of them.
    pub fn set_last_replies(&mut self, last_replies: LastReplies) {
        self.last_replies = last_replies;
    }
    /// Who is in the group, where that was ever changed.
    pub fn members(&self) -> &Members {
        &self.members
    }
    /// See `members`.
    pub fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }
    /// Number of lanes.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }
    /// Whether no batch has ever taken effect.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Appends all lanes, `LANE_BYTES` each: node, lane, boot, last. The same table gives the same bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for lane in &self.lanes {
            out.extend_from_slice(&[lane.origin.node.0, lane.origin.lane]);
            out.extend_from_slice(&lane.origin.boot.to_le_bytes());
            out.extend_from_slice(&lane.last.to_le_bytes());
        }
    }
    /// Takes one encoded lane in. False when it does not follow those before it.
    #[must_use]
    pub fn decode(&mut self, bytes: &[u8; LANE_BYTES]) -> bool {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let origin = Origin { node: NodeId(bytes[0]), lane: bytes[1], boot: number(2) };
        let follows = self.lanes.last().is_none_or(|l| place(l.origin) < place(origin));
        if follows {
            self.lanes.push(Lane { origin, last: number(10) });
        }
        follows
    }

    fn find(&self, origin: Origin) -> Result<usize, usize> {
        self.lanes.binary_search_by_key(&place(origin), |l| place(l.origin))
    }
}

fn place(origin: Origin) -> (NodeId, u8) {
    (origin.node, origin.lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(node: u8, lane: u8, boot: u64) -> Origin {
        Origin { node: NodeId(node), lane, boot }
    }

    #[test]
    fn a_batch_takes_effect_once_and_after_those_before_it() {
        let mut sessions = Sessions::default();
        let a = origin(1, 0, 1);
        assert_eq!(sessions.admit(a, 1, 1), Admission::Applied);
        assert_eq!(sessions.admit(a, 1, 1), Admission::Duplicate);
        assert_eq!(sessions.admit(a, 3, 1), Admission::Gap);
        assert_eq!(sessions.admit(a, 2, 1), Admission::Applied);
        assert_eq!(sessions.admit(a, 3, 1), Admission::Applied);
        assert_eq!(sessions.admit(a, 9, 9), Admission::Applied, "4 to 8 were given up");
        assert_eq!(sessions.admit(a, 8, 4), Admission::Duplicate, "given up means never after 9");
        assert_eq!(sessions.last(a), 9);
    }

    #[test]
    fn a_later_life_supersedes_an_earlier_one_and_lanes_do_not_meet() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.admit(origin(2, 1, 5), 1, 1), Admission::Applied);
        assert_eq!(sessions.admit(origin(2, 1, 6), 2, 1), Admission::Gap);
        assert_eq!(sessions.admit(origin(2, 1, 5), 2, 1), Admission::Applied, "a gap has no effect");
        assert_eq!(sessions.admit(origin(2, 1, 6), 1, 1), Admission::Applied);
        assert_eq!(sessions.admit(origin(2, 1, 5), 3, 3), Admission::Stale);
        assert_eq!(sessions.admit(origin(2, 0, 5), 1, 1), Admission::Applied);
        assert_eq!(sessions.last(origin(2, 1, 5)), 0);
        assert_eq!(sessions.last(origin(2, 1, 6)), 1);
        assert_eq!(sessions.len(), 2);
    }

    #[test]
    fn the_encoding_is_canonical_and_refuses_disorder() {
        let (mut one, mut other) = (Sessions::default(), Sessions::default());
        let origins = [origin(1, 0, 4), origin(1, 1, 4), origin(3, 0, 9)];
        origins.iter().for_each(|o| assert_eq!(one.admit(*o, 7, 7), Admission::Applied));
        origins.iter().rev().for_each(|o| assert_eq!(other.admit(*o, 7, 7), Admission::Applied));
        let (mut bytes, mut others) = (Vec::new(), Vec::new());
        one.encode(&mut bytes);
        other.encode(&mut others);
        assert_eq!(bytes, others);
        let mut read = Sessions::default();
        let (lanes, []) = bytes.as_chunks::<LANE_BYTES>() else { panic!("whole lanes") };
        lanes.iter().for_each(|lane| assert!(read.decode(lane)));
        assert_eq!(read, one);
        assert!(!read.decode(&lanes[0]), "not after the last");
    }
}
