//! The connections of the simulated world: byte streams as TCP gives them, between nodes and between clients and nodes.
//!
//! A stream keeps its order and loses nothing, or ends: segments may be of any size and take any time, a window bounds what is on its
//! way, an end may be orderly (everything arrives first) or a reset, and a partition holds everything back until it heals or the
//! sender's kernel gives up; the other side then knows nothing (half-open).

use super::driver::Connection;
use crate::io::Fd;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Who is at one side of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Party {
    /// A node in one of its lives.
    Node {
        /// Which.
        index: usize,
        /// In which life.
        life: u64,
    },
    /// A client.
    Client(usize),
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes.
    Data(Bytes),
    /// The sender has closed its side.
    End,
    /// The connection is void.
    Reset,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Pipe {
    /// On their way, oldest first; each has an arrival planned.
    pub flight: VecDeque<Segment>,
    /// When the newest of them arrives: streams keep their order.
    pub last_arrival: u64,
    /// Bytes sent and not yet taken by the receiver.
    pub outstanding: usize,
    /// Whose socket has more to send than the window allows.
    pub waiting: Option<Fd>,
    /// The sender says nothing more.
    pub closed: bool,
    /// Arrivals that found the network broken, in a row.
    pub tries: u32,
    /// Somebody has changed what it carries.
    pub tampered: bool,
}

/// A connection. Side 0 has dialled.
#[derive(Debug)]
pub struct Stream {
    /// Who is at which side.
    pub parties: [Party; 2],
    /// What each side sends.
    pub pipes: [Pipe; 2],
}

/// All connections.
#[derive(Default)]
pub struct Streams {
    streams: BTreeMap<u64, Stream>,
    last: u64,
}

impl Streams {
    /// Makes one; gives back both of its sides.
    pub fn connect(&mut self, dialler: Party, acceptor: Party) -> [Connection; 2] {
        self.last += 1;
        let id = self.last;
        self.streams.insert(id, Stream { parties: [dialler, acceptor], pipes: Default::default() });
        [0, 1].map(|side| Connection { id, side })
    }
    /// A connection that is not over.
    pub fn get(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
    }
    /// Number of connections.
    pub fn len(&self) -> usize {
        self.streams.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
    /// The `at`-th.
    pub fn nth(&self, at: usize) -> Option<u64> {
        self.streams.keys().nth(at).copied()
    }
    /// Those of which this holds, by their ids.
    pub fn where_so<'a>(&'a self, holds: impl Fn(&Stream) -> bool + 'a) -> impl Iterator<Item = u64> + 'a {
        self.streams.iter().filter(move |(_, stream)| holds(stream)).map(|(id, _)| *id)
    }
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values()
    }
    /// Forgets connections over which nothing travels and nobody speaks.
    pub fn forget_if_over(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.pipes.iter().all(|pipe| pipe.closed && pipe.flight.is_empty()) {
            self.streams.remove(&id);
        }
    }
    /// Most bytes that any direction of any connection holds.
    pub fn fullest(&self) -> usize {
        let pipes = self.streams.values().flat_map(|stream| &stream.pipes);
        pipes.map(|pipe| pipe.outstanding).max().unwrap_or(0)
    }
}
