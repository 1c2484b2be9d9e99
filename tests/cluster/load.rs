//! Load whose every answer is written down and held against what a store may answer: a lost write, a stale read, an increment that
//! counts twice has no place in a linearizable history.
//!
//! The clients are those of the harness, and share nothing with the program but the checker.

use super::harness::{Client, Cluster, Reply, await_some};
use quorate::base::Prng;
use quorate::config::limits::NODES_MAX;
use quorate::sim::history::{
    self, Limits, Model, Outcome, Pen, Record, Recorder, Told, Verb, Verdict, formats,
};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients a node.
const CLIENTS: usize = 2;
/// Keys that are in use at a time: few enough that clients meet on them.
const KEYS: u64 = 40;
/// Operations after which other keys are used: a short history a key is soon checked.
const OPERATIONS: u64 = 800;
/// Bytes that pad a value.
const PADDING: usize = 200;
/// Between two commands of a client, so that a small machine has time for its nodes.
const PAUSE: Duration = Duration::from_millis(1);
/// Until a history is undecided.
const CHECK_WITHIN: Duration = Duration::from_secs(120);

/// A write that was acknowledged: when it was asked, and when it was answered.
#[derive(Clone, Copy)]
struct Written {
    asked: Instant,
    answered: Instant,
}

/// What all clients share.
struct Shared {
    begun: Instant,
    stop: AtomicBool,
    operations: AtomicU64,
    written: Mutex<Vec<Written>>,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    recorder: Recorder,
    history: Shelf,
    clients: Vec<JoinHandle<()>>,
    /// Who takes it, and where.
    places: Vec<(usize, String)>,
}

/// A history in memory.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<u8>>>);

impl Write for Shelf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics in it").write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Load {
    /// Each client begins at a node of its own; when that goes away it goes on with the next.
    pub fn start(cluster: &Cluster) -> Load {
        Load::through(cluster, (1..=cluster.clients.len()).collect())
    }

    /// The same through some nodes only.
    pub fn through(cluster: &Cluster, nodes: Vec<usize>) -> Load {
        Load::at(nodes.iter().map(|node| (*node, cluster.clients[node - 1].clone())).collect())
    }

    /// The same through some nodes, or native clients, that are there.
    pub fn at(places: Vec<(usize, String)>) -> Load {
        let addresses: Vec<String> = places.iter().map(|(_, address)| address.clone()).collect();
        let history = Shelf::default();
        let recorder = Recorder::new(history.clone(), Some(Model::Any)).expect("memory takes everything");
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            written: Mutex::new(Vec::new()),
        });
        let spawn = |number: usize| {
            let worker = Worker {
                number: number as u64,
                addresses: addresses.clone(),
                node: number % addresses.len(),
                client: None,
                random: Prng::from_seed(number as u64),
                writes: 0,
                pen: recorder.pen(),
                shared: shared.clone(),
            };
            std::thread::spawn(move || worker.run())
        };
        let clients = (0..CLIENTS * addresses.len()).map(spawn).collect();
        Load { shared, recorder, history, clients, places }
    }

    /// Waits until so many further writes are acknowledged.
    pub fn await_more(&self, more: usize) {
        let goal = self.acknowledged() + more;
        await_some(
            || (goal <= self.acknowledged()).then_some(()),
            || format!("{goal} writes are acknowledged, so far {}", self.acknowledged()),
        );
    }

    fn acknowledged(&self) -> usize {
        self.shared.written.lock().expect("nobody panics in it").len()
    }

    /// A fault begins now.
    pub fn fault(&self, name: &str) -> Fault<'_> {
        Fault { load: self, name: name.to_string(), since: Instant::now() }
    }

    /// Ends the load, reads every key through everybody who took it and runs, and checks the history of all of it.
    pub fn finish(self, cluster: &Cluster) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("a client that ends"));
        let begun = self.shared.begun;
        let epochs = self.shared.operations.load(Ordering::Relaxed) / OPERATIONS;
        let keys: Vec<String> =
            (0..=epochs).flat_map(|epoch| (0..KEYS).map(move |key| name(epoch, key))).collect();
        let running = cluster.running();
        let is_there = |id: &usize| NODES_MAX < *id || running.contains(id);
        for (id, address) in self.places.iter().filter(|(id, _)| is_there(id)) {
            read_all((*id, address), &keys, begun, self.recorder.pen());
        }
        self.recorder.finish().expect("memory takes everything");
        judge(&self.history.0.lock().expect("nobody panics in it"));
    }
}

/// A fault, from its beginning to the recovery.
pub struct Fault<'a> {
    load: &'a Load,
    name: String,
    since: Instant,
}

impl Fault<'_> {
    /// Only from now on a majority is there: the time before does not count as recovery.
    pub fn majority_is_back(&mut self) {
        self.since = Instant::now();
    }

    /// Waits until so many writes are acknowledged that were asked since, and prints the line of the fault: how long at most no such
    /// write was acknowledged. (When the first one was would say less: a partition takes a moment to be made, and lets some pass.)
    pub fn recovered(self, writes: usize) {
        let since = || -> Vec<Written> {
            let written = self.load.shared.written.lock().expect("nobody panics in it");
            written.iter().filter(|write| self.since <= write.asked).copied().collect()
        };
        let done = || Some(since()).filter(|done| writes <= done.len());
        let done =
            await_some(done, || format!("{}: {writes} writes after it, so far {}", self.name, since().len()));
        let mut answered: Vec<Instant> = done.iter().map(|write| write.answered).collect();
        answered.sort_unstable();
        let gaps = answered.windows(2).map(|pair| pair[1] - pair[0]);
        let pause = gaps.chain([answered[0] - self.since]).max().expect("one at least");
        println!("fault | {:<64} | {:>6.0} ms |", self.name, pause.as_secs_f64() * 1e3);
    }
}

struct Worker {
    number: u64,
    addresses: Vec<String>,
    node: usize,
    client: Option<Client>,
    random: Prng,
    writes: u64,
    pen: Pen,
    shared: Arc<Shared>,
}

fn name(epoch: u64, key: u64) -> String {
    // Every fourth counts.
    let kind = if key.is_multiple_of(4) { "counter" } else { "register" };
    format!("{kind}:{epoch}:{key}")
}

impl Worker {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE);
            if self.client.is_none() {
                self.client = Client::connect(&self.addresses[self.node]).ok();
                self.node = (self.node + 1) % self.addresses.len();
                continue;
            }
            let epoch = self.shared.operations.fetch_add(1, Ordering::Relaxed) / OPERATIONS;
            let key = self.random.below(KEYS);
            self.operate(&name(epoch, key), key.is_multiple_of(4));
        }
    }

    /// Asks one thing and writes down what was answered.
    fn operate(&mut self, key: &str, counts: bool) {
        let is_read = self.random.chance(1, 2);
        self.writes += 1;
        let value = format!("{}-{} {}", self.number, self.writes, "x".repeat(PADDING));
        let (verb, words) = match (is_read, counts) {
            (true, _) => (Verb::Read, vec!["GET", key]),
            (false, true) => (Verb::Add, vec!["INCR", key]),
            (false, false) => (Verb::Write, vec!["SET", key, &value]),
        };
        let asked = Instant::now();
        let client = self.client.as_mut().expect("checked by `run`");
        let reply = client.command(&words);
        let answered = Instant::now();
        let (outcome, result) = match &reply {
            Ok(Reply::Error(text)) => (refused_or_unknown(text), None),
            Ok(Reply::Bulk(Some(value))) => (Outcome::Ok, Some(Told::Text(value))),
            Ok(Reply::Bulk(None)) => (Outcome::Ok, Some(Told::Nil)),
            Ok(Reply::Integer(sum)) => (Outcome::Ok, Some(Told::Integer(*sum))),
            Ok(Reply::Simple(_)) => (Outcome::Ok, None),
            Ok(Reply::Array(_)) => panic!("{words:?} is answered with {reply:?}"),
            Err(_) => (Outcome::Unknown, None),
        };
        let args = match verb {
            Verb::Add => vec![Told::Integer(1)],
            Verb::Write => vec![Told::Text(value.as_bytes())],
            _ => vec![],
        };
        let nanos = |at: Instant| (at - self.shared.begun).as_nanos() as u64;
        let (start, end) = (nanos(asked), nanos(answered));
        let key = key.as_bytes();
        self.pen.record(&Record { client: self.number, key, verb, args: &args, outcome, result, start, end });
        if outcome == Outcome::Ok && !is_read {
            self.shared.written.lock().expect("nobody panics in it").push(Written { asked, answered });
        }
        if reply.is_err() {
            self.client = None;
        }
    }
}

/// An error says that nothing happened, or that nobody knows; no other error may come.
fn refused_or_unknown(text: &str) -> Outcome {
    let refusals = ["CLUSTERDOWN", "LOADING", "TRYAGAIN", "OVERLOADED"];
    match text.split(' ').next().unwrap_or_default() {
        "INDETERMINATE" => Outcome::Unknown,
        word => {
            assert!(refusals.contains(&word), "unexpected error {text:?}");
            Outcome::Fail
        }
    }
}

/// Reads all keys through one of those who take load, asking again what was refused.
fn read_all((id, address): (usize, &str), keys: &[String], begun: Instant, mut pen: Pen) {
    for chunk in keys.chunks(200) {
        let read = || {
            let mut client = Client::connect(address).ok()?;
            let start = begun.elapsed().as_nanos() as u64;
            chunk.iter().try_for_each(|key| client.send(&["GET", key])).ok()?;
            let replies: Vec<Reply> = chunk.iter().map(|_| client.reply()).collect::<Result<_, _>>().ok()?;
            let bulk = replies.iter().all(|reply| matches!(reply, Reply::Bulk(_)));
            bulk.then(|| (start, begun.elapsed().as_nanos() as u64, replies))
        };
        let (start, end, replies) = await_some(read, || format!("{id} reads"));
        for (key, reply) in chunk.iter().zip(&replies) {
            let result = match reply {
                Reply::Bulk(Some(value)) => Told::Text(value),
                _ => Told::Nil,
            };
            pen.record(&Record {
                client: 1_000 + id as u64,
                key: key.as_bytes(),
                verb: Verb::Read,
                args: &[],
                outcome: Outcome::Ok,
                result: Some(result),
                start,
                end,
            });
        }
    }
}

/// Ends a check that takes too long; that is then no proof of anything.
struct Bounded(Instant);

impl Limits for Bounded {
    fn go_on(&mut self, _steps: u64, _passed: f64) -> bool {
        self.0.elapsed() < CHECK_WITHIN
    }
    fn memory(&self) -> usize {
        1 << 30
    }
}

fn judge(bytes: &[u8]) {
    let (history, _) = formats::read(bytes, None, &mut |_| ()).expect("what was recorded is read again");
    let report = history::check(&history, None, &mut Bounded(Instant::now())).expect("verbs of the model");
    if report.verdict != Verdict::Linearizable {
        let kept = std::env::temp_dir().join(format!("quorate-test-history-{}.jsonl", std::process::id()));
        let saved = std::fs::write(&kept, bytes);
        panic!("{}; see {} ({saved:?}): {:?}", report.verdict.name(), kept.display(), report.offences);
    }
    let (operations, keys, unknown) = (history.operations.len(), history.keys.len(), history.unknown());
    println!(
        "history | linearizable: {operations} operations on {keys} keys, {unknown} with unknown outcome"
    );
}
