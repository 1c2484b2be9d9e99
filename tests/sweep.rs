//! Many seeds through the simulated world. `QUORATE_SEED` names the first (the gate takes it from the commit), `QUORATE_SEEDS` how
//! many, `QUORATE_EVENTS` how long each runs. Every finding names the command that repeats it.
//!
//! - `seeds.txt`: every seed that ever found something, with its cause
//! - `transcripts.txt`: hashes of some runs as they were recorded; `QUORATE_REWRITE=1` records them anew, which is right only when the
//!   protocol or the simulator was meant to change

use clap::Parser;
use quorate::cli::sim::SimArgs;
use quorate::sim::sweep::{Finding, Sweep, Tally, sweep};
#[cfg(feature = "canaries")]
use quorate::sim::violation;
use quorate::sim::{self, Coverage, Level, Options, ProtocolName, Reached};
use std::path::{Path, PathBuf};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn file(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (path, text)
}

fn describe(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("\n{}\n  {}", f.violation, f.command())).collect()
}

fn missing(coverage: &Coverage) -> Vec<&'static str> {
    coverage.missing(Level::One, ProtocolName::Raft).into_iter().map(Reached::name).collect()
}

#[test]
fn no_property_is_violated_under_random_faults() {
    let first = setting("QUORATE_SEED", 1);
    let (count, events) = (setting("QUORATE_SEEDS", 400), setting("QUORATE_EVENTS", 20_000));
    let begun = std::time::Instant::now();
    let (goes_on, done) = (|| true, |_: &Tally| ());
    let tally = sweep(&Sweep {
        seeds: first..first.saturating_add(count),
        options: Options::of(events),
        run: &sim::run,
        jobs: 2,
        findings_max: 10,
        goes_on: &goes_on,
        done: &done,
    });
    println!("{count} seeds from {first}: {} events in {:?}", tally.events, begun.elapsed());
    assert!(tally.findings.is_empty(), "{}", describe(&tally.findings));
    // A sweep that reaches nothing proves nothing.
    if 100 <= count && 10_000 <= events {
        let missing = missing(&tally.coverage);
        assert!(missing.is_empty(), "the sweep no longer reaches {missing:?}");
    }
}

/// A line of `seeds.txt` is the command that the finding named.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SimArgs,
}

#[test]
fn no_seed_that_ever_found_something_finds_it_again() {
    let (path, text) = file("seeds.txt");
    let mut ran = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (command, cause) = line.split_once(" # ").unwrap_or_else(|| panic!("no cause: {line}"));
        assert!(!cause.trim().is_empty(), "no cause: {line}");
        let words = command.split_whitespace().skip_while(|word| *word != "sim");
        let Line { args } = Line::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        for seed in args.range() {
            if let Err(violation) = sim::run(seed, &args.options()) {
                panic!("{cause}: again {violation}\n  {command}");
            }
            ran += 1;
        }
    }
    assert!(0 < ran, "{} holds no seed", path.display());
}

/// What `transcripts.txt` should say, if the runs happen on threads of their own.
fn transcripts() -> String {
    let runs: Vec<_> = (1..=8_u64)
        .map(|seed| std::thread::spawn(move || sim::run(seed, &Options::of(2_000)).expect("all holds")))
        .collect();
    let outcomes = runs.into_iter().map(|run| run.join().expect("a run does not panic"));
    (1..).zip(outcomes).map(|(seed, outcome)| format!("{seed} {:016x}\n", outcome.transcript)).collect()
}

#[test]
fn a_seed_has_one_transcript_on_every_thread_and_every_machine() {
    let (path, recorded) = file("transcripts.txt");
    let now = transcripts();
    assert_eq!(now, transcripts(), "two runs of a seed differ");
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let cure = "if the protocol or the simulator was meant to change, record them with QUORATE_REWRITE=1";
    assert_eq!(recorded, now, "runs are not what was recorded; {cure}");
}

/// A violation ends the process that its run is in; the command goes on, with a new one, and loses no word of it.
#[cfg(feature = "canaries")]
#[test]
fn the_command_outlives_runs_that_end_their_processes() {
    use quorate::base::canary::Canary;
    for (bug, property) in
        [(Canary::VoteBeforeDurable, "promises"), (Canary::NextBelowMatch, violation::ASSERTION)]
    {
        let args = format!("-o json sim --seeds 1..30 --events 4000 --jobs 2 --canary {}", bug.name());
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_quorate")).args(args.split(' ')).output();
        let out = out.expect("quorate runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(7), "{said}");
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON value");
        let failures = report["failures"].as_array().expect("a list");
        assert!(!failures.is_empty() && failures.len() as u64 == report["violations"], "{report}");
        for failure in failures {
            assert_eq!(failure["property"], property, "{failure}");
            // The same as in this process, to the last word.
            let options = Options { canary: Some(bug), ..Options::of(4000) };
            let seed = failure["seed"].as_u64().expect("a number");
            let violation = sim::run(seed, &options).expect_err("it is a function of its seed");
            assert_eq!(failure["message"], violation.message);
            assert_eq!(failure["events"], violation.events);
        }
    }
}
