//! `quorate start`: one node in this process, until SIGTERM or SIGINT.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::settings::Settings;
use crate::config::units;
use crate::io::clock;
use crate::node;
use clap::Args;
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
}

/// Milliseconds of `5min` or `-5min`.
fn parse_skew(text: &str) -> Result<i64, String> {
    let (sign, size) = text.strip_prefix('-').map_or((1, text), |size| (-1, size));
    let size = units::parse_duration(size).and_then(|size| i64::try_from(size.as_millis()).ok());
    size.map(|size| sign * size).ok_or_else(|| format!("{text:?} is no time; write it as 90s, 5min or -5min"))
}

/// Runs the command.
pub fn run(args: &StartArgs, _output: Output) -> Result<(), Failure> {
    let config = args.settings.resolve()?;
    if args.stop_with_stdin {
        stop_with_stdin()?;
    }
    clock::skew_wall(args.clock_skew);
    node::run(config).map_err(Failure::from)
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
    fn a_skew_goes_both_ways() {
        assert_eq!(
            [parse_skew("0s"), parse_skew("5min"), parse_skew("-1.5s")],
            [Ok(0), Ok(300_000), Ok(-1_500)]
        );
        assert!(parse_skew("-5").is_err() && parse_skew("--5s").is_err());
    }
}
