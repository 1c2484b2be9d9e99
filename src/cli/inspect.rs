//! `quorate inspect`: reads a node's files offline, checks them, and changes nothing.

use super::exit::{Exit, Failure};
use super::output::{Output, put};
use crate::admin::keeper::files::{self, Found};
use crate::base::GROUP_ONE;
use crate::log::inspect::{self, Line, LogReport};
use crate::log::{LogError, SuperblockError};
use crate::store::inspect::{Inspection, Summary};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// What to read. Exit 7 when it does not pass its check.
#[derive(Subcommand, Debug)]
pub enum InspectCommand {
    /// The write-ahead log: every segment, batch and record
    Log(LogArgs),
    /// The snapshots: what each holds, its digest checked
    Snapshot(DirArgs),
    /// Who the node is, and how often it has started
    Superblock(DirArgs),
}

/// Where.
#[derive(Args, Debug)]
pub struct DirArgs {
    /// The node's data directory
    dir: PathBuf,
}

/// Where, and how much to print.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// The node's data directory
    dir: PathBuf,
    /// Print every segment, batch and record, not only the sum
    #[arg(long)]
    records: bool,
}

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

impl From<SuperblockError> for Failure {
    fn from(error: SuperblockError) -> Failure {
        let exit = match error {
            SuperblockError::Io { .. } | SuperblockError::Missing { .. } => Exit::Io,
            _ => Exit::CheckFailed,
        };
        Failure::new(exit, error.to_string())
    }
}
impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        let exit = if matches!(error, LogError::Io { .. }) { Exit::Io } else { Exit::CheckFailed };
        Failure::new(exit, error.to_string())
    }
}

/// Runs the command.
pub fn run(command: &InspectCommand, output: Output) -> Result<(), Failure> {
    match command {
        InspectCommand::Log(args) => log(args, output),
        InspectCommand::Snapshot(args) => snapshots(&args.dir, output),
        InspectCommand::Superblock(args) => superblock(&args.dir, output),
    }
}

fn superblock(dir: &Path, output: Output) -> Result<(), Failure> {
    let report = inspect::superblock(dir)?;
    output.print(
        || {
            let begun = if report.established { "a log has been begun" } else { "never ran" };
            format!(
                "{}: cluster {}, node {}, generation {}, {begun}\nfirst copy: {}\nsecond copy: {}",
                report.file.display(),
                report.cluster,
                report.node,
                report.generation,
                report.copies[0],
                report.copies[1]
            )
        },
        || json!(report),
    );
    let damaged = ["first", "second"].into_iter().zip(&report.is_valid).find(|(_, valid)| !**valid);
    damaged.map_or(Ok(()), |(which, _)| {
        let why = format!(
            "{}: the {which} copy does not verify; the node starts by the other one and then writes both anew. Unless power failed in \
             the midst of a start, see to the disk",
            report.file.display()
        );
        Err(Failure::new(Exit::CheckFailed, why))
    })
}

fn log(args: &LogArgs, output: Output) -> Result<(), Failure> {
    let identity = inspect::identity(&args.dir)?;
    let bar = bar("bytes of log");
    let mut tell = |line: Line| {
        if args.records {
            bar.suspend(|| output.print(|| line.to_string(), || json!(line)));
        }
    };
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = inspect::log(&args.dir, identity, 0, &mut progress, &mut tell);
    bar.finish_and_clear();
    let report = report?;
    output.print(|| log_text(&report), || json!(report));
    Ok(())
}

fn log_text(report: &LogReport) -> String {
    let mut text = format!(
        "{} files, {} segments needed; {} batches of {} records, {} bytes\n\
         last batch {} of generation {}, durable through {}\n",
        report.files,
        report.segments,
        report.batches,
        report.records,
        report.bytes,
        report.last_batch,
        report.generation,
        report.durable_through
    );
    for group in &report.groups {
        let vote = if group.vote { "a vote" } else { "no vote" };
        text += &format!(
            "group {}: slots {} to {}, floor {}, {vote}\n",
            group.group, group.first, group.last, group.floor
        );
    }
    match &report.torn {
        Some(flaw) => text + &format!("behind the last batch, and cut by a start: {flaw}\n"),
        None => text + "ends cleanly\n",
    }
}

fn snapshots(dir: &Path, output: Output) -> Result<(), Failure> {
    // One of the data directory, or its folder of snapshots itself.
    let folder = Some(dir.join("snapshots")).filter(|inner| inner.is_dir()).unwrap_or_else(|| dir.to_owned());
    let found = files::survey(&folder, GROUP_ONE).map_err(|e| Failure::io(&folder, "read it", &e))?;
    if found.is_empty() {
        output.print(|| format!("{}: no snapshot yet", folder.display()), || json!([]));
        return Ok(());
    }
    let mut damaged = Vec::new();
    let mut results: Vec<Value> = Vec::new();
    for snapshot in &found {
        match snapshot_of(snapshot)? {
            Ok(summary) if output == Output::Text => put(&snapshot_text(snapshot, &summary)),
            Ok(summary) => results.push(snapshot_json(snapshot, &summary)),
            Err(why) => {
                results.push(json!({"file": snapshot.path, "damage": why}));
                damaged.push(format!("{}: {why}", snapshot.path.display()));
            }
        }
    }
    if output == Output::Json {
        put(&Value::Array(results).to_string());
    }
    match damaged.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::CheckFailed,
            format!(
                "{}; remove the file if an older one is whole, or leave this node down: the others go on",
                damaged.join("; ")
            ),
        )),
    }
}

/// Reads one whole; the inner error says what is wrong with its bytes.
fn snapshot_of(found: &Found) -> Result<Result<Summary, String>, Failure> {
    let io = |e: std::io::Error| Failure::io(&found.path, "read it", &e);
    let mut file = File::open(&found.path).map_err(io)?;
    let bar = bar("bytes of snapshot");
    bar.set_length(found.bytes);
    let (mut inspection, mut chunk) = (Inspection::of_any(), vec![0; CHUNK_BYTES]);
    let outcome = loop {
        let count = file.read(&mut chunk).map_err(io)?;
        if count == 0 {
            break inspection.finish();
        }
        bar.inc(count as u64);
        if let Err(damage) = inspection.feed(&chunk[..count]) {
            break Err(damage);
        }
    };
    bar.finish_and_clear();
    Ok(outcome.map_err(|damage| damage.to_string()))
}

fn snapshot_text(found: &Found, s: &Summary) -> String {
    format!(
        "{}: slot {}, {} bytes, whole\n{} strings, {} hashes with {} fields, {} deadlines ({} passed), {} logical bytes\n\
         {} buckets in use, at most {} keys in one; longest value {} bytes",
        found.path.display(),
        found.slot,
        s.bytes,
        s.strings,
        s.hashes,
        s.fields,
        s.deadlines,
        s.expired,
        s.memory,
        s.buckets,
        s.bucket_records_max,
        s.value_bytes_max
    )
}

fn snapshot_json(found: &Found, s: &Summary) -> Value {
    json!({
        "file": found.path, "slot": found.slot.0, "bytes": s.bytes, "strings": s.strings, "hashes": s.hashes, "fields": s.fields,
        "deadlines": s.deadlines, "expired": s.expired, "logical_bytes": s.memory, "buckets": s.buckets,
        "bucket_records_max": s.bucket_records_max, "value_bytes_max": s.value_bytes_max,
    })
}

/// A bar on a terminal; nothing elsewhere.
fn bar(what: &'static str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg:>18} [{bar:40}] {binary_bytes} of {binary_total_bytes}");
    bar.set_style(style.expect("the template is a constant"));
    bar.with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::init::{self, InitArgs};
    use crate::cli::scratch::Scratch;

    #[test]
    fn a_fresh_node_has_a_superblock_and_a_damaged_one_fails_its_check() {
        let scratch = Scratch::new("inspect");
        init::create(&InitArgs::of(scratch.path(), 1)).unwrap();
        let data = scratch.path().join("node-1");
        superblock(&data, Output::Json).unwrap();
        std::fs::write(data.join("superblock"), [7; 8192]).unwrap();
        assert_eq!(superblock(&data, Output::Json).unwrap_err().exit, Exit::CheckFailed);
        assert_eq!(superblock(scratch.path(), Output::Json).unwrap_err().exit, Exit::Io);
    }

    #[test]
    fn a_snapshot_that_is_none_fails_its_check_by_name() {
        let scratch = Scratch::new("inspect-snapshot");
        snapshots(scratch.path(), Output::Json).unwrap();
        let path = files::path_of(scratch.path(), GROUP_ONE, crate::base::Slot(7));
        std::fs::write(&path, b"these are not the bytes of a snapshot, but enough of them to be judged by")
            .unwrap();
        let failure = snapshots(scratch.path(), Output::Json).unwrap_err();
        assert_eq!(failure.exit, Exit::CheckFailed);
        assert!(failure.message.starts_with(&path.display().to_string()), "{failure}");
    }
}
