//! How large what is stored is: what replies can be long by. It is no part of the state, and no two replicas need agree on it.

use super::record::Record;
use super::table::Bucket;
use crate::base::bounds::{Bounds, CLASSES, Class, Classes};

/// Bounds of everything that is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// The longest key since the table was last empty, in bytes.
    pub key: u64,
    /// At least the longest key, value, or field's name or value, in bytes.
    pub string: u64,
    /// At least the largest record, in logical bytes.
    pub record: u64,
}

/// A bucket of more records keeps the bound it once had: they are not all looked at for one that leaves.
const LOOKED_AT_MAX: usize = 1024;

/// The length of a record's longest string, and its weight.
pub(super) type Lengths = (u64, u64);

/// Those of a record.
pub(super) fn lengths(record: &Record) -> Lengths {
    (record.longest() as u64, record.weight())
}
fn classes((string, record): Lengths) -> Classes {
    Classes { string: Class::of(string), record: Class::of(record) }
}

/// Bounds by bucket, and of all together.
pub(super) struct Extents {
    /// Invariant: no record of a bucket is of a higher class; one is of this, unless the bucket is large.
    bounds: Bounds,
    /// How many buckets are of each class, by their longest strings and by their largest records.
    strings: Counts,
    records: Counts,
    /// The most since the table was last empty.
    most: Extent,
}

struct Counts {
    of: [u32; CLASSES],
    /// The highest class of which there is a bucket.
    top: Class,
}

impl Counts {
    fn new(buckets: usize) -> Counts {
        let mut of = [0; CLASSES];
        of[0] = buckets as u32;
        Counts { of, top: Class::SMALL }
    }
    fn change(&mut self, from: Class, to: Class) {
        self.of[from.0 as usize] -= 1;
        self.of[to.0 as usize] += 1;
        self.top = self.top.max(to);
        while self.of[self.top.0 as usize] == 0 {
            self.top.0 -= 1;
        }
    }
}

impl Extents {
    /// Of empty buckets.
    pub fn new(bounds: Bounds) -> Extents {
        let count = || Counts::new(bounds.len());
        Extents { strings: count(), records: count(), most: Extent::default(), bounds }
    }
    /// Of everything.
    pub fn all(&self) -> Extent {
        let Extent { key, string, record } = self.most;
        let (strings, records) = (self.strings.top.bytes_max(), self.records.top.bytes_max());
        Extent { key, string: string.min(strings), record: record.min(records) }
    }
    /// A record has come with such a key.
    pub fn key(&mut self, bytes: usize) {
        self.most.key = self.most.key.max(bytes as u64);
    }
    /// A record has changed, has come (it was nothing before) or gone; `bucket` is what it is now.
    pub fn change(&mut self, at: u32, from: Lengths, to: Lengths, bucket: &Bucket) {
        self.most.string = self.most.string.max(to.0);
        self.most.record = self.most.record.max(to.1);
        let (from, to) = (classes(from), classes(to));
        // The usual case: a string is never longer than the record's weight.
        if from.record.max(to.record) == Class::SMALL {
            return;
        }
        let known = self.bounds.get(at as usize);
        let left = (from.string == known.string && to.string < known.string)
            || (from.record == known.record && to.record < known.record);
        let most = known.max(to);
        let now = if left && bucket.len() <= LOOKED_AT_MAX { highest(bucket, Some(most)) } else { most };
        if now != known {
            self.strings.change(known.string, now.string);
            self.records.change(known.record, now.record);
            self.bounds.set(at as usize, now);
        }
    }
    /// All buckets are empty now.
    pub fn clear(&mut self) {
        if (self.strings.top, self.records.top) != Default::default() {
            (0..self.bounds.len()).for_each(|at| self.bounds.set(at, Classes::default()));
        }
        *self = Extents::new(std::mem::take(&mut self.bounds));
    }
    /// From now on others read this there.
    pub fn publish(&mut self, to: Bounds) {
        assert_eq!(to.len(), self.bounds.len(), "a cell a bucket");
        (0..to.len()).for_each(|at| to.set(at, self.bounds.get(at)));
        self.bounds = to;
    }
    /// Goes on where others read what `other` says, which is about to be emptied.
    pub fn succeed(&mut self, other: &mut Extents) {
        let own = self.bounds.clone();
        self.publish(std::mem::replace(&mut other.bounds, own));
    }

    /// Panics when it does not fit the records of these buckets.
    pub fn check(&self, buckets: &[Bucket]) {
        let (mut strings, mut records) = ([0; CLASSES], [0; CLASSES]);
        for (at, bucket) in buckets.iter().enumerate() {
            let (known, found) = (self.bounds.get(at), highest(bucket, None));
            assert_eq!(known.max(found), known);
            strings[known.string.0 as usize] += 1;
            records[known.record.0 as usize] += 1;
            for record in bucket {
                assert!(record.key().len() as u64 <= self.most.key);
                assert!(record.longest() as u64 <= self.all().string && record.weight() <= self.all().record);
            }
        }
        assert_eq!((strings, records), (self.strings.of, self.records.of));
        let is_top =
            |counts: &Counts| counts.of.iter().rposition(|count| *count != 0) == Some(counts.top.0 as usize);
        assert!(is_top(&self.strings) && is_top(&self.records));
    }
}

/// The highest classes of a bucket's records; the search ends when it has found `most`.
fn highest(bucket: &Bucket, most: Option<Classes>) -> Classes {
    let mut found = Classes::default();
    for record in bucket {
        found = found.max(classes(lengths(record)));
        if Some(found) == most {
            break;
        }
    }
    found
}
