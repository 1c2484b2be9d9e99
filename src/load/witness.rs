//! What a load saw, operation by operation: for whoever holds it against what a store may answer.
//!
//! The load knows no checker: [`Witness`] is what it tells, `Testimony` how a connection pairs its answers with what it asked.

use super::reply::Answer;
use super::workload::{Asked, Workload};
use crate::base::Instant;
use std::collections::{HashSet, VecDeque};

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ended {
    /// It was carried out.
    Done,
    /// It certainly had no effect.
    Refused,
    /// It may have had an effect, or have it later, or never.
    Unknown,
}

/// One operation, from before it was sent until after its answer came, or was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen<'a> {
    /// Who asked. Operations of one client overlap: it does not wait for an answer.
    pub client: u64,
    /// Of which key.
    pub key: &'a str,
    /// What was written; none for a read.
    pub wrote: Option<&'a [u8]>,
    /// What was read, if anything was there.
    pub read: Option<&'a [u8]>,
    /// How it ended.
    pub ended: Ended,
    /// Nanoseconds of the monotonic clock.
    pub start: u64,
    /// The same; not before `start`.
    pub end: u64,
}

/// Hears of every operation of a load, on the load's thread.
pub trait Witness {
    /// An operation has ended.
    fn ended(&mut self, operation: &Seen<'_>);
}

/// What a load tells its witness, and what remains to be told.
pub(super) struct Testimony<'a> {
    witness: &'a mut dyn Witness,
    /// What each connection has asked, in order, and when.
    asked: Vec<VecDeque<(Instant, Asked)>>,
    touched: HashSet<u64>,
}

impl<'a> Testimony<'a> {
    pub(super) fn new(witness: &'a mut dyn Witness, connections: usize) -> Testimony<'a> {
        Testimony {
            witness,
            asked: (0..connections).map(|_| VecDeque::new()).collect(),
            touched: HashSet::new(),
        }
    }

    /// A connection is about to send this.
    pub(super) fn asks(&mut self, connection: usize, at: Instant, asked: Asked) {
        self.touched.insert(asked.key);
        self.asked[connection].push_back((at, asked));
    }

    /// The oldest question of a connection has its answer. Says when a write was asked that was carried out.
    pub(super) fn answered(
        &mut self,
        workload: &Workload,
        connection: usize,
        now: Instant,
        answer: &Answer,
    ) -> Option<Instant> {
        // A server that answers what was not asked is not believed.
        let (at, asked) = self.asked[connection].pop_front()?;
        let key = workload.key_name(asked.key);
        let wrote = asked.write.map(Workload::fresh);
        let ended = match answer {
            Answer::Refused => Ended::Refused,
            Answer::Unknown => Ended::Unknown,
            Answer::Done | Answer::Nil | Answer::Value(_) => Ended::Done,
        };
        let read = match answer {
            Answer::Value(value) => Some(workload.told(value)),
            // To a read it is no value of ours, and so belongs to no write.
            Answer::Done => Some(&b"an answer that is no value"[..]),
            Answer::Nil | Answer::Refused | Answer::Unknown => None,
        };
        self.witness.ended(&Seen {
            client: connection as u64,
            key: &key,
            wrote: wrote.as_ref().map(|fresh| &fresh[..]),
            read: read.filter(|_| asked.write.is_none()),
            ended,
            start: at.0,
            end: now.0,
        });
        (ended == Ended::Done && asked.write.is_some()).then_some(at)
    }

    /// Nothing of what a connection has asked will be answered.
    pub(super) fn lost(&mut self, workload: &Workload, connection: usize, now: Instant) {
        while !self.asked[connection].is_empty() {
            self.answered(workload, connection, now, &Answer::Unknown);
        }
    }

    /// Keys that anything was asked of, rising.
    pub(super) fn touched(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = self.touched.iter().copied().collect();
        keys.sort_unstable();
        keys
    }
}
