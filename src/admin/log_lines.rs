//! The event log: one line an event on stderr, as text or JSON, at a limited rate a kind.
//!
//! A thread of its own writes, so that a pipe that nobody reads stops neither the data plane nor the service plane.

use super::events::{EventSink, Field, Stamped};
use crossbeam::channel::{Receiver, Sender, after, bounded, never, select};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines of one kind that may come at once.
const BURST: u64 = 20;
/// After a burst, one line of a kind in this time.
const PAUSE: Duration = Duration::from_millis(500);

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// `time level event key=value ...`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The thread that writes lines.
pub struct LogLines {
    thread: JoinHandle<()>,
    /// Dropped to end the thread: not every sink's owner is gone when a node ends (the executor of the service plane is not).
    end: Sender<()>,
}

impl LogLines {
    /// Starts the thread.
    pub fn start(format: LogFormat, node: u8) -> io::Result<(EventSink, LogLines)> {
        let (sink, receiver) = EventSink::new();
        let (end, ended) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("events".into())
            .stack_size(256 * 1024)
            .spawn(move || write_all(&receiver, &ended, Writer::new(format, node), &mut io::stderr()))?;
        Ok((sink, LogLines { thread, end }))
    }

    /// Ends the thread, which first writes what was handed in before.
    pub fn join(self) {
        drop(self.end);
        // The thread has no state that a panic could have left for us.
        let _ = self.thread.join();
    }
}

fn write_all(receiver: &Receiver<Stamped>, ended: &Receiver<()>, mut writer: Writer, out: &mut dyn Write) {
    // One write a line, so that lines of several processes on one terminal do not mix. A closed stderr is nobody's error.
    let mut write = |text: String| drop(out.write_all(text.as_bytes()));
    loop {
        // While lines are held back their number is told after a pause, even when no event comes; otherwise the thread sleeps.
        let pause = if writer.holds_back() { after(PAUSE) } else { never() };
        select! {
            recv(receiver) -> stamped => match stamped {
                Ok(stamped) => write(writer.line(&stamped)),
                Err(_) => break,
            },
            recv(pause) -> _ => write(writer.summary(SystemTime::now(), PAUSE)),
            recv(ended) -> _ => break,
        }
    }
    receiver.try_iter().for_each(|stamped| write(writer.line(&stamped)));
    write(writer.summary(SystemTime::now(), Duration::ZERO));
}

/// Makes lines and limits their rate.
struct Writer {
    format: LogFormat,
    node: u8,
    kinds: BTreeMap<&'static str, Rate>,
}

/// How many lines of a kind may still come.
struct Rate {
    allowed: u64,
    refilled: SystemTime,
    held_back: u64,
}

impl Writer {
    fn new(format: LogFormat, node: u8) -> Writer {
        Writer { format, node, kinds: BTreeMap::new() }
    }

    fn holds_back(&self) -> bool {
        self.kinds.values().any(|rate| 0 < rate.held_back)
    }

    /// The event's line, or nothing when its kind has used its allowance up.
    fn line(&mut self, stamped: &Stamped) -> String {
        let fresh = || Rate { allowed: BURST, refilled: stamped.at, held_back: 0 };
        let rate = self.kinds.entry(stamped.event.kind()).or_insert_with(fresh);
        rate.refill(stamped.at);
        if rate.allowed == 0 {
            rate.held_back += 1;
            return String::new();
        }
        rate.allowed -= 1;
        let mut fields = stamped.event.fields();
        let held_back = std::mem::take(&mut rate.held_back);
        if 0 < held_back {
            fields.push(("held_back", Field::Number(held_back)));
        }
        let (level, kind) = (stamped.event.level().name(), stamped.event.kind());
        self.render(stamped.at, level, kind, &fields)
    }

    /// Tells how many lines were held back of kinds that have been quiet for `quiet`.
    fn summary(&mut self, now: SystemTime, quiet: Duration) -> String {
        let mut told = Vec::new();
        for (kind, rate) in &mut self.kinds {
            let still = now.duration_since(rate.refilled).unwrap_or_default();
            if 0 < rate.held_back && quiet <= still {
                told.push((*kind, std::mem::take(&mut rate.held_back)));
            }
        }
        let lines = told.into_iter().map(|(kind, lines)| {
            let fields = [("of", Field::Text(kind)), ("lines", Field::Number(lines))];
            self.render(now, "warn", "held_back", &fields)
        });
        lines.collect()
    }

    fn render(
        &self,
        at: SystemTime,
        level: &str,
        kind: &str,
        fields: &[(&'static str, Field<'_>)],
    ) -> String {
        match self.format {
            LogFormat::Text => self.render_text(at, level, kind, fields),
            LogFormat::Json => self.render_json(at, level, kind, fields),
        }
    }

    fn render_text(&self, at: SystemTime, level: &str, kind: &str, fields: &[(&str, Field<'_>)]) -> String {
        let mut line = format!("{} {level:<5} {kind} node={}", rfc3339(at), self.node);
        for (name, field) in fields {
            let _ = match field {
                Field::Number(number) => write!(line, " {name}={number}"),
                Field::Millis(millis) => write!(line, " {name}={millis}"),
                Field::Text(text) if is_plain(text) => write!(line, " {name}={text}"),
                // JSON's quoting keeps whatever a peer sent on one line and free of control characters.
                Field::Text(text) => write!(line, " {name}={}", json!(text)),
            };
        }
        line.push('\n');
        line
    }

    fn render_json(&self, at: SystemTime, level: &str, kind: &str, fields: &[(&str, Field<'_>)]) -> String {
        let mut map = Map::new();
        map.insert("time".into(), json!(rfc3339(at)));
        map.insert("level".into(), json!(level));
        map.insert("event".into(), json!(kind));
        map.insert("node".into(), json!(self.node));
        for (name, field) in fields {
            let value = match field {
                Field::Number(number) => json!(number),
                Field::Millis(millis) => json!(millis),
                Field::Text(text) => json!(text),
            };
            map.insert((*name).into(), value);
        }
        format!("{}\n", Value::Object(map))
    }
}

impl Rate {
    fn refill(&mut self, now: SystemTime) {
        let Ok(passed) = now.duration_since(self.refilled) else {
            // The wall clock was set back: begin anew from there.
            self.refilled = now;
            return;
        };
        let earned = (passed.as_nanos() / PAUSE.as_nanos()) as u64;
        if 0 < earned {
            self.allowed = BURST.min(self.allowed.saturating_add(earned));
            self.refilled = now;
        }
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=' && b != b'\\')
}

/// Coordinated universal time to the millisecond, as RFC 3339 writes it.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, days) = (since.as_secs() % 86_400, (since.as_secs() / 86_400) as i64);
    // Civil date from days, for years that begin in March (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::events::Event;
    use crate::base::Reign;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_795_235_696_789 + millis)
    }
    fn refused(millis: u64) -> Stamped {
        Stamped { at: at(millis), event: Event::Refused { who: "a b\n\"c\"".into(), why: "no key".into() } }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let leap = UNIX_EPOCH + Duration::from_secs(951_782_400);
        assert_eq!(rfc3339(leap), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(at(0)), "2026-11-21T04:34:56.789Z");
        let last = UNIX_EPOCH + Duration::from_secs(4_102_444_799);
        assert_eq!(rfc3339(last), "2099-12-31T23:59:59.000Z");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let mut text = Writer::new(LogFormat::Text, 3);
        let expected =
            "2026-11-21T04:34:56.789Z warn  refused node=3 who=\"a b\\n\\\"c\\\"\" why=\"no key\"\n";
        assert_eq!(text.line(&refused(0)), expected);
        let stall = Event::Stall { agent: "store".into(), took: Duration::from_micros(12_345) };
        let expected = "2026-11-21T04:34:56.789Z warn  stall node=3 agent=store ms=12.345\n";
        assert_eq!(text.line(&Stamped { at: at(0), event: stall }), expected);
        let mut json = Writer::new(LogFormat::Json, 3);
        let line = json.line(&refused(0));
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "refused");
        assert_eq!(value["who"], "a b\n\"c\"");
        assert_eq!(value["node"], 3);
    }

    #[test]
    fn a_flood_of_one_kind_is_held_back_and_counted() {
        let mut writer = Writer::new(LogFormat::Text, 1);
        let lines = (0..100).filter(|_| !writer.line(&refused(0)).is_empty()).count() as u64;
        assert_eq!(lines, BURST);
        let other = Stamped { at: at(0), event: Event::LeaderElected { leader: 2, reign: Reign::of(9) } };
        assert!(writer.line(&other).ends_with("leader_elected node=1 leader=2 term=9\n"));
        let reign = Reign { epoch: 3, term: 1 };
        let later = Stamped { at: at(0), event: Event::LeaderElected { leader: 2, reign } };
        assert!(writer.line(&later).ends_with("leader_elected node=1 leader=2 term=1 epoch=3\n"));
        assert!(writer.line(&refused(500)).ends_with(" held_back=80\n"));
        assert_eq!(writer.line(&refused(600)), "");
        assert_eq!(writer.summary(at(700), PAUSE), "");
        assert!(writer.holds_back());
        assert!(writer.summary(at(1_000), PAUSE).ends_with("held_back node=1 of=refused lines=1\n"));
        assert!(!writer.holds_back());
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let (sink, receiver) = EventSink::new();
        (0..30).for_each(|_| sink.emit(refused(0).event));
        drop(sink);
        let mut out = Vec::new();
        let (_lives, ended) = bounded(0);
        write_all(&receiver, &ended, Writer::new(LogFormat::Text, 1), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches(" refused node=1 ").count(), 20);
        assert!(text.ends_with("of=refused lines=10\n"), "{text}");
    }
}
