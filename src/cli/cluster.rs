//! A cluster of child processes, as `demo` runs it: their lines go where ours go. (A bench's own lies in `load::local`: its nodes write
//! to files, are placed, and must have a leader before the load begins.)
//!
//! A child ends in order when its standard input closes, so no child outlives its parent, however the parent ends.

use super::exit::{Exit, Failure};
use super::init::{Layout, NodeLayout};
use crate::base::NodeId;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long a node may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What a child said or did.
#[derive(Debug)]
pub enum Event {
    /// It has printed its one line: it serves.
    Ready(NodeId),
    /// Its standard output has closed: it has ended or soon will.
    Closed(NodeId),
}

/// Running nodes.
pub struct Children {
    nodes: Vec<(NodeId, Child)>,
    events: Receiver<Event>,
}

impl Children {
    /// Starts all nodes of `layout` from `program` with `flags`, and waits until all are ready.
    pub fn start(program: &Path, layout: &Layout, flags: &[String]) -> Result<Children, Failure> {
        let (tell, events) = channel();
        let mut children = Children { nodes: Vec::new(), events };
        for node in &layout.nodes {
            let (child, stdout) = spawn(program, node, flags)?;
            children.nodes.push((node.id, child));
            listen(node.id, stdout, tell.clone());
        }
        children.wait_ready()?;
        Ok(children)
    }

    /// The next node that has ended by itself, waiting at most `patience`.
    pub fn ended(&mut self, patience: Duration) -> Option<(NodeId, ExitStatus)> {
        match self.events.recv_timeout(patience) {
            Ok(Event::Closed(id)) => {
                let place = self.nodes.iter().position(|(node, _)| *node == id)?;
                let (_, mut child) = self.nodes.remove(place);
                child.wait().ok().map(|status| (id, status))
            }
            Ok(Event::Ready(_)) | Err(_) => None,
        }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Ends all of them in order, one after another, and tells how each ended.
    pub fn stop(mut self) -> Vec<(NodeId, ExitStatus)> {
        let end = |(id, mut child): (NodeId, Child)| {
            drop(child.stdin.take());
            child.wait().ok().map(|status| (id, status))
        };
        std::mem::take(&mut self.nodes).into_iter().filter_map(end).collect()
    }

    fn wait_ready(&mut self) -> Result<(), Failure> {
        let mut waiting: Vec<NodeId> = self.nodes.iter().map(|(id, _)| *id).collect();
        while !waiting.is_empty() {
            match self.events.recv_timeout(READY_WITHIN) {
                Ok(Event::Ready(id)) => waiting.retain(|w| *w != id),
                Ok(Event::Closed(id)) => {
                    return Err(Failure::new(
                        Exit::Io,
                        format!(
                            "node {id} ended before it was ready; its own line above says why and what cures it"
                        ),
                    ));
                }
                Err(RecvTimeoutError::Timeout) | Err(RecvTimeoutError::Disconnected) => {
                    let ids: Vec<String> = waiting.iter().map(ToString::to_string).collect();
                    let text = format!(
                        "node {} was not ready within {READY_WITHIN:?}; see its lines above",
                        ids.join(", ")
                    );
                    return Err(Failure::new(Exit::Unhealthy, text));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    /// Closes every standard input first, then waits: they end side by side.
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|(_, child)| drop(child.stdin.take()));
        self.nodes.iter_mut().for_each(|(_, child)| drop(child.wait()));
    }
}

/// In a process group of its own, so that Ctrl-C in the terminal reaches the parent only.
fn spawn(program: &Path, node: &NodeLayout, flags: &[String]) -> Result<(Child, ChildStdout), Failure> {
    let mut command = Command::new(program);
    command.arg("start").arg("--config").arg(&node.config).arg("--stop-with-stdin").args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| Failure::io(program, "run it", &e))?;
    let stdout = child.stdout.take().expect("it was asked for");
    Ok((child, stdout))
}

/// Turns a child's output into events.
fn listen(id: NodeId, stdout: ChildStdout, tell: Sender<Event>) {
    thread::spawn(move || {
        for _line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more when the cluster is being dropped.
            let _ = tell.send(Event::Ready(id));
        }
        let _ = tell.send(Event::Closed(id));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scratch::Scratch;
    use crate::crypto::ClusterId;
    use std::os::unix::fs::PermissionsExt;

    /// A program that behaves like a node as far as its parent can see.
    fn cluster(scratch: &Scratch, script: &str) -> (std::path::PathBuf, Layout) {
        let program = scratch.path().join("node.sh");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let node = |id| NodeLayout {
            id: NodeId(id),
            config: scratch.path().join(format!("{id}.toml")),
            client: String::new(),
            peer: String::new(),
            admin: String::new(),
        };
        let dir = scratch.path().to_owned();
        let layout = Layout {
            clients: Vec::new(),
            cluster: ClusterId::default(),
            token_file: dir.join("t"),
            operator_file: None,
            dir,
            nodes: (1..=3).map(node).collect(),
        };
        (program, layout)
    }

    #[test]
    fn children_end_in_order_when_their_input_closes() {
        let scratch = Scratch::new("children-stop");
        let (program, layout) = cluster(&scratch, "echo ready; cat >/dev/null; exit 0");
        let children = Children::start(&program, &layout, &[]).unwrap();
        let ended = children.stop();
        assert_eq!(ended.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(ended.iter().all(|(_, status)| status.success()));
    }

    #[test]
    fn a_child_that_dies_is_told_apart_from_one_that_never_got_ready() {
        let scratch = Scratch::new("children-die");
        let (program, layout) =
            cluster(&scratch, "case $3 in *2.toml) exit 6;; esac; echo ready; cat >/dev/null");
        let failure = Children::start(&program, &layout, &[]).err().unwrap();
        assert_eq!(failure.exit, Exit::Io);
        assert!(failure.message.starts_with("node 2 ended before"), "{failure}");

        let (program, layout) = cluster(&scratch, "echo ready; cat >/dev/null");
        let mut children = Children::start(&program, &layout, &[]).unwrap();
        children.nodes[0].1.kill().unwrap();
        let (died, status) = children.ended(READY_WITHIN).unwrap();
        assert_eq!((died, status.success(), children.len()), (NodeId(1), false, 2));
    }
}
