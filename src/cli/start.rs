//! `quorate start`: one node in this process, until SIGTERM or SIGINT.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::settings::Settings;
use crate::config::{ProtocolKind, Resolved, units};
use crate::io::clock;
use crate::node::liar::Lies;
use crate::node::{self, Ready};
use crate::protocol::pbft::liars::Attack;
use clap::Args;
use serde_json::json;
use std::io::Read;

/// Which node, and what differs from its file.
#[derive(Args, Debug)]
pub struct StartArgs {
    #[command(flatten)]
    settings: Settings,
    /// End in order, as on SIGTERM, when standard input closes: a cluster of child processes dies with its parent
    #[arg(long, hide_short_help = true)]
    stop_with_stdin: bool,
    /// For tests of clocks: puts this node's wall clock forward by so much, such as 5min, or back, such as -5min
    #[arg(long, hide_short_help = true, value_name = "TIME", default_value = "0s", value_parser = parse_skew, allow_hyphen_values = true)]
    clock_skew: i64,
    /// For tests of PBFT, in a binary with the cargo feature `byzantine`: this node lies in this way; in the next one, after a comma,
    /// from SIGUSR1 on, in none from SIGUSR2 on
    #[arg(long, hide_short_help = true, value_name = "ATTACK", value_delimiter = ',', value_parser = parse_attack)]
    byzantine: Vec<Attack>,
    /// Which of the variants of `--byzantine` are played
    #[arg(long, hide_short_help = true, value_name = "SEED", default_value_t = 1)]
    byzantine_seed: u64,
    /// With `--byzantine`: honest until the first SIGUSR1
    #[arg(long, hide_short_help = true, requires = "byzantine")]
    byzantine_waits: bool,
}

/// The attack of that name, if a replica can play it.
fn parse_attack(name: &str) -> Result<Attack, String> {
    let attacks = || Attack::ALL.iter().filter(|attack| attack.is_of_a_replica());
    let known = || attacks().map(|attack| attack.name()).collect::<Vec<_>>().join(", ");
    let found = attacks().find(|attack| attack.name() == name);
    found.copied().ok_or_else(|| format!("no replica plays {name:?}; there are {}", known()))
}

/// Whether this node lies, and may: in a group that endures it, and a binary that is made for it.
fn lies(args: &StartArgs, config: &Resolved) -> Result<Option<Lies>, Failure> {
    let refuse = |why: &str| Err(Failure::new(Exit::Usage, format!("--byzantine: {why}")));
    match &config.group {
        _ if args.byzantine.is_empty() => Ok(None),
        _ if !cfg!(feature = "byzantine") => refuse(
            "this binary cannot lie; for a test build one that can, with `cargo build --features byzantine`",
        ),
        group if group.protocol != ProtocolKind::Pbft => {
            refuse("only a group with group.protocol = \"pbft\" endures liars; see `quorate init --protocol`")
        }
        group if group.faulty == 0 => {
            refuse("this group endures no liar (group.f is 0); four nodes endure one, seven two")
        }
        _ => Ok(Some(Lies {
            attacks: args.byzantine.clone(),
            seed: args.byzantine_seed,
            waits: args.byzantine_waits,
        })),
    }
}

/// Milliseconds of `5min` or `-5min`.
fn parse_skew(text: &str) -> Result<i64, String> {
    let (sign, size) = text.strip_prefix('-').map_or((1, text), |size| (-1, size));
    let size = units::parse_duration(size).and_then(|size| i64::try_from(size.as_millis()).ok());
    size.map(|size| sign * size).ok_or_else(|| format!("{text:?} is no time; write it as 90s, 5min or -5min"))
}

/// Runs the command.
pub fn run(args: &StartArgs, output: Output) -> Result<(), Failure> {
    let config = args.settings.resolve()?;
    let lies = lies(args, &config)?;
    if args.stop_with_stdin {
        stop_with_stdin()?;
    }
    clock::skew_wall(args.clock_skew);
    node::run(config, lies, |ready| announce(ready, output)).map_err(Failure::from)
}

/// The one line on standard output that supervisors and people wait for.
fn announce(Ready { node, clients, peers, admin }: &Ready, output: Output) {
    output.print(
        || {
            format!("quorate node {node} ready: clients {clients}, peers {peers}, service plane http://{admin}")
        },
        || json!({"ready": true, "node": node.0, "clients": clients, "peers": peers, "admin": admin.to_string()}),
    );
}

impl StartArgs {
    /// Whether whoever reads standard error wants JSON.
    pub fn logs_json(&self) -> bool {
        self.settings.logs_json()
    }
}

impl From<node::RunError> for Failure {
    fn from(error: node::RunError) -> Failure {
        Failure::new(Exit::Io, error.to_string())
    }
}

/// Raises SIGTERM in this process once nobody can write to its standard input any more.
pub fn stop_with_stdin() -> Result<(), Failure> {
    let wait = || {
        let mut sink = [0; 64];
        while std::io::stdin().read(&mut sink).is_ok_and(|count| 0 < count) {}
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("SIGTERM can always be raised");
    };
    let thread = std::thread::Builder::new().name("stdin".into()).spawn(wait);
    thread.map(drop).map_err(|e| {
        Failure::new(
            Exit::Io,
            format!("no thread can be made ({e}); raise the limit of processes (ulimit -u)"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_has_a_name_and_the_network_is_no_replica() {
        assert_eq!(parse_attack("equivocating"), Ok(Attack::Equivocating));
        for wrong in ["parting", "equivocate"] {
            let why = parse_attack(wrong).expect_err("no replica plays it");
            assert!(why.contains("equivocating, two-faced"), "{why}");
        }
    }

    #[test]
    fn a_skew_goes_both_ways() {
        assert_eq!(
            [parse_skew("0s"), parse_skew("5min"), parse_skew("-1.5s")],
            [Ok(0), Ok(300_000), Ok(-1_500)]
        );
        assert!(parse_skew("-5").is_err() && parse_skew("--5s").is_err());
    }
}
