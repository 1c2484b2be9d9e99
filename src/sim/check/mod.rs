//! What must hold in every run: one file a property, each headed by its source. A checker that finds a violation panics.

pub mod durability;
pub mod election_safety;
pub mod exactly_once;
pub mod leader_completeness;
pub mod linearizability;
pub mod log_matching;
pub mod monotonic;
pub mod progress;
pub mod promises;
pub mod state_machine_safety;

use super::host::Host;
use crate::base::{GROUP_ONE, NodeId, Slot};
use crate::replica::Effects;
use crate::wire::hop::Decided;
use crate::wire::{Message, Record, raft};

/// All checkers of a run.
#[derive(Default)]
pub struct Checks {
    election_safety: election_safety::ElectionSafety,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    monotonic: monotonic::Monotonic,
    /// The one history.
    pub state_machine_safety: state_machine_safety::StateMachineSafety,
    /// What clients were told about writes.
    pub exactly_once: exactly_once::ExactlyOnce,
    /// What clients saw, in real time.
    pub linearizability: linearizability::Linearizability,
}

impl Checks {
    /// A burst of node `at` has ended with `effects`, none of which has left yet.
    pub fn burst(&mut self, hosts: &[Host], at: usize, effects: &Effects) {
        let host = &hosts[at];
        let raft = host.raft();
        host.shard.check();
        self.monotonic.observe(host);
        if raft.is_leader() {
            let is_new = self.election_safety.observe(raft.term(), host.id());
            if is_new {
                self.leader_completeness.elected(raft);
            }
        }
        for (_, record) in &effects.records {
            if let Record::Entry { entry, .. } = record {
                self.log_matching.observe(raft, entry);
            }
        }
        self.commits(hosts, at, effects);
        for sent in &effects.outgoing {
            assert_eq!(sent.group, GROUP_ONE);
            let Message::Raft(message) = &sent.message else { continue };
            promises::check(host, sent.to, message);
            if let raft::Message::VoteReply { term, granted: true, pre: false } = message {
                self.election_safety.voted(*term, host.id(), sent.to);
            }
        }
    }

    fn commits(&mut self, hosts: &[Host], at: usize, effects: &Effects) {
        let raft = hosts[at].raft();
        let mut newest = None;
        for decided in &effects.decided {
            if let Decided::Commit { entry, .. } = decided
                && let Some(verdict) = self.state_machine_safety.committed(entry)
            {
                self.leader_completeness.committed(raft.term(), entry);
                self.exactly_once.committed(entry, verdict);
                newest = Some((entry.slot, entry.term));
            }
        }
        if let Some((slot, term)) = newest {
            durability::check(hosts, slot, term);
        }
    }

    /// Node `host` has applied up to `slot`.
    pub fn applied(&mut self, host: &Host, slot: Slot) {
        self.state_machine_safety.applied(host, slot);
    }

    /// Who has led the newest term.
    pub fn newest_leader(&self) -> Option<NodeId> {
        self.election_safety.newest()
    }
}
