//! Many seeds through the simulated world. `QUORATE_SEED` names the first (the gate takes it from the commit), `QUORATE_SEEDS` how
//! many, `QUORATE_EVENTS` how long each runs. One seed repeats a finding:
//! `QUORATE_SEED=N QUORATE_SEEDS=1 cargo test --profile ci sweep`.

use quorate::sim::World;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn no_property_is_violated_under_random_faults() {
    let first = setting("QUORATE_SEED", 1);
    let (seeds, events) = (setting("QUORATE_SEEDS", 400), setting("QUORATE_EVENTS", 20_000));
    let next = AtomicU64::new(first);
    let bad: Mutex<Vec<u64>> = Mutex::default();
    let sums: Mutex<[u64; 7]> = Mutex::default();
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if first.wrapping_add(seeds) <= seed || 10 <= bad.lock().unwrap().len() {
                return;
            }
            match catch_unwind(|| World::run(seed, events)) {
                Ok(o) => {
                    let one =
                        [o.events, o.committed, o.acknowledged, o.reads, o.installed, o.lives, o.faults];
                    let mut sums = sums.lock().unwrap();
                    sums.iter_mut().zip(one).for_each(|(sum, n)| *sum += n);
                }
                Err(_) => bad.lock().unwrap().push(seed),
            }
        }
    };
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(worker))));
    let [ran, committed, acknowledged, reads, installed, lives, faults] = *sums.lock().unwrap();
    println!(
        "{seeds} seeds from {first}: {ran} events in {:?}; {committed} slots, {acknowledged} writes and {reads} reads \
         answered, {installed} snapshots installed, {lives} lives",
        begun.elapsed()
    );
    let bad = bad.into_inner().unwrap();
    assert!(bad.is_empty(), "seeds {bad:?} fail: repeat with QUORATE_SEED={} QUORATE_SEEDS=1", bad[0]);
    assert_eq!(faults, 0, "an honest node was accused");
    // A sweep that reaches nothing proves nothing.
    if 100 <= seeds && 10_000 <= events {
        let least = [committed, acknowledged, reads, installed, lives].into_iter().min();
        assert!(Some(seeds) < least, "the sweep no longer reaches what it should");
    }
}
