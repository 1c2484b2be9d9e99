//! A node's driver in the simulated world: one a node, for all its agents.
//!
//! What an agent submits becomes a [`Wish`], which the world grants when it sees fit; what the world brings about becomes a completion,
//! in any order. During a start, where code waits for its own operations, the driver carries them out by itself, and may die in the
//! midst of them.

use super::disk::{Disk, EIO, Inode, SECTOR};
use crate::base::{Instant, Prng, Stamp};
use crate::io::driver::{ALIGN, Buffer, BufferId, Doorbell, OpenOptions};
use crate::io::progress::{Progress, Step};
use crate::io::{Completion, Driver, Fd, FileId, Op, Outcome, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Too many open files.
const EMFILE: i32 = 24;
/// Buffers for files that are kept for the next user.
const SPARE_BUFFERS_MAX: usize = 16;

/// A connection of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Connection {
    /// Never used again.
    pub id: u64,
    /// 0 for who dialled, 1 for who accepted.
    pub side: usize,
}

/// What a node wants from the world.
#[derive(Debug)]
pub enum Wish {
    /// Carry this operation out and say so (`SimDriver::finish`).
    File {
        /// Which.
        operation: u64,
        /// It changes the disk.
        writes: bool,
    },
    /// Make a connection.
    Connect {
        /// To be told.
        token: Token,
        /// To whom.
        address: String,
    },
    /// Take what this socket has to send (`SimDriver::pull`).
    Send(Connection, Fd),
    /// The agent has taken so many received bytes.
    Took(Connection, usize),
    /// The node is done with this connection.
    Close(Connection),
}

enum FileOperation {
    Write { inode: Inode, offset: u64, buffer: Buffer, durable: bool, progress: Progress },
    Read { inode: Inode, offset: u64, buffer: Buffer, progress: Progress },
    SyncDirectory { path: PathBuf },
}

struct Socket {
    connection: Connection,
    peer: String,
    receive: Option<Token>,
    /// Arrived and not yet taken by the agent.
    inbox: VecDeque<Bytes>,
    /// The other side has said all it had to say.
    ended: bool,
    broken: bool,
    send: Option<Sending>,
}

struct Sending {
    token: Token,
    parts: Vec<Bytes>,
    /// The next part to go.
    next: usize,
    bytes: usize,
}

struct Listener {
    address: String,
    accept: Option<Token>,
    /// Came in and not yet accepted.
    backlog: VecDeque<(Connection, String)>,
}

/// What the driver itself does wrong, and its limits.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Receive buffers.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: usize,
    /// Chance of an accept to fail for lack of descriptors, per 1,000.
    pub accept_fails: u64,
    /// Chance of a receive to bring less than there is, per 1,000.
    pub short_receives: u64,
    /// Chance of an attempt to read or write a file to move fewer bytes than it should, per 1,000.
    pub short_transfers: u64,
    /// Files open past the page cache.
    pub direct: bool,
}

/// Whether the node is starting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Operations are carried out by the driver. With a number: so many more writes succeed, then the node is as good as dead.
    Starting(Option<u32>),
    /// It died while it started.
    Dead,
    /// The world carries out.
    Running,
}

/// See the module.
pub struct SimDriver {
    /// This node's monotonic clock.
    pub now: Instant,
    /// This node's wall clock.
    pub wall: Stamp,
    /// Outlives the driver.
    pub disk: Disk,
    /// What happened since the last turn.
    pub ready: Vec<Completion>,
    /// What is wanted since the last turn.
    pub wishes: Vec<Wish>,
    manners: Manners,
    prng: Prng,
    mode: Mode,
    files: Vec<Option<Inode>>,
    operations: BTreeMap<u64, FileOperation>,
    /// Under way when the node died in the midst of a start.
    cut_short: Vec<FileOperation>,
    /// Whose each operation is.
    tokens: BTreeMap<u64, Token>,
    operation: u64,
    sockets: BTreeMap<u32, Socket>,
    listeners: BTreeMap<u32, Listener>,
    last_fd: u32,
    lent: Vec<Option<Bytes>>,
    free: Vec<u16>,
    spare: Vec<Buffer>,
}

impl SimDriver {
    /// A driver in the midst of a start. After `writes` more it dies, if there is such a number.
    pub fn starting(
        disk: Disk,
        manners: Manners,
        now: Instant,
        wall: Stamp,
        seed: u64,
        writes: Option<u32>,
    ) -> SimDriver {
        SimDriver {
            now,
            wall,
            disk,
            ready: Vec::new(),
            wishes: Vec::new(),
            manners,
            prng: Prng::from_seed(seed),
            mode: Mode::Starting(writes),
            files: Vec::new(),
            operations: BTreeMap::new(),
            cut_short: Vec::new(),
            tokens: BTreeMap::new(),
            operation: 0,
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            last_fd: 0,
            lent: vec![None; usize::from(manners.buffers)],
            free: (0..manners.buffers).rev().collect(),
            spare: Vec::new(),
        }
    }
    /// From now on the world carries out.
    pub fn run(&mut self) {
        assert!(self.operations.is_empty() && self.mode != Mode::Dead);
        self.mode = Mode::Running;
    }
    /// Whether the start was cut short.
    pub fn has_died(&self) -> bool {
        self.mode == Mode::Dead
    }
    /// Operations that are under way.
    pub fn outstanding(&self) -> usize {
        self.operations.len()
    }
    /// Sockets that are open.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }
    /// Connections that are open, with the bytes that wait in each.
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        let waiting = self.listeners.values().flat_map(|l| l.backlog.iter().map(|(c, _)| *c));
        self.sockets.values().map(|s| s.connection).chain(waiting)
    }
    /// The process is no more, and power perhaps either. Gives the disk back.
    pub fn die(mut self, power: bool) -> Disk {
        let under_way =
            self.cut_short.iter().chain(self.operations.values()).filter_map(|operation| match operation {
                FileOperation::Write { inode, offset, buffer, .. } => Some((*inode, *offset, buffer.bytes())),
                FileOperation::Read { .. } | FileOperation::SyncDirectory { .. } => None,
            });
        if power {
            self.disk.lose_power(under_way, &mut self.prng);
        } else {
            self.disk.kill(under_way, &mut self.prng);
        }
        self.disk
    }

    // ---- files --------------------------------------------------------------------------------------------------

    fn inode(&self, file: FileId) -> Inode {
        self.files[file.0 as usize].expect("a file that is open")
    }
    /// Carries an operation out, or as much of it as the kernel does at once; then it goes on with the rest. Nothing happens when it
    /// belongs to an earlier life.
    pub fn finish(&mut self, operation: u64) {
        let Some(mut what) = self.operations.remove(&operation) else { return };
        let attempt = self.attempt(&mut what);
        if matches!(attempt, Ok(Step::Again)) {
            let writes = matches!(what, FileOperation::Write { .. });
            self.operations.insert(operation, what);
            if self.mode == Mode::Running {
                self.wishes.push(Wish::File { operation, writes });
            }
            return;
        }
        let token = self.tokens.remove(&operation).expect("each operation is somebody's");
        let outcome = match (what, attempt) {
            (FileOperation::Write { buffer, .. }, Ok(_)) => Outcome::Written(buffer),
            (FileOperation::Read { mut buffer, progress, .. }, Ok(_)) => {
                buffer.len = progress.done();
                Outcome::Read(buffer)
            }
            (FileOperation::Write { buffer, .. } | FileOperation::Read { buffer, .. }, Err(error)) => {
                Outcome::Failed { error, buffer: Some(buffer) }
            }
            (FileOperation::SyncDirectory { .. }, _) => Outcome::Synced,
        };
        self.ready.push(Completion { token, outcome, last: true });
    }
    /// What the kernel does at once.
    fn attempt(&mut self, what: &mut FileOperation) -> io::Result<Step> {
        match what {
            FileOperation::Write { inode, offset, buffer, durable, progress } => {
                let part = self.part(progress.left());
                let bytes = &buffer.bytes()[part.clone()];
                self.disk.write(*inode, *offset + part.start as u64, bytes, *durable)?;
                Ok(progress.moved(part.len(), || unreachable!("only reads come to a file's end")))
            }
            FileOperation::Read { inode, offset, buffer, progress } => {
                let part = self.part(progress.left());
                let at = *offset + part.start as u64;
                let count = self.disk.read(*inode, at, &mut buffer.space()[part])?;
                Ok(progress.moved(count, || self.disk.len(*inode).saturating_sub(*offset)))
            }
            FileOperation::SyncDirectory { path } => {
                self.disk.sync_directory(path);
                Ok(Step::Whole)
            }
        }
    }
    /// Perhaps only the first of these bytes: of a direct file whole sectors.
    fn part(&mut self, left: Range<usize>) -> Range<usize> {
        let unit = if self.manners.direct { SECTOR } else { 1 };
        let short = self.manners.short_transfers;
        if short == 0 || left.len() <= unit || !self.prng.chance(short, 1000) {
            return left;
        }
        self.disk.harms.short += 1;
        let units = left.len().div_ceil(unit) as u64 - 1;
        left.start..left.start + unit * (1 + self.prng.below(units) as usize)
    }
    /// An operation in a few words, while it is under way.
    pub fn describe(&self, operation: u64) -> Option<String> {
        Some(match self.operations.get(&operation)? {
            FileOperation::Write { offset, buffer, .. } => {
                format!("write {operation}: {} bytes at {offset}", buffer.bytes().len())
            }
            FileOperation::Read { offset, progress, .. } => {
                format!("read {operation}: {} bytes at {offset}", progress.left().end)
            }
            FileOperation::SyncDirectory { path } => format!("sync {operation}: {}", path.display()),
        })
    }
    fn submit_file(&mut self, operation: FileOperation, token: Token) {
        self.operation += 1;
        let writes = matches!(operation, FileOperation::Write { .. });
        self.operations.insert(self.operation, operation);
        self.tokens.insert(self.operation, token);
        if self.mode == Mode::Running {
            self.wishes.push(Wish::File { operation: self.operation, writes });
        }
    }
    /// While the node starts: carries out everything that is under way, in any order.
    fn carry_out(&mut self) {
        while !self.operations.is_empty() {
            let at = self.prng.below(self.operations.len() as u64) as usize;
            let operation = *self.operations.keys().nth(at).expect("within the number");
            let writes = matches!(self.operations[&operation], FileOperation::Write { .. });
            match (&mut self.mode, writes) {
                (Mode::Starting(Some(0)), true) => self.mode = Mode::Dead,
                (Mode::Starting(Some(left)), true) => *left -= 1,
                _ => (),
            }
            if self.mode == Mode::Dead {
                let token = self.tokens.remove(&operation).expect("each operation is somebody's");
                let what = self.operations.remove(&operation).expect("looked at above");
                self.cut_short.push(what);
                let error = io::Error::from_raw_os_error(EIO);
                let outcome = Outcome::Failed { error, buffer: None };
                self.ready.push(Completion { token, outcome, last: true });
                continue;
            }
            self.finish(operation);
        }
    }

    // ---- sockets ------------------------------------------------------------------------------------------------

    fn fresh_fd(&mut self) -> Fd {
        self.last_fd += 1;
        Fd(self.last_fd)
    }
    fn insert(&mut self, connection: Connection, peer: String) -> Fd {
        let fd = self.fresh_fd();
        let socket = Socket {
            connection,
            peer,
            receive: None,
            inbox: VecDeque::new(),
            ended: false,
            broken: false,
            send: None,
        };
        self.sockets.insert(fd.0, socket);
        fd
    }
    /// The listener of that address, if there is one.
    pub fn listener(&self, address: &str) -> Option<Fd> {
        self.listeners.iter().find(|(_, l)| l.address == address).map(|(fd, _)| Fd(*fd))
    }
    /// A connection has come in.
    pub fn knock(&mut self, listener: Fd, connection: Connection, peer: String) {
        let listening = self.listeners.get_mut(&listener.0).expect("a listener that was found");
        listening.backlog.push_back((connection, peer));
        self.accept(listener.0);
    }
    fn accept(&mut self, listener: u32) {
        loop {
            let Some(listening) = self.listeners.get_mut(&listener) else { return };
            let Some(token) = listening.accept.filter(|_| !listening.backlog.is_empty()) else { return };
            if self.prng.chance(self.manners.accept_fails, 1000) {
                listening.accept = None;
                let error = io::Error::from_raw_os_error(EMFILE);
                let outcome = Outcome::Failed { error, buffer: None };
                return self.ready.push(Completion { token, outcome, last: true });
            }
            let (connection, peer) = listening.backlog.pop_front().expect("looked at above");
            let fd = self.insert(connection, peer);
            self.ready.push(Completion { token, outcome: Outcome::Accepted(fd), last: false });
        }
    }
    /// A connection that was wanted is there, or not.
    pub fn connected(&mut self, token: Token, made: Result<(Connection, String), ErrorKind>) {
        let outcome = match made {
            Ok((connection, peer)) => Outcome::Connected(self.insert(connection, peer)),
            Err(kind) => Outcome::Failed { error: kind.into(), buffer: None },
        };
        self.ready.push(Completion { token, outcome, last: true });
    }
    /// The socket of a connection.
    pub fn socket_of(&self, connection: Connection) -> Option<Fd> {
        self.sockets.iter().find(|(_, s)| s.connection == connection).map(|(fd, _)| Fd(*fd))
    }
    /// Whether a connection waits to be accepted.
    pub fn is_waiting(&self, connection: Connection) -> bool {
        self.listeners.values().any(|l| l.backlog.iter().any(|(c, _)| *c == connection))
    }
    /// Bytes have arrived.
    pub fn arrive(&mut self, fd: Fd, bytes: Bytes) {
        self.sockets.get_mut(&fd.0).expect("an open socket").inbox.push_back(bytes);
        self.feed(fd.0);
    }
    /// The other side has ended, or nothing more will come or go.
    pub fn end(&mut self, fd: Fd, broken: bool) {
        let socket = self.sockets.get_mut(&fd.0).expect("an open socket");
        socket.ended = true;
        if broken {
            socket.broken = true;
            socket.inbox.clear();
            if let Some(Sending { token, .. }) = socket.send.take() {
                let outcome = Outcome::Failed { error: ErrorKind::BrokenPipe.into(), buffer: None };
                self.ready.push(Completion { token, outcome, last: true });
            }
        }
        self.feed(fd.0);
    }
    /// Hands what has arrived to the agent, as far as there are buffers.
    fn feed(&mut self, fd: u32) {
        let Some(socket) = self.sockets.get_mut(&fd) else { return };
        let Some(token) = socket.receive else { return };
        while let Some(mut bytes) = socket.inbox.pop_front() {
            let Some(buffer) = self.free.pop() else {
                return socket.inbox.push_front(bytes);
            };
            let mut len = bytes.len().min(self.manners.buffer_bytes);
            if self.prng.chance(self.manners.short_receives, 1000) {
                len = 1 + self.prng.below(len as u64) as usize;
            }
            let taken = bytes.split_to(len);
            if !bytes.is_empty() {
                socket.inbox.push_front(bytes);
            }
            self.lent[usize::from(buffer)] = Some(taken);
            self.wishes.push(Wish::Took(socket.connection, len));
            let outcome = Outcome::Received { buffer: BufferId(buffer), len };
            self.ready.push(Completion { token, outcome, last: false });
        }
        if socket.ended {
            socket.receive = None;
            let outcome = match socket.broken {
                true => Outcome::Failed { error: ErrorKind::ConnectionReset.into(), buffer: None },
                false => Outcome::Closed { stopped: false },
            };
            self.ready.push(Completion { token, outcome, last: true });
        }
    }
    /// Takes at most `room` bytes of what the socket has to send. The send is over when all is taken.
    pub fn pull(&mut self, fd: Fd, room: usize, out: &mut Vec<Bytes>) -> usize {
        let Some(socket) = self.sockets.get_mut(&fd.0) else { return 0 };
        let Some(sending) = &mut socket.send else { return 0 };
        let mut taken = 0;
        while taken < room && sending.next < sending.parts.len() {
            let part = &mut sending.parts[sending.next];
            let bytes = part.split_to(part.len().min(room - taken));
            taken += bytes.len();
            sending.next += usize::from(part.is_empty());
            if !bytes.is_empty() {
                out.push(bytes);
            }
        }
        if sending.next == sending.parts.len() {
            let Sending { token, mut parts, bytes, .. } = socket.send.take().expect("it was there");
            parts.clear();
            self.ready.push(Completion { token, outcome: Outcome::Sent { bytes, parts }, last: true });
        }
        taken
    }
    fn send(&mut self, fd: Fd, parts: Vec<Bytes>, token: Token) {
        let Some(socket) = self.sockets.get_mut(&fd.0).filter(|s| !s.broken) else {
            let outcome = Outcome::Failed { error: ErrorKind::BrokenPipe.into(), buffer: None };
            return self.ready.push(Completion { token, outcome, last: true });
        };
        assert!(socket.send.is_none(), "at most one outstanding send a socket");
        let bytes = parts.iter().map(Bytes::len).sum();
        socket.send = Some(Sending { token, parts, next: 0, bytes });
        self.wishes.push(Wish::Send(socket.connection, fd));
    }
    fn close(&mut self, fd: Fd) {
        let mut cut = |token| {
            let outcome = Outcome::Failed { error: ErrorKind::ConnectionAborted.into(), buffer: None };
            self.ready.push(Completion { token, outcome, last: true });
        };
        if let Some(Listener { accept, backlog, .. }) = self.listeners.remove(&fd.0) {
            accept.into_iter().for_each(&mut cut);
            self.wishes.extend(backlog.into_iter().map(|(connection, _)| Wish::Close(connection)));
        } else {
            let socket = self.sockets.remove(&fd.0).expect("a socket is closed once");
            socket.receive.into_iter().chain(socket.send.map(|s| s.token)).for_each(&mut cut);
            self.wishes.push(Wish::Close(socket.connection));
        }
    }
    fn receive(&mut self, fd: Fd, token: Token) {
        match self.sockets.get_mut(&fd.0) {
            Some(socket) => {
                assert!(socket.receive.replace(token).is_none(), "at most one receive a socket");
                self.feed(fd.0);
            }
            None => {
                let outcome = Outcome::Failed { error: ErrorKind::NotConnected.into(), buffer: None };
                self.ready.push(Completion { token, outcome, last: true });
            }
        }
    }
    fn stop_receive(&mut self, fd: Fd) {
        let Some(socket) = self.sockets.get_mut(&fd.0) else { return };
        if let Some(token) = socket.receive.take() {
            self.ready.push(Completion { token, outcome: Outcome::Closed { stopped: true }, last: true });
        }
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Instant {
        self.now
    }
    fn clock(&self) -> Stamp {
        self.wall
    }
    fn listen(&mut self, address: &str) -> io::Result<Fd> {
        let fd = self.fresh_fd();
        let listener = Listener { address: address.to_string(), accept: None, backlog: VecDeque::new() };
        self.listeners.insert(fd.0, listener);
        Ok(fd)
    }
    fn local_address(&self, _: Fd) -> io::Result<String> {
        Ok("here:0".to_string())
    }
    fn peer_address(&self, fd: Fd) -> io::Result<String> {
        self.sockets.get(&fd.0).map(|s| s.peer.clone()).ok_or_else(|| ErrorKind::NotConnected.into())
    }
    fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<FileId> {
        let inode = self.disk.open(path, options.create)?;
        let place = self.files.iter().position(Option::is_none).unwrap_or(self.files.len());
        if place == self.files.len() {
            self.files.push(None);
        }
        self.files[place] = Some(inode);
        Ok(FileId(place as u32))
    }
    fn is_direct(&self, _: FileId) -> bool {
        self.manners.direct
    }
    fn file_len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.disk.len(self.inode(file)))
    }
    fn close_file(&mut self, file: FileId) {
        self.files[file.0 as usize] = None;
    }
    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path);
        Ok(())
    }
    fn buffer(&mut self, capacity: usize) -> Buffer {
        match self.spare.iter().rposition(|spare| capacity <= spare.capacity()) {
            Some(at) => self.spare.swap_remove(at),
            None => Buffer::unregistered(capacity),
        }
    }
    fn release(&mut self, buffer: Buffer) {
        if self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.push(Buffer { len: 0, ..buffer });
        }
    }
    fn submit(&mut self, op: Op, token: Token) {
        match op {
            Op::Write { file, offset, buffer, durable } => {
                let whole = offset.is_multiple_of(ALIGN as u64) && buffer.len.is_multiple_of(ALIGN);
                assert!(whole || !self.manners.direct, "direct writes are whole blocks");
                let (inode, progress) =
                    (self.inode(file), Progress::of_write(buffer.len, self.manners.direct));
                self.submit_file(FileOperation::Write { inode, offset, buffer, durable, progress }, token);
            }
            Op::Read { file, offset, len, buffer } => {
                let (inode, progress) = (self.inode(file), Progress::of_read(len, self.manners.direct));
                self.submit_file(FileOperation::Read { inode, offset, buffer, progress }, token);
            }
            Op::SyncDirectory { path } => self.submit_file(FileOperation::SyncDirectory { path }, token),
            Op::Accept { listener } => {
                let Some(listening) = self.listeners.get_mut(&listener.0) else { return };
                assert!(listening.accept.replace(token).is_none(), "at most one accept a listener");
                self.accept(listener.0);
            }
            Op::Connect { address } => self.wishes.push(Wish::Connect { token, address }),
            Op::Receive { fd } => self.receive(fd, token),
            Op::StopReceive { fd } => self.stop_receive(fd),
            Op::Send { fd, parts } => self.send(fd, parts, token),
            Op::Close { fd } => self.close(fd),
        }
    }
    fn reap(&mut self, out: &mut Vec<Completion>) {
        if self.mode != Mode::Running {
            self.carry_out();
        }
        out.append(&mut self.ready);
    }
    fn park(&mut self, until: Option<Instant>) {
        if self.mode != Mode::Running && self.operations.is_empty() && self.ready.is_empty() {
            self.now = self.now.max(until.unwrap_or(self.now));
        }
    }
    fn received(&self, buffer: BufferId, len: usize) -> &[u8] {
        &self.lent[usize::from(buffer.0)].as_ref().expect("a buffer that is lent")[..len]
    }
    fn recycle(&mut self, buffer: BufferId) {
        assert!(
            self.lent[usize::from(buffer.0)].take().is_some(),
            "buffer {} was given back twice",
            buffer.0
        );
        let were_none = self.free.is_empty();
        self.free.push(buffer.0);
        if were_none {
            let hungry: Vec<u32> =
                self.sockets.iter().filter(|(_, s)| !s.inbox.is_empty()).map(|(fd, _)| *fd).collect();
            hungry.into_iter().for_each(|fd| self.feed(fd));
        }
    }
    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::new(Silent)
    }
}

/// Nobody sleeps in the simulated world.
pub struct Silent;
impl Doorbell for Silent {
    fn ring(&self) {}
}
