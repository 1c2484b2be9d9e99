//! The digest of the records, made beside running traffic.
//!
//! It is of the records at the moment at which it began. Buckets that have changed since the last one are hashed in steps; one that is
//! about to change and still waits is hashed first, so no write has to wait for all of them. FLUSHALL hands over the old buckets.

use super::format;
use super::merkle::Tree;
use super::table::Bucket;
use crate::base::Digest;
use crate::base::canary::{self, Canary};
use std::sync::Arc;

/// What a bucket costs beside its bytes, in bytes: finding its records.
const BUCKET_COST: usize = 128;
/// Memory for a bucket's bytes that is kept.
const SCRATCH_BYTES: usize = 1 << 20;

/// The digests of all buckets, and those that the digest in the making lacks.
pub(super) struct Digesting {
    tree: Tree,
    /// The buckets to be hashed, once they are no longer those of the state.
    frozen: Option<Arc<Vec<Bucket>>>,
    /// Bytes of the bucket that is being hashed.
    scratch: Vec<u8>,
}

impl Digesting {
    /// Of so many empty buckets.
    pub fn new(buckets: usize) -> Digesting {
        Digesting { tree: Tree::new(buckets), frozen: None, scratch: Vec::new() }
    }
    /// Begins a digest of the buckets as they are now. The last has been made.
    pub fn begin(&mut self) {
        assert!(self.frozen.is_none(), "one digest at a time");
        self.tree.begin();
    }
    /// A bucket of the state is going to change.
    pub fn before_change(&mut self, at: usize, bucket: &Bucket) {
        let late = canary::on(Canary::DigestAfterChange);
        if self.tree.is_pending(at) && self.frozen.is_none() && !late {
            let (digest, _) = hash(&mut self.scratch, at, bucket);
            self.tree.settle(at, digest);
        }
        self.tree.mark(at);
    }
    /// The state drops all its buckets.
    pub fn freeze(&mut self, buckets: &Arc<Vec<Bucket>>) {
        if self.frozen.is_none() && 0 < self.tree.lacking() {
            self.frozen = Some(buckets.clone());
        }
        self.tree.clear();
    }
    /// How many buckets are still to be hashed.
    pub fn lacking(&self) -> usize {
        self.tree.lacking()
    }
    /// Gives back buckets that are no longer needed and that the state no longer has.
    pub fn thaw(&mut self) -> Option<Arc<Vec<Bucket>>> {
        self.frozen.take()
    }
    /// Hashes about `budget` bytes of what is lacking; the digest when it is made. `live` are the state's buckets.
    pub fn step(&mut self, live: &[Bucket], budget: usize) -> Option<Digest> {
        let buckets = self.frozen.as_ref().map_or(live, |frozen| frozen.as_slice());
        let scratch = &mut self.scratch;
        let made = self.tree.step(budget, |at| hash(scratch, at, &buckets[at]));
        scratch.shrink_to(SCRATCH_BYTES);
        made
    }
}

/// A bucket's digest and what it cost.
fn hash(scratch: &mut Vec<u8>, at: usize, bucket: &Bucket) -> (Digest, usize) {
    if bucket.is_empty() {
        return (Digest::default(), 1);
    }
    scratch.clear();
    format::bucket(scratch, at as u32, bucket);
    (Digest::of(scratch), BUCKET_COST + scratch.len())
}
