//! `quorate check`: does what was recorded hold?

use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use crate::sim::history::{
    self, Format, FormatError, History, Limits, Model, Offence, Report, Verdict, formats, timeline,
};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is checked.
#[derive(Subcommand, Debug)]
pub enum CheckCommand {
    /// Is a recorded history linearizable? Exit 0: yes, 7: no, 8: undecided
    History(HistoryArgs),
}

/// A history and how to check it.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// The file
    file: PathBuf,
    /// How it is written [default: guessed from its beginning]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What it is held against [default: what the file names, or the narrowest that has all its operations]
    #[arg(long, value_enum)]
    model: Option<Model>,
    /// Seconds until it is undecided (exit 8)
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=7 * 86_400))]
    timeout: u64,
    /// Megabytes for the memory of the search; with less it takes longer
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    memory: u64,
    /// Draw the offending part as an HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Characters of an operation that are shown.
const SHOWN_MAX: usize = 200;

/// Runs the command.
pub fn run(command: &CheckCommand, output: Output) -> Result<(), Failure> {
    match command {
        CheckCommand::History(args) => check_history(args, output),
    }
}

fn check_history(args: &HistoryArgs, output: Output) -> Result<(), Failure> {
    let started = Instant::now();
    let (history, format) = read_history(&args.file, args.format)?;
    let within = Duration::from_secs(args.timeout);
    let mut watch = Watch::new(within, args.memory, history.operations.len(), started);
    let report = history::check(&history, args.model, &mut watch)
        .map_err(|nonsense| Failure::new(Exit::Error, format!("{}: {nonsense}", args.file.display())))?;
    watch.finish();
    if let (Some(path), Verdict::NotLinearizable) = (&args.html, report.verdict) {
        let page = timeline::page(&args.file.display().to_string(), &history, &report);
        std::fs::write(path, page).map_err(|error| Failure::io(path, "write the page", &error))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    output.print(
        || to_text(&history, format, &report, seconds),
        || to_json(&args.file, &history, format, &report, seconds),
    );
    let file = args.file.display();
    match report.verdict {
        Verdict::Linearizable => Ok(()),
        Verdict::NotLinearizable => {
            Err(Failure::new(Exit::CheckFailed, format!("{file}: the history is not linearizable")))
        }
        Verdict::Undecided => {
            let cure = "give a longer --timeout or more --memory, or record fewer clients a key";
            let count = report.undecided.len();
            let keys = if count == 1 { "1 key is".into() } else { format!("{count} keys are") };
            Err(Failure::new(
                Exit::Unknown,
                format!("{file}: {keys} undecided after {} s; {cure}", args.timeout),
            ))
        }
    }
}

/// Reads the history of a file; how it is written is guessed unless it is told.
pub fn read_history(path: &Path, format: Option<Format>) -> Result<(History, Format), Failure> {
    let file = File::open(path).map_err(|error| Failure::io(path, "open it", &error))?;
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    let bar = bar(bytes, "reading {wide_bar} {bytes}/{total_bytes}");
    let read = formats::read(BufReader::with_capacity(1 << 20, file), format, &mut |done| {
        bar.set_position(done);
    });
    bar.finish_and_clear();
    read.map_err(|error| match error {
        FormatError::Read(error) => Failure::io(path, "read it", &error),
        other => Failure::new(Exit::Error, format!("{}: {other}", path.display())),
    })
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}

/// The limits of the check: the time, the memory; and the bar that shows how it goes.
pub struct Watch {
    until: Instant,
    memory: usize,
    bar: ProgressBar,
    steps: u64,
}

impl Watch {
    /// Ends `within` after `started`; the search may keep that many megabytes.
    pub fn new(within: Duration, megabytes: u64, operations: usize, started: Instant) -> Watch {
        let template = "checking {wide_bar} {pos}/{len} operations  {msg}";
        Watch {
            until: started + within,
            memory: usize::try_from(megabytes << 20).unwrap_or(usize::MAX),
            bar: bar(operations as u64, template),
            steps: 0,
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Limits for Watch {
    fn go_on(&mut self, steps: u64, passed: f64) -> bool {
        self.steps += steps;
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} steps, this key {:.0} %", self.steps, passed * 100.0));
        }
        Instant::now() < self.until
    }
    fn memory(&self) -> usize {
        self.memory
    }
    fn judged(&mut self, operations: usize) {
        self.bar.inc(operations as u64);
    }
}

fn to_text(history: &History, format: Format, report: &Report, seconds: f64) -> String {
    let (operations, keys) = (history.operations.len(), history.keys.len());
    let mut text = format!(
        "{}: {operations} operations on {keys} keys ({} with unknown outcome, {} refused), format {}, model {}, {} steps, {seconds:.2} s\n",
        report.verdict.name(),
        history.unknown(),
        history.refused,
        format.name(),
        report.model.name(),
        report.steps,
    );
    text += &offences_text(history, report);
    text
}

/// The first few parts that contradict themselves, for people.
pub fn offences_text(history: &History, report: &Report) -> String {
    let mut text: String = report.offences.iter().map(|offence| offence_text(history, offence)).collect();
    if report.failed.len() > report.offences.len() {
        text += &format!("and {} more keys\n", report.failed.len() - report.offences.len());
    }
    text
}

fn offence_text(history: &History, offence: &Offence) -> String {
    let key = &history.keys[offence.key as usize];
    let mut text = format!("\nkey {key:?}, which holds {} before:\n", offence.before.join(" or "));
    let row = |place: &u32| {
        let operation = &history.operations[*place as usize];
        let end = operation.end.map_or("never".into(), |end| end.to_string());
        vec![
            format!("  line {}", operation.line),
            format!("client {}", operation.client),
            format!("{} .. {end}", operation.start),
            timeline::cut(&operation.to_string(), SHOWN_MAX),
        ]
    };
    text += &columns(&offence.core.iter().map(row).collect::<Vec<_>>());
    text += "  no order explains these answers";
    if !offence.freed.is_empty() {
        let count = offence.freed.len();
        text += &format!(", even if {count} other changes took effect at any time or never");
    }
    text += if offence.minimal { "\n" } else { " (perhaps not the smallest part)\n" };
    text
}

fn to_json(file: &Path, history: &History, format: Format, report: &Report, seconds: f64) -> Value {
    let name = |key: &u32| &history.keys[*key as usize];
    let operation = |place: &u32| {
        let o = &history.operations[*place as usize];
        json!({"line": o.line, "client": o.client, "operation": timeline::cut(&o.to_string(), SHOWN_MAX), "start": o.start, "end": o.end})
    };
    let offence = |offence: &Offence| {
        json!({
            "key": name(&offence.key), "before": offence.before, "minimal": offence.minimal, "freed": offence.freed.len(),
            "operations": offence.core.iter().map(operation).collect::<Vec<_>>(),
        })
    };
    let linearizable = match report.verdict {
        Verdict::Linearizable => Some(true),
        Verdict::NotLinearizable => Some(false),
        Verdict::Undecided => None,
    };
    json!({
        "file": file.display().to_string(), "verdict": report.verdict.name(), "linearizable": linearizable,
        "format": format.name(), "model": report.model.name(), "operations": history.operations.len(),
        "unknown": history.unknown(), "refused": history.refused, "keys": history.keys.len(),
        "steps": report.steps, "seconds": seconds,
        "failed": report.failed.iter().map(name).collect::<Vec<_>>(),
        "undecided": report.undecided.iter().map(name).collect::<Vec<_>>(),
        "offending": report.offences.iter().map(offence).collect::<Vec<_>>(),
    })
}
