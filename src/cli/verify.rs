//! `bench --verify`: the history of a real run, recorded while it is made and checked when it has ended.

use super::check::{Watch, offences_text, read_history};
use super::exit::{Exit, Failure};
use super::scratch::Scratch;
use crate::load::report::Verified;
use crate::load::witness::{Ended, Seen, Witness};
use crate::sim::history::{self, Model, Outcome, Pen, Record, Recorder, Told, Verb, Verdict, timeline};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Until the history is undecided.
const CHECK_WITHIN: Duration = Duration::from_secs(120);
/// Megabytes for the memory of the search.
const CHECK_MEMORY: u64 = 1024;

/// Records a history: one line an operation.
pub struct Book {
    recorder: Recorder,
    pen: Pen,
    path: PathBuf,
    /// Holds the file while nobody wants to keep it.
    scratch: Option<Scratch>,
}

/// What the check said.
pub struct Judgement {
    /// For the report.
    pub verified: Verified,
    /// The parts that contradict themselves, for people.
    pub offences: String,
    verdict: Verdict,
}

impl Book {
    /// A history in `dir`, or in a temporary file where nobody wants results.
    pub fn open(dir: Option<&Path>) -> Result<Book, Failure> {
        let scratch = dir.is_none().then(|| Scratch::new("history"));
        let dir = dir.or(scratch.as_ref().map(Scratch::path)).expect("one of the two is there");
        let path = dir.join("history.jsonl");
        let make = || {
            std::fs::create_dir_all(dir)?;
            Recorder::new(File::create(&path)?, Some(Model::Register))
        };
        let recorder = make().map_err(|error| Failure::io(&path, "write it", &error))?;
        Ok(Book { pen: recorder.pen(), recorder, scratch, path })
    }

    /// Ends the history and checks it. One that is not found linearizable is kept in any case.
    pub fn judge(self) -> Result<Judgement, Failure> {
        let Book { recorder, pen, path, scratch } = self;
        drop(pen);
        recorder.finish().map_err(|error| Failure::io(&path, "write it", &error))?;
        let started = Instant::now();
        let (history, _) = read_history(&path, None)?;
        let mut watch = Watch::new(CHECK_WITHIN, CHECK_MEMORY, history.operations.len(), started);
        let report = history::check(&history, None, &mut watch)
            .map_err(|nonsense| Failure::new(Exit::Error, format!("{}: {nonsense}", path.display())))?;
        watch.finish();
        let kept = match (&scratch, report.verdict) {
            (None, _) => Some(path.clone()),
            (Some(_), Verdict::Linearizable) => None,
            (Some(_), _) => Some(keep(&path)?),
        };
        if let (Some(kept), Verdict::NotLinearizable) = (&kept, report.verdict) {
            let page = kept.with_extension("html");
            let drawn = timeline::page(&kept.display().to_string(), &history, &report);
            std::fs::write(&page, drawn).map_err(|error| Failure::io(&page, "write it", &error))?;
        }
        let verified = Verified {
            verdict: report.verdict.name().to_string(),
            linearizable: match report.verdict {
                Verdict::Linearizable => Some(true),
                Verdict::NotLinearizable => Some(false),
                Verdict::Undecided => None,
            },
            operations: history.operations.len() as u64 + history.refused,
            unknown: history.unknown() as u64,
            keys: history.keys.len() as u64,
            seconds: started.elapsed().as_secs_f64(),
            history: kept,
        };
        Ok(Judgement { verified, offences: offences_text(&history, &report), verdict: report.verdict })
    }
}

impl Judgement {
    /// How the command ends.
    pub fn outcome(&self) -> Result<(), Failure> {
        let file = self.verified.history.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        match self.verdict {
            Verdict::Linearizable => Ok(()),
            Verdict::NotLinearizable => {
                let text = format!("what clients saw is not linearizable: {file}{}", self.offences);
                Err(Failure::new(Exit::CheckFailed, text.trim_end()))
            }
            Verdict::Undecided => {
                let cure = "load more --keys with fewer --connections, or give `check history` more time";
                let text = format!("{file} is undecided after {} s: {cure}", CHECK_WITHIN.as_secs());
                Err(Failure::new(Exit::Unknown, text))
            }
        }
    }
}

impl Witness for Book {
    fn ended(&mut self, operation: &Seen<'_>) {
        let args = [operation.wrote.map_or(Told::Nil, Told::Text)];
        let (verb, args) = match operation.wrote {
            Some(_) => (Verb::Write, &args[..]),
            None => (Verb::Read, &args[..0]),
        };
        let outcome = match operation.ended {
            Ended::Done => Outcome::Ok,
            Ended::Refused => Outcome::Fail,
            Ended::Unknown => Outcome::Unknown,
        };
        let read = || operation.read.map_or(Told::Nil, Told::Text);
        let says = verb == Verb::Read && outcome == Outcome::Ok;
        self.pen.record(&Record {
            client: operation.client,
            key: operation.key.as_bytes(),
            verb,
            args,
            outcome,
            result: says.then(read),
            start: operation.start,
            end: operation.end,
        });
    }
}

/// A copy that stays.
fn keep(path: &Path) -> Result<PathBuf, Failure> {
    let kept = std::env::temp_dir().join(format!("quorate-history-{}.jsonl", std::process::id()));
    std::fs::copy(path, &kept).map_err(|error| Failure::io(&kept, "write it", &error))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(key: &str) -> Seen<'_> {
        Seen { client: 1, key, wrote: None, read: None, ended: Ended::Done, start: 0, end: 0 }
    }

    fn judge(operations: &[Seen<'_>]) -> Judgement {
        let scratch = Scratch::new("verify");
        let mut book = Book::open(Some(scratch.path())).unwrap();
        operations.iter().for_each(|operation| book.ended(operation));
        let judgement = book.judge().unwrap();
        assert!(judgement.verified.history.as_ref().is_some_and(|path| path.exists()));
        judgement
    }

    #[test]
    fn a_lost_write_is_found_with_exit_code_7() {
        let write = Seen { wrote: Some(b"new"), start: 1, end: 2, ..seen("k") };
        let read = |value| Seen { read: value, start: 3, end: 4, ..seen("k") };
        let good = judge(&[write, read(Some(b"new"))]);
        assert_eq!((good.verified.linearizable, good.verified.operations), (Some(true), 2));
        assert!(good.outcome().is_ok());
        let lost = judge(&[write, read(None)]);
        assert_eq!(lost.verified.linearizable, Some(false));
        let failure = lost.outcome().unwrap_err();
        assert_eq!(failure.exit, Exit::CheckFailed);
        assert!(failure.message.contains("read -> nil"), "{failure}");
        // Whether an unknown write took effect may differ; a refused one never did.
        let unknown = Seen { ended: Ended::Unknown, ..write };
        assert!(judge(&[unknown, read(None)]).outcome().is_ok());
        let refused = Seen { ended: Ended::Refused, ..write };
        assert!(judge(&[refused, read(None)]).outcome().is_ok());
        assert_eq!(judge(&[refused, read(Some(b"new"))]).verified.linearizable, Some(false));
    }

    #[test]
    fn a_history_that_nobody_wants_goes_unless_it_fails() {
        let book = Book::open(None).unwrap();
        let path = book.path.clone();
        let mut book = book;
        book.ended(&seen("k"));
        let judgement = book.judge().unwrap();
        assert!(judgement.verified.history.is_none() && !path.exists());
        let mut book = Book::open(None).unwrap();
        book.ended(&Seen { read: Some(b"nobody wrote this"), ..seen("k") });
        let kept = book.judge().unwrap().verified.history.unwrap();
        assert!(kept.exists() && kept.with_extension("html").exists());
        std::fs::remove_file(kept.with_extension("html")).unwrap();
        std::fs::remove_file(kept).unwrap();
    }
}
