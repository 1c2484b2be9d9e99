//! What a message costs through the io_uring driver, in CPU time of both sides: alone, and when sixteen share a call.
//!
//! Small parameters unless called with `--bench` (as `cargo bench` does), so that tests run it too. Compare within one run only: the
//! figures move with where a host puts its cores.

use quorate::io::driver::{Completion, Driver, Fd, Op, Outcome, Token};
use quorate::io::{Uring, UringOptions, clock, process};
use std::sync::mpsc::{Sender, channel};

const LISTEN: u64 = 1 << 32;
const SENT: u64 = 1 << 33;

/// Connections, messages of a burst on each, bytes of a message, bursts.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    connections: usize,
    burst: usize,
    bytes: usize,
    bursts: usize,
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let scale = if full { 100 } else { 1 };
    let shapes = [
        Shape { name: "ping-pong, 64 B", connections: 1, burst: 1, bytes: 64, bursts: 500 * scale },
        Shape {
            name: "16 connections x 16 x 64 B",
            connections: 16,
            burst: 16,
            bytes: 64,
            bursts: 100 * scale,
        },
        Shape {
            name: "16 connections x 16 x 1 KiB",
            connections: 16,
            burst: 16,
            bytes: 1024,
            bursts: 100 * scale,
        },
        Shape {
            name: "64 connections x 16 x 300 B",
            connections: 64,
            burst: 16,
            bytes: 300,
            bursts: 50 * scale,
        },
    ];
    for shape in shapes {
        let before = process::cpu_time(std::process::id()).expect("this process is there");
        let start = clock::monotonic();
        let bytes = run(shape);
        let messages = 2 * shape.bursts * shape.connections * shape.burst;
        assert_eq!(bytes, (messages * shape.bytes) as u64);
        let cpu = process::cpu_time(std::process::id()).expect("this process is there") - before;
        let elapsed = clock::monotonic().since(start);
        // A message is sent by one side and received by the other: its cost a side is half of both.
        let nanos = cpu.as_nanos() as f64 / messages as f64;
        println!(
            "{:<30} {nanos:>8.0} ns CPU a message (both sides), {elapsed:>10.1?}, {bytes} bytes",
            shape.name
        );
    }
}

/// Sends bursts to and fro on all connections; the bytes that both sides received.
fn run(shape: Shape) -> u64 {
    let (tell, told) = channel();
    let server = std::thread::spawn(move || Side::serve(shape, &tell));
    let address = told.recv().expect("the server tells its address");
    let client = Side::call(shape, address);
    client + server.join().expect("the server does not panic")
}

struct Side {
    driver: Uring,
    sockets: Vec<Fd>,
    received: Vec<usize>,
    message: bytes::Bytes,
    total: u64,
}

impl Side {
    fn new(shape: Shape) -> Side {
        let message = bytes::Bytes::from(vec![b'x'; shape.bytes * shape.burst]);
        let driver = Uring::new(UringOptions::NODE).expect("this machine has io_uring");
        Side { driver, sockets: Vec::new(), received: vec![0; shape.connections], message, total: 0 }
    }

    fn serve(shape: Shape, tell: &Sender<String>) -> u64 {
        let mut side = Side::new(shape);
        let listener = side.driver.listen("127.0.0.1:0").expect("loopback has ports");
        tell.send(side.driver.local_address(listener).expect("it is bound")).expect("the client waits");
        side.driver.submit(Op::Accept { listener }, Token { agent: 0, value: LISTEN });
        side.turn(shape, false)
    }

    fn call(shape: Shape, address: String) -> u64 {
        let mut side = Side::new(shape);
        for _ in 0..shape.connections {
            side.driver.submit(Op::Connect { address: address.clone() }, Token { agent: 0, value: LISTEN });
        }
        side.turn(shape, true)
    }

    /// Answers each whole burst with another until all have come.
    fn turn(&mut self, shape: Shape, first: bool) -> u64 {
        let goal = (shape.bursts * shape.connections * shape.burst * shape.bytes) as u64;
        let mut completions: Vec<Completion> = Vec::new();
        let mut sent = 0;
        let sends = shape.bursts * shape.connections;
        while self.total < goal || sent < sends {
            self.driver.park(None);
            self.driver.reap(&mut completions);
            for completion in completions.drain(..) {
                match completion.outcome {
                    Outcome::Accepted(fd) | Outcome::Connected(fd) => {
                        let index = self.sockets.len();
                        self.sockets.push(fd);
                        self.driver.submit(Op::Receive { fd }, Token { agent: 0, value: index as u64 });
                        if first {
                            self.send(index);
                        }
                    }
                    Outcome::Received { buffer, len } => {
                        self.driver.recycle(buffer);
                        self.received_some(shape, completion.token.value as usize, len, !first);
                    }
                    Outcome::Sent { .. } => sent += 1,
                    // The other side has everything and goes.
                    Outcome::Closed { .. } => {}
                    Outcome::Failed { error, .. } => panic!("a connection broke: {error}"),
                    _ => unreachable!("no files here"),
                }
            }
        }
        self.total
    }

    fn received_some(&mut self, shape: Shape, index: usize, len: usize, always: bool) {
        self.total += len as u64;
        self.received[index] += len;
        let burst = shape.burst * shape.bytes;
        // The caller sent its first burst unasked, so its last answer is not answered.
        let more = always || self.received[index] < shape.bursts * burst;
        if self.received[index].is_multiple_of(burst) && more {
            self.send(index);
        }
    }

    fn send(&mut self, index: usize) {
        let (fd, parts) = (self.sockets[index], vec![self.message.clone()]);
        self.driver.submit(Op::Send { fd, parts }, Token { agent: 0, value: SENT | index as u64 });
    }
}
