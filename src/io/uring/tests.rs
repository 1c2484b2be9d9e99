//! The driver against the real kernel. Tests wait for conditions, never for time.

use super::*;
use crate::io::driver::Outcome;
use bytes::Bytes;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

const LISTEN: Token = Token { agent: 0, value: 1 };

fn token(value: u64) -> Token {
    Token { agent: 1, value }
}

/// Small figures, so that limits are met.
fn small() -> UringOptions {
    UringOptions {
        submissions: 8,
        completions: 64,
        receive_buffers: 4,
        receive_bytes: 1024,
        ..UringOptions::NODE
    }
}

/// A directory of this test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("quorate-io-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A driver, and what has come that no test has asked for yet.
struct Bench {
    driver: Uring,
    seen: Vec<Completion>,
}

impl Bench {
    fn new(options: UringOptions) -> Bench {
        Bench { driver: Uring::new(options).unwrap(), seen: Vec::new() }
    }
}

impl std::ops::Deref for Bench {
    type Target = Uring;
    fn deref(&self) -> &Uring {
        &self.driver
    }
}

impl std::ops::DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Uring {
        &mut self.driver
    }
}

/// Turns the driver until a completion of this name is there.
fn next(bench: &mut Bench, wanted: Token) -> Completion {
    loop {
        if let Some(index) = bench.seen.iter().position(|completion| completion.token == wanted) {
            return bench.seen.remove(index);
        }
        bench.driver.park(None);
        bench.driver.reap(&mut bench.seen);
    }
}

fn accepted(driver: &mut Bench) -> Fd {
    match next(driver, LISTEN).outcome {
        Outcome::Accepted(fd) => fd,
        other => panic!("{}", say(&other)),
    }
}

fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(fd) => format!("accepted {fd:?}"),
        Outcome::Connected(fd) => format!("connected {fd:?}"),
        Outcome::Received { len, .. } => format!("received {len}"),
        Outcome::Closed { stopped } => format!("closed, stopped {stopped}"),
        Outcome::Sent { bytes, .. } => format!("sent {bytes}"),
        Outcome::Written(buffer) => format!("written {}", buffer.len),
        Outcome::Read(buffer) => format!("read {}", buffer.len),
        Outcome::Synced => "synced".to_string(),
        Outcome::Failed { error, .. } => format!("failed: {error}"),
    }
}

/// A server of one thread that sends back whatever comes, until `connections` have closed.
fn echo(mut driver: Bench, listener: Fd, connections: usize) -> Counters {
    driver.submit(Op::Accept { listener }, LISTEN);
    let (mut open, mut closed) = (HashMap::new(), 0);
    let mut out = Vec::new();
    while closed < connections {
        driver.reap(&mut out);
        for completion in out.drain(..) {
            match completion.outcome {
                Outcome::Accepted(fd) => {
                    open.insert(u64::from(fd.0), (fd, Vec::<Bytes>::new(), false));
                    driver.submit(Op::Receive { fd }, token(u64::from(fd.0)));
                }
                Outcome::Received { buffer, len } => {
                    let bytes = Bytes::copy_from_slice(driver.received(buffer, len));
                    driver.recycle(buffer);
                    open.get_mut(&completion.token.value).unwrap().1.push(bytes);
                }
                Outcome::Sent { .. } => open.get_mut(&completion.token.value).unwrap().2 = false,
                Outcome::Closed { stopped: false } => {
                    let (fd, unsent, sending) = open.remove(&completion.token.value).unwrap();
                    assert!(unsent.is_empty() && !sending, "the client closes when it has everything");
                    driver.submit(Op::Close { fd }, token(0));
                    closed += 1;
                }
                other => panic!("{}", say(&other)),
            }
        }
        let mut work = 0;
        for (fd, parts, sending) in open.values_mut() {
            if !*sending && !parts.is_empty() {
                driver.submit(Op::Send { fd: *fd, parts: std::mem::take(parts) }, token(u64::from(fd.0)));
                (*sending, work) = (true, work + 1);
            }
        }
        if work == 0 && closed < connections {
            driver.park(None);
        }
    }
    *driver.counters()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31).wrapping_add(seed) >> 3) as u8).collect()
}

/// A client of the standard library that sends `sent` while it reads it back, closes its side, and expects the end of the stream.
fn chat(mut writer: impl Write + Send, mut reader: impl Read, shut: impl FnOnce() + Send, sent: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(sent).unwrap());
        let mut back = vec![0; sent.len()];
        reader.read_exact(&mut back).unwrap();
        assert!(back == sent);
        shut();
        assert_eq!(reader.read(&mut back).unwrap(), 0);
    });
}

#[test]
fn bytes_come_back_over_tcp() {
    let mut driver = Bench::new(small());
    let listener = driver.listen("127.0.0.1:0").unwrap();
    let address = driver.local_address(listener).unwrap();
    let client = std::thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        chat(&stream, &stream, || stream.shutdown(Shutdown::Write).unwrap(), &pattern(300_000, 3));
    });
    let counters = echo(driver, listener, 1);
    client.join().unwrap();
    assert!(0 < counters.enters && counters.enters <= counters.completions);
}

#[test]
fn bytes_come_back_over_a_path() {
    let scratch = Scratch::new("echo");
    let path = scratch.path("sock");
    let mut driver = Bench::new(small());
    let listener = driver.listen(path.to_str().unwrap()).unwrap();
    assert_eq!(driver.local_address(listener).unwrap(), path.to_str().unwrap());
    let client = std::thread::spawn(move || {
        let stream = UnixStream::connect(path).unwrap();
        chat(&stream, &stream, || stream.shutdown(Shutdown::Write).unwrap(), &pattern(300_000, 5));
    });
    echo(driver, listener, 1);
    client.join().unwrap();
}

#[test]
fn more_sockets_than_buffers_starve_none() {
    let mut driver = Bench::new(small());
    let listener = driver.listen("127.0.0.1:0").unwrap();
    let address = driver.local_address(listener).unwrap();
    let clients: Vec<_> = (0..24)
        .map(|seed| {
            let address = address.clone();
            std::thread::spawn(move || {
                let stream = TcpStream::connect(address).unwrap();
                chat(&stream, &stream, || stream.shutdown(Shutdown::Write).unwrap(), &pattern(40_000, seed));
            })
        })
        .collect();
    echo(driver, listener, clients.len());
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// A listening driver, one accepted connection, and its other side.
fn connected(options: UringOptions) -> (Bench, Fd, TcpStream) {
    let mut driver = Bench::new(options);
    let listener = driver.listen("127.0.0.1:0").unwrap();
    let address = driver.local_address(listener).unwrap();
    driver.submit(Op::Accept { listener }, LISTEN);
    let client = TcpStream::connect(address).unwrap();
    let fd = accepted(&mut driver);
    assert_eq!(driver.peer_address(fd).unwrap(), client.local_addr().unwrap().to_string());
    (driver, fd, client)
}

/// Receives until `count` bytes have come under `name`.
fn take(driver: &mut Bench, name: Token, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match next(driver, name).outcome {
            Outcome::Received { buffer, len } => {
                bytes.extend_from_slice(driver.received(buffer, len));
                driver.recycle(buffer);
            }
            other => panic!("{}", say(&other)),
        }
    }
    bytes
}

#[test]
fn a_receive_without_a_buffer_goes_on_when_one_comes_back() {
    let (mut driver, fd, mut client) = connected(small());
    driver.submit(Op::Receive { fd }, token(1));
    let sent = pattern(64 * 1024, 7);
    client.write_all(&sent).unwrap();
    // Hold every buffer until the kernel has none left.
    let mut held = Vec::new();
    while driver.counters().buffers_exhausted == 0 {
        driver.park(None);
        driver.reap(&mut held);
    }
    let mut back = Vec::new();
    loop {
        for completion in held.drain(..) {
            let Outcome::Received { buffer, len } = completion.outcome else {
                panic!("{}", say(&completion.outcome))
            };
            back.extend_from_slice(driver.received(buffer, len));
            driver.recycle(buffer);
        }
        if back.len() == sent.len() {
            break;
        }
        driver.park(None);
        driver.reap(&mut held);
    }
    assert!(back == sent);
}

#[test]
fn a_half_closed_connection_can_still_be_answered() {
    let (mut driver, fd, mut client) = connected(small());
    driver.submit(Op::Receive { fd }, token(1));
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(take(&mut driver, token(1), 8), b"question");
    let end = next(&mut driver, token(1));
    assert!(end.last && matches!(end.outcome, Outcome::Closed { stopped: false }), "{}", say(&end.outcome));
    let parts = vec![Bytes::from_static(b"ans"), Bytes::new(), Bytes::from_static(b"wer")];
    driver.submit(Op::Send { fd, parts }, token(2));
    assert!(matches!(next(&mut driver, token(2)).outcome, Outcome::Sent { bytes: 6, .. }));
    driver.submit(Op::Close { fd }, token(0));
    let mut out = Vec::new();
    driver.reap(&mut out);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
}

#[test]
fn a_large_send_waits_for_a_slow_reader_and_arrives_whole() {
    let (mut driver, fd, mut client) = connected(small());
    // More parts than one system call takes, more bytes than socket buffers hold.
    let sent = pattern(24 << 20, 11);
    let parts: Vec<Bytes> = sent.chunks(10_007).map(Bytes::copy_from_slice).collect();
    assert!(1024 < parts.len());
    driver.submit(Op::Send { fd, parts }, token(2));
    let mut out = Vec::new();
    driver.reap(&mut out);
    assert!(out.is_empty(), "nobody has read yet");
    driver.submit(Op::Send { fd, parts: vec![Bytes::from_static(b"x")] }, token(3));
    let second = next(&mut driver, token(3));
    assert!(matches!(second.outcome, Outcome::Failed { .. }), "one send a socket: {}", say(&second.outcome));
    let reader = std::thread::spawn(move || {
        let mut back = vec![0; 24 << 20];
        client.read_exact(&mut back).unwrap();
        back
    });
    let done = next(&mut driver, token(2));
    let Outcome::Sent { bytes, parts } = done.outcome else { panic!("{}", say(&done.outcome)) };
    assert_eq!((bytes, parts.len()), (sent.len(), 0));
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn an_empty_send_is_done_at_once() {
    let (mut driver, fd, _client) = connected(small());
    driver.submit(Op::Send { fd, parts: vec![Bytes::new()] }, token(2));
    assert!(matches!(next(&mut driver, token(2)).outcome, Outcome::Sent { bytes: 0, .. }));
}

#[test]
fn a_stopped_receive_leaves_bytes_to_the_next_one() {
    let (mut driver, fd, mut client) = connected(small());
    driver.submit(Op::StopReceive { fd }, token(0));
    driver.submit(Op::Receive { fd }, token(1));
    client.write_all(b"first").unwrap();
    assert_eq!(take(&mut driver, token(1), 5), b"first");
    driver.submit(Op::StopReceive { fd }, token(0));
    let end = next(&mut driver, token(1));
    assert!(end.last && matches!(end.outcome, Outcome::Closed { stopped: true }), "{}", say(&end.outcome));
    client.write_all(b"second").unwrap();
    driver.submit(Op::Receive { fd }, token(3));
    assert_eq!(take(&mut driver, token(3), 6), b"second");
    driver.submit(Op::Receive { fd }, token(4));
    assert!(matches!(next(&mut driver, token(4)).outcome, Outcome::Failed { .. }), "one receive a socket");
}

#[test]
fn a_hungry_receive_can_be_stopped_and_closed() {
    for stop in [true, false] {
        let (mut driver, fd, mut client) = connected(small());
        driver.submit(Op::Receive { fd }, token(1));
        client.write_all(&pattern(64 * 1024, 1)).unwrap();
        let mut held = Vec::new();
        while driver.counters().buffers_exhausted == 0 {
            driver.park(None);
            driver.reap(&mut held);
        }
        driver.submit(if stop { Op::StopReceive { fd } } else { Op::Close { fd } }, token(0));
        let end = next(&mut driver, token(1));
        assert!(end.last);
        match end.outcome {
            Outcome::Closed { stopped: true } => assert!(stop),
            Outcome::Failed { error, .. } => {
                assert_eq!((stop, error.kind()), (false, io::ErrorKind::ConnectionAborted))
            }
            other => panic!("{}", say(&other)),
        }
    }
}

#[test]
fn closing_ends_what_is_outstanding_and_voids_the_name() {
    let (mut driver, fd, client) = connected(small());
    driver.submit(Op::Receive { fd }, token(1));
    let parts = vec![Bytes::from(pattern(24 << 20, 2))];
    driver.submit(Op::Send { fd, parts }, token(2));
    let mut out = Vec::new();
    driver.reap(&mut out);
    assert!(out.is_empty());
    driver.submit(Op::Close { fd }, token(0));
    let mut ended = [next(&mut driver, token(1)), next(&mut driver, token(2))];
    for end in &mut ended {
        let Outcome::Failed { error, .. } = &end.outcome else { panic!("{}", say(&end.outcome)) };
        assert!(end.last);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
    driver.submit(Op::Send { fd, parts: vec![Bytes::from_static(b"late")] }, token(3));
    driver.submit(Op::Receive { fd }, token(4));
    driver.submit(Op::Close { fd }, token(0));
    for late in [token(3), token(4)] {
        assert!(matches!(next(&mut driver, late).outcome, Outcome::Failed { .. }));
    }
    assert!(driver.peer_address(fd).is_err());
    drop(client);
}

#[test]
fn what_came_for_a_closed_socket_reaches_nobody() {
    let mut driver = Bench::new(small());
    let listener = driver.listen("127.0.0.1:0").unwrap();
    let address = driver.local_address(listener).unwrap();
    driver.submit(Op::Accept { listener }, LISTEN);
    let mut names = Vec::new();
    for round in 0..50u64 {
        let mut client = TcpStream::connect(&address).unwrap();
        let fd = accepted(&mut driver);
        assert!(!names.contains(&fd));
        names.push(fd);
        driver.submit(Op::Receive { fd }, token(round));
        driver.submit(Op::StopReceive { fd }, token(0));
        client.write_all(b"bytes for this round only").unwrap();
        let mut seen = Vec::new();
        driver.reap(&mut seen);
        driver.submit(Op::Close { fd }, token(0));
        // Either the stop or the close ended it; whatever was received counts for this round's name.
        while !seen.iter().any(|completion| completion.last) {
            seen.push(next(&mut driver, token(round)));
        }
        assert!(driver.seen.is_empty());
        for completion in seen {
            assert_eq!(completion.token, token(round), "{}", say(&completion.outcome));
            if let Outcome::Received { buffer, .. } = completion.outcome {
                driver.recycle(buffer);
            }
        }
    }
}

#[test]
fn a_listener_can_be_closed() {
    let mut driver = Bench::new(small());
    let listener = driver.listen("127.0.0.1:0").unwrap();
    let address = driver.local_address(listener).unwrap();
    driver.submit(Op::Accept { listener }, LISTEN);
    driver.submit(Op::Close { fd: listener }, token(0));
    let end = next(&mut driver, LISTEN);
    assert!(end.last && matches!(end.outcome, Outcome::Failed { .. }), "{}", say(&end.outcome));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_refused_connection_and_a_bad_address_fail() {
    let mut driver = Bench::new(small());
    let listener = driver.listen("127.0.0.1:0").unwrap();
    let address = driver.local_address(listener).unwrap();
    driver.submit(Op::Connect { address: address.clone() }, token(1));
    assert!(matches!(next(&mut driver, token(1)).outcome, Outcome::Connected(_)));
    driver.submit(Op::Close { fd: listener }, token(0));
    let mut out = Vec::new();
    driver.reap(&mut out);
    let absent = ["/nonexistent/sock".to_string(), "no port".to_string(), address];
    for (index, address) in absent.into_iter().enumerate() {
        driver.submit(Op::Connect { address }, token(10 + index as u64));
        let end = next(&mut driver, token(10 + index as u64));
        assert!(matches!(end.outcome, Outcome::Failed { .. }), "{}", say(&end.outcome));
    }
}

fn write_and_read_back(driver: &mut Bench, file: FileId, blocks: usize) {
    let mut buffer = driver.buffer(blocks * 4096);
    let registered = buffer.registered.is_some();
    let bytes = pattern(blocks * 4096, 13);
    buffer.space()[..bytes.len()].copy_from_slice(&bytes);
    buffer.len = bytes.len();
    driver.submit(Op::Write { file, offset: 8192, buffer, durable: true }, token(1));
    let done = next(driver, token(1));
    let Outcome::Written(buffer) = done.outcome else { panic!("{}", say(&done.outcome)) };
    assert_eq!((buffer.len, buffer.registered.is_some()), (bytes.len(), registered));
    driver.release(buffer);
    let buffer = driver.buffer(bytes.len() + 8192);
    driver.submit(Op::Read { file, offset: 8192, len: bytes.len() + 8192, buffer }, token(2));
    let done = next(driver, token(2));
    let Outcome::Read(buffer) = done.outcome else { panic!("{}", say(&done.outcome)) };
    assert!(buffer.bytes() == bytes, "fewer at the end of the file, and the same");
    driver.release(buffer);
}

#[test]
fn durable_writes_are_read_back() {
    let scratch = Scratch::new("files");
    let mut driver = Bench::new(small());
    for (name, direct) in [("direct", true), ("buffered", false)] {
        let options = OpenOptions { create: true, write: true, direct };
        let file = driver.open(&scratch.path(name), options).unwrap();
        assert!(direct || !driver.is_direct(file));
        // Within the pool's buffers, and above them.
        write_and_read_back(&mut driver, file, 2);
        assert_eq!(driver.file_len(file).unwrap(), 4 * 4096);
        write_and_read_back(&mut driver, file, 40);
        driver.close_file(file);
    }
    driver.sync_directory(&scratch.0).unwrap();
    assert!(driver.open(&scratch.path("absent"), OpenOptions::default()).is_err());
}

#[test]
fn a_directory_is_synced_beside_the_loop_and_one_that_is_not_there_is_said() {
    let scratch = Scratch::new("directory");
    let mut driver = Bench::new(small());
    let made = scratch.path("made").parent().expect("a file lies in a directory").to_path_buf();
    driver.submit(Op::SyncDirectory { path: made }, token(1));
    assert_eq!(say(&next(&mut driver, token(1)).outcome), "synced");
    driver.submit(Op::SyncDirectory { path: scratch.path("nothing") }, token(2));
    let Outcome::Failed { error, .. } = next(&mut driver, token(2)).outcome else {
        panic!("it is not there")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_refused_write_gives_its_buffer_back() {
    let scratch = Scratch::new("refused");
    std::fs::write(scratch.path("readable"), b"x").unwrap();
    let mut driver = Bench::new(small());
    let file = driver.open(&scratch.path("readable"), OpenOptions::default()).unwrap();
    let mut buffer = driver.buffer(4096);
    buffer.len = 4096;
    driver.submit(Op::Write { file, offset: 0, buffer, durable: true }, token(1));
    let end = next(&mut driver, token(1));
    let Outcome::Failed { error, buffer: Some(buffer) } = end.outcome else {
        panic!("{}", say(&end.outcome))
    };
    assert_eq!((error.raw_os_error(), buffer.capacity()), (Some(libc::EBADF), 64 * 1024));
}

#[test]
fn the_registered_pool_is_small_and_comes_back() {
    let mut driver = Bench::new(UringOptions::NODE);
    let registered = driver.capabilities().registered_bytes;
    assert!(registered < 384 * 1024);
    let buffers: Vec<Buffer> = (0..4).map(|_| driver.buffer(65_536)).collect();
    let count = |buffers: &[Buffer]| buffers.iter().filter(|buffer| buffer.registered.is_some()).count();
    assert_eq!(count(&buffers) * 64 * 1024, registered);
    buffers.into_iter().for_each(|buffer| driver.release(buffer));
    let again: Vec<Buffer> = (0..4).map(|_| driver.buffer(65_536)).collect();
    assert_eq!(count(&again) * 64 * 1024, registered);
    // Another driver's buffer is written as an unregistered one.
    let mut other = Bench::new(UringOptions::NODE);
    let scratch = Scratch::new("foreign");
    let file =
        other.open(&scratch.path("file"), OpenOptions { create: true, write: true, direct: true }).unwrap();
    for mut buffer in again {
        buffer.len = 4096;
        other.submit(Op::Write { file, offset: 0, buffer, durable: false }, token(1));
        let done = next(&mut other, token(1));
        assert!(matches!(done.outcome, Outcome::Written(_)), "{}", say(&done.outcome));
    }
}

#[test]
fn the_doorbell_wakes_a_parked_driver_and_is_remembered_by_one_about_to_park() {
    for spin in [false, true] {
        let mut driver = Uring::new(UringOptions { spin, ..small() }).unwrap();
        let bell = driver.doorbell();
        let (mut tx, mut rx) = crate::base::ring::ring::<u64>(4);
        let count = 2_000;
        let ringer = std::thread::spawn(move || {
            for value in 0..count {
                while tx.push(value).is_err() {
                    std::thread::yield_now();
                }
                bell.ring();
            }
        });
        let (mut got, mut out) = (0, Vec::new());
        // A single lost ring would leave this parked for ever.
        while got < count {
            driver.reap(&mut out);
            assert!(out.is_empty());
            let before = got;
            while let Some(value) = rx.pop() {
                assert_eq!(value, got);
                got += 1;
            }
            if got == before {
                driver.park(None);
            }
        }
        ringer.join().unwrap();
        assert!(0 < driver.counters().rings);
        driver.doorbell().ring();
        driver.park(None);
    }
}

#[test]
fn park_ends_at_its_deadline_and_not_before() {
    for spin in [false, true] {
        let mut driver = Uring::new(UringOptions { spin, ..small() }).unwrap();
        let mut out = Vec::new();
        driver.reap(&mut out);
        let start = driver.now();
        let until = start.after(Duration::from_millis(20));
        while driver.now() < until {
            driver.park(Some(until));
        }
        assert!(until <= driver.now());
        assert!(driver.counters().enters < 10, "{:?}", driver.counters());
        // What has come already does not make it wait.
        driver.park(Some(start));
        assert!(start.0 / 1_000_000 < driver.clock().0);
    }
}

#[test]
fn an_idle_reap_enters_the_kernel_not_at_all() {
    let (mut driver, fd, _client) = connected(small());
    driver.submit(Op::Receive { fd }, token(1));
    let mut out = Vec::new();
    driver.reap(&mut out);
    let before = driver.counters().enters;
    (0..100).for_each(|_| driver.reap(&mut out));
    assert!(out.is_empty());
    assert_eq!(driver.counters().enters, before);
}

#[test]
fn a_driver_with_everything_outstanding_can_be_dropped() {
    let scratch = Scratch::new("drop");
    let (mut driver, fd, client) = connected(small());
    let file =
        driver.open(&scratch.path("file"), OpenOptions { create: true, write: true, direct: true }).unwrap();
    let mut buffer = driver.buffer(65_536);
    buffer.len = 65_536;
    driver.submit(Op::Write { file, offset: 0, buffer, durable: true }, token(1));
    driver.submit(Op::Receive { fd }, token(2));
    driver.submit(Op::Send { fd, parts: vec![Bytes::from(pattern(24 << 20, 2))] }, token(3));
    let mut out = Vec::new();
    driver.reap(&mut out);
    drop(driver);
    drop(client);
}

#[test]
fn the_start_line_names_mode_and_kernel() {
    let driver = Bench::new(UringOptions::NODE);
    let line = driver.capabilities().to_string();
    assert!(line.contains(&driver.capabilities().kernel) && line.contains("task run"), "{line}");
}
