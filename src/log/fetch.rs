//! Old entries and values, read back from disk while the log is written: for replicas that have fallen behind what a core keeps in memory.
//!
//! One read answers one errand, with as many consecutive entries as lie in it. Values lie about in the order of their places, not strictly
//! so: where the next one lies before the last, an answer ends. What was read is believed only if head and body verify and the index still
//! says that the entry at this place is this one: it may have been cut, or its segment used again, meanwhile.

use super::Fatal;
use super::index::Location;
use super::record::{self, Flaw, Head};
use super::segment;
use super::writer::{FETCH, Log};
use crate::base::Slot;
use crate::io::driver::ALIGN;
use crate::io::{Completion, Driver, Op, Outcome};
use crate::wire::hop::{LogFetch, LogFetched, RecordKind, Stored};
use bytes::Bytes;
use std::collections::VecDeque;

/// How many errands are under way at most, answers that nobody has taken included.
pub const FETCHES_MAX: usize = 8;
/// How many of them read at a time.
const READS_MAX: usize = 4;
/// Most bytes that one errand reads, unless its first entry is larger.
const READ_MAX: usize = 2 << 20;

/// The errands of a log.
#[derive(Default)]
pub(super) struct Fetches {
    waiting: VecDeque<LogFetch>,
    running: Vec<Running>,
    answers: VecDeque<LogFetched>,
    counter: u64,
}

struct Running {
    id: u64,
    fetch: LogFetch,
    segment: u32,
    file: u16,
    /// Where the read begins.
    offset: u64,
}

enum Step {
    /// Nothing can be answered: it has left the log.
    Gone,
    /// It is not on disk yet.
    Wait,
    /// Where the first entry lies, and how many bytes from there are wanted.
    Read(Location, usize),
}

impl Log {
    /// Whether another errand can be taken.
    pub fn can_fetch(&self) -> bool {
        let f = &self.fetches;
        f.waiting.len() + f.running.len() + f.answers.len() < FETCHES_MAX
    }
    /// Takes an errand. Only while `can_fetch`.
    pub fn fetch(&mut self, fetch: LogFetch) {
        assert!(self.can_fetch());
        self.figures.fetches += 1;
        self.fetches.waiting.push_back(fetch);
    }
    /// The next answer.
    pub fn take_fetched(&mut self) -> Option<LogFetched> {
        self.fetches.answers.pop_front()
    }
    /// Puts back an answer that could not be handed on.
    pub fn return_fetched(&mut self, fetched: LogFetched) {
        self.fetches.answers.push_front(fetched);
    }

    /// Starts what can be started. Returns how many errands moved on.
    pub fn run_fetches(&mut self, driver: &mut dyn Driver) -> usize {
        let mut moved = 0;
        for _ in 0..self.fetches.waiting.len() {
            if READS_MAX <= self.fetches.running.len() || self.failed.is_some() {
                break;
            }
            let fetch = self.fetches.waiting.pop_front().expect("counted");
            match self.plan(&fetch) {
                Step::Wait => {
                    self.fetches.waiting.push_back(fetch);
                    continue;
                }
                Step::Gone => self.answer(&fetch, Vec::new()),
                Step::Read(first, bytes) => self.read(driver, fetch, first, bytes),
            }
            moved += 1;
        }
        moved
    }
    /// One read's worth: entries of one segment, durable ones, within the errand's bounds.
    fn plan(&self, fetch: &LogFetch) -> Step {
        let Some(group) = self.index.group(fetch.group) else { return Step::Gone };
        let Some(first) = group.entry(fetch.from) else { return Step::Gone };
        if self.durable_end <= first {
            return Step::Wait;
        }
        let largest = record::batch_bytes(self.options.body_max);
        let bytes = fetch.bytes.clamp(largest, READ_MAX.max(largest));
        // Up to the entry behind the last one wanted, if that is known and near; else as far as bytes go.
        let behind = group.entry(Slot(fetch.from.0.saturating_add(fetch.count.max(1) as u64)));
        let near = behind.filter(|l| l.segment == first.segment && first.position < l.position);
        let near = near.map(|l| l.position - first.position);
        Step::Read(first, near.map_or(bytes, |n| bytes.min(n as usize)))
    }
    fn read(&mut self, driver: &mut dyn Driver, fetch: LogFetch, first: Location, bytes: usize) {
        let file = self.file_of(first.segment).expect("an entry that counts lies in a needed segment");
        let size = self.segment_bytes(first.segment);
        let offset = u64::from(first.position) / ALIGN as u64 * ALIGN as u64;
        let end = (first.position as usize + bytes).next_multiple_of(ALIGN).min(size as usize);
        let len = end - offset as usize;
        self.fetches.counter += 1;
        let id = self.fetches.counter;
        let buffer = driver.buffer(len);
        driver.submit(Op::Read { file: self.file(file), offset, len, buffer }, self.token(FETCH | id));
        self.fetches.running.push(Running { id, fetch, segment: first.segment, file, offset });
    }
    fn answer(&mut self, fetch: &LogFetch, records: Vec<Stored>) {
        let LogFetch { job, group, .. } = *fetch;
        self.figures.fetched_bytes += records.iter().map(|r| r.body.len() as u64).sum::<u64>();
        self.fetches.answers.push_back(LogFetched { job, group, records });
    }

    /// A read has completed.
    pub(super) fn fetched(&mut self, completion: Completion, driver: &mut dyn Driver) {
        let id = completion.token.value & !FETCH;
        let index = self.fetches.running.iter().position(|r| r.id == id).expect("a read that was submitted");
        let running = self.fetches.running.swap_remove(index);
        let file = segment::path(&self.options.directory, running.file);
        match completion.outcome {
            Outcome::Read(buffer) => {
                match self.collect(&running, buffer.bytes()) {
                    // Cut or moved meanwhile: plan anew, which may say that it is gone.
                    Ok(records) if records.is_empty() => self.fetches.waiting.push_back(running.fetch),
                    Ok(records) => self.answer(&running.fetch, records),
                    Err((offset, flaw)) => self.fail(Fatal::Damaged { file, offset, flaw }),
                }
                driver.release(buffer);
            }
            Outcome::Failed { error, .. } => self.fail(Fatal::Read { file, offset: running.offset, error }),
            _ => unreachable!("a read completes as read or failed"),
        }
    }
    /// The entries that lie whole in what was read.
    fn collect(&self, running: &Running, bytes: &[u8]) -> Result<Vec<Stored>, (u64, Flaw)> {
        let LogFetch { group: id, from, count, bytes: most, .. } = running.fetch;
        let mut records = Vec::new();
        let Some(group) = self.index.group(id) else { return Ok(records) };
        let mut total = 0;
        while records.len() < count.max(1) {
            let place = Slot(from.0 + records.len() as u64);
            let location = match group.entry(place) {
                Some(l) if l.segment == running.segment && l < self.durable_end => l,
                _ => break,
            };
            let Some(at) = u64::from(location.position).checked_sub(running.offset) else { break };
            let flawed = |flaw| (u64::from(location.position), flaw);
            let rest = bytes.get(at as usize..).unwrap_or(&[]);
            let head = match Head::read(&self.keys, rest) {
                Ok(head) => head,
                // A later one may be cut off by the end of the read.
                Err(_) if !records.is_empty() => break,
                Err(flaw) => return Err(flawed(flaw)),
            };
            let here = Location { segment: head.segment, position: head.position };
            let is_kind = matches!(head.kind, RecordKind::Entry | RecordKind::Value);
            if here != location || head.group != id || head.place != place || !is_kind {
                return Err(flawed(Flaw::Misplaced));
            }
            total += head.body as usize;
            let Some(body) =
                rest.get(head.body_at()..head.bytes()).filter(|_| records.is_empty() || total <= most)
            else {
                break;
            };
            records.push(head.with_body(Bytes::copy_from_slice(body)).map_err(flawed)?);
        }
        Ok(records)
    }
}
