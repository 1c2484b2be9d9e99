//! Layers and relations, through one door: text of a file, variables and flags in, a resolved configuration or one sentence out.

use super::*;
use crate::crypto::SigningKey;
use std::path::Path;
use std::time::Duration;

const HEAD: &str = r#"
[cluster]
id = "000102030405060708090a0b0c0d0e0f"
[node]
id = 2
dir = "node-2"
"#;

fn member(id: u8, port: u16) -> String {
    format!(
        "[[cluster.members]]\nid = {id}\npeer = \"127.0.0.1:{port}\"\nclient = \"127.0.0.1:{}\"\nkey = \"{}\"\n",
        port + 1,
        format!("{id:02x}").repeat(32)
    )
}
fn file() -> String {
    format!("{HEAD}{}{}", member(1, 7000), member(2, 7100))
}
fn load(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Resolved, ConfigError> {
    let mut layers = Layers::from_text(text, Path::new("/etc/q/node.toml"))?;
    layers.add_environment(variables.iter().map(|(k, v)| (k.to_string(), v.to_string())))?;
    flags.iter().try_for_each(|(k, v)| layers.add_flag("--set", k, v))?;
    layers.resolve()
}
fn complaint(text: &str) -> String {
    load(text, &[], &[]).unwrap_err().to_string()
}

#[test]
fn nodes_of_one_group_agree_on_members_and_rules_and_on_nothing_that_is_their_own() {
    let one = load(&file(), &[], &[]).unwrap();
    let own = load(&file(), &[], &[("client.listen", "127.0.0.1:9")]).unwrap();
    assert_eq!((one.fingerprint(), one.membership()), (own.fingerprint(), own.membership()));
    let alone = load(&[HEAD, &member(2, 7000)].concat(), &[], &[]).unwrap();
    assert!(alone.fingerprint() != one.fingerprint() && alone.membership() != one.membership());
}

#[test]
fn who_may_change_the_members_of_a_group_is_agreed_on_too() {
    let key = |seed: u8| SigningKey::from_entropy([seed; 32]).public();
    let group = |operator: &[(&str, &str)]| {
        let signing = format!("signing_key = \"{}\"\n", key(2));
        let group = "[group]\nprotocol = \"pbft\"\n";
        load(&[HEAD, &member(2, 7000), &signing, group].concat(), &[], operator)
    };
    let named = |key: &str| group(&[("cluster.operator", key)]);
    let none = group(&[]).unwrap();
    let [one, other] = [7, 8].map(|seed| named(&key(seed).to_string()).unwrap());
    for (a, b) in [(&none, &one), (&one, &other)] {
        assert!(a.fingerprint() != b.fingerprint() && a.membership() != b.membership());
    }
    let weak = named(&format!("01{}", "00".repeat(31))).unwrap_err().to_string();
    assert!(weak.contains("`cluster.operator` is 01") && weak.contains("no key that a signature"), "{weak}");
}

#[test]
fn defaults_fill_in_and_relative_paths_start_at_the_file() {
    let config = load(&file(), &[], &[]).unwrap();
    assert_eq!(config.node.dir, Path::new("/etc/q/node-2"));
    assert_eq!(config.node.key_file, Path::new("/etc/q/node-2/key"));
    assert_eq!(config.admin.token_file, Path::new("/etc/q/admin.token"));
    assert_eq!(config.client.listen, "127.0.0.1:7101");
    assert_eq!(config.peer.listen, "127.0.0.1:7100");
    assert_eq!(config.raft.heartbeat, Duration::from_millis(50));
    assert_eq!(config.raft.max_log_entries_per_append, 100);
    assert_eq!(config.raft.snapshot_threshold, 10_000);
    assert_eq!(config.log.durability, Durability::QuorumSync);
    assert_eq!(config.own_member().key.0, [2; 32]);
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let text = format!("{}[raft]\nheartbeat = \"40ms\"\n", file());
    let variable = ("QUORATE_RAFT__HEARTBEAT", "30ms");
    let heartbeat = |v: &[_], f: &[_]| load(&text, v, f).unwrap().raft.heartbeat.as_millis();
    assert_eq!(heartbeat(&[], &[]), 40);
    assert_eq!(heartbeat(&[variable], &[]), 30);
    assert_eq!(heartbeat(&[variable], &[("raft.heartbeat", "20ms")]), 20);
    assert_eq!(
        heartbeat(&[("QUORATE_HOME", "x"), ("HOME", "y")], &[]),
        40,
        "others' variables are left alone"
    );
}

#[test]
fn every_value_remembers_where_it_came_from() {
    let mut layers =
        Layers::from_text(&format!("{}[raft]\nheartbeat = \"40ms\"\n", file()), Path::new("n.toml")).unwrap();
    layers.add_environment([("QUORATE_LOG__DURABILITY".to_owned(), "none".to_owned())]).unwrap();
    let origin = |key: &str| layers.all().find(|(k, ..)| k.key == key).unwrap().2.to_string();
    assert_eq!(origin("raft.heartbeat"), "n.toml:18");
    assert_eq!(origin("log.durability"), "environment QUORATE_LOG__DURABILITY");
    assert_eq!(origin("raft.election_min"), "default");
    assert_eq!(layers.all().count(), knobs::KNOBS.len());
}

#[test]
fn every_default_of_the_table_passes_its_own_limits() {
    let mut layers = Layers::from_text(&file(), Path::new("n.toml")).unwrap();
    for knob in knobs::KNOBS {
        if let knobs::Fallback::Value(text) = knob.fallback {
            layers.add_flag("--set", knob.key, text).unwrap();
        }
    }
    assert_eq!(layers.resolve().unwrap().raft, load(&file(), &[], &[]).unwrap().raft);
}

#[test]
fn an_unknown_key_names_its_line_and_the_key_that_was_meant() {
    assert_eq!(
        complaint(&format!("{}[raft]\nhartbeat = \"40ms\"\n", file())),
        "/etc/q/node.toml:18: unknown key `raft.hartbeat`; did you mean `raft.heartbeat`?"
    );
    assert_eq!(
        complaint("colour = 3\n"),
        "/etc/q/node.toml:1: unknown key `colour`; `quorate config show` lists all keys"
    );
    assert!(complaint(&file().replace("peer =", "pear =")).contains("did you mean `peer`?"));
    let error = load(&file(), &[("QUORATE_RAFT__ELECTION_MINN", "1s")], &[]).unwrap_err().to_string();
    assert!(error.starts_with("environment QUORATE_RAFT__ELECTION_MINN: unknown key"), "{error}");
    assert!(error.ends_with("did you mean `raft.election_min`?"), "{error}");
}

#[test]
fn a_bad_value_names_the_value_the_limit_and_the_cure() {
    for (line, parts) in [
        (
            "[raft]\nheartbeat = \"75ms\"",
            ["is 75ms", "below half of raft.election_min (150ms)", "lower it, or raise"],
        ),
        ("[raft]\nheartbeat = 75", ["is 75,", "from 1ms to 30s", "choose a value in that range"]),
        (
            "[raft]\nelection_min = \"400ms\"",
            ["is 400ms", "be below raft.election_max (300ms)", "raise the other"],
        ),
        ("[raft]\nmax_log_entries_per_append = 0", ["is 0", "from 1 to 512", "choose"]),
        ("[log]\nsegment_bytes = \"1MiB\"", ["is 1MiB", "from 4MiB to 1GiB", "choose"]),
        ("[log]\nsegment_bytes = 4194305", ["is 4194305", "a multiple of 4KiB", "MiB"]),
        ("[log]\ndurability = \"maybe\"", ["is maybe", "one of quorum-sync, none", "write one"]),
        ("[group]\nprotocol = \"rafd\"", ["is rafd", "one of raft", "write one"]),
        ("[placement]\npin = \"yes\"", ["is yes", "true or false", "write one"]),
        ("[client]\nlisten = \"localhost\"", ["is localhost", "host:port", "like 127.0.0.1:7301"]),
        ("[client]\nlisten = \"0.0.0.0:6379\"", ["is 0.0.0.0:6379", "needs a password", "--insecure"]),
        ("[client]\npassword = \"\"", ["is (hidden)", "at least one character", "leave the key out"]),
        ("[store]\nmaxmemory = 1.5", ["of type float", "a decimal number", "write it like"]),
    ] {
        let error = complaint(&format!("{}{line}\n", file()));
        assert!(
            error.starts_with("/etc/q/node.toml:18: ") || error.starts_with("/etc/q/node.toml:17: "),
            "{error}"
        );
        parts.iter().for_each(|part| assert!(error.contains(part), "{error} lacks {part}"));
    }
}

#[test]
fn native_clients_have_ids_above_all_members_and_keys_of_their_own_and_ask_for_a_pbft_group() {
    let signing = crate::crypto::SigningKey::from_entropy([9; 32]).public();
    let pbft = file().replace("key = \"0", &format!("signing_key = \"{signing}\"\nkey = \"0"));
    let pbft = format!("[group]\nprotocol = \"pbft\"\n{pbft}");
    let client = |id: u8, key: u8| {
        let key = format!("{key:02x}").repeat(32);
        format!("[[cluster.clients]]\nid = {id}\nkey = \"{key}\"\nsigning_key = \"{signing}\"\n")
    };
    let with = |clients: &str| load(&format!("{pbft}{clients}"), &[], &[]);
    let clients = with(&format!("{}{}", client(65, 5), client(64, 4))).unwrap().cluster.clients;
    assert_eq!(clients.iter().map(|c| c.id.0).collect::<Vec<_>>(), [64, 65]);
    let refused = |clients: &str| with(clients).unwrap_err().to_string();
    assert!(
        refused(&client(63, 5)).contains("`cluster.clients.id` is 63, but clients have the ids 64 to 127")
    );
    assert!(refused(&client(128, 5)).contains("`cluster.clients.id`"));
    assert!(refused(&client(64, 2)).contains("`cluster.clients.key`"), "that of a member");
    assert!(refused(&format!("{}{}", client(64, 5), client(64, 6))).contains("`cluster.clients.id`"));
    let raft = load(&format!("{}{}", file(), client(64, 5)), &[], &[]).unwrap_err().to_string();
    assert!(raft.contains("group.protocol"), "{raft}");
}

#[test]
fn members_share_neither_id_nor_address_nor_key() {
    let three = |second: String| complaint(&format!("{HEAD}{}{}{second}", member(1, 7000), member(2, 7100)));
    assert!(three(member(1, 7200)).contains("`cluster.members.id` is 1, but member 1 has the same"));
    assert!(
        three(member(3, 7000))
            .contains("`cluster.members.peer` is 127.0.0.1:7000, but member 1 has the same")
    );
    assert!(
        three(member(3, 7001))
            .contains("`cluster.members.peer` is 127.0.0.1:7001, but member 1 has the same")
    );
    assert!(three(member(64, 7200)).contains("`cluster.members.id` is 64, but ids are 1 to 63"));
    assert!(three(member(0, 7200)).contains("ids are 1 to 63"));
    let same_key = member(3, 7200).replace(&"03".repeat(32), &"02".repeat(32));
    assert!(three(same_key).contains("`cluster.members.key`"));
    assert!(
        complaint(&file().replace("client = \"127.0.0.1:7001\"", "client = \"127.0.0.1:7000\""))
            .contains("also its peer")
    );
}

#[test]
fn what_has_no_default_is_asked_for() {
    assert!(
        complaint(HEAD).starts_with("`cluster.members` is not set; write one [[cluster.members]] a node")
    );
    let error = complaint(&file().replace("dir = \"node-2\"\n", ""));
    assert_eq!(
        error,
        "`node.dir` is not set; set it in the file, by QUORATE_NODE__DIR, or by --set node.dir=VALUE"
    );
    assert!(
        complaint(&file().replace("id = 2\ndir", "id = 9\ndir"))
            .contains("`node.id` is 9, but the members are 1, 2")
    );
    assert!(complaint(&file().replace("0001", "zz01")).contains("not a hexadecimal digit"));
    assert!(complaint("[raft\n").starts_with("/etc/q/node.toml:1: not valid TOML: "));
}

#[test]
fn an_open_port_is_allowed_with_a_password_or_on_demand() {
    let open = format!("{}[client]\nlisten = \"0.0.0.0:6379\"\n", file());
    assert!(load(&open, &[], &[("client.insecure", "true")]).unwrap().client.password.is_none());
    let with = load(&open, &[("QUORATE_CLIENT__PASSWORD", "sesame")], &[]).unwrap();
    assert_eq!(with.client.password, Some(Password("sesame".into())));
    assert!(!format!("{with:?}").contains("sesame"), "a password never shows");
    for local in ["127.0.0.1:1", "[::1]:1", "localhost:1", "/run/q.sock"] {
        assert!(load(&file(), &[], &[("client.listen", local)]).is_ok(), "{local}");
    }
}
