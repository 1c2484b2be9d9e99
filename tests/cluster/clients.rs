//! Stock clients against leader and follower, RESP2 and RESP3.

use super::harness::{Cluster, has};
use std::process::Command;

fn leader_and_follower(cluster: &Cluster) -> [(usize, String, String); 2] {
    let leader = cluster.await_leader();
    let follower = cluster.running().into_iter().find(|n| *n != leader).expect("three nodes");
    [leader, follower].map(|node| {
        let (host, port) = cluster.clients[node - 1].rsplit_once(':').expect("host and port");
        (node, host.to_string(), port.to_string())
    })
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect("the program runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

#[test]
fn redis_cli_and_redis_benchmark() {
    if !has("redis-cli") || !has("redis-benchmark") {
        eprintln!("skipped: redis-cli and redis-benchmark are not installed");
        return;
    }
    let cluster = Cluster::start("redis-cli", 3);
    for (node, host, port) in leader_and_follower(&cluster) {
        for version in ["-2", "-3"] {
            let cli = |args: &[&str]| {
                let all: Vec<&str> =
                    ["-h", &host, "-p", &port, version].iter().chain(args).copied().collect();
                run("redis-cli", &all).trim().to_string()
            };
            assert_eq!(cli(&["SET", "greeting", "hello"]), "OK");
            assert_eq!(cli(&["GET", "greeting"]), "hello");
            assert_eq!(cli(&["DEL", "h"]).len(), 1);
            assert_eq!(cli(&["HSET", "h", "a", "1", "b", "2"]), "2");
            assert!(cli(&["HGETALL", "h"]).contains('b'));
            assert!(cli(&["INFO", "replication"]).contains("role:"));
            assert!(cli(&["--scan"]).contains("greeting"), "node {node}");
        }
        let bench = run(
            "redis-benchmark",
            &[
                "-h",
                &host,
                "-p",
                &port,
                "-n",
                "20000",
                "-c",
                "20",
                "-P",
                "16",
                "-t",
                "set,get,incr,hset,mset",
                "-q",
            ],
        );
        assert!(bench.contains("SET") && !bench.contains("rror"), "{bench}");
    }
}

#[test]
fn redis_py() {
    let probe = Command::new("python3").args(["-c", "import redis"]).output();
    if !probe.is_ok_and(|out| out.status.success()) {
        eprintln!("skipped: redis-py is not installed");
        return;
    }
    let cluster = Cluster::start("redis-py", 3);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/redis_py.py");
    for (_, host, port) in leader_and_follower(&cluster) {
        let said = run("python3", &[script, &host, &port]);
        assert!(said.contains("all asserted"), "{said}");
        // What could not be asserted is said where whoever runs the tests sees it.
        said.lines().filter(|line| line.contains("is not tested")).for_each(|line| eprintln!("{line}"));
    }
}
