//! Runs of `quorate sim` in processes of their own: a release build ends at the first panic, so a run that violates a property ends its
//! process, whose last words are the violation. Whoever asked starts another one.
//!
//! A process takes one command line a line on standard input, as a finding names it, and answers each with one JSON value a line.

use super::exit::{Exit, Failure};
use super::output::put;
use super::sim::SimArgs;
use crate::base::NodeSet;
use crate::sim::{self, Coverage, Options, Outcome, Reached, Violation, violation};
use clap::Parser;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The property of a run that ended its process and left no word: killed, or out of memory.
const ENDED: &str = "process";

/// A command line without the program's name.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SimArgs,
}

/// The other side: does what each line asks, until there are no more.
pub fn work() -> Result<(), Failure> {
    violation::last_words(Box::new(|violation| {
        put(&written(&Err(violation.clone())).to_string());
        std::process::exit(0);
    }));
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::new(Exit::Io, format!("standard input: {error}")))?;
        let words = line.split_whitespace().skip_while(|word| *word != "sim");
        let Line { args } =
            Line::try_parse_from(words).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        put(&written(&sim::run(args.range().start, &args.options())).to_string());
    }
    Ok(())
}

/// Processes that run seeds. One for each thread that asks.
pub struct Runs {
    program: PathBuf,
    idle: Mutex<Vec<Runner>>,
}

struct Runner {
    child: Child,
    /// Given up before the child is waited for, which ends when it can read no more.
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Runs {
    /// Starts them as they are needed.
    pub fn new() -> Result<Runs, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Io, format!("where this program lies: {error}")))?;
        Ok(Runs { program, idle: Mutex::default() })
    }

    /// One run, in another process.
    pub fn run(&self, seed: u64, options: &Options) -> Result<Outcome, Violation> {
        let ended = |why: String| Violation { property: ENDED.into(), message: why, events: 0 };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut runner = match idle {
            Some(runner) => runner,
            None => Runner::start(&self.program).map_err(|error| ended(format!("cannot start: {error}")))?,
        };
        match runner.ask(&options.command(seed)) {
            Ok(result) => {
                if result.is_ok() {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(runner);
                }
                result
            }
            Err(error) => Err(ended(format!("{error}; {}", runner.end()))),
        }
    }
}

impl Runner {
    fn start(program: &PathBuf) -> io::Result<Runner> {
        let mut child =
            Command::new(program).arg("sim-worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = child.stdout.take().map(BufReader::new).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Runner { ask: child.stdin.take(), child, answers })
    }

    fn ask(&mut self, command: &str) -> io::Result<Result<Outcome, Violation>> {
        let Some(ask) = &mut self.ask else { return Err(io::ErrorKind::BrokenPipe.into()) };
        ask.write_all(format!("{command}\n").as_bytes())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let value = serde_json::from_str(&line).ok();
        value.as_ref().and_then(read).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("{command:?} was answered by {line:?}"))
        })
    }

    /// How it has ended.
    fn end(&mut self) -> String {
        drop(self.ask.take());
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end();
    }
}

fn written(result: &Result<Outcome, Violation>) -> Value {
    match result {
        Ok(outcome) => {
            let reached: Vec<u64> = Reached::ALL.iter().map(|what| outcome.coverage.count(*what)).collect();
            json!({
                "transcript": outcome.transcript, "events": outcome.events,
                "simulated_ns": outcome.simulated.as_nanos() as u64, "committed": outcome.committed,
                "acknowledged": outcome.acknowledged, "reads": outcome.reads,
                "accused": outcome.accused.0, "convicted": outcome.convicted.0, "term": outcome.term,
                "lives": outcome.lives, "reached": reached,
            })
        }
        Err(violation) => json!({
            "property": violation.property, "message": violation.message, "events": violation.events,
        }),
    }
}

fn read(value: &Value) -> Option<Result<Outcome, Violation>> {
    let number = |name: &str| value[name].as_u64();
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let events = number("events")?;
    if let Some(property) = text("property") {
        return Some(Err(Violation { property, message: text("message")?, events }));
    }
    let counts = value["reached"].as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()?;
    Some(Ok(Outcome {
        transcript: number("transcript")?,
        events,
        simulated: Duration::from_nanos(number("simulated_ns")?),
        committed: number("committed")?,
        acknowledged: number("acknowledged")?,
        reads: number("reads")?,
        accused: NodeSet(number("accused")?),
        convicted: NodeSet(number("convicted")?),
        term: number("term")?,
        lives: number("lives")?,
        coverage: Coverage::of(&counts)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_came_to_is_read_as_it_was_written() {
        let outcome = sim::run(7, &Options::of(2_000));
        assert!(outcome.is_ok());
        let violation =
            Err(Violation { property: "one-vote".into(), message: "two\n\"votes\"".into(), events: 9 });
        for result in [outcome, violation] {
            let line = written(&result).to_string();
            assert!(!line.contains('\n'));
            let back = serde_json::from_str(&line).ok().as_ref().and_then(read).unwrap();
            assert_eq!(format!("{back:?}"), format!("{result:?}"));
        }
    }
}
