//! The PBFT core, explored exhaustively at small bounds: four of the very replicas that nodes run, with links that keep the order of what
//! they carry and lose any end of it, and time-outs at any step; the normal case, a view change, and one replica that lies.
//!
//! What is not explored: checkpoints, catching up, crashes (`sim` and `tests/pbft` do). Two states of a replica are one when they differ
//! in times and the absolute values of tickets only (`protocol::pbft::outline`).
//!
//! The bounds of the gate have some 100,000 states each, and take a few seconds.
//! `QUORATE_MODEL_PBFT=views,impatient,requests,liar,lies` explores other bounds, which may take hours and much memory.

mod book;
mod group;
mod lies;

use super::explore::{self, Report};
use group::{Bounds, Group};
use quorate::base::NodeId;
use quorate::base::canary::Canary;

fn explore(bounds: Bounds, canary: Option<Canary>) -> Report {
    let group = Group::new(bounds, canary);
    let report = explore::explore(&group);
    let Report { steps, states, depth, took, .. } = &report;
    println!(
        "{bounds:?}: {states} states by {steps} steps, at most {depth} deep, in {took:?}; {:?}",
        report.reached
    );
    let (replicas, letters, steps) = group.counts();
    println!("replicas in {replicas} states, {letters} letters, {steps} steps of replicas");
    report
}

/// Bounds in the order of their fields; 0 for no liar.
fn bounds(text: &str) -> Bounds {
    let numbers: Vec<u8> = text.split(',').map(|n| n.parse().expect("five small numbers")).collect();
    let [views, impatient, requests, liar, lies] = numbers[..] else { panic!("five numbers, not {text}") };
    let liar = Some(NodeId(liar)).filter(|_| liar != 0);
    Bounds { views: views.into(), impatient, two_requests: requests == 2, liar, lies }
}

#[test]
fn the_normal_case_is_safe() {
    explore(bounds("0,0,1,0,0"), None).assert_safe(&["all execute the first request"]);
}

/// Node 4 says nothing at all.
#[test]
fn a_view_change_beside_a_silent_replica_is_safe() {
    let reached = [
        "a later view begins",
        "all have executed something, and are in a later view",
        "another request takes the first slot",
    ];
    explore(bounds("1,2,2,4,0"), None).assert_safe(&reached);
}

#[test]
fn a_backup_that_lies_is_borne() {
    let text = std::env::var("QUORATE_MODEL_PBFT").unwrap_or("1,2,1,4,1".to_string());
    let reached = ["a later view begins with what was executed before"];
    explore(bounds(&text), None).assert_safe(&reached);
}

/// It tells one half this and the other half that; who sees both leaves its view.
#[test]
fn a_primary_that_lies_is_borne() {
    explore(bounds("0,0,2,1,2"), None)
        .assert_safe(&["a later view begins", "another request takes the first slot"]);
}

/// What a replica executed the next view rewrites, and whoever executed it accuses that view's primary, which did nothing wrong.
#[test]
fn the_model_finds_a_view_change_that_leaves_out_what_prepared() {
    let report = explore(bounds("1,2,2,4,1"), Some(Canary::OmitPrepared));
    assert_eq!(report.broken.map(|(property, _)| property), Some("nobody correct is accused"));
}

#[test]
fn the_model_finds_that_one_voice_is_believed() {
    let report = explore(bounds("0,0,2,1,4"), Some(Canary::OneVoiceDecides));
    assert_eq!(report.broken.map(|(property, _)| property), Some("agreement"));
}
