//! What waits to be ordered, as far as this replica has heard of it, and what is on its way: the watch over the primary.
//!
//! Each request has a time of its own, from when it was first heard of here to when it must be executed. So a primary that orders
//! others, or orders slowly, resets nobody's time (the delay attack: Clement and others, "Making Byzantine Fault Tolerant Systems
//! Tolerate Byzantine Faults", NSDI 2009; Amir and others, Prime). Every node has a queue of its own, with a limit of its own.

use super::{Admitted, Pbft, READ_LANE};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, NodeId, Origin, Slot};
use crate::protocol::{FaultKind, Outbox, RefusalKind, Refused, Target};
use crate::wire::pbft::{Message, signed_batch};
use crate::wire::sequence::{Verdict, judge};
use crate::wire::{Batch, Entry};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most batches of one node that are watched; what exceeds it is not, until others are executed.
const HEARD_MAX: usize = 512;
/// Their most bytes.
const HEARD_BYTES_MAX: usize = 64 << 20;

/// Most questions for reads that are open.
const READS_MAX: usize = 256;

/// A batch that somebody is waiting for.
#[derive(Clone, Debug)]
struct Heard {
    batch: Batch,
    at: Instant,
}

/// The batches of one node.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// In the order in which they were heard of.
    heard: VecDeque<Heard>,
    bytes: usize,
    /// Assigned in this view and not executed: lane, boot, sequence, floor, slot.
    assigned: BTreeSet<(u8, u64, u64, u64, Slot)>,
    /// The newest boot of each lane, and its newest executed sequence.
    executed: BTreeMap<u8, (u64, u64)>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    queues: BTreeMap<NodeId, Queue>,
    /// Reads of this node that wait for their marker, by its number.
    reads: BTreeSet<u64>,
}

fn key(entry: &Entry) -> (u8, u64, u64, u64, Slot) {
    (entry.origin.lane, entry.origin.boot, entry.sequence, entry.floor, entry.slot)
}

impl Queue {
    fn is_settled(&self, batch: &Batch) -> bool {
        let Origin { lane, boot, .. } = batch.origin;
        self.executed.get(&lane).is_some_and(|newest| (boot, batch.sequence) <= *newest)
    }
    fn is_assigned(&self, batch: &Batch) -> bool {
        let Origin { lane, boot, .. } = batch.origin;
        let from = (lane, boot, batch.sequence, batch.floor, Slot::ZERO);
        let to = (lane, boot, batch.sequence, batch.floor, Slot(u64::MAX));
        self.assigned.range(from..=to).next().is_some()
    }
    /// What an executed batch settles: itself, what its origin had given up before it, and what an earlier life had wanted.
    fn forget(&mut self, entry: &Entry) {
        let (origin, bytes) = (entry.origin, &mut self.bytes);
        self.heard.retain(|Heard { batch, .. }| {
            let given_up = batch.sequence < entry.floor || batch.sequence == entry.sequence;
            let older = batch.origin.lane == origin.lane && batch.origin.boot < origin.boot;
            let settled = older || (batch.origin == origin && given_up);
            if settled {
                *bytes -= batch.body.len();
            }
            !settled
        });
    }
}

impl Requests {
    /// Whether the primary may assign a slot to the batch.
    pub fn admit(&mut self, batch: &Batch, batches_max: usize) -> Admitted {
        if *batch == Batch::default() {
            return Ok(());
        }
        let queue = self.queues.entry(batch.origin.node).or_default();
        if queue.is_assigned(batch) {
            return Err(RefusalKind::Void);
        }
        // Executed already, as far as can be known here; the store would say so as well (B15).
        if queue.is_settled(batch) && !canary::on(Canary::ReplayedRequest) {
            return Err(RefusalKind::Void);
        }
        if batches_max <= queue.assigned.len() {
            return Err(RefusalKind::Overloaded);
        }
        Ok(())
    }
    /// A slot was assigned to it, here or by the primary.
    pub fn assigned(&mut self, entry: &Entry) {
        if entry.origin != Origin::default() {
            self.queues.entry(entry.origin.node).or_default().assigned.insert(key(entry));
        }
    }
    /// Another view: assignments of the last one count no longer.
    pub fn leave_view(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.assigned.clear());
    }
    /// A value was executed. Whether somebody here was waiting for it.
    pub fn executed(&mut self, entry: &Entry) -> bool {
        let Origin { node, lane, boot } = entry.origin;
        if entry.origin == Origin::default() {
            return false;
        }
        let queue = self.queues.entry(node).or_default();
        queue.assigned.remove(&key(entry));
        let newest = queue.executed.entry(lane).or_default();
        let last = if newest.0 == boot { newest.1 } else { 0 };
        // A gap took no effect, and its origin sends it again: only what certainly did is not assigned again.
        if newest.0 <= boot && judge(last, entry.sequence, entry.floor) == Verdict::Applied {
            *newest = (boot, entry.sequence);
        }
        let before = queue.heard.len();
        queue.forget(entry);
        queue.heard.len() < before
    }
    /// The state came whole from others: what was waited for may be in it. Whoever still waits asks again.
    pub fn forget_heard(&mut self) {
        self.queues.values_mut().for_each(|queue| {
            queue.heard.clear();
            queue.bytes = 0;
        });
    }
    /// Somebody waits for this batch. Whether that is news.
    fn hear(&mut self, now: Instant, batch: Batch) -> bool {
        let queue = self.queues.entry(batch.origin.node).or_default();
        if queue.is_settled(&batch) {
            return false;
        }
        let same =
            |heard: &&mut Heard| heard.batch.origin == batch.origin && heard.batch.sequence == batch.sequence;
        if let Some(known) = queue.heard.iter_mut().find(same) {
            // Its origin has given up an earlier one: it goes again with a higher floor, and its time goes on. A liar's other commands
            // under the same number are not listened to.
            if known.batch.floor < batch.floor && known.batch.body.len() == batch.body.len() {
                known.batch = batch;
            }
            return false;
        }
        // A marker of reads stands for those before it too, and has waited as long as they have.
        let is_marker = batch.origin.lane == READ_LANE;
        let earlier = |heard: &&Heard| is_marker && heard.batch.origin == batch.origin;
        let at = queue.heard.iter().filter(earlier).map(|heard| heard.at).min().unwrap_or(now).min(now);
        queue.heard.retain(|heard| !(is_marker && heard.batch.origin == batch.origin));
        let bytes = queue.bytes + batch.body.len();
        if HEARD_MAX <= queue.heard.len() || HEARD_BYTES_MAX < bytes {
            return false;
        }
        queue.bytes = bytes;
        queue.heard.push_back(Heard { batch, at });
        true
    }
    /// Since when the oldest of them waits.
    pub fn oldest(&self) -> Option<Instant> {
        let of = |queue: &Queue| match canary::on(Canary::AnyProgressResetsTheWatch) {
            true => queue.heard.back().map(|heard| heard.at),
            false => queue.heard.front().map(|heard| heard.at),
        };
        self.queues.values().filter_map(of).min()
    }
    /// Everything that waits, one of each node in turn.
    pub fn all(&self) -> Vec<Batch> {
        let longest = self.queues.values().map(|queue| queue.heard.len()).max().unwrap_or(0);
        let turn = |at: usize| self.queues.values().filter_map(move |queue| queue.heard.get(at));
        (0..longest).flat_map(turn).map(|heard| heard.batch.clone()).collect()
    }
    /// How many wait.
    pub fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.heard.len()).sum()
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        for queue in self.queues.values() {
            assert_eq!(queue.bytes, queue.heard.iter().map(|heard| heard.batch.body.len()).sum::<usize>());
            assert!(queue.heard.len() <= HEARD_MAX && queue.bytes <= HEARD_BYTES_MAX);
        }
    }
}

impl Pbft {
    /// The own route has sent a batch to the primary, or somebody tells of one that waits: "if the client does not receive replies soon enough, it broadcasts the request to all replicas ... the replica relays the
    /// request to the primary" (TOCS 2002, 4.2).
    pub(super) fn heard(&mut self, now: Instant, from: NodeId, batch: Batch, out: &mut Outbox) {
        // A peer's word for an own batch is no better than for another's.
        let is_authentic = if from == self.me { self.is_authentic(&batch) } else { self.is_signed(&batch) };
        if !is_authentic && !canary::on(Canary::ProposeUnchecked) {
            // Whoever passes it on should have looked; its origin may never have heard of it.
            out.fault(from, FaultKind::BadSignature);
            return;
        }
        self.watch(now, batch, out);
    }

    fn watch(&mut self, now: Instant, batch: Batch, out: &mut Outbox) {
        if self.is_primary() {
            // Refused or not, its origin asks again; nobody here suspects this replica.
            let _: Admitted = self.assign(batch);
            return;
        }
        let is_own = batch.origin.node == self.me;
        let news = self.requests.hear(now, batch.clone());
        if news && !is_own && self.active {
            out.send(Target::One(self.primary()), Message::Request { batch });
        }
    }

    /// Reads are ordered: a batch without commands, of this node's own, marks the slot that they must see.
    pub(super) fn read(&mut self, now: Instant, id: u64, out: &mut Outbox) {
        if self.leader().is_none() {
            out.refuse(Refused::Reads { id }, RefusalKind::NotLeader { leader: None });
            return;
        }
        let again = !self.requests.reads.is_empty();
        self.requests.reads.insert(id);
        if READS_MAX < self.requests.reads.len() {
            // Whoever asked so long ago has asked again since.
            self.requests.reads.pop_first();
        }
        let origin = Origin { node: self.me, lane: READ_LANE, boot: self.boot };
        let mut batch = Batch { origin, sequence: id, floor: id, ..Batch::default() };
        batch.signature = self.keys.sign(&signed_batch(self.group, &batch));
        if self.is_primary() {
            if let Err(why) = self.propose(batch, out) {
                out.refuse(Refused::Reads { id }, why);
            }
            return;
        }
        self.requests.hear(now, batch.clone());
        // The first of several unanswered has waited: perhaps the primary does not want to hear.
        let late =
            again && self.requests.oldest().is_some_and(|at| self.options.stall_after <= now.since(at));
        let to = match self.leader().filter(|_| !late) {
            Some(primary) if primary != self.me => Target::One(primary),
            _ => Target::Others,
        };
        out.send(to, Message::Request { batch });
    }

    /// A marker was executed: the reads that wait for it, and for those before it, see everything acknowledged before they were asked.
    pub(super) fn answer_reads(&mut self, entry: &Entry, out: &mut Outbox) {
        let own = Origin { node: self.me, lane: READ_LANE, boot: self.boot };
        if entry.origin == own {
            let later = self.requests.reads.split_off(&(entry.sequence + 1));
            let served = std::mem::replace(&mut self.requests.reads, later);
            if let Some(newest) = served.last() {
                out.read_at(*newest, entry.slot);
            }
        }
    }

    /// When the primary will be suspected: a request, or an assignment of its own, has waited for too long.
    pub(super) fn suspicion_at(&self) -> Option<Instant> {
        if !self.active {
            return None;
        }
        if self.evidence.convicts(self.primary()) && !self.is_primary() {
            return Some(self.changing.entered);
        }
        // Slots are assigned in order, so the first that is not executed has waited longest.
        let mut unexecuted = self.slots.above(self.executed).filter(|(_, place)| place.accepted);
        let assigned = unexecuted.next().map(|(_, place)| place.since);
        // A primary whose own assignments come to no end has no quorum in this view, and makes room for one who may.
        let heard = if self.is_primary() { None } else { self.requests.oldest() };
        let oldest = [heard, assigned].into_iter().flatten().min()?;
        // Each view has its own chance.
        Some(oldest.max(self.changing.entered).after(self.changing.patience))
    }
}
