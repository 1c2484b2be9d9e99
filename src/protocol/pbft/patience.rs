//! How long a view may take with anything: "it doubles its time-out" (TOCS 2002, 4.5.2), so that in the end it exceeds what the network
//! and the machines need.
//!
//! A view that was left brought something if it executed values and lasted. One that executed a few and was left at once does not show that
//! the time-out is long enough: on a machine that is short of time, such views would chase each other, and the changes themselves take
//! what time there is. What was doubled is taken back by halves, each after a while in which the view did its work.

use crate::base::Instant;
use crate::base::canary::{self, Canary};
use std::time::Duration;

/// A view lasts that takes so many times the patience.
const LASTING: u32 = 8;

/// The time-out of views.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// Invariant: `usual <= span <= longest`.
    span: Duration,
    usual: Duration,
    longest: Duration,
    /// A value was executed since the last view began.
    is_fruitful: bool,
    /// When the view began, or when the patience was halved in it.
    since: Instant,
}

impl Patience {
    /// The usual one, between which and the longest it stays.
    pub fn new(now: Instant, usual: Duration, longest: Duration) -> Patience {
        Patience { span: usual, usual, longest, is_fruitful: true, since: now }
    }
    /// What it is.
    pub fn span(&self) -> Duration {
        self.span
    }
    /// A view begins.
    pub fn begin(&mut self, now: Instant) {
        self.since = now;
    }
    /// The first view of an epoch has nothing to be impatient about yet.
    pub fn renew(&mut self, now: Instant) {
        *self = Patience::new(now, self.usual, self.longest);
    }
    /// The view does its work.
    pub fn succeed(&mut self, now: Instant) {
        self.is_fruitful = true;
        while self.usual < self.span && self.has_lasted(now) {
            self.since = self.since.after(LASTING * self.span);
            self.span = self.usual.max(self.span / 2);
        }
    }
    /// The view, begun or not, is left for another.
    pub fn fail(&mut self, now: Instant) {
        let was_good = self.is_fruitful && self.has_lasted(now);
        if !was_good && !canary::on(Canary::PatienceNeverGrows) {
            self.span = self.longest.min(2 * self.span);
        }
        self.is_fruitful = false;
    }
    fn has_lasted(&self, now: Instant) -> bool {
        LASTING * self.span <= now.since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(400);

    fn at(ms: u64) -> Instant {
        Instant::ZERO.after(Duration::from_millis(ms))
    }
    fn patience() -> Patience {
        Patience::new(Instant::ZERO, USUAL, 16 * USUAL)
    }

    #[test]
    fn views_that_execute_something_and_are_left_at_once_lengthen_it_too() {
        let mut patience = patience();
        for view in 1..=6 {
            patience.succeed(at(view * 1000));
            patience.fail(at(view * 1000));
            patience.begin(at(view * 1000));
        }
        assert_eq!(patience.span(), 16 * USUAL);
    }

    #[test]
    fn a_view_that_has_worked_for_long_lengthens_nothing() {
        let mut patience = patience();
        patience.succeed(at(3_200));
        patience.fail(at(3_200));
        assert_eq!(patience.span(), USUAL);
        patience.fail(at(3_600));
        assert_eq!(patience.span(), 2 * USUAL, "and this one brought nothing");
    }

    #[test]
    fn it_comes_back_by_halves_while_a_view_works() {
        let mut patience = patience();
        (0..2).for_each(|_| patience.fail(at(1_000)));
        patience.begin(at(1_000));
        assert_eq!(patience.span(), 4 * USUAL);
        patience.succeed(at(1_000 + 8 * 1_600 - 1));
        assert_eq!(patience.span(), 4 * USUAL);
        patience.succeed(at(1_000 + 8 * 1_600));
        assert_eq!(patience.span(), 2 * USUAL);
        patience.succeed(at(1_000 + 8 * 1_600 + 8 * 800));
        assert_eq!(patience.span(), USUAL);
        patience.fail(at(1_000 + 8 * 1_600 + 8 * 800 + 1));
        assert_eq!(patience.span(), 2 * USUAL, "it was taken back too far");
    }
}
