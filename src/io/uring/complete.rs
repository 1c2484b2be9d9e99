//! Working out results: what each means for its operation, and whether the operation goes on.

use super::operations::{Operation, Pending};
use super::sockets::{PausedAccept, Receive};
use super::start::{accept, closed_here};
use super::{ACCEPT_PAUSE, BELL, IGNORED, Raw, Uring};
use crate::io::driver::{BufferId, Completion, Fd, Outcome};
use crate::io::progress::Step;
use io_uring::cqueue;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

impl Uring {
    /// Takes in one result.
    pub(super) fn complete(&mut self, raw: Raw, out: &mut Vec<Completion>) {
        match raw.name {
            IGNORED => {}
            BELL => {
                if !cqueue::more(raw.flags) {
                    self.arm_bell();
                }
            }
            name => {
                let index = u32::try_from(name).expect("a name that we gave");
                match self.operations.get(index).pending {
                    Pending::Accept { listener } => self.complete_accept(listener, index, raw, out),
                    Pending::Connect(_) => self.complete_connect(index, raw.result, out),
                    Pending::Receive { fd, stopping } => self.complete_receive(fd, stopping, index, raw, out),
                    Pending::Send { fd, .. } => self.complete_send(fd, index, raw.result, out),
                    Pending::Write(_) | Pending::Read(_) => self.complete_transfer(index, raw.result, out),
                    Pending::Sync(_) => self.complete_sync(index, raw.result, out),
                }
            }
        }
    }

    fn complete_accept(&mut self, listener: Fd, index: u32, raw: Raw, out: &mut Vec<Completion>) {
        let token = self.operations.get(index).token;
        let open = self.sockets.descriptor(listener);
        if 0 <= raw.result {
            // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
            let socket = unsafe { OwnedFd::from_raw_fd(raw.result) };
            if open.is_some() {
                match self.sockets.insert(socket) {
                    Ok(fd) => out.push(Completion { token, outcome: Outcome::Accepted(fd), last: false }),
                    Err(_full) => self.counters.accepts_put_off += 1,
                }
            }
        }
        if cqueue::more(raw.flags) {
            return;
        }
        match (open, accept_failure(raw.result)) {
            (Some(descriptor), AcceptFailure::Passing) => self.push(accept(descriptor, index)),
            (Some(_), AcceptFailure::Exhausted) => {
                self.counters.accepts_put_off += 1;
                self.operations.remove(index);
                self.sockets.end(listener);
                self.resume_at = self.now.after(ACCEPT_PAUSE);
                self.paused.push(PausedAccept { listener, token });
            }
            (open, _) => {
                self.operations.remove(index);
                self.sockets.end(listener);
                let outcome = if open.is_some() { failed(raw.result) } else { closed_here() };
                out.push(Completion { token, outcome, last: true });
            }
        }
    }

    fn complete_connect(&mut self, index: u32, result: i32, out: &mut Vec<Completion>) {
        let Operation { token, pending: Pending::Connect(connecting) } = self.operations.remove(index) else {
            unreachable!("looked at by the caller");
        };
        let outcome = if result == 0 {
            match self.sockets.insert(connecting.socket) {
                Ok(fd) => Outcome::Connected(fd),
                Err(_full) => failed(-libc::EMFILE),
            }
        } else if !connecting.later.is_empty() {
            return self.start_connect(connecting.later, token);
        } else if result == -libc::ECANCELED {
            failed(-libc::ETIMEDOUT)
        } else {
            failed(result)
        };
        out.push(Completion { token, outcome, last: true });
    }

    fn complete_receive(&mut self, fd: Fd, stopping: bool, index: u32, raw: Raw, out: &mut Vec<Completion>) {
        let open = self.sockets.get(fd).is_some();
        if let Some(first) = cqueue::buffer_select(raw.flags) {
            self.deliver(first, raw.result, index, open, out);
        }
        if cqueue::more(raw.flags) {
            return;
        }
        let outcome = match raw.result {
            _ if !open => closed_here(),
            0 => Outcome::Closed { stopped: false },
            received if 0 < received && !stopping => return self.arm_receive(fd, index),
            received if 0 < received => Outcome::Closed { stopped: true },
            _ if stopping => Outcome::Closed { stopped: true },
            error if error == -libc::EINTR || error == -libc::EAGAIN => return self.arm_receive(fd, index),
            error if error == -libc::ENOBUFS => return self.starve(fd, index),
            error => failed(error),
        };
        let completion = self.end_receive(index, outcome);
        out.push(completion);
    }

    /// Lends the buffers that a result of a receive filled: one, or with bundles several that stand one after another. What comes for
    /// a closed socket goes back when all results are worked out: until then the order of the places must stay.
    fn deliver(&mut self, first: u16, received: i32, index: u32, open: bool, out: &mut Vec<Completion>) {
        let token = self.operations.get(index).token;
        let mut left = received.max(0) as usize;
        let mut buffer = first;
        loop {
            let len = left.min(self.buffers.bytes_each());
            self.buffers.lend(buffer);
            if open && 0 < len {
                let outcome = Outcome::Received { buffer: BufferId(buffer), len };
                out.push(Completion { token, outcome, last: false });
            } else {
                self.buffers.unwanted.push(buffer);
            }
            left -= len;
            if left == 0 {
                return;
            }
            buffer = self.buffers.next(buffer);
        }
    }

    /// A receive found no buffer. It goes on when there is one (`feed`).
    fn starve(&mut self, fd: Fd, index: u32) {
        self.counters.buffers_exhausted += 1;
        self.sockets.get(fd).expect("only open sockets starve").receive = Receive::Hungry(index);
        self.buffers.hungry.push_back(index);
    }

    /// The receive is over.
    pub(super) fn end_receive(&mut self, index: u32, outcome: Outcome) -> Completion {
        let Operation { token, pending: Pending::Receive { fd, .. } } = self.operations.remove(index) else {
            unreachable!("only receives end as receives");
        };
        if let Some(socket) = self.sockets.get(fd) {
            socket.receive = Receive::Idle;
        }
        self.sockets.end(fd);
        Completion { token, outcome, last: true }
    }

    fn complete_send(&mut self, fd: Fd, index: u32, result: i32, out: &mut Vec<Completion>) {
        let open = self.sockets.descriptor(fd);
        let Pending::Send { sending, .. } = &mut self.operations.get(index).pending else {
            unreachable!("looked at by the caller");
        };
        let whole = match usize::try_from(result) {
            Ok(sent) => sending.advance(sent),
            Err(_) => false,
        };
        let again = 0 < result || result == -libc::EINTR || result == -libc::EAGAIN;
        if let (false, true, Some(descriptor)) = (whole, again, open) {
            return self.continue_send(descriptor, index);
        }
        let Operation { token, pending: Pending::Send { sending, .. } } = self.operations.remove(index)
        else {
            unreachable!("looked at above");
        };
        if let Some(socket) = self.sockets.get(fd) {
            socket.sending = false;
        }
        self.sockets.end(fd);
        let (parts, bytes) = self.operations.sent(sending);
        let outcome = match (whole, open) {
            (true, Some(_)) => Outcome::Sent { bytes, parts },
            (_, None) => closed_here(),
            (false, Some(_)) if result == 0 => failed(-libc::EPIPE),
            (false, Some(_)) => failed(result),
        };
        out.push(Completion { token, outcome, last: true });
    }

    fn complete_sync(&mut self, index: u32, result: i32, out: &mut Vec<Completion>) {
        let Operation { token, pending: Pending::Sync(directory) } = self.operations.remove(index) else {
            unreachable!("looked at by the caller");
        };
        drop(directory);
        let outcome = if result < 0 { failed(result) } else { Outcome::Synced };
        out.push(Completion { token, outcome, last: true });
    }

    fn complete_transfer(&mut self, index: u32, result: i32, out: &mut Vec<Completion>) {
        let (Pending::Write(transfer) | Pending::Read(transfer)) = &mut self.operations.get(index).pending
        else {
            unreachable!("looked at by the caller");
        };
        let files = &self.files;
        let file_left = |file, offset| files.len(file).map_or(u64::MAX, |len| len.saturating_sub(offset));
        let step = match usize::try_from(result) {
            Ok(bytes) => transfer.progress.moved(bytes, || file_left(transfer.file, transfer.offset)),
            Err(_) if result == -libc::EINTR || result == -libc::EAGAIN => Step::Again,
            Err(_) => return self.fail_transfer(index, result, out),
        };
        if step == Step::Again {
            return self.continue_transfer(index);
        }
        let Operation { token, pending } = self.operations.remove(index);
        let outcome = match (pending, step) {
            (Pending::Write(transfer), Step::Whole) => Outcome::Written(transfer.buffer),
            (Pending::Write(transfer), Step::Ended) => {
                Outcome::Failed { error: io::ErrorKind::WriteZero.into(), buffer: Some(transfer.buffer) }
            }
            (Pending::Read(mut transfer), _) => {
                transfer.buffer.len = transfer.progress.done();
                Outcome::Read(transfer.buffer)
            }
            _ => unreachable!("looked at above"),
        };
        out.push(Completion { token, outcome, last: true });
    }

    fn fail_transfer(&mut self, index: u32, result: i32, out: &mut Vec<Completion>) {
        let Operation { token, pending: Pending::Write(transfer) | Pending::Read(transfer) } =
            self.operations.remove(index)
        else {
            unreachable!("looked at by the caller");
        };
        let error = io::Error::from_raw_os_error(-result);
        out.push(Completion {
            token,
            outcome: Outcome::Failed { error, buffer: Some(transfer.buffer) },
            last: true,
        });
    }
}

enum AcceptFailure {
    /// Of one connection, or none at all.
    Passing,
    /// Of descriptors or memory.
    Exhausted,
    /// Of the listener.
    Lasting,
}

/// What ended a multishot accept (accept(2): pending network errors of the new connection come back as errors of the call).
fn accept_failure(result: i32) -> AcceptFailure {
    match -result {
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => AcceptFailure::Exhausted,
        libc::EINTR | libc::EAGAIN | libc::ECONNABORTED | libc::EPROTO | libc::EPERM => {
            AcceptFailure::Passing
        }
        libc::ENETDOWN | libc::ENOPROTOOPT | libc::EHOSTDOWN | libc::ENONET => AcceptFailure::Passing,
        libc::EHOSTUNREACH | libc::EOPNOTSUPP | libc::ENETUNREACH => AcceptFailure::Passing,
        code if code <= 0 => AcceptFailure::Passing,
        _ => AcceptFailure::Lasting,
    }
}

fn failed(result: i32) -> Outcome {
    Outcome::Failed { error: io::Error::from_raw_os_error(-result), buffer: None }
}
