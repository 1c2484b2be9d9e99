//! `quorate bench` and the hidden `quorate limit-node`: arguments, progress, files.

use super::error::LoadError;
use super::etcd;
use super::generator::{Observer, Phase};
use super::limit::node::{self, NodeOptions};
use super::page::page;
use super::plan::{Distribution, Plan};
use super::proxy::{Shape, profile};
use super::run::{self, Options, Outcome, Target};
use super::witness::Witness;
use super::workload::KEY_PREFIX;
use crate::config::units;
use crate::io::entropy::{Entropy, SystemEntropy};
use crate::protocol::pbft::liars::Attack;
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What to measure, and how.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Load these servers (any that speak RESP) instead of a cluster of its own; repeatable or comma-separated. With etcd://HOST:PORT
    /// all of them are etcd's, and writes are its Puts
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT|PATH")]
    pub endpoints: Vec<String>,
    /// Processes of those servers on this machine, to account their CPU time and memory
    #[arg(long, value_delimiter = ',', requires = "endpoints", value_name = "PID")]
    pub processes: Vec<u32>,
    /// Password of those servers
    #[arg(long, env = "QUORATE_PASSWORD", hide_env_values = true, requires = "endpoints")]
    pub password: Option<String>,
    /// Which rules the group of its own cluster obeys: raft or pbft
    #[arg(long, value_name = "NAME", default_value = "raft", value_parser = ["raft", "pbft"])]
    pub protocol: String,
    /// Nodes of its own cluster
    #[arg(long, default_value_t = 5)]
    pub nodes: usize,
    /// Where its own nodes write; the first real disk among the temporary directory, /var and the current one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// When a write of its own nodes counts as stored: quorum-sync or none
    #[arg(long, value_name = "WHEN", default_value = "quorum-sync", value_parser = ["quorum-sync", "none"])]
    pub durability: String,
    /// Its own nodes never sleep
    #[arg(long)]
    pub spin: bool,
    /// Load all nodes, not the leader alone
    #[arg(long)]
    pub spread: bool,
    /// Through a native client, which asks every node and believes f+1 equal replies; its own cluster's group is pbft
    #[arg(long, conflicts_with_all = ["endpoints", "wan", "spread"])]
    pub native: bool,
    /// Any further setting of its own nodes (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Its own nodes lie apart: rack, region, continent, world, or a time such as 50ms for 50 ms +- 50 ms on every link one way
    #[arg(long, value_name = "NETWORK", value_parser = profile::parse, conflicts_with = "endpoints")]
    pub wan: Option<Shape>,
    /// Commands a second (open loop: latency counts from when each is due), or `max` (closed loop)
    #[arg(long, default_value = "max", value_parser = parse_rate, value_name = "N|max")]
    pub rate: Rate,
    /// Connections
    #[arg(long, short, default_value_t = 64)]
    pub connections: usize,
    /// Commands in flight of each connection
    #[arg(long, short = 'P', default_value_t = 16)]
    pub in_flight: usize,
    /// Bytes of a value
    #[arg(long, short = 'd', default_value_t = 256)]
    pub value_bytes: usize,
    /// Different keys
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// How keys are drawn
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub distribution: Distribution,
    /// Reads in a hundred commands
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    pub reads: u8,
    /// Open loop: so many commands that fall due one after another go to one connection, as a pipelining client sends them; as many as
    /// may be in flight unless said otherwise
    #[arg(long, value_name = "COMMANDS")]
    pub pipeline: Option<usize>,
    /// Load before measuring
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Measured time
    #[arg(long, short = 't', default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// The same seed draws the same commands, and with `--attack` the same variant of the lies
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Measure what this machine could do at best, too, and print the share of it
    #[arg(long)]
    pub limit: bool,
    /// Kill the leader this long after measuring begins, and print when writes resume
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub kill_leader_at: Option<Duration>,
    /// In the second third of the measured time as many nodes as the group endures, its primary among them, lie in this way, or in each
    /// way in turn (`all`), while the load goes through the others; its own cluster's group is pbft. Needs a binary with the cargo
    /// feature `byzantine`
    #[arg(long, value_name = "NAME|all", value_parser = attacks(), conflicts_with_all = ["endpoints", "native", "kill_leader_at"])]
    pub attack: Option<String>,
    /// Record what every client saw, read every key back in the end, and check that all of it is linearizable (exit 7: it is not, 8:
    /// undecided); with --reads a stale answer shows too
    #[arg(long)]
    pub verify: bool,
    /// Where report.json, latency.hlog, latency.hgrm and report.html go
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub results: PathBuf,
    /// Write none of them
    #[arg(long, conflicts_with = "results")]
    pub no_results: bool,
    /// Another build of this program for its own nodes
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub program: Option<PathBuf>,
}

/// How fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// As fast as answers come.
    Max,
    /// So many a second.
    PerSecond(u64),
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let digits = text.replace(['_', ','], "");
    digits.parse().map(Rate::PerSecond).map_err(|_| format!("{text:?} is neither a number nor `max`"))
}

/// One after another.
const ALL_ATTACKS: &str = "all";

fn attack_names() -> impl Iterator<Item = &'static str> {
    Attack::ALL.iter().filter(|attack| attack.is_of_a_replica()).map(|attack| attack.name())
}

fn attacks() -> PossibleValuesParser {
    PossibleValuesParser::new(attack_names().chain([ALL_ATTACKS]))
}

/// A time as in a configuration, `3s`, `250ms`, `2min`; and, as other benches take it, a bare number of seconds, or `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let is_number = |number: &str| number.ends_with(|c: char| c.is_ascii_digit());
    let whole = match text.strip_suffix('m') {
        Some(minutes) if is_number(minutes) => format!("{minutes}min"),
        _ if is_number(text) => format!("{text}s"),
        _ => text.to_owned(),
    };
    units::parse_duration(&whole).ok_or_else(|| format!("{text:?} is no time; write it as 250ms, 3s or 2min"))
}

impl BenchArgs {
    /// The settings of its own nodes.
    fn settings(&self) -> Vec<String> {
        let mut set = self.set.clone();
        if self.protocol() != "raft" {
            set.push(format!("group.protocol={}", self.protocol()));
        }
        set
    }
    /// What the group of its own cluster obeys: only pbft has native clients.
    fn protocol(&self) -> &str {
        if self.native || self.attack.is_some() { "pbft" } else { &self.protocol }
    }
    /// Each bench of one attack that `--attack all` means.
    pub fn of_each_attack(&self) -> Option<Vec<BenchArgs>> {
        let is_all = self.attack.as_deref() == Some(ALL_ATTACKS);
        let one = |name| BenchArgs { attack: Some(name), ..self.clone() };
        is_all.then(|| attack_names().map(str::to_string).map(one).collect())
    }
    /// The bench that these arguments mean.
    pub fn options(&self) -> Options {
        let target = if self.endpoints.is_empty() {
            Target::Local {
                protocol: self.protocol().to_string(),
                nodes: self.nodes,
                durability: self.durability.clone(),
                spin: self.spin,
                spread: self.spread,
                set: self.settings(),
                wan: self.wan,
                native: self.native,
                attack: self.attack.clone(),
            }
        } else {
            let endpoints = self.endpoints.iter();
            let endpoints =
                endpoints.map(|e| e.strip_prefix(etcd::SCHEME).unwrap_or(e).to_string()).collect();
            Target::Endpoints { endpoints, processes: self.processes.clone() }
        };
        let is_etcd = self.endpoints.iter().any(|endpoint| endpoint.starts_with(etcd::SCHEME));
        let plan = Plan {
            connections: self.connections,
            in_flight: self.in_flight,
            pipeline: self.pipeline.unwrap_or(self.in_flight),
            value_bytes: self.value_bytes,
            keys: self.keys,
            key_prefix: self.key_prefix(),
            distribution: self.distribution,
            read_percent: self.reads,
            rate: match self.rate {
                Rate::Max => None,
                Rate::PerSecond(rate) => Some(rate),
            },
            warm_up: self.warm_up,
            duration: self.duration,
            seed: self.seed,
            password: self.password.clone(),
            etcd: is_etcd,
        };
        Options {
            plan,
            target,
            dir: self.dir.clone(),
            limit: self.limit,
            kill_leader_at: self.kill_leader_at,
            verify: self.verify,
            program: self.program.clone(),
            command: command_line(),
        }
    }
}

impl BenchArgs {
    /// Keys of a history begin absent. Of servers that ran before only keys of a name that nobody used are known to be.
    fn key_prefix(&self) -> String {
        match self.verify && !self.endpoints.is_empty() {
            true => format!("verify:{:016x}:", SystemEntropy.seed()),
            false => KEY_PREFIX.to_string(),
        }
    }
}

/// What was typed, without a password.
fn command_line() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(first) = words.first_mut() {
        *first =
            Path::new(first).file_name().map_or(first.clone(), |name| name.to_string_lossy().into_owned());
    }
    let mut hide = false;
    for word in &mut words {
        if hide {
            *word = "***".to_string();
        } else if word.starts_with("--password=") {
            *word = "--password=***".to_string();
        }
        hide = word == "--password";
    }
    words.join(" ")
}

/// Runs a bench; the caller writes its files and prints the report.
pub fn run(args: &BenchArgs, witness: Option<&mut dyn Witness>) -> Result<Outcome, LoadError> {
    let mut progress = Progress::new();
    run::run(&args.options(), &mut progress, witness)
}

/// Writes the result in all its forms into `dir`.
pub fn write_files(dir: &Path, outcome: &Outcome) -> Result<(), LoadError> {
    std::fs::create_dir_all(dir).map_err(|source| LoadError::file(dir, "make it", source))?;
    let json =
        serde_json::to_string_pretty(&outcome.report).expect("names are strings and numbers are finite");
    write_file(dir, "report.json", |to| writeln!(to, "{json}"))?;
    write_file(dir, "latency.hlog", |to| outcome.measured.recorder.write_hlog(outcome.started, to))?;
    write_file(dir, "latency.hgrm", |to| outcome.measured.recorder.write_hgrm(to))?;
    write_file(dir, "report.html", |to| {
        to.write_all(page(&outcome.report, &outcome.measured.recorder).as_bytes())
    })
}

fn write_file(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), LoadError> {
    let path = dir.join(name);
    let result = std::fs::File::create(&path).map(BufWriter::new).and_then(|mut file| {
        write(&mut file)?;
        file.flush()
    });
    result.map_err(|source| LoadError::file(&path, "write it", source))
}

/// A bar on a terminal; nothing elsewhere.
struct Progress {
    bar: ProgressBar,
    /// Raised by the first Ctrl-C or SIGTERM, so that the own cluster and its files go too. The second one ends the process.
    interrupted: Arc<AtomicBool>,
}

impl Progress {
    fn new() -> Progress {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(1000) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{msg:>12} [{bar:40}] {percent:>3} %  {prefix}/s");
        bar.set_style(style.expect("the template is a constant"));
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Where a signal cannot be handled it ends the process, as it does without us.
            let _ = flag::register_conditional_default(signal, interrupted.clone());
            let _ = flag::register(signal, interrupted.clone());
        }
        Progress { bar, interrupted }
    }
}

impl Observer for Progress {
    fn phase(&mut self, phase: Phase) {
        let message = match phase {
            Phase::WarmUp => "warming up",
            Phase::Measure => "measuring",
            Phase::Drain => "draining",
            Phase::Done => return self.bar.finish_and_clear(),
        };
        self.bar.reset();
        self.bar.set_message(message);
    }

    fn progress(&mut self, thousandths: u64, per_second: u64) {
        self.bar.set_prefix(super::words::grouped(per_second as f64));
        self.bar.set_position(thousandths);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// One process of the bare machine; `bench --limit` starts them.
#[derive(Args, Clone, Debug)]
pub struct LimitNodeArgs {
    /// Where it listens
    #[arg(long)]
    listen: String,
    /// A follower's address; with any, it is the leader
    #[arg(long = "follower")]
    followers: Vec<String>,
    /// Where it writes; without it nothing is durable
    #[arg(long)]
    file: Option<PathBuf>,
    /// Bytes of a command
    #[arg(long)]
    command_bytes: usize,
}

/// Runs it until standard input closes.
pub fn run_limit_node(args: &LimitNodeArgs) -> Result<(), LoadError> {
    let options = NodeOptions {
        listen: args.listen.clone(),
        followers: args.followers.clone(),
        file: args.file.clone(),
        command_bytes: args.command_bytes.max(1),
    };
    let serve = |address: &str, stop: node::Stop| {
        // Nobody to tell means that the parent is gone, and then so is standard input.
        let _ = writeln!(std::io::stdout(), "ready {address}");
        std::thread::spawn(move || {
            let mut sink = [0; 64];
            while std::io::stdin().read(&mut sink).is_ok_and(|count| 0 < count) {}
            stop.stop();
        });
    };
    node::run(options, serve).map_err(|error| LoadError::Child {
        what: format!("a process of the bare machine ended: {error}"),
        cure: "run the bench again, or without --limit".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(words: &str) -> Result<BenchArgs, clap::Error> {
        Command::try_parse_from(words.split(' ')).map(|command| command.args)
    }

    #[test]
    fn arguments_become_a_plan() {
        let args = parse(
            "bench --rate 10_000 -c 3 -P 4 -d 64 --reads 20 -t 1500ms --warm-up 1m --distribution zipf",
        )
        .unwrap();
        let options = args.options();
        assert_eq!((options.plan.rate, options.plan.pipeline), (Some(10_000), 4));
        assert_eq!((options.plan.connections, options.plan.in_flight, options.plan.value_bytes), (3, 4, 64));
        assert_eq!(
            (options.plan.duration, options.plan.warm_up),
            (Duration::from_millis(1500), Duration::from_secs(60))
        );
        assert!(matches!(options.target, Target::Local { nodes: 5, .. }));
        let args = parse("bench --endpoints a:1,b:2 --processes 7").unwrap();
        assert!(
            matches!(args.options().target, Target::Endpoints { endpoints, .. } if endpoints == ["a:1", "b:2"])
        );
        assert_eq!(args.rate, Rate::Max);
        let args = parse("bench --attack all --nodes 4").unwrap();
        let each = args.of_each_attack().expect("each in turn");
        assert!(each.iter().any(|one| one.attack.as_deref() == Some("equivocating")));
        assert!(each.iter().all(|one| one.protocol() == "pbft" && one.of_each_attack().is_none()));
    }

    #[test]
    fn a_time_is_written_as_in_a_configuration_or_as_other_benches_take_it() {
        for (text, millis) in
            [("250ms", 250), ("3s", 3000), ("1.5", 1500), ("2m", 120_000), ("2min", 120_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            "bench --rate fast",
            "bench -t 3d",
            "bench -t 1.m",
            "bench --durability some",
            "bench --processes 7",
            "bench --attack rude",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
