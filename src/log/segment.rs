//! A segment: a file of fixed size, named by its number, that serves again and again under rising sequences.
//!
//! Its first block says whose it is and which sequence it serves under. That block is written last when a file is made and first
//! when it is used again, always ahead of need: what still lies in it from its last use names another sequence and so does not verify.

use super::record::{u32_at, u64_at};
use super::{FORMAT_VERSION, Identity};
use crate::base::{GroupId, NodeId, Slot};
use crate::io::driver::ALIGN;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MAGIC: u64 = u64::from_le_bytes(*b"QUOSEGMT");
const HEADER: usize = 128;

/// Where the first batch begins.
pub const FIRST_BATCH: u32 = ALIGN as u32;

/// Of how many file numbers in a row none must exist before there are taken to be no more.
pub const MISSING_MAX: u16 = 32;

/// The file with this number.
pub fn path(directory: &Path, file: u16) -> PathBuf {
    directory.join(format!("{file:04}.wal"))
}

/// The first block of a segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Whose it is.
    pub identity: Identity,
    /// Which of the node's shards.
    pub shard: u16,
    /// The file's number.
    pub file: u16,
    /// The segment's place in the log: rises by one with each use of any file.
    pub sequence: u32,
    /// The segment's size.
    pub bytes: u32,
    /// The life of the node that wrote it.
    pub generation: u64,
}

/// What a segment's first block turned out to be.
pub enum Found {
    /// A header.
    Header(SegmentHeader),
    /// The header of another version of this program.
    Version(u32),
    /// Nothing that verifies.
    Nothing,
}

impl SegmentHeader {
    /// Writes it to the start of `out`, a block.
    pub fn write(&self, out: &mut [u8]) {
        out[..ALIGN].fill(0);
        out[16..24].copy_from_slice(&MAGIC.to_le_bytes());
        out[24..28].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[28..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..48].copy_from_slice(&self.identity.cluster);
        out[48] = self.identity.node.0;
        out[50..52].copy_from_slice(&self.shard.to_le_bytes());
        out[52..54].copy_from_slice(&self.file.to_le_bytes());
        out[56..60].copy_from_slice(&self.bytes.to_le_bytes());
        out[64..72].copy_from_slice(&self.generation.to_le_bytes());
        let checksum = checksum(&out[16..HEADER]);
        out[..16].copy_from_slice(&checksum);
    }
    /// Reads the header at the start of `bytes`.
    pub fn read(bytes: &[u8]) -> Found {
        if bytes.len() < HEADER || u64_at(bytes, 16) != MAGIC || bytes[..16] != checksum(&bytes[16..HEADER]) {
            return Found::Nothing;
        }
        if u32_at(bytes, 24) != FORMAT_VERSION {
            return Found::Version(u32_at(bytes, 24));
        }
        let cluster = bytes[32..48].try_into().expect("16 bytes");
        Found::Header(SegmentHeader {
            identity: Identity { cluster, node: NodeId(bytes[48]) },
            shard: u16::from_le_bytes([bytes[50], bytes[51]]),
            file: u16::from_le_bytes([bytes[52], bytes[53]]),
            sequence: u32_at(bytes, 28),
            bytes: u32_at(bytes, 56),
            generation: u64_at(bytes, 64),
        })
    }
}

/// Not keyed with the identity: a foreign header must be told from a damaged one.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    let key = blake3::derive_key("quorate log v1 segment", &[]);
    blake3::keyed_hash(&key, bytes).as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

/// A segment that holds a part of the log, or is about to.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its place in the log.
    pub sequence: u32,
    /// The file's number.
    pub file: u16,
    /// Its size.
    pub bytes: u32,
    /// Where the next batch goes. Invariant: `FIRST_BATCH <= end <= bytes`, a whole number of blocks.
    pub end: u32,
    /// The highest place of each group's entries in it, cut ones included.
    pub highest: BTreeMap<GroupId, Slot>,
    /// The batch with which its preamble was complete: every group's newest vote and floor, so that no older segment is needed for
    /// them. 0 before.
    pub opened_by: u64,
}

impl Segment {
    /// A segment without batches.
    pub fn empty(sequence: u32, file: u16, bytes: u32) -> Segment {
        Segment { sequence, file, bytes, end: FIRST_BATCH, highest: BTreeMap::new(), opened_by: 0 }
    }
    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        (self.bytes - self.end) as usize
    }
    /// Remembers that an entry lies in it.
    pub fn holds(&mut self, group: GroupId, place: Slot) {
        let highest = self.highest.entry(group).or_default();
        *highest = place.max(*highest);
    }
}
