//! What a command costs in the store, and how long the longest pause is while a snapshot, a digest or FLUSHALL goes on beside writes.
//!
//! Small parameters unless called with `--bench` (as `cargo bench` does), so that tests run it too. The digest that is printed is a
//! function of the parameters: when it changes, so has what is measured.

use quorate::base::{Body, GROUP_ONE, Instant, NodeId, Origin, Prng, Slot, Stamp, Term};
use quorate::io::clock;
use quorate::resp::{Op, batch};
use quorate::store::{BUCKET_BITS, HashKey, Options, Replies, Store};
use quorate::wire::{Entry, EntryKind};
use std::time::Duration;

/// Commands of an entry.
const BATCH: usize = 64;
/// Bytes that one step of a snapshot or digest may take.
const STEP_BYTES: usize = 64 << 10;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    for (name, keys, entries) in [("1,000 keys, warm", 1_000, 20_000), ("1,000,000 keys", 1_000_000, 50_000)]
    {
        let (keys, entries) = if full { (keys, entries) } else { (keys.min(5_000), 200) };
        let mut store = filled(keys);
        commands(name, &mut store, keys, entries);
        beside_writes(name, &mut store, keys);
        println!("{name}: digest {:?}", store.digest());
    }
}

/// SET and GET of 16-byte keys and 256-byte values, at random.
fn commands(name: &str, store: &mut Store, keys: u64, entries: usize) {
    let mut prng = Prng::from_seed(1);
    let sets = bodies(Op::Set, &mut prng, keys, entries);
    let gets = bodies(Op::Get, &mut prng, keys, entries);
    let per_command = |took: Duration| took.as_nanos() as f64 / (entries * BATCH) as f64;
    let (mut silent, mut replied) = (Duration::ZERO, Duration::ZERO);
    for (index, body) in sets.iter().enumerate() {
        let entry = entry_after(store, body.clone());
        let start = clock::monotonic();
        if index % 2 == 0 {
            store.apply(&entry, None);
            silent += clock::monotonic().since(start);
        } else {
            let mut replies = Replies::default();
            store.apply(&entry, Some(&mut replies));
            replied += clock::monotonic().since(start);
            assert_eq!(replies.bytes.len(), 5 * BATCH);
        }
    }
    println!(
        "{name}: SET {:.0} ns, with its reply {:.0} ns",
        2.0 * per_command(silent),
        2.0 * per_command(replied)
    );
    let mut read = Duration::ZERO;
    for body in &gets {
        let mut replies = Replies::default();
        let start = clock::monotonic();
        store.read(body.bytes(), &mut replies);
        read += clock::monotonic().since(start);
        assert_eq!(replies.ends.len(), BATCH);
    }
    println!("{name}: GET {:.0} ns", per_command(read));
}

/// The longest single step of what goes on beside writes, and of the writes meanwhile.
fn beside_writes(name: &str, store: &mut Store, keys: u64) {
    let mut prng = Prng::from_seed(2);
    let bodies = bodies(Op::Set, &mut prng, keys, 64);
    let mut writes = Longest::default();
    let mut write = |store: &mut Store, round: usize| {
        let entry = entry_after(store, bodies[round % bodies.len()].clone());
        writes.time(|| store.apply(&entry, None));
    };
    let (mut saving, mut bytes, mut round) = (Longest::default(), 0, 0);
    saving.time(|| store.begin_snapshot());
    while !saving.time(|| store.snapshot_step(STEP_BYTES)) {
        write(store, round);
        round += 1;
        bytes += std::iter::from_fn(|| store.snapshot_chunk()).map(|chunk| chunk.len()).sum::<usize>();
    }
    bytes += std::iter::from_fn(|| store.snapshot_chunk()).map(|chunk| chunk.len()).sum::<usize>();
    store.end_snapshot();
    println!("{name}: snapshot of {bytes} B: {saving}; 64 SETs meanwhile: {writes}");
    store.begin_digest();
    let mut digest = Longest::default();
    while digest.time(|| store.digest_step(STEP_BYTES)).is_none() {}
    println!("{name}: digest: {digest}");
    let mut flush = Vec::new();
    batch::write(&mut flush, Op::Flushall, 0, std::iter::empty());
    let entry = entry_after(store, Body::new(flush.into()));
    let mut dropping = Longest::default();
    dropping.time(|| store.apply(&entry, None));
    println!("{name}: FLUSHALL: {dropping}");
    let mut dropping = Longest::default();
    while 0 < dropping.time(|| store.drop_step(1024)) {}
    println!("{name}: dropping what was flushed: {dropping}");
}

#[derive(Default)]
struct Longest {
    longest: Duration,
    sum: Duration,
}

impl Longest {
    fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start: Instant = clock::monotonic();
        let result = work();
        let took = clock::monotonic().since(start);
        self.longest = self.longest.max(took);
        self.sum += took;
        result
    }
}

impl std::fmt::Display for Longest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, longest step {:?}", self.sum, self.longest)
    }
}

fn filled(keys: u64) -> Store {
    let options = Options { group: GROUP_ONE, key: HashKey([3; 16]), bucket_bits: BUCKET_BITS };
    let mut store = Store::new(options);
    for number in 0..keys {
        let mut body = Vec::new();
        let value = [number as u8; 256];
        batch::write(&mut body, Op::Set, 0, [&key(number)[..], &value].into_iter());
        let entry = entry_after(&store, Body::new(body.into()));
        store.apply(&entry, None);
    }
    store
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let digits = number.to_string();
    key[16 - digits.len()..].copy_from_slice(digits.as_bytes());
    key
}

fn bodies(op: Op, prng: &mut Prng, keys: u64, count: usize) -> Vec<Body> {
    let mut body = || {
        let mut bytes = Vec::new();
        for _ in 0..BATCH {
            let (key, value) = (key(prng.below(keys)), [prng.next_u64() as u8; 256]);
            let args = [&key[..], &value];
            batch::write(&mut bytes, op, 0, args.into_iter().take(if op == Op::Get { 1 } else { 2 }));
        }
        Body::new(bytes.into())
    };
    (0..count).map(|_| body()).collect()
}

fn entry_after(store: &Store, body: Body) -> Entry {
    let slot: Slot = store.applied().next();
    Entry {
        term: Term(1),
        slot,
        stamp: Stamp(1),
        kind: EntryKind::Batch,
        origin: Origin { node: NodeId(1), lane: 0, boot: 1 },
        sequence: slot.0,
        floor: slot.0,
        body,
    }
}
