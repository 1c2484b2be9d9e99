//! What clients can make a node hold.

use super::harness::{Client, Cluster, Reply};

const VALUE_BYTES: usize = 1 << 20;

/// The most memory that the process has ever held, in bytes.
pub fn peak_bytes(cluster: &Cluster, node: usize) -> usize {
    let process = cluster.nodes[node - 1].as_ref().expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells it");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}

/// Seven bytes ask for a megabyte: on each way that a value can take to a client (a read index, the log behind a write, a write that
/// returns what was there), and by clients that take nothing for as long as somebody else is served.
#[test]
fn pipelines_of_long_replies_take_bounded_memory_and_are_answered_whole() {
    const EACH: usize = 200;
    let cluster = Cluster::start("long-replies", 3);
    let leader = cluster.await_leader();
    let mut other = cluster.client(leader);
    assert_eq!(other.command(&["SET", "k", &"v".repeat(VALUE_BYTES)]).expect("it lives"), Reply::ok());
    let before = peak_bytes(&cluster, leader);
    let pipelines = [("", "GET k\r\n"), ("SET x 1\r\n", "GET k\r\n"), ("", "GETEX k\r\n")];
    let mut clients: Vec<Client> = pipelines
        .iter()
        .map(|(first, command)| {
            let mut client = cluster.client(leader);
            client.raw(format!("{first}{}", command.repeat(EACH)).as_bytes()).expect("it lives");
            client
        })
        .collect();
    for turn in 0..200 {
        let reply = other.command(&["INCR", "turns"]).expect("it lives");
        assert_eq!(reply, Reply::Integer(turn + 1), "others are served while three do not read");
    }
    let held = peak_bytes(&cluster, leader) - before;
    assert!(held < 96 << 20, "{held} bytes for three clients that do not read");
    for (client, (first, command)) in clients.iter_mut().zip(pipelines) {
        if !first.is_empty() {
            assert_eq!(client.reply().expect("it lives"), Reply::ok());
        }
        for _ in 0..EACH {
            let Reply::Bulk(Some(value)) = client.reply().expect("it lives") else { panic!("{command}") };
            assert_eq!(value.len(), VALUE_BYTES);
        }
    }
    let held = peak_bytes(&cluster, leader) - before;
    assert!(held < 96 << 20, "{held} bytes until all have read {} MB", 3 * EACH);
}
