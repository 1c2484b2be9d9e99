//! What a follower does with a leader's entries (thesis 3.5).

use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, NodeId, Slot, Term};
use crate::protocol::{FaultKind, Outbox, Target};
use crate::wire::Entry;
use crate::wire::raft::{AppendOutcome, Message};

/// What the leader is to be told when the burst ends: one answer for all its appends that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    to: NodeId,
    /// The newest round of confirmation.
    round: u64,
    /// The leader wants to hear at once: one of the appends was a heartbeat, or began a round.
    is_urgent: bool,
}

impl Raft {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_append(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        prev: (Slot, Term),
        commit: Slot,
        entries: Vec<Entry>,
        round: u64,
        out: &mut Outbox,
    ) {
        if !self.accept_leader(now, from, term, out) {
            // "If a server receives a request with a stale term number, it rejects the request" (3.3).
            self.refuse_append(from, AppendOutcome::Stale, round, out);
            return;
        }
        let (prev_slot, prev_term) = prev;
        if let Some(slot) = first_disorder(prev, term, &entries) {
            out.fault(from, FaultKind::Disordered { slot });
            return;
        }
        if let Some(conflict) = self.conflict(prev_slot, prev_term) {
            if prev_slot <= self.commit {
                out.fault(from, FaultKind::RewritesCommitted { slot: prev_slot, commit: self.commit });
                return;
            }
            self.refuse_append(from, conflict, round, out);
            return;
        }
        let is_question = entries.is_empty();
        let end = Slot(prev_slot.0 + entries.len() as u64);
        if !self.take_entries(from, entries, out) {
            return;
        }
        // What was matched once in this term stays so: a late, shorter append changes nothing.
        self.verified = self.verified.max(end);
        if canary::on(Canary::CutMatchingSuffix) && self.commit <= end && end < self.tail.last() {
            self.cut(end.next());
            self.verified = end;
        }
        if canary::on(Canary::CommitUnverified) {
            self.verified = self.verified.max(commit.min(self.tail.last()));
        }
        // Only what is known to agree with this leader's log may commit, not all that the own log holds (3.5).
        self.commit_to(commit.min(self.verified), out);
        let earlier = self.acknowledgement.filter(|a| a.to == from);
        let earlier_round = earlier.map_or(self.round_echoed, |a| a.round);
        self.acknowledgement = Some(Acknowledgement {
            to: from,
            round: earlier_round.max(round),
            is_urgent: is_question || earlier_round < round || earlier.is_some_and(|a| a.is_urgent),
        });
    }

    /// The leader lives. What it says is committed is so here as far as this log is known to agree with its own: no more than that may
    /// commit (3.5), and nothing is cut, however many entries are still on their way behind it.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        commit: Slot,
        round: u64,
        out: &mut Outbox,
    ) {
        let is_leader = self.accept_leader(now, from, term, out);
        if is_leader {
            if canary::on(Canary::HeartbeatVouches) {
                self.verified = self.tail.last();
            }
            self.commit_to(commit.min(self.verified), out);
            self.round_echoed = self.round_echoed.max(round);
        } else if self.term == term {
            return;
        }
        let lags = is_leader && self.verified < commit;
        let round = if is_leader { round } else { 0 };
        self.reply(Target::One(from), Message::HeartbeatReply { term: self.term, round, lags }, out);
    }

    /// A message that only a leader sends has come: false if it is of an older term, or of a second leader.
    pub(super) fn accept_leader(&mut self, now: Instant, from: NodeId, term: Term, out: &mut Outbox) -> bool {
        assert!(term <= self.term, "a later term was entered");
        if term < self.term {
            return false;
        }
        if self.leader.is_some_and(|leader| leader != from) {
            out.fault(from, FaultKind::SecondLeader { term });
            return false;
        }
        if self.role != Role::Follower || self.leader.is_none() {
            // "If AppendEntries RPC received from new leader: convert to follower" (3.4).
            self.follow(now, Some(from), out);
            self.round_echoed = 0;
        }
        self.hear_leader(now);
        true
    }

    /// What to say if the log does not agree at `prev_slot`: "if a follower does not have prev in its log, it refuses" (3.5).
    fn conflict(&self, prev_slot: Slot, prev_term: Term) -> Option<AppendOutcome> {
        match self.tail.term_at(prev_slot) {
            Some(term) if term == prev_term => return None,
            // What has left the log is committed, and so agrees with every later leader.
            None if prev_slot < self.tail.floor().slot => return None,
            _ => (),
        }
        // Back over a term at a time (3.5): nothing above the hint can agree.
        let slot = self.tail.back_to(prev_slot, prev_term).max(self.commit);
        let term = self.tail.term_at(slot).expect("from the floor to the last");
        Some(AppendOutcome::Conflict { prev_slot, slot, term })
    }

    /// "If an existing entry conflicts with a new one, delete it and all that follow; append any new entries not already in the
    /// log" (3.5). What agrees stays, so that a late append removes nothing. False if the entries contradict what is committed.
    fn take_entries(&mut self, from: NodeId, entries: Vec<Entry>, out: &mut Outbox) -> bool {
        for entry in entries {
            let slot = entry.slot;
            if slot <= self.tail.floor().slot {
                continue;
            }
            match self.tail.term_at(slot) {
                Some(term) if term == entry.term => continue,
                Some(_) if slot <= self.commit && !canary::on(Canary::ConflictCutsCommitted) => {
                    out.fault(from, FaultKind::RewritesCommitted { slot, commit: self.commit });
                    return false;
                }
                Some(_) if slot <= self.verified && !canary::on(Canary::ConflictCutsCommitted) => {
                    // A leader never rewrites its own log (3.2, Leader Append-Only).
                    out.fault(from, FaultKind::Disordered { slot });
                    return false;
                }
                Some(_) => self.cut(slot),
                None => (),
            }
            if entry.stamp < self.tail.last_mark().stamp || entry.term < self.tail.last_mark().term {
                out.fault(from, FaultKind::Disordered { slot });
                return false;
            }
            self.append(entry, out);
        }
        true
    }

    /// The entries from `slot` on do not agree with the leader's.
    fn cut(&mut self, slot: Slot) {
        self.tail.cut(slot);
        self.writes.cut(slot);
    }

    fn refuse_append(&mut self, from: NodeId, outcome: AppendOutcome, round: u64, out: &mut Outbox) {
        let round = if outcome == AppendOutcome::Stale { 0 } else { round };
        let message = Message::AppendReply { term: self.term, outcome, round };
        self.reply(Target::One(from), message, out);
    }

    /// Ends the burst: "followers may not acknowledge entries before they are durable" (3.8), but a leader that only wants to
    /// know whether it is heard is answered at once with what is durable already, however long the disk takes.
    pub(super) fn acknowledge(&mut self, out: &mut Outbox) {
        let Some(Acknowledgement { to, round, is_urgent }) = self.acknowledgement.take() else { return };
        assert_eq!(self.leader, Some(to));
        self.round_echoed = self.round_echoed.max(round);
        let (term, to) = (self.term, Target::One(to));
        let durable = if canary::on(Canary::AckBeforeDurable) { self.verified } else { self.writes.slot() };
        let reply = |slot| Message::AppendReply { term, outcome: AppendOutcome::Matched { slot }, round };
        if !self.writes.is_vote_durable() {
            out.send_after(out.last_ticket(), to, reply(self.verified));
            return;
        }
        if is_urgent || self.verified <= durable {
            out.send(to, reply(self.verified.min(durable)));
        }
        if durable < self.verified {
            out.send_after(out.last_ticket(), to, reply(self.verified));
        }
    }
}

/// The first slot where entries are not consecutive, or terms or stamps fall, or a term is later than the leader's.
fn first_disorder(prev: (Slot, Term), leader: Term, entries: &[Entry]) -> Option<Slot> {
    let (mut slot, mut term) = prev;
    if leader < term {
        return Some(slot);
    }
    let mut stamp = entries.first().map_or_else(Default::default, |e| e.stamp);
    for entry in entries {
        slot = slot.next();
        if entry.slot != slot || entry.term < term || leader < entry.term || entry.stamp < stamp {
            return Some(slot);
        }
        (term, stamp) = (entry.term, entry.stamp);
    }
    None
}
