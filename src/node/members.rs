//! Who is in the group, as a node begins with it: the members that its configuration lists, or the charter with which it was let in.

use super::RunError;
use super::boot::pbft_options;
use super::sizes::Sizes;
use crate::base::hex::{from_hex, to_hex};
use crate::config::{self, Resolved};
use crate::crypto::VerifyingKey;
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

/// What a node begins with: its group's first members, or for one that came later its charter.
pub fn charter(config: &Resolved) -> Result<Charter, RunError> {
    if config.cluster.joined.is_none() {
        return Ok(first(config));
    }
    let path = &config.node.charter_file;
    let wrong = |why: String| RunError::Charter { node: config.node.id, path: path.clone(), why };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let charter = read(&text).ok_or_else(|| wrong("it is no charter".into()))?;
    if !charter.membership.nodes().contains(config.node.id) {
        return Err(wrong(format!("node {} is not among its members", config.node.id)));
    }
    Ok(charter)
}

/// Writes a charter for a newcomer.
pub fn write(charter: &Charter, path: &Path) -> std::io::Result<()> {
    std::fs::write(path, to_hex(charter.body().bytes()) + "\n")
}

fn read(text: &str) -> Option<Charter> {
    Charter::decode(&from_hex(text.trim())?)
}

/// Where a group stands before its replica says so.
pub fn roll(config: &Resolved, sizes: &Sizes, charter: &Charter) -> Roll {
    let options = pbft_options(config, sizes);
    Roll {
        membership: charter.membership.clone(),
        base: charter.vote,
        boundary: None,
        window: options.window,
        checkpoint_every: options.checkpoint_every,
    }
}
