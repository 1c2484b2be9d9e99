//! Who leads: time-outs, trial votes, votes, the leader's own doubt (thesis 3.4, 3.8, 4.2.3, 6.2, 9.6).

use super::progress::Progress;
use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, NodeId, NodeSet, Slot, Term};
use crate::protocol::{Cause, Outbox, Target};
use crate::wire::raft::Message;
use crate::wire::{Entry, EntryKind};
use std::time::Duration;

impl Raft {
    /// Draws a new time-out: "election timeouts are chosen randomly from a fixed interval" (3.4).
    pub(super) fn arm_election(&mut self, now: Instant) {
        let (min, max) = (self.options.election_min, self.options.election_max);
        let spread = (max - min).as_nanos() as u64;
        self.patience = min + Duration::from_nanos(self.prng.below(spread));
        self.election_at = now.after(self.patience);
    }

    /// The leader of the own term has spoken.
    pub(super) fn hear_leader(&mut self, now: Instant) {
        self.heard = Some(now);
        self.election_at = now.after(self.patience);
    }

    /// "If a server receives a RequestVote request within the minimum election timeout of hearing from a current leader, it does
    /// not update its term or grant its vote" (4.2.3). A leader hears itself; its own doubt is `check_quorum`.
    pub(super) fn is_loyal(&self, now: Instant) -> bool {
        let hears = self.heard.is_some_and(|heard| now.since(heard) < self.options.election_min);
        self.options.check_quorum && (self.role == Role::Leader || hears)
    }

    /// The time-out has passed without a leader.
    pub(super) fn stand(&mut self, now: Instant, out: &mut Outbox) {
        assert_ne!(self.role, Role::Leader);
        self.arm_election(now);
        if self.transfer.is_draining() {
            return;
        }
        self.cause = Cause::Silence;
        self.follow(now, None, out);
        if self.options.pre_vote && 1 < self.members.len() && !canary::on(Canary::NoPreVote) {
            self.try_out(out);
        } else {
            self.campaign(now, false, out);
        }
    }

    /// "A candidate would only increment its term if it first learned from a majority of the cluster that they would be willing
    /// to grant the candidate their votes" (9.6).
    fn try_out(&mut self, out: &mut Outbox) {
        self.role = Role::PreCandidate;
        self.votes = NodeSet::from_iter([self.me]);
        let message = self.vote_message(self.term.next(), true, false);
        // It speaks of nothing that this replica promises.
        out.send(Target::Others, message);
    }

    /// "To begin an election, a follower increments its current term and transitions to candidate state" (3.4).
    pub(super) fn campaign(&mut self, now: Instant, transfer: bool, out: &mut Outbox) {
        assert_ne!(self.role, Role::Leader);
        self.enter_term(now, self.term.next(), Some(self.me), out);
        self.role = Role::Candidate;
        self.elections += 1;
        self.votes = NodeSet::default();
        let message = self.vote_message(self.term, false, transfer);
        // Our own vote must be durable before anyone hears of it (3.8): else we could vote twice in this term.
        out.send_after(out.last_ticket(), Target::Others, message);
    }

    /// Repeats the question to one peer, whose link has come up.
    pub(super) fn request_vote(&mut self, peer: NodeId, out: &mut Outbox) {
        let message = self.vote_message(self.term, false, false);
        out.send_after(out.last_ticket(), Target::One(peer), message);
    }

    fn vote_message(&self, term: Term, pre: bool, transfer: bool) -> Message {
        let last = self.tail.last_mark();
        Message::Vote { term, last_slot: last.slot, last_term: last.term, pre, transfer }
    }

    /// "If the logs have last entries with different terms, then the log with the later term is more up-to-date. If the logs end
    /// with the same term, then whichever log is longer is more up-to-date" (3.6.1).
    fn is_up_to_date(&self, theirs: (Term, Slot)) -> bool {
        let last = self.tail.last_mark();
        match () {
            _ if canary::on(Canary::VoteWithoutLogCheck) => true,
            _ if canary::on(Canary::UpToDateByLength) => last.slot <= theirs.1,
            _ if canary::on(Canary::UpToDateStrict) => (last.term, last.slot) < theirs,
            _ => (last.term, last.slot) <= theirs,
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        last: (Term, Slot),
        out: &mut Outbox,
    ) {
        let granted = self.term < term && !self.is_loyal(now) && self.is_up_to_date(last);
        // Granted, the answer names the term that was asked about; refused, our own, from which a straggler learns.
        let term = if granted { term } else { self.term };
        self.reply(Target::One(from), Message::VoteReply { term, granted, pre: true }, out);
    }

    pub(super) fn on_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        last: (Term, Slot),
        transfer: bool,
        out: &mut Outbox,
    ) {
        if self.term < term {
            assert!(!transfer && self.is_loyal(now), "any other vote raised our term");
            return;
        }
        let is_free = self.vote.is_none() || self.vote == Some(from) || canary::on(Canary::TwoVotes);
        let granted = term == self.term && is_free && self.is_up_to_date(last);
        if granted && self.vote.is_none() {
            self.vote = Some(from);
            self.save_vote(out);
            self.arm_election(now);
        }
        let message = Message::VoteReply { term: self.term, granted, pre: false };
        self.reply(Target::One(from), message, out);
    }

    pub(super) fn on_vote_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        granted: bool,
        pre: bool,
        out: &mut Outbox,
    ) {
        // A late answer to an earlier question speaks of another term (hazard: two leaders in one term).
        let asked = match self.role {
            Role::PreCandidate => pre && term == self.term.next(),
            Role::Candidate => !pre && (term == self.term || canary::on(Canary::VoteReplyAnyTerm)),
            Role::Follower | Role::Leader => false,
        };
        if !asked || !granted {
            return;
        }
        self.votes.insert(from);
        if self.votes.len() < self.quorum() {
            return;
        }
        if pre {
            self.arm_election(now);
            self.campaign(now, false, out);
        } else {
            self.lead(now, out);
        }
    }

    /// A candidate's own vote counts when it is durable, like any other.
    pub(super) fn count_own_vote(&mut self, now: Instant, out: &mut Outbox) {
        let counts = self.role == Role::Candidate && self.writes.is_vote_durable();
        if counts && self.votes.insert(self.me) && self.quorum() <= self.votes.len() {
            self.lead(now, out);
        }
    }

    /// "Once a candidate wins an election, it becomes leader" (3.4).
    fn lead(&mut self, now: Instant, out: &mut Outbox) {
        assert_eq!(self.role, Role::Candidate);
        assert!(self.quorum() <= self.votes.len() && self.vote == Some(self.me));
        self.role = Role::Leader;
        self.leader = Some(self.me);
        self.staging = None;
        let last = self.tail.last_mark();
        let followers = self.members.iter().filter(|id| *id != self.me);
        self.peers = followers.map(|id| Progress::new(id, last.slot.next(), now)).collect();
        self.reads.start_term();
        // Only an entry of the own term commits by being counted (3.6.2), and only then is the commit index known (6.4).
        let slot = last.slot.next();
        let entry =
            Entry { term: self.term, slot, stamp: last.stamp, kind: EntryKind::Empty, ..Entry::default() };
        self.append(entry, out);
        self.verified = slot;
        self.heartbeat_at = now.after(self.options.heartbeat);
        self.beat = true;
    }

    /// "A leader steps down if an election timeout elapses without a successful round of heartbeats to a majority" (6.2).
    pub(super) fn check_quorum(&mut self, now: Instant, out: &mut Outbox) {
        assert_eq!(self.role, Role::Leader);
        let heard = self.peers.iter().filter(|p| now.since(p.heard) <= self.options.election_max).count();
        if self.options.check_quorum && heard + 1 < self.quorum() && !canary::on(Canary::NoCheckQuorum) {
            self.cause = Cause::Doubt;
            self.follow(now, None, out);
        }
    }

    /// Sends what speaks of the own term and vote: at once if they are durable, else after everything that is being written.
    pub(super) fn reply(&mut self, to: Target, message: Message, out: &mut Outbox) {
        if self.writes.is_vote_durable() || canary::on(Canary::VoteBeforeDurable) {
            out.send(to, message);
        } else {
            out.send_after(out.last_ticket(), to, message);
        }
    }
}
