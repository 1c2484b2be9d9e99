//! All records, cut into buckets by a keyed hash of their keys.
//!
//! A key never moves to another bucket, so a bucket's number is a cursor that SCAN can hand out, a leaf that the digest can name, and
//! a piece that a snapshot can save. Every change of a record goes through [`Table`], which keeps what depends on the records in step:
//! counts, deadlines, and the digest and the snapshot in the making, which take in a bucket before its first change.

use super::deadlines::Deadlines;
use super::digesting::Digesting;
use super::extents::{Extent, Extents, lengths};
use super::fields::{Fields, spread};
use super::graveyard::Graveyard;
use super::record::Record;
use super::saving::Saving;
use crate::base::bounds::Bounds;
use crate::base::{Digest, Stamp};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::sync::Arc;

/// Some of the records.
pub(super) type Bucket = HashTable<Record>;

/// What keys are hashed with: the same on all replicas, and hard to guess for clients, who could otherwise fill one bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl HashKey {
    /// The key that belongs to a secret or an id of the cluster.
    pub fn derive(cluster: &[u8]) -> HashKey {
        let derived = blake3::derive_key("quorate 2026-11 store bucket hash", cluster);
        HashKey(*derived.first_chunk().expect("32 bytes begin with 16"))
    }
    pub(super) fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Something that differs when the hash key differs.
pub(super) fn key_check(hasher: &SipHasher13) -> u64 {
    hasher.hash(b"quorate hash key check")
}

/// Where a key's record is, if there is one: the two halves of its hash that are used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub bucket: u32,
    pub mark: u32,
}

/// The records of a state.
pub(super) struct Table {
    hasher: SipHasher13,
    /// By how much a hash is shifted to give its bucket.
    shift: u32,
    /// Invariant: a power of two of them; a record is in the bucket of its place.
    buckets: Vec<Bucket>,
    /// Invariant: number of records.
    len: usize,
    /// Invariant: sum of the records' weights.
    memory: u64,
    /// Invariant: covers all records.
    extents: Extents,
    /// Invariant: the deadlines of all records that have one.
    deadlines: Deadlines,
    digesting: Digesting,
    saving: Option<Saving>,
    graveyard: Graveyard,
}

impl Table {
    /// Without records, of `2^bits` buckets.
    pub fn new(key: HashKey, bits: u32) -> Table {
        assert!((1..=24).contains(&bits), "between 2 and 2^24 buckets");
        Table {
            hasher: key.hasher(),
            shift: 64 - bits,
            buckets: empty_buckets(bits),
            len: 0,
            memory: 0,
            extents: Extents::new(Bounds::new(key.hasher(), bits)),
            deadlines: Deadlines::default(),
            digesting: Digesting::new(1 << bits),
            saving: None,
            graveyard: Graveyard::default(),
        }
    }

    /// Where `key` belongs.
    pub fn place(&self, key: &[u8]) -> Place {
        let hash = self.hasher.hash(key);
        Place { bucket: (hash >> self.shift) as u32, mark: hash as u32 }
    }
    /// The mark of a hash's field.
    pub fn field_mark(&self, name: &[u8]) -> u32 {
        self.hasher.hash(name) as u32
    }
    /// Something that differs when the hash key differs.
    pub fn key_check(&self) -> u64 {
        key_check(&self.hasher)
    }
    pub fn bits(&self) -> u32 {
        64 - self.shift
    }
    pub fn len(&self) -> usize {
        self.len
    }
    /// Logical bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }
    pub fn extents(&mut self) -> &mut Extents {
        &mut self.extents
    }
    pub fn extent(&self) -> Extent {
        self.extents.all()
    }
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The record of `key`, expired or not.
    pub fn find(&self, place: Place, key: &[u8]) -> Option<&Record> {
        self.buckets[place.bucket as usize].find(spread(place.mark), |r| r.is(place.mark, key))
    }

    /// The records that may be of this place: finding them reads no key, and beginning to look no record.
    pub fn search(&self, place: Place) -> impl Iterator<Item = &Record> {
        self.buckets[place.bucket as usize].iter_hash(spread(place.mark))
    }

    /// Changes the record of `key`, if there is one. `change` leaves its key as it is.
    pub fn update<R>(
        &mut self,
        place: Place,
        key: &[u8],
        change: impl FnOnce(&mut Record) -> R,
    ) -> Option<R> {
        self.touch(place);
        let bucket = &mut self.buckets[place.bucket as usize];
        let record = bucket.find_mut(spread(place.mark), |r| r.is(place.mark, key))?;
        let (before, deadline) = (lengths(record), record.deadline);
        let result = change(record);
        let after = lengths(record);
        self.memory = self.memory - before.1 + after.1;
        self.deadlines.change(place, deadline, record.deadline);
        self.extents.change(place.bucket, before, after, bucket);
        Some(result)
    }

    /// Puts a record where there is none of its key.
    pub fn insert(&mut self, place: Place, record: Record) {
        debug_assert!(self.find(place, record.key()).is_none());
        self.touch(place);
        let lengths = lengths(&record);
        self.len += 1;
        self.memory += lengths.1;
        self.extents.key(record.key().len());
        self.deadlines.change(place, Stamp::ZERO, record.deadline);
        let bucket = &mut self.buckets[place.bucket as usize];
        bucket.insert_unique(spread(place.mark), record, |r| spread(r.mark()));
        self.extents.change(place.bucket, (0, 0), lengths, bucket);
    }

    /// Takes the record of `key` out; whether there was one.
    pub fn remove(&mut self, place: Place, key: &[u8]) -> bool {
        self.remove_where(place, |r| r.is(place.mark, key))
    }

    /// Takes out up to `count` of the records that are expired at `now`, the earliest first; how many.
    pub fn purge(&mut self, now: Stamp, count: usize) -> usize {
        for done in 0..count {
            let Some((deadline, place)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)
            else {
                return done;
            };
            let gone = self.remove_where(place, |r| r.mark() == place.mark && r.deadline == deadline);
            assert!(gone, "every deadline is a record's");
        }
        count
    }

    /// Takes all records out. They are dropped in later steps.
    pub fn clear(&mut self) {
        let empty = empty_buckets(self.bits());
        let buckets = Arc::new(std::mem::replace(&mut self.buckets, empty));
        if let Some(saving) = &mut self.saving {
            saving.freeze(&buckets);
        }
        self.digesting.freeze(&buckets);
        self.graveyard.bury_buckets(buckets);
        self.graveyard.bury_deadlines(std::mem::take(&mut self.deadlines));
        self.extents.clear();
        (self.len, self.memory) = (0, 0);
    }

    /// Drops fields that a string has replaced, in later steps.
    pub fn bury(&mut self, fields: Fields) {
        self.graveyard.bury_fields(fields);
    }
    /// Takes over what an abandoned table still has to drop, and its records.
    pub fn inherit(&mut self, mut other: Table) {
        other.abandon_saving();
        other.clear();
        if let Some(buckets) = other.digesting.thaw() {
            other.graveyard.bury_buckets(buckets);
        }
        self.graveyard.join(other.graveyard);
    }
    /// Drops about `count` things that are no longer part of the state; how many.
    pub fn drop_step(&mut self, count: usize) -> usize {
        if self.graveyard.is_empty() { 0 } else { self.graveyard.step(count) }
    }

    /// Begins a digest of the present records. The last has been made or abandoned.
    pub fn begin_digest(&mut self) {
        self.digesting.begin();
    }
    /// How many buckets the digest in the making lacks.
    pub fn digest_lacking(&self) -> usize {
        self.digesting.lacking()
    }
    /// Hashes about `budget` bytes of what the digest in the making lacks. The digest, when it is made.
    pub fn digest_step(&mut self, budget: usize) -> Option<Digest> {
        let digest = self.digesting.step(&self.buckets, budget)?;
        if let Some(buckets) = self.digesting.thaw() {
            self.graveyard.bury_buckets(buckets);
        }
        Some(digest)
    }

    /// Begins a snapshot of the present records.
    pub fn begin_saving(&mut self, saving: Saving) {
        assert!(self.saving.is_none(), "one snapshot at a time");
        self.saving = Some(saving);
    }
    /// The snapshot in the making.
    pub fn saving(&mut self) -> Option<&mut Saving> {
        self.saving.as_mut()
    }
    /// Saves about `budget` bytes of buckets; true when the snapshot is complete.
    pub fn save_step(&mut self, budget: usize) -> bool {
        self.saving.as_mut().is_some_and(|saving| saving.step(&self.buckets, budget))
    }
    /// Ends the snapshot in the making.
    pub fn abandon_saving(&mut self) {
        if let Some(buckets) = self.saving.take().and_then(Saving::into_frozen) {
            self.graveyard.bury_buckets(buckets);
        }
    }

    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        let records = || self.buckets.iter().enumerate().flat_map(|(at, b)| b.iter().map(move |r| (at, r)));
        assert_eq!(self.len, records().count());
        assert_eq!(self.memory, records().map(|(_, r)| r.weight()).sum::<u64>());
        for (at, record) in records() {
            let place = self.place(record.key());
            assert_eq!((at as u32, record.mark()), (place.bucket, place.mark));
        }
        self.extents.check(&self.buckets);
        let mut expected: Vec<_> = records()
            .filter(|(_, r)| r.deadline != Stamp::ZERO)
            .map(|(at, r)| (r.deadline, Place { bucket: at as u32, mark: r.mark() }))
            .collect();
        expected.sort_unstable();
        assert_eq!(self.deadlines.first(), expected.first().copied());
        expected.dedup();
        assert_eq!(self.deadlines.len(), expected.len());
    }

    /// A bucket is going to change.
    fn touch(&mut self, place: Place) {
        let at = place.bucket as usize;
        if let Some(saving) = &mut self.saving {
            saving.before_change(at, &self.buckets[at]);
        }
        self.digesting.before_change(at, &self.buckets[at]);
    }

    fn remove_where(&mut self, place: Place, which: impl FnMut(&Record) -> bool) -> bool {
        self.touch(place);
        let bucket = &mut self.buckets[place.bucket as usize];
        let Ok(entry) = bucket.find_entry(spread(place.mark), which) else { return false };
        let (record, _) = entry.remove();
        if 16 < bucket.capacity() && bucket.len() < bucket.capacity() / 8 {
            bucket.shrink_to(bucket.len() * 2, |r| spread(r.mark()));
        }
        let lengths = lengths(&record);
        self.len -= 1;
        self.memory -= lengths.1;
        self.extents.change(place.bucket, lengths, (0, 0), bucket);
        self.deadlines.change(place, record.deadline, Stamp::ZERO);
        self.graveyard.bury_record(record);
        true
    }
}

fn empty_buckets(bits: u32) -> Vec<Bucket> {
    (0..1usize << bits).map(|_| Bucket::new()).collect()
}
