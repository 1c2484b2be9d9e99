//! Handing leadership over when the node is shut down in order (thesis 3.10).

use super::Raft;
use crate::base::{Instant, NodeId, Term};
use crate::protocol::{Outbox, Target};
use crate::wire::raft::Message;

/// How far the handing over has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    /// The node goes down: it neither takes proposals nor stands for election any more.
    draining: bool,
    /// Who was told to stand for election, and when.
    told: Option<(NodeId, Instant)>,
}

impl Transfer {
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }
    /// This replica no longer leads.
    pub(super) fn cease(&mut self) {
        self.told = None;
    }
}

impl Raft {
    /// Ends a leader's burst: "the prior leader sends a TimeoutNow request to the target server" once "the target server's log
    /// matches its own" (3.10). A target that does nothing with it is passed over for another after an election time-out.
    pub(super) fn hand_over(&mut self, now: Instant, out: &mut Outbox) {
        if !self.transfer.draining {
            return;
        }
        let told = self.transfer.told;
        if told.is_some_and(|(_, at)| now.since(at) < self.options.election_max) {
            return;
        }
        let last = self.tail.last();
        let alive = |heard: Instant| now.since(heard) < self.options.election_max;
        let ready = self.peers.iter().filter(|p| p.matched == last && alive(p.heard));
        // Who was heard last; who has been told already comes last.
        let target = ready.max_by_key(|p| (told.is_none_or(|(id, _)| id != p.id), p.heard)).map(|p| p.id);
        if let Some(target) = target {
            self.transfer.told = Some((target, now));
            out.send(Target::One(target), Message::TimeoutNow { term: self.term });
        }
    }

    /// "The target server starts an election (as if its election timeout had elapsed)", without asking first, and in a way that
    /// those who still hear the old leader accept (4.2.3).
    pub(super) fn on_timeout_now(&mut self, now: Instant, from: NodeId, term: Term, out: &mut Outbox) {
        if term == self.term && self.leader == Some(from) && !self.transfer.draining {
            self.arm_election(now);
            self.campaign(now, true, out);
        }
    }
}
