//! Starting operations: from what the data plane asks for to requests for the kernel.

use super::address::{self, Target};
use super::operations::{Connecting, Operation, Pending, Transfer};
use super::sockets::Receive;
use super::{IGNORED, Uring, receive};
use crate::io::driver::{Buffer, Completion, Fd, FileId, Op, Outcome, Token};
use crate::io::progress::Progress;
use bytes::Bytes;
use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// A connection that is not made within this many seconds fails.
const CONNECT_SECONDS: u64 = 5;

impl Uring {
    pub(super) fn start(&mut self, op: Op, token: Token) {
        match op {
            Op::Accept { listener } => self.start_accept(listener, token),
            Op::Connect { address } => match address::resolve(&address) {
                Ok(targets) => self.start_connect(targets, token),
                Err(error) => self.refuse(token, error, None),
            },
            Op::Receive { fd } => self.start_receive(fd, token),
            Op::StopReceive { fd } => self.stop_receive(fd),
            Op::Send { fd, parts } => self.start_send(fd, parts, token),
            Op::Close { fd } => {
                if self.sockets.get(fd).is_some() {
                    self.close(fd);
                }
            }
            Op::SyncDirectory { path } => self.start_sync(&path, token),
            Op::Write { file, offset, buffer, durable } => {
                let progress = Progress::of_write(buffer.len, self.files.is_direct(file));
                let transfer = self.transfer(file, offset, buffer, durable, progress);
                self.start_transfer(Pending::Write(transfer), token);
            }
            Op::Read { file, offset, len, buffer } => {
                assert!(len <= buffer.capacity(), "a read of {len} into a buffer of {}", buffer.capacity());
                let progress = Progress::of_read(len, self.files.is_direct(file));
                let transfer = self.transfer(file, offset, buffer, false, progress);
                self.start_transfer(Pending::Read(transfer), token);
            }
        }
    }

    /// Ends an operation that never reached the kernel.
    pub(super) fn refuse(&mut self, token: Token, error: io::Error, buffer: Option<Buffer>) {
        self.ready.push_back(Completion { token, outcome: Outcome::Failed { error, buffer }, last: true });
    }

    pub(super) fn start_accept(&mut self, listener: Fd, token: Token) {
        let Some(descriptor) = self.sockets.descriptor(listener) else {
            return self.refuse(token, io::ErrorKind::NotConnected.into(), None);
        };
        self.sockets.begin(listener);
        let index = self.operations.insert(Operation { token, pending: Pending::Accept { listener } });
        self.push(accept(descriptor, index));
    }

    pub(super) fn start_connect(&mut self, targets: Vec<Target>, token: Token) {
        let mut later = targets;
        let target = later.remove(0);
        let made = target.socket().and_then(|socket| Ok((socket, target.raw()?)));
        let (socket, address) = match made {
            Ok(made) => made,
            Err(_) if !later.is_empty() => return self.start_connect(later, token),
            Err(error) => return self.refuse(token, error, None),
        };
        let limit = types::Timespec::new().sec(CONNECT_SECONDS);
        let connecting = Box::new(Connecting { socket, address, limit, later });
        let storage = (&raw const connecting.address.storage).cast();
        let descriptor = types::Fd(connecting.socket.as_raw_fd());
        let connect = opcode::Connect::new(descriptor, storage, connecting.address.len).build();
        let limit = opcode::LinkTimeout::new(&raw const connecting.limit).build().user_data(IGNORED);
        let index = self.operations.insert(Operation { token, pending: Pending::Connect(connecting) });
        // A time limit belongs to the request before it, in the same submission.
        self.make_room(2);
        self.push(connect.flags(Flags::IO_LINK).user_data(u64::from(index)));
        self.push(limit);
    }

    fn start_receive(&mut self, fd: Fd, token: Token) {
        let error = match self.sockets.get(fd).map(|socket| socket.receive) {
            Some(Receive::Idle) => {
                self.sockets.begin(fd);
                let pending = Pending::Receive { fd, stopping: false };
                let index = self.operations.insert(Operation { token, pending });
                return self.arm_receive(fd, index);
            }
            Some(_) => io::Error::from_raw_os_error(libc::EALREADY),
            None => io::ErrorKind::NotConnected.into(),
        };
        self.refuse(token, error, None);
    }

    /// Hands a receive to the kernel, for the first time or again. The socket is open.
    pub(super) fn arm_receive(&mut self, fd: Fd, index: u32) {
        let (multishot, bundles) = (self.capabilities.multishot_receive, self.capabilities.bundles);
        let socket = self.sockets.get(fd).expect("receives are armed on open sockets");
        socket.receive = Receive::Armed(index);
        let descriptor = types::Fd(socket.descriptor);
        let entry = match (multishot, bundles) {
            (true, true) => opcode::RecvMultiBundle::new(descriptor, receive::GROUP).build(),
            (true, false) => opcode::RecvMulti::new(descriptor, receive::GROUP).build(),
            (false, _) => opcode::Recv::new(descriptor, std::ptr::null_mut(), 0)
                .buf_group(receive::GROUP)
                .build()
                .flags(Flags::BUFFER_SELECT),
        };
        self.push(entry.user_data(u64::from(index)));
    }

    fn stop_receive(&mut self, fd: Fd) {
        let Some(socket) = self.sockets.get(fd) else { return };
        match socket.receive {
            Receive::Idle => {}
            Receive::Armed(index) => {
                if let Pending::Receive { stopping, .. } = &mut self.operations.get(index).pending {
                    *stopping = true;
                }
                self.push(opcode::AsyncCancel::new(u64::from(index)).build().user_data(IGNORED));
            }
            Receive::Hungry(index) => {
                self.buffers.hungry.retain(|hungry| *hungry != index);
                let completion = self.end_receive(index, Outcome::Closed { stopped: true });
                self.ready.push_back(completion);
            }
        }
    }

    /// Arms receives that waited for a buffer, as many as there are buffers. A hungry socket has bytes, an end or an error pending, so
    /// each gives a result, and whoever is still hungry then has another turn.
    pub(super) fn feed(&mut self) {
        for _ in 0..self.buffers.left() {
            let Some(index) = self.buffers.hungry.pop_front() else { return };
            let Pending::Receive { fd, .. } = self.operations.get(index).pending else {
                unreachable!("only receives are hungry");
            };
            self.arm_receive(fd, index);
        }
    }

    fn start_send(&mut self, fd: Fd, parts: Vec<Bytes>, token: Token) {
        let error = match self.sockets.get(fd) {
            Some(socket) if !socket.sending => {
                let descriptor = socket.descriptor;
                let sending = self.operations.sending(parts);
                if sending.is_empty() {
                    let (parts, bytes) = self.operations.sent(sending);
                    let outcome = Outcome::Sent { bytes, parts };
                    return self.ready.push_back(Completion { token, outcome, last: true });
                }
                socket.sending = true;
                self.sockets.begin(fd);
                let index =
                    self.operations.insert(Operation { token, pending: Pending::Send { fd, sending } });
                return self.continue_send(descriptor, index);
            }
            Some(_) => io::Error::from_raw_os_error(libc::EALREADY),
            None => io::ErrorKind::NotConnected.into(),
        };
        self.refuse(token, error, None);
    }

    /// Hands what is left of a send to the kernel.
    pub(super) fn continue_send(&mut self, descriptor: RawFd, index: u32) {
        let Pending::Send { sending, .. } = &mut self.operations.get(index).pending else {
            unreachable!("only sends go on as sends");
        };
        let entry = sending.entry(descriptor);
        self.push(entry.user_data(u64::from(index)));
    }

    /// Ends a socket's operations and closes it, in this order and after whatever was queued for it before: a descriptor's number is
    /// used again by the kernel only after all requests that name it have found their file. Closing the last name shuts both
    /// directions down. A shutdown request must not stand between the two: the kernel hands it to a worker, which looks the number up
    /// after the close, and may find the next connection under it.
    pub(super) fn close(&mut self, fd: Fd) {
        let receive = self.sockets.get(fd).map(|socket| socket.receive);
        if let Some(Receive::Hungry(index)) = receive {
            self.buffers.hungry.retain(|hungry| *hungry != index);
            let completion = self.end_receive(index, closed_here());
            self.ready.push_back(completion);
        }
        let descriptor = types::Fd(self.sockets.forget(fd));
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::fd(descriptor).all());
        self.push(cancel.build().user_data(IGNORED));
        self.push(opcode::Close::new(descriptor).build().user_data(IGNORED));
        if !self.paused.is_empty() {
            self.resume_at = self.now;
        }
    }

    fn transfer(
        &mut self,
        file: FileId,
        offset: u64,
        buffer: Buffer,
        durable: bool,
        progress: Progress,
    ) -> Transfer {
        let descriptor = self.files.descriptor(file);
        Transfer { descriptor, file, durable, offset, buffer, progress }
    }

    fn start_sync(&mut self, path: &std::path::Path, token: Token) {
        match std::fs::File::open(path) {
            Ok(directory) => {
                let entry = opcode::Fsync::new(types::Fd(directory.as_raw_fd())).build();
                let index = self.operations.insert(Operation { token, pending: Pending::Sync(directory) });
                self.push(entry.user_data(u64::from(index)));
            }
            Err(error) => self.refuse(token, error, None),
        }
    }

    fn start_transfer(&mut self, pending: Pending, token: Token) {
        let index = self.operations.insert(Operation { token, pending });
        self.continue_transfer(index);
    }

    /// Hands what is left of a file operation to the kernel.
    pub(super) fn continue_transfer(&mut self, index: u32) {
        let entry = match &mut self.operations.get(index).pending {
            Pending::Write(transfer) => transfer.write(self.pool.index(&transfer.buffer)),
            Pending::Read(transfer) => transfer.read(self.pool.index(&transfer.buffer)),
            _ => unreachable!("only file operations go on as file operations"),
        };
        self.push(entry.user_data(u64::from(index)));
    }
}

/// The request that accepts connections from now on.
pub(super) fn accept(descriptor: RawFd, index: u32) -> Entry {
    let accept = opcode::AcceptMulti::new(types::Fd(descriptor)).flags(libc::SOCK_CLOEXEC);
    accept.build().user_data(u64::from(index))
}

/// How operations of a socket end that was closed by us.
pub(super) fn closed_here() -> Outcome {
    Outcome::Failed { error: io::ErrorKind::ConnectionAborted.into(), buffer: None }
}
