//! Segments come and go: those that nobody needs are used again, and new ones are made ahead of need, in small pieces beside the
//! running log.
//!
//! A segment is no longer needed when a durable floor of each group lies at or above every place in it, and a later segment's
//! preamble (newest votes and floors) is durable. It is overwritten only after a durable batch has said so: recovery believes the
//! newest `oldest` that it finds and asks for every segment from there.

use super::segment::{self, FIRST_BATCH, Segment, SegmentHeader};
use super::writer::{Free, Log, PREPARE};
use super::{Fatal, pop_if};
use crate::base::Instant;
use crate::io::driver::{ALIGN, Buffer};
use crate::io::{Driver, Op, Outcome};
use std::io;
use std::time::Duration;

/// Zeros go out in pieces of this size, one at a time.
const PIECE: u32 = 256 << 10;
/// Pause between pieces while there is no hurry.
const PACE: Duration = Duration::from_millis(2);
/// Pause after the disk was found full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// A segment in the making.
pub(super) struct Preparing {
    file: u16,
    sequence: u32,
    /// The directory is known to hold its name, whatever happens to the power.
    named: bool,
    /// Up to where it is filled; the segment's size when only its header is missing.
    filled: u32,
    in_flight: bool,
    not_before: Instant,
}

impl Log {
    /// Takes segments that are no longer needed out of the log.
    pub(super) fn retire(&mut self) {
        while 1 < self.segments.len() && self.is_dead(&self.segments[0]) {
            let opened = |s: &Segment| s.opened_by != 0 && s.opened_by <= self.durable_through;
            if !self.segments.iter().skip(1).any(opened) {
                break;
            }
            let segment = self.segments.pop_front().expect("checked above");
            self.retired.push_back(segment);
            // Somebody has to say so before the file can be used again.
            self.sealed = false;
        }
        let stated = self.oldest_stated;
        while let Some(segment) = pop_if(&mut self.retired, |s| s.sequence < stated) {
            self.free.push(Free { file: segment.file, filled: segment.bytes == self.options.segment_bytes });
        }
    }
    fn is_dead(&self, segment: &Segment) -> bool {
        let floor = |group| self.index.group(group).map(|g| g.floor_durable);
        segment.highest.iter().all(|(group, place)| floor(*group).is_some_and(|f| *place <= f))
    }

    /// Does the next step of preparing a segment, if one is wanted and it is time. Returns whether it did.
    pub fn prepare(&mut self, driver: &mut dyn Driver) -> bool {
        if self.failed.is_some() {
            return false;
        }
        if self.preparing.is_none() {
            if self.options.spares <= self.spares.len() {
                return false;
            }
            self.begin_preparing(driver);
        }
        let hurry = self.spares.is_empty() && self.active().room() < self.options.segment_bytes as usize / 2;
        let full = self.disk_full;
        let Some(preparing) = &mut self.preparing else { return false };
        if preparing.in_flight || (driver.now() < preparing.not_before && (full || !hurry)) {
            return false;
        }
        preparing.in_flight = true;
        if !preparing.named {
            let path = self.options.directory.clone();
            driver.submit(Op::SyncDirectory { path }, self.token(PREPARE));
            return true;
        }
        let (file, from, sequence) = (preparing.file, preparing.filled, preparing.sequence);
        let (offset, buffer) = self.next_piece(driver, file, from, sequence);
        // The last piece makes the file's size and extents durable, past the page cache that is all that zeros need: whatever else
        // lies there does not verify.
        let last = self.options.segment_bytes as usize <= from as usize + buffer.len;
        let durable = last || self.is_buffered();
        let op = Op::Write { file: self.file(file), offset, buffer, durable };
        driver.submit(op, self.token(PREPARE));
        true
    }
    /// When `prepare` has something to do again.
    pub fn prepare_at(&self) -> Option<Instant> {
        match &self.preparing {
            Some(p) if !p.in_flight => Some(p.not_before),
            Some(_) => None,
            None => (self.spares.len() < self.options.spares).then_some(Instant::ZERO),
        }
    }

    /// Takes a free file, or makes one.
    fn begin_preparing(&mut self, driver: &mut dyn Driver) {
        let newest = self.spares.back().unwrap_or(self.active()).sequence;
        let recycled = self.free.pop();
        let named = recycled.is_some();
        let free = match recycled {
            Some(free) => {
                self.figures.recycled += 1;
                free
            }
            None => {
                let file = self.file_count + 1;
                if let Err(error) = self.create(driver, file) {
                    let file = self.path(file);
                    return self.fail(Fatal::Open { file, error });
                }
                self.figures.created += 1;
                Free { file, filled: false }
            }
        };
        let filled = if free.filled { self.options.segment_bytes } else { 0 };
        self.preparing = Some(Preparing {
            file: free.file,
            sequence: newest + 1,
            named,
            filled,
            in_flight: false,
            not_before: driver.now(),
        });
    }
    fn create(&mut self, driver: &mut dyn Driver, file: u16) -> io::Result<()> {
        let path = self.path(file);
        self.add_file(driver, &path, true)?;
        self.file_count = file;
        Ok(())
    }
    /// Zeros, or when there are enough of them the header, which says that there are.
    fn next_piece(&mut self, driver: &mut dyn Driver, file: u16, from: u32, sequence: u32) -> (u64, Buffer) {
        let bytes = self.options.segment_bytes;
        if from < bytes {
            let mut buffer = self.zeros.take().unwrap_or_else(|| Buffer::unregistered(PIECE as usize));
            buffer.len = (PIECE.min(bytes - from) as usize).next_multiple_of(ALIGN);
            return (u64::from(from), buffer);
        }
        let header = SegmentHeader {
            identity: self.options.identity,
            shard: self.options.shard,
            file,
            sequence,
            bytes,
            generation: self.options.generation,
        };
        let mut buffer = driver.buffer(ALIGN);
        header.write(buffer.space());
        buffer.len = FIRST_BATCH as usize;
        (0, buffer)
    }
    /// A piece has been written, or not.
    pub(super) fn prepared(&mut self, outcome: Outcome, driver: &mut dyn Driver) {
        let bytes = self.options.segment_bytes;
        let preparing = self.preparing.as_mut().expect("a piece is part of a preparation");
        preparing.in_flight = false;
        match outcome {
            Outcome::Written(buffer) => {
                let whole = bytes <= preparing.filled;
                // A disk that has space for a piece may not have it for a segment.
                self.disk_full &= !whole;
                preparing.filled += buffer.len as u32;
                preparing.not_before = driver.now().after(PACE);
                if whole {
                    driver.release(buffer);
                    self.spares.push_back(Segment::empty(preparing.sequence, preparing.file, bytes));
                    self.preparing = None;
                } else {
                    self.zeros = Some(buffer);
                }
            }
            Outcome::Synced => {
                preparing.named = true;
                self.named_count = self.file_count;
            }
            Outcome::Failed { error, .. } if matches!(error.raw_os_error(), Some(ENOSPC | EDQUOT)) => {
                self.disk_full = true;
                preparing.not_before = driver.now().after(FULL_PAUSE);
            }
            Outcome::Failed { error, .. } => {
                let (file, offset) = (preparing.file, u64::from(preparing.filled));
                let file = segment::path(&self.options.directory, file);
                self.fail(Fatal::Write { file, offset, error });
            }
            _ => unreachable!("a step completes as written, synced or failed"),
        }
    }
}
