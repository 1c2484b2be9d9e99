//! `quorate client`: a native client of a PBFT group, for Redis clients beside it.

use super::exit::{Exit, Failure};
use super::lineage;
use super::output::Output;
use super::settings::Settings;
use super::start::stop_with_stdin;
use crate::base::NodeId;
use crate::crypto::SecretKey;
use crate::node::outside::Outside;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Which client, and where Redis clients find it.
#[derive(Args, Debug)]
pub struct ClientArgs {
    #[command(flatten)]
    settings: Settings,
    /// The client's private key, as `quorate init --clients` wrote it
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// How the members came about, as `quorate ctl members charter` wrote it: for when too few of the first members are left
    #[arg(long, value_name = "FILE")]
    charter: Option<PathBuf>,
    /// Where Redis clients connect: host:port, or a path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6379")]
    listen: String,
    /// End in order, as on SIGTERM, when standard input closes
    #[arg(long, hide_short_help = true)]
    stop_with_stdin: bool,
}

/// Runs the command.
pub fn run(args: &ClientArgs, output: Output) -> Result<(), Failure> {
    let config = args.settings.resolve()?;
    let path = &args.key_file;
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io(path, "read it", &e))?;
    let secret = SecretKey::parse(text.trim())
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
    if config.client.password.is_none() && !config.client.insecure && !crate::config::is_local(&args.listen) {
        let message = format!(
            "--listen is {}, but a port beyond loopback needs a password; set client.password_file, or say --insecure",
            args.listen
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let lineage = lineage::read(&config, args.charter.as_deref())?;
    if args.stop_with_stdin {
        stop_with_stdin()?;
    }
    let announce = |id: NodeId| {
        let clients = &args.listen;
        output.print(
            || format!("quorate client {id} ready: clients {clients}"),
            || json!({"ready": true, "client": id.0, "clients": clients}),
        );
    };
    Ok(Outside { config, secret, lineage, listen: args.listen.clone() }.run(announce)?)
}

impl ClientArgs {
    /// Whether whoever reads standard error wants JSON.
    pub fn logs_json(&self) -> bool {
        self.settings.logs_json()
    }
}
