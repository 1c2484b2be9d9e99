//! What must hold, whatever happens: who leads, what equal slots hold, what clients are told, how much memory is used, who is accused.
//! Nothing is demanded of nodes that lie.
//!
//! - One leader a term (Ongaro, "Consensus", 2014, figure 3.2: election safety). A view of PBFT has its primary by its number; what a
//!   replica calls leader while its view has not begun is only whom it tells of requests.
//! - Equal digests at equal slots: state machine safety, of snapshots and of states.
//! - Linearizability, by the search of `sim::history`.
//! - Every queue is bounded.
//! - No correct node is accused, and against none is there proof (hazard A1).

use super::node::Node;
use crate::base::{NodeId, NodeSet};
use crate::config::limits::FRAME_BYTES_AIM;
use crate::meter::Report;
use crate::sim::coverage::{Coverage, Reached};
use crate::sim::history::{History, Limits, Model, Verdict, check};
use crate::sim::violation::{fail, hold};
use crate::store::{self, Store};
use crate::wire::hop::SnapshotId;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Operations on files that a node has under way at most: batches in flight, reads, the preparation of a segment.
const OPERATIONS_MAX: usize = 4 + 4 + 1;
/// Values that wait at the keeper for room in a ring.
const KEPT_MAX: usize = 4096;
/// Steps of the search for a history's order, after which it is left undecided.
const STEPS_MAX: u64 = 4_000_000;
/// Events between two looks at what agents count.
const LOOK_EVERY: u64 = 1024;
/// Of what clients were told.
const LINEARIZABILITY: &str = "linearizability";
/// One leader a term.
const ELECTION_SAFETY: &str = "election safety";
/// Equal digests at equal slots.
const STATE_MACHINE_SAFETY: &str = "state machine safety";
/// Who is accused has lied.
const ACCUSATION: &str = "no correct node is accused";
/// Every queue has a limit.
const BOUNDED_MEMORY: &str = "bounded memory";
/// What agents hold back: a figure and its limit.
const BOUNDED: &[(&str, f64)] = &[
    // `client.pending_bytes_max`, and the batch that passes it.
    ("quorate_client_pending_bytes", 68.0 * 1024.0),
    ("quorate_client_connections", 64.0),
    // What a client sends at once, of all connections.
    ("quorate_client_unfinished_bytes", 64.0 * 1024.0),
    // `peer.queue_bytes_max`, the share of votes and heartbeats, and the frame of each lane that passes these.
    ("quorate_peer_queue_bytes", 320.0 * 1024.0 + 2.0 * FRAME_BYTES_AIM as f64),
];

/// See the module.
pub struct Checks {
    options: store::Options,
    liars: NodeSet,
    /// Leaders are elected.
    elects: bool,
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    /// The digest at each slot, and who made it first.
    digests: BTreeMap<u64, (u64, usize)>,
    applied: u64,
    looked: u64,
    /// A device has lied: nothing is promised but that nobody panics.
    pub lenient: bool,
}

impl Checks {
    /// For stores made so, among these liars.
    pub fn new(options: store::Options, liars: NodeSet, elects: bool) -> Checks {
        Checks {
            options,
            liars,
            elects,
            leaders: BTreeMap::new(),
            digests: BTreeMap::new(),
            applied: 0,
            looked: 0,
            lenient: false,
        }
    }
    /// The newest slot that any node has applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// After a node's turn.
    pub fn turn(&mut self, node: &mut Node, events: u64, coverage: &mut Coverage) {
        let (index, is_liar) = (node.index, self.liars.contains(node.id()));
        let life = node.life.as_mut().expect("it has just had a turn");
        let (published, proven) =
            (std::mem::take(&mut life.keeper.published), std::mem::take(&mut life.keeper.proven));
        if is_liar {
            return;
        }
        for accused in proven {
            self.convicts(index, accused);
            coverage.saw(Reached::Convicted);
        }
        let (leader, term) = (life.told.leader.get(), life.told.term.get());
        if leader != 0 && self.elects {
            self.leads(term, leader);
        }
        self.applied = self.applied.max(life.store.applied.get());
        let slot = life.store.digest_slot.get();
        if slot != 0 {
            let digest = life.store.digest.get();
            self.digest(slot, digest, index);
        }
        let (operations, kept) = (life.driver.outstanding(), life.keeper.waiting());
        hold!(BOUNDED_MEMORY, operations <= OPERATIONS_MAX, "{operations} operations on files");
        hold!(BOUNDED_MEMORY, kept <= KEPT_MAX, "{kept} values wait at the keeper");
        for (id, bytes) in published {
            self.snapshot(id, &bytes, index);
        }
        if self.looked + LOOK_EVERY <= events {
            self.looked = events;
            let (liars, lenient) = (self.liars, self.lenient);
            life.report(&mut Look { index, liars, lenient, coverage });
        }
    }

    fn leads(&mut self, term: u64, leader: u64) {
        let known = *self.leaders.entry(term).or_insert(leader);
        let is_one = known == leader || self.lenient;
        hold!(ELECTION_SAFETY, is_one, "term {term} has leaders {known} and {leader}");
    }

    /// A correct node has proof against another.
    fn convicts(&self, index: usize, accused: NodeId) {
        let is_right = self.liars.contains(accused) || self.lenient;
        hold!(ACCUSATION, is_right, "node {} has proof against node {accused}", index + 1);
    }
    fn digest(&mut self, slot: u64, digest: u64, node: usize) {
        let (known, first) = *self.digests.entry(slot).or_insert((digest, node));
        hold!(
            STATE_MACHINE_SAFETY,
            known == digest || self.lenient,
            "at slot {slot} node {} has {known:x}, node {} has {digest:x}",
            first + 1,
            node + 1
        );
    }
    fn snapshot(&mut self, id: SnapshotId, bytes: &[u8], node: usize) {
        let mut store = Store::new(self.options);
        let mut loading = store.loading(id);
        loading.feed(bytes).expect("a snapshot that a node made or checked is whole");
        store.replace(loading).expect("a snapshot that a node made or checked is whole");
        let digest = u64::from_be_bytes(store.digest().0[..8].try_into().expect("eight bytes"));
        self.digest(id.slot.0, digest, node);
    }

    /// Whether all these nodes have applied the same, have nothing left to do, and have equal digests.
    pub fn are_equal(&self, nodes: &[Node], live: &[usize]) -> bool {
        let standing = |node: &usize| {
            let life = nodes[*node].life.as_ref()?;
            let (applied, slot) = (life.store.applied.get(), life.store.digest_slot.get());
            (applied == slot && applied == self.applied).then(|| life.store.digest.get())
        };
        let mut digests = live.iter().map(standing);
        let first = digests.next().flatten();
        first.is_some() && digests.all(|digest| digest == first)
    }

    /// Holds what clients were told against the specification. Gives back how many keys are undecided.
    pub fn clients(&self, history: &History) -> u64 {
        let report = check(history, Some(Model::Any), &mut Steps(STEPS_MAX)).expect("our own verbs");
        if report.verdict == Verdict::NotLinearizable {
            let offence = report.offences.first();
            let (failed, keys) = (report.failed.len(), history.keys.len());
            fail(LINEARIZABILITY, format_args!("{failed} of {keys} keys have no order: {offence:#?}"));
        }
        report.undecided.len() as u64
    }
}

/// A number of steps.
struct Steps(u64);

impl Limits for Steps {
    fn go_on(&mut self, steps: u64, _: f64) -> bool {
        self.0 = self.0.saturating_sub(steps);
        0 < self.0
    }
    fn memory(&self) -> usize {
        64 << 20
    }
}

/// Counts what liars say.
pub struct Lies<'a>(pub &'a mut Coverage);

impl Report for Lies<'_> {
    fn counter(&mut self, name: &'static str, _: &'static str, _: &[(&'static str, &str)], count: u64) {
        if name == "quorate_lies_total" {
            self.0.saw_times(Reached::Lied, count);
        }
    }
    fn gauge(&mut self, _: &'static str, _: &'static str, _: &[(&'static str, &str)], _: f64) {}
    fn latency(&mut self, _: &'static str, _: &'static str, _: &[(&'static str, &str)], _: &Histogram<u64>) {}
}

/// Looks at gauges that have a limit, and at who is accused.
struct Look<'a> {
    index: usize,
    lenient: bool,
    liars: NodeSet,
    coverage: &'a mut Coverage,
}

impl Report for Look<'_> {
    fn counter(&mut self, name: &'static str, _: &'static str, labels: &[(&'static str, &str)], _: u64) {
        if name != "quorate_faults_total" {
            return;
        }
        let is_liar = |text: &str| text.parse().is_ok_and(|id| self.liars.contains(NodeId(id)));
        let accused = labels.iter().find(|(label, _)| *label == "peer").map(|(_, peer)| *peer);
        let is_right = accused.is_some_and(is_liar) || self.lenient;
        hold!(ACCUSATION, is_right, "node {} accuses {labels:?}", self.index + 1);
        self.coverage.saw(Reached::Accused);
    }
    fn gauge(&mut self, name: &'static str, _: &'static str, _: &[(&'static str, &str)], value: f64) {
        let limit = BOUNDED.iter().find(|(bounded, _)| *bounded == name);
        hold!(BOUNDED_MEMORY, limit.is_none_or(|(_, most)| value <= *most), "{name} is {value}");
    }
    fn latency(&mut self, _: &'static str, _: &'static str, _: &[(&'static str, &str)], _: &Histogram<u64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::GROUP_ONE;
    use crate::sim::violation::violates;

    const OPTIONS: store::Options =
        store::Options { group: GROUP_ONE, key: store::HashKey([7; 16]), bucket_bits: 6 };

    fn liars() -> NodeSet {
        [NodeId(4)].into_iter().collect()
    }

    #[test]
    fn a_second_leader_of_a_term_is_told_but_where_a_device_has_lied() {
        let mut checks = Checks::new(OPTIONS, liars(), true);
        [(1, 1), (1, 1), (2, 3)].into_iter().for_each(|(term, leader)| checks.leads(term, leader));
        violates("election safety", || checks.leads(2, 1));
        checks.lenient = true;
        checks.leads(2, 1);
    }

    #[test]
    fn two_digests_at_a_slot_are_told() {
        let mut checks = Checks::new(OPTIONS, liars(), true);
        checks.digest(1, 5, 0);
        checks.digest(1, 5, 1);
        checks.digest(2, 6, 1);
        violates("state machine safety", || checks.digest(2, 5, 0));
    }

    #[test]
    fn a_figure_beyond_its_limit_is_told() {
        let mut coverage = Coverage::default();
        let mut look = Look { index: 0, lenient: false, liars: liars(), coverage: &mut coverage };
        look.gauge("quorate_client_connections", "", &[], 64.0);
        look.gauge("quorate_store_keys", "", &[], 1e9);
        violates("bounded memory", || look.gauge("quorate_client_connections", "", &[], 65.0));
    }

    #[test]
    fn a_correct_node_that_is_accused_is_told() {
        let mut coverage = Coverage::default();
        let mut look = Look { index: 0, lenient: false, liars: liars(), coverage: &mut coverage };
        let mut accuse = |peer| look.counter("quorate_faults_total", "", &[("peer", peer)], 1);
        accuse("4");
        violates("no correct node is accused", || accuse("2"));
        let checks = Checks::new(OPTIONS, liars(), false);
        checks.convicts(1, NodeId(4));
        violates("no correct node is accused", || checks.convicts(1, NodeId(2)));
    }
}
