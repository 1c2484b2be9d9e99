//! Many seeds through the simulated world. `QUORATE_SEED` names the first (the gate takes it from the commit), `QUORATE_SEEDS` how
//! many, `QUORATE_EVENTS` how long each runs. One seed repeats a finding:
//! `QUORATE_SEED=N QUORATE_SEEDS=1 cargo test --profile ci sweep`, or the command that the failure names.

use quorate::sim::{self, Coverage, Options, Violation};
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
    let bad: Mutex<Vec<(u64, Violation)>> = Mutex::default();
    let sums: Mutex<(u64, u64, Coverage)> = Mutex::default();
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if first.wrapping_add(seeds) <= seed || 10 <= bad.lock().unwrap().len() {
                return;
            }
            match sim::run(seed, &Options::of(events)) {
                Ok(outcome) => {
                    let mut sums = sums.lock().unwrap();
                    sums.0 += outcome.events;
                    sums.1 += outcome.faults;
                    sums.2.add(&outcome.coverage);
                }
                Err(violation) => bad.lock().unwrap().push((seed, violation)),
            }
        }
    };
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(worker))));
    let (ran, faults, coverage) = *sums.lock().unwrap();
    println!("{seeds} seeds from {first}: {ran} events in {:?}", begun.elapsed());
    let bad = bad.into_inner().unwrap();
    let lines = bad.iter().map(|(seed, violation)| format!("\nseed {seed}: {violation}"));
    assert!(bad.is_empty(), "{}", lines.collect::<String>());
    assert_eq!(faults, 0, "an honest node was accused");
    // A sweep that reaches nothing proves nothing.
    if 100 <= seeds && 10_000 <= events {
        let missing: Vec<&str> = coverage.missing().into_iter().map(|reached| reached.name()).collect();
        assert!(missing.is_empty(), "the sweep no longer reaches {missing:?}");
    }
}
