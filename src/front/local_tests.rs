//! What the node answers by itself, in both versions of the protocol.

use crate::base::Instant;
use crate::front::Options;
use crate::front::session::tests::Client;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::types::OwnedFrame as Frame3;

fn with_password() -> Client {
    Client::with(Options { password: Some("sesame".into()), ..Options::at("") })
}

#[test]
fn simple_answers() {
    let mut client = Client::new();
    let cases = [
        ("PING", "+PONG\r\n"),
        ("PING hi", "$2\r\nhi\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO x", "$1\r\nx\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ("READONLY", "+OK\r\n"),
        ("READWRITE", "+OK\r\n"),
        ("MODULE LIST", "*0\r\n"),
        ("ACL WHOAMI", "$7\r\ndefault\r\n"),
        ("ACL NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try ACL HELP.\r\n"),
        ("SLOWLOG LEN", ":0\r\n"),
        ("LATENCY LATEST", "*0\r\n"),
        ("WAIT 2 100", ":1\r\n"),
        ("WAIT 2 -1", "-ERR timeout is negative\r\n"),
        ("CONFIG SET save x", "-ERR settings are read from the configuration when the node starts\r\n"),
        ("CONFIG GET maxmemory-pol*", "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"),
        ("CONFIG GET nosuch", "*0\r\n"),
        ("CLIENT ID", ":5\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME bob", "+OK\r\n"),
        ("CLIENT GETNAME", "$3\r\nbob\r\n"),
        ("CLIENT SETINFO lib-name redis-py", "+OK\r\n"),
        ("CLIENT SETINFO nosuch x", "-ERR Unrecognized option 'nosuch'\r\n"),
        ("CLIENT NO-EVICT on", "+OK\r\n"),
        ("CLIENT TRACKING on", "-ERR client-side caching is not supported by this server\r\n"),
        (
            "CLIENT MAINT_NOTIFICATIONS on",
            "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n",
        ),
        ("CLUSTER KEYSLOT foo", ":12182\r\n"),
        ("CLUSTER NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLUSTER HELP.\r\n"),
        ("COMMAND INFO nosuch", "*1\r\n*-1\r\n"),
    ];
    for (command, reply) in cases {
        assert_eq!(client.ask(command), reply, "{command}");
    }
}

#[test]
fn help_names_every_subcommand_that_is_answered() {
    let mut client = Client::new();
    let module = "*5\r\n+MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n+LIST\r\n+    Empty: there are no \
                  modules.\r\n+HELP\r\n+    Print this help.\r\n";
    assert_eq!(client.ask("module help"), module);
    for command in ["ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "LATENCY", "MODULE", "SLOWLOG"] {
        let help = client.ask(&format!("{command} HELP"));
        let names = help
            .lines()
            .filter_map(|line| line.strip_prefix('+'))
            .filter(|line| !line.starts_with([' ', '(']));
        for name in names.filter_map(|line| line.split(' ').next()).filter(|name| *name != command) {
            let said = client.ask(&format!("{command} {name}"));
            assert!(!said.contains("unknown subcommand"), "{command} {name}: {said}");
        }
        assert!(
            client.ask(&format!("{command} NOSUCH")).contains(&format!("Try {command} HELP")),
            "{command}"
        );
    }
}

#[test]
fn names_that_would_break_a_line_or_are_too_long_are_refused() {
    let mut client = Client::new();
    assert!(client.ask("CLIENT SETNAME \"a b\"").starts_with("-ERR Client names cannot contain spaces"));
    assert!(client.ask("CLIENT SETNAME \"a\\nb\"").starts_with("-ERR Client names cannot contain spaces"));
    assert!(client.ask(&format!("CLIENT SETNAME {}", "x".repeat(257))).starts_with("-ERR Client names"));
    assert!(client.ask("HELLO 3 SETNAME \"a b\"").starts_with("-ERR Client names"));
    assert_eq!(client.ask("CLIENT GETNAME"), "$-1\r\n", "and the version is still RESP2");
}

#[test]
fn without_the_password_only_the_door_opens() {
    let mut client = with_password();
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.\r\n");
    assert!(client.ask("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    assert!(client.ask("AUTH wrong").starts_with("-WRONGPASS "));
    assert!(client.ask("AUTH somebody sesame").starts_with("-WRONGPASS "));
    assert!(client.ask("HELLO 3 AUTH default wrong").starts_with("-WRONGPASS "));
    assert_eq!(client.desk.counters.authentications_failed, 3);
    assert_eq!(client.ask("AUTH sesame"), "+OK\r\n");
    assert!(client.ask("GET a").contains("Read"));
    assert_eq!(client.ask("RESET"), "+RESET\r\n");
    assert_eq!(client.ask("PING"), "-NOAUTH Authentication required.\r\n");
    assert!(client.ask("HELLO 3 AUTH default sesame SETNAME bob").starts_with("%7\r\n"));
    assert_eq!(client.ask("CLIENT GETNAME"), "$3\r\nbob\r\n");
    assert!(Client::new().ask("AUTH x").starts_with("-ERR AUTH <password> called without any password"));
    assert_eq!(Client::new().ask("AUTH default x"), "+OK\r\n");
}

#[test]
fn hello_decides_the_version_of_what_follows_and_of_itself() {
    let mut client = Client::new();
    assert!(client.ask("HELLO").starts_with("*14\r\n"));
    assert!(client.ask("HELLO 3").starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"));
    assert_eq!(client.ask("CLIENT GETNAME"), "_\r\n");
    assert_eq!(client.ask("HELLO 4"), "-NOPROTO unsupported protocol version\r\n");
    assert!(client.ask("HELLO x").starts_with("-ERR Protocol version is not an integer"));
    assert_eq!(client.ask("HELLO 2 NOSUCH"), "-ERR Syntax error in HELLO option 'NOSUCH'\r\n");
    assert_eq!(client.ask("CLIENT GETNAME"), "_\r\n", "a failed HELLO changes nothing");
    assert_eq!(client.ask("RESET"), "+RESET\r\n");
    assert_eq!(client.ask("CLIENT GETNAME"), "$-1\r\n");
}

#[test]
fn quit_is_answered_and_nothing_follows() {
    let mut client = Client::new();
    assert_eq!(client.ask("QUIT\r\nPING"), "+OK\r\n");
    assert!(client.session.closing);
}

#[test]
fn role_has_the_shape_of_redis() {
    let mut client = Client::new();
    let follower = |port: u16, at: u8| format!("*3\r\n$8\r\n10.0.0.1\r\n$4\r\n{port}\r\n$2\r\n{at}\r\n");
    let expected = format!("*3\r\n$6\r\nmaster\r\n:42\r\n*2\r\n{}{}", follower(7002, 42), follower(7003, 40));
    assert_eq!(client.ask("ROLE"), expected);
    client.desk.view.facts.leader.set(2);
    assert_eq!(
        client.ask("ROLE"),
        "*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:7002\r\n$9\r\nconnected\r\n:0\r\n"
    );
    client.desk.view.facts.leader.set(0);
    assert_eq!(client.ask("ROLE"), "*5\r\n$5\r\nslave\r\n$0\r\n\r\n:0\r\n$7\r\nconnect\r\n:0\r\n");
}

/// A follower counts as connected while it is heard, and what it holds is what it has said.
#[test]
fn a_leader_tells_of_its_followers_what_it_knows() {
    let mut client = Client::new();
    client.desk.now = Instant(5_000_000_000);
    assert!(client.ask("INFO replication").contains("connected_slaves:0\r\n"));
    assert!(client.ask("ROLE").ends_with(":42\r\n*0\r\n"));
    let third = client.desk.view.facts.followers[1].1.clone();
    third.heard.set(3_500_000_000);
    third.restored.set(1);
    let text = client.ask("INFO replication");
    assert!(text.contains("connected_slaves:1\r\n"));
    assert!(text.contains("slave0:ip=10.0.0.1,port=7003,state=send_bulk,offset=40,lag=1\r\n"), "{text}");
}

#[test]
fn a_client_is_idle_since_its_last_command() {
    let mut client = Client::new();
    client.ask("SET a 1");
    client.desk.directory.push(client.desk.directory[0].clone());
    client.desk.now = Instant(9_000_000_000);
    let lines = client.ask("CLIENT LIST");
    let shown: Vec<&str> = lines.lines().filter(|line| line.starts_with("id=")).collect();
    assert!(shown[0].contains(" age=9 idle=0 ") && shown[0].contains(" cmd=client "), "{}", shown[0]);
    assert!(shown[1].contains(" age=9 idle=9 ") && shown[1].contains(" cmd=set "), "{}", shown[1]);
}

#[test]
fn info_has_the_sections_that_are_asked_for() {
    let mut client = Client::new();
    let all = client.ask("INFO");
    for line in [
        "# Server",
        "redis_version:7.4.0",
        "loading:0",
        "role:master",
        "connected_slaves:2",
        "connected_clients:1",
    ] {
        assert!(all.contains(&format!("{line}\r\n")), "{line} is missing in {all}");
    }
    assert!(all.contains("slave0:ip=10.0.0.1,port=7002,state=online,offset=42,lag=0\r\n"));
    assert!(all.contains("slave1:ip=10.0.0.1,port=7003,state=online,offset=40,lag=0\r\n"));
    let some = client.ask("INFO replication keyspace");
    assert!(
        some.contains("# Replication\r\n") && some.contains("# Keyspace\r\n") && !some.contains("# Server")
    );
    assert_eq!(client.ask("INFO nosuch"), "$0\r\n\r\n");
}

#[test]
fn the_topology_names_every_node_once_and_the_leader_first() {
    let mut client = Client::new();
    client.desk.view.facts.leader.set(3);
    let slots = client.ask("CLUSTER SLOTS");
    assert!(
        slots.starts_with("*1\r\n*5\r\n:0\r\n:16383\r\n*4\r\n$8\r\n10.0.0.1\r\n:7003\r\n$40\r\n"),
        "{slots}"
    );
    let nodes = client.ask("CLUSTER NODES");
    assert_eq!(nodes.matches("myself,slave").count(), 1);
    assert_eq!(nodes.matches(" master - ").count(), 1);
    assert_eq!(nodes.matches("0-16383").count(), 1);
    assert!(client.ask("CLUSTER INFO").contains("cluster_state:ok\r\n"));
    client.desk.view.facts.leader.set(0);
    assert!(client.ask("CLUSTER INFO").contains("cluster_state:fail\r\n"));
}

#[test]
fn client_list_shows_who_asks() {
    let mut client = Client::new();
    client.ask("CLIENT SETNAME bob");
    let list = client.ask("CLIENT LIST");
    assert!(
        list.contains("id=5 addr=1.2.3.4:5 ") && list.contains(" name=bob ") && list.contains(" resp=2 ")
    );
    assert_eq!(client.ask("CLIENT LIST ID 6"), "$0\r\n\r\n");
    assert_eq!(client.ask("CLIENT LIST TYPE replica"), "$0\r\n\r\n");
    assert_eq!(client.ask("CLIENT LIST TYPE nosuch"), "-ERR Unknown client type\r\n");
    assert!(client.ask("CLIENT INFO").contains("id=5 "));
}

/// Every reply, whatever its shape, is one whole frame to an independent decoder.
#[test]
fn each_reply_is_one_frame_in_both_versions() {
    let commands = [
        "COMMAND",
        "COMMAND COUNT",
        "COMMAND LIST",
        "COMMAND DOCS",
        "COMMAND DOCS get set",
        "COMMAND INFO get nosuch",
        "INFO",
        "CONFIG GET *",
        "CLUSTER INFO",
        "CLUSTER MYID",
        "CLUSTER MYSHARDID",
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "CLUSTER NODES",
        "ROLE",
        "TIME",
        "HELLO",
        "CLIENT LIST",
        "CLIENT INFO",
        "SLOWLOG GET",
        "LATENCY HISTOGRAM",
        "WAIT 0 0",
        "nosuch \"\\r\\n\"",
    ];
    let mut client = Client::new();
    for command in commands {
        let reply = client.ask(command).into_bytes();
        let (frame, used) = redis_protocol::resp2::decode::decode(&reply).unwrap().unwrap();
        assert_eq!(used, reply.len(), "{command}");
        assert_eq!(matches!(frame, Frame2::Error(_)), command.starts_with("nosuch"));
    }
    client.ask("HELLO 3");
    for command in commands {
        let reply = client.ask(command).into_bytes();
        let (frame, used) = redis_protocol::resp3::decode::complete::decode(&reply).unwrap().unwrap();
        assert_eq!(used, reply.len(), "{command}");
        assert_eq!(matches!(frame, Frame3::SimpleError { .. }), command.starts_with("nosuch"));
    }
}
