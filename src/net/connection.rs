//! One connection of the receiver: what stage it is in, and what has come over it.

use super::assembler::Assembler;
use super::handshake::Handshake;
use crate::base::{Instant, NodeId};
use crate::crypto::LinkKeys;
use crate::io::Fd;
use crate::wire::frame::FrameError;
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes of frames that a link may have waiting for `open`: two of the largest. Past it the connection is not read from, so the
/// peer's own queue fills.
pub const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Bytes that may wait for a turn while a stranger shakes hands: a few packets.
const STRANGER_BYTES_MAX: usize = 8 << 10;
/// The same for a peer that was dialled: its frames may follow its last packet at once, as many as a turn receives.
const DIALLED_BYTES_MAX: usize = 1 << 20;

/// A socket and what this node knows of its other end.
pub struct Connection {
    /// Its socket.
    pub fd: Fd,
    /// What it is good for at present.
    pub stage: Stage,
    /// Bytes that came last, or its beginning.
    pub heard: Instant,
    /// What is to be sent by the receiver itself: packets of the handshake.
    pub outbox: Vec<u8>,
    /// A send of such packets is with the driver.
    pub sending: bool,
    /// Whether the driver receives.
    pub receiving: Receiving,
}

/// What a connection is good for.
pub enum Stage {
    /// The two sides come to know each other.
    Shaking {
        /// How far they are.
        handshake: Box<Handshake>,
        /// What has come and was not looked at yet: the arithmetic belongs into a turn.
        inbox: Vec<u8>,
        /// It ends by then.
        until: Instant,
        /// Whom this node dialled.
        dialled: Option<NodeId>,
    },
    /// A link.
    Linked(Box<Linked>),
    /// A refusal is on its way out.
    Closing {
        /// It is closed by then, sent or not.
        until: Instant,
    },
}

/// A link.
pub struct Linked {
    /// Whose.
    pub peer: NodeId,
    /// Until the other agents have been told.
    pub keys: Option<LinkKeys>,
    /// Since when.
    pub since: Instant,
    /// Cuts what comes in.
    assembler: Assembler,
    /// Whole frames that wait for `open`.
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// Whether the driver receives for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiving {
    /// Yes.
    On,
    /// It has been told to stop.
    Stopping,
    /// No.
    Off,
}

impl Linked {
    /// A link that was made just now.
    pub fn new(peer: NodeId, keys: LinkKeys, since: Instant) -> Linked {
        Linked {
            peer,
            keys: Some(keys),
            since,
            assembler: Assembler::default(),
            frames: VecDeque::new(),
            bytes: 0,
        }
    }
    /// Takes bytes of the stream in.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let (frames, waiting) = (&mut self.frames, &mut self.bytes);
        self.assembler.push(bytes, |frame| {
            *waiting += frame.len();
            frames.push_back(frame);
        })
    }
    /// The oldest whole frame.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
    /// Bytes of whole frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Whether the other agents have been told of it.
    pub fn is_announced(&self) -> bool {
        self.keys.is_none()
    }
}

impl Connection {
    /// A connection that was made just now.
    pub fn new(fd: Fd, stage: Stage, now: Instant) -> Connection {
        Connection { fd, stage, heard: now, outbox: Vec::new(), sending: false, receiving: Receiving::On }
    }
    /// Takes received bytes in; an error says why the connection is to end.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        self.heard = now;
        match &mut self.stage {
            Stage::Shaking { inbox, dialled, .. } => {
                let limit = if dialled.is_some() { DIALLED_BYTES_MAX } else { STRANGER_BYTES_MAX };
                if limit < inbox.len() + bytes.len() {
                    return Err(format!("more than {limit} bytes came in the midst of the handshake"));
                }
                inbox.extend_from_slice(bytes);
                Ok(())
            }
            Stage::Linked(linked) => linked.take(bytes).map_err(|error| error.to_string()),
            Stage::Closing { .. } => Ok(()),
        }
    }
    /// When it ends unless something happens.
    pub fn deadline(&self, silence_max: std::time::Duration) -> Option<Instant> {
        match &self.stage {
            Stage::Shaking { until, .. } | Stage::Closing { until } => Some(*until),
            // While it is not read from, nothing can be heard.
            Stage::Linked(_) if self.receiving != Receiving::On => None,
            Stage::Linked(_) => Some(self.heard.after(silence_max)),
        }
    }
    /// Whether it was taken in and nobody has proved to be anyone.
    pub fn is_stranger(&self) -> bool {
        matches!(self.stage, Stage::Shaking { dialled: None, .. })
    }
}
