//! What is decided (thesis 3.5, 3.6.2).

use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{JobId, Slot};
use crate::protocol::{Fetch, Outbox};
use crate::wire::{Entry, EntryKind};

/// Decided entries that have left memory, on their way back from disk: after a start, or at a store that is slow.
#[derive(Clone, Debug, Default)]
pub(super) struct CatchUp {
    /// The errand under way.
    pub job: Option<JobId>,
    /// The next one leaves when the store has come here: so one errand's entries are read while another's are applied, and no more.
    resume: Slot,
}

impl Raft {
    /// Ends a leader's burst: "if there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and
    /// log[N].term == currentTerm: set commitIndex = N" (3.5, 3.6.2).
    pub(super) fn count(&mut self, out: &mut Outbox) {
        if !std::mem::take(&mut self.recount) {
            return;
        }
        assert_eq!(self.role, Role::Leader);
        let candidate = self.held_by_quorum();
        if canary::on(Canary::CommitScanStops) && self.tail.term_at(self.commit.next()) != Some(self.term) {
            return;
        }
        // Figure 8: an older term's entry on a majority may still be replaced. It commits with the first of the own term above
        // it, and terms do not fall, so nothing below `candidate` need be looked at.
        let is_own = self.tail.term_at(candidate) == Some(self.term) || canary::on(Canary::CommitOlderTerm);
        if self.commit < candidate && is_own {
            self.commit_to(candidate, out);
        }
    }

    /// The highest slot that a majority holds durably. This replica's own copy counts like any other: when it is durable
    /// (10.2.1), else it could commit, crash, forget, and be led by one that never had it.
    fn held_by_quorum(&self) -> Slot {
        let mut held = [Slot::ZERO; 64];
        let is_single = self.members.len() == 1;
        held[0] = match () {
            _ if canary::on(Canary::CountOwnUndurable) => self.tail.last(),
            _ if canary::on(Canary::SingleNodeUndurable) && is_single => self.tail.last(),
            _ => self.writes.slot(),
        };
        for (place, peer) in held[1..].iter_mut().zip(&self.peers) {
            *place = peer.matched;
        }
        let held = &mut held[..=self.peers.len()];
        held.sort_unstable_by(|a, b| b.cmp(a));
        held[self.quorum() - 1]
    }

    /// Decides everything up to `slot`. The commit index only rises, whatever is said.
    pub(super) fn commit_to(&mut self, slot: Slot, out: &mut Outbox) {
        assert!(slot <= self.verified && self.verified <= self.tail.last());
        self.commit = if canary::on(Canary::CommitFalls) { slot } else { self.commit.max(slot) };
        self.deliver(out);
    }

    /// Hands the store what is decided, in order; what has left memory comes from disk first.
    pub(super) fn deliver(&mut self, out: &mut Outbox) {
        while self.delivered < self.commit {
            let Some(entry) = self.tail.get(self.delivered.next()).cloned() else {
                return self.fetch_decided(out);
            };
            self.hand_to_store(entry, out);
        }
    }

    fn hand_to_store(&mut self, entry: Entry, out: &mut Outbox) {
        // The origin's clients wait for its own apply.
        if entry.kind == EntryKind::Batch
            && let Some(peer) = self.peers.iter_mut().find(|p| p.id == entry.origin.node)
        {
            peer.wanted = entry.slot;
        }
        self.delivered = entry.slot;
        out.commit(entry);
    }

    fn fetch_decided(&mut self, out: &mut Outbox) {
        if self.catch_up.job.is_some() || self.applied < self.catch_up.resume {
            return;
        }
        let job = self.job();
        self.catch_up.job = Some(job);
        let from = self.delivered.next();
        let count = self.options.catch_up_entries_max.min((self.commit.0 - self.delivered.0) as usize);
        out.ship(job, Fetch::Entries { from, count, bytes: self.options.catch_up_bytes_max });
    }

    /// Decided entries have come from disk. A leader's snapshot may have overtaken them.
    pub(super) fn deliver_fetched(&mut self, entries: Vec<Entry>, out: &mut Outbox) {
        if entries.first().is_none_or(|first| first.slot != self.delivered.next()) {
            return;
        }
        self.catch_up.resume = self.delivered;
        let decided = entries.into_iter().take((self.commit.0 - self.delivered.0) as usize);
        for entry in decided {
            let is_next = entry.slot == self.delivered.next();
            assert!(
                is_next && self.tail.term_at(entry.slot) == Some(entry.term),
                "the disk holds what was written"
            );
            self.hand_to_store(entry, out);
        }
    }
}
