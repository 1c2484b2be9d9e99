//! Many seeds, on all cores. A run is a function of its seed, so which thread runs it changes nothing.

use super::options::Options;
use super::violation::Violation;
use super::{Coverage, Outcome};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A seed whose run violates a property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// What its run was asked to be.
    pub options: Options,
    /// What does not hold.
    pub violation: Violation,
}

impl Finding {
    /// The command that repeats it.
    pub fn command(&self) -> String {
        self.options.command(self.seed)
    }
}

/// What runs came to, together.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Runs that ended, well or not.
    pub seeds: u64,
    /// Events of all runs.
    pub events: u64,
    /// Time that passed in all worlds.
    pub simulated: Duration,
    /// What happened along the way.
    pub coverage: Coverage,
    /// The seed that ended last.
    pub newest: u64,
    /// What does not hold; after the sweep, by seed.
    pub findings: Vec<Finding>,
}

/// Carries one run out: [`super::run`], or the same elsewhere.
pub type Run<'a> = &'a (dyn Fn(u64, &Options) -> Result<Outcome, Violation> + Sync);

/// Which seeds, how, and for how long.
pub struct Sweep<'a> {
    /// These.
    pub seeds: Range<u64>,
    /// Each run is asked to be this.
    pub options: Options,
    /// By this.
    pub run: Run<'a>,
    /// Threads.
    pub jobs: usize,
    /// No more is begun after so many findings.
    pub findings_max: usize,
    /// Asked before each run: whether to go on.
    pub goes_on: &'a (dyn Fn() -> bool + Sync),
    /// Told after each run what all have come to.
    pub done: &'a (dyn Fn(&Tally) + Sync),
}

/// Runs all seeds. Findings come in the order of seeds.
pub fn sweep(sweep: &Sweep<'_>) -> Tally {
    let (next, enough) = (AtomicU64::new(sweep.seeds.start), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let worker = || {
        while !enough.load(Ordering::Relaxed) && (sweep.goes_on)() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if sweep.seeds.end <= seed {
                return;
            }
            let result = (sweep.run)(seed, &sweep.options);
            let mut tally = tally.lock().expect("nothing panics while it is held");
            tally.add(seed, &sweep.options, result);
            enough.store(sweep.findings_max <= tally.findings.len(), Ordering::Relaxed);
            (sweep.done)(&tally);
        }
    };
    std::thread::scope(|scope| {
        (0..sweep.jobs.max(1)).for_each(|_| drop(scope.spawn(worker)));
    });
    let mut tally = tally.into_inner().expect("nothing panics while it is held");
    tally.findings.sort_unstable_by_key(|finding| finding.seed);
    tally
}

impl Tally {
    fn add(&mut self, seed: u64, options: &Options, result: Result<Outcome, Violation>) {
        self.seeds += 1;
        self.newest = seed;
        match result {
            Ok(outcome) => {
                self.events += outcome.events;
                self.simulated += outcome.simulated;
                self.coverage.add(&outcome.coverage);
            }
            Err(violation) => {
                self.events += violation.events;
                self.findings.push(Finding { seed, options: *options, violation });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_threads_there_are_changes_nothing() {
        let tally = |jobs| {
            let options = Options::of(500);
            let (goes_on, done) = (|| true, |_: &Tally| ());
            sweep(&Sweep {
                seeds: 5..11,
                options,
                run: &crate::sim::run,
                jobs,
                findings_max: 1,
                goes_on: &goes_on,
                done: &done,
            })
        };
        let (one, three) = (tally(1), tally(3));
        assert_eq!((one.seeds, one.events, one.simulated), (6, three.events, three.simulated));
        assert_eq!((one.coverage, one.findings.len()), (three.coverage, 0));
    }
}
