//! A driver over files in memory, with the faults of a real disk: the seed of the simulator's disk.
//!
//! [`Disk`] outlives the [`MemoryDriver`]s that use it, as a disk outlives processes. It tells apart what a reader sees and what is
//! on stable storage: a write that was not durable, and one that has not completed, survives a loss of power sector by sector or not
//! at all; a killed process loses only what it had not handed over. It knows files only; sockets are refused.

use super::driver::{ALIGN, Buffer, BufferId, Doorbell, OpenOptions};
use super::{Completion, Driver, Fd, FileId, Op, Outcome, Token};
use crate::base::{Instant, Prng, Stamp};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a disk writes at once, in bytes.
pub const SECTOR: usize = 512;

const ENOSPC: i32 = 28;

/// Files that outlive the process.
#[derive(Default)]
pub struct Disk {
    files: BTreeMap<PathBuf, File>,
    /// Writes that were submitted and have not completed, oldest first.
    in_flight: BTreeMap<u64, Pending>,
    submitted: u64,
    /// Bytes that all files together may hold.
    capacity: Option<u64>,
    /// Errors for the next writes.
    faults: Vec<i32>,
    /// Whether files open past the page cache.
    buffered: bool,
}

#[derive(Default)]
struct File {
    /// What a reader sees.
    content: Vec<u8>,
    /// What a loss of power leaves when no pending write survives.
    stable: Vec<u8>,
    /// Completed writes that nobody made durable.
    pending: Vec<Pending>,
    /// Its directory entry is durable.
    named: bool,
}

#[derive(Clone)]
struct Pending {
    path: PathBuf,
    offset: u64,
    bytes: Vec<u8>,
}

/// A sector of a write whose fate a loss of power decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sector {
    /// Counts the writes that were pending, oldest first.
    pub write: usize,
    /// Counts the sectors of that write.
    pub index: usize,
}

/// What a sector holds after a loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// What was there before.
    Old,
    /// What was being written.
    New,
    /// Neither.
    Garbage,
}

impl Disk {
    /// The names of a directory's files outlive the power from now on.
    fn name_files_of(&mut self, directory: &Path) {
        let inside = self.files.iter_mut().filter(|(name, _)| name.parent() == Some(directory));
        inside.for_each(|(_, file)| file.named = true);
    }
    /// An empty disk, to be shared by the drivers of one node's lives.
    pub fn shared() -> Rc<RefCell<Disk>> {
        Rc::default()
    }
    /// Loses power: of all that was not durable, `fate` decides sector by sector.
    pub fn lose_power(&mut self, fate: &mut dyn FnMut(Sector) -> Survival) {
        self.files.retain(|_, f| f.named);
        let mut pending: Vec<Pending> = Vec::new();
        self.files.values_mut().for_each(|f| pending.append(&mut f.pending));
        pending.extend(std::mem::take(&mut self.in_flight).into_values());
        for (write, p) in pending.iter().enumerate() {
            let Some(file) = self.files.get_mut(&p.path) else { continue };
            for (index, sector) in p.bytes.chunks(SECTOR).enumerate() {
                let at = p.offset + (index * SECTOR) as u64;
                match fate(Sector { write, index }) {
                    Survival::Old => {}
                    Survival::New => put(&mut file.stable, at, sector),
                    Survival::Garbage => put(&mut file.stable, at, &vec![0xA5; sector.len()]),
                }
            }
        }
        self.files.values_mut().for_each(|f| f.content.clone_from(&f.stable));
    }
    /// Kills the process: completed writes stay readable, of those in flight `done` says which were carried out.
    pub fn kill(&mut self, done: &mut dyn FnMut(usize) -> bool) {
        for (index, p) in std::mem::take(&mut self.in_flight).into_values().enumerate() {
            if done(index) {
                self.carry_out(p, false);
            }
        }
    }
    /// Numbers of writes in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
    /// Lets all files together hold at most `bytes` (`None` for any number).
    pub fn limit(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }
    /// Lets the next write fail with this error number.
    pub fn fail_next_write(&mut self, errno: i32) {
        self.faults.push(errno);
    }
    /// Refuses direct I/O from now on.
    pub fn refuse_direct(&mut self) {
        self.buffered = true;
    }
    /// What a reader sees of a file.
    pub fn content(&self, path: &Path) -> Option<&[u8]> {
        self.files.get(path).map(|f| &f.content[..])
    }
    /// Names of the files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }
    /// Changes a file behind everyone's back, durably: bit rot, misdirected writes.
    pub fn tamper(&mut self, path: &Path, change: &mut dyn FnMut(&mut Vec<u8>)) {
        let file = self.files.get_mut(path).expect("a file to tamper with");
        change(&mut file.content);
        change(&mut file.stable);
    }
    /// Removes a file, durably.
    pub fn remove(&mut self, path: &Path) {
        self.files.remove(path);
    }
    /// A disk that holds the same, with nothing in flight.
    pub fn copy(&self) -> Disk {
        let files = self.files.iter().map(|(path, f)| (path.clone(), f.copy())).collect();
        Disk { files, in_flight: self.in_flight.clone(), ..Disk::default() }
    }

    fn begin(&mut self, pending: Pending) -> u64 {
        self.submitted += 1;
        self.in_flight.insert(self.submitted, pending);
        self.submitted
    }
    fn finish(&mut self, id: u64, durable: bool) -> io::Result<()> {
        // A write that a crash has already decided about belongs to a process that is no more.
        let pending = self.in_flight.remove(&id).ok_or(io::ErrorKind::BrokenPipe)?;
        if !self.faults.is_empty() {
            return Err(io::Error::from_raw_os_error(self.faults.remove(0)));
        }
        let end = pending.offset + pending.bytes.len() as u64;
        let held: u64 = self.files.values().map(|f| f.content.len() as u64).sum();
        let grows = end.saturating_sub(self.files[&pending.path].content.len() as u64);
        if self.capacity.is_some_and(|most| 0 < grows && most < held + grows) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.carry_out(pending, durable);
        Ok(())
    }
    fn carry_out(&mut self, pending: Pending, durable: bool) {
        let Some(file) = self.files.get_mut(&pending.path) else { return };
        put(&mut file.content, pending.offset, &pending.bytes);
        if durable {
            put(&mut file.stable, pending.offset, &pending.bytes);
            let older = std::mem::take(&mut file.pending);
            file.pending = older.into_iter().flat_map(|p| p.outside(&pending)).collect();
        } else {
            file.pending.push(pending);
        }
    }
}

impl Pending {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
    /// What of this write lies before and after `other`, which has overwritten the rest for good.
    fn outside(self, other: &Pending) -> Vec<Pending> {
        if self.end() <= other.offset || other.end() <= self.offset {
            return vec![self];
        }
        let part = |from: u64, to: u64| {
            let bytes = &self.bytes[(from - self.offset) as usize..(to.max(from) - self.offset) as usize];
            Pending { path: self.path.clone(), offset: from, bytes: bytes.to_vec() }
        };
        let before = part(self.offset, self.end().min(other.offset));
        let after = part(self.offset.max(other.end()).min(self.end()), self.end());
        [before, after].into_iter().filter(|p| !p.bytes.is_empty()).collect()
    }
}

impl File {
    fn copy(&self) -> File {
        let (content, stable) = (self.content.clone(), self.stable.clone());
        File { content, stable, pending: self.pending.clone(), named: self.named }
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if content.len() < to {
        content.resize(to, 0);
    }
    content[from..to].copy_from_slice(bytes);
}

/// When operations complete.
pub enum Order {
    /// All at the next `reap`, in the order submitted.
    Submitted,
    /// Some at a `reap`, in an order drawn from the seed.
    Shuffled(Prng),
    /// None, until the test says so (`MemoryDriver::finish`).
    Held,
}

/// A driver over a [`Disk`]. Its clock stands still but for `park` and `advance`.
pub struct MemoryDriver {
    disk: Rc<RefCell<Disk>>,
    order: Order,
    files: Vec<Option<PathBuf>>,
    direct: bool,
    waiting: Vec<Waiting>,
    finished: Vec<Completion>,
    /// How many more writes complete before the process is as good as dead.
    writes_left: Option<usize>,
    now: Instant,
}

struct Waiting {
    /// Of the disk, for writes.
    id: Option<u64>,
    op: Op,
    token: Token,
}

impl MemoryDriver {
    /// A driver that completes everything at the next `reap`.
    pub fn new(disk: Rc<RefCell<Disk>>) -> MemoryDriver {
        let direct = !disk.borrow().buffered;
        let (order, files, waiting, finished) = (Order::Submitted, Vec::new(), Vec::new(), Vec::new());
        MemoryDriver { disk, order, files, direct, waiting, finished, writes_left: None, now: Instant::ZERO }
    }
    /// Says when operations complete.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }
    /// Lets the process die during the write that follows the next `writes`: it and all later ones fail, and stay in flight for the
    /// crash to decide about.
    pub fn die_after(&mut self, writes: usize) {
        self.writes_left = Some(writes);
    }
    /// Whether such a write has come.
    pub fn has_died(&self) -> bool {
        self.writes_left == Some(usize::MAX)
    }
    /// Number of operations that have not completed.
    pub fn outstanding(&self) -> usize {
        self.waiting.len()
    }
    /// Completes the outstanding operation at `index`, counted in the order submitted.
    pub fn finish(&mut self, index: usize) {
        let waiting = self.waiting.remove(index);
        let completion = self.carry_out(waiting);
        self.finished.push(completion);
    }
    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    /// Counts a write.
    fn is_dead(&mut self) -> bool {
        match &mut self.writes_left {
            Some(0 | usize::MAX) => self.writes_left = Some(usize::MAX),
            Some(left) => *left -= 1,
            None => {}
        }
        self.has_died()
    }
    fn path(&self, file: FileId) -> &PathBuf {
        self.files[file.0 as usize].as_ref().expect("a file that is open")
    }
    fn carry_out(&mut self, waiting: Waiting) -> Completion {
        let outcome = match waiting.op {
            Op::Write { buffer, .. } if self.is_dead() => {
                Outcome::Failed { error: io::ErrorKind::BrokenPipe.into(), buffer: Some(buffer) }
            }
            Op::Write { buffer, durable, .. } => {
                match self.disk.borrow_mut().finish(waiting.id.expect("writes have an id"), durable) {
                    Ok(()) => Outcome::Written(buffer),
                    Err(error) => Outcome::Failed { error, buffer: Some(buffer) },
                }
            }
            Op::Read { file, offset, len, mut buffer } => {
                let disk = self.disk.borrow();
                let content = &disk.files[self.path(file)].content;
                let from = (offset as usize).min(content.len());
                let count = len.min(content.len() - from);
                buffer.space()[..count].copy_from_slice(&content[from..from + count]);
                buffer.len = count;
                Outcome::Read(buffer)
            }
            Op::SyncDirectory { .. } if self.has_died() => {
                Outcome::Failed { error: io::ErrorKind::BrokenPipe.into(), buffer: None }
            }
            Op::SyncDirectory { path } => {
                self.disk.borrow_mut().name_files_of(&path);
                Outcome::Synced
            }
            _ => Outcome::Failed { error: io::ErrorKind::Unsupported.into(), buffer: None },
        };
        Completion { token: waiting.token, outcome, last: true }
    }
}

fn files_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this driver knows files only"))
}

impl Driver for MemoryDriver {
    fn now(&self) -> Instant {
        self.now
    }
    fn clock(&self) -> Stamp {
        Stamp(self.now.0 / 1_000_000)
    }
    fn listen(&mut self, _: &str) -> io::Result<Fd> {
        files_only()
    }
    fn local_address(&self, _: Fd) -> io::Result<String> {
        files_only()
    }
    fn peer_address(&self, _: Fd) -> io::Result<String> {
        files_only()
    }
    fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<FileId> {
        let mut disk = self.disk.borrow_mut();
        if !disk.files.contains_key(path) {
            if !options.create {
                return Err(io::ErrorKind::NotFound.into());
            }
            disk.files.insert(path.to_path_buf(), File::default());
        }
        self.files.push(Some(path.to_path_buf()));
        Ok(FileId(self.files.len() as u32 - 1))
    }
    fn is_direct(&self, _: FileId) -> bool {
        self.direct
    }
    fn file_len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.disk.borrow().files[self.path(file)].content.len() as u64)
    }
    fn close_file(&mut self, file: FileId) {
        self.files[file.0 as usize].take().expect("a file that is open");
    }
    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.borrow_mut().name_files_of(path);
        Ok(())
    }
    fn buffer(&mut self, capacity: usize) -> Buffer {
        Buffer::unregistered(capacity)
    }
    fn release(&mut self, _: Buffer) {}
    fn submit(&mut self, op: Op, token: Token) {
        let mut id = None;
        if let Op::Write { file, offset, buffer, .. } = &op {
            if self.direct {
                assert!(offset.is_multiple_of(ALIGN as u64) && buffer.len.is_multiple_of(ALIGN));
            }
            let path = self.path(*file).clone();
            let pending = Pending { path, offset: *offset, bytes: buffer.bytes().to_vec() };
            id = Some(self.disk.borrow_mut().begin(pending));
        }
        self.waiting.push(Waiting { id, op, token });
    }
    fn reap(&mut self, out: &mut Vec<Completion>) {
        let count = match &mut self.order {
            Order::Submitted => self.waiting.len(),
            Order::Shuffled(prng) => prng.below(self.waiting.len() as u64 + 1) as usize,
            Order::Held => 0,
        };
        for _ in 0..count {
            let index = match &mut self.order {
                Order::Shuffled(prng) => prng.below(self.waiting.len() as u64) as usize,
                _ => 0,
            };
            self.finish(index);
        }
        out.append(&mut self.finished);
    }
    fn park(&mut self, until: Option<Instant>) {
        if self.waiting.is_empty() && self.finished.is_empty() {
            self.now = self.now.max(until.unwrap_or(self.now));
        }
    }
    fn received(&self, _: BufferId, _: usize) -> &[u8] {
        &[]
    }
    fn recycle(&mut self, _: BufferId) {}
    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::new(Silent)
    }
}

struct Silent;
impl Doorbell for Silent {
    fn ring(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(driver: &mut MemoryDriver, file: FileId, offset: u64, byte: u8, durable: bool) {
        let mut buffer = driver.buffer(ALIGN);
        buffer.space().fill(byte);
        buffer.len = ALIGN;
        driver.submit(Op::Write { file, offset, buffer, durable }, Token { agent: 0, value: 0 });
    }
    fn fresh() -> (Rc<RefCell<Disk>>, MemoryDriver, FileId) {
        let disk = Disk::shared();
        let mut driver = MemoryDriver::new(disk.clone());
        let create = OpenOptions { create: true, write: true, direct: true };
        let file = driver.open(Path::new("d/f"), create).unwrap();
        driver.sync_directory(Path::new("d")).unwrap();
        (disk, driver, file)
    }
    fn seen(disk: &Rc<RefCell<Disk>>) -> Vec<u8> {
        disk.borrow().content(Path::new("d/f")).unwrap().iter().step_by(SECTOR).copied().collect()
    }

    #[test]
    fn power_loss_decides_by_the_sector_about_what_was_not_durable() {
        let (disk, mut driver, file) = fresh();
        write(&mut driver, file, 0, 1, true);
        driver.reap(&mut Vec::new());
        write(&mut driver, file, 0, 2, false);
        driver.reap(&mut Vec::new());
        assert_eq!(seen(&disk), [2; 8]);
        disk.borrow_mut().lose_power(&mut |s| match s.index {
            0 => Survival::New,
            1 => Survival::Garbage,
            _ => Survival::Old,
        });
        assert_eq!(seen(&disk), [2, 0xA5, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_durable_write_settles_what_it_overwrites() {
        let (disk, mut driver, file) = fresh();
        write(&mut driver, file, 0, 1, false);
        write(&mut driver, file, ALIGN as u64, 1, false);
        write(&mut driver, file, 0, 2, true);
        driver.reap(&mut Vec::new());
        disk.borrow_mut().lose_power(&mut |_| Survival::New);
        assert_eq!(seen(&disk), [[2; 8], [1; 8]].concat());
    }

    #[test]
    fn a_kill_keeps_completed_writes_and_some_of_those_in_flight_but_makes_none_durable() {
        let (disk, mut driver, file) = fresh();
        driver.set_order(Order::Held);
        write(&mut driver, file, 0, 1, true);
        driver.finish(0);
        write(&mut driver, file, 0, 2, true);
        write(&mut driver, file, 0, 3, true);
        disk.borrow_mut().kill(&mut |write| write == 0);
        assert_eq!(seen(&disk), [2; 8]);
        disk.borrow_mut().lose_power(&mut |_| Survival::Old);
        assert_eq!(seen(&disk), [1; 8]);
    }

    #[test]
    fn a_file_whose_name_was_not_synced_is_lost() {
        let disk = Disk::shared();
        let mut driver = MemoryDriver::new(disk.clone());
        let create = OpenOptions { create: true, write: true, direct: true };
        driver.open(Path::new("d/f"), create).unwrap();
        disk.borrow_mut().lose_power(&mut |_| Survival::New);
        assert_eq!(disk.borrow().paths(), Vec::<PathBuf>::new());
    }

    #[test]
    fn errors_come_when_asked_for_and_when_full() {
        let (disk, mut driver, file) = fresh();
        let mut outcomes = |prepare: &dyn Fn(&mut Disk)| {
            prepare(&mut disk.borrow_mut());
            write(&mut driver, file, 0, 1, true);
            let mut out = Vec::new();
            driver.reap(&mut out);
            match out.remove(0).outcome {
                Outcome::Failed { error, .. } => error.raw_os_error(),
                _ => None,
            }
        };
        assert_eq!(outcomes(&|d| d.fail_next_write(5)), Some(5));
        assert_eq!(outcomes(&|d| d.limit(Some(4095))), Some(ENOSPC));
        assert_eq!(outcomes(&|d| d.limit(None)), None);
    }
}
