//! Starts: a log that is longer than what a node may keep of it in memory.

use super::harness::{Cluster, Reply, await_some, http_get};
use super::memory::peak_bytes;

const VALUE_BYTES: usize = 32 << 10;
const WRITES: usize = 5_000;
const KEYS: usize = 50;

fn key(write: usize) -> String {
    format!("k{}", write % KEYS)
}
/// A value that names the write.
fn value(write: usize) -> String {
    format!("{write:08}").repeat(VALUE_BYTES / 8)
}

/// Writes `WRITES` large values over `KEYS` keys, a few at a time.
fn fill(cluster: &Cluster, leader: usize) {
    const AT_ONCE: usize = 20;
    let mut client = cluster.client(leader);
    for first in (0..WRITES).step_by(AT_ONCE) {
        (first..first + AT_ONCE)
            .for_each(|write| client.send(&["SET", &key(write), &value(write)]).expect("it lives"));
        (first..first + AT_ONCE).for_each(|_| assert_eq!(client.reply().expect("it lives"), Reply::ok()));
    }
}

fn await_ready(cluster: &Cluster, node: usize) {
    let ready = || http_get(&cluster.admins[node - 1], "/readyz").filter(|(code, _)| *code == 200);
    await_some(ready, || {
        format!("node {node} is ready: {:?}", http_get(&cluster.admins[node - 1], "/readyz"))
    });
}

/// Until the node answers reads: before, it says why not, and goes on answering what needs no data.
fn await_loaded(cluster: &Cluster, node: usize) {
    let mut client = cluster.client(node);
    let last = WRITES - 1;
    let read = || {
        let read = client.command(&["GET", &key(last)]).expect("it lives");
        if read.is_error("LOADING") {
            assert_eq!(client.command(&["PING"]).expect("it lives"), Reply::Simple("PONG".to_string()));
        }
        let later = ["LOADING", "CLUSTERDOWN", "TRYAGAIN"].iter().any(|prefix| read.is_error(prefix));
        assert!(later || read == Reply::bulk(&value(last)), "never anything older: {read:?}");
        (!later).then_some(())
    };
    await_some(read, || format!("node {node} has loaded its data"));
}

#[test]
fn a_start_reads_a_long_log_in_little_memory() {
    let mut cluster = Cluster::init("long-log", 3);
    for node in 1..=3 {
        cluster.set(node, "raft", "snapshot_threshold", 1_000_000);
        cluster.set(node, "raft", "snapshot_threshold_bytes", "10GiB");
        cluster.start_node(node);
    }
    let leader = cluster.await_leader();
    fill(&cluster, leader);
    let logged = WRITES * VALUE_BYTES;
    let segments = std::fs::read_dir(cluster.data_dir(leader).join("wal")).expect("the log").count();
    assert!(logged <= segments * (4 << 20), "no snapshot has freed any of {segments} segments");
    // One of three, then all at once: nobody is there to send a snapshot, nor even to say what is committed.
    let follower = leader % 3 + 1;
    for victims in [vec![follower], vec![1, 2, 3]] {
        // The service plane closes its connections first, which must not keep the next life from listening.
        victims.iter().for_each(|node| await_ready(&cluster, *node));
        victims.iter().for_each(|node| cluster.kill(*node));
        victims.iter().for_each(|node| cluster.start_node(*node));
        for &node in &victims {
            await_loaded(&cluster, node);
            await_ready(&cluster, node);
            let mut client = cluster.client(node);
            for write in WRITES - KEYS..WRITES {
                let read = client.command(&["GET", &key(write)]).expect("it lives");
                assert!(read == Reply::bulk(&value(write)), "write {write} at node {node}");
            }
            let peak = peak_bytes(&cluster, node);
            assert!(peak < 110 << 20, "{peak} bytes to read {logged} of log back");
        }
    }
}
