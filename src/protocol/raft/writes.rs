//! Which of this replica's writes are durable: turns the shard's cumulative tickets into "the log is durable up to this slot".

use crate::base::canary::{self, Canary};
use crate::base::{Slot, Ticket};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// Entries with consecutive slots whose records have consecutive tickets.
#[derive(Clone, Copy, Debug)]
struct Run {
    ticket: Ticket,
    slot: Slot,
    len: u64,
}

/// The writes under way.
#[derive(Clone, Debug)]
pub struct Writes {
    /// Invariant: tickets and slots rise from front to back, and none is durable.
    runs: VecDeque<Run>,
    /// The newest durable ticket.
    ticket: Ticket,
    /// Everything up to here is durable, in the log or in a snapshot. Invariant: at most the log's last slot.
    slot: Slot,
    /// The newest write of term and vote.
    vote: Ticket,
}

impl Writes {
    /// After a start, whatever was recovered is durable.
    pub fn new(slot: Slot) -> Writes {
        Writes { runs: VecDeque::new(), ticket: Ticket::ZERO, slot, vote: Ticket::ZERO }
    }
    /// The log is durable up to here.
    pub fn slot(&self) -> Slot {
        self.slot
    }
    /// Whether term and vote are durable.
    pub fn is_vote_durable(&self) -> bool {
        self.vote <= self.ticket
    }
    /// Term and vote are being written.
    pub fn vote(&mut self, ticket: Ticket) {
        assert!(self.vote < ticket);
        self.vote = ticket;
    }

    /// The entry at `slot` is being written.
    pub fn entry(&mut self, ticket: Ticket, slot: Slot) {
        assert!(self.ticket < ticket && self.slot < slot);
        if let Some(run) = self.runs.back_mut() {
            assert!(run.ticket.0 + run.len <= ticket.0 && run.slot.0 + run.len <= slot.0);
            if (run.ticket.0 + run.len, run.slot.0 + run.len) == (ticket.0, slot.0) {
                run.len += 1;
                return;
            }
        }
        self.runs.push_back(Run { ticket, slot, len: 1 });
    }

    /// Everything written up to `ticket` is durable.
    pub fn durable(&mut self, ticket: Ticket) {
        assert!(self.ticket <= ticket, "the watermark never falls");
        self.ticket = ticket;
        while let Some(run) = self.runs.front_mut().filter(|run| run.ticket <= ticket) {
            let done = run.len.min(ticket.0 - run.ticket.0 + 1);
            self.slot = self.slot.max(Slot(run.slot.0 + done - 1));
            if done < run.len {
                *run = Run {
                    ticket: Ticket(run.ticket.0 + done),
                    slot: Slot(run.slot.0 + done),
                    len: run.len - done,
                };
                return;
            }
            self.runs.pop_front();
        }
    }

    /// The entries at `from` and above are cut: their writes, done or under way, no longer count.
    pub fn cut(&mut self, from: Slot) {
        self.slot = self.slot.min(from.prev());
        if canary::on(Canary::CutKeepsWrites) {
            return;
        }
        while let Some(run) = self.runs.back_mut().filter(|run| from.0 < run.slot.0 + run.len) {
            if run.slot < from {
                run.len = from.0 - run.slot.0;
                return;
            }
            self.runs.pop_back();
        }
    }

    /// A durable snapshot holds everything up to `slot`.
    pub fn snapshot(&mut self, slot: Slot) {
        self.slot = self.slot.max(slot);
        while let Some(run) = self.runs.front_mut().filter(|run| run.slot <= slot) {
            let held = slot.0 - run.slot.0 + 1;
            if held < run.len {
                *run = Run { ticket: Ticket(run.ticket.0 + held), slot: slot.next(), len: run.len - held };
                return;
            }
            self.runs.pop_front();
        }
    }

    /// A snapshot at `slot` replaced the log.
    pub fn reset(&mut self, slot: Slot) {
        self.runs.clear();
        self.slot = slot;
    }

    /// What is under way, with tickets counted from the newest durable one.
    pub fn outline(&self, to: &mut impl Hasher) {
        let from_now = |ticket: Ticket| ticket.0.saturating_sub(self.ticket.0);
        (self.slot, from_now(self.vote)).hash(to);
        self.runs.iter().for_each(|run| (from_now(run.ticket), run.slot, run.len).hash(to));
    }

    /// Panics when an invariant does not hold.
    pub fn check(&self, last: Slot) {
        assert!(self.slot <= last);
        assert!(self.runs.front().is_none_or(|run| self.ticket < run.ticket && self.slot < run.slot));
        let pairs = self.runs.iter().zip(self.runs.iter().skip(1));
        assert!(pairs.clone().all(|(a, b)| a.ticket.0 + a.len <= b.ticket.0 && a.slot.0 + a.len <= b.slot.0));
        assert!(self.runs.back().is_none_or(|run| run.slot.0 + run.len <= last.0 + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_within_a_run_counts_what_it_covers() {
        let mut w = Writes::new(Slot(10));
        (1..=5).for_each(|i| w.entry(Ticket(i), Slot(10 + i)));
        w.durable(Ticket(3));
        assert_eq!(w.slot(), Slot(13));
        w.durable(Ticket(9));
        assert_eq!(w.slot(), Slot(15));
        w.check(Slot(15));
    }

    #[test]
    fn writes_of_entries_that_were_cut_do_not_count() {
        let mut w = Writes::new(Slot(0));
        (1..=5).for_each(|i| w.entry(Ticket(i), Slot(i)));
        w.cut(Slot(3));
        w.entry(Ticket(6), Slot(3));
        w.durable(Ticket(5));
        assert_eq!(w.slot(), Slot(2), "the old entry at 3 is durable, the new one is not");
        w.durable(Ticket(6));
        assert_eq!(w.slot(), Slot(3));
        w.cut(Slot(2));
        assert_eq!(w.slot(), Slot(1));
        w.check(Slot(1));
    }

    #[test]
    fn a_snapshot_is_as_good_as_the_log() {
        let mut w = Writes::new(Slot(0));
        (1..=5).for_each(|i| w.entry(Ticket(i), Slot(i)));
        w.snapshot(Slot(3));
        assert_eq!(w.slot(), Slot(3));
        w.check(Slot(5));
        w.durable(Ticket(4));
        assert_eq!(w.slot(), Slot(4));
        w.reset(Slot(2));
        assert_eq!(w.slot(), Slot(2));
    }
}
