//! INFO, ROLE and CONFIG GET: facts and figures of this node in the form that clients and tools parse.

use super::local::{compose, other_subcommand};
use super::session::{Args, Desk, Session, wrong_number};
use super::view::REDIS_VERSION;
use crate::base::{NodeId, Reign};
use std::fmt::Write;

type Section = (&'static str, fn(&Desk) -> String);

/// In the order of Redis.
const SECTIONS: [Section; 8] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

pub(super) fn answer(session: &mut Session, desk: &mut Desk, args: Args) {
    let every = ["default", "all", "everything"];
    let all = args.len() == 1 || (1..args.len()).any(|at| every.iter().any(|name| args.is(at, name)));
    compose(session, desk, |desk, out| {
        let mut text = String::new();
        for (name, write) in SECTIONS {
            if all || (1..args.len()).any(|at| args.is(at, name)) {
                let gap = if text.is_empty() { "" } else { "\r\n" };
                line(&mut text, format_args!("{gap}# {name}"));
                text.push_str(&write(desk));
            }
        }
        out.verbatim(&text);
    });
}

fn line(text: &mut String, line: std::fmt::Arguments) {
    write!(text, "{line}\r\n").expect("a string takes whatever is written");
}

fn lines(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    pairs.iter().for_each(|(key, value)| line(&mut text, format_args!("{key}:{value}")));
    text
}

fn server(desk: &Desk) -> String {
    let uptime = desk.now.since(desk.started).as_secs();
    lines(&[
        ("redis_version", REDIS_VERSION.to_string()),
        ("quorate_version", env!("CARGO_PKG_VERSION").to_string()),
        ("redis_mode", "standalone".to_string()),
        ("arch_bits", usize::BITS.to_string()),
        ("multiplexing_api", "io_uring".to_string()),
        ("process_id", desk.view.process.to_string()),
        ("run_id", desk.view.run_name()),
        ("tcp_port", desk.view.own().map_or(0, |own| own.port).to_string()),
        ("server_time_usec", (desk.clock.0 * 1000).to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ])
}

fn clients(desk: &Desk) -> String {
    lines(&[
        ("connected_clients", desk.directory.iter().flatten().count().to_string()),
        ("maxclients", desk.options.connections_max.to_string()),
        ("blocked_clients", "0".to_string()),
    ])
}

fn memory(desk: &Desk) -> String {
    lines(&[
        ("used_memory", desk.memory.to_string()),
        ("maxmemory", desk.view.memory_max.to_string()),
        ("maxmemory_policy", "noeviction".to_string()),
    ])
}

fn persistence(desk: &Desk) -> String {
    lines(&[("loading", u8::from(desk.loading).to_string()), ("aof_enabled", "1".to_string())])
}

fn stats(desk: &Desk) -> String {
    let counters = &desk.counters;
    lines(&[
        ("total_connections_received", (counters.connections + counters.connections_refused).to_string()),
        ("total_commands_processed", counters.commands.to_string()),
        ("total_net_input_bytes", counters.bytes_in.to_string()),
        ("rejected_connections", counters.connections_refused.to_string()),
    ])
}

fn replication(desk: &Desk) -> String {
    let view = &desk.view;
    let (committed, applied) = (view.facts.committed.get(), view.facts.applied.get());
    let mut text = lines(&[("role", view.role().to_string())]);
    if view.leads() {
        let followers = view.followers(desk.now);
        line(&mut text, format_args!("connected_slaves:{}", followers.len()));
        for (place, follower) in followers.iter().enumerate() {
            let (host, port) = (&follower.member.host, follower.member.port);
            let state = if follower.restored { "send_bulk" } else { "online" };
            let (offset, lag) = (follower.matched, follower.silent.as_secs());
            line(
                &mut text,
                format_args!("slave{place}:ip={host},port={port},state={state},offset={offset},lag={lag}"),
            );
        }
    } else {
        let leader = view.leader().and_then(|node| view.member(node));
        text.push_str(&lines(&[
            ("master_host", leader.map_or(String::new(), |m| m.host.clone())),
            ("master_port", leader.map_or(0, |m| m.port).to_string()),
            ("master_link_status", if leader.is_some() { "up" } else { "down" }.to_string()),
            ("slave_repl_offset", applied.to_string()),
            ("slave_read_only", "0".to_string()),
            ("connected_slaves", "0".to_string()),
        ]));
    }
    let reign = Reign::of(view.facts.term.get());
    // All members share one history, so one name.
    text.push_str(&lines(&[
        ("master_replid", view.name_of(NodeId(0))),
        ("master_repl_offset", if view.leads() { committed } else { applied }.to_string()),
        ("quorate_node", view.node.to_string()),
        ("quorate_epoch", reign.epoch.to_string()),
        ("quorate_term", reign.term.to_string()),
    ]));
    text
}

fn cluster(_: &Desk) -> String {
    lines(&[("cluster_enabled", "0".to_string())])
}

fn keyspace(desk: &Desk) -> String {
    match desk.view.facts.keys.get() {
        0 => String::new(),
        keys => {
            let expires = desk.view.facts.expiring.get();
            lines(&[("db0", format!("keys={keys},expires={expires},avg_ttl=0"))])
        }
    }
}

/// ROLE: a leader tells of its followers, a follower of its leader.
pub(super) fn role(session: &mut Session, desk: &mut Desk) {
    compose(session, desk, |desk, out| {
        let view = &desk.view;
        let (committed, applied) = (view.facts.committed.get() as i64, view.facts.applied.get() as i64);
        if view.leads() {
            out.array(3);
            out.bulk(b"master");
            out.integer(committed);
            let followers = view.followers(desk.now);
            out.array(followers.len());
            for follower in followers {
                out.array(3);
                out.bulk(follower.member.host.as_bytes());
                out.bulk_integer(i64::from(follower.member.port));
                out.bulk_integer(follower.matched as i64);
            }
        } else {
            let leader = view.leader().and_then(|node| view.member(node));
            out.array(5);
            out.bulk(b"slave");
            out.bulk(leader.map_or("", |m| m.host.as_str()).as_bytes());
            out.integer(leader.map_or(0, |m| i64::from(m.port)));
            out.bulk(if leader.is_some() { b"connected" } else { b"connect" });
            out.integer(applied);
        }
    });
}

/// CONFIG GET of the settings that clients and tools ask for. They are set in the configuration file, so SET is an error.
pub(super) fn config(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(1, "SET") || args.is(1, "REWRITE") {
        return session.error(desk, "ERR settings are read from the configuration when the node starts");
    }
    if args.is(1, "RESETSTAT") {
        return session.error(desk, "ERR counters are read by collectors and are never reset");
    }
    if !args.is(1, "GET") {
        return other_subcommand(session, desk, args);
    }
    if args.len() < 3 {
        return session.error(desk, &wrong_number("config|get"));
    }
    compose(session, desk, |desk, out| {
        let wanted = |name: &str| args.from(2).any(|pattern| matches(pattern, name.as_bytes()));
        let found: Vec<(&str, String)> =
            settings(desk).into_iter().filter(|(name, _)| wanted(name)).collect();
        out.map(found.len());
        for (name, value) in found {
            out.bulk(name.as_bytes());
            out.bulk(value.as_bytes());
        }
    });
}

fn settings(desk: &Desk) -> [(&'static str, String); 11] {
    let own = desk.view.own();
    [
        ("appendfsync", "always".to_string()),
        ("appendonly", "yes".to_string()),
        ("bind", own.map_or(String::new(), |m| m.host.clone())),
        ("cluster-enabled", "no".to_string()),
        ("databases", "1".to_string()),
        ("maxclients", desk.options.connections_max.to_string()),
        ("maxmemory", desk.view.memory_max.to_string()),
        ("maxmemory-policy", "noeviction".to_string()),
        ("port", own.map_or(0, |m| m.port).to_string()),
        ("proto-max-bulk-len", desk.options.limits.bulk_bytes_max.to_string()),
        ("save", String::new()),
    ]
}

/// Whether a pattern of letters, `*` and `?` matches a name. On a mismatch only the last star gives way, so the time is at most the
/// product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&name[seen]) => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                at = place + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let cases =
            [("*", true), ("max*", true), ("MAXMEMORY", true), ("m?xmemory", true), ("*memory*", true)];
        for (pattern, expected) in cases.into_iter().chain([("max", false), ("", false), ("*x", false)]) {
            assert_eq!(matches(pattern.as_bytes(), b"maxmemory"), expected, "{pattern}");
        }
    }
}
