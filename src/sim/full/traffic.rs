//! What travels between nodes and clients: the world's side of every connection.

use super::client::Client;
use super::driver::{Connection, Wish};
use super::sockets::{Party, Segment};
use super::world::{Event, MS, Phase, World};
use crate::io::{Fd, Token};
use crate::sim::coverage::Reached;
use bytes::{Bytes, BytesMut};
use std::io::ErrorKind;

/// How long a kernel waits before it sends again what was not acknowledged.
const AGAIN: u64 = 200 * MS;
/// How often it tries before it gives the connection up.
const TRIES_MAX: u32 = 20;
/// How long an attempt to connect to a machine that does not answer takes.
const CONNECT_MAX_US: u64 = 3_000_000;
/// One in so many times a client turns to another node.
const WANDERS: u64 = 40;

impl World {
    /// Grants what a node wants.
    pub(super) fn grant(&mut self, node: usize) {
        loop {
            let life = self.nodes[node].lives;
            let Some(running) = &mut self.nodes[node].life else { return };
            if running.driver.wishes.is_empty() {
                return;
            }
            let wishes = std::mem::take(&mut running.driver.wishes);
            for wish in wishes {
                match wish {
                    Wish::File { operation, writes } => {
                        self.say_of_file(node, ">", operation);
                        let us = if writes { self.swarm.write_us } else { self.swarm.read_us };
                        let us = if self.outside[node].slow { us * 50 } else { us };
                        self.plan_within(us, Event::File { node, life, operation });
                    }
                    Wish::Connect { token, address } => {
                        self.plan_within(self.swarm.delay_us, Event::Connect { node, life, token, address });
                    }
                    Wish::Send(connection, fd) => self.pump(node, connection, fd),
                    Wish::Took(connection, bytes) => self.took(connection, bytes),
                    Wish::Close(connection) => self.say(connection, Segment::End),
                }
            }
        }
    }

    /// Lets a side say something that is not bytes. After it nothing follows.
    fn say(&mut self, connection: Connection, segment: Segment) {
        let Some(stream) = self.streams.get(connection.id) else { return };
        let pipe = &mut stream.pipes[connection.side];
        if pipe.closed && matches!(segment, Segment::End) {
            return;
        }
        pipe.closed = true;
        pipe.waiting = None;
        self.launch(connection, segment);
    }
    /// Puts a segment on its way.
    pub(super) fn launch(&mut self, connection: Connection, segment: Segment) {
        let is_late = self.prng.chance(self.swarm.late_per_mille, 1000);
        let at = self.after_us(if is_late { 1_000_000 } else { self.swarm.delay_us });
        let stream = self.streams.get(connection.id).expect("looked at by the caller");
        let pipe = &mut stream.pipes[connection.side];
        let at = at.max(pipe.last_arrival);
        pipe.last_arrival = at;
        pipe.flight.push_back(segment);
        self.plan(at, Event::Arrive { stream: connection.id, from: connection.side });
    }
    /// The process at this side is gone; its kernel says so.
    pub(super) fn hang_up(&mut self, connection: Connection) {
        let reset = self.prng.chance(1, 2);
        self.resets += u64::from(reset);
        self.say(connection, if reset { Segment::Reset } else { Segment::End });
    }

    /// Sends what a node's socket has to send, as far as the window allows.
    fn pump(&mut self, node: usize, connection: Connection, fd: Fd) {
        let window = self.swarm.window_bytes;
        let mut parts = Vec::new();
        let Some(stream) = self.streams.get(connection.id) else { return };
        let pipe = &mut stream.pipes[connection.side];
        let room = window.saturating_sub(pipe.outstanding);
        let Some(life) = &mut self.nodes[node].life else { return };
        let pulled = if 0 < room { life.driver.pull(fd, room, &mut parts) } else { 0 };
        pipe.outstanding += pulled;
        pipe.waiting = (room == pulled).then_some(fd);
        if pulled == 0 {
            return;
        }
        let mut whole = BytesMut::with_capacity(pulled);
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        self.say_bytes(connection, false, &whole);
        self.cut(connection, whole.freeze());
    }
    /// Cuts bytes into segments.
    fn cut(&mut self, connection: Connection, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let most = bytes.len().min(self.swarm.segment_bytes);
            let segment = bytes.split_to(most);
            self.launch(connection, Segment::Data(segment));
        }
    }
    /// A receiver has taken bytes: the window opens.
    fn took(&mut self, connection: Connection, bytes: usize) {
        let Some(stream) = self.streams.get(connection.id) else { return };
        let from = 1 - connection.side;
        let pipe = &mut stream.pipes[from];
        pipe.outstanding -= bytes;
        let (party, waiting) = (stream.parties[from], pipe.waiting.take());
        if let (Party::Node { index, life }, Some(fd)) = (party, waiting)
            && self.lives(index, life)
        {
            self.pump(index, Connection { id: connection.id, side: from }, fd);
            // Perhaps its send is over.
            self.plan_within(10, Event::GoOn { node: index, life });
        }
    }

    fn can_pass(&self, from: Party, to: Party) -> bool {
        match (from, to) {
            (_, Party::Node { index, .. }) if self.outside[index].dark => false,
            (Party::Node { index: from, .. }, Party::Node { index: to, .. }) => self.network.is_up(from, to),
            _ => true,
        }
    }

    /// A segment arrives, if it can.
    pub(super) fn arrive(&mut self, id: u64, from: usize) {
        let Some(stream) = self.streams.get(id) else { return };
        let (sender, receiver) = (stream.parties[from], stream.parties[1 - from]);
        if !self.can_pass(sender, receiver) {
            let pipe = &mut self.streams.get(id).expect("looked at above").pipes[from];
            pipe.tries += 1;
            if pipe.tries < TRIES_MAX {
                return self.plan(self.now + AGAIN, Event::Arrive { stream: id, from });
            }
            // The sender's kernel gives up. The other side hears nothing of it.
            pipe.flight.clear();
            pipe.closed = true;
            self.coverage.saw(Reached::HalfOpen);
            return self.deliver(id, from, Segment::Reset);
        }
        let pipe = &mut self.streams.get(id).expect("looked at above").pipes[from];
        pipe.tries = 0;
        let Some(segment) = pipe.flight.pop_front() else { return };
        self.deliver(id, 1 - from, segment);
        self.streams.forget_if_over(id);
    }

    /// Hands a segment to the party at `side`.
    fn deliver(&mut self, id: u64, side: usize, segment: Segment) {
        let connection = Connection { id, side };
        let stream = self.streams.get(id).expect("looked at by the caller");
        match stream.parties[side] {
            Party::Client(index) => self.deliver_to_client(index, connection, segment),
            Party::Node { index, life } => {
                if !self.lives(index, life) {
                    return self.answer_for_nobody(connection, &segment);
                }
                let is_taken =
                    self.nodes[index].life.as_ref().is_some_and(|l| l.driver.socket_of(connection).is_some());
                match &segment {
                    Segment::Data(bytes) if is_taken => self.say_bytes(connection, true, bytes),
                    end => self.say_end(connection, end),
                }
                let driver = &mut self.nodes[index].life.as_mut().expect("it lives").driver;
                let Some(fd) = driver.socket_of(connection) else {
                    if driver.is_waiting(connection) {
                        // Not accepted yet: the kernel keeps it.
                        let stream = self.streams.get(id).expect("looked at above");
                        stream.pipes[1 - side].flight.push_front(segment);
                        return self.plan_within(2_000, Event::Arrive { stream: id, from: 1 - side });
                    }
                    return self.answer_for_nobody(connection, &segment);
                };
                match segment {
                    Segment::Data(bytes) => driver.arrive(fd, bytes),
                    Segment::End => driver.end(fd, false),
                    Segment::Reset => driver.end(fd, true),
                }
                self.turn(index);
            }
        }
    }
    /// Nobody listens at this side: a kernel answers data with a reset.
    fn answer_for_nobody(&mut self, connection: Connection, segment: &Segment) {
        if matches!(segment, Segment::Data(_)) {
            self.resets += 1;
            self.say(connection, Segment::Reset);
        } else if let Some(stream) = self.streams.get(connection.id) {
            stream.pipes[connection.side].closed = true;
        }
    }

    fn deliver_to_client(&mut self, index: usize, connection: Connection, segment: Segment) {
        if self.clients[index].connection != Some(connection) {
            return self.answer_for_nobody(connection, &segment);
        }
        match segment {
            Segment::Data(bytes) => {
                let client = &mut self.clients[index];
                let (node, len) = (client.node, bytes.len());
                self.outside[node].written += self.account.hear(client, self.now, &bytes);
                self.took(connection, len);
                let client = &self.clients[index];
                if client.connection.is_none() {
                    self.say(connection, Segment::End);
                }
                if !self.clients[index].is_busy() {
                    self.clients[index].deadline = None;
                    let pause = self.think();
                    self.set_timer(index, pause);
                }
            }
            Segment::End | Segment::Reset => {
                self.account.lose(&mut self.clients[index], self.now);
                self.say(connection, Segment::End);
                let pause = self.think();
                self.set_timer(index, pause);
            }
        }
    }

    // ---- connections come ---------------------------------------------------------------------------------------

    /// A node's attempt to connect arrives, or does not.
    pub(super) fn connect(&mut self, node: usize, life: u64, token: Token, address: &str) {
        if !self.lives(node, life) {
            return;
        }
        let target = (0..self.nodes.len()).find(|n| super::node::peer_address(*n) == address);
        let target = target.expect("nodes dial nodes");
        let both = self.network.is_up(node, target) && self.network.is_up(target, node);
        if !both || self.outside[target].dark {
            let made = Err(ErrorKind::TimedOut);
            return self.plan_within(CONNECT_MAX_US, Event::Connected { node, life, token, made });
        }
        let made = self.knock(Party::Node { index: node, life }, target, address);
        let made = made.ok_or(ErrorKind::ConnectionRefused);
        self.plan_within(self.swarm.delay_us, Event::Connected { node, life, token, made });
    }
    /// Makes a connection to a node that listens there.
    fn knock(&mut self, dialler: Party, target: usize, address: &str) -> Option<u64> {
        let life = self.nodes[target].lives;
        let driver = &mut self.nodes[target].life.as_mut()?.driver;
        let listener = driver.listener(address)?;
        let acceptor = Party::Node { index: target, life };
        let [_, accepted] = self.streams.connect(dialler, acceptor);
        let name = match dialler {
            Party::Node { index, .. } => format!("node{}:9", index + 1),
            Party::Client(index) => format!("client{index}:9"),
        };
        driver.knock(listener, accepted, name);
        self.turn(target);
        Some(accepted.id)
    }
    /// The answer to a node's attempt arrives.
    pub(super) fn connected(&mut self, node: usize, life: u64, token: Token, made: Result<u64, ErrorKind>) {
        let dialler = |id| Connection { id, side: 0 };
        if !self.lives(node, life) {
            if let Ok(id) = made {
                self.say(dialler(id), Segment::Reset);
            }
            return;
        }
        // What came of it meanwhile is void too.
        let made = made.and_then(|id| self.streams.get(id).map(|_| id).ok_or(ErrorKind::ConnectionReset));
        let driver = &mut self.nodes[node].life.as_mut().expect("it lives").driver;
        driver.connected(token, made.map(|id| (dialler(id), "peer:1".to_string())));
        self.turn(node);
    }

    // ---- clients ------------------------------------------------------------------------------------------------

    fn think(&mut self) -> u64 {
        1000 * (1 + self.prng.below(self.swarm.think_us))
    }

    /// A client's time has come.
    pub(super) fn client(&mut self, index: usize) {
        let client = &self.clients[index];
        if matches!(self.phase, Phase::Settle | Phase::Rest) && !client.is_busy() {
            // It looks again now and then, so that time goes on.
            return self.set_timer(index, 100 * MS);
        }
        match client.connection {
            None => self.client_connects(index),
            Some(connection) if client.is_busy() => {
                if client.deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.client_leaves(index, connection);
                } else {
                    let left = client.deadline.map_or(100 * MS, |deadline| deadline - self.now);
                    self.set_timer(index, left);
                }
            }
            Some(connection) if self.sent_to(index).is_some_and(|node| node != client.node) => {
                self.client_leaves(index, connection);
            }
            Some(connection) if self.prng.chance(1, WANDERS) => self.client_leaves(index, connection),
            Some(connection) => self.client_asks(index, connection),
        }
    }
    /// While healing one client turns to where a write is owed; the others go on everywhere, so that a straggler has to catch up with a
    /// log that grows.
    fn sent_to(&self, index: usize) -> Option<usize> {
        self.wanted.filter(|_| index == 0)
    }
    fn client_leaves(&mut self, index: usize, connection: Connection) {
        self.account.lose(&mut self.clients[index], self.now);
        self.say(connection, Segment::End);
        let pause = self.think();
        self.set_timer(index, pause);
    }
    /// A client trusts the node that it talks to: what a liar tells its own clients, nobody answers for.
    fn any_trusted(&mut self) -> usize {
        loop {
            let node = self.prng.below(self.nodes.len() as u64) as usize;
            if !self.is_liar(node) {
                return node;
            }
        }
    }
    fn client_connects(&mut self, index: usize) {
        let node = self.sent_to(index).unwrap_or_else(|| self.any_trusted());
        let address = super::node::client_address(node);
        let is_dark = self.outside[node].dark;
        let made = if is_dark { None } else { self.knock(Party::Client(index), node, &address) };
        let client: &mut Client = &mut self.clients[index];
        client.node = node;
        client.connection = made.map(|id| Connection { id, side: 0 });
        let pause = if client.connection.is_some() { self.think() } else { 20 * MS + self.think() };
        self.set_timer(index, pause);
    }
    fn client_asks(&mut self, index: usize, connection: Connection) {
        let (mut out, count) = (Vec::new(), 1 + self.prng.below(self.swarm.pipeline));
        let client = &mut self.clients[index];
        for _ in 0..count {
            match self.phase {
                Phase::Work => {
                    let reads = self.swarm.reads_of_ten;
                    self.account.ask(client, self.now, reads, &mut self.prng, &mut out);
                }
                Phase::Settle | Phase::Audit | Phase::Rest => {
                    self.account.ask_audit(client, self.now, &mut out)
                }
            }
        }
        if out.is_empty() {
            return self.set_timer(index, 50 * MS);
        }
        client.deadline = Some(self.now + 1000 * self.swarm.patience_us);
        if let Some(stream) = self.streams.get(connection.id) {
            stream.pipes[connection.side].outstanding += out.len();
            self.cut(connection, out.into());
        }
        self.set_timer(index, 1000 * self.swarm.patience_us);
    }
}
