//! Heads of [`forward::Message`](super::forward::Message).

use super::codec::{Bodies, CodecError, Heads, OWN_HEAD_MAX, body_of, put, take};
use super::entry::Batch;
use super::forward::{Message, Refusal};
use crate::base::{Body, NodeId, Origin};
use rkyv::{Archive, Deserialize, Serialize};
use std::ops::RangeInclusive;

const BATCH: u8 = 64;
const REFUSED: u8 = 65;

/// Kinds of this protocol.
pub(super) const KINDS: RangeInclusive<u8> = BATCH..=REFUSED;

#[derive(Archive, Serialize, Deserialize)]
struct BatchHead {
    boot: u64,
    sequence: u64,
    floor: u64,
    growth: u64,
    attempt: u32,
    node: u8,
    lane: u8,
    has_body: bool,
    zero: u8,
}
#[derive(Archive, Serialize, Deserialize)]
struct RefusedHead {
    boot: u64,
    sequence: u64,
    attempt: u32,
    lane: u8,
    why: Why,
    zero: [u8; 2],
}
const _: () = assert!(size_of::<ArchivedBatchHead>() <= OWN_HEAD_MAX);

/// `Refusal`, whose bytes bytecheck knows.
#[derive(Archive, Serialize, Deserialize)]
#[repr(u8)]
enum Why {
    NotLeader = 1,
    Draining,
    Overloaded,
    OutOfMemory,
    DiskFull,
}

pub(super) fn encode(out: &mut Heads, message: &Message) -> u8 {
    match message {
        Message::Batch { batch, attempt } => {
            let head = BatchHead {
                boot: batch.origin.boot,
                sequence: batch.sequence,
                floor: batch.floor,
                growth: batch.growth,
                attempt: *attempt,
                node: batch.origin.node.0,
                lane: batch.origin.lane,
                has_body: !batch.body.is_empty(),
                zero: 0,
            };
            put(out, &head);
            BATCH
        }
        Message::Refused { boot, lane, sequence, attempt, why } => {
            let why = match why {
                Refusal::NotLeader => Why::NotLeader,
                Refusal::Draining => Why::Draining,
                Refusal::Overloaded => Why::Overloaded,
                Refusal::OutOfMemory => Why::OutOfMemory,
                Refusal::DiskFull => Why::DiskFull,
            };
            let (boot, sequence, attempt, lane) = (*boot, *sequence, *attempt, *lane);
            put(out, &RefusedHead { boot, sequence, attempt, lane, why, zero: [0; 2] });
            REFUSED
        }
    }
}

pub(super) fn decode(
    kind: u8,
    entries: u32,
    bytes: &mut &[u8],
    bodies: &mut dyn Bodies,
) -> Result<Message, CodecError> {
    if entries != 0 {
        return Err(CodecError::Entries { kind, entries });
    }
    match kind {
        BATCH => {
            let head: BatchHead = take(bytes)?;
            if head.zero != 0 {
                return Err(CodecError::Malformed);
            }
            let batch = Batch {
                origin: Origin { node: NodeId(head.node), lane: head.lane, boot: head.boot },
                sequence: head.sequence,
                floor: head.floor,
                growth: head.growth,
                body: body_of(head.has_body, bodies)?,
            };
            Ok(Message::Batch { batch, attempt: head.attempt })
        }
        REFUSED => {
            let head: RefusedHead = take(bytes)?;
            if head.zero != [0; 2] {
                return Err(CodecError::Malformed);
            }
            let why = match head.why {
                Why::NotLeader => Refusal::NotLeader,
                Why::Draining => Refusal::Draining,
                Why::Overloaded => Refusal::Overloaded,
                Why::OutOfMemory => Refusal::OutOfMemory,
                Why::DiskFull => Refusal::DiskFull,
            };
            let RefusedHead { boot, sequence, attempt, lane, .. } = head;
            Ok(Message::Refused { boot, lane, sequence, attempt, why })
        }
        other => Err(CodecError::UnknownKind(other)),
    }
}

pub(super) fn for_each_body(message: &Message, f: &mut dyn FnMut(&Body)) {
    if let Message::Batch { batch, .. } = message {
        f(&batch.body);
    }
}
