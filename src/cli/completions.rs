//! `quorate completions SHELL`.

use super::{Cli, Failure};
use clap::{Args, CommandFactory};
use std::io::Write;

/// For which shell.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quorate", &mut script);
    // A closed pipe is no error of ours.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(())
}
