//! What may differ from node to node: resolved, checked, every value present. The doc of each knob is in [`super::knobs`], with its
//! unit, its default and what it costs.

use super::cluster::Cluster;
use crate::base::NodeId;
use std::path::PathBuf;
use std::time::Duration;

/// A whole, checked configuration. Invariants: `cluster` has a member `node.id`; `raft.heartbeat < raft.election_min / 2`; no client
/// port is open to others without a password unless `client.insecure`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[node]`
    pub node: Node,
    /// `[client]`
    pub client: Client,
    /// `[peer]`
    pub peer: Peer,
    /// `[admin]`
    pub admin: Admin,
    /// `[group]`
    pub group: Group,
    /// `[raft]`
    pub raft: Raft,
    /// `[log]`
    pub log: Log,
    /// `[store]`
    pub store: Store,
    /// `[times]`
    pub times: Times,
    /// `[placement]`
    pub placement: Placement,
    /// `[log_lines]`
    pub log_lines: LogLines,
}

impl Resolved {
    /// This node as the others know it.
    pub fn own_member(&self) -> &super::cluster::Member {
        self.cluster.member(self.node.id).expect("checked when resolved")
    }
}

/// `[node]`: which member this process is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Which member.
    pub id: NodeId,
    /// Superblock, log and snapshots live here.
    pub dir: PathBuf,
    /// The static private key, 64 hexadecimal digits, mode 0600.
    pub key_file: PathBuf,
    /// Of a node that came later: what it begins with.
    pub charter_file: PathBuf,
}

/// `[client]`: the port for Redis clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// `host:port` or the path of a Unix socket.
    pub listen: String,
    /// Asked for by AUTH and HELLO when present.
    pub password: Option<Password>,
    /// An open port without a password is wanted.
    pub insecure: bool,
    /// Most connections.
    pub connections_max: usize,
    /// Most bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Most arguments of one command.
    pub arguments_max: usize,
    /// Most commands of one connection that wait for an answer; more are left unread.
    pub pipeline_max: usize,
    /// Most bytes of answers that one connection leaves unread before it is no longer read from. One that then takes nothing
    /// for 30 s is closed.
    pub output_bytes_max: usize,
    /// Most bytes of commands of all connections that wait for an answer.
    pub pending_bytes_max: usize,
}

/// A password, that never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// `[peer]`: the port for other nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// `host:port` or the path of a Unix socket.
    pub listen: String,
    /// Encrypt frames, besides authenticating them.
    pub encrypt: bool,
    /// Most bytes waiting for one peer.
    pub queue_bytes_max: usize,
    /// First pause before dialling again.
    pub reconnect_min: Duration,
    /// Longest pause before dialling again.
    pub reconnect_max: Duration,
}

/// `[admin]`: the service plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// `host:port`; port 0 takes any.
    pub listen: String,
    /// Holds the token that changes ask for, mode 0600.
    pub token_file: PathBuf,
}

/// `[group]`: the group that this node hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Which rules it obeys.
    pub protocol: ProtocolKind,
    /// Clients are answered what `f + 1` replicas reply.
    pub verify: bool,
    /// f: how many members may lie, in a pbft group.
    pub faulty: usize,
    /// A primary signs what it assigns.
    pub sign_pre_prepares: bool,
    /// How far ahead of the own wall clock a primary's stamps may be.
    pub clock_skew_max: Duration,
    /// After which wait for a request's execution the primary is suspected.
    pub request_timeout: Duration,
    /// Native clients read without the log, and everybody waits for a strong quorum's replies. Implies `verify`.
    pub fast_reads: bool,
    /// How native clients vouch for their batches.
    pub client_auth: ClientAuth,
}

/// How native clients vouch for their batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// By a signature.
    Sign,
    /// By the tag of the frame to each replica.
    Mac,
}

/// The protocols that a group can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolKind {
    /// Raft.
    Raft,
    /// PBFT.
    Pbft,
}

impl ProtocolKind {
    /// As `group.protocol` says it.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolKind::Raft => "raft",
            ProtocolKind::Pbft => "pbft",
        }
    }
}

/// `[raft]`: the parameters of a Raft group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raft {
    /// Shortest election time-out.
    pub election_min: Duration,
    /// Longest election time-out; each is drawn between the two.
    pub election_max: Duration,
    /// How often a leader shows that it is alive.
    pub heartbeat: Duration,
    /// Most entries (each a batch) in one append.
    pub max_log_entries_per_append: usize,
    /// Most bytes of bodies in one append, past the first entry.
    pub append_bytes_max: usize,
    /// Most appends in flight to one follower.
    pub window_appends: usize,
    /// Most bytes in flight to one follower.
    pub window_bytes: usize,
    /// Most bytes of entries that were appended and not committed; more is refused with `-OVERLOADED`.
    pub uncommitted_bytes_max: usize,
    /// Most bytes of newest entries kept in memory; older ones are fetched from disk.
    pub tail_bytes: usize,
    /// Entries applied since the last snapshot, after which the next one is made.
    pub snapshot_threshold: u64,
    /// Bytes of commands applied since the last snapshot, after which the next one is made.
    pub snapshot_threshold_bytes: u64,
    /// Entries kept behind a snapshot for followers that are a little behind.
    pub snapshot_keep: u64,
    /// Bytes of one piece of a snapshot on its way to a follower.
    pub snapshot_piece_bytes: usize,
    /// Most bytes a second that snapshots may take of a link.
    pub snapshot_bytes_per_s: u64,
}

/// `[log]`: the write-ahead log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// When a write counts as stored.
    pub durability: Durability,
}

/// When a write counts as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is on stable storage of a quorum.
    QuorumSync,
    /// When a quorum has it in memory or in the page cache: a power cut may lose what was acknowledged.
    None,
}

impl Durability {
    /// As the setting is written.
    pub fn name(self) -> &'static str {
        match self {
            Durability::QuorumSync => "quorum-sync",
            Durability::None => "none",
        }
    }
}

/// `[store]`: the context store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// Most logical bytes of keys and values; a leader refuses what would pass it with `-OOM`. 0 is no bound.
    pub maxmemory: u64,
}

/// `[times]`: how long a client's command may wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Times {
    /// How long a command that was not appended waits for a leader before `-CLUSTERDOWN`.
    pub write_wait: Duration,
    /// How long a command that may have been appended waits before `-INDETERMINATE`.
    pub answer_within: Duration,
    /// How long an orderly shutdown may take before the rest is answered with errors.
    pub drain_within: Duration,
}

/// `[placement]`: which cores the node uses, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Threads of the data plane.
    pub cores: usize,
    /// The core of the first thread when pinned; the others follow it.
    pub first_core: usize,
    /// Bind each thread to its core. Left undone, with a warning, when the machine has fewer cores.
    pub pin: bool,
    /// Never sleep: lower latency, a whole core each.
    pub spin: bool,
}

/// `[log_lines]`: what goes to stderr.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLines {
    /// How a line looks.
    pub format: LineFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}
