//! PBFT groups of real processes: as many crashes as a group bears liars, and all at once, under load whose every answer is checked.

use super::harness::{Cluster, http_get};
use super::load::Load;

/// Writes after a fault that show that it is overcome.
const ENOUGH: usize = 200;

fn start(name: &str, nodes: usize) -> Cluster {
    let mut cluster = Cluster::init(name, nodes);
    for node in 1..=nodes {
        cluster.set(node, "group", "protocol", "pbft");
        cluster.start_node(node);
    }
    cluster.await_leader();
    cluster
}

/// The primary of four is among them, whoever that is by then.
#[test]
fn four_that_bear_a_liar_outlive_crashes_orderly_ends_and_the_end_of_all() {
    let mut cluster = start("pbft", 4);
    let (status, standing) = http_get(&cluster.admins[0], "/statusz").expect("it lives");
    assert!(status == 200 && standing.contains("\"protocol\": \"pbft\""), "{standing}");
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    for _ in 1..=4 {
        let primary = cluster.await_leader();
        let fault = load.fault("kill -9 of the primary of four");
        cluster.kill(primary);
        fault.recovered(ENOUGH);
        cluster.start_node(primary);
        cluster.await_all();
    }
    for round in 1..=3 {
        let primary = cluster.await_leader();
        let fault = load.fault(&format!("SIGTERM of the primary of four, round {round}"));
        assert_eq!(cluster.stop(primary), Some(0));
        fault.recovered(ENOUGH);
        cluster.start_node(primary);
        cluster.await_all();
    }
    let mut fault = load.fault("kill -9 of all four that bear a liar; started again");
    (1..=4).for_each(|node| cluster.kill(node));
    (1..=4).for_each(|node| cluster.start_node(node));
    fault.majority_is_back();
    fault.recovered(ENOUGH);
    load.finish(&cluster);
}

/// Sixteen bear five: as many are killed at once, the primary among them, and come back.
#[test]
fn sixteen_that_bear_five_liars_outlive_the_crash_of_five() {
    let mut cluster = start("pbft-sixteen", 16);
    let load = Load::through(&cluster, (13..=16).collect());
    load.await_more(ENOUGH);
    let fault = load.fault("kill -9 of five of sixteen, the primary among them");
    (1..=5).for_each(|node| cluster.kill(node));
    fault.recovered(ENOUGH);
    (1..=5).for_each(|node| cluster.start_node(node));
    cluster.await_all();
    load.finish(&cluster);
}

/// How long another process has the primary's core.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The view, as a node tells it.
fn view(cluster: &Cluster, node: usize) -> u64 {
    let (_, metrics) = http_get(&cluster.admins[node - 1], "/metrics").expect("it lives");
    let line = metrics.lines().find(|line| line.starts_with("quorate_term")).expect("it is told");
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// A busy machine makes a pause longer, and the time-outs of the others shorter: that may cost a view now and then, but not as a rule.
#[test]
fn a_primary_that_stands_still_for_a_tenth_of_a_second_keeps_its_view() {
    const ROUNDS: usize = 7;
    let cluster = start("pbft-pause", 4);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    let keeps = |round: usize| {
        let primary = cluster.await_leader();
        let before = view(&cluster, primary);
        let fault = load.fault(&format!("SIGSTOP of the primary of four for 100 ms, round {round}"));
        cluster.signal(primary, libc::SIGSTOP);
        std::thread::sleep(PAUSE);
        cluster.signal(primary, libc::SIGCONT);
        fault.recovered(ENOUGH);
        view(&cluster, cluster.others(primary)[0]) == before
    };
    let kept = (1..=ROUNDS).filter(|round| keeps(*round)).count();
    assert!(ROUNDS / 2 < kept, "{kept} of {ROUNDS} views outlived the pause");
    load.finish(&cluster);
}
