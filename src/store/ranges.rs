//! A snapshot in ranges: which buckets it has and by which digests, so that whoever has most of it already fetches only what differs,
//! and checks each bucket alone.
//!
//! An [`Outline`] is a snapshot's head and the digests of its buckets. It hashes to the digest of the state, so one that is certified
//! vouches for every bucket in it; no bucket need be believed, and no whole state made to compare its digest. An [`Index`] says where
//! each bucket lies in a snapshot's file. An [`Assembly`] makes such a file of an outline and buckets from anywhere.

use super::apply::{Options, head_digest, state_digest};
use super::format::{self, Header};
use super::inspect::Counter;
use super::load::{Damage, Parser, Sink};
use super::merkle::Tree;
use super::sessions::Sessions;
use super::table::key_check;
use crate::base::canary::{self, Canary};
use crate::base::{Digest, Stamp};
use crate::wire::hop::SnapshotId;
use crate::wire::members::Members;
use bytes::BufMut;
use std::collections::BTreeMap;

/// What a snapshot holds, by digests.
///
/// ```text
/// header and sessions as in a snapshot · (bucket number u32 · digest 32)...     (strictly rising, no empty buckets)
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outline {
    head: Head,
    /// Invariant: strictly rising; all below the number of buckets.
    buckets: Vec<(u32, Digest)>,
}

/// How a snapshot begins, and the same as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Head {
    header: Header,
    bytes: Vec<u8>,
    sessions: Sessions,
}

/// Bytes of a bucket in an outline.
pub(super) const BUCKET_BYTES: usize = 36;

impl Outline {
    /// Which snapshot it is of.
    pub fn id(&self) -> SnapshotId {
        self.head.header.id
    }
    /// Checks that it is of the snapshot `id`, of a store with these options, whose state has `digest`.
    pub fn check(&self, id: &SnapshotId, options: &Options, digest: Digest) -> Result<(), Damage> {
        let header = &self.head.header;
        header.check(id, options.bucket_bits, key_check(&options.key.hasher()))?;
        let computed = self.digest();
        if computed == digest || canary::on(Canary::UncertifiedState) {
            Ok(())
        } else {
            Err(Damage::Digest { found: digest, computed })
        }
    }
    /// Who is in the group after that state.
    pub fn members(&self) -> &Members {
        self.head.sessions.members()
    }
    /// The digest of its state.
    pub fn digest(&self) -> Digest {
        let digests: BTreeMap<usize, Digest> =
            self.buckets.iter().map(|(number, digest)| (*number as usize, *digest)).collect();
        let mut tree = Tree::new(1 << self.head.header.bits);
        digests.keys().for_each(|at| tree.mark(*at));
        tree.begin();
        let records = tree.step(usize::MAX, |at| (digests[&at], 1)).expect("the budget is without limit");
        state_digest(head_digest(self.head.header.id.stamp, &self.head.sessions), records)
    }
    /// The digest of a bucket, if it has one.
    pub fn bucket(&self, number: u32) -> Option<Digest> {
        let at = self.buckets.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.buckets[at].1)
    }
    /// Its buckets that `has` does not say to be there with that digest.
    pub fn missing(&self, has: impl Fn(u32) -> Option<Digest>) -> Vec<u32> {
        let differs = |(number, digest): &&(u32, Digest)| has(*number) != Some(*digest);
        self.buckets.iter().filter(differs).map(|(number, _)| *number).collect()
    }
    /// All its buckets.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().map(|(number, _)| *number)
    }
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head.bytes.clone();
        for (number, digest) in &self.buckets {
            out.put_u32_le(*number);
            out.put_slice(&digest.0);
        }
        out
    }
    /// Reads it back.
    pub fn decode(bytes: &[u8]) -> Result<Outline, Damage> {
        let truncated = || Damage::Truncated { at: bytes.len() as u64 };
        let length = format::head_bytes(bytes).ok_or_else(truncated)?;
        let (head, rest) = bytes.split_at_checked(length).ok_or_else(truncated)?;
        let mut reader = Reader::default();
        Parser::new().feed(head, &mut reader)?;
        let (header, sessions) = reader.head.ok_or_else(truncated)?;
        let (buckets, left) = rest.as_chunks::<BUCKET_BYTES>();
        let one = |bytes: &[u8; BUCKET_BYTES]| {
            let (number, digest) = bytes.split_at(4);
            let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
            (number, Digest(digest.try_into().expect("32 are left")))
        };
        let buckets: Vec<(u32, Digest)> = buckets.iter().map(one).collect();
        let rises = buckets.is_sorted_by(|a, b| a.0 < b.0);
        let known = buckets.last().is_none_or(|(number, _)| u64::from(*number) < 1 << header.bits);
        if !left.is_empty() || !rises || !known || buckets.iter().any(|(_, d)| *d == Digest::default()) {
            return Err(Damage::Malformed { at: length as u64, what: "its buckets do not rise" });
        }
        Ok(Outline { head: Head { header, bytes: head.to_vec(), sessions }, buckets })
    }
}

/// Takes a snapshot's head in and nothing else.
#[derive(Default)]
struct Reader {
    head: Option<(Header, Sessions)>,
}

impl Sink for Reader {
    fn header(&mut self, header: &Header, sessions: Sessions) -> Result<(), Damage> {
        self.head = Some((*header, sessions));
        Ok(())
    }
    fn bucket(&mut self, _number: u32) {}
    fn string(&mut self, _key: &[u8], _value: &[u8], _deadline: Stamp) -> Result<(), Damage> {
        Ok(())
    }
    fn hash(&mut self, _key: &[u8], _fields: u32, _deadline: Stamp) -> Result<(), Damage> {
        Ok(())
    }
    fn field(&mut self, _name: &[u8], _value: &[u8], _last: bool) -> bool {
        true
    }
    fn totals(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// Where the buckets of a snapshot lie in its file.
#[derive(Clone, Debug)]
pub struct Index {
    outline: Outline,
    /// By number: where it begins, and its length.
    places: BTreeMap<u32, (u64, u64)>,
}

impl Index {
    /// What it holds.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }
    /// Where a bucket begins, and its length.
    pub fn place(&self, number: u32) -> Option<(u64, u64)> {
        self.places.get(&number).copied()
    }
}

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Segment {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes of the snapshot's file.
    File {
        /// Where they begin.
        at: u64,
        /// How many they are.
        length: u64,
    },
}

impl Index {
    /// At most `most` bytes from `offset` of the answer to a question for ranges (their numbers, 32 bits each, little endian; none for the
    /// outline), and how long the whole is. `None` when there is no such range.
    pub fn answer(&self, ranges: &[u8], offset: u64, most: usize) -> Option<(u64, Vec<Segment>)> {
        let mut whole = Vec::new();
        if ranges.is_empty() {
            whole.push(Segment::Bytes(self.outline.encode()));
        }
        for number in ranges.as_chunks::<4>().0 {
            let (at, length) = self.place(u32::from_le_bytes(*number))?;
            whole.push(Segment::Bytes(u32::try_from(length).ok()?.to_le_bytes().to_vec()));
            whole.push(Segment::File { at, length });
        }
        let total = whole.iter().map(Segment::len).sum();
        let (mut skip, mut left, mut part) = (offset, most as u64, Vec::new());
        for segment in whole {
            let skipped = skip.min(segment.len());
            skip -= skipped;
            let taken = left.min(segment.len() - skipped);
            left -= taken;
            if 0 < taken {
                part.push(segment.part(skipped, taken));
            }
        }
        Some((total, part))
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Segment::Bytes(bytes) => bytes.len() as u64,
            Segment::File { length, .. } => *length,
        }
    }
    fn part(self, from: u64, length: u64) -> Segment {
        match self {
            Segment::Bytes(bytes) => Segment::Bytes(bytes[from as usize..(from + length) as usize].to_vec()),
            Segment::File { at, .. } => Segment::File { at: at + from, length },
        }
    }
}

/// An index in the making: fed with the bytes of a snapshot.
pub struct Indexing {
    parser: Parser,
    scan: Scan,
}

/// What an index in the making has seen.
#[derive(Default)]
struct Scan {
    counter: Counter,
    head: Option<(Header, Sessions)>,
    head_bytes: Vec<u8>,
    at: u64,
    /// The bucket that is being read: number, where it begins, and its hash.
    bucket: Option<(u32, u64, blake3::Hasher)>,
    buckets: BTreeMap<u32, (u64, u64, Digest)>,
}

impl Indexing {
    /// Nothing has been read.
    pub fn begin() -> Indexing {
        Indexing { parser: Parser::new(), scan: Scan::default() }
    }
    /// Takes the next bytes, in chunks of any size.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Damage> {
        self.parser.feed(chunk, &mut self.scan)
    }
    /// These were all.
    pub fn finish(self) -> Result<Index, Damage> {
        self.parser.finish()?;
        let Scan { head, head_bytes, at, buckets, .. } = self.scan;
        let (header, sessions) = head.ok_or(Damage::Truncated { at })?;
        let digests = buckets.iter().map(|(number, (.., digest))| (*number, *digest)).collect();
        let places = buckets.into_iter().map(|(number, (at, length, _))| (number, (at, length))).collect();
        let outline = Outline { head: Head { header, bytes: head_bytes, sessions }, buckets: digests };
        Ok(Index { outline, places })
    }
}

impl Scan {
    fn end_bucket(&mut self) {
        if let Some((number, begun, hasher)) = self.bucket.take() {
            let digest = Digest(*hasher.finalize().as_bytes());
            self.buckets.insert(number, (begun, self.at - begun, digest));
        }
    }
}

impl Sink for Scan {
    fn header(&mut self, header: &Header, sessions: Sessions) -> Result<(), Damage> {
        self.counter.header(header, sessions.clone())?;
        self.head = Some((*header, sessions));
        Ok(())
    }
    fn bucket(&mut self, number: u32) {
        self.end_bucket();
        self.counter.bucket(number);
        self.bucket = Some((number, self.at, blake3::Hasher::new()));
    }
    fn string(&mut self, key: &[u8], value: &[u8], deadline: Stamp) -> Result<(), Damage> {
        self.counter.string(key, value, deadline)
    }
    fn hash(&mut self, key: &[u8], fields: u32, deadline: Stamp) -> Result<(), Damage> {
        self.counter.hash(key, fields, deadline)
    }
    fn field(&mut self, name: &[u8], value: &[u8], last: bool) -> bool {
        self.counter.field(name, value, last)
    }
    fn trailer(&mut self) {
        self.end_bucket();
    }
    fn totals(&self) -> (u64, u64) {
        self.counter.totals()
    }
    fn bytes(&mut self, bytes: &[u8]) {
        if self.at == 0 {
            self.head_bytes = bytes.to_vec();
        }
        if let Some((_, _, hasher)) = &mut self.bucket {
            hasher.update(bytes);
        }
        self.at += bytes.len() as u64;
    }
}

/// A snapshot's file in the making, of a certified outline and of buckets from anywhere, in any order.
pub struct Assembly {
    outline: Outline,
    parser: Parser,
    counter: Counter,
    hasher: blake3::Hasher,
}

impl Assembly {
    /// Begins; gives back the first bytes of the file.
    pub fn begin(outline: Outline) -> Result<(Assembly, Vec<u8>), Damage> {
        let head = outline.head.bytes.clone();
        let (parser, counter) = (Parser::new(), Counter::default());
        let mut assembly = Assembly { outline, parser, counter, hasher: blake3::Hasher::new() };
        assembly.feed(&head)?;
        Ok((assembly, head))
    }
    /// What is being assembled.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }
    /// Whether these are the bytes of that bucket.
    pub fn fits(&self, number: u32, bytes: &[u8]) -> bool {
        self.outline.bucket(number) == Some(Digest::of(bytes))
    }
    /// Takes a bucket that fits; its bytes are the next of the file. Each must come once.
    pub fn bucket(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        self.feed(bytes)
    }
    /// All buckets have come: the last bytes of the file.
    pub fn finish(mut self) -> Result<Vec<u8>, Damage> {
        let (records, memory) = self.counter.totals();
        let mut trailer = Vec::with_capacity(49);
        trailer.put_u8(format::TRAILER);
        trailer.put_u64_le(records);
        trailer.put_u64_le(memory);
        self.hasher.update(&trailer);
        trailer.put_slice(self.hasher.finalize().as_bytes());
        self.parser.feed(&trailer, &mut self.counter)?;
        self.parser.finish()?;
        Ok(trailer)
    }
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        self.hasher.update(bytes);
        self.parser.feed(bytes, &mut self.counter)
    }
}
