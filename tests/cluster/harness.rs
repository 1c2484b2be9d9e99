//! A cluster of real processes on loopback, and a client of few lines that trusts nothing of the crate.

use super::root::Network;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Waits are generous: they end on a condition, and only a broken node meets this bound.
const PATIENCE: Duration = Duration::from_secs(60);

/// A leader answers within this time, or is asked again.
const LEADER_ANSWERS: Duration = Duration::from_secs(3);

/// Each cluster gets ports of its own: those of the last one may linger.
static NEXT_BASE: AtomicU16 = AtomicU16::new(0);

/// One cluster at a time: five nodes and a load fill a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Cluster {
    _turn: MutexGuard<'static, ()>,
    pub dir: PathBuf,
    pub nodes: Vec<Option<Child>>,
    /// Client addresses, by node (node 1 first).
    pub clients: Vec<String>,
    /// Service plane addresses.
    pub admins: Vec<String>,
    /// Flags of `start`, by node, from its next start on.
    pub flags: Vec<Vec<String>>,
    /// The network namespace of each node, where it has one.
    spaces: Vec<Option<String>>,
}

pub fn quorate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
}

impl Cluster {
    /// `count` nodes, made by `quorate init` and not yet started.
    pub fn init(name: &str, count: usize) -> Cluster {
        Cluster::init_on(name, count, &[], &[])
    }

    /// `count` nodes of a PBFT group and so many native clients, made and not yet started.
    pub fn init_pbft(name: &str, count: usize, clients: usize) -> Cluster {
        Cluster::init_on(name, count, &[], &["--protocol", "pbft", "--clients", &clients.to_string()])
    }

    /// The files of one more node, which is not a member yet.
    pub fn join(&mut self, id: usize) {
        let (_, port) = self.clients[0].rsplit_once(':').expect("a port");
        let base = port.parse::<u16>().expect("a number") - 1;
        let out = quorate()
            .args(["init", "--join"])
            .arg(self.config_path(1))
            .args(["--id", &id.to_string(), "--base-port", &base.to_string(), "--dir"])
            .arg(&self.dir)
            .output()
            .expect("quorate runs");
        assert!(out.status.success(), "init --join: {}", String::from_utf8_lossy(&out.stderr));
        // Numbers in between belong to nobody.
        self.nodes.resize_with(id, || None);
        self.clients.resize(id, String::new());
        self.admins.resize(id, String::new());
        self.flags.resize(id, Vec::new());
        self.spaces.resize(id, None);
        self.clients[id - 1] = self.member(id, "client");
        self.admins[id - 1] = self.member(id, "admin");
    }

    /// `count` nodes that serve, each in its network namespace.
    pub fn start_apart(name: &str, count: usize, network: &Network) -> Cluster {
        let hosts: Vec<String> = (1..=count).map(|node| network.host(node)).collect();
        let mut cluster = Cluster::init_on(name, count, &hosts, &[]);
        for node in 1..=count {
            let mut config = cluster.config(node);
            config["client"].as_table_mut().expect("a section").remove("password_file");
            std::fs::write(cluster.config_path(node), config.to_string()).expect("the file is ours");
            cluster.set(node, "client", "insecure", true);
            cluster.set(node, "placement", "pin", false);
            cluster.spaces[node - 1] = Some(network.space(node));
        }
        (1..=count).for_each(|node| cluster.start_node(node));
        cluster.await_leader();
        cluster
    }

    fn init_on(name: &str, count: usize, hosts: &[String], more: &[&str]) -> Cluster {
        // A test that failed inside its turn has poisoned nothing that matters.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = std::env::temp_dir().join(format!("quorate-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let base = free_base(count as u16);
        let out = quorate()
            .args([
                "init",
                "--nodes",
                &count.to_string(),
                "--base-port",
                &base.to_string(),
                "--segment-bytes",
                "4MiB",
                "--dir",
            ])
            .arg(&dir)
            .args(hosts.iter().flat_map(|host| ["--hosts", host.as_str()]))
            .args(more)
            .output()
            .expect("quorate runs");
        assert!(out.status.success(), "init: {}", String::from_utf8_lossy(&out.stderr));
        let mut cluster = Cluster {
            _turn: turn,
            dir,
            nodes: (0..count).map(|_| None).collect(),
            clients: Vec::new(),
            admins: Vec::new(),
            flags: vec![Vec::new(); count],
            spaces: vec![None; count],
        };
        for node in 1..=count {
            cluster.clients.push(cluster.member(node, "client"));
            cluster.admins.push(cluster.member(node, "admin"));
        }
        cluster
    }

    /// `count` nodes that serve.
    pub fn start(name: &str, count: usize) -> Cluster {
        let mut cluster = Cluster::init(name, count);
        (1..=count).for_each(|node| cluster.start_node(node));
        cluster.await_leader();
        cluster
    }

    pub fn config(&self, node: usize) -> toml::Table {
        self.config_at(&self.dir, node)
    }
    pub fn config_at(&self, dir: &Path, node: usize) -> toml::Table {
        let text = std::fs::read_to_string(dir.join(format!("node-{node}.toml"))).expect("init wrote it");
        text.parse().expect("init writes TOML")
    }
    /// Changes a setting of a node's configuration, from its next start on.
    pub fn set(&self, node: usize, section: &str, key: &str, value: impl Into<toml::Value>) {
        let mut config = self.config(node);
        let table = config.entry(section).or_insert_with(|| toml::Table::new().into());
        table.as_table_mut().expect("a section").insert(key.to_string(), value.into());
        std::fs::write(self.config_path(node), config.to_string()).expect("the file is ours");
    }
    /// An address of a node, as its own configuration says it.
    pub fn member(&self, node: usize, kind: &str) -> String {
        address_of(&self.config(node), node, kind)
    }
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.path_of(&self.dir, node, "dir")
    }
    pub fn key_path(&self, node: usize, dir: &Path) -> PathBuf {
        self.path_of(dir, node, "key_file")
    }
    fn path_of(&self, dir: &Path, node: usize, key: &str) -> PathBuf {
        // Absolute, or relative to the file that says it.
        dir.join(self.config_at(dir, node)["node"][key].as_str().expect("a path"))
    }
    pub fn config_path(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}.toml"))
    }
    /// What the node has said on stderr, over all its lives.
    pub fn stderr(&self, node: usize) -> String {
        std::fs::read_to_string(self.stderr_path(node)).unwrap_or_default()
    }
    fn stderr_path(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}.stderr"))
    }

    /// Starts a node and waits for its ready line.
    pub fn start_node(&mut self, node: usize) {
        self.start_prepared(node, |_| {});
    }
    /// The same, by a command that is changed before.
    pub fn start_prepared(&mut self, node: usize, prepare: impl FnOnce(&mut Command)) {
        let mut command = self.command(node);
        prepare(&mut command);
        let mut child = command.spawn().expect("quorate runs");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the node's standard output");
        assert!(line.contains("ready"), "node {node} said {line:?}, and {}", self.stderr(node));
        self.nodes[node - 1] = Some(child);
    }
    /// Starts a node and waits for nothing.
    pub fn spawn_node(&self, node: usize) -> Child {
        self.command(node).spawn().expect("quorate runs")
    }
    /// What starts a node.
    pub fn command(&self, node: usize) -> Command {
        let stderr = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.stderr_path(node))
            .expect("a file");
        let mut command = match &self.spaces[node - 1] {
            None => quorate(),
            Some(space) => {
                // It becomes the node: the process is the same.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space, env!("CARGO_BIN_EXE_quorate")]);
                command
            }
        };
        command
            .args(["start", "--config"])
            .arg(self.config_path(node))
            .args(&self.flags[node - 1])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        command
    }

    /// Starts a native client and waits for its ready line.
    pub fn start_client(&self, id: u8) -> Outside {
        self.start_client_with(id, &[])
    }
    /// Where a native client listens: between the ports of clients and those of peers.
    fn client_address(&self, id: u8) -> String {
        let (_, port) = self.clients[0].rsplit_once(':').expect("a port");
        format!("127.0.0.1:{}", port.parse::<u16>().expect("a number") + 50 + u16::from(id - 64))
    }
    /// What starts a native client.
    pub fn client_command(&self, id: u8, flags: &[&str]) -> Command {
        let mut command = quorate();
        command
            .args(["client", "--config"])
            .arg(self.config_path(1))
            .arg("--key-file")
            .arg(self.dir.join(format!("client-{id}.key")))
            .args(["--listen", &self.client_address(id)])
            .args(flags);
        command
    }
    /// The same with flags of its own.
    pub fn start_client_with(&self, id: u8, flags: &[&str]) -> Outside {
        let address = self.client_address(id);
        let mut process = self
            .client_command(id, flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("quorate runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("its output");
        assert!(line.contains("ready"), "client {id} said {line:?}");
        Outside { process, address }
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node - 1].take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it was killed");
    }
    pub fn signal(&self, node: usize, signal: i32) {
        let child = self.nodes[node - 1].as_ref().expect("it runs");
        // SAFETY: plain system call on a child of ours that has not been waited for.
        let done = unsafe { libc::kill(child.id() as i32, signal) };
        assert_eq!(done, 0);
    }
    /// Asks it to end and waits until it has; the exit code.
    pub fn stop(&mut self, node: usize) -> Option<i32> {
        self.signal(node, libc::SIGTERM);
        let mut child = self.nodes[node - 1].take().expect("it runs");
        child.wait().expect("it ends").code()
    }
    pub fn running(&self) -> Vec<usize> {
        (1..=self.nodes.len()).filter(|n| self.nodes[n - 1].is_some()).collect()
    }

    /// All nodes that run, but this one.
    pub fn others(&self, node: usize) -> Vec<usize> {
        self.running().into_iter().filter(|other| *other != node).collect()
    }

    pub fn client(&self, node: usize) -> Client {
        await_some(
            || Client::connect(&self.clients[node - 1]).ok(),
            || format!("node {node} takes connections"),
        )
    }

    /// Waits until a running node, as seen by the majority of those that run, leads and writes.
    pub fn await_leader(&self) -> usize {
        await_some(|| self.leader(), || "a leader is elected".to_string())
    }
    /// The node that says that it leads, if it takes a write.
    pub fn leader(&self) -> Option<usize> {
        self.leader_of(&self.running())
    }
    /// The same of some of them.
    pub fn leader_of(&self, nodes: &[usize]) -> Option<usize> {
        let leads = |node: &usize| {
            let mut client = Client::connect(&self.clients[node - 1]).ok()?;
            // One that is paused or cut off answers late; then it is not the one.
            client.stream.get_ref().set_read_timeout(Some(LEADER_ANSWERS)).ok()?;
            let Ok(Reply::Array(role)) = client.command(&["ROLE"]) else { return None };
            if role.first() != Some(&Reply::Bulk(Some(b"master".to_vec()))) {
                return None;
            }
            client.command(&["SET", "harness:probe", "1"]).ok().filter(|r| *r == Reply::ok())
        };
        nodes.iter().copied().find(|node| leads(node).is_some())
    }
    /// Waits until every node that runs answers a read, which must be linearizable: all of them are one cluster again.
    pub fn await_all(&self) {
        for node in self.running() {
            let read = || self.client(node).command(&["GET", "harness:probe"]).ok();
            let serves = || read().filter(|reply| matches!(reply, Reply::Bulk(_)));
            await_some(serves, || format!("node {node} serves: {:?}", read()));
        }
    }
}

/// A native client of a cluster.
pub struct Outside {
    process: Child,
    pub address: String,
}

impl Outside {
    pub fn client(&self) -> Client {
        await_some(|| Client::connect(&self.address).ok(), || "the client takes connections".to_string())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Asks until there is an answer. Only a broken node makes it give up.
pub fn await_some<T>(mut ask: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {}", what());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn address_of(config: &toml::Table, node: usize, kind: &str) -> String {
    let members = config["cluster"]["members"].as_array().expect("members");
    let joined = config["cluster"].get("joined").and_then(toml::Value::as_array);
    let is_node = |m: &&toml::Value| m["id"].as_integer() == Some(node as i64);
    members.iter().chain(joined.into_iter().flatten()).find(is_node).expect("the node is a member")[kind]
        .as_str()
        .expect("an address")
        .to_string()
}

/// A stretch of ports that nobody listens on: `init` counts clients from it, peers from 100 and service planes from 200 above it.
fn free_base(count: u16) -> u16 {
    let first = 10_000 + (std::process::id() % 60) as u16 * 250;
    loop {
        let base = first + NEXT_BASE.fetch_add(1, Ordering::Relaxed) % 60 * 250;
        let taken = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
        if ![0, 100, 200].into_iter().flat_map(|lane| (1..=count).map(move |k| base + lane + k)).any(taken) {
            return base;
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

impl Reply {
    pub fn ok() -> Reply {
        Reply::Simple("OK".to_string())
    }
    pub fn bulk(text: &str) -> Reply {
        Reply::Bulk(Some(text.as_bytes().to_vec()))
    }
    pub fn is_error(&self, prefix: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(prefix))
    }
}

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: &str) -> std::io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }
    pub fn command(&mut self, words: &[&str]) -> std::io::Result<Reply> {
        self.send(words)?;
        self.reply()
    }
    pub fn send(&mut self, words: &[&str]) -> std::io::Result<()> {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        self.raw(&out)
    }
    pub fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }
    pub fn reply(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().expect("a number");
        Ok(match kind {
            "+" => Reply::Simple(rest.to_string()),
            "-" => Reply::Error(rest.to_string()),
            ":" => Reply::Integer(number()),
            "$" if number() < 0 => Reply::Bulk(None),
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(Some(bytes))
            }
            "*" => Reply::Array((0..number()).map(|_| self.reply()).collect::<Result<_, _>>()?),
            other => panic!("reply of kind {other:?} in RESP2"),
        })
    }
}

/// One request to the service plane: status code and body.
pub fn http_get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: quorate\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split(' ').nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n")?.1.to_string();
    Some((code, body))
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|p| std::env::split_paths(&p).any(|d| Path::new(&d).join(program).exists()))
}
