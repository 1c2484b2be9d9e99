//! Gathers the commands of all connections into one write batch and one read batch.
//!
//! A command is copied once, here. Batches of a road are numbered from 1 without holes.
//!
//! A batch costs every node writes to its log, messages and wake-ups, however small it is. So while a write batch is on its way, what
//! comes meanwhile is gathered into the next one ([`Lingering`] says for how long), which leaves at the latest when those before are
//! answered, or when it is full. A client that is alone never waits; under load batches are as large as the time that one takes makes
//! them.

use crate::base::{Body, Instant};
use crate::resp::{Op, batch};
use crate::wire::hop::Demand;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// How long write commands are gathered while batches are on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lingering {
    /// So long at most: a quorum that is far away must not make batches rare.
    pub linger: Duration,
    /// A batch of fewer commands is small,
    pub few: u32,
    /// and is gathered so long at most.
    pub linger_few: Duration,
    /// While so many batches are not answered, the next waits for them, or to be full.
    pub open_max: usize,
}

impl Lingering {
    /// For a group in which a batch costs a message or two to each replica.
    pub const LEADER: Lingering = Lingering {
        linger: Duration::from_millis(1),
        few: 0,
        linger_few: Duration::from_millis(1),
        open_max: usize::MAX,
    };
    /// For a group as its front is told of it (`front::Facts::replicas`).
    pub fn of(replicas: u64) -> Lingering {
        match replicas {
            0 => Lingering::LEADER,
            replicas => Lingering::all_to_all(replicas as usize),
        }
    }
    /// For a group of so many replicas in which each speaks to each other about a batch, and checks signatures: of 20 replicas on one
    /// machine, 22 ms of processors' time a batch. Without that small ones would be all that they are busy with. The share of each replica
    /// in a batch rises with their number, so what is few does too: with 256 commands instead of 128 at 16 replicas, half loaded, the p50
    /// went from 35-39 to 18-25 ms. A native client may have more than `open_max` batches under way; what is beyond would wait in its
    /// queue, where batches cannot be merged.
    pub fn all_to_all(replicas: usize) -> Lingering {
        Lingering {
            linger: Duration::from_millis(1),
            few: 16 * replicas as u32,
            linger_few: Duration::from_millis(16),
            open_max: 16,
        }
    }
}

/// One of the two roads to the store.
#[derive(Debug)]
pub(super) struct Road {
    bytes: Vec<u8>,
    count: u32,
    cost: Cost,
    /// The number of the batch that is being gathered.
    number: u64,
    /// Size of the last batch: the next will be about as large.
    expected: usize,
    /// Batches that have left and are not settled: number, bytes, cost.
    pending: VecDeque<(u64, usize, Cost)>,
    pending_bytes: u64,
    pending_cost: Cost,
}

/// Upper bounds of what commands will take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cost {
    /// Logical bytes that they can add to the store.
    pub growth: u64,
    /// Bytes of the replies to them.
    pub reply: u64,
}

impl std::ops::AddAssign for Cost {
    #[inline]
    fn add_assign(&mut self, more: Cost) {
        self.growth += more.growth;
        self.reply += more.reply;
    }
}
impl std::ops::SubAssign for Cost {
    fn sub_assign(&mut self, less: Cost) {
        self.growth -= less.growth;
        self.reply -= less.reply;
    }
}

/// A batch is closed when the replies to it may have so many bytes: they are made in one go.
const REPLIES_AIM: u64 = 2 << 20;

/// How far a road had come, to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    number: u64,
    count: u32,
    bytes: usize,
    reply: u64,
}

impl Road {
    fn new() -> Road {
        Road {
            bytes: Vec::new(),
            count: 0,
            cost: Cost::default(),
            number: 1,
            expected: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            pending_cost: Cost::default(),
        }
    }
    /// The number of the batch that is being gathered, and how many commands it has.
    #[inline]
    pub fn place(&self) -> (u64, u32) {
        (self.number, self.count)
    }
    /// Bytes gathered.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// Bytes of the replies to what is gathered, at most.
    #[inline]
    pub fn reply(&self) -> u64 {
        self.cost.reply
    }
    /// Whether the batch must leave before a command of so many bytes, with a reply of so many.
    #[inline]
    pub fn is_full(&self, bytes: usize, reply: u64, bytes_max: usize) -> bool {
        0 < self.count && (bytes_max < self.bytes.len() + bytes || REPLIES_AIM < self.cost.reply + reply)
    }
    /// Where the road is now.
    pub fn mark(&self) -> Mark {
        Mark { number: self.number, count: self.count, bytes: self.bytes.len(), reply: self.cost.reply }
    }
    /// Whether nothing that came after `mark` has left.
    pub fn holds(&self, mark: &Mark) -> bool {
        self.number == mark.number
    }
    #[inline]
    pub fn add<'a>(&mut self, op: Op, flags: u8, cost: Cost, args: impl Iterator<Item = &'a [u8]>) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.expected + self.expected / 8 + 512);
        }
        batch::write(&mut self.bytes, op, flags, args);
        self.count += 1;
        self.cost += cost;
    }
    fn leave(&mut self) -> Option<(u64, Bytes, u64)> {
        if self.count == 0 {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        self.expected = bytes.len();
        // A body lives on in the log's tail: what it does not fill is given back when it is much.
        if bytes.len() + bytes.len() / 2 + 4096 < bytes.capacity() {
            bytes.shrink_to_fit();
        }
        let (number, cost) = (self.number, std::mem::take(&mut self.cost));
        self.pending.push_back((number, bytes.len(), cost));
        self.pending_bytes += bytes.len() as u64;
        self.pending_cost += cost;
        self.number += 1;
        self.count = 0;
        Some((number, Bytes::from(bytes), cost.growth))
    }
    fn settled(&mut self, number: u64) {
        while let Some(&(first, bytes, cost)) = self.pending.front()
            && first <= number
        {
            self.pending_bytes -= bytes as u64;
            self.pending_cost -= cost;
            self.pending.pop_front();
        }
    }
}

impl Mark {
    /// How many commands the batch had.
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// Both roads.
#[derive(Debug)]
pub(super) struct Gather {
    /// Moves with the members.
    pub lingering: Lingering,
    pub writes: Road,
    pub reads: Road,
    /// When the gathered writes were first found waiting; none while there are none.
    lingering_since: Option<Instant>,
}

impl Gather {
    pub fn new(lingering: Lingering) -> Gather {
        Gather { lingering, writes: Road::new(), reads: Road::new(), lingering_since: None }
    }
    /// Moves the reads that came after `mark` behind the gathered writes. Returns how many they are.
    pub fn demote(&mut self, mark: &Mark) -> u32 {
        assert!(self.reads.holds(mark) && mark.count <= self.reads.count);
        let moved = self.reads.count - mark.count;
        self.writes.bytes.extend_from_slice(&self.reads.bytes[mark.bytes..]);
        self.writes.count += moved;
        self.writes.cost.reply += self.reads.cost.reply - mark.reply;
        self.reads.bytes.truncate(mark.bytes);
        self.reads.count = mark.count;
        self.reads.cost.reply = mark.reply;
        moved
    }
    /// Closes the write batch, if it holds anything and need not wait for more.
    pub fn leave_due_writes(&mut self, now: Instant) -> Option<Demand> {
        if self.writes.count == 0 {
            return None;
        }
        self.lingering_since.get_or_insert(now);
        let due = self.writes.pending.is_empty() || self.due().is_some_and(|at| at <= now);
        if due { self.leave_writes(now) } else { None }
    }
    /// When gathered writes leave although others are on their way. None while there are none, or too many on their way.
    pub fn due(&self) -> Option<Instant> {
        let Lingering { linger, few, linger_few, open_max } = self.lingering;
        let linger = if self.writes.count < few { linger_few } else { linger };
        self.lingering_since.filter(|_| self.writes.pending.len() < open_max).map(|since| since.after(linger))
    }
    /// Closes the write batch, if it holds anything.
    pub fn leave_writes(&mut self, now: Instant) -> Option<Demand> {
        let left = self.lingering_since.take().unwrap_or(now);
        let (sequence, bytes, growth) = self.writes.leave()?;
        Some(Demand::Write { sequence, body: Body::new(bytes), growth, left })
    }
    /// Closes the read batch, if it holds anything.
    pub fn leave_reads(&mut self) -> Option<Demand> {
        let (id, body, _) = self.reads.leave()?;
        Some(Demand::Read { id, body })
    }
    /// Batches up to these numbers are answered.
    pub fn settled(&mut self, writes: u64, reads: u64) {
        self.writes.settled(writes);
        self.reads.settled(reads);
    }
    /// Bytes that are gathered, or have left and are not answered.
    #[inline]
    pub fn pending_bytes(&self) -> u64 {
        let gathered = (self.writes.bytes.len() + self.reads.bytes.len()) as u64;
        gathered + self.writes.pending_bytes + self.reads.pending_bytes
    }
    /// Growth that the store's memory number may not yet show.
    #[inline]
    pub fn pending_growth(&self) -> u64 {
        self.writes.cost.growth + self.writes.pending_cost.growth
    }
    /// Bytes of the replies to everything that is gathered, or has left and is not answered, at most.
    #[inline]
    pub fn pending_reply(&self) -> u64 {
        let of = |road: &Road| road.cost.reply + road.pending_cost.reply;
        of(&self.writes) + of(&self.reads)
    }
    /// Whether everything that left is answered.
    pub fn is_settled(&self) -> bool {
        self.writes.pending.is_empty() && self.reads.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::batch::Reader;

    fn cost(growth: u64, reply: u64) -> Cost {
        Cost { growth, reply }
    }
    fn key(name: &'static str) -> impl Iterator<Item = &'static [u8]> {
        std::iter::once(name.as_bytes())
    }

    #[test]
    fn batches_are_numbered_without_holes_and_counted_until_settled() {
        let mut gather = Gather::new(Lingering::LEADER);
        assert_eq!(gather.leave_writes(Instant::ZERO), None);
        for sequence in 1..4 {
            gather.writes.add(Op::Incr, 0, cost(100, 7), key("a"));
            let Some(Demand::Write { sequence: got, body, growth, .. }) = gather.leave_writes(Instant::ZERO)
            else {
                panic!()
            };
            assert_eq!((got, growth, body.len()), (sequence, 100, 13));
        }
        assert_eq!((gather.pending_bytes(), gather.pending_growth(), gather.pending_reply()), (39, 300, 21));
        gather.settled(2, 0);
        assert_eq!((gather.pending_bytes(), gather.pending_growth(), gather.is_settled()), (13, 100, false));
        gather.settled(3, 0);
        assert!(gather.is_settled() && gather.pending_reply() == 0);
    }

    #[test]
    fn writes_gather_while_a_batch_is_on_its_way_but_not_for_long() {
        let mut gather = Gather::new(Lingering::LEADER);
        let start = Instant(1_000_000);
        assert_eq!((gather.leave_due_writes(start), gather.due()), (None, None));
        gather.writes.add(Op::Incr, 0, cost(0, 0), key("alone"));
        assert!(gather.leave_due_writes(start).is_some(), "nothing is on its way");
        gather.writes.add(Op::Incr, 0, cost(0, 0), key("second"));
        assert_eq!(gather.leave_due_writes(start), None);
        gather.writes.add(Op::Incr, 0, cost(0, 0), key("third"));
        assert_eq!(gather.leave_due_writes(Instant(start.0 + 1)), None);
        assert_eq!(gather.due(), Some(start.after(Lingering::LEADER.linger)));
        gather.settled(1, 0);
        let Some(Demand::Write { sequence: 2, body, .. }) = gather.leave_due_writes(Instant(start.0 + 2))
        else {
            panic!("the one before is answered")
        };
        assert_eq!((Reader::new(body.bytes()).count(), gather.due()), (2, None));
        gather.writes.add(Op::Incr, 0, cost(0, 0), key("late"));
        let later = start.after(Lingering::LEADER.linger);
        assert_eq!(gather.leave_due_writes(later), None);
        assert!(
            gather.leave_due_writes(later.after(Lingering::LEADER.linger)).is_some(),
            "it has lingered long enough"
        );
    }

    #[test]
    fn what_is_few_follows_how_many_replicas_there_are() {
        assert_eq!([0, 4].map(Lingering::of), [Lingering::LEADER, Lingering::all_to_all(4)]);
        let mut gather = Gather::new(Lingering::of(4));
        let now = Instant(1);
        gather.writes.add(Op::Incr, 0, cost(0, 0), key("alone"));
        assert!(gather.leave_due_writes(now).is_some(), "nothing is on its way");
        let few = Lingering::of(4).few;
        (0..few).for_each(|_| gather.writes.add(Op::Incr, 0, cost(0, 0), key("a")));
        assert_eq!(gather.leave_due_writes(now), None);
        assert_eq!(gather.due(), Some(now.after(Lingering::of(4).linger)));
        gather.lingering = Lingering::of(7);
        assert_eq!(gather.due(), Some(now.after(Lingering::of(7).linger_few)), "of seven it is few");
    }

    #[test]
    fn where_batches_are_dear_few_commands_wait_longer_and_no_more_leave_than_may_be_open() {
        let lingering = Lingering::all_to_all(4);
        let Lingering { linger, few, linger_few, open_max } = lingering;
        let mut gather = Gather::new(lingering);
        let mut now = Instant(1);
        let add = |gather: &mut Gather, count: u32, now: Instant| {
            (0..count).for_each(|_| gather.writes.add(Op::Incr, 0, cost(0, 0), key("a")));
            gather.leave_due_writes(now)
        };
        assert!(add(&mut gather, 1, now).is_some(), "nothing is on its way");
        assert_eq!(add(&mut gather, few - 1, now), None);
        assert_eq!(gather.due(), Some(now.after(linger_few)));
        assert_eq!(gather.leave_due_writes(now.after(linger)), None, "too few");
        assert_eq!(add(&mut gather, 1, now), None);
        assert!(gather.leave_due_writes(now.after(linger)).is_some());
        for _ in 2..open_max {
            assert_eq!(add(&mut gather, 1, now), None);
            now = now.after(linger_few);
            assert!(gather.leave_due_writes(now).is_some());
        }
        assert_eq!((add(&mut gather, few, now), gather.due()), (None, None), "enough are on their way");
        gather.settled(1, 0);
        assert_eq!(gather.due(), Some(now.after(linger)));
        gather.settled(open_max as u64, 0);
        assert!(gather.leave_due_writes(now).is_some(), "nothing is on its way");
    }

    #[test]
    fn reads_behind_a_mark_move_behind_the_writes() {
        let mut gather = Gather::new(Lingering::LEADER);
        gather.writes.add(Op::Incr, 0, cost(0, 1), key("w"));
        gather.reads.add(Op::Get, 0, cost(0, 10), key("stays"));
        let mark = gather.reads.mark();
        gather.reads.add(Op::Get, 0, cost(0, 100), key("a"));
        gather.reads.add(Op::Get, 0, cost(0, 100), key("b"));
        assert_eq!(gather.demote(&mark), 2);
        assert_eq!((gather.writes.reply(), gather.reads.reply()), (201, 10));
        let Some(Demand::Write { body, .. }) = gather.leave_writes(Instant::ZERO) else { panic!() };
        let keys: Vec<_> = Reader::new(body.bytes()).map(|c| c.args().next().unwrap()).collect();
        assert_eq!(keys, [&b"w"[..], b"a", b"b"]);
        let Some(Demand::Read { body, .. }) = gather.leave_reads() else { panic!() };
        assert_eq!(Reader::new(&body).count(), 1);
    }
}
