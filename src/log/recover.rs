//! What happens at boot, before any agent runs: the log is read and judged, its torn end is cut, and what is left is made durable
//! and handed over.
//!
//! What is handed over is a history without holes and second thoughts: each group's newest vote and floor first, then, in the order
//! of the log, exactly those entries that count (above the floor, not cut later). It takes two passes: the first finds out which
//! entries count, the second compares their bodies with their digests and hands them over.
//!
//! # Why the end is written again
//! A killed process leaves batches that a reader sees and that were never on stable storage. Whoever replays them speaks of them, so
//! they must not be lost with the next power failure: those batches that no statement calls durable are written once more, the
//! same bytes at the same place. Then an empty batch of the new life says that all this is durable.

use super::index::{Index, Location};
use super::record::{Flaw, Head, Keys};
use super::scan::{End, Expected, Source, Step, Survey};
use super::segment::{self, FIRST_BATCH, MISSING_MAX, Segment};
use super::writer::{Free, Log};
use super::{LogError, Options};
use crate::base::Slot;
use crate::io::driver::{ALIGN, OpenOptions};
use crate::io::{Buffer, Completion, Driver, FileId, Op, Outcome, Token};
use crate::wire::hop::{RecordKind, Stored};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;

/// Reads are this large when they follow each other; the next one is under way while the last one is worked on.
const AHEAD: usize = 2 << 20;
/// Otherwise.
const GLANCE: usize = 64 << 10;
/// Operations before there are agents.
const TOKEN: Token = Token { agent: u8::MAX, value: 0 };

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
        self.carry = self.index.preamble().collect();
        self.sealed = false;
        let mut completions = Vec::new();
        while !self.is_quiet() || self.active().sequence == 0 {
            if self.active().sequence == 0 && !self.spares.is_empty() {
                self.segments = self.spares.drain(..).collect();
            }
            if self.active().sequence == 0 || !self.seal(driver) && self.flights.is_empty() {
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

/// What the passes over the files have found.
struct Recovered {
    survey: Survey,
    end: End,
    index: Index,
    segments: VecDeque<Segment>,
    /// Batches that no statement calls durable: file, position, length.
    doubtful: Vec<(u16, u32, u32)>,
}

fn read(
    source: &mut dyn Source,
    expected: &Expected,
    keys: &Keys,
    options: &Options,
    emit: &mut dyn FnMut(Stored),
) -> Result<Option<Recovered>, LogError> {
    let survey = expected.survey(keys, source)?;
    let (mut index, mut segments, mut doubtful) = (Index::default(), VecDeque::<Segment>::new(), Vec::new());
    let durable_through = survey.statements.durable_through;
    let end = expected.walk(keys, source, &survey, &mut |step| {
        match step {
            Step::Segment(h) => segments.push_back(Segment::empty(h.sequence, h.file, h.bytes)),
            Step::Batch(header) => {
                let segment = segments.back_mut().expect("told of before its batches");
                segment.end = header.position + header.length;
                if durable_through < header.number {
                    doubtful.push((segment.file, header.position, header.length));
                }
            }
            Step::Record(head, body) => {
                let location = Location { segment: head.segment, position: head.position };
                if head.kind == RecordKind::Entry {
                    segments.back_mut().expect("told of before its records").holds(head.group, head.place);
                }
                let stored = || head.with_body(Bytes::copy_from_slice(body));
                index.take(head.group, head.kind, head.place, location, stored)?;
            }
        }
        Ok(())
    })?;
    let Some(end) = end else {
        let begun = options.established;
        return if begun { Err(LogError::Wiped { directory: expected.directory.clone() }) } else { Ok(None) };
    };
    if options.generation <= end.generation {
        return Err(LogError::Generation { log: end.generation, superblock: options.generation });
    }
    check_dense(expected, &survey, &index)?;
    hand_over(source, expected, keys, &survey, &index, emit)?;
    index.all_durable();
    // A segment behind the end, of which nothing was valid, is a spare.
    segments.retain(|s| s.sequence <= end.segment);
    Ok(Some(Recovered { survey, end, index, segments, doubtful }))
}

fn check_dense(expected: &Expected, survey: &Survey, index: &Index) -> Result<(), LogError> {
    let Some((_, group)) = index.groups().find(|(_, g)| !g.is_dense()) else { return Ok(()) };
    let first = group.entry(Slot(group.places().start)).expect("not dense, so not empty");
    let file = segment::path(&expected.directory, survey.segments[&first.segment].file);
    Err(LogError::Damaged { file, offset: u64::from(first.position), flaw: Flaw::Hole })
}

/// The second pass.
fn hand_over(
    source: &mut dyn Source,
    expected: &Expected,
    keys: &Keys,
    survey: &Survey,
    index: &Index,
    emit: &mut dyn FnMut(Stored),
) -> Result<(), LogError> {
    index.preamble().for_each(&mut *emit);
    let counts = |head: &Head| {
        let location = Location { segment: head.segment, position: head.position };
        head.kind == RecordKind::Entry
            && index.group(head.group).and_then(|g| g.entry(head.place)) == Some(location)
    };
    expected.walk(keys, source, survey, &mut |step| {
        if let Step::Record(head, body) = step
            && counts(head)
        {
            emit(head.with_body(Bytes::copy_from_slice(body))?);
        }
        Ok(())
    })?;
    Ok(())
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
        log
    }
}

/// The segments' files, read and written while one waits.
struct Files<'a> {
    driver: &'a mut dyn Driver,
    /// By number less one.
    files: Vec<Option<FileId>>,
    sizes: Vec<u64>,
    /// What is at hand of which file, and from where.
    at: (u16, u64),
    bytes: Vec<u8>,
    /// A read that is under way: which file, from where. It goes on where `bytes` end.
    ahead: Option<(u16, u64)>,
    spare: Option<Buffer>,
}

impl<'a> Files<'a> {
    fn open(driver: &'a mut dyn Driver, expected: &Expected) -> Result<Files<'a>, LogError> {
        let (files, sizes, bytes) = (Vec::new(), Vec::new(), Vec::new());
        let mut files = Files { driver, files, sizes, at: (0, 0), bytes, ahead: None, spare: None };
        let mut missing = 0;
        while missing < MISSING_MAX {
            let path = segment::path(&expected.directory, files.files.len() as u16 + 1);
            match files.driver.open(&path, OpenOptions { create: false, write: true, direct: true }) {
                Ok(file) => {
                    let size =
                        files.driver.file_len(file).map_err(|error| LogError::Io { file: path, error })?;
                    files.files.push(Some(file));
                    files.sizes.push(size);
                    missing = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    files.files.push(None);
                    files.sizes.push(0);
                    missing += 1;
                }
                Err(error) => return Err(LogError::Io { file: path, error }),
            }
        }
        Ok(files)
    }
    /// Closes them all; tells the highest number.
    fn close(mut self) -> u16 {
        self.forget();
        let last = self.files.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        self.files.into_iter().flatten().for_each(|f| self.driver.close_file(f));
        last as u16
    }
    /// Forgets what is at hand. Nothing is under way afterwards.
    fn forget(&mut self) {
        self.at = (0, 0);
        self.bytes.clear();
        if self.ahead.take().is_some() {
            // Whether it has failed is of no interest: nobody asked for it.
            self.spare = wait(self.driver).ok();
        }
    }
    fn submit(&mut self, file: u16, offset: u64, len: usize) -> io::Result<()> {
        let id = self.files[file as usize - 1].ok_or(io::ErrorKind::NotFound)?;
        let len = len.next_multiple_of(ALIGN);
        let spare = self.spare.take().filter(|b| len <= b.capacity());
        let buffer = spare.unwrap_or_else(|| Buffer::unregistered(len));
        self.driver.submit(Op::Read { file: id, offset, len, buffer }, TOKEN);
        self.ahead = Some((file, offset));
        Ok(())
    }
    /// Takes what is under way in, behind what is at hand.
    fn take(&mut self) -> io::Result<()> {
        self.ahead = None;
        let buffer = wait(self.driver)?;
        self.bytes.extend_from_slice(buffer.bytes());
        self.spare = Some(buffer);
        Ok(())
    }
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
    fn write(&mut self, file: u16, position: u32, mut buffer: Buffer, len: u32) -> io::Result<()> {
        buffer.len = len as usize;
        self.forget();
        let file = self.files[file as usize - 1].expect("a file that was found");
        run(self.driver, Op::Write { file, offset: u64::from(position), buffer, durable: true }).map(drop)
    }
}

/// Runs one operation to its end.
pub(super) fn run(driver: &mut dyn Driver, op: Op) -> io::Result<Buffer> {
    driver.submit(op, TOKEN);
    wait(driver)
}
/// Waits for the one operation that is under way.
fn wait(driver: &mut dyn Driver) -> io::Result<Buffer> {
    let mut completions: Vec<Completion> = Vec::new();
    loop {
        driver.reap(&mut completions);
        match completions.pop().map(|c| c.outcome) {
            Some(Outcome::Written(buffer) | Outcome::Read(buffer)) => return Ok(buffer),
            Some(Outcome::Failed { error, .. }) => return Err(error),
            Some(_) => unreachable!("only file operations are outstanding"),
            None => driver.park(None),
        }
    }
}

impl Source for Files<'_> {
    fn files(&self) -> Vec<u16> {
        (1..).zip(&self.files).filter(|(_, f)| f.is_some()).map(|(number, _)| number).collect()
    }
    fn size(&self, file: u16) -> u64 {
        self.sizes[file as usize - 1]
    }
    fn read(&mut self, file: u16, offset: u64, len: usize) -> io::Result<&[u8]> {
        let size = self.size(file);
        let len = len.min(size.saturating_sub(offset) as usize);
        let end = self.at.1 + self.bytes.len() as u64;
        let goes_on = self.at.0 == file && (self.at.1..=end).contains(&offset);
        if !goes_on {
            self.forget();
            self.at = (file, offset);
            self.submit(file, offset, GLANCE.max(len).min(size.saturating_sub(offset) as usize))?;
            self.take()?;
        } else if end < offset + len as u64 {
            self.bytes.drain(..(offset - self.at.1) as usize);
            self.at.1 = offset;
            while self.bytes.len() < len {
                let end = offset + self.bytes.len() as u64;
                if self.ahead != Some((file, end)) {
                    self.submit(file, end, AHEAD.min((size - end) as usize))?;
                }
                self.take()?;
                let end = offset + self.bytes.len() as u64;
                if end.is_multiple_of(ALIGN as u64) && end < size {
                    self.submit(file, end, AHEAD.min((size - end) as usize))?;
                } else {
                    break;
                }
            }
        }
        let from = ((offset - self.at.1) as usize).min(self.bytes.len());
        Ok(&self.bytes[from..(from + len).min(self.bytes.len())])
    }
}
