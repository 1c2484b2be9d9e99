//! Composition: which roles share a core, how they are connected, how a node begins, runs and ends.
//!
//! [`run()`] is a node's life. Nothing below the command line and the simulator names this room, and it names every other.

pub mod agent;
mod ahead;
pub mod boot;
mod keeping;
pub mod keys;
pub mod liar;
pub mod members;
pub mod outside;
pub mod placement;
mod probe;
pub mod run;
pub mod sizes;
mod threads;
mod watch;
pub mod wiring;

use crate::admin::Context;
use crate::admin::keeper::KeeperBell;
use crate::admin::server::Limits as HttpLimits;
use crate::admin::status::{Convicted, Facts, PeerFacts};
use crate::admin::{
    Event, EventSink, LogFormat, LogLines, Service, ServiceError, ServiceOptions, Status, Token,
};
use crate::base::{GROUP_ONE, NodeId, Number, Slot};
use crate::config::{LineFormat, Resolved};
use crate::crypto::SecretKey;
use crate::io::{DriverError, SystemEntropy, process};
use crate::log::error::REPLACE;
use crate::log::superblock::{self, SuperblockError};
use crate::log::{FORMAT_VERSION, LogError};
use crate::meter::Board;
use crate::protocol::Engine;
use crate::protocol::Hole;
use crate::protocol::pbft::liars::Liars;
use crate::wire::roster::Roster;
use agent::NodeAgent;
use boot::Booted;
use crossbeam::channel::{Receiver, unbounded};
use keys::Secrets;
use liar::Lies;
use placement::{Placement, Role};
use run::{Core, CoreError};
use sizes::Sizes;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use threads::Threads;
use watch::{MembersSight, Sights, Watch};
use wiring::{Begun, Ending, Surroundings, begin, wire};

/// A core whose loop does not turn for this long is stalled.
const STALL_AFTER: Duration = Duration::from_secs(5);
/// Commits that the store may be behind and the node still be ready.
const APPLIED_LAG_MAX: u64 = 1024;
/// What helps when a thread cannot be started.
const MORE_PROCESSES: &str = "raise the limit of processes (ulimit -u)";
/// How long a readiness probe waits for its read.
const PROBE_WAIT: Duration = Duration::from_secs(2);

/// Why a node did not start, or ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine refused something.
    #[error("{what}: {error}; {cure}")]
    Machine {
        /// What was wanted.
        what: String,
        /// Why it was refused.
        error: std::io::Error,
        /// What helps.
        cure: &'static str,
    },
    /// No io_uring.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// This is not the data of this node.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The log cannot be read back.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Log and snapshot do not fit together.
    #[error(transparent)]
    Hole(#[from] Hole),
    /// A record is whole, and says nothing that this version knows.
    #[error("the log's record at slot {slot}: {why}; start the version that wrote it, or replace this node")]
    Record {
        /// Its place.
        slot: Slot,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot is not what was written, and what the log still has does not reach below it.
    #[error("the snapshot {} is damaged: {why}. The log was cut at its slot, so nothing else here holds what it held. {REPLACE}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        why: String,
    },
    /// A node that came later does not know to which group it has come.
    #[error("node {node} is not one of the group's first members, and its charter {}: {why}; `quorate ctl members add` writes it when it lets the node in", path.display())]
    Charter {
        /// Which node.
        node: NodeId,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Snapshots, or proof that replicas lie, cannot be got at.
    #[error("{}: {error}; see that the user that runs the node may read and write it, and that its disk is sound", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The service plane.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A core ended.
    #[error(transparent)]
    Core(#[from] CoreError),
}

fn machine(what: impl Into<String>, cure: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    move |error| RunError::Machine { what, error, cure }
}

/// Where a node that is ready is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Which.
    pub node: NodeId,
    /// By clients.
    pub clients: String,
    /// By peers.
    pub peers: String,
    /// Its service plane.
    pub admin: SocketAddr,
}

/// Runs one node until SIGTERM or SIGINT, and lets it lie if a test wants that. Calls `announce` when it is ready.
pub fn run(config: Resolved, lies: Option<Lies>, announce: impl FnOnce(&Ready)) -> Result<(), RunError> {
    process::share_memory();
    let _alone = superblock::lock(&config.node.dir)?;
    let format = match config.log_lines.format {
        LineFormat::Text => LogFormat::Text,
        LineFormat::Json => LogFormat::Json,
    };
    let (events, lines) = LogLines::start(format, config.node.id.0)
        .map_err(machine("the thread of log lines", MORE_PROCESSES))?;
    let ended = live(&config, lies, &events, announce);
    drop(events);
    lines.join();
    ended
}

/// From the first thread to the last.
fn live(
    config: &Resolved,
    lies: Option<Lies>,
    events: &EventSink,
    announce: impl FnOnce(&Ready),
) -> Result<(), RunError> {
    let signals = signals()?;
    let placement = Placement::of(config.placement.cores);
    let mut threads = Threads::start(config, &placement)?;
    for what in threads.remarks.drain(..) {
        events.emit(Event::Warning { what });
    }
    let Some((origin, charter)) = threads.known(&signals)? else { return Ok(()) };
    let mut begun = begin(config, &Sizes::NODE, origin, &charter);
    let ahead = begun.clients.take().into_iter().flatten().zip([Role::Take, Role::Reply]);
    threads.run_ahead(ahead.map(|(agent, role)| (placement.place_of(role), agent)).collect());
    let Some(booted) = threads.booted(&signals)? else {
        events.emit(Event::Stop { why: "a signal, before the log was read back".into() });
        // There is no replica that could have anything left to do.
        begun.ending.replica.set(1);
        threads.drain(&begun.ending, config.times.drain_within);
        threads.stop();
        return Ok(());
    };
    let torn = booted.log.torn().map(str::to_string);
    events.emit(Event::Recovered { last: booted.last().0, took: booted.took, torn });
    for what in &booted.passed_over {
        events.emit(Event::Warning { what: what.clone() });
    }
    if booted.log.is_buffered() {
        let what = "the log's file system refuses direct I/O: each write goes through the page cache and is synced all the same, which \
                    costs CPU and memory";
        events.emit(Event::Warning { what: what.into() });
    }
    let node = assemble(config, lies, &placement, &threads, begun, booted, events)?;
    threads.hand_out(node.cores)?;
    let ready = Ready {
        node: config.node.id,
        clients: config.client.listen.clone(),
        peers: config.peer.listen.clone(),
        admin: node.service.address(),
    };
    announce(&ready);
    events.emit(Event::Start {
        version: env!("CARGO_PKG_VERSION"),
        clients: ready.clients,
        peers: ready.peers,
        admin: ready.admin.to_string(),
        kernel: std::mem::take(&mut threads.ring),
    });
    let ended = match threads.wait(&signals) {
        Some(error) => Err(error),
        None => {
            events.emit(Event::Stop { why: "a signal".into() });
            threads.drain(&node.ending, config.times.drain_within);
            Ok(())
        }
    };
    threads.stop();
    node.service.stop();
    ended
}

/// SIGTERM and SIGINT, as messages.
fn signals() -> Result<Receiver<i32>, RunError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let cure = "see the error";
    let mut caught =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(machine("signal handlers", cure))?;
    let (tell, signals) = unbounded();
    std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 * 1024)
        .spawn(move || caught.forever().try_for_each(|signal| tell.send(signal)))
        .map_err(machine("the thread of signals", MORE_PROCESSES))?;
    Ok(signals)
}

/// Everything but the threads.
struct Node {
    cores: Vec<Core>,
    service: Service,
    ending: Ending,
}

fn assemble(
    config: &Resolved,
    lies: Option<Lies>,
    placement: &Placement,
    threads: &Threads,
    begun: Begun,
    booted: Booted,
    events: &EventSink,
) -> Result<Node, RunError> {
    let secrets = Secrets::read(config)?;
    let status = Arc::new(Status::new(placement.cores.len(), STALL_AFTER, facts(config, &booted)));
    if let Engine::Pbft(pbft) = &booted.engine {
        for (node, kind, proof) in pbft.proofs() {
            status.convict(Convicted { node: node.0, kind: kind.into() }, proof.bytes().clone());
        }
    }
    let board = Arc::new(Board::new(placement.cores.len()));
    let doorbell = |role: Role| threads.doorbells[placement.core_of(role)].clone();
    let bell = KeeperBell::default();
    let around = Surroundings {
        doorbells: &doorbell,
        keeper: Arc::new(bell.clone()),
        entropy: Box::new(SystemEntropy),
        liars: lies.map(|lies| lying(config, &secrets.own, &lies)).transpose()?,
    };
    let snapshots = booted.snapshots.clone();
    let mut wired = wire(begun, config, &Sizes::NODE, secrets, booted, around);
    let keeper = keeping::keeper(config, wired.keeper, bell, snapshots, &status, events);
    let (mut links, mut sight) = (Some(wired.links), Some(wired.sight));
    let node = config.node.id.to_string();
    let mut cores = Vec::new();
    for (index, roles) in placement.cores.iter().enumerate() {
        let mut take = |role: &Role| {
            let at = wired.agents.iter().position(|(r, _)| r == role)?;
            Some(wired.agents.swap_remove(at).1)
        };
        // The thread puts those that run already between them.
        let agents: Vec<Box<dyn NodeAgent>> = roles.iter().filter_map(&mut take).collect();
        let sights = Sights {
            links: links.take_if(|_| roles.contains(&Role::Rx)),
            members: roles.contains(&Role::Replica).then(|| MembersSight::new(wired.roster.clone())),
            replica: sight.take_if(|_| roles.contains(&Role::Replica)),
        };
        let names: Vec<&'static str> = roles.iter().map(|role| role.agent()).collect();
        let (status, board) = (status.clone(), board.clone());
        let watch = Watch::new(index, status, board, events.clone(), &names, &[("node", &node)], sights);
        cores.push(Core {
            agents,
            begun: Vec::new(),
            neighbours: threads.others(index),
            watch,
            stop: threads.stop.clone(),
        });
    }
    let keys = Arc::new(wired.keys);
    let plane = Plane { status, board, probe: wired.probe, roster: wired.roster, keys };
    let service = serve(config, plane, keeper, events)?;
    Ok(Node { cores, service, ending: wired.ending })
}

/// What a node that lies says instead of what its replica wants to, and when.
fn lying(config: &Resolved, secret: &SecretKey, lies: &Lies) -> Result<(Vec<Liars>, Number), RunError> {
    let turn = liar::watch(lies).map_err(machine("the thread of lies", MORE_PROCESSES))?;
    Ok((lies.liars(config, secret), turn))
}

fn facts(config: &Resolved, booted: &Booted) -> Facts {
    let others = config.cluster.members.iter().filter(|m| m.id != config.node.id);
    let peer = |m: &crate::config::Member| PeerFacts {
        node: m.id.0,
        address: m.peer.clone(),
        ..PeerFacts::default()
    };
    let mut facts = Facts {
        node: config.node.id.0,
        cluster: config.cluster.id.to_string(),
        group: GROUP_ONE.0,
        protocol: config.group.protocol.name().to_string(),
        peers: others.map(peer).collect(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        wire_version: crate::wire::hello::VERSION.into(),
        boot: booted.origin.boot,
        ..Facts::default()
    };
    facts.log.direct = !booted.log.is_buffered();
    facts.memory.store_bytes_max = config.store.maxmemory;
    facts
}

/// What the service plane has of the data plane.
struct Plane {
    status: Arc<Status>,
    board: Arc<Board>,
    probe: Arc<probe::DataPlaneProbe>,
    roster: Roster,
    keys: Arc<keys::Maker>,
}

fn serve(
    config: &Resolved,
    plane: Plane,
    keeper: crate::admin::Keeper,
    events: &EventSink,
) -> Result<Service, RunError> {
    let listen = &config.admin.listen;
    let cure = "set [admin] listen to host:port";
    let address =
        listen.to_socket_addrs().map_err(machine(format!("the admin address {listen}"), cure))?.next();
    let missing = || std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    let address = address.ok_or_else(|| machine(format!("the admin address {listen}"), cure)(missing()))?;
    // Without a readable token nothing can be changed over HTTP; that is no reason not to serve.
    let token = Token::read(&config.admin.token_file)
        .inspect_err(|error| events.emit(Event::Warning { what: error.to_string() }))
        .ok();
    let Plane { status, board, probe, roster, keys } = plane;
    let context = Context {
        status,
        board,
        probe,
        roster,
        keys,
        token,
        applied_lag_max: APPLIED_LAG_MAX,
        probe_wait: PROBE_WAIT,
        own: Vec::new(),
    };
    let options = ServiceOptions { address, limits: HttpLimits::default() };
    Ok(Service::start(options, context, Some(keeper), events.clone())?)
}

const _: () = assert!(FORMAT_VERSION == 1, "a new format needs a path from the old one");
