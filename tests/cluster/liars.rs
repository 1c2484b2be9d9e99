//! PBFT groups of real processes of which as many nodes lie as the group bears (`start --byzantine`), while verified load runs through
//! the others: what is acknowledged stays, histories are linearizable, work goes on, and where a lie leaves proof the liar is named.

use super::harness::{Cluster, await_some, http_get, quorate};
use super::load::Load;
use super::members::{change, ctl};
use quorate::protocol::pbft::liars::Attack;
use std::collections::BTreeSet;

/// Writes after a fault that show that it is overcome.
const ENOUGH: usize = 200;

/// A group whose `liars` are ready to play these attacks in turn.
fn start(name: &str, nodes: usize, liars: &[usize], attacks: &[Attack], seed: u64) -> Cluster {
    let mut cluster = Cluster::init_pbft(name, nodes, 0);
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name()).collect();
    for liar in liars {
        let flags =
            ["--byzantine", &names.join(","), "--byzantine-waits", "--byzantine-seed", &seed.to_string()];
        cluster.flags[liar - 1] = flags.map(str::to_string).to_vec();
    }
    (1..=nodes).for_each(|node| cluster.start_node(node));
    cluster.await_leader();
    cluster
}

/// What a node counts under a name, summed over labels.
fn counted(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let (_, text) = http_get(&cluster.admins[node - 1], "/metrics").expect("the service plane answers");
    let values =
        text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
}

/// Against whom a node holds proof.
fn convicts(cluster: &Cluster, node: usize) -> BTreeSet<usize> {
    let (_, text) = http_get(&cluster.admins[node - 1], "/metrics").expect("the service plane answers");
    let lines = text.lines().filter(|line| line.starts_with("quorate_evidence_total"));
    let peers = lines.map(|line| line.split("peer=\"").nth(1).and_then(|rest| rest.split('"').next()));
    peers.map(|peer| peer.and_then(|peer| peer.parse().ok()).expect("a node")).collect()
}

/// A group of whose nodes some lie, under load through the others.
struct Siege {
    cluster: Cluster,
    load: Load,
    liars: Vec<usize>,
}

impl Siege {
    fn begin(cluster: Cluster, liars: &[usize]) -> Siege {
        let correct = (1..=cluster.nodes.len()).filter(|node| !liars.contains(node)).collect();
        let load = Load::through(&cluster, correct);
        load.await_more(ENOUGH);
        Siege { cluster, load, liars: liars.to_vec() }
    }

    fn lies(&self) -> u64 {
        self.liars.iter().map(|liar| counted(&self.cluster, *liar, "quorate_lies_total")).sum()
    }

    /// The liars play their next attack until the others have overcome it, and are honest again. In the midst of it `meanwhile` happens.
    fn endure(&self, attack: Attack, meanwhile: impl FnOnce(&Cluster)) {
        let (nodes, before) = (self.cluster.nodes.len(), self.lies());
        let fault = self.load.fault(&format!("{} by {} of {nodes}", attack.name(), self.liars.len()));
        self.liars.iter().for_each(|liar| self.cluster.signal(*liar, libc::SIGUSR1));
        meanwhile(&self.cluster);
        fault.recovered(ENOUGH);
        let lied = || (before < self.lies()).then_some(());
        await_some(lied, || format!("{} is played", attack.name()));
        let fault = self.load.fault(&format!("{} by {} of {nodes} ends", attack.name(), self.liars.len()));
        self.liars.iter().for_each(|liar| self.cluster.signal(*liar, libc::SIGUSR2));
        fault.recovered(ENOUGH);
    }

    /// Every correct node holds proof against this liar.
    fn is_convicted(&self, liar: usize) {
        for node in self.correct() {
            let known = || convicts(&self.cluster, node).contains(&liar).then_some(());
            await_some(known, || format!("node {node} has proof that {liar} lies"));
        }
    }

    fn correct(&self) -> impl Iterator<Item = usize> {
        (1..=self.cluster.nodes.len()).filter(|node| !self.liars.contains(node))
    }

    /// Nobody but liars is accused, and all proof holds by the keys of the configuration.
    fn end(self) {
        for node in self.correct() {
            let mut accused = convicts(&self.cluster, node);
            accused.retain(|accused| !self.liars.contains(accused));
            assert!(accused.is_empty(), "node {node} holds proof against the correct {accused:?}");
        }
        let admins: Vec<String> = self.correct().map(|node| self.cluster.admins[node - 1].clone()).collect();
        let mut command = quorate();
        command.args(["ctl", "evidence", "--verify", "--endpoints", &admins.join(","), "--config"]);
        let out = command.arg(self.cluster.config_path(self.correct().next().expect("somebody"))).output();
        let out = out.expect("quorate runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.load.finish(&self.cluster);
    }
}

/// Four nodes whose first primary plays an attack.
fn primary_of_four(attack: Attack, seed: u64) -> Siege {
    let cluster = start(attack.name(), 4, &[1], &[attack], seed);
    let siege = Siege::begin(cluster, &[1]);
    siege.endure(attack, |_| ());
    siege
}

#[test]
fn a_primary_of_four_that_says_nothing() {
    primary_of_four(Attack::Silent, 1).end();
}

#[test]
fn a_primary_of_four_that_says_nothing_to_some() {
    primary_of_four(Attack::Omitting, 2).end();
}

#[test]
fn a_primary_of_four_that_equivocates_is_convicted() {
    let siege = primary_of_four(Attack::Equivocating, 1);
    siege.is_convicted(1);
    siege.end();
}

#[test]
fn a_primary_of_four_that_is_slow() {
    primary_of_four(Attack::Slow, 1).end();
}

#[test]
fn a_primary_of_four_that_is_unfair() {
    primary_of_four(Attack::Unfair, 1).end();
}

#[test]
fn a_primary_of_four_that_forges_requests() {
    primary_of_four(Attack::ForgedRequests, 1).end();
}

#[test]
fn a_primary_of_four_whose_messages_are_a_little_wrong() {
    primary_of_four(Attack::Mutating, 1).end();
}

/// None of these costs the primary its place, so one group endures them all.
#[test]
fn a_node_of_four_that_lies_in_many_ways_in_turn() {
    use Attack::{FalseCheckpoints, FalseDecisions, Flooding, Replaying, TwoFaced};
    let attacks = [TwoFaced, Replaying, Flooding, FalseDecisions, FalseCheckpoints];
    let siege = Siege::begin(start("in-turn", 4, &[1], &attacks, 1), &[1]);
    attacks.iter().for_each(|attack| siege.endure(*attack, |_| ()));
    siege.is_convicted(1);
    siege.end();
}

/// The primary stands still until `liar` has lied of another view. (With one of four standing still and one that lies nobody is a
/// quorum: the first is needed again.)
fn until_another_view(liar: usize) -> impl FnOnce(&Cluster) {
    move |cluster| {
        let before = counted(cluster, liar, "quorate_lies_total");
        cluster.signal(1, libc::SIGSTOP);
        let lies = || (before < counted(cluster, liar, "quorate_lies_total")).then_some(());
        await_some(lies, || format!("node {liar} lies of another view"));
        cluster.signal(1, libc::SIGCONT);
    }
}

#[test]
fn a_new_primary_of_four_that_leaves_out_what_binds_it_is_convicted() {
    let siege = Siege::begin(start("omits", 4, &[2], &[Attack::OmitsPrepared], 1), &[2]);
    siege.endure(Attack::OmitsPrepared, until_another_view(2));
    siege.is_convicted(2);
    siege.end();
}

#[test]
fn a_node_of_four_whose_view_changes_lie() {
    let siege = Siege::begin(start("changes", 4, &[3], &[Attack::FalseChanges], 1), &[3]);
    siege.endure(Attack::FalseChanges, until_another_view(3));
    siege.end();
}

#[test]
fn two_primaries_of_seven_that_equivocate_are_convicted() {
    let siege = Siege::begin(start("seven", 7, &[1, 2], &[Attack::Equivocating], 1), &[1, 2]);
    siege.endure(Attack::Equivocating, |_| ());
    siege.is_convicted(1);
    siege.end();
}

#[test]
fn who_may_not_lie_does_not_start() {
    let cluster = Cluster::init("honest", 4);
    let refused = |more: &[&str]| {
        let mut command = quorate();
        command.args(["start", "--config"]).arg(cluster.config_path(1)).args(more);
        let out = command.output().expect("quorate runs");
        assert_eq!(out.status.code(), Some(2));
        String::from_utf8(out.stderr).expect("text")
    };
    assert!(refused(&["--byzantine", "silent"]).contains("group.protocol"));
    assert!(refused(&["--byzantine", "parting"]).contains("two-faced"));
}

#[test]
fn a_bench_says_what_a_group_still_does_while_one_lies() {
    let mut command = quorate();
    command.args(["bench", "-o", "json", "--no-results", "--attack", "equivocating", "--nodes", "4"]);
    let out =
        command.args(["-c", "4", "-P", "4", "-t", "3s", "--warm-up", "500ms"]).output().expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let endured = &report["endured"];
    assert_eq!((endured["attack"].as_str(), endured["liars"].as_u64()), (Some("equivocating"), Some(1)));
    for figure in ["lies", "calm_per_s", "attacked_per_s"] {
        assert!(endured[figure].as_f64().is_some_and(|value| 0.0 < value), "{figure} of {endured}");
    }
}

/// What it signs then names an epoch of which no configuration knows.
#[test]
fn a_primary_that_lies_after_the_members_have_changed_is_convicted_by_what_follows_from_the_first() {
    let cluster = start("equivocating-later", 4, &[1], &[Attack::Equivocating], 41);
    change(&cluster, &["keys", "rotate", "--id", "3"]);
    cluster.await_all();
    let siege = Siege::begin(cluster, &[1]);
    siege.endure(Attack::Equivocating, |_| ());
    siege.is_convicted(1);
    let cluster = &siege.cluster;
    let from = cluster.data_dir(2).join("evidence").display().to_string();
    let offline = ["evidence", "--verify", "--from", &from];
    let (code, _, why) = ctl(cluster, &offline);
    assert_eq!(code, Some(8), "{why}");
    assert!(why.contains("the keys of node 1 are not known") && why.contains("beyond epoch 0"), "{why}");
    let charter = cluster.dir.join("members.charter").display().to_string();
    let (code, _, why) = ctl(cluster, &["members", "charter", "--to", &charter]);
    assert_eq!(code, Some(0), "{why}");
    let (code, told, why) = ctl(cluster, &[&offline[..], &["--charter", &charter]].concat());
    assert_eq!(code, Some(0), "{why}");
    let proofs = told["evidence"].as_array().expect("a list");
    assert!(proofs.iter().any(|one| one["convicts"] == true && one["epoch"] == 1), "{told}");
    siege.end();
}
