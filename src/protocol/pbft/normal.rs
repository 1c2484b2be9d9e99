//! The normal case: pre-prepare, prepare, commit, execution (TOCS 2002, 4.3).

use super::slots::Counted;
use super::{Admitted, NUMBER_MAX, Pbft, READ_LANE, Spoken};
use crate::base::canary::{self, Canary};
use crate::base::{Body, Digest, Instant, NodeId, Origin, Slot, Stamp, Term, View};
use crate::crypto::Signature;
use crate::protocol::{FaultKind, Outbox, RefusalKind, Room};
use crate::wire::members::OPERATOR;
use crate::wire::pbft::{self, Message, NULL, Note, Proposal, Vote};
use crate::wire::{Batch, Entry, EntryKind};

impl Pbft {
    /// Assigns the next slot to a batch, while primary.
    pub(super) fn propose(&mut self, batch: Batch, out: &mut Outbox) -> Admitted {
        if !self.is_primary() {
            return Err(RefusalKind::NotLeader { leader: self.leader() });
        }
        // Whoever proposes a batch is its origin: what a client's tag vouches for, it vouches for here.
        let is_by_tags = self.is_by_tags(&batch);
        if self.wants_signature(&batch) {
            return Err(RefusalKind::Unsigned);
        }
        // A batch without commands and without an origin carries the stamp alone.
        let is_authentic = batch == Batch::default() || is_by_tags || self.is_authentic(&batch);
        if !is_authentic && !canary::on(Canary::ProposeUnchecked) {
            // Whoever sent it could make no other replica believe it: nothing is assigned to it, and nobody waits for it (B11).
            out.fault(batch.origin.node, FaultKind::BadSignature);
            return Err(RefusalKind::Void);
        }
        self.assign(batch)
    }

    /// Assigns the next slot to a batch that is authentic, while primary.
    pub(super) fn assign(&mut self, batch: Batch) -> Admitted {
        let is_empty = batch == Batch::default();
        if !is_empty && self.room == Room::None {
            return Err(RefusalKind::Overloaded);
        }
        self.requests.admit(&batch, self.options.origin_batches_max)?;
        let slot = self.assigned.max(self.executed).max(self.slots.base()).next();
        let stamp = self.assigned_stamp.max(self.stamp).max(self.clock);
        let kind = if is_empty { EntryKind::Empty } else { EntryKind::Batch };
        let Batch { origin, sequence, floor, body, signature, .. } = batch;
        let entry = Entry { term: Term::ZERO, slot, stamp, kind, origin, sequence, floor, body };
        self.requests.assigned(&entry);
        (self.assigned, self.assigned_stamp) = (slot, stamp);
        self.waiting.push_back(Proposal { entry, signature });
        Ok(())
    }

    /// Whether its origin signed it. The own batches need no check.
    pub(super) fn is_authentic(&self, batch: &Batch) -> bool {
        batch.origin.node == self.me || self.is_signed(batch)
    }

    /// Writes what is assigned and lies within the window: "the primary does not assign beyond H".
    pub(super) fn pump(&mut self, now: Instant, out: &mut Outbox) {
        while self.is_primary()
            && let Some(proposal) = self.waiting.front().cloned()
            && self.slots.contains(proposal.entry.slot)
        {
            self.waiting.pop_front();
            let vote = Vote { slot: proposal.entry.slot, digest: pbft::digest(&proposal.entry) };
            let is_tagged = pbft::batch_of(&proposal).is_some_and(|batch| self.is_by_tags(&batch));
            let place = self.slots.at(vote.slot);
            (place.assigned, place.tagged) = (Some(vote.digest), is_tagged);
            self.accept(now, vote, Some(proposal.clone()), out);
            self.speech.fresh.push(proposal);
        }
    }

    /// Assignments of this view, in as many messages as their bytes ask for.
    pub(super) fn pre_prepares(&self, proposals: Vec<Proposal>) -> Vec<Message> {
        let (mut rest, mut messages) = (proposals.into_iter().peekable(), Vec::new());
        while rest.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while let Some(proposal) = rest.next_if(|p| {
                some.is_empty()
                    || (some.len() < self.options.proposals_max
                        && bytes + p.entry.body.len() <= self.options.message_bytes_max)
            }) {
                bytes += proposal.entry.body.len();
                some.push(proposal);
            }
            let votes: Vec<Vote> = some.iter().map(vote_of).collect();
            let signature = match self.options.sign_pre_prepares {
                true => self.keys.sign(&pbft::signed_proposals(self.group, self.view, &votes)),
                false => Signature::NONE,
            };
            messages.push(Message::PrePrepare { view: self.view, proposals: some, signature });
        }
        messages
    }

    /// "A backup accepts the pre-prepare message provided ..." (4.3).
    pub(super) fn on_pre_prepare(
        &mut self,
        now: Instant,
        from: NodeId,
        view: View,
        proposals: Vec<Proposal>,
        signature: Signature,
        out: &mut Outbox,
    ) {
        if view.epoch() != self.epochs.number {
            return;
        }
        if from != self.primary_of(view) {
            out.fault(from, FaultKind::NotPrimary { view });
            return;
        }
        // "it is in view v"; what belongs to a later view is asked for once that view has begun here (B18).
        if view != self.view || !self.active {
            return;
        }
        let votes: Vec<Vote> = proposals.iter().map(vote_of).collect();
        if self.options.sign_pre_prepares {
            let signed = pbft::signed_proposals(self.group, view, &votes);
            if !self.keys.verify(from, &signed, &signature) {
                out.fault(from, FaultKind::BadSignature);
                return;
            }
        }
        let said = self.evidence.said(view, &votes, &signature);
        for (vote, proposal) in votes.into_iter().zip(proposals) {
            self.on_proposal(now, from, vote, proposal, &said, out);
        }
    }

    fn on_proposal(
        &mut self,
        now: Instant,
        from: NodeId,
        vote: Vote,
        proposal: Proposal,
        said: &Body,
        out: &mut Outbox,
    ) {
        if NUMBER_MAX <= vote.slot.0 || !self.slots.contains(vote.slot) {
            // Ahead of a window that lags behind the primary's, or behind one that is ahead of it: asked for later.
            return;
        }
        let assigned = self.slots.get(vote.slot).and_then(|place| place.assigned);
        if let Some(before) = assigned
            && before != vote.digest
        {
            // "it has not accepted a pre-prepare message for view v and sequence number n containing a different digest"
            self.equivocated(from, vote, said, out);
            if !canary::on(Canary::AcceptSecondPrePrepare) {
                return;
            }
            if let Some(place) = self.slots.get_mut(vote.slot).filter(|place| !place.prepared) {
                (place.assigned, place.accepted) = (None, false);
            }
        } else if assigned.is_some() {
            if let Some(place) = self.slots.get_mut(vote.slot).filter(|p| !p.accepted && !p.doubted) {
                // The new view assigned it, and its value was missing.
                place.keep(vote.digest, proposal.clone(), true);
                self.accept(now, vote, Some(proposal), out);
            }
            return;
        }
        if let Err(fault) = self.judge(&proposal) {
            out.fault(from, fault);
            return;
        }
        let place = self.slots.at(vote.slot);
        if place.committed.is_some_and(|digest| digest != vote.digest) {
            if place.counted {
                out.fault(from, FaultKind::RewritesCommitted { slot: vote.slot, commit: self.executed });
            }
            return;
        }
        place.assigned = Some(vote.digest);
        place.said = said.clone();
        if self.executed < vote.slot {
            self.requests.assigned(&proposal.entry);
        }
        match pbft::batch_of(&proposal).is_some_and(|batch| self.is_by_tags(&batch)) {
            true => self.doubt(now, vote, proposal, out),
            false => self.accept(now, vote, Some(proposal), out),
        }
    }

    /// Whether the value may stand at its slot: authentic (B17), and its stamp believable.
    fn judge(&self, proposal: &Proposal) -> Result<(), FaultKind> {
        let entry = &proposal.entry;
        if entry.term != Term::ZERO {
            return Err(FaultKind::Disordered { slot: entry.slot });
        }
        let skew = self.options.clock_skew_max_ms;
        if self.clock != Stamp::ZERO && self.clock.0.saturating_add(skew) < entry.stamp.0 {
            return Err(FaultKind::StampAhead { stamp: entry.stamp, clock: self.clock });
        }
        // What the view began with may be stamped later: its primary need not know those values, and execution lets no stamp fall.
        let before =
            Some(entry.slot.prev()).filter(|slot| self.begun < *slot).and_then(|slot| self.slots.get(slot));
        let before = before.and_then(|place| place.assigned.and_then(|digest| place.value(digest)));
        if before.is_some_and(|before| entry.stamp < before.entry.stamp) {
            return Err(FaultKind::StampFalls { slot: entry.slot });
        }
        match pbft::batch_of(proposal) {
            Some(batch)
                if !canary::on(Canary::UnauthenticatedBatch)
                    && !self.is_by_tags(&batch)
                    && !self.is_signed(&batch) =>
            {
                Err(FaultKind::BadSignature)
            }
            None if *entry != (Entry { slot: entry.slot, stamp: entry.stamp, ..Entry::default() }) => {
                Err(FaultKind::Disordered { slot: entry.slot })
            }
            _ => Ok(()),
        }
    }

    /// As `is_authentic`, for a batch that somebody else says is ours.
    pub(super) fn is_signed(&self, batch: &Batch) -> bool {
        if batch.origin.node == OPERATOR && !self.is_amendment(batch) {
            return false;
        }
        self.keys.verify(batch.origin.node, &pbft::signed_batch(self.group, batch), &batch.signature)
    }

    /// Accepts an assignment: written first, counted and said when that is durable. `proposal` is not there for null and for a value
    /// that is known.
    pub(super) fn accept(&mut self, now: Instant, vote: Vote, proposal: Option<Proposal>, out: &mut Outbox) {
        let (view, primary) = (self.view, self.primary());
        let is_primary = primary == self.me;
        let place = self.slots.at(vote.slot);
        assert_eq!(place.assigned, Some(vote.digest));
        assert!(!place.accepted);
        if let Some(proposal) = proposal {
            place.keep(vote.digest, proposal, true);
        }
        (place.accepted, place.since) = (true, now);
        place.accept(vote.digest, view);
        // "the pre-prepare of the primary counts as its prepare": at the primary once it is durable, like every own vote.
        if !is_primary {
            place.prepares.add(primary, vote.digest);
        }
        let stored = vote.digest == NULL || place.stored.contains(&vote.digest);
        let note = match place.value(vote.digest) {
            Some(proposal) if !stored => Note::PrePrepared { view, entry: proposal.entry.clone() },
            _ => Note::Assigned { view, vote },
        };
        if !stored {
            place.stored.push(vote.digest);
        }
        let ticket = self.note(note, out);
        self.unspoken.push_back((ticket, Spoken::Accepted { view, vote }));
        if !is_primary {
            self.speech.prepares.push(vote);
        }
    }

    pub(super) fn on_prepare(&mut self, from: NodeId, view: View, votes: Vec<Vote>, out: &mut Outbox) {
        // The primary's pre-prepare has said it (B4).
        if view.epoch() != self.epochs.number {
            return;
        }
        let is_primary = from == self.primary_of(view) && !canary::on(Canary::PrimaryPreparesToo);
        if is_primary {
            out.fault(from, FaultKind::NotBackup { view });
            return;
        }
        if view != self.view || !self.active {
            self.ahead(view, &votes);
            return;
        }
        for vote in votes {
            if self.slots.contains(vote.slot) {
                let counted = self.slots.at(vote.slot).prepares.add(from, vote.digest);
                self.contradiction(from, vote, counted, out);
                self.show_words(from, vote, out);
                self.reconsider(vote.slot, out);
                self.check_prepared(vote.slot, out);
            }
        }
    }

    /// Votes of a view that has not begun here are asked for once it has (B18).
    fn ahead(&mut self, view: View, votes: &[Vote]) {
        if canary::on(Canary::KeepFutureViews) && self.view < view {
            self.ahead.extend_from_slice(votes);
        }
    }

    /// "prepared(m, v, n, i) is true iff the log has the request, a pre-prepare for it, and 2f prepares that match it" (4.3).
    pub(super) fn check_prepared(&mut self, slot: Slot, out: &mut Outbox) {
        let (view, strong, again) = (self.view, self.quorum.strong(), canary::on(Canary::PrimaryPreparesToo));
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(digest) = place.assigned.filter(|_| place.accepted && !place.prepared) else { return };
        if place.prepares.count(digest) + usize::from(again) < strong {
            return;
        }
        place.prepared = true;
        place.p = Some((digest, view));
        let vote = Vote { slot, digest };
        let ticket = self.note(Note::Prepared { view, vote }, out);
        self.unspoken.push_back((ticket, Spoken::Prepared { view, vote }));
        self.speech.commits.push(vote);
    }

    pub(super) fn on_commit(
        &mut self,
        now: Instant,
        from: NodeId,
        view: View,
        votes: Vec<Vote>,
        out: &mut Outbox,
    ) {
        if view != self.view || !self.active {
            self.ahead(view, &votes);
            return;
        }
        for vote in votes {
            if self.slots.contains(vote.slot) {
                let counted = self.slots.at(vote.slot).commits.add(from, vote.digest);
                self.contradiction(from, vote, counted, out);
                self.check_committed(now, vote.slot, out);
            }
        }
    }

    /// A quorum's commits are enough, whatever this replica has seen of the prepares: at least f + 1 of them are correct ones' that
    /// prepared it, which is what makes it committed (4.3).
    pub(super) fn check_committed(&mut self, now: Instant, slot: Slot, out: &mut Outbox) {
        let strong = self.quorum.strong();
        let Some(place) = self.slots.get(slot).filter(|place| place.committed.is_none()) else { return };
        if let Some(digest) = place.commits.agreed(strong) {
            let vote = Vote { slot, digest };
            self.slots.at(slot).counted = true;
            self.commit(now, vote, out);
            let is_here = self.slots.get(slot).is_some_and(|place| place.knows(digest));
            if !is_here && self.room != Room::None {
                self.want(vec![vote], None, out);
            }
        }
    }

    /// The slot is decided. Nothing waits for the record: it spares a restart the asking.
    pub(super) fn commit(&mut self, now: Instant, vote: Vote, out: &mut Outbox) {
        let place = self.slots.at(vote.slot);
        place.committed = Some(vote.digest);
        self.note_decision(now, vote, out);
    }

    /// Writes that a slot is decided, with its value if that is not the last one of this slot on the disk: the log reads that one back.
    pub(super) fn note_decision(&mut self, now: Instant, vote: Vote, out: &mut Outbox) {
        let place = self.slots.at(vote.slot);
        if place.committed != Some(vote.digest) || place.noted || !place.knows(vote.digest) {
            return;
        }
        place.noted = true;
        match place.value(vote.digest).filter(|_| place.stored.last() != Some(&vote.digest)) {
            None => self.note_late(now, Note::Committed { vote }),
            Some(proposal) => {
                let note = Note::Learned { entry: proposal.entry.clone() };
                place.stored.push(vote.digest);
                self.note(note, out);
            }
        }
    }

    /// Hands decided values to the store, in order and without holes.
    pub(super) fn execute(&mut self, now: Instant, out: &mut Outbox) {
        loop {
            let slot = self.executed.next();
            let Some(place) = self.slots.get(slot) else { break };
            let Some(digest) = place.committed.filter(|digest| place.knows(*digest)) else { break };
            // Its value may have come last, by whatever way. A checkpoint's record must never stand behind a hole.
            self.note_decision(now, Vote { slot, digest }, out);
            let entry = self.value_at(slot, digest);
            self.execute_one(now, digest, entry, out);
        }
        self.slots.collect(self.executed);
    }

    /// What is decided at a slot. Null has no stamp of its own: that of what was executed before it.
    fn value_at(&self, slot: Slot, digest: Digest) -> Entry {
        let null = || Entry { slot, ..Entry::default() };
        let known = self.slots.get(slot).and_then(|place| place.value(digest));
        known.map_or_else(null, |proposal| proposal.entry.clone())
    }

    pub(super) fn execute_one(&mut self, now: Instant, digest: Digest, entry: Entry, out: &mut Outbox) {
        assert_eq!(entry.slot, self.executed.next());
        self.executed = entry.slot;
        self.stamp = self.stamp.max(entry.stamp);
        self.progressed(now);
        let (waits, waited) = self.requests.executed(now, &entry);
        self.tags.executed(&entry);
        self.pace.executed(waits, waited);
        if self.active && digest != NULL {
            self.changing.patience.succeed(now);
        }
        self.answer_reads(&entry, out);
        // A stamp never falls, also where a value of an earlier view stands behind one of a later view.
        let mut applied = Entry { stamp: self.stamp, ..entry.clone() };
        if entry.origin.lane == READ_LANE {
            let (kind, origin, sequence, floor) = (EntryKind::Empty, Origin::default(), 0, 0);
            applied = Entry { kind, origin, sequence, floor, body: Body::EMPTY, ..applied };
        }
        out.commit(applied);
        self.heed(now, &entry);
        let super::Options { cache_entries_max, cache_bytes_max, .. } = self.options;
        self.past.push(digest, entry, self.checkpoints.floor, cache_entries_max, cache_bytes_max);
        self.ask_digest(out);
    }

    fn contradiction(&mut self, from: NodeId, vote: Vote, counted: Counted, out: &mut Outbox) {
        if counted == Counted::Contradicts {
            out.fault(from, FaultKind::Contradicts { slot: vote.slot });
        }
    }
}

/// The assignment that a proposal makes.
pub(super) fn vote_of(proposal: &Proposal) -> Vote {
    Vote { slot: proposal.entry.slot, digest: pbft::digest(&proposal.entry) }
}
