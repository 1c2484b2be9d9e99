//! A node is who its disk and its keys say, or it does not start, or it is not let in.

use super::harness::{Cluster, Reply, await_some, quorate};

const EXIT_IO: Option<i32> = Some(6);

fn start_and_end(cluster: &Cluster, node: usize) -> (Option<i32>, String) {
    let out =
        quorate().args(["start", "--config"]).arg(cluster.config_path(node)).output().expect("quorate runs");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn an_emptied_node_refuses_its_old_identity() {
    let mut cluster = Cluster::start("emptied", 3);
    cluster.kill(3);
    let data = cluster.data_dir(3);
    std::fs::remove_dir_all(&data).expect("it is ours");
    std::fs::create_dir_all(&data).expect("a directory");
    let (code, said) = start_and_end(&cluster, 3);
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains("superblock"), "it says why: {said}");
}

#[test]
fn anothers_disk_is_refused() {
    let mut cluster = Cluster::start("foreign", 3);
    cluster.kill(2);
    cluster.kill(3);
    let (two, three) = (cluster.data_dir(2), cluster.data_dir(3));
    std::fs::remove_dir_all(&three).expect("it is ours");
    std::fs::rename(&two, &three).expect("it is ours");
    let (code, said) = start_and_end(&cluster, 3);
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains("node 2") && said.contains("node 3"), "it names both nodes: {said}");
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused_with_its_place() {
    let mut cluster = Cluster::start("damage", 3);
    let mut client = cluster.client(1);
    for i in 0..200 {
        assert_eq!(
            client.command(&["SET", &format!("k{i}"), &"v".repeat(500)]).expect("the node lives"),
            Reply::ok()
        );
    }
    cluster.kill(3);
    let segment = flip_in_a_value(&cluster.data_dir(3), b'v');
    let (code, said) = start_and_end(&cluster, 3);
    assert_eq!(code, EXIT_IO, "{said}");
    let name = segment.file_name().expect("a file").to_string_lossy().into_owned();
    assert!(said.contains(&name), "it names {name}: {said}");
    assert_eq!(client.command(&["GET", "k7"]).expect("the others serve"), Reply::bulk(&"v".repeat(500)));
}

/// Changes a bit of the first value of so many equal letters in the log; the segment that has it. A segment's header is random bytes,
/// and single ones of them may be that letter.
pub fn flip_in_a_value(data: &std::path::Path, letter: u8) -> std::path::PathBuf {
    let mut segments: Vec<_> =
        walk(data).into_iter().filter(|p| p.extension().is_some_and(|e| e == "wal")).collect();
    segments.sort();
    for segment in segments {
        let mut bytes = std::fs::read(&segment).expect("a segment");
        if let Some(value) = bytes.windows(16).position(|window| window == [letter; 16]) {
            bytes[value] ^= 1;
            std::fs::write(&segment, bytes).expect("it is ours");
            return segment;
        }
    }
    panic!("no segment of {} has such a value", data.display());
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn a_node_with_a_wrong_key_is_not_let_in() {
    let mut cluster = Cluster::init("key", 3);
    // Node 3 gets a key that nobody knows: that of another cluster's node 3.
    let other = quorate()
        .args(["init", "--nodes", "3", "--base-port", "19000", "--dir"])
        .arg(cluster.dir.join("other"))
        .output();
    assert!(other.expect("quorate runs").status.success());
    let (mine, others) =
        (cluster.key_path(3, &cluster.dir.clone()), cluster.key_path(3, &cluster.dir.join("other")));
    std::fs::copy(others, mine).expect("keys are files");
    (1..=2).for_each(|node| cluster.start_node(node));
    let child = cluster.spawn_node(3);
    cluster.nodes[2] = Some(child);
    await_some(
        || [1, 2, 3].iter().any(|n| cluster.stderr(*n).contains("key")).then_some(()),
        || format!("somebody says that the key is wrong: {} / {}", cluster.stderr(1), cluster.stderr(3)),
    );
    assert!((1..=2).contains(&cluster.await_leader()), "the others go on without it");
}

#[test]
fn a_node_of_another_cluster_is_not_let_in() {
    let mut cluster = Cluster::init("cluster-id", 3);
    // Nodes 1 and 2 keep their identity; a node 3 of another cluster, which has the same keys' names and ports, comes along.
    let other = cluster.dir.join("other");
    let base = cluster.clients[0].rsplit(':').next().expect("a port").to_string();
    let out = quorate().args(["init", "--nodes", "3", "--base-port", &base, "--dir"]).arg(&other).output();
    assert!(out.expect("quorate runs").status.success());
    let (theirs, ours) = (cluster.config_at(&other, 3), cluster.config(3));
    let mut mixed = theirs.clone();
    for section in ["client", "admin", "peer"] {
        if let Some(value) = ours.get(section) {
            mixed.insert(section.to_string(), value.clone());
        }
    }
    // Same addresses, same peers, another cluster id and other keys.
    let members = ours["cluster"]["members"].clone();
    mixed["cluster"].as_table_mut().expect("a table").insert("members".to_string(), members);
    std::fs::write(other.join("node-3.toml"), mixed.to_string()).expect("it is ours");
    (1..=2).for_each(|node| cluster.start_node(node));
    let mut child = quorate()
        .args(["start", "--config"])
        .arg(other.join("node-3.toml"))
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(cluster.dir.join("node-3.stderr")).expect("a file"))
        .spawn()
        .expect("quorate runs");
    await_some(
        || [1, 2, 3].iter().any(|n| cluster.stderr(*n).contains("cluster")).then_some(()),
        || format!("somebody names the foreign cluster: {} / {}", cluster.stderr(1), cluster.stderr(3)),
    );
    let _ = child.kill();
    let _ = child.wait();
    assert!((1..=2).contains(&cluster.await_leader()), "the others go on without it");
}

/// Alone it would take writes by itself, over the log that it has in common with the others.
#[test]
fn a_node_that_is_given_other_members_refuses() {
    let mut cluster = Cluster::start("regrouped", 3);
    cluster.kill(1);
    let config = cluster.config_path(1);
    let text = std::fs::read_to_string(&config).expect("it has started with it");
    let (before, members) = text.split_once("[[cluster.members]]").expect("it lists them");
    let own =
        members.split("[[cluster.members]]").find(|member| member.contains("id = 1\n")).expect("itself");
    std::fs::write(&config, format!("{before}[[cluster.members]]{own}")).expect("it is ours");
    let (code, said) = start_and_end(&cluster, 1);
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains("has been a member of another group") && said.contains("put them back"), "{said}");
    std::fs::write(&config, text).expect("it is ours");
    cluster.start_node(1);
}
