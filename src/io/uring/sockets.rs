//! The table of a driver's sockets. A name (`Fd`) is a place and a generation: what is said of a closed socket never reaches the next
//! one at its place, and a place is used again only when the kernel has answered every operation of its last socket.

use crate::io::driver::{Fd, Token};
use std::collections::VecDeque;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// A name has this many bits for the place; the other 12 are the generation.
const PLACE_BITS: u32 = 20;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;
const GENERATION_MASK: u32 = (1 << (32 - PLACE_BITS)) - 1;
/// Most sockets of a driver.
pub(super) const SOCKETS_MAX: usize = 1 << PLACE_BITS;

/// What a socket's receive is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    /// Nothing was asked for.
    Idle,
    /// The kernel has it, under this operation.
    Armed(u32),
    /// It found no buffer and waits in `ReceiveBuffers::hungry`, under this operation.
    Hungry(u32),
}

pub(super) struct Socket {
    pub(super) descriptor: RawFd,
    generation: u32,
    /// Operations that name this socket and are not over. A closed socket's place is free when this is zero.
    outstanding: u32,
    pub(super) receive: Receive,
    /// Sends must not overtake one another, so there is one at a time.
    pub(super) sending: bool,
    open: bool,
}

#[derive(Default)]
pub(super) struct Sockets {
    places: Vec<Socket>,
    /// Oldest first, so that a generation comes back as late as possible.
    free: VecDeque<u32>,
}

fn place(fd: Fd) -> usize {
    (fd.0 & PLACE_MASK) as usize
}

impl Sockets {
    /// Takes a socket in; gives it back when the table is full.
    pub(super) fn insert(&mut self, socket: OwnedFd) -> Result<Fd, OwnedFd> {
        let place = match self.free.pop_front() {
            Some(place) => place,
            None if self.places.len() < SOCKETS_MAX => {
                let fresh = Socket {
                    descriptor: -1,
                    generation: 0,
                    outstanding: 0,
                    receive: Receive::Idle,
                    sending: false,
                    open: false,
                };
                self.places.push(fresh);
                (self.places.len() - 1) as u32
            }
            None => return Err(socket),
        };
        let entry = &mut self.places[place as usize];
        assert!(!entry.open);
        assert_eq!(entry.outstanding, 0);
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        entry.descriptor = socket.into_raw_fd();
        (entry.receive, entry.sending, entry.open) = (Receive::Idle, false, true);
        Ok(Fd(place | entry.generation << PLACE_BITS))
    }

    /// The socket of this name, if it is open.
    pub(super) fn get(&mut self, fd: Fd) -> Option<&mut Socket> {
        let socket = self.places.get_mut(place(fd))?;
        (socket.open && socket.generation == fd.0 >> PLACE_BITS).then_some(socket)
    }

    /// The descriptor of this name, if it is open.
    pub(super) fn descriptor(&self, fd: Fd) -> Option<RawFd> {
        let socket = self.places.get(place(fd))?;
        (socket.open && socket.generation == fd.0 >> PLACE_BITS).then_some(socket.descriptor)
    }

    /// An operation that names this socket begins.
    pub(super) fn begin(&mut self, fd: Fd) {
        self.named(fd).outstanding += 1;
    }

    /// It is over.
    pub(super) fn end(&mut self, fd: Fd) {
        let socket = self.named(fd);
        socket.outstanding -= 1;
        if socket.outstanding == 0 && !socket.open {
            self.free.push_back(fd.0 & PLACE_MASK);
        }
    }

    /// The name is void from now on. Returns the descriptor, which the caller closes.
    pub(super) fn forget(&mut self, fd: Fd) -> RawFd {
        let socket = self.named(fd);
        assert!(socket.open);
        socket.open = false;
        let (descriptor, over) = (socket.descriptor, socket.outstanding == 0);
        if over {
            self.free.push_back(fd.0 & PLACE_MASK);
        }
        descriptor
    }

    /// Names of all open sockets.
    pub(super) fn open(&self) -> Vec<Fd> {
        let names = self.places.iter().enumerate().filter(|(_, socket)| socket.open);
        names.map(|(place, socket)| Fd(place as u32 | socket.generation << PLACE_BITS)).collect()
    }

    /// The socket of an operation that is not over, open or not: its place cannot have been used again.
    fn named(&mut self, fd: Fd) -> &mut Socket {
        let socket = &mut self.places[place(fd)];
        assert_eq!(socket.generation, fd.0 >> PLACE_BITS);
        socket
    }
}

/// An accept that is taking a break because descriptors or memory ran out.
pub(super) struct PausedAccept {
    pub(super) listener: Fd,
    pub(super) token: Token,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        std::os::unix::net::UnixStream::pair().unwrap().0.into()
    }

    fn close(descriptor: RawFd) {
        use std::os::fd::FromRawFd;
        // SAFETY: the table has given the descriptor up; this is its only owner.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }

    #[test]
    fn a_place_is_used_again_only_when_nothing_is_outstanding() {
        let mut sockets = Sockets::default();
        let first = sockets.insert(socket()).unwrap();
        sockets.begin(first);
        close(sockets.forget(first));
        let second = sockets.insert(socket()).unwrap();
        assert_ne!(place(first), place(second));
        sockets.end(first);
        let third = sockets.insert(socket()).unwrap();
        assert_eq!(place(first), place(third));
        assert_ne!(first, third);
        assert!(sockets.get(first).is_none());
        assert_eq!(sockets.open().len(), 2);
        sockets.open().into_iter().for_each(|fd| close(sockets.forget(fd)));
    }
}
