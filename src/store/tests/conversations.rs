//! Every command's replies, against conversations in text (`src/store/transcripts`).

use super::support::{OPTIONS, call, tick};
use crate::base::Stamp;
use crate::resp::batch::FLAG_RESP3;
use crate::store::Store;
use crate::store::transcript::{Line, parse};

/// The conversations' beginning: some day in 2026.
const BEGINNING: u64 = 1_795_000_000_000;

fn check(text: &str) {
    let fresh = || Store::new(OPTIONS);
    let (mut store, mut flags, mut clock) = (fresh(), 0, Stamp(BEGINNING));
    tick(&mut store, clock);
    for line in parse(text) {
        match line {
            Line::Reset => {
                store.check();
                store = fresh();
                tick(&mut store, clock);
            }
            Line::Resp3(on) => flags = if on { FLAG_RESP3 } else { 0 },
            Line::Clock(millis) => {
                clock = Stamp(BEGINNING + millis);
                tick(&mut store, clock);
            }
            Line::Call(words, expected) => {
                let shown: Vec<_> = words.iter().map(|w| String::from_utf8_lossy(w)).collect();
                assert_eq!(call(&mut store, clock, flags, &words), expected, "{}", shown.join(" "));
            }
        }
    }
    store.check();
}

#[test]
fn strings() {
    check(include_str!("../transcripts/strings.txt"));
}

#[test]
fn keys() {
    check(include_str!("../transcripts/keys.txt"));
}

#[test]
fn hashes() {
    check(include_str!("../transcripts/hashes.txt"));
}

#[test]
fn conditional_set_by_value() {
    check(include_str!("../transcripts/valkey.txt"));
}

#[test]
fn expiry() {
    check(include_str!("../transcripts/expiry.txt"));
}
