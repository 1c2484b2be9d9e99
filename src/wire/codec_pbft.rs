//! Heads of [`pbft::Message`](super::pbft::Message). Lists (entries, votes, signatures) follow the own head, counted by the prefix.

use super::codec::{
    self, Bodies, CodecError, EntryHead, Heads, OWN_HEAD_MAX, body_of, put, take, take_entries,
};
use super::codec_forward::{BatchHead, put_batch};
use super::pbft::{Change, Charter, Message, NewView, Proposal, Succession, Vote};
use super::{Batch, Entry};
use crate::base::{Body, Digest, Slot, Stamp, View};
use crate::crypto::Signature;
use rkyv::{Archive, Deserialize, Serialize};
use std::ops::RangeInclusive;

const PRE_PREPARE: u8 = 16;
const PREPARE: u8 = 17;
const COMMIT: u8 = 18;
const CHECKPOINT: u8 = 19;
const VIEW_CHANGE: u8 = 20;
const NEW_VIEW: u8 = 21;
const STATUS: u8 = 22;
const DECIDED: u8 = 23;
const WANT: u8 = 24;
const HAVE: u8 = 25;
const REQUEST: u8 = 26;
const PIECE_WANT: u8 = 27;
const PIECE: u8 = 28;
const SHOWN: u8 = 29;
const ACCUSE: u8 = 30;
const SUCCESSION: u8 = 31;
const CHARTER: u8 = 32;

/// Kinds of this protocol.
pub(super) const KINDS: RangeInclusive<u8> = PRE_PREPARE..=CHARTER;

#[derive(Archive, Serialize, Deserialize)]
struct ViewHead {
    view: u64,
}
#[derive(Archive, Serialize, Deserialize)]
struct SignatureHead {
    bytes: [u8; 64],
}
#[derive(Archive, Serialize, Deserialize)]
struct VoteHead {
    slot: u64,
    digest: [u8; 32],
}
#[derive(Archive, Serialize, Deserialize)]
struct StatusHead {
    view: u64,
    stable: u64,
    executed: u64,
    active: bool,
    bodies: bool,
    complains: bool,
    zero: [u8; 5],
}
#[derive(Archive, Serialize, Deserialize)]
struct DecidedHead {
    /// Of the list, so many are entries; the rest are votes.
    entries: u64,
}
#[derive(Archive, Serialize, Deserialize)]
struct PieceWantHead {
    slot: u64,
    offset: u64,
    round: u64,
    has_body: bool,
    zero: [u8; 7],
}
#[derive(Archive, Serialize, Deserialize)]
struct PieceHead {
    slot: u64,
    stamp: u64,
    offset: u64,
    total: u64,
    round: u64,
    has_body: bool,
    zero: [u8; 7],
}
const _: () = assert!(size_of::<ArchivedPieceHead>() <= OWN_HEAD_MAX);
const ENTRY: usize = size_of::<codec::ArchivedEntryHead>();
const VOTE: usize = size_of::<ArchivedVoteHead>();
const SIGNATURE: usize = size_of::<ArchivedSignatureHead>();

/// Length of the list that follows the own head.
pub(super) fn count(message: &Message) -> usize {
    match message {
        Message::PrePrepare { proposals, .. } => proposals.len(),
        Message::Prepare { votes, .. } | Message::Commit { votes, .. } | Message::Want { votes } => {
            votes.len()
        }
        Message::Decided { entries, votes } => entries.len() + votes.len(),
        Message::Have { entries } => entries.len(),
        _ => 0,
    }
}

/// Upper bound of the bytes beyond an own head.
pub(super) fn bound(message: &Message) -> usize {
    2 * SIGNATURE + count(message) * (ENTRY + SIGNATURE)
}

fn put_vote(out: &mut Heads, vote: &Vote) {
    put(out, &VoteHead { slot: vote.slot.0, digest: vote.digest.0 });
}
fn put_signature(out: &mut Heads, signature: &Signature) {
    put(out, &SignatureHead { bytes: signature.0 });
}
fn take_vote(bytes: &mut &[u8]) -> Result<Vote, CodecError> {
    let VoteHead { slot, digest } = take(bytes)?;
    Ok(Vote { slot: Slot(slot), digest: Digest(digest) })
}
fn take_signature(bytes: &mut &[u8]) -> Result<Signature, CodecError> {
    let SignatureHead { bytes } = take(bytes)?;
    Ok(Signature(bytes))
}

/// Takes `count` things of `size` bytes; their length was checked before anything is allocated for them.
fn take_list<T>(
    count: usize,
    size: usize,
    bytes: &mut &[u8],
    mut one: impl FnMut(&mut &[u8]) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let needed = count.saturating_mul(size);
    if bytes.len() < needed {
        return Err(CodecError::Truncated { needed, left: bytes.len() });
    }
    (0..count).map(|_| one(bytes)).collect()
}

/// Appends the whole message and says its kind.
pub(super) fn encode(out: &mut Heads, message: &Message) -> u8 {
    match message {
        Message::PrePrepare { view, proposals, signature } => {
            put(out, &ViewHead { view: view.0 });
            put_signature(out, signature);
            proposals.iter().for_each(|p| put(out, &EntryHead::of(&p.entry)));
            proposals.iter().for_each(|p| put_signature(out, &p.signature));
            PRE_PREPARE
        }
        Message::Prepare { view, votes } => {
            put(out, &ViewHead { view: view.0 });
            votes.iter().for_each(|vote| put_vote(out, vote));
            PREPARE
        }
        Message::Commit { view, votes } => {
            put(out, &ViewHead { view: view.0 });
            votes.iter().for_each(|vote| put_vote(out, vote));
            COMMIT
        }
        Message::Checkpoint { vote, signature } => {
            put_vote(out, vote);
            put_signature(out, signature);
            CHECKPOINT
        }
        Message::ViewChange(_) => VIEW_CHANGE,
        Message::NewView(_) => NEW_VIEW,
        Message::Status { view, active, stable, executed, bodies, complains } => {
            let (view, stable, executed) = (view.0, stable.0, executed.0);
            let (active, bodies, complains) = (*active, *bodies, *complains);
            put(out, &StatusHead { view, stable, executed, active, bodies, complains, zero: [0; 5] });
            STATUS
        }
        Message::Decided { .. } | Message::Want { .. } | Message::Have { .. } => encode_values(out, message),
        Message::Request { batch } => {
            put_batch(out, batch, 0);
            REQUEST
        }
        Message::PieceWant { .. } | Message::Piece { .. } => encode_piece(out, message),
        Message::Shown { .. } => SHOWN,
        Message::Accuse { .. } => ACCUSE,
        Message::Succession(_) => SUCCESSION,
        Message::Charter(_) => CHARTER,
    }
}

fn encode_piece(out: &mut Heads, message: &Message) -> u8 {
    match message {
        Message::PieceWant { slot, offset, round, ranges } => {
            let (slot, has_body) = (slot.0, !ranges.is_empty());
            put(out, &PieceWantHead { slot, offset: *offset, round: *round, has_body, zero: [0; 7] });
            PIECE_WANT
        }
        Message::Piece { round, slot, stamp, offset, total, body } => {
            let (slot, stamp, has_body) = (slot.0, stamp.0, !body.is_empty());
            let (offset, total, round) = (*offset, *total, *round);
            put(out, &PieceHead { slot, stamp, offset, total, round, has_body, zero: [0; 7] });
            PIECE
        }
        _ => unreachable!("the caller has looked"),
    }
}

fn encode_values(out: &mut Heads, message: &Message) -> u8 {
    match message {
        Message::Decided { entries, votes } => {
            put(out, &DecidedHead { entries: entries.len() as u64 });
            entries.iter().for_each(|entry| put(out, &EntryHead::of(entry)));
            votes.iter().for_each(|vote| put_vote(out, vote));
            DECIDED
        }
        Message::Have { entries } => {
            entries.iter().for_each(|entry| put(out, &EntryHead::of(entry)));
            HAVE
        }
        Message::Want { votes } => {
            votes.iter().for_each(|vote| put_vote(out, vote));
            WANT
        }
        _ => unreachable!("the caller has looked"),
    }
}

pub(super) fn decode(
    kind: u8,
    count: u32,
    bytes: &mut &[u8],
    bodies: &mut dyn Bodies,
) -> Result<Message, CodecError> {
    let listed = [PRE_PREPARE, PREPARE, COMMIT, DECIDED, WANT, HAVE].contains(&kind);
    if !listed && count != 0 {
        return Err(CodecError::Entries { kind, entries: count });
    }
    match kind {
        PRE_PREPARE => {
            let ViewHead { view } = take(bytes)?;
            let signature = take_signature(bytes)?;
            let entries = take_entries(count, bytes, bodies)?;
            let signatures = take_list(count as usize, SIGNATURE, bytes, take_signature)?;
            let one = |(entry, signature)| Proposal { entry, signature };
            let proposals = entries.into_iter().zip(signatures).map(one).collect();
            Ok(Message::PrePrepare { view: View(view), proposals, signature })
        }
        PREPARE | COMMIT => {
            let ViewHead { view } = take(bytes)?;
            let (view, votes) = (View(view), take_list(count as usize, VOTE, bytes, take_vote)?);
            Ok(if kind == PREPARE {
                Message::Prepare { view, votes }
            } else {
                Message::Commit { view, votes }
            })
        }
        CHECKPOINT => {
            let (vote, signature) = (take_vote(bytes)?, take_signature(bytes)?);
            Ok(Message::Checkpoint { vote, signature })
        }
        VIEW_CHANGE => {
            let change = Change::decode(body_of(true, bodies)?.bytes());
            change.map(Message::ViewChange).ok_or(CodecError::Malformed)
        }
        NEW_VIEW => {
            let view = NewView::decode(body_of(true, bodies)?.bytes());
            view.map(Message::NewView).ok_or(CodecError::Malformed)
        }
        STATUS => {
            let StatusHead { view, stable, executed, active, bodies, complains, zero } = take(bytes)?;
            codec::all_zero(&zero)?;
            let (view, stable, executed) = (View(view), Slot(stable), Slot(executed));
            Ok(Message::Status { view, active, stable, executed, bodies, complains })
        }
        DECIDED | WANT | HAVE => decode_values(kind, count, bytes, bodies),
        REQUEST => {
            let head: BatchHead = take(bytes)?;
            let batch: Batch = head.batch(bytes, bodies)?;
            if head.attempt() == 0 { Ok(Message::Request { batch }) } else { Err(CodecError::Malformed) }
        }
        PIECE_WANT | PIECE => decode_piece(kind, bytes, bodies),
        SHOWN => Ok(Message::Shown { words: body_of(true, bodies)? }),
        ACCUSE => Ok(Message::Accuse { proof: body_of(true, bodies)? }),
        SUCCESSION | CHARTER => decode_epoch(kind, bodies),
        other => Err(CodecError::UnknownKind(other)),
    }
}

fn decode_epoch(kind: u8, bodies: &mut dyn Bodies) -> Result<Message, CodecError> {
    let body = body_of(true, bodies)?;
    let read = match kind {
        SUCCESSION => Succession::decode(body.bytes()).map(Message::Succession),
        _ => Charter::decode(body.bytes()).map(Message::Charter),
    };
    read.ok_or(CodecError::Malformed)
}

fn decode_values(
    kind: u8,
    count: u32,
    bytes: &mut &[u8],
    bodies: &mut dyn Bodies,
) -> Result<Message, CodecError> {
    match kind {
        HAVE => Ok(Message::Have { entries: take_entries(count, bytes, bodies)? }),
        WANT => Ok(Message::Want { votes: take_list(count as usize, VOTE, bytes, take_vote)? }),
        _ => {
            let DecidedHead { entries: whole } = take(bytes)?;
            let whole = u32::try_from(whole).ok().filter(|whole| *whole <= count);
            let whole = whole.ok_or(CodecError::Malformed)?;
            let entries: Vec<Entry> = take_entries(whole, bytes, bodies)?;
            let votes = take_list((count - whole) as usize, VOTE, bytes, take_vote)?;
            Ok(Message::Decided { entries, votes })
        }
    }
}

fn decode_piece(kind: u8, bytes: &mut &[u8], bodies: &mut dyn Bodies) -> Result<Message, CodecError> {
    if kind == PIECE_WANT {
        let PieceWantHead { slot, offset, round, has_body, zero } = take(bytes)?;
        codec::all_zero(&zero)?;
        let ranges = body_of(has_body, bodies)?;
        return Ok(Message::PieceWant { slot: Slot(slot), offset, round, ranges });
    }
    let PieceHead { slot, stamp, offset, total, round, has_body, zero } = take(bytes)?;
    codec::all_zero(&zero)?;
    let body = body_of(has_body, bodies)?;
    Ok(Message::Piece { round, slot: Slot(slot), stamp: Stamp(stamp), offset, total, body })
}

pub(super) fn for_each_body(message: &Message, f: &mut dyn FnMut(&Body)) {
    match message {
        Message::PrePrepare { proposals, .. } => proposals.iter().for_each(|p| f(&p.entry.body)),
        Message::Decided { entries, .. } | Message::Have { entries } => {
            entries.iter().for_each(|entry| f(&entry.body));
        }
        Message::ViewChange(change) => f(&change.body()),
        Message::NewView(view) => f(&view.body()),
        Message::Succession(word) => f(&word.body()),
        Message::Charter(charter) => f(&charter.body()),
        Message::Request { batch } => f(&batch.body),
        Message::PieceWant { ranges: body, .. }
        | Message::Piece { body, .. }
        | Message::Shown { words: body }
        | Message::Accuse { proof: body } => {
            f(body);
        }
        _ => {}
    }
}
