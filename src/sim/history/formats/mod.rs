//! The files that histories come in. One file a format; each reads lines or forms and tells a [`Builder`] what happened.

pub mod edn;
pub mod jepsen;
pub mod jsonl;

use super::event::{Builder, History, Misfit};
use std::io::BufRead;

/// How a history is written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line: an operation, or its invocation and its completion
    Jsonl,
    /// Maps of Jepsen: {:process 0, :type :invoke, :f :read, :value nil}
    Edn,
    /// The same with :key, of a store with get, put and append
    Kv,
    /// Lines of Jepsen's log: INFO jepsen.util - 0 :invoke :read nil
    Jepsen,
}

impl Format {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Edn => "edn",
            Format::Kv => "kv",
            Format::Jepsen => "jepsen",
        }
    }

    /// The format that a file seems to have, from its beginning.
    pub fn guess(beginning: &str) -> Option<Format> {
        let mut lines = beginning.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(';'));
        let first = lines.next()?;
        let inside = first.trim_start_matches(['{', '[', '(']).trim_start();
        if first.starts_with('{') && inside.starts_with('"') {
            Some(Format::Jsonl)
        } else if first.starts_with(['{', '[', '(', '#']) {
            Some(if first.contains(":key ") { Format::Kv } else { Format::Edn })
        } else {
            let is_event = |line: &str| line.split_whitespace().any(|word| word == ":invoke");
            (is_event(first) || lines.any(is_event)).then_some(Format::Jepsen)
        }
    }
}

/// Bytes that one line or one form may have.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes from which a format is guessed.
const GUESS_BYTES: usize = 64 << 10;

/// Why a file is no history.
#[derive(thiserror::Error, Debug)]
pub enum FormatError {
    /// It cannot be read.
    #[error("cannot read it ({0})")]
    Read(#[from] std::io::Error),
    /// Nothing is like any format.
    #[error("this is no history that I know; say which with --format jsonl, edn, kv or jepsen")]
    Unlike,
    /// A line that makes no sense.
    #[error("line {line}: {problem}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A line that nobody can want.
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    Long {
        /// Which, from 1.
        line: u64,
    },
    /// Nothing to check: most likely whatever should have written it did not.
    #[error("it holds no operation, so nothing was checked; was it recorded at all?")]
    Empty,
}

impl FormatError {
    fn at(line: u64, problem: impl ToString) -> FormatError {
        FormatError::Line { line, problem: problem.to_string() }
    }
    fn misfit(line: u64) -> impl Fn(Misfit) -> FormatError {
        move |misfit| FormatError::at(line, misfit)
    }
}

/// Reads a history. `told` is told now and then how many bytes are read.
pub fn read(
    mut input: impl BufRead,
    format: Option<Format>,
    told: &mut dyn FnMut(u64),
) -> Result<(History, Format), FormatError> {
    let mut beginning = Vec::new();
    let mut total = 0;
    if format.is_none() {
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut input, GUESS_BYTES as u64), &mut beginning)?;
    }
    let format =
        format.or_else(|| Format::guess(&String::from_utf8_lossy(&beginning))).ok_or(FormatError::Unlike)?;
    let mut input = std::io::Read::chain(&beginning[..], input);
    let mut builder = Builder::default();
    let mut edn = edn::Reader::default();
    let (mut line, mut text) = (0, Vec::new());
    loop {
        text.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let bytes = std::io::Read::take(&mut input, limit).read_until(b'\n', &mut text)?;
        line += 1;
        if bytes == 0 {
            break;
        }
        if bytes > LINE_BYTES_MAX {
            return Err(FormatError::Long { line });
        }
        total += bytes as u64;
        if line % 1024 == 0 {
            told(total);
        }
        let text = std::str::from_utf8(&text).map_err(|error| FormatError::at(line, error))?.trim();
        match format {
            Format::Jsonl => jsonl::line(&mut builder, text, line)?,
            Format::Edn | Format::Kv => edn.line(&mut builder, text, line)?,
            Format::Jepsen => jepsen::line(&mut builder, text, line)?,
        }
    }
    edn.finish()?;
    if format == Format::Kv {
        builder.suggest(super::models::Model::Text);
    }
    told(total);
    let history = builder.finish();
    // Refused operations are operations: a history of nothing but refusals is a true one.
    let is_empty = history.operations.is_empty() && history.refused == 0;
    if is_empty { Err(FormatError::Empty) } else { Ok((history, format)) }
}

#[cfg(test)]
pub(super) fn from_text(text: &str) -> Result<(History, Format), FormatError> {
    read(text.as_bytes(), None, &mut |_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_guessed_by_their_first_line() {
        for (text, format) in [
            ("{\"client\":1}", Some(Format::Jsonl)),
            ("\n{ :process 0, :type :invoke}", Some(Format::Edn)),
            ("; recorded\n[{:process 0, :type :invoke}]", Some(Format::Edn)),
            ("#jepsen.history.Op{:process 0}", Some(Format::Edn)),
            ("{:process 0, :type :invoke, :f :get, :key \"0\", :value nil}", Some(Format::Kv)),
            ("INFO  jepsen.core - hello\nINFO  jepsen.util - 0\t:invoke\t:read\tnil", Some(Format::Jepsen)),
            ("file\tlinearizable", None),
            ("", None),
        ] {
            assert_eq!(Format::guess(text), format, "{text}");
        }
    }

    #[test]
    fn a_file_without_operations_is_no_good_news() {
        assert!(matches!(from_text(""), Err(FormatError::Unlike)));
        assert!(matches!(from_text("{\"format\":\"quorate history 1\"}"), Err(FormatError::Empty)));
        let long = format!("{{\"client\": \"{}\"}}", "x".repeat(LINE_BYTES_MAX));
        assert!(matches!(from_text(&long), Err(FormatError::Long { line: 1 })));
    }
}
