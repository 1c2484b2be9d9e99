//! Nodes whose roles are spread over several threads: the same agents, other rings between them.

use super::harness::{Cluster, http_get};
use super::load::Load;

/// Writes with nothing wrong, and after a fault.
const ENOUGH: usize = 300;

#[test]
fn roles_on_two_and_on_four_threads_keep_every_promise_under_load() {
    for cores in [2, 4] {
        let mut cluster = Cluster::init(&format!("placement-{cores}"), 3);
        for node in 1..=3 {
            cluster.set(node, "placement", "cores", cores);
            cluster.start_node(node);
        }
        let leader = cluster.await_leader();
        let process = cluster.nodes[leader - 1].as_ref().expect("it runs").id();
        let threads =
            std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs").filter_map(Result::ok);
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        assert_eq!(names.filter(|name| name.starts_with("core-")).count(), cores as usize);
        let load = Load::start(&cluster);
        load.await_more(ENOUGH);
        let fault = load.fault(&format!("kill -9 of the leader, {cores} cores a node"));
        cluster.kill(leader);
        fault.recovered(ENOUGH);
        cluster.start_node(leader);
        load.await_more(ENOUGH);
        cluster.await_all();
        for node in 1..=3 {
            let live = http_get(&cluster.admins[node - 1], "/livez").expect("the service plane answers");
            assert_eq!(live.0, 200, "all {cores} threads of node {node} turn: {}", live.1);
        }
        load.finish(&cluster);
    }
}
