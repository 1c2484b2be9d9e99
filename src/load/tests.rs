//! The generator against a responder of a few lines, and the bare machine as threads.

use super::generator::{Measured, Observer, Phase, generate};
use super::limit::node::{self, NodeOptions, Stop};
use super::plan::{Distribution, Plan};
use super::witness::{Ended, Seen, Witness};
use super::workload::{KEY_PREFIX, Workload};
use crate::io::{Uring, UringOptions};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn plan() -> Plan {
    Plan {
        connections: 4,
        in_flight: 3,
        pipeline: 1,
        value_bytes: 32,
        keys: 100,
        key_prefix: KEY_PREFIX.into(),
        distribution: Distribution::Uniform,
        read_percent: 25,
        rate: None,
        warm_up: Duration::from_millis(50),
        duration: Duration::from_millis(300),
        seed: 1,
        password: None,
        etcd: false,
    }
}

/// What a responder says to a command's name and its number on its connection; `None` closes the connection.
type Answer = Box<dyn Fn(&str, u64) -> Option<Vec<u8>> + Send + Sync>;

/// Serves every connection on a thread of its own, until nobody connects any more. Returns its address.
fn responder(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for number in 0.. {
        let Some(name) = read_command(&mut reader) else { return };
        match answer(&name, number) {
            Some(reply) if stream.write_all(&reply).is_ok() => {}
            _ => return,
        }
    }
}

/// Reads a command; its name.
fn read_command(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| 0 < *count)?;
    let count: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut name = None;
    for _ in 0..count {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let len: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut bytes = vec![0; len + 2];
        reader.read_exact(&mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        name = name.or(Some(text.trim_end().to_string()));
    }
    name
}

fn obey(name: &str) -> Vec<u8> {
    if name == "GET" { b"$5\r\nvalue\r\n".to_vec() } else { b"+OK\r\n".to_vec() }
}

#[derive(Default)]
struct Phases(Vec<Phase>);

impl Observer for Phases {
    fn phase(&mut self, phase: Phase) {
        self.0.push(phase);
    }
    fn progress(&mut self, thousandths: u64, _per_second: u64) {
        assert!(thousandths <= 1000);
    }
}

fn run(plan: &Plan, endpoints: &[String], killed_at: u64) -> Measured {
    let mut driver = Uring::new(UringOptions { write_buffers: 0, ..UringOptions::NODE }).unwrap();
    let mut phases = Phases::default();
    let killed_at = Arc::new(AtomicU64::new(killed_at));
    let measured = generate(&mut driver, plan, endpoints, killed_at, &mut phases, None).unwrap();
    assert_eq!(phases.0, [Phase::WarmUp, Phase::Measure, Phase::Drain, Phase::Done]);
    measured
}

#[test]
fn a_closed_loop_keeps_its_window_and_counts_every_answer() {
    let measured = run(&plan(), &[responder(Box::new(|name, _| Some(obey(name))))], 0);
    assert!(0 < measured.ok);
    assert_eq!((measured.errors, measured.indeterminate, measured.lost), (0, 0, 0));
    let recorded = measured.recorder.total().len();
    // What was sent in the measured time and what was answered in it differ by what is in flight at its two ends.
    assert!(recorded.abs_diff(measured.ok) <= 2 * 4 * 3, "{recorded} {}", measured.ok);
    assert_eq!(measured.recorder.ticks().len(), 3);
    assert!(measured.recovery.is_none());
}

#[test]
fn an_open_loop_charges_a_stalled_server_for_all_that_fell_due() {
    // One connection with a window of one: each command behind the stall waits, and its wait counts from when it was due.
    let stall = Duration::from_millis(200);
    let stalled = AtomicU64::new(0);
    let answer: Answer = Box::new(move |name, number| {
        if number == 150 && stalled.fetch_add(1, Ordering::Relaxed) == 0 {
            std::thread::sleep(stall);
        }
        Some(obey(name))
    });
    let rate = 1000;
    let plan = Plan {
        connections: 1,
        in_flight: 1,
        pipeline: 1,
        rate: Some(rate),
        read_percent: 0,
        warm_up: Duration::ZERO,
        ..plan()
    };
    let plan = Plan { duration: Duration::from_millis(800), ..plan };
    let measured = run(&plan, &[responder(answer)], 0);
    let total = measured.recorder.total();
    assert_eq!(total.len(), 800, "every command of the schedule is sent and counted");
    // A closed loop would have seen one slow command; the schedule says that about half of the stalled ones waited half of it.
    let slow = total.count_between(stall.as_nanos() as u64 / 2, u64::MAX);
    assert!(90 <= slow, "{slow} of {} waited", total.len());
}

#[test]
fn errors_are_told_apart_and_are_no_latencies() {
    let answer: Answer = Box::new(|_, number| {
        Some(match number % 4 {
            0 => b"-ERR no\r\n".to_vec(),
            1 => b"-INDETERMINATE who knows\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        })
    });
    let measured = run(&Plan { read_percent: 0, ..plan() }, &[responder(answer)], 0);
    assert!(0 < measured.errors && 0 < measured.indeterminate && 0 < measured.ok);
    assert_eq!(
        measured.texts.keys().map(String::as_str).collect::<Vec<_>>(),
        ["ERR no", "INDETERMINATE who knows"]
    );
    assert!(measured.errors.abs_diff(measured.indeterminate) <= 2 * 12);
}

#[test]
fn a_lost_connection_goes_to_the_next_endpoint_and_recovery_is_timed() {
    let seen = Arc::new(Mutex::new(0u64));
    let count = seen.clone();
    // The first breaks off; the second stays. Commands that were cut off may or may not have happened.
    let breaks = responder(Box::new(|name, number| (number < 20).then(|| obey(name))));
    let stays = responder(Box::new(move |name, _| {
        *count.lock().unwrap() += 1;
        Some(obey(name))
    }));
    let plan = Plan { connections: 1, warm_up: Duration::ZERO, read_percent: 0, ..plan() };
    let measured = run(&plan, &[breaks, stays], 1);
    assert_eq!(measured.lost, 1);
    assert!(0 < measured.indeterminate && measured.indeterminate <= 3);
    assert!(0 < *seen.lock().unwrap());
    assert!(measured.recovery.is_some());
}

/// What a witness heard.
#[derive(Default)]
struct Heard {
    ended: HashMap<Ended, u64>,
    reads: HashSet<Option<Vec<u8>>>,
}

impl Witness for Heard {
    fn ended(&mut self, operation: &Seen<'_>) {
        assert!(operation.start <= operation.end && operation.key.starts_with(KEY_PREFIX));
        assert!(operation.wrote.is_none() || operation.read.is_none());
        *self.ended.entry(operation.ended).or_default() += 1;
        if operation.wrote.is_none() && operation.ended == Ended::Done {
            self.reads.insert(operation.read.map(<[u8]>::to_vec));
        }
    }
}

#[test]
fn a_witness_hears_of_every_command_however_it_ends() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let answer: Answer = Box::new(move |name, number| {
        count.fetch_add(1, Ordering::Relaxed);
        match number % 50 {
            7 => Some(b"-CLUSTERDOWN no leader\r\n".to_vec()),
            8 => Some(b"-INDETERMINATE who knows\r\n".to_vec()),
            9 if name == "GET" => Some(b"$-1\r\n".to_vec()),
            _ => (number < 200).then(|| obey(name)),
        }
    });
    let mut heard = Heard::default();
    let mut driver = Uring::new(UringOptions { write_buffers: 0, ..UringOptions::NODE }).unwrap();
    let endpoints = [responder(answer)];
    let mut phases = Phases::default();
    let measured =
        generate(&mut driver, &plan(), &endpoints, Arc::default(), &mut phases, Some(&mut heard)).unwrap();
    let count = |ended| heard.ended.get(&ended).copied().unwrap_or(0);
    assert!(0 < measured.lost && 0 < count(Ended::Refused) && measured.lost <= count(Ended::Unknown));
    // Of what broke off with a connection the server has seen only the first command.
    let most = asked.load(Ordering::Relaxed) + measured.lost * 2;
    let all = heard.ended.values().sum::<u64>();
    assert!(asked.load(Ordering::Relaxed) <= all && all <= most, "{all} of at most {most}");
    assert_eq!(
        heard.reads,
        HashSet::from([None, Some(b"value".to_vec())]),
        "no write of ours has that value"
    );
    assert!(!measured.touched.is_empty() && measured.touched.is_sorted());
}

#[test]
fn after_a_load_every_key_is_read_back_through_whoever_answers() {
    let refused = Arc::new(AtomicU64::new(0));
    let answer: Answer = Box::new(move |name, _| {
        assert_eq!(name, "GET");
        let first = refused.fetch_add(1, Ordering::Relaxed) < 3;
        Some(if first { b"-CLUSTERDOWN no leader\r\n".to_vec() } else { obey(name) })
    });
    let mut heard = Heard::default();
    let endpoints = ["/nonexistent/socket".to_string(), responder(answer)];
    super::readback::read_back(&plan(), &endpoints, &[3, 5, 7, 9], &mut heard).unwrap();
    assert_eq!(heard.ended, HashMap::from([(Ended::Done, 4)]));
}

#[test]
fn a_password_goes_first_and_a_refused_one_ends_the_bench() {
    let answer = |right: bool| -> Answer {
        Box::new(move |name, number| {
            assert_eq!(name == "AUTH", number == 0);
            Some(if name == "AUTH" && !right { b"-WRONGPASS no\r\n".to_vec() } else { obey(name) })
        })
    };
    let plan = Plan { password: Some("secret".into()), ..plan() };
    assert!(0 < run(&plan, &[responder(answer(true))], 0).ok);
    let mut driver = Uring::new(UringOptions::NODE).unwrap();
    let refused = generate(
        &mut driver,
        &plan,
        &[responder(answer(false))],
        Arc::default(),
        &mut Phases::default(),
        None,
    );
    assert!(refused.err().unwrap().to_string().contains("WRONGPASS"));
}

#[test]
fn nobody_there_is_an_error_with_an_exit_code() {
    let mut driver = Uring::new(UringOptions::NODE).unwrap();
    let endpoints = ["/nonexistent/socket".to_string()];
    let error = generate(&mut driver, &plan(), &endpoints, Arc::default(), &mut Phases::default(), None)
        .err()
        .unwrap();
    assert_eq!(super::LoadError::from(error).exit_code(), 3);
}

/// A process of the bare machine as a thread.
struct Thread {
    address: String,
    stop: Stop,
    thread: std::thread::JoinHandle<()>,
}

fn bare(followers: &[&Thread], dir: Option<&std::path::Path>, command_bytes: usize) -> Thread {
    let (tell, told) = channel();
    let options = NodeOptions {
        listen: "127.0.0.1:0".into(),
        followers: followers.iter().map(|follower| follower.address.clone()).collect(),
        file: dir.map(|dir| dir.join(format!("bare-{}-{}", followers.len(), command_bytes))),
        command_bytes,
    };
    let thread = std::thread::spawn(move || {
        let announce = move |address: &str, stop: Stop| tell.send((address.to_string(), stop)).unwrap();
        node::run(options, announce).unwrap();
    });
    let (address, stop) = told.recv().unwrap();
    Thread { address, stop, thread }
}

#[test]
fn the_bare_machine_answers_every_command_once() {
    let place = super::place::Place::choose(None, true).unwrap();
    for dir in [None, Some(place.path())] {
        let plan = Plan { read_percent: 0, value_bytes: 3000, in_flight: 64, ..plan() };
        let command_bytes = Workload::new(&plan, 0).write_bytes();
        let followers = [bare(&[], dir, command_bytes), bare(&[], None, command_bytes)];
        let leader = bare(&[&followers[0], &followers[1]], dir, command_bytes);
        let measured = run(&plan, std::slice::from_ref(&leader.address), 0);
        assert!(0 < measured.ok);
        assert_eq!((measured.errors, measured.indeterminate, measured.lost), (0, 0, 0));
        for node in [leader].into_iter().chain(followers) {
            node.stop.stop();
            node.thread.join().unwrap();
        }
    }
}

#[test]
fn a_question_who_leads_goes_from_node_to_node() {
    let says = |role: &'static str| {
        responder(Box::new(move |name, _| {
            assert_eq!(name, "INFO");
            let text = format!("# Replication\r\nrole:{role}\r\n");
            Some(format!("${}\r\n{text}\r\n", text.len()).into_bytes())
        }))
    };
    let refuses = responder(Box::new(|_, _| Some(b"-LOADING wait\r\n".to_vec())));
    let endpoints = [refuses.clone(), says("slave"), says("master")];
    assert_eq!(super::ask::leader(&endpoints, None), Ok(2));
    let nobody = super::ask::leader(&endpoints[..2], None).unwrap_err();
    assert!(nobody.contains("role:slave"), "{nobody}");
    assert!(super::ask::leader(&[refuses], None).unwrap_err().contains("LOADING"));
}

#[test]
fn a_node_that_ends_before_it_is_ready_is_reported_with_its_last_lines() {
    use std::os::unix::fs::PermissionsExt;
    let place = super::place::Place::choose(None, true).unwrap();
    let program = place.path().join("node.sh");
    let layout = r#"{"nodes":[{"id":1,"config":"/nowhere/node-1.toml","client":"127.0.0.1:1","peer":"127.0.0.1:2","admin":"127.0.0.1:3"}]}"#;
    let script = format!(
        "#!/bin/sh\nif [ $1 = init ]; then echo '{layout}'; else echo 'the disk is gone' >&2; exit 6; fi\n"
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let options = super::local::ClusterOptions {
        program,
        dir: place.path().to_path_buf(),
        nodes: 1,
        durability: "none".into(),
        spin: false,
        set: Vec::new(),
        wan: None,
        native: false,
        attack: None,
        variant: 1,
    };
    let error = super::local::Cluster::start(&options).err().unwrap();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert_eq!(error.exit_code(), 5);
}
