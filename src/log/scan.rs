//! Reads a whole log and judges it: what is valid, what is a torn end, what is damage. Used by recovery and by `quorate inspect`.
//!
//! 1. *Survey*: every file's header, then every statement (see the room's module documentation) that batch headers make
//!    in the newest segment and in files behind it: up to which batch everything was durable, which segment is the oldest needed.
//! 2. *Walk*: from the oldest needed segment on, batch after batch along the chain, until one does not verify.
//! 3. *Verdict* on that one: damage if a statement calls it durable, else the log's end.

use super::record::{BATCH_HEADER, BatchHeader, Checksum, Flaw, Head, Keys, Records};
use super::segment::{self, FIRST_BATCH, Found, SegmentHeader};
use super::{FORMAT_VERSION, Identity, LogError};
use crate::base::canary::{self, Canary};
use crate::io::driver::ALIGN;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Where the files' bytes come from. Files are numbered from 1.
pub trait Source {
    /// The numbers of the files that are there.
    fn files(&self) -> Vec<u16>;
    /// Bytes of a file from `offset` on: `len` of them, or fewer at its end.
    fn read(&mut self, file: u16, offset: u64, len: usize) -> io::Result<&[u8]>;
    /// How large a file is.
    fn size(&self, file: u16) -> u64;
}

/// Whose log is expected where.
pub struct Expected {
    /// The segments' directory.
    pub directory: PathBuf,
    /// Whose.
    pub identity: Identity,
    /// Which shard's.
    pub shard: u16,
}

/// What batch headers state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statements {
    /// The newest batch that one calls durable.
    pub durable_through: u64,
    /// The oldest segment that is needed.
    pub oldest: u32,
    /// So many files there were.
    pub files: u16,
}

impl Statements {
    fn hear(&mut self, header: &BatchHeader) {
        self.durable_through = self.durable_through.max(header.durable_through);
        self.oldest = self.oldest.max(header.oldest);
        self.files = self.files.max(header.files);
    }
}

/// The files and what they state.
pub struct Survey {
    /// Segments by sequence.
    pub segments: BTreeMap<u32, SegmentHeader>,
    /// Files without a header that verifies.
    pub headless: Vec<u16>,
    /// What was stated.
    pub statements: Statements,
    /// The newest segment whose first batch has a header that verifies.
    pub newest: Option<u32>,
}

/// One thing that the walk comes by.
pub enum Step<'a> {
    /// The segment begins.
    Segment(&'a SegmentHeader),
    /// A batch that verifies, wholly when its durability is in doubt, else but for the bodies of its records.
    Batch(&'a BatchHeader),
    /// A record of that batch, and its body, which has not been compared with its digest.
    Record(&'a Head, &'a [u8]),
}

/// Where a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The segment that the next batch goes into.
    pub segment: u32,
    /// Where in it.
    pub position: u32,
    /// The last valid batch's number; 0 if there is none.
    pub number: u64,
    /// Its checksum.
    pub chain: Checksum,
    /// Its generation.
    pub generation: u64,
    /// What is wrong with what follows, if anything follows.
    pub torn: Option<Flaw>,
}

impl Expected {
    fn io(&self, file: u16, error: io::Error) -> LogError {
        LogError::Io { file: segment::path(&self.directory, file), error }
    }
    /// Reads all headers and statements.
    pub fn survey(&self, keys: &Keys, source: &mut dyn Source) -> Result<Survey, LogError> {
        let mut survey = Survey {
            segments: BTreeMap::new(),
            headless: Vec::new(),
            statements: Statements::default(),
            newest: None,
        };
        for file in source.files() {
            self.read_header(keys, source, file, &mut survey)?;
        }
        let newest = survey.newest.unwrap_or(0);
        let behind =
            survey.segments.range(newest..).map(|(_, h)| h.file).chain(survey.headless.iter().copied());
        for file in behind.collect::<Vec<_>>() {
            self.hear_file(keys, source, file, &mut survey.statements)?;
        }
        Ok(survey)
    }
    fn read_header(
        &self,
        keys: &Keys,
        source: &mut dyn Source,
        file: u16,
        survey: &mut Survey,
    ) -> Result<(), LogError> {
        let size = source.size(file);
        let bytes = source.read(file, 0, 2 * ALIGN).map_err(|e| self.io(file, e))?;
        let path = || segment::path(&self.directory, file);
        let header = match SegmentHeader::read(bytes) {
            Found::Version(found) => {
                return Err(LogError::Format { file: path(), found, known: FORMAT_VERSION });
            }
            Found::Header(h) if h.identity != self.identity || h.shard != self.shard => {
                let (found, found_shard) = (h.identity, h.shard);
                let (expected, expected_shard) = (self.identity, self.shard);
                return Err(LogError::Foreign { file: path(), found, found_shard, expected, expected_shard });
            }
            // A file that is shorter than its header says, or a copy of another, is not what it says.
            Found::Header(h) if u64::from(h.bytes) <= size && h.file == file => h,
            Found::Header(_) | Found::Nothing => {
                survey.headless.push(file);
                return Ok(());
            }
        };
        survey.segments.insert(header.sequence, header);
        if let Ok((batch, _)) = BatchHeader::read(keys, bytes.get(ALIGN..).unwrap_or(&[])) {
            survey.statements.hear(&batch);
            if batch.segment == header.sequence && batch.position == FIRST_BATCH {
                survey.newest = survey.newest.max(Some(header.sequence));
            }
        }
        Ok(())
    }
    /// Hears every batch header in a file, whether or not it can be reached along the chain.
    fn hear_file(
        &self,
        keys: &Keys,
        source: &mut dyn Source,
        file: u16,
        statements: &mut Statements,
    ) -> Result<(), LogError> {
        let size = source.size(file);
        let mut offset = u64::from(FIRST_BATCH);
        while offset < size {
            let bytes = source.read(file, offset, 64 * ALIGN).map_err(|e| self.io(file, e))?;
            if bytes.is_empty() {
                break;
            }
            for block in bytes.chunks(ALIGN) {
                if let Ok((header, _)) = BatchHeader::read(keys, block) {
                    statements.hear(&header);
                }
            }
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Walks along the chain from the oldest needed segment. `None` when no batch was ever called durable and none is there: the log
    /// has not begun.
    pub fn walk(
        &self,
        keys: &Keys,
        source: &mut dyn Source,
        survey: &Survey,
        visit: &mut dyn FnMut(Step<'_>) -> Result<(), Flaw>,
    ) -> Result<Option<End>, LogError> {
        let Statements { durable_through, oldest, files } = survey.statements;
        if let Some(number) = (1..=files).find(|n| !source.files().contains(n)) {
            return Err(LogError::MissingFile { file: segment::path(&self.directory, number), files });
        }
        let newest = match survey.newest {
            None if durable_through == 0 => return Ok(None),
            newest => newest.unwrap_or(0).max(oldest),
        };
        if let Some(sequence) = (oldest..=newest).find(|s| !survey.segments.contains_key(s)) {
            let directory = self.directory.clone();
            return Err(LogError::Missing { directory, sequence, oldest, newest });
        }
        let mut walker = Walker { expected: self, keys, source, survey, visit, end: None };
        for sequence in oldest..=newest {
            if !walker.segment(sequence)? {
                break;
            }
        }
        Ok(walker.end)
    }
}

struct Walker<'a> {
    expected: &'a Expected,
    keys: &'a Keys,
    source: &'a mut dyn Source,
    survey: &'a Survey,
    visit: &'a mut dyn FnMut(Step<'_>) -> Result<(), Flaw>,
    end: Option<End>,
}

impl Walker<'_> {
    /// Walks through one segment. False when the log ends in it.
    fn segment(&mut self, sequence: u32) -> Result<bool, LogError> {
        let header = self.survey.segments[&sequence];
        let told = (self.visit)(Step::Segment(&header));
        told.map_err(|flaw| self.damaged(header.file, 0, flaw))?;
        let mut position = FIRST_BATCH;
        loop {
            match self.batch(&header, position)? {
                Ok(length) => position += length,
                Err(flaw) => return self.verdict(&header, position, flaw),
            }
        }
    }

    /// Judges the batch at `position`; its length if it is valid.
    fn batch(&mut self, segment: &SegmentHeader, position: u32) -> Result<Result<u32, Flaw>, LogError> {
        let file = segment.file;
        let header = match self.header(segment, position)? {
            Ok(header) => header,
            Err(flaw) => return Ok(Err(flaw)),
        };
        let length = header.0.length as usize;
        let read = self.source.read(file, u64::from(position), length);
        let bytes = read.map_err(|e| self.expected.io(file, e))?;
        if bytes.len() < length {
            return Ok(Err(Flaw::Length));
        }
        // A torn batch is cut as a whole, so one whose durability is in doubt is verified before any of it is told.
        if self.survey.statements.durable_through < header.0.number
            && !canary::on(Canary::TornTailValid)
            && let Err(flaw) = verify(self.keys, &header.0, bytes)
        {
            return Ok(Err(flaw));
        }
        if let Err((at, flaw)) = tell(self.keys, &header.0, bytes, self.visit) {
            return Err(self.damaged(file, u64::from(position) + at as u64, flaw));
        }
        let BatchHeader { number, generation, .. } = header.0;
        let (segment, position) = (segment.sequence, position + header.0.length);
        self.end = Some(End { segment, position, number, chain: header.1, generation, torn: None });
        Ok(Ok(header.0.length))
    }
    /// The header at `position`, if it is that of the batch that comes next.
    fn header(
        &mut self,
        segment: &SegmentHeader,
        position: u32,
    ) -> Result<Result<(BatchHeader, Checksum), Flaw>, LogError> {
        if segment.bytes - position < ALIGN as u32 {
            return Ok(Err(Flaw::NoBatch));
        }
        let read = self.source.read(segment.file, u64::from(position), ALIGN);
        let bytes = read.map_err(|e| self.expected.io(segment.file, e))?;
        let (header, checksum) = match BatchHeader::read(self.keys, bytes) {
            Ok(header) => header,
            Err(flaw) => return Ok(Err(flaw)),
        };
        let misplaced = header.segment != segment.sequence || header.position != position;
        let sound = (BATCH_HEADER as u32..=header.length).contains(&header.used)
            && header.length.is_multiple_of(ALIGN as u32)
            && header.length <= segment.bytes - position;
        let follows = self.end.is_none_or(|end| {
            header.number == end.number + 1
                && header.previous == end.chain
                && end.generation <= header.generation
        });
        Ok(match (misplaced, sound, follows) {
            (true, ..) => Err(Flaw::Misplaced),
            (_, false, _) => Err(Flaw::Length),
            (_, _, false) => Err(Flaw::BatchChain),
            _ => Ok((header, checksum)),
        })
    }

    /// What it means that no valid batch is at `position`: the next segment goes on, the log ends, or it is damaged.
    fn verdict(&mut self, segment: &SegmentHeader, position: u32, flaw: Flaw) -> Result<bool, LogError> {
        let next = self.survey.segments.get(&(segment.sequence + 1)).copied();
        if let (Some(next), Some(_)) = (next, self.end)
            && self.header(&next, FIRST_BATCH)?.is_ok()
        {
            return Ok(true);
        }
        let expected = self.end.map_or(0, |end| end.number + 1);
        let was_durable = expected <= self.survey.statements.durable_through;
        if expected == 0 || was_durable && !canary::on(Canary::DamageCutAsTorn) {
            let (file, offset, flaw) = match next {
                Some(next) if expected != 0 && self.lies_in_next(segment, position, &next, expected)? => {
                    let flaw = self.header(&next, FIRST_BATCH)?.err().unwrap_or(flaw);
                    (next.file, FIRST_BATCH, flaw)
                }
                _ => (segment.file, position, flaw),
            };
            return Err(self.damaged(file, u64::from(offset), flaw));
        }
        if let Some(end) = &mut self.end {
            // An end at a segment's end: the next batch goes on where this one ends.
            (end.segment, end.position) = (segment.sequence, position);
            end.torn = (flaw != Flaw::NoBatch).then_some(flaw);
        }
        Ok(false)
    }
    /// Whether the batch that is damaged was the first of the next segment rather than one at `position`: nothing of this segment lies
    /// there or behind, and the next one does not begin with a later batch.
    fn lies_in_next(
        &mut self,
        segment: &SegmentHeader,
        position: u32,
        next: &SegmentHeader,
        expected: u64,
    ) -> Result<bool, LogError> {
        for at in (position..segment.bytes).step_by(ALIGN) {
            if self.number_at(segment, at)?.is_some() {
                return Ok(false);
            }
        }
        Ok(self.number_at(next, FIRST_BATCH)?.is_none_or(|number| number <= expected))
    }
    /// The number of the batch whose header lies here, if one does.
    fn number_at(&mut self, segment: &SegmentHeader, position: u32) -> Result<Option<u64>, LogError> {
        let read = self.source.read(segment.file, u64::from(position), ALIGN);
        let bytes = read.map_err(|e| self.expected.io(segment.file, e))?;
        let header = BatchHeader::read(self.keys, bytes).ok().map(|(header, _)| header);
        let here = header.filter(|h| h.segment == segment.sequence && h.position == position);
        Ok(here.map(|h| h.number))
    }
    fn damaged(&self, file: u16, offset: u64, flaw: Flaw) -> LogError {
        LogError::Damaged { file: segment::path(&self.expected.directory, file), offset, flaw }
    }
}

/// Whether all of a batch is what its header says, bodies included.
fn verify(keys: &Keys, header: &BatchHeader, bytes: &[u8]) -> Result<(), Flaw> {
    let mut records = Records::of(keys, *header, bytes);
    while let Some(record) = records.read() {
        let record = record?;
        if !record.head.fits(record.body) {
            return Err(Flaw::Body);
        }
    }
    Ok(())
}

/// Tells of a batch and its records while it verifies them; with an error, where in the batch it is.
fn tell(
    keys: &Keys,
    header: &BatchHeader,
    bytes: &[u8],
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), Flaw>,
) -> Result<(), (usize, Flaw)> {
    visit(Step::Batch(header)).map_err(|flaw| (0, flaw))?;
    let mut records = Records::of(keys, *header, bytes);
    while let Some(record) = records.read() {
        let record = record.map_err(|flaw| (records.at(), flaw))?;
        visit(Step::Record(&record.head, record.body)).map_err(|flaw| (record.at, flaw))?;
    }
    Ok(())
}
