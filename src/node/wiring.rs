//! The rings and numbers between the agents of a node: the only place where roles meet.
//!
//! ```text
//!  peers   -> rx -> open -\                          rings: bounded, one producer, one consumer, all downstream
//!                          > replica -> seal -> tx -> peers
//!  clients -> take -------/    |   \-> log           back: numbers only
//!               \              v
//!                \-> reply <- store <-> keeper (service plane)
//! ```

use super::boot::{Booted, snapshots, store_options};
use super::placement::Role;
use super::probe::DataPlaneProbe;
use super::run::NodeAgent;
use super::watch::ReplicaSight;
use crate::admin::keeper::{self, Check, Keeper, KeeperBell, Verify};
use crate::admin::{EventSink, Status};
use crate::auth::seal::Settings as SealSettings;
use crate::auth::{Open, Seal};
use crate::base::ring::{Consumer, Producer, ring};
use crate::base::{GROUP_ONE, NodeId, Number, Origin};
use crate::config::Resolved;
use crate::config::limits::BATCH_BYTES_MAX;
use crate::crypto::SecretKey;
use crate::front::plan::{Planned, Settled};
use crate::front::{self, Facts, Member, Reply, Take, TakePorts, View};
use crate::io::SystemEntropy;
use crate::io::driver::Doorbell;
use crate::log::{LogAgent, Rings as LogRings};
use crate::net::handshake::Identity;
use crate::net::rx::{PeerAddress, Rings as RxRings, Rx, Settings as RxSettings};
use crate::net::tx::Tx;
use crate::protocol::Engine;
use crate::replica::agent::{Heard, Ports as ReplicaPorts, Told};
use crate::replica::{ReplicaAgent, Shard, seat, shard};
use crate::resp::parse::Limits;
use crate::store;
use crate::store::agent::{Ports as StorePorts, StoreAgent, Told as StoreTold, Triggers};
use crate::store::inspect::Inspection;
use crate::wire::hop::{
    Answer, Decided, Demand, Incoming, Keep, Kept, LinkEvent, Load, LogFetch, LogFetched, Opened, Outgoing,
    PeerNumbers, SealLink, SealedFrame, SendLink, SnapshotId, Stored,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Snapshots are made after so many bytes of commands too, so that a restart has a bounded log to read.
const SNAPSHOT_BYTES: u64 = 256 << 20;
/// A link over which nothing was said for this long says that this node lives.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Values that fit between two agents: several bursts, so that a full ring means that the other side is behind.
const RING_VALUES: usize = 4096;
/// Errands that wait for disk.
const ERRANDS_MAX: usize = 256;
/// Rings of rare values.
const FEW: usize = 256;
/// Largest snapshot that is taken from a leader, in bytes.
const RECEIVED_SNAPSHOT_MAX: u64 = 1 << 40;
/// A peer that hears nothing for this many keep-alives gives the link up.
const SILENT_KEEP_ALIVES: u32 = 6;
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// A connection with so many times the unsent bytes at which it is no longer read from is closed.
const UNSENT_CUT: u64 = 4;
/// How long one send may take before its link is given up.
const SEND_STALL_MAX: Duration = Duration::from_secs(5);

/// A node's agents, and what others hold of them.
pub struct Wired {
    /// One a role.
    pub agents: Vec<(Role, Box<dyn NodeAgent>)>,
    /// For the service thread.
    pub keeper: Keeper,
    /// For the service thread.
    pub probe: Arc<DataPlaneProbe>,
    /// What the core of the replica shows operators.
    pub sight: ReplicaSight,
    /// What the core of the network shows operators.
    pub links: Consumer<LinkEvent>,
    /// The numbers of an orderly end.
    pub ending: Ending,
}

/// The numbers of an orderly end.
#[derive(Clone, Default)]
pub struct Ending {
    /// Set to 1: nothing more is taken in, leadership is handed over, everything pending is answered.
    pub drain: Number,
    /// 1 when the replica has nothing to do any more.
    pub replica: Number,
    /// 1 when every client is answered.
    pub clients: Number,
}

/// What wakes each role's core.
pub type Doorbells<'a> = &'a dyn Fn(Role) -> Arc<dyn Doorbell>;

/// All rings of the data plane, each with its two ends.
struct Rings {
    incoming: (Producer<Incoming>, Consumer<Incoming>),
    seal_links: (Producer<SealLink>, Consumer<SealLink>),
    send_links: (Producer<SendLink>, Consumer<SendLink>),
    link_events: (Producer<LinkEvent>, Consumer<LinkEvent>),
    opened: (Producer<Opened>, Consumer<Opened>),
    demands: (Producer<Demand>, Consumer<Demand>),
    outgoing: (Producer<Outgoing>, Consumer<Outgoing>),
    sealed: (Producer<SealedFrame>, Consumer<SealedFrame>),
    records: (Producer<Stored>, Consumer<Stored>),
    fetches: (Producer<LogFetch>, Consumer<LogFetch>),
    fetched: (Producer<LogFetched>, Consumer<LogFetched>),
    decided: (Producer<Decided>, Consumer<Decided>),
    refusals: (Producer<Answer>, Consumer<Answer>),
    answers: (Producer<Answer>, Consumer<Answer>),
    planned: (Producer<Planned>, Consumer<Planned>),
    store_keeps: (Producer<Keep>, Consumer<Keep>),
    replica_keeps: (Producer<Keep>, Consumer<Keep>),
    kept: (Producer<Kept>, Consumer<Kept>),
    loads: (Producer<Load>, Consumer<Load>),
}

impl Rings {
    fn new() -> Rings {
        Rings {
            incoming: ring(RING_VALUES),
            seal_links: ring(FEW),
            send_links: ring(FEW),
            link_events: ring(FEW),
            opened: ring(RING_VALUES),
            demands: ring(RING_VALUES),
            outgoing: ring(RING_VALUES),
            sealed: ring(RING_VALUES),
            records: ring(RING_VALUES),
            fetches: ring(ERRANDS_MAX),
            fetched: ring(ERRANDS_MAX),
            decided: ring(RING_VALUES),
            refusals: ring(RING_VALUES),
            answers: ring(RING_VALUES),
            planned: ring(RING_VALUES),
            store_keeps: ring(FEW),
            replica_keeps: ring(ERRANDS_MAX),
            kept: ring(ERRANDS_MAX),
            loads: ring(FEW),
        }
    }
}

/// Makes all agents of a node and connects them.
pub fn wire(
    config: &Resolved,
    secret: SecretKey,
    booted: Booted,
    doorbells: Doorbells,
    status: &Arc<Status>,
    events: &EventSink,
) -> Wired {
    let rings = Rings::new();
    let Booted { origin, log, engine, store, snapshot, .. } = booted;
    let others = config.cluster.members.iter().filter(|m| m.id != config.node.id);
    let numbers: BTreeMap<NodeId, PeerNumbers> = others.map(|m| (m.id, PeerNumbers::default())).collect();
    let (told, store_told, ending) = (Told::default(), StoreTold::default(), Ending::default());
    let ending = Ending { replica: told.drained.clone(), ..ending };
    let view = client_view(config, origin, &told, &store_told, &ending);
    let keeper_ports = keeper::Ports {
        from_store: rings.store_keeps.1,
        from_replica: rings.replica_keeps.1,
        to_replica: rings.kept.0,
        to_store: rings.loads.0,
        data_plane: vec![doorbells(Role::Replica), doorbells(Role::Store)],
    };
    let keeper = make_keeper(config, keeper_ports, snapshot, status, events);
    let bell: Arc<KeeperBell> = Arc::new(keeper.bell());
    let (ask, probes) = crossbeam::channel::bounded(ERRANDS_MAX);
    let (durable, room) = (Number::default(), Number::default());
    let replica_ports = ReplicaPorts {
        opened: rings.opened.1,
        demands: rings.demands.1,
        fetched: rings.fetched.1,
        kept: rings.kept.1,
        probes,
        outgoing: rings.outgoing.0,
        records: rings.records.0,
        fetches: rings.fetches.0,
        decided: rings.decided.0,
        keeps: rings.replica_keeps.0,
        keeper: bell.clone(),
        answers: rings.refusals.0,
    };
    let heard = Heard {
        durable: durable.clone(),
        applied: store_told.applied.clone(),
        memory: store_told.memory.clone(),
        due: store_told.due.clone(),
        settled: store_told.settled.clone(),
        lost: numbers.iter().map(|(peer, n)| (*peer, n.lost.clone())).collect(),
        drain: ending.drain.clone(),
    };
    let log_rings = LogRings {
        records: rings.records.1,
        fetches: rings.fetches.1,
        fetched: rings.fetched.0,
        durable,
        room: room.clone(),
        doorbell: Some(doorbells(Role::Replica)),
    };
    let store_ports = StorePorts {
        decided: rings.decided.1,
        loads: rings.loads.1,
        answers: rings.answers.0,
        keeps: rings.store_keeps.0,
        keeper: bell,
    };
    let rx_rings = RxRings {
        open: rings.incoming.0,
        seal: rings.seal_links.0,
        tx: rings.send_links.0,
        events: rings.link_events.0,
    };
    let triggers = Triggers { entries: config.raft.snapshot_threshold, bytes: SNAPSHOT_BYTES };
    let rx = make_rx(config, secret, origin, &numbers, rx_rings);
    let open = Open::new(rings.incoming.1, rings.opened.0, numbers.clone());
    let seal_settings = SealSettings {
        node: config.node.id,
        queue_bytes_max: config.peer.queue_bytes_max,
        keep_alive: KEEP_ALIVE,
    };
    let seal =
        Seal::new(seal_settings, rings.outgoing.1, rings.seal_links.1, rings.sealed.0, numbers.clone());
    let tx = Tx::new(SEND_STALL_MAX, rings.sealed.1, rings.send_links.1, numbers);
    let settled = Settled::default();
    let take_ports = TakePorts { plans: rings.planned.0, demands: rings.demands.0, settled: settled.clone() };
    let take = Take::new(client_options(config), view.clone(), take_ports);
    let reply = Reply::new(rings.planned.1, rings.answers.1, rings.refusals.1, settled);
    let sight = ReplicaSight::new(config.node.id, &told, &store_told, &view, room);
    let replica = make_replica(config, origin, engine, replica_ports, heard, told);
    let store = StoreAgent::new(store, origin, store_ports, store_told, triggers);
    let agents: Vec<(Role, Box<dyn NodeAgent>)> = vec![
        (Role::Rx, Box::new(rx)),
        (Role::Open, Box::new(open)),
        (Role::Take, Box::new(take)),
        (Role::Replica, Box::new(replica)),
        (Role::Log, Box::new(LogAgent::new(log, log_rings))),
        (Role::Store, Box::new(store)),
        (Role::Seal, Box::new(seal)),
        (Role::Tx, Box::new(tx)),
        (Role::Reply, Box::new(reply)),
    ];
    let probe = Arc::new(DataPlaneProbe::new(ask, doorbells(Role::Replica)));
    Wired { agents, keeper, probe, sight, links: rings.link_events.1, ending }
}

fn make_rx(
    config: &Resolved,
    secret: SecretKey,
    origin: Origin,
    numbers: &BTreeMap<NodeId, PeerNumbers>,
    rings: RxRings,
) -> Rx {
    let others = || config.cluster.members.iter().filter(|m| m.id != config.node.id);
    let settings = RxSettings {
        listen: config.peer.listen.clone(),
        reconnect_min: config.peer.reconnect_min,
        reconnect_max: config.peer.reconnect_max,
        handshake_max: HANDSHAKE_MAX,
        silence_max: KEEP_ALIVE * SILENT_KEEP_ALIVES,
    };
    let identity = Identity {
        node: config.node.id,
        boot: origin.boot,
        cluster: config.cluster.id,
        fingerprint: config.cluster.fingerprint(),
        secret,
        encrypt: config.peer.encrypt,
        peers: others().map(|m| (m.id, m.key)).collect(),
    };
    let addresses = others()
        .map(|m| (m.id, PeerAddress { address: m.peer.clone(), numbers: numbers[&m.id].clone() }))
        .collect();
    Rx::new(settings, identity, addresses, Box::new(SystemEntropy), rings)
}

fn make_replica(
    config: &Resolved,
    origin: Origin,
    engine: Engine,
    ports: ReplicaPorts,
    heard: Heard,
    told: Told,
) -> ReplicaAgent<Engine> {
    let (route, reads) = seat::waits(config.times.write_wait, config.times.answer_within);
    let guards = seat::Guards {
        memory_max: config.store.maxmemory,
        unapplied_bytes_max: config.raft.uncommitted_bytes_max,
        ..seat::Guards::default()
    };
    let options = shard::Options {
        me: config.node.id,
        members: config.cluster.nodes(),
        lane: origin.lane,
        boot: origin.boot,
        route,
        reads,
        guards,
    };
    let mut shard = Shard::new(options);
    shard.add(GROUP_ONE, engine);
    ReplicaAgent::new(shard, ports, heard, told)
}

fn make_keeper(
    config: &Resolved,
    ports: keeper::Ports,
    snapshot: Option<(SnapshotId, std::path::PathBuf)>,
    status: &Arc<Status>,
    events: &EventSink,
) -> Keeper {
    let options = keeper::Options {
        directory: snapshots(&config.node.dir),
        write_bytes_per_second: config.raft.snapshot_bytes_per_s,
        read_bytes_per_second: config.raft.snapshot_bytes_per_s,
        received_bytes_max: RECEIVED_SNAPSHOT_MAX,
    };
    let verify = Arc::new(SnapshotCheck(store_options(config)));
    Keeper::new(options, ports, snapshot.into_iter().collect(), verify, status.clone(), events.clone())
}

/// Lets the keeper check snapshots as the store knows how.
struct SnapshotCheck(store::Options);

impl Verify for SnapshotCheck {
    fn begin(&self, id: SnapshotId) -> Box<dyn Check> {
        Box::new(Checking(Inspection::of(id, &self.0)))
    }
}

struct Checking(Inspection);

impl Check for Checking {
    fn update(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.feed(bytes).map_err(|damage| damage.to_string())
    }
    fn finish(self: Box<Self>) -> Result<(), String> {
        self.0.finish().map(drop).map_err(|damage| damage.to_string())
    }
}

/// What the client port may use.
fn client_options(config: &Resolved) -> front::Options {
    let client = &config.client;
    let unsent = client.output_bytes_max as u64;
    front::Options {
        password: client.password.as_ref().map(|password| password.0.clone()),
        limits: Limits {
            args_max: client.arguments_max,
            bulk_bytes_max: client.bulk_bytes_max,
            // In a batch a command is no longer than it was received (inline ones are, but short).
            command_bytes_max: BATCH_BYTES_MAX,
        },
        connections_max: client.connections_max,
        pipeline_max: client.pipeline_max as u64,
        pending_bytes_max: client.pending_bytes_max as u64,
        unsent_bytes_max: unsent,
        unsent_bytes_cut: unsent.saturating_mul(UNSENT_CUT),
        ..front::Options::at(&client.listen)
    }
}

/// What clients are told of this node.
fn client_view(config: &Resolved, origin: Origin, told: &Told, store: &StoreTold, ending: &Ending) -> View {
    let member = |m: &crate::config::Member| {
        let (host, port) = m.client.rsplit_once(':').unwrap_or((m.client.as_str(), "0"));
        Member { node: m.id, host: host.to_string(), port: port.parse().unwrap_or(0) }
    };
    View {
        node: config.node.id,
        cluster: u128::from_be_bytes(config.cluster.id.0),
        generation: origin.boot,
        members: config.cluster.members.iter().map(member).collect(),
        memory_max: config.store.maxmemory,
        process: std::process::id(),
        facts: Facts {
            leader: told.leader.clone(),
            term: told.term.clone(),
            committed: told.commit.clone(),
            applied: store.applied.clone(),
            memory: store.memory.clone(),
            keys: store.keys.clone(),
            loaded: Number::new(1),
            drain: ending.drain.clone(),
            connections: Number::default(),
            drained: ending.clients.clone(),
        },
    }
}
