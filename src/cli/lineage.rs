//! How the members of a PBFT group came about, as its nodes or a file show it. Each charter is checked against the members before,
//! beginning with those that a configuration lists, so a node that lies can only keep some of it back.

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::admin::client::Client;
use crate::base::hex::from_hex;
use crate::config::Resolved;
use crate::config::limits::NODES_MAX;
use crate::node::members;
use crate::protocol::pbft::Lineage;
use crate::wire::pbft::Charter;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where to write it.
#[derive(Args, Debug)]
pub struct CharterArgs {
    /// The file; one that exists is replaced
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// How long one step of a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most addresses that are asked: more than any two memberships have. Each that does not answer costs a time-out.
const ASKED_MAX: usize = 2 * NODES_MAX;

/// What a file says; without one it is known only who was there from the first.
pub fn read(config: &Resolved, path: Option<&Path>) -> Result<Lineage, Failure> {
    let Some(path) = path else { return Ok(members::lineage(config)) };
    members::lineage_of(config, path).map_err(|why| {
        let message = format!(
            "{}: {why}; `quorate ctl members charter` writes what the nodes can show",
            path.display()
        );
        Failure::new(Exit::Usage, message)
    })
}

/// What nodes can show, those asked who turn out to be members too.
pub fn shown(config: &Resolved, nodes: &[String]) -> Lineage {
    let mut lineage = members::lineage(config);
    let (mut addresses, mut charters) = (nodes.to_vec(), Vec::new());
    let mut asked = 0;
    while asked < addresses.len() {
        charters.extend(ask(&addresses[asked]));
        asked += 1;
        if lineage.follow_all(charters.iter()) {
            let admins = lineage.latest().members.iter().map(|member| member.admin.clone());
            let new: Vec<String> =
                admins.filter(|admin| !admin.is_empty() && !addresses.contains(admin)).collect();
            addresses.extend(new.into_iter().take(ASKED_MAX.saturating_sub(asked)));
        }
    }
    lineage
}

/// One node's; none where it does not answer.
fn ask(address: &str) -> Vec<Charter> {
    let Ok(reply) = Client::new(address, PATIENCE, None).get("/charters") else { return Vec::new() };
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let charters = answer["charters"].as_array().into_iter().flatten();
    charters.filter_map(|one| Charter::decode(&from_hex(one.as_str()?)?)).collect()
}

/// Writes it for a native client that begins when the first members are gone, or for whoever judges proofs without asking nodes.
pub fn write(
    args: &CharterArgs,
    nodes: &[String],
    config: Option<&Resolved>,
    output: Output,
) -> Result<(), Failure> {
    let config = config.ok_or_else(|| {
        Failure::new(Exit::Usage, "a charter is checked against the first members; say --config FILE")
    })?;
    let lineage = shown(config, nodes);
    if lineage.charters().is_empty() {
        let message = "no node shows that the members have ever changed: a configuration lists them all";
        return Err(Failure::new(Exit::Unhealthy, message));
    }
    members::write(lineage.charters(), &args.to)
        .map_err(|error| Failure::io(&args.to, "write it", &error))?;
    let epoch = lineage.latest().epoch;
    output.print(
        || format!("{} says how the members came about, up to epoch {epoch}", args.to.display()),
        || json!({ "epoch": epoch, "charter": args.to }),
    );
    Ok(())
}
