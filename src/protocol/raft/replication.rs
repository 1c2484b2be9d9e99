//! How a leader brings its log to the followers (thesis 3.5, 10.2.1).
//!
//! Entries stream in a window, optimistically. That something was lost shows when an append does not match: the follower's hint
//! says where to look, one empty append finds whether the logs agree there, and streaming goes on. So a loss costs one round trip,
//! and nothing is sent twice on suspicion.

use super::progress::Mode;
use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, NodeId, Slot};
use crate::protocol::{FaultKind, Fetch, Outbox, Target};
use crate::wire::Entry;
use crate::wire::raft::{AppendOutcome, Message};

impl Raft {
    /// Ends a leader's burst: what each follower lacks, else a heartbeat if one is due or something waits for it.
    pub(super) fn replicate(&mut self, now: Instant, out: &mut Outbox) {
        assert_eq!(self.role, Role::Leader);
        let beat = std::mem::take(&mut self.beat);
        for peer in 0..self.peers.len() {
            if beat {
                self.rewind_stalled(now, peer);
            }
            let sent = self.feed(now, peer, out);
            let p = &self.peers[peer];
            let waits =
                p.round_sent < self.reads.round() || (p.is_untold(self.commit) && self.commit <= p.matched);
            // A heartbeat leaves even when the window is full, and ahead of what is in it: no amount of data may cost a leader its
            // followers.
            if beat || waits {
                self.send_heartbeat(peer, out);
            }
            // What is on its way may be lost: the follower is asked, behind it, whether it has come.
            let p = &self.peers[peer];
            let is_probed = matches!(p.mode, Mode::Probe { .. });
            let is_unsure = beat && (is_probed || p.matched.next() < p.next);
            if !sent && !matches!(p.mode, Mode::Snapshot(_)) && (is_unsure || p.is_untold(self.commit)) {
                self.send_empty(peer, out);
            }
        }
    }

    /// The commit index goes along as far as the follower is known to agree (3.5).
    fn send_heartbeat(&mut self, peer: usize, out: &mut Outbox) {
        let (term, round) = (self.term, self.reads.round());
        let p = &mut self.peers[peer];
        let commit = self.commit.min(p.matched);
        p.round_sent = round;
        p.told = p.told.max(commit);
        out.send(Target::One(p.id), Message::Heartbeat { term, commit, round });
    }

    /// Sends what the follower lacks, as far as the window allows. True if an append has left.
    fn feed(&mut self, now: Instant, peer: usize, out: &mut Outbox) -> bool {
        let mut sent = false;
        loop {
            let (floor, last) = (self.tail.floor().slot, self.tail.last());
            let p = &mut self.peers[peer];
            match &mut p.mode {
                Mode::Snapshot(_) => {
                    self.fetch_piece(peer, out);
                    return sent;
                }
                // The entry before `next` has left the log: nobody can say any more whether it agrees.
                _ if p.next <= floor && !canary::on(Canary::CompactionForgetsFollower) => p.ship(now),
                Mode::Probe { asked: true } => return sent,
                Mode::Probe { asked } => {
                    *asked = true;
                    self.send_empty(peer, out);
                    return true;
                }
                Mode::Replicate => {
                    let has_room = p.has_room(self.options.window_appends_max, self.options.window_bytes_max);
                    if last < p.next || !has_room {
                        return sent;
                    }
                    if p.next <= self.tail.base() {
                        self.fetch_entries(peer, out);
                        return sent;
                    }
                    let (count, bytes) =
                        (self.options.max_log_entries_per_append, self.options.append_bytes_max);
                    let entries = self.tail.slice(self.peers[peer].next, count, bytes);
                    self.send_entries(peer, entries, out);
                    sent = true;
                }
            }
        }
    }

    /// Entries leave in parallel with the leader's own write (10.2.1): no ticket.
    fn send_entries(&mut self, peer: usize, entries: Vec<Entry>, out: &mut Outbox) {
        let p = &mut self.peers[peer];
        let last = entries.last().expect("at least one").slot;
        let bytes = entries.iter().map(|e| e.body.len()).sum();
        let prev = p.next.prev();
        p.sent(last, bytes);
        self.send_append(peer, prev, entries, out);
    }

    /// An append that carries news only: term, commit index, round, and the question whether the logs agree so far.
    fn send_empty(&mut self, peer: usize, out: &mut Outbox) {
        let prev = self.peers[peer].next.prev();
        self.send_append(peer, prev, Vec::new(), out);
    }

    fn send_append(&mut self, peer: usize, prev_slot: Slot, entries: Vec<Entry>, out: &mut Outbox) {
        let (commit, round) = (self.commit, self.reads.round());
        let prev_term = match prev_slot {
            Slot::ZERO => Default::default(),
            slot => self.tail.term_at(slot).expect("at or above the floor"),
        };
        let p = &mut self.peers[peer];
        (p.told, p.round_sent) = (commit, round);
        let message = Message::Append { term: self.term, prev_slot, prev_term, commit, entries, round };
        out.send(Target::One(p.id), message);
    }

    fn fetch_entries(&mut self, peer: usize, out: &mut Outbox) {
        if self.peers[peer].fetch.is_none() {
            let job = self.job();
            let p = &mut self.peers[peer];
            p.fetch = Some(job);
            let (count, bytes) = (self.options.max_log_entries_per_append, self.options.append_bytes_max);
            out.ship(job, Fetch::Entries { from: p.next, count, bytes });
        }
    }

    /// Old entries have come from disk. The follower may have moved on meanwhile: then `feed` decides anew.
    pub(super) fn send_fetched(&mut self, peer: usize, entries: Vec<Entry>, out: &mut Outbox) {
        let p = &self.peers[peer];
        let fits =
            entries.first().is_some_and(|first| first.slot == p.next && self.tail.floor().slot < p.next);
        if fits && p.mode == Mode::Replicate {
            let consecutive = entries.iter().zip(p.next.0..).all(|(e, slot)| e.slot.0 == slot);
            let known = entries.iter().all(|e| self.tail.term_at(e.slot) == Some(e.term));
            assert!(consecutive && known, "the disk holds what was written");
            self.send_entries(peer, entries, out);
        }
    }

    /// What was sent to `id` may be lost: asks whether all of it has come. If not, the answer says where to go on.
    pub(super) fn ask_anew(&mut self, id: NodeId) {
        let Some(peer) = self.peer(id) else { return };
        let p = &mut self.peers[peer];
        match &mut p.mode {
            Mode::Snapshot(shipping) => shipping.rewind(),
            Mode::Probe { .. } | Mode::Replicate => {
                let next = p.next;
                p.probe(next);
                p.fetch = None;
                if canary::on(Canary::WindowOverrun) {
                    p.replicate();
                }
            }
        }
    }

    pub(super) fn on_heartbeat_reply(&mut self, now: Instant, from: NodeId, round: u64, lags: bool) {
        let Some(peer) = self.peer(from) else { return };
        self.peers[peer].hears(now, round);
        // It is asked already, or gets a snapshot, in the other modes.
        if lags && self.peers[peer].mode == Mode::Replicate {
            self.ask_anew(from);
        }
    }

    pub(super) fn on_append_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        outcome: AppendOutcome,
        round: u64,
        out: &mut Outbox,
    ) {
        assert_eq!(self.role, Role::Leader);
        let Some(peer) = self.peer(from) else { return };
        self.peers[peer].hears(now, round);
        match outcome {
            AppendOutcome::Matched { slot } if self.tail.last() < slot => {
                out.fault(from, FaultKind::AcknowledgesUnsent { slot, last: self.tail.last() });
            }
            AppendOutcome::Matched { slot } => self.matched(now, peer, slot),
            AppendOutcome::Conflict { prev_slot, slot, term } => {
                let p = &self.peers[peer];
                // A late answer is told by the place that it refuses: it agrees meanwhile, or is not the one asked about.
                let is_news = match p.mode {
                    Mode::Snapshot(_) => false,
                    Mode::Probe { .. } => prev_slot.next() == p.next,
                    Mode::Replicate => prev_slot < p.next,
                };
                if is_news && p.matched < prev_slot {
                    let hint = slot.min(prev_slot.prev());
                    // Below the floor nothing is known: the follower needs a snapshot.
                    let is_known = self.tail.floor().slot <= hint;
                    let agrees = if is_known { self.tail.back_to(hint, term) } else { hint };
                    let p = &mut self.peers[peer];
                    p.probe(agrees.max(p.matched).next());
                }
            }
            // Its term is ours, so it did not say so to this leader.
            AppendOutcome::Stale => (),
        }
    }

    /// The follower's log agrees, durably, up to `slot`; and up to where it was asked last, durably or not.
    pub(super) fn matched(&mut self, now: Instant, peer: usize, slot: Slot) {
        assert!(slot <= self.tail.last());
        let floor = self.tail.floor().slot;
        let p = &mut self.peers[peer];
        self.recount |= p.matched < slot;
        p.acknowledged(slot);
        match &p.mode {
            Mode::Replicate => (),
            Mode::Probe { .. } => p.replicate(),
            Mode::Snapshot(_) if floor <= p.matched => p.shipped(),
            // The log has moved on while the snapshot travelled: a newer one follows.
            Mode::Snapshot(shipping) if shipping.is_over(p.matched) => p.ship(now),
            Mode::Snapshot(_) => (),
        }
    }
}
