//! Wall clocks that are wrong by minutes: reads stay right, and every node says the same of every expiry.

use super::harness::{Cluster, Reply, await_some};
use super::load::Load;

/// Writes after a fault that show that it is overcome.
const ENOUGH: usize = 200;

fn ask(cluster: &Cluster, node: usize, words: &[&str]) -> Reply {
    // A refusal or an unknown outcome is asked again: what is asked here may happen twice.
    let ask = || cluster.client(node).command(words).ok().filter(|reply| !matches!(reply, Reply::Error(_)));
    await_some(ask, || format!("node {node} answers {words:?}"))
}

/// What all nodes say, which must be the same.
fn all_say(cluster: &Cluster, words: &[&str]) -> Reply {
    let said: Vec<Reply> = cluster.running().into_iter().map(|node| ask(cluster, node, words)).collect();
    assert!(said.iter().all(|reply| *reply == said[0]), "{words:?}: {said:?}");
    said[0].clone()
}

fn await_gone(cluster: &Cluster, key: &str) {
    let gone = || (ask(cluster, 1, &["GET", key]) == Reply::Bulk(None)).then_some(());
    await_some(gone, || format!("{key} expires"));
    // Once gone it is gone for everybody, whatever their clocks say.
    assert_eq!(all_say(cluster, &["EXISTS", key]), Reply::Integer(0));
}

/// Node 1 stands for election long before the others do.
fn make_node_1_lead(cluster: &mut Cluster) {
    while cluster.await_leader() != 1 {
        let leader = cluster.await_leader();
        if leader != 1 {
            cluster.stop(leader);
            cluster.start_node(leader);
        }
    }
}

#[test]
fn clocks_of_a_follower_and_of_the_leader_are_wrong_by_minutes() {
    let mut cluster = Cluster::init("clocks", 5);
    for node in 2..=5 {
        cluster.set(node, "raft", "election_min", "600ms");
        cluster.set(node, "raft", "election_max", "1200ms");
    }
    cluster.flags[1] = vec!["--clock-skew=10min".to_string()];
    (1..=5).for_each(|node| cluster.start_node(node));
    make_node_1_lead(&mut cluster);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);

    // Node 2 is ten minutes ahead and follows: what lives five minutes lives there too.
    assert_eq!(ask(&cluster, 2, &["SET", "long", "v", "EX", "300"]), Reply::ok());
    assert_eq!(ask(&cluster, 2, &["SET", "short", "v", "PX", "300"]), Reply::ok());
    await_gone(&cluster, "short");
    assert_eq!(all_say(&cluster, &["GET", "long"]), Reply::bulk("v"));

    // The leader is ten minutes ahead: time leaps for all of them at once.
    let fault = load.fault("the leader's clock is 10 minutes ahead");
    cluster.stop(1);
    cluster.flags[0] = vec!["--clock-skew=10min".to_string()];
    cluster.start_node(1);
    make_node_1_lead(&mut cluster);
    fault.recovered(ENOUGH);
    await_gone(&cluster, "long");
    assert_eq!(ask(&cluster, 3, &["SET", "long", "w", "EX", "300"]), Reply::ok());
    assert_eq!(ask(&cluster, 3, &["SET", "short", "w", "PX", "300"]), Reply::ok());
    await_gone(&cluster, "short");
    assert_eq!(all_say(&cluster, &["GET", "long"]), Reply::bulk("w"));

    // The next leader is ten minutes behind, twenty behind the log: time stands still rather than going back.
    let fault = load.fault("the next leader's clock is 20 minutes behind the last one's");
    cluster.stop(1);
    cluster.flags[0] = vec!["--clock-skew=-10min".to_string()];
    cluster.start_node(1);
    make_node_1_lead(&mut cluster);
    fault.recovered(ENOUGH);
    assert_eq!(all_say(&cluster, &["EXISTS", "short"]), Reply::Integer(0));
    assert_eq!(all_say(&cluster, &["GET", "long"]), Reply::bulk("w"));
    assert_eq!(ask(&cluster, 4, &["PEXPIRE", "long", "0"]), Reply::Integer(1));
    assert_eq!(all_say(&cluster, &["EXISTS", "long"]), Reply::Integer(0));
    load.finish(&cluster);
}
