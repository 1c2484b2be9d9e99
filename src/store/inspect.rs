//! Reads a snapshot's bytes offline and checks them, without making a state of them.

use super::apply::Options;
use super::fields::FIELD_OVERHEAD;
use super::format::Header;
use super::load::{Damage, Parser, Sink};
use super::record::RECORD_OVERHEAD;
use super::sessions::Sessions;
use super::table::key_check;
use crate::base::Stamp;
use crate::wire::hop::SnapshotId;
use crate::wire::members::Members;
use std::collections::BTreeSet;

/// What a snapshot holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// How it begins; `None` in an empty file.
    pub header: Option<Header>,
    /// Bytes read.
    pub bytes: u64,
    /// Keys with a string.
    pub strings: u64,
    /// Keys with a hash.
    pub hashes: u64,
    /// Fields of all hashes.
    pub fields: u64,
    /// Keys with a deadline.
    pub deadlines: u64,
    /// Keys whose deadline the snapshot's stamp has reached.
    pub expired: u64,
    /// Logical bytes.
    pub memory: u64,
    /// Buckets that are not empty.
    pub buckets: u64,
    /// Records of the fullest bucket.
    pub bucket_records_max: u64,
    /// Bytes of the longest string or field value.
    pub value_bytes_max: u64,
}

/// A snapshot that is being checked, in chunks of any size.
pub struct Inspection {
    parser: Parser,
    counter: Counter,
}

impl Inspection {
    /// Checks all that can be checked without the cluster's hash key, of any group.
    pub fn of_any() -> Inspection {
        Inspection { parser: Parser::new(), counter: Counter::default() }
    }
    /// Checks that it is the snapshot `id`, and could be loaded by a store with these options.
    pub fn of(id: SnapshotId, options: &Options) -> Inspection {
        let key_check = key_check(&options.key.hasher());
        let wanted = Some(Wanted { id, bits: options.bucket_bits, key_check });
        Inspection { parser: Parser::new(), counter: Counter { wanted, ..Counter::default() } }
    }
    /// Takes the next bytes; the work is bounded by their number.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Damage> {
        self.counter.summary.bytes += chunk.len() as u64;
        self.parser.feed(chunk, &mut self.counter)
    }
    /// How it begins, once that has been fed.
    pub fn header(&self) -> Option<Header> {
        self.counter.summary.header
    }
    /// What it says of the group's members, once its header is known.
    pub fn members(&self) -> &Members {
        &self.counter.members
    }
    /// These were all.
    pub fn finish(self) -> Result<Summary, Damage> {
        self.parser.finish()?;
        Ok(self.counter.summary)
    }
}

/// Reads a whole snapshot. `progress` hears after each chunk how many bytes have been read.
pub fn snapshot<C: AsRef<[u8]>>(
    chunks: impl IntoIterator<Item = C>,
    mut progress: impl FnMut(u64),
) -> Result<Summary, Damage> {
    let mut inspection = Inspection::of_any();
    for chunk in chunks {
        inspection.feed(chunk.as_ref())?;
        progress(inspection.counter.summary.bytes);
    }
    inspection.finish()
}

struct Wanted {
    id: SnapshotId,
    bits: u32,
    key_check: u64,
}

#[derive(Default)]
pub(super) struct Counter {
    wanted: Option<Wanted>,
    summary: Summary,
    members: Members,
    bucket_records: u64,
    names: BTreeSet<Vec<u8>>,
}

impl Counter {
    fn record(&mut self, key: &[u8], deadline: Stamp) {
        let stamp = self.summary.header.map_or(Stamp::ZERO, |h| h.id.stamp);
        self.summary.deadlines += u64::from(deadline != Stamp::ZERO);
        self.summary.expired += u64::from(deadline != Stamp::ZERO && deadline <= stamp);
        self.summary.memory += key.len() as u64 + RECORD_OVERHEAD;
        self.bucket_records += 1;
        self.summary.bucket_records_max = self.summary.bucket_records_max.max(self.bucket_records);
    }
    fn value(&mut self, value: &[u8]) {
        self.summary.memory += value.len() as u64;
        self.summary.value_bytes_max = self.summary.value_bytes_max.max(value.len() as u64);
    }
}

impl Sink for Counter {
    fn header(&mut self, header: &Header, sessions: Sessions) -> Result<(), Damage> {
        self.members = sessions.members().clone();
        self.summary.header = Some(*header);
        if let Some(wanted) = &self.wanted {
            header.check(&wanted.id, wanted.bits, wanted.key_check)?;
        }
        Ok(())
    }
    fn bucket(&mut self, _number: u32) {
        self.summary.buckets += 1;
        self.bucket_records = 0;
    }
    fn string(&mut self, key: &[u8], value: &[u8], deadline: Stamp) -> Result<(), Damage> {
        self.summary.strings += 1;
        self.record(key, deadline);
        self.value(value);
        Ok(())
    }
    fn hash(&mut self, key: &[u8], _fields: u32, deadline: Stamp) -> Result<(), Damage> {
        self.summary.hashes += 1;
        self.names.clear();
        self.record(key, deadline);
        Ok(())
    }
    fn field(&mut self, name: &[u8], value: &[u8], _last: bool) -> bool {
        self.summary.fields += 1;
        self.summary.memory += name.len() as u64 + FIELD_OVERHEAD;
        self.value(value);
        self.names.insert(name.to_vec())
    }
    fn totals(&self) -> (u64, u64) {
        (self.summary.strings + self.summary.hashes, self.summary.memory)
    }
}
