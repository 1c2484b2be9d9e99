//! What a primary that is merely slow is held against: how fast it and those before it were (Clement and others, "Making Byzantine Fault
//! Tolerant Systems Tolerate Byzantine Faults", NSDI 2009, 4.3). A liar that delays everything to just below the time-out is never late,
//! and would cost the group nearly all of its throughput.
//!
//! Judged is only time in which somebody waits, so a quiet group blames nobody; and a primary is slow only if both figures say so: fewer
//! values a second than nine tenths of the best view's, and longer waits than twice the best view's. More load alone raises the second,
//! less load alone lowers the first. As the judgement is this replica's own, it leads to a complaint, not to leaving the view alone.

use super::Pbft;
use super::peers::Word;
use crate::base::{Instant, NodeId};
use crate::protocol::{Outbox, Target};
use crate::wire::members::OPERATOR;
use crate::wire::pbft::Message;
use std::collections::VecDeque;
use std::time::Duration;

/// A view is not judged before, nor before so many times the patience: it begins with what earlier ones left behind.
const GRACE: Duration = Duration::from_secs(2);
const GRACE_FACTOR: u32 = 5;
/// How long is looked at together.
const PERIOD: Duration = Duration::from_secs(1);
/// So many periods in a row are slow before somebody complains: a pause of the machine is not a slow primary.
const SLOW_PERIODS: u32 = 2;
/// Fewer waits say nothing.
const WAITS_MIN: u64 = 2;
/// What `f + 1` have executed comes from one of them in less than so many times the patience with a view.
const STUCK_FACTOR: u32 = 4;

/// What happened while somebody waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    executed: u64,
    busy: Duration,
    waits: u64,
    waited: Duration,
}

impl Work {
    fn add(&mut self, other: Work) {
        self.executed += other.executed;
        self.busy += other.busy;
        self.waits += other.waits;
        self.waited += other.waited;
    }
    /// Values a second, and the mean wait.
    fn figures(self) -> Option<(u64, Duration)> {
        let nanos = self.busy.as_nanos().max(1);
        let rate = u128::from(self.executed) * 1_000_000_000 / nanos;
        let mean = self.waited.as_nanos() / u128::from(self.waits.max(1));
        (WAITS_MIN <= self.waits).then(|| (rate as u64, Duration::from_nanos(mean as u64)))
    }
}

/// The watch over the primary's speed.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// When the view began, and the period.
    view_at: Instant,
    period_at: Instant,
    /// Since when somebody waits.
    waits_since: Option<Instant>,
    view: Work,
    period: Work,
    /// The averages of earlier views, the newest last.
    before: VecDeque<(u64, Duration)>,
    slow: u32,
}

impl Pace {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> Pace {
        let (view, period) = (Work::default(), Work::default());
        Pace {
            view_at: now,
            period_at: now,
            waits_since: None,
            view,
            period,
            before: VecDeque::new(),
            slow: 0,
        }
    }
    /// Another view has begun, in a group of so many: each of its primaries is remembered once.
    pub fn begin(&mut self, now: Instant, members: usize) {
        self.view.add(std::mem::take(&mut self.period));
        self.before.extend(std::mem::take(&mut self.view).figures());
        while members < self.before.len() {
            self.before.pop_front();
        }
        (self.view_at, self.period_at, self.slow) = (now, now, 0);
        self.waits_since = self.waits_since.map(|_| now);
    }
    /// Whether somebody waits now.
    pub fn waits(&mut self, now: Instant, does: bool) {
        if let Some(since) = self.waits_since {
            self.period.busy += now.since(since);
        }
        self.waits_since = does.then_some(now);
    }
    /// A value was executed, for which so many had waited so long together.
    pub fn executed(&mut self, waits: u64, waited: Duration) {
        self.period.executed += 1;
        self.period.waits += waits;
        self.period.waited += waited;
    }
    /// Ends a period, if one is over, and judges it.
    pub fn judge(&mut self, now: Instant, patience: Duration) {
        if now.since(self.period_at) < PERIOD {
            return;
        }
        self.waits(now, self.waits_since.is_some());
        self.period_at = now;
        let period = std::mem::take(&mut self.period);
        if now.since(self.view_at) < GRACE.max(GRACE_FACTOR * patience) {
            return;
        }
        let is_slow = period.figures().is_some_and(|now| self.is_slow(now, patience));
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        self.view.add(period);
    }
    fn is_slow(&self, (rate, wait): (u64, Duration), patience: Duration) -> bool {
        let known = || self.before.iter().copied().chain(self.view.figures());
        let fastest = known().map(|(rate, _)| rate).max().unwrap_or(0);
        let shortest = known().map(|(_, wait)| wait).min().unwrap_or(Duration::MAX);
        let is_slower = 10 * rate < 9 * fastest && shortest.saturating_mul(2) < wait;
        // What is far from the time-out is not worth a change of views; what always is close to it has nothing to be held against.
        (is_slower && patience / 8 < wait) || patience / 2 < wait
    }
    /// Whether the primary has been slow for long enough.
    pub fn complains(&self) -> bool {
        SLOW_PERIODS <= self.slow
    }
}

impl Pbft {
    /// Whether this replica finds its primary slow, or unfair to someone, or cannot follow in this view. It goes on with it until others
    /// find so too.
    pub(super) fn complains(&self) -> bool {
        if !self.active || self.is_primary() {
            // A primary has nothing to hold against itself, but it may be one of those that cannot follow.
            return self.active && self.falls_behind;
        }
        self.pace.complains() || self.requests.is_passed_over(self.passed_max()) || self.falls_behind
    }
    /// After so many later assignments to others a request has been passed over: more than a fair primary can have had on their way.
    fn passed_max(&self) -> u64 {
        2 * self.options.window
    }

    /// For how long a claim that has ended a view ends no other.
    fn disbelief(&self) -> Duration {
        2 * self.options.request_timeout_max
    }

    /// Looks after those that wait: others hear of what has waited for long here, so that a primary that serves all but one node is not
    /// only that node's trouble.
    pub(super) fn look_after_requests(&mut self, now: Instant, out: &mut Outbox) {
        let patience = self.changing.patience.span();
        self.pace.judge(now, patience);
        // A decision that one correct replica alone can tell of is believed only when a view has agreed on it anew. That takes its time:
        // a view that is left before would be followed by one that is left as well.
        let still = now.since(self.peers.executed_at.max(self.changing.entered));
        let is_alone = self.peers.vouched_executed(self.quorum.weak()) <= self.executed;
        let is_ahead = self.peers.is_ahead(now, self.disbelief(), self.executed);
        // Where `f + 1` are ahead they tell of it, or give a state, unless all but one of them lie.
        let is_kept_waiting = STUCK_FACTOR * patience <= still && !self.transfer.is_coming();
        self.falls_behind = (patience <= still && is_alone && is_ahead) || (is_kept_waiting && !is_alone);
        // Also while this replica has left the view alone: the others have a reason to follow only if they hear who waits.
        if !self.is_primary() {
            let (me, after, most) = (self.me, patience / 4, self.passed_max());
            // Nobody but who has heard of an operator's batch speaks for it.
            for origin in [me, OPERATOR] {
                for batch in self.requests.share(origin, now, after, most) {
                    out.send(Target::Others, Message::Request { batch });
                }
            }
            if self.active {
                for batch in self.requests.relay(me, now, after) {
                    out.send(Target::One(self.primary()), Message::Request { batch });
                }
            }
        }
    }

    /// `f + 1` that complain of the view or have left it, and so a correct one, are enough to leave it together.
    pub(super) fn consider_complaints(&mut self, now: Instant, out: &mut Outbox) {
        if !self.active {
            return;
        }
        let fresh = 4 * self.options.status_every;
        let voices = |(node, word): &(NodeId, Word)| {
            let is_of_now = word.view.epoch() == self.epochs.number;
            let is_unhappy =
                (self.view < word.view && is_of_now) || (word.view == self.view && word.complains);
            *node != self.me && is_unhappy && now.since(word.heard) <= fresh
        };
        let others = self.peers.words().filter(voices).count();
        if self.complains() && self.quorum.weak() <= others + 1 {
            self.peers.disbelieve(now);
            self.leave(now, self.view.next(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(400);
    const SECOND: u64 = 1_000_000_000;

    /// So many seconds in which a few always wait, `wait` each.
    fn load(pace: &mut Pace, from: u64, seconds: u64, rate: u64, wait: Duration) {
        for second in from..from + seconds {
            pace.waits(Instant(second * SECOND), true);
            (0..rate).for_each(|_| pace.executed(1, wait));
            pace.judge(Instant((second + 1) * SECOND), TIMEOUT);
        }
    }

    #[test]
    fn a_primary_that_becomes_slow_is_noticed_and_one_under_other_load_is_not() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(Instant(0));
        load(&mut pace, 0, 6, 1_000, ms(5));
        assert!(!pace.complains());
        load(&mut pace, 6, 3, 5, ms(5));
        assert!(!pace.complains(), "fewer ask");
        load(&mut pace, 9, 3, 2_000, ms(80));
        assert!(!pace.complains(), "more ask");
        load(&mut pace, 12, 1, 5, ms(180));
        assert!(!pace.complains(), "once is a pause");
        load(&mut pace, 13, 1, 5, ms(180));
        assert!(pace.complains());
        pace.begin(Instant(14 * SECOND), 4);
        assert!(!pace.complains(), "each view has its own chance");
        load(&mut pace, 14, 6, 5, ms(180));
        assert!(pace.complains(), "held against the view before");
    }

    #[test]
    fn with_nothing_to_hold_against_it_half_the_time_out_is_too_slow() {
        let mut pace = Pace::new(Instant(0));
        load(&mut pace, 0, 8, 3, TIMEOUT / 3);
        assert!(!pace.complains());
        load(&mut pace, 8, 2, 3, TIMEOUT * 3 / 4);
        assert!(pace.complains());
    }

    #[test]
    fn who_waits_for_nothing_blames_nobody() {
        let mut pace = Pace::new(Instant(0));
        load(&mut pace, 0, 6, 1_000, Duration::from_millis(5));
        for second in 7..20 {
            pace.waits(Instant(second * SECOND), false);
            pace.judge(Instant(second * SECOND), TIMEOUT);
        }
        assert!(!pace.complains());
    }
}
