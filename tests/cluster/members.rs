//! A PBFT group whose members and keys an operator changes while clients write, by the commands that an operator has.

use super::harness::{Cluster, Outside, Reply, await_some, http_get, quorate};
use super::load::Load;
use quorate::admin::Token;
use quorate::admin::client::{Client as Plane, ClientError};
use quorate::base::GROUP_ONE;
use quorate::crypto::{ClusterId, SigningKey};
use quorate::wire::members::{Amendment, Membership, Signed};
use serde_json::Value;
use std::time::Duration;

/// Writes after a change that show that the group goes on.
const ENOUGH: usize = 200;
const WAIT: Duration = Duration::from_secs(20);

/// Runs `quorate ctl`, as whoever has a running node's configuration and the operator's key does.
pub fn ctl(cluster: &Cluster, words: &[&str]) -> (Option<i32>, Value, String) {
    let node = cluster.running().first().copied().unwrap_or(1);
    let out = quorate()
        .args(["-o", "json", "ctl", "--config"])
        .arg(cluster.config_path(node))
        .args(words)
        .output()
        .expect("quorate runs");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code(), serde_json::from_slice(&out.stdout).unwrap_or_default(), text)
}

/// A change that comes into force: who is in the group then.
pub fn change(cluster: &Cluster, words: &[&str]) -> Vec<u64> {
    let (code, told, why) = ctl(cluster, words);
    assert_eq!(code, Some(0), "{words:?}: {why}");
    told["members"].as_array().expect("members").iter().filter_map(Value::as_u64).collect()
}

/// Why a change does not come into force.
fn refusal(cluster: &Cluster, words: &[&str]) -> String {
    let (code, told, why) = ctl(cluster, words);
    assert!(code != Some(0), "{words:?}: {told}");
    why
}

fn members(cluster: &Cluster, node: usize) -> Value {
    let (status, text) = http_get(&cluster.admins[node - 1], "/members").expect("it lives");
    assert_eq!(status, 200);
    serde_json::from_str(&text).expect("JSON")
}

/// Whom a node has links to.
fn linked(cluster: &Cluster, node: usize) -> Vec<u64> {
    let (_, text) = http_get(&cluster.admins[node - 1], "/statusz").expect("it lives");
    let standing: Value = serde_json::from_str(&text).expect("JSON");
    let up = standing["peers"].as_array().expect("peers").iter().filter(|peer| peer["up"] == true);
    up.filter_map(|peer| peer["node"].as_u64()).collect()
}

fn start(name: &str, nodes: usize) -> Cluster {
    let mut cluster = Cluster::init_pbft(name, nodes, 0);
    (1..=nodes).for_each(|node| cluster.start_node(node));
    cluster.await_leader();
    cluster
}

/// Makes a newcomer's files; gives back its configuration.
fn join(cluster: &mut Cluster, id: usize) -> String {
    cluster.join(id);
    cluster.config_path(id).display().to_string()
}

#[test]
fn four_get_a_fifth_lose_one_replace_a_dead_one_and_change_a_key_under_load() {
    let mut cluster = start("members", 4);
    let load = Load::through(&cluster, vec![1, 2]);
    load.await_more(ENOUGH);

    let fifth = join(&mut cluster, 5);
    let fault = load.fault("a fifth node is let in");
    assert_eq!(change(&cluster, &["members", "add", "--member", &fifth]), [1, 2, 3, 4, 5]);
    cluster.start_node(5);
    cluster.await_all();
    fault.recovered(ENOUGH);
    await_some(
        || (linked(&cluster, 5) == [1, 2, 3, 4]).then_some(()),
        || format!("the fifth has links to {:?}", linked(&cluster, 5)),
    );

    let fault = load.fault("a node is removed");
    assert_eq!(change(&cluster, &["members", "remove", "--id", "4"]), [1, 2, 3, 5]);
    fault.recovered(ENOUGH);
    // It still runs, and is turned away.
    await_some(
        || [1, 2, 3, 5].iter().all(|node| !linked(&cluster, *node).contains(&4)).then_some(()),
        || "the removed node has no link".to_string(),
    );
    await_some(|| linked(&cluster, 4).is_empty().then_some(()), || format!("{:?}", linked(&cluster, 4)));
    assert_eq!(cluster.stop(4), Some(0));

    // The fifth counts: with the third dead, the group of four has no more than it needs.
    cluster.kill(3);
    let sixth = join(&mut cluster, 6);
    let fault = load.fault("a dead node is replaced");
    assert_eq!(change(&cluster, &["members", "replace", "--id", "3", "--member", &sixth]), [1, 2, 5, 6]);
    cluster.start_node(6);
    cluster.await_all();
    fault.recovered(ENOUGH);

    let key = || members(&cluster, 1)["members"][1]["key"].as_str().expect("digits").to_owned();
    let before = key();
    let fault = load.fault("the keys of a node are changed");
    assert_eq!(change(&cluster, &["keys", "rotate", "--id", "2"]), [1, 2, 5, 6]);
    fault.recovered(ENOUGH);
    assert_ne!(key(), before);
    let all = [1, 2, 5, 6]
        .map(|node| (node, [1, 2, 5, 6].into_iter().filter(|n| *n != node).collect::<Vec<u64>>()));
    for (node, others) in all {
        await_some(
            || (linked(&cluster, node as usize) == others).then_some(()),
            || format!("node {node} has links to {:?}", linked(&cluster, node as usize)),
        );
    }

    // Nobody's configuration says who is in the group now.
    let mut fault = load.fault("kill -9 of all members; started again");
    [1, 2, 5, 6].iter().for_each(|node| cluster.kill(*node));
    [1, 2, 5, 6].iter().for_each(|node| cluster.start_node(*node));
    fault.majority_is_back();
    fault.recovered(ENOUGH);
    for node in [1, 2, 5, 6] {
        assert_eq!(members(&cluster, node)["epoch"], 4, "node {node}");
    }
    cluster.await_all();
    let (code, told, why) = ctl(&cluster, &["status"]);
    let asked = told["nodes"].as_array().expect("a list").iter().map(|one| one["status"]["node"].as_u64());
    assert_eq!((code, asked.collect::<Vec<_>>()), (Some(0), [1, 2, 5, 6].map(Some).to_vec()), "{why}");
    assert!(
        told["nodes"].as_array().expect("a list").iter().all(|one| one["status"]["epoch"] == 4),
        "{told}"
    );
    load.finish(&cluster);
}

/// What a thief of the old key file has.
#[test]
fn a_node_that_shows_a_key_of_an_earlier_epoch_is_refused() {
    let mut cluster = start("members-keys", 4);
    change(&cluster, &["keys", "rotate", "--id", "3"]);
    let next = cluster.key_path(3, &cluster.dir).with_extension("key.next");
    assert_eq!(cluster.stop(3), Some(0));
    let aside = next.with_extension("aside");
    std::fs::rename(&next, &aside).expect("the next key lies there");
    cluster.start_node(3);
    await_some(
        || cluster.stderr(1).contains("proved a key with hash").then_some(()),
        || format!("node 1 refuses: {}", cluster.stderr(1)),
    );
    assert!(linked(&cluster, 3).is_empty());
    cluster.kill(3);
    std::fs::rename(&aside, &next).expect("it is ours");
    cluster.start_node(3);
    cluster.await_all();
    // The next change makes the key that is in force the first one, and another the next.
    change(&cluster, &["keys", "rotate", "--id", "3"]);
    cluster.await_all();
}

#[test]
fn what_an_operator_may_not_do_and_what_others_may_not_is_refused_with_its_cure() {
    let mut cluster = start("members-refused", 4);
    let below = refusal(&cluster, &["members", "remove", "--id", "4"]);
    assert!(
        below.contains("3 members bear at most 0 that lie, and f is 1; let another node in first"),
        "{below}"
    );
    let stranger = refusal(&cluster, &["members", "remove", "--id", "9"]);
    assert!(stranger.contains("node 9 is no member; the members of epoch 0 are 1, 2, 3, 4"), "{stranger}");
    let foreign = cluster.dir.join("foreign.key");
    let key_of = |seed: u8| SigningKey::from_entropy([seed; 32]);
    std::fs::write(&foreign, key_of(7).to_hex().as_str()).expect("the directory is ours");
    let open =
        refusal(&cluster, &["keys", "rotate", "--id", "1", "--operator-key", &foreign.display().to_string()]);
    assert!(open.contains("may be read by others"), "{open}");
    std::fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("it is ours");
    let other =
        refusal(&cluster, &["keys", "rotate", "--id", "1", "--operator-key", &foreign.display().to_string()]);
    assert!(other.contains("name the right one with --operator-key"), "{other}");

    // What the tool refuses to make, somebody who has the token may make by hand: the nodes look for themselves.
    change(&cluster, &["keys", "rotate", "--id", "1"]);
    let now = members(&cluster, 1);
    let bytes = quorate::base::hex::from_hex(now["membership"].as_str().expect("digits")).expect("digits");
    let now_in = Membership::take(&mut &bytes[..]).expect("a membership");
    let text = std::fs::read_to_string(cluster.dir.join("operator.key")).expect("init wrote it");
    let operator = SigningKey::parse(text.trim()).expect("digits");
    let cluster_id = ClusterId::parse(now["cluster"].as_str().expect("digits")).expect("digits");
    let number = |name: &str| now[name].as_u64().expect("a number");
    let amendment = |epoch: u64, cluster: ClusterId| Amendment {
        cluster,
        window: number("window"),
        checkpoint_every: number("checkpoint_every"),
        membership: Membership { epoch, ..now_in.clone() },
    };
    let token = Token::read(&cluster.dir.join("admin.token")).expect("init wrote it");
    let plane = Plane::new(&cluster.admins[1], WAIT, Some(token));
    let hand_in = |amendment: &Amendment, number: u64, key: &SigningKey| {
        plane.post_body("/members", &Signed::new(amendment, number, GROUP_ONE, key).bytes())
    };
    let why = |amendment: &Amendment, key: &SigningKey| match hand_in(amendment, 1, key) {
        Err(ClientError::Refused { status: 409, body, .. }) => body,
        other => panic!("{other:?}"),
    };
    let forged = why(&amendment(2, cluster_id), &key_of(7));
    assert!(forged.contains("not signed with the key that `cluster.operator` lists"), "{forged}");
    let repeated = why(&amendment(1, cluster_id), &operator);
    assert!(
        repeated.contains("it makes epoch 1, the group is in epoch 1, after which comes 2"),
        "{repeated}"
    );
    let elsewhere = why(&amendment(2, ClusterId([9; 16])), &operator);
    assert!(elsewhere.contains("it is for cluster"), "{elsewhere}");

    // Of two at once one comes into force.
    let other = Amendment {
        membership: Membership { faulty: 0, ..amendment(2, cluster_id).membership },
        ..amendment(2, cluster_id)
    };
    let both = [hand_in(&amendment(2, cluster_id), 1, &operator), hand_in(&other, 2, &operator)];
    assert!(both.iter().any(Result::is_ok), "{both:?}");
    await_some(
        || (1..=4).all(|node| members(&cluster, node)["epoch"] == 2).then_some(()),
        || "all are in epoch 2".to_string(),
    );
    let faulty: Vec<Value> = (1..=4).map(|node| members(&cluster, node)["f"].clone()).collect();
    assert!(faulty.iter().all(|f| *f == faulty[0]), "{faulty:?}");
    cluster.await_all();
    assert_eq!(members(&cluster, 1)["epoch"], 2);
    let newcomer = join(&mut cluster, 5);
    let early = quorate().args(["start", "--config", &newcomer]).output().expect("quorate runs");
    let early = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(early.contains("`quorate ctl members add` writes it"), "{early}");
}

#[test]
fn members_of_a_raft_group_stay_as_they_are() {
    let cluster = Cluster::init("members-raft", 3);
    let why = refusal(&cluster, &["members", "remove", "--id", "3"]);
    assert!(why.contains("the members of a raft group are those of `init`"), "{why}");
}

/// The native clients of a cluster, and where they take load.
fn native(cluster: &Cluster, ids: &[u8]) -> (Vec<Outside>, Vec<(usize, String)>) {
    let clients: Vec<Outside> = ids.iter().map(|id| cluster.start_client(*id)).collect();
    let places = ids.iter().zip(&clients).map(|(id, client)| (usize::from(*id), client.address.clone()));
    let places = places.collect();
    (clients, places)
}

#[test]
fn native_clients_go_on_while_the_first_members_are_replaced_to_the_last() {
    let mut cluster = Cluster::init_pbft("members-native", 4, 2);
    (1..=4).for_each(|node| cluster.start_node(node));
    cluster.await_leader();
    let (clients, places) = native(&cluster, &[64, 65]);
    let load = Load::at(places);
    load.await_more(ENOUGH);
    for (leaves, comes) in [(1, 5), (2, 6), (3, 7), (4, 8)] {
        let newcomer = join(&mut cluster, comes);
        let fault = load.fault(&format!("native clients: first member {leaves} is replaced by {comes}"));
        let words = ["members", "replace", "--id", &leaves.to_string(), "--member", &newcomer];
        let now = change(&cluster, &words);
        assert!(now.contains(&(comes as u64)) && !now.contains(&(leaves as u64)), "{now:?}");
        cluster.start_node(comes);
        assert_eq!(cluster.stop(leaves), Some(0));
        cluster.await_all();
        fault.recovered(ENOUGH);
    }
    let fault = load.fault("native clients: the keys of a later member are changed");
    assert_eq!(change(&cluster, &["keys", "rotate", "--id", "6"]), [5, 6, 7, 8]);
    fault.recovered(ENOUGH);
    // Of four that they never heard of at their start, one may fail.
    let fault = load.fault("native clients: kill -9 of a later member");
    cluster.kill(8);
    fault.recovered(ENOUGH);
    load.finish(&cluster);
    drop(clients);

    // Nobody is left whom a configuration names. Those who came later have handed on how they came about, and it needs no trust.
    let charter = cluster.dir.join("members.charter").display().to_string();
    let (code, told, why) = ctl(&cluster, &["members", "charter", "--to", &charter]);
    assert_eq!((code, &told["epoch"]), (Some(0), &5.into()), "{why}");
    let later = cluster.start_client_with(64, &["--charter", &charter]);
    let written = || later.client().command(&["SET", "key", "value"]).ok().filter(|r| *r == Reply::ok());
    await_some(written, || "a client that begins now".to_string());
    let text = std::fs::read_to_string(&charter).expect("it was written");
    std::fs::write(&charter, text.lines().skip(1).collect::<Vec<_>>().join("\n")).expect("it is ours");
    let refused = cluster.client_command(65, &["--charter", &charter]).output().expect("quorate runs");
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("signed there by others than the members before it"), "{refused}");
}

#[test]
fn verified_answers_and_fast_reads_follow_how_many_may_lie() {
    let mut cluster = Cluster::init_pbft("members-verify", 4, 1);
    for node in 1..=4 {
        for (key, value) in
            [("verify", true.into()), ("fast_reads", true.into()), ("client_auth", "mac".into())]
        {
            cluster.set(node, "group", key, toml::Value::clone(&value));
        }
    }
    (1..=4).for_each(|node| cluster.start_node(node));
    cluster.await_leader();
    let (_clients, mut places) = native(&cluster, &[64]);
    places.extend([1, 2].map(|node| (node, cluster.clients[node - 1].clone())));
    let load = Load::at(places);
    load.await_more(ENOUGH);
    for id in 5..=7 {
        let newcomer = join(&mut cluster, id);
        let faulty = if id == 7 { "2" } else { "1" };
        let fault = load.fault(&format!("verified: node {id} is let in, {faulty} may lie"));
        change(&cluster, &["members", "add", "--member", &newcomer, "--f", faulty]);
        cluster.start_node(id);
        cluster.await_all();
        fault.recovered(ENOUGH);
    }
    let f = |node| members(&cluster, node)["f"].as_u64();
    assert_eq!([1, 2, 7].map(f), [Some(2); 3]);
    let fault = load.fault("verified: kill -9 of two of seven of which two may lie");
    [3, 4].into_iter().for_each(|node| cluster.kill(node));
    fault.recovered(ENOUGH);
    // Five of seven had to agree; of the four that are left, three.
    for id in ["3", "4", "5"] {
        let fault = load.fault(&format!("verified: node {id} is removed, 1 may lie"));
        change(&cluster, &["members", "remove", "--id", id, "--f", "1"]);
        fault.recovered(ENOUGH);
    }
    assert_eq!(cluster.stop(5), Some(0));
    cluster.kill(7);
    let fault = load.fault("verified: three of four are left");
    fault.recovered(ENOUGH);
    load.finish(&cluster);
}
