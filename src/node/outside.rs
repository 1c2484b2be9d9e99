//! A native client as a process: Redis clients on one side, every replica of a PBFT group on the other.
//!
//! ```text
//! Redis clients -> take -> client -> seal -> tx -> every replica
//!                  reply <- client <- open <- rx <- every replica
//! ```
//! It is made of the agents that a node is made of, with `client::ClientAgent` where a node has its replica, log and store. So a Redis
//! client that has such a process beside it trusts no node.

use super::agent::NodeAgent;
use super::members;
use super::run::{self, Core as Agents};
use super::threads::DRAIN_PAUSE;
use super::watch::{MembersSight, Sights, Watch};
use super::wiring::{self, Identified};
use super::{RunError, STALL_AFTER, machine, signals};
use crate::admin::status::Facts as StatusFacts;
use crate::admin::{Event, EventSink, LogFormat, LogLines, Status};
use crate::auth::Open;
use crate::base::bounds::Bounds;
use crate::base::ring::{Consumer, ring};
use crate::base::{GROUP_ONE, NodeId, Number, Origin, Stamp};
use crate::client::{Auth, ClientAgent, Core, Ports, Settings};
use crate::config::limits::NODES_MAX;
use crate::config::{ClientAuth, LineFormat, Resolved};
use crate::crypto::SecretKey;
use crate::front::plan::Settled;
use crate::front::{self, Extent, Facts, Member, Reply, Take, TakePorts, View};
use crate::io::driver::Doorbell;
use crate::io::{SystemEntropy, Uring, UringOptions, clock};
use crate::meter::Board;
use crate::net::rx::{Following, Rings as RxRings};
use crate::net::tx::Tx;
use crate::node::sizes::Sizes;
use crate::protocol::pbft::Lineage;
use crate::wire::hop::{LinkEvent, PeerNumbers};
use crate::wire::roster::Roster;
use crossbeam::channel::{Receiver, never};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What this process knows of the length of replies, for want of a store: it bounds the memory that a connection's replies may take
/// before they come. A longer reply comes all the same.
const STRING_BYTES: u64 = 16 << 10;
/// See `STRING_BYTES`.
const KEY_BYTES: u64 = 1 << 10;

/// Which client this process is.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The cluster, as any of its nodes knows it.
    pub config: Resolved,
    /// The client's private key.
    pub secret: SecretKey,
    /// Who is in the group, as far as is known beforehand.
    pub lineage: Lineage,
    /// Where Redis clients connect.
    pub listen: String,
}

/// The numbers that agents, and the thread of the orderly end, tell each other.
#[derive(Clone, Default)]
struct Shared {
    drain: Number,
    core: Number,
    clients: Number,
    stop: Number,
    /// How many members there are.
    replicas: Number,
}

impl Outside {
    /// Its name: the key says it.
    pub fn id(&self) -> Option<NodeId> {
        let key = self.secret.public();
        self.config.cluster.clients.iter().find(|client| client.key == key).map(|client| client.id)
    }

    /// Runs until SIGTERM or SIGINT. Calls `announce` with its id when it is ready.
    pub fn run(&self, announce: impl FnOnce(NodeId)) -> Result<(), RunError> {
        let unknown = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let cure =
            "`quorate init --clients` lists keys as [[cluster.clients]], in the configuration of every node";
        let id = self.id().ok_or_else(|| machine("the key of a native client", cure)(unknown()))?;
        let format = match self.config.log_lines.format {
            LineFormat::Text => LogFormat::Text,
            LineFormat::Json => LogFormat::Json,
        };
        let (events, lines) = LogLines::start(format, id.0)
            .map_err(machine("the thread of log lines", "raise the limit of processes (ulimit -u)"))?;
        let ended = self.live(id, &events, announce);
        drop(events);
        lines.join();
        ended
    }

    fn live(&self, id: NodeId, events: &EventSink, announce: impl FnOnce(NodeId)) -> Result<(), RunError> {
        let (signals, shared) = (signals()?, Shared::default());
        let spin = self.config.placement.spin;
        let mut driver = Uring::new(UringOptions { spin, ..UringOptions::NODE })?;
        let known = self.lineage.charters().last().cloned().unwrap_or(members::first(&self.config));
        let roster = Roster::new(members::roll(&self.config, &Sizes::NODE, &known));
        let (agents, links) = self.wire(id, clock::wall(), &roster, &shared);
        let watch = self.watch(id, events, &agents, links, roster);
        let core =
            Agents { agents, begun: Vec::new(), neighbours: Vec::new(), watch, stop: shared.stop.clone() };
        let doorbell = crate::io::Driver::doorbell(&driver);
        let within = self.config.times.drain_within;
        let end = move || end_in_order(&signals, &shared, doorbell.as_ref(), within);
        std::thread::Builder::new()
            .name("ending".into())
            .spawn(end)
            .map_err(machine("the thread of the orderly end", "raise the limit of processes (ulimit -u)"))?;
        run::run(core, &mut driver, || announce(id))?;
        events.emit(Event::Stop { why: "a signal".into() });
        Ok(())
    }

    fn watch(
        &self,
        id: NodeId,
        events: &EventSink,
        agents: &[Box<dyn NodeAgent>],
        links: Consumer<LinkEvent>,
        roster: Roster,
    ) -> Watch {
        let facts = StatusFacts { node: id.0, ..StatusFacts::default() };
        let (status, board) = (Arc::new(Status::new(1, STALL_AFTER, facts)), Arc::new(Board::new(1)));
        let names: Vec<&'static str> = agents.iter().map(|agent| agent.name()).collect();
        let members = Some(MembersSight::new(roster));
        let sights = Sights { links: Some(links), replica: None, members };
        Watch::new(0, status, board, events.clone(), &names, &[("client", &id.to_string())], sights)
    }

    /// Makes all agents and connects them.
    fn wire(
        &self,
        id: NodeId,
        clock: Stamp,
        roster: &Roster,
        shared: &Shared,
    ) -> (Vec<Box<dyn NodeAgent>>, Consumer<LinkEvent>) {
        let (config, sizes) = (&self.config, Sizes::NODE);
        let origin = Origin { node: id, lane: 0, boot: clock.0 };
        // Members come and go.
        let numbers: BTreeMap<NodeId, PeerNumbers> =
            (1..=NODES_MAX as u8).map(|id| (NodeId(id), PeerNumbers::default())).collect();
        let (incoming, seal_links, send_links) = (ring(sizes.ring_values), ring(sizes.few), ring(sizes.few));
        let (events, opened, demands) = (ring(sizes.few), ring(sizes.ring_values), ring(sizes.ring_values));
        let (outgoing, sealed, answers) =
            (ring(sizes.ring_values), ring(sizes.ring_values), ring(sizes.ring_values));
        let (planned, settled) = (ring(sizes.ring_values), Settled::default());
        let rings = RxRings { open: incoming.0, seal: seal_links.0, tx: send_links.0, events: events.0 };
        let identified =
            Identified { secrets: self.secret.clone().into(), origin, entropy: Box::new(SystemEntropy) };
        let mut seen = 0;
        let roll = roster.news(&mut seen).expect("nobody has looked before");
        let following = Following { roster: roster.clone(), numbers: numbers.clone(), keys: never(), seen };
        let ports = Ports {
            demands: demands.1,
            opened: opened.1,
            outgoing: outgoing.0,
            answers: answers.0,
            drain: shared.drain.clone(),
            drained: shared.core.clone(),
            roster: roster.clone(),
            replicas: shared.replicas.clone(),
        };
        let core = Core::new(self.settings(id, origin.boot), self.lineage.clone(), self.secret.signing());
        let take_ports = TakePorts { plans: planned.0, demands: demands.0, settled: settled.clone() };
        let options = front::Options {
            address: self.listen.clone(),
            reads_in_log: !config.group.fast_reads,
            ..wiring::client_options(config)
        };
        let outgoing = [outgoing.1, ring(1).1];
        let agents: Vec<Box<dyn NodeAgent>> = vec![
            Box::new(wiring::make_rx(config, identified, &numbers, rings, &roll).following(following)),
            Box::new(Open::new(incoming.1, opened.0, numbers.clone())),
            Box::new(Take::new(options, self.view(id, origin.boot, shared), take_ports)),
            Box::new(ClientAgent::new(core, ports)),
            Box::new(wiring::make_seal(config, id, outgoing, seal_links.1, sealed.0, &numbers)),
            Box::new(Tx::new(wiring::SEND_STALL_MAX, sealed.1, send_links.1, numbers)),
            Box::new(Reply::new(planned.1, answers.1, ring(1).1, settled, None)),
        ];
        (agents, events.1)
    }

    fn settings(&self, me: NodeId, boot: u64) -> Settings {
        let answer_within = self.config.times.answer_within;
        Settings {
            group: GROUP_ONE,
            me,
            boot,
            fast_reads: self.config.group.fast_reads,
            auth: match self.config.group.client_auth {
                ClientAuth::Sign => Auth::Sign,
                ClientAuth::Mac => Auth::Mac,
            },
            // The first attempt goes to one replica, which may be down: a few round trips, and time for three more.
            retry_after: answer_within / 10,
            answer_within,
        }
    }

    /// What Redis clients are told of this process: it is alone, and takes everything.
    fn view(&self, me: NodeId, boot: u64, shared: &Shared) -> View {
        View {
            node: me,
            cluster: u128::from_be_bytes(self.config.cluster.id.0),
            generation: boot,
            members: vec![Member::at(me, &self.listen)],
            roster: None,
            memory_max: 0,
            process: std::process::id(),
            facts: Facts {
                leader: Number::new(me.0.into()),
                extent: Extent {
                    longest_key: Number::new(KEY_BYTES),
                    longest_string: Number::new(STRING_BYTES),
                    largest_record: Number::new(STRING_BYTES),
                    memory: Number::new(STRING_BYTES),
                    bounds: Bounds::default(),
                },
                loaded: Number::new(1),
                replicas: shared.replicas.clone(),
                drain: shared.drain.clone(),
                drained: shared.clients.clone(),
                ..Facts::default()
            },
        }
    }
}

/// Waits for a signal; then everything that was asked is answered, for so long at most.
fn end_in_order(
    signals: &Receiver<i32>,
    shared: &Shared,
    doorbell: &dyn Doorbell,
    within: std::time::Duration,
) {
    // No signal comes any more when the process has ended otherwise.
    if signals.recv().is_err() {
        return;
    }
    shared.drain.set(1);
    let until = clock::monotonic().after(within);
    while (shared.core.get() == 0 || shared.clients.get() == 0) && clock::monotonic() < until {
        doorbell.ring();
        std::thread::sleep(DRAIN_PAUSE);
    }
    shared.stop.set(1);
    doorbell.ring();
}
