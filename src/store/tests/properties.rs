//! What must hold whatever is asked: equal logs make equal states, through snapshots and without; damage is refused.

use super::support::{OPTIONS, ORIGIN, call, command, entry_after, tick};
use crate::base::{Origin, Prng, Slot, Stamp, Term};
use crate::store::transcript::{render, words};
use crate::store::{Admission, Damage, Replies, Store, inspect};
use crate::wire::hop::SnapshotId;
use crate::wire::{Entry, EntryKind};
use bytes::Bytes;
use std::collections::BTreeSet;

/// A random command on few keys, so that commands meet.
fn random_command(prng: &mut Prng) -> String {
    let key = format!("k{}", prng.below(60));
    let (a, b) = (prng.below(300), prng.below(30));
    match prng.below(20) {
        0..4 => format!("SET {key} {}", "v".repeat(a as usize)),
        4 => format!("SET {key} {a} PX {}", 1 + b * 40),
        5 => format!("APPEND {key} tail"),
        6 => format!("DEL {key} k1"),
        7 => format!("INCRBY {key} {a}"),
        8..13 => format!("HSET h{} f{a} {b} f{b} {a}", b % 4),
        13 => format!("HDEL h{} f{a} f{}", b % 4, a / 2),
        14 => format!("PEXPIRE h{} {}", b % 4, b * 50),
        15 => format!("SETRANGE {key} {b} patch"),
        16 => format!("GETEX {key} PERSIST"),
        17 => format!("MSETNX {key} 1 k{b} 2"),
        18 if a == 0 => "FLUSHALL".to_string(),
        18 => format!("GETDEL {key}"),
        _ => format!("HINCRBY h{} f{b} 7", b % 4),
    }
}

/// A log of batches, with the stamps rising.
fn random_log(seed: u64, entries: usize) -> Vec<Entry> {
    let mut prng = Prng::from_seed(seed);
    let mut stamp = 1_000_000;
    (1..=entries as u64)
        .map(|slot| {
            let mut body = Vec::new();
            for _ in 0..prng.below(6) {
                command(&mut body, 0, &words(&random_command(&mut prng)));
            }
            stamp += prng.below(100);
            let kind = if prng.chance(1, 20) { EntryKind::Empty } else { EntryKind::Batch };
            let lane = prng.below(2) as u8;
            let (term, slot, stamp) = (Term(1), Slot(slot), Stamp(stamp));
            let origin = Origin { lane, ..ORIGIN };
            // Some batches come twice, and some are missing.
            let sequence = slot.0 / 2 + prng.below(3);
            let floor = sequence.saturating_sub(prng.below(2));
            Entry {
                term,
                slot,
                stamp,
                kind,
                origin,
                sequence,
                floor,
                body: crate::base::Body::new(body.into()),
            }
        })
        .collect()
}

fn snapshot_of(store: &mut Store) -> (SnapshotId, Vec<Bytes>) {
    let id = store.begin_snapshot();
    while !store.snapshot_step(500) {}
    let chunks = std::iter::from_fn(|| store.snapshot_chunk()).collect();
    store.end_snapshot();
    (id, chunks)
}

fn restored(id: SnapshotId, chunks: &[Bytes]) -> Store {
    let mut store = Store::new(OPTIONS);
    let mut loading = store.loading(id);
    chunks.iter().for_each(|c| loading.feed(c).expect("undamaged"));
    assert_eq!(store.replace(loading), Ok(true));
    store.check();
    store
}

fn same(one: &mut Store, other: &mut Store) {
    let numbers = |s: &Store| (s.applied(), s.stamp(), s.len(), s.memory(), s.next_deadline());
    assert_eq!(numbers(one), numbers(other));
    assert_eq!(one.sessions(), other.sessions());
    assert_eq!(one.digest(), other.digest());
}

#[test]
fn equal_logs_make_equal_states_whatever_snapshots_came_between() {
    for seed in 0..20 {
        let mut prng = Prng::from_seed(seed ^ 0xABCD);
        let (mut straight, mut winding) = (Store::new(OPTIONS), Store::new(OPTIONS));
        for entry in random_log(seed, 400) {
            // One replica owes replies, the other does not.
            let mut replies = Replies::default();
            let admitted = straight.apply(&entry, Some(&mut replies));
            assert_eq!(winding.apply(&entry, None), admitted);
            if prng.chance(1, 40) {
                let (id, chunks) = snapshot_of(&mut winding);
                winding = restored(id, &chunks);
            }
            if prng.chance(1, 10) {
                if straight.digesting().is_none() {
                    straight.begin_digest();
                }
                straight.digest_step(prng.below(3_000) as usize);
                winding.drop_step(prng.below(50) as usize);
            }
        }
        straight.check();
        same(&mut straight, &mut winding);
        assert!(straight.sessions().len() == 2 && 10 < straight.len());
    }
}

#[test]
fn a_snapshot_taken_while_writes_go_on_is_the_state_at_its_slot() {
    for seed in 0..30 {
        let mut prng = Prng::from_seed(seed ^ 0x51AB);
        let (mut store, mut twin) = (Store::new(OPTIONS), Store::new(OPTIONS));
        let log = random_log(seed, 300);
        let (before, after) = log.split_at(150);
        for entry in before {
            store.apply(entry, None);
            twin.apply(entry, None);
        }
        let id = store.begin_snapshot();
        let mut chunks = Vec::new();
        for (index, entry) in after.iter().enumerate() {
            store.apply(entry, None);
            if index == 30 && seed % 3 == 0 {
                flush(&mut store);
                break;
            }
            store.snapshot_step(prng.below(2_000) as usize);
            chunks.extend(store.snapshot_chunk());
        }
        while !store.snapshot_step(1_000) {
            store.drop_step(1);
        }
        chunks.extend(std::iter::from_fn(|| store.snapshot_chunk()));
        store.end_snapshot();
        store.check();
        same(&mut restored(id, &chunks), &mut twin);
        while 0 < store.drop_step(10) {}
    }
}

fn flush(store: &mut Store) {
    let stamp = store.stamp();
    for _ in 0..2 {
        assert_eq!(call(store, stamp, 0, &words("FLUSHALL")), "+OK");
        assert_eq!(call(store, stamp, 0, &words("SET after flush")), "+OK");
    }
}

#[test]
fn the_digest_depends_on_what_is_stored_and_not_on_how_it_came() {
    let (mut one, mut other) = (Store::new(OPTIONS), Store::new(OPTIONS));
    for i in 0..500 {
        call(&mut one, Stamp(1), 0, &words(&format!("SET key{i} {i}")));
        call(&mut other, Stamp(1), 0, &words(&format!("SET key{} {}", 499 - i, 499 - i)));
    }
    assert_eq!(one.digest(), other.digest());
    call(&mut one, Stamp(1), 0, &words("SET key1 x"));
    call(&mut other, Stamp(1), 0, &words("SET key1 y"));
    assert_ne!(one.digest(), other.digest());
    let before = one.digest();
    tick(&mut one, Stamp(2));
    assert_ne!(one.digest(), before, "the clock decides what is visible");
}

#[test]
fn damaged_snapshots_are_refused_at_every_byte() {
    let mut store = Store::new(OPTIONS);
    for line in ["SET a 1", "SET b 2 PX 99999", "HSET h f v g w", "APPEND c x"] {
        call(&mut store, Stamp(5), 0, &words(line));
    }
    let (id, chunks) = snapshot_of(&mut store);
    let whole = chunks.concat();
    let load = |bytes: &[u8], step: usize| {
        let mut fresh = Store::new(OPTIONS);
        let mut loading = fresh.loading(id);
        bytes.chunks(step).try_for_each(|chunk| loading.feed(chunk))?;
        fresh.replace(loading)
    };
    for step in [1, 7, 4096] {
        assert_eq!(load(&whole, step), Ok(true), "in chunks of any size");
    }
    for at in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            assert!(load(&damaged, 64).is_err(), "byte {at}, bit {bit}");
        }
        assert!(load(&whole[..at], 64).is_err(), "cut at {at}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert_eq!(load(&longer, 64), Err(Damage::Trailing { extra: 1 }));
    let other_key = crate::store::Options { key: crate::store::HashKey([8; 16]), ..OPTIONS };
    let mut loading = Store::new(other_key).loading(id);
    assert_eq!(loading.feed(&whole), Err(Damage::WrongKey));
    let mut loading = store.loading(SnapshotId { slot: Slot(1), ..id });
    assert!(matches!(loading.feed(&whole), Err(Damage::WrongId { .. })));
}

#[test]
fn an_inspection_counts_what_is_there_and_refuses_damage() {
    let mut store = Store::new(OPTIONS);
    for line in ["SET a 1", "SET b 22 PX 9", "HSET h f v g w", "SET c 333 PX 1"] {
        call(&mut store, Stamp(5), 0, &words(line));
    }
    let (id, chunks) = snapshot_of(&mut store);
    let mut heard = Vec::new();
    let summary = inspect::snapshot(&chunks, |bytes| heard.push(bytes)).unwrap();
    assert_eq!(summary.header.map(|h| (h.id, h.bits)), Some((id, OPTIONS.bucket_bits)));
    assert_eq!((summary.strings, summary.hashes, summary.fields), (3, 1, 2));
    assert_eq!((summary.deadlines, summary.expired, summary.value_bytes_max), (2, 0, 3));
    assert_eq!((summary.memory, summary.bytes), (store.memory(), chunks.concat().len() as u64));
    assert_eq!(heard, [summary.bytes]);
    for (id, options, fits) in [
        (id, OPTIONS, true),
        (id, crate::store::Options { bucket_bits: 9, ..OPTIONS }, false),
        (SnapshotId { slot: Slot(1), ..id }, OPTIONS, false),
    ] {
        assert_eq!(inspect::Inspection::of(id, &options).feed(&chunks[0]).is_ok(), fits);
    }
    let mut whole = chunks.concat();
    *whole.last_mut().unwrap() ^= 1;
    assert!(matches!(inspect::snapshot([&whole], |_| {}), Err(Damage::Digest { .. })));
    let cut = whole.len() - 1;
    assert_eq!(inspect::snapshot([&whole[..cut]], |_| {}), Err(Damage::Truncated { at: cut as u64 }));
    assert_eq!(inspect::snapshot([b"an arbitrary file"], |_| {}), Err(Damage::Magic));
}

#[test]
fn any_bytes_are_survived_by_the_loader() {
    let mut store = Store::new(OPTIONS);
    for i in 0..50 {
        call(&mut store, Stamp(5), 0, &words(&format!("HSET h{i} f v g w")));
    }
    let (id, chunks) = snapshot_of(&mut store);
    let whole = chunks.concat();
    let mut prng = Prng::from_seed(11);
    for _ in 0..3_000 {
        let mut damaged = whole.clone();
        for _ in 0..1 + prng.below(4) {
            let at = prng.below(damaged.len() as u64) as usize;
            match prng.below(3) {
                0 => damaged[at] = prng.next_u64() as u8,
                1 => {
                    let end = damaged.len().min(at + prng.below(40) as usize);
                    damaged.drain(at..end);
                }
                _ => damaged.insert(at, 0xFF),
            }
        }
        let mut loading = store.loading(id);
        let fed = damaged.chunks(100).try_for_each(|chunk| loading.feed(chunk));
        assert!(damaged == whole || fed.and_then(|()| Store::new(OPTIONS).replace(loading)).is_err());
    }
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_state() {
    let mut store = Store::new(OPTIONS);
    call(&mut store, Stamp(5), 0, &words("SET a 1"));
    let (id, chunks) = snapshot_of(&mut store);
    call(&mut store, Stamp(6), 0, &words("SET a 2"));
    let mut loading = store.loading(id);
    chunks.iter().for_each(|c| loading.feed(c).unwrap());
    assert_eq!(store.replace(loading), Ok(false));
    assert_eq!(call(&mut store, Stamp(6), 0, &words("GET a")), "\"2\"");
}

#[test]
fn a_batch_that_comes_twice_takes_effect_once() {
    let mut store = Store::new(OPTIONS);
    let mut body = Vec::new();
    command(&mut body, 0, &words("INCR n"));
    command(&mut body, 0, &words("GET n"));
    let mut entry = entry_after(&store, Stamp(1), body);
    let mut replies = Replies::default();
    assert_eq!(store.apply(&entry, Some(&mut replies)), Admission::Applied);
    assert_eq!((&replies.bytes[..], &replies.ends[..]), (&b":1\r\n$1\r\n1\r\n"[..], &[4, 11][..]));
    entry.slot = entry.slot.next();
    let mut again = Replies::default();
    assert_eq!(store.apply(&entry, Some(&mut again)), Admission::Duplicate);
    assert_eq!((again, store.applied()), (Replies::default(), entry.slot));
    assert_eq!(call(&mut store, Stamp(1), 0, &words("GET n")), "\"1\"");
    let (id, chunks) = snapshot_of(&mut store);
    let mut restored = restored(id, &chunks);
    entry.slot = entry.slot.next();
    assert_eq!(restored.apply(&entry, None), Admission::Duplicate, "a snapshot remembers");
}

#[test]
fn writes_among_reads_and_damaged_batches_do_no_harm() {
    let mut store = Store::new(OPTIONS);
    let (mut body, mut replies) = (Vec::new(), Replies::default());
    command(&mut body, 0, &words("SET a 1"));
    command(&mut body, 0, &words("GET a"));
    store.read(&body, &mut replies);
    assert!(replies.bytes.starts_with(b"-ERR command 'SET' writes"));
    assert!(replies.bytes.ends_with(b"$-1\r\n") && replies.ends.len() == 2);
    let mut prng = Prng::from_seed(5);
    for _ in 0..2_000 {
        let mut damaged = Vec::new();
        for _ in 0..4 {
            command(&mut damaged, 0, &words(&random_command(&mut prng)));
        }
        let at = prng.below(damaged.len() as u64) as usize;
        damaged[at] = prng.next_u64() as u8;
        let mut replies = Replies::default();
        let entry = entry_after(&store, Stamp(1), damaged);
        assert_eq!(store.apply(&entry, Some(&mut replies)), Admission::Applied);
        assert_eq!(replies.ends.last().copied().unwrap_or(0) as usize, replies.bytes.len());
    }
    store.check();
}

#[test]
fn expired_keys_are_purged_by_the_log_and_bounded_at_a_time() {
    let mut store = Store::new(OPTIONS);
    for i in 0..300 {
        call(&mut store, Stamp(1), 0, &words(&format!("SET k{i} v PX {}", 10 + i % 7)));
    }
    assert_eq!(store.next_deadline(), Some(Stamp(11)));
    tick(&mut store, Stamp(10));
    assert_eq!(store.len(), 300);
    tick(&mut store, Stamp(100));
    assert_eq!(store.len(), 300 - 64);
    assert_eq!(call(&mut store, Stamp(100), 0, &words("EXISTS k0 k1 k2 k299")), ":0");
    assert_eq!(call(&mut store, Stamp(100), 0, &words("RANDOMKEY")), "nil");
    assert!(store.next_deadline() < Some(Stamp(100)), "an entry is still due");
    (0..4).for_each(|_| tick(&mut store, Stamp(100)));
    assert_eq!((store.len(), store.memory(), store.next_deadline()), (0, 0, None));
    store.check();
}

#[test]
fn a_random_key_is_any_key_alike_few_or_many() {
    // Few keys in many buckets, as many as buckets, and several in each; every eighth cannot be seen.
    for keys in [8, 64, 800] {
        let mut store = Store::new(OPTIONS);
        for i in 0..keys {
            let expiry = if i % 8 == 7 { "PX 10" } else { "PX 1000" };
            call(&mut store, Stamp(1), 0, &words(&format!("SET k{i} v {expiry}")));
        }
        tick(&mut store, Stamp(20));
        let (rounds, visible) = (keys * 100, keys * 7 / 8);
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..rounds {
            *counts.entry(call(&mut store, Stamp(20), 0, &words("RANDOMKEY"))).or_default() += 1;
        }
        assert_eq!(counts.len(), visible, "each comes, and none that is expired");
        let (mean, most, least) =
            (rounds / visible, *counts.values().max().unwrap(), *counts.values().min().unwrap());
        // The chance is of a fixed seed; five deviations of a fair draw lie within these.
        assert!(
            most < mean * 17 / 10 && mean * 4 / 10 < least,
            "{keys} keys: {least} to {most}, on average {mean}"
        );
    }
}

/// Follows a cursor to its end; what was returned.
fn scan_all(
    store: &mut Store,
    call_of: impl Fn(&str) -> String,
    mut between: impl FnMut(&mut Store),
) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_string(), Vec::new());
    loop {
        let (mut body, mut replies) = (Vec::new(), Replies::default());
        command(&mut body, 0, &words(&call_of(&cursor)));
        store.read(&body, &mut replies);
        let (text, _) = render(&replies.bytes).unwrap();
        let (next, rest) = text[2..].split_once("\" [").unwrap();
        found.extend(rest.trim_end_matches("]]").split_whitespace().map(|w| w.trim_matches('"').to_string()));
        if next == "0" {
            return found;
        }
        cursor = next.to_string();
        between(store);
    }
}

#[test]
fn cursors_return_what_was_there_from_first_to_last() {
    let mut prng = Prng::from_seed(2);
    let mut store = Store::new(OPTIONS);
    for i in 0..500 {
        call(&mut store, Stamp(1), 0, &words(&format!("SET stays{i} v")));
        call(&mut store, Stamp(1), 0, &words(&format!("HSET h stays{i} v goes{i} v")));
    }
    let mut churn = |store: &mut Store| {
        for _ in 0..20 {
            let number = prng.below(1_000);
            for line in [format!("SET comes{number} v"), format!("DEL comes{}", prng.below(1_000))] {
                call(store, Stamp(1), 0, &words(&line));
            }
            for line in
                [format!("HSET h comes{number} v"), format!("HDEL h goes{number} comes{}", number / 2)]
            {
                call(store, Stamp(1), 0, &words(&line));
            }
        }
    };
    let expected: BTreeSet<_> = (0..500).map(|i| format!("stays{i}")).collect();
    let keys: BTreeSet<_> =
        scan_all(&mut store, |c| format!("SCAN {c} MATCH stays* COUNT 7"), &mut churn).into_iter().collect();
    assert_eq!(keys, expected);
    let fields: BTreeSet<_> =
        scan_all(&mut store, |c| format!("HSCAN h {c} MATCH stays*"), &mut churn).into_iter().collect();
    assert!(expected.is_subset(&fields) && fields.len() == 501, "the fields, and one value");
}
