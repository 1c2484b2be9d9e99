//! The linearizable reads of one front for one group: each waits for a read index, then goes to the store.
//!
//! All reads that wait at the end of a burst share one question to the core (a *round*). A later round's index serves earlier
//! reads too, since it covers everything that was acknowledged before them; and it must, lest a read that is asked about anew see
//! a later state than one that was sent after it on the same connection.

use crate::base::{Instant, Slot};
use crate::wire::hop::Failure;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// How long reads wait.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long reads wait for a read index in all.
    pub wait: Duration,
    /// After which silence the question is asked again.
    pub retry_after: Duration,
    /// How long to wait before asking again after a refusal.
    pub refused_pause: Duration,
    /// Most waiting reads (demands); no more are taken.
    pub demands_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            wait: Duration::from_secs(1),
            retry_after: Duration::from_millis(250),
            refused_pause: Duration::from_millis(20),
            demands_max: 256,
        }
    }
}

/// Reads of one turn of the front.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The front's number.
    pub id: u64,
    /// Commands in `resp::batch` form.
    pub body: Bytes,
    submitted: Instant,
}

/// Those that wait for a question, those whose question is under way, and those whose slot is not yet decided here.
pub struct Reads {
    options: Options,
    waiting: VecDeque<Demand>,
    /// Invariant: rounds do not fall from front to back.
    asked: VecDeque<(u64, Instant, Demand)>,
    /// A node that loses its leader now may never hear that these are decided: they go to the store only when they are.
    granted: VecDeque<(Slot, Demand)>,
    round: u64,
    pause_until: Instant,
}

impl Reads {
    /// None yet.
    pub fn new(options: Options) -> Reads {
        Reads {
            options,
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            granted: VecDeque::new(),
            round: 0,
            pause_until: Instant::ZERO,
        }
    }
    /// Whether more may be submitted.
    pub fn has_room(&self) -> bool {
        self.len() < self.options.demands_max
    }
    /// How many wait here.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.asked.len() + self.granted.len()
    }
    /// Whether none waits here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Takes reads of the front.
    pub fn submit(&mut self, now: Instant, id: u64, body: Bytes) {
        self.waiting.push_back(Demand { id, body, submitted: now });
    }

    /// Begins a round for everything that waits.
    pub fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.waiting.is_empty() || now < self.pause_until {
            return None;
        }
        self.round += 1;
        let round = self.round;
        self.asked.extend(self.waiting.drain(..).map(|demand| (round, now, demand)));
        Some(round)
    }

    /// The round's read index is known. What it serves waits until that slot is decided here, in the order in which it was
    /// submitted.
    pub fn granted(&mut self, round: u64, slot: Slot) {
        let newest = self.asked.iter().take_while(|(asked, ..)| *asked <= round).map(|(_, _, d)| d.id).max();
        let Some(newest) = newest else { return };
        let mut served: Vec<Demand> = Vec::new();
        // Those before the newest may wait to be asked about again, or have been asked about again in a later round.
        self.asked.retain_mut(|(_, _, demand)| {
            let covered = demand.id <= newest;
            if covered {
                served.push(demand.clone());
            }
            !covered
        });
        while self.waiting.front().is_some_and(|demand| demand.id < newest) {
            served.extend(self.waiting.pop_front());
        }
        served.sort_unstable_by_key(|demand| demand.id);
        self.granted.extend(served.into_iter().map(|demand| (slot, demand)));
    }

    /// Everything up to `commit` is decided here: gives back what may go to the store, in the order of its granting.
    pub fn serve(&mut self, commit: Slot, mut serve: impl FnMut(Demand, Slot)) {
        while self.granted.front().is_some_and(|(slot, _)| *slot <= commit) {
            let (slot, demand) = self.granted.pop_front().expect("there is one");
            serve(demand, slot);
        }
    }

    /// The core cannot tell: these are asked again a little later.
    pub fn refused(&mut self, now: Instant, round: u64) {
        if self.asked.iter().any(|(asked, ..)| *asked <= round) {
            self.pause_until = now.after(self.options.refused_pause);
            self.ask_again(|asked, _| asked <= round);
        }
    }

    /// Another node leads: questions to the old one are void.
    pub fn follow(&mut self) {
        self.pause_until = Instant::ZERO;
        self.ask_again(|_, _| true);
    }

    /// Gives up what has waited too long, and asks again what was not answered.
    pub fn expire(&mut self, now: Instant, failed: &mut Vec<(u64, Failure)>) {
        let retry_after = self.options.retry_after;
        self.ask_again(|_, at| retry_after <= now.since(at));
        let wait = self.options.wait;
        let mut fail = |d: &Demand, why: Failure| {
            let late = wait <= now.since(d.submitted);
            if late {
                failed.push((d.id, why));
            }
            !late
        };
        self.asked.retain(|(_, _, demand)| fail(demand, Failure::NoLeader));
        self.waiting.retain(|demand| fail(demand, Failure::NoLeader));
        self.granted.retain(|(_, demand)| fail(demand, Failure::Behind));
    }

    /// When `expire` or `ask` has something to do. Nobody can be asked unless `has_leader`: a pause that is over would wake for ever.
    pub fn deadline(&self, has_leader: bool) -> Option<Instant> {
        let oldest = self
            .asked
            .front()
            .map(|(_, at, d)| at.after(self.options.retry_after).min(d.submitted.after(self.options.wait)));
        let unserved = self.waiting.iter().chain(self.granted.iter().map(|(_, demand)| demand));
        let waiting = unserved.map(|d| d.submitted.after(self.options.wait)).min();
        let pause = (has_leader && !self.waiting.is_empty()).then_some(self.pause_until);
        oldest.into_iter().chain(waiting).chain(pause).min()
    }

    fn ask_again(&mut self, which: impl Fn(u64, Instant) -> bool) {
        let (again, keep): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.asked).into_iter().partition(|(round, at, _)| which(*round, *at));
        self.asked = keep;
        // In front of those that came later.
        for (_, _, demand) in again.into_iter().rev() {
            self.waiting.push_front(demand);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(reads: &mut Reads, round: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        reads.granted(round, Slot(7));
        reads.serve(Slot(7), |d, slot| {
            assert_eq!(slot, Slot(7));
            ids.push(d.id);
        });
        ids
    }

    #[test]
    fn reads_of_a_burst_share_a_round_and_a_later_round_serves_earlier_ones() {
        let mut reads = Reads::new(Options::default());
        reads.submit(Instant(0), 1, Bytes::new());
        reads.submit(Instant(0), 2, Bytes::new());
        assert_eq!(reads.ask(Instant(0)), Some(1));
        assert_eq!(reads.ask(Instant(0)), None);
        reads.submit(Instant(1), 3, Bytes::new());
        assert_eq!(reads.ask(Instant(1)), Some(2));
        reads.submit(Instant(1), 4, Bytes::new());
        assert_eq!(reads.ask(Instant(1)), Some(3));
        assert_eq!(granted(&mut reads, 2), [1, 2, 3]);
        assert_eq!(granted(&mut reads, 3), [4]);
    }

    #[test]
    fn a_read_that_is_asked_about_again_is_not_overtaken_by_a_later_one() {
        let options = Options::default();
        let half = options.retry_after / 2;
        let start = |reads: &mut Reads| {
            reads.submit(Instant(0), 1, Bytes::new());
            assert_eq!(reads.ask(Instant(0)), Some(1));
            let second = Instant(0).after(half);
            reads.submit(second, 2, Bytes::new());
            assert_eq!(reads.ask(second), Some(2));
            // Only the first round has been silent for too long.
            reads.expire(Instant(0).after(options.retry_after), &mut Vec::new());
        };
        // The second round is granted before the first read is asked about again, and after.
        let mut reads = Reads::new(options);
        start(&mut reads);
        assert_eq!(granted(&mut reads, 2), [1, 2]);
        let mut reads = Reads::new(options);
        start(&mut reads);
        assert_eq!(reads.ask(Instant(0).after(options.retry_after)), Some(3));
        assert_eq!(granted(&mut reads, 2), [1, 2]);
        assert!(granted(&mut reads, 3).is_empty());
    }

    #[test]
    fn a_refused_or_silent_round_is_asked_again_until_the_wait_is_over() {
        let mut reads = Reads::new(Options::default());
        reads.submit(Instant(0), 1, Bytes::new());
        reads.ask(Instant(0));
        reads.refused(Instant(1), 1);
        assert_eq!(reads.ask(Instant(2)), None, "pauses");
        let later = Instant(1).after(Options::default().refused_pause);
        assert_eq!(reads.deadline(true), Some(later));
        assert_eq!(reads.deadline(false), Some(Instant::ZERO.after(Options::default().wait)));
        assert_eq!(reads.ask(later), Some(2));
        let mut failed = Vec::new();
        let silent = later.after(Options::default().retry_after);
        reads.expire(silent, &mut failed);
        assert_eq!((reads.ask(silent), failed.len()), (Some(3), 0));
        reads.expire(Instant::ZERO.after(Options::default().wait), &mut failed);
        assert_eq!(failed, [(1, Failure::NoLeader)]);
        assert!(granted(&mut reads, 3).is_empty());
    }

    #[test]
    fn a_granted_read_whose_slot_is_never_decided_here_ends() {
        let options = Options { demands_max: 1, ..Options::default() };
        let mut reads = Reads::new(options);
        reads.submit(Instant(0), 1, Bytes::new());
        reads.ask(Instant(0));
        reads.granted(1, Slot(9));
        reads.serve(Slot(8), |_, _| unreachable!("slot 9 is not decided"));
        assert!(!reads.has_room(), "it counts until it has gone");
        let late = Instant::ZERO.after(options.wait);
        assert_eq!(reads.deadline(false), Some(late));
        let mut failed = Vec::new();
        reads.expire(late, &mut failed);
        assert_eq!(failed, [(1, Failure::Behind)]);
        assert!(reads.has_room());
    }
}
