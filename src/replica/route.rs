//! Takes the batches of this node's clients to whoever leads, and knows what may have become of each.
//!
//! A batch is outstanding from its submission until this node sees it take effect, or gives it up. It is handed to the leader again
//! after a change of leader, a loss on the link, or a long silence: the rule of `wire::sequence` makes repetition harmless and keeps
//! the order. What counts is honesty in giving up: a batch that was certainly never appended fails with a retryable answer, one
//! that may have been appended is *indeterminate*.

use crate::base::canary::{self, Canary};
use crate::base::{Body, Instant, NodeId, Origin};
use crate::wire::Batch;
use crate::wire::forward::Refusal;
use crate::wire::hop::Failure;
use crate::wire::sequence::{Verdict, judge};
use std::collections::VecDeque;
use std::time::Duration;

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a batch that was not appended waits for a leader.
    pub write_wait: Duration,
    /// How long a batch that may have been appended waits for its effect.
    pub answer_within: Duration,
    /// After which silence of the leader a batch is sent again.
    pub retry_after: Duration,
    /// How long to wait before asking a node again that has refused.
    pub refused_pause: Duration,
    /// Most outstanding batches; no more are taken.
    pub batches_max: usize,
    /// Most bytes of outstanding batches; no more are taken.
    pub bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            write_wait: Duration::from_secs(1),
            answer_within: Duration::from_secs(2),
            retry_after: Duration::from_secs(1),
            refused_pause: Duration::from_millis(20),
            batches_max: 256,
            bytes_max: 32 << 20,
        }
    }
}

/// By how much attempts of one batch are apart with [`Canary::ForwardRenumbered`].
const RENUMBERED: u64 = 1 << 32;

struct Pending {
    sequence: u64,
    body: Body,
    growth: u64,
    submitted: Instant,
    /// To whom, and when; `None` while it waits for a leader.
    sent: Option<(NodeId, Instant)>,
    /// How often it was handed to a leader.
    attempts: u32,
    /// An earlier attempt has neither been refused nor taken effect: it may be in some log.
    loose: bool,
}

impl Pending {
    fn certainly_not_appended(&self) -> bool {
        !self.loose && self.sent.is_none()
    }
    /// Under which number an attempt goes out. Always the same, or a repetition would not be known as one.
    fn number(&self) -> u64 {
        let again = u64::from(self.attempts.saturating_sub(1)) * RENUMBERED;
        if canary::on(Canary::ForwardRenumbered) { self.sequence + again } else { self.sequence }
    }
    /// The present attempt's outcome will not be waited for.
    fn let_go(&mut self) {
        self.loose |= self.sent.take().is_some();
    }
}

/// A batch on its way to the leader.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Who leads; perhaps this node.
    pub to: NodeId,
    /// Which attempt it is.
    pub attempt: u32,
    /// The commands.
    pub batch: Batch,
}

/// The outstanding batches of one front for one group.
pub struct Route {
    origin: Origin,
    options: Options,
    /// The newest batch that took effect. Invariant: below every outstanding sequence.
    applied: u64,
    /// Invariant: sequences rise from front to back.
    outstanding: VecDeque<Pending>,
    bytes: usize,
    leader: Option<NodeId>,
    /// Not before then is anything handed to the leader (it has just refused).
    pause_until: Instant,
}

impl Route {
    /// No batch yet; the first will have sequence 1.
    pub fn new(origin: Origin, options: Options) -> Route {
        Route {
            origin,
            options,
            applied: 0,
            outstanding: VecDeque::new(),
            bytes: 0,
            leader: None,
            pause_until: Instant::ZERO,
        }
    }

    /// Whose batches these are.
    pub fn origin(&self) -> Origin {
        self.origin
    }
    /// Whether another batch may be submitted.
    pub fn has_room(&self) -> bool {
        self.outstanding.len() < self.options.batches_max && self.bytes < self.options.bytes_max
    }
    /// Number of outstanding batches.
    pub fn len(&self) -> usize {
        self.outstanding.len()
    }
    /// Whether none is outstanding.
    pub fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Takes a batch of the front. Sequences rise.
    pub fn submit(&mut self, now: Instant, sequence: u64, body: Body, growth: u64) {
        assert!(self.outstanding.back().map_or(self.applied, |p| p.sequence) < sequence, "sequences rise");
        self.bytes += body.len();
        let (submitted, sent) = (now, None);
        self.outstanding.push_back(Pending {
            sequence,
            body,
            growth,
            submitted,
            sent,
            attempts: 0,
            loose: false,
        });
    }

    /// Who leads now. After a change everything outstanding goes to the new leader, in order.
    pub fn follow(&mut self, leader: Option<NodeId>) {
        if self.leader != leader {
            self.leader = leader;
            self.pause_until = Instant::ZERO;
            self.outstanding.iter_mut().for_each(Pending::let_go);
        }
    }

    /// What was sent to `peer` may be lost.
    pub fn lost(&mut self, peer: NodeId) {
        let to_peer = |p: &&mut Pending| p.sent.is_some_and(|(to, _)| to == peer);
        self.outstanding.iter_mut().filter(to_peer).for_each(Pending::let_go);
    }

    /// Hands over what waits, in order, if somebody leads.
    pub fn dispatch(&mut self, now: Instant, out: &mut Vec<Dispatch>) {
        let Some(to) = self.leader else { return };
        if now < self.pause_until {
            return;
        }
        let Some(floor) = self.outstanding.front().map(|p| p.sequence) else { return };
        let origin = self.origin;
        let Some(first) = self.outstanding.iter().position(|p| p.sent.is_none()) else { return };
        for pending in self.outstanding.iter_mut().skip(first) {
            // Behind a batch that goes again, those after it go again too: without it they had no effect.
            pending.let_go();
            pending.sent = Some((to, now));
            pending.attempts += 1;
            let (sequence, growth, body) = (pending.number(), pending.growth, pending.body.clone());
            let floor = if canary::on(Canary::ForwardRenumbered) { sequence } else { floor };
            let batch = Batch { origin, sequence, floor, growth, body, ..Batch::default() };
            out.push(Dispatch { to, attempt: pending.attempts, batch });
        }
    }

    /// Others than the leader have heard of this batch, and may have it ordered whatever a leader says.
    pub fn loosen(&mut self, sequence: u64) {
        if let Ok(index) = self.outstanding.binary_search_by_key(&sequence, |p| p.sequence) {
            self.outstanding[index].loose = true;
        }
    }

    /// `from` says that it did not append this attempt. A batch that fails for good is returned.
    pub fn refused(
        &mut self,
        now: Instant,
        from: NodeId,
        sequence: u64,
        attempt: u32,
        why: Refusal,
    ) -> Option<(u64, Failure)> {
        let index = self.outstanding.binary_search_by_key(&sequence, |p| p.sequence).ok()?;
        let pending = &mut self.outstanding[index];
        if pending.attempts != attempt || pending.sent.is_none_or(|(to, _)| to != from) {
            return None;
        }
        pending.sent = None;
        let fatal = match why {
            // A node signs all that it forwards, so nobody who is correct answers it so.
            Refusal::NotLeader | Refusal::Draining | Refusal::Unsigned => None,
            Refusal::Overloaded => Some(Failure::Overloaded),
            Refusal::OutOfMemory => Some(Failure::OutOfMemory),
            Refusal::DiskFull => Some(Failure::DiskFull),
        };
        match fatal {
            Some(failure) if pending.certainly_not_appended() => {
                self.give_up(index);
                Some((sequence, failure))
            }
            _ => {
                self.pause_until = now.after(self.options.refused_pause);
                None
            }
        }
    }

    /// A batch of this origin stands in the decided log. Says whether it takes effect there.
    pub fn committed(&mut self, sequence: u64, floor: u64) -> Verdict {
        if canary::on(Canary::ForwardRenumbered) {
            self.settle(sequence);
            return Verdict::Applied;
        }
        let verdict = judge(self.applied, sequence, floor);
        if verdict == Verdict::Applied {
            self.settle(sequence);
        }
        verdict
    }

    /// Everything up to `sequence` has taken effect or never will.
    pub fn settle(&mut self, sequence: u64) {
        let sequence = if canary::on(Canary::ForwardRenumbered) { sequence % RENUMBERED } else { sequence };
        self.applied = self.applied.max(sequence);
        while self.outstanding.front().is_some_and(|p| p.sequence <= sequence) {
            self.bytes -= self.outstanding.pop_front().map_or(0, |p| p.body.len());
        }
    }

    /// Gives up what has waited too long, and hands over anew what the leader has not answered.
    pub fn expire(&mut self, now: Instant, failed: &mut Vec<(u64, Failure)>) {
        let mut index = 0;
        while let Some(pending) = self.outstanding.get(index) {
            let waited = now.since(pending.submitted);
            let failure = if pending.certainly_not_appended() {
                (self.options.write_wait <= waited).then_some(Failure::NoLeader)
            } else {
                (self.options.answer_within <= waited).then_some(Failure::Indeterminate)
            };
            match failure {
                Some(failure) => {
                    failed.push((pending.sequence, failure));
                    self.give_up(index);
                }
                None => index += 1,
            }
        }
        let silent = |p: &Pending| p.sent.is_some_and(|(_, at)| self.options.retry_after <= now.since(at));
        if self.outstanding.front().is_some_and(silent) {
            self.outstanding.iter_mut().for_each(Pending::let_go);
        }
    }

    /// Fails everything that was certainly not appended: the node is going down.
    pub fn drain(&mut self, failed: &mut Vec<(u64, Failure)>) {
        while let Some(index) = self.outstanding.iter().position(Pending::certainly_not_appended) {
            failed.push((self.outstanding[index].sequence, Failure::Draining));
            self.give_up(index);
        }
    }

    /// When `expire` or `dispatch` has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let due = self.outstanding.iter().map(|p| match p.sent {
            None if !p.loose => p.submitted.after(self.options.write_wait),
            _ => p.submitted.after(self.options.answer_within),
        });
        let retry =
            self.outstanding.front().and_then(|p| p.sent).map(|(_, at)| at.after(self.options.retry_after));
        let waits = self.outstanding.back().is_some_and(|p| p.sent.is_none()) && self.leader.is_some();
        due.chain(retry).chain(waits.then_some(self.pause_until)).min()
    }

    /// Later batches were made while this one was alive, and would wait for it: they go again.
    fn give_up(&mut self, index: usize) {
        let gone = self.outstanding.remove(index).expect("the caller found it");
        self.bytes -= gone.body.len();
        self.outstanding.iter_mut().skip(index).for_each(Pending::let_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const LEADER: NodeId = NodeId(2);

    fn route() -> Route {
        Route::new(Origin { node: NodeId(1), lane: 0, boot: 1 }, Options::default())
    }
    fn submit(route: &mut Route, sequence: u64) {
        route.submit(Instant::ZERO, sequence, Body::new(Bytes::from_static(b"x")), 10);
    }
    fn dispatched(route: &mut Route, now: u64) -> Vec<(u64, u64, u32)> {
        let mut out = Vec::new();
        route.dispatch(Instant(now), &mut out);
        out.iter().map(|d| (d.batch.sequence, d.batch.floor, d.attempt)).collect()
    }
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn batches_wait_for_a_leader_and_go_in_order() {
        let mut r = route();
        submit(&mut r, 1);
        submit(&mut r, 2);
        assert_eq!(dispatched(&mut r, 0), []);
        r.follow(Some(LEADER));
        assert_eq!(dispatched(&mut r, 0), [(1, 1, 1), (2, 1, 1)]);
        assert_eq!(dispatched(&mut r, 0), []);
        assert_eq!(r.committed(1, 1), Verdict::Applied);
        submit(&mut r, 3);
        assert_eq!(dispatched(&mut r, 0), [(3, 2, 1)]);
    }

    #[test]
    fn a_new_leader_gets_everything_again_and_silence_then_means_indeterminate() {
        let mut r = route();
        r.follow(Some(LEADER));
        submit(&mut r, 1);
        assert_eq!(dispatched(&mut r, 0).len(), 1);
        r.follow(None);
        submit(&mut r, 2);
        let mut failed = Vec::new();
        r.expire(Instant(SECOND), &mut failed);
        assert_eq!(failed, [(2, Failure::NoLeader)], "the first may be in the old leader's log");
        r.follow(Some(NodeId(3)));
        assert_eq!(dispatched(&mut r, SECOND), [(1, 1, 2)]);
        r.expire(Instant(2 * SECOND), &mut failed);
        assert_eq!(failed[1..], [(1, Failure::Indeterminate)]);
        assert!(r.is_empty());
    }

    #[test]
    fn a_refused_first_attempt_is_certainly_not_appended() {
        let mut r = route();
        r.follow(Some(LEADER));
        submit(&mut r, 1);
        dispatched(&mut r, 0);
        assert_eq!(r.refused(Instant(5), LEADER, 1, 1, Refusal::NotLeader), None);
        assert_eq!(dispatched(&mut r, 6), [], "pauses before it asks the same node again");
        assert_eq!(dispatched(&mut r, SECOND / 2), [(1, 1, 2)]);
        assert_eq!(r.refused(Instant(7), LEADER, 1, 1, Refusal::OutOfMemory), None, "of an older attempt");
        assert_eq!(
            r.refused(Instant(7), LEADER, 1, 2, Refusal::OutOfMemory),
            Some((1, Failure::OutOfMemory))
        );
    }

    #[test]
    fn a_refusal_after_a_loose_attempt_decides_nothing() {
        let mut r = route();
        r.follow(Some(LEADER));
        submit(&mut r, 1);
        dispatched(&mut r, 0);
        r.lost(LEADER);
        assert_eq!(dispatched(&mut r, 1), [(1, 1, 2)]);
        assert_eq!(r.refused(Instant(2), LEADER, 1, 2, Refusal::Overloaded), None);
        let mut failed = Vec::new();
        r.expire(Instant(SECOND), &mut failed);
        r.drain(&mut failed);
        assert_eq!(failed, []);
        r.expire(Instant(2 * SECOND), &mut failed);
        assert_eq!(failed, [(1, Failure::Indeterminate)]);
    }

    #[test]
    fn those_behind_a_batch_that_is_given_up_go_again_with_a_higher_floor() {
        let mut r = route();
        r.follow(Some(LEADER));
        (1..=3).for_each(|s| submit(&mut r, s));
        dispatched(&mut r, 0);
        assert!(r.refused(Instant(1), LEADER, 1, 1, Refusal::OutOfMemory).is_some());
        assert_eq!(dispatched(&mut r, 1), [(2, 2, 2), (3, 2, 2)]);
        assert_eq!(r.committed(2, 1), Verdict::Gap, "the first attempts had no effect");
        assert_eq!(r.committed(2, 2), Verdict::Applied);
        assert_eq!(r.committed(3, 2), Verdict::Applied);
        assert!(r.is_empty() && r.deadline().is_none());
    }

    #[test]
    fn silence_makes_everything_go_again() {
        let mut r = route();
        r.follow(Some(LEADER));
        submit(&mut r, 1);
        submit(&mut r, 2);
        dispatched(&mut r, 0);
        assert_eq!(r.deadline(), Some(Instant(SECOND)));
        r.expire(Instant(SECOND), &mut Vec::new());
        assert_eq!(dispatched(&mut r, SECOND), [(1, 1, 2), (2, 1, 2)]);
    }
}
