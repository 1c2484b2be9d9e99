//! CLUSTER: the nodes as a Redis cluster shows them. One shard holds all hash slots; the leader is its master.
//!
//! Every node answers every command, so that this serves clients that want a topology and obliges none.

use super::local::{compose, other_subcommand};
use super::session::{Args, Desk, Session, wrong_number};
use super::view::{Member, View};
use crate::base::NodeId;
use crate::resp::reply::Writer;
use std::fmt::Write;

const SLOTS: u16 = 16384;

pub(super) fn answer(session: &mut Session, desk: &mut Desk, args: Args) {
    let known = ["INFO", "MYID", "MYSHARDID", "SLOTS", "SHARDS", "NODES", "KEYSLOT"];
    let Some(name) = known.iter().find(|name| args.is(1, name)) else {
        return other_subcommand(session, desk, args);
    };
    let count = if *name == "KEYSLOT" { 3 } else { 2 };
    if args.len() != count {
        return session.error(desk, &wrong_number(&format!("cluster|{}", name.to_lowercase())));
    }
    compose(session, desk, |desk, out| match *name {
        "INFO" => out.verbatim(&info(&desk.view)),
        "MYID" => out.bulk(desk.view.name_of(desk.view.node).as_bytes()),
        "MYSHARDID" => out.bulk(desk.view.name_of(NodeId(0)).as_bytes()),
        "SLOTS" => slots(&desk.view, out),
        "SHARDS" => shards(&desk.view, out),
        "NODES" => out.verbatim(&nodes(&desk.view)),
        _ => out.integer(i64::from(key_slot(args.at(2)))),
    });
}

/// Who is shown as the master: the leader, or while there is none this node, which tells whoever asks it so.
fn master(view: &View) -> NodeId {
    view.leader().unwrap_or(view.node)
}

/// The members, the master first.
fn members(view: &View) -> impl Iterator<Item = &Member> {
    let master = master(view);
    let first = view.members.iter().filter(move |m| m.node == master);
    first.chain(view.members.iter().filter(move |m| m.node != master))
}

fn info(view: &View) -> String {
    let state = if view.leader().is_some() { "ok" } else { "fail" };
    let nodes = view.members.len();
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:1\r\ncluster_current_epoch:{term}\r\n\
         cluster_my_epoch:{term}\r\n",
        term = view.facts.term.get(),
    )
}

fn slots(view: &View, out: &mut Writer) {
    out.array(1);
    out.array(2 + view.members.len());
    out.integer(0);
    out.integer(i64::from(SLOTS - 1));
    for member in members(view) {
        out.array(4);
        out.bulk(member.host.as_bytes());
        out.integer(i64::from(member.port));
        out.bulk(view.name_of(member.node).as_bytes());
        out.array(0);
    }
}

fn shards(view: &View, out: &mut Writer) {
    out.array(1);
    out.map(2);
    out.bulk(b"slots");
    out.array(2);
    out.integer(0);
    out.integer(i64::from(SLOTS - 1));
    out.bulk(b"nodes");
    out.array(view.members.len());
    for member in members(view) {
        out.map(7);
        out.bulk(b"id");
        out.bulk(view.name_of(member.node).as_bytes());
        out.bulk(b"port");
        out.integer(i64::from(member.port));
        out.bulk(b"ip");
        out.bulk(member.host.as_bytes());
        out.bulk(b"endpoint");
        out.bulk(member.host.as_bytes());
        out.bulk(b"role");
        out.bulk(if member.node == master(view) { b"master" } else { b"replica" });
        out.bulk(b"replication-offset");
        out.integer(view.offset(member.node) as i64);
        out.bulk(b"health");
        out.bulk(b"online");
    }
}

fn nodes(view: &View) -> String {
    let mut lines = String::new();
    let leader = view.name_of(master(view));
    for member in members(view) {
        let leads = member.node == master(view);
        let myself = if member.node == view.node { "myself," } else { "" };
        let (role, of) = if leads { ("master", "-") } else { ("slave", leader.as_str()) };
        let slots = if leads { " 0-16383" } else { "" };
        let written = writeln!(
            lines,
            "{} {}:{}@0 {myself}{role} {of} 0 0 {} connected{slots}",
            view.name_of(member.node),
            member.host,
            member.port,
            view.facts.term.get(),
        );
        written.expect("a string takes whatever is written");
    }
    lines
}

/// The hash slot of a key: CRC16 of the key, or of what stands in its first pair of braces if that is not empty.
fn key_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|b| *b == b'}')?;
        (0 < close).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, bit by bit: asked for rarely.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3, "the check value of CRC-16/XMODEM");
        assert_eq!(key_slot(b"foo"), 12182);
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"{user1000}.followers"));
        assert_eq!(key_slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS, "empty braces do not count");
        assert_eq!(key_slot(b"foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
    }
}
