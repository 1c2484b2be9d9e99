//! Five nodes behind `quorate proxy`, a link for each pair, under verified load.

use super::harness::{Cluster, Reply, await_some, http_get};
use super::load::Load;
use quorate::load::proxy::{Shape, control};
use quorate::load::wan::{self, Site, Wan};
use std::path::Path;

/// Writes after a fault that show that it is overcome.
const ENOUGH: usize = 100;

/// What every link is like at its worst.
const LATE: &str = "latency=50ms,jitter=50ms";

fn set(proxy: &Wan, links: &str, shape: &str) {
    let answer = control::ask(proxy.control(), &format!("set {links} {shape}")).expect("the proxy answers");
    assert!(answer["changed"].as_u64().is_some_and(|count| 0 < count), "{links} {shape}: {answer}");
}

#[test]
fn late_stalled_cut_and_flipped_links() {
    let mut cluster = Cluster::init("proxy", 5);
    let site = |node: usize| Site {
        id: node as u8,
        peer: cluster.member(node, "peer"),
        config: cluster.config_path(node),
    };
    let sites: Vec<Site> = (1..=5).map(site).collect();
    let proxy = Wan::start(Path::new(env!("CARGO_BIN_EXE_quorate")), &sites, &Shape::default())
        .expect("the proxy starts");
    // As an operator would set them up for the worst that comes.
    for node in 1..=5 {
        for (key, value) in wan::settings(&Shape::parse(LATE).expect("a shape")) {
            cluster.set(node, "raft", key.strip_prefix("raft.").expect("a setting of Raft"), value);
        }
        cluster.start_node(node);
    }
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);

    let fault = load.fault("proxy: 50 ms +- 50 ms on every link");
    set(&proxy, "*", LATE);
    fault.recovered(ENOUGH);
    set(&proxy, "*", "clear");
    cluster.await_all();

    let leader = cluster.await_leader();
    let fault = load.fault("proxy: what the leader sends is held, and nobody is told");
    set(&proxy, &format!("{leader}>*"), "stall");
    fault.recovered(ENOUGH);
    set(&proxy, "*", "clear");
    cluster.await_all();

    let leader = cluster.await_leader();
    let fault = load.fault("proxy: all connections of the leader end and are refused");
    set(&proxy, &format!("{leader}>*"), "cut");
    fault.recovered(ENOUGH);
    set(&proxy, "*", "clear");
    cluster.await_all();

    let fault = load.fault("proxy: 20 bits in a million bytes flipped on every link");
    set(&proxy, "*", "flips=20");
    fault.recovered(ENOUGH);
    set(&proxy, "*", "clear");
    cluster.await_all();
    load.finish(&cluster);
}

/// 1,024 commands in flight over links that carry a few megabytes a second: heartbeats and votes pass what waits for them (peers of
/// this kind lose their leaders here).
#[test]
fn a_thousand_in_flight_over_slow_links_keep_their_leader() {
    const IN_FLIGHT: usize = 1_024;
    let mut cluster = Cluster::init("slow-links", 3);
    let site = |node: usize| Site {
        id: node as u8,
        peer: cluster.member(node, "peer"),
        config: cluster.config_path(node),
    };
    let sites: Vec<Site> = (1..=3).map(site).collect();
    let proxy = Wan::start(Path::new(env!("CARGO_BIN_EXE_quorate")), &sites, &Shape::default())
        .expect("the proxy starts");
    (1..=3).for_each(|node| cluster.start_node(node));
    let leader = cluster.await_leader();
    let term = || {
        let page = http_get(&cluster.admins[leader - 1], "/metrics").expect("it lives").1;
        page.lines().find(|line| line.starts_with("quorate_term{")).map(str::to_string)
    };
    // Figures are laid out once a second.
    let before = await_some(|| term().filter(|line| !line.ends_with(" 0")), || "a term is told".to_string());
    set(&proxy, "*", "bandwidth=8MiB");
    let mut client = cluster.client(leader);
    let value = "v".repeat(16 << 10);
    for round in 0..2 {
        for command in 0..IN_FLIGHT {
            client.send(&["SET", &format!("k{command}"), &value]).expect("it lives");
        }
        for command in 0..IN_FLIGHT {
            let reply = client.reply().expect("it lives");
            // More than `answer_within` may pass on such a link: that is no lie, and no reason for an election.
            let is_answer =
                reply == Reply::ok() || reply.is_error("INDETERMINATE") || reply.is_error("OVERLOADED");
            assert!(is_answer, "command {command} of round {round}: {reply:?}");
        }
    }
    set(&proxy, "*", "clear");
    assert_eq!(cluster.await_leader(), leader);
    assert_eq!(term(), Some(before), "nobody stood for election");
}
