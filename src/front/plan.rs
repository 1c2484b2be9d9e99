//! What take and reply tell each other: a plan down the ring, numbers back.

use crate::base::Number;
use crate::io::Fd;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The next thing that one connection is to be sent, or that happens to it. Plans of a connection are in its order.
#[derive(Debug)]
pub struct Planned {
    /// The connection's place in both agents' tables. Used anew only after `Flow::is_gone`.
    pub seat: u32,
    /// What.
    pub plan: Plan,
}

/// See [`Planned`].
#[derive(Debug)]
pub enum Plan {
    /// The connection begins.
    Open {
        /// Its socket.
        fd: Fd,
        /// Its numbers.
        flow: Arc<Flow>,
    },
    /// These bytes answer `count` commands.
    Local {
        /// RESP.
        bytes: Bytes,
        /// How many commands they answer.
        count: u32,
    },
    /// The replies to commands of a write batch.
    Write(Range),
    /// The replies to commands of a read batch.
    Read(Range),
    /// Nothing more will come: close the socket when everything before is answered and sent.
    Close,
    /// As `Close`, without sending what is unsent: its reader does not read.
    Abandon,
}

/// Commands of one connection that stand side by side in a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The write batch's sequence, or the read batch's id.
    pub batch: u64,
    /// Place of the first within the batch.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// The client has said that it wants no replies to them (CLIENT REPLY).
    pub silent: bool,
}

/// What reply tells take about one connection.
#[derive(Debug, Default)]
pub struct Flow {
    answered: AtomicU64,
    unsent: AtomicU64,
    sent: AtomicU64,
    broken: AtomicBool,
    gone: AtomicBool,
}

impl Flow {
    /// How many commands of the connection are answered: as replies are made in order, the first so many.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }
    /// Bytes that are made and not yet sent.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }
    /// Bytes sent since the connection began.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
    /// Sending has failed or was given up: the client is not there any more, or does not read.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
    /// The socket is closed and the seat free.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn set_answered(&self, count: u64) {
        self.answered.store(count, Ordering::Release);
    }
    pub(super) fn set_bytes(&self, unsent: u64, sent: u64) {
        self.unsent.store(unsent, Ordering::Relaxed);
        self.sent.store(sent, Ordering::Relaxed);
    }
    pub(super) fn set_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }
}

/// What reply tells take about all connections. Clones name the same numbers.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Every write batch up to this sequence is answered.
    pub writes: Number,
    /// Every read batch up to this id is answered.
    pub reads: Number,
    /// Bytes that are made and not yet sent, of all connections.
    pub unsent: Number,
    /// How many connections have broken (`Flow::is_broken`) since the start.
    pub broken: Number,
}
