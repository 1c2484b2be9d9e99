//! `quorate ctl`: asks the nodes of a cluster where they stand, over their service planes.

use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use crate::admin::client::{Client, ClientError};
use crate::admin::status::Facts;
use crate::config::{Layers, Member};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long one node may take for its answer.
const WAIT: Duration = Duration::from_secs(3);

/// Whom to ask, and what.
#[derive(Args, Debug)]
pub struct CtlArgs {
    /// Any node's configuration file: its members are asked
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "QUORATE_CONFIG",
        global = true,
        conflicts_with = "endpoints"
    )]
    config: Option<PathBuf>,
    /// Service planes to ask instead (host:port, comma-separated)
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', global = true)]
    endpoints: Vec<String>,
    #[command(subcommand)]
    question: Question,
}

/// What is asked.
#[derive(Subcommand, Debug, Clone, Copy)]
enum Question {
    /// One line a node: role, term, progress, memory
    Status,
    /// The members as each node sees its links to them
    Members,
    /// Who leads
    Leader,
}

/// A node and what it said of itself.
struct Asked {
    address: String,
    facts: Result<Facts, ClientError>,
}

/// Runs the command. Exit 3 when no node answers, 5 when those that do know no leader or are no majority.
pub fn run(args: &CtlArgs, output: Output) -> Result<(), Failure> {
    let asked: Vec<Asked> = addresses(args)?
        .into_iter()
        .map(|address| Asked { facts: Client::new(&address, WAIT, None).status(), address })
        .collect();
    match args.question {
        Question::Status => output.print(|| status_text(&asked), || status_json(&asked)),
        Question::Members => output.print(|| members_text(&asked), || members_json(&asked)),
        Question::Leader => {
            let leader = leader(&asked);
            let text = || {
                leader.map_or("nobody leads".to_string(), |(node, term)| {
                    format!("node {node} leads term {term}")
                })
            };
            output.print(text, || json!({"leader": leader.map(|l| l.0), "term": leader.map(|l| l.1)}));
        }
    }
    judge(&asked)
}

fn addresses(args: &CtlArgs) -> Result<Vec<String>, Failure> {
    let Some(config) = &args.config else {
        let cure = "name a node's configuration with --config, or service planes with --endpoints";
        let whom = || Failure::new(Exit::Usage, format!("ctl does not know whom to ask; {cure}"));
        return if args.endpoints.is_empty() { Err(whom()) } else { Ok(args.endpoints.clone()) };
    };
    let resolved = Layers::from_file(config)?.resolve()?;
    let address = |member: &Member| {
        let own = (member.id == resolved.node.id).then(|| resolved.admin.listen.clone());
        member.admin.clone().or(own)
    };
    let known: Vec<String> = resolved.cluster.members.iter().filter_map(address).collect();
    let none = "no member has an admin address; add `admin = \"host:port\"` to [[cluster.members]], or use --endpoints";
    if known.is_empty() { Err(Failure::new(Exit::Usage, none)) } else { Ok(known) }
}

/// The leader of the highest term that any node knows.
fn leader(asked: &[Asked]) -> Option<(u8, u64)> {
    let known = asked.iter().filter_map(|a| a.facts.as_ref().ok());
    known.filter_map(|f| Some((f.leader?, f.term))).max_by_key(|(_, term)| *term)
}

fn judge(asked: &[Asked]) -> Result<(), Failure> {
    let answered = asked.iter().filter(|a| a.facts.is_ok()).count();
    if answered == 0 {
        let first = asked.iter().find_map(|a| a.facts.as_ref().err());
        let why = first.map_or("there is no node to ask".to_string(), ToString::to_string);
        return Err(Failure::new(Exit::NoConnection, why));
    }
    if leader(asked).is_none() {
        return Err(Failure::new(Exit::Unhealthy, "no node that answers knows a leader"));
    }
    if answered < asked.len() / 2 + 1 {
        let all = asked.len();
        return Err(Failure::new(
            Exit::Unhealthy,
            format!("{answered} of {all} nodes answer: that is no majority"),
        ));
    }
    Ok(())
}

fn status_text(asked: &[Asked]) -> String {
    let head = ["node", "role", "term", "commit", "applied", "last", "memory", "clients", "address"];
    let row = |a: &Asked| match &a.facts {
        Ok(f) => vec![
            f.node.to_string(),
            f.role.clone(),
            f.term.to_string(),
            f.commit.to_string(),
            f.applied.to_string(),
            f.last.to_string(),
            format!("{} MiB", f.memory.resident_bytes >> 20),
            f.connections.to_string(),
            a.address.clone(),
        ],
        Err(error) => vec!["?".into(), "unreachable".into(), error.to_string()],
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(String::from).to_vec()).chain(asked.iter().map(row)).collect();
    columns(&rows)
}

fn status_json(asked: &[Asked]) -> Value {
    let node = |a: &Asked| match &a.facts {
        Ok(facts) => json!({"address": a.address, "facts": facts}),
        Err(error) => json!({"address": a.address, "error": error.to_string()}),
    };
    json!({"nodes": asked.iter().map(node).collect::<Vec<_>>()})
}

/// Who sees whom: from, to, where, whether the link is up, and at the leader how far the other is behind.
fn links(asked: &[Asked]) -> Vec<(u8, u8, String, String, Option<u64>)> {
    let known = asked.iter().filter_map(|a| a.facts.as_ref().ok());
    let of = |facts: &Facts| {
        let link = |p: &crate::admin::status::PeerFacts| {
            let state = match (&p.why, p.up) {
                (_, true) => "up".to_string(),
                (Some(why), false) => format!("down: {why}"),
                (None, false) => "down".to_string(),
            };
            let behind = facts.followers.iter().find(|f| f.node == p.node).map(|f| f.behind);
            (facts.node, p.node, p.address.clone(), state, behind)
        };
        facts.peers.iter().map(link).collect::<Vec<_>>()
    };
    known.flat_map(of).collect()
}

fn members_text(asked: &[Asked]) -> String {
    let head = ["node", "sees", "address", "behind", "link"].map(String::from).to_vec();
    let row = |(from, to, address, state, behind): (u8, u8, String, String, Option<u64>)| {
        let behind = behind.map_or("-".to_string(), |b| b.to_string());
        vec![from.to_string(), to.to_string(), address, behind, state]
    };
    columns(&std::iter::once(head).chain(links(asked).into_iter().map(row)).collect::<Vec<_>>())
}

fn members_json(asked: &[Asked]) -> Value {
    let link = |(from, to, address, state, behind)| json!({"node": from, "sees": to, "address": address, "link": state, "behind": behind});
    json!({"links": links(asked).into_iter().map(link).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: u8, leader: Option<u8>, term: u64) -> Asked {
        Asked { address: format!("n{node}"), facts: Ok(Facts { node, leader, term, ..Facts::default() }) }
    }
    fn gone() -> Asked {
        let error = std::io::ErrorKind::ConnectionRefused.into();
        Asked { address: "n".into(), facts: Err(ClientError::Connect { address: "n".into(), error }) }
    }

    #[test]
    fn the_exit_code_says_whether_the_cluster_can_serve() {
        let code = |asked: &[Asked]| judge(asked).map_err(|f| f.exit);
        assert_eq!(code(&[node(1, Some(1), 2), node(2, Some(1), 2), gone()]), Ok(()));
        assert_eq!(code(&[gone(), gone()]), Err(Exit::NoConnection));
        assert_eq!(code(&[node(1, None, 2), node(2, None, 3)]), Err(Exit::Unhealthy));
        assert_eq!(code(&[node(1, Some(1), 2), gone(), gone()]), Err(Exit::Unhealthy), "no majority answers");
    }

    #[test]
    fn the_newest_term_names_the_leader() {
        assert_eq!(leader(&[node(1, Some(1), 2), node(2, Some(3), 4), node(3, None, 5)]), Some((3, 4)));
    }
}
