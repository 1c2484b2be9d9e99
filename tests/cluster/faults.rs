//! Crashes, pauses and full disks under verified load: nothing acknowledged is lost, nothing stale is read, nothing counts twice.

use super::harness::{Client, Cluster, Reply, await_some, http_get};
use super::identity::flip_in_a_value;
use super::load::Load;
use super::root::{Mounted, is_root};

/// Writes after a fault that show that it is overcome.
const ENOUGH: usize = 200;
/// Room for the log between two snapshots, and little more.
const SMALL_DISK: u64 = 96 << 20;
/// The same of a PBFT group, which makes a snapshot of every 8,192nd slot and keeps two, under clients that fill few commands into a slot.
const SMALL_DISK_PBFT: u64 = 384 << 20;

#[test]
fn kill_9_of_leader_follower_majority_and_all() {
    let mut cluster = Cluster::start("kill", 5);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);

    let leader = cluster.await_leader();
    let fault = load.fault("kill -9 of the leader");
    cluster.kill(leader);
    fault.recovered(ENOUGH);
    cluster.start_node(leader);

    let leader = cluster.await_leader();
    let follower = cluster.others(leader)[0];
    let fault = load.fault("kill -9 of a follower");
    cluster.kill(follower);
    fault.recovered(ENOUGH);
    cluster.start_node(follower);

    let leader = cluster.await_leader();
    let fallen: Vec<usize> = cluster.others(leader).into_iter().take(2).chain([leader]).collect();
    let mut fault = load.fault("kill -9 of three of five, the leader among them; started again");
    fallen.iter().for_each(|node| cluster.kill(*node));
    fallen.iter().for_each(|node| cluster.start_node(*node));
    fault.majority_is_back();
    fault.recovered(ENOUGH);

    let mut fault = load.fault("kill -9 of all five; started again");
    (1..=5).for_each(|node| cluster.kill(node));
    (1..=5).for_each(|node| cluster.start_node(node));
    fault.majority_is_back();
    fault.recovered(ENOUGH);
    load.finish(&cluster);
}

#[test]
fn sigstop_of_the_leader_under_load() {
    let cluster = Cluster::start("pause", 5);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    for round in 1..=2 {
        let leader = cluster.await_leader();
        let fault = load.fault(&format!("SIGSTOP of the leader, SIGCONT after the recovery, round {round}"));
        cluster.signal(leader, libc::SIGSTOP);
        let next =
            await_some(|| cluster.leader_of(&cluster.others(leader)), || "the others elect".to_string());
        fault.recovered(ENOUGH);
        assert_ne!(next, leader);
        // Answers that its clients have waited for all along come now, and must not be of its past.
        cluster.signal(leader, libc::SIGCONT);
        load.await_more(ENOUGH);
    }
    load.finish(&cluster);
}

#[test]
fn the_last_node_answers_what_is_pending_and_ends() {
    let mut cluster = Cluster::init("last", 3);
    // Whoever waited this out would make the test fail.
    (1..=3).for_each(|node| cluster.set(node, "times", "drain_within", "10min"));
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
    let cluster = Cluster::start("stale", 3);
    let leader = cluster.await_leader();
    let mut old = cluster.client(leader);
    assert_eq!(old.command(&["SET", "k", "before"]).expect("the leader lives"), Reply::ok());
    cluster.signal(leader, libc::SIGSTOP);
    let mut client = cluster.client(cluster.others(leader)[0]);
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
    load.await_more(ENOUGH);
    for round in 1..=3 {
        let leader = cluster.await_leader();
        let fault = load.fault(&format!("SIGTERM of the leader of three, round {round}"));
        assert_eq!(cluster.stop(leader), Some(0));
        fault.recovered(ENOUGH);
        cluster.start_node(leader);
    }
    load.finish(&cluster);
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
fn a_full_disk_of_a_follower_and_of_the_leader() {
    if !is_root() {
        println!("skipped: a full disk needs root to mount a small file system");
        return;
    }
    fill_disks(Cluster::init("full", 5), SMALL_DISK, ["the disk of a follower", "the disk of the leader"]);
}

/// Whose turn it is to lead is a matter of the view: a primary without room leaves its own.
#[test]
fn a_full_disk_of_a_backup_and_of_the_primary() {
    if !is_root() {
        println!("skipped: a full disk needs root to mount a small file system");
        return;
    }
    let cluster = Cluster::init("full-pbft", 4);
    (1..=4).for_each(|node| cluster.set(node, "group", "protocol", "pbft"));
    let roles = ["PBFT: the disk of a backup of four", "PBFT: the disk of the primary of four"];
    fill_disks(cluster, SMALL_DISK_PBFT, roles);
}

/// The disk of one that does not lead is filled and emptied, then that of who does.
fn fill_disks(mut cluster: Cluster, bytes: u64, [of_another, of_the_leader]: [&str; 2]) {
    let nodes = cluster.admins.len();
    let mut mounts: Vec<Mounted> = (1..=nodes).map(|node| small_disk(&cluster, node, bytes)).collect();
    (1..=nodes).for_each(|node| cluster.start_node(node));
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    let leader = cluster.await_leader();
    for (disk, node) in [(of_another, cluster.others(leader)[0]), (of_the_leader, leader)] {
        let fault = load.fault(&format!("{disk} is full"));
        let filler = mounts[node - 1].path().join("filler");
        assert!(std::fs::write(&filler, vec![1u8; bytes as usize]).is_err(), "it is larger than the disk");
        await_some(|| is_full(&cluster, node).then_some(()), || format!("node {node} needs a segment"));
        fault.recovered(ENOUGH);
        let leads = || cluster.leader().filter(|leader| *leader != node);
        await_some(leads, || format!("somebody else leads than node {node}, whose disk is full"));
        let fault = load.fault(&format!("{disk} has room again"));
        std::fs::remove_file(&filler).expect("it is ours");
        await_some(|| (!is_full(&cluster, node)).then_some(()), || format!("node {node} goes on by itself"));
        fault.recovered(ENOUGH);
    }
    load.finish(&cluster);
    (1..=nodes).for_each(|node| cluster.kill(node));
    mounts.clear();
}

/// Puts the data of a node that does not run yet on a small file system.
fn small_disk(cluster: &Cluster, node: usize, bytes: u64) -> Mounted {
    let small = cluster.dir.join(format!("small-{node}"));
    let data = cluster.data_dir(node);
    std::fs::create_dir_all(&small).expect("a directory");
    let mount = Mounted::tmpfs(&small, bytes);
    let moved = small.join("data");
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&moved).status().expect("cp runs");
    assert!(copied.success());
    std::fs::remove_dir_all(&data).expect("it was copied");
    std::os::unix::fs::symlink(&moved, &data).expect("a link");
    mount
}

fn is_full(cluster: &Cluster, node: usize) -> bool {
    let metrics = http_get(&cluster.admins[node - 1], "/metrics").map(|(_, text)| text).unwrap_or_default();
    let mut lines = metrics.lines().filter(|line| line.starts_with("quorate_log_disk_full"));
    lines.next().is_some_and(|line| line.ends_with(" 1"))
}

#[test]
fn a_node_whose_log_was_changed_while_it_was_down_refuses_and_the_others_serve() {
    let mut cluster = Cluster::start("rot", 5);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    let leader = cluster.await_leader();
    let fault = load.fault("bytes of the leader's log changed while it was down: it refuses");
    cluster.kill(leader);
    flip_in_a_value(&cluster.data_dir(leader), b'x');
    let ended = cluster.spawn_node(leader).wait().expect("it ends");
    assert_eq!(ended.code(), Some(6), "{}", cluster.stderr(leader));
    assert!(cluster.stderr(leader).contains("damaged"), "{}", cluster.stderr(leader));
    fault.recovered(ENOUGH);
    load.finish(&cluster);
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
