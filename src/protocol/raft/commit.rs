//! What is decided (thesis 3.5, 3.6.2).

use super::{Raft, Role};
use crate::base::Slot;
use crate::base::canary::{self, Canary};
use crate::protocol::Outbox;
use crate::wire::EntryKind;

impl Raft {
    /// Ends a leader's burst: "if there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and
    /// log[N].term == currentTerm: set commitIndex = N" (3.5, 3.6.2).
    pub(super) fn count(&mut self, out: &mut Outbox) {
        if !std::mem::take(&mut self.recount) {
            return;
        }
        assert_eq!(self.role, Role::Leader);
        let candidate = self.held_by_quorum();
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
        held[0] = self.writes.slot();
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
        while self.commit < slot {
            let next = self.commit.next();
            let entry = self.tail.get(next).expect("what is not applied is in memory").clone();
            // The origin's clients wait for its own apply.
            if entry.kind == EntryKind::Batch
                && let Some(peer) = self.peers.iter_mut().find(|p| p.id == entry.origin.node)
            {
                peer.wanted = next;
            }
            out.commit(entry);
            self.commit = next;
        }
    }
}
