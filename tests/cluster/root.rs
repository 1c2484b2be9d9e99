//! What only root may make: small file systems, and networks of network namespaces. All of it goes when its value is dropped, also
//! after a panic; what a killed run left behind goes when the next one begins.

use super::harness::has;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub fn is_root() -> bool {
    // SAFETY: plain system call.
    unsafe { libc::geteuid() == 0 }
}

/// A small file system, unmounted at the end whatever happens.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn tmpfs(at: &Path, bytes: u64) -> Mounted {
        Mounted::of("tmpfs", &format!("size={bytes}"), at)
    }
    /// A file system in memory that knows no direct I/O.
    pub fn ramfs(at: &Path) -> Mounted {
        Mounted::of("ramfs", "mode=700", at)
    }
    fn of(kind: &str, options: &str, at: &Path) -> Mounted {
        let done = Command::new("mount").args(["-t", kind, "-o", options, kind]).arg(at).status();
        assert!(done.expect("mount runs").success());
        Mounted(at.to_path_buf())
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A namespace for each node, all on one bridge; this process is on the bridge too.
pub struct Network {
    nodes: usize,
    /// The third and second byte of its addresses, so that two runs do not meet.
    subnet: String,
    /// Names are of this process: it has one network at a time.
    _only: MutexGuard<'static, ()>,
}

static ONLY: Mutex<()> = Mutex::new(());

/// What names of ours begin with, before the number of the process that made them.
const SPACE: &str = "quorate-test-";
/// The chain that drops packets.
const CHAIN: [&str; 4] = ["inet", "quorate", "input", "drop"];

fn run(program: &str, words: &str) -> Output {
    Command::new(program).args(words.split_whitespace()).output().expect("it is installed")
}

fn must(program: &str, words: &str) {
    let out = run(program, words);
    assert!(out.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Network {
    /// None, with a line that says why, where it cannot be made.
    pub fn make(nodes: usize) -> Option<Network> {
        if !is_root() || !has("ip") || !has("nft") {
            println!("skipped: network namespaces need root, ip (iproute2) and nft (nftables)");
            return None;
        }
        // A test that panicked has taken its network down all the same.
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        remove_leftovers();
        let process = std::process::id();
        let network = Network {
            nodes,
            subnet: format!("10.{}.{}", 100 + process / 256 % 100, process % 256),
            _only: only,
        };
        let bridge = network.bridge();
        must("ip", &format!("link add {bridge} type bridge"));
        must("ip", &format!("addr add {}.254/24 dev {bridge}", network.subnet));
        must("ip", &format!("link set {bridge} up"));
        (1..=nodes).for_each(|node| network.add(node));
        Some(network)
    }

    fn add(&self, node: usize) {
        let (space, bridge, outside) = (self.space(node), self.bridge(), self.outside(node));
        must("ip", &format!("netns add {space}"));
        must("ip", &format!("link add {outside} type veth peer name eth0 netns {space}"));
        must("ip", &format!("link set {outside} master {bridge} up"));
        must("ip", &format!("-n {space} addr add {}/24 dev eth0", self.host(node)));
        must("ip", &format!("-n {space} link set eth0 up"));
        must("ip", &format!("-n {space} link set lo up"));
        let [family, table, chain, _] = CHAIN;
        self.nft(node, &format!("add table {family} {table}"));
        let hook = "{ type filter hook input priority 0 ; }";
        self.nft(node, &format!("add chain {family} {table} {chain} {hook}"));
    }

    fn nft(&self, node: usize, words: &str) {
        must("ip", &format!("netns exec {} nft {words}", self.space(node)));
    }

    /// The namespace of a node.
    pub fn space(&self, node: usize) -> String {
        format!("{SPACE}{}-{node}", std::process::id())
    }
    /// The address of a node.
    pub fn host(&self, node: usize) -> String {
        format!("{}.{node}", self.subnet)
    }
    fn bridge(&self) -> String {
        format!("qb{}", std::process::id())
    }
    fn outside(&self, node: usize) -> String {
        format!("qv{}n{node}", std::process::id())
    }

    /// Nothing of what `from` sends reaches `to`; the other way is open.
    pub fn drop_packets(&self, from: usize, to: usize) {
        let [family, table, chain, verdict] = CHAIN;
        self.nft(to, &format!("add rule {family} {table} {chain} ip saddr {} {verdict}", self.host(from)));
    }

    /// Nodes of the two sides do not hear each other.
    pub fn part(&self, one: &[usize], other: &[usize]) {
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            self.drop_packets(a, b);
            self.drop_packets(b, a);
        }
    }

    /// All hear each other again.
    pub fn mend(&self) {
        let [family, table, chain, _] = CHAIN;
        (1..=self.nodes).for_each(|node| self.nft(node, &format!("flush chain {family} {table} {chain}")));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The veth pairs go with their namespaces.
        (1..=self.nodes).for_each(|node| drop(run("ip", &format!("netns del {}", self.space(node)))));
        (1..=self.nodes).for_each(|node| drop(run("ip", &format!("link del {}", self.outside(node)))));
        run("ip", &format!("link del {}", self.bridge()));
    }
}

/// Removes what runs left that were killed.
fn remove_leftovers() {
    let spaces = String::from_utf8_lossy(&run("ip", "netns list").stdout).into_owned();
    for space in spaces.lines().filter_map(|line| line.split(' ').next()) {
        let process = space.strip_prefix(SPACE).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if let Some(process) = process.filter(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            run("ip", &format!("netns del {space}"));
            run("ip", &format!("link del qb{process}"));
        }
    }
}
