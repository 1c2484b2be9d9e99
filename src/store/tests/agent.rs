//! The agent between its rings.

use super::support::{OPTIONS, ORIGIN, command};
use crate::base::ring::{Consumer, Producer, ring};
use crate::base::{Body, GROUP_ONE, Instant, NodeId, Origin, Slot, Stamp, Term};
use crate::io::driver::Doorbell;
use crate::store::transcript::words;
use crate::store::{Options, Ports, Store, StoreAgent, Told, Triggers, inspect};
use crate::wire::hop::{Answer, Decided, Digested, Keep, Load, SnapshotId};
use crate::wire::{Entry, EntryKind};
use std::sync::Arc;

struct Mute;
impl Doorbell for Mute {
    fn ring(&self) {}
}

struct Bench {
    agent: StoreAgent,
    told: Told,
    decided: Producer<Decided>,
    loads: Producer<Load>,
    answers: Consumer<Answer>,
    keeps: Consumer<Keep>,
    digests: Consumer<Digested>,
    now: Instant,
}

fn bench(triggers: Triggers, capacity: usize) -> Bench {
    bench_of(OPTIONS, triggers, capacity)
}

fn bench_of(options: Options, triggers: Triggers, capacity: usize) -> Bench {
    let told = Told::default();
    let (decided, from_replica) = ring(1024);
    let (loads, from_keeper) = ring(16);
    let (to_reply, answers) = ring(capacity);
    let (to_keeper, keeps) = ring(capacity);
    let (to_replica, digests) = ring(capacity);
    let ports = Ports {
        decided: from_replica,
        loads: from_keeper,
        answers: to_reply,
        digests: to_replica,
        keeps: to_keeper,
        keeper: Arc::new(Mute),
        vouching: None,
    };
    let agent = StoreAgent::new(Store::new(options), ORIGIN, ports, told.clone(), triggers);
    Bench { agent, told, decided, loads, answers, digests, keeps, now: Instant::ZERO }
}

const NEVER: Triggers = Triggers { entries: u64::MAX, bytes: u64::MAX, ahead: 0 };

fn entry(slot: u64, origin: Origin, sequence: u64, line: &str) -> Entry {
    let mut body = Vec::new();
    command(&mut body, 0, &words(line));
    let (kind, body) = (EntryKind::Batch, Body::new(body.into()));
    let (term, slot, stamp) = (Term(1), Slot(slot), Stamp(slot * 10));
    Entry { term, slot, stamp, kind, origin, sequence, floor: sequence, body }
}

impl Bench {
    fn commit(&mut self, entry: Entry) {
        self.decided.push(Decided::Commit { group: GROUP_ONE, entry, at: self.now }).unwrap();
    }
    fn read(&mut self, id: u64, slot: u64, line: &str) {
        let mut body = Vec::new();
        command(&mut body, 0, &words(line));
        let (slot, body) = (Slot(slot), body.into());
        self.decided.push(Decided::Read { group: GROUP_ONE, id, slot, body }).unwrap();
    }
    /// Turns until nothing is done, and takes all answers.
    fn run(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            self.now.0 += 1;
            let done = self.agent.turn(self.now);
            let before = answers.len();
            answers.extend(std::iter::from_fn(|| self.answers.pop()).map(|mut answer| {
                if let Answer::Write { made, .. } = &mut answer {
                    assert_eq!(std::mem::take(made), self.now);
                }
                answer
            }));
            if done == 0 && before == answers.len() {
                self.agent.store().check();
                return answers;
            }
        }
    }
    fn load(&mut self, id: SnapshotId, chunks: &[bytes::Bytes]) -> Vec<Answer> {
        self.loads.push(Load::Begin(id)).unwrap();
        for chunk in chunks {
            self.loads.push(Load::Chunk(chunk.clone())).unwrap();
        }
        self.loads.push(Load::End).unwrap();
        self.run()
    }
}

fn written(sequence: u64, replies: &'static str) -> Answer {
    Answer::Write { sequence, replies: replies.into(), ends: vec![replies.len() as u32], made: Instant::ZERO }
}
fn read(id: u64, replies: &'static str) -> Answer {
    Answer::Read { id, replies: replies.into(), ends: vec![replies.len() as u32] }
}

/// A snapshot of a store to which `count` batches of `origin` were applied.
fn snapshot(origin: Origin, count: u64) -> (SnapshotId, Vec<bytes::Bytes>) {
    let mut store = Store::new(OPTIONS);
    for slot in 1..=count {
        store.apply(&entry(slot, origin, slot, "INCR n"), None);
    }
    let id = store.begin_snapshot();
    while !store.snapshot_step(1 << 20) {}
    (id, std::iter::from_fn(|| store.snapshot_chunk()).collect())
}

#[test]
fn own_batches_are_answered_and_reads_wait_for_their_slot_and_for_those_before() {
    let mut bench = bench(NEVER, 64);
    let other = Origin { node: NodeId(2), ..ORIGIN };
    bench.commit(entry(1, other, 1, "SET k theirs"));
    bench.read(1, 1, "GET k");
    bench.read(2, 2, "GET k");
    bench.read(3, 1, "GET k");
    assert_eq!(bench.run(), [read(1, "$6\r\ntheirs\r\n")]);
    bench.commit(entry(2, ORIGIN, 1, "SET k ours"));
    bench.commit(entry(3, ORIGIN, 1, "SET k again"));
    let expected = [written(1, "+OK\r\n"), read(2, "$4\r\nours\r\n"), read(3, "$4\r\nours\r\n")];
    assert_eq!(bench.run(), expected, "a duplicate is not answered twice");
    let told = &bench.told;
    assert_eq!(
        (told.applied.get(), told.settled.get(), told.keys.get(), told.due.get()),
        (3, 1, 1, u64::MAX)
    );
    assert_eq!(told.memory.get(), bench.agent.store().memory());
}

#[test]
fn a_full_ring_of_answers_stops_the_intake_and_loses_nothing() {
    let mut bench = bench(NEVER, 4);
    for sequence in 1..=50 {
        bench.commit(entry(sequence, ORIGIN, sequence, "INCR n"));
        bench.read(sequence, sequence, "GET n");
    }
    assert_eq!(bench.agent.turn(Instant(1)), 4);
    assert_eq!(bench.agent.turn(Instant(2)), 0);
    assert!(bench.agent.next_turn() < Some(Instant(100_000_000)), "it looks again by itself");
    let answers = bench.run();
    let writes: Vec<_> = answers
        .iter()
        .filter_map(|a| if let Answer::Write { sequence, .. } = a { Some(*sequence) } else { None })
        .collect();
    assert_eq!(writes, (1..=50).collect::<Vec<_>>());
    assert_eq!(answers.len(), 100);
}

#[test]
fn long_replies_are_made_in_turns_of_bounded_length() {
    let mut bench = bench(NEVER, 1024);
    bench.commit(entry(1, ORIGIN, 1, &format!("SET long {}", "v".repeat(1 << 20))));
    (1..=20).for_each(|id| bench.read(id, 1, "GET long"));
    let (mut turns, mut answers) = (0, 0);
    while answers < 21 {
        bench.now.0 += 1;
        bench.agent.turn(bench.now);
        let made = std::iter::from_fn(|| bench.answers.pop()).count();
        assert!((1..=3).contains(&made), "{made} answers of a megabyte in one turn");
        (turns, answers) = (turns + 1, answers + made);
    }
    assert!(10 <= turns);
}

#[test]
fn a_gap_waits_for_a_load_which_answers_for_what_it_swallowed() {
    let mut bench = bench(NEVER, 64);
    bench.commit(entry(1, ORIGIN, 1, "INCR n"));
    bench.commit(entry(8, ORIGIN, 8, "INCR n"));
    bench.read(1, 7, "GET n");
    assert_eq!(bench.run(), [written(1, ":1\r\n")]);
    let (id, chunks) = snapshot(ORIGIN, 7);
    let expected = [Answer::Superseded { sequence: 7 }, written(8, ":8\r\n"), read(1, "$1\r\n8\r\n")];
    assert_eq!(bench.load(id, &chunks), expected);
    assert_eq!((bench.told.applied.get(), bench.told.settled.get()), (8, 8));
    // An older one changes nothing, and what it holds is not applied again.
    assert_eq!(bench.load(id, &chunks), []);
    bench.commit(entry(5, ORIGIN, 5, "INCR n"));
    bench.commit(entry(9, ORIGIN, 9, "INCR n"));
    assert_eq!(bench.run(), [written(9, ":9\r\n")]);
}

#[test]
fn a_damaged_load_is_told_and_leaves_the_state_alone() {
    let mut bench = bench(NEVER, 64);
    bench.commit(entry(1, ORIGIN, 1, "INCR n"));
    bench.run();
    let (id, chunks) = snapshot(ORIGIN, 7);
    let mut bytes = chunks.concat();
    bytes[20] ^= 1;
    assert_eq!(bench.load(id, &[bytes.into()]), []);
    assert_eq!((bench.told.damaged.get(), bench.told.applied.get()), (1, 1));
    assert_eq!(bench.load(id, &chunks), [Answer::Superseded { sequence: 7 }]);
    assert_eq!((bench.told.damaged.get(), bench.told.applied.get()), (0, 7));
}

#[test]
fn snapshots_are_made_when_due_however_slowly_they_are_taken() {
    let mut bench = bench(Triggers { entries: 100, bytes: u64::MAX, ahead: 0 }, 1);
    let (mut chunks, mut ids, mut whole) = (Vec::new(), Vec::new(), 0);
    let value = "v".repeat(5_000);
    for slot in 1..=1_000 {
        bench.commit(entry(slot, ORIGIN, slot, &format!("SET k{} {value}", slot % 300)));
        bench.now.0 += 1;
        bench.agent.turn(bench.now);
        while bench.answers.pop().is_some() {}
        match bench.keeps.pop() {
            Some(Keep::Begin(id)) => {
                assert!(chunks.is_empty());
                ids.push(id.slot.0);
            }
            Some(Keep::Chunk(chunk)) => chunks.push(chunk),
            Some(Keep::End) => {
                let summary = inspect::snapshot(&chunks, |_| {}).unwrap();
                assert_eq!(summary.header.unwrap().id.slot.0, *ids.last().unwrap());
                assert_eq!(summary.strings, 300.min(*ids.last().unwrap()));
                chunks.clear();
                whole += 1;
            }
            _ => {}
        }
    }
    assert_eq!(ids[0], 100);
    assert!(5 <= whole, "{whole} of {ids:?}");
}

#[test]
fn nodes_take_turns_at_their_snapshots() {
    let slots = |ahead| {
        let mut bench = bench(Triggers { entries: 100, bytes: u64::MAX, ahead }, 1024);
        let mut begun = Vec::new();
        for slot in 1..=350 {
            bench.commit(entry(slot, ORIGIN, slot, "SET k v"));
            bench.run();
            while bench.answers.pop().is_some() {}
            begun.extend(std::iter::from_fn(|| bench.keeps.pop()).filter_map(|keep| match keep {
                Keep::Begin(id) => Some(id.slot.0),
                _ => None,
            }));
        }
        begun
    };
    assert_eq!(slots(0), [100, 200, 300]);
    assert_eq!(slots(400), [60, 160, 260]);
    assert_eq!(slots(800), [20, 120, 220, 320]);
}

#[test]
fn the_digest_is_told_when_nothing_was_written_for_a_while() {
    let mut bench = bench(NEVER, 64);
    bench.commit(entry(1, ORIGIN, 1, "SET a 1"));
    bench.run();
    assert_eq!(bench.told.digest_slot.get(), 0);
    let due = bench.agent.next_turn().unwrap();
    bench.now = due;
    bench.run();
    assert_eq!((bench.told.digest_slot.get(), bench.agent.next_turn()), (1, None));
    let mut twin = Store::new(OPTIONS);
    twin.apply(&entry(1, ORIGIN, 1, "SET a 1"), None);
    assert_eq!(bench.told.digest.get().to_be_bytes(), twin.digest().0[..8]);
}

#[test]
fn a_digest_is_of_the_state_after_its_slot_whatever_is_decided_behind_it() {
    let mut bench = bench(NEVER, 64);
    let mut alone = Store::new(OPTIONS);
    for slot in 1..=4 {
        let next = entry(slot, ORIGIN, slot, "INCR n");
        bench.commit(next.clone());
        if slot <= 2 {
            alone.apply(&next, None);
        }
        if slot == 2 {
            let digest = Decided::Digest { group: GROUP_ONE, slot: Slot(2), keep: true };
            bench.decided.push(digest).unwrap();
        }
    }
    bench.run();
    let digest = alone.digest();
    assert_eq!(bench.digests.pop(), Some(Digested { group: GROUP_ONE, slot: Slot(2), digest }));
    assert_eq!(bench.agent.store().applied(), Slot(4));
    let Some(Keep::Begin(id)) = bench.keeps.pop() else { panic!("a snapshot was wanted") };
    assert_eq!(id.slot, Slot(2), "of the state whose digest is told");
}

#[test]
fn a_snapshot_that_the_keeper_wants_is_made_though_none_is_due_unless_the_core_says_when() {
    for (triggers, made) in [(Triggers { entries: 1_000, bytes: 1 << 30, ahead: 0 }, 1), (NEVER, 0)] {
        let mut bench = bench(triggers, 1024);
        bench.commit(entry(1, ORIGIN, 1, "SET a 1"));
        bench.run();
        assert!(bench.keeps.pop().is_none());
        bench.loads.push(Load::Wanted).unwrap();
        bench.run();
        let begun = std::iter::from_fn(|| bench.keeps.pop())
            .filter(|keep| matches!(keep, Keep::Begin(id) if id.slot == Slot(1)));
        assert_eq!(begun.count(), made);
    }
}

#[test]
fn a_large_digest_is_made_by_and_by_unless_the_next_is_asked_for() {
    for pressed in [false, true] {
        let mut bench = bench_of(Options { bucket_bits: 12, ..OPTIONS }, NEVER, 1024);
        for slot in 1..=1000 {
            bench.commit(entry(slot, ORIGIN, slot, &format!("SET key{slot} v")));
            if slot % 100 == 0 {
                bench.run();
            }
        }
        let ask = |bench: &mut Bench, slot: u64| {
            let digest = Decided::Digest { group: GROUP_ONE, slot: Slot(slot), keep: false };
            bench.decided.push(digest).unwrap();
            bench.run();
        };
        ask(&mut bench, 1000);
        assert!(bench.digests.pop().is_none(), "not at once");
        if pressed {
            bench.commit(entry(1001, ORIGIN, 1001, "SET another v"));
            ask(&mut bench, 1001);
        } else {
            let mut turns = 0;
            while bench.agent.store().digesting().is_some() {
                bench.now = bench.agent.next_turn().expect("it goes on by itself");
                bench.run();
                turns += 1;
            }
            assert!(100 < turns, "{turns}");
        }
        assert_eq!(bench.digests.pop().map(|told| told.slot), Some(Slot(1000)));
    }
}
