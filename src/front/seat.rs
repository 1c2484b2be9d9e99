//! What take holds of one connection: its session, the bytes that are not yet commands, and how its socket stands.

use super::Options;
use super::session::{Session, Stop};
use crate::base::Instant;
use crate::io::Fd;
use crate::resp::parse::Parser;
use std::time::Duration;

/// Bytes that may wait behind a command that cannot go on before the socket is no longer read from: about one receive buffer.
const WAITING_BYTES_MAX: usize = 16 << 10;
/// How long a connection may take none of its replies while those of all are too many.
const CUT_AFTER: Duration = Duration::from_secs(1);
/// An empty buffer keeps at most this much memory.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// One connection.
pub(super) struct Seat {
    pub session: Session,
    pub parser: Parser,
    pub fd: Fd,
    /// Tells completions of this connection from those of an earlier one of the same seat.
    pub life: u32,
    pub rest: Rest,
    /// Why the last run ended.
    pub stop: Stop,
    /// `Flow::answered` and `Flow::sent` when the last run began.
    pub answered: u64,
    pub sent: u64,
    /// A receive is outstanding.
    pub receiving: bool,
    /// It has been asked to stop.
    pub stopping: bool,
    /// Nothing more is received: what has come is carried out, then the connection ends.
    pub ended: bool,
    /// The end is planned; the seat waits for `Flow::is_gone`.
    pub finished: bool,
    /// The seat stands in the list of those that take looks at every turn.
    pub watched: bool,
    /// Until when what still comes is read and dropped, of a connection that is given up: were it closed at once, what its client is still
    /// sending would reset it, and the client would never read why.
    pub linger: Option<Instant>,
    /// Bytes sent, and since when there were no more. Running while the connection has more unsent bytes than it may.
    pub stall: Option<(u64, Instant)>,
}

/// Why a seat is not read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// What it sent waits for answers, the rings, or its next turn.
    Unfinished,
    /// It does not take its replies.
    Unread,
}

impl Seat {
    pub fn new(session: Session, fd: Fd, life: u32) -> Seat {
        Seat {
            session,
            parser: Parser::new(),
            fd,
            life,
            rest: Rest::default(),
            stop: Stop::Starved,
            answered: 0,
            sent: 0,
            receiving: false,
            stopping: false,
            ended: false,
            finished: false,
            watched: false,
            linger: None,
            stall: None,
        }
    }

    /// Whether another run can do something that the last could not.
    pub fn can_go_on(&self) -> bool {
        match self.stop {
            Stop::Budget | Stop::Full => true,
            Stop::Waiting => self.answered != self.session.flow.answered(),
            Stop::Unread => {
                self.answered != self.session.flow.answered() || self.sent != self.session.flow.sent()
            }
            Stop::Starved | Stop::Closing => false,
        }
    }

    /// Whether take has something to do for it at a later turn, whatever comes.
    pub fn waits(&self) -> bool {
        self.finished || self.ended || self.session.closing || self.stop != Stop::Starved
    }

    /// Whether the connection has said all that it will be heard to say.
    pub fn is_at_its_end(&self, now: Instant) -> bool {
        let lingers = !self.ended && self.linger.is_some_and(|until| now < until);
        (self.session.closing && !lingers) || (self.ended && self.stop == Stop::Starved)
    }

    /// Why this connection should not be read from, if so. `unsent` is that of all connections.
    pub fn hold(&self, options: &Options, unsent: u64) -> Option<Hold> {
        let own = self.session.flow.unsent();
        let many = options.unsent_bytes_max < own || options.unsent_bytes_total_max < unsent;
        if 0 < own && (many || self.stop == Stop::Unread) {
            return Some(Hold::Unread);
        }
        let waits = self.stop != Stop::Starved && WAITING_BYTES_MAX <= self.rest.len();
        waits.then_some(Hold::Unfinished)
    }

    /// Notes what the client takes of its replies. Returns when it will be given up, were it to take nothing more.
    pub fn watch_stall(
        &mut self,
        now: Instant,
        hold: Option<Hold>,
        options: &Options,
        unsent: u64,
    ) -> Option<Instant> {
        if hold != Some(Hold::Unread) {
            self.stall = None;
            return None;
        }
        let sent = self.session.flow.sent();
        let since = match self.stall {
            Some((before, since)) if before == sent => since,
            _ => now,
        };
        self.stall = Some((sent, since));
        let cut = options.unsent_bytes_total_max < unsent;
        Some(since.after(if cut { CUT_AFTER.min(options.stall_max) } else { options.stall_max }))
    }
}

/// Bytes of a connection that are not yet commands. What is taken from the front is given up only when it is the larger part, so that
/// however small the steps are, each byte is moved a bounded number of times.
#[derive(Debug, Default)]
pub(super) struct Rest {
    bytes: Vec<u8>,
    start: usize,
}

impl Rest {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    /// Takes `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            self.clear();
        } else if self.len() <= self.start {
            self.bytes.copy_within(self.start.., 0);
            self.bytes.truncate(self.bytes.len() - self.start);
            self.start = 0;
        }
    }
    pub fn clear(&mut self) {
        self.start = 0;
        self.bytes.clear();
        if KEPT_BYTES_MAX < self.bytes.capacity() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_what_was_appended_less_what_was_consumed() {
        let mut rest = Rest::default();
        let mut model: Vec<u8> = Vec::new();
        for step in 0..2000usize {
            let piece: Vec<u8> = (0..step % 7).map(|i| (step + i) as u8).collect();
            rest.append(&piece);
            model.extend(&piece);
            let used = (step % 5).min(model.len());
            rest.consume(used);
            model.drain(..used);
            assert_eq!(rest.bytes(), model);
            assert!(rest.start <= rest.len(), "at most half of the buffer is dead");
        }
        rest.consume(rest.len());
        assert!(rest.is_empty() && rest.bytes.capacity() <= KEPT_BYTES_MAX);
    }
}
