//! What this host could do at best: five processes that do what any replicated write must do, and no more.
//!
//! A leader receives commands, copies whatever has arrived to its followers, all append and sync (group commit), followers
//! acknowledge, and the leader replies when a majority is durable. A node's figure is printed as a share of this one, measured in the
//! same run with the same load, because a machine's mood moves both.

mod log;
pub mod node;

use super::error::LoadError;
use super::lines::lines_of;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process must serve within this time.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The hidden subcommand that such a process runs.
pub const SUBCOMMAND: &str = "limit-node";

/// A running bare machine.
pub struct Bare {
    children: Vec<Child>,
    leader: String,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct BareOptions {
    /// The program that knows the subcommand.
    pub program: PathBuf,
    /// Where it writes.
    pub dir: PathBuf,
    /// How many processes.
    pub nodes: usize,
    /// Whether they write.
    pub durable: bool,
    /// Bytes of every command.
    pub command_bytes: usize,
}

impl Bare {
    /// Starts the followers, then the leader.
    pub fn start(options: &BareOptions) -> Result<Bare, LoadError> {
        let mut bare = Bare { children: Vec::new(), leader: String::new() };
        let followers: Result<Vec<String>, LoadError> =
            (1..options.nodes).map(|index| bare.spawn(options, index, &[])).collect();
        bare.leader = bare.spawn(options, 0, &followers?)?;
        Ok(bare)
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> &str {
        &self.leader
    }

    /// The processes.
    pub fn processes(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    fn spawn(
        &mut self,
        options: &BareOptions,
        index: usize,
        followers: &[String],
    ) -> Result<String, LoadError> {
        let mut command = Command::new(&options.program);
        command.arg(SUBCOMMAND).args(["--listen", "127.0.0.1:0"]);
        command.arg("--command-bytes").arg(options.command_bytes.to_string());
        if options.durable {
            command.arg("--file").arg(options.dir.join(format!("bare-{index}.log")));
        }
        for follower in followers {
            command.arg("--follower").arg(follower);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().map_err(|source| LoadError::file(&options.program, "run it", source))?;
        self.children.push(child);
        let child = self.children.last_mut().expect("just pushed");
        let line = lines_of(child).recv_timeout(READY_WITHIN).unwrap_or_default();
        match line.strip_prefix("ready ") {
            Some(address) => Ok(address.to_string()),
            None => Err(LoadError::Child {
                what: format!("process {index} of the bare machine did not get ready"),
                cure: "its own line above says why".to_string(),
            }),
        }
    }
}

impl Drop for Bare {
    /// Nothing of it need survive. The leader, started last, ends first: it would complain about its followers.
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }
}

/// Removes what a bare machine has written.
pub fn clean(dir: &Path, nodes: usize) {
    for index in 0..nodes {
        // The directory goes as a whole when this fails.
        let _ = std::fs::remove_file(dir.join(format!("bare-{index}.log")));
    }
}
