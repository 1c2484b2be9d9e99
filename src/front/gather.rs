//! Gathers the commands of a turn, from all connections, into one write batch and one read batch.
//!
//! A command is copied once, here. Batches of a road are numbered from 1 without holes.

use crate::base::Body;
use crate::resp::{Op, batch};
use crate::wire::hop::Demand;
use bytes::Bytes;
use std::collections::VecDeque;

/// One of the two roads to the store.
#[derive(Debug)]
pub(super) struct Road {
    bytes: Vec<u8>,
    count: u32,
    growth: u64,
    /// The number of the batch that is being gathered.
    number: u64,
    /// Size of the last batch: the next will be about as large.
    expected: usize,
    /// Batches that have left and are not settled: number, bytes, growth.
    pending: VecDeque<(u64, usize, u64)>,
    pending_bytes: u64,
    pending_growth: u64,
}

/// How far a road had come, to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    number: u64,
    count: u32,
    bytes: usize,
}

impl Road {
    fn new() -> Road {
        Road {
            bytes: Vec::new(),
            count: 0,
            growth: 0,
            number: 1,
            expected: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            pending_growth: 0,
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
    /// Where the road is now.
    pub fn mark(&self) -> Mark {
        Mark { number: self.number, count: self.count, bytes: self.bytes.len() }
    }
    /// Whether nothing that came after `mark` has left.
    pub fn holds(&self, mark: &Mark) -> bool {
        self.number == mark.number
    }
    #[inline]
    fn add<'a>(&mut self, op: Op, flags: u8, growth: u64, args: impl Iterator<Item = &'a [u8]>) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.expected + self.expected / 8 + 512);
        }
        batch::write(&mut self.bytes, op, flags, args);
        self.count += 1;
        self.growth += growth;
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
        let (number, growth) = (self.number, std::mem::take(&mut self.growth));
        self.pending.push_back((number, bytes.len(), growth));
        self.pending_bytes += bytes.len() as u64;
        self.pending_growth += growth;
        self.number += 1;
        self.count = 0;
        Some((number, Bytes::from(bytes), growth))
    }
    fn settled(&mut self, number: u64) {
        while let Some(&(first, bytes, growth)) = self.pending.front()
            && first <= number
        {
            self.pending_bytes -= bytes as u64;
            self.pending_growth -= growth;
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
    pub writes: Road,
    pub reads: Road,
}

impl Gather {
    pub fn new() -> Gather {
        Gather { writes: Road::new(), reads: Road::new() }
    }
    /// Adds a command that goes through the log. `growth` bounds the logical bytes that it can add.
    #[inline]
    pub fn write<'a>(&mut self, op: Op, flags: u8, growth: u64, args: impl Iterator<Item = &'a [u8]>) {
        self.writes.add(op, flags, growth, args);
    }
    /// Adds a command that takes a read index.
    #[inline]
    pub fn read<'a>(&mut self, op: Op, flags: u8, args: impl Iterator<Item = &'a [u8]>) {
        self.reads.add(op, flags, 0, args);
    }
    /// Moves the reads that came after `mark` behind the gathered writes. Returns how many they are.
    pub fn demote(&mut self, mark: &Mark) -> u32 {
        assert!(self.reads.holds(mark) && mark.count <= self.reads.count);
        let moved = self.reads.count - mark.count;
        self.writes.bytes.extend_from_slice(&self.reads.bytes[mark.bytes..]);
        self.writes.count += moved;
        self.reads.bytes.truncate(mark.bytes);
        self.reads.count = mark.count;
        moved
    }
    /// Closes the write batch, if it holds anything.
    pub fn leave_writes(&mut self) -> Option<Demand> {
        let (sequence, bytes, growth) = self.writes.leave()?;
        Some(Demand::Write { sequence, body: Body::new(bytes), growth })
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
        self.writes.growth + self.writes.pending_growth
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

    fn key(name: &'static str) -> impl Iterator<Item = &'static [u8]> {
        std::iter::once(name.as_bytes())
    }

    #[test]
    fn batches_are_numbered_without_holes_and_counted_until_settled() {
        let mut gather = Gather::new();
        assert_eq!(gather.leave_writes(), None);
        for sequence in 1..4 {
            gather.write(Op::Incr, 0, 100, key("a"));
            let Some(Demand::Write { sequence: got, body, growth }) = gather.leave_writes() else { panic!() };
            assert_eq!((got, growth, body.len()), (sequence, 100, 13));
        }
        assert_eq!((gather.pending_bytes(), gather.pending_growth()), (39, 300));
        gather.settled(2, 0);
        assert_eq!((gather.pending_bytes(), gather.pending_growth(), gather.is_settled()), (13, 100, false));
        gather.settled(3, 0);
        assert!(gather.is_settled());
    }

    #[test]
    fn reads_behind_a_mark_move_behind_the_writes() {
        let mut gather = Gather::new();
        gather.write(Op::Incr, 0, 0, key("w"));
        gather.read(Op::Get, 0, key("stays"));
        let mark = gather.reads.mark();
        gather.read(Op::Get, 0, key("a"));
        gather.read(Op::Get, 0, key("b"));
        assert_eq!(gather.demote(&mark), 2);
        let Some(Demand::Write { body, .. }) = gather.leave_writes() else { panic!() };
        let keys: Vec<_> = Reader::new(body.bytes()).map(|c| c.args().next().unwrap()).collect();
        assert_eq!(keys, [&b"w"[..], b"a", b"b"]);
        let Some(Demand::Read { body, .. }) = gather.leave_reads() else { panic!() };
        assert_eq!(Reader::new(&body).count(), 1);
    }
}
