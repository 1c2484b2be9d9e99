//! The small form of the bench harness: a cluster of its own under load, and a report with the names that scripts rely on.

use super::harness::{Cluster, has, quorate};
use std::path::Path;
use std::process::Command;

/// Runs `quorate` with these arguments to its end, in the cluster's directory: what it reports.
fn bench(turn: &Cluster, args: &str) -> serde_json::Value {
    let out = quorate().args(args.split(' ')).current_dir(&turn.dir).output().expect("quorate runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON value")
}

#[test]
fn a_bench_starts_its_own_cluster_and_reports() {
    // Held so that no other cluster runs meanwhile.
    let turn = Cluster::init("bench", 1);
    let args = "bench --nodes 3 --duration 2s --warm-up 1s --results results -o json";
    let report = bench(&turn, args);
    for name in [
        "protocol",
        "nodes",
        "durability",
        "workload",
        "value_bytes",
        "connections",
        "in_flight",
        "offered_per_s",
    ] {
        assert!(report.get(name).is_some(), "{name} is missing: {report}");
    }
    for name in [
        "limit_per_s",
        "share_of_limit",
        "cpu_us_per_op",
        "memory_bytes_per_node",
        "core_round_trip_ns",
        "host",
        "command",
    ] {
        assert!(report.get(name).is_some(), "{name} is missing: {report}");
    }
    assert_eq!((report["nodes"].as_u64(), report["errors"].as_u64()), (Some(3), Some(0)), "{report}");
    assert!(0.0 < report["achieved_per_s"].as_f64().expect("a number"), "{report}");
    let latency = |name: &str| report["latency_us"][name].as_f64().expect("a number");
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    decode_elsewhere(&turn.dir.join("results"));
}

/// The histograms that it wrote say the same to a reader that shares no line with their writer.
fn decode_elsewhere(results: &Path) {
    if !has("python3") {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hlog.py");
    let out = Command::new("python3").arg(script).arg(results).output().expect("python3 runs");
    let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("intervals"), "{said}{wrong}");
}

#[test]
fn a_verified_bench_with_reads_outlives_its_leader() {
    let turn = Cluster::init("bench-verify", 1);
    let args = "bench --nodes 3 --verify --reads 40 --kill-leader-at 1s --duration 4s --warm-up 500ms -c 12 -P 4 --keys 5000 -o json";
    let report = bench(&turn, args);
    let verified = &report["verified"];
    assert_eq!(verified["linearizable"], serde_json::json!(true), "{report}");
    let count = |name: &str| verified[name].as_u64().expect("a number");
    assert!(0 < count("keys") && count("keys") <= 5_000 && count("keys") < count("operations"), "{report}");
    assert!(report["recovery_ms"].as_f64().is_some_and(|ms| 0.0 < ms), "writes resume: {report}");
    let history = verified["history"].as_str().expect("it is kept beside the report");
    let check = quorate().args(["check", "history", history]).current_dir(&turn.dir).output();
    assert_eq!(check.expect("quorate runs").status.code(), Some(0), "the file says the same");
}

#[test]
fn a_bench_through_a_native_client_loses_and_doubts_nothing() {
    let turn = Cluster::init("bench-native", 1);
    let args = "bench --native --nodes 4 --connections 8 --in-flight 4 --reads 20 --verify --duration 2s --warm-up 1s --no-results -o json";
    let report = bench(&turn, args);
    assert_eq!((report["protocol"].as_str(), report["errors"].as_u64()), (Some("pbft"), Some(0)), "{report}");
    assert!(0.0 < report["achieved_per_s"].as_f64().expect("a number"), "{report}");
}
