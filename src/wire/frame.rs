//! The unit in which nodes talk: all messages of one turn for one peer and lane, under one header and one keyed tag.
//!
//! ```text
//! header    64 bytes   magic, version, lane, flags, length, counts, sender, counter, tag
//! table     48 a body  digest, length, zeros
//! heads     16-aligned messages, as `codec` writes them
//! bodies    raw bytes, one after another
//! ```
//! The tag covers the header's fields, the table and the heads. Bodies are bound by their digests in the table, so a body is hashed
//! once where it came into being and once by each node that takes it in, not once a peer; log and store reuse the digest.
//! The counter rises by one a frame, for each direction and lane of a link on its own: a frame that is repeated, missing or out of
//! order ends the link. Lanes count apart because an urgent frame may overtake bulk ones that wait.
//!
//! On an encrypted link everything behind the header is one ChaCha20-Poly1305 box bound to the header's fields.

use super::Message;
use super::codec::{CodecError, HEAD_ALIGN};
use super::{pbft, raft};
use crate::base::NodeId;
use thiserror::Error;

/// First bytes of a frame.
pub const MAGIC: u32 = u32::from_le_bytes(*b"QRF1");
/// Version of frames and heads. Nodes of different versions do not talk.
pub const VERSION: u16 = 1;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a header that the tag covers; the tag itself follows.
pub(super) const HEADER_BOUND: usize = 32;
/// Bytes of a body's line in the table.
pub(super) const TABLE_LINE: usize = 48;

pub use crate::config::limits::{
    FRAME_BODIES_MAX as BODIES_MAX, FRAME_BYTES_AIM, FRAME_BYTES_MAX, FRAME_MESSAGES_MAX as MESSAGES_MAX,
};
const _: () = assert!(HEADER_BYTES.is_multiple_of(HEAD_ALIGN) && TABLE_LINE.is_multiple_of(HEAD_ALIGN));

/// Which queue of a link a message takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Lane {
    /// What keeps leaders known and windows moving: votes, heartbeats, replies. No bodies. Never dropped for the sake of bulk.
    Urgent = 0,
    /// What carries data.
    Bulk = 1,
}

impl Lane {
    /// Both, urgent first.
    pub const ALL: [Lane; 2] = [Lane::Urgent, Lane::Bulk];

    /// The lane of a message: bulk if its kind can carry data and it does.
    pub fn of(message: &Message) -> Lane {
        match message {
            Message::Raft(raft::Message::Append { entries, .. }) if entries.is_empty() => Lane::Urgent,
            Message::Raft(raft::Message::Append { .. } | raft::Message::Piece { .. }) => Lane::Bulk,
            Message::Forward(
                super::forward::Message::Batch { .. } | super::forward::Message::Read { .. },
            ) => Lane::Bulk,
            Message::Forward(super::forward::Message::Replied(reply)) if !reply.body.is_empty() => Lane::Bulk,
            Message::Pbft(message) => Lane::of_pbft(message),
            Message::Raft(_) | Message::Forward(_) => Lane::Urgent,
        }
    }
    fn of_pbft(message: &pbft::Message) -> Lane {
        match message {
            pbft::Message::PrePrepare { .. }
            | pbft::Message::ViewChange(_)
            | pbft::Message::NewView(_)
            | pbft::Message::Decided { .. }
            | pbft::Message::Have { .. }
            | pbft::Message::Request { .. }
            | pbft::Message::Shown { .. }
            | pbft::Message::Accuse { .. }
            | pbft::Message::Charter(_)
            | pbft::Message::Piece { .. } => Lane::Bulk,
            pbft::Message::PieceWant { ranges, .. } if !ranges.is_empty() => Lane::Bulk,
            // Votes may overtake the pre-prepare that they are about: they are kept until it comes.
            pbft::Message::Prepare { .. }
            | pbft::Message::Commit { .. }
            | pbft::Message::Checkpoint { .. }
            | pbft::Message::Succession(_)
            | pbft::Message::Status { .. }
            | pbft::Message::Want { .. }
            | pbft::Message::PieceWant { .. } => Lane::Urgent,
        }
    }
    /// Whether an urgent message must not overtake bulk ones that wait: an append without entries says where the receiver's log
    /// should stand, so ahead of the entries that it counts on it would look as if those were lost. Behind them it loses nothing:
    /// each of them says as well that the leader lives.
    pub fn keeps_its_place(message: &Message) -> bool {
        matches!(message, Message::Raft(raft::Message::Append { .. }))
    }
}

/// Why a frame was not opened. Each ends the link that it came over.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// Not a frame at all.
    #[error(
        "bytes {found:08x} are not the beginning of a frame: the stream is out of step or the peer is no quorate node"
    )]
    Magic {
        /// What is there.
        found: u32,
    },
    /// A frame of another version.
    #[error("frame version {found}, this node speaks {VERSION}")]
    Version {
        /// What it says.
        found: u16,
    },
    /// Its length or counts pass a limit.
    #[error("{what} {found} passes the limit of {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// What it says.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Its sections do not add up to its length.
    #[error("sections of {sections} bytes in a frame of {length}")]
    Length {
        /// Sum of the sections.
        sections: usize,
        /// The frame.
        length: usize,
    },
    /// A field of the header holds what it cannot hold on this link.
    #[error("header field {field} holds {found}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it holds.
        found: u8,
    },
    /// Not made by the peer of this link, or changed on the way.
    #[error(
        "the frame is not authentic: it was not made by the peer of this link, or was changed on the way"
    )]
    Tag,
    /// A frame was repeated, lost or overtaken.
    #[error("frame counter {found} where {expected} comes next: a frame was repeated, lost or reordered")]
    Counter {
        /// The next one of its lane.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// A body does not have the digest that the table says.
    #[error("body {index} of the frame does not have the digest that its table says")]
    Body {
        /// From 0.
        index: usize,
    },
    /// The heads name fewer bodies than the table.
    #[error("{0} bodies of the table belong to no message")]
    SpareBodies(usize),
    /// A head is malformed.
    #[error("malformed message: {0}")]
    Codec(#[from] CodecError),
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The whole frame in bytes, as it travels.
    pub length: usize,
    /// Messages in it.
    pub messages: usize,
    /// Bodies in it.
    pub bodies: usize,
    /// Bytes of heads.
    pub heads: usize,
    /// Its lane.
    pub lane: Lane,
    /// Whether what follows the header is hidden.
    pub encrypted: bool,
    /// Who made it.
    pub from: NodeId,
    /// Its number in its direction and lane, from 0.
    pub counter: u64,
    /// Over everything but the bodies.
    pub tag: [u8; 32],
}

impl Header {
    /// Reads a header and checks what can be checked without a key: nothing later allocates or indexes by an unchecked number.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if u32_at(0) != MAGIC {
            return Err(FrameError::Magic { found: u32_at(0) });
        }
        if u16_at(4) != VERSION {
            return Err(FrameError::Version { found: u16_at(4) });
        }
        let header = Header {
            length: u32_at(8) as usize,
            messages: u16_at(12).into(),
            bodies: u16_at(14).into(),
            heads: u32_at(16) as usize,
            lane: match bytes[6] {
                0 => Lane::Urgent,
                1 => Lane::Bulk,
                found => return Err(FrameError::Field { field: "lane", found }),
            },
            encrypted: match bytes[7] {
                0 => false,
                1 => true,
                found => return Err(FrameError::Field { field: "flags", found }),
            },
            from: NodeId(bytes[20]),
            counter: u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes")),
            tag: bytes[HEADER_BOUND..].try_into().expect("32 bytes"),
        };
        if let Some(found) = bytes[21..24].iter().copied().find(|byte| *byte != 0) {
            return Err(FrameError::Field { field: "reserved", found });
        }
        header.within_limits()
    }
    fn within_limits(self) -> Result<Header, FrameError> {
        let limits = [
            ("frame bytes", self.length, FRAME_BYTES_MAX),
            ("messages", self.messages, MESSAGES_MAX),
            ("bodies", self.bodies, BODIES_MAX),
            ("bytes of heads", self.heads, FRAME_BYTES_MAX),
        ];
        for (what, found, limit) in limits {
            if limit < found {
                return Err(FrameError::Limit { what, found, limit });
            }
        }
        let sections = HEADER_BYTES + self.front();
        if self.length < sections || !self.heads.is_multiple_of(HEAD_ALIGN) {
            return Err(FrameError::Length { sections, length: self.length });
        }
        Ok(self)
    }
    /// The fields that the tag covers.
    pub(super) fn bound_bytes(&self) -> [u8; HEADER_BOUND] {
        let mut bytes = [0; HEADER_BOUND];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.lane as u8;
        bytes[7] = self.encrypted.into();
        bytes[8..12].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[12..14].copy_from_slice(&(self.messages as u16).to_le_bytes());
        bytes[14..16].copy_from_slice(&(self.bodies as u16).to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.heads as u32).to_le_bytes());
        bytes[20] = self.from.0;
        bytes[24..32].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }
    /// Bytes of table and heads.
    pub(super) fn front(&self) -> usize {
        self.bodies * TABLE_LINE + self.heads
    }
    /// What the cipher must never see twice under one key.
    pub(super) fn nonce(&self) -> u64 {
        assert!(self.counter < 1 << 63);
        (self.lane as u64) << 63 | self.counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Body, Slot, Term};
    use crate::wire::{Entry, forward};
    use bytes::Bytes;

    #[test]
    fn a_header_reads_back_what_it_wrote_and_refuses_what_passes_a_limit() {
        let header = Header {
            length: 4096,
            messages: 3,
            bodies: 2,
            heads: 160,
            lane: Lane::Bulk,
            encrypted: true,
            from: NodeId(5),
            counter: 77,
            tag: [9; 32],
        };
        let bytes = |header: &Header| {
            let mut bytes = [9; HEADER_BYTES];
            bytes[..HEADER_BOUND].copy_from_slice(&header.bound_bytes());
            bytes
        };
        assert_eq!(Header::parse(&bytes(&header)), Ok(header));
        let limit = |what, found, limit| Err(FrameError::Limit { what, found, limit });
        let long = Header { length: FRAME_BYTES_MAX + 1, ..header };
        assert_eq!(Header::parse(&bytes(&long)), limit("frame bytes", FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX));
        let many = Header { bodies: BODIES_MAX + 1, ..header };
        assert_eq!(Header::parse(&bytes(&many)), limit("bodies", BODIES_MAX + 1, BODIES_MAX));
        let short = Header { length: 100, ..header };
        assert_eq!(Header::parse(&bytes(&short)), Err(FrameError::Length { sections: 320, length: 100 }));
        let mut other = bytes(&header);
        other[4] = 2;
        assert_eq!(Header::parse(&other), Err(FrameError::Version { found: 2 }));
        other[0] = 0;
        assert!(matches!(Header::parse(&other), Err(FrameError::Magic { .. })));
    }

    #[test]
    fn only_what_carries_data_is_bulk() {
        let append = |entries| {
            let (term, slot) = (Term(1), Slot(0));
            Message::Raft(raft::Message::Append {
                term,
                prev_slot: slot,
                prev_term: term,
                commit: slot,
                entries,
                round: 0,
            })
        };
        assert_eq!(Lane::of(&append(vec![])), Lane::Urgent);
        assert_eq!(Lane::of(&append(vec![Entry::default()])), Lane::Bulk);
        let batch = crate::wire::Batch { body: Body::new(Bytes::from_static(b"x")), ..Default::default() };
        assert_eq!(Lane::of(&forward::Message::Batch { batch, attempt: 0 }.into()), Lane::Bulk);
        assert_eq!(Lane::of(&raft::Message::TimeoutNow { term: Term(1) }.into()), Lane::Urgent);
    }
}
