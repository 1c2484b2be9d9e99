//! A node of the simulated world: all agents that `node::wiring` makes, around one simulated driver, in one thread.

use super::disk::{Disk, Harms};
use super::driver::{Manners, Silent, SimDriver};
use super::keeper::{self, SimKeeper, SnapshotsOf};
use super::pbft::{self, Pbft};
use super::swarm::Swarm;
use crate::base::ring::Consumer;
use crate::base::{Instant, NodeId, Number, Prng, Stamp, place};
use crate::config::{self, Cluster, Member, Resolved};
use crate::crypto::{ClusterId, SecretKey};
use crate::io::{Completion, Driver, Entropy};
use crate::log::Identity;
use crate::log::superblock::{self, Superblock};
use crate::node::RunError;
use crate::node::agent::NodeAgent;
use crate::node::boot::{Booted, boot, identify, snapshots, store_options};
use crate::node::members;
use crate::node::sizes::Sizes;
use crate::node::wiring::{Ending, Surroundings, begin, wire};
use crate::replica::agent::Told;
use crate::store::agent::Told as StoreTold;
use crate::wire::hop::LinkEvent;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Changes of links that are remembered, for who wants to know why a cluster is stuck.
const TOLD_OF_LINKS_MAX: usize = 4;
/// Passes over all agents in one turn, after which time must go on.
const PASSES_MAX: usize = 64;

/// Randomness for handshakes: a function of the seed.
pub struct Seeded(pub Prng);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Where a node listens for peers.
pub fn peer_address(index: usize) -> String {
    format!("node{}:1", index + 1)
}
/// Where a node listens for clients.
pub fn client_address(index: usize) -> String {
    format!("node{}:2", index + 1)
}

/// What a running node consists of.
pub struct Life {
    /// Its driver, with the disk of the log.
    pub driver: SimDriver,
    /// In the order of the wiring, which is that of `Token::agent`.
    agents: Vec<Box<dyn NodeAgent>>,
    /// Of snapshots.
    pub keeper: SimKeeper,
    /// What the replica shows.
    pub told: Told,
    /// What the store shows.
    pub store: StoreTold,
    /// The numbers of an orderly end.
    pub ending: Ending,
    links: Consumer<LinkEvent>,
    /// The newest of them.
    told_of_links: VecDeque<LinkEvent>,
    completions: Vec<Completion>,
    /// In how many passes of the last turn each agent had something to do, the keeper last.
    restless: [u64; 10],
}

/// Why a node is not running.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Down {
    /// It crashed and will come back.
    Crashed,
    /// It would not start with what it found on its disks.
    Refused(String),
}

/// What a turn came to.
#[derive(Debug, Default)]
pub struct Turn {
    /// Somebody still has something to do.
    pub unfinished: bool,
    /// Nobody had anything to do.
    pub was_idle: bool,
    /// An agent cannot go on: the node ends.
    pub failure: Option<String>,
}

/// What all nodes of a world have in common.
pub struct Common {
    /// Of the first node; others differ in id and addresses.
    config: Resolved,
    pub(super) sizes: Sizes,
    manners: Manners,
    /// Of a PBFT group.
    pub(super) pbft: Option<Pbft>,
    secrets: Vec<SecretKey>,
    keeper_delay: Duration,
}

impl Common {
    /// For so many nodes.
    pub fn new(swarm: &Swarm, prng: &mut Prng) -> Common {
        let mut entropy = Seeded(Prng::from_seed(prng.next_u64()));
        let mut bytes = [0; 32];
        let mut secret = || {
            entropy.fill(&mut bytes);
            SecretKey::from_entropy(bytes)
        };
        let secrets: Vec<SecretKey> = (0..swarm.nodes).map(|_| secret()).collect();
        let member = |(index, secret): (usize, &SecretKey)| Member {
            id: NodeId(index as u8 + 1),
            peer: peer_address(index),
            client: client_address(index),
            admin: None,
            key: secret.public(),
            signing_key: swarm.pbft.as_ref().map(|_| secret.signing().public()),
        };
        let members = secrets.iter().enumerate().map(member).collect();
        let cluster =
            Cluster { id: ClusterId([7; 16]), members, clients: Vec::new(), joined: None, operator: None };
        Common {
            config: swarm.config(cluster),
            sizes: swarm.sizes,
            manners: swarm.manners,
            pbft: swarm.pbft.clone(),
            secrets,
            keeper_delay: swarm.keeper_delay,
        }
    }
    fn of(&self, index: usize) -> Resolved {
        let mut config = self.config.clone();
        config.node.id = NodeId(index as u8 + 1);
        config.peer.listen = peer_address(index);
        config.client.listen = client_address(index);
        config
    }
    /// How the stores are made.
    pub fn store_options(&self) -> crate::store::Options {
        store_options(&self.config, &self.sizes)
    }
}

/// Where a node keeps its data, on its own disks.
pub fn data() -> PathBuf {
    PathBuf::from("data")
}

/// A node, running or not.
pub struct Node {
    /// Its number, from 0.
    pub index: usize,
    /// Counts its lives, in vain begun ones included.
    pub lives: u64,
    /// Why it is down; it has a `life` otherwise.
    pub down: Option<Down>,
    /// While it runs.
    pub life: Option<Life>,
    /// The disk of log and superblock, while no driver has it.
    disk: Option<Disk>,
    /// The disk of snapshots.
    pub shelf: Disk,
    /// Of earlier lives.
    pub kept: keeper::Counts,
    /// How it lies, if it does.
    pub turn: Number,
    /// Local time is `offset + now * rate / 1000`.
    pub rate: u64,
    /// See `rate`.
    pub offset: u64,
    /// The wall clock is so many milliseconds ahead.
    pub wall: u64,
}

impl Node {
    /// A node that has never run, with the disk that `quorate init` makes.
    pub fn new(index: usize, common: &Common, rate: u64, offset: u64, wall: u64) -> Node {
        let identity = Identity { cluster: common.config.cluster.id.0, node: NodeId(index as u8 + 1) };
        let mut disk = Disk::default();
        let fresh = Superblock::fresh(identity);
        disk.put_whole(&superblock::path(&data()), &fresh).expect("an empty disk has room");
        let (shelf, kept) = (Disk::default(), keeper::Counts::default());
        let (down, life) = (Some(Down::Crashed), None);
        let (disk, turn) = (Some(disk), pbft::loud());
        Node { index, lives: 0, down, life, disk, shelf, kept, turn, rate, offset, wall }
    }
    /// Its id.
    pub fn id(&self) -> NodeId {
        NodeId(self.index as u8 + 1)
    }
    /// Its own monotonic clock.
    pub fn local(&self, now: u64) -> Instant {
        Instant(self.offset + now / 1000 * self.rate)
    }
    /// Its own wall clock.
    pub fn clock(&self, now: u64) -> Stamp {
        Stamp(self.wall + now / 1_000_000)
    }
    /// When, in the world's time, its monotonic clock will show `local`.
    pub fn world_time(&self, local: Instant) -> u64 {
        local.0.saturating_sub(self.offset).div_ceil(self.rate).saturating_mul(1000)
    }
    /// The disk of log and superblock.
    pub fn disk(&mut self) -> &mut Disk {
        match &mut self.life {
            Some(life) => &mut life.driver.disk,
            None => self.disk.as_mut().expect("a disk is with its node or its driver"),
        }
    }
    /// What went wrong on its disks so far.
    pub fn harms(&mut self) -> [Harms; 2] {
        [self.disk().harms, self.shelf.harms]
    }

    /// Begins a life. With `writes` the node dies when it has written so often, if it has not started by then. Gives back how long it
    /// took on its own clock, or `None` when there is no life.
    pub fn start(
        &mut self,
        common: &Common,
        now: u64,
        seed: u64,
        writes: Option<u32>,
        power: bool,
    ) -> Option<Duration> {
        assert!(self.life.is_none());
        self.lives += 1;
        let config = common.of(self.index);
        let (begun, wall) = (self.local(now), self.clock(now));
        let disk = self.disk.take().expect("a node that is down has its disk");
        let mut driver = SimDriver::starting(disk, common.manners, begun, wall, seed, writes);
        let mut entropy = Seeded(Prng::from_seed(seed));
        let mut shelf = SnapshotsOf {
            directory: snapshots(&data()),
            disk: &mut self.shelf,
            short_transfers: common.manners.short_transfers,
            prng: Prng::from_seed(seed ^ 1),
        };
        let secret = &common.secrets[self.index];
        let booted = identify(&config, &mut driver).and_then(|known| {
            boot(known, &config, &common.sizes, &secret.clone().into(), &mut driver, &mut entropy, &mut shelf)
        });
        match booted {
            _ if driver.has_died() => {
                self.disk = Some(driver.die(power));
                self.down = Some(Down::Crashed);
                None
            }
            Err(error) => {
                self.disk = Some(driver.die(false));
                self.down = Some(match is_passing(&error) {
                    true => Down::Crashed,
                    false => Down::Refused(error.to_string()),
                });
                None
            }
            Ok(booted) => {
                let took = driver.now.since(begun);
                driver.run();
                self.live(common, &config, booted, driver, entropy, seed);
                Some(took)
            }
        }
    }

    fn live(
        &mut self,
        common: &Common,
        config: &Resolved,
        booted: Booted,
        mut driver: SimDriver,
        entropy: Seeded,
        seed: u64,
    ) {
        let snapshot = booted.snapshots.last().map(|(id, _)| *id);
        let secret = common.secrets[self.index].clone();
        let around = Surroundings {
            doorbells: &|_| Arc::new(Silent),
            keeper: Arc::new(Silent),
            entropy: Box::new(entropy),
            liars: pbft::lying(common, config, &secret, &self.turn, seed),
        };
        let wired = wire(
            begin(config, &common.sizes, booted.origin, &members::first(config)),
            config,
            &common.sizes,
            secret.into(),
            booted,
            around,
        );
        let options = store_options(config, &common.sizes);
        let keeper = SimKeeper::new(
            wired.keeper,
            snapshots(&data()),
            options,
            snapshot,
            common.keeper_delay,
            common.pbft.is_some(),
        );
        let mut agents: Vec<Box<dyn NodeAgent>> = wired.agents.into_iter().map(|(_, agent)| agent).collect();
        for (slot, agent) in agents.iter_mut().enumerate() {
            place::enter_agent(agent.name());
            agent.start(slot as u8, &mut driver).expect("a simulated driver listens and opens");
        }
        self.down = None;
        self.life = Some(Life {
            driver,
            agents,
            keeper,
            told: wired.sight.told.clone(),
            store: wired.store,
            ending: wired.ending,
            links: wired.links,
            told_of_links: VecDeque::new(),
            completions: Vec::new(),
            restless: [0; 10],
        });
    }

    /// Ends a life: the process is killed, or power is lost.
    pub fn crash(&mut self, power: bool, seed: u64) {
        let Some(life) = self.life.take() else { return };
        let Life { driver, keeper, .. } = life;
        self.kept.made += keeper.counts.made;
        self.kept.installed += keeper.counts.installed;
        self.kept.failed += keeper.counts.failed;
        self.disk = Some(driver.die(power));
        if power {
            self.shelf.lose_power([].into_iter(), &mut Prng::from_seed(seed));
        }
        self.down = Some(Down::Crashed);
    }

    /// One turn of a running node.
    pub fn turn(&mut self, now: u64, prng: &mut Prng, skip_per_mille: u64) -> Turn {
        let (local, clock) = (self.local(now), self.clock(now));
        let shelf = &mut self.shelf;
        shelf.now_ms = now / 1_000_000;
        let life = self.life.as_mut().expect("a node that runs");
        (life.driver.now, life.driver.wall) = (life.driver.now.max(local), clock);
        life.driver.disk.now_ms = now / 1_000_000;
        life.turn(shelf, prng, skip_per_mille)
    }
}

/// Errors of a start that say nothing of what is stored.
fn is_passing(error: &RunError) -> bool {
    use crate::log::{LogError, SuperblockError};
    matches!(
        error,
        RunError::Log(LogError::Io { .. } | LogError::Fatal(_))
            | RunError::Superblock(SuperblockError::Io { .. })
    )
}

impl Life {
    /// The agents that never came to an end of their work in a whole turn, with how often they worked in it.
    pub fn restless(&self) -> Vec<(&'static str, u64)> {
        let names = self.agents.iter().map(|agent| agent.name()).chain(["keeper"]);
        names.zip(self.restless).filter(|(_, passes)| PASSES_MAX as u64 <= 2 * passes).collect()
    }

    fn turn(&mut self, shelf: &mut Disk, prng: &mut Prng, skip_per_mille: u64) -> Turn {
        self.restless = [0; 10];
        for pass in 0..PASSES_MAX {
            let (done, skipped) = self.pass(shelf, prng, skip_per_mille);
            if let Some(failure) = self.agents.iter().find_map(|agent| agent.failure()) {
                return Turn { failure: Some(failure), ..Turn::default() };
            }
            if done == 0 {
                return Turn { unfinished: skipped, was_idle: pass == 0, failure: None };
            }
        }
        Turn { unfinished: true, was_idle: false, failure: None }
    }

    /// Lets every agent work once, in any order; a slow one perhaps not.
    fn pass(&mut self, shelf: &mut Disk, prng: &mut Prng, skip_per_mille: u64) -> (usize, bool) {
        self.driver.reap(&mut self.completions);
        let mut done = self.completions.len();
        for completion in self.completions.drain(..) {
            let agent = &mut self.agents[usize::from(completion.token.agent)];
            place::enter_agent(agent.name());
            agent.complete(completion, &mut self.driver);
        }
        let mut order: [u8; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(order.len(), self.agents.len());
        for last in (1..order.len()).rev() {
            order.swap(last, prng.below(last as u64 + 1) as usize);
        }
        let mut skipped = false;
        let is_busy = 0 < skip_per_mille && prng.chance(1, 4);
        for index in order {
            if is_busy && prng.chance(skip_per_mille, 1000) {
                skipped = true;
                continue;
            }
            let agent = &mut self.agents[usize::from(index)];
            place::enter_agent(agent.name());
            let worked = agent.work(&mut self.driver);
            self.restless[usize::from(index)] += u64::from(0 < worked);
            done += worked;
        }
        let kept = self.keeper.work(self.driver.now, shelf);
        self.restless[9] += u64::from(0 < kept);
        done += kept;
        while let Some(event) = self.links.pop() {
            self.told_of_links.truncate(TOLD_OF_LINKS_MAX - 1);
            self.told_of_links.push_front(event);
        }
        (done, skipped)
    }

    /// How it stands, for people.
    pub fn standing(&self) -> String {
        let followers = self.told.followers.lock().unwrap_or_else(PoisonError::into_inner);
        format!(
            "leader {} term {} commit {} last {} applied {} digest of {} {:x}; followers {followers:?}; links {:?}; \
             agents without end {:?}, impatient {:?}; operations {}; keeper: {}",
            self.told.leader.get(),
            self.told.term.get(),
            self.told.commit.get(),
            self.told.last.get(),
            self.store.applied.get(),
            self.store.digest_slot.get(),
            self.store.digest.get(),
            self.told_of_links,
            self.restless(),
            self.impatient(),
            self.driver.outstanding(),
            self.keeper.standing(),
        )
    }
    /// Who wants to be called at once.
    pub fn impatient(&self) -> Vec<&'static str> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= self.driver.now);
        let agents = self.agents.iter().filter(|agent| is_due(agent.deadline())).map(|agent| agent.name());
        let keeper = is_due(self.keeper.deadline()).then_some("keeper");
        agents.chain(keeper).collect()
    }
    /// When it is to be called although nothing has happened.
    pub fn deadline(&self) -> Option<Instant> {
        self.agents.iter().filter_map(|agent| agent.deadline()).chain(self.keeper.deadline()).min()
    }
    /// What the agents count.
    pub fn report(&self, to: &mut dyn crate::meter::Report) {
        self.agents.iter().for_each(|agent| agent.report(to));
    }
}

/// The parts of a configuration that no swarm draws.
pub fn base_config(cluster: Cluster) -> Resolved {
    let (dir, ms) = (data(), Duration::from_millis);
    let own = cluster.members[0].clone();
    Resolved {
        node: config::Node {
            id: own.id,
            dir: dir.clone(),
            key_file: dir.join("key"),
            charter_file: dir.join("charter"),
        },
        client: config::Client {
            listen: own.client,
            password: None,
            insecure: true,
            connections_max: 64,
            bulk_bytes_max: 1024,
            arguments_max: 64,
            pipeline_max: 64,
            output_bytes_max: 64 << 10,
            pending_bytes_max: 64 << 10,
        },
        peer: config::Peer {
            listen: own.peer,
            encrypt: false,
            queue_bytes_max: 256 << 10,
            reconnect_min: ms(20),
            reconnect_max: ms(500),
        },
        admin: config::Admin { listen: "here:3".into(), token_file: dir.join("token") },
        group: config::Group {
            protocol: config::ProtocolKind::Raft,
            verify: false,
            fast_reads: false,
            client_auth: config::ClientAuth::Sign,
            faulty: 0,
            sign_pre_prepares: true,
            clock_skew_max: Duration::from_secs(10),
            request_timeout: Duration::from_millis(400),
        },
        raft: config::Raft {
            election_min: ms(150),
            election_max: ms(300),
            heartbeat: ms(50),
            max_log_entries_per_append: 100,
            append_bytes_max: 64 << 10,
            window_appends: 64,
            window_bytes: 1 << 20,
            uncommitted_bytes_max: 1 << 20,
            tail_bytes: 1 << 20,
            snapshot_threshold: 100,
            snapshot_threshold_bytes: 1 << 20,
            snapshot_keep: 20,
            snapshot_piece_bytes: 16 << 10,
            snapshot_bytes_per_s: 1 << 30,
        },
        log: config::Log { segment_bytes: 64 << 10, durability: config::Durability::QuorumSync },
        store: config::Store { maxmemory: 64 << 20 },
        times: config::Times { write_wait: ms(1000), answer_within: ms(2000), drain_within: ms(2000) },
        placement: config::Placement { cores: 1, first_core: 0, pin: false, spin: false },
        log_lines: config::LogLines { format: config::LineFormat::Text },
        cluster,
    }
}
