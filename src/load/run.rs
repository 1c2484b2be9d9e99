//! A whole bench: make a cluster or take endpoints, measure the machine, the load and the limit, and put the result together.

use super::attack::{Attack, Group, liars_max};
use super::error::LoadError;
use super::etcd;
use super::generator::{self, KilledAt, Measured, Observer, Phase};
use super::limit::{self, Bare, BareOptions};
use super::local::{self, Cluster, ClusterOptions};
use super::machine::{self, Host};
use super::place::Place;
use super::plan::Plan;
use super::proxy::Shape;
use super::readback::read_back;
use super::report::{CpuPerOperation, Latency, Moment, Report, RoundTrip};
use super::witness::Witness;
use super::workload::{FRESH_BYTES, Workload};
use crate::io::{Uring, UringOptions, clock, process};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Under this durability nothing need be on a disk.
const VOLATILE: &str = "none";

/// What is to be loaded.
#[derive(Clone, Debug)]
pub enum Target {
    /// Servers that run already, ours or not.
    Endpoints {
        /// Where.
        endpoints: Vec<String>,
        /// Their processes, if they run on this machine and their CPU time is wanted.
        processes: Vec<u32>,
    },
    /// A cluster for the length of the bench.
    Local {
        /// The protocol of its group, for the report; `set` makes it so.
        protocol: String,
        /// How many nodes.
        nodes: usize,
        /// `quorum-sync` or `none`.
        durability: String,
        /// Nodes poll instead of sleeping.
        spin: bool,
        /// Load all nodes, not the leader alone.
        spread: bool,
        /// Further settings of the nodes, `KEY=VALUE`.
        set: Vec<String>,
        /// How every link between them behaves.
        wan: Option<Shape>,
        /// Through a native client.
        native: bool,
        /// As many nodes as the group endures, the primary among them, play this attack in the second third of the measured time.
        attack: Option<String>,
    },
}

/// A bench.
#[derive(Clone, Debug)]
pub struct Options {
    /// The load.
    pub plan: Plan,
    /// Under load.
    pub target: Target,
    /// Where local nodes write; `None` for the first real disk.
    pub dir: Option<PathBuf>,
    /// Measure the bare machine too.
    pub limit: bool,
    /// Kill the leader this long after the start of the measured time.
    pub kill_leader_at: Option<Duration>,
    /// A witness hears of every operation, and in the end every key is read back.
    pub verify: bool,
    /// The program of local nodes; ours unless another build is compared.
    pub program: Option<PathBuf>,
    /// For the report.
    pub command: String,
}

/// A result, and what it was made from.
pub struct Outcome {
    /// For people and programs.
    pub report: Report,
    /// For files and pages.
    pub measured: Measured,
    /// When the measured time began.
    pub started: SystemTime,
}

/// What is under load, for as long as it is.
struct Under {
    endpoints: Vec<String>,
    /// All nodes, loaded or not: what was written is read back through each.
    all: Vec<String>,
    processes: Vec<u32>,
    leader: Option<u32>,
    attack: Option<Attack>,
    // Dropped in this order: the processes end before their directory goes.
    _cluster: Option<Cluster>,
    place: Option<Place>,
}

/// Runs a bench. The witness, if any, hears of every operation.
pub fn run(
    options: &Options,
    observer: &mut dyn Observer,
    witness: Option<&mut dyn Witness>,
) -> Result<Outcome, LoadError> {
    options.plan.check().map_err(LoadError::Usage)?;
    options.check()?;
    process::sharpen_timers();
    let before = machine::core_round_trip_ns();
    let bare = if options.limit { Some(measure_limit(options, observer)?) } else { None };
    let under = Under::start(options)?;
    let mut watch = Watch::new(&under.processes, observer);
    let killed_at = KilledAt::default();
    let killer = Killer { armed: options.kill_leader_at, leader: under.leader, killed_at: killed_at.clone() };
    watch.killer = Some(killer);
    watch.attack = under.attack.clone();
    let plan = &options.plan;
    let measured = match witness {
        Some(witness) => {
            let measured = load(plan, &under.endpoints, killed_at, &mut watch, Some(witness))?;
            read_back(plan, &under.all, &measured.touched, witness)?;
            measured
        }
        None => load(plan, &under.endpoints, killed_at, &mut watch, None)?,
    };
    let usage = watch.usage();
    let endured = under.attack.as_ref().map(|attack| attack.judge(measured.recorder.ticks()));
    let host = Host::look(under.place.as_ref().map(Place::path));
    drop(under);
    let round_trip = RoundTrip { before, after: machine::core_round_trip_ns() };
    let report = Report { endured, ..options.report(&measured, &usage, bare, round_trip, host) };
    Ok(Outcome { report, measured, started: usage.started })
}

/// A load of its own driver: what is left in it goes with it.
fn load(
    plan: &Plan,
    endpoints: &[String],
    killed_at: KilledAt,
    observer: &mut dyn Observer,
    witness: Option<&mut dyn Witness>,
) -> Result<Measured, LoadError> {
    // One buffer for each of many connections that are answered together.
    let options =
        UringOptions { receive_buffers: 64, receive_bytes: 4096, write_buffers: 0, ..UringOptions::NODE };
    let mut driver = Uring::new(options)?;
    Ok(generator::generate(&mut driver, plan, endpoints, killed_at, observer, witness)?)
}

/// The bare machine's figures.
struct BareFigures {
    per_s: f64,
    latency: Latency,
    cpu: CpuPerOperation,
    /// At the rate that the nodes are offered: how long this host's disk and scheduler alone let a command wait.
    at_rate: Option<Latency>,
}

/// Runs the same load, writes only, on the bare machine: in a closed loop, and at the rate that the nodes are offered if there is one.
fn measure_limit(options: &Options, observer: &mut dyn Observer) -> Result<BareFigures, LoadError> {
    let plan = Plan { rate: None, read_percent: 0, password: None, ..options.plan.clone() };
    let durable = options.durability() != VOLATILE;
    let place = Place::choose(options.dir.as_deref(), !durable)?;
    let program = options.program.clone().map_or_else(local::own_program, Ok)?;
    let command_bytes = Workload::new(&plan, 0).write_bytes();
    let dir = place.path().to_path_buf();
    let nodes = options.nodes();
    let bare = Bare::start(&BareOptions { program, dir, nodes, durable, command_bytes })?;
    let endpoints = [bare.endpoint().to_string()];
    let mut watch = Watch::new(&bare.processes(), observer);
    let measured = load(&plan, &endpoints, KilledAt::default(), &mut watch, None)?;
    let cpu = watch.usage().per_operation(measured.ok);
    let at_rate = match options.plan.rate {
        Some(_) => {
            let plan = Plan { rate: options.plan.rate, ..plan.clone() };
            let measured = load(&plan, &endpoints, KilledAt::default(), &mut watch, None)?;
            Some(Latency::of(measured.recorder.total()))
        }
        None => None,
    };
    drop(bare);
    limit::clean(place.path(), nodes);
    let per_s = measured.ok as f64 / plan.duration.as_secs_f64();
    Ok(BareFigures { per_s, latency: Latency::of(measured.recorder.total()), cpu, at_rate })
}

impl Under {
    fn start(options: &Options) -> Result<Under, LoadError> {
        match &options.target {
            Target::Endpoints { endpoints, processes } => Ok(Under {
                endpoints: endpoints.clone(),
                all: endpoints.clone(),
                processes: processes.clone(),
                leader: None,
                attack: None,
                _cluster: None,
                place: None,
            }),
            Target::Local { protocol: _, nodes, durability, spin, spread, set, wan, native, attack } => {
                let place = Place::choose(options.dir.as_deref(), durability == VOLATILE)?;
                let program = options.program.clone().map_or_else(local::own_program, Ok)?;
                let cluster = Cluster::start(&ClusterOptions {
                    program,
                    dir: place.path().to_path_buf(),
                    nodes: *nodes,
                    durability: durability.clone(),
                    spin: *spin,
                    set: set.clone(),
                    wan: *wan,
                    native: *native,
                    attack: attack.clone(),
                    variant: options.plan.seed,
                })?;
                let (leader, mut endpoints) = (cluster.wait_leader(Duration::ZERO)?, cluster.endpoints());
                let processes = cluster.processes();
                let leader_process = processes[leader];
                let all = endpoints.clone();
                // All are known, for when the leader is gone; the first is where everybody goes at first.
                endpoints.swap(0, leader);
                if !spread && options.kill_leader_at.is_none() {
                    endpoints.truncate(1);
                }
                let attack = attack.as_ref().map(|name| {
                    let group = Group { processes: &processes, admins: &cluster.admins(), leader };
                    let attack = Attack::amid(name, &group, options.plan.duration);
                    let is_spared = |node: &usize| attack.spares(processes[*node]);
                    endpoints = (0..*nodes).filter(is_spared).map(|node| all[node].clone()).collect();
                    attack
                });
                if let Some(native) = cluster.native() {
                    endpoints = vec![native.to_string()];
                }
                Ok(Under {
                    endpoints,
                    all,
                    processes,
                    leader: Some(leader_process),
                    attack,
                    _cluster: Some(cluster),
                    place: Some(place),
                })
            }
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), LoadError> {
        let usage = |text: &str| Err(LoadError::Usage(text.to_string()));
        match &self.target {
            Target::Endpoints { endpoints, .. } if endpoints.is_empty() => usage("--endpoints names nobody"),
            Target::Endpoints { .. } if self.kill_leader_at.is_some() => {
                usage("--kill-leader-at needs a cluster of its own: leave --endpoints out")
            }
            Target::Local { nodes: 0, .. } => usage("--nodes is 0"),
            Target::Local { attack: Some(_), .. }
                if !cfg!(feature = "byzantine") && self.program.is_none() =>
            {
                usage(
                    "--attack: this binary cannot lie; build one that can, with `cargo build --features byzantine`",
                )
            }
            Target::Local { attack: Some(_), nodes, .. } if liars_max(*nodes) == 0 => {
                usage(&format!("--attack: a group of {nodes} endures no liar; choose --nodes 4 or more"))
            }
            _ if self.plan.etcd
                && (0 < self.plan.read_percent || self.verify || self.plan.password.is_some()) =>
            {
                usage("etcd:// takes writes alone: leave --reads, --verify and --password out")
            }
            _ if self.plan.etcd && etcd::VALUE_BYTES_MAX < self.plan.value_bytes => {
                let (value, most) = (self.plan.value_bytes, etcd::VALUE_BYTES_MAX);
                usage(&format!("--value-bytes is {value}, but etcd:// takes at most {most}"))
            }
            _ if self.kill_leader_at.is_some_and(|at| self.plan.duration <= at) => {
                usage("--kill-leader-at lies behind the end; make --duration longer")
            }
            _ if self.kill_leader_at.is_some() && 0 < self.plan.read_percent && !self.verify => {
                usage("--kill-leader-at measures when writes resume: leave --reads out, or say --verify")
            }
            _ if self.verify && self.plan.value_bytes < FRESH_BYTES => {
                let least = format!(
                    "--value-bytes is {}, but values are told apart by {FRESH_BYTES} bytes",
                    self.plan.value_bytes
                );
                usage(&format!("{least}: choose at least that for --verify"))
            }
            _ => Ok(()),
        }
    }

    fn nodes(&self) -> usize {
        match &self.target {
            // What a bare machine of nobody in particular has.
            Target::Endpoints { endpoints, processes } => endpoints.len().max(processes.len()),
            Target::Local { nodes, .. } => *nodes,
        }
    }

    fn durability(&self) -> &str {
        match &self.target {
            Target::Endpoints { .. } => "unknown",
            Target::Local { durability, .. } => durability,
        }
    }

    fn report(
        &self,
        measured: &Measured,
        usage: &Usage,
        bare: Option<BareFigures>,
        core_round_trip_ns: RoundTrip,
        host: Host,
    ) -> Report {
        let plan = &self.plan;
        let achieved_per_s = measured.ok as f64 / plan.duration.as_secs_f64();
        let limit_per_s = bare.as_ref().map(|bare| bare.per_s);
        Report {
            protocol: match &self.target {
                Target::Local { protocol, .. } => protocol,
                Target::Endpoints { .. } if plan.etcd => "etcd",
                Target::Endpoints { .. } => "resp",
            }
            .to_string(),
            nodes: self.nodes(),
            durability: self.durability().to_string(),
            workload: plan.workload(),
            links: match &self.target {
                Target::Local { wan, .. } => wan.map(|shape| shape.show()),
                Target::Endpoints { .. } => None,
            },
            value_bytes: plan.value_bytes,
            connections: plan.connections,
            in_flight: plan.in_flight,
            offered_per_s: plan.rate,
            achieved_per_s,
            errors: measured.errors,
            indeterminate: measured.indeterminate,
            latency_us: Latency::of(measured.recorder.total()),
            limit_per_s,
            share_of_limit: limit_per_s.map(|limit| achieved_per_s / limit.max(1.0)),
            limit_latency_us: bare.as_ref().map(|bare| bare.latency),
            limit_cpu_us_per_op: bare.as_ref().map(|bare| bare.cpu),
            limit_latency_at_rate_us: bare.as_ref().and_then(|bare| bare.at_rate),
            cpu_us_per_op: usage.per_operation(measured.ok),
            memory_bytes_per_node: usage.memory,
            core_round_trip_ns,
            verified: None,
            endured: None,
            recovery_ms: measured.recovery.map(|time| time.as_secs_f64() * 1e3),
            error_texts: measured.texts.clone().into_iter().collect(),
            timeline: measured.recorder.ticks().iter().map(Moment::of).collect(),
            host,
            command: self.command.clone(),
        }
    }
}

/// What the measured time has cost.
struct Usage {
    nodes: Option<Duration>,
    load: Duration,
    memory: Option<u64>,
    started: SystemTime,
}

impl Usage {
    fn per_operation(&self, operations: u64) -> CpuPerOperation {
        let share = |time: Duration| time.as_secs_f64() * 1e6 / operations.max(1) as f64;
        CpuPerOperation { nodes: self.nodes.map(share), load: share(self.load) }
    }
}

/// Kills the leader when its time has come.
struct Killer {
    armed: Option<Duration>,
    leader: Option<u32>,
    killed_at: KilledAt,
}

impl Killer {
    /// From a thread of its own: the load must not wait.
    fn arm(&mut self) {
        let (Some(after), Some(leader)) = (self.armed.take(), self.leader) else { return };
        let killed_at: Arc<AtomicU64> = self.killed_at.clone();
        std::thread::spawn(move || {
            std::thread::sleep(after);
            // Before the signal: a node does nothing after it, and something may be answered between the two.
            killed_at.store(clock::monotonic().0, Ordering::Relaxed);
            process::kill(leader);
        });
    }
}

/// Looks at CPU times and memory when phases change, and passes everything on.
struct Watch<'a> {
    processes: Vec<u32>,
    /// Where each process and the load stood when measuring began. A process that is killed keeps what it had last.
    begun: Vec<Option<Duration>>,
    ended: Vec<Option<Duration>>,
    load: (Duration, Duration),
    memory: Option<u64>,
    started: SystemTime,
    killer: Option<Killer>,
    attack: Option<Attack>,
    next: &'a mut dyn Observer,
}

impl<'a> Watch<'a> {
    fn new(processes: &[u32], next: &'a mut dyn Observer) -> Watch<'a> {
        Watch {
            processes: processes.to_vec(),
            begun: Vec::new(),
            ended: Vec::new(),
            load: (Duration::ZERO, Duration::ZERO),
            memory: None,
            started: SystemTime::now(),
            killer: None,
            attack: None,
            next,
        }
    }

    fn usage(&self) -> Usage {
        let spent = |(begun, ended): (&Option<Duration>, &Option<Duration>)| match (begun, ended) {
            (Some(begun), Some(ended)) => ended.saturating_sub(*begun),
            _ => Duration::ZERO,
        };
        let nodes = self.begun.iter().zip(&self.ended).map(spent).sum();
        Usage {
            nodes: (!self.processes.is_empty()).then_some(nodes),
            load: self.load.1.saturating_sub(self.load.0),
            memory: self.memory,
            started: self.started,
        }
    }
}

impl Observer for Watch<'_> {
    fn phase(&mut self, phase: Phase) {
        let times = |processes: &[u32]| processes.iter().map(|id| process::cpu_time(*id)).collect();
        let own = process::cpu_time(std::process::id()).unwrap_or_default();
        match phase {
            Phase::Measure => {
                (self.begun, self.load.0) = (times(&self.processes), own);
                self.started = SystemTime::now();
                if let Some(killer) = &mut self.killer {
                    killer.arm();
                }
                if let Some(attack) = self.attack.take() {
                    attack.play();
                }
            }
            Phase::Drain => {
                (self.ended, self.load.1) = (times(&self.processes), own);
                let memory: Vec<u64> =
                    self.processes.iter().filter_map(|id| machine::resident_bytes(*id)).collect();
                self.memory = memory.iter().sum::<u64>().checked_div(memory.len() as u64);
            }
            Phase::WarmUp | Phase::Done => {}
        }
        self.next.phase(phase);
    }

    fn progress(&mut self, thousandths: u64, per_second: u64) {
        self.next.progress(thousandths, per_second);
    }

    fn is_interrupted(&self) -> bool {
        self.next.is_interrupted()
    }
}
