//! What operators read of a node under load: every stage is timed, and the text is what Prometheus takes.

use super::harness::{Cluster, await_some, http_get};
use super::load::Load;
use std::collections::{BTreeMap, BTreeSet};

const STAGES: [&str; 8] = ["receive", "queue", "append", "sync", "replicate", "quorum", "apply", "reply"];

/// A sample: its name, its labels in one string, its value.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let first = name.chars().next()?;
    let is_name =
        !first.is_ascii_digit() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
    Some(Sample { name, labels, value: value.parse().ok()? }).filter(|_| is_name)
}

/// Panics unless `text` obeys the exposition format: each family announced once, its samples together behind that, no series twice,
/// buckets that do not fall and end with their count.
fn assert_is_prometheus(text: &str) {
    let (mut families, mut series) = (BTreeMap::new(), BTreeSet::new());
    let mut family = String::new();
    let mut bucket = (String::new(), 0.0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type has a name and a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name.to_string(), kind.to_string()).is_none(), "{name} comes twice");
            family = name.to_string();
            continue;
        }
        if line.starts_with('#') {
            assert!(line.starts_with("# HELP "), "{line}");
            continue;
        }
        let Sample { name, labels, value } = sample(line).unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(series.insert((name.to_string(), labels.to_string())), "twice: {line}");
        let part =
            name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not announced by {family}"));
        match (families[&family].as_str(), part) {
            ("counter" | "gauge", "") | ("histogram", "_sum") => {}
            ("histogram", "_bucket") => {
                let (rest, le) = labels.rsplit_once("le=\"").expect("a bucket has a limit");
                assert!(le == "+Inf\"" || le.trim_end_matches('"').parse::<f64>().is_ok(), "{line}");
                let least = if bucket.0 == rest { bucket.1 } else { 0.0 };
                assert!(least <= value, "buckets are cumulative: {line}");
                bucket = (rest.to_string(), value);
            }
            ("histogram", "_count") => assert_eq!(value, bucket.1, "the last bucket holds all: {line}"),
            _ => panic!("{line} is no part of {family}"),
        }
    }
    assert!(text.ends_with('\n'));
}

/// Panics unless whatever is a group's says which, and whatever a shard's groups share says of which shard.
fn assert_is_labelled(text: &str) {
    const OF_A_GROUP: [&str; 6] = [
        "quorate_store_",
        "quorate_snapshot",
        "quorate_commit_slot",
        "quorate_term",
        "quorate_log_entries",
        "quorate_log_floor_slot",
    ];
    const OF_A_SHARD: &str = "quorate_snapshot_pieces_dropped_total";
    let (mut of_groups, mut of_shards) = (0, 0);
    for Sample { name, labels, .. } in text.lines().filter_map(sample) {
        assert!(labels.starts_with("node=\""), "{name}{{{labels}}}");
        if name != OF_A_SHARD && OF_A_GROUP.iter().any(|family| name.starts_with(family)) {
            assert!(labels.contains("group=\"1\""), "{name}{{{labels}}}");
            of_groups += 1;
        } else if name.starts_with("quorate_log_") || name == OF_A_SHARD {
            assert!(labels.contains("shard=\"0\""), "{name}{{{labels}}}");
            of_shards += 1;
        } else if name == "quorate_stage_seconds_count" {
            assert!(labels.contains("group=\"1\"") != labels.contains("shard=\"0\""), "{name}{{{labels}}}");
        }
    }
    assert!(20 <= of_groups && 10 <= of_shards, "{of_groups} {of_shards}");
}

/// How often each stage was timed.
fn stages(text: &str) -> BTreeMap<&'static str, f64> {
    let count = |stage: &'static str| {
        let label = format!("stage=\"{stage}\"");
        let found = text.lines().filter_map(sample);
        let mut found =
            found.filter(|s| s.name == "quorate_stage_seconds_count" && s.labels.contains(&label));
        (stage, found.next().map_or(0.0, |sample| sample.value))
    };
    STAGES.into_iter().map(count).collect()
}

#[test]
fn every_stage_of_a_write_is_timed_and_prometheus_can_read_it() {
    let cluster = Cluster::start("metrics", 3);
    let leader = cluster.await_leader();
    let mut client = cluster.client(leader);
    let load = Load::start(&cluster);
    let service = &cluster.admins[leader - 1];
    let text = await_some(
        || {
            // The load may be another node's; the leader's own clients make its front and its replies work.
            client.command(&["INCR", "metrics"]).expect("it lives");
            let (status, text) = http_get(service, "/metrics")?;
            assert_eq!(status, 200);
            assert_is_prometheus(&text);
            assert_is_labelled(&text);
            stages(&text).values().all(|count| 0.0 < *count).then_some(text)
        },
        || format!("stages of node {leader}: {:?}", http_get(service, "/metrics").map(|(_, t)| stages(&t))),
    );
    assert_eq!(text.matches("# TYPE quorate_stage_seconds histogram").count(), 1);
    load.finish(&cluster);
}

#[test]
fn text_that_prometheus_refuses_is_noticed() {
    let good = "# HELP a b\n# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 2\n";
    assert_is_prometheus(good);
    let bad = [
        "a 1\n",
        "# TYPE a counter\na 1\na 2\n",
        "# TYPE a counter\n# TYPE a counter\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
        "# TYPE a gauge\na one\n",
    ];
    for text in bad {
        assert!(std::panic::catch_unwind(|| assert_is_prometheus(text)).is_err(), "{text}");
    }
}
