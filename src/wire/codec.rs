//! Message heads as bytes: flat rkyv archives without relative pointers, so that checking one is a look at its length and at the few
//! bytes that are not free (enums, flags).
//!
//! A message is a prefix of 16 bytes (length, group, kind, number of entries), the kind's own flat head, and a flat head for each
//! entry. Bodies are not in it: a head says whether it has one, and takes the next of the frame's table. Every head has exactly one
//! encoding, so what is accepted encodes to the same bytes again.

use super::entry::{Entry, EntryKind};
use super::{Message, codec_forward, codec_pbft, codec_raft};
use crate::base::{Body, GroupId, NodeId, Origin, Slot, Stamp, Term};
use rkyv::api::low::{LowDeserializer, LowSerializer, LowValidator, access, deserialize};
use rkyv::api::serialize_using;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::Serializer;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Portable, Serialize};
use thiserror::Error;

/// Alignment of a message within a frame, and of the frame's sections.
pub const HEAD_ALIGN: usize = 16;

/// Memory for heads, aligned as their archives ask.
pub type Heads = AlignedVec<HEAD_ALIGN>;

/// Why bytes that were authentic are no message. Every variant is the sender's bug or malice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CodecError {
    /// The bytes end within a head.
    #[error("a head of {needed} bytes begins where {left} are left")]
    Truncated {
        /// Size of the head.
        needed: usize,
        /// What is left.
        left: usize,
    },
    /// A field holds what its type does not have.
    #[error("a head's field holds a value that its type does not have")]
    Malformed,
    /// A kind that this version does not know.
    #[error("message kind {0} is unknown to this version")]
    UnknownKind(u8),
    /// A head that carries entries says a number that its kind cannot carry.
    #[error("message kind {kind} cannot carry {entries} entries")]
    Entries {
        /// The kind.
        kind: u8,
        /// The number.
        entries: u32,
    },
    /// A head asks for a body and the table has none left.
    #[error("a head asks for a body and the frame's table has none left")]
    NoBody,
    /// The message is over and its bytes are not.
    #[error("{0} bytes are left behind the last head of a message")]
    Trailing(usize),
}

/// What every message begins with.
#[derive(Archive, Serialize, Deserialize, Clone, Copy)]
struct Prefix {
    /// Bytes of heads that follow, without padding.
    length: u32,
    group: u32,
    entries: u32,
    kind: u8,
    zero: [u8; 3],
}
const PREFIX: usize = size_of::<ArchivedPrefix>();
const _: () = assert!(PREFIX == HEAD_ALIGN);

/// A flat head: it can be written as its own bytes and read back after a check.
pub(super) trait Flat:
    for<'a> Serialize<LowSerializer<&'a mut Heads, (), Failure>>
    + Archive<
        Archived: Portable
                      + for<'a> CheckBytes<LowValidator<'a, Failure>>
                      + Deserialize<Self, LowDeserializer<Failure>>,
    > + Sized
{
}
impl<T> Flat for T where
    T: for<'a> Serialize<LowSerializer<&'a mut Heads, (), Failure>>
        + Archive<
            Archived: Portable
                          + for<'a> CheckBytes<LowValidator<'a, Failure>>
                          + Deserialize<T, LowDeserializer<Failure>>,
        >
{
}

/// Appends a head.
pub(super) fn put<T: Flat>(out: &mut Heads, head: &T) {
    // Flat heads need no scratch memory, and their sizes are multiples of eight, so nothing is padded.
    serialize_using(head, &mut Serializer::new(out, (), ())).expect("a vector takes everything");
}

/// Takes a head off the front.
pub(super) fn take<T: Flat>(bytes: &mut &[u8]) -> Result<T, CodecError> {
    let needed = size_of::<T::Archived>();
    let (head, rest) =
        bytes.split_at_checked(needed).ok_or(CodecError::Truncated { needed, left: bytes.len() })?;
    *bytes = rest;
    access::<T::Archived, Failure>(head).and_then(deserialize).map_err(|_| CodecError::Malformed)
}

/// Bodies in the order in which heads ask for them.
pub trait Bodies {
    /// The next one.
    fn next(&mut self) -> Option<Body>;
}
impl<I: Iterator<Item = Body>> Bodies for I {
    fn next(&mut self) -> Option<Body> {
        Iterator::next(self)
    }
}

/// The next body if a head has one.
pub(super) fn body_of(has: bool, bodies: &mut dyn Bodies) -> Result<Body, CodecError> {
    if has { bodies.next().ok_or(CodecError::NoBody) } else { Ok(Body::EMPTY) }
}

/// Head of an entry. The same in a frame and in a log record.
#[derive(Archive, Serialize, Deserialize, Clone, Copy)]
pub(super) struct EntryHead {
    term: u64,
    slot: u64,
    stamp: u64,
    boot: u64,
    sequence: u64,
    floor: u64,
    node: u8,
    lane: u8,
    kind: Kind,
    has_body: bool,
    zero: [u8; 4],
}

/// `EntryKind`, whose bytes bytecheck knows.
#[derive(Archive, Serialize, Deserialize, Clone, Copy)]
#[repr(u8)]
enum Kind {
    Empty,
    Batch,
}

impl EntryHead {
    pub(super) fn of(entry: &Entry) -> EntryHead {
        EntryHead {
            term: entry.term.0,
            slot: entry.slot.0,
            stamp: entry.stamp.0,
            boot: entry.origin.boot,
            sequence: entry.sequence,
            floor: entry.floor,
            node: entry.origin.node.0,
            lane: entry.origin.lane,
            kind: match entry.kind {
                EntryKind::Empty => Kind::Empty,
                EntryKind::Batch => Kind::Batch,
            },
            has_body: !entry.body.is_empty(),
            zero: [0; 4],
        }
    }
    pub(super) fn has_body(&self) -> bool {
        self.has_body
    }
    pub(super) fn entry(&self, body: Body) -> Result<Entry, CodecError> {
        if self.zero != [0; 4] {
            return Err(CodecError::Malformed);
        }
        Ok(Entry {
            term: Term(self.term),
            slot: Slot(self.slot),
            stamp: Stamp(self.stamp),
            kind: match self.kind {
                Kind::Empty => EntryKind::Empty,
                Kind::Batch => EntryKind::Batch,
            },
            origin: Origin { node: NodeId(self.node), lane: self.lane, boot: self.boot },
            sequence: self.sequence,
            floor: self.floor,
            body,
        })
    }
}

/// Upper bound of a message's bytes in a frame's section of heads.
pub fn heads_bound(message: &Message) -> usize {
    let own = if let Message::Pbft(message) = message { codec_pbft::bound(message) } else { 0 };
    PREFIX
        + own
        + (OWN_HEAD_MAX + size_of::<ArchivedEntryHead>() * entries(message).len())
            .next_multiple_of(HEAD_ALIGN)
}

/// No kind's own head is larger, in bytes.
pub(super) const OWN_HEAD_MAX: usize = 112;

/// Appends a message.
pub fn encode(out: &mut Heads, group: GroupId, message: &Message) {
    debug_assert!(out.len().is_multiple_of(HEAD_ALIGN));
    let start = out.len();
    let entries = entries(message);
    let mut prefix =
        Prefix { length: 0, group: group.0, entries: entries.len() as u32, kind: 0, zero: [0; 3] };
    if let Message::Pbft(message) = message {
        prefix.entries = codec_pbft::count(message) as u32;
    }
    put(out, &prefix);
    prefix.kind = match message {
        Message::Raft(message) => codec_raft::encode(out, message),
        Message::Pbft(message) => codec_pbft::encode(out, message),
        Message::Forward(message) => codec_forward::encode(out, message),
    };
    for entry in entries {
        put(out, &EntryHead::of(entry));
    }
    prefix.length = (out.len() - start - PREFIX) as u32;
    out[start..start + 4].copy_from_slice(&prefix.length.to_le_bytes());
    out[start + 12] = prefix.kind;
    out.resize(out.len().next_multiple_of(HEAD_ALIGN), 0);
}

/// Takes a message and its padding off the front. The bytes must be aligned to `HEAD_ALIGN`.
pub fn decode(bytes: &mut &[u8], bodies: &mut dyn Bodies) -> Result<(GroupId, Message), CodecError> {
    let prefix: Prefix = take(bytes)?;
    let length = prefix.length as usize;
    let padded = length.next_multiple_of(HEAD_ALIGN);
    let (mut own, rest) =
        bytes.split_at_checked(padded).ok_or(CodecError::Truncated { needed: padded, left: bytes.len() })?;
    if own[length..].iter().any(|byte| *byte != 0) || prefix.zero != [0; 3] {
        return Err(CodecError::Malformed);
    }
    *bytes = rest;
    own = &own[..length];
    let group = GroupId(prefix.group);
    let message = if codec_forward::KINDS.contains(&prefix.kind) {
        Message::Forward(codec_forward::decode(prefix.kind, prefix.entries, &mut own, bodies)?)
    } else if codec_pbft::KINDS.contains(&prefix.kind) {
        Message::Pbft(codec_pbft::decode(prefix.kind, prefix.entries, &mut own, bodies)?)
    } else {
        Message::Raft(codec_raft::decode(prefix.kind, prefix.entries, &mut own, bodies)?)
    };
    if own.is_empty() { Ok((group, message)) } else { Err(CodecError::Trailing(own.len())) }
}

/// The bodies that a message's heads ask for, in that order.
pub fn for_each_body(message: &Message, mut f: impl FnMut(&Body)) {
    let mut each = |body: &Body| {
        if !body.is_empty() {
            f(body);
        }
    };
    match message {
        Message::Raft(message) => codec_raft::for_each_body(message, &mut each),
        Message::Pbft(message) => codec_pbft::for_each_body(message, &mut each),
        Message::Forward(message) => codec_forward::for_each_body(message, &mut each),
    }
}

/// Fields that a kind does not have are zero.
pub(super) fn all_zero(bytes: &[u8]) -> Result<(), CodecError> {
    if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(CodecError::Malformed) }
}

/// The entries that a message of another protocol than PBFT carries.
fn entries(message: &Message) -> &[Entry] {
    match message {
        Message::Raft(super::raft::Message::Append { entries, .. }) => entries,
        _ => &[],
    }
}

/// Takes `count` entry heads and their bodies.
pub(super) fn take_entries(
    count: u32,
    bytes: &mut &[u8],
    bodies: &mut dyn Bodies,
) -> Result<Vec<Entry>, CodecError> {
    // The length was checked against the bytes that are there before anything is allocated for it.
    let needed = (count as usize).saturating_mul(size_of::<ArchivedEntryHead>());
    if bytes.len() < needed {
        return Err(CodecError::Truncated { needed, left: bytes.len() });
    }
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let head: EntryHead = take(bytes)?;
        let body = body_of(head.has_body(), bodies)?;
        entries.push(head.entry(body)?);
    }
    Ok(entries)
}
