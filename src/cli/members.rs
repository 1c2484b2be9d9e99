//! `quorate ctl members` and `quorate ctl keys`: who is in a PBFT group, and how an operator changes it.
//!
//! A change is an amendment that is made and signed here, with the operator's key, which no node has. What it changes from is believed
//! when more nodes say the same than may lie. Every node is handed it; then this waits until enough of them are in the next epoch.

use super::exit::{Exit, Failure};
use super::lineage::{self, CharterArgs};
use super::output::Output;
use crate::admin::Token;
use crate::admin::client::{Client, ClientError};
use crate::base::hex::from_hex;
use crate::base::{Digest, GROUP_ONE, NodeId, Slot};
use crate::config::{ProtocolKind, Resolved};
use crate::crypto::{PublicKey, SigningKey, VerifyingKey};
use crate::node::members::{self, genesis, joining};
use crate::wire::members::{Amendment, Member, Membership, Signed};
use crate::wire::pbft::{Charter, NULL, Vote};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What to show or change of the members.
#[derive(Subcommand, Debug)]
pub enum MembersAsk {
    /// Who is in the group, in which epoch, and whose links are up
    List,
    /// Let a node in that `quorate init --join` has made, and write the charter with which it starts
    Add(AddArgs),
    /// Take a node out for good; its id never comes back
    Remove(RemoveArgs),
    /// Take a node out for good and let another one in, in one step
    Replace(ReplaceArgs),
    /// Write how the members came about, for a native client that starts when the first members are gone
    Charter(CharterArgs),
}

/// What to change of the keys.
#[derive(Subcommand, Debug)]
pub enum KeysAsk {
    /// Give a running node a new key pair, which it makes itself; its old keys are refused from then on
    Rotate(RotateArgs),
}

/// How a change is signed and handed in.
#[derive(Args, Debug)]
pub struct HowArgs {
    /// The operator's private key; without it `operator.key` beside the configuration
    #[arg(long, env = "QUORATE_OPERATOR_KEY", value_name = "FILE")]
    operator_key: Option<PathBuf>,
    /// The file with the token of the service planes; without it the one that the configuration names
    #[arg(long, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How many members may lie from then on [default: as many as before]
    #[arg(long = "f", value_name = "F")]
    faulty: Option<u8>,
    /// How long to wait until the change is in force, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    wait: u64,
}

/// Whom to let in.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// The newcomer's configuration, as `quorate init --join` wrote it
    #[arg(long, value_name = "FILE")]
    member: PathBuf,
    /// Where to write its charter; without it where its configuration looks for it
    #[arg(long, value_name = "FILE")]
    charter: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
}

/// Whom to take out.
#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// The node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..64))]
    id: u8,
    #[command(flatten)]
    how: HowArgs,
}

/// Whom to take out, and whom to let in.
#[derive(Args, Debug)]
pub struct ReplaceArgs {
    /// The node that leaves
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..64))]
    id: u8,
    #[command(flatten)]
    add: AddArgs,
}

/// Whose keys to change.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// The node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..64))]
    id: u8,
    #[command(flatten)]
    how: HowArgs,
}

/// How long one step of a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the nodes are asked whether a change is in force.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be different.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Add(Member),
    Remove(NodeId),
    Replace(NodeId, Member),
    Rekey(NodeId, PublicKey, VerifyingKey),
}

/// Where a group stands, as enough nodes say.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Standing {
    membership: Membership,
    /// The state above which the epoch began.
    base: Vote,
    window: u64,
    checkpoint_every: u64,
}

/// Changes the members.
pub fn change(
    ask: &MembersAsk,
    nodes: &[String],
    config: Option<&Resolved>,
    file: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let group = |how| Group::new(nodes, config, file, how);
    match ask {
        MembersAsk::List => unreachable!("the caller lists"),
        MembersAsk::Charter(args) => lineage::write(args, nodes, config, output),
        MembersAsk::Add(args) => {
            let newcomer = Newcomer::read(args)?;
            group(&args.how)?.admit(Change::Add(newcomer.member.clone()), &newcomer, output)
        }
        MembersAsk::Replace(ReplaceArgs { id, add }) => {
            let newcomer = Newcomer::read(add)?;
            let change = Change::Replace(NodeId(*id), newcomer.member.clone());
            group(&add.how)?.admit(change, &newcomer, output)
        }
        MembersAsk::Remove(args) => {
            let (membership, _) = group(&args.how)?.amend(|_| Ok(Change::Remove(NodeId(args.id))))?;
            tell(&membership, &format!("node {} is no member any more; stop it", args.id), output);
            Ok(())
        }
    }
}

/// Changes keys.
pub fn rotate(
    KeysAsk::Rotate(args): &KeysAsk,
    nodes: &[String],
    config: Option<&Resolved>,
    file: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let group = Group::new(nodes, config, file, &args.how)?;
    let id = NodeId(args.id);
    let (membership, _) = group.amend(|standing| {
        let member = standing.membership.members.iter().find(|member| member.id == id);
        let member = member.ok_or_else(|| no_member(id, &standing.membership))?;
        let address = [&member.admin].into_iter().find(|address| !address.is_empty());
        let address = address.ok_or_else(|| {
            Failure::new(Exit::Usage, format!("nobody knows where the service plane of node {id} is"))
        })?;
        // The node makes the pair itself: the private half never leaves it.
        let reply = Client::new(address, PATIENCE, Some(group.token.clone())).post("/keys/next")?;
        let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let foreign = |_| Failure::new(Exit::ServerError, format!("{address} told no keys: {}", reply.body));
        let key = PublicKey::parse(&text("key")).map_err(foreign)?;
        let signing_key = VerifyingKey::parse(&text("signing_key")).map_err(foreign)?;
        Ok(Change::Rekey(id, key, signing_key))
    })?;
    tell(&membership, &format!("node {id} has new keys; its old ones are refused"), output);
    Ok(())
}

fn tell(membership: &Membership, what: &str, output: Output) {
    let ids: Vec<u8> = membership.members.iter().map(|member| member.id.0).collect();
    output.print(
        || {
            let (epoch, f) = (membership.epoch, membership.faulty);
            let names: Vec<String> = ids.iter().map(u8::to_string).collect();
            format!("epoch {epoch}: nodes {}, of which {f} may lie\n{what}", names.join(", "))
        },
        || {
            json!({"epoch": membership.epoch, "f": membership.faulty, "members": ids,
                   "retired": membership.retired.iter().map(|id| id.0).collect::<Vec<_>>(), "outcome": what})
        },
    );
}

/// A node that is to come.
struct Newcomer {
    member: Member,
    charter: PathBuf,
}

impl Newcomer {
    fn read(args: &AddArgs) -> Result<Newcomer, Failure> {
        let config = super::settings::read(&args.member)?;
        let member = joining(&config).ok_or_else(|| {
            let message = format!(
                "{} is the configuration of first member {}; make a newcomer's with `quorate init --join`",
                args.member.display(),
                config.node.id
            );
            Failure::new(Exit::Usage, message)
        })?;
        let charter = args.charter.clone().unwrap_or_else(|| config.node.charter_file.clone());
        // Told before the group has changed, not after.
        if charter.exists() {
            let message = format!(
                "{} exists: that node has been let in already; remove it or choose another --charter",
                charter.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Newcomer { member, charter })
    }
}

/// A group that its operator changes.
struct Group<'a> {
    config: &'a Resolved,
    addresses: Vec<String>,
    token: Token,
    key: SigningKey,
    how: &'a HowArgs,
}

impl<'a> Group<'a> {
    fn new(
        nodes: &[String],
        config: Option<&'a Resolved>,
        file: Option<&Path>,
        how: &'a HowArgs,
    ) -> Result<Group<'a>, Failure> {
        let usage = |message: &str| Failure::new(Exit::Usage, message);
        let missing = || usage("a change is made from what a node's configuration says; say --config FILE");
        let (config, file) = (config.ok_or_else(missing)?, file.ok_or_else(missing)?);
        if config.group.protocol != ProtocolKind::Pbft {
            return Err(usage(
                "the members of a raft group are those of `init` and cannot be changed; only a pbft group's can",
            ));
        }
        let operator = config.cluster.operator.ok_or_else(|| {
            usage("`cluster.operator` is not set, so nobody can change this group: only a cluster that began with an operator's key has one")
        })?;
        let beside = || file.with_file_name("operator.key");
        let path = how.operator_key.clone().unwrap_or_else(beside);
        let key = read_key(&path)?;
        if key.public() != operator {
            let message = format!(
                "{} is the key {}, but `cluster.operator` is {operator}; name the right one with --operator-key",
                path.display(),
                key.public()
            );
            return Err(usage(&message));
        }
        let token_file = how.token_file.as_ref().unwrap_or(&config.admin.token_file);
        let token = Token::read(token_file).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        Ok(Group { config, addresses: nodes.to_vec(), token, key, how })
    }

    /// Lets a newcomer in, and writes the charter that it starts with.
    fn admit(&self, change: Change, newcomer: &Newcomer, output: Output) -> Result<(), Failure> {
        let now = self.standing()?;
        // It was let in, and whoever asked for that did not hear of it.
        let is_there = now.membership.members.contains(&newcomer.member);
        let (membership, base) =
            if is_there { (now.membership, now.base) } else { self.amend(|_| Ok(change))? };
        let charters = self.charters(&membership, base);
        members::write(&charters, &newcomer.charter)
            .map_err(|error| Failure::io(&newcomer.charter, "write it", &error))?;
        let id = newcomer.member.id;
        tell(
            &membership,
            &format!("node {id} is a member; start it with {}", newcomer.charter.display()),
            output,
        );
        Ok(())
    }

    /// What a newcomer begins with: how its epoch came about from the first members on, or where nobody can show that any more, what more
    /// nodes say than may lie.
    fn charters(&self, membership: &Membership, base: Vote) -> Vec<Charter> {
        let lineage = lineage::shown(self.config, &self.all(membership));
        let upto = |charter: &&Charter| charter.membership.epoch <= membership.epoch;
        let charters: Vec<Charter> = lineage.charters().iter().take_while(upto).cloned().collect();
        match charters.last() {
            Some(last) if (&last.membership, last.vote) == (membership, base) => charters,
            _ => vec![Charter { vote: base, membership: membership.clone(), signatures: Vec::new() }],
        }
    }

    /// Has a change ordered, and waits for it. Gives back who is in the group then, and the state above which that is so.
    fn amend(
        &self,
        change: impl FnOnce(&Standing) -> Result<Change, Failure>,
    ) -> Result<(Membership, Vote), Failure> {
        let now = self.standing()?;
        let change = change(&now)?;
        let membership = next(&now.membership, &change, self.how.faulty)?;
        let amendment = Amendment {
            cluster: self.config.cluster.id,
            window: now.window,
            checkpoint_every: now.checkpoint_every,
            membership: membership.clone(),
        };
        // Of two amendments for one epoch the one that is made later has the higher number.
        let number = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let signed = Signed::new(&amendment, number, GROUP_ONE, &self.key);
        let addresses = self.all(&now.membership);
        self.hand_in(&addresses, &signed.bytes(), &now.membership)?;
        self.wait_for(&addresses, &membership)
    }

    /// The service planes that are known: those that were named, and those of the members.
    fn all(&self, membership: &Membership) -> Vec<String> {
        let mut all = self.addresses.clone();
        for member in &membership.members {
            if !member.admin.is_empty() && !all.contains(&member.admin) {
                all.push(member.admin.clone());
            }
        }
        all
    }

    /// Where the group stands: what more nodes say than may lie.
    fn standing(&self) -> Result<Standing, Failure> {
        let mut answers = Answers::default();
        let mut addresses = self.addresses.clone();
        let mut asked = 0;
        // Who is asked may know of members that the configuration does not name.
        while asked < addresses.len() {
            let address = addresses[asked].clone();
            asked += 1;
            if let Some(standing) = answers.ask(&address, self.config) {
                for admin in standing.membership.members.into_iter().map(|member| member.admin) {
                    if !admin.is_empty() && !addresses.contains(&admin) && asked < 2 * 64 {
                        addresses.push(admin);
                    }
                }
            }
        }
        let faulty = self.config.group.faulty;
        answers
            .agreed(|standing| faulty.max(standing.membership.faulty.into()))
            .ok_or_else(|| answers.failure())
    }

    /// Hands it to everybody. One correct node that takes it is enough: it sees to it that it is ordered.
    fn hand_in(&self, addresses: &[String], body: &[u8], now: &Membership) -> Result<(), Failure> {
        let (mut taken, mut refusals) = (0, Vec::new());
        for address in addresses {
            match Client::new(address, PATIENCE, Some(self.token.clone())).post_body("/members", body) {
                Ok(_) => taken += 1,
                Err(error) => refusals.push(error),
            }
        }
        if usize::from(now.faulty) < taken {
            return Ok(());
        }
        let told: Vec<String> = refusals.iter().map(ClientError::to_string).collect();
        let needed = usize::from(now.faulty) + 1;
        let message = format!(
            "{taken} of {} nodes took the amendment, and {needed} must, one more than may lie:\n{}",
            addresses.len(),
            told.join("\n")
        );
        // Whoever took it may yet have it ordered.
        Err(Failure::new(if taken == 0 { Exit::ServerError } else { Exit::Unknown }, message))
    }

    /// Until enough nodes are in that epoch: more than may lie.
    fn wait_for(&self, addresses: &[String], membership: &Membership) -> Result<(Membership, Vote), Failure> {
        let until = Instant::now() + Duration::from_secs(self.how.wait);
        loop {
            let mut answers = Answers::default();
            for address in addresses {
                answers.ask(address, self.config);
            }
            answers.found.retain(|(_, standing)| membership.epoch <= standing.membership.epoch);
            if let Some(standing) = answers.agreed(|standing| standing.membership.faulty.into()) {
                if standing.membership == *membership {
                    return Ok((standing.membership, standing.base));
                }
                let epoch = standing.membership.epoch;
                let message = format!(
                    "the group is in epoch {epoch} with other members: another amendment came first; look at `ctl members list`"
                );
                return Err(Failure::new(Exit::CheckFailed, message));
            }
            if until <= Instant::now() {
                let message = format!(
                    "the nodes took the amendment and are not in epoch {} after {} s; it may still come into force, ask with `ctl members list`",
                    membership.epoch, self.how.wait
                );
                return Err(Failure::new(Exit::Unknown, message));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// What nodes say of where the group stands.
#[derive(Default)]
struct Answers {
    found: Vec<(u8, Standing)>,
    failed: Vec<String>,
    silent: usize,
}

impl Answers {
    /// Asks one node. Each has one voice, however many addresses it has.
    fn ask(&mut self, address: &str, config: &Resolved) -> Option<Standing> {
        let answer = Client::new(address, PATIENCE, None).get("/members");
        let answer = match answer {
            Ok(reply) => read_standing(&reply.body, config),
            Err(error) => {
                self.silent += usize::from(matches!(error, ClientError::Connect { .. }));
                self.failed.push(error.to_string());
                return None;
            }
        };
        match answer {
            Ok((node, standing)) => {
                if self.found.iter().all(|(known, _)| *known != node) {
                    self.found.push((node, standing.clone()));
                }
                Some(standing)
            }
            Err(why) => {
                self.failed.push(format!("{address}: {why}"));
                None
            }
        }
    }
    /// What more nodes say, to the letter, than may lie. Who has the state from others may not know what the epoch began with, and has no
    /// voice.
    fn agreed(&self, faulty: impl Fn(&Standing) -> usize) -> Option<Standing> {
        let known = |standing: &Standing| standing.membership.epoch == 0 || standing.base.digest != NULL;
        let votes = |wanted: &Standing| self.found.iter().filter(|(_, said)| said == wanted).count();
        let all = self.found.iter().map(|(_, standing)| standing);
        let agreed = all.filter(|standing| known(standing) && faulty(standing) < votes(standing));
        agreed.max_by_key(|standing| standing.membership.epoch).cloned()
    }
    fn failure(&self) -> Failure {
        let asked = self.found.len() + self.failed.len();
        if self.silent == asked {
            return Failure::new(
                Exit::NoConnection,
                format!("none of {asked} nodes answers; is the cluster running?"),
            );
        }
        let epochs: Vec<String> = self
            .found
            .iter()
            .map(|(node, s)| format!("node {node} in epoch {}", s.membership.epoch))
            .collect();
        let message = format!(
            "too few of {asked} nodes say the same of their group: {}{}{}; start the missing ones, or name more with --endpoints",
            epochs.join(", "),
            if epochs.is_empty() || self.failed.is_empty() { "" } else { ", " },
            self.failed.join(", ")
        );
        Failure::new(Exit::Unhealthy, message)
    }
}

/// What a node answered, if it is one of this cluster's.
fn read_standing(body: &str, config: &Resolved) -> Result<(u8, Standing), String> {
    let answer: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let (number, text) = (|name: &str| answer[name].as_u64(), |name: &str| answer[name].as_str());
    if text("cluster") != Some(&config.cluster.id.to_string()) {
        return Err(format!("it is of another cluster than {}", config.cluster.id));
    }
    let odd = || format!("it told no members: {body}");
    let membership = match number("epoch").ok_or_else(odd)? {
        0 => genesis(config),
        _ => {
            let bytes = text("membership").and_then(from_hex).ok_or_else(odd)?;
            let mut rest = &bytes[..];
            Membership::take(&mut rest).filter(|_| rest.is_empty()).ok_or_else(odd)?
        }
    };
    let digest = text("base_digest").and_then(from_hex).and_then(|bytes| bytes.try_into().ok()).map(Digest);
    let base = Vote { slot: Slot(number("base_slot").ok_or_else(odd)?), digest: digest.ok_or_else(odd)? };
    let node = number("node").and_then(|node| u8::try_from(node).ok()).ok_or_else(odd)?;
    let (window, checkpoint_every) =
        (number("window").ok_or_else(odd)?, number("checkpoint_every").ok_or_else(odd)?);
    Ok((node, Standing { membership, base, window, checkpoint_every }))
}

fn no_member(id: NodeId, membership: &Membership) -> Failure {
    let ids: Vec<String> = membership.members.iter().map(|member| member.id.to_string()).collect();
    let message =
        format!("node {id} is no member; the members of epoch {} are {}", membership.epoch, ids.join(", "));
    Failure::new(Exit::Usage, message)
}

/// The membership after a change. What no group can be is refused here, with its cure.
fn next(now: &Membership, change: &Change, faulty: Option<u8>) -> Result<Membership, Failure> {
    let usage = |message: String| Err(Failure::new(Exit::Usage, message));
    let mut next = now.clone();
    next.epoch += 1;
    next.faulty = faulty.unwrap_or(now.faulty);
    if let Change::Remove(id) | Change::Replace(id, _) | Change::Rekey(id, ..) = change
        && !now.nodes().contains(*id)
    {
        return Err(no_member(*id, now));
    }
    if let Change::Remove(id) | Change::Replace(id, _) = change {
        next.members.retain(|member| member.id != *id);
        next.retired.insert(*id);
    }
    if let Change::Add(member) | Change::Replace(_, member) = change {
        let id = member.id;
        if next.retired.contains(id) {
            return usage(format!(
                "node {id} was a member before, and an id never comes back; make the newcomer's files with another `init --join --id`"
            ));
        }
        if next.nodes().contains(id) {
            return usage(format!("node {id} is a member already"));
        }
        if next.members.iter().any(|m| m.key == member.key || m.signing_key == member.signing_key) {
            return usage(format!(
                "node {id} has the key of a member; make it keys of its own with `init --join`"
            ));
        }
        next.members.push(member.clone());
        next.members.sort_by_key(|member| member.id);
    }
    if let Change::Rekey(id, key, signing_key) = change {
        let member = next.members.iter_mut().find(|member| member.id == *id).expect("it was looked for");
        (member.key, member.signing_key) = (*key, *signing_key);
    }
    let (count, f) = (next.members.len(), next.faulty);
    let most = count.saturating_sub(1) / 3;
    if most < f.into() {
        return usage(format!(
            "{count} members bear at most {most} that lie, and f is {f}; let another node in first, or say --f {most}"
        ));
    }
    let stay = next.members.iter().filter(|member| now.nodes().contains(member.id)).count();
    if stay <= f.into() {
        return usage(format!(
            "{stay} of the members stay, and {f} of them may lie: nobody honest need be left who has the state; change fewer at once"
        ));
    }
    Ok(next)
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let io = |error: std::io::Error| {
        let message = format!(
            "the operator's key {}: {error}; `quorate init` wrote it, name it with --operator-key FILE",
            path.display()
        );
        Failure::new(Exit::Io, message)
    };
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.display();
        let message = format!(
            "the operator's key {path} may be read by others (mode {mode:04o}); run: chmod 600 {path}"
        );
        return Err(Failure::new(Exit::Io, message));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
    SigningKey::parse(text.trim())
        .map_err(|error| Failure::new(Exit::Io, format!("the operator's key {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeSet;

    fn member(id: u8) -> Member {
        let (key, signing_key) = (PublicKey([id; 32]), VerifyingKey([id; 32]));
        Member {
            id: NodeId(id),
            key,
            signing_key,
            peer: String::new(),
            client: String::new(),
            admin: format!("h:{id}"),
        }
    }
    fn group(ids: impl IntoIterator<Item = u8>, faulty: u8, retired: u64) -> Membership {
        Membership {
            epoch: 3,
            faulty,
            retired: NodeSet(retired),
            members: ids.into_iter().map(member).collect(),
        }
    }
    fn why(now: &Membership, change: &Change, faulty: Option<u8>) -> String {
        next(now, change, faulty).unwrap_err().message
    }

    #[test]
    fn what_follows_is_the_present_membership_with_one_thing_changed() {
        let now = group(1..=4, 1, 0);
        let of = |change| next(&now, &change, None).expect("it can be");
        assert_eq!(of(Change::Add(member(5))), Membership { epoch: 4, ..group(1..=5, 1, 0) });
        let replaced = of(Change::Replace(NodeId(2), member(5)));
        assert_eq!(replaced, Membership { epoch: 4, ..group([1, 3, 4, 5], 1, 1 << 2) });
        let rekeyed = of(Change::Rekey(NodeId(3), PublicKey([9; 32]), VerifyingKey([8; 32])));
        assert_eq!(
            (rekeyed.members[2].key.0[0], rekeyed.members[2].signing_key.0[0], rekeyed.nodes()),
            (9, 8, now.nodes())
        );
        let five = group(1..=5, 1, 0);
        let four = next(&five, &Change::Remove(NodeId(1)), None).expect("four bear one");
        assert_eq!(four, Membership { epoch: 4, ..group(2..=5, 1, 1 << 1) });
        let seven = next(&group(1..=6, 1, 0), &Change::Add(member(7)), Some(2)).expect("seven bear two");
        assert_eq!(seven.faulty, 2);
    }

    #[test]
    fn what_no_group_can_be_is_refused_with_value_limit_and_cure() {
        let now = group(1..=4, 1, 1 << 9);
        let remove = Change::Remove(NodeId(4));
        let below = why(&now, &remove, None);
        assert!(
            below.contains("3 members bear at most 0 that lie, and f is 1") && below.contains("--f 0"),
            "{below}"
        );
        assert_eq!(next(&now, &remove, Some(0)).expect("three bear none").members.len(), 3);
        assert!(
            why(&now, &Change::Remove(NodeId(5)), None)
                .contains("node 5 is no member; the members of epoch 3 are 1, 2, 3, 4")
        );
        assert!(why(&now, &Change::Add(member(4)), None).contains("a member already"));
        assert!(why(&now, &Change::Add(member(9)), None).contains("never comes back"));
        assert!(
            why(&now, &Change::Add(Member { key: PublicKey([1; 32]), ..member(5) }), None)
                .contains("the key of a member")
        );
        assert!(why(&now, &Change::Add(member(5)), Some(2)).contains("at most 1"));
    }

    #[test]
    fn a_standing_is_what_more_nodes_say_than_may_lie() {
        let base = Vote { slot: Slot(8), digest: Digest([1; 32]) };
        let standing = |membership: &Membership, base| Standing {
            membership: membership.clone(),
            base,
            window: 8,
            checkpoint_every: 4,
        };
        let (now, lie) = (group(1..=4, 1, 0), group([1, 2, 3, 9], 0, 0));
        let mut answers = Answers::default();
        // A liar that claims that nobody lies is still one voice, where the configuration knows of one liar.
        answers.found.push((3, standing(&lie, base)));
        answers.found.push((1, standing(&now, base)));
        let faulty = |s: &Standing| usize::from(s.membership.faulty).max(1);
        assert_eq!(answers.agreed(faulty), None);
        answers.found.push((2, standing(&now, Vote { digest: NULL, ..base })));
        assert_eq!(answers.agreed(faulty), None, "it does not know the state");
        answers.found.push((4, standing(&now, base)));
        assert_eq!(answers.agreed(faulty), Some(standing(&now, base)));
        assert!(Answers::default().failure().message.contains("none of 0"));
    }
}
