//! What waits to be ordered, as far as this replica has heard of it, and what is on its way: the watch over the primary.
//!
//! Each request has a time of its own, from when it was first heard of here to when it must be executed. So a primary that orders
//! others, or orders slowly, resets nobody's time (the delay attack: Clement and others, "Making Byzantine Fault Tolerant Systems
//! Tolerate Byzantine Faults", NSDI 2009; Amir and others, Prime). Every node has a queue of its own, with a limit of its own.

use super::{Admitted, Pbft, READ_LANE};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, NodeId, Origin, Slot};
use crate::protocol::{FaultKind, Outbox, RefusalKind, Refused, Target};
use crate::wire::members::OPERATOR;
use crate::wire::pbft::{Message, signed_batch};
use crate::wire::sequence::{Verdict, judge};
use crate::wire::{Batch, Entry};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Most batches of one node that are watched; what exceeds it is not, until others are executed.
const HEARD_MAX: usize = 512;
/// Their most bytes.
const HEARD_BYTES_MAX: usize = 64 << 20;

/// So many waiting batches at most are shown to the others at a time.
const SHARED_MAX: usize = 16;

/// Most questions for reads that are open.
const READS_MAX: usize = 256;

/// A batch that somebody is waiting for.
#[derive(Clone, Debug)]
struct Heard {
    batch: Batch,
    at: Instant,
    /// Assignments to other nodes' batches before, in this view.
    others: u64,
    /// When the other replicas were told of it last.
    shared: Option<Instant>,
}

/// Those of them that others have not been told of for four times as long as they wait before: they may have missed it. Counts as told.
fn tell<'q>(waiting: impl Iterator<Item = &'q mut Heard>, now: Instant, after: Duration) -> Vec<Batch> {
    let is_new = |heard: &&mut Heard| heard.shared.is_none_or(|at| 4 * after <= now.since(at));
    let told = waiting.filter(is_new).take(SHARED_MAX).map(|heard| {
        heard.shared = Some(now);
        heard.batch.clone()
    });
    told.collect()
}

/// A batch of one node at a slot: lane, boot, sequence, floor, slot.
type Assigned = (u8, u64, u64, u64, Slot);

/// The batches of one node.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// In the order in which they were heard of.
    heard: VecDeque<Heard>,
    bytes: usize,
    /// Assigned in this view and not executed.
    assigned: BTreeSet<Assigned>,
    /// The newest boot of each lane, and its newest executed sequence.
    executed: BTreeMap<u8, (u64, u64)>,
    /// How often a slot was assigned to one of its batches.
    assignments: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    queues: BTreeMap<NodeId, Queue>,
    /// Reads of this node that wait for their marker, by its number.
    reads: BTreeSet<u64>,
    /// How often a slot was assigned to a batch of anybody.
    assignments: u64,
}

fn key(entry: &Entry) -> Assigned {
    (entry.origin.lane, entry.origin.boot, entry.sequence, entry.floor, entry.slot)
}

fn is_assigned(assigned: &BTreeSet<Assigned>, batch: &Batch) -> bool {
    let at = |slot| (batch.origin.lane, batch.origin.boot, batch.sequence, batch.floor, slot);
    assigned.range(at(Slot::ZERO)..=at(Slot(u64::MAX))).next().is_some()
}

impl Queue {
    fn is_settled(&self, batch: &Batch) -> bool {
        let Origin { lane, boot, .. } = batch.origin;
        self.executed.get(&lane).is_some_and(|newest| (boot, batch.sequence) <= *newest)
    }
    /// What an executed batch settles: itself, what its origin had given up before it, and what an earlier life had wanted. How many were
    /// waited for, and for how long together.
    fn forget(&mut self, now: Instant, entry: &Entry) -> (u64, Duration) {
        let (origin, bytes) = (entry.origin, &mut self.bytes);
        let (mut waits, mut waited) = (0, Duration::ZERO);
        self.heard.retain(|Heard { batch, at, .. }| {
            let given_up = batch.sequence < entry.floor || batch.sequence == entry.sequence;
            let older = batch.origin.lane == origin.lane && batch.origin.boot < origin.boot;
            let settled = older || (batch.origin == origin && given_up);
            if settled {
                *bytes -= batch.body.len();
                (waits, waited) = (waits + 1, waited + now.since(*at));
            }
            !settled
        });
        (waits, waited)
    }
}

impl Requests {
    /// Whether this batch would have no effect any more.
    pub fn is_settled(&self, batch: &Batch) -> bool {
        self.queues.get(&batch.origin.node).is_some_and(|queue| queue.is_settled(batch))
    }
    /// Whether the primary may assign a slot to the batch.
    pub fn admit(&mut self, batch: &Batch, batches_max: usize) -> Admitted {
        if *batch == Batch::default() {
            return Ok(());
        }
        let queue = self.queues.entry(batch.origin.node).or_default();
        if is_assigned(&queue.assigned, batch) {
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
            let queue = self.queues.entry(entry.origin.node).or_default();
            queue.assigned.insert(key(entry));
            queue.assignments += 1;
            self.assignments += 1;
        }
    }
    /// Another view: assignments of the last one count no longer.
    pub fn leave_view(&mut self) {
        for queue in self.queues.values_mut() {
            queue.assigned.clear();
            let others = self.assignments - queue.assignments;
            queue.heard.iter_mut().for_each(|heard| heard.others = others);
        }
    }
    /// A value was executed. How many batches were waited for that it settles, and for how long together.
    pub fn executed(&mut self, now: Instant, entry: &Entry) -> (u64, Duration) {
        let Origin { node, lane, boot } = entry.origin;
        if entry.origin == Origin::default() {
            return (0, Duration::ZERO);
        }
        let queue = self.queues.entry(node).or_default();
        queue.assigned.remove(&key(entry));
        let newest = queue.executed.entry(lane).or_default();
        let last = if newest.0 == boot { newest.1 } else { 0 };
        // A gap took no effect, and its origin sends it again: only what certainly did is not assigned again.
        // What an operator says is the store's alone to judge: of two amendments for one epoch the later may be the one that takes effect.
        if node != OPERATOR
            && newest.0 <= boot
            && judge(last, entry.sequence, entry.floor) == Verdict::Applied
        {
            *newest = (boot, entry.sequence);
        }
        queue.forget(now, entry)
    }
    /// The state came whole from others: what was waited for may be in it. Whoever still waits asks again.
    pub fn forget_heard(&mut self) {
        self.queues.values_mut().for_each(|queue| {
            queue.heard.clear();
            queue.bytes = 0;
        });
    }
    /// The keys of these nodes have changed: what they signed before is believed no more, and those who still are there sign it again.
    pub fn forget_nodes(&mut self, is_stale: impl Fn(NodeId) -> bool) {
        for (_, queue) in self.queues.iter_mut().filter(|(node, _)| is_stale(**node)) {
            queue.heard.clear();
            queue.bytes = 0;
        }
    }
    /// Whether a batch of this node waits, or stands in a slot that is not executed.
    pub fn hears(&self, node: NodeId) -> bool {
        let is_under_way = |queue: &Queue| !queue.heard.is_empty() || !queue.assigned.is_empty();
        self.queues.get(&node).is_some_and(is_under_way)
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
        // A marker of reads stands for those before it too. The first stays beside it: reads overlap, and each has a time of its own.
        if batch.origin.lane == READ_LANE {
            let mut first = true;
            queue.heard.retain(|heard| heard.batch.origin != batch.origin || std::mem::take(&mut first));
            // Those of a liar are not empty.
            queue.bytes = queue.heard.iter().map(|heard| heard.batch.body.len()).sum();
        }
        let bytes = queue.bytes + batch.body.len();
        if HEARD_MAX <= queue.heard.len() || HEARD_BYTES_MAX < bytes {
            return false;
        }
        queue.bytes = bytes;
        let others = self.assignments - queue.assignments;
        queue.heard.push_back(Heard { batch, at: now, others, shared: None });
        true
    }
    /// Whether more than `most` slots were assigned to other nodes' batches while one of this node's waited for the first.
    pub fn is_passed_over(&self, most: u64) -> bool {
        let over = |queue: &Queue| {
            let passed = |heard: &Heard| most < self.assignments - queue.assignments - heard.others;
            queue
                .heard
                .front()
                .is_some_and(|heard| passed(heard) && !is_assigned(&queue.assigned, &heard.batch))
        };
        self.queues.values().any(over)
    }
    /// Batches of node `me` that have waited for so long, or were passed over so often, that others should hear of them.
    pub fn share(&mut self, me: NodeId, now: Instant, after: Duration, most: u64) -> Vec<Batch> {
        let Some(queue) = self.queues.get_mut(&me) else { return Vec::new() };
        let others = self.assignments - queue.assignments;
        let waits = |heard: &&mut Heard| after <= now.since(heard.at) || most < others - heard.others;
        let ordered = queue.heard.iter_mut().filter(|heard| heard.batch.origin.lane != READ_LANE);
        tell(ordered.filter(waits), now, after)
    }
    /// Batches of others that have waited for so long without a slot: their origin told everybody, and perhaps could not tell the primary.
    /// Not at once: most often it did, and what is long would come to the primary from each backup.
    pub fn relay(&mut self, me: NodeId, now: Instant, after: Duration) -> Vec<Batch> {
        let others = self.queues.iter_mut().filter(|(node, _)| **node != me && **node != OPERATOR);
        let late = |(_, queue): (_, &mut Queue)| {
            let Queue { heard, assigned, .. } = queue;
            let waits =
                |heard: &&mut Heard| after <= now.since(heard.at) && !is_assigned(assigned, &heard.batch);
            tell(heard.iter_mut().filter(waits), now, after)
        };
        others.flat_map(late).collect()
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
    /// See `Pbft::outline`.
    pub fn outline(&self, to: &mut impl Hasher) {
        for (node, queue) in &self.queues {
            (node, queue.assigned.len(), queue.heard.len()).hash(to);
            queue.assigned.hash(to);
            queue.executed.hash(to);
            let heard = |heard: &Heard| (heard.batch.origin, heard.batch.sequence, heard.batch.floor);
            queue.heard.iter().map(heard).for_each(|batch| batch.hash(to));
        }
        self.reads.hash(to);
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
    /// The own route has sent a batch to the primary, or somebody tells of one that waits: "if the client does not receive replies soon
    /// enough, it broadcasts the request to all replicas ... the replica relays the request to the primary" (TOCS 2002, 4.2).
    pub(super) fn heard(&mut self, now: Instant, from: NodeId, batch: Batch, out: &mut Outbox) {
        let is_void = batch.origin.node == OPERATOR && !self.is_amendment(&batch);
        if !self.is_member() || is_void {
            return;
        }
        if from == batch.origin.node && self.is_by_tags(&batch) {
            return self.heard_by_tag(batch, out);
        }
        // A peer's word for an own batch is no better than for another's.
        let is_authentic = if from == self.me { self.is_authentic(&batch) } else { self.is_signed(&batch) };
        if !is_authentic && !canary::on(Canary::ProposeUnchecked) {
            // Whoever passes it on should have looked; its origin may never have heard of it.
            out.fault(from, FaultKind::BadSignature);
            return;
        }
        self.told(&batch, out);
        self.watch(now, batch, out);
    }

    /// A native client tells every replica at once. Nobody watches the primary because of that: what it has lost on its way, the client
    /// sends again, signed.
    fn heard_by_tag(&mut self, batch: Batch, out: &mut Outbox) {
        if self.is_primary() && !self.must_sign(batch.origin.node) {
            let _: Admitted = self.assign(batch);
        } else {
            self.told(&batch, out);
        }
    }

    fn watch(&mut self, now: Instant, batch: Batch, out: &mut Outbox) {
        if self.is_primary() {
            // Refused or not, its origin asks again; nobody here suspects this replica.
            let _: Admitted = self.assign(batch);
            return;
        }
        let is_others = self.members.contains(&batch.origin.node) && batch.origin.node != self.me;
        let news = self.requests.hear(now, batch.clone());
        // A member tells others of what has waited for a while. What a client tells everybody the primary has most often heard (`relay`).
        if news && is_others && self.active {
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
        if !self.is_member() {
            return None;
        }
        if self.evidence.convicts(self.primary()) && !self.is_primary() {
            return Some(self.changing.entered);
        }
        // Slots are assigned in order, so the first that is not executed has waited longest.
        let mut unexecuted =
            self.slots.above(self.executed).filter(|(_, place)| place.accepted || place.doubted);
        let assigned = unexecuted.next().map(|(_, place)| place.since);
        // A primary whose own assignments come to no end has no quorum in this view, and makes room for one who may.
        let heard = if self.is_primary() { None } else { self.requests.oldest() };
        let oldest = [heard, assigned].into_iter().flatten().min();
        // Each view has its own chance.
        let late = oldest.map(|at| at.max(self.changing.entered).after(self.changing.patience.span()));
        [late, self.boundary_suspicion_at()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Body;

    fn batch(node: u8, sequence: u64) -> Batch {
        let origin = Origin { node: NodeId(node), lane: 0, boot: 1 };
        Batch { origin, sequence, floor: 1, body: Body::new(vec![node].into()), ..Batch::default() }
    }
    fn entry(slot: u64, batch: &Batch) -> Entry {
        let Batch { origin, sequence, floor, ref body, .. } = *batch;
        Entry { slot: Slot(slot), origin, sequence, floor, body: body.clone(), ..Entry::default() }
    }

    fn marker(sequence: u64) -> Batch {
        let origin = Origin { node: NodeId(1), lane: READ_LANE, boot: 1 };
        Batch { origin, sequence, floor: sequence, ..Batch::default() }
    }

    #[test]
    fn reads_that_overlap_wait_each_for_as_long_as_its_own_marker() {
        let mut requests = Requests::default();
        (1..=5).for_each(|at| assert!(requests.hear(Instant(at), marker(at))));
        assert_eq!(
            (requests.len(), requests.oldest()),
            (2, Some(Instant(1))),
            "the first, and one for the others"
        );
        requests.executed(Instant(6), &entry(1, &marker(1)));
        assert_eq!(requests.oldest(), Some(Instant(5)), "the first is answered");
        requests.executed(Instant(7), &entry(2, &marker(5)));
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn commands_of_a_liar_that_call_themselves_markers_of_reads_are_counted_as_others_are() {
        let mut requests = Requests::default();
        for sequence in 1..=5 {
            assert!(requests.hear(Instant(0), Batch { body: batch(1, 1).body, ..marker(sequence) }));
            requests.check();
        }
        assert_eq!(requests.queues[&NodeId(1)].bytes, 2);
    }

    #[test]
    fn who_is_passed_over_too_often_is_noticed_and_shown_to_others_once() {
        let (mut requests, victim) = (Requests::default(), batch(1, 1));
        assert!(requests.hear(Instant(0), victim.clone()));
        for slot in 1..=4 {
            assert!(!requests.is_passed_over(4));
            requests.assigned(&entry(slot, &batch(2, slot)));
        }
        assert!(!requests.is_passed_over(4) && requests.is_passed_over(3));
        let later = Duration::from_secs(1);
        assert_eq!(requests.share(NodeId(1), Instant(0), later, 4), []);
        assert_eq!(requests.share(NodeId(1), Instant(0), later, 3), std::slice::from_ref(&victim));
        assert_eq!(requests.share(NodeId(1), Instant(0), later, 3), [], "once");
        requests.assigned(&entry(5, &victim));
        assert!(!requests.is_passed_over(3), "its turn has come");
        requests.leave_view();
        assert!(!requests.is_passed_over(0), "another view, another primary");
        let (waits, waited) = requests.executed(Instant(7), &entry(5, &victim));
        assert_eq!((waits, waited, requests.len()), (1, Duration::from_nanos(7), 0));
    }
}
