//! One group's place in a shard: its core, the route of its front, its reads, and the leader's guards.

use super::{reads, reads::Reads, route, route::Route, trips::Trips};
use crate::base::{Instant, NodeId, Slot, Stamp};
use crate::meter::latencies;
use crate::protocol::Lead;
use crate::wire::Batch;
use crate::wire::forward::Refusal;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::Duration;

/// What the log keeps for itself when its disk is full: votes, floors and what says that things are durable must still fit, and the end
/// of a segment may be left over.
pub const LOG_RESERVE: u64 = 1 << 20;

/// Most bytes that an entry takes in the log beside its body, in the worst case a batch of its own.
const ENTRY_COST: u64 = 2 * crate::io::driver::ALIGN as u64;

/// With less room than this, the largest write is refused.
pub const ROOM_MIN: u64 = LOG_RESERVE + crate::config::limits::BATCH_BYTES_MAX as u64 + ENTRY_COST;

/// What the leader of a group keeps within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// The store's memory bound in logical bytes; 0 for none.
    pub memory_max: u64,
    /// Most bytes of bodies that are appended and not yet applied.
    pub unapplied_bytes_max: usize,
    /// At most one empty entry for expiry in this time.
    pub expiry_pause: Duration,
}

impl Default for Guards {
    fn default() -> Guards {
        Guards { memory_max: 0, unapplied_bytes_max: 256 << 20, expiry_pause: Duration::from_millis(100) }
    }
}

/// An entry that this leader appended and the store has not yet applied.
struct Proposed {
    slot: Slot,
    growth: u64,
    bytes: usize,
    at: Instant,
}

/// A group in a shard.
pub struct Seat<E> {
    /// The protocol core.
    pub engine: E,
    pub(super) route: Route,
    pub(super) reads: Reads,
    guards: Guards,
    leader: Option<NodeId>,
    /// The view in which `leader` is one, of a group that is watched: a view may end and the next begin within one burst.
    view: u64,
    /// Invariant: slots rise.
    proposed: VecDeque<Proposed>,
    /// How many of `proposed` are committed.
    committed: usize,
    growth: u64,
    bytes: usize,
    /// The store's logical bytes, and its next expiry, as last heard.
    memory: u64,
    due: Option<Stamp>,
    last_append: Instant,
    /// Nanoseconds from the proposal of an entry to its commit, at the leader.
    pub quorum: Histogram<u64>,
    trips: Trips,
}

impl<E: Lead> Seat<E> {
    /// A seat for `engine`, whose front is `route`.
    pub fn new(engine: E, route: Route, reads: reads::Options, guards: Guards) -> Seat<E> {
        Seat {
            engine,
            route,
            reads: Reads::new(reads),
            guards,
            leader: None,
            view: 0,
            proposed: VecDeque::new(),
            committed: 0,
            growth: 0,
            bytes: 0,
            memory: 0,
            due: None,
            last_append: Instant::ZERO,
            quorum: latencies(),
            trips: Trips::new(),
        }
    }

    /// How many batches of this node's clients are outstanding, and how many of their reads wait here.
    pub fn waiting(&self) -> (usize, usize) {
        (self.route.len(), self.reads.len())
    }
    /// Who leads, as last seen by `follow`.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Looks who leads. After a change the route and the reads begin anew.
    pub(super) fn follow(&mut self) {
        let leader = self.engine.leader();
        let view = if self.engine.is_watched() { self.engine.standing().term } else { 0 };
        if self.view != view {
            // What was proposed in the last one may have come to nothing.
            (self.view, self.leader) = (view, None);
            self.route.follow(None);
            self.trips.clear();
            self.proposed.clear();
            (self.committed, self.growth, self.bytes) = (0, 0, 0);
        }
        if self.leader != leader {
            self.leader = leader;
            self.route.follow(leader);
            self.reads.follow();
        }
        if self.engine.is_leader() {
            return;
        }
        self.trips.clear();
        if !self.proposed.is_empty() {
            self.proposed.clear();
            (self.committed, self.growth, self.bytes) = (0, 0, 0);
        }
    }

    /// Whether this leader may append the batch, to a log that has `room` for so many bytes.
    pub(super) fn admit(&self, batch: &Batch, room: u64) -> Result<(), Refusal> {
        if !self.engine.is_leader() {
            return Err(Refusal::NotLeader);
        }
        let memory = self.memory.saturating_add(self.growth).saturating_add(batch.growth);
        if 0 < batch.growth && 0 < self.guards.memory_max && self.guards.memory_max < memory {
            return Err(Refusal::OutOfMemory);
        }
        let on_its_way = self.bytes as u64 + self.proposed.len() as u64 * ENTRY_COST;
        if room < LOG_RESERVE + on_its_way + batch.body.len() as u64 + ENTRY_COST {
            return Err(Refusal::DiskFull);
        }
        if self.guards.unapplied_bytes_max < self.bytes + batch.body.len() {
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    /// The core has appended an entry for this leader.
    pub(super) fn appended(&mut self, now: Instant, growth: u64, bytes: usize) {
        let slot = self.engine.last();
        // A leader that lost its reign and has another begins below what came to nothing.
        while self.proposed.back().is_some_and(|p| slot <= p.slot)
            && let Some(void) = self.proposed.pop_back()
        {
            self.trips.clear();
            self.growth = self.growth.saturating_sub(void.growth);
            self.bytes -= void.bytes;
            self.committed = self.committed.min(self.proposed.len());
        }
        self.proposed.push_back(Proposed { slot, growth, bytes, at: now });
        self.growth = self.growth.saturating_add(growth);
        self.bytes += bytes;
        self.last_append = now;
        self.trips.leaves(slot, now);
    }

    /// Nanoseconds from an append's leaving to a follower's acknowledgement, at the leader.
    pub fn trips(&self) -> &Histogram<u64> {
        &self.trips.nanos
    }
    /// After a settle: times what followers have acknowledged.
    pub(super) fn time_trips(&mut self, now: Instant) {
        if !self.trips.is_empty() {
            let followers = self.engine.followers();
            self.trips.heard(now, followers.into_iter().map(|f| (f.id, f.matched)));
        }
    }

    /// `slot` is decided.
    pub(super) fn committed(&mut self, now: Instant, slot: Slot) {
        while let Some(p) = self.proposed.get(self.committed).filter(|p| p.slot <= slot) {
            self.quorum.saturating_record(now.since(p.at).as_nanos() as u64);
            self.committed += 1;
        }
    }

    /// The store has come to `slot`.
    pub(super) fn applied(&mut self, slot: Slot) {
        while self.proposed.front().is_some_and(|p| p.slot <= slot) {
            if let Some(p) = self.proposed.pop_front() {
                self.growth = self.growth.saturating_sub(p.growth);
                self.bytes -= p.bytes;
                self.committed = self.committed.saturating_sub(1);
            }
        }
    }

    /// What the store says of itself.
    pub(super) fn store_says(&mut self, memory: u64, due: Option<Stamp>) {
        self.memory = memory;
        self.due = due;
    }

    /// Whether an empty entry must carry the log's stamp past a deadline that is due while nothing is written.
    pub(super) fn wants_stamp(&self, now: Instant, clock: Stamp) -> bool {
        self.engine.is_leader()
            && self.due.is_some_and(|due| due <= clock)
            && self.guards.expiry_pause <= now.since(self.last_append)
    }

    /// When `wants_stamp` may become true.
    fn stamp_deadline(&self, now: Instant, clock: Stamp) -> Option<Instant> {
        let due = self.due.filter(|_| self.engine.is_leader())?;
        let at = now.after(Duration::from_millis(due.0.saturating_sub(clock.0)));
        Some(at.max(self.last_append.after(self.guards.expiry_pause)))
    }

    /// When something of this group is due.
    pub(super) fn deadline(&self, now: Instant, clock: Stamp) -> Option<Instant> {
        let of_core = self.engine.deadline();
        let of_reads = self.reads.deadline(self.leader.is_some());
        let of_stamp = self.stamp_deadline(now, clock);
        [of_core, self.route.deadline(), of_reads, of_stamp].into_iter().flatten().min()
    }

    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        self.engine.check();
        assert!(self.committed <= self.proposed.len());
        assert_eq!(self.bytes, self.proposed.iter().map(|p| p.bytes).sum::<usize>());
    }
}

/// Builds the options of routes and reads from the two times that clients know.
pub fn waits(write_wait: Duration, answer_within: Duration) -> (route::Options, reads::Options) {
    let route = route::Options {
        write_wait,
        answer_within,
        retry_after: answer_within / 2,
        ..route::Options::default()
    };
    (route, reads::Options { wait: write_wait, ..reads::Options::default() })
}
