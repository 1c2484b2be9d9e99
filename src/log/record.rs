//! The bytes of batches and records. Little-endian, packed; every checksum is keyed with the cluster, the node and the shard, and
//! binds where the bytes lie, so that stale, foreign and misdirected bytes do not verify.
//!
//! A record's checksum covers its head (with the body's digest and the predecessor's checksum) and its meta, not its body: the digest
//! comes with the body and binds it, and recovery recomputes it. A batch header names the checksum of the header before it, with which
//! the chain of its records begins, and the checksum of its last record, with which that chain ends: one chain through the whole log.

use super::Identity;
use crate::base::canary::{self, Canary};
use crate::base::{Body, Digest, GroupId, Slot, Ticket};
use crate::io::driver::ALIGN;
use crate::wire::hop::{META_MAX, Meta, RecordKind, Stored};
use bytes::Bytes;
use std::fmt;

/// A truncated keyed BLAKE3.
pub type Checksum = [u8; 16];

/// Bytes of a batch header.
pub const BATCH_HEADER: usize = 128;
/// Bytes of a record's head.
pub const RECORD_HEAD: usize = 112;

const BATCH_MAGIC: u64 = u64::from_le_bytes(*b"QUOBATCH");

/// Bytes that a record takes.
pub fn record_bytes(stored: &Stored) -> usize {
    RECORD_HEAD + stored.meta.bytes().len() + stored.body.len()
}
/// Most bytes of a batch that holds one record with a body of `body` bytes.
pub fn batch_bytes(body: usize) -> usize {
    (BATCH_HEADER + RECORD_HEAD + META_MAX + body).next_multiple_of(ALIGN)
}

/// What checksums are keyed with: one key for batch headers, one for records.
#[derive(Clone)]
pub struct Keys {
    batch: [u8; 32],
    record: [u8; 32],
}

impl Keys {
    /// Those of a shard of a node of a cluster.
    pub fn derive(identity: &Identity, shard: u16) -> Keys {
        let mut material = [0; 19];
        material[..16].copy_from_slice(&identity.cluster);
        material[16] = identity.node.0;
        material[17..].copy_from_slice(&shard.to_le_bytes());
        Keys {
            batch: blake3::derive_key("quorate log v1 batch", &material),
            record: blake3::derive_key("quorate log v1 record", &material),
        }
    }
}

fn sum(key: &[u8; 32], bytes: &[u8]) -> Checksum {
    blake3::keyed_hash(key, bytes).as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

/// Why bytes do not verify.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// No batch begins here.
    NoBatch,
    /// The batch header's checksum is wrong.
    BatchChecksum,
    /// The batch was written for another place.
    Misplaced,
    /// The batch does not follow the one before it.
    BatchChain,
    /// A length reaches beyond its container.
    Length,
    /// A record's checksum is wrong.
    RecordChecksum,
    /// A record does not follow the one before it.
    RecordChain,
    /// The kind is unknown.
    Kind,
    /// The body does not have the digest that its head names.
    Body,
    /// An entry's place leaves a hole above its predecessors.
    Hole,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::NoBatch => "no batch begins here",
            Flaw::BatchChecksum => "the batch header's checksum is wrong",
            Flaw::Misplaced => "the bytes belong to another place",
            Flaw::BatchChain => "the batch does not follow the one before it",
            Flaw::Length => "a length reaches beyond its container",
            Flaw::RecordChecksum => "a record's checksum is wrong",
            Flaw::RecordChain => "a record does not follow the one before it",
            Flaw::Kind => "a record's kind is unknown",
            Flaw::Body => "a record's body does not have its digest",
            Flaw::Hole => "an entry leaves a hole in its group's places",
        })
    }
}

/// The start of a batch. Its statements (`durable_through`, `oldest`, `files`) were true when it was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// The checksum of the header before it. The first record names it too.
    pub previous: Checksum,
    /// The checksum of its last record; `previous` when it has none.
    pub last: Checksum,
    /// Counts batches from 1, without holes.
    pub number: u64,
    /// Every batch up to this number was durable.
    pub durable_through: u64,
    /// The life of the node that wrote it.
    pub generation: u64,
    /// The ticket of its first record; for people.
    pub first_ticket: u64,
    /// Segments with a lower sequence were no longer needed.
    pub oldest: u32,
    /// The sequence of the segment that it lies in.
    pub segment: u32,
    /// Where in it.
    pub position: u32,
    /// Its bytes, a whole number of blocks.
    pub length: u32,
    /// Its bytes up to the end of the last record; zeros follow.
    pub used: u32,
    /// Its records.
    pub records: u32,
    /// So many segment files existed.
    pub files: u16,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
fn checksum_at(bytes: &[u8], at: usize) -> Checksum {
    bytes[at..at + 16].try_into().expect("16 bytes")
}

impl BatchHeader {
    /// Writes it to the start of `out`; returns its checksum.
    pub fn write(&self, keys: &Keys, out: &mut [u8]) -> Checksum {
        out[..BATCH_HEADER].fill(0);
        out[16..24].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[24..40].copy_from_slice(&self.previous);
        out[40..56].copy_from_slice(&self.last);
        for (i, n) in
            [self.number, self.durable_through, self.generation, self.first_ticket].into_iter().enumerate()
        {
            out[56 + 8 * i..64 + 8 * i].copy_from_slice(&n.to_le_bytes());
        }
        let words = [self.oldest, self.segment, self.position, self.length, self.used, self.records];
        for (i, n) in words.into_iter().enumerate() {
            out[88 + 4 * i..92 + 4 * i].copy_from_slice(&n.to_le_bytes());
        }
        out[112..114].copy_from_slice(&self.files.to_le_bytes());
        let checksum = sum(&keys.batch, &out[16..BATCH_HEADER]);
        out[..16].copy_from_slice(&checksum);
        checksum
    }
    /// Reads the header at the start of `bytes`, with its checksum. Where it lies and what it follows is for the caller to compare.
    pub fn read(keys: &Keys, bytes: &[u8]) -> Result<(BatchHeader, Checksum), Flaw> {
        if bytes.len() < BATCH_HEADER || u64_at(bytes, 16) != BATCH_MAGIC {
            return Err(Flaw::NoBatch);
        }
        let checksum = checksum_at(bytes, 0);
        if checksum != sum(&keys.batch, &bytes[16..BATCH_HEADER]) {
            return Err(Flaw::BatchChecksum);
        }
        let header = BatchHeader {
            previous: checksum_at(bytes, 24),
            last: checksum_at(bytes, 40),
            number: u64_at(bytes, 56),
            durable_through: u64_at(bytes, 64),
            generation: u64_at(bytes, 72),
            first_ticket: u64_at(bytes, 80),
            oldest: u32_at(bytes, 88),
            segment: u32_at(bytes, 92),
            position: u32_at(bytes, 96),
            length: u32_at(bytes, 100),
            used: u32_at(bytes, 104),
            records: u32_at(bytes, 108),
            files: u16_at(bytes, 112),
        };
        Ok((header, checksum))
    }
}

/// A record's head as it lies on disk, and its meta.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its own.
    pub checksum: Checksum,
    /// Its predecessor's.
    pub previous: Checksum,
    /// The body's.
    pub digest: Digest,
    /// Of the life that wrote it.
    pub ticket: Ticket,
    /// See `Stored`.
    pub place: Slot,
    /// The batch that it came with.
    pub batch: u64,
    /// See `Stored`.
    pub group: GroupId,
    /// Length of the body in bytes.
    pub body: u32,
    /// The sequence of the segment that it lies in.
    pub segment: u32,
    /// Where in it.
    pub position: u32,
    /// See `Stored`.
    pub kind: RecordKind,
    /// See `Stored`.
    pub meta: Meta,
}

/// Where a record is written.
#[derive(Clone, Copy)]
pub struct At {
    /// The segment's sequence.
    pub segment: u32,
    /// Bytes from the segment's start.
    pub position: u32,
    /// The batch's number.
    pub batch: u64,
}

/// Writes a record to the start of `out` (the only copy that the log makes of a body); returns its checksum.
pub fn write_record(keys: &Keys, stored: &Stored, at: At, previous: Checksum, out: &mut [u8]) -> Checksum {
    let meta = stored.meta.bytes();
    let (head, rest) = out.split_at_mut(RECORD_HEAD + meta.len());
    head[16..32].copy_from_slice(&previous);
    head[32..64].copy_from_slice(&stored.body.digest().0);
    for (i, n) in [stored.ticket.0, stored.place.0, at.batch].into_iter().enumerate() {
        head[64 + 8 * i..72 + 8 * i].copy_from_slice(&n.to_le_bytes());
    }
    let words = [stored.group.0, stored.body.len() as u32, at.segment, at.position];
    for (i, n) in words.into_iter().enumerate() {
        head[88 + 4 * i..92 + 4 * i].copy_from_slice(&n.to_le_bytes());
    }
    head[104..RECORD_HEAD].copy_from_slice(&[stored.kind as u8, meta.len() as u8, 0, 0, 0, 0, 0, 0]);
    head[RECORD_HEAD..].copy_from_slice(meta);
    let checksum = sum(&keys.record, &head[16..]);
    head[..16].copy_from_slice(&checksum);
    rest[..stored.body.len()].copy_from_slice(stored.body.bytes());
    checksum
}

fn kind_of(byte: u8) -> Option<RecordKind> {
    use RecordKind::{Entry, Floor, Note, Reset, Value, View, Vote};
    let kinds = [Vote, Entry, Floor, Reset, Note, View, Value];
    kinds.into_iter().find(|k| *k as u8 == byte)
}

impl Head {
    /// Reads and verifies the head and meta at the start of `bytes`, which may end before the body does.
    pub fn read(keys: &Keys, bytes: &[u8]) -> Result<Head, Flaw> {
        if bytes.len() < RECORD_HEAD {
            return Err(Flaw::Length);
        }
        let meta = bytes[105] as usize;
        if META_MAX < meta || bytes.len() < RECORD_HEAD + meta {
            return Err(Flaw::Length);
        }
        if checksum_at(bytes, 0) != sum(&keys.record, &bytes[16..RECORD_HEAD + meta]) {
            return Err(Flaw::RecordChecksum);
        }
        Ok(Head {
            checksum: checksum_at(bytes, 0),
            previous: checksum_at(bytes, 16),
            digest: Digest(bytes[32..64].try_into().expect("32 bytes")),
            ticket: Ticket(u64_at(bytes, 64)),
            place: Slot(u64_at(bytes, 72)),
            batch: u64_at(bytes, 80),
            group: GroupId(u32_at(bytes, 88)),
            body: u32_at(bytes, 92),
            segment: u32_at(bytes, 96),
            position: u32_at(bytes, 100),
            kind: kind_of(bytes[104]).ok_or(Flaw::Kind)?,
            meta: Meta::new(&bytes[RECORD_HEAD..RECORD_HEAD + meta]),
        })
    }
    /// Bytes that the whole record takes.
    pub fn bytes(&self) -> usize {
        self.body_at() + self.body as usize
    }
    /// Where the body begins, from the start of the head.
    pub fn body_at(&self) -> usize {
        RECORD_HEAD + self.meta.bytes().len()
    }
    /// The record, if `body` has the digest that the head names.
    pub fn with_body(&self, body: Bytes) -> Result<Stored, Flaw> {
        let body = if canary::on(Canary::TornTailValid) {
            Body::new(body)
        } else {
            Body::verified(body, self.digest).ok_or(Flaw::Body)?
        };
        let Head { ticket, group, kind, place, meta, .. } = *self;
        Ok(Stored { ticket, group, kind, place, meta, body })
    }
    /// The record with a body of which nothing is known.
    pub(super) fn with_any_body(&self, body: Bytes) -> Stored {
        let Head { ticket, group, kind, place, meta, .. } = *self;
        Stored { ticket, group, kind, place, meta, body: Body::new(body) }
    }
    /// Whether the bytes have the digest that the head names; makes no copy.
    pub fn fits(&self, body: &[u8]) -> bool {
        if body.is_empty() { self.digest == Body::EMPTY.digest() } else { self.digest == Digest::of(body) }
    }
}

/// A record in the bytes of its batch.
pub struct Found<'a> {
    /// Where it lies, from the batch's start.
    pub at: usize,
    /// Verified.
    pub head: Head,
    /// Not compared with its digest.
    pub body: &'a [u8],
}

/// The records of a whole batch, each verified but for its body.
pub struct Records<'a> {
    keys: &'a Keys,
    bytes: &'a [u8],
    header: BatchHeader,
    at: usize,
    left: u32,
    /// The checksum that the next record names as its predecessor.
    chain: Checksum,
}

impl<'a> Records<'a> {
    /// Those of the batch in `bytes`, whose header has been read. `bytes` holds the header's `length`.
    pub fn of(keys: &'a Keys, header: BatchHeader, bytes: &'a [u8]) -> Records<'a> {
        Records { keys, bytes, header, at: BATCH_HEADER, left: header.records, chain: header.previous }
    }
    /// Where the next record lies, from the batch's start.
    pub fn at(&self) -> usize {
        self.at
    }
    /// The next record; an error at the end too, if the batch does not end as its header says.
    pub fn read(&mut self) -> Option<Result<Found<'a>, Flaw>> {
        if self.left == 0 {
            let whole = self.at == self.header.used as usize && self.chain == self.header.last;
            (self.at, self.chain) = (self.header.used as usize, self.header.last);
            return (!whole).then_some(Err(Flaw::RecordChain));
        }
        Some(self.next_record())
    }
    fn next_record(&mut self) -> Result<Found<'a>, Flaw> {
        let rest = self.bytes.get(self.at..self.header.used as usize).ok_or(Flaw::Length)?;
        let head = Head::read(self.keys, rest)?;
        if head.segment != self.header.segment || head.batch != self.header.number {
            return Err(Flaw::Misplaced);
        }
        if head.position as usize != self.header.position as usize + self.at {
            return Err(Flaw::Misplaced);
        }
        if head.previous != self.chain {
            return Err(Flaw::RecordChain);
        }
        let body = rest.get(head.body_at()..head.bytes()).ok_or(Flaw::Length)?;
        let at = self.at;
        self.at += head.bytes();
        self.left -= 1;
        self.chain = head.checksum;
        Ok(Found { at, head, body })
    }
}
