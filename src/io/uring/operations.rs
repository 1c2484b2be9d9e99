//! Operations that the kernel has: what each needs to be kept alive, and what to do with its result.

use super::address::RawAddress;
use crate::io::driver::{Buffer, Fd, FileId, Token};
use crate::io::progress::Progress;
use bytes::Bytes;
use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use std::os::fd::{OwnedFd, RawFd};

/// Most parts that one system call takes (`IOV_MAX`); more are sent in several.
const PARTS_MAX: usize = 1024;
/// Spare send blocks that are kept.
const SPARE_MAX: usize = 256;

pub(super) struct Operation {
    pub(super) token: Token,
    pub(super) pending: Pending,
}

pub(super) enum Pending {
    Accept {
        listener: Fd,
    },
    Connect(Box<Connecting>),
    Receive {
        fd: Fd,
        stopping: bool,
    },
    Send {
        fd: Fd,
        sending: Box<Sending>,
    },
    Write(Transfer),
    Read(Transfer),
    /// The directory, open for as long as the kernel needs it.
    Sync(std::fs::File),
}

/// A connection being made; `later` holds the addresses still to be tried.
pub(super) struct Connecting {
    pub(super) socket: OwnedFd,
    pub(super) address: RawAddress,
    pub(super) limit: types::Timespec,
    pub(super) later: Vec<super::address::Target>,
}

/// A file operation.
pub(super) struct Transfer {
    pub(super) descriptor: RawFd,
    pub(super) file: FileId,
    pub(super) durable: bool,
    pub(super) offset: u64,
    pub(super) buffer: Buffer,
    pub(super) progress: Progress,
}

/// A send: the parts, and what is left of them in the kernel's form. Lives in a box, since the kernel holds its address.
pub(super) struct Sending {
    parts: Vec<Bytes>,
    /// Points into `parts`, whose bytes do not move when the vector does.
    left: Vec<libc::iovec>,
    /// Index in `left` of the first that is not through.
    first: usize,
    header: libc::msghdr,
    total: usize,
}

impl Sending {
    fn new() -> Box<Sending> {
        // SAFETY: all zero is a valid `msghdr`: no address, no parts, no control data.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Sending { parts: Vec::new(), left: Vec::new(), first: 0, header, total: 0 })
    }

    fn fill(&mut self, parts: Vec<Bytes>) {
        self.left.clear();
        let filled = parts.iter().filter(|part| !part.is_empty());
        self.left.extend(
            filled.map(|part| libc::iovec { iov_base: part.as_ptr() as *mut _, iov_len: part.len() }),
        );
        self.total = self.left.iter().map(|part| part.iov_len).sum();
        (self.first, self.parts) = (0, parts);
    }

    /// Takes in that `sent` bytes are through. True when all are.
    pub(super) fn advance(&mut self, sent: usize) -> bool {
        let mut sent = sent;
        while 0 < sent {
            let part = &mut self.left[self.first];
            if sent < part.iov_len {
                part.iov_base = part.iov_base.wrapping_byte_add(sent);
                part.iov_len -= sent;
                return false;
            }
            sent -= part.iov_len;
            self.first += 1;
        }
        self.first == self.left.len()
    }

    /// The request for what is left. A single part goes without a message header, which is cheaper.
    pub(super) fn entry(&mut self, descriptor: RawFd) -> Entry {
        let left = &mut self.left[self.first..];
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let descriptor = types::Fd(descriptor);
        if let [part] = left {
            // A part above 4 GiB goes in several sends.
            let len = u32::try_from(part.iov_len).unwrap_or(u32::MAX);
            return opcode::Send::new(descriptor, part.iov_base.cast(), len).flags(flags).build();
        }
        self.header.msg_iov = left.as_mut_ptr();
        self.header.msg_iovlen = left.len().min(PARTS_MAX);
        opcode::SendMsg::new(descriptor, &raw const self.header).flags(flags as u32).build()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl Transfer {
    /// The write or read of what is left.
    pub(super) fn write(&self, registered: Option<u16>) -> Entry {
        let left = self.progress.left();
        let (descriptor, offset) = (types::Fd(self.descriptor), self.offset + left.start as u64);
        let rest = &self.buffer.memory.bytes()[left];
        let flags = if self.durable { libc::RWF_DSYNC } else { 0 };
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        match registered {
            Some(index) => opcode::WriteFixed::new(descriptor, rest.as_ptr(), len, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(descriptor, rest.as_ptr(), len).offset(offset).rw_flags(flags).build(),
        }
    }

    pub(super) fn read(&mut self, registered: Option<u16>) -> Entry {
        let left = self.progress.left();
        let (descriptor, offset) = (types::Fd(self.descriptor), self.offset + left.start as u64);
        let rest = &mut self.buffer.memory.bytes_mut()[left];
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        match registered {
            Some(index) => {
                opcode::ReadFixed::new(descriptor, rest.as_mut_ptr(), len, index).offset(offset).build()
            }
            None => opcode::Read::new(descriptor, rest.as_mut_ptr(), len).offset(offset).build(),
        }
    }
}

/// The operations, by the number that the kernel hands back with a result. A number is free after an operation's last result only.
#[derive(Default)]
pub(super) struct Operations {
    places: Vec<Option<Operation>>,
    free: Vec<u32>,
    #[allow(clippy::vec_box, reason = "the boxes are what is spared: the kernel wants stable addresses")]
    spare: Vec<Box<Sending>>,
}

impl Operations {
    pub(super) fn insert(&mut self, operation: Operation) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.places[index as usize] = Some(operation);
                index
            }
            None => {
                self.places.push(Some(operation));
                (self.places.len() - 1) as u32
            }
        }
    }

    pub(super) fn get(&mut self, index: u32) -> &mut Operation {
        self.places[index as usize].as_mut().expect("a result of an operation that is over")
    }

    pub(super) fn remove(&mut self, index: u32) -> Operation {
        let operation = self.places[index as usize].take().expect("a result of an operation that is over");
        self.free.push(index);
        operation
    }

    /// Operations that are not over.
    pub(super) fn outstanding(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// A block for sending these parts.
    pub(super) fn sending(&mut self, parts: Vec<Bytes>) -> Box<Sending> {
        let mut sending = self.spare.pop().unwrap_or_else(Sending::new);
        sending.fill(parts);
        sending
    }

    /// The block is done with: its parts, emptied, and how many bytes they were.
    pub(super) fn sent(&mut self, mut sending: Box<Sending>) -> (Vec<Bytes>, usize) {
        let mut parts = std::mem::take(&mut sending.parts);
        parts.clear();
        sending.left.clear();
        let total = sending.total;
        if self.spare.len() < SPARE_MAX {
            self.spare.push(sending);
        }
        (parts, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_send_goes_on_where_it_stopped() {
        let parts = ["ab", "", "cde", "f"].map(|part| Bytes::from_static(part.as_bytes())).to_vec();
        let mut operations = Operations::default();
        let mut sending = operations.sending(parts);
        assert_eq!((sending.total, sending.left.len()), (6, 3));
        assert!(!sending.advance(1));
        assert_eq!((sending.first, sending.left[0].iov_len), (0, 1));
        assert!(!sending.advance(3));
        assert_eq!((sending.first, sending.left[1].iov_len), (1, 1));
        assert!(sending.advance(2));
        let (parts, total) = operations.sent(sending);
        assert_eq!((parts.len(), total), (0, 6));
        assert!(0 < parts.capacity());
    }
}
