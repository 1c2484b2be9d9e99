//! Each attack by name, in a world in which nothing else goes wrong: what must hold is checked at every step (`sim::check`); what is
//! said here is what the attack must come to.

use super::setting;
use quorate::base::{NodeId, NodeSet};
use quorate::sim::liars::Attack;
use quorate::sim::{Coverage, Fault, Faults, Options, Outcome, ProtocolName, Reached, World, violation};

/// Events of an attack, unless said otherwise.
const EVENTS: u64 = 3_000;

fn nodes_of(ids: &[u8]) -> NodeSet {
    ids.iter().copied().map(NodeId).collect()
}

/// Runs of some seeds in which these nodes lie.
fn among(
    seeds: u64,
    nodes: usize,
    liars: &[u8],
    attacks: &[Attack],
    faults: Faults,
    events: u64,
) -> Vec<Outcome> {
    let options = Options { protocol: ProtocolName::Pbft, nodes: Some(nodes), faults, ..Options::of(events) };
    let first = setting("QUORATE_SEED", 1);
    let run = |seed| {
        let ran = violation::catch(|| World::run_among(seed, &options, nodes_of(liars), attacks));
        ran.unwrap_or_else(|violation| {
            panic!("{attacks:?} by {liars:?} of {nodes}, seed {seed}: {violation}")
        })
    };
    (first..first + setting("QUORATE_SEEDS", seeds)).map(run).collect()
}

fn calm(seeds: u64, nodes: usize, liars: &[u8], attack: Attack) -> Vec<Outcome> {
    among(seeds, nodes, liars, &[attack], Faults::NONE, EVENTS)
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
        work(&among(seeds, nodes, liars, &[*attack], Faults::NONE, events));
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
fn a_byzantine_node_is_detected_and_nobody_else_is() {
    let outcomes = calm(12, 4, &[1], Attack::Equivocating);
    work(&outcomes);
    let liar = nodes_of(&[1]);
    assert!(outcomes.iter().all(|o| [NodeSet::default(), liar].contains(&o.convicted)));
    assert!(outcomes.iter().any(|o| o.convicted == liar), "nobody has proof of what it did");
}

#[test]
fn an_equivocating_primary_loses_its_view() {
    let outcomes = calm(12, 4, &[1], Attack::Equivocating);
    assert!(outcomes.iter().any(|outcome| 0 < outcome.term));
}

#[test]
fn a_silent_primary_is_replaced() {
    let outcomes = calm(6, 4, &[1], Attack::Silent);
    work(&outcomes);
    assert!(outcomes.iter().all(|outcome| 0 < outcome.term));
}

#[test]
fn a_primary_that_leaves_some_out_stops_nobody() {
    work(&calm(8, 4, &[1], Attack::Omitting));
    work(&calm(4, 7, &[1, 2], Attack::Omitting));
}

#[test]
fn a_slow_primary_delays_and_stops_nobody() {
    work(&calm(6, 4, &[1], Attack::Slow));
}

#[test]
fn an_unfair_primary_is_replaced() {
    let outcomes = calm(6, 4, &[1], Attack::Unfair);
    work(&outcomes);
    assert!(outcomes.iter().any(|outcome| 0 < outcome.term), "its victim waits for ever");
}

/// Node 2 leads the view that begins when node 1 falls silent.
#[test]
fn a_new_primary_that_omits_what_prepared_is_not_believed() {
    let faults = Faults::NONE.with(Fault::Partition).with(Fault::Delay);
    let outcomes = among(16, 4, &[2], &[Attack::OmitsPrepared, Attack::FalseChanges], faults, 6_000);
    assert!(outcomes.iter().any(|outcome| outcome.accused == nodes_of(&[2])), "no view came to it");
}

#[test]
fn a_lying_checkpoint_is_outvoted() {
    let outcomes = calm(8, 4, &[3], Attack::FalseCheckpoints);
    work(&outcomes);
    assert!(outcomes.iter().any(|outcome| outcome.accused == nodes_of(&[3])));
}

#[test]
fn a_poisoned_state_is_not_installed() {
    let faults = Faults::NONE.with(Fault::Partition).with(Fault::Crash);
    let outcomes = among(12, 4, &[3], &[Attack::PoisonedState], faults, 8_000);
    assert!(0 < coverage(&outcomes).count(Reached::Installed), "nobody was behind by a whole state");
}

#[test]
fn a_big_mac_client_stops_nobody_else() {
    let outcomes = calm(8, 4, &[4], Attack::ForgedRequests);
    work(&outcomes);
    assert!(outcomes.iter().any(|outcome| outcome.accused == nodes_of(&[4])));
}

#[test]
fn a_replayed_request_takes_effect_once() {
    let faults = Faults::NONE.with(Fault::Crash);
    work(&among(8, 4, &[2], &[Attack::Replaying], faults, 6_000));
}

#[test]
fn floods_leave_memory_bounded() {
    work(&calm(6, 4, &[2], Attack::Flooding));
}

#[test]
fn mutated_messages_break_nothing() {
    work(&calm(12, 4, &[1], Attack::Mutating));
}

/// As many liars as are endured and every fault of the network and of power on top.
#[test]
fn all_attacks_together_under_all_faults_break_no_promise() {
    let seeds = 6;
    let all = Attack::ALL.iter().copied().filter(|attack| *attack != Attack::Silent).collect::<Vec<_>>();
    let outcomes = among(seeds, 4, &[2], &all, Faults::ALL, 6_000);
    assert!(outcomes.iter().any(|outcome| 0 < outcome.committed));
}
