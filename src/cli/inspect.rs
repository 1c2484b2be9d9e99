//! `quorate inspect`: reads and checks what a stopped node has on disk. Never writes.

use super::exit::{Exit, Failure};
use super::output::{Output, columns, put};
use crate::admin::keeper::files;
use crate::base::GROUP_ONE;
use crate::log::inspect;
use crate::store::inspect::{Inspection, Summary};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// What is read.
#[derive(Subcommand, Debug)]
pub enum InspectCommand {
    /// The write-ahead log: every checksum, as recovery would
    Log(LogArgs),
    /// The newest snapshot
    Snapshot(Directory),
    /// Who the node is, and how often it has started
    Superblock(Directory),
}

/// A node's data directory.
#[derive(Args, Debug)]
pub struct Directory {
    /// The node's data directory
    dir: PathBuf,
}

/// A log and how much of it is printed.
#[derive(Args, Debug)]
pub struct LogArgs {
    #[command(flatten)]
    directory: Directory,
    /// Print every segment, batch and record too
    #[arg(long)]
    records: bool,
}

/// Runs the command. Exit 7 when what is there is damaged.
pub fn run(command: &InspectCommand, output: Output) -> Result<(), Failure> {
    match command {
        InspectCommand::Log(args) => log(args, output),
        InspectCommand::Snapshot(at) => snapshot(&at.dir, output),
        InspectCommand::Superblock(at) => superblock(&at.dir, output),
    }
}

fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::CheckFailed, error.to_string())
}

/// A bar on stderr, when a person looks.
fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn log(args: &LogArgs, output: Output) -> Result<(), Failure> {
    let dir = &args.directory.dir;
    let identity = inspect::identity(dir).map_err(damaged)?;
    let bar = bar(0);
    let mut progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let mut tell = |line: inspect::Line| {
        if args.records {
            match output {
                Output::Text => bar.suspend(|| put(&line.to_string())),
                Output::Json => put(&json!(line).to_string()),
            }
        }
    };
    let report = inspect::log(dir, identity, 0, &mut progress, &mut tell);
    bar.finish_and_clear();
    let report = report.map_err(damaged)?;
    output.print(|| log_text(&report), || json!(report));
    Ok(())
}

fn log_text(report: &inspect::LogReport) -> String {
    let mut text = format!(
        "{} segments of {} files, {} batches, {} records, {} bytes; written by life {}\n",
        report.segments, report.files, report.batches, report.records, report.bytes, report.generation
    );
    text += &format!("durable through batch {} of {}\n", report.durable_through, report.last_batch);
    for group in &report.groups {
        let vote = if group.vote { "with a vote" } else { "without a vote" };
        text += &format!(
            "group {}: slots {} to {}, floor {}, {vote}\n",
            group.group, group.first, group.last, group.floor
        );
    }
    text + &match &report.torn {
        Some(why) => format!("behind the last batch: {why}; a start cuts it\n"),
        None => "whole\n".to_string(),
    }
}

fn superblock(dir: &Path, output: Output) -> Result<(), Failure> {
    let report = inspect::superblock(dir).map_err(damaged)?;
    let text = || {
        let rows = [
            ("file", report.file.display().to_string()),
            ("cluster", report.cluster.clone()),
            ("node", report.node.to_string()),
            ("generation", report.generation.to_string()),
            ("log begun", report.established.to_string()),
            ("first copy", report.copies[0].clone()),
            ("second copy", report.copies[1].clone()),
        ];
        columns(&rows.map(|(name, value)| vec![name.to_string(), value]))
    };
    output.print(text, || json!(report));
    Ok(())
}

fn snapshot(dir: &Path, output: Output) -> Result<(), Failure> {
    let directory = dir.join(SNAPSHOTS);
    let found = files::newest(&directory, GROUP_ONE).map_err(|e| Failure::io(&directory, "read it", &e))?;
    let Some(found) = found else {
        return Err(Failure::new(Exit::Error, format!("{} holds no snapshot", directory.display())));
    };
    let summary = read(&found.path, found.bytes)?;
    output.print(|| snapshot_text(&found.path, &summary), || snapshot_json(&found.path, &summary));
    Ok(())
}

/// Within a node's data directory.
const SNAPSHOTS: &str = "snapshots";

fn read(path: &Path, bytes: u64) -> Result<Summary, Failure> {
    let io = |error: std::io::Error| Failure::io(path, "read it", &error);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let (mut inspection, bar) = (Inspection::of_any(), bar(bytes));
    let mut chunk = vec![0; 256 << 10];
    loop {
        let length = file.read(&mut chunk).map_err(io)?;
        if length == 0 {
            break;
        }
        inspection.feed(&chunk[..length]).map_err(|why| damaged(format!("{}: {why}", path.display())))?;
        bar.inc(length as u64);
    }
    bar.finish_and_clear();
    inspection.finish().map_err(|why| damaged(format!("{}: {why}", path.display())))
}

fn snapshot_text(path: &Path, s: &Summary) -> String {
    let id = s.header.map(|h| h.id).unwrap_or_default();
    let rows = [
        ("file", path.display().to_string()),
        ("group", id.group.to_string()),
        ("last slot", id.slot.to_string()),
        ("term", id.term.to_string()),
        ("stamp", id.stamp.to_string()),
        ("bytes", s.bytes.to_string()),
        ("strings", s.strings.to_string()),
        ("hashes", format!("{} with {} fields", s.hashes, s.fields)),
        ("with a deadline", format!("{}, expired {}", s.deadlines, s.expired)),
        ("logical bytes", s.memory.to_string()),
        ("buckets", format!("{}, the fullest with {} records", s.buckets, s.bucket_records_max)),
        ("longest value", s.value_bytes_max.to_string()),
    ];
    columns(&rows.map(|(name, value)| vec![name.to_string(), value])) + "whole\n"
}

fn snapshot_json(path: &Path, s: &Summary) -> Value {
    let id = s.header.map(|h| h.id).unwrap_or_default();
    json!({
        "file": path, "group": id.group.0, "slot": id.slot.0, "term": id.term.0, "stamp_ms": id.stamp.0, "bytes": s.bytes,
        "strings": s.strings, "hashes": s.hashes, "fields": s.fields, "deadlines": s.deadlines, "expired": s.expired,
        "logical_bytes": s.memory, "buckets": s.buckets, "bucket_records_max": s.bucket_records_max,
        "value_bytes_max": s.value_bytes_max,
    })
}
