//! The Raft core, explored exhaustively at small bounds: the very type that nodes run, three of them, a network that loses, delays
//! and reorders, disks that lose what is not durable, and time-outs at any step. Two states are one when they differ in times, drawn
//! numbers and the absolute values of tickets only (`protocol::raft::outline`).
//!
//! `QUORATE_MODEL=terms,commands,crashes,heartbeats,slow_writes,candidates,link`
//! explores other bounds, which may take hours.

mod cluster;
mod node;

use super::explore::{self, Report};
use cluster::{Bounds, Cluster};
use quorate::base::canary::Canary;

fn explore(bounds: Bounds, canary: Option<Canary>) -> Report {
    let report = explore::explore(&Cluster { bounds, canary });
    let Report { steps, states, depth, took, .. } = &report;
    println!(
        "{bounds:?}: {states} states by {steps} steps, at most {depth} deep, in {took:?}; {:?}",
        report.reached
    );
    report
}

/// Bounds in the order of their fields.
fn bounds(text: &str) -> Bounds {
    let numbers: Vec<u64> = text.split(',').map(|n| n.parse().expect("seven numbers")).collect();
    let [terms, commands, crashes, heartbeats, slow_writes, candidates, link] = numbers[..] else {
        panic!("seven numbers, not {text}")
    };
    let small = |n: u64| u8::try_from(n).expect("a small number");
    let (crashes, heartbeats) = (small(crashes), small(heartbeats));
    let (slow_writes, candidates) = (small(slow_writes), small(candidates));
    Bounds { terms, commands, crashes, heartbeats, slow_writes, candidates, link: link as usize }
}

fn is_safe(bounds: Bounds, meets_with: &[&str]) {
    explore(bounds, None).assert_safe(meets_with);
}

#[test]
fn the_core_is_safe_whatever_happens_around_a_crash() {
    let text = std::env::var("QUORATE_MODEL").unwrap_or("2,2,1,0,0,2,1".to_string());
    let reached = [
        "a later leader is elected",
        "a later leader decides an earlier one's entry",
        "every command is decided",
        "a command is decided after a crash",
    ];
    is_safe(bounds(&text), &reached);
}

#[test]
fn the_core_is_safe_while_a_write_takes_time() {
    is_safe(bounds("1,1,1,1,1,1,1"), &["every command is decided"]);
}

#[test]
fn the_model_finds_two_votes_in_a_term() {
    let bounds =
        Bounds { terms: 1, commands: 0, crashes: 0, heartbeats: 0, slow_writes: 0, candidates: 2, link: 2 };
    let report = explore(bounds, Some(Canary::TwoVotes));
    assert_eq!(report.broken.map(|(property, _)| property), Some("election safety"));
}
