//! Take and reply together over sockets in memory, with a store in between that answers `+OK` to everything when it is told to.

use super::gather::Lingering;
use super::plan::Settled;
use super::session::tests::view;
use super::{Options, Reply, Take, TakePorts, View};
use crate::base::bounds::{Bounds, Class, Classes};
use crate::base::ring::{Consumer, Producer, ring};
use crate::base::{Instant, Stamp};
use crate::io::driver::{Buffer, BufferId, Doorbell, OpenOptions};
use crate::io::{Agent, Completion, Driver, Fd, FileId, Op, Outcome, Token};
use crate::resp::batch::Reader;
use crate::wire::hop::{Answer, Demand, Failure};
use bytes::Bytes;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TAKE: u8 = 0;
const REPLY: u8 = 1;

/// The other side of a connection, as the kernel sees it.
#[derive(Default)]
struct Socket {
    /// Sent by the client, not yet received.
    input: Vec<u8>,
    /// What the client has read.
    output: Vec<u8>,
    /// The client takes nothing.
    stalled: bool,
    /// The client has closed its side.
    ended: bool,
    closed: bool,
    receive: Option<Token>,
    stopping: bool,
    send: Option<(Token, Vec<Bytes>)>,
}

/// A driver of sockets only.
#[derive(Default)]
struct Sockets {
    now: Instant,
    sockets: BTreeMap<u32, Socket>,
    accept: Option<Token>,
    arrived: Vec<Fd>,
    buffers: Vec<Vec<u8>>,
    lent: usize,
    finished: Vec<Completion>,
}

impl Sockets {
    fn turn(&mut self) -> Vec<Completion> {
        let mut out = std::mem::take(&mut self.finished);
        if let Some(token) = self.accept {
            let accepted = self.arrived.drain(..);
            out.extend(accepted.map(|fd| Completion { token, outcome: Outcome::Accepted(fd), last: false }));
        }
        self.buffers.clear();
        for socket in self.sockets.values_mut().filter(|s| !s.closed) {
            if let Some((token, parts)) = socket.send.take_if(|_| !socket.stalled) {
                let bytes = parts.concat();
                socket.output.extend_from_slice(&bytes);
                out.push(Completion {
                    token,
                    outcome: Outcome::Sent { bytes: bytes.len(), parts: Vec::new() },
                    last: true,
                });
            }
            let Some(token) = socket.receive else { continue };
            if std::mem::take(&mut socket.stopping) {
                socket.receive = None;
                out.push(Completion { token, outcome: Outcome::Closed { stopped: true }, last: true });
            } else if !socket.input.is_empty() {
                let len = socket.input.len().min(1000);
                self.buffers.push(socket.input.drain(..len).collect());
                self.lent += 1;
                let buffer = BufferId(self.buffers.len() as u16 - 1);
                out.push(Completion { token, outcome: Outcome::Received { buffer, len }, last: false });
            } else if socket.ended {
                socket.receive = None;
                out.push(Completion { token, outcome: Outcome::Closed { stopped: false }, last: true });
            }
        }
        out
    }
    fn at(&mut self, fd: Fd) -> &mut Socket {
        self.sockets.get_mut(&fd.0).expect("a socket that was accepted")
    }
}

fn sockets_only<T>() -> io::Result<T> {
    Err(ErrorKind::Unsupported.into())
}

impl Driver for Sockets {
    fn now(&self) -> Instant {
        self.now
    }
    fn clock(&self) -> Stamp {
        Stamp(self.now.0 / 1_000_000)
    }
    fn listen(&mut self, _: &str) -> io::Result<Fd> {
        Ok(Fd(0))
    }
    fn local_address(&self, _: Fd) -> io::Result<String> {
        Ok("local".to_string())
    }
    fn peer_address(&self, fd: Fd) -> io::Result<String> {
        Ok(format!("peer:{}", fd.0))
    }
    fn open(&mut self, _: &Path, _: OpenOptions) -> io::Result<FileId> {
        sockets_only()
    }
    fn is_direct(&self, _: FileId) -> bool {
        false
    }
    fn file_len(&self, _: FileId) -> io::Result<u64> {
        sockets_only()
    }
    fn close_file(&mut self, _: FileId) {}
    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        sockets_only()
    }
    fn buffer(&mut self, capacity: usize) -> Buffer {
        Buffer::unregistered(capacity)
    }
    fn release(&mut self, _: Buffer) {}
    fn submit(&mut self, op: Op, token: Token) {
        match op {
            Op::Accept { .. } => self.accept = Some(token),
            Op::Receive { fd } => {
                let before = self.at(fd).receive.replace(token);
                assert!(before.is_none(), "one receive at a time");
            }
            Op::StopReceive { fd } => self.at(fd).stopping = true,
            Op::Send { fd, parts } => {
                let before = self.at(fd).send.replace((token, parts));
                assert!(before.is_none(), "one send at a time");
            }
            Op::Close { fd: Fd(0) } => self.accept = None,
            Op::Close { fd } => {
                let socket = self.at(fd);
                assert!(!socket.closed, "closed once");
                socket.closed = true;
                let (receive, send) = (socket.receive.take(), socket.send.take().map(|(token, _)| token));
                for token in receive.into_iter().chain(send) {
                    let error = ErrorKind::ConnectionAborted.into();
                    let outcome = Outcome::Failed { error, buffer: None };
                    self.finished.push(Completion { token, outcome, last: true });
                }
            }
            _ => panic!("the front knows sockets only"),
        }
    }
    fn reap(&mut self, out: &mut Vec<Completion>) {
        out.extend(self.turn());
    }
    fn park(&mut self, _: Option<Instant>) {}
    fn received(&self, buffer: BufferId, len: usize) -> &[u8] {
        &self.buffers[buffer.0 as usize][..len]
    }
    fn recycle(&mut self, _: BufferId) {
        self.lent -= 1;
    }
    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::new(Silent)
    }
}

struct Silent;
impl Doorbell for Silent {
    fn ring(&self) {}
}

/// A front, and the rings around it.
struct Front {
    driver: Sockets,
    take: Take,
    reply: Reply,
    demands: Consumer<Demand>,
    answers: Producer<Answer>,
    refusals: Producer<Answer>,
    waiting: Vec<Demand>,
    /// Answers come as soon as something is demanded.
    prompt: bool,
    view: super::View,
    sockets: u32,
}

impl Front {
    fn new(options: Options) -> Front {
        Front::of(options, view())
    }
    fn of(options: Options, view: View) -> Front {
        let (plans, planned) = ring(64);
        let (demands_in, demands) = ring(16);
        let (answers, answers_out) = ring(64);
        let (refusals, refusals_out) = ring(64);
        let settled = Settled::default();
        let ports = TakePorts { plans, demands: demands_in, settled: settled.clone() };
        let mut front = Front {
            driver: Sockets::default(),
            take: Take::new(options, view.clone(), ports),
            reply: Reply::new(planned, answers_out, refusals_out, settled, None),
            demands,
            answers,
            refusals,
            waiting: Vec::new(),
            prompt: true,
            view,
            sockets: 0,
        };
        front.take.start(TAKE, &mut front.driver).unwrap();
        front.reply.start(REPLY, &mut front.driver).unwrap();
        front
    }
    fn connect(&mut self) -> Fd {
        self.sockets += 1;
        let fd = Fd(self.sockets);
        self.driver.sockets.insert(fd.0, Socket::default());
        self.driver.arrived.push(fd);
        self.run();
        fd
    }
    fn say(&mut self, fd: Fd, bytes: &[u8]) {
        self.driver.at(fd).input.extend_from_slice(bytes);
        self.run();
    }
    /// What the client has read since it was last asked.
    fn heard(&mut self, fd: Fd) -> String {
        String::from_utf8(std::mem::take(&mut self.driver.at(fd).output)).unwrap()
    }
    fn answer(&mut self) {
        self.answer_with("+OK\r\n");
    }
    fn answer_with(&mut self, reply: &str) {
        for demand in std::mem::take(&mut self.waiting) {
            let body = match &demand {
                Demand::Write { body, .. } => body.bytes().clone(),
                Demand::Read { body, .. } => body.clone(),
            };
            let count = Reader::new(&body).count();
            let replies = Bytes::from(reply.repeat(count));
            let ends = (1..=count).map(|i| (reply.len() * i) as u32).collect();
            let answer = match demand {
                Demand::Write { sequence, .. } => {
                    Answer::Write { sequence, replies, ends, made: self.driver.now }
                }
                Demand::Read { id, .. } => Answer::Read { id, replies, ends },
            };
            self.answers.push(answer).unwrap();
        }
    }
    /// Turns until what gathers behind a batch that is on its way has left.
    fn linger(&mut self) {
        self.driver.now = self.driver.now.after(Lingering::LEADER.linger);
        self.run();
    }
    /// Turns until nothing happens any more. Returns the number of turns.
    fn run(&mut self) -> usize {
        for turn in 0..10_000 {
            let mut completions = Vec::new();
            self.driver.reap(&mut completions);
            let mut done = completions.len();
            for completion in completions {
                match completion.token.agent {
                    TAKE => self.take.complete(completion, &mut self.driver),
                    _ => self.reply.complete(completion, &mut self.driver),
                }
            }
            assert_eq!(self.driver.lent, 0, "every buffer is given back");
            done += self.take.work(&mut self.driver);
            while let Some(demand) = self.demands.pop() {
                self.waiting.push(demand);
            }
            if self.prompt {
                self.answer();
            }
            done += self.reply.work(&mut self.driver);
            if done == 0 {
                return turn;
            }
        }
        panic!("the front does not come to rest");
    }
}

fn small() -> Options {
    Options { connections_max: 3, unsent_bytes_max: 100, ..Options::at("x") }
}

#[test]
fn clients_are_answered_each_in_its_order() {
    let mut front = Front::new(Options::at("x"));
    let (a, b) = (front.connect(), front.connect());
    front.say(a, b"SET k v\r\nPING\r\nGET k\r\n*1\r\n$4\r\nPI");
    front.say(b, b"PING\r\n");
    front.say(a, b"NG\r\n");
    assert_eq!(front.heard(a), "+OK\r\n+PONG\r\n+OK\r\n+PONG\r\n");
    assert_eq!(front.heard(b), "+PONG\r\n");
    assert_eq!(front.view.facts.connections.get(), 2);
}

#[test]
fn one_connection_too_many_is_told_so_and_a_place_that_is_left_is_given_again() {
    let mut front = Front::new(small());
    let fds: Vec<Fd> = (0..4).map(|_| front.connect()).collect();
    assert_eq!(front.heard(fds[3]), "-ERR max number of clients reached\r\n");
    assert!(front.driver.at(fds[3]).closed);
    front.say(fds[1], b"QUIT\r\n");
    assert_eq!(front.heard(fds[1]), "+OK\r\n");
    assert!(front.driver.at(fds[1]).closed);
    let next = front.connect();
    front.say(next, b"PING\r\n");
    assert_eq!(front.heard(next), "+PONG\r\n");
    assert_eq!(front.view.facts.connections.get(), 3);
}

#[test]
fn what_was_sent_before_the_end_is_answered_before_the_close() {
    let mut front = Front::new(Options { burst_commands_max: 2, ..Options::at("x") });
    front.prompt = false;
    let fd = front.connect();
    front.driver.at(fd).ended = true;
    front.say(fd, "SET k v\r\n".repeat(5).as_bytes());
    assert!(!front.driver.at(fd).closed);
    front.linger();
    front.answer();
    front.run();
    assert_eq!(front.heard(fd), "+OK\r\n".repeat(5));
    assert!(front.driver.at(fd).closed);
    assert_eq!(front.view.facts.connections.get(), 0);
}

#[test]
fn a_long_pipeline_waits_in_the_socket_and_all_of_it_is_answered() {
    let mut front = Front::new(Options { pipeline_max: 10, ..Options::at("x") });
    front.prompt = false;
    let fd = front.connect();
    let count = 20_000;
    front.say(fd, "SET k v\r\n".repeat(count).as_bytes());
    assert!(100_000 < front.driver.at(fd).input.len(), "most of it is not received");
    assert!(front.driver.at(fd).receive.is_none());
    front.prompt = true;
    front.answer();
    front.run();
    assert_eq!(front.heard(fd).len(), 5 * count);
}

#[test]
fn rings_that_are_full_hold_clients_back_and_lose_nothing() {
    let mut front = Front::new(Options { batch_bytes_max: 40, ..Options::at("x") });
    front.prompt = false;
    let fds: Vec<Fd> = (0..50).map(|_| front.connect()).collect();
    for fd in &fds {
        front.driver.at(*fd).input.extend_from_slice("PING\r\nSET k v\r\n".repeat(40).as_bytes());
    }
    front.prompt = true;
    front.run();
    for fd in fds {
        assert_eq!(front.heard(fd), "+PONG\r\n+OK\r\n".repeat(40));
    }
}

#[test]
fn who_does_not_read_is_not_read_from_and_goes_on_when_it_reads() {
    let mut front = Front::new(small());
    let fd = front.connect();
    front.driver.at(fd).stalled = true;
    front.say(fd, "PING\r\n".repeat(20).as_bytes());
    front.say(fd, "PING\r\n".repeat(20).as_bytes());
    assert!(front.driver.at(fd).receive.is_none() && !front.driver.at(fd).closed);
    front.driver.at(fd).stalled = false;
    front.run();
    assert_eq!(front.heard(fd), "+PONG\r\n".repeat(40));
    assert!(front.driver.at(fd).receive.is_some());
}

#[test]
fn who_does_not_read_for_too_long_is_given_up() {
    let mut front = Front::new(Options { stall_max: Duration::from_secs(5), ..small() });
    let fd = front.connect();
    front.driver.at(fd).stalled = true;
    front.say(fd, "PING\r\n".repeat(20).as_bytes());
    front.run();
    let begun = front.driver.now;
    while !front.driver.at(fd).closed {
        front.driver.now = front.take.deadline().expect("somebody is watched");
        front.run();
    }
    let waited = front.driver.now.since(begun);
    assert!(Duration::from_secs(5) <= waited && waited <= Duration::from_secs(6), "{waited:?}");
    assert_eq!((front.view.facts.connections.get(), front.take.deadline()), (0, None));
}

#[test]
fn who_does_not_read_while_all_have_too_much_unread_is_given_up_soon() {
    let mut front = Front::new(Options { unsent_bytes_total_max: 150, ..small() });
    let (deaf, also, reader) = (front.connect(), front.connect(), front.connect());
    for fd in [deaf, also] {
        front.driver.at(fd).stalled = true;
        front.say(fd, "PING\r\n".repeat(13).as_bytes());
    }
    let begun = front.driver.now;
    while !front.driver.at(deaf).closed || !front.driver.at(also).closed {
        front.say(reader, b"PING\r\n");
        assert_eq!(front.heard(reader), "+PONG\r\n", "who reads is served all the while");
        front.driver.now = front.take.deadline().expect("182 unsent bytes are more than 150");
        front.run();
    }
    assert!(front.driver.now.since(begun) <= Duration::from_secs(3), "long before `stall_max`");
    assert_eq!(front.view.facts.connections.get(), 1);
}

/// Commands that are with the store: how many, and the longest replies that they may get together.
fn asked(front: &Front) -> usize {
    let bodies = front.waiting.iter().map(|demand| match demand {
        Demand::Write { body, .. } => body.bytes().clone(),
        Demand::Read { body, .. } => body.clone(),
    });
    bodies.map(|body| Reader::new(&body).count()).sum()
}

#[test]
fn a_pipeline_of_long_replies_is_carried_out_as_its_replies_have_room() {
    const VALUE: usize = 1 << 20;
    for (command, before) in [("GET k\r\n", ""), ("GET k\r\n", "SET x 1\r\n"), ("GETEX k\r\n", "")] {
        let mut front = Front::new(Options { unsent_bytes_max: 4 << 20, ..Options::at("x") });
        front.view.facts.extent.longest_string.set(VALUE as u64);
        front.prompt = false;
        let fd = front.connect();
        front.driver.at(fd).stalled = true;
        front.say(fd, format!("{before}{}", command.repeat(1000)).as_bytes());
        front.linger();
        let most = 3 + usize::from(!before.is_empty());
        assert_eq!(asked(&front), most, "{before:?} {command:?}: three of a megabyte and a little have room");
        let mut answered = 0;
        while answered < 1000 {
            let count = asked(&front);
            assert!(0 < count && count <= most, "{command:?}: {count} at a time");
            answered += count;
            front.answer_with(&format!("${VALUE}\r\n{}\r\n", "v".repeat(VALUE)));
            front.run();
            assert_eq!(asked(&front), 0, "nothing more before the client reads");
            front.driver.at(fd).stalled = false;
            front.run();
            front.linger();
            front.driver.at(fd).stalled = true;
            front.driver.at(fd).output.clear();
        }
    }
}

#[test]
fn one_long_value_does_not_make_the_replies_of_other_keys_look_long() {
    const VALUE: u64 = 1 << 20;
    let mut view = view();
    let bounds = Bounds::new(SipHasher13::new_with_key(&[3; 16]), 8);
    let classes = Classes { string: Class::of(VALUE), record: Class::of(2 * VALUE) };
    bounds.set((bounds.hash(b"long").expect("it has a hasher") >> 56) as usize, classes);
    view.facts.extent.bounds = bounds;
    view.facts.extent.longest_string.set(VALUE);
    view.facts.extent.largest_record.set(2 * VALUE);
    let options = Options { unsent_bytes_max: 4 << 20, ..Options::at("x") };
    // A write that is on its way.
    let set = |key: &str| {
        let half = VALUE as usize / 2;
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${half}\r\n{}\r\n", key.len(), "v".repeat(half))
    };
    for (before, command, at_a_time) in [
        ("", "GET k\r\n", 1000),
        ("", "HGET k f\r\n", 1000),
        ("", "HGETALL k\r\n", 1000),
        ("", "MGET k l m\r\n", 1000),
        ("", "GET long\r\n", 3),
        ("", "MGET k long k\r\n", 3),
        ("", "HGETALL long\r\n", 1),
        (&set("k"), "GET k\r\n", 8),
        (&set("other"), "GET k\r\n", 1001),
    ] {
        let mut front = Front::of(options.clone(), view.clone());
        front.prompt = false;
        let fd = front.connect();
        front.driver.at(fd).stalled = true;
        front.say(fd, format!("{before}{}", command.repeat(1000)).as_bytes());
        front.linger();
        assert_eq!(asked(&front), at_a_time, "{command:?} after {} bytes", before.len());
    }
}

#[test]
fn replies_of_all_connections_are_made_within_a_bound_and_short_ones_do_not_wait() {
    let mut front = Front::new(Options::at("x"));
    front.view.facts.extent.longest_string.set(1 << 20);
    front.prompt = false;
    let fds: Vec<Fd> = (0..20).map(|_| front.connect()).collect();
    for fd in &fds {
        front.driver.at(*fd).input.extend_from_slice("GET k\r\n".repeat(30).as_bytes());
    }
    front.run();
    let made_max = crate::config::limits::REPLIES_MADE_MAX;
    assert!((made_max >> 20) - 2 <= asked(&front) && asked(&front) <= made_max >> 20, "{}", asked(&front));
    let other = front.connect();
    front.say(other, b"PING\r\n");
    assert_eq!(front.heard(other), "+PONG\r\n");
    front.prompt = true;
    front.answer();
    front.run();
    for fd in fds {
        assert_eq!(front.heard(fd), "+OK\r\n".repeat(30), "all are served in the end");
    }
}

#[test]
fn unfinished_commands_of_all_have_a_bound() {
    let mut front = Front::new(Options { partial_bytes_max: 1500, ..Options::at("x") });
    let (a, b) = (front.connect(), front.connect());
    front.say(a, format!("*2\r\n$4\r\nECHO\r\n$2000\r\n{}", "x".repeat(900)).as_bytes());
    front.say(b, format!("*2\r\n$4\r\nECHO\r\n$2000\r\n{}", "x".repeat(900)).as_bytes());
    assert!(front.heard(b).starts_with("-OVERLOADED "));
    assert!(!front.driver.at(b).closed, "more of what it says may be on its way");
    front.say(b, "x".repeat(1100).as_bytes());
    assert_eq!(front.heard(b), "", "nobody listens to it");
    front.driver.now = front.take.deadline().expect("it will be closed");
    front.run();
    assert!(front.driver.at(b).closed && !front.driver.at(a).closed);
    front.say(a, format!("{}\r\n", "x".repeat(1100)).as_bytes());
    assert!(front.heard(a).starts_with("-OVERLOADED "), "one alone can pass it too");
}

#[test]
fn a_drain_answers_what_has_come_and_closes() {
    let mut front = Front::new(Options::at("x"));
    front.prompt = false;
    let (busy, idle) = (front.connect(), front.connect());
    front.say(busy, b"SET k v\r\n");
    front.view.facts.drain.set(1);
    front.run();
    assert!(front.driver.accept.is_none() && front.driver.at(idle).closed && !front.driver.at(busy).closed);
    assert_eq!(front.view.facts.drained.get(), 0);
    front.say(busy, b"SET k w\r\n");
    let Some(Demand::Write { sequence, .. }) = front.waiting.pop() else { panic!("a write is pending") };
    front.refusals.push(Answer::WriteFailed { sequence, why: Failure::Draining }).unwrap();
    front.run();
    assert!(front.heard(busy).starts_with("-CLUSTERDOWN "));
    assert!(front.driver.at(busy).closed);
    assert_eq!(front.view.facts.drained.get(), 1);
}

#[test]
fn the_password_is_asked_for() {
    let mut front = Front::new(Options { password: Some("sesame".into()), ..Options::at("x") });
    let fd = front.connect();
    front.say(fd, b"SET k v\r\nAUTH sesame\r\nSET k v\r\n");
    assert_eq!(front.heard(fd), "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n");
}
