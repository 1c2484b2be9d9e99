//! How long the replies to commands can be: asked before a command is handed on, so that what it makes has room.
//!
//! The store publishes how large what it holds has been (`Extent`). A value that another node's client makes larger meanwhile is not
//! in that number yet: the store has a last bound of its own (`config::limits::BATCH_REPLIES_MAX`).

use super::session::Args;
use crate::base::Number;
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
}

/// The numbers of [`Extent`] in one turn, and what may become of them by the writes that are on their way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Largest {
    key: u64,
    string: u64,
    record: u64,
    memory: u64,
    /// Logical bytes that writes on their way can add.
    growth: u64,
    /// The longest argument of the writes since `epoch`, and of those between the two epochs before.
    sent: [u64; 2],
    /// The number of a write batch. Invariant: every write before the last epoch is settled, so the store's numbers know of it.
    epoch: u64,
}

/// What stands around one string of a reply, or a number, or a word.
pub(super) const SMALL_BYTES: u64 = 32;
/// Keys that SCAN may return beyond what it was asked for: those of the last bucket.
const SCAN_EXCESS: u64 = 1024;

impl Largest {
    /// `settled` is the last write batch that is answered, `number` the one that is being gathered.
    pub fn hear(&mut self, extent: &Extent, settled: u64, number: u64, growth: u64) {
        if self.epoch <= settled {
            self.epoch = number;
            self.sent = [0, self.sent[0]];
        }
        self.growth = growth;
        self.key = extent.longest_key.get();
        self.string = extent.longest_string.get();
        self.record = extent.largest_record.get();
        self.memory = extent.memory.get();
    }
    /// A write is handed on, of so many bytes in all.
    #[inline]
    pub fn note(&mut self, bytes: usize, args: Args) {
        if self.string.max(self.sent[0]) < bytes as u64 {
            let longest = args.from(1).map(<[u8]>::len).max().unwrap_or(0);
            self.sent[0] = self.sent[0].max(longest as u64);
        }
    }

    /// Upper bound of the bytes of the reply to a command, its name at 0.
    #[inline]
    pub fn reply(&self, op: Op, args: Args) -> u64 {
        use Op::*;
        let string = || self.string.max(self.sent[0]).max(self.sent[1]) + SMALL_BYTES;
        let record = || self.record + self.growth + SMALL_BYTES;
        let bytes = match op {
            Get | Getrange | Getdel | Getex | Hget => string(),
            // With GET among its options it returns what was there.
            Set if 3 < args.len() => string(),
            Mget | Hmget => string() * args.len() as u64,
            Hgetall | Hkeys | Hvals | Hscan => record(),
            Randomkey => self.key + SMALL_BYTES,
            Scan => self.scan(args),
            _ => SMALL_BYTES,
        };
        bytes.min(REPLY_BYTES_MAX as u64)
    }

    fn scan(&self, args: Args) -> u64 {
        let options = 2..args.len().saturating_sub(1);
        let count = options.into_iter().find(|at| args.is(*at, "COUNT")).map(|at| args.at(at + 1));
        let count = count.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(10u64);
        let found = count.saturating_add(SCAN_EXCESS).saturating_mul(self.key + SMALL_BYTES);
        found.min(self.memory + SMALL_BYTES)
    }
}
