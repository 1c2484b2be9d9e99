//! What a history is made of: operations with an interval of time, a key, what was asked and what was answered.
//!
//! [`History`] is the principal type; [`Builder`] makes one from whole operations or from invoke and complete events.
//! An operation whose outcome nobody knows has no end: it may take effect at any time after its start, or never.

use super::models::Model;
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::BuildHasherDefault;

/// A map whose order never shows, hashed alike in every run.
pub(super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<SipHasher13>>;

/// Operations that one history may hold; an interval of a list is a `u32` place and every operation has two.
pub const OPERATIONS_MAX: usize = 1 << 30;

/// A value as a client wrote or read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Literal {
    /// There is none.
    Nil,
    /// A number, and every text that is one in its shortest form: Redis tells the two apart nowhere.
    Integer(i64),
    /// Any other text.
    Text(Box<str>),
    /// A hash; fields are sorted and unique.
    Fields(Vec<(Box<str>, Literal)>),
}

impl Literal {
    /// A text, which is a number when it is one in its shortest form.
    pub fn text(text: &str) -> Literal {
        canonical_integer(text).map_or_else(|| Literal::Text(text.into()), Literal::Integer)
    }
    /// A hash with these fields; the last of equal names counts.
    pub fn fields(fields: impl IntoIterator<Item = (Box<str>, Literal)>) -> Literal {
        Literal::Fields(
            fields.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect(),
        )
    }
}

/// The number that `text` is, if printing that number gives `text` again (so neither `007` nor `+7`).
pub(super) fn canonical_integer(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_shortest = text == "0" || digits.starts_with(|digit: char| ('1'..='9').contains(&digit));
    is_shortest.then_some(number)
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Nil => f.write_str("nil"),
            Literal::Integer(number) => write!(f, "{number}"),
            Literal::Text(text) => write!(f, "{text:?}"),
            Literal::Fields(fields) => {
                f.write_str("{")?;
                for (place, (name, value)) in fields.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{name}: {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// What was asked of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Its value. (`GET`)
    Read,
    /// Be this value. (`SET`)
    Write,
    /// Be the second value if you are the first; answers whether. (`SET IFEQ`, `SET NX`)
    CompareAndSet,
    /// Grow by this text; answers the length. (`APPEND`)
    Append,
    /// Grow by this number; answers the sum. (`INCRBY`)
    Add,
    /// Be absent; answers whether there was anything. (`DEL`)
    Delete,
    /// The value of a field. (`HGET`)
    FieldRead,
    /// The field be this value; answers whether it is new. (`HSET`)
    FieldWrite,
    /// The field be absent; answers whether it was there. (`HDEL`)
    FieldDelete,
    /// The field grow by this number; answers the sum. (`HINCRBY`)
    FieldAdd,
    /// All fields. (`HGETALL`)
    FieldsRead,
}

impl Verb {
    /// All, with the name that files use, the number of arguments, and other names that are understood.
    const ALL: [(Verb, &'static str, usize, &'static [&'static str]); 11] = [
        (Verb::Read, "read", 0, &["get"]),
        (Verb::Write, "write", 1, &["set", "put"]),
        (Verb::CompareAndSet, "cas", 2, &["compare-and-set"]),
        (Verb::Append, "append", 1, &[]),
        (Verb::Add, "add", 1, &["incrby"]),
        (Verb::Delete, "delete", 0, &["del"]),
        (Verb::FieldRead, "hget", 1, &[]),
        (Verb::FieldWrite, "hset", 2, &[]),
        (Verb::FieldDelete, "hdel", 1, &[]),
        (Verb::FieldAdd, "hincrby", 2, &[]),
        (Verb::FieldsRead, "hgetall", 0, &[]),
    ];
    /// The verb of that name.
    pub fn parse(name: &str) -> Option<Verb> {
        let found = Verb::ALL.iter().find(|(_, own, _, others)| *own == name || others.contains(&name));
        found.map(|row| row.0)
    }
    /// The name that files use.
    pub fn name(self) -> &'static str {
        Verb::ALL[self as usize].1
    }
    /// How many arguments it takes.
    pub fn arity(self) -> usize {
        Verb::ALL[self as usize].2
    }
}

/// One operation of one client on one key.
#[derive(Clone, PartialEq, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// Which key, as a place in [`History::keys`].
    pub key: u32,
    /// What was asked.
    pub verb: Verb,
    /// Its arguments, as many as the verb takes.
    pub args: Vec<Literal>,
    /// What was answered, where that was recorded and says something.
    pub result: Option<Literal>,
    /// When it was asked.
    pub start: u64,
    /// When it was answered; none while the outcome is unknown. Not before `start`.
    pub end: Option<u64>,
    /// The line of the file where it starts.
    pub line: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb.name())?;
        for arg in &self.args {
            write!(f, " {arg}")?;
        }
        match (&self.result, self.end) {
            (_, None) => f.write_str(" -> ?"),
            (Some(result), _) => write!(f, " -> {result}"),
            (None, _) => f.write_str(" -> ok"),
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect and was answered.
    Ok,
    /// It certainly took no effect.
    Fail,
    /// Nobody knows: it may take effect later, or never, but not twice.
    Unknown,
}

/// What clients saw of a system.
#[derive(Default, Debug)]
pub struct History {
    /// Names of keys.
    pub keys: Vec<Box<str>>,
    /// All that may have taken effect, in the order of the file.
    pub operations: Vec<Operation>,
    /// Operations that certainly took no effect and say nothing.
    pub refused: u64,
    /// What the file says or suggests about its model.
    pub model: Option<Model>,
}

impl History {
    /// How many operations have no known outcome.
    pub fn unknown(&self) -> usize {
        self.operations.iter().filter(|o| o.end.is_none()).count()
    }
    /// The operations of each key, as places in `operations`.
    pub fn by_key(&self) -> Vec<Vec<u32>> {
        let mut parts = vec![Vec::new(); self.keys.len()];
        for (place, operation) in self.operations.iter().enumerate() {
            parts[operation.key as usize].push(place as u32);
        }
        parts
    }
}

/// What is wrong with an event.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// A client is a sequence of operations.
    #[error(
        "client {client} asks although its operation of line {line} has no end; give it another client number"
    )]
    Busy {
        /// Who.
        client: u64,
        /// Where the operation starts.
        line: u64,
    },
    /// An answer to nothing.
    #[error("client {client} is answered but has asked nothing")]
    Idle {
        /// Who.
        client: u64,
    },
    /// Some events have a time and some have none.
    #[error("events with and without a time are mixed; give each one or none")]
    MixedTimes,
    /// It ends before it starts.
    #[error("the operation ends at {end}, before its start at {start}")]
    Backwards {
        /// When it starts.
        start: u64,
        /// When it ends.
        end: u64,
    },
    /// Too few or too many arguments.
    #[error("{verb} takes {takes} arguments, not {has}", verb = verb.name())]
    Arity {
        /// What was asked.
        verb: Verb,
        /// How many it takes.
        takes: usize,
        /// How many there are.
        has: usize,
    },
    /// More than the checker numbers.
    #[error("more than {OPERATIONS_MAX} operations; check a part of the history")]
    TooMany,
}

/// The start of an operation.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// Who.
    pub client: u64,
    /// On what.
    pub key: &'a str,
    /// What.
    pub verb: Verb,
    /// With what.
    pub args: Vec<Literal>,
    /// When; none where the order of lines is the time.
    pub time: Option<u64>,
    /// Where in the file.
    pub line: u64,
}

/// Makes a history, operation by operation or event by event.
#[derive(Default, Debug)]
pub struct Builder {
    history: History,
    keys: Table<Box<str>, u32>,
    /// Operation without an end, by client.
    pending: Table<u64, u32>,
    /// Operations that turned out to have had no effect.
    dropped: Vec<u32>,
    events: u64,
    timed: Option<bool>,
}

impl Builder {
    /// The file says or suggests this model.
    pub fn suggest(&mut self, model: Model) {
        self.history.model.get_or_insert(model);
    }

    /// A client asks.
    pub fn invoke(&mut self, invocation: Invocation<'_>) -> Result<(), Misfit> {
        let client = invocation.client;
        if let Some(place) = self.pending.get(&client) {
            let line = self.history.operations[*place as usize].line;
            return Err(Misfit::Busy { client, line });
        }
        let place = self.open(invocation)?;
        self.pending.insert(client, place);
        Ok(())
    }

    /// A client is answered.
    pub fn complete(
        &mut self,
        client: u64,
        outcome: Outcome,
        result: Option<Literal>,
        time: Option<u64>,
    ) -> Result<(), Misfit> {
        let end = self.clock(time)?;
        let place = self.pending.remove(&client).ok_or(Misfit::Idle { client })?;
        self.close(place, outcome, result, end)
    }

    /// What the client that will be answered next has asked.
    pub fn asked(&self, client: u64) -> Option<&Operation> {
        self.pending.get(&client).map(|place| &self.history.operations[*place as usize])
    }

    /// An operation from its start to its end.
    pub fn whole(
        &mut self,
        invocation: Invocation<'_>,
        outcome: Outcome,
        result: Option<Literal>,
        end: u64,
    ) -> Result<(), Misfit> {
        let place = self.open(invocation)?;
        self.close(place, outcome, result, end)
    }

    /// The history. Whoever was never answered has an unknown outcome.
    pub fn finish(mut self) -> History {
        self.dropped.sort_unstable();
        self.history.refused = self.dropped.len() as u64;
        let mut dropped = self.dropped.into_iter().peekable();
        let mut place = 0;
        self.history.operations.retain(|_| {
            place += 1;
            dropped.next_if_eq(&(place - 1)).is_none()
        });
        self.history
    }

    fn open(&mut self, invocation: Invocation<'_>) -> Result<u32, Misfit> {
        let Invocation { client, key, verb, args, time, line } = invocation;
        if args.len() != verb.arity() {
            return Err(Misfit::Arity { verb, takes: verb.arity(), has: args.len() });
        }
        if self.history.operations.len() >= OPERATIONS_MAX {
            return Err(Misfit::TooMany);
        }
        let start = self.clock(time)?;
        let key = self.key(key);
        let place = self.history.operations.len() as u32;
        self.history.operations.push(Operation {
            client,
            key,
            verb,
            args,
            result: None,
            start,
            end: None,
            line,
        });
        Ok(place)
    }

    fn close(
        &mut self,
        place: u32,
        outcome: Outcome,
        result: Option<Literal>,
        end: u64,
    ) -> Result<(), Misfit> {
        let operation = &mut self.history.operations[place as usize];
        match outcome {
            Outcome::Fail => self.dropped.push(place),
            Outcome::Unknown => {}
            Outcome::Ok if end < operation.start => {
                return Err(Misfit::Backwards { start: operation.start, end });
            }
            Outcome::Ok => {
                operation.end = Some(end);
                // What a write answers says nothing about the key.
                operation.result = result.filter(|_| operation.verb != Verb::Write);
            }
        }
        Ok(())
    }

    /// The time of the next event: its own, or its place.
    fn clock(&mut self, time: Option<u64>) -> Result<u64, Misfit> {
        if *self.timed.get_or_insert(time.is_some()) != time.is_some() {
            return Err(Misfit::MixedTimes);
        }
        self.events += 1;
        Ok(time.unwrap_or(self.events))
    }

    fn key(&mut self, name: &str) -> u32 {
        if let Some(place) = self.keys.get(name) {
            return *place;
        }
        let place = self.history.keys.len() as u32;
        self.history.keys.push(name.into());
        self.keys.insert(name.into(), place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_number_only_in_its_shortest_form() {
        for (text, number) in [("0", Some(0)), ("-7", Some(-7)), ("9223372036854775807", Some(i64::MAX))] {
            assert_eq!(canonical_integer(text), number, "{text}");
        }
        for text in ["", "-", "+1", "01", "-01", "-0", " 1", "1 ", "9223372036854775808", "00"] {
            assert_eq!(canonical_integer(text), None, "{text}");
        }
    }

    #[test]
    fn every_verb_is_found_by_its_name() {
        for (place, (verb, name, ..)) in Verb::ALL.into_iter().enumerate() {
            assert_eq!((verb as usize, Verb::parse(name), verb.name()), (place, Some(verb), name));
        }
    }

    #[test]
    fn events_become_intervals_and_what_failed_is_gone() {
        let mut builder = Builder::default();
        let ask = |client| Invocation {
            client,
            key: "k",
            verb: Verb::Read,
            args: vec![],
            time: None,
            line: client,
        };
        builder.invoke(ask(1)).unwrap();
        builder.invoke(ask(2)).unwrap();
        builder.invoke(ask(3)).unwrap();
        assert_eq!(builder.invoke(ask(1)), Err(Misfit::Busy { client: 1, line: 1 }));
        assert_eq!(builder.complete(9, Outcome::Ok, None, None), Err(Misfit::Idle { client: 9 }));
        builder.complete(1, Outcome::Fail, None, None).unwrap();
        builder.complete(2, Outcome::Ok, Some(Literal::Nil), None).unwrap();
        assert_eq!(builder.complete(3, Outcome::Ok, None, Some(1)), Err(Misfit::MixedTimes));
        let history = builder.finish();
        assert_eq!((history.refused, history.operations.len(), history.unknown()), (1, 2, 1));
        assert_eq!(history.operations[0].client, 2);
        assert!(history.operations[0].end > Some(history.operations[0].start));
    }
}
