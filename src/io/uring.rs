//! The io_uring driver: one ring a core, one wait for disk, network, timers and other cores. Its principal type is [`Uring`].
//!
//! What a turn costs is one `io_uring_enter`: `reap` submits what was queued and works out what has completed; `park` does the same
//! and sleeps. Without submissions or completions `reap` enters the kernel not at all. Receives and accepts are multishot; receive
//! buffers are shared by all sockets of the core; a send is one request however many parts it has; a durable write is one request
//! with `RWF_DSYNC`, since a linked sync would go to a worker thread each time and cost twice the CPU.
//!
//! It never blocks but in `park`, `open`, `sync_directory`, and for host names in `Connect` and `listen`.

mod address;
mod complete;
mod doorbell;
mod error;
mod files;
mod operations;
mod receive;
mod setup;
mod sockets;
mod start;
#[cfg(test)]
mod tests;

pub use error::DriverError;
pub use setup::{Capabilities, Mode, UringOptions};

use super::clock;
use super::driver::{Buffer, BufferId, Completion, Doorbell, Driver, Fd, FileId, Op, OpenOptions, Token};
use crate::base::{Instant, Stamp};
use crate::meter::Report;
use doorbell::Bell;
use error::Machine;
use files::{Files, Pool};
use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};
use operations::Operations;
use receive::ReceiveBuffers;
use sockets::{PausedAccept, Sockets};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Results of requests that nobody waits for: cancels, shutdowns, closes, time limits.
const IGNORED: u64 = u64::MAX;
/// Results of the poll of the doorbell's eventfd.
const BELL: u64 = u64::MAX - 1;
/// `io_uring_enter`: also work out what has completed.
const GET_EVENTS: u32 = 1;
/// Accepting goes on after this long when descriptors or memory ran out, or when a socket is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a driver has done so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// System calls `io_uring_enter`.
    pub enters: u64,
    /// Of these, ones that could sleep.
    pub parks: u64,
    /// Requests given to the kernel.
    pub submissions: u64,
    /// Results taken from it.
    pub completions: u64,
    /// Receives that found no buffer and had to be armed anew.
    pub buffers_exhausted: u64,
    /// Connections refused or put off because descriptors, memory or places ran out.
    pub accepts_put_off: u64,
    /// Rings of the doorbell that were answered.
    pub rings: u64,
}

/// A result as the kernel gives it.
#[derive(Clone, Copy)]
struct Raw {
    name: u64,
    result: i32,
    flags: u32,
}

/// The data plane's road to the kernel. Made and used on one thread.
pub struct Uring {
    ring: IoUring,
    capabilities: Capabilities,
    spin: bool,
    now: Instant,
    clock: Stamp,
    sockets: Sockets,
    files: Files,
    pool: Pool,
    buffers: ReceiveBuffers,
    operations: Operations,
    bell: Bell,
    /// Taken from the kernel, not yet worked out.
    raw: Vec<Raw>,
    /// Completions that need no kernel: refusals, empty sends.
    ready: VecDeque<Completion>,
    paused: Vec<PausedAccept>,
    /// When the paused accepts go on. Running while `paused` is not empty.
    resume_at: Instant,
    counters: Counters,
}

impl Uring {
    /// Makes the ring of the calling thread, in the best mode that the kernel offers.
    pub fn new(options: UringOptions) -> Result<Uring, DriverError> {
        let (ring, mut capabilities) = setup::build(&options)?;
        let explain = |what, error| Machine::look().explain(what, error);
        let buffers = ReceiveBuffers::new(&ring, options.receive_buffers, options.receive_bytes)
            .map_err(|error| explain("receive buffers", error))?;
        let pool = Pool::new(&ring, options.write_buffers, options.write_bytes)
            .map_err(|error| explain("registered write buffers", error))?;
        let bell = Bell::new().map_err(|error| explain("the doorbell", error))?;
        capabilities.registered_bytes = pool.registered_bytes();
        let mut uring = Uring {
            ring,
            capabilities,
            spin: options.spin,
            now: Instant::ZERO,
            clock: Stamp::ZERO,
            sockets: Sockets::default(),
            files: Files::default(),
            pool,
            buffers,
            operations: Operations::default(),
            bell,
            raw: Vec::with_capacity(options.completions as usize),
            ready: VecDeque::new(),
            paused: Vec::new(),
            resume_at: Instant::ZERO,
            counters: Counters::default(),
        };
        uring.refresh();
        uring.arm_bell();
        Ok(uring)
    }

    /// What this machine's kernel offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The same for metrics.
    fn count(&self, core: &str, to: &mut dyn Report) {
        let Counters { enters, parks, submissions, completions, buffers_exhausted, accepts_put_off, rings } =
            self.counters;
        let labels = &[("core", core)];
        for (name, help, value) in [
            ("quorate_ring_enters_total", "System calls io_uring_enter.", enters),
            ("quorate_ring_parks_total", "Of these, ones that could sleep.", parks),
            ("quorate_ring_submissions_total", "Requests given to the kernel.", submissions),
            ("quorate_ring_completions_total", "Results taken from the kernel.", completions),
            ("quorate_ring_wakes_total", "Times that another core woke this one.", rings),
            (
                "quorate_ring_buffers_exhausted_total",
                "Receives that found no buffer and were armed anew.",
                buffers_exhausted,
            ),
            (
                "quorate_ring_accepts_put_off_total",
                "Connections refused or put off for want of descriptors, memory or places.",
                accepts_put_off,
            ),
        ] {
            to.counter(name, help, labels, value);
        }
    }

    fn refresh(&mut self) {
        self.now = clock::monotonic();
        self.clock = clock::wall();
    }

    fn arm_bell(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.bell.descriptor()), libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(BELL));
    }

    /// Queues a request; enters the kernel when the queue is full.
    fn push(&mut self, entry: Entry) {
        self.counters.submissions += 1;
        // SAFETY: whatever the entry points to is kept by `operations`, `buffers`, `pool` or `bell` until its last result has come;
        // `Drop` waits for that.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enter(0, None);
        }
    }

    /// Makes room for `count` requests that must stand together.
    fn make_room(&mut self, count: usize) {
        loop {
            let queue = self.ring.submission();
            if count <= queue.capacity() - queue.len() {
                return;
            }
            drop(queue);
            self.enter(0, None);
        }
    }

    /// Submits what is queued, works out what has completed, and waits for `want` results, at most for `limit`.
    fn enter(&mut self, want: u32, limit: Option<Duration>) {
        self.counters.enters += 1;
        let entered = match limit {
            Some(limit) => {
                let limit = types::Timespec::from(limit);
                let arguments = types::SubmitArgs::new().timespec(&limit);
                self.ring.submitter().submit_with_args(want as usize, &arguments)
            }
            None => {
                let queued = self.ring.submission().len() as u32;
                // SAFETY: the flag needs no argument, and none is passed.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, want, GET_EVENTS, None) }
            }
        };
        match entered.as_ref().map_err(io::Error::raw_os_error) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EAGAIN)) => {}
            // The kernel holds results back because their queue is full: take them, so that the next call goes through.
            Err(Some(libc::EBUSY)) => self.collect(),
            Err(_) => panic!("io_uring_enter failed: {entered:?}"),
        }
    }

    /// Takes the results that are there.
    fn collect(&mut self) {
        let before = self.raw.len();
        let results = self.ring.completion();
        self.raw.extend(results.map(|result| Raw {
            name: result.user_data(),
            result: result.result(),
            flags: result.flags(),
        }));
        self.counters.completions += (self.raw.len() - before) as u64;
    }

    /// Whether entering the kernel would do anything.
    fn has_kernel_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    fn has_results(&mut self) -> bool {
        !self.ready.is_empty() || !self.raw.is_empty() || !self.ring.completion().is_empty()
    }

    /// Sleeps until something happens, at most until `until`.
    fn sleep(&mut self, until: Option<Instant>) {
        let limit = until.map(|until| until.since(clock::monotonic()));
        if limit == Some(Duration::ZERO) || !self.bell.sleep() {
            return self.enter(0, None);
        }
        self.counters.parks += 1;
        self.enter(1, limit);
        self.bell.wake();
    }

    /// Polls until something happens, at most until `until`. Costs the core.
    fn poll(&mut self, until: Option<Instant>) {
        loop {
            if self.has_kernel_work() {
                self.enter(0, None);
            }
            let late = until.is_some_and(|until| until <= clock::monotonic());
            if late || self.bell.heard() || self.has_results() {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn resume_accepts(&mut self) {
        for paused in std::mem::take(&mut self.paused) {
            self.start_accept(paused.listener, paused.token);
        }
    }
}

impl Driver for Uring {
    fn now(&self) -> Instant {
        self.now
    }
    fn fresh(&self) -> Instant {
        clock::monotonic()
    }
    fn clock(&self) -> Stamp {
        self.clock
    }

    fn listen(&mut self, address: &str) -> io::Result<Fd> {
        let listener = address::listen(address)?;
        self.sockets.insert(listener).map_err(|_| io::Error::other(sockets_exhausted()))
    }
    fn local_address(&self, fd: Fd) -> io::Result<String> {
        let descriptor = self.sockets.descriptor(fd).ok_or(io::ErrorKind::NotConnected)?;
        address::name(descriptor, address::End::Local)
    }
    fn peer_address(&self, fd: Fd) -> io::Result<String> {
        let descriptor = self.sockets.descriptor(fd).ok_or(io::ErrorKind::NotConnected)?;
        address::name(descriptor, address::End::Peer)
    }

    fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<FileId> {
        self.files.open(path, options)
    }
    fn is_direct(&self, file: FileId) -> bool {
        self.files.is_direct(file)
    }
    fn file_len(&self, file: FileId) -> io::Result<u64> {
        self.files.len(file)
    }
    fn close_file(&mut self, file: FileId) {
        self.files.close(file);
    }
    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn buffer(&mut self, capacity: usize) -> Buffer {
        self.pool.take(capacity)
    }
    fn release(&mut self, buffer: Buffer) {
        self.pool.give(buffer);
    }

    fn submit(&mut self, op: Op, token: Token) {
        self.start(op, token);
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        self.counters.rings += u64::from(self.bell.answer());
        if !self.paused.is_empty() && self.resume_at <= self.now {
            self.resume_accepts();
        }
        self.feed();
        if self.has_kernel_work() {
            self.enter(0, None);
        }
        self.refresh();
        self.collect();
        let mut raw = std::mem::take(&mut self.raw);
        raw.drain(..).for_each(|result| self.complete(result, out));
        self.raw = raw;
        while let Some(buffer) = self.buffers.unwanted.pop() {
            self.buffers.recycle(buffer);
        }
        out.extend(self.ready.drain(..));
    }

    fn park(&mut self, until: Option<Instant>) {
        let resume_at = (!self.paused.is_empty()).then_some(self.resume_at);
        let until = until.into_iter().chain(resume_at).min();
        self.feed();
        if self.has_results() {
            if self.has_kernel_work() {
                self.enter(0, None);
            }
        } else if self.spin {
            self.poll(until);
        } else {
            self.sleep(until);
        }
        self.refresh();
    }

    fn received(&self, buffer: BufferId, len: usize) -> &[u8] {
        self.buffers.bytes(buffer.0, len)
    }
    fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer.0);
    }
    fn report(&self, core: &str, to: &mut dyn Report) {
        self.count(core, to);
    }
    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::new(self.bell.clone())
    }
}

impl Drop for Uring {
    /// The kernel may write into memory of ours as long as an operation is outstanding, so they are all ended first.
    fn drop(&mut self) {
        let everything = types::CancelBuilder::any().all();
        self.sockets.open().into_iter().for_each(|fd| self.close(fd));
        self.push(opcode::AsyncCancel2::new(everything).build().user_data(IGNORED));
        let mut dropped = Vec::new();
        while 0 < self.operations.outstanding() {
            self.enter(1, None);
            self.reap(&mut dropped);
            dropped.clear();
        }
        self.enter(0, None);
        // Failing leaves the ring's own teardown to do it; the memory is only read by the kernel then.
        let _ = self.ring.submitter().unregister_buf_ring(receive::GROUP);
    }
}

fn sockets_exhausted() -> String {
    format!("a core has at most {} sockets", sockets::SOCKETS_MAX)
}
