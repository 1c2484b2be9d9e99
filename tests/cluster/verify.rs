//! `group.verify`: real processes whose clients are told what `f + 1` replicas reply.

use super::harness::{Cluster, Reply, await_some, http_get};

fn cluster(name: &str) -> Cluster {
    let mut cluster = Cluster::init(name, 4);
    for node in 1..=4 {
        cluster.set(node, "group", "protocol", "pbft");
        cluster.set(node, "group", "verify", true);
    }
    (1..=4).for_each(|node| cluster.start_node(node));
    cluster.await_leader();
    cluster
}

fn reads_of_the_store(cluster: &Cluster, node: usize) -> u64 {
    let (_, text) = http_get(&cluster.admins[node - 1], "/metrics").expect("the service plane answers");
    let line = text.lines().find(|line| line.starts_with("quorate_store_reads_total"));
    line.expect("it is counted").rsplit(' ').next().expect("a value").parse().expect("a number")
}

#[test]
fn verified_answers_come_from_every_node_and_go_on_without_f_of_them() {
    let mut cluster = cluster("verify");
    cluster.await_all();
    for node in 1..=4 {
        let (mut client, key) = (cluster.client(node), format!("key:{node}"));
        assert_eq!(client.command(&["SET", &key, "one"]).unwrap(), Reply::ok());
        assert_eq!(client.command(&["APPEND", &key, "+two"]).unwrap(), Reply::Integer(7));
        assert_eq!(client.command(&["GET", &key]).unwrap(), Reply::bulk("one+two"));
        assert!(matches!(client.command(&["RANDOMKEY"]).unwrap(), Reply::Bulk(Some(_))));
        assert_eq!(reads_of_the_store(&cluster, node), 0, "no read is answered by one store alone");
    }
    cluster.kill(4);
    for node in 1..=3 {
        let mut client = cluster.client(node);
        let write =
            || client.command(&["INCR", "count"]).ok().filter(|reply| matches!(reply, Reply::Integer(_)));
        await_some(write, || format!("node {node} answers without node 4"));
    }
}

#[test]
fn a_node_that_nobody_confirms_gives_no_answer() {
    let mut cluster = cluster("verify-alone");
    let mut client = cluster.client(1);
    assert_eq!(client.command(&["SET", "key", "value"]).unwrap(), Reply::ok());
    cluster.kill(3);
    cluster.kill(4);
    let refused = client.command(&["GET", "key"]).unwrap();
    assert!(refused.is_error("INDETERMINATE") || refused.is_error("CLUSTERDOWN"), "{refused:?}");
}
