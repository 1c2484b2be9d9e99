//! The bytes of a snapshot, and of a bucket wherever it is hashed. Little endian, no padding.
//!
//! ```text
//! header    magic 8 · group u32 · slot u64 · term u64 · stamp u64 · bucket bits u32 · hash key check u64 · lanes u32 · length u32
//!           · length u32 of the members, if the magic is that of a group whose members were ever changed
//! lane      node u8 · lane u8 · boot u64 · last u64                                         (strictly rising)
//! client    node u8 · lane u8 · replies u8 · boot u64                                       (strictly rising; of that length together)
//! reply     sequence u64 · 1 u8 · length u32 · replies, or sequence u64 · 0 u8 · 32 u32 · their digest
//! members   as in `wire::members`, of that length
//! bucket    1 u8 · number u32 · records u32                                                 (any order, no empty ones)
//! string    0 u8 · deadline u64 · key length u32 · key · value length u32 · value           (records strictly rising by key)
//! hash      1 u8 · deadline u64 · key length u32 · key · fields u32
//! field     name length u32 · value length u32 · name · value                               (in the hash's order)
//! trailer   2 u8 · records u64 · logical bytes u64 · BLAKE3 of everything before it
//! ```
//! A bucket's bytes are canonical: equal buckets have equal bytes, whatever their history. The last 32 bytes of a snapshot are the
//! BLAKE3 of all bytes before them, so whoever keeps it can check it without knowing the rest.

use super::load::Damage;
use super::record::View;
use super::sessions::{LANE_BYTES, Sessions};
use super::table::Bucket;
use crate::base::canary::{self, Canary};
use crate::wire::hop::SnapshotId;
use bytes::BufMut;

/// Names the format and its version.
pub(super) const MAGIC: &[u8; 8] = b"QUOSNAP2";
/// The same of a state that knows members.
pub(super) const MAGIC_OF_MEMBERS: &[u8; 8] = b"QUOSNAP3";
/// A section with the records of a bucket.
pub(super) const BUCKET: u8 = 1;
/// The last section.
pub(super) const TRAILER: u8 = 2;
/// A record that is a string.
pub(super) const STRING: u8 = 0;
/// A record that is a hash.
pub(super) const HASH: u8 = 1;
/// Longest key, value or name that a snapshot may have, in bytes; more is damage.
pub(super) const LENGTH_MAX: usize = 64 << 20;

/// What a snapshot begins with, beside its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which state it is.
    pub id: SnapshotId,
    /// The store has 2^bits buckets.
    pub bits: u32,
    /// Differs when the cluster's hash key differs.
    pub key_check: u64,
    /// Number of lanes in the sessions.
    pub lanes: u32,
    /// Bytes of the last replies to native clients.
    pub replies: u32,
    /// Bytes of what is known of members.
    pub members: u32,
}

impl Header {
    /// Whether it is the header of `id`, written by a store with as many buckets and the same hash key.
    pub(super) fn check(&self, id: &SnapshotId, bits: u32, key_check: u64) -> Result<(), Damage> {
        if self.id != *id {
            return Err(Damage::WrongId { found: Box::new(self.id), wanted: Box::new(*id) });
        }
        if (self.bits, self.key_check) == (bits, key_check) { Ok(()) } else { Err(Damage::WrongKey) }
    }
}

/// Bytes of a header; four more where it knows of members.
pub(super) const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 4 + 8 + 4 + 4;

/// How long a header is and how much follows it before the first bucket, as far as its bytes have come.
pub(super) fn head_bytes(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let (lanes, replies) = (number(HEADER_BYTES - 8)?, number(HEADER_BYTES - 4)?);
    let members = if bytes.starts_with(MAGIC_OF_MEMBERS) { 4 + number(HEADER_BYTES)? } else { 0 };
    Some((HEADER_BYTES + replies + members).saturating_add(lanes.saturating_mul(LANE_BYTES)))
}

/// Appends a header and the sessions.
pub(super) fn header(out: &mut Vec<u8>, header: &Header, sessions: &Sessions) {
    out.put_slice(if header.members == 0 { MAGIC } else { MAGIC_OF_MEMBERS });
    out.put_u32_le(header.id.group.0);
    out.put_u64_le(header.id.slot.0);
    out.put_u64_le(header.id.term.0);
    out.put_u64_le(header.id.stamp.0);
    out.put_u32_le(header.bits);
    out.put_u64_le(header.key_check);
    out.put_u32_le(header.lanes);
    out.put_u32_le(header.replies);
    if header.members != 0 {
        out.put_u32_le(header.members);
    }
    sessions.encode(out);
    sessions.last_replies().encode(out);
    sessions.members().encode(out);
}

/// Appends a bucket.
pub(super) fn bucket(out: &mut impl BufMut, number: u32, bucket: &Bucket) {
    let mut records: Vec<_> = bucket.iter().collect();
    if !canary::on(Canary::UnorderedBucket) {
        records.sort_unstable_by_key(|r| r.key());
    }
    out.put_u8(BUCKET);
    out.put_u32_le(number);
    out.put_u32_le(records.len() as u32);
    for record in records {
        let kind = if matches!(record.view(), View::String(_)) { STRING } else { HASH };
        out.put_u8(kind);
        out.put_u64_le(record.deadline.0);
        out.put_u32_le(record.key().len() as u32);
        out.put_slice(record.key());
        match record.view() {
            View::String(value) => {
                out.put_u32_le(value.len() as u32);
                out.put_slice(value);
            }
            View::Hash(fields) => {
                out.put_u32_le(fields.len() as u32);
                for field in fields.items() {
                    out.put_u32_le(field.name().len() as u32);
                    out.put_u32_le(field.value().len() as u32);
                    out.put_slice(field.name());
                    out.put_slice(field.value());
                }
            }
        }
    }
}
