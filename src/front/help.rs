//! HELP of the commands that have subcommands, in the form of Redis: a line a subcommand with its arguments, and one that says what it does.

/// A subcommand with its arguments, and what it does.
type Line = (&'static str, &'static str);

const HELPS: [(&str, &[Line]); 8] = [
    ("ACL", &[("WHOAMI", "The user of this connection.")]),
    (
        "CLIENT",
        &[
            ("GETNAME", "The name of this connection."),
            ("GETREDIR", "-1: nothing is tracked, so nothing is redirected."),
            ("ID", "The number of this connection."),
            ("INFO", "What is known of this connection."),
            (
                "LIST [TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID <id> [<id> ...]]",
                "What is known of the connections of this node.",
            ),
            ("NO-EVICT ON|OFF", "Accepted: no connection is closed to save memory while it reads."),
            ("NO-TOUCH ON|OFF", "Accepted: no key has a time of use."),
            ("REPLY ON|OFF|SKIP", "Whether commands of this connection are answered."),
            ("SETINFO LIB-NAME|LIB-VER <value>", "Notes which library uses this connection."),
            ("SETNAME <name>", "Names this connection."),
        ],
    ),
    (
        "CLUSTER",
        &[
            ("INFO", "How the cluster is."),
            ("KEYSLOT <key>", "The hash slot of a key."),
            ("MYID", "The name of this node."),
            ("MYSHARDID", "The name of the one shard."),
            ("NODES", "The nodes, the leader as master."),
            ("SHARDS", "The one shard and its nodes."),
            ("SLOTS", "The nodes that serve the slots: each serves all of them."),
        ],
    ),
    (
        "COMMAND",
        &[
            ("(no subcommand)", "Details of all commands."),
            ("COUNT", "How many commands there are."),
            ("DOCS [<name> ...]", "What commands do."),
            ("INFO [<name> ...]", "Details of commands."),
            ("LIST", "The names of all commands."),
        ],
    ),
    (
        "CONFIG",
        &[(
            "GET <pattern> [<pattern> ...]",
            "Settings. They are read from the configuration when the node starts.",
        )],
    ),
    (
        "LATENCY",
        &[
            ("HISTOGRAM [<name> ...]", "Empty: latencies are in the metrics of the service plane."),
            ("HISTORY <event>", "Empty, as above."),
            ("LATEST", "Empty, as above."),
            ("RESET [<event> ...]", "0: nothing is reset."),
        ],
    ),
    ("MODULE", &[("LIST", "Empty: there are no modules.")]),
    (
        "SLOWLOG",
        &[
            ("GET [<count>]", "Empty: slow turns are events of the log lines."),
            ("LEN", "0, as above."),
            ("RESET", "Accepted: there is nothing to forget."),
        ],
    ),
];

/// The lines of `<command> HELP`, if it has subcommands.
pub(super) fn of(command: &[u8]) -> Option<impl Iterator<Item = String> + Clone + use<>> {
    let (name, lines) = HELPS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(command))?;
    let head = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let own: &(&str, &str) = &("HELP", "Print this help.");
    let both = lines.iter().chain([own]).flat_map(|(what, does)| [what.to_string(), format!("    {does}")]);
    Some(std::iter::once(head).chain(both))
}
