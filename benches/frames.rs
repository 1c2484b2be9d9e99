//! What a frame costs: sealing on one side, opening on the other, a nanosecond figure each and a hash of what came out.
//!
//! `cargo bench --bench frames` runs it in full; without `--bench` it runs small, as a test.

use bytes::Bytes;
use quorate::base::{Body, GroupId, NodeId, Slot, Term};
use quorate::crypto::DirectionKeys;
use quorate::wire::codec::Heads;
use quorate::wire::frame::Lane;
use quorate::wire::opener::Opener;
use quorate::wire::sealer::Sealer;
use quorate::wire::{Entry, EntryKind, Message, raft};
use std::hint::black_box;
use std::time::Instant;

fn append(entries: usize, bytes: usize) -> Message {
    let entry = |slot: usize| Entry {
        term: Term(3),
        slot: Slot(slot as u64),
        kind: EntryKind::Batch,
        sequence: slot as u64,
        body: Body::new(vec![slot as u8; bytes].into()),
        ..Entry::default()
    };
    raft::Message::Append {
        term: Term(3),
        prev_slot: Slot(0),
        prev_term: Term(3),
        commit: Slot(0),
        entries: (1..=entries).map(entry).collect(),
        round: 1,
    }
    .into()
}

/// Nanoseconds of the median of `rounds`.
fn median(mut rounds: Vec<u64>) -> u64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn measure(name: &str, message: &Message, messages: usize, encrypt: bool, rounds: usize) {
    let keys = || DirectionKeys::derive(&[7; 32], encrypt);
    let (mut sealer, mut opener) = (Sealer::new(NodeId(1), keys()), Opener::new(NodeId(1), keys()));
    let (mut sealing, mut opening, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hash, mut size) = (blake3::Hasher::new(), 0);
    for _ in 0..rounds {
        let begun = Instant::now();
        for _ in 0..messages {
            sealer.push(Lane::Bulk, GroupId(1), black_box(message)).expect("it fits");
        }
        let sealed = sealer.seal(Lane::Bulk);
        sealing.push(begun.elapsed().as_nanos() as u64);
        size = sealed.bytes;
        // As the receiver does: into aligned memory.
        let mut frame = Heads::with_capacity(sealed.bytes);
        sealed.parts.iter().for_each(|part| frame.extend_from_slice(part));
        let frame = Bytes::from_owner(frame);
        let begun = Instant::now();
        opener.open(black_box(frame), &mut out).expect("it is authentic");
        opening.push(begun.elapsed().as_nanos() as u64);
        assert_eq!(out.len(), messages);
        out.drain(..).for_each(|opened| {
            hash.update(&opened.group.0.to_le_bytes());
        });
    }
    let (seal, open) = (median(sealing), median(opening));
    let hash = hash.finalize().to_hex();
    println!("{name:<44} {size:>9} B   seal {seal:>9} ns   open {open:>9} ns   {}", &hash[..8]);
}

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 2_000 } else { 20 };
    let vote = raft::Message::VoteReply { term: Term(3), granted: true, pre: false }.into();
    for encrypt in [false, true] {
        let mode = if encrypt { "encrypted" } else { "authentic" };
        let measure = |name: &str, message: &Message, messages: usize| {
            measure(&format!("{name}, {mode}"), message, messages, encrypt, rounds);
        };
        measure("1 vote", &vote, 1);
        measure("100 votes", &vote, 100);
        measure("append of 1 x 256 B", &append(1, 256), 1);
        measure("append of 1 x 16 KiB", &append(1, 16 << 10), 1);
        measure("append of 100 x 64 B", &append(100, 64), 1);
        measure("append of 100 x 1 KiB", &append(100, 1 << 10), 1);
        measure("append of 100 x 16 KiB", &append(100, 16 << 10), 1);
    }
}
