//! `quorate ctl evidence`: proof that replicas lie, as nodes keep it or as it lies in files, judged here with the keys of the members of
//! its time: those that a configuration lists, and those that follow from them by what nodes, or a file, show.

use super::exit::{Exit, Failure};
use super::lineage;
use super::output::{Output, columns};
use crate::admin::client::Client;
use crate::admin::keeper::proofs;
use crate::base::hex::{from_hex, to_hex};
use crate::config::Resolved;
use crate::node::boot::{Verdict, judge};
use crate::protocol::pbft::Lineage;
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
    /// Judge each proof anew with the keys that --config lists and those that follow from them; exit 7 when one does not hold, 8 when
    /// nobody shows whose key is needed
    #[arg(long)]
    verify: bool,
    /// How the members came about, as `quorate ctl members charter` wrote it: asks no node for that
    #[arg(long, value_name = "FILE")]
    charter: Option<PathBuf>,
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
    verdict: Option<Verdict>,
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
    let lineage = config.map(|config| lineage_of(args, config, nodes)).transpose()?;
    let judged = |proof: &Bytes| {
        let (config, lineage) = config.zip(lineage.as_ref())?;
        // What cannot be read holds by nobody's keys.
        let fails = Verdict::Fails(lineage.latest().epoch);
        Some(Accusation::decode(proof).map_or(fails, |accusation| judge(config, lineage, &accusation)))
    };
    let exhibits: Vec<Exhibit> =
        all.into_iter().map(|(proof, seen_by)| Exhibit { verdict: judged(&proof), proof, seen_by }).collect();
    output.print(
        || table(&exhibits),
        || json!({ "evidence": exhibits.iter().map(as_json).collect::<Vec<_>>() }),
    );
    match lineage.filter(|_| args.verify) {
        Some(lineage) => sum_up(&exhibits, lineage.latest().epoch),
        None => Ok(()),
    }
}

/// How the members came about.
fn lineage_of(args: &EvidenceArgs, config: &Resolved, nodes: &[String]) -> Result<Lineage, Failure> {
    match &args.charter {
        None if !args.is_offline() => Ok(lineage::shown(config, nodes)),
        path => lineage::read(config, path.as_deref()),
    }
}

/// What came of judging them all; `known` is the last epoch whose members are.
fn sum_up(exhibits: &[Exhibit], known: u64) -> Result<(), Failure> {
    let all = exhibits.len();
    let false_ones = exhibits.iter().filter(|one| matches!(one.verdict, Some(Verdict::Fails(_)))).count();
    if 0 < false_ones {
        let message = format!(
            "{false_ones} of {all} proofs do not hold by the keys of the members of their time, which are known up to epoch {known}"
        );
        return Err(Failure::new(Exit::CheckFailed, message));
    }
    let unknown = exhibits.iter().filter(|one| one.verdict == Some(Verdict::Unknown));
    let whose: Vec<String> = unknown.map(|one| format!("node {}", claim(one).0)).collect();
    if !whose.is_empty() {
        let message = format!(
            "{} of {all} proofs cannot be judged: the keys of {} are not known, for nobody has shown how the members came about beyond epoch {known}; \
             name more nodes with --endpoints, or a file of `ctl members charter` with --charter",
            whose.len(),
            whose.join(", ")
        );
        return Err(Failure::new(Exit::Unknown, message));
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

fn verdict(exhibit: &Exhibit) -> String {
    match exhibit.verdict {
        Some(Verdict::Convicts(0)) => "convicts".into(),
        Some(Verdict::Convicts(epoch)) => format!("convicts, in epoch {epoch}"),
        Some(Verdict::Fails(epoch)) => format!("does not hold by the keys of epoch {epoch}"),
        Some(Verdict::Unknown) => "whose key is unknown".into(),
        None => "not judged: say --config FILE".into(),
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
        vec![accused, kind.into(), verdict(exhibit), what, exhibit.seen_by.join(", ")]
    };
    columns(&std::iter::once(head).chain(exhibits.iter().map(row)).collect::<Vec<_>>())
}

fn as_json(exhibit: &Exhibit) -> Value {
    let (accused, kind, what) = claim(exhibit);
    let (holds, epoch) = match exhibit.verdict {
        Some(Verdict::Convicts(epoch)) => (Some(true), Some(epoch)),
        Some(Verdict::Fails(epoch)) => (Some(false), Some(epoch)),
        Some(Verdict::Unknown) | None => (None, None),
    };
    json!({
        "accused": accused.parse::<u8>().ok(),
        "kind": kind,
        "what": what,
        "kept_by": exhibit.seen_by,
        "convicts": holds,
        "epoch": epoch,
        "proof": to_hex(&exhibit.proof),
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
        let exhibit =
            Exhibit { proof: proof(), seen_by: vec!["node 1".into()], verdict: Some(Verdict::Fails(0)) };
        let json = as_json(&exhibit);
        assert_eq!((&json["accused"], &json["kind"]), (&json!(3), &json!("two-checkpoints")));
        assert_eq!(json["proof"].as_str().and_then(from_hex).map(Bytes::from), Some(proof()));
        let text = table(&[exhibit]);
        assert!(text.contains("does not hold") && text.contains("it signed two states at slot 8"), "{text}");
        assert_eq!(table(&[]), "no replica is known to lie");
    }

    #[test]
    fn a_proof_that_does_not_hold_and_one_that_cannot_be_judged_have_their_exit_codes() {
        let exhibit = |verdict| Exhibit { proof: proof(), seen_by: Vec::new(), verdict: Some(verdict) };
        let (holds, fails) = (exhibit(Verdict::Convicts(2)), exhibit(Verdict::Fails(2)));
        assert!(sum_up(&[exhibit(Verdict::Convicts(0))], 2).is_ok());
        assert_eq!(as_json(&holds)["epoch"], json!(2));
        let unknown = exhibit(Verdict::Unknown);
        let why = sum_up(&[holds, unknown], 2).unwrap_err();
        assert_eq!(why.exit, Exit::Unknown);
        assert!(
            why.message.contains("the keys of node 3 are not known")
                && why.message.contains("beyond epoch 2")
        );
        let why = sum_up(&[exhibit(Verdict::Unknown), fails], 2).unwrap_err();
        assert_eq!(why.exit, Exit::CheckFailed);
    }

    /// A group of four, of which one has had another key since slot 64.
    #[test]
    fn a_proof_is_judged_by_the_keys_of_its_time() {
        use super::super::init::{self, InitArgs};
        use crate::base::View;
        use crate::config::Layers;
        use crate::crypto::{SecretKey, SigningKey};
        use crate::wire::pbft::{Charter, Words, signed_checkpoint, signed_proposals};
        let scratch = super::super::scratch::Scratch::new("judged");
        let args = InitArgs { protocol: "pbft".into(), ..InitArgs::of(scratch.path(), 4) };
        let made = init::create(&args).unwrap();
        let read = |node: &init::NodeLayout| Layers::from_file(&node.config).unwrap().resolve().unwrap();
        let key = |node| -> SigningKey {
            let text = std::fs::read_to_string(&read(node).node.key_file).unwrap();
            SecretKey::parse(text.trim()).unwrap().signing()
        };
        let (config, keys) = (read(&made.nodes[0]), made.nodes.iter().map(key).collect::<Vec<_>>());
        let (early, late) = (&keys[3], SigningKey::from_entropy([9; 32]));
        let first = crate::node::members::lineage(&config);
        let mut membership = first.latest().clone();
        (membership.epoch, membership.members[3].signing_key) = (1, late.public());
        let vote = Vote { slot: Slot(64), digest: Digest([1; 32]) };
        let mut charter = Charter { vote, membership, signatures: Vec::new() };
        let signed = charter.signed(GROUP_ONE);
        let word = |(id, key): (u8, &SigningKey)| (NodeId(id), key.sign(&signed));
        charter.signatures = (1..).zip(&keys).take(3).map(word).collect();
        let mut both = first.clone();
        assert!(both.follow(&charter));
        let accuse = |proof| Accusation { group: GROUP_ONE, accused: NodeId(4), proof };
        let vote = |slot, value| Vote { slot: Slot(slot), digest: Digest([value; 32]) };
        let checkpoints = |slot, key: &SigningKey| {
            let word = |value| {
                let vote = vote(slot, value);
                (vote, key.sign(&signed_checkpoint(GROUP_ONE, &vote)))
            };
            accuse(Proof::Checkpoints(word(1), word(2)))
        };
        let proposals = |epoch, key: &SigningKey| {
            let words = |value| {
                let (view, votes) = (View::first_of(epoch), vec![vote(70, value)]);
                let signature = key.sign(&signed_proposals(GROUP_ONE, view, &votes));
                Words { view, votes, signature }
            };
            accuse(Proof::Proposals(words(1), words(2)))
        };
        for (accusation, known, expected) in [
            (checkpoints(64, early), &both, Verdict::Convicts(0)),
            (checkpoints(72, early), &both, Verdict::Fails(1)),
            (checkpoints(72, &late), &both, Verdict::Convicts(1)),
            (proposals(0, early), &first, Verdict::Convicts(0)),
            (proposals(0, &late), &both, Verdict::Fails(0)),
            (proposals(1, &late), &both, Verdict::Convicts(1)),
            (proposals(1, early), &both, Verdict::Fails(1)),
            (proposals(1, &late), &first, Verdict::Unknown),
            (Accusation { accused: NodeId(5), ..checkpoints(72, &late) }, &both, Verdict::Unknown),
            (Accusation { accused: NodeId(5), ..proposals(0, early) }, &both, Verdict::Fails(0)),
        ] {
            assert_eq!(judge(&config, known, &accusation), expected, "{accusation:?}");
        }
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
