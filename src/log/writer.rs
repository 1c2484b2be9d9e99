//! Writes the log: records become batches, batches go out as durable writes, completions in any order become one rising ticket.
//!
//! A burst is a batch is a write. Bursts that come while `window` batches are in flight wait in the ring and share the next one: the
//! slower the disk, the larger the batch.

use super::index::{Index, Location};
use super::record::{self, At, BATCH_HEADER, BatchHeader, Checksum, Keys};
use super::segment::{self, Segment};
use super::{Fatal, Options, pop_if};
use crate::base::canary::{self, Canary};
use crate::base::{GroupId, Instant, Slot, Ticket};
use crate::io::driver::{ALIGN, OpenOptions};
use crate::io::{Buffer, Completion, Driver, FileId, Op, Outcome, Token};
use crate::wire::hop::{RecordKind, Stored};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Marks a token's value: preparing a segment. Batches are named by their numbers.
pub(super) const PREPARE: u64 = 1 << 62;
/// Marks a token's value: a fetch, whose number follows.
pub(super) const FETCH: u64 = 1 << 63;

/// A shard's log, recovered, to be written on. Made by [`Log::recover`]; it holds no open file until [`Log::start`].
pub struct Log {
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) index: Index,
    /// Those that are needed, oldest first; the last is being written.
    pub(super) segments: VecDeque<Segment>,
    /// Those that are ready to be written, in their order.
    pub(super) spares: VecDeque<Segment>,
    /// No longer needed, but no durable batch says so yet.
    pub(super) retired: VecDeque<Segment>,
    /// May be used again.
    pub(super) free: Vec<Free>,
    pub(super) preparing: Option<super::compact::Preparing>,
    /// A piece of zeros that has been written, for the next.
    pub(super) zeros: Option<Buffer>,
    pub(super) disk_full: bool,
    /// By file number less one, while started.
    files: Vec<FileId>,
    /// How many files there are; they are numbered from 1.
    pub(super) file_count: u16,
    /// How many of them are in the directory whatever happens to the power: what batches say of files.
    pub(super) named_count: u16,
    buffered: bool,
    slot: u8,
    /// What was wrong with the end that recovery has cut, if anything.
    pub(super) torn: Option<String>,

    /// The newest submitted batch.
    pub(super) number: u64,
    /// Its checksum.
    pub(super) chain: Checksum,
    /// All batches up to this one are durable.
    pub(super) durable_through: u64,
    /// Everything before it is durable.
    pub(super) durable_end: Location,
    /// The highest `oldest` that a durable batch states.
    pub(super) oldest_stated: u32,
    pub(super) flights: VecDeque<Flight>,
    /// Floors that are not durable yet, with their batch.
    pub(super) floors: VecDeque<(u64, GroupId, Slot)>,
    /// Preamble of the current segment that is still to be written.
    pub(super) carry: VecDeque<Stored>,
    /// Taken from the source, and did not fit.
    held: Option<Stored>,
    last_ticket: Ticket,
    durable_ticket: Ticket,
    /// The newest batch says nothing that wants to be sealed.
    pub(super) sealed: bool,
    /// When to write a seal, if nothing else comes before.
    seal_at: Option<Instant>,
    /// When records were first seen waiting.
    waiting_since: Option<Instant>,
    pub(super) fetches: super::fetch::Fetches,
    pub(super) failed: Option<Fatal>,
    pub(super) figures: Figures,
}

/// A file that may be used again.
#[derive(Clone, Copy, Debug)]
pub struct Free {
    /// Its number.
    pub file: u16,
    /// It was filled with zeros once, to its full size.
    pub filled: bool,
}

pub(super) struct Flight {
    number: u64,
    done: bool,
    last_ticket: Ticket,
    oldest: u32,
    end: Location,
    submitted: Instant,
}

/// What the log counts.
pub(super) struct Figures {
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    pub seals: u64,
    pub stalls: u64,
    pub recycled: u64,
    pub created: u64,
    pub fetches: u64,
    pub fetched_bytes: u64,
    /// From when records were seen waiting to their submission.
    pub append: Histogram<u64>,
    /// From submission to stable storage.
    pub sync: Histogram<u64>,
}

impl Figures {
    pub(super) fn new() -> Figures {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("constant bounds");
        Figures {
            batches: 0,
            records: 0,
            bytes: 0,
            seals: 0,
            stalls: 0,
            recycled: 0,
            created: 0,
            fetches: 0,
            fetched_bytes: 0,
            append: histogram(),
            sync: histogram(),
        }
    }
}

/// A batch that is being put together in its buffer.
struct Building {
    buffer: Buffer,
    /// Up to where it may grow: the buffer's capacity or the segment's room.
    limit: usize,
    used: usize,
    records: u32,
    first_ticket: Ticket,
    last: Checksum,
}

impl Log {
    /// A log whose last batch is `number` with checksum `chain`, all durable. Used by recovery.
    pub(super) fn assemble(options: Options, keys: Keys, index: Index, segments: VecDeque<Segment>) -> Log {
        Log {
            options,
            keys,
            index,
            segments,
            spares: VecDeque::new(),
            retired: VecDeque::new(),
            free: Vec::new(),
            preparing: None,
            zeros: None,
            disk_full: false,
            files: Vec::new(),
            file_count: 0,
            named_count: 0,
            buffered: false,
            slot: 0,
            torn: None,
            number: 0,
            chain: [0; 16],
            durable_through: 0,
            durable_end: Location::default(),
            oldest_stated: 0,
            flights: VecDeque::new(),
            floors: VecDeque::new(),
            carry: VecDeque::new(),
            held: None,
            last_ticket: Ticket::ZERO,
            durable_ticket: Ticket::ZERO,
            sealed: true,
            seal_at: None,
            waiting_since: None,
            fetches: super::fetch::Fetches::default(),
            failed: None,
            figures: Figures::new(),
        }
    }

    /// Opens the files with the driver that will write them. `slot` is the `Token::agent` of this log's operations.
    pub fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> std::io::Result<()> {
        self.slot = slot;
        self.files.clear();
        for file in 1..=self.file_count {
            let path = segment::path(&self.options.directory, file);
            self.add_file(driver, &path, false)?;
        }
        Ok(())
    }
    /// Closes the files. Nothing is in flight.
    pub(super) fn stop(&mut self, driver: &mut dyn Driver) {
        assert!(self.flights.is_empty());
        self.files.drain(..).for_each(|f| driver.close_file(f));
    }
    pub(super) fn add_file(
        &mut self,
        driver: &mut dyn Driver,
        path: &std::path::Path,
        create: bool,
    ) -> std::io::Result<FileId> {
        let file = driver.open(path, OpenOptions { create, write: true, direct: true })?;
        self.buffered |= !driver.is_direct(file);
        self.files.push(file);
        Ok(file)
    }

    /// Every record up to this ticket is on stable storage.
    pub fn durable(&self) -> Ticket {
        self.durable_ticket
    }
    /// Every record up to this ticket may be spoken of: it is durable, or on its way there when that is all that is asked for.
    pub fn granted(&self) -> Ticket {
        if self.options.durable { self.durable_ticket } else { self.last_ticket }
    }
    /// Which of the node's shards it belongs to.
    pub fn shard(&self) -> u16 {
        self.options.shard
    }
    /// What the log holds.
    pub fn index(&self) -> &Index {
        &self.index
    }
    /// Why the node must end, once it must.
    pub fn failed(&self) -> Option<&Fatal> {
        self.failed.as_ref()
    }
    /// The file system refused to go past the page cache: the log is as durable, but costs more CPU and memory.
    pub fn is_buffered(&self) -> bool {
        self.buffered
    }
    /// How many bytes of batches fit into what is prepared. It falls towards zero only when no segment can be made (disk full).
    pub fn room(&self) -> u64 {
        let spares = self.spares.iter().map(|s| s.room() as u64).sum::<u64>();
        spares + self.active().room() as u64
    }
    /// The same while it can only fall; there is always more while segments can be made.
    pub fn room_known(&self) -> u64 {
        if self.disk_full { self.room() } else { u64::MAX }
    }
    /// Whether making a segment failed for lack of space; tried again every second.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }
    /// Nothing is in flight, and nothing more needs writing.
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.sealed && self.held.is_none() && self.carry.is_empty()
    }
    pub(super) fn active(&self) -> &Segment {
        self.segments.back().expect("a log has a segment")
    }
    pub(super) fn token(&self, value: u64) -> Token {
        Token { agent: self.slot, value }
    }
    pub(super) fn file(&self, file: u16) -> FileId {
        self.files[file as usize - 1]
    }
    pub(super) fn path(&self, file: u16) -> PathBuf {
        segment::path(&self.options.directory, file)
    }

    /// Takes records from `source` while the window and the prepared segments have room, and submits them. Returns how many.
    pub fn append(&mut self, driver: &mut dyn Driver, source: &mut impl FnMut() -> Option<Stored>) -> usize {
        let mut taken = 0;
        while self.failed.is_none() {
            if self.held.is_none() {
                self.held = source();
                taken += usize::from(self.held.is_some());
            }
            if self.held.is_none() && self.carry.is_empty() {
                self.waiting_since = None;
                break;
            }
            self.waiting_since.get_or_insert(driver.now());
            if self.flights.len() == self.options.window {
                break;
            }
            let need = self.carry.front().or(self.held.as_ref()).map_or(0, record::record_bytes);
            let Some(building) = self.begin(driver, need) else { break };
            taken += self.fill_and_submit(driver, building, source);
        }
        taken
    }
    /// Writes a batch without records if the newest one's durability, or the oldest segment, is not yet written down. Returns whether
    /// it did.
    pub fn seal(&mut self, driver: &mut dyn Driver) -> bool {
        if self.failed.is_some() || self.sealed || !self.flights.is_empty() {
            return false;
        }
        let Some(building) = self.begin(driver, 0) else { return false };
        self.fill_and_submit(driver, building, &mut || None);
        self.figures.seals += 1;
        true
    }
    /// When `seal` is due. Not while it could do nothing: whoever waits for it would not sleep.
    pub fn seal_at(&self) -> Option<Instant> {
        let has_room = ALIGN <= self.active().room() || !self.spares.is_empty();
        if self.sealed || !self.flights.is_empty() || !has_room { None } else { self.seal_at }
    }

    /// A buffer for a batch whose first record takes `need` bytes; a new segment if it does not fit. `None` if there is none.
    fn begin(&mut self, driver: &mut dyn Driver, need: usize) -> Option<Building> {
        assert!(
            need <= record::batch_bytes(self.options.body_max),
            "a record is larger than `body_max` allows"
        );
        let first = (BATCH_HEADER + need).next_multiple_of(ALIGN);
        if self.active().room() < first {
            if self.spares.is_empty() {
                self.figures.stalls += 1;
                return None;
            }
            self.change_segment();
            // The preamble goes first now.
            return self.begin(driver, self.carry.front().map_or(need, record::record_bytes));
        }
        let limit = first.max(self.options.batch_bytes).min(self.active().room());
        let buffer = driver.buffer(limit);
        let last = self.chain;
        Some(Building { buffer, limit, used: BATCH_HEADER, records: 0, first_ticket: Ticket::ZERO, last })
    }
    fn change_segment(&mut self) {
        let next = self.spares.pop_front().expect("a spare");
        assert!(next.sequence == self.active().sequence + 1);
        self.segments.push_back(next);
        // What of the last preamble is still to be written goes with this one.
        self.carry = self.index.preamble().collect();
    }

    fn fill_and_submit(
        &mut self,
        driver: &mut dyn Driver,
        mut building: Building,
        source: &mut impl FnMut() -> Option<Stored>,
    ) -> usize {
        while let Some(stored) = pop_if(&mut self.carry, |s| building.fits(s)) {
            self.encode(&mut building, stored);
        }
        let mut taken = 0;
        while self.carry.is_empty() {
            if self.held.is_none() {
                self.held = source();
                taken += usize::from(self.held.is_some());
            }
            match self.held.take() {
                Some(stored) if building.fits(&stored) => {
                    assert!(self.last_ticket < stored.ticket, "tickets rise");
                    self.last_ticket = stored.ticket;
                    self.encode(&mut building, stored);
                }
                other => {
                    self.held = other;
                    break;
                }
            }
        }
        self.submit(driver, building);
        taken
    }
    fn encode(&mut self, building: &mut Building, stored: Stored) {
        let segment = self.segments.back_mut().expect("a log has a segment");
        let position = segment.end + building.used as u32;
        let at = At { segment: segment.sequence, position, batch: self.number + 1 };
        let bytes = record::record_bytes(&stored);
        let out = &mut building.buffer.space()[building.used..building.used + bytes];
        building.last = record::write_record(&self.keys, &stored, at, building.last, out);
        building.used += bytes;
        building.records += 1;
        if building.first_ticket == Ticket::ZERO {
            building.first_ticket = stored.ticket;
        }
        let (group, kind, place) = (stored.group, stored.kind, stored.place);
        match kind {
            RecordKind::Entry | RecordKind::Note | RecordKind::Value => segment.holds(group, place),
            RecordKind::Floor | RecordKind::Reset => self.floors.push_back((self.number + 1, group, place)),
            RecordKind::Vote | RecordKind::View => {}
        }
        let location = Location { segment: at.segment, position };
        let taken = self.index.take(group, kind, place, location, || Ok(stored));
        assert!(taken.is_ok(), "group {group}: {kind:?} at {place} leaves a hole");
    }

    fn submit(&mut self, driver: &mut dyn Driver, mut building: Building) {
        let now = driver.now();
        let length = building.used.next_multiple_of(ALIGN);
        building.buffer.len = length;
        building.buffer.space()[building.used..length].fill(0);
        let (oldest, segment) = (self.segments[0].sequence, self.segments.back_mut().expect("a segment"));
        self.number += 1;
        let header = BatchHeader {
            previous: self.chain,
            last: building.last,
            number: self.number,
            durable_through: self.durable_through,
            generation: self.options.generation,
            first_ticket: building.first_ticket.0,
            oldest,
            segment: segment.sequence,
            position: segment.end,
            length: length as u32,
            used: building.used as u32,
            records: building.records,
            files: self.named_count,
        };
        self.chain = header.write(&self.keys, building.buffer.space());
        let (file, offset) = (segment.file, u64::from(segment.end));
        segment.end += length as u32;
        if segment.opened_by == 0 && self.carry.is_empty() {
            segment.opened_by = self.number;
        }
        self.flights.push_back(Flight {
            number: self.number,
            done: false,
            last_ticket: self.last_ticket,
            oldest,
            end: Location { segment: segment.sequence, position: segment.end },
            submitted: now,
        });
        self.sealed = building.records == 0;
        self.figures.batches += 1;
        self.figures.records += u64::from(building.records);
        self.figures.bytes += length as u64;
        let waited = now.since(self.waiting_since.take().unwrap_or(now));
        self.figures.append.saturating_record(waited.as_nanos() as u64);
        let durable = self.options.durable && !canary::on(Canary::SyncSkipped);
        let op = Op::Write { file: self.file(file), offset, buffer: building.buffer, durable };
        driver.submit(op, self.token(self.number));
    }

    /// Takes a completion in.
    pub fn complete(&mut self, completion: Completion, driver: &mut dyn Driver) {
        if completion.token.value & FETCH != 0 {
            return self.fetched(completion, driver);
        }
        if completion.token.value & PREPARE != 0 {
            return self.prepared(completion.outcome, driver);
        }
        let index = (completion.token.value - self.flights[0].number) as usize;
        let flight = &mut self.flights[index];
        match completion.outcome {
            Outcome::Written(buffer) => {
                flight.done = true;
                let took = driver.now().since(flight.submitted);
                self.figures.sync.saturating_record(took.as_nanos() as u64);
                driver.release(buffer);
                self.advance(driver.now());
            }
            Outcome::Failed { .. } if canary::on(Canary::WriteErrorIgnored) => {
                flight.done = true;
                self.advance(driver.now());
            }
            Outcome::Failed { error, .. } => {
                let Location { segment, position } = flight.end;
                let file = self.path(self.file_of(segment).expect("a segment in flight is needed"));
                self.fail(Fatal::Write { file, offset: u64::from(position), error });
            }
            _ => unreachable!("a write completes as written or failed"),
        }
    }
    /// The number of the file that holds this segment, if it is still needed.
    pub(super) fn file_of(&self, sequence: u32) -> Option<u16> {
        let index = sequence.checked_sub(self.segments[0].sequence)?;
        self.segments.get(index as usize).map(|s| s.file)
    }
    pub(super) fn segment_bytes(&self, sequence: u32) -> u32 {
        self.segments[(sequence - self.segments[0].sequence) as usize].bytes
    }
    /// How many segments are needed.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }
    /// Bytes of the segments that are needed.
    pub fn needed_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.bytes)).sum()
    }
    /// What was wrong with the end that recovery has cut, if anything.
    pub fn torn(&self) -> Option<&str> {
        self.torn.as_deref()
    }
    /// The oldest place of a group that the log holds; 0 for none.
    pub fn first(&self, group: GroupId) -> Slot {
        let held = self.index.group(group).map(|group| group.places()).filter(|places| !places.is_empty());
        held.map_or(Slot::ZERO, |places| Slot(places.start))
    }
    pub(super) fn fail(&mut self, fatal: Fatal) {
        self.failed.get_or_insert(fatal);
    }
    /// Raises the watermark over all batches that are done without a gap.
    fn advance(&mut self, now: Instant) {
        if self.failed.is_some() {
            return;
        }
        while let Some(flight) = pop_if(&mut self.flights, |f| f.done) {
            self.durable_through = flight.number;
            self.durable_ticket = flight.last_ticket;
            self.durable_end = flight.end;
            self.oldest_stated = flight.oldest;
        }
        let through = self.durable_through;
        while let Some((_, group, place)) = pop_if(&mut self.floors, |(batch, ..)| *batch <= through) {
            self.index.floor_durable(group, place);
        }
        self.retire();
        if self.flights.is_empty() {
            self.seal_at = Some(now.after(self.options.seal_after));
        }
    }
}

impl Building {
    fn fits(&self, stored: &Stored) -> bool {
        self.used + record::record_bytes(stored) <= self.limit
    }
}
