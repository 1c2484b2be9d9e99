//! `quorate init`: identities, keys and configurations of a new cluster, and each node's empty data directory.
//!
//! It never overwrites: what is there may be the only copy of a key or of data.

use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use crate::admin::Token;
use crate::base::NodeId;
use crate::base::hex::to_hex;
use crate::config::limits::{CLIENTS_MAX, NODES_MAX};
use crate::config::{self, units};
use crate::crypto::{ClusterId, SecretKey, SigningKey};
use crate::io::entropy::{Entropy, SystemEntropy};
use crate::log::{Identity, superblock};
use clap::Args;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What kind of cluster is wanted.
#[derive(Args, Debug, Clone)]
pub struct InitArgs {
    /// Where to write; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// How many nodes, 1 to 63; odd numbers survive the most failures for their size
    #[arg(long, default_value_t = 5)]
    pub nodes: usize,
    /// Ports count from here: clients at P+K, peers at P+100+K, service plane at P+200+K
    #[arg(long, value_name = "P", default_value_t = 7000)]
    pub base_port: u16,
    /// One host a node, in the order of their ids (repeatable or comma-separated); without it all nodes are on loopback
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Which rules the group obeys: raft bears crashes, pbft bears f lying nodes of 3f+1
    #[arg(long, value_name = "NAME", default_value = "raft", value_parser = ["raft", "pbft"])]
    pub protocol: String,
    /// How many nodes of a pbft group may lie [default: as many as it bears, (N - 1) / 3]
    #[arg(long = "f", value_name = "F")]
    pub faulty: Option<usize>,
    /// Native clients that a pbft group lets in: each gets an id from 64 on and a key file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub clients: usize,
    /// Make the files of one more node for a running pbft group: the configuration of any of its nodes
    #[arg(long, value_name = "FILE", requires = "id")]
    pub join: Option<PathBuf>,
    /// With --join: the newcomer's number, never used before in its group
    #[arg(long, value_name = "N", requires = "join")]
    pub id: Option<u8>,
    /// Size of a log segment
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub segment_bytes: String,
}

/// A cluster on disk: where its files are and where its nodes will listen.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The cluster's name.
    pub cluster: ClusterId,
    /// The directory of it all.
    pub dir: PathBuf,
    /// Holds the token that changes ask for.
    pub token_file: PathBuf,
    /// Rising by id.
    pub nodes: Vec<NodeLayout>,
    /// Rising by id.
    pub clients: Vec<ClientLayout>,
    /// Holds the key that changes a pbft group's members and keys. No node needs it.
    pub operator_file: Option<PathBuf>,
}

/// A native client on disk.
#[derive(Clone, Debug)]
pub struct ClientLayout {
    /// Its name.
    pub id: NodeId,
    /// Its private key.
    pub key_file: PathBuf,
}

/// A node on disk.
#[derive(Clone, Debug)]
pub struct NodeLayout {
    /// Its name.
    pub id: NodeId,
    /// Its configuration.
    pub config: PathBuf,
    /// For clients.
    pub client: String,
    /// For other nodes.
    pub peer: String,
    /// The service plane.
    pub admin: String,
}

/// Runs the command.
pub fn run(args: &InitArgs, output: Output) -> Result<(), Failure> {
    let layout = create(args)?;
    output.print(|| layout.to_text(), || layout.to_json());
    Ok(())
}

/// Writes a whole cluster. Fails before the first write when anything is in the way.
pub fn create(args: &InitArgs) -> Result<Layout, Failure> {
    let plan = Plan::new(args)?;
    plan.refuse_to_overwrite()?;
    plan.write()
}

/// Finds the cluster that an earlier `create` left in `dir`, by the configuration of its first node.
pub fn open(dir: &Path) -> Result<Layout, Failure> {
    let dir = std::path::absolute(dir).map_err(|e| Failure::io(dir, "make it absolute", &e))?;
    let first = config::Layers::from_file(&dir.join("node-1.toml"))?.resolve()?;
    let nodes = first.cluster.members.iter().map(|member| NodeLayout {
        id: member.id,
        config: dir.join(format!("node-{}.toml", member.id)),
        client: member.client.clone(),
        peer: member.peer.clone(),
        admin: member.admin.clone().unwrap_or_default(),
    });
    Ok(Layout {
        cluster: first.cluster.id,
        token_file: first.admin.token_file.clone(),
        nodes: nodes.collect(),
        clients: first.cluster.clients.iter().map(|client| ClientLayout::new(&dir, client.id)).collect(),
        operator_file: first.cluster.operator.map(|_| operator_file(&dir)),
        dir,
    })
}

impl Layout {
    fn to_text(&self) -> String {
        let mut text =
            format!("cluster {} of {} nodes in {}\n\n", self.cluster, self.nodes.len(), self.dir.display());
        text += &self.table();
        text += "\nStart each node with its file:\n";
        for node in &self.nodes {
            text += &format!("  quorate start --config {}\n", node.config.display());
        }
        if !self.clients.is_empty() {
            text += "\nA native client stands between Redis clients and the group, and trusts no node:\n";
        }
        for client in &self.clients {
            text += &format!("  {}\n", client.command(&self.nodes[0].config));
        }
        if let Some(file) = &self.operator_file {
            text += &format!(
                "\nWhoever has {} decides who is in the group. No node needs it: keep it elsewhere.\n",
                file.display()
            );
        }
        text
    }
    /// One line a node: where it listens.
    pub fn table(&self) -> String {
        let head = ["node", "clients", "peers", "service plane"].map(String::from).to_vec();
        let row = |n: &NodeLayout| vec![n.id.to_string(), n.client.clone(), n.peer.clone(), n.admin.clone()];
        columns(&std::iter::once(head).chain(self.nodes.iter().map(row)).collect::<Vec<_>>())
    }
    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        let node = |n: &NodeLayout| json!({"id": n.id.0, "config": n.config, "client": n.client, "peer": n.peer, "admin": n.admin});
        json!({
            "cluster": self.cluster.to_string(),
            "dir": self.dir,
            "token_file": self.token_file,
            "operator_file": self.operator_file,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "clients": self.clients.iter().map(|c| json!({"id": c.id.0, "key_file": c.key_file})).collect::<Vec<_>>(),
        })
    }
}

/// Everything that will be written, made in memory first.
struct Plan {
    layout: Layout,
    keys: Vec<SecretKey>,
    client_keys: Vec<SecretKey>,
    /// Of a pbft group.
    operator: Option<SigningKey>,
    segment_bytes: u64,
    protocol: String,
    faulty: Option<usize>,
    /// All nodes are on this machine.
    together: bool,
}

impl Plan {
    fn new(args: &InitArgs) -> Result<Plan, Failure> {
        let usage = |message: String| Err(Failure::new(Exit::Usage, message));
        let count = if args.hosts.is_empty() { args.nodes } else { args.hosts.len() };
        if !(1..=NODES_MAX).contains(&count) {
            return usage(format!(
                "{count} nodes were asked for, but a cluster has 1 to {NODES_MAX}; choose 3, 5 or 7"
            ));
        }
        if 65_535 < usize::from(args.base_port) + 200 + count {
            let highest = 65_535 - 200 - count;
            return usage(format!(
                "--base-port is {}, but ports end at 65535; choose at most {highest}",
                args.base_port
            ));
        }
        if CLIENTS_MAX < args.clients {
            return usage(format!("--clients is {}, but a cluster has at most {CLIENTS_MAX}", args.clients));
        }
        let Some(segment_bytes) = units::parse_size(&args.segment_bytes) else {
            return usage(format!(
                "--segment-bytes is {}, but it must be a size; write it like 64MiB",
                args.segment_bytes
            ));
        };
        if args.faulty.is_some() && args.protocol != "pbft" {
            return usage(
                "--f says how many nodes of a pbft group may lie; leave it out, or choose --protocol pbft"
                    .into(),
            );
        }
        let mut entropy = SystemEntropy;
        let mut cluster = ClusterId::default();
        entropy.fill(&mut cluster.0);
        let dir =
            std::path::absolute(&args.dir).map_err(|e| Failure::io(&args.dir, "make it absolute", &e))?;
        let nodes = (1..=count as u8).map(|id| NodeLayout::new(&dir, id, args)).collect();
        let client = |place| ClientLayout::new(&dir, NodeId((NODES_MAX + 1 + place) as u8));
        let clients = (0..args.clients).map(client).collect();
        let operator_file = (args.protocol == "pbft").then(|| operator_file(&dir));
        let mut random = || {
            let mut secret = [0; 32];
            entropy.fill(&mut secret);
            secret
        };
        let operator = operator_file.is_some().then(|| SigningKey::from_entropy(random()));
        let token_file = dir.join("admin.token");
        let layout = Layout { cluster, token_file, dir, nodes, clients, operator_file };
        let mut key = || SecretKey::from_entropy(random());
        let keys = (0..count).map(|_| key()).collect();
        let client_keys = (0..args.clients).map(|_| key()).collect();
        let (protocol, faulty, together) = (args.protocol.clone(), args.faulty, args.hosts.is_empty());
        let plan = Plan { keys, client_keys, operator, segment_bytes, protocol, faulty, together, layout };
        plan.check()?;
        Ok(plan)
    }

    /// What a node will be told when it starts, the operator is told now.
    fn check(&self) -> Result<(), Failure> {
        for place in 0..self.layout.nodes.len() {
            let mut layers = config::Layers::from_text(&self.toml(place), &self.layout.nodes[place].config)?;
            if !self.together {
                layers.add_flag("(a password will be there)", "client.insecure", "true")?;
                layers.settings.remove("client.password_file");
            }
            layers.resolve()?;
        }
        Ok(())
    }

    fn refuse_to_overwrite(&self) -> Result<(), Failure> {
        let files = self.layout.nodes.iter().flat_map(|n| [n.config.clone(), n.key_file(), n.data_dir()]);
        let files = files.chain(self.layout.clients.iter().map(|client| client.key_file.clone()));
        let files = files.chain(self.layout.operator_file.clone());
        match files.chain([self.layout.token_file.clone(), self.password_file()]).find(|f| f.exists()) {
            None => Ok(()),
            Some(file) => Err(Failure::new(
                Exit::Usage,
                format!(
                    "{} exists, and init never overwrites keys or data; choose another --dir or remove it",
                    file.display()
                ),
            )),
        }
    }

    fn write(self) -> Result<Layout, Failure> {
        make_dir(&self.layout.dir)?;
        let mut entropy = SystemEntropy;
        let mut random = [0; 32];
        entropy.fill(&mut random);
        Token::create(&self.layout.token_file, random)
            .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        if !self.together {
            entropy.fill(&mut random);
            write_new(&self.password_file(), &format!("{}\n", to_hex(&random[..16])), 0o600)?;
        }
        for (place, node) in self.layout.nodes.iter().enumerate() {
            write_new(&node.key_file(), &format!("{}\n", *self.keys[place].to_hex()), 0o600)?;
            make_dir(&node.data_dir())?;
            let identity = Identity { cluster: self.layout.cluster.0, node: node.id };
            superblock::create(&node.data_dir(), identity, 1)
                .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
            write_new(&node.config, &self.toml(place), 0o644)?;
        }
        for (client, key) in self.layout.clients.iter().zip(&self.client_keys) {
            write_new(&client.key_file, &format!("{}\n", *key.to_hex()), 0o600)?;
        }
        for (file, key) in self.layout.operator_file.iter().zip(&self.operator) {
            write_new(file, &format!("{}\n", *key.to_hex()), 0o600)?;
        }
        sync_dir(&self.layout.dir)?;
        Ok(self.layout)
    }

    fn password_file(&self) -> PathBuf {
        self.layout.dir.join("client.password")
    }

    /// The configuration of one node: what differs from the defaults, and all members.
    fn toml(&self, place: usize) -> String {
        let node = &self.layout.nodes[place];
        let mut text = format!(
            "# Written by `quorate init`. `quorate config show --config THIS` lists every setting with its meaning.\n\n\
             [node]\nid = {id}\ndir = \"node-{id}\"\nkey_file = \"node-{id}.key\"\n\n\
             [admin]\ntoken_file = \"admin.token\"\n\n\
             [log]\nsegment_bytes = \"{segment}\"\n\n",
            id = node.id,
            segment = units::show_size(self.segment_bytes),
        );
        if self.protocol != "raft" {
            text += &format!("[group]\nprotocol = \"{}\"\n", self.protocol);
            text += &self.faulty.map_or("\n".to_string(), |f| format!("f = {f}\n\n"));
        }
        if self.together {
            // Several nodes on one machine: pinned to the same cores they would only wait for each other.
            text += "[placement]\npin = false\n\n";
        } else {
            text += "[client]\npassword_file = \"client.password\"\n\n";
        }
        text += &format!("[cluster]\nid = \"{}\"\n", self.layout.cluster);
        if let Some(operator) = &self.operator {
            text += &format!("operator = \"{}\"\n", operator.public());
        }
        for (member, key) in self.layout.nodes.iter().zip(&self.keys) {
            text += &member_toml("members", &member.as_member(key));
        }
        for (client, key) in self.layout.clients.iter().zip(&self.client_keys) {
            text += &format!(
                "\n[[cluster.clients]]\nid = {}\nkey = \"{}\"\nsigning_key = \"{}\"\n",
                client.id,
                key.public(),
                key.signing().public()
            );
        }
        text
    }
}

/// Where the operator's key is written.
fn operator_file(dir: &Path) -> PathBuf {
    dir.join("operator.key")
}

impl ClientLayout {
    fn new(dir: &Path, id: NodeId) -> ClientLayout {
        ClientLayout { id, key_file: dir.join(format!("client-{id}.key")) }
    }
    /// What runs it.
    fn command(&self, config: &Path) -> String {
        format!("quorate client --config {} --key-file {}", config.display(), self.key_file.display())
    }
}

#[cfg(test)]
impl InitArgs {
    /// A Raft cluster of so many nodes, all on this machine.
    pub(super) fn of(dir: &Path, nodes: usize) -> InitArgs {
        let (dir, protocol, segment_bytes) = (dir.to_owned(), "raft".into(), "4MiB".into());
        InitArgs {
            dir,
            nodes,
            base_port: 7000,
            hosts: Vec::new(),
            protocol,
            faulty: None,
            clients: 0,
            join: None,
            id: None,
            segment_bytes,
        }
    }
}

impl NodeLayout {
    pub(super) fn new(dir: &Path, id: u8, args: &InitArgs) -> NodeLayout {
        let host = args.hosts.get(usize::from(id) - 1).map_or("127.0.0.1", String::as_str);
        let address = |offset: u16| format!("{host}:{}", args.base_port + offset + u16::from(id));
        NodeLayout {
            id: NodeId(id),
            config: dir.join(format!("node-{id}.toml")),
            client: address(0),
            peer: address(100),
            admin: address(200),
        }
    }
    /// As all configurations list it.
    fn as_member(&self, key: &SecretKey) -> config::Member {
        let (id, peer, client) = (self.id, self.peer.clone(), self.client.clone());
        let (admin, signing_key) = (Some(self.admin.clone()), Some(key.signing().public()));
        config::Member { id, peer, client, admin, key: key.public(), signing_key }
    }
    pub(super) fn key_file(&self) -> PathBuf {
        self.config.with_extension("key")
    }
    pub(super) fn data_dir(&self) -> PathBuf {
        self.config.with_extension("")
    }
}

/// A member as a configuration lists it.
pub(super) fn member_toml(array: &str, member: &config::Member) -> String {
    let config::Member { id, peer, client, admin, key, signing_key } = member;
    let mut text = format!("\n[[cluster.{array}]]\nid = {id}\npeer = \"{peer}\"\nclient = \"{client}\"\n");
    text += &admin.iter().map(|admin| format!("admin = \"{admin}\"\n")).collect::<String>();
    text += &format!("key = \"{key}\"\n");
    text + &signing_key.iter().map(|key| format!("signing_key = \"{key}\"\n")).collect::<String>()
}

/// A file that was not there, on stable storage.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|e| Failure::io(path, "write it", &e))
}

/// A directory that only its owner reads.
pub(super) fn make_dir(path: &Path) -> Result<(), Failure> {
    let make = || fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    make().map_err(|e| Failure::io(path, "make it", &e))
}

/// Makes the names in a directory durable.
fn sync_dir(path: &Path) -> Result<(), Failure> {
    fs::File::open(path).and_then(|d| d.sync_all()).map_err(|e| Failure::io(path, "sync it", &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    fn args(dir: &Path, nodes: usize, hosts: &[&str]) -> InitArgs {
        let hosts = hosts.iter().map(|h| h.to_string()).collect();
        InitArgs { hosts, ..InitArgs::of(dir, nodes) }
    }

    #[test]
    fn every_node_gets_a_configuration_that_resolves_and_a_key_of_its_own() {
        let scratch = Scratch::new("init-resolves");
        let layout = create(&args(scratch.path(), 5, &[])).unwrap();
        assert_eq!(open(scratch.path()).unwrap().to_json(), layout.to_json());
        let resolved =
            layout.nodes.iter().map(|n| config::Layers::from_file(&n.config).unwrap().resolve().unwrap());
        for (place, config) in resolved.enumerate() {
            assert_eq!(usize::from(config.node.id.0), place + 1);
            assert_eq!(config.cluster.members.len(), 5);
            assert_eq!(config.cluster.id, layout.cluster);
            assert_eq!(config.client.listen, format!("127.0.0.1:{}", 7001 + place));
            assert_eq!(config.log.segment_bytes, 4 << 20);
            let secret = SecretKey::parse(fs::read_to_string(&config.node.key_file).unwrap().trim()).unwrap();
            assert_eq!(secret.public(), config.own_member().key);
            let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&config.node.key_file), mode(&config.admin.token_file)), (0o600, 0o600));
            assert_eq!(mode(&config.node.dir), 0o700);
        }
    }

    #[test]
    fn a_pbft_group_has_an_operator_whose_key_only_its_owner_reads() {
        let scratch = Scratch::new("init-operator");
        let args = InitArgs { protocol: "pbft".into(), ..args(scratch.path(), 4, &[]) };
        let layout = create(&args).unwrap();
        assert_eq!(open(scratch.path()).unwrap().to_json(), layout.to_json());
        let file = layout.operator_file.expect("it is a pbft group");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let key = SigningKey::parse(fs::read_to_string(&file).unwrap().trim()).unwrap();
        for node in &layout.nodes {
            let config = config::Layers::from_file(&node.config).unwrap().resolve().unwrap();
            assert_eq!(config.cluster.operator, Some(key.public()));
        }
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let scratch = Scratch::new("init-twice");
        create(&args(scratch.path(), 3, &[])).unwrap();
        let key = fs::read(scratch.path().join("node-1.key")).unwrap();
        let error = create(&args(scratch.path(), 3, &[])).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("never overwrites"), "{error}");
        assert_eq!(fs::read(scratch.path().join("node-1.key")).unwrap(), key);
    }

    #[test]
    fn nodes_on_several_hosts_get_a_password() {
        let scratch = Scratch::new("init-hosts");
        let layout = create(&args(scratch.path(), 1, &["10.0.0.1", "10.0.0.2", "10.0.0.3"])).unwrap();
        let config = config::Layers::from_file(&layout.nodes[2].config).unwrap().resolve().unwrap();
        assert_eq!(config.client.listen, "10.0.0.3:7003");
        assert!(config.client.password.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_written() {
        let scratch = Scratch::new("init-refused");
        let dir = scratch.path().join("new");
        for (change, part) in [
            (InitArgs { nodes: 0, ..args(&dir, 0, &[]) }, "1 to 63"),
            (InitArgs { nodes: 64, ..args(&dir, 0, &[]) }, "1 to 63"),
            (InitArgs { base_port: 65_400, ..args(&dir, 3, &[]) }, "at most 65332"),
            (InitArgs { segment_bytes: "1MiB".into(), ..args(&dir, 3, &[]) }, "from 4MiB to 1GiB"),
            (InitArgs { faulty: Some(1), ..args(&dir, 4, &[]) }, "choose --protocol pbft"),
            (InitArgs { faulty: Some(2), protocol: "pbft".into(), ..args(&dir, 6, &[]) }, "bear at most 1"),
            (InitArgs { segment_bytes: "big".into(), ..args(&dir, 3, &[]) }, "write it like 64MiB"),
        ] {
            let error = create(&change).unwrap_err();
            assert!(error.message.contains(part), "{error}");
            assert!(!dir.exists());
        }
    }
}
