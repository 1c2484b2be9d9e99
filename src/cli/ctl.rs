//! `quorate ctl`: asks running nodes over their service planes.

use super::evidence::{self, EvidenceArgs};
use super::exit::{Exit, Failure};
use super::lineage;
use super::members::{self, KeysAsk, MembersAsk};
use super::output::{Output, columns};
use super::settings::read;
use crate::admin::client::{Client, ClientError};
use crate::admin::{Facts, Token};
use crate::config::Resolved;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Whom to ask, and what.
#[derive(Args, Debug)]
pub struct CtlArgs {
    /// Service planes to ask, comma-separated; without them those of the configuration's members
    #[arg(long, global = true, env = "QUORATE_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT")]
    endpoints: Vec<String>,
    /// A node's configuration: names all service planes
    #[arg(long, short, global = true, env = "QUORATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Ask,
}

/// What to ask.
#[derive(Subcommand, Debug)]
enum Ask {
    /// Where each node stands; exit 5 when no majority of those asked agrees on a leader
    Status,
    /// Who is in the cluster, and whose links are up; or change who is, in a pbft group
    Members {
        #[command(subcommand)]
        what: Option<MembersAsk>,
    },
    /// Change the keys of a pbft group's nodes
    Keys {
        #[command(subcommand)]
        what: KeysAsk,
    },
    /// Proof that replicas of a PBFT group lie
    Evidence(EvidenceArgs),
    /// Who leads
    Leader {
        #[command(subcommand)]
        change: Option<LeaderAsk>,
    },
}

/// What to change about the leader.
#[derive(Subcommand, Debug)]
enum LeaderAsk {
    /// Hand leadership over, in order and without a time-out
    Transfer {
        /// Which node is to lead; without it whoever is furthest
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        to: Option<u8>,
        /// The file that `quorate init` wrote; without it the one that the configuration names
        #[arg(long, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
}

/// How long one step of a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = match error {
            ClientError::Connect { .. } | ClientError::Broken { .. } => Exit::NoConnection,
            ClientError::Unknown { .. } => Exit::Unknown,
            ClientError::Foreign { .. } | ClientError::Refused { .. } => Exit::ServerError,
        };
        Failure::new(exit, error.to_string())
    }
}

/// Runs the command.
pub fn run(args: &CtlArgs, output: Output) -> Result<(), Failure> {
    let nodes = Nodes::of(args)?;
    match &args.what {
        Ask::Evidence(what) => evidence::run(what, &nodes.addresses, PATIENCE, nodes.config.as_ref(), output),
        Ask::Status => status(&nodes.ask(), output),
        Ask::Members { what: None | Some(MembersAsk::List) } => {
            let (address, facts) = nodes.any()?;
            members(&facts, &Client::new(&address, PATIENCE, None).get("/members")?.body, output)
        }
        Ask::Members { what: Some(what) } => {
            members::change(what, &nodes.addresses, nodes.config.as_ref(), args.config.as_deref(), output)
        }
        Ask::Keys { what } => {
            members::rotate(what, &nodes.addresses, nodes.config.as_ref(), args.config.as_deref(), output)
        }
        Ask::Leader { change: None } => leader(&nodes.ask(), output),
        Ask::Leader { change: Some(LeaderAsk::Transfer { to, token_file }) } => {
            transfer(&nodes, *to, token_file.as_ref().or(nodes.token_file.as_ref()), output)
        }
    }
}

/// The service planes that are known.
struct Nodes {
    addresses: Vec<String>,
    /// As the configuration names it.
    token_file: Option<PathBuf>,
    config: Option<Resolved>,
}

/// One node's answer.
type Answered = (String, Result<Facts, ClientError>);

impl Nodes {
    fn of(args: &CtlArgs) -> Result<Nodes, Failure> {
        let mut addresses = args.endpoints.clone();
        let config = args.config.as_ref().map(|path| read(path)).transpose()?;
        let is_offline = matches!(&args.what, Ask::Evidence(what) if what.is_offline());
        if let Some(config) = config.as_ref().filter(|_| addresses.is_empty() && !is_offline) {
            addresses = present(config);
        }
        if addresses.is_empty() && !is_offline {
            let message = "no node is named; say --endpoints HOST:PORT or --config FILE";
            return Err(Failure::new(Exit::Usage, message));
        }
        let token_file = config.as_ref().map(|config| config.admin.token_file.clone());
        Ok(Nodes { addresses, token_file, config })
    }

    fn ask(&self) -> Vec<Answered> {
        let ask = |address: &String| (address.clone(), Client::new(address, PATIENCE, None).status());
        self.addresses.iter().map(ask).collect()
    }

    /// The first that answers.
    fn any(&self) -> Result<(String, Facts), Failure> {
        let mut last = None;
        for address in &self.addresses {
            match Client::new(address, PATIENCE, None).status() {
                Ok(facts) => return Ok((address.clone(), facts)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("at least one address is known").into())
    }
}

/// Whom to ask where only a configuration says so. It lists with whom the group began; who has come since is known by what follows from
/// that, as long as one of those is there whom it names.
fn present(config: &Resolved) -> Vec<String> {
    let named = config.cluster.members.iter().chain(&config.cluster.joined);
    let named: Vec<String> = named.filter_map(|member| member.admin.clone()).collect();
    if config.cluster.operator.is_none() {
        return named;
    }
    let lineage = lineage::shown(config, &named);
    let now = lineage.latest().members.iter().map(|member| member.admin.clone());
    // In the first epoch the configuration lists just these.
    let now: Vec<String> = now.filter(|admin| !admin.is_empty()).collect();
    if now.is_empty() { named } else { now }
}

/// Whom a majority of the nodes asked takes for the leader.
fn agreed(answers: &[Answered]) -> Option<u8> {
    let named: Vec<u8> = answers.iter().filter_map(|(_, a)| a.as_ref().ok()?.leader).collect();
    let votes = |leader: u8| named.iter().filter(|n| **n == leader).count();
    named.iter().copied().find(|leader| answers.len() < 2 * votes(*leader))
}

fn no_leader(answers: &[Answered]) -> Failure {
    let silent = answers.iter().filter(|(_, a)| a.is_err()).count();
    if silent == answers.len() {
        let names: Vec<&str> = answers.iter().map(|(address, _)| address.as_str()).collect();
        let message = format!("no connection to any of {}; is the cluster running?", names.join(", "));
        return Failure::new(Exit::NoConnection, message);
    }
    let message = format!(
        "of {} nodes {silent} do not answer and no majority agrees on a leader; start the missing nodes",
        answers.len()
    );
    Failure::new(Exit::Unhealthy, message)
}

fn status(answers: &[Answered], output: Output) -> Result<(), Failure> {
    output.print(
        || table(answers),
        || json!({"leader": agreed(answers), "nodes": answers.iter().map(as_json).collect::<Vec<_>>()}),
    );
    agreed(answers).map(drop).ok_or_else(|| no_leader(answers))
}

fn as_json((address, answer): &Answered) -> Value {
    match answer {
        Ok(facts) => json!({"admin": address, "status": facts}),
        Err(error) => json!({"admin": address, "error": error.to_string()}),
    }
}

fn table(answers: &[Answered]) -> String {
    let head = [
        "NODE",
        "ROLE",
        "TERM",
        "LEADER",
        "COMMIT",
        "APPLIED",
        "PEERS UP",
        "LOG",
        "RESIDENT",
        "SERVICE PLANE",
    ];
    let row = |(address, answer): &Answered| match answer {
        Err(error) => vec!["?".into(), format!("no answer: {error}")],
        Ok(f) => vec![
            f.node.to_string(),
            if f.role.is_empty() { "recovering".into() } else { f.role.clone() },
            reign(f),
            f.leader.map_or("none".into(), |l| l.to_string()),
            f.commit.to_string(),
            f.applied.to_string(),
            format!("{} of {}", f.peers.iter().filter(|p| p.up).count(), f.peers.len()),
            mebibytes(f.log.bytes),
            mebibytes(f.memory.resident_bytes),
            address.clone(),
        ],
    };
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, a)| a.is_ok());
    let mut text = columns(
        &std::iter::once(head.map(String::from).to_vec())
            .chain(good.into_iter().map(row))
            .collect::<Vec<_>>(),
    );
    bad.into_iter().for_each(|answer| text += &(row(answer).join("  ") + "\n"));
    text
}

/// The term; of a pbft group whose members have changed, epoch and view.
fn reign(facts: &Facts) -> String {
    match facts.epoch {
        0 => facts.term.to_string(),
        epoch => format!("{epoch}.{}", facts.term),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn members(facts: &Facts, answer: &str, output: Output) -> Result<(), Failure> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let link = |node: u8| match facts.peers.iter().find(|peer| peer.node == node) {
        _ if node == facts.node => "up (the node that was asked)".to_owned(),
        Some(peer) if peer.up => "up".to_owned(),
        Some(peer) => peer.why.as_ref().map_or("down".to_owned(), |why| format!("down: {why}")),
        None => "down".to_owned(),
    };
    let row = |member: &Value| {
        let text = |name: &str| member[name].as_str().unwrap_or_default().to_owned();
        let id = member["id"].as_u64().unwrap_or_default();
        vec![id.to_string(), text("peer"), text("client"), text("admin"), link(id as u8)]
    };
    let of_group = ["epoch", "f", "members", "retired", "boundary", "base_slot"];
    output.print(
        || {
            let head = ["NODE", "PEERS", "CLIENTS", "SERVICE PLANE", "LINK"].map(String::from).to_vec();
            let rows = answer["members"].as_array().into_iter().flatten().map(row);
            let mut text = columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
            if facts.protocol == "pbft" {
                text += &format!("epoch {}, in which {} may lie\n", answer["epoch"], answer["f"]);
            }
            if let Some(boundary) = answer["boundary"].as_u64() {
                text += &format!("an amendment is under way: other members from slot {boundary} on\n");
            }
            text
        },
        || {
            let mut all = json!({"cluster": facts.cluster, "asked": facts.node, "peers": facts.peers});
            of_group.iter().for_each(|name| all[*name] = answer[*name].clone());
            all
        },
    );
    Ok(())
}

fn leader(answers: &[Answered], output: Output) -> Result<(), Failure> {
    let leader = agreed(answers).ok_or_else(|| no_leader(answers))?;
    let named = answers.iter().filter_map(|(_, a)| a.as_ref().ok()).filter(|f| f.leader == Some(leader));
    let newest = named.map(Facts::reign).max();
    output.print(
        || format!("node {leader} leads {}", newest.unwrap_or_default()),
        || json!({"leader": leader, "term": newest.map(|r| r.term), "epoch": newest.map(|r| r.epoch)}),
    );
    Ok(())
}

/// Asks the leader to let another node lead.
fn transfer(
    nodes: &Nodes,
    to: Option<u8>,
    token_file: Option<&PathBuf>,
    output: Output,
) -> Result<(), Failure> {
    let path = token_file.ok_or_else(|| {
        Failure::new(Exit::Usage, "changes need the token; say --token-file FILE or --config FILE")
    })?;
    let token = Token::read(path).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let answers = nodes.ask();
    let leader = agreed(&answers).ok_or_else(|| no_leader(&answers))?;
    let leads = |answered: &&Answered| answered.1.as_ref().is_ok_and(|facts| facts.node == leader);
    let (address, _) = answers.iter().find(leads).ok_or_else(|| {
        let message = format!("node {leader} leads and was not asked; name its service plane too");
        Failure::new(Exit::Usage, message)
    })?;
    let path = to.map_or("/leader/transfer".to_string(), |to| format!("/leader/transfer?to={to}"));
    let reply = Client::new(address, PATIENCE, Some(token)).post(&path)?;
    let outcome: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    output.print(
        || outcome["outcome"].as_str().unwrap_or("done").to_string(),
        || json!({"from": leader, "outcome": outcome["outcome"]}),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node: u8, leader: Option<u8>) -> Answered {
        (format!("h:{node}"), Ok(Facts { node, leader, ..Facts::default() }))
    }
    fn silent() -> Answered {
        let error = std::io::ErrorKind::ConnectionRefused.into();
        ("h:9".into(), Err(ClientError::Connect { address: "h:9".into(), error }))
    }

    #[test]
    fn a_leader_is_whom_a_majority_of_those_asked_names() {
        assert_eq!(agreed(&[answer(1, Some(2)), answer(2, Some(2)), silent()]), Some(2));
        assert_eq!(agreed(&[answer(1, Some(2)), silent(), silent()]), None);
        assert_eq!(agreed(&[answer(1, Some(1)), answer(2, Some(2))]), None);
        assert_eq!(agreed(&[answer(1, Some(3))]), Some(3));
    }

    #[test]
    fn an_epoch_is_told_apart_from_its_views() {
        let facts = |epoch, term| Facts { epoch, term, ..Facts::default() };
        assert_eq!([reign(&facts(3, 2)), reign(&facts(0, 7))], ["3.2", "7"]);
    }

    #[test]
    fn nobody_there_and_nobody_leading_are_told_apart() {
        assert_eq!(no_leader(&[silent(), silent()]).exit, Exit::NoConnection);
        assert_eq!(no_leader(&[silent(), answer(1, None)]).exit, Exit::Unhealthy);
        assert_eq!(status(&[silent()], Output::Json).unwrap_err().exit, Exit::NoConnection);
        let text = table(&[answer(1, Some(1)), silent()]);
        assert!(text.contains("h:1") && text.contains("no connection to h:9"), "{text}");
    }
}
