//! Who is in the group, as a node begins with it: the members that its configuration lists, or the charter with which it was let in.

use super::RunError;
use super::boot::pbft_options;
use super::sizes::Sizes;
use crate::base::GROUP_ONE;
use crate::base::hex::{from_hex, to_hex};
use crate::config::{self, Resolved};
use crate::crypto::VerifyingKey;
use crate::protocol::pbft::Lineage;
use crate::wire::members::{Member, Membership};
use crate::wire::pbft::{Charter, Vote};
use crate::wire::roster::Roll;
use std::path::Path;

/// The members with which the group began: epoch 0.
pub fn genesis(config: &Resolved) -> Membership {
    let members = config.cluster.members.iter().map(member).collect();
    Membership { epoch: 0, faulty: config.group.faulty as u8, retired: Default::default(), members }
}

/// This node, if it came later: as its configuration says that it is to be known.
pub fn joining(config: &Resolved) -> Option<Member> {
    config.cluster.joined.as_ref().map(member)
}

fn member(member: &config::Member) -> Member {
    let config::Member { id, peer, client, admin, key, signing_key } = member.clone();
    // A group whose members do not sign never asks for it.
    let signing_key = signing_key.unwrap_or(VerifyingKey([0; 32]));
    Member { id, key, signing_key, peer, client, admin: admin.unwrap_or_default() }
}

/// What the group began with.
pub fn first(config: &Resolved) -> Charter {
    Charter { vote: Vote::default(), membership: genesis(config), signatures: Vec::new() }
}

/// What a node begins with, last, and what came before it as far as it knows: its group's first members, or for one that came later what
/// its charter's file says. One at least.
pub fn charters(config: &Resolved) -> Result<Vec<Charter>, RunError> {
    if config.cluster.joined.is_none() {
        return Ok(vec![first(config)]);
    }
    let path = &config.node.charter_file;
    let wrong = |why: String| RunError::Charter { node: config.node.id, path: path.clone(), why };
    let (charters, _) = read(config, path).map_err(wrong)?;
    let begins = charters.last().expect("one at least");
    if !begins.membership.nodes().contains(config.node.id) {
        return Err(wrong(format!("node {} is not among its members", config.node.id)));
    }
    Ok(charters)
}

/// How the members came about, as whoever knows the first ones may believe it before anybody has shown anything.
pub fn lineage(config: &Resolved) -> Lineage {
    Lineage::new(GROUP_ONE, genesis(config))
}

/// The same with what such a file shows.
pub fn lineage_of(config: &Resolved, path: &Path) -> Result<Lineage, String> {
    let (charters, lineage) = read(config, path)?;
    let begins = charters.last().expect("one at least").membership.epoch;
    if lineage.latest().epoch != begins {
        return Err(format!("nobody has signed there how epoch {begins} began"));
    }
    Ok(lineage)
}

/// Writes charters, rising, a line each.
pub fn write(charters: &[Charter], path: &Path) -> std::io::Result<()> {
    let line = |charter: &Charter| to_hex(charter.body().bytes()) + "\n";
    std::fs::write(path, charters.iter().map(line).collect::<String>())
}

/// Reads them, one at least, and the lineage that they make. What is signed must follow from the first members. What is not is what a
/// newcomer begins with: whoever wrote it has it from more nodes than may lie.
fn read(config: &Resolved, path: &Path) -> Result<(Vec<Charter>, Lineage), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let read = |line: &str| Charter::decode(&from_hex(line.trim())?);
    let charters: Option<Vec<Charter>> = text.lines().map(read).collect();
    let charters = charters.filter(|charters| !charters.is_empty()).ok_or("it is no charter")?;
    let mut lineage = lineage(config);
    lineage.follow_all(charters.iter());
    let foreign = charters.iter().find(|one| !one.signatures.is_empty() && !lineage.charters().contains(one));
    match foreign {
        Some(one) => Err(format!(
            "how epoch {} began is signed there by others than the members before it",
            one.membership.epoch
        )),
        None => Ok((charters, lineage)),
    }
}

/// Where a group stands before its replica says so.
pub fn roll(config: &Resolved, sizes: &Sizes, charter: &Charter) -> Roll {
    let options = pbft_options(config, sizes);
    Roll::new(charter.membership.clone(), charter.vote, options.window, options.checkpoint_every)
}
