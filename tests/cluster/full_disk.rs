//! What a node without space says to its clients, and one whose file system cannot write past the page cache. That nothing is lost under load when disks fill up is in `faults`.

use super::harness::{Cluster, Reply, await_some, http_get};
use super::root::{Mounted, is_root};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A log of a few small segments, the snapshot that whoever was full long enough needs, and not many more.
const DISK_BYTES: u64 = 64 << 20;

/// Long, so that whoever asks whether a full disk costs an election does not see those that a busy machine costs.
const ELECTION_MAX: Duration = Duration::from_secs(3);

/// `count` nodes of which the last lies on a small file system, and the file that fills that up. `None` where nobody may mount one.
fn on_a_small_disk(name: &str, count: usize) -> Option<(Cluster, Mounted, PathBuf)> {
    if !is_root() {
        println!("skipped: a full disk needs root to mount a small file system");
        return None;
    }
    let mut cluster = Cluster::init(name, count);
    let small = cluster.dir.join("small");
    std::fs::create_dir_all(&small).expect("a directory");
    let mount = Mounted::tmpfs(&small, DISK_BYTES);
    move_data(&cluster, count, &small);
    for node in 1..=count {
        cluster.set(node, "raft", "election_max", format!("{}ms", ELECTION_MAX.as_millis()));
        cluster.set(node, "raft", "election_min", format!("{}ms", ELECTION_MAX.as_millis() / 2));
        cluster.start_node(node);
    }
    cluster.await_leader();
    Some((cluster, mount, small.join("filler")))
}

/// Moves a node's data there; they are found where they were.
fn move_data(cluster: &Cluster, node: usize, place: &Path) {
    let (data, moved) = (cluster.data_dir(node), place.join("data"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&moved).status().expect("cp runs");
    assert!(copied.success());
    std::fs::remove_dir_all(&data).expect("it was copied");
    std::os::unix::fs::symlink(&moved, &data).expect("a link");
}

fn fill(filler: &PathBuf) {
    let filled = std::fs::write(filler, vec![1u8; DISK_BYTES as usize]);
    assert!(filled.is_err(), "the file system is smaller than the filler");
}

fn await_readiness(cluster: &Cluster, node: usize, what: &str) {
    let page = || http_get(&cluster.admins[node - 1], "/readyz?verbose").map(|(_, body)| body);
    await_some(
        || page()?.contains(what).then_some(()),
        || format!("node {node} says {what:?}: {:?}", page()),
    );
}

fn await_write(cluster: &Cluster, node: usize) {
    let set = || (cluster.client(node).command(&["SET", "again", "1"]).ok()? == Reply::ok()).then_some(());
    await_some(set, || format!("node {node} writes again"));
}

#[test]
fn without_direct_writes_the_log_is_buffered_says_so_and_is_read_back() {
    if !is_root() {
        println!("skipped: a file system without direct I/O needs root to be mounted");
        return;
    }
    let mut cluster = Cluster::init("buffered", 1);
    let place = cluster.dir.join("place");
    std::fs::create_dir_all(&place).expect("a directory");
    // It refuses O_DIRECT, as network file systems may.
    let mount = Mounted::ramfs(&place);
    move_data(&cluster, 1, &place);
    cluster.start_node(1);
    cluster.await_leader();
    for key in 0..100 {
        let set = cluster.client(1).command(&["SET", &format!("k{key}"), "buffered"]).expect("it lives");
        assert_eq!(set, Reply::ok());
    }
    let warned = "the log's file system refuses direct I/O";
    assert_eq!(cluster.stderr(1).matches(warned).count(), 1, "{}", cluster.stderr(1));
    let metrics = || http_get(&cluster.admins[0], "/metrics").expect("it lives").1;
    let buffered = || {
        let page = metrics();
        let line = page.lines().find(|line| line.starts_with("quorate_log_buffered{"))?;
        line.ends_with(" 1").then_some(())
    };
    await_some(buffered, || "the log says that it is buffered".to_string());
    cluster.kill(1);
    cluster.start_node(1);
    cluster.await_leader();
    for key in 0..100 {
        let read = cluster.client(1).command(&["GET", &format!("k{key}")]).expect("it lives");
        assert_eq!(read, Reply::bulk("buffered"));
    }
    cluster.kill(1);
    drop(mount);
}

#[test]
fn the_only_node_refuses_writes_and_answers_reads_until_there_is_space() {
    let Some((mut cluster, mount, filler)) = on_a_small_disk("full-alone", 1) else { return };
    fill(&filler);
    let mut client = cluster.client(1);
    let value = "v".repeat(64 << 10);
    let mut acknowledged = 0;
    // What is prepared is used; then each write is refused, and none is in doubt.
    let refusal = loop {
        match client.command(&["SET", &format!("k{acknowledged}"), &value]).expect("it lives") {
            reply if reply == Reply::ok() => acknowledged += 1,
            reply => break reply,
        }
        assert!((acknowledged as u64) < DISK_BYTES / value.len() as u64, "the disk holds less");
    };
    assert!(refusal.is_error("OVERLOADED the disk is full"), "{refusal:?}");
    assert!(0 < acknowledged, "a full disk is not an empty log");
    for key in 0..acknowledged {
        let read = client.command(&["GET", &format!("k{key}")]).expect("it lives");
        assert!(read == Reply::bulk(&value), "key {key} of {acknowledged}");
    }
    let refused = client.command(&["GET", &format!("k{acknowledged}")]).expect("it lives");
    assert_eq!(refused, Reply::Bulk(None), "what was refused was not written");
    await_readiness(&cluster, 1, "disk: full");
    let told = |kind: &str| cluster.stderr(1).contains(kind).then_some(());
    await_some(|| told("disk_error"), || "a line says that the disk is full".to_string());
    // It goes on by itself, and after a restart.
    std::fs::remove_file(&filler).expect("ours");
    await_write(&cluster, 1);
    await_readiness(&cluster, 1, "disk: no error");
    cluster.kill(1);
    cluster.start_node(1);
    await_write(&cluster, 1);
    let read = cluster.client(1).command(&["GET", &format!("k{}", acknowledged - 1)]).expect("it lives");
    assert!(read == Reply::bulk(&value));
    cluster.kill(1);
    drop(mount);
}

#[test]
fn one_of_three_says_so_to_its_clients_and_disturbs_nobody() {
    let Some((mut cluster, mount, filler)) = on_a_small_disk("full-one", 3) else { return };
    fill(&filler);
    let value = "v".repeat(64 << 10);
    // The others go on, also if it was the full one that led.
    let mut written = 0;
    let is_refused = || {
        written += 1;
        let key = format!("k{written}");
        let set = || (cluster.client(1).command(&["SET", &key, &value]).ok()? == Reply::ok()).then_some(());
        await_some(set, || format!("write {written}"));
        let refused = cluster.client(3).command(&["SET", "k", "v"]).expect("it lives");
        refused.is_error("OVERLOADED the disk is full").then_some(())
    };
    await_some(is_refused, || "node 3 has no room left".to_string());
    await_readiness(&cluster, 3, "disk: full");
    let leader = cluster.await_leader();
    assert_ne!(leader, 3, "leadership went to one that can write");
    let term = || {
        let Reply::Bulk(Some(info)) = cluster.client(leader).command(&["INFO"]).expect("it lives") else {
            panic!("INFO is answered")
        };
        let info = String::from_utf8(info).expect("text");
        info.lines().find(|line| line.starts_with("quorate_term:")).expect("a term is told").to_string()
    };
    let (before, begun) = (term(), Instant::now());
    for turn in 0..200 {
        let set = cluster.client(leader).command(&["SET", &format!("turn{turn}"), &value]).expect("it lives");
        assert_eq!(set, Reply::ok());
    }
    // Whoever wants an election has had the time for it. Short writes: the full disk must hold them all in the end.
    while begun.elapsed() < ELECTION_MAX * 2 {
        let set = cluster.client(leader).command(&["SET", "later", "1"]).expect("it lives");
        assert_eq!(set, Reply::ok());
    }
    assert_eq!(term(), before, "a full disk costs no election");
    std::fs::remove_file(&filler).expect("ours");
    await_write(&cluster, 3);
    let read = cluster.client(3).command(&["GET", "turn199"]).expect("it lives");
    assert!(read == Reply::bulk(&value), "it has caught up");
    (1..=3).for_each(|node| cluster.kill(node));
    drop(mount);
}
