//! A cluster of this machine for the length of a bench: real processes of the same program, durable unless told otherwise.
//!
//! It is made by the program's own commands, `init` and `start`, so that what is measured is what people run. No child outlives us: it
//! ends when its standard input closes.

use super::ask;
use super::error::LoadError;
use super::lines::lines_of;
use super::proxy::Shape;
use super::wan::{self, Site, Wan};
use crate::base::Prng;
use crate::io::{clock, process};
use serde::Deserialize;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// A node must serve within this time.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// A leader must be elected within this time.
const LEADER_WITHIN: Duration = Duration::from_secs(10);
/// Between two questions who leads.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Ports that a cluster takes: clients, peers and service planes lie a hundred apart.
const PORTS: u16 = 300;
/// Ranges of ports that are tried.
const PORT_TRIES: usize = 50;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Which program; ours, unless another build is compared.
    pub program: PathBuf,
    /// Where it writes.
    pub dir: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// `quorum-sync` or `none`.
    pub durability: String,
    /// Nodes poll instead of sleeping.
    pub spin: bool,
    /// Further settings, `KEY=VALUE`.
    pub set: Vec<String>,
    /// Every link goes through a proxy that behaves so.
    pub wan: Option<Shape>,
    /// A native client stands before the nodes, whose group is PBFT.
    pub native: bool,
    /// Every node is ready to play this attack, and waits.
    pub attack: Option<String>,
    /// And this variant of it.
    pub variant: u64,
}

/// A running cluster.
pub struct Cluster {
    /// Ends before the nodes do.
    native: Option<Node>,
    nodes: Vec<Node>,
    /// Ends behind the nodes.
    wan: Option<Wan>,
}

struct Node {
    child: Child,
    endpoint: String,
    /// Its service plane, if it has one.
    admin: Option<String>,
    output: Receiver<String>,
    log: PathBuf,
}

/// What `init -o json` says.
#[derive(Deserialize)]
struct Layout {
    nodes: Vec<NodeLayout>,
    #[serde(default)]
    clients: Vec<ClientLayout>,
}

#[derive(Deserialize)]
struct ClientLayout {
    key_file: PathBuf,
}

#[derive(Deserialize)]
struct NodeLayout {
    id: u8,
    config: PathBuf,
    client: String,
    peer: String,
    admin: String,
}

impl Cluster {
    /// Makes a cluster and waits until it serves.
    pub fn start(options: &ClusterOptions) -> Result<Cluster, LoadError> {
        let layout = init(options)?;
        let pin = pins(options.nodes);
        let site =
            |node: &'_ NodeLayout| Site { id: node.id, peer: node.peer.clone(), config: node.config.clone() };
        let sites: Vec<Site> = layout.nodes.iter().map(site).collect();
        let wan =
            options.wan.as_ref().map(|shape| Wan::start(&options.program, &sites, shape)).transpose()?;
        let mut cluster = Cluster { native: None, nodes: Vec::new(), wan };
        for (index, node) in layout.nodes.iter().enumerate() {
            cluster.nodes.push(spawn(options, node, index, pin)?);
        }
        for node in &mut cluster.nodes {
            node.wait_ready()?;
        }
        cluster.wait_leader(LEADER_WITHIN)?;
        if let (Some(client), Some(node)) = (layout.clients.first(), layout.nodes.first()) {
            let mut native = spawn_native(options, client, node)?;
            native.wait_ready()?;
            cluster.native = Some(native);
        }
        Ok(cluster)
    }

    /// Where Redis clients find the native client, if there is one.
    pub fn native(&self) -> Option<&str> {
        self.native.as_ref().map(|native| native.endpoint.as_str())
    }

    /// Where clients connect; the same order as `processes`.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    /// The nodes' service planes.
    pub fn admins(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| node.admin.clone()).collect()
    }

    /// The nodes' processes, and behind them the native client's: what it does for its trust is part of the price.
    pub fn processes(&self) -> Vec<u32> {
        self.nodes.iter().chain(&self.native).map(|node| node.child.id()).collect()
    }

    /// Where the links between its nodes are changed, if a proxy stands between them.
    pub fn control(&self) -> Option<&str> {
        self.wan.as_ref().map(Wan::control)
    }

    /// Which endpoint leads, waiting at most `patience` for one that does.
    pub fn wait_leader(&self, patience: Duration) -> Result<usize, LoadError> {
        let endpoints = self.endpoints();
        let limit = clock::monotonic().after(patience);
        loop {
            match ask::leader(&endpoints, None) {
                Ok(leader) => return Ok(leader),
                Err(last) if limit <= clock::monotonic() => {
                    return Err(LoadError::NoLeader { endpoints: endpoints.join(", "), last });
                }
                Err(_) => std::thread::sleep(ASK_EVERY),
            }
        }
    }
}

impl Drop for Cluster {
    /// Asks all to end before it waits for any.
    fn drop(&mut self) {
        for node in self.native.iter_mut().chain(&mut self.nodes) {
            drop(node.child.stdin.take());
            process::terminate(node.child.id());
        }
        for node in self.native.iter_mut().chain(&mut self.nodes) {
            let limit = clock::monotonic().after(READY_WITHIN);
            while matches!(node.child.try_wait(), Ok(None)) {
                if limit <= clock::monotonic() {
                    // It was asked and had its time. What happens to it now changes no result.
                    let _ = node.child.kill();
                }
                std::thread::sleep(ASK_EVERY);
            }
        }
    }
}

impl Node {
    fn wait_ready(&mut self) -> Result<(), LoadError> {
        loop {
            let line = self.output.recv_timeout(READY_WITHIN);
            let what = match line {
                Ok(line) if line.contains("ready") => return Ok(()),
                Ok(_) => continue,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    format!("{} was not ready within {READY_WITHIN:?}", self.endpoint)
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    format!("{} ended before it was ready", self.endpoint)
                }
            };
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            let cure = format!("its last lines: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "));
            return Err(LoadError::Child { what, cure });
        }
    }
}

/// Pinning pays when every node's thread and the load have cores of their own; else each child must be free to move.
fn pins(nodes: usize) -> bool {
    nodes < crate::io::affinity::cores().len()
}

fn init(options: &ClusterOptions) -> Result<Layout, LoadError> {
    let mut command = Command::new(&options.program);
    command.args(["init", "-o", "json", "--segment-bytes", "4MiB"]);
    command.arg("--dir").arg(options.dir.join("cluster"));
    command.arg("--nodes").arg(options.nodes.to_string());
    command.arg("--base-port").arg(free_ports(options.nodes)?.to_string());
    if options.native {
        command.args(["--protocol", "pbft", "--clients", "1"]);
    }
    let output = command.output().map_err(|source| LoadError::file(&options.program, "run it", source))?;
    let cure = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() {
        return Err(LoadError::Child { what: format!("`init` ended with {}", output.status), cure });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| LoadError::Child { what: format!("`init` printed no layout ({error})"), cure })
}

/// A range of ports of which those of so many nodes are free now. Somebody may take one meanwhile; the node then says so.
fn free_ports(nodes: usize) -> Result<u16, LoadError> {
    let mut random = Prng::from_seed(u64::from(std::process::id()) ^ clock::monotonic().0);
    for _ in 0..PORT_TRIES {
        let base = 20_000 + random.below(10_000) as u16;
        let of_each = |offset: u16| (1..=nodes as u16).map(move |node| base + offset + node);
        let all = (0..PORTS).step_by(100).flat_map(of_each);
        if all.map(|port| TcpListener::bind(("127.0.0.1", port))).all(|bound| bound.is_ok()) {
            return Ok(base);
        }
    }
    let what = format!("no free ports in {PORT_TRIES} tries between 20000 and 30300");
    Err(LoadError::Child { what, cure: "end what holds them".to_string() })
}

fn spawn(options: &ClusterOptions, node: &NodeLayout, index: usize, pin: bool) -> Result<Node, LoadError> {
    let path = options.dir.join(format!("node-{}.log", index + 1));
    let log = std::fs::File::create(&path).map_err(|source| LoadError::file(&path, "make it", source))?;
    let mut command = Command::new(&options.program);
    command.arg("start").arg("--config").arg(&node.config).arg("--stop-with-stdin");
    command.args(["--durability", &options.durability]);
    if options.spin {
        command.arg("--spin");
    }
    command.arg("--set").arg(format!("placement.pin={pin}"));
    // Each node a core of its own; the first is the load's.
    command.arg("--set").arg(format!("placement.first_core={}", if pin { index + 1 } else { 0 }));
    let far = options.wan.as_ref().map(wan::settings).unwrap_or_default();
    for (key, value) in far {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    for setting in &options.set {
        command.arg("--set").arg(setting);
    }
    if let Some(attack) = &options.attack {
        command.args([
            "--byzantine",
            attack,
            "--byzantine-waits",
            "--byzantine-seed",
            &options.variant.to_string(),
        ]);
    }
    // A group of its own: Ctrl-C in the terminal ends us, and our end ends it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
    let mut child = command.spawn().map_err(|source| LoadError::file(&options.program, "run it", source))?;
    let output = lines_of(&mut child);
    let (endpoint, admin) = (node.client.clone(), Some(node.admin.clone()));
    Ok(Node { child, endpoint, admin, output, log: path })
}

/// The native client, on a socket beside the nodes' files.
fn spawn_native(
    options: &ClusterOptions,
    client: &ClientLayout,
    node: &NodeLayout,
) -> Result<Node, LoadError> {
    let (path, socket) = (options.dir.join("client.log"), options.dir.join("client.sock"));
    let log = std::fs::File::create(&path).map_err(|source| LoadError::file(&path, "make it", source))?;
    let endpoint = socket.display().to_string();
    let mut command = Command::new(&options.program);
    command.arg("client").arg("--config").arg(&node.config).arg("--stop-with-stdin");
    command.arg("--key-file").arg(&client.key_file).args(["--listen", &endpoint]);
    if options.spin {
        command.arg("--spin");
    }
    for setting in &options.set {
        command.arg("--set").arg(setting);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
    let mut child = command.spawn().map_err(|source| LoadError::file(&options.program, "run it", source))?;
    let output = lines_of(&mut child);
    Ok(Node { child, endpoint, admin: None, output, log: path })
}

/// The program that is running.
pub fn own_program() -> Result<PathBuf, LoadError> {
    std::env::current_exe().map_err(|source| LoadError::file(Path::new("/proc/self/exe"), "find it", source))
}
