//! Crashes, pauses and full disks under load: nothing acknowledged is lost, nothing stale is read.

use super::harness::{Client, Cluster, Reply, await_some, http_get};
use super::load::{Load, verify};

#[test]
fn killing_leader_and_follower_under_load_loses_nothing() {
    let mut cluster = Cluster::start("kill", 5);
    let load = Load::start(&cluster);
    load.await_more(500);
    for _ in 0..2 {
        let leader = cluster.await_leader();
        let follower = cluster.running().into_iter().find(|n| *n != leader).expect("five nodes");
        cluster.kill(leader);
        cluster.kill(follower);
        load.await_more(500);
        cluster.start_node(leader);
        cluster.start_node(follower);
        load.await_more(500);
    }
    let written = load.finish();
    for node in cluster.running() {
        verify(&cluster, node, &written);
    }
}

#[test]
fn all_nodes_killed_at_once_come_back_with_everything_acknowledged() {
    let mut cluster = Cluster::start("restart", 5);
    for round in 1..=2 {
        let load = Load::start(&cluster);
        load.await_more(1_000);
        cluster.running().into_iter().for_each(|node| cluster.kill(node));
        let written = load.finish();
        (1..=5).for_each(|node| cluster.start_node(node));
        let leader = cluster.await_leader();
        verify(&cluster, leader, &written);
        let mut client = cluster.client(leader);
        assert_eq!(client.command(&["FLUSHALL"]).expect("the node lives"), Reply::ok(), "round {round}");
    }
}

#[test]
fn the_last_node_answers_what_is_pending_and_ends() {
    let mut cluster = Cluster::init("last", 3);
    // Whoever waited this out would make the test fail.
    (1..=3).for_each(|node| cluster.configure(node, "[times]\ndrain_within = \"10min\""));
    (1..=3).for_each(|node| cluster.start_node(node));
    let leader = cluster.await_leader();
    let mut clients: Vec<Client> = (0..3).map(|_| cluster.client(leader)).collect();
    let others: Vec<usize> = cluster.running().into_iter().filter(|node| *node != leader).collect();
    others.into_iter().for_each(|node| cluster.kill(node));
    for (client, pipeline) in
        clients.iter_mut().zip(["SET k 1\r\nGET k\r\n", "GET k\r\nGET k\r\n", "GET k\r\nSET k 2\r\n"])
    {
        client.raw(pipeline.as_bytes()).expect("the leader lives");
    }
    assert_eq!(cluster.stop(leader), Some(0));
    for mut client in clients {
        for _ in 0..2 {
            let reply = client.reply().expect("an answer comes before the end");
            let honest = ["INDETERMINATE", "CLUSTERDOWN", "TRYAGAIN"];
            assert!(honest.iter().any(|prefix| reply.is_error(prefix)), "{reply:?}");
        }
    }
}

#[test]
fn a_paused_leader_serves_no_stale_read() {
    let cluster = Cluster::start("pause", 3);
    let leader = cluster.await_leader();
    let mut old = cluster.client(leader);
    assert_eq!(old.command(&["SET", "k", "before"]).expect("the leader lives"), Reply::ok());
    cluster.signal(leader, libc::SIGSTOP);
    let other = cluster.running().into_iter().find(|n| *n != leader).expect("three nodes");
    let mut client = cluster.client(other);
    await_some(
        || (client.command(&["SET", "k", "after"]).ok()? == Reply::ok()).then_some(()),
        || "the other two elect a leader".to_string(),
    );
    // Asked after the new value was acknowledged: the old one would be stale. The question waits in the paused leader's socket.
    old.send(&["GET", "k"]).expect("the kernel takes it");
    cluster.signal(leader, libc::SIGCONT);
    let reply = old.reply().expect("the old leader answers");
    assert!(
        reply == Reply::bulk("after") || reply.is_error("CLUSTERDOWN"),
        "the old leader must not answer from its past: {reply:?}"
    );
}

#[test]
fn an_orderly_stop_hands_leadership_over_and_answers_what_is_pending() {
    let mut cluster = Cluster::start("orderly", 3);
    let load = Load::start(&cluster);
    load.await_more(200);
    for _ in 0..3 {
        let leader = cluster.await_leader();
        assert_eq!(cluster.stop(leader), Some(0));
        load.await_more(200);
        cluster.start_node(leader);
    }
    let written = load.finish();
    let leader = cluster.await_leader();
    verify(&cluster, leader, &written);
}

/// Nobody wakes it: no peer connects, and the harness writes only once it says that it leads.
#[test]
fn the_only_node_of_a_cluster_leads_without_being_asked() {
    let mut cluster = Cluster::start("alone", 1);
    assert_eq!(cluster.client(1).command(&["SET", "k", "v"]).expect("answered"), Reply::ok());
    cluster.kill(1);
    cluster.start_node(1);
    cluster.await_leader();
    assert_eq!(cluster.client(1).command(&["GET", "k"]).expect("answered"), Reply::bulk("v"));
}

#[test]
fn a_minority_answers_clusterdown_and_is_not_ready() {
    let mut cluster = Cluster::start("minority", 3);
    cluster.kill(2);
    cluster.kill(3);
    let mut client = cluster.client(1);
    // The first write may sit in this node's log and so be indeterminate; soon nobody leads, and nothing is appended any more.
    await_some(
        || client.command(&["SET", "k", "v"]).ok().filter(|r| r.is_error("CLUSTERDOWN")),
        || "the lone node gives up leading".to_string(),
    );
    let ready = http_get(&cluster.admins[0], "/readyz?verbose").expect("the service plane answers");
    assert_eq!(ready.0, 503, "{}", ready.1);
    let live = http_get(&cluster.admins[0], "/livez").expect("the service plane answers");
    assert_eq!(live.0, 200, "{}", live.1);
}

#[test]
fn a_full_disk_stops_one_node_and_loses_nothing() {
    // SAFETY: plain system call.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: a full disk needs root to mount a small file system");
        return;
    }
    let mut cluster = Cluster::init("full", 3);
    let small = cluster.dir.join("small");
    let data = cluster.data_dir(3);
    std::fs::create_dir_all(&small).expect("a directory");
    let mount = Mounted::tmpfs(&small, 24 << 20);
    let moved = small.join("data");
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&moved).status().expect("cp runs");
    assert!(copied.success());
    std::fs::remove_dir_all(&data).expect("it was copied");
    std::os::unix::fs::symlink(&moved, &data).expect("a link");
    (1..=3).for_each(|node| cluster.start_node(node));
    let load = Load::start(&cluster);
    load.await_more(200);
    // Fill what the node has not yet taken for itself.
    let filler = std::fs::write(small.join("filler"), vec![1u8; 32 << 20]);
    assert!(filler.is_err(), "the file system is smaller than the filler");
    load.await_more(30_000);
    let written = load.finish();
    verify(&cluster, 1, &written);
    cluster.nodes.iter_mut().flatten().for_each(|child| {
        let _ = child.kill();
        let _ = child.wait();
    });
    cluster.nodes = (0..3).map(|_| None).collect();
    drop(mount);
}

/// A small file system, unmounted at the end whatever happens.
struct Mounted(std::path::PathBuf);
impl Mounted {
    fn tmpfs(at: &std::path::Path, bytes: u64) -> Mounted {
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .status()
            .expect("mount runs");
        assert!(done.success());
        Mounted(at.to_path_buf())
    }
}
impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn hostile_bytes_on_the_client_port_hurt_nobody() {
    let cluster = Cluster::start("hostile", 1);
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u8
    };
    let shapes: [&[u8]; 8] = [
        b"*-1\r\n",
        b"*1000000000\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n$99999999999\r\n",
        b"$3\r\nabc\r\n",
        b"\r\n\r\n\0\0",
        b"*2\r\n*1\r\n",
        b"SET \"unbalanced\r\n",
    ];
    for round in 0..200 {
        let mut client = Client::connect(&cluster.clients[0]).expect("the node takes connections");
        let mut bytes = shapes[round % shapes.len()].to_vec();
        bytes.extend((0..round * 7).map(|_| random()));
        // The node may close on it: that is its right.
        let _ = client.raw(&bytes);
    }
    let mut client = cluster.client(1);
    assert_eq!(client.command(&["PING"]).expect("the node lives"), Reply::Simple("PONG".to_string()));
    assert_eq!(client.command(&["SET", "k", "v"]).expect("the node lives"), Reply::ok());
}
