//! One connection of the load generator: what is written, what is outstanding, and since when.

use super::etcd::Session;
use super::reply::{Errors, NotResp, Replies, ReplyReader};
use super::workload::{Asked, Workload};
use crate::base::Instant;
use crate::io::driver::Fd;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is being made.
    Down,
    /// The password is on its way.
    Authenticating,
    /// It takes commands.
    Ready,
}

/// Commands that were due at one time.
struct Run {
    at: Instant,
    count: u64,
}

pub(super) struct Connection {
    pub(super) fd: Option<Fd>,
    pub(super) state: State,
    /// Which endpoint it goes to.
    pub(super) endpoint: usize,
    /// Commands without a reply. Invariant: the sum of `runs`.
    pub(super) outstanding: usize,
    runs: VecDeque<Run>,
    /// Commands that it has issued in an open loop.
    pub(super) issued: u64,
    /// Written, not yet handed to the driver.
    pub(super) out: BytesMut,
    pub(super) sending: bool,
    /// In the generator's list of connections to flush.
    pub(super) dirty: bool,
    /// Kept for its capacity.
    pub(super) parts: Vec<Bytes>,
    pub(super) replies: ReplyReader,
    /// While it speaks to etcd, what it knows of that.
    pub(super) etcd: Option<Session>,
}

impl Connection {
    pub(super) fn new(index: usize, endpoints: usize) -> Connection {
        Connection {
            fd: None,
            state: State::Down,
            endpoint: index % endpoints,
            outstanding: 0,
            runs: VecDeque::new(),
            issued: 0,
            out: BytesMut::new(),
            sending: false,
            dirty: false,
            parts: Vec::new(),
            replies: ReplyReader::default(),
            etcd: None,
        }
    }

    /// Writes the next command; what it asks.
    pub(super) fn write(&mut self, workload: &mut Workload) -> Asked {
        match &mut self.etcd {
            None => workload.write(&mut self.out),
            Some(session) => workload.put(|key, value| session.put(key, value, &mut self.out)),
        }
    }

    /// Takes bytes in; what ended in them.
    pub(super) fn take(&mut self, bytes: &[u8], errors: &mut Errors) -> Result<Replies, NotResp> {
        let Some(session) = &mut self.etcd else { return self.replies.take(bytes, errors) };
        let replies = session.take(bytes, errors);
        self.out.unsplit(session.says());
        replies
    }

    /// `count` commands were written that were due at `at`.
    pub(super) fn expect(&mut self, at: Instant, count: usize) {
        if count == 0 {
            return;
        }
        self.outstanding += count;
        match self.runs.back_mut() {
            Some(run) if run.at == at => run.count += count as u64,
            _ => self.runs.push_back(Run { at, count: count as u64 }),
        }
    }

    /// The oldest `count` commands have their replies: tells of each run since when it was due.
    pub(super) fn answered(&mut self, count: usize, mut tell: impl FnMut(Instant, u64)) {
        // A server that answers what was not asked is not believed.
        let mut left = count.min(self.outstanding) as u64;
        self.outstanding -= left as usize;
        while 0 < left {
            let run = self.runs.front_mut().expect("runs add up to what is outstanding");
            let step = run.count.min(left);
            tell(run.at, step);
            (run.count, left) = (run.count - step, left - step);
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Begins with the password.
    pub(super) fn authenticate(&mut self, password: &str) {
        self.state = State::Authenticating;
        self.out.put_slice(format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).as_bytes());
    }

    /// Forgets the lost connection; the next one goes to the next endpoint.
    pub(super) fn reset(&mut self, endpoints: usize, replies: ReplyReader) {
        assert_eq!(self.outstanding, 0);
        self.state = State::Down;
        self.endpoint = (self.endpoint + 1) % endpoints;
        self.out.clear();
        self.replies = replies;
        self.etcd = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_belong_to_the_oldest_commands() {
        let mut connection = Connection::new(5, 2);
        assert_eq!(connection.endpoint, 1);
        connection.expect(Instant(10), 3);
        connection.expect(Instant(10), 1);
        connection.expect(Instant(20), 2);
        let mut told = Vec::new();
        connection.answered(5, |at, count| told.push((at.0, count)));
        assert_eq!((told, connection.outstanding), (vec![(10, 4), (20, 1)], 1));
        connection.answered(9, |at, count| assert_eq!((at.0, count), (20, 1)));
        connection.reset(2, ReplyReader::default());
        assert_eq!((connection.endpoint, connection.outstanding), (0, 0));
    }
}
