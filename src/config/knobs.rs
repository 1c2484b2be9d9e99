//! The table of all settings: one row each, with its kind and limits, its default, what it does and what it costs.

use super::limits;

/// What values a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Free text.
    Text,
    /// `host:port`, or a path with a `/` in it (Unix socket).
    Address,
    /// A path; a relative one starts at the directory of the configuration file.
    Path,
    /// `true` or `false`.
    Boolean,
    /// A whole number within limits.
    Integer {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number of bytes, such as `64MiB`, within limits.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A duration, such as `150ms`, within limits given in milliseconds.
    Duration {
        /// Shortest.
        min_ms: u64,
        /// Longest.
        max_ms: u64,
    },
    /// One of a few words.
    OneOf(&'static [&'static str]),
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// This value.
    Value(&'static str),
    /// What these words say; computed when resolved.
    Derived(&'static str),
    /// Nothing: it has to be set.
    Required,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// `section.name`.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub fallback: Fallback,
    /// What it does, and what it costs.
    pub help: &'static str,
    /// Never printed.
    pub secret: bool,
}

const fn knob(key: &'static str, kind: Kind, fallback: Fallback, help: &'static str) -> Knob {
    Knob { key, kind, fallback, help, secret: false }
}
const fn secret(key: &'static str, kind: Kind, fallback: Fallback, help: &'static str) -> Knob {
    Knob { key, kind, fallback, help, secret: true }
}
const fn integer(min: usize, max: usize) -> Kind {
    Kind::Integer { min: min as u64, max: max as u64 }
}
const fn size(min: usize, max: usize) -> Kind {
    Kind::Size { min: min as u64, max: max as u64 }
}
const fn duration(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Duration { min_ms, max_ms }
}

use Fallback::{Derived, Required, Value};
use Kind::{Address, Boolean, OneOf, Path, Text};
use limits::{KIB, MIB};

/// The array of tables that names the members; not a knob, because it has a shape of its own.
pub const MEMBERS_KEY: &str = "cluster.members";
/// The keys of one member.
pub const MEMBER_KEYS: &[&str] = &["id", "peer", "client", "admin", "key", "signing_key"];

/// The array of tables that names this node itself where it came later; as those of members.
pub const JOINED_KEY: &str = "cluster.joined";

/// The array of tables that names the native clients.
pub const CLIENTS_KEY: &str = "cluster.clients";
/// The keys of one client.
pub const CLIENT_KEYS: &[&str] = &["id", "key", "signing_key"];

/// All settings, in the order in which people read them.
pub const KNOBS: &[Knob] = &[
    knob(
        "cluster.id",
        Text,
        Required,
        "The cluster's name, 32 hexadecimal digits, drawn by `quorate init`; equal on all nodes.",
    ),
    knob(
        "cluster.operator",
        Text,
        Derived("none: members and keys stay as they are"),
        "The public half of the key that signs changes of a pbft group's members and keys; equal on all nodes.",
    ),
    knob("node.id", integer(1, limits::NODES_MAX), Required, "Which member this node is."),
    knob("node.dir", Path, Required, "Where superblock, log and snapshots live; put it on a real disk."),
    knob(
        "node.key_file",
        Path,
        Derived("`key` in node.dir"),
        "The node's private key, 64 hexadecimal digits, mode 0600.",
    ),
    knob(
        "node.charter_file",
        Path,
        Derived("`charter` in node.dir"),
        "Of a node that came later: which epoch it came in with, and who is in it. `quorate ctl members` writes it.",
    ),
    knob(
        "client.listen",
        Address,
        Derived("the member's client address"),
        "Where Redis clients connect. Beyond loopback it asks for a password.",
    ),
    secret(
        "client.password",
        Text,
        Derived("none"),
        "What AUTH asks for. Prefer client.password_file: a configuration is read by more people than a key.",
    ),
    knob("client.password_file", Path, Derived("none"), "A file whose first line is the password."),
    knob(
        "client.insecure",
        Boolean,
        Value("false"),
        "Allows a client port beyond loopback without a password. Whoever reaches it owns the data.",
    ),
    knob(
        "client.connections_max",
        integer(1, limits::CONNECTIONS_MAX),
        Value("10000"),
        "Connections of clients; more are told so and closed. Each costs about 2 KiB when idle.",
    ),
    knob(
        "client.bulk_bytes_max",
        size(KIB, limits::BULK_BYTES_MAX),
        Value("1MiB"),
        "Largest argument, so the largest value. Large values delay all that follow them.",
    ),
    knob(
        "client.arguments_max",
        integer(8, limits::ARGUMENTS_MAX),
        Value("16384"),
        "Most arguments of one command.",
    ),
    knob(
        "client.pipeline_max",
        integer(1, 1 << 20),
        Value("16384"),
        "Most commands of one connection that wait for an answer; what exceeds it stays in the socket.",
    ),
    knob(
        "client.output_bytes_max",
        size(64 * KIB, 1024 * MIB),
        Value("8MiB"),
        "Replies of one connection that may be unread or on their way. A command whose reply may not fit waits; a connection that then takes nothing for 30 s is closed. Costs that much memory a slow connection.",
    ),
    knob(
        "client.pending_bytes_max",
        size(MIB, 16 * 1024 * MIB),
        Value("64MiB"),
        "Bytes of commands of all connections that wait for an answer; past it `-OVERLOADED`. Costs that much memory.",
    ),
    knob("peer.listen", Address, Derived("the member's peer address"), "Where other nodes connect."),
    knob(
        "peer.encrypt",
        Boolean,
        Value("false"),
        "Encrypts frames between nodes; they are authenticated in any case. Costs about 1 us a KiB and side.",
    ),
    knob(
        "peer.queue_bytes_max",
        size(limits::FRAME_BYTES_MAX, 1024 * MIB),
        Value("32MiB"),
        "Bytes waiting for one peer; past it frames are dropped and sent anew later. Costs that much memory a slow peer.",
    ),
    knob(
        "peer.reconnect_min",
        duration(1, 10_000),
        Value("20ms"),
        "First pause before a lost peer is dialled again; doubles up to peer.reconnect_max.",
    ),
    knob(
        "peer.reconnect_max",
        duration(1, 60_000),
        Value("1s"),
        "Longest pause before a lost peer is dialled again.",
    ),
    knob(
        "admin.listen",
        Address,
        Derived("the member's admin address, or any free port on loopback"),
        "Where metrics, health and `quorate ctl` connect.",
    ),
    knob(
        "admin.token_file",
        Path,
        Derived("`admin.token` in the directory above node.dir"),
        "The token that requests which change anything need, mode 0600.",
    ),
    knob(
        "group.protocol",
        OneOf(&["raft", "pbft"]),
        Value("raft"),
        "The rules that the group obeys; `pbft` stays right while f of 3f+1 nodes lie. Never changes.",
    ),
    knob(
        "group.verify",
        Boolean,
        Value("false"),
        "In a pbft group a node answers its Redis clients only when f others have sent the same replies. Equal on all nodes. Reads go through the log; each reply costs a digest and a message at every node.",
    ),
    knob(
        "group.f",
        integer(0, (limits::NODES_MAX - 1) / 3),
        Derived("as many as the members bear, (n - 1) / 3"),
        "How many members of a pbft group may lie or fail. Equal on all nodes. Fewer than they bear make quorums smaller: ceil((n + f + 1) / 2).",
    ),
    knob(
        "group.sign_pre_prepares",
        Boolean,
        Value("true"),
        "A primary signs what it assigns, so that two values for one slot are a proof against it. Equal on all nodes. Costs a signature a message, and a check at each backup.",
    ),
    knob(
        "group.clock_skew_max",
        duration(1, 86_400_000),
        Value("10s"),
        "In a pbft group a backup refuses stamps that are so far ahead of its own clock: they would let keys expire too early.",
    ),
    knob(
        "group.request_timeout",
        duration(10, 60_000),
        Value("400ms"),
        "In a pbft group a primary that has not had a request executed for so long is replaced; doubles while views fail. Shorter is sooner back after a crash, and replaces a primary that is only slow.",
    ),
    knob(
        "group.client_auth",
        OneOf(&["sign", "mac"]),
        Value("sign"),
        "How native clients of a pbft group vouch for batches. `sign`: by Ed25519, one copy to the primary. `mac`: by the tag of the frame to each replica, a copy to each; what is sent again is signed, and so is everything of a client whose tags have held the group up. Equal on all nodes; a client that differs is asked to sign.",
    ),
    knob(
        "group.fast_reads",
        Boolean,
        Value("false"),
        "Native clients of a pbft group read without the log, and everybody waits for 2f+1 equal replies instead of f+1, to writes too. Needs group.verify, so that no node answers a write sooner. Equal on all nodes.",
    ),
    knob(
        "raft.election_min",
        duration(2, 60_000),
        Value("150ms"),
        "Shortest election time-out. Shorter finds a dead leader sooner and deposes a slow one more often.",
    ),
    knob(
        "raft.election_max",
        duration(2, 120_000),
        Value("300ms"),
        "Longest election time-out; each is drawn between the two, so a wide range makes split votes rare.",
    ),
    knob(
        "raft.heartbeat",
        duration(1, 30_000),
        Value("50ms"),
        "How often a leader shows that it is alive; below half of raft.election_min. Costs a frame a peer each time.",
    ),
    knob(
        "raft.max_log_entries_per_append",
        integer(1, limits::FRAME_BODIES_MAX),
        Value("100"),
        "Most entries in one append; an entry is a batch of commands.",
    ),
    knob(
        "raft.append_bytes_max",
        size(KIB, limits::APPEND_BYTES_MAX),
        Value("256KiB"),
        "Bytes in one append, past its first entry.",
    ),
    knob("raft.window_appends", integer(1, 4096), Value("256"), "Appends in flight to one follower."),
    knob(
        "raft.window_bytes",
        size(64 * KIB, 1024 * MIB),
        Value("16MiB"),
        "Bytes in flight to one follower; at least bandwidth times round trip.",
    ),
    knob(
        "raft.uncommitted_bytes_max",
        size(64 * KIB, 4096 * MIB),
        Value("64MiB"),
        "Bytes appended and not yet committed; past it the leader answers `-OVERLOADED`. Costs that much memory.",
    ),
    knob(
        "raft.tail_bytes",
        size(64 * KIB, 16_384 * MIB),
        Value("32MiB"),
        "Newest entries kept in memory; a follower farther behind costs disk reads. Costs that much memory.",
    ),
    knob(
        "raft.snapshot_threshold",
        integer(1, 1 << 40),
        Value("10000"),
        "Entries applied after a snapshot until the next is made. Lower starts faster and writes more.",
    ),
    knob(
        "raft.snapshot_threshold_bytes",
        size(64 * KIB, 1 << 40),
        Value("256MiB"),
        "Or after so many bytes of commands. Lower starts faster and writes more.",
    ),
    knob(
        "raft.snapshot_keep",
        integer(0, 1 << 40),
        Value("1000"),
        "Entries kept behind a snapshot, so that a follower a little behind needs no snapshot. For one that takes a snapshot, more.",
    ),
    knob(
        "raft.snapshot_piece_bytes",
        size(4 * KIB, limits::PIECE_BYTES_MAX),
        Value("128KiB"),
        "Bytes of one piece of a snapshot; larger pieces delay what shares the link.",
    ),
    knob(
        "raft.snapshot_bytes_per_s",
        size(64 * KIB, 1 << 40),
        Value("100MiB"),
        "Rate at which snapshots travel to a follower. Higher recovers sooner and disturbs more.",
    ),
    knob(
        "log.segment_bytes",
        size(limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX),
        Value("64MiB"),
        "Size of a segment file. Each is zero-filled once and recycled; at least three exist.",
    ),
    knob(
        "log.durability",
        OneOf(&["quorum-sync", "none"]),
        Value("quorum-sync"),
        "`none` acknowledges before the disk has anything: A POWER CUT LOSES ACKNOWLEDGED WRITES. For measurements only.",
    ),
    knob(
        "store.maxmemory",
        size(0, 1 << 44),
        Value("1GiB"),
        "Logical bytes of keys and values; a write that would pass it gets `-OOM`. 0 is no bound. Resident memory is up to twice that.",
    ),
    knob(
        "times.write_wait",
        duration(1, 600_000),
        Value("1s"),
        "How long a command that was not appended waits for a leader before `-CLUSTERDOWN`.",
    ),
    knob(
        "times.answer_within",
        duration(1, 600_000),
        Value("2s"),
        "How long a command that may have been appended waits before `-INDETERMINATE`.",
    ),
    knob("times.drain_within", duration(1, 600_000), Value("5s"), "How long an orderly shutdown may take."),
    knob(
        "placement.cores",
        integer(1, limits::CORES_MAX),
        Value("1"),
        "Threads of the data plane. More pay only where authentication or disk is dear: a hop between sleeping cores costs 2.5 us. One shard uses at most 4; a larger number means 4, with a warning.",
    ),
    knob(
        "placement.first_core",
        integer(0, 4095),
        Value("0"),
        "Core of the first thread when pinned; the others follow.",
    ),
    knob(
        "placement.pin",
        Boolean,
        Value("true"),
        "Binds each thread to its core. Left undone, with a warning, when the machine has too few.",
    ),
    knob(
        "placement.spin",
        Boolean,
        Value("false"),
        "Never sleeps. Saves 2 to 5 us a hop and costs whole cores.",
    ),
    knob("log_lines.format", OneOf(&["text", "json"]), Value("text"), "How lines on stderr look."),
];

/// The setting of that key.
pub fn find(key: &str) -> Option<&'static Knob> {
    KNOBS.iter().find(|k| k.key == key)
}

/// A key that looks like this one, if any does: for "did you mean".
pub fn nearest(key: &str) -> Option<&'static str> {
    let keys = KNOBS.iter().map(|k| k.key).chain([MEMBERS_KEY, JOINED_KEY, CLIENTS_KEY]);
    keys.map(|k| (similarity(key, k), k))
        .filter(|(s, _)| 0.75 <= *s)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// Compares whole keys, and the last parts alone: a right name in the wrong section is found too.
fn similarity(written: &str, known: &str) -> f64 {
    let last = |k: &str| k.rsplit('.').next().unwrap_or_default().to_owned();
    let whole = strsim::jaro_winkler(written, known);
    whole.max(strsim::jaro_winkler(&last(written), &last(known)) - 0.01)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_unique_and_each_says_what_it_does() {
        let keys: BTreeSet<_> = KNOBS.iter().map(|k| k.key).collect();
        assert_eq!(keys.len(), KNOBS.len());
        assert!(KNOBS.iter().all(|k| k.help.ends_with('.') && k.key.split('.').count() == 2));
    }

    #[test]
    fn the_nearest_key_is_found_across_sections_and_nothing_far_is() {
        assert_eq!(nearest("raft.hartbeat"), Some("raft.heartbeat"));
        assert_eq!(nearest("log.heartbeat"), Some("raft.heartbeat"));
        assert_eq!(nearest("cluster.member"), Some("cluster.members"));
        assert_eq!(nearest("zzz.qqq"), None);
    }
}
