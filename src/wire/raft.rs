//! What Raft replicas tell each other (thesis 3.3 to 3.5, 5, 6.4, 9.6).

use super::Entry;
use crate::base::{Body, Slot, Stamp, Term};

/// A message of a Raft group.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// RequestVote (3.4), or its trial run that changes no state (9.6, pre-vote).
    Vote {
        /// The candidate's term; in a pre-vote the term that it would enter.
        term: Term,
        /// The candidate's last entry.
        last_slot: Slot,
        /// Its term.
        last_term: Term,
        /// A trial run.
        pre: bool,
        /// The old leader asked for this election (3.10): granted without regard to the leader lease.
        transfer: bool,
    },
    /// The answer.
    VoteReply {
        /// The voter's term; in a granted pre-vote the term that was asked about.
        term: Term,
        /// Whether it voted for the candidate.
        granted: bool,
        /// Answers a trial run.
        pre: bool,
    },
    /// AppendEntries (3.5). Without entries the question whether the logs agree at `prev_slot`.
    Append {
        /// The leader's term.
        term: Term,
        /// The place before the first entry.
        prev_slot: Slot,
        /// Its term.
        prev_term: Term,
        /// The leader's commit index.
        commit: Slot,
        /// Consecutive, from `prev_slot + 1`.
        entries: Vec<Entry>,
        /// The newest round of leadership confirmation (6.4); echoed in the reply.
        round: u64,
    },
    /// The answer.
    AppendReply {
        /// The follower's term.
        term: Term,
        /// Whether `prev` matched.
        outcome: AppendOutcome,
        /// Echo of `Append::round`.
        round: u64,
    },
    /// The leader lives (3.4). It says nothing of where the follower's log should stand, so it may overtake any amount of data.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// The leader's commit index, as far as the follower is known to agree.
        commit: Slot,
        /// The newest round of leadership confirmation (6.4); echoed in the reply.
        round: u64,
    },
    /// The answer. It acknowledges no entry.
    HeartbeatReply {
        /// The follower's term.
        term: Term,
        /// Echo of `Heartbeat::round`.
        round: u64,
        /// The follower does not know that its log agrees up to what the heartbeat calls committed: it has started anew.
        lags: bool,
    },
    /// A piece of a snapshot (5.1), for a follower whose next entry has left the leader's log.
    Piece {
        /// The leader's term.
        term: Term,
        /// The snapshot's last slot.
        slot: Slot,
        /// That slot's term.
        slot_term: Term,
        /// That slot's stamp.
        stamp: Stamp,
        /// Where the piece begins, in bytes.
        offset: u64,
        /// The snapshot's whole size in bytes.
        total: u64,
        /// The piece.
        body: Body,
    },
    /// How far the pieces have come; the leader goes on from there (resumable).
    PieceReply {
        /// The follower's term.
        term: Term,
        /// Which snapshot.
        slot: Slot,
        /// The next byte wanted; `total` when installed.
        next: u64,
        /// The snapshot has become the follower's durable state.
        installed: bool,
    },
    /// Asks the leader for a read index (6.4).
    ReadIndex {
        /// The sender's term.
        term: Term,
        /// The sender's number for it; rises.
        id: u64,
    },
    /// The read index: everything acknowledged before the question was asked lies at or below `slot`.
    ReadIndexReply {
        /// The leader's term.
        term: Term,
        /// Echo.
        id: u64,
        /// `None`: this node does not lead; ask again elsewhere.
        slot: Option<Slot>,
    },
    /// Start an election at once (3.10): the leader hands over.
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
}

/// What a follower says to an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendOutcome {
    /// The log agrees with the leader's up to `slot`, durably.
    Matched {
        /// The last slot that is known to agree.
        slot: Slot,
    },
    /// The log does not agree at `prev_slot`: the leader goes on looking at or below `slot`, whose term here is `term`
    /// (back over a term at a time, 3.5).
    Conflict {
        /// The place that was refused, so that a late reply can be told.
        prev_slot: Slot,
        /// The hint.
        slot: Slot,
        /// The hint's term here.
        term: Term,
    },
    /// The leader is of an older term.
    Stale,
}
