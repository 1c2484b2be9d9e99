//! What must hold in every run: one file a property, each headed by its source. A checker that finds a violation panics with the
//! property's stable name ([`super::violation`]).
//!
//! What [`Checks`] holds itself is true of every protocol: one history, equal states, honest answers. What a protocol promises of its
//! own words stands with it ([`raft`]).

pub mod bounded_queues;
pub mod durability;
pub mod election_safety;
pub mod exactly_once;
pub mod leader_append_only;
pub mod leader_completeness;
pub mod linearizability;
pub mod log_matching;
pub mod monotonic;
pub mod monotonic_commit;
pub mod one_vote;
pub mod pbft;
pub mod progress;
pub mod promises;
pub mod raft;
pub mod state_digest;
pub mod state_machine_safety;
#[cfg(test)]
mod testing;
pub mod validity;

use super::coverage::{Coverage, Reached};
use super::host::{Common, Host};
use crate::base::{NodeSet, Slot};
use crate::protocol::Engine;
use crate::replica::Effects;
use crate::wire::hop::Decided;
use crate::wire::sequence::Verdict;

/// All checkers of a run.
pub struct Checks {
    common: Common,
    raft: raft::RaftChecks,
    pbft: pbft::PbftChecks,
    monotonic_commit: monotonic_commit::MonotonicCommit,
    state_digest: state_digest::StateDigest,
    /// Nodes that lie: nothing is demanded of them.
    corrupted: NodeSet,
    /// What happened along the way.
    pub coverage: Coverage,
    /// What clients asked for.
    pub validity: validity::Validity,
    /// The one history.
    pub state_machine_safety: state_machine_safety::StateMachineSafety,
    /// What clients were told about writes.
    pub exactly_once: exactly_once::ExactlyOnce,
    /// What clients saw, in real time.
    pub linearizability: linearizability::Linearizability,
}

impl Checks {
    /// Those of a cluster whose nodes have this in common.
    pub fn of(common: &Common) -> Checks {
        Checks {
            common: common.clone(),
            raft: Default::default(),
            pbft: Default::default(),
            monotonic_commit: Default::default(),
            state_digest: Default::default(),
            corrupted: NodeSet::default(),
            coverage: Default::default(),
            validity: Default::default(),
            state_machine_safety: Default::default(),
            exactly_once: Default::default(),
            linearizability: Default::default(),
        }
    }

    /// These nodes lie.
    pub fn corrupt(&mut self, corrupted: NodeSet) {
        self.corrupted = corrupted;
        self.pbft.expect_proofs(corrupted);
    }
    /// Against whom a correct node has proof.
    pub fn convicted(&self) -> NodeSet {
        self.pbft.convicted()
    }

    /// A burst of node `at` has ended with `effects`, none of which has left yet.
    pub fn burst(&mut self, hosts: &[Host], at: usize, effects: &Effects) {
        let host = &hosts[at];
        host.shard.check();
        self.monotonic_commit.observe(host);
        match host.engine() {
            Engine::Raft(core) => {
                bounded_queues::check(host, core, &self.common);
                self.raft.burst(host, core, effects, &mut self.coverage);
            }
            Engine::Pbft(core) => self.pbft.burst(hosts, host, core, effects, &mut self.coverage),
        }
        self.commits(hosts, at, effects);
    }

    fn commits(&mut self, hosts: &[Host], at: usize, effects: &Effects) {
        let mut newest = None;
        for decided in &effects.decided {
            if let Decided::Commit { entry, .. } = decided
                && let Some(verdict) = self.state_machine_safety.committed(entry)
            {
                self.exactly_once.committed(entry, verdict);
                self.validity.committed(entry, self.corrupted);
                self.reached(verdict);
                match hosts[at].engine() {
                    Engine::Raft(core) => self.raft.committed(core, entry, &mut self.coverage),
                    Engine::Pbft(_) => (),
                }
                newest = Some(entry);
            }
        }
        if let Some(entry) = newest {
            match hosts[at].engine() {
                Engine::Raft(_) => durability::check(hosts, entry.slot, entry.term),
                Engine::Pbft(_) => self.pbft.is_held(hosts, entry),
            }
        }
    }

    fn reached(&mut self, verdict: Option<Verdict>) {
        match verdict {
            Some(Verdict::Duplicate) => self.coverage.saw(Reached::Duplicate),
            Some(Verdict::Gap) => self.coverage.saw(Reached::Gap),
            Some(Verdict::Applied) | None => (),
        }
    }

    /// Node `host` has applied up to `slot`.
    pub fn applied(&mut self, host: &Host, slot: Slot) {
        self.state_machine_safety.applied(host, slot);
        self.state_digest.applied(host);
    }
}
