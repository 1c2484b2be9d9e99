//! Each attack by name, in a world in which little else goes wrong: what must hold is checked at every step (`sim::check`); what is said
//! here is what the attack must come to. Primaries that only do their work badly are in `primary`, clients in `clients`.

use super::setting;
use quorate::base::{NodeId, NodeSet};
use quorate::sim::liars::Attack;
use quorate::sim::{Coverage, Fault, Faults, Options, Outcome, ProtocolName, Reached, World, violation};

/// Events of an attack, unless said otherwise.
const EVENTS: u64 = 3_000;

fn nodes_of(ids: &[u8]) -> NodeSet {
    ids.iter().copied().map(NodeId).collect()
}

/// Who lies, and how.
struct Case<'a> {
    nodes: usize,
    liars: &'a [u8],
    attacks: &'a [Attack],
    faults: Faults,
    events: u64,
}

impl Case<'_> {
    /// Runs of some seeds.
    fn runs(&self, seeds: u64) -> Vec<Outcome> {
        let Case { nodes, liars, attacks, faults, events } = *self;
        let options =
            Options { protocol: ProtocolName::Pbft, nodes: Some(nodes), faults, ..Options::of(events) };
        let first = setting("QUORATE_PBFT_SEED", 1);
        let run = |seed| {
            let ran = violation::catch(|| World::run_among(seed, &options, nodes_of(liars), attacks));
            ran.unwrap_or_else(|violation| {
                panic!("{attacks:?} by {liars:?} of {nodes}, seed {seed}: {violation}")
            })
        };
        (first..first + setting("QUORATE_SEEDS", seeds)).map(run).collect()
    }
}

/// Nothing else goes wrong.
fn calm(seeds: u64, nodes: usize, liars: &[u8], attack: Attack) -> Vec<Outcome> {
    Case { nodes, liars, attacks: &[attack], faults: Faults::NONE, events: EVENTS }.runs(seeds)
}

/// One of four lies, among other faults.
fn among(seeds: u64, liar: u8, attacks: &[Attack], faults: Faults, events: u64) -> Vec<Outcome> {
    Case { nodes: 4, liars: &[liar], attacks, faults, events }.runs(seeds)
}

fn coverage(outcomes: &[Outcome]) -> Coverage {
    let mut all = Coverage::default();
    outcomes.iter().for_each(|outcome| all.add(&outcome.coverage));
    all
}

/// All of them made progress.
fn work(outcomes: &[Outcome]) {
    assert!(outcomes.iter().all(|outcome| 0 < outcome.acknowledged), "somebody's clients got no answer");
}

fn every_attack(nodes: usize, liars: &[u8], seeds: u64, events: u64) {
    for attack in Attack::ALL {
        work(&Case { nodes, liars, attacks: &[*attack], faults: Faults::NONE, events }.runs(seeds));
    }
}

#[test]
fn four_replicas_endure_one_liar_whatever_it_does() {
    every_attack(4, &[1], 2, EVENTS);
}

#[test]
fn seven_replicas_endure_two_liars_whatever_they_do() {
    every_attack(7, &[1, 4], 1, EVENTS);
}

#[test]
fn sixteen_replicas_endure_five_liars_whatever_they_do() {
    every_attack(16, &[1, 2, 3, 9, 16], 1, 1_500);
}

#[test]
fn byzantine_node_is_detected_and_nobody_else_is() {
    let outcomes = calm(12, 4, &[1], Attack::Equivocating);
    work(&outcomes);
    let liar = nodes_of(&[1]);
    assert!(outcomes.iter().all(|o| [NodeSet::default(), liar].contains(&o.convicted)));
    assert!(outcomes.iter().any(|o| o.convicted == liar), "nobody has proof of what it did");
}

#[test]
fn equivocating_primary_loses_its_view() {
    let outcomes = calm(12, 4, &[1], Attack::Equivocating);
    assert!(outcomes.iter().any(|outcome| 0 < outcome.term));
}

#[test]
fn primary_that_leaves_some_out_stops_nobody() {
    work(&calm(8, 4, &[1], Attack::Omitting));
    work(&calm(4, 7, &[1, 2], Attack::Omitting));
}

/// Node 2 leads the view that begins when node 1 is cut off.
#[test]
fn primary_that_omits_a_prepared_certificate_is_not_believed() {
    let faults = Faults::NONE.with(Fault::Partition).with(Fault::Delay);
    let outcomes = among(16, 2, &[Attack::OmitsPrepared, Attack::FalseChanges], faults, 6_000);
    assert!(outcomes.iter().any(|outcome| outcome.accused == nodes_of(&[2])), "no view came to it");
}

#[test]
fn lying_checkpoint_is_outvoted() {
    let outcomes = calm(8, 4, &[3], Attack::FalseCheckpoints);
    work(&outcomes);
    assert!(outcomes.iter().any(|outcome| outcome.accused == nodes_of(&[3])));
}

#[test]
fn poisoned_state_transfer_is_not_installed() {
    let faults = Faults::NONE.with(Fault::Partition).with(Fault::Crash);
    let outcomes = among(12, 3, &[Attack::PoisonedState], faults, 8_000);
    assert!(0 < coverage(&outcomes).count(Reached::Installed), "nobody was behind by a whole state");
}

#[test]
fn forged_requests_stop_nobody_else() {
    let outcomes = calm(8, 4, &[4], Attack::ForgedRequests);
    work(&outcomes);
    assert!(outcomes.iter().any(|outcome| outcome.accused == nodes_of(&[4])));
}

#[test]
fn replayed_words_and_requests_take_effect_once() {
    work(&among(8, 2, &[Attack::Replaying], Faults::NONE.with(Fault::Crash), 6_000));
}

#[test]
fn floods_leave_memory_bounded() {
    work(&calm(6, 4, &[2], Attack::Flooding));
}

#[test]
fn mutated_messages_break_nothing() {
    work(&calm(12, 4, &[1], Attack::Mutating));
}

/// As much lying as is endured and every fault of the network and of power on top.
#[test]
fn all_attacks_together_under_all_faults_break_no_promise() {
    let all: Vec<Attack> = Attack::ALL.iter().copied().filter(|attack| *attack != Attack::Silent).collect();
    let faults = Faults::ALL.without(Fault::Reconfigure);
    let outcomes = among(6, 2, &all, faults, 6_000);
    assert!(outcomes.iter().any(|outcome| 0 < outcome.committed));
}
