//! The proxy between real sockets.

use super::control::ask;
use super::{Detour, Pattern, Relay, RelayOptions, Shape};
use crate::io::driver::{Doorbell, Driver};
use crate::io::{Uring, UringOptions};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A proxy on a thread, between whoever dials and `target`.
struct Proxy {
    listen: String,
    control: String,
    stop: Arc<AtomicBool>,
    bell: Arc<dyn Doorbell>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    fn start(target: &str, shape: &str) -> Proxy {
        let detour = Detour::parse(&format!("2,1=127.0.0.1:0,{target}")).unwrap();
        let shape = Shape::parse(shape).unwrap();
        let shapes = vec![(Pattern::parse("*").unwrap(), shape)];
        let options =
            RelayOptions { detours: vec![detour], shapes, control: Some("127.0.0.1:0".into()), seed: 1 };
        let (tell, told) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut driver = Uring::new(UringOptions { write_buffers: 0, ..UringOptions::NODE }).unwrap();
            let bell = driver.doorbell();
            let mut relay = Relay::new(&mut driver, &options).unwrap();
            tell.send((relay.detours()[0].listen.clone(), relay.control().unwrap(), bell)).unwrap();
            relay.run(&stopped);
        });
        let (listen, control, bell) = told.recv().unwrap();
        Proxy { listen, control, stop, bell, thread: Some(thread) }
    }

    fn set(&self, line: &str) {
        let answer = ask(&self.control, line).unwrap();
        assert!(answer["changed"].as_u64().is_some_and(|count| 0 < count), "{line}: {answer}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.bell.ring();
        let ended = self.thread.take().expect("dropped once").join();
        assert!(std::thread::panicking() || ended.is_ok());
    }
}

/// Sends back what it gets, on every connection.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn dial(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(&proxy.listen).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn round_trip(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    begun.elapsed()
}

/// Whether something arrives within a moment; only for what must not arrive while a link is stalled.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let silent = stream.read(&mut [0; 4]).is_err();
    stream.set_read_timeout(None).unwrap();
    silent
}

#[test]
fn bytes_pass_whole_both_ways_and_the_end_comes_last() {
    let proxy = Proxy::start(&echo(), "latency=2ms,jitter=2ms");
    let mut stream = dial(&proxy);
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ i >> 9) as u8).collect();
    let mut reader = stream.try_clone().unwrap();
    let expected = sent.clone();
    let reading = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).unwrap();
        assert!(got == expected, "what comes back is what was sent");
        reader.read(&mut [0; 1]).unwrap()
    });
    stream.write_all(&sent).unwrap();
    assert!(ask(&proxy.control, "show").unwrap()["links"][0]["bytes"].as_u64().is_some());
    while ask(&proxy.control, "show").unwrap()["links"][1]["bytes"].as_u64() != Some(3_000_000) {
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), 0, "the end arrives");
}

#[test]
fn a_latency_counts_in_each_direction_and_changes_under_way() {
    let proxy = Proxy::start(&echo(), "clear");
    let mut stream = dial(&proxy);
    round_trip(&mut stream);
    proxy.set("set 2>1 latency=30ms");
    assert!(Duration::from_millis(30) <= round_trip(&mut stream));
    proxy.set("set 1>2 latency=40ms");
    assert!(Duration::from_millis(70) <= round_trip(&mut stream));
    let answer = ask(&proxy.control, "show").unwrap();
    assert_eq!(
        (&answer["links"][0]["link"], &answer["links"][0]["shape"]),
        (&json!("2>1"), &json!("latency=30ms"))
    );
    assert_eq!(answer["links"][1]["connections"], json!(1));
}

#[test]
fn a_stalled_direction_holds_everything_and_loses_nothing() {
    let proxy = Proxy::start(&echo(), "clear");
    let mut stream = dial(&proxy);
    round_trip(&mut stream);
    proxy.set("set 1>2 stall");
    stream.write_all(b"ping").unwrap();
    assert!(is_silent(&mut stream), "the answer is held");
    proxy.set("set 1>2 clear");
    stream.read_exact(&mut [0; 4]).unwrap();
    round_trip(&mut stream);
}

#[test]
fn a_cut_link_ends_connections_and_refuses_new_ones_until_it_is_mended() {
    let proxy = Proxy::start(&echo(), "clear");
    let mut stream = dial(&proxy);
    round_trip(&mut stream);
    proxy.set("set *>1 cut");
    assert!(matches!(stream.read(&mut [0; 4]), Ok(0) | Err(_)), "the connection ends");
    let mut refused = dial(&proxy);
    assert!(matches!(refused.read(&mut [0; 4]), Ok(0) | Err(_)), "a new one ends at once");
    proxy.set("set * clear");
    round_trip(&mut dial(&proxy));
}

#[test]
fn nobody_behind_the_port_ends_the_connection() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let proxy = Proxy::start(&closed, "clear");
    assert!(matches!(dial(&proxy).read(&mut [0; 4]), Ok(0) | Err(_)));
}

#[test]
fn nonsense_is_answered_and_a_line_without_end_ends_its_connection() {
    let proxy = Proxy::start(&echo(), "clear");
    let answer = ask(&proxy.control, "set 2>1 wobbly").unwrap();
    assert!(answer["error"].as_str().unwrap().contains("wobbly"));
    assert_eq!(ask(&proxy.control, "set 7>8 stall").unwrap(), json!({"changed": 0}));
    let mut endless = TcpStream::connect(&proxy.control).unwrap();
    endless.write_all(&[b'x'; super::control::LINE_MAX + 1]).unwrap();
    assert!(matches!(endless.read(&mut [0; 4]), Ok(0) | Err(_)));
    assert!(ask(&proxy.control, "show").is_ok(), "others are still heard");
}

#[test]
fn detours_and_patterns_are_read_strictly() {
    let detour = Detour::parse("a,b-2=127.0.0.1:0,/run/x.sock").unwrap();
    assert_eq!(
        (detour.from.as_str(), detour.to.as_str(), detour.target.as_str()),
        ("a", "b-2", "/run/x.sock")
    );
    for text in ["", "a,b", "a,a=x:1,y:2", "a,b=x:1", "a>c,b=x:1,y:2", ",b=x:1,y:2"] {
        assert!(Detour::parse(text).is_err(), "{text}");
    }
    assert!(Pattern::parse("*>*").unwrap().is("1", "2") && Pattern::parse("*").unwrap().is("1", "2"));
    assert!(Pattern::parse("1>*").unwrap().is("1", "9") && !Pattern::parse("*>1").unwrap().is("1", "9"));
    assert!(["", "1", "1>", ">2"].iter().all(|text| Pattern::parse(text).is_err()));
}
