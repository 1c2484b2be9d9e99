//! Starts: a log that is longer than what a node may keep of it in memory.

use super::harness::{Client, Cluster, Reply, await_some, http_get};
use super::memory::peak_bytes;
use std::path::PathBuf;
use std::process::{Child, Command};

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
            assert!(matches!(client.command(&["INFO"]).expect("it lives"), Reply::Bulk(Some(_))));
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

/// One node with a snapshot and some log behind it, killed; where its newest snapshot lies.
fn with_snapshot(name: &str) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::init(name, 1);
    cluster.set(1, "raft", "snapshot_threshold", 100);
    cluster.set(1, "raft", "snapshot_keep", 0);
    cluster.start_node(1);
    cluster.await_leader();
    let directory = cluster.data_dir(1).join("snapshots");
    let snapshots = || {
        let names = std::fs::read_dir(&directory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        names.filter(|path| path.extension().is_some_and(|suffix| suffix == "qs")).max()
    };
    let mut client = cluster.client(1);
    let mut set =
        || assert_eq!(client.command(&["SET", "greeting", "hello"]).expect("it lives"), Reply::ok());
    let is_cut = |metrics: &str| {
        let mut lines = metrics.lines().filter(|line| line.starts_with("quorate_log_floor_slot"));
        lines.any(|line| !line.ends_with(" 0"))
    };
    let cut = || {
        set();
        http_get(&cluster.admins[0], "/metrics").filter(|(_, metrics)| is_cut(metrics))
    };
    await_some(cut, || "the log is cut for a snapshot".to_string());
    // What is acknowledged now lies behind the cut on the disk.
    set();
    cluster.kill(1);
    let newest = snapshots().expect("it was there");
    (cluster, newest)
}

#[test]
fn a_damaged_snapshot_is_refused_with_its_place_and_its_cure_where_nothing_else_holds_its_state() {
    let (mut cluster, snapshot) = with_snapshot("damaged-snapshot");
    let whole = std::fs::read(&snapshot).expect("it is there");
    let at = whole.windows(5).position(|window| window == b"hello").expect("its only value");
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    std::fs::write(&snapshot, damaged).expect("it is ours");
    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    let out = cluster.command(1).output().expect("quorate runs");
    let said = cluster.stderr(1);
    assert_eq!(out.status.code(), Some(6), "{said}");
    let place = format!("bytes 0 to {}", whole.len());
    for part in [&name(&snapshot), "is damaged", &place, "Cure:"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Something else holds it: a newer one that is damaged costs a warning.
    std::fs::write(&snapshot, &whole).expect("it is ours");
    let newer = snapshot.with_file_name("snapshot-1-999999999.qs");
    std::fs::write(&newer, &whole[..whole.len() / 2]).expect("a file");
    cluster.start_node(1);
    cluster.await_leader();
    let value = cluster.client(1).command(&["GET", "greeting"]).expect("it lives");
    assert_eq!(value, Reply::bulk("hello"));
    let said = cluster.stderr(1);
    assert!(said.contains(&name(&newer)) && said.contains("nothing is lost"), "{said}");
}

/// Starts the node with a pipe in the place of its snapshot, so that it comes no further than the test lets it.
fn held_at_its_snapshot(cluster: &Cluster, snapshot: &PathBuf) -> (Child, Vec<u8>, Client) {
    let bytes = std::fs::read(snapshot).expect("it is there");
    std::fs::remove_file(snapshot).expect("it is ours");
    assert!(Command::new("mkfifo").arg(snapshot).status().expect("mkfifo runs").success());
    let node = cluster.spawn_node(1);
    // The socket of the last life may take a connection, and lose it, until the kernel is done with it.
    let answered = || {
        let mut client = cluster.client(1);
        client.command(&["ROLE"]).ok().map(|_| client)
    };
    let client = await_some(answered, || "the node answers".to_string());
    (node, bytes, client)
}

#[test]
fn who_comes_before_the_log_is_read_back_is_told_so_and_served_later_on_the_same_connection() {
    let (mut cluster, snapshot) = with_snapshot("early");
    let (node, bytes, mut client) = held_at_its_snapshot(&cluster, &snapshot);
    cluster.nodes[0] = Some(node);
    let mut ask = |words: &[&str]| client.command(words).expect("the port is open");
    // PING among them, as with Redis: it asks whether the server can be used.
    assert!(ask(&["PING"]).is_error("LOADING "));
    assert!(ask(&["GET", "greeting"]).is_error("LOADING "));
    assert!(ask(&["SET", "greeting", "too early"]).is_error("LOADING "));
    let Reply::Bulk(Some(info)) = ask(&["INFO"]) else { panic!("INFO is answered") };
    assert!(String::from_utf8_lossy(&info).contains("\r\nloading:1\r\n"));
    let Reply::Array(role) = ask(&["ROLE"]) else { panic!("ROLE is answered") };
    assert_eq!(role[0], Reply::bulk("slave"));
    // What stock clients say first.
    assert!(matches!(ask(&["HELLO", "2"]), Reply::Array(_)));
    assert_eq!(ask(&["CLIENT", "SETNAME", "early"]), Reply::ok());

    std::fs::write(&snapshot, bytes).expect("the node reads");
    let value = || Some(ask(&["GET", "greeting"])).filter(|reply| matches!(reply, Reply::Bulk(_)));
    assert_eq!(await_some(value, || "the node has loaded".to_string()), Reply::bulk("hello"));
    assert_eq!(ask(&["CLIENT", "GETNAME"]), Reply::bulk("early"));
    assert_eq!(ask(&["SET", "greeting", "again"]), Reply::ok());
    drop(client);
    assert_eq!(cluster.stop(1), Some(0));
}

#[test]
fn a_node_that_still_reads_its_log_back_ends_in_order_when_asked() {
    let (mut cluster, snapshot) = with_snapshot("early-end");
    let (node, _, mut client) = held_at_its_snapshot(&cluster, &snapshot);
    cluster.nodes[0] = Some(node);
    assert!(client.command(&["GET", "greeting"]).expect("the port is open").is_error("LOADING "));
    assert_eq!(cluster.stop(1), Some(0));
    assert_eq!(client.reply().map_err(|error| error.kind()), Err(std::io::ErrorKind::UnexpectedEof));
}
