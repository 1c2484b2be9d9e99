//! Level 2 of the simulated world: whole nodes. A fixed sample: `QUORATE_FULL_SEED` names another first seed, `QUORATE_FULL_SEEDS` how
//! many, `QUORATE_FULL_EVENTS` how long each runs. `QUORATE_FULL_SEEDS=1 QUORATE_FULL_SEED=N cargo test --profile ci --test main -- full`
//! repeats a finding.

use quorate::base::Prng;
use quorate::sim::full::{Outcome, Swarm, World};
use quorate::sim::violation::{Violation, catch};
use quorate::sim::{Coverage, Level, Options, ProtocolName, Reached};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// What runs came to, and what they found, by seed.
type Runs = (Vec<(u64, Outcome)>, Vec<(u64, Violation)>);

/// Runs seeds on two threads.
fn sweep(seeds: Range<u64>, run: impl Fn(u64) -> Outcome + Sync) -> Runs {
    let next = AtomicU64::new(seeds.start);
    let (outcomes, found): (Mutex<Vec<_>>, Mutex<Vec<_>>) = Default::default();
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) || 5 <= found.lock().unwrap().len() {
                return;
            }
            match catch(|| run(seed)) {
                Ok(outcome) => outcomes.lock().unwrap().push((seed, outcome)),
                Err(violation) => found.lock().unwrap().push((seed, violation)),
            }
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(worker))));
    (outcomes.into_inner().unwrap(), found.into_inner().unwrap())
}

fn describe(found: &[(u64, Violation)]) -> String {
    found.iter().map(|(seed, violation)| format!("\nseed {seed}: {violation}")).collect()
}

/// How many samples may be run until one has met with everything: how rare a thing is moves with the code.
const SAMPLES_MAX: u64 = 4;

/// Runs a sample of seeds, which must break no promise and meet with everything that can happen but what is `rare`: else it proves
/// nothing, and another one follows.
fn keeps_every_promise(protocol: ProtocolName, seeds: u64, rare: &[Reached]) {
    let (first, count) = (setting("QUORATE_FULL_SEED", 1), setting("QUORATE_FULL_SEEDS", seeds));
    let events = setting("QUORATE_FULL_EVENTS", 6_000);
    let options = Options { protocol, level: Level::Two, ..Options::of(events) };
    let run = |seed| World::run_swarm(seed, Swarm::of(seed, &options), events);
    let (mut coverage, mut never) = (Coverage::default(), Vec::new());
    for sample in 0..SAMPLES_MAX {
        let from = first.saturating_add(sample * count);
        let (outcomes, found) = sweep(from..from.saturating_add(count), run);
        assert!(found.is_empty(), "{}", describe(&found));
        let sum = |what: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| what(outcome)).sum::<u64>();
        println!("{count} seeds from {from}: {} events", sum(|o| o.events));
        outcomes.iter().for_each(|(_, outcome)| coverage.add(&outcome.coverage));
        let missing = coverage.missing(Level::Two, protocol).into_iter();
        never = missing.filter(|what| !rare.contains(what)).map(Reached::name).collect();
        // A shorter run repeats a finding, and need not meet with all.
        if never.is_empty() || count < seeds || events < 6_000 {
            return;
        }
    }
    panic!("the samples no longer reach {never:?}");
}

#[test]
fn whole_nodes_keep_every_promise_under_random_faults() {
    keeps_every_promise(ProtocolName::Raft, 200, &[]);
}

#[test]
fn whole_nodes_of_pbft_keep_every_promise_under_random_faults_and_lies() {
    // Most groups have no node to spare whose disk may rot beside the liars.
    keeps_every_promise(ProtocolName::Pbft, 120, &[Reached::Unreadable, Reached::Misdirected]);
}

/// A device that acknowledges syncs and does not do them takes every promise away but one: nobody panics.
#[test]
fn nodes_on_lying_devices_may_forget_but_do_not_panic() {
    let run = |seed| {
        let mut swarm = Swarm::draw(&mut Prng::from_seed(seed));
        (swarm.lying_disks, swarm.crash, swarm.power_of_ten) = (1, 200, 10);
        World::run_swarm(seed, swarm, 4_000)
    };
    let (outcomes, found) = sweep(1..41, run);
    assert!(found.is_empty(), "{}", describe(&found));
    assert!(outcomes.iter().any(|(_, outcome)| outcome.lied == 1), "no device lied");
}

#[test]
fn a_run_of_whole_nodes_is_a_function_of_its_seed() {
    let transcript = |seed| {
        let run = move || World::run(seed, 3_000);
        let (here, there) = (run(), std::thread::spawn(run).join().unwrap());
        assert_eq!(here, there, "two runs of seed {seed} differ");
        here.transcript
    };
    let now = RECORDED.map(|(seed, _)| (seed, transcript(seed)));
    assert_eq!(
        now, RECORDED,
        "it differs from the record: right only if node or simulator were meant to change"
    );
}

/// Hashes of transcripts, as they were recorded.
const RECORDED: [(u64, u64); 2] = [(1, 7360499067516581631), (2, 15897494367045633523)];
