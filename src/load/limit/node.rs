//! One process of the bare machine: a leader or a follower without logic. It moves the bytes that a replicated write must move, writes
//! them where they must lie, and does nothing else: no terms, no tags, no checks, no store.

use super::log::Log;
use crate::io::driver::{Completion, Doorbell, Driver, Fd, Op, Outcome, Token};
use crate::io::{DriverError, Uring, UringOptions};
use bytes::{Bytes, BytesMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ACCEPT: u64 = u64::MAX;
const SENDING: u64 = 1 << 40;
const CONNECT: u64 = 1 << 41;
/// Replies that lie ready in memory; more are sent in several parts.
const REPLIES_READY: usize = 4096;
const REPLY: &[u8] = b"+OK\r\n";

/// What a process of the bare machine is.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where it listens.
    pub listen: String,
    /// A leader's followers; none makes it a follower itself.
    pub followers: Vec<String>,
    /// Where it writes; nowhere means that nothing is durable.
    pub file: Option<PathBuf>,
    /// Bytes of every command.
    pub command_bytes: usize,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The kernel gives no ring.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The file or the socket.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A follower is gone.
    #[error("a follower of the bare machine is gone: {0}")]
    Follower(std::io::Error),
}

/// Ends a node from another thread.
#[derive(Clone)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    bell: Arc<dyn Doorbell>,
}

impl Stop {
    /// Does so.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}

/// A connection of the leader's clients, or of a follower's leader.
struct Client {
    fd: Fd,
    /// Bytes of a command that has not come whole.
    rest: usize,
    /// Replies that it is to get.
    owed: usize,
    sending: bool,
    parts: Vec<Bytes>,
    /// Commands of it in the batch that is being gathered.
    gathered: usize,
}

/// A leader's link to a follower.
struct Link {
    fd: Fd,
    queue: Vec<Bytes>,
    sending: bool,
    /// Durable over there, in bytes of the stream.
    durable: u64,
    partial: Vec<u8>,
}

/// Commands that became durable together.
struct Batch {
    end: u64,
    clients: Vec<(usize, usize)>,
}

struct Node {
    driver: Uring,
    options: NodeOptions,
    log: Option<Log>,
    clients: Vec<Option<Client>>,
    links: Vec<Link>,
    /// The bytes of this turn for the followers.
    stream: BytesMut,
    /// Bytes taken in, in all.
    received: u64,
    /// Clients that are in the batch being gathered.
    gathering: Vec<usize>,
    batches: std::collections::VecDeque<Batch>,
    replies: Bytes,
    /// A follower's last acknowledgement.
    acknowledged: u64,
}

/// Runs a node until it is stopped. `announce` gets its address once it serves, and what stops it.
pub fn run(options: NodeOptions, announce: impl FnOnce(&str, Stop)) -> Result<(), NodeError> {
    let mut driver = Uring::new(UringOptions { write_bytes: 256 * 1024, ..UringOptions::NODE })?;
    let listener = driver.listen(&options.listen)?;
    let address = driver.local_address(listener)?;
    let log = options.file.as_ref().map(|file| Log::open(&mut driver, file)).transpose()?;
    driver.submit(Op::Accept { listener }, name(ACCEPT));
    let mut node = Node {
        driver,
        options,
        log,
        clients: Vec::new(),
        links: Vec::new(),
        stream: BytesMut::new(),
        received: 0,
        gathering: Vec::new(),
        batches: std::collections::VecDeque::new(),
        replies: Bytes::from(REPLY.repeat(REPLIES_READY)),
        acknowledged: 0,
    };
    let mut completions = Vec::new();
    node.connect(&mut completions)?;
    let stop = Stop { flag: Arc::new(AtomicBool::new(false)), bell: node.driver.doorbell() };
    let stopped = stop.flag.clone();
    announce(&address, stop);
    while !stopped.load(Ordering::SeqCst) {
        node.driver.reap(&mut completions);
        for completion in completions.drain(..) {
            node.take(completion)?;
        }
        node.work();
        node.driver.park(None);
    }
    Ok(())
}

fn name(value: u64) -> Token {
    Token { agent: 0, value }
}

impl Node {
    fn is_leader(&self) -> bool {
        !self.links.is_empty()
    }

    /// A leader connects to its followers before it serves.
    fn connect(&mut self, completions: &mut Vec<Completion>) -> Result<(), NodeError> {
        for address in self.options.followers.clone() {
            self.driver.submit(Op::Connect { address }, name(CONNECT));
        }
        while self.links.len() < self.options.followers.len() {
            self.driver.park(None);
            self.driver.reap(completions);
            for completion in completions.drain(..) {
                match completion.outcome {
                    Outcome::Connected(fd) => {
                        self.driver.submit(Op::Receive { fd }, name(CONNECT | self.links.len() as u64));
                        self.links.push(Link {
                            fd,
                            queue: Vec::new(),
                            sending: false,
                            durable: 0,
                            partial: Vec::new(),
                        });
                    }
                    Outcome::Failed { error, .. } => return Err(NodeError::Follower(error)),
                    _ => unreachable!("nobody knows our address yet"),
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, completion: Completion) -> Result<(), NodeError> {
        let value = completion.token.value;
        let (link, sending) = (value & CONNECT != 0, value & SENDING != 0);
        let index = (value & 0xffff_ffff) as usize;
        match completion.outcome {
            Outcome::Accepted(fd) => self.accept(fd),
            Outcome::Written(buffer) => {
                let log = self.log.as_mut().expect("only logs write");
                log.written(&mut self.driver, value, buffer);
            }
            Outcome::Failed { error, buffer: Some(_) } => return Err(error.into()),
            Outcome::Sent { parts, .. } if link => {
                self.links[index].sending = false;
                self.links[index].queue = join(parts, std::mem::take(&mut self.links[index].queue));
            }
            Outcome::Sent { parts, .. } => {
                if let Some(client) = &mut self.clients[index] {
                    (client.sending, client.parts) = (false, parts);
                }
            }
            Outcome::Received { buffer, len } if link => {
                self.links[index].acknowledge(self.driver.received(buffer, len));
                self.driver.recycle(buffer);
            }
            Outcome::Received { buffer, len } => {
                self.receive(index, buffer, len);
                self.driver.recycle(buffer);
            }
            Outcome::Failed { error, .. } if link => return Err(NodeError::Follower(error)),
            Outcome::Closed { .. } if link => {
                return Err(NodeError::Follower(std::io::ErrorKind::ConnectionReset.into()));
            }
            Outcome::Closed { .. } | Outcome::Failed { .. } if !sending && value != ACCEPT => {
                if let Some(client) = self.clients[index].take() {
                    self.driver.submit(Op::Close { fd: client.fd }, name(0));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn accept(&mut self, fd: Fd) {
        let index = self.clients.len();
        self.driver.submit(Op::Receive { fd }, name(index as u64));
        let parts = Vec::new();
        self.clients.push(Some(Client { fd, rest: 0, owed: 0, sending: false, parts, gathered: 0 }));
    }

    fn receive(&mut self, index: usize, buffer: crate::io::BufferId, len: usize) {
        let Some(client) = &mut self.clients[index] else { return };
        if let Some(log) = &mut self.log {
            // The pool and the receive buffers are the same driver's, so the log takes its memory beforehand.
            log.reserve(&mut self.driver, len);
            log.append(self.driver.received(buffer, len));
        }
        self.received += len as u64;
        if !self.links.is_empty() {
            self.stream.extend_from_slice(self.driver.received(buffer, len));
            client.rest += len;
            let commands = client.rest / self.options.command_bytes;
            client.rest %= self.options.command_bytes;
            if client.gathered == 0 && 0 < commands {
                self.gathering.push(index);
            }
            client.gathered += commands;
        }
    }

    /// After all that has come was taken in: one write, one send a follower, and whatever has become durable is told.
    fn work(&mut self) {
        let free = self.log.as_ref().is_none_or(Log::is_free);
        if let Some(log) = &mut self.log {
            log.write(&mut self.driver);
        }
        if self.is_leader() {
            if free {
                self.replicate();
            }
            self.release();
        } else {
            self.acknowledge();
        }
    }

    fn replicate(&mut self) {
        if !self.stream.is_empty() {
            let bytes = self.stream.split().freeze();
            self.links.iter_mut().for_each(|link| link.queue.push(bytes.clone()));
            let clients: Vec<(usize, usize)> = self.gathering.drain(..).map(|index| (index, 0)).collect();
            let mut batch = Batch { end: self.received, clients };
            for (index, count) in &mut batch.clients {
                if let Some(client) = &mut self.clients[*index] {
                    *count = std::mem::take(&mut client.gathered);
                }
            }
            self.batches.push_back(batch);
        }
        for (index, link) in self.links.iter_mut().enumerate() {
            if !link.sending && !link.queue.is_empty() {
                link.sending = true;
                let parts = std::mem::take(&mut link.queue);
                self.driver.submit(Op::Send { fd: link.fd, parts }, name(CONNECT | SENDING | index as u64));
            }
        }
    }

    /// Replies to what a majority, the leader among them or not, has made durable.
    fn release(&mut self) {
        let durable = self.majority();
        while self.batches.front().is_some_and(|batch| batch.end <= durable) {
            let batch = self.batches.pop_front().expect("looked at");
            for (index, count) in batch.clients {
                if let Some(client) = &mut self.clients[index] {
                    client.owed += count;
                }
            }
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            let Some(client) = client else { continue };
            if client.sending || client.owed == 0 {
                continue;
            }
            let mut parts = std::mem::take(&mut client.parts);
            while 0 < client.owed {
                let count = client.owed.min(REPLIES_READY);
                parts.push(self.replies.slice(..count * REPLY.len()));
                client.owed -= count;
            }
            client.sending = true;
            self.driver.submit(Op::Send { fd: client.fd, parts }, name(SENDING | index as u64));
        }
    }

    fn majority(&self) -> u64 {
        let mut durable: Vec<u64> = self.links.iter().map(|link| link.durable).collect();
        durable.push(self.own());
        durable.sort_unstable();
        durable[(durable.len() - 1) / 2]
    }

    fn own(&self) -> u64 {
        self.log.as_ref().map_or(self.received, Log::durable)
    }

    /// A follower tells its leader how far it is.
    fn acknowledge(&mut self) {
        let durable = self.own();
        let leader = self
            .clients
            .iter_mut()
            .enumerate()
            .rev()
            .find_map(|(index, client)| Some((index, client.as_mut()?)));
        if let Some((index, client)) = leader
            && !client.sending
            && self.acknowledged < durable
        {
            self.acknowledged = durable;
            client.sending = true;
            let parts = vec![Bytes::copy_from_slice(&durable.to_le_bytes())];
            self.driver.submit(Op::Send { fd: client.fd, parts }, name(SENDING | index as u64));
        }
    }
}

/// The queue that has grown during a send, in the vector that the send gave back if it is empty.
fn join(returned: Vec<Bytes>, queue: Vec<Bytes>) -> Vec<Bytes> {
    if queue.is_empty() { returned } else { queue }
}

impl Link {
    /// Takes in how far the follower is: numbers of eight bytes, of which the last counts.
    fn acknowledge(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let whole = self.partial.len() / 8 * 8;
        if let Some(last) = self.partial[..whole].rchunks_exact(8).next() {
            self.durable = u64::from_le_bytes(last.try_into().expect("eight bytes"));
        }
        self.partial.drain(..whole);
    }
}
