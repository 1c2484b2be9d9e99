//! Native clients of a PBFT group: real processes that ask every replica.

use super::harness::{Client, Cluster, Reply, await_some, quorate};
use quorate::crypto::SecretKey;

fn start(name: &str, settings: &[(&str, toml::Value)]) -> Cluster {
    let mut cluster = Cluster::init_pbft(name, 4, 2);
    for node in 1..=4 {
        settings.iter().for_each(|(key, value)| cluster.set(node, "group", key, value.clone()));
    }
    (1..=4).for_each(|node| cluster.start_node(node));
    cluster.await_leader();
    cluster
}

/// Counts up until `goal` increments are answered. A number that comes twice, or goes missing without a word, breaks exactly once.
fn count_up(client: &mut Client, key: &str, last: &mut i64, goal: i64) {
    let mut unknown = 0;
    for _ in 0..goal {
        match client.command(&["INCR", key]).expect("the native client lives") {
            Reply::Integer(now) => {
                assert!(*last < now && now <= *last + 1 + unknown, "{now} after {last}, {unknown} unknown");
                (*last, unknown) = (now, 0);
            }
            reply => {
                assert!(reply.is_error("INDETERMINATE"), "{reply:?}");
                unknown += 1;
            }
        }
    }
}

#[test]
fn a_native_client_is_answered_by_f_plus_one_and_outlives_the_primary() {
    outlives_the_primary(start("native", &[]));
}

#[test]
fn a_native_client_that_signs_nothing_at_first_is_served_as_well() {
    outlives_the_primary(start("native-mac", &[("client_auth", "mac".into())]));
}

fn outlives_the_primary(mut cluster: Cluster) {
    let outside = cluster.start_client(64);
    let mut client = outside.client();
    assert_eq!(client.command(&["SET", "key", "value"]).unwrap(), Reply::ok());
    assert_eq!(client.command(&["GET", "key"]).unwrap(), Reply::bulk("value"));
    let long = "x".repeat(100_000);
    assert_eq!(client.command(&["SET", "long", &long]).unwrap(), Reply::ok());
    assert_eq!(
        client.command(&["GET", "long"]).unwrap(),
        Reply::bulk(&long),
        "which one replica sends whole"
    );
    assert_eq!(cluster.client(3).command(&["GET", "key"]).unwrap(), Reply::bulk("value"));
    let mut last = 0;
    count_up(&mut client, "count", &mut last, 50);
    let primary = cluster.await_leader();
    cluster.kill(primary);
    count_up(&mut client, "count", &mut last, 50);
    cluster.start_node(primary);
    count_up(&mut client, "count", &mut last, 50);
    let other = cluster.start_client(65);
    assert_eq!(other.client().command(&["GET", "count"]).unwrap(), Reply::bulk(&last.to_string()));
    // Two clients are two origins: neither takes the other's place.
    count_up(&mut other.client(), "count", &mut last, 10);
    count_up(&mut client, "count", &mut last, 10);
    drop(other);
    let other = cluster.start_client(65);
    count_up(&mut other.client(), "count", &mut last, 10);
}

#[test]
fn a_client_whom_no_operator_has_let_in_is_told_so() {
    let cluster = start("stranger", &[]);
    let key = cluster.dir.join("stranger.key");
    std::fs::write(&key, format!("{}\n", "5a".repeat(32))).unwrap();
    let mut command = quorate();
    command.args(["client", "--config"]).arg(cluster.config_path(1)).arg("--key-file").arg(&key);
    let out = command.args(["--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("[[cluster.clients]]"), "{said}");
    // A key of its own making, and a configuration of its own making: the nodes know neither.
    let (config, text) = (cluster.config_path(1), std::fs::read_to_string(cluster.config_path(1)).unwrap());
    let known = cluster.config(1)["cluster"]["clients"][0]["key"].as_str().unwrap().to_string();
    let own = SecretKey::parse(&"5a".repeat(32)).unwrap().public().to_string();
    std::fs::write(&config, text.replace(&known, &own)).unwrap();
    std::fs::copy(&key, cluster.dir.join("client-64.key")).unwrap();
    let outside = cluster.start_client(64);
    let refused =
        || outside.client().command(&["SET", "key", "value"]).ok().filter(|r| r.is_error("INDETERMINATE"));
    await_some(refused, || "nobody hears it".to_string());
}

#[test]
fn fast_reads_see_what_was_acknowledged_anywhere_and_go_on_without_f_replicas() {
    let mut cluster = start("fast-reads", &[("verify", true.into()), ("fast_reads", true.into())]);
    let outside = cluster.start_client(64);
    let (mut native, mut redis) = (outside.client(), cluster.client(2));
    for round in 0..60 {
        if round == 30 {
            cluster.kill(4);
        }
        let text = round.to_string();
        let writer = if round % 2 == 0 { &mut native } else { &mut redis };
        let write = || writer.command(&["SET", "key", &text]).ok().filter(|reply| *reply == Reply::ok());
        await_some(write, || format!("round {round} is written"));
        // Asked after the write was acknowledged, to this client or to a node's.
        let read = || native.command(&["GET", "key"]).ok().filter(|reply| !reply.is_error("INDETERMINATE"));
        assert_eq!(await_some(read, || format!("round {round} is read")), Reply::bulk(&text));
    }
}
