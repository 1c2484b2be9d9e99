//! The `quorate` command: one file a subcommand; each parses, calls a room, prints, and ends with a stable exit code.
//!
//! Nothing here is part of the data plane.

pub mod bench;
pub mod check;
pub mod client;
pub mod cluster;
pub mod completions;
pub mod configure;
pub mod ctl;
pub mod demo;
pub mod evidence;
pub mod exit;
pub mod init;
pub mod inspect;
pub mod join;
pub mod lineage;
pub mod members;
pub mod output;
pub mod panic;
pub mod proxy;
pub mod scratch;
pub mod settings;
pub mod sim;
mod sim_runs;
pub mod start;
pub mod verify;
pub mod version;

pub use exit::{Exit, Failure};
pub use output::Output;

use crate::load::cli::{BenchArgs, LimitNodeArgs};
use clap::{Parser, Subcommand};

/// A thread-per-core io_uring replication node that stock Redis clients talk to
#[derive(Parser, Debug)]
#[command(name = "quorate", version, after_help = exit::HELP, max_term_width = 110)]
pub struct Cli {
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum Command {
    /// Write the configurations, keys and empty data directories of a new cluster
    Init(init::InitArgs),
    /// Run one node until SIGTERM
    Start(start::StartArgs),
    /// Run a whole cluster on this machine until Ctrl-C
    Demo(demo::DemoArgs),
    /// Measure a cluster of its own, or any server that speaks RESP
    Bench(Box<BenchArgs>),
    /// One process of the bare machine that `bench --limit` measures
    #[command(hide = true)]
    LimitNode(LimitNodeArgs),
    /// Stand between nodes as a network that behaves badly on purpose
    #[command(subcommand)]
    Proxy(proxy::ProxyCommand),
    /// Stand between Redis clients and a pbft group as a client that trusts none of its nodes
    Client(client::ClientArgs),
    /// Ask the nodes of a cluster where they stand
    Ctl(ctl::CtlArgs),
    /// Read and check what a stopped node has on disk
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Check a configuration, or show where each value comes from
    #[command(subcommand)]
    Config(configure::ConfigCommand),
    /// Run seeds through the simulated world. Exit 7: a property does not hold
    Sim(Box<sim::SimArgs>),
    /// One process of `sim`: runs what it is told on standard input
    #[command(hide = true)]
    SimWorker,
    /// Check what was recorded
    #[command(subcommand)]
    Check(check::CheckCommand),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print versions and features
    Version,
}

/// Parses the command line, does what it says, and ends the process.
pub fn main() -> std::process::ExitCode {
    panic::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            let text = error.render().to_string();
            let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            report(Output::Json, &Failure::new(Exit::Usage, what.replace('\n', " ")));
            return Exit::Usage.into();
        }
        Err(error) => {
            // Help and version come here too, and are no error. Nothing helps when even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    match cli.run() {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            report(cli.output_of_errors(), &failure);
            failure.exit.into()
        }
    }
}

impl Cli {
    fn run(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Init(args) => match &args.join {
                Some(of) => join::run(args, of, self.output),
                None => init::run(args, self.output),
            },
            Command::Start(args) => start::run(args, self.output),
            Command::Demo(args) => demo::run(args, self.output),
            Command::Bench(args) => bench::run(args, self.output),
            Command::LimitNode(args) => bench::run_limit_node(args),
            Command::Proxy(command) => proxy::run(command, self.output),
            Command::Client(args) => client::run(args, self.output),
            Command::Ctl(args) => ctl::run(args, self.output),
            Command::Inspect(command) => inspect::run(command, self.output),
            Command::Config(command) => configure::run(command, self.output),
            Command::Sim(args) => sim::run(args, self.output),
            Command::SimWorker => sim_runs::work(),
            Command::Check(command) => check::run(command, self.output),
            Command::Completions(args) => completions::run(args),
            Command::Version => version::run(self.output),
        }
    }

    /// Why a process ended stands at the end of its log lines: it is JSON where they are.
    fn output_of_errors(&self) -> Output {
        let logs_json = match &self.command {
            Command::Start(args) => args.logs_json(),
            Command::Client(args) => args.logs_json(),
            _ => false,
        };
        if logs_json { Output::Json } else { self.output }
    }
}

/// Whether a command line that cannot be parsed asks for JSON.
fn wants_json(args: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let apart = args.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json");
    apart || args.iter().any(|arg| ["-ojson", "-o=json", "--output=json"].contains(&arg.as_str()))
}

fn report(output: Output, failure: &Failure) {
    match output {
        Output::Text => eprintln!("quorate: {failure}"),
        Output::Json => {
            eprintln!("{}", serde_json::json!({"error": failure.message, "exit": failure.exit as u8}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_may_ask_for_json() {
        let asks = |line: &str| wants_json(line.split(' ').map(Into::into));
        for line in [
            "quorate -o json nosuch",
            "quorate ctl --output json",
            "quorate x --output=json",
            "quorate x -ojson",
        ] {
            assert!(asks(line), "{line}");
        }
        for line in ["quorate nosuch", "quorate -o text json", "quorate json -o"] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn every_subcommand_and_flag_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            let lacking = command.get_arguments().find(|a| a.get_help().is_none());
            assert!(lacking.is_none(), "{}: {lacking:?} has no help", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
