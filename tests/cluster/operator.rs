//! What an operator asks of a running cluster.

use super::harness::{Cluster, Reply, await_some, quorate};
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
