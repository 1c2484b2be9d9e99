//! What happens at boot, before any agent runs: the log is read and judged, its torn end is cut, and what is left is made durable
//! and handed over.
//!
//! It takes one pass, and memory does not grow with the log but by the index. What is handed over are the log's records in the order of
//! their writing, those that were cut or voided later among them: who replays them does as a running replica did when it wrote them. A
//! segment begins with the newest votes and floors, so what has left the log is not missed.
//!
//! # Why the end is written again
//! A killed process leaves batches that a reader sees and that were never on stable storage. Whoever replays them speaks of them, so
//! they must not be lost with the next power failure: those batches that no statement calls durable are written once more, the
//! same bytes at the same place. Then an empty batch of the new life says that all this is durable.

use super::files::{Files, TOKEN};
use super::index::{Index, Location};
use super::record::{Flaw, Head, Keys};
use super::scan::{End, Expected, Source, Step, Survey};
use super::segment::{self, FIRST_BATCH, Segment};
use super::writer::{Free, Log};
use super::{LogError, Options};
use crate::base::{GroupId, Slot};
use crate::io::driver::ALIGN;
use crate::io::{Buffer, Driver};
use crate::wire::hop::{RecordKind, Stored};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;

/// Bodies that do not fit their digests, in entries that may yet turn out to be cut or in a snapshot. More of them are damage at once.
const FLAWED_MAX: usize = 1024;

impl Log {
    /// Recovers a shard's log, or begins it. Blocks, for about a second a gigabyte. `emit` is told what is stored, see the module.
    /// Nothing else may be in flight on the driver. All files are closed again; [`Log::start`] opens them where the log will run.
    pub fn recover(
        driver: &mut dyn Driver,
        options: Options,
        emit: &mut dyn FnMut(Stored),
    ) -> Result<Log, LogError> {
        options.check();
        let keys = Keys::derive(&options.identity, options.shard);
        let directory = options.directory.clone();
        let expected = Expected { directory, identity: options.identity, shard: options.shard };
        let mut files = Files::open(driver, &expected)?;
        let recovered = read(&mut files, &expected, &keys, &options, emit);
        if let Ok(Some(found)) = &recovered {
            files.repair(&expected, found, &options)?;
        }
        let file_count = files.close();
        let mut log = match recovered? {
            Some(found) => found.into_log(options, keys),
            None => Log::assemble(options, keys, Index::default(), VecDeque::from([before_all()])),
        };
        if log.active().sequence == 0 {
            log.free = (1..=file_count).map(|file| Free { file, filled: false }).collect();
        }
        log.file_count = file_count;
        log.open(driver)?;
        Ok(log)
    }

    /// Opens a new life: the preamble, and that everything is durable, are durable before anyone speaks of what was recovered.
    fn open(&mut self, driver: &mut dyn Driver) -> Result<(), LogError> {
        let directory = self.options.directory.clone();
        self.start(TOKEN.agent, driver).map_err(|error| LogError::Io { file: directory.clone(), error })?;
        driver.sync_directory(&directory).map_err(|error| LogError::Io { file: directory, error })?;
        self.named_count = self.file_count;
        self.carry = self.index.preamble().collect();
        self.sealed = false;
        let mut completions = Vec::new();
        while !self.is_quiet() || self.active().sequence == 0 {
            if self.active().sequence == 0 && !self.spares.is_empty() {
                self.segments = self.spares.drain(..).collect();
            }
            let is_begun = self.active().sequence != 0;
            if is_begun && !self.carry.is_empty() {
                // Not with the seal: the preamble may be longer than a batch, for a new-view is part of it.
                self.append(driver, &mut || None);
            }
            if !is_begun || !self.seal(driver) && self.flights.is_empty() {
                self.prepare(driver);
            }
            driver.park(if self.flights.is_empty() { self.prepare_at() } else { None });
            driver.reap(&mut completions);
            completions.drain(..).for_each(|c| self.complete(c, driver));
            if let Some(fatal) = self.failed.take() {
                return Err(LogError::Fatal(fatal));
            }
            if self.disk_full {
                let file = self.options.directory.clone();
                return Err(LogError::Io { file, error: io::Error::from(io::ErrorKind::StorageFull) });
            }
        }
        self.stop(driver);
        Ok(())
    }
}

/// Stands where the first segment's predecessor would.
fn before_all() -> Segment {
    let (sequence, file, bytes) = (0, 0, FIRST_BATCH);
    Segment::empty(sequence, file, bytes)
}

/// What the pass over the files has found.
struct Recovered {
    survey: Survey,
    end: End,
    index: Index,
    segments: VecDeque<Segment>,
    /// Batches that no statement calls durable: file, position, length.
    doubtful: Vec<(u16, u32, u32)>,
}

/// What the pass over the files gathers.
struct Gathering<'a> {
    index: Index,
    segments: VecDeque<Segment>,
    doubtful: Vec<(u16, u32, u32)>,
    durable_through: u64,
    /// Entries whose bodies do not fit. They are damage if they count in the end.
    flawed: Vec<(GroupId, Slot, Location)>,
    emit: &'a mut dyn FnMut(Stored),
}

impl Gathering<'_> {
    fn step(&mut self, step: Step<'_>) -> Result<(), Flaw> {
        match step {
            Step::Segment(h) => self.segments.push_back(Segment::empty(h.sequence, h.file, h.bytes)),
            Step::Batch(header) => {
                let segment = self.segments.back_mut().expect("told of before its batches");
                segment.end = header.position + header.length;
                if self.durable_through < header.number {
                    self.doubtful.push((segment.file, header.position, header.length));
                }
            }
            Step::Record(head, body) => self.record(head, body)?,
        }
        Ok(())
    }

    fn record(&mut self, head: &Head, body: &[u8]) -> Result<(), Flaw> {
        let location = Location { segment: head.segment, position: head.position };
        let body = Bytes::copy_from_slice(body);
        if let RecordKind::Entry | RecordKind::Note | RecordKind::Value = head.kind {
            let segment = self.segments.back_mut().expect("told of before its records");
            segment.holds(head.group, head.place);
        }
        let stored = match head.with_body(body.clone()) {
            Err(_) if head.kind == RecordKind::Entry && self.flawed.len() < FLAWED_MAX => {
                self.flawed.push((head.group, head.place, location));
                head.with_any_body(body)
            }
            stored => stored?,
        };
        self.index.take(head.group, head.kind, head.place, location, || Ok(stored.clone()))?;
        (self.emit)(stored);
        Ok(())
    }
}

fn read(
    source: &mut dyn Source,
    expected: &Expected,
    keys: &Keys,
    options: &Options,
    emit: &mut dyn FnMut(Stored),
) -> Result<Option<Recovered>, LogError> {
    let survey = expected.survey(keys, source)?;
    let mut gathering = Gathering {
        index: Index::default(),
        segments: VecDeque::new(),
        doubtful: Vec::new(),
        durable_through: survey.statements.durable_through,
        flawed: Vec::new(),
        emit,
    };
    let end = expected.walk(keys, source, &survey, &mut |step| gathering.step(step))?;
    let Gathering { mut index, mut segments, doubtful, flawed, .. } = gathering;
    let Some(end) = end else {
        let begun = options.established;
        return if begun { Err(LogError::Wiped { directory: expected.directory.clone() }) } else { Ok(None) };
    };
    if options.generation <= end.generation {
        return Err(LogError::Generation { log: end.generation, superblock: options.generation });
    }
    let counts = |(group, place, at): &&(GroupId, Slot, Location)| {
        index.group(*group).and_then(|g| g.entry(*place)) == Some(*at)
    };
    if let Some((_, _, at)) = flawed.iter().find(counts) {
        return Err(damaged(expected, &survey, *at, Flaw::Body));
    }
    check_dense(expected, &survey, &index)?;
    index.all_durable();
    // A segment behind the end, of which nothing was valid, is a spare.
    segments.retain(|s| s.sequence <= end.segment);
    Ok(Some(Recovered { survey, end, index, segments, doubtful }))
}

fn damaged(expected: &Expected, survey: &Survey, at: Location, flaw: Flaw) -> LogError {
    let file = segment::path(&expected.directory, survey.segments[&at.segment].file);
    LogError::Damaged { file, offset: u64::from(at.position), flaw }
}

fn check_dense(expected: &Expected, survey: &Survey, index: &Index) -> Result<(), LogError> {
    let Some((_, group)) = index.groups().find(|(_, g)| !g.is_dense()) else { return Ok(()) };
    let first = group.entry(Slot(group.places().start)).expect("not dense, so not empty");
    Err(damaged(expected, survey, first, Flaw::Hole))
}

impl Recovered {
    /// Whether this segment can be the next but `behind` after the current one, as it is.
    fn is_spare(&self, sequence: u32, options: &Options) -> bool {
        (self.end.segment + 1..=sequence)
            .all(|s| self.survey.segments.get(&s).is_some_and(|h| h.bytes == options.segment_bytes))
    }
    fn into_log(self, options: Options, keys: Keys) -> Log {
        let spare = |s: u32| self.end.segment < s && self.is_spare(s, &options);
        let oldest = self.survey.statements.oldest;
        let (mut spares, mut free) = (VecDeque::new(), Vec::new());
        for (sequence, header) in &self.survey.segments {
            if spare(*sequence) {
                spares.push_back(Segment::empty(*sequence, header.file, header.bytes));
            } else if !(oldest..=self.end.segment).contains(sequence) {
                free.push(Free { file: header.file, filled: header.bytes == options.segment_bytes });
            }
        }
        free.extend(self.survey.headless.iter().map(|file| Free { file: *file, filled: false }));
        let mut log = Log::assemble(options, keys, self.index, self.segments);
        log.segments.back_mut().expect("the last batch lies in one").end = self.end.position;
        (log.spares, log.free) = (spares, free);
        (log.number, log.chain, log.durable_through) = (self.end.number, self.end.chain, self.end.number);
        log.oldest_stated = oldest;
        log.torn = self.end.torn.map(|flaw| flaw.to_string());
        log
    }
}

impl Files<'_> {
    /// Makes the end durable, and whatever lies in segments behind it unreachable.
    fn repair(&mut self, expected: &Expected, found: &Recovered, options: &Options) -> Result<(), LogError> {
        let io =
            |file: u16| move |error| LogError::Io { file: segment::path(&expected.directory, file), error };
        for &(file, position, length) in &found.doubtful {
            let bytes = self.read(file, u64::from(position), length as usize).map_err(io(file))?;
            let mut buffer = Buffer::unregistered(length as usize);
            buffer.space()[..bytes.len()].copy_from_slice(bytes);
            self.write(file, position, buffer, length).map_err(io(file))?;
        }
        for (sequence, header) in found.survey.segments.range(found.end.segment + 1..) {
            let file = header.file;
            let zeros = || Buffer::unregistered(ALIGN);
            self.write(file, FIRST_BATCH, zeros(), ALIGN as u32).map_err(io(file))?;
            let mut first = zeros();
            if found.is_spare(*sequence, options) {
                // Its header may have been seen and not be durable; batches in it would be lost with the header.
                header.write(first.space());
            }
            self.write(file, 0, first, ALIGN as u32).map_err(io(file))?;
        }
        Ok(())
    }
}
