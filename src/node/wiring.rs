//! The rings and numbers between the agents of a node: the only place where roles meet.
//!
//! ```text
//!  peers   -> rx -> open -\                          rings: bounded, one producer, one consumer, all downstream
//!                          > replica -> seal -> tx -> peers
//!  clients -> take -------/    |   \-> log           back: numbers only
//!               \              v
//!                \-> reply <- store <-> keeper (service plane)
//! ```

use super::agent::NodeAgent;
use super::boot::{Booted, store_options};
use super::keys::{Maker, Secrets};
use super::liar::{Mouth, behind};
use super::members;
use super::placement::Role;
use super::probe::DataPlaneProbe;
use super::sizes::Sizes;
use super::watch::ReplicaSight;
use crate::admin::keeper;
use crate::auth::seal::Settings as SealSettings;
use crate::auth::{Open, Seal};
use crate::base::ring::{Consumer, Producer, ring};
use crate::base::{GROUP_ONE, NodeId, NodeSet, Number, Origin};
use crate::config::limits::{BATCH_BYTES_MAX, NODES_MAX};
use crate::config::{ProtocolKind, Resolved};
use crate::front::plan::Settled;
use crate::front::{self, Facts, Member, Reply, Take, TakePorts, Verification, View};
use crate::io::Entropy;
use crate::io::driver::Doorbell;
use crate::log::{LogAgent, Rings as LogRings, Told as LogTold};
use crate::net::handshake::Identity;
use crate::net::rx::{Following, PeerAddress, Rings as RxRings, Rx, Settings as RxSettings};
use crate::net::tx::Tx;
use crate::protocol::Engine;
use crate::protocol::pbft::liars::Liars;
use crate::replica::agent::{Heard, Ports as ReplicaPorts, Told};
use crate::replica::{ReplicaAgent, Shard, seat, shard};
use crate::resp::parse::Limits;
use crate::store::agent::{Ports as StorePorts, StoreAgent, Told as StoreTold, Triggers};
use crate::store::vouch::Vouching;
use crate::wire::hop::{
    Answer, Decided, Demand, Digested, Incoming, Keep, Kept, LinkEvent, Load, LogFetch, LogFetched, Opened,
    Outgoing, PeerNumbers, SealLink, SealedFrame, SendLink, Stored,
};
use crate::wire::pbft::Charter;
use crate::wire::roster::{Roll, Roster};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A link over which nothing was said for this long says that this node lives.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A peer that hears nothing for this many keep-alives gives the link up.
const SILENT_KEEP_ALIVES: u32 = 6;
/// A handshake takes a few round trips; this is for a machine that is very busy.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long one send may take before its link is given up.
pub(super) const SEND_STALL_MAX: Duration = Duration::from_secs(5);

/// A node's agents, and what others hold of them.
pub struct Wired {
    /// One a role, but for those that run already.
    pub agents: Vec<(Role, Box<dyn NodeAgent>)>,
    /// For the keeper of snapshots.
    pub keeper: keeper::Ports,
    /// For the service thread.
    pub probe: Arc<DataPlaneProbe>,
    /// Who is in the group, as the replica says.
    pub roster: Roster,
    /// Makes this node's next keys.
    pub keys: Maker,
    /// What the core of the replica shows operators.
    pub sight: ReplicaSight,
    /// What the store has applied, and the digest that it made of it.
    pub store: StoreTold,
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

/// What agents need of the world around them.
pub struct Surroundings<'a> {
    /// What wakes the agents.
    pub doorbells: Doorbells<'a>,
    /// What wakes the keeper of snapshots.
    pub keeper: Arc<dyn Doorbell>,
    /// For handshakes.
    pub entropy: Box<dyn Entropy>,
    /// What this node says instead of what its replica wants to, where a test makes it lie, and which of it now (`liar::watch`).
    pub liars: Option<(Vec<Liars>, Number)>,
}

/// A node of which nothing is known but who it is: the agents of its client port, and the far ends of what connects them.
pub struct Begun {
    /// `take` and `reply`, which need nothing that is stored. Whoever takes them out runs them ahead of the others.
    pub clients: Option<[Box<dyn NodeAgent>; 2]>,
    /// The numbers of an orderly end.
    pub ending: Ending,
    demands: Consumer<Demand>,
    answers: Producer<Answer>,
    refusals: Producer<Answer>,
    view: View,
    numbers: BTreeMap<NodeId, PeerNumbers>,
    roster: Roster,
    told: Told,
    store_told: StoreTold,
}

/// Makes what clients may be told before the node has read its state back: that it is loading.
pub fn begin(config: &Resolved, sizes: &Sizes, origin: Origin, charter: &Charter) -> Begun {
    let numbers = peer_numbers(config);
    let others = numbers.keys().copied().filter(|id| usize::from(id.0) <= NODES_MAX);
    let bounds = store_options(config, sizes).bounds();
    let (told, store_told) = (Told::of(others), StoreTold { bounds, ..StoreTold::default() });
    let ending = Ending { replica: told.drained.clone(), ..Ending::default() };
    let roster = Roster::new(members::roll(config, sizes, charter));
    let view = client_view(config, origin, (&told, &store_told), &ending, &roster);
    let (plans, planned) = ring(sizes.ring_values);
    let (demand, demands) = ring(sizes.ring_values);
    let (answers, answered) = ring(sizes.ring_values);
    let (refusals, refused) = ring(sizes.ring_values);
    let settled = Settled::default();
    let take_ports = TakePorts { plans, demands: demand, settled: settled.clone() };
    let take = Take::new(client_options(config), view.clone(), take_ports);
    let reply = Reply::new(planned, answered, refused, settled, verification(config, &told, charter));
    let clients = Some([Box::new(take) as Box<dyn NodeAgent>, Box::new(reply)]);
    Begun { roster, clients, ending, demands, answers, refusals, view, numbers, told, store_told }
}

/// All rings of the data plane but those of the client port, each with its two ends.
struct Rings {
    incoming: (Producer<Incoming>, Consumer<Incoming>),
    seal_links: (Producer<SealLink>, Consumer<SealLink>),
    send_links: (Producer<SendLink>, Consumer<SendLink>),
    link_events: (Producer<LinkEvent>, Consumer<LinkEvent>),
    opened: (Producer<Opened>, Consumer<Opened>),
    outgoing: (Producer<Outgoing>, Consumer<Outgoing>),
    sealed: (Producer<SealedFrame>, Consumer<SealedFrame>),
    records: (Producer<Stored>, Consumer<Stored>),
    fetches: (Producer<LogFetch>, Consumer<LogFetch>),
    fetched: (Producer<LogFetched>, Consumer<LogFetched>),
    decided: (Producer<Decided>, Consumer<Decided>),
    digested: (Producer<Digested>, Consumer<Digested>),
    vouched: (Producer<Outgoing>, Consumer<Outgoing>),
    store_keeps: (Producer<Keep>, Consumer<Keep>),
    replica_keeps: (Producer<Keep>, Consumer<Keep>),
    kept: (Producer<Kept>, Consumer<Kept>),
    loads: (Producer<Load>, Consumer<Load>),
}

impl Rings {
    fn new(sizes: &Sizes) -> Rings {
        let Sizes { ring_values, errands_max, few, .. } = *sizes;
        Rings {
            incoming: ring(ring_values),
            seal_links: ring(few),
            send_links: ring(few),
            link_events: ring(few),
            opened: ring(ring_values),
            outgoing: ring(ring_values),
            sealed: ring(ring_values),
            records: ring(ring_values),
            fetches: ring(errands_max),
            fetched: ring(errands_max),
            decided: ring(ring_values),
            // Each value that waits to be applied may be one after which a digest is asked for.
            digested: ring(ring_values),
            vouched: ring(ring_values),
            store_keeps: ring(few),
            replica_keeps: ring(errands_max),
            kept: ring(errands_max),
            loads: ring(few),
        }
    }
    /// Puts a liar between the replica and its peers.
    fn around(mut self, liars: Option<(Vec<Liars>, Number)>) -> (Rings, Option<Mouth>) {
        let (opened, outgoing) = (&mut self.opened.1, &mut self.outgoing.0);
        let mouth = liars.map(|(liars, turn)| Mouth::between(liars, turn, opened, outgoing));
        (self, mouth)
    }
}

/// Makes the other agents of a node and connects them all.
pub fn wire(
    begun: Begun,
    config: &Resolved,
    sizes: &Sizes,
    secrets: Secrets,
    booted: Booted,
    around: Surroundings,
) -> Wired {
    let Surroundings { doorbells, keeper: bell, entropy, liars } = around;
    let (rings, mouth) = Rings::new(sizes).around(liars);
    let Booted { origin, log, engine, store, .. } = booted;
    let Begun { clients, ending, demands, answers, refusals, view, numbers, roster, told, store_told } =
        begun;
    let keeper = keeper::Ports {
        from_store: rings.store_keeps.1,
        from_replica: rings.replica_keeps.1,
        to_replica: rings.kept.0,
        to_store: rings.loads.0,
        data_plane: vec![doorbells(Role::Replica), doorbells(Role::Store)],
    };
    let (ask, questions) = crossbeam::channel::bounded(sizes.errands_max);
    let (durable, log_told) = (Number::default(), LogTold::default());
    let replica_ports = ReplicaPorts {
        opened: rings.opened.1,
        demands,
        fetched: rings.fetched.1,
        digested: rings.digested.1,
        kept: rings.kept.1,
        questions,
        outgoing: rings.outgoing.0,
        records: rings.records.0,
        fetches: rings.fetches.0,
        decided: rings.decided.0,
        keeps: rings.replica_keeps.0,
        keeper: bell.clone(),
        answers: refusals,
        roster: roster.clone(),
    };
    let heard = heard(&durable, &log_told, &store_told, &numbers, &ending);
    let log_rings = LogRings {
        records: rings.records.1,
        fetches: rings.fetches.1,
        fetched: rings.fetched.0,
        durable,
        told: log_told.clone(),
        doorbell: Some(doorbells(Role::Replica)),
    };
    let store_ports = StorePorts {
        decided: rings.decided.1,
        loads: rings.loads.1,
        answers,
        digests: rings.digested.0,
        keeps: rings.store_keeps.0,
        keeper: bell,
        vouching: vouching(config, rings.vouched.0, &told, &numbers),
    };
    let (open, seal, tx, events) =
        (rings.incoming.0, rings.seal_links.0, rings.send_links.0, rings.link_events.0);
    let rx_rings = RxRings { open, seal, tx, events };
    let probe = Arc::new(DataPlaneProbe::new(ask, doorbells(Role::Replica)));
    let (rx, keys) =
        make_links(config, Identified { secrets, origin, entropy }, &numbers, rx_rings, &roster, &probe);
    let open = Open::new(rings.incoming.1, rings.opened.0, numbers.clone());
    let outgoing = [rings.outgoing.1, rings.vouched.1];
    let seal = make_seal(config, config.node.id, outgoing, rings.seal_links.1, rings.sealed.0, &numbers);
    let tx = Tx::new(SEND_STALL_MAX, rings.sealed.1, rings.send_links.1, numbers);
    let sight = ReplicaSight::new(config.node.id, (&told, &store_told), &view, roster.clone(), log_told);
    let replica = make_replica(config, origin, engine, replica_ports, heard, told);
    let store = StoreAgent::new(store, origin, store_ports, store_told.clone(), triggers(config));
    let mut agents: Vec<(Role, Box<dyn NodeAgent>)> =
        vec![(Role::Rx, Box::new(rx)), (Role::Open, Box::new(open))];
    let (take, reply) = clients.map(|[take, reply]| ((Role::Take, take), (Role::Reply, reply))).unzip();
    agents.extend(take);
    agents.push((Role::Replica, behind(mouth, replica)));
    agents.push((Role::Log, Box::new(LogAgent::new(log, log_rings))));
    agents.push((Role::Store, Box::new(store)));
    agents.push((Role::Seal, Box::new(seal)));
    agents.push((Role::Tx, Box::new(tx)));
    agents.extend(reply);
    assert!(agents.iter().all(|(role, agent)| role.agent() == agent.name()));
    let links = rings.link_events.1;
    Wired { agents, roster, keys, keeper, probe, sight, store: store_told, links, ending }
}

/// What this node tells native clients, and where the group compares them other nodes, of the replies to their batches.
fn vouching(
    config: &Resolved,
    out: Producer<Outgoing>,
    told: &Told,
    numbers: &BTreeMap<NodeId, PeerNumbers>,
) -> Option<Vouching> {
    let verify = config.group.verify;
    let may_be_member = |node: NodeId| usize::from(node.0) <= NODES_MAX;
    let nodes = numbers.iter().filter(|(node, _)| verify && may_be_member(**node));
    let nodes = nodes.map(|(node, numbers)| (*node, numbers.lost.clone()));
    let clients = config.cluster.clients.iter().map(|client| client.id);
    let any = verify || !config.cluster.clients.is_empty();
    any.then(|| {
        let who = (config.node.id, config.cluster.nodes());
        Vouching::new(GROUP_ONE, out, told.leader.clone(), who, nodes, clients)
    })
}

/// What clients' answers wait for, where the group compares them.
fn verification(config: &Resolved, told: &Told, charter: &Charter) -> Option<Verification> {
    told.tell_quorum(&charter.membership);
    let enough = if config.group.fast_reads { &told.strong } else { &told.weak }.clone();
    let (me, within) = (config.node.id, config.times.answer_within);
    config.group.verify.then_some(Verification { me, enough, within })
}

pub(super) fn make_seal(
    config: &Resolved,
    node: NodeId,
    outgoing: [Consumer<Outgoing>; 2],
    links: Consumer<SealLink>,
    out: Producer<SealedFrame>,
    numbers: &BTreeMap<NodeId, PeerNumbers>,
) -> Seal {
    let settings =
        SealSettings { node, queue_bytes_max: config.peer.queue_bytes_max, keep_alive: KEEP_ALIVE };
    Seal::new(settings, outgoing, links, out, numbers.clone())
}

/// As what a node, or a native client, shakes hands.
pub(super) struct Identified {
    pub secrets: Secrets,
    pub origin: Origin,
    pub entropy: Box<dyn Entropy>,
}

/// What flows back from the network: for the other members and for native clients.
fn peer_numbers(config: &Resolved) -> BTreeMap<NodeId, PeerNumbers> {
    let first = || config.cluster.nodes();
    // Members of a PBFT group come and go.
    let all = || (1..=NODES_MAX as u8).map(NodeId).collect();
    let nodes: NodeSet = if config.group.protocol == ProtocolKind::Pbft { all() } else { first() };
    let others = nodes.iter().filter(|id| *id != config.node.id);
    let clients = config.cluster.clients.iter().map(|client| client.id);
    others.chain(clients).map(|id| (id, PeerNumbers::default())).collect()
}

/// The numbers that flow back to the replica.
fn heard(
    durable: &Number,
    log: &LogTold,
    store: &StoreTold,
    peers: &BTreeMap<NodeId, PeerNumbers>,
    ending: &Ending,
) -> Heard {
    Heard {
        durable: durable.clone(),
        room: log.room.clone(),
        applied: store.applied.clone(),
        memory: store.memory.clone(),
        due: store.due.clone(),
        settled: store.settled.clone(),
        lost: peers
            .iter()
            .filter(|(peer, _)| usize::from(peer.0) <= NODES_MAX)
            .map(|(peer, numbers)| (*peer, numbers.lost.clone()))
            .collect(),
        drain: ending.drain.clone(),
    }
}

/// When this node makes snapshots: as often as the others, and ahead of them by its place among the members, so that they take turns.
fn triggers(config: &Resolved) -> Triggers {
    let members = &config.cluster.members;
    let place = members.iter().filter(|m| m.id < config.node.id).count();
    if config.group.protocol == ProtocolKind::Pbft {
        // There the core says when: all replicas at the same slots.
        return Triggers { entries: u64::MAX, bytes: u64::MAX, ahead: 0 };
    }
    Triggers {
        entries: config.raft.snapshot_threshold,
        bytes: config.raft.snapshot_threshold_bytes,
        ahead: (place * 1000 / members.len().max(1)) as u64,
    }
}

/// A node's links, which follow the members of its group, and what makes the keys that it shows there.
fn make_links(
    config: &Resolved,
    identified: Identified,
    numbers: &BTreeMap<NodeId, PeerNumbers>,
    rings: RxRings,
    roster: &Roster,
    probe: &Arc<DataPlaneProbe>,
) -> (Rx, Maker) {
    let probe = probe.clone();
    let (maker, keys) = Maker::new(config, roster.clone(), Box::new(move |key| probe.hold(&key)));
    let mut seen = 0;
    let roll = roster.news(&mut seen).expect("nobody has looked before");
    let following = Following { roster: roster.clone(), numbers: numbers.clone(), keys, seen };
    (make_rx(config, identified, numbers, rings, &roll).following(following), maker)
}

/// A native client only dials, and knows members only.
pub(super) fn make_rx(
    config: &Resolved,
    Identified { secrets, origin, entropy }: Identified,
    numbers: &BTreeMap<NodeId, PeerNumbers>,
    rings: RxRings,
    roll: &Roll,
) -> Rx {
    let settings = RxSettings {
        listen: (origin.node == config.node.id).then(|| config.peer.listen.clone()),
        reconnect_min: config.peer.reconnect_min,
        reconnect_max: config.peer.reconnect_max,
        handshake_max: HANDSHAKE_MAX,
        silence_max: KEEP_ALIVE * SILENT_KEEP_ALIVES,
    };
    // Clients dial: nobody needs to know where they are.
    let listed = |m: &crate::wire::members::Member| (m.id, m.key, m.peer.clone());
    let members = roll.membership.members.iter().map(listed);
    let clients = config.cluster.clients.iter().map(|c| (c.id, c.key, String::new()));
    let others: Vec<_> = members.chain(clients).filter(|(id, ..)| numbers.contains_key(id)).collect();
    let mut identity = Identity {
        node: origin.node,
        boot: origin.boot,
        cluster: config.cluster.id,
        fingerprint: config.fingerprint(),
        secret: secrets.own,
        other: secrets.next,
        other_for: BTreeSet::new(),
        encrypt: config.peer.encrypt,
        peers: others.iter().map(|(id, key, _)| (*id, *key)).collect(),
    };
    if let Some(own) = roll.membership.members.iter().find(|member| member.id == origin.node) {
        identity.take_up(own.key);
    }
    let address = |(id, _, address)| (id, PeerAddress { address, numbers: numbers[&id].clone() });
    let addresses = others.into_iter().map(address).collect();
    Rx::new(settings, identity, addresses, entropy, rings)
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

/// What the client port may use.
pub(super) fn client_options(config: &Resolved) -> front::Options {
    let client = &config.client;
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
        unsent_bytes_max: client.output_bytes_max as u64,
        reads_in_log: config.group.verify,
        ..front::Options::at(&client.listen)
    }
}

/// What clients are told of this node.
fn client_view(
    config: &Resolved,
    origin: Origin,
    (told, store): (&Told, &StoreTold),
    ending: &Ending,
    roster: &Roster,
) -> View {
    let member = |m: &crate::config::Member| Member::at(m.id, &m.client);
    View {
        node: config.node.id,
        cluster: u128::from_be_bytes(config.cluster.id.0),
        generation: origin.boot,
        members: config.cluster.members.iter().map(member).collect(),
        roster: Some((roster.clone(), 0)),
        memory_max: config.store.maxmemory,
        process: std::process::id(),
        facts: Facts {
            leader: told.leader.clone(),
            term: told.term.clone(),
            replicas: match config.group.protocol {
                ProtocolKind::Raft => Number::default(),
                ProtocolKind::Pbft => told.replicas.clone(),
            },
            committed: told.commit.clone(),
            applied: store.applied.clone(),
            extent: front::Extent {
                longest_key: store.longest_key.clone(),
                longest_string: store.longest_string.clone(),
                largest_record: store.largest_record.clone(),
                bounds: store.bounds.clone(),
                memory: store.memory.clone(),
            },
            keys: store.keys.clone(),
            expiring: store.expiring.clone(),
            followers: told.members.clone(),
            loaded: told.loaded.clone(),
            drain: ending.drain.clone(),
            connections: Number::default(),
            drained: ending.clients.clone(),
        },
    }
}
