//! Heads of [`raft::Message`](super::raft::Message).

use super::codec::{Bodies, CodecError, Heads, OWN_HEAD_MAX, all_zero, body_of, put, take, take_entries};
use super::raft::{AppendOutcome, Message};
use crate::base::{Body, Slot, Stamp, Term};
use rkyv::{Archive, Deserialize, Serialize};

const VOTE: u8 = 1;
const VOTE_REPLY: u8 = 2;
const APPEND: u8 = 3;
const APPEND_REPLY: u8 = 4;
const PIECE: u8 = 5;
const PIECE_REPLY: u8 = 6;
const READ_INDEX: u8 = 7;
const READ_INDEX_REPLY: u8 = 8;
const TIMEOUT_NOW: u8 = 9;
const HEARTBEAT: u8 = 10;
const HEARTBEAT_REPLY: u8 = 11;

#[derive(Archive, Serialize, Deserialize)]
struct VoteHead {
    term: u64,
    last_slot: u64,
    last_term: u64,
    pre: bool,
    transfer: bool,
    zero: [u8; 6],
}
#[derive(Archive, Serialize, Deserialize)]
struct VoteReplyHead {
    term: u64,
    granted: bool,
    pre: bool,
    zero: [u8; 6],
}
#[derive(Archive, Serialize, Deserialize)]
struct AppendHead {
    term: u64,
    prev_slot: u64,
    prev_term: u64,
    commit: u64,
    round: u64,
}
#[derive(Archive, Serialize, Deserialize)]
struct AppendReplyHead {
    term: u64,
    round: u64,
    prev_slot: u64,
    slot: u64,
    slot_term: u64,
    outcome: OutcomeKind,
    zero: [u8; 7],
}
/// Which of `AppendOutcome`. Fields that a kind does not have are zero.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq)]
#[repr(u8)]
enum OutcomeKind {
    Matched = 1,
    Conflict,
    Stale,
}
#[derive(Archive, Serialize, Deserialize)]
struct PieceHead {
    term: u64,
    slot: u64,
    slot_term: u64,
    stamp: u64,
    offset: u64,
    total: u64,
    has_body: bool,
    zero: [u8; 7],
}
#[derive(Archive, Serialize, Deserialize)]
struct PieceReplyHead {
    term: u64,
    slot: u64,
    next: u64,
    installed: bool,
    zero: [u8; 7],
}
#[derive(Archive, Serialize, Deserialize)]
struct ReadIndexHead {
    term: u64,
    id: u64,
}
#[derive(Archive, Serialize, Deserialize)]
struct ReadIndexReplyHead {
    term: u64,
    id: u64,
    slot: u64,
    leads: bool,
    zero: [u8; 7],
}
#[derive(Archive, Serialize, Deserialize)]
struct TimeoutNowHead {
    term: u64,
}
#[derive(Archive, Serialize, Deserialize)]
struct HeartbeatHead {
    term: u64,
    commit: u64,
    round: u64,
}
#[derive(Archive, Serialize, Deserialize)]
struct HeartbeatReplyHead {
    term: u64,
    round: u64,
    lags: bool,
    zero: [u8; 7],
}
const _: () = assert!(size_of::<ArchivedPieceHead>() <= OWN_HEAD_MAX);
const _: () = assert!(size_of::<ArchivedAppendReplyHead>() <= OWN_HEAD_MAX);

/// Appends the kind's own head and says the kind. Entry heads follow (`codec`).
pub(super) fn encode(out: &mut Heads, message: &Message) -> u8 {
    match message {
        Message::Vote { term, last_slot, last_term, pre, transfer } => {
            let (last_slot, last_term, pre, transfer) = (last_slot.0, last_term.0, *pre, *transfer);
            put(out, &VoteHead { term: term.0, last_slot, last_term, pre, transfer, zero: [0; 6] });
            VOTE
        }
        Message::VoteReply { term, granted, pre } => {
            put(out, &VoteReplyHead { term: term.0, granted: *granted, pre: *pre, zero: [0; 6] });
            VOTE_REPLY
        }
        Message::Append { term, prev_slot, prev_term, commit, entries: _, round } => {
            let (prev_slot, prev_term, commit) = (prev_slot.0, prev_term.0, commit.0);
            put(out, &AppendHead { term: term.0, prev_slot, prev_term, commit, round: *round });
            APPEND
        }
        Message::AppendReply { term, outcome, round } => {
            put(out, &append_reply(*term, *outcome, *round));
            APPEND_REPLY
        }
        Message::Heartbeat { term, commit, round } => {
            put(out, &HeartbeatHead { term: term.0, commit: commit.0, round: *round });
            HEARTBEAT
        }
        Message::HeartbeatReply { term, round, lags } => {
            put(out, &HeartbeatReplyHead { term: term.0, round: *round, lags: *lags, zero: [0; 7] });
            HEARTBEAT_REPLY
        }
        Message::Piece { term, slot, slot_term, stamp, offset, total, body } => {
            let head = PieceHead {
                term: term.0,
                slot: slot.0,
                slot_term: slot_term.0,
                stamp: stamp.0,
                offset: *offset,
                total: *total,
                has_body: !body.is_empty(),
                zero: [0; 7],
            };
            put(out, &head);
            PIECE
        }
        Message::PieceReply { term, slot, next, installed } => {
            let (term, slot, next, installed) = (term.0, slot.0, *next, *installed);
            put(out, &PieceReplyHead { term, slot, next, installed, zero: [0; 7] });
            PIECE_REPLY
        }
        Message::ReadIndex { term, id } => {
            put(out, &ReadIndexHead { term: term.0, id: *id });
            READ_INDEX
        }
        Message::ReadIndexReply { term, id, slot } => {
            let (leads, slot) = (slot.is_some(), slot.unwrap_or_default().0);
            put(out, &ReadIndexReplyHead { term: term.0, id: *id, slot, leads, zero: [0; 7] });
            READ_INDEX_REPLY
        }
        Message::TimeoutNow { term } => {
            put(out, &TimeoutNowHead { term: term.0 });
            TIMEOUT_NOW
        }
    }
}

fn append_reply(term: Term, outcome: AppendOutcome, round: u64) -> AppendReplyHead {
    let (outcome, prev_slot, slot, slot_term) = match outcome {
        AppendOutcome::Matched { slot } => (OutcomeKind::Matched, 0, slot.0, 0),
        AppendOutcome::Conflict { prev_slot, slot, term } => {
            (OutcomeKind::Conflict, prev_slot.0, slot.0, term.0)
        }
        AppendOutcome::Stale => (OutcomeKind::Stale, 0, 0, 0),
    };
    AppendReplyHead { term: term.0, round, prev_slot, slot, slot_term, outcome, zero: [0; 7] }
}

pub(super) fn decode(
    kind: u8,
    entries: u32,
    bytes: &mut &[u8],
    bodies: &mut dyn Bodies,
) -> Result<Message, CodecError> {
    if kind != APPEND && entries != 0 {
        return Err(CodecError::Entries { kind, entries });
    }
    match kind {
        VOTE | VOTE_REPLY | TIMEOUT_NOW => decode_election(kind, bytes),
        HEARTBEAT => {
            let HeartbeatHead { term, commit, round } = take(bytes)?;
            Ok(Message::Heartbeat { term: Term(term), commit: Slot(commit), round })
        }
        HEARTBEAT_REPLY => {
            let HeartbeatReplyHead { term, round, lags, zero } = take(bytes)?;
            all_zero(&zero)?;
            Ok(Message::HeartbeatReply { term: Term(term), round, lags })
        }
        READ_INDEX | READ_INDEX_REPLY => decode_read(kind, bytes),
        PIECE | PIECE_REPLY => decode_piece(kind, bytes, bodies),
        APPEND => {
            let AppendHead { term, prev_slot, prev_term, commit, round } = take(bytes)?;
            Ok(Message::Append {
                term: Term(term),
                prev_slot: Slot(prev_slot),
                prev_term: Term(prev_term),
                commit: Slot(commit),
                entries: take_entries(entries, bytes, bodies)?,
                round,
            })
        }
        APPEND_REPLY => decode_append_reply(&take(bytes)?),
        other => Err(CodecError::UnknownKind(other)),
    }
}

fn decode_election(kind: u8, bytes: &mut &[u8]) -> Result<Message, CodecError> {
    match kind {
        VOTE => {
            let VoteHead { term, last_slot, last_term, pre, transfer, zero } = take(bytes)?;
            all_zero(&zero)?;
            let (term, last_slot, last_term) = (Term(term), Slot(last_slot), Term(last_term));
            Ok(Message::Vote { term, last_slot, last_term, pre, transfer })
        }
        VOTE_REPLY => {
            let VoteReplyHead { term, granted, pre, zero } = take(bytes)?;
            all_zero(&zero)?;
            Ok(Message::VoteReply { term: Term(term), granted, pre })
        }
        _ => {
            let TimeoutNowHead { term } = take(bytes)?;
            Ok(Message::TimeoutNow { term: Term(term) })
        }
    }
}

fn decode_read(kind: u8, bytes: &mut &[u8]) -> Result<Message, CodecError> {
    if kind == READ_INDEX {
        let ReadIndexHead { term, id } = take(bytes)?;
        return Ok(Message::ReadIndex { term: Term(term), id });
    }
    let ReadIndexReplyHead { term, id, slot, leads, zero } = take(bytes)?;
    all_zero(&zero)?;
    if !leads && slot != 0 {
        return Err(CodecError::Malformed);
    }
    Ok(Message::ReadIndexReply { term: Term(term), id, slot: leads.then_some(Slot(slot)) })
}

fn decode_piece(kind: u8, bytes: &mut &[u8], bodies: &mut dyn Bodies) -> Result<Message, CodecError> {
    if kind == PIECE_REPLY {
        let PieceReplyHead { term, slot, next, installed, zero } = take(bytes)?;
        all_zero(&zero)?;
        return Ok(Message::PieceReply { term: Term(term), slot: Slot(slot), next, installed });
    }
    let head: PieceHead = take(bytes)?;
    all_zero(&head.zero)?;
    Ok(Message::Piece {
        term: Term(head.term),
        slot: Slot(head.slot),
        slot_term: Term(head.slot_term),
        stamp: Stamp(head.stamp),
        offset: head.offset,
        total: head.total,
        body: body_of(head.has_body, bodies)?,
    })
}

fn decode_append_reply(head: &AppendReplyHead) -> Result<Message, CodecError> {
    all_zero(&head.zero)?;
    let slot = Slot(head.slot);
    let outcome = match head.outcome {
        OutcomeKind::Matched => AppendOutcome::Matched { slot },
        OutcomeKind::Conflict => {
            AppendOutcome::Conflict { prev_slot: Slot(head.prev_slot), slot, term: Term(head.slot_term) }
        }
        OutcomeKind::Stale => AppendOutcome::Stale,
    };
    let unused = match head.outcome {
        OutcomeKind::Matched => head.prev_slot | head.slot_term,
        OutcomeKind::Conflict => 0,
        OutcomeKind::Stale => head.prev_slot | head.slot_term | head.slot,
    };
    if unused != 0 {
        return Err(CodecError::Malformed);
    }
    Ok(Message::AppendReply { term: Term(head.term), outcome, round: head.round })
}

pub(super) fn for_each_body(message: &Message, f: &mut dyn FnMut(&Body)) {
    match message {
        Message::Append { entries, .. } => entries.iter().for_each(|entry| f(&entry.body)),
        Message::Piece { body, .. } => f(body),
        _ => {}
    }
}
