//! What a leader knows of one follower, and what it has on its way to it.

use super::shipping::Shipping;
use crate::base::canary::{self, Canary};
use crate::base::{Instant, JobId, NodeId, Slot};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// How entries reach a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is not known where the logs agree: one empty append at a time asks, until one matches.
    Probe {
        /// The question is under way; a heartbeat repeats it.
        asked: bool,
    },
    /// Entries are sent before earlier ones are acknowledged (thesis 10.2.1), within a window.
    Replicate,
    /// The entries it needs have left the log: a snapshot goes over in pieces (thesis 5).
    Snapshot(Shipping),
}

/// What stays in the log for a follower that takes a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Everything above.
    pub above: Slot,
    /// For as long as the log has not grown to this, by the count of `Tail::grown`.
    pub until: u64,
}

/// One follower.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Who.
    pub id: NodeId,
    /// The log is known to agree, durably, up to here. Only ever rises within a term.
    pub matched: Slot,
    /// The next entry to send. Invariant: `matched < next <= last + 1`.
    pub next: Slot,
    /// How.
    pub mode: Mode,
    /// Appends with entries that are not acknowledged: their last slot and bytes. Invariant: slots rise; above `matched`.
    inflight: VecDeque<(Slot, usize)>,
    /// Sum of their bytes.
    inflight_bytes: usize,
    /// Entries or a piece that were asked from disk for it.
    pub fetch: Option<JobId>,
    /// When it last answered.
    pub heard: Instant,
    /// The newest round of confirmation that it echoed (thesis 6.4).
    pub round: u64,
    /// The newest round that was sent to it.
    pub round_sent: u64,
    /// The newest commit index that was sent to it.
    pub told: Slot,
    /// While it takes a snapshot, and until it has come up to the log's end: what it will need next stays in the log.
    pub keeps: Option<Kept>,
    /// It waits for the commit index to reach this slot: its clients or its reads do.
    pub wanted: Slot,
}

impl Progress {
    /// At the start of a term: optimistic, as the thesis has it (3.5, nextIndex starts just after the leader's last entry).
    pub fn new(id: NodeId, next: Slot, now: Instant) -> Progress {
        Progress {
            id,
            matched: Slot::ZERO,
            next,
            mode: Mode::Replicate,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            fetch: None,
            heard: now,
            round: 0,
            round_sent: 0,
            told: Slot::ZERO,
            keeps: None,
            wanted: Slot::ZERO,
        }
    }

    /// It has answered, and knows of that round.
    pub fn hears(&mut self, now: Instant, round: u64) {
        self.heard = now;
        if round <= self.round_sent {
            self.round = self.round.max(round);
        }
    }

    /// Whether it waits for news of a commit index that rose to `commit`.
    pub fn is_untold(&self, commit: Slot) -> bool {
        self.told < self.wanted && self.told < commit
    }

    /// Appends under way.
    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Whether another append with entries may be sent.
    pub fn has_room(&self, appends_max: usize, bytes_max: usize) -> bool {
        self.inflight.len() < appends_max && self.inflight_bytes < bytes_max
    }

    /// An append that ends at `last` has been sent.
    pub fn sent(&mut self, last: Slot, bytes: usize) {
        assert!(self.next <= last);
        assert_eq!(self.mode, Mode::Replicate);
        self.next = last.next();
        self.inflight.push_back((last, bytes));
        self.inflight_bytes += bytes;
    }

    /// The follower's log agrees, durably, up to `slot`. Late answers say less than is known: both indexes only rise.
    pub fn acknowledged(&mut self, slot: Slot) {
        self.matched = if canary::on(Canary::MatchFalls) { slot } else { self.matched.max(slot) };
        if !canary::on(Canary::NextBelowMatch) {
            self.next = self.next.max(self.matched.next());
        }
        while let Some((_, bytes)) = self.inflight.front().copied().filter(|(last, _)| *last <= self.matched)
        {
            self.inflight_bytes -= bytes;
            self.inflight.pop_front();
        }
    }

    /// What must stay in the log for it, when all below `floor` could leave: the last slot that it does not need. It must be heard, and
    /// what it needs must not have become dearer than another snapshot.
    pub fn needs_above(&mut self, floor: Slot, grown: u64, is_heard: bool) -> Option<Slot> {
        self.keeps = self.keeps.filter(|kept| is_heard && grown <= kept.until && self.matched < floor);
        self.keeps.map(|kept| kept.above.max(self.matched))
    }

    /// Sends whatever it can get, from `next` on.
    pub fn replicate(&mut self) {
        self.mode = Mode::Replicate;
    }

    /// What is on its way may be lost or does not fit: asks whether the logs agree just before `next`.
    pub fn probe(&mut self, next: Slot) {
        assert!(self.matched < next);
        self.next = next;
        self.mode = Mode::Probe { asked: false };
        self.forget_inflight();
    }

    /// Sends a snapshot instead.
    pub fn ship(&mut self, now: Instant) {
        self.mode = Mode::Snapshot(Shipping::new(now));
        self.fetch = None;
        self.forget_inflight();
    }

    /// The snapshot has arrived, or the log reaches back far enough: entries go on from what is known to agree.
    pub fn shipped(&mut self) {
        assert!(matches!(self.mode, Mode::Snapshot(_)));
        self.next = self.matched.next();
        self.fetch = None;
        self.mode = Mode::Replicate;
    }

    /// Everything but times and names of errands.
    pub fn outline(&self, to: &mut impl Hasher) {
        let mode = match &self.mode {
            Mode::Probe { asked } => (0, u64::from(*asked), 0),
            Mode::Replicate => (1, 0, 0),
            Mode::Snapshot(shipping) => shipping.outline(),
        };
        (self.id, self.matched, self.next, mode, self.fetch.is_some()).hash(to);
        (self.round, self.round_sent, self.told, self.wanted).hash(to);
        self.inflight.iter().for_each(|(slot, bytes)| (slot, bytes).hash(to));
    }

    /// Panics when an invariant does not hold.
    pub fn check(&self, last: Slot) {
        assert!(self.matched < self.next && self.next <= last.next());
        assert!(self.inflight.iter().is_sorted_by(|a, b| a.0 < b.0));
        assert!(self.inflight.front().is_none_or(|(slot, _)| self.matched < *slot));
        assert_eq!(self.inflight_bytes, self.inflight.iter().map(|(_, bytes)| bytes).sum::<usize>());
        assert!(self.round <= self.round_sent);
        assert!(self.inflight.is_empty() || self.mode == Mode::Replicate);
    }

    fn forget_inflight(&mut self) {
        self.inflight.clear();
        self.inflight_bytes = 0;
    }
}
