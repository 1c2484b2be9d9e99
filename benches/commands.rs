//! What a command costs in the front: from the receive buffer to its place in a batch, the batch's digest, and from the store's answer
//! to the send. The agents are the real ones; the kernel and the store are not there.
//!
//! `cargo bench --bench commands` runs it in full; without `--bench` it runs small, as a test.

use bytes::Bytes;
use quorate::base::ring::{Consumer, Producer, ring};
use quorate::base::{self, NodeId, Stamp};
use quorate::front::plan::Settled;
use quorate::front::{Facts, Options, Reply, Take, TakePorts, View};
use quorate::io::driver::{BufferId, Doorbell, OpenOptions};
use quorate::io::{Agent, Buffer, Completion, Driver, Fd, FileId, Op, Outcome, Token};
use quorate::resp::batch::Reader;
use quorate::resp::parse::{Parsed, Parser};
use quorate::resp::{batch, table};
use quorate::wire::hop::{Answer, Demand};
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A driver that has only the bytes of one burst, and remembers what was submitted.
#[derive(Default)]
struct Wire {
    burst: Vec<u8>,
    receives: Vec<Token>,
    accept: Option<Token>,
    sends: Vec<(Token, Vec<Bytes>)>,
}

impl Driver for Wire {
    fn now(&self) -> base::Instant {
        base::Instant(1)
    }
    fn clock(&self) -> Stamp {
        Stamp(1)
    }
    fn listen(&mut self, _: &str) -> io::Result<Fd> {
        Ok(Fd(0))
    }
    fn local_address(&self, _: Fd) -> io::Result<String> {
        Ok(String::new())
    }
    fn peer_address(&self, _: Fd) -> io::Result<String> {
        Ok(String::new())
    }
    fn open(&mut self, _: &Path, _: OpenOptions) -> io::Result<FileId> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn is_direct(&self, _: FileId) -> bool {
        false
    }
    fn file_len(&self, _: FileId) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn close_file(&mut self, _: FileId) {}
    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn buffer(&mut self, capacity: usize) -> Buffer {
        Buffer::unregistered(capacity)
    }
    fn release(&mut self, _: Buffer) {}
    fn submit(&mut self, op: Op, token: Token) {
        match op {
            Op::Accept { .. } => self.accept = Some(token),
            Op::Receive { .. } => self.receives.push(token),
            Op::Send { parts, .. } => self.sends.push((token, parts)),
            _ => {}
        }
    }
    fn reap(&mut self, _: &mut Vec<Completion>) {}
    fn park(&mut self, _: Option<base::Instant>) {}
    fn received(&self, _: BufferId, len: usize) -> &[u8] {
        &self.burst[..len]
    }
    fn recycle(&mut self, _: BufferId) {}
    fn doorbell(&self) -> Arc<dyn Doorbell> {
        struct Silent;
        impl Doorbell for Silent {
            fn ring(&self) {}
        }
        Arc::new(Silent)
    }
}

/// Both agents, with this bench at the other end of their rings.
struct Front {
    wire: Wire,
    take: Take,
    reply: Reply,
    demands: Consumer<Demand>,
    answers: Producer<Answer>,
    /// Where the replica's answers would come from.
    _failures: Producer<Answer>,
}

impl Front {
    fn new(connections: usize) -> Front {
        let (plans_in, plans_out) = ring(1 << 16);
        let (demands_in, demands) = ring(1 << 12);
        let (answers, answers_out) = ring(1 << 12);
        let (failures, failures_out) = ring(16);
        let (settled, facts) = (Settled::default(), Facts::default());
        facts.loaded.set(1);
        let view = View {
            node: NodeId(1),
            cluster: 1,
            generation: 1,
            members: Vec::new(),
            roster: None,
            memory_max: 1 << 40,
            process: 1,
            facts,
        };
        let ports = TakePorts { plans: plans_in, demands: demands_in, settled: settled.clone() };
        let take = Take::new(Options::at("unused"), view, ports);
        let reply = Reply::new(plans_out, answers_out, failures_out, settled, None);
        let mut front = Front { wire: Wire::default(), take, reply, demands, answers, _failures: failures };
        front.take.start(0, &mut front.wire).expect("nothing is listened on");
        front.reply.start(1, &mut front.wire).expect("nothing is asked of it");
        let token = front.wire.accept.expect("it accepts");
        for fd in 1..=connections as u32 {
            let accepted = Completion { token, outcome: Outcome::Accepted(Fd(fd)), last: false };
            front.take.complete(accepted, &mut front.wire);
        }
        front.take.work(&mut front.wire);
        assert_eq!(front.wire.receives.len(), connections);
        front
    }

    /// One burst on every connection: nanoseconds to gather, to close the batches, to answer.
    fn turn(&mut self, hash: &mut blake3::Hasher) -> [u64; 3] {
        let begun = Instant::now();
        for at in 0..self.wire.receives.len() {
            let received = Outcome::Received { buffer: BufferId(0), len: self.wire.burst.len() };
            let completion = Completion { token: self.wire.receives[at], outcome: received, last: false };
            self.take.complete(completion, &mut self.wire);
        }
        let gathered = begun.elapsed();
        let begun = Instant::now();
        self.take.work(&mut self.wire);
        let closed = begun.elapsed();
        while let Some(demand) = self.demands.pop() {
            let answer = match demand {
                Demand::Write { sequence, body, .. } => {
                    hash.update(&body.digest().0);
                    let (replies, ends) = oks(body.bytes());
                    Answer::Write { sequence, replies, ends, made: base::Instant::ZERO }
                }
                Demand::Read { id, body } => {
                    hash.update(&body);
                    let (replies, ends) = oks(&body);
                    Answer::Read { id, replies, ends }
                }
            };
            assert!(self.answers.push(answer).is_ok());
        }
        let begun = Instant::now();
        self.reply.work(&mut self.wire);
        for (token, mut parts) in std::mem::take(&mut self.wire.sends) {
            let bytes = parts.iter().map(Bytes::len).sum();
            parts.clear();
            let sent = Completion { token, outcome: Outcome::Sent { bytes, parts }, last: true };
            self.reply.complete(sent, &mut self.wire);
        }
        self.reply.work(&mut self.wire);
        [gathered, closed, begun.elapsed()].map(|took| took.as_nanos() as u64)
    }
}

/// `+OK` to every command of a batch.
fn oks(body: &[u8]) -> (Bytes, Vec<u32>) {
    let count = Reader::new(body).count();
    (b"+OK\r\n".repeat(count).into(), (1..=count as u32).map(|i| 5 * i).collect())
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The median of `rounds`, a command.
fn median(mut rounds: Vec<u64>, commands: usize) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2] as f64 / commands as f64
}

fn agents(name: &str, words: &[&[u8]], connections: usize, depth: usize, rounds: usize) {
    let mut front = Front::new(connections);
    front.wire.burst = command(words).repeat(depth);
    let mut hash = blake3::Hasher::new();
    let times: Vec<[u64; 3]> = (0..rounds).map(|_| front.turn(&mut hash)).collect();
    let of = |step: usize| median(times.iter().map(|t| t[step]).collect(), connections * depth);
    let [gather, close, answer] = [of(0), of(1), of(2)];
    let hash = hash.finalize().to_hex();
    println!(
        "{name:<18} {connections:>4} x {depth:<3} gather {gather:>6.1} ns   close and digest {close:>6.1} ns   \
         answer {answer:>6.1} ns   {}",
        &hash[..8]
    );
}

/// The steps of `gather` alone: to find the spans, the command, and to copy it.
fn steps(name: &str, words: &[&[u8]], rounds: usize) {
    const COMMANDS: usize = 256;
    let bytes = command(words).repeat(COMMANDS);
    let limits = Options::at("unused").limits;
    let (mut parsing, mut copying) = (Vec::new(), Vec::new());
    let (mut parser, mut out, mut count) = (Parser::new(), Vec::new(), 0);
    for copies in [false, true] {
        for _ in 0..rounds {
            out.clear();
            let begun = Instant::now();
            let mut rest = black_box(&bytes[..]);
            while let Ok(Parsed::Command { used }) = parser.parse(rest, &limits) {
                let found = table::find(parser.arg(rest, 0));
                count += usize::from(found.is_some());
                if let Some(quorate::resp::command::Kind::Data(op)) = found.map(|c| c.kind)
                    && copies
                {
                    batch::write(&mut out, op, 0, parser.args(rest, 1));
                }
                rest = &rest[used..];
            }
            (if copies { &mut copying } else { &mut parsing }).push(begun.elapsed().as_nanos() as u64);
        }
    }
    assert_eq!(count, 2 * rounds * COMMANDS);
    let (parse, copy) = (median(parsing, COMMANDS), median(copying, COMMANDS));
    let hash = blake3::hash(&out).to_hex();
    println!("{name:<18} parse and look up {parse:>6.1} ns   with the copy {copy:>6.1} ns   {}", &hash[..8]);
}

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 2_000 } else { 20 };
    let (key, value) = ([b'k'; 16], [b'v'; 256]);
    let set: &[&[u8]] = &[b"SET", &key, &value];
    let get: &[&[u8]] = &[b"GET", &key];
    steps("GET 16", get, rounds);
    steps("SET 16/256", set, rounds);
    for (connections, depth) in [(1, 1), (64, 1), (64, 16), (1, 256)] {
        agents("GET 16", get, connections, depth, rounds);
        agents("SET 16/256", set, connections, depth, rounds);
    }
}
