//! `quorate init --join`: the files of a node that comes to a PBFT group which has begun. It agrees with the others on what the group began
//! with, so its configuration lists the same first members; itself it names apart (`[[cluster.joined]]`). Who is in the group when it
//! starts, its charter says, which `quorate ctl members add` writes when the group has let it in.

use super::exit::{Exit, Failure};
use super::init::{InitArgs, NodeLayout, make_dir, member_toml, write_new};
use super::output::Output;
use crate::admin::Token;
use crate::base::NodeId;
use crate::config::limits::NODES_MAX;
use crate::config::{self, ClientAuth, ProtocolKind, Resolved, units};
use crate::crypto::SecretKey;
use crate::io::entropy::{Entropy, SystemEntropy};
use crate::log::{Identity, superblock};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Makes a newcomer's files. Fails before the first write when anything is in the way.
pub fn run(args: &InitArgs, of: &Path, output: Output) -> Result<(), Failure> {
    let node = create(args, of)?;
    let (config, id) = (node.config.display(), node.id);
    output.print(
        || {
            format!(
                "node {id} is to come: its configuration is {config}\n\nLet it in, then start it:\n  \
                 quorate ctl members add --config {} --member {config}\n  quorate start --config {config}",
                of.display()
            )
        },
        || json!({"id": id.0, "config": node.config, "client": node.client, "peer": node.peer, "admin": node.admin}),
    );
    Ok(())
}

/// As `run`, without a word.
pub fn create(args: &InitArgs, of: &Path) -> Result<NodeLayout, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let group = super::settings::read(of)?;
    if group.group.protocol != ProtocolKind::Pbft || group.cluster.operator.is_none() {
        return Err(usage(format!(
            "{} is of a group whose members nobody can change; only a pbft group that began with an operator's key (`cluster.operator`) lets nodes in",
            of.display()
        )));
    }
    let id = args.id.ok_or_else(|| usage("say which number the newcomer is to have: --id N".into()))?;
    if group.cluster.member(NodeId(id)).is_some() || !(1..=NODES_MAX).contains(&usize::from(id)) {
        return Err(usage(format!(
            "--id is {id}, but it must be from 1 to {NODES_MAX} and no member's, present or past; choose a number that was never used"
        )));
    }
    if 65_535 < usize::from(args.base_port) + 200 + usize::from(id) {
        return Err(usage(format!(
            "--base-port is {}, but ports end at 65535; choose a lower one",
            args.base_port
        )));
    }
    let dir = std::path::absolute(&args.dir).map_err(|e| Failure::io(&args.dir, "make it absolute", &e))?;
    let host = args.hosts.first().map_or("127.0.0.1", String::as_str).to_owned();
    let node = NodeLayout::new(&dir, id, &InitArgs { hosts: vec![host; id.into()], ..args.clone() });
    let newcomer = Newcomer { group, node, dir, together: args.hosts.is_empty() };
    newcomer.write()
}

struct Newcomer {
    group: Resolved,
    node: NodeLayout,
    dir: PathBuf,
    together: bool,
}

impl Newcomer {
    fn write(self) -> Result<NodeLayout, Failure> {
        let mut entropy = [0; 32];
        SystemEntropy.fill(&mut entropy);
        let key = SecretKey::from_entropy(entropy);
        let text = self.toml(&key);
        let mut layers = config::Layers::from_text(&text, &self.node.config)?;
        layers.add_flag("(a password will be there)", "client.insecure", "true")?;
        layers.settings.remove("client.password_file");
        layers.resolve()?;
        let files =
            [self.node.config.clone(), self.node.key_file(), self.node.data_dir(), self.charter_file()];
        if let Some(file) = files.iter().find(|file| file.exists()) {
            let message = format!(
                "{} exists, and init never overwrites keys or data; choose another --dir or remove it",
                file.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        make_dir(&self.dir)?;
        self.share_secrets()?;
        write_new(&self.node.key_file(), &format!("{}\n", *key.to_hex()), 0o600)?;
        make_dir(&self.node.data_dir())?;
        let identity = Identity { cluster: self.group.cluster.id.0, node: self.node.id };
        superblock::create(&self.node.data_dir(), identity, 1)
            .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        write_new(&self.node.config, &text, 0o644)?;
        Ok(self.node)
    }

    fn charter_file(&self) -> PathBuf {
        self.node.config.with_extension("charter")
    }

    /// What all nodes of a cluster ask others for, where the newcomer's directory has not got it yet.
    fn share_secrets(&self) -> Result<(), Failure> {
        let token = Token::read(&self.group.admin.token_file)
            .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        let password = self.group.client.password.as_ref().map(|password| password.0.as_str());
        let secrets = [("admin.token", Some(token.reveal())), ("client.password", password)];
        for (name, secret) in secrets {
            let file = self.dir.join(name);
            if let Some(secret) = secret.filter(|_| !file.exists()) {
                write_new(&file, &format!("{secret}\n"), 0o600)?;
            }
        }
        Ok(())
    }

    fn toml(&self, key: &SecretKey) -> String {
        let (Resolved { cluster, group, log, client, .. }, node) = (&self.group, &self.node);
        let auth = if group.client_auth == ClientAuth::Mac { "mac" } else { "sign" };
        let mut text = format!(
            "# Written by `quorate init --join`. [[cluster.members]] is with whom the group began, not who is in it now.\n\n\
             [node]\nid = {id}\ndir = \"node-{id}\"\nkey_file = \"node-{id}.key\"\ncharter_file = \"node-{id}.charter\"\n\n\
             [admin]\ntoken_file = \"admin.token\"\n\n\
             [log]\nsegment_bytes = \"{segment}\"\n\n\
             [group]\nprotocol = \"pbft\"\nf = {f}\nsign_pre_prepares = {sign}\nclient_auth = \"{auth}\"\nverify = {verify}\n\
             fast_reads = {fast}\n\n",
            id = node.id,
            segment = units::show_size(log.segment_bytes),
            f = group.faulty,
            sign = group.sign_pre_prepares,
            verify = group.verify,
            fast = group.fast_reads,
        );
        if self.together {
            text += "[placement]\npin = false\n\n";
        }
        if client.password.is_some() {
            text += "[client]\npassword_file = \"client.password\"\n\n";
        }
        text += &format!("[cluster]\nid = \"{}\"\n", cluster.id);
        if let Some(operator) = &cluster.operator {
            text += &format!("operator = \"{operator}\"\n");
        }
        for member in &cluster.members {
            text += &member_toml("members", member);
        }
        for client in &cluster.clients {
            text += &format!(
                "\n[[cluster.clients]]\nid = {}\nkey = \"{}\"\nsigning_key = \"{}\"\n",
                client.id, client.key, client.signing_key
            );
        }
        let (id, peer, client) = (node.id, node.peer.clone(), node.client.clone());
        let (public, signing) = (key.public(), Some(key.signing().public()));
        let admin = Some(node.admin.clone());
        text + &member_toml(
            "joined",
            &config::Member { id, peer, client, admin, key: public, signing_key: signing },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::init;
    use super::*;
    use crate::cli::scratch::Scratch;
    use crate::node::members::{charters, joining};

    fn args(dir: &Path, protocol: &str, id: Option<u8>) -> InitArgs {
        InitArgs { protocol: protocol.into(), clients: 1, id, ..InitArgs::of(dir, 4) }
    }

    #[test]
    fn a_newcomer_agrees_with_the_first_members_and_names_itself_apart() {
        let scratch = Scratch::new("join");
        let first = init::create(&args(scratch.path(), "pbft", None)).unwrap();
        let read = |path: &Path| config::Layers::from_file(path).unwrap().resolve().unwrap();
        let group = read(&first.nodes[0].config);
        for dir in [scratch.path().to_owned(), scratch.path().join("elsewhere")] {
            let node = create(&args(&dir, "raft", Some(5)), &first.nodes[0].config).unwrap();
            let config = read(&node.config);
            assert_eq!(
                (config.fingerprint(), config.membership()),
                (group.fingerprint(), group.membership())
            );
            assert_eq!((config.node.id, config.client.listen.as_str()), (NodeId(5), "127.0.0.1:7005"));
            let joining = joining(&config).expect("it came later");
            let secret = std::fs::read_to_string(&config.node.key_file).unwrap();
            let secret = SecretKey::parse(secret.trim()).unwrap();
            assert_eq!((joining.key, joining.signing_key), (secret.public(), secret.signing().public()));
            assert_eq!(
                Token::read(&config.admin.token_file).unwrap().reveal(),
                Token::read(&first.token_file).unwrap().reveal()
            );
            let why = charters(&config).unwrap_err().to_string();
            assert!(why.contains("`quorate ctl members add` writes it"), "{why}");
            let again = create(&args(&dir, "raft", Some(5)), &first.nodes[0].config).unwrap_err();
            assert!(again.message.contains("never overwrites"), "{again}");
        }
    }

    #[test]
    fn who_cannot_join_is_told_before_anything_is_written() {
        let scratch = Scratch::new("join-refused");
        let raft = init::create(&InitArgs { clients: 0, ..args(&scratch.path().join("raft"), "raft", None) })
            .unwrap();
        let pbft = init::create(&args(&scratch.path().join("pbft"), "pbft", None)).unwrap();
        let dir = scratch.path().join("new");
        for (of, id, part) in [
            (&raft, Some(5), "nobody can change"),
            (&pbft, None, "--id N"),
            (&pbft, Some(4), "no member's"),
            (&pbft, Some(64), "from 1 to 63"),
        ] {
            let error = create(&args(&dir, "raft", id), &of.nodes[0].config).unwrap_err();
            assert!(error.message.contains(part), "{error}");
            assert!(!dir.exists());
        }
    }
}
