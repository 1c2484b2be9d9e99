//! How long the replies to commands can be: asked before a command is handed on, so that what it makes has room.
//!
//! The store publishes how large what it holds is (`Extent`), and where something is large also by the hash of its key, so that one large
//! value does not make the replies of others look large. A value that another node's client makes larger meanwhile is not
//! in that number yet: the store has a last bound of its own (`config::limits::BATCH_REPLIES_MAX`).

use super::session::Args;
use crate::base::Number;
use crate::base::bounds::{Bounds, SMALL_MAX};
use crate::config::limits::REPLY_BYTES_MAX;
use crate::resp::Op;

/// What the store publishes of the size of what it holds.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// The longest key, in bytes.
    pub longest_key: Number,
    /// The longest string of any kind, in bytes.
    pub longest_string: Number,
    /// The largest record, in logical bytes: more than a reply with all its fields takes.
    pub largest_record: Number,
    /// Logical bytes of everything: more than a reply with all keys takes.
    pub memory: Number,
    /// The longest string and the largest record by the hash of the key.
    pub bounds: Bounds,
}

/// The numbers of [`Extent`] in one turn, and what may become of them by the writes that are on their way.
#[derive(Debug, Default)]
pub(super) struct Largest {
    key: u64,
    string: u64,
    record: u64,
    memory: u64,
    bounds: Bounds,
    /// Logical bytes that writes on their way can add.
    growth: u64,
    /// The longest arguments of the writes since `epoch`, and of those between the two epochs before.
    sent: [Sent; 2],
    /// The number of a write batch. Invariant: every write before the last epoch is settled, so the store's numbers know of it.
    epoch: u64,
}

/// The longest arguments of some writes.
#[derive(Debug, Default)]
struct Sent {
    /// Of those that are short, or whose key is not told apart.
    all: u64,
    /// Of the others, by some bits of their keys' hashes. Empty while there are none.
    cells: Vec<u32>,
}

/// Bits of a key's hash that tell writes apart.
const SENT_BITS: u32 = 10;

/// What is stored under a key is looked up when there is something longer than this: below, it costs more than it brings.
const LOOK_UP_ABOVE: u64 = 4096;

/// What stands around one string of a reply, or a number, or a word.
pub(super) const SMALL_BYTES: u64 = 32;
/// Keys that SCAN may return beyond what it was asked for: those of the last bucket.
const SCAN_EXCESS: u64 = 1024;

impl Sent {
    fn clear(&mut self) {
        self.all = 0;
        self.cells.clear();
    }
    fn note(&mut self, hash: Option<u64>, longest: u64) {
        let Some(hash) = hash else {
            self.all = self.all.max(longest);
            return;
        };
        self.cells.resize(1 << SENT_BITS, 0);
        let cell = &mut self.cells[(hash >> (64 - SENT_BITS)) as usize];
        *cell = (*cell).max(u32::try_from(longest).unwrap_or(u32::MAX));
    }
    fn under(&self, hash: u64) -> u64 {
        let cell = self.cells.get((hash >> (64 - SENT_BITS)) as usize);
        self.all.max(cell.copied().unwrap_or(0).into())
    }
}

impl Largest {
    /// Of what this publishes.
    pub fn of(extent: &Extent) -> Largest {
        Largest { bounds: extent.bounds.clone(), ..Largest::default() }
    }
    /// `settled` is the last write batch that is answered, `number` the one that is being gathered.
    pub fn hear(&mut self, extent: &Extent, settled: u64, number: u64, growth: u64) {
        if self.epoch <= settled {
            self.epoch = number;
            self.sent.swap(0, 1);
            self.sent[0].clear();
        }
        self.growth = growth;
        self.key = extent.longest_key.get();
        self.string = extent.longest_string.get();
        self.record = extent.largest_record.get();
        self.memory = extent.memory.get();
    }
    /// A write is handed on, of so many bytes in all.
    #[inline]
    pub fn note(&mut self, bytes: usize, op: Op, args: Args) {
        // What is small is covered by what is said of small values, whatever is stored.
        let known = self.string.min(SMALL_MAX).max(self.sent[0].all);
        if known < bytes as u64 {
            self.note_long(op, args);
        }
    }
    #[cold]
    fn note_long(&mut self, op: Op, args: Args) {
        let longest = args.from(1).map(<[u8]>::len).max().unwrap_or(0) as u64;
        let has_one_key = !matches!(op, Op::Mset | Op::Msetnx);
        let key = args.get(1).filter(|_| has_one_key && SMALL_MAX < longest);
        let hash = key.and_then(|key| self.bounds.hash(key));
        self.sent[0].note(hash, longest);
    }

    /// Upper bound of the bytes of the reply to a command, its name at 0.
    #[inline]
    pub fn reply(&self, op: Op, args: Args) -> u64 {
        use Op::*;
        let string = || self.string(args.at(1)) + SMALL_BYTES;
        let bytes = match op {
            Get | Getrange | Getdel | Getex | Hget => string(),
            // With GET among its options it returns what was there.
            Set if 3 < args.len() => string(),
            Hmget => string() * args.len() as u64,
            Mget => args.from(1).map(|key| self.string(key) + SMALL_BYTES).sum(),
            Hgetall | Hkeys | Hvals | Hscan => self.record(args.at(1)) + SMALL_BYTES,
            Randomkey => self.key + SMALL_BYTES,
            Scan => self.scan(args),
            _ => SMALL_BYTES,
        };
        bytes.min(REPLY_BYTES_MAX as u64)
    }

    /// The longest string under a key.
    #[inline]
    fn string(&self, key: &[u8]) -> u64 {
        let [now, before] = &self.sent;
        let longest = self.string.max(now.all).max(before.all);
        let is_plain = now.cells.is_empty() && before.cells.is_empty() && longest <= LOOK_UP_ABOVE;
        if is_plain { longest } else { self.string_under(key) }
    }
    fn string_under(&self, key: &[u8]) -> u64 {
        let [now, before] = &self.sent;
        let Some(hash) = self.bounds.hash(key) else { return self.string.max(now.all).max(before.all) };
        let stored = self.string.min(self.bounds.of(hash).string.bytes_max());
        stored.max(now.under(hash)).max(before.under(hash))
    }
    /// The record of a key.
    fn record(&self, key: &[u8]) -> u64 {
        let hash = self.bounds.hash(key).filter(|_| LOOK_UP_ABOVE < self.record);
        let stored =
            hash.map_or(self.record, |hash| self.record.min(self.bounds.of(hash).record.bytes_max()));
        stored + self.growth
    }

    fn scan(&self, args: Args) -> u64 {
        let options = 2..args.len().saturating_sub(1);
        let count = options.into_iter().find(|at| args.is(*at, "COUNT")).map(|at| args.at(at + 1));
        let count = count.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(10u64);
        let found = count.saturating_add(SCAN_EXCESS).saturating_mul(self.key + SMALL_BYTES);
        found.min(self.memory + SMALL_BYTES)
    }
}
