//! What an operator asks of a running cluster.

use super::harness::{Cluster, Reply, await_some, quorate};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// `quorate ctl leader transfer`: the exit code, and what was said.
fn transfer(cluster: &Cluster, to: &str, token: Option<&str>) -> (Option<i32>, String) {
    let mut command = quorate();
    command.args(["ctl", "--config"]).arg(cluster.config_path(1)).args(["leader", "transfer", "--to", to]);
    if let Some(token) = token {
        command.arg("--token-file").arg(cluster.dir.join(token));
    }
    let out = command.output().expect("quorate runs");
    (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn leadership_moves_as_wished_and_no_client_notices() {
    let cluster = Cluster::start("transfer", 3);
    cluster.await_leader();
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let clients: Vec<_> = (1..=3)
        .map(|node| {
            let (mut client, stop, count) = (cluster.client(node), stop.clone(), count.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.command(&["INCR", "count"]).expect("its node lives");
                    assert!(matches!(reply, Reply::Integer(_)), "{reply:?}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = || {
        let goal = count.load(Ordering::Relaxed) + 200;
        let done = || (goal <= count.load(Ordering::Relaxed)).then_some(());
        await_some(done, || "writes go on".to_string());
    };
    for to in ["1", "2", "3", "1"] {
        more();
        // A node that cannot keep up at this moment does not take over; the next try finds it.
        let led = || {
            let (code, said) = transfer(&cluster, to, None);
            let done = code == Some(0) && said.contains(&format!("node {to} leads term"));
            (done || said.contains(&format!("node {to} leads already"))).then_some(())
        };
        await_some(led, || format!("node {to} takes over"));
    }
    let in_order = |node: usize| cluster.stderr(node).contains("leadership is handed over in order");
    let told = || (1..=3).any(in_order).then_some(());
    await_some(told, || "the lines of some node say that leadership moved in order".to_string());
    more();
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("every command had a plain answer"));
    let total = cluster.client(2).command(&["GET", "count"]).expect("it lives");
    assert_eq!(total, Reply::bulk(&count.load(Ordering::Relaxed).to_string()), "each counted once");
}

#[test]
fn a_wish_that_cannot_come_true_is_refused_with_the_reason() {
    let cluster = Cluster::start("wish", 3);
    cluster.await_leader();
    // The service planes tell of a leader within a second of its election.
    let refused = || Some(transfer(&cluster, "9", None)).filter(|(code, _)| *code == Some(4));
    let (_, said) = await_some(refused, || "the service planes know the leader".to_string());
    assert!(said.contains("node 9 is no member of the group"), "{said}");
    let wrong = cluster.dir.join("wrong.token");
    std::fs::write(&wrong, "0".repeat(64)).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&wrong, mode).expect("a file of ours");
    let (code, said) = transfer(&cluster, "2", Some("wrong.token"));
    assert!(code == Some(4) && said.contains("wrong token"), "{code:?} {said}");
}

/// The last line on stderr, as JSON.
fn told_as_json(command: &mut Command) -> (Option<i32>, serde_json::Value) {
    let out = command.stdin(Stdio::null()).output().expect("quorate runs");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (out.status.code(), last.unwrap_or_else(|| panic!("no JSON: {text}")))
}

#[test]
fn programs_are_told_in_json_why_a_command_or_a_node_ended() {
    let (code, said) = told_as_json(quorate().args(["-o", "json", "start", "--no-such-flag"]));
    assert_eq!((code, &said["exit"]), (Some(2), &2.into()), "{said}");
    assert!(said["error"].as_str().is_some_and(|why| why.contains("--no-such-flag")), "{said}");

    let mut cluster = Cluster::init("json", 1);
    cluster.start_prepared(1, |command| {
        command.args(["-o", "json"]);
    });
    let again = || {
        let mut command = quorate();
        command.args(["start", "--log-format", "json", "--config"]).arg(cluster.config_path(1));
        command
    };
    let (code, said) = told_as_json(&mut again());
    assert_eq!((code, &said["exit"]), (Some(6), &6.into()), "{said}");
    assert!(said["error"].as_str().is_some_and(|why| why.contains("in use")), "{said}");
    let (code, said) = told_as_json(again().args(["--set", "raft.heartbeat=never"]));
    assert_eq!((code, &said["exit"]), (Some(2), &2.into()), "{said}");
}

#[test]
fn a_damaged_copy_of_the_superblock_is_no_success_and_the_next_start_mends_it() {
    const COPY_BYTES: usize = 4096;
    let mut cluster = Cluster::init("superblock", 1);
    let file = cluster.data_dir(1).join("superblock");
    let inspect = |format: &str| {
        let mut command = quorate();
        command.args(["-o", format, "inspect", "superblock"]).arg(cluster.data_dir(1));
        let out = command.output().expect("quorate runs");
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    assert_eq!(inspect("text").0, Some(0));
    for copy in [0, 1] {
        let mut bytes = std::fs::read(&file).expect("init made it");
        bytes[copy * COPY_BYTES + 50] ^= 1;
        std::fs::write(&file, bytes).expect("it is ours");
        let (code, said) = inspect("text");
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains(["first copy does not", "second copy does not"][copy]), "{said}");
        assert!(inspect("json").1.contains(&format!("\"is_valid\":[{},{}]", copy != 0, copy != 1)));
        let mut child = cluster.spawn_node(1);
        await_some(
            || (inspect("text").0 == Some(0)).then_some(()),
            || "a start writes both copies".to_string(),
        );
        child.kill().and_then(|()| child.wait()).expect("it ran");
    }
    cluster.set(1, "placement", "cores", 9);
    cluster.start_node(1);
    let warned = || cluster.stderr(1).contains("placement.cores is 9, but").then_some(());
    await_some(warned, || "a node with one shard says that it has no use for nine threads".to_string());
}
