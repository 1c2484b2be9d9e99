//! What Raft promises (thesis, figure 3.2), looked at after every burst of every node.

use super::{
    election_safety, leader_append_only, leader_completeness, log_matching, monotonic, one_vote, promises,
};
use crate::base::{GROUP_ONE, NodeId, Slot};
use crate::protocol::raft::Raft;
use crate::replica::Effects;
use crate::sim::coverage::{Coverage, Reached};
use crate::sim::host::Host;
use crate::wire::{Entry, Message, Record, raft};
use std::collections::BTreeMap;

/// The checkers that know Raft's words.
#[derive(Default)]
pub struct RaftChecks {
    election_safety: election_safety::ElectionSafety,
    one_vote: one_vote::OneVote,
    leader_append_only: leader_append_only::LeaderAppendOnly,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    monotonic: monotonic::Monotonic,
    /// By node: its life, and the newest slot that it wrote.
    newest: BTreeMap<NodeId, (u64, Slot)>,
}

impl RaftChecks {
    /// A burst of a node has ended.
    pub fn burst(&mut self, host: &Host, core: &Raft, effects: &Effects, coverage: &mut Coverage) {
        self.monotonic.observe(host, core);
        self.one_vote.holds(host, core);
        if core.is_leader() && self.election_safety.leads(core.term(), host.id()) {
            self.leader_completeness.elected(core);
        }
        for (_, record) in &effects.records {
            if let Record::Entry { entry, .. } = record {
                self.log_matching.observe(core, entry);
                self.leader_append_only.appended(host, core, entry);
                self.cuts(host, entry, coverage);
            }
        }
        self.leader_append_only.observe(host, core);
        for sent in &effects.outgoing {
            assert_eq!(sent.group, GROUP_ONE);
            let Message::Raft(message) = &sent.message else { continue };
            promises::check(host, core, sent.to, message);
            match message {
                raft::Message::VoteReply { term, granted: true, pre: false } => {
                    self.one_vote.granted(*term, host.id(), sent.to);
                }
                raft::Message::AppendReply { outcome: raft::AppendOutcome::Conflict { .. }, .. } => {
                    coverage.saw(Reached::Conflict);
                }
                raft::Message::TimeoutNow { .. } => coverage.saw(Reached::Transferred),
                _ => (),
            }
        }
    }

    /// An entry at or below the newest slot that the node had in this life cuts what stood there.
    fn cuts(&mut self, host: &Host, entry: &Entry, coverage: &mut Coverage) {
        let newest = self.newest.entry(host.id()).or_default();
        if newest.0 == host.boot && entry.slot <= newest.1 {
            coverage.saw(Reached::Cut);
        }
        *newest = (host.boot, entry.slot);
    }

    /// A node says that `entry` is committed, for the first time anywhere.
    pub fn committed(&mut self, core: &Raft, entry: &Entry, coverage: &mut Coverage) {
        if core.is_leader() && entry.term < core.term() {
            coverage.saw(Reached::OlderTerm);
        }
        self.leader_completeness.committed(core.term(), entry);
    }
}
