//! What authentication costs a core, and what it costs to hand it to another core: tags of frames, signatures and their checks, each done
//! where it comes up (fused) and by a second thread behind a ring of `base::ring` (separate).
//!
//! `cargo bench --bench authenticators` runs it in full; without `--bench` it runs small, as a test. The hash says that both did the same.

use quorate::base::NodeId;
use quorate::base::ring::ring;
use quorate::crypto::{DirectionKeys, Keyring, Signature, SigningKey};
use std::hint::black_box;
use std::time::Instant;

/// Values that are handed over before the other side is looked at.
const RING: usize = 1024;

/// A piece of work: a number stands for the bytes that it is about.
struct Work {
    keys: Keyring,
    link: DirectionKeys,
    signatures: Vec<Signature>,
    bytes: Vec<u8>,
}

/// How many different messages are signed.
const MESSAGES: usize = 64;

fn message(number: usize) -> [u8; 32] {
    *blake3::hash(&((number % MESSAGES) as u64).to_le_bytes()).as_bytes()
}

impl Work {
    fn new() -> Work {
        let key = SigningKey::from_entropy([3; 32]);
        let keys = Keyring::new(key.clone(), [(NodeId(1), key.public())]);
        let signatures = (0..MESSAGES).map(|number| key.sign(&message(number))).collect();
        Work { keys, link: DirectionKeys::derive(&[7; 32], false), signatures, bytes: vec![5; 16 << 10] }
    }
    /// A tag over a frame of so many bytes.
    fn tag(&self, bytes: usize, number: usize) -> u64 {
        let mut tagger = self.link.tagger();
        tagger.add(&number.to_le_bytes());
        tagger.add(black_box(&self.bytes[..bytes]));
        first(&tagger.tag())
    }
    fn sign(&self, number: usize) -> u64 {
        first(&self.keys.sign(black_box(&message(number))).0)
    }
    fn verify(&self, number: usize) -> u64 {
        let signature = &self.signatures[number % MESSAGES];
        u64::from(self.keys.verify(NodeId(1), black_box(&message(number)), signature))
    }
}

fn first(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("tags and signatures have eight bytes"))
}

/// Does the work where it comes up. Results and nanoseconds of each.
fn fused(count: usize, work: impl Fn(usize) -> u64) -> (u64, f64) {
    let begun = Instant::now();
    let sum = (0..count).fold(0u64, |sum, number| sum.wrapping_add(work(number)));
    (sum, begun.elapsed().as_nanos() as f64 / count as f64)
}

/// Hands each piece to a thread that does it, and takes the result back; both sides take whatever is there at a time.
fn separate(count: usize, work: impl Fn(usize) -> u64 + Send) -> (u64, f64) {
    let (mut ask, mut asked) = ring::<usize>(RING);
    let (mut answer, mut answered) = ring::<u64>(RING);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut done = 0;
            while done < count {
                let Some(number) = asked.pop() else {
                    std::thread::yield_now();
                    continue;
                };
                let result = work(number);
                while answer.push(result).is_err() {
                    std::thread::yield_now();
                }
                done += 1;
            }
        });
        let (begun, mut sum, mut sent, mut got) = (Instant::now(), 0u64, 0, 0);
        while got < count {
            let before = sent + got;
            while sent < count && ask.push(sent).is_ok() {
                sent += 1;
            }
            while let Some(result) = answered.pop() {
                sum = sum.wrapping_add(result);
                got += 1;
            }
            if before == sent + got {
                std::thread::yield_now();
            }
        }
        (sum, begun.elapsed().as_nanos() as f64 / count as f64)
    })
}

fn measure(name: &str, count: usize, rounds: usize, work: impl Fn(usize) -> u64 + Send + Copy) {
    let median = |of: &dyn Fn() -> (u64, f64)| {
        let mut all: Vec<(u64, f64)> = (0..rounds).map(|_| of()).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all[rounds / 2]
    };
    let (one, here) = median(&|| fused(count, work));
    let (other, there) = median(&|| separate(count, work));
    assert_eq!(one, other, "where it is done changes nothing");
    let rate = |nanos: f64| 1e9 / nanos;
    println!(
        "{name:<26} fused {here:>8.0} ns {:>10.0}/s   separate {there:>8.0} ns {:>10.0}/s   {one:016x}",
        rate(here),
        rate(there)
    );
}

fn main() {
    let is_full = std::env::args().any(|argument| argument == "--bench");
    let (scale, rounds) = if is_full { (100, 7) } else { (1, 1) };
    let work = &Work::new();
    for bytes in [64, 1024, 16 << 10] {
        let count = scale * if bytes < 4096 { 2_000 } else { 200 };
        measure(&format!("tag of {bytes} B"), count, rounds, |number| work.tag(bytes, number));
    }
    measure("signature", scale * 50, rounds, |number| work.sign(number));
    measure("check of a signature", scale * 20, rounds, |number| work.verify(number));
}
