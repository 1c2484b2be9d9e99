//! Five nodes behind `quorate proxy`, a link for each pair, under verified load.

use super::harness::Cluster;
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
