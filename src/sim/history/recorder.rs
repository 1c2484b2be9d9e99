//! Writes a history while a load generator runs: [`Recorder`] holds the file, each thread has a [`Pen`] with a buffer of its own.
//!
//! A record is a line appended to the pen's buffer, without allocation; the file's lock is taken once in [`BUFFER_BYTES`]. Lines of
//! different pens come in any order, for each carries its times, which the caller takes from one monotonic clock for all threads:
//! `start` before the request is sent, `end` after the answer is read.

use super::event::{Outcome, Verb};
use super::formats::jsonl;
use super::models::Model;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pen goes to the file when it holds so much.
pub const BUFFER_BYTES: usize = 64 << 10;

/// A value as it went over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told<'a> {
    /// None.
    Nil,
    /// A number.
    Integer(i64),
    /// A text; each byte that is no UTF-8 becomes a character of its own (U+F780 to U+F7FF).
    Text(&'a [u8]),
    /// A hash.
    Fields(&'a [(&'a [u8], &'a [u8])]),
}

/// One operation that has ended, or that its client has given up.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who. Operations of one client may overlap (a pipeline).
    pub client: u64,
    /// On what.
    pub key: &'a [u8],
    /// What.
    pub verb: Verb,
    /// With what: as many as the verb takes.
    pub args: &'a [Told<'a>],
    /// Answered, certainly without effect, or unknown (a time-out, a lost connection, `-INDETERMINATE`).
    pub outcome: Outcome,
    /// The answer, where there is one and it says something.
    pub result: Option<Told<'a>>,
    /// Nanoseconds of the caller's clock.
    pub start: u64,
    /// Not before `start`; of an unknown outcome, when it was given up.
    pub end: u64,
}

/// The file of a history.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Mutex<Sink>>,
}

struct Sink {
    out: Box<dyn Write + Send>,
    records: u64,
    /// The first error: after it nothing is written.
    error: Option<io::Error>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("records", &self.records).field("error", &self.error).finish()
    }
}

impl Recorder {
    /// Begins a history; `model` is what it shall be held against, else the checker guesses.
    pub fn new(mut out: impl Write + Send + 'static, model: Option<Model>) -> io::Result<Recorder> {
        let model = model.map(|model| format!(",\"model\":\"{}\"", model.name())).unwrap_or_default();
        out.write_all(format!("{{\"format\":\"{}\"{model}}}\n", jsonl::NAME).as_bytes())?;
        let sink = Sink { out: Box::new(out), records: 0, error: None };
        Ok(Recorder { shared: Arc::new(Mutex::new(sink)) })
    }
    /// A pen, for one thread.
    pub fn pen(&self) -> Pen {
        // Room for a full buffer and one more line of usual length.
        Pen { buffer: Vec::with_capacity(BUFFER_BYTES * 2), records: 0, shared: self.shared.clone() }
    }
    /// Ends the history, once all pens are dropped; says how many operations it has.
    pub fn finish(self) -> io::Result<u64> {
        let sink = Arc::into_inner(self.shared)
            .ok_or_else(|| io::Error::other("a pen is still out: drop all pens before the history ends"))?;
        let mut sink = sink.into_inner().unwrap_or_else(PoisonError::into_inner);
        sink.error.map_or(Ok(()), Err)?;
        sink.out.flush()?;
        Ok(sink.records)
    }
}

/// A thread's way to the file.
#[derive(Debug)]
pub struct Pen {
    buffer: Vec<u8>,
    records: u64,
    shared: Arc<Mutex<Sink>>,
}

impl Pen {
    /// Writes an operation down. Errors of the file are told by [`Recorder::finish`].
    pub fn record(&mut self, record: &Record<'_>) {
        assert_eq!(record.args.len(), record.verb.arity(), "{:?}", record.verb);
        assert!(record.start <= record.end, "an operation ends after its start");
        let outcome = match record.outcome {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Unknown => "unknown",
        };
        let buffer = &mut self.buffer;
        put(buffer, format_args!("{{\"client\":{},\"key\":", record.client));
        put_text(buffer, record.key);
        put(buffer, format_args!(",\"op\":\"{}\"", record.verb.name()));
        for (place, arg) in record.args.iter().enumerate() {
            buffer.extend_from_slice(if place == 0 { b",\"args\":[" } else { b"," });
            put_told(buffer, *arg);
        }
        if !record.args.is_empty() {
            buffer.push(b']');
        }
        if let Some(result) = record.result {
            buffer.extend_from_slice(b",\"result\":");
            put_told(buffer, result);
        }
        let Record { start, end, .. } = record;
        put(buffer, format_args!(",\"outcome\":\"{outcome}\",\"start\":{start},\"end\":{end}}}\n"));
        self.records += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Brings what is buffered to the file.
    pub fn flush(&mut self) {
        let mut sink: MutexGuard<'_, Sink> = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.error.is_none() {
            sink.error = sink.out.write_all(&self.buffer).err();
            sink.records += self.records;
        }
        drop(sink);
        self.buffer.clear();
        self.records = 0;
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.flush();
    }
}

fn put_told(buffer: &mut Vec<u8>, told: Told<'_>) {
    match told {
        Told::Nil => buffer.extend_from_slice(b"null"),
        Told::Integer(number) => put(buffer, format_args!("{number}")),
        Told::Text(text) => put_text(buffer, text),
        Told::Fields(fields) => {
            buffer.push(b'{');
            for (place, (name, value)) in fields.iter().enumerate() {
                if place > 0 {
                    buffer.push(b',');
                }
                put_text(buffer, name);
                buffer.push(b':');
                put_text(buffer, value);
            }
            buffer.push(b'}');
        }
    }
}

fn put(buffer: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    buffer.write_fmt(text).expect("a vector takes what is written to it");
}

/// A JSON text. Different bytes give different texts, UTF-8 or not.
fn put_text(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            buffer.extend_from_slice(&rest.as_bytes()[..at]);
            put(buffer, format_args!("\\u{:04x}", rest.as_bytes()[at]));
            rest = &rest[at + 1..];
        }
        buffer.extend_from_slice(rest.as_bytes());
        for byte in chunk.invalid() {
            put(buffer, format_args!("\\uf7{byte:02x}"));
        }
    }
    buffer.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::formats::from_text;
    use super::super::{Literal, Verdict, check, search::Unlimited};
    use super::*;

    /// A file that the test keeps hold of.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<u8>>>);
    impl Write for Shelf {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Shelf {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn read(key: &'static [u8], result: Told<'static>) -> Record<'static> {
        let (verb, outcome) = (Verb::Read, Outcome::Ok);
        Record { client: 1, key, verb, args: &[], outcome, result: Some(result), start: 5, end: 9 }
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let shelf = Shelf::default();
        let recorder = Recorder::new(shelf.clone(), Some(Model::Any)).unwrap();
        let mut pen = recorder.pen();
        let cas = [Told::Nil, Told::Text(b"a\"\\\n\xff\xc3\xa9")];
        pen.record(&Record {
            verb: Verb::CompareAndSet,
            args: &cas,
            result: Some(Told::Integer(1)),
            ..read(b"k\x01", Told::Nil)
        });
        pen.record(&read(b"k\x01", Told::Text(b"a\"\\\n\xff\xc3\xa9")));
        pen.record(&read(b"h", Told::Fields(&[(b"f", b"1"), (b"g", b"x")])));
        pen.record(&Record { outcome: Outcome::Unknown, result: None, ..read(b"k\x01", Told::Nil) });
        pen.record(&Record { outcome: Outcome::Fail, result: None, ..read(b"k\x01", Told::Nil) });
        drop(pen);
        assert_eq!(recorder.finish().unwrap(), 5);
        let (history, _) = from_text(&shelf.text()).unwrap();
        assert_eq!((history.model, history.refused, history.unknown()), (Some(Model::Any), 1, 1));
        assert_eq!(&*history.keys[0], "k\u{1}");
        let value = Literal::text("a\"\\\n\u{f7ff}\u{e9}");
        assert_eq!(history.operations[0].args, [Literal::Nil, value.clone()]);
        assert_eq!(history.operations[1].result, Some(value));
        let fields = [("f".into(), Literal::Integer(1)), ("g".into(), Literal::text("x"))];
        assert_eq!(history.operations[2].result, Some(Literal::fields(fields)));
        assert_eq!((history.operations[0].start, history.operations[0].end), (5, Some(9)));
    }

    #[test]
    fn threads_write_side_by_side_and_no_line_is_torn() {
        let shelf = Shelf::default();
        let recorder = Recorder::new(shelf.clone(), None).unwrap();
        std::thread::scope(|scope| {
            for client in 0..4 {
                let mut pen = recorder.pen();
                scope.spawn(move || {
                    for n in 0..5_000 {
                        let time = n * 4 + client;
                        let key = format!("{client}");
                        let record = Record {
                            client,
                            key: key.as_bytes(),
                            start: time,
                            end: time,
                            ..read(b"", Told::Nil)
                        };
                        pen.record(&record);
                    }
                });
            }
        });
        assert_eq!(recorder.finish().unwrap(), 20_000);
        let (history, _) = from_text(&shelf.text()).unwrap();
        assert_eq!((history.operations.len(), history.keys.len()), (20_000, 4));
        assert_eq!(check(&history, None, &mut Unlimited).unwrap().verdict, Verdict::Linearizable);
    }

    #[test]
    fn an_error_of_the_file_and_a_pen_left_out_are_told() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recorder = Recorder::new(Full(3), None).unwrap();
        let mut pen = recorder.pen();
        for _ in 0..10_000 {
            pen.record(&read(b"k", Told::Nil));
        }
        drop(pen);
        assert_eq!(recorder.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let recorder = Recorder::new(Full(9), None).unwrap();
        let pen = recorder.pen();
        assert!(recorder.finish().unwrap_err().to_string().contains("a pen is still out"));
        drop(pen);
    }
}
