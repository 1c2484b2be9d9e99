//! `quorate bench`: load a cluster or any server that speaks RESP, and say what came out.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::verify::Book;
use crate::load::LoadError;
use crate::load::attack::Endured;
use crate::load::cli::{self, BenchArgs, LimitNodeArgs};
use crate::load::run::Outcome;

/// Runs the command.
pub fn run(args: &BenchArgs, output: Output) -> Result<(), Failure> {
    match args.of_each_attack() {
        None => run_one(args, output),
        Some(each) => endure(&each, output),
    }
}

/// One cluster an attack, and their table.
fn endure(each: &[BenchArgs], output: Output) -> Result<(), Failure> {
    let mut all = Vec::new();
    for args in each {
        all.extend(cli::run(args, None)?.report.endured);
    }
    output.print(|| Endured::table(&all), || serde_json::json!({ "endured": all }));
    Ok(())
}

fn run_one(args: &BenchArgs, output: Output) -> Result<(), Failure> {
    let results = (!args.no_results).then_some(args.results.as_path());
    let (outcome, judgement) = match args.verify {
        true => {
            let mut book = Book::open(results)?;
            let mut outcome = cli::run(args, Some(&mut book))?;
            let judgement = book.judge()?;
            outcome.report.verified = Some(judgement.verified.clone());
            (outcome, Some(judgement))
        }
        false => (cli::run(args, None)?, None),
    };
    if let Some(dir) = results {
        cli::write_files(dir, &outcome)?;
    }
    output.print(|| outcome.report.to_text(), || outcome.report.to_json());
    some_succeeded(&outcome)?;
    judgement.map_or(Ok(()), |judgement| judgement.outcome())
}

/// Latencies of nothing are no result.
fn some_succeeded(outcome: &Outcome) -> Result<(), Failure> {
    if 0 < outcome.measured.ok {
        return Ok(());
    }
    let most = outcome.measured.texts.iter().max_by_key(|(_, count)| **count);
    let what =
        most.map_or("nothing was answered".to_string(), |(text, count)| format!("{count} times: {text}"));
    Err(Failure::new(Exit::ServerError, format!("no command succeeded; {what}")))
}

/// Runs one process of the bare machine, which `bench --limit` starts.
pub fn run_limit_node(args: &LimitNodeArgs) -> Result<(), Failure> {
    Ok(cli::run_limit_node(args)?)
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        let exit = Exit::ALL.iter().map(|(exit, _)| *exit).find(|exit| *exit as u8 == error.exit_code());
        Failure::new(exit.unwrap_or(Exit::Error), error.to_string())
    }
}
