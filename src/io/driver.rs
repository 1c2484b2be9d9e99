//! The seam between the data plane and the kernel: submit operations, reap completions, park until something happens.
//!
//! One driver a core, used by that core's thread only. What a caller does not get is an order: completions come in any order, and
//! nothing says that a send has arrived. Every operation but `Close` and `StopReceive` completes exactly once, multishot ones once a
//! happening and once more, with `last` set, when they end.

use crate::base::{Instant, Stamp};
use crate::meter::Report;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// A socket, named by the driver. Never reused while a completion of it may still come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Fd(pub u32);

/// An open file, named by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FileId(pub u32);

/// A receive buffer of the driver, lent until `recycle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferId(pub u16);

/// The caller's name for an operation: the agent's place on its thread, and whatever the agent likes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Token {
    /// Which agent of the thread hears of the completion.
    pub agent: u8,
    /// The agent's own.
    pub value: u64,
}

/// Memory for files: aligned for direct I/O (`Driver::buffer`), with a length of its own. Zero-filled when new; what the last user
/// left inside when recycled.
pub struct Buffer {
    /// Aligned to `ALIGN` bytes, `capacity` long.
    pub(crate) memory: AlignedMemory,
    /// How many bytes count, from the start.
    pub len: usize,
    /// Index of the registered buffer, if it is one.
    pub(crate) registered: Option<u16>,
}

/// What direct I/O asks of memory, offsets and lengths, in bytes. Devices with 512-byte sectors accept it too.
pub const ALIGN: usize = 4096;

/// A page-aligned block of memory.
pub struct AlignedMemory {
    blocks: Box<[Block]>,
}

#[derive(Clone)]
#[repr(align(4096))]
struct Block {
    _bytes: [u8; ALIGN],
}

impl AlignedMemory {
    /// Zeroed memory of at least `bytes`, rounded up to whole blocks.
    pub fn zeroed(bytes: usize) -> AlignedMemory {
        AlignedMemory { blocks: vec![Block { _bytes: [0; ALIGN] }; bytes.div_ceil(ALIGN)].into_boxed_slice() }
    }
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: blocks are plain bytes without padding (size is ALIGN, a multiple of the alignment), laid out one after another.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.blocks.len() * ALIGN) }
    }
    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.blocks.len() * ALIGN) }
    }
}

impl Buffer {
    /// An unregistered buffer of at least `capacity` bytes and length zero.
    pub fn unregistered(capacity: usize) -> Buffer {
        Buffer { memory: AlignedMemory::zeroed(capacity), len: 0, registered: None }
    }
    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.memory.bytes().len()
    }
    /// The bytes that count.
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.len]
    }
    /// All bytes up to the capacity, for writing into; set `len` afterwards.
    pub fn space(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }
}

/// Something for the kernel to do.
pub enum Op {
    /// Accept connections, again and again (multishot): `Accepted` each.
    Accept {
        /// From `Driver::listen`.
        listener: Fd,
    },
    /// Connect to a peer: `Connected`. A host name is looked up at once, which blocks; numbers and paths do not.
    Connect {
        /// `host:port`, or a path (Unix socket).
        address: String,
    },
    /// Receive, again and again (multishot): `Received` each; `Closed` at the end of the stream.
    Receive {
        /// The socket.
        fd: Fd,
    },
    /// Stop receiving on this socket: the multishot receive ends with `last`, after what had come by then. Used for back-pressure;
    /// `Receive` starts it anew, once `Closed { stopped: true }` has come. Nothing happens when no receive is outstanding.
    StopReceive {
        /// The socket.
        fd: Fd,
    },
    /// Send all the parts, in order and whole: `Sent`. At most one outstanding send a socket.
    Send {
        /// The socket.
        fd: Fd,
        /// What to send; kept alive by the driver until it is done.
        parts: Vec<Bytes>,
    },
    /// Shut both directions down and forget the socket. Outstanding operations of it end with an error, and what was received and
    /// not yet reaped is dropped. No completion.
    Close {
        /// The socket.
        fd: Fd,
    },
    /// Write `buffer` (its `len` bytes) at `offset`: `Written`, which gives the buffer back.
    Write {
        /// The file.
        file: FileId,
        /// In bytes; a multiple of `ALIGN` for direct files.
        offset: u64,
        /// A whole number of `ALIGN` blocks for direct files.
        buffer: Buffer,
        /// Complete only when the bytes are on stable storage (`RWF_DSYNC`).
        durable: bool,
    },
    /// Read into `buffer` up to `len` bytes from `offset`: `Read`, which gives the buffer back with what was read.
    Read {
        /// The file.
        file: FileId,
        /// In bytes.
        offset: u64,
        /// A multiple of `ALIGN` for direct files.
        len: usize,
        /// Holds at least `len` bytes.
        buffer: Buffer,
    },
    /// Make a directory's entries durable (after a file was made, renamed or removed): `Synced`. On a file system with a journal this
    /// waits for a commit, beside the loop.
    SyncDirectory {
        /// The directory.
        path: std::path::PathBuf,
    },
}

/// Something that has happened.
pub struct Completion {
    /// Whose operation it was.
    pub token: Token,
    /// What came of it.
    pub outcome: Outcome,
    /// The operation is over; false only for multishot operations that go on.
    pub last: bool,
}

/// What came of an operation.
pub enum Outcome {
    /// A connection came in.
    Accepted(Fd),
    /// A connection was made.
    Connected(Fd),
    /// Bytes came in: read them with `Driver::received`, then give the buffer back with `Driver::recycle`.
    Received {
        /// The buffer.
        buffer: BufferId,
        /// How many bytes of it count.
        len: usize,
    },
    /// The peer closed its side, or the receive was stopped (`StopReceive`; then `stopped`).
    Closed {
        /// By `StopReceive`, not by the peer.
        stopped: bool,
    },
    /// Everything was handed to the kernel. The vector comes back empty, for its capacity.
    Sent {
        /// Number of bytes.
        bytes: usize,
        /// To be used again.
        parts: Vec<Bytes>,
    },
    /// The buffer was written whole.
    Written(Buffer),
    /// `buffer.len` bytes were read (fewer than asked at the end of the file).
    Read(Buffer),
    /// The directory's entries are durable.
    Synced,
    /// It failed; file operations give their buffer back.
    Failed {
        /// Why.
        error: io::Error,
        /// The buffer of a file operation.
        buffer: Option<Buffer>,
    },
}

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Make it when it is not there.
    pub create: bool,
    /// For writing too.
    pub write: bool,
    /// Past the page cache (`O_DIRECT`). When the file system refuses, the file is opened buffered and `Driver::is_direct` says so.
    pub direct: bool,
}

/// Wakes a parked driver from another thread. Cheap when it is not parked.
pub trait Doorbell: Send + Sync {
    /// Makes the driver's current or next `park` return.
    fn ring(&self);
}

/// Starts listening for `whom` on `address`; an error says so.
pub fn listen_for(whom: &str, address: &str, driver: &mut dyn Driver) -> io::Result<Fd> {
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen for {whom} on {address}: {error}"))
    };
    driver.listen(address).map_err(told)
}

/// The data plane's road to the kernel. One a core; the thread that made it uses it.
pub trait Driver {
    /// This node's monotonic clock, read once a turn (`reap` and `park` refresh it).
    fn now(&self) -> Instant;
    /// The monotonic clock, read anew: for timing what happens within a turn. Never for decisions, which all go by `now`.
    fn fresh(&self) -> Instant {
        self.now()
    }
    /// This node's wall clock, refreshed with `now`.
    fn clock(&self) -> Stamp;

    /// Starts listening on `host:port`, or a path. Port 0 takes any; `local_address` tells which.
    fn listen(&mut self, address: &str) -> io::Result<Fd>;
    /// The address that a listener or connection is bound to.
    fn local_address(&self, fd: Fd) -> io::Result<String>;
    /// The address of the other side of a connection.
    fn peer_address(&self, fd: Fd) -> io::Result<String>;

    /// Opens a file. Blocks: for start-up, and for segments that are prepared ahead of their use.
    fn open(&mut self, path: &std::path::Path, options: OpenOptions) -> io::Result<FileId>;
    /// Whether the file is past the page cache.
    fn is_direct(&self, file: FileId) -> bool;
    /// The file's length in bytes.
    fn file_len(&self, file: FileId) -> io::Result<u64>;
    /// Closes a file that has no outstanding operation.
    fn close_file(&mut self, file: FileId);
    /// What `Op::SyncDirectory` does, for start-up. Blocks.
    fn sync_directory(&mut self, path: &std::path::Path) -> io::Result<()>;

    /// A buffer for files of at least `capacity` bytes, from the registered pool when one is free and large enough.
    fn buffer(&mut self, capacity: usize) -> Buffer;
    /// Gives a buffer back to the pool.
    fn release(&mut self, buffer: Buffer);

    /// Hands an operation over; it starts at the next `reap` or `park` at the latest.
    fn submit(&mut self, op: Op, token: Token);
    /// Starts what was submitted and takes the completions that are there. Does not wait.
    fn reap(&mut self, out: &mut Vec<Completion>);
    /// Starts what was submitted and waits until a completion is there, the doorbell rings, or `until` has come.
    fn park(&mut self, until: Option<Instant>);
    /// The bytes of a receive buffer.
    fn received(&self, buffer: BufferId, len: usize) -> &[u8];
    /// Gives a receive buffer back to the kernel.
    fn recycle(&mut self, buffer: BufferId);
    /// Tells what it has done so far, as the driver of that core.
    fn report(&self, _core: &str, _to: &mut dyn Report) {}
    /// What wakes this driver.
    fn doorbell(&self) -> Arc<dyn Doorbell>;
}

/// What an operation of `run_alone` is called: no agent's.
const ALONE: Token = Token { agent: u8::MAX, value: 0 };

/// Runs one file operation to its end, for start-up and measurements. Blocks; nothing else is outstanding.
pub fn run_alone(driver: &mut dyn Driver, op: Op) -> io::Result<Buffer> {
    driver.submit(op, ALONE);
    let mut completions: Vec<Completion> = Vec::new();
    loop {
        driver.reap(&mut completions);
        match completions.pop() {
            Some(completion) => return completion.outcome.buffer(),
            None => driver.park(None),
        }
    }
}

impl Outcome {
    /// The buffer of a file operation.
    ///
    /// # Panics
    /// When it is of another kind.
    pub fn buffer(self) -> io::Result<Buffer> {
        match self {
            Outcome::Written(buffer) | Outcome::Read(buffer) => Ok(buffer),
            Outcome::Failed { error, .. } => Err(error),
            _ => unreachable!("only file operations are outstanding"),
        }
    }
}
