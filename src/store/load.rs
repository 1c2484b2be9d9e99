//! Reads a snapshot: [`Parser`] knows the bytes, [`Loader`] makes a state of them. Every byte is checked; none can make it panic.

use super::fields::Fields;
use super::format::{self, Header};
use super::last_replies::{ENCODED_BYTES_MAX, LastReplies};
use super::record::Record;
use super::sessions::{LANE_BYTES, Sessions};
use super::table::{HashKey, Place, Table};
use crate::base::{Digest, GroupId, Slot, Stamp, Term};
use crate::wire::hop::SnapshotId;
use crate::wire::members::{Members, STATE_BYTES_MAX};

/// What is wrong with a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Damage {
    #[error("these are not the bytes of a snapshot in a format that this version reads")]
    Magic,
    #[error("at byte {at}: {what}")]
    Malformed { at: u64, what: &'static str },
    #[error("a length of {len} bytes at byte {at} is above the limit of {limit}")]
    Length { at: u64, len: usize, limit: usize },
    #[error("it ends at byte {at}, in the middle")]
    Truncated { at: u64 },
    #[error("{extra} bytes follow its end")]
    Trailing { extra: usize },
    #[error("its digest is {found:?}, its bytes have {computed:?}: they were changed or lost")]
    Digest { found: Digest, computed: Digest },
    #[error(
        "it holds {records} records and {memory} logical bytes, its trailer says {trailer_records} and {trailer_memory}"
    )]
    Totals { records: u64, memory: u64, trailer_records: u64, trailer_memory: u64 },
    #[error("it is of {found:?}, wanted was {wanted:?}")]
    WrongId { found: Box<SnapshotId>, wanted: Box<SnapshotId> },
    #[error("its keys were hashed with another cluster's key")]
    WrongKey,
    #[error("its key {place} does not belong into bucket {bucket}")]
    WrongBucket { place: u32, bucket: u32 },
}

/// Who takes what a [`Parser`] finds.
pub(super) trait Sink {
    fn header(&mut self, header: &Header, sessions: Sessions) -> Result<(), Damage>;
    fn bucket(&mut self, number: u32);
    fn string(&mut self, key: &[u8], value: &[u8], deadline: Stamp) -> Result<(), Damage>;
    fn hash(&mut self, key: &[u8], fields: u32, deadline: Stamp) -> Result<(), Damage>;
    /// A field of the last hash; `last` for its last. False if the hash has it already.
    fn field(&mut self, name: &[u8], value: &[u8], last: bool) -> bool;
    /// No more buckets come.
    fn trailer(&mut self) {}
    fn totals(&self) -> (u64, u64);
    /// The bytes of what was found last.
    fn bytes(&mut self, _bytes: &[u8]) {}
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Header,
    Section,
    Record { left: u32 },
    Field { left: u32, records: u32 },
    End,
}

/// Cuts a snapshot's bytes, in chunks of any size, into what they mean.
pub(super) struct Parser {
    expect: Expect,
    /// Bytes that are not yet understood.
    buffer: Vec<u8>,
    /// Bytes before `buffer`.
    at: u64,
    hasher: blake3::Hasher,
    seen: Option<super::bits::Bits>,
    /// The last key of the bucket.
    last_key: Option<Vec<u8>>,
}

/// A cursor over the bytes of one unit; `None` when there are too few.
struct Unit<'a> {
    bytes: &'a [u8],
    used: usize,
}
impl<'a> Unit<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.used..self.used.checked_add(len)?)?;
        self.used += len;
        Some(taken)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|b| b[0])
    }
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// What came of reading a unit: `None` when more bytes are needed.
type Read<T> = Result<Option<T>, Damage>;

macro_rules! need {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

impl Parser {
    pub fn new() -> Parser {
        Parser {
            expect: Expect::Header,
            buffer: Vec::new(),
            at: 0,
            hasher: blake3::Hasher::new(),
            seen: None,
            last_key: None,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl Sink) -> Result<(), Damage> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(chunk);
        let mut used = 0;
        loop {
            let mut unit = Unit { bytes: &buffer[used..], used: 0 };
            let read = self.unit(&mut unit, sink)?;
            if read.is_none() || unit.used == 0 {
                break;
            }
            let bytes = &buffer[used..used + unit.used];
            sink.bytes(bytes);
            used += unit.used;
            self.at += bytes.len() as u64;
            if self.expect == Expect::End {
                self.verify(bytes)?;
            } else {
                self.hasher.update(bytes);
            }
        }
        buffer.drain(..used);
        if self.expect == Expect::End && !buffer.is_empty() {
            return Err(Damage::Trailing { extra: buffer.len() });
        }
        self.buffer = buffer;
        Ok(())
    }

    /// There are no more bytes.
    pub fn finish(&self) -> Result<(), Damage> {
        if self.expect == Expect::End {
            Ok(())
        } else {
            Err(Damage::Truncated { at: self.at + self.buffer.len() as u64 })
        }
    }

    fn unit(&mut self, unit: &mut Unit<'_>, sink: &mut impl Sink) -> Read<()> {
        match self.expect {
            Expect::Header => self.header(unit, sink),
            Expect::Section => self.section(unit, sink),
            Expect::Record { left } => self.record(unit, left, sink),
            Expect::Field { left, records } => self.field(unit, left, records, sink),
            Expect::End => Ok(None),
        }
    }

    fn header(&mut self, unit: &mut Unit<'_>, sink: &mut impl Sink) -> Read<()> {
        let begins = |magic: &[u8; 8]| unit.bytes.iter().zip(magic).all(|(a, b)| a == b);
        let knows_members = begins(format::MAGIC_OF_MEMBERS);
        if !knows_members && !begins(format::MAGIC) {
            return Err(Damage::Magic);
        }
        if unit.bytes.len() < format::HEADER_BYTES {
            return Ok(None);
        }
        need!(unit.take(format::MAGIC.len()));
        let id = SnapshotId {
            group: GroupId(need!(unit.u32())),
            slot: Slot(need!(unit.u64())),
            term: Term(need!(unit.u64())),
            stamp: Stamp(need!(unit.u64())),
        };
        let (bits, key_check) = (need!(unit.u32()), need!(unit.u64()));
        let (lanes, replies) = (need!(unit.u32()), need!(unit.u32()));
        let members = if knows_members { need!(unit.u32()) } else { 0 };
        let header = Header { id, bits, key_check, lanes, replies, members };
        if !(1..=24).contains(&header.bits) {
            return self.malformed("the number of buckets is not between 2^1 and 2^24");
        }
        if 1 << 16 < header.lanes {
            return self.malformed("there are more lanes than nodes can have");
        }
        if ENCODED_BYTES_MAX < header.replies as usize {
            return self.malformed("there are more last replies than clients can have");
        }
        if STATE_BYTES_MAX < header.members as usize || knows_members == (header.members == 0) {
            return self.malformed("there are more members than a group can have");
        }
        let lanes = need!(unit.take(header.lanes as usize * LANE_BYTES));
        let replies = need!(unit.take(header.replies as usize));
        let members = need!(unit.take(header.members as usize));
        let mut sessions = Sessions::default();
        if !lanes.as_chunks::<LANE_BYTES>().0.iter().all(|lane| sessions.decode(lane)) {
            return self.malformed("the sessions are not in order");
        }
        let Some(replies) = LastReplies::decode(replies) else {
            return self.malformed("the last replies are not in order");
        };
        sessions.set_last_replies(replies);
        let Some(members) = Members::decode(members) else {
            return self.malformed("the members are no group");
        };
        *sessions.members_mut() = members;
        sink.header(&header, sessions)?;
        self.seen = Some(super::bits::Bits::new(1 << header.bits));
        self.expect = Expect::Section;
        Ok(Some(()))
    }

    fn section(&mut self, unit: &mut Unit<'_>, sink: &mut impl Sink) -> Read<()> {
        match need!(unit.u8()) {
            format::BUCKET => self.bucket(unit, sink),
            format::TRAILER => self.trailer(unit, sink),
            _ => self.malformed("neither a bucket nor the trailer begins here"),
        }
    }

    fn bucket(&mut self, unit: &mut Unit<'_>, sink: &mut impl Sink) -> Read<()> {
        let (number, records) = (need!(unit.u32()), need!(unit.u32()));
        let Some(seen) = self.seen.as_mut().filter(|seen| (number as usize) < seen.bound()) else {
            return self.malformed("there is no such bucket");
        };
        if !seen.insert(number as usize) {
            return self.malformed("the bucket came before");
        }
        if records == 0 {
            return self.malformed("an empty bucket");
        }
        sink.bucket(number);
        self.last_key = None;
        self.expect = Expect::Record { left: records };
        Ok(Some(()))
    }

    fn record(&mut self, unit: &mut Unit<'_>, left: u32, sink: &mut impl Sink) -> Read<()> {
        let (kind, deadline) = (need!(unit.u8()), Stamp(need!(unit.u64())));
        if i64::MAX as u64 <= deadline.0 {
            return self.malformed("the deadline is too late");
        }
        let len = need!(unit.u32());
        let key = need!(unit.take(self.length(len)?));
        if self.last_key.as_deref().is_some_and(|last| key <= last) {
            return self.malformed("the bucket's keys do not rise");
        }
        let after = if left == 1 { Expect::Section } else { Expect::Record { left: left - 1 } };
        match kind {
            format::STRING => {
                let len = need!(unit.u32());
                let value = need!(unit.take(self.length(len)?));
                sink.string(key, value, deadline)?;
                self.expect = after;
            }
            format::HASH => {
                let fields = need!(unit.u32());
                if fields == 0 {
                    return self.malformed("a hash without fields");
                }
                sink.hash(key, fields, deadline)?;
                self.expect = Expect::Field { left: fields, records: left - 1 };
            }
            _ => return self.malformed("neither a string nor a hash"),
        }
        let last_key = self.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend_from_slice(key);
        Ok(Some(()))
    }

    fn field(&mut self, unit: &mut Unit<'_>, left: u32, records: u32, sink: &mut impl Sink) -> Read<()> {
        let (name, value) = (need!(unit.u32()), need!(unit.u32()));
        let (name, value) = (self.length(name)?, self.length(value)?);
        let (name, value) = (need!(unit.take(name)), need!(unit.take(value)));
        if !sink.field(name, value, left == 1) {
            return self.malformed("the hash has this field already");
        }
        self.expect = match (left, records) {
            (1, 0) => Expect::Section,
            (1, records) => Expect::Record { left: records },
            (left, records) => Expect::Field { left: left - 1, records },
        };
        Ok(Some(()))
    }

    fn trailer(&mut self, unit: &mut Unit<'_>, sink: &mut impl Sink) -> Read<()> {
        let (trailer_records, trailer_memory) = (need!(unit.u64()), need!(unit.u64()));
        need!(unit.take(32));
        sink.trailer();
        let (records, memory) = sink.totals();
        if (records, memory) != (trailer_records, trailer_memory) {
            return Err(Damage::Totals { records, memory, trailer_records, trailer_memory });
        }
        self.expect = Expect::End;
        Ok(Some(()))
    }

    fn verify(&mut self, trailer: &[u8]) -> Result<(), Damage> {
        let (head, digest) = trailer.split_at(trailer.len() - 32);
        self.hasher.update(head);
        let computed = Digest(*self.hasher.finalize().as_bytes());
        let found = Digest(digest.try_into().expect("split at 32 bytes from the end"));
        if computed == found { Ok(()) } else { Err(Damage::Digest { found, computed }) }
    }

    fn length(&self, len: u32) -> Result<usize, Damage> {
        let (len, limit) = (len as usize, format::LENGTH_MAX);
        if len <= limit { Ok(len) } else { Err(Damage::Length { at: self.at, len, limit }) }
    }
    fn malformed<T>(&self, what: &'static str) -> Result<T, Damage> {
        Err(Damage::Malformed { at: self.at, what })
    }
}

/// A state in the making.
pub(super) struct Loader {
    parser: Parser,
    builder: Builder,
}

/// A state that a snapshot brought.
pub(super) struct Loaded {
    pub id: SnapshotId,
    pub sessions: Sessions,
    pub table: Table,
}

impl Loader {
    /// Expects the snapshot `id` of a store with this key and 2^bits buckets.
    pub fn new(id: SnapshotId, key: HashKey, bits: u32) -> Loader {
        let builder = Builder {
            wanted: id,
            sessions: Sessions::default(),
            table: Table::new(key, bits),
            bucket: 0,
            hash: None,
        };
        Loader { parser: Parser::new(), builder }
    }
    /// Takes the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Damage> {
        self.parser.feed(chunk, &mut self.builder)
    }
    /// There are no more bytes: the state, if it is whole.
    pub fn finish(self) -> Result<Loaded, Damage> {
        self.parser.finish()?;
        Ok(Loaded { id: self.builder.wanted, sessions: self.builder.sessions, table: self.builder.table })
    }
    /// What there is so far, to be dropped.
    pub fn into_table(self) -> Table {
        self.builder.table
    }
}

struct Builder {
    wanted: SnapshotId,
    sessions: Sessions,
    table: Table,
    bucket: u32,
    /// The hash whose fields are coming.
    hash: Option<(Place, Box<[u8]>, Stamp, Fields)>,
}

impl Builder {
    fn place(&self, key: &[u8]) -> Result<Place, Damage> {
        let place = self.table.place(key);
        if place.bucket == self.bucket {
            return Ok(place);
        }
        Err(Damage::WrongBucket { place: place.bucket, bucket: self.bucket })
    }
}

impl Sink for Builder {
    fn header(&mut self, header: &Header, sessions: Sessions) -> Result<(), Damage> {
        header.check(&self.wanted, self.table.bits(), self.table.key_check())?;
        self.sessions = sessions;
        Ok(())
    }
    fn bucket(&mut self, number: u32) {
        self.bucket = number;
    }
    fn string(&mut self, key: &[u8], value: &[u8], deadline: Stamp) -> Result<(), Damage> {
        let place = self.place(key)?;
        self.table.insert(place, Record::string(place.mark, key, value, deadline));
        Ok(())
    }
    fn hash(&mut self, key: &[u8], _fields: u32, deadline: Stamp) -> Result<(), Damage> {
        self.hash = Some((self.place(key)?, key.into(), deadline, Fields::default()));
        Ok(())
    }
    fn field(&mut self, name: &[u8], value: &[u8], last: bool) -> bool {
        let mark = self.table.field_mark(name);
        let Some((_, _, _, fields)) = &mut self.hash else { return false };
        if !fields.set(mark, name, value) {
            return false;
        }
        if last && let Some((place, key, deadline, fields)) = self.hash.take() {
            self.table.insert(place, Record::hash(place.mark, &key, fields, deadline));
        }
        true
    }
    fn totals(&self) -> (u64, u64) {
        (self.table.len() as u64, self.table.memory())
    }
}
