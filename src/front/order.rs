//! Puts answers into the order of each connection. Names sockets only to hand them through; sends nothing.
//!
//! Every command belongs to a range, every range to a batch, and each costs the same whatever number of commands it has. A batch is
//! kept until all its ranges have been served and no longer; what comes for a batch that is gone, or answered, is dropped.

use super::plan::{Flow, Plan, Range};
use crate::io::Fd;
use crate::wire::hop::Failure;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The replies, one after another, and where each ends.
    Replies(Bytes, Vec<u32>),
    /// One error for every command.
    Failed(Failure),
    /// Served whole: nothing of it is kept.
    Served,
}

/// A batch on its way. Invariant: `outcome` is `Served` only when `ranges` is 0.
#[derive(Debug, Default)]
struct Batch {
    /// How many ranges are not served.
    ranges: u32,
    outcome: Option<Outcome>,
    /// Whose they are.
    seats: Vec<u32>,
}

/// The batches of one road, numbered from 1 without holes.
#[derive(Debug)]
pub(super) struct Road {
    /// The number of `batches[0]`.
    first: u64,
    batches: VecDeque<Batch>,
    /// Every batch up to this number is answered. Invariant: `first <= settled + 1`.
    settled: u64,
}

impl Road {
    fn new() -> Road {
        Road { first: 1, batches: VecDeque::new(), settled: 0 }
    }
    /// Every batch up to this number is answered.
    pub fn settled(&self) -> u64 {
        self.settled
    }
    /// Whether the batch was planned and is not answered.
    pub fn is_open(&mut self, number: u64) -> bool {
        self.batch(number).is_some_and(|batch| batch.outcome.is_none())
    }
    fn batch(&mut self, number: u64) -> Option<&mut Batch> {
        let place = number.checked_sub(self.first)?;
        self.batches.get_mut(usize::try_from(place).ok()?)
    }
    /// A range of the batch is wanted. Plans come before answers, so the batch is unanswered.
    fn expect(&mut self, seat: u32, number: u64) {
        let next = self.first + self.batches.len() as u64;
        assert!(self.first <= number && number <= next, "batches are numbered without holes");
        if number == next {
            self.batches.push_back(Batch::default());
        }
        let batch = self.batch(number).expect("it was made");
        assert!(batch.outcome.is_none(), "a batch is planned whole before it leaves");
        batch.ranges += 1;
        if batch.seats.last() != Some(&seat) {
            batch.seats.push(seat);
        }
    }
    /// Takes the first answer to a batch; tells whose it is.
    fn answer(&mut self, number: u64, outcome: Outcome) -> Vec<u32> {
        let Some(batch) = self.batch(number).filter(|b| b.outcome.is_none()) else { return Vec::new() };
        batch.outcome = Some(outcome);
        let seats = std::mem::take(&mut batch.seats);
        let mut next = self.settled + 1;
        while self.batch(next).is_some_and(|b| b.outcome.is_some()) {
            self.settled = next;
            next += 1;
        }
        seats
    }
    /// Writes the replies to a range, if they are there.
    fn serve(&mut self, range: &Range, outbox: Option<&mut Outbox>) -> bool {
        let batch = self.batch(range.batch).expect("a batch is kept while a range of it is not served");
        let Some(outcome) = &batch.outcome else { return false };
        if let Some(outbox) = outbox.filter(|_| !range.silent) {
            outcome.write(range, outbox);
        }
        batch.ranges -= 1;
        if batch.ranges == 0 {
            batch.outcome = Some(Outcome::Served);
        }
        while let Some(Outcome::Served) = self.batches.front().and_then(|b| b.outcome.as_ref()) {
            self.batches.pop_front();
            self.first += 1;
        }
        true
    }
}

impl Outcome {
    fn write(&self, range: &Range, outbox: &mut Outbox) {
        let (first, count) = (range.first as usize, range.count as usize);
        match self {
            Outcome::Replies(replies, ends) => {
                let start = if first == 0 { 0 } else { ends[first - 1] as usize };
                outbox.push(replies, start, ends[first + count - 1] as usize);
            }
            Outcome::Failed(why) => (0..count).for_each(|_| outbox.push_small(text(*why).as_bytes())),
            Outcome::Served => unreachable!("a range is served once"),
        }
    }
}

/// What a client reads when its command has no reply.
fn text(why: Failure) -> &'static str {
    match why {
        Failure::NoLeader => {
            "-CLUSTERDOWN no leader within the time that a command may wait; it was not carried out\r\n"
        }
        Failure::Overloaded => "-OVERLOADED too many commands are in flight; try again later\r\n",
        Failure::DiskFull => {
            "-OVERLOADED the disk is full: nothing is written until it has space again; reads go on\r\n"
        }
        Failure::OutOfMemory => "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        Failure::Indeterminate => {
            "-INDETERMINATE the outcome is unknown: the command may or may not have taken effect; \
             read before you send it again\r\n"
        }
        Failure::Behind => {
            "-TRYAGAIN this node has not come to what the read must see; ask again, or another node\r\n"
        }
        Failure::Unverified => {
            "-UNVERIFIED other nodes say that this node's reply is wrong; the command has taken effect, ask another node\r\n"
        }
        Failure::Draining => "-CLUSTERDOWN this node is shutting down; the command was not carried out\r\n",
    }
}

/// Replies of fewer bytes are copied together, longer ones are sent from where they are.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// Parts of a batch's replies that are smaller than this share of them are copied too.
const KEPT_SHARE: usize = 8;
/// Parts of one send: the kernel takes 1,024.
const PARTS_MAX: usize = 512;
/// Bytes of one send, which is done when all of them are taken: the measure by which a slow reader is told from one that does not read.
const SEND_BYTES_MAX: usize = 1 << 20;

/// Replies that are made and not handed to the kernel.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    parts: VecDeque<Bytes>,
    /// Of the last send, for its capacity.
    spare: Vec<Bytes>,
    /// Follows `parts`.
    small: Vec<u8>,
    bytes: u64,
}

impl Outbox {
    fn push(&mut self, whole: &Bytes, start: usize, end: usize) {
        // A part keeps the whole in memory: that must not be much more than what counts as unsent.
        if end - start < COPIED_BYTES_MAX || (end - start) * KEPT_SHARE < whole.len() {
            return self.push_small(&whole[start..end]);
        }
        self.close_small();
        self.parts.push_back(whole.slice(start..end));
        self.bytes += (end - start) as u64;
    }
    #[inline]
    fn push_small(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
    }
    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.parts.push_back(Bytes::from(std::mem::take(&mut self.small)));
        }
    }
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    fn clear(&mut self) {
        *self = Outbox::default();
    }
    /// What one send may carry.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.close_small();
        let mut parts = std::mem::take(&mut self.spare);
        let mut room = SEND_BYTES_MAX;
        while 0 < room
            && parts.len() < PARTS_MAX
            && let Some(first) = self.parts.front_mut()
        {
            let part = first.split_to(room.min(first.len()));
            if first.is_empty() {
                self.parts.pop_front();
            }
            room -= part.len();
            parts.push(part);
        }
        self.bytes -= (SEND_BYTES_MAX - room) as u64;
        parts
    }
    /// Gives a vector back for its capacity.
    pub fn give_back(&mut self, parts: Vec<Bytes>) {
        assert!(parts.is_empty());
        self.spare = parts;
    }
}

/// One connection's replies.
#[derive(Debug)]
pub(super) struct Line {
    pub fd: Fd,
    flow: Arc<Flow>,
    /// Tells completions of this connection from those of an earlier one of the same seat.
    pub life: u32,
    /// What is still to be answered, in order.
    waiting: VecDeque<Plan>,
    pub outbox: Outbox,
    answered: u64,
    /// Handed to the kernel and not yet sent.
    under_way: u64,
    sent: u64,
    /// A send is outstanding.
    pub sending: bool,
    /// Nothing more is sent: what is answered is counted and dropped.
    broken: bool,
    /// Everything before the end is answered.
    ending: bool,
    /// Stands in `Order::ready`.
    listed: bool,
}

impl Line {
    /// Whether the socket can be closed: all is answered, and sent or given up.
    pub fn is_over(&self) -> bool {
        self.ending && (self.broken || (!self.sending && self.outbox.is_empty()))
    }
    /// So many bytes were handed to the kernel.
    pub fn handed(&mut self, bytes: u64) {
        self.sending = true;
        self.under_way = bytes;
    }
    /// They have been sent, or given up before. Returns how many of them counted as unsent.
    pub fn sent(&mut self, bytes: u64) -> u64 {
        assert!(self.sending, "one send at a time");
        self.sending = false;
        self.sent += bytes;
        let counted = std::mem::take(&mut self.under_way);
        self.publish();
        counted
    }
    /// The send has failed.
    pub fn failed(&mut self) {
        self.sending = false;
    }
    /// The client is not there any more. Returns whether that is new.
    pub fn break_off(&mut self) -> bool {
        self.outbox.clear();
        self.under_way = 0;
        let first = !std::mem::replace(&mut self.broken, true);
        self.flow.set_broken();
        self.publish();
        first
    }
    /// The socket is closed.
    pub fn gone(&self) {
        self.flow.set_gone();
    }
    fn unsent(&self) -> u64 {
        self.outbox.bytes + self.under_way
    }
    fn publish(&self) {
        self.flow.set_bytes(self.unsent(), self.sent);
    }
}

/// All connections, and what they wait for.
pub(super) struct Order {
    pub writes: Road,
    pub reads: Road,
    lines: Vec<Option<Line>>,
    /// Seats of which something may be answered, sent or closed. Each at most once.
    ready: Vec<u32>,
    lives: u32,
    /// How many have broken.
    pub broken: u64,
    /// Unsent bytes of all lines.
    pub unsent: u64,
    /// Commands answered.
    pub answered: u64,
}

impl Order {
    pub fn new() -> Order {
        Order {
            writes: Road::new(),
            reads: Road::new(),
            lines: Vec::new(),
            ready: Vec::new(),
            lives: 0,
            broken: 0,
            unsent: 0,
            answered: 0,
        }
    }

    /// Takes the next plan of a seat.
    pub fn plan(&mut self, seat: u32, plan: Plan) {
        match &plan {
            Plan::Open { fd, flow } => return self.open(seat, *fd, flow.clone()),
            Plan::Write(range) => self.writes.expect(seat, range.batch),
            Plan::Read(range) => self.reads.expect(seat, range.batch),
            Plan::Abandon => self.break_off(seat),
            Plan::Local { .. } | Plan::Close => {}
        }
        let line = self.lines[seat as usize].as_mut().expect("plans are of open connections");
        line.waiting.push_back(plan);
        // What waits for a batch is listed when the answer comes.
        if line.waiting.len() == 1 {
            self.list(seat);
        }
    }

    fn open(&mut self, seat: u32, fd: Fd, flow: Arc<Flow>) {
        let place = seat as usize;
        if self.lines.len() <= place {
            self.lines.resize_with(place + 1, || None);
        }
        assert!(self.lines[place].is_none(), "a seat is used anew only when it is free");
        self.lives = self.lives.wrapping_add(1);
        self.lines[place] = Some(Line {
            fd,
            flow,
            life: self.lives,
            waiting: VecDeque::new(),
            outbox: Outbox::default(),
            answered: 0,
            under_way: 0,
            sent: 0,
            sending: false,
            broken: false,
            ending: false,
            listed: false,
        });
    }

    /// Takes what became of a write batch.
    pub fn answer_write(&mut self, number: u64, outcome: Outcome) {
        let seats = self.writes.answer(number, outcome);
        seats.into_iter().for_each(|seat| self.list(seat));
    }
    /// Takes what became of a read batch.
    pub fn answer_read(&mut self, number: u64, outcome: Outcome) {
        let seats = self.reads.answer(number, outcome);
        seats.into_iter().for_each(|seat| self.list(seat));
    }
    /// No replies will come for write batches up to `last` that have none yet.
    pub fn supersede(&mut self, last: u64) {
        let known = self.writes.first + self.writes.batches.len() as u64;
        for number in self.writes.settled + 1..known.min(last.saturating_add(1)) {
            self.answer_write(number, Outcome::Failed(Failure::Indeterminate));
        }
    }

    /// Something may be done for a seat.
    pub fn list(&mut self, seat: u32) {
        if let Some(line) = self.lines[seat as usize].as_mut()
            && !line.listed
        {
            line.listed = true;
            self.ready.push(seat);
        }
    }
    /// The next seat for which something may be done, served: its outbox is to be sent, or it is over.
    pub fn next_ready(&mut self) -> Option<u32> {
        let seat = self.ready.pop()?;
        self.serve(seat);
        Some(seat)
    }
    pub fn line(&mut self, seat: u32) -> Option<&mut Line> {
        self.lines.get_mut(seat as usize)?.as_mut()
    }
    /// The connection of a completion, if it is still there.
    pub fn line_of(&mut self, seat: u32, life: u32) -> Option<&mut Line> {
        self.line(seat).filter(|line| line.life == life)
    }
    /// So many bytes are sent that were unsent.
    pub fn sent(&mut self, bytes: u64) {
        self.unsent -= bytes;
    }
    /// Forgets a connection that is over.
    pub fn close(&mut self, seat: u32) {
        if let Some(line) = self.lines[seat as usize].take() {
            self.unsent -= line.unsent();
            line.gone();
        }
    }
    /// Nothing more can be sent to a client, or it is not worth it.
    pub fn break_off(&mut self, seat: u32) {
        if let Some(line) = self.lines[seat as usize].as_mut() {
            self.unsent -= line.unsent();
            self.broken += u64::from(line.break_off());
            self.list(seat);
        }
    }

    /// Moves what is answered from a line's queue to its outbox, up to the first that is not.
    fn serve(&mut self, seat: u32) {
        let Some(line) = self.lines[seat as usize].as_mut() else { return };
        line.listed = false;
        let before = (line.outbox.bytes, line.answered);
        while let Some(plan) = line.waiting.front() {
            let outbox = (!line.broken).then_some(&mut line.outbox);
            let count = match plan {
                Plan::Local { bytes, count } => {
                    if let Some(outbox) = outbox {
                        outbox.push(bytes, 0, bytes.len());
                    }
                    *count
                }
                Plan::Write(range) | Plan::Read(range) => {
                    let writes = matches!(plan, Plan::Write(_));
                    let road = if writes { &mut self.writes } else { &mut self.reads };
                    if !road.serve(range, outbox) {
                        break;
                    }
                    range.count
                }
                Plan::Open { .. } => unreachable!("a connection opens once"),
                Plan::Close | Plan::Abandon => {
                    line.ending = true;
                    0
                }
            };
            line.answered += u64::from(count);
            line.waiting.pop_front();
        }
        self.unsent += line.outbox.bytes - before.0;
        self.answered += line.answered - before.1;
        // In this order: what counts as answered must not be missing from what is unsent.
        line.publish();
        line.flow.set_answered(line.answered);
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
