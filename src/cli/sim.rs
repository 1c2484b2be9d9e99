//! `quorate sim`: many seeds through the simulated world, on all cores; one of them as a transcript; a failing one made smaller.

use super::exit::{Exit, Failure};
use super::output::{Output, columns, put};
use super::sim_runs::Runs;
use crate::base::canary::Canary;
use crate::sim::sweep::Run;
use crate::sim::sweep::{self, Finding, Sweep, Tally};
use crate::sim::{self, Fault, Faults, Level, Options, ProtocolName, Reached, Violation, shrink, violation};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::ops::Range;
use std::time::{Duration, Instant};

/// No more runs are begun after so many findings.
const FINDINGS_MAX: usize = 10;

/// So many seeds should meet with everything that a sweep can meet with.
const SEEDS_THAT_REACH_ALL: u64 = 100;

/// What is run.
#[derive(Args, Debug)]
pub struct SimArgs {
    /// What the nodes run
    #[arg(long, value_enum, default_value_t)]
    protocol: ProtocolName,
    /// How much of a node is real
    #[arg(long, value_enum, default_value_t)]
    level: Level,
    /// The seeds from A up to, not including, B
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..100")]
    seeds: Range<u64>,
    /// One seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Events under faults, before everything is healed
    #[arg(long, default_value_t = 20_000)]
    events: u64,
    /// What may go wrong: all, none, or names with commas between them
    #[arg(long, value_name = "LIST", value_parser = Faults::parse, default_value = "all")]
    faults: Faults,
    /// Nodes of the cluster [default: the seed decides]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=Options::NODES_MAX as u64))]
    nodes: Option<u64>,
    /// Seeds are numbers of stories of twins: PBFT replicas of which as many as may be faulty sit there twice, cut off from each other
    /// in turns
    #[arg(long)]
    twins: bool,
    /// Threads [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Stop after so many seconds, with whatever seeds were done by then
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Make what fails as small as can be: fewer events, faults and nodes
    #[arg(long)]
    shrink: bool,
    /// Print what happens, one line an input and an effect
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Put this bug in: something must be found
    #[arg(long, value_name = "NAME", value_parser = canary)]
    canary: Option<Canary>,
    /// Print the names of the bugs that can be put in
    #[arg(long)]
    list_canaries: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let (first, end) = text.split_once("..").ok_or("seeds are written A..B")?;
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err(format!("no seed lies in {text}")) } else { Ok(range) }
}

fn canary(name: &str) -> Result<Canary, String> {
    Canary::named(name)
        .ok_or_else(|| format!("there is no canary {name:?}; --list-canaries prints their names"))
}

impl SimArgs {
    /// What each run is asked to be.
    pub fn options(&self) -> Options {
        Options {
            protocol: self.protocol,
            level: self.level,
            events: self.events,
            faults: self.faults,
            nodes: self.nodes.map(|nodes| nodes as usize),
            twins: self.twins,
            canary: self.canary,
        }
    }
    /// Which seeds are run.
    pub fn range(&self) -> Range<u64> {
        self.seed.map_or(self.seeds.clone(), |seed| seed..seed + 1)
    }
}

/// Runs the command.
pub fn run(args: &SimArgs, output: Output) -> Result<(), Failure> {
    if args.list_canaries {
        list(output);
        return Ok(());
    }
    may_run(args.canary, cfg!(feature = "canaries"))?;
    if args.twins && (args.protocol != ProtocolName::Pbft || args.level != Level::One || args.trace) {
        let why = "twins are replicas of PBFT at level 1, and have no trace: --protocol pbft --twins";
        return Err(Failure::new(Exit::Usage, why));
    }
    happens(args)?;
    if args.trace { trace(args, output) } else { sweep(args, output) }
}

/// A fault that was named and cannot happen would make a run look clean.
fn happens(args: &SimArgs) -> Result<(), Failure> {
    let is_named = args.faults != Faults::ALL;
    let stranger = args.faults.iter().find(|fault| is_named && !fault.happens_at(args.level));
    stranger.map_or(Ok(()), |fault| {
        let (name, known) = (fault.name(), Fault::ALL.iter().filter(|f| f.happens_at(args.level)));
        let known = known.map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
        let message = format!("--faults: {name} does not happen at this level; what does is {known}");
        Err(Failure::new(Exit::Usage, message))
    })
}

/// Whether a build runs this bug: only one that has canaries can.
fn may_run(canary: Option<Canary>, has_canaries: bool) -> Result<(), Failure> {
    match canary {
        Some(bug) if !has_canaries => {
            let cure = "build with `--features canaries` to run one";
            Err(Failure::new(Exit::Usage, format!("{}: this build has no canaries; {cure}", bug.name())))
        }
        _ => Ok(()),
    }
}

fn list(output: Output) {
    output.print(
        || {
            let row = |bug: &Canary| {
                vec![bug.name().to_owned(), bug.description().to_owned(), bug.source().to_owned()]
            };
            columns(&Canary::ALL.iter().map(row).collect::<Vec<_>>())
        },
        || {
            let entry = |bug: &Canary| {
                json!({"name": bug.name(), "description": bug.description(), "source": bug.source()})
            };
            Value::Array(Canary::ALL.iter().map(entry).collect())
        },
    );
}

fn trace(args: &SimArgs, output: Output) -> Result<(), Failure> {
    let (seed, options) = (args.range().start, args.options());
    let violated = move |violation: &Violation| {
        put(&format!("violation of {violation}"));
        Failure::new(Exit::CheckFailed, format!("seed {seed}: {} does not hold", violation.property))
    };
    violation::last_words(Box::new(move |violation| {
        let failure = violated(violation);
        super::report(output, &failure);
        std::process::exit(failure.exit as i32);
    }));
    let outcome = sim::run_traced(seed, &options, put).map_err(|violation| violated(&violation))?;
    put(&format!("all held: {} events, transcript {:016x}", outcome.events, outcome.transcript));
    Ok(())
}

fn sweep(args: &SimArgs, output: Output) -> Result<(), Failure> {
    let (seeds, options) = (args.range(), args.options());
    let runs = Runs::new()?;
    let run: Run<'_> = &|seed, options| runs.run(seed, options);
    let begun = Instant::now();
    let bar = bar(seeds.end - seeds.start);
    let done = |tally: &Tally| {
        bar.set_position(tally.seeds);
        bar.set_message(format!("{} events, {} violations", tally.events, tally.findings.len()));
        if let Some(finding) = tally.findings.last().filter(|last| last.seed == tally.newest) {
            bar.suspend(|| eprintln!("{}", line(finding)));
        }
    };
    let time = args.time.map(Duration::from_secs);
    let goes_on = || time.is_none_or(|time| begun.elapsed() < time);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, |jobs| jobs as usize);
    let findings_max = FINDINGS_MAX;
    let tally =
        sweep::sweep(&Sweep { seeds, options, run, jobs, findings_max, goes_on: &goes_on, done: &done });
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let smallest = if args.shrink { tally.findings.first().map(|first| smaller(first, run)) } else { None };
    output.print(
        || to_text(&tally, &options, jobs, seconds, smallest.as_ref()),
        || to_json(&tally, &options, jobs, seconds, smallest.as_ref()),
    );
    match tally.findings.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::CheckFailed,
            format!("{count} of {} seeds violate a property", tally.seeds),
        )),
    }
}

/// Makes the first finding smaller, which takes some hundred runs.
fn smaller(finding: &Finding, run: Run<'_>) -> Finding {
    let bar = bar(shrink::TRIES_MAX as u64);
    let smallest = shrink::shrink(finding, run, |best| {
        bar.inc(1);
        bar.set_message(format!("{} events", best.options.events));
    });
    bar.finish_and_clear();
    smallest
}

fn bar(length: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  {elapsed}");
    ProgressBar::with_draw_target(Some(length), target).with_style(style.expect("the template is a constant"))
}

/// A finding for people: what does not hold, and how to see it again.
fn line(finding: &Finding) -> String {
    let Finding { seed, violation, .. } = finding;
    let first = violation.message.lines().next().unwrap_or_default();
    format!(
        "seed {seed}: {} after {} events: {first}\n  {}",
        violation.property,
        violation.events,
        finding.command()
    )
}

fn to_text(
    tally: &Tally,
    options: &Options,
    jobs: usize,
    seconds: f64,
    smallest: Option<&Finding>,
) -> String {
    let Tally { seeds, events, simulated, findings, .. } = tally;
    let rate = *events as f64 / seconds;
    let hours = simulated.as_secs_f64() / 3600.0;
    let mut text = format!(
        "{seeds} seeds of {} events and their healing: {events} events in {seconds:.1} s on {jobs} threads, {rate:.0} events/s, \
         {hours:.2} simulated hours; {} violations\n",
        options.events,
        findings.len()
    );
    for finding in findings {
        text += &format!("{}\n", line(finding));
    }
    if let Some(smallest) = smallest {
        text += &format!("smallest:\n{}\n", line(smallest));
    }
    // A few runs need not meet with everything.
    if *seeds < SEEDS_THAT_REACH_ALL || options.twins {
        return text;
    }
    let missing = tally.coverage.missing(options.level, options.protocol);
    let missing: Vec<&str> = missing.into_iter().map(|reached| reached.name()).collect();
    if !missing.is_empty() {
        text += &format!("never reached: {}\n", missing.join(", "));
    }
    text
}

fn to_json(tally: &Tally, options: &Options, jobs: usize, seconds: f64, smallest: Option<&Finding>) -> Value {
    let failure = |finding: &Finding| {
        let Finding { seed, violation, .. } = finding;
        json!({
            "seed": seed, "property": violation.property, "command": finding.command(),
            "events": violation.events, "message": violation.message,
        })
    };
    let reached = |what: &Reached| (what.name().to_owned(), json!(tally.coverage.count(*what)));
    json!({
        "protocol": options.protocol.name(), "twins": options.twins, "level": options.level.name(), "faults": options.faults.to_string(),
        "seeds": tally.seeds, "events": tally.events, "events_per_s": tally.events as f64 / seconds,
        "simulated_s": tally.simulated.as_secs_f64(), "seconds": seconds, "jobs": jobs,
        "violations": tally.findings.len(), "failures": tally.findings.iter().map(failure).collect::<Vec<_>>(),
        "smallest": smallest.map(failure),
        "reached": Reached::of(options.level).iter().map(reached).collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimArgs,
    }

    fn parse(line: &str) -> SimArgs {
        Line::try_parse_from(line.split_whitespace().skip(1))
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .args
    }

    #[test]
    fn a_finding_s_command_repeats_its_run() {
        let faults = Faults::parse("drop,crash").unwrap();
        let canary = Canary::ALL.first().copied();
        for options in [
            Options::of(300),
            Options { faults, nodes: Some(4), ..Options::of(5) },
            Options { canary, ..Options::of(20_000) },
            Options { protocol: ProtocolName::Pbft, twins: true, ..Options::of(20_000) },
        ] {
            let args = parse(&options.command(42));
            assert_eq!((args.range(), args.options()), (42..43, options));
        }
    }

    #[test]
    fn a_build_without_canaries_lists_them_and_refuses_to_run_one() {
        let bug = Canary::ALL.first().copied();
        let refused = may_run(bug, false).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(may_run(bug, true).is_ok() && may_run(None, false).is_ok());
        assert!(parse("quorate sim --list-canaries").list_canaries);
    }

    #[test]
    fn seeds_are_a_range_that_holds_some() {
        assert_eq!(seeds("3..9"), Ok(3..9));
        assert!(seeds("3").is_err() && seeds("9..3").is_err() && seeds("a..3").is_err());
    }
}
