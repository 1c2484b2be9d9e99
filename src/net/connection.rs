//! One connection of the receiver: what stage it is in, and what has come over it.

use super::assembler::Assembler;
use super::handshake::Handshake;
use crate::base::{Instant, NodeId};
use crate::crypto::LinkKeys;
use crate::io::Fd;
use crate::wire::frame::FrameError;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes of frames that a link may have waiting for `open`: two of the largest. Past it the connection is not read from, so the
/// peer's own queue fills.
pub const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Bytes that may wait for a turn while a stranger shakes hands: a few packets.
const STRANGER_BYTES_MAX: usize = 8 << 10;
/// The same for a peer that was dialled: its frames may follow its last packet at once, as many as a turn receives.
const DIALLED_BYTES_MAX: usize = 1 << 20;

/// How long a frame may take from its first byte to its last. Nothing vouches for a header before the whole frame is there: a length
/// that was changed on the way would else swallow all that follows, and the link would be deaf while bytes come.
pub const FRAME_MAX: Duration = Duration::from_secs(30);

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
    /// Since when a frame is incomplete.
    begun: Option<Instant>,
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
            begun: None,
        }
    }
    /// Takes bytes of the stream in.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> Result<(), FrameError> {
        let (frames, waiting, begun) = (&mut self.frames, &mut self.bytes, &mut self.begun);
        self.assembler.push(bytes, |frame| {
            *waiting += frame.len();
            *begun = None;
            frames.push_back(frame);
        })?;
        let is_amid_frame = self.assembler.is_amid_frame();
        self.begun = self.begun.or(Some(now)).filter(|_| is_amid_frame);
        Ok(())
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
            Stage::Linked(linked) => linked.take(bytes, now).map_err(|error| error.to_string()),
            Stage::Closing { .. } => Ok(()),
        }
    }
    /// When it ends unless something happens.
    pub fn deadline(&self, silence_max: Duration) -> Option<Instant> {
        match &self.stage {
            Stage::Shaking { until, .. } | Stage::Closing { until } => Some(*until),
            // While it is not read from, nothing can be heard.
            Stage::Linked(_) if self.receiving != Receiving::On => None,
            Stage::Linked(linked) => {
                let (silent, endless) =
                    (self.heard.after(silence_max), linked.begun.map(|at| at.after(FRAME_MAX)));
                Some(endless.map_or(silent, |endless| endless.min(silent)))
            }
        }
    }
    /// Why it ends when its deadline has come.
    pub fn lateness(&self, now: Instant, silence_max: Duration) -> String {
        match &self.stage {
            Stage::Linked(_) if self.heard.after(silence_max) <= now => {
                format!("nothing was heard for {silence_max:?}")
            }
            Stage::Linked(_) => format!("a frame that began {FRAME_MAX:?} ago has not come to its end"),
            Stage::Shaking { .. } | Stage::Closing { .. } => "it took too long".into(),
        }
    }
    /// Whatever has not come until now could not come: this node did not listen.
    pub fn listens_again(&mut self, now: Instant) {
        self.heard = now;
        if let Stage::Linked(linked) = &mut self.stage {
            linked.begun = linked.begun.map(|_| now);
        }
    }
    /// Whether it was taken in and nobody has proved to be anyone.
    pub fn is_stranger(&self) -> bool {
        matches!(self.stage, Stage::Shaking { dialled: None, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GroupId, Term};
    use crate::crypto::DirectionKeys;
    use crate::wire::frame::Lane;
    use crate::wire::raft;
    use crate::wire::sealer::Sealer;

    const SILENCE_MAX: Duration = Duration::from_secs(3);

    fn link() -> Connection {
        let keys = || DirectionKeys::derive(&[1; 32], false);
        let linked = Linked::new(NodeId(2), LinkKeys { send: keys(), receive: keys() }, Instant::ZERO);
        Connection::new(Fd(1), Stage::Linked(Box::new(linked)), Instant::ZERO)
    }
    fn frame() -> Vec<u8> {
        let mut sealer = Sealer::new(NodeId(2), DirectionKeys::derive(&[1; 32], false));
        let message = raft::Message::TimeoutNow { term: Term(1) }.into();
        sealer.push(Lane::Urgent, GroupId(1), &message).expect("it fits");
        sealer.seal(Lane::Urgent).parts.concat()
    }

    /// The second in which the link ends that hears `first` and then a whole frame each second.
    fn ends_after(first: &[u8]) -> Option<u64> {
        let mut link = link();
        link.take(first, Instant::ZERO).expect("nothing that it sees at once");
        (1..120).find(|second| {
            let now = Instant::ZERO.after(Duration::from_secs(*second));
            let is_late = link.deadline(SILENCE_MAX).expect("a link always waits") <= now;
            link.take(&frame(), now).expect("nothing that it sees at once");
            is_late
        })
    }

    #[test]
    fn a_link_whose_frame_never_ends_is_over_although_bytes_come() {
        assert_eq!(ends_after(&frame()), None);
        let mut longer = frame();
        // A bit of the length has flipped: half a megabyte more.
        longer[10] ^= 8;
        assert_eq!(ends_after(&longer), Some(FRAME_MAX.as_secs()));
    }
}
