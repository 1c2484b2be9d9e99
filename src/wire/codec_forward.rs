//! Heads of [`forward::Message`](super::forward::Message).

use super::codec::{Bodies, CodecError, Heads, OWN_HEAD_MAX, body_of, put, take};
use super::entry::Batch;
use super::forward::{Message, Refusal, Reply};
use crate::base::{Body, Digest, NodeId, Origin};
use crate::crypto::Signature;
use rkyv::{Archive, Deserialize, Serialize};
use std::ops::RangeInclusive;

const BATCH: u8 = 64;
const REFUSED: u8 = 65;
const REPLIED: u8 = 66;
const READ: u8 = 67;

/// Kinds of this protocol.
pub(super) const KINDS: RangeInclusive<u8> = BATCH..=READ;

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct BatchHead {
    boot: u64,
    sequence: u64,
    floor: u64,
    growth: u64,
    attempt: u32,
    node: u8,
    lane: u8,
    has_body: bool,
    /// A signature follows.
    signed: bool,
}
#[derive(Archive, Serialize, Deserialize)]
struct SignatureHead {
    bytes: [u8; 64],
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
#[derive(Archive, Serialize, Deserialize)]
struct ReadHead {
    boot: u64,
    id: u64,
    lane: u8,
    has_body: bool,
    zero: [u8; 6],
}
#[derive(Archive, Serialize, Deserialize)]
struct RepliedHead {
    boot: u64,
    sequence: u64,
    epoch: u64,
    digest: [u8; 32],
    lane: u8,
    leader: u8,
    has_body: bool,
    zero: [u8; 5],
}
const _: () = assert!(size_of::<ArchivedRepliedHead>() <= OWN_HEAD_MAX);
const _: () = assert!(size_of::<ArchivedBatchHead>() + size_of::<ArchivedSignatureHead>() <= OWN_HEAD_MAX);

impl BatchHead {
    pub(super) fn of(batch: &Batch, attempt: u32) -> BatchHead {
        BatchHead {
            boot: batch.origin.boot,
            sequence: batch.sequence,
            floor: batch.floor,
            growth: batch.growth,
            attempt,
            node: batch.origin.node.0,
            lane: batch.origin.lane,
            has_body: !batch.body.is_empty(),
            signed: batch.signature != Signature::NONE,
        }
    }
    /// The batch, with the next body if it has one.
    pub(super) fn batch(&self, bytes: &mut &[u8], bodies: &mut dyn Bodies) -> Result<Batch, CodecError> {
        let signature = if self.signed {
            let SignatureHead { bytes } = take(bytes)?;
            Signature(bytes)
        } else {
            Signature::NONE
        };
        // One encoding only: a signature that is none is left out.
        if self.signed && signature == Signature::NONE {
            return Err(CodecError::Malformed);
        }
        Ok(Batch {
            origin: Origin { node: NodeId(self.node), lane: self.lane, boot: self.boot },
            sequence: self.sequence,
            floor: self.floor,
            growth: self.growth,
            signature,
            body: body_of(self.has_body, bodies)?,
        })
    }
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Appends a batch's head, and its signature if it has one.
pub(super) fn put_batch(out: &mut Heads, batch: &Batch, attempt: u32) {
    put(out, &BatchHead::of(batch, attempt));
    if batch.signature != Signature::NONE {
        put(out, &SignatureHead { bytes: batch.signature.0 });
    }
}

/// `Refusal`, whose bytes bytecheck knows.
#[derive(Archive, Serialize, Deserialize)]
#[repr(u8)]
enum Why {
    NotLeader = 1,
    Draining,
    Overloaded,
    OutOfMemory,
    DiskFull,
    Unsigned,
}

pub(super) fn encode(out: &mut Heads, message: &Message) -> u8 {
    match message {
        Message::Batch { batch, attempt } => {
            put_batch(out, batch, *attempt);
            BATCH
        }
        Message::Refused { boot, lane, sequence, attempt, why } => {
            let why = match why {
                Refusal::NotLeader => Why::NotLeader,
                Refusal::Draining => Why::Draining,
                Refusal::Overloaded => Why::Overloaded,
                Refusal::OutOfMemory => Why::OutOfMemory,
                Refusal::DiskFull => Why::DiskFull,
                Refusal::Unsigned => Why::Unsigned,
            };
            let (boot, sequence, attempt, lane) = (*boot, *sequence, *attempt, *lane);
            put(out, &RefusedHead { boot, sequence, attempt, lane, why, zero: [0; 2] });
            REFUSED
        }
        Message::Read { boot, lane, id, body } => {
            let (boot, id, lane) = (*boot, *id, *lane);
            put(out, &ReadHead { boot, id, lane, has_body: !body.is_empty(), zero: [0; 6] });
            READ
        }
        Message::Replied(Reply { boot, lane, sequence, leader, epoch, digest, body }) => {
            let (boot, sequence, digest, lane, leader) = (*boot, *sequence, digest.0, *lane, leader.0);
            let (epoch, has_body) = (*epoch, !body.is_empty());
            put(out, &RepliedHead { boot, sequence, epoch, digest, lane, leader, has_body, zero: [0; 5] });
            REPLIED
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
            Ok(Message::Batch { batch: head.batch(bytes, bodies)?, attempt: head.attempt() })
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
                Why::Unsigned => Refusal::Unsigned,
            };
            let RefusedHead { boot, sequence, attempt, lane, .. } = head;
            Ok(Message::Refused { boot, lane, sequence, attempt, why })
        }
        REPLIED => {
            let RepliedHead { boot, sequence, epoch, digest, lane, leader, has_body, zero } = take(bytes)?;
            let (digest, body) = (Digest(digest), body_of(has_body, bodies)?);
            if zero != [0; 5] || (has_body && body.digest() != digest) {
                return Err(CodecError::Malformed);
            }
            Ok(Message::Replied(Reply { boot, lane, sequence, leader: NodeId(leader), epoch, digest, body }))
        }
        READ => {
            let ReadHead { boot, id, lane, has_body, zero } = take(bytes)?;
            if zero != [0; 6] {
                return Err(CodecError::Malformed);
            }
            Ok(Message::Read { boot, lane, id, body: body_of(has_body, bodies)? })
        }
        other => Err(CodecError::UnknownKind(other)),
    }
}

pub(super) fn for_each_body(message: &Message, f: &mut dyn FnMut(&Body)) {
    match message {
        Message::Batch { batch, .. } => f(&batch.body),
        Message::Replied(reply) => f(&reply.body),
        Message::Read { body, .. } => f(body),
        Message::Refused { .. } => (),
    }
}
