//! `quorate ctl evidence`: proof that replicas lie, as nodes keep it or as it lies in files, judged here with the keys of a configuration.

use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use crate::admin::client::Client;
use crate::admin::keeper::proofs;
use crate::base::hex::from_hex;
use crate::config::Resolved;
use crate::node::boot::judge;
use crate::wire::pbft::Accusation;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to show, and how far to trust it.
#[derive(Args, Debug)]
pub struct EvidenceArgs {
    /// Judge each proof anew with the keys that --config lists; exit 7 when one does not hold
    #[arg(long)]
    verify: bool,
    /// Ask no node: read proofs from these files, or directories such as a node's `evidence`
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    from: Vec<PathBuf>,
}

impl EvidenceArgs {
    /// Whether nodes need not be named.
    pub fn is_offline(&self) -> bool {
        !self.from.is_empty()
    }
}

/// One proof, and who has it.
struct Exhibit {
    proof: Bytes,
    seen_by: Vec<String>,
    verdict: Option<bool>,
}

/// Runs the command. `nodes` are service planes to ask.
pub fn run(
    args: &EvidenceArgs,
    nodes: &[String],
    patience: Duration,
    config: Option<&Resolved>,
    output: Output,
) -> Result<(), Failure> {
    if args.verify && config.is_none() {
        let message = "to judge a proof takes the members' keys; say --config FILE";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut all: BTreeMap<Bytes, Vec<String>> = BTreeMap::new();
    if args.is_offline() {
        args.from.iter().try_for_each(|path| read(path, &mut all))?;
    } else {
        ask(nodes, patience, &mut all)?;
    }
    let judged = |proof: &Bytes| {
        config.map(|config| Accusation::decode(proof).is_some_and(|accusation| judge(config, &accusation)))
    };
    let exhibits: Vec<Exhibit> =
        all.into_iter().map(|(proof, seen_by)| Exhibit { verdict: judged(&proof), proof, seen_by }).collect();
    output.print(
        || table(&exhibits),
        || json!({ "evidence": exhibits.iter().map(as_json).collect::<Vec<_>>() }),
    );
    let false_ones = exhibits.iter().filter(|exhibit| exhibit.verdict == Some(false)).count();
    if args.verify && 0 < false_ones {
        let message = format!(
            "{false_ones} of {} proofs do not hold by the keys of this configuration",
            exhibits.len()
        );
        return Err(Failure::new(Exit::CheckFailed, message));
    }
    Ok(())
}

/// Reads a file, or all proofs of a directory.
fn read(path: &Path, all: &mut BTreeMap<Bytes, Vec<String>>) -> Result<(), Failure> {
    let io = |error: std::io::Error| Failure::new(Exit::Io, format!("{}: {error}", path.display()));
    let found = match path.is_dir() {
        true => proofs::survey(path).map_err(io)?,
        false => vec![(path.to_path_buf(), std::fs::read(path).map_err(io)?.into())],
    };
    for (path, proof) in found {
        all.entry(proof).or_default().push(path.display().to_string());
    }
    Ok(())
}

/// Asks all nodes; one that answers is enough.
fn ask(nodes: &[String], patience: Duration, all: &mut BTreeMap<Bytes, Vec<String>>) -> Result<(), Failure> {
    let (mut answered, mut last) = (false, None);
    for address in nodes {
        let reply = match Client::new(address, patience, None).get("/evidence") {
            Ok(reply) => reply,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        answered = true;
        let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        for one in answer["evidence"].as_array().into_iter().flatten() {
            let proof = one["proof"].as_str().and_then(from_hex).map(Bytes::from).ok_or_else(|| {
                Failure::new(Exit::ServerError, format!("{address}: a proof is not hexadecimal digits"))
            })?;
            all.entry(proof).or_default().push(format!("node {}", answer["node"]));
        }
    }
    match last {
        Some(error) if !answered => Err(error.into()),
        _ => Ok(()),
    }
}

fn verdict(exhibit: &Exhibit) -> &'static str {
    match exhibit.verdict {
        Some(true) => "convicts",
        Some(false) => "does not hold",
        None => "not judged: say --config FILE",
    }
}

/// Who is accused, of what kind, in what words.
fn claim(exhibit: &Exhibit) -> (String, &'static str, String) {
    match Accusation::decode(&exhibit.proof) {
        Some(a) => (a.accused.to_string(), a.proof.name(), a.proof.describe()),
        None => ("?".into(), "?", "it cannot be read".into()),
    }
}

fn table(exhibits: &[Exhibit]) -> String {
    if exhibits.is_empty() {
        return "no replica is known to lie".to_string();
    }
    let head = ["ACCUSED", "KIND", "VERDICT", "WHAT", "KEPT BY"].map(String::from).to_vec();
    let row = |exhibit: &Exhibit| {
        let (accused, kind, what) = claim(exhibit);
        vec![accused, kind.into(), verdict(exhibit).into(), what, exhibit.seen_by.join(", ")]
    };
    columns(&std::iter::once(head).chain(exhibits.iter().map(row)).collect::<Vec<_>>())
}

fn as_json(exhibit: &Exhibit) -> Value {
    let (accused, kind, what) = claim(exhibit);
    let proof: String = exhibit.proof.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "accused": accused.parse::<u8>().ok(),
        "kind": kind,
        "what": what,
        "kept_by": exhibit.seen_by,
        "convicts": exhibit.verdict,
        "proof": proof,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, GROUP_ONE, NodeId, Slot};
    use crate::crypto::Signature;
    use crate::wire::pbft::{Proof, Vote};

    fn proof() -> Bytes {
        let word = |value| (Vote { slot: Slot(8), digest: Digest([value; 32]) }, Signature([value; 64]));
        let proof = Proof::Checkpoints(word(1), word(2));
        Accusation { group: GROUP_ONE, accused: NodeId(3), proof }.encode()
    }

    #[test]
    fn what_nodes_and_files_keep_is_shown_as_it_was_written() {
        let exhibit = Exhibit { proof: proof(), seen_by: vec!["node 1".into()], verdict: Some(false) };
        let json = as_json(&exhibit);
        assert_eq!((&json["accused"], &json["kind"]), (&json!(3), &json!("two-checkpoints")));
        assert_eq!(json["proof"].as_str().and_then(from_hex).map(Bytes::from), Some(proof()));
        let text = table(&[exhibit]);
        assert!(text.contains("does not hold") && text.contains("it signed two states at slot 8"), "{text}");
        assert_eq!(table(&[]), "no replica is known to lie");
    }

    #[test]
    fn proofs_of_a_directory_are_read_and_other_files_are_not() {
        let scratch = crate::admin::testing::Scratch::new("evidence");
        let path = proofs::path_of(scratch.path(), NodeId(3), "two-checkpoints");
        std::fs::write(&path, proof()).unwrap();
        std::fs::write(scratch.path().join("notes"), "x").unwrap();
        let mut all = BTreeMap::new();
        read(scratch.path(), &mut all).unwrap();
        assert_eq!(all, BTreeMap::from([(proof(), vec![path.display().to_string()])]));
        assert_eq!(read(Path::new("/nowhere"), &mut all).unwrap_err().exit, Exit::Io);
    }
}
