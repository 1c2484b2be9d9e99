//! A snapshot in the making, beside running traffic.
//!
//! It is the state at the slot at which it began. Buckets are written in steps; one that is about to change and has not been written
//! is written first, so nothing is copied but what is saved. FLUSHALL hands over the old buckets, which then no longer change.

use super::bits::Bits;
use super::format::{self, Header};
use super::sessions::Sessions;
use super::table::Bucket;
use crate::base::canary::{self, Canary};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of a chunk; the last may be shorter.
pub(super) const CHUNK_BYTES: usize = 128 << 10;

/// A snapshot in the making.
pub(super) struct Saving {
    saved: Bits,
    /// Invariant: every bucket below it is saved.
    next: usize,
    buckets: usize,
    /// The buckets to be saved, once they are no longer those of the state.
    frozen: Option<Arc<Vec<Bucket>>>,
    records: u64,
    memory: u64,
    complete: bool,
    out: BytesMut,
    chunks: VecDeque<Bytes>,
    /// Invariant: sum of the lengths of `chunks`.
    chunk_bytes: usize,
    hasher: blake3::Hasher,
}

impl Saving {
    /// Begins with a state's `header`, `sessions`, number of records and logical bytes.
    pub fn new(header: &Header, sessions: &Sessions, records: usize, memory: u64) -> Saving {
        let buckets = 1 << header.bits;
        let mut head = Vec::new();
        format::header(&mut head, header, sessions);
        let mut out = BytesMut::with_capacity(CHUNK_BYTES * 2);
        out.put_slice(&head);
        Saving {
            saved: Bits::new(buckets),
            next: 0,
            buckets,
            frozen: None,
            records: records as u64,
            memory,
            complete: false,
            out,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            hasher: blake3::Hasher::new(),
        }
    }

    /// A bucket of the state is going to change.
    pub fn before_change(&mut self, at: usize, bucket: &Bucket) {
        let late = canary::on(Canary::SaveAfterChange);
        if self.frozen.is_none() && at >= self.next && !late && self.saved.insert(at) {
            self.write(at, bucket);
        }
    }
    /// The state drops all its buckets: keeps them if they are what is being saved.
    pub fn freeze(&mut self, buckets: &Arc<Vec<Bucket>>) {
        if self.frozen.is_none() && !self.complete {
            self.frozen = Some(buckets.clone());
        }
    }
    /// Saves about `budget` bytes of what is left; true when all is saved. `live` are the state's buckets.
    pub fn step(&mut self, live: &[Bucket], budget: usize) -> bool {
        let frozen = self.frozen.take();
        let buckets = frozen.as_ref().map_or(live, |frozen| frozen.as_slice());
        let mut done = 0;
        while self.next < self.buckets && done < budget {
            let at = self.next;
            self.next += 1;
            done += 1;
            if self.saved.insert(at) {
                done += self.write(at, &buckets[at]);
            }
        }
        self.frozen = frozen;
        if self.next == self.buckets && !self.complete {
            self.finish();
        }
        self.complete
    }
    /// The next chunk that is ready.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.chunk_bytes -= chunk.len();
        Some(chunk)
    }
    /// Bytes of chunks that are ready.
    pub fn ready_bytes(&self) -> usize {
        self.chunk_bytes
    }
    /// Gives back buckets that the state no longer has.
    pub fn into_frozen(self) -> Option<Arc<Vec<Bucket>>> {
        self.frozen
    }

    fn write(&mut self, at: usize, bucket: &Bucket) -> usize {
        if bucket.is_empty() {
            return 0;
        }
        let before = self.out.len();
        format::bucket(&mut self.out, at as u32, bucket);
        let written = self.out.len() - before;
        while CHUNK_BYTES <= self.out.len() {
            self.cut(CHUNK_BYTES);
        }
        written
    }
    fn finish(&mut self) {
        self.out.put_u8(format::TRAILER);
        self.out.put_u64_le(self.records);
        self.out.put_u64_le(self.memory);
        self.hasher.update(&self.out);
        let digest = self.hasher.finalize();
        self.out.put_slice(digest.as_bytes());
        self.complete = true;
        let rest = self.out.split().freeze();
        self.push(rest);
    }
    fn cut(&mut self, len: usize) {
        let chunk = self.out.split_to(len).freeze();
        self.hasher.update(&chunk);
        self.push(chunk);
    }
    fn push(&mut self, chunk: Bytes) {
        self.chunk_bytes += chunk.len();
        self.chunks.push_back(chunk);
    }
}
