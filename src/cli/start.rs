//! `quorate start`: one node in this process, until SIGTERM or SIGINT.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::settings::Settings;
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
}

/// Runs the command.
pub fn run(args: &StartArgs, _output: Output) -> Result<(), Failure> {
    let config = args.settings.resolve()?;
    if args.stop_with_stdin {
        stop_with_stdin()?;
    }
    node::run(config).map_err(Failure::from)
}

impl From<node::RunError> for Failure {
    fn from(error: node::RunError) -> Failure {
        Failure::new(Exit::Io, error.to_string())
    }
}

/// Raises SIGTERM in this process once nobody can write to its standard input any more.
fn stop_with_stdin() -> Result<(), Failure> {
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
