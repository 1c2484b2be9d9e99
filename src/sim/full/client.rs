//! Redis clients of the simulated world, and what they are told: a history for the checker of linearizability, and an account of what
//! was appended for the check of exactly once.
//!
//! Keys come in generations of a few operations, so that the history of each stays short enough to be searched although many outcomes
//! are unknown.

use super::driver::Connection;
use crate::base::Prng;
use crate::sim::history::event::{Builder, Invocation};
use crate::sim::history::{History, Literal, Outcome, Verb};
use crate::sim::violation::{fail, hold};
use std::collections::{BTreeMap, VecDeque};

/// Of what was appended.
const EXACTLY_ONCE: &str = "exactly once";

/// Operations after which a key gives way to a fresh one.
const KEY_OPERATIONS_MAX: u64 = 40;
/// Unknown outcomes after which it does.
const KEY_UNKNOWN_MAX: u64 = 6;

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+text`.
    Simple(String),
    /// `-text`.
    Error(String),
    /// `:number`.
    Integer(i64),
    /// A bulk string, or nil.
    Bulk(Option<Vec<u8>>),
}

/// Takes the first reply off `bytes`, if it is whole.
pub fn take_reply(bytes: &mut Vec<u8>) -> Option<Reply> {
    let end = bytes.windows(2).position(|w| w == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[1..end]).into_owned();
    let (reply, used) = match bytes[0] {
        b'+' => (Reply::Simple(line), end + 2),
        b'-' => (Reply::Error(line), end + 2),
        b':' => (Reply::Integer(line.parse().expect("a number")), end + 2),
        b'$' if line == "-1" => (Reply::Bulk(None), end + 2),
        b'$' => {
            let length: usize = line.parse().expect("a length");
            let whole = end + 2 + length + 2;
            let body = bytes.get(end + 2..whole)?;
            assert_eq!(&body[length..], b"\r\n");
            (Reply::Bulk(Some(body[..length].to_vec())), whole)
        }
        other => panic!("a node sends what is no reply: {:?}", char::from(other)),
    };
    bytes.drain(..used);
    Some(reply)
}

/// What kinds of values keys hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Register,
    Text,
    Counter,
}

/// A key in use.
#[derive(Clone, Debug)]
struct Key {
    kind: Kind,
    generation: u64,
    operations: u64,
    unknown: u64,
}

/// A command that waits for its reply.
#[derive(Clone, Debug)]
struct Asked {
    key: String,
    slot: usize,
    verb: Verb,
    argument: Option<Literal>,
    start: u64,
}

/// What became of a text that was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Acknowledged,
    Refused,
    Unknown,
}

/// A client: one connection at a time.
pub struct Client {
    /// Its number.
    pub index: usize,
    /// To whom it talks, or would.
    pub node: usize,
    /// While there is one.
    pub connection: Option<Connection>,
    /// It is dialling.
    pub dialling: bool,
    /// Gives up then.
    pub deadline: Option<u64>,
    /// Replies that were received, in part.
    inbox: Vec<u8>,
    asked: VecDeque<Asked>,
}

impl Client {
    /// One that has not begun.
    pub fn new(index: usize) -> Client {
        Client {
            index,
            node: 0,
            connection: None,
            dialling: false,
            deadline: None,
            inbox: Vec::new(),
            asked: VecDeque::new(),
        }
    }
    /// Whether it waits for replies.
    pub fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// All keys, and everything that clients were told.
pub struct Account {
    keys: Vec<Key>,
    history: Builder,
    value: u64,
    /// Bytes by which some values are longer than need be.
    ballast: u64,
    /// By key, what was appended to it.
    appended: BTreeMap<String, Vec<(String, Fate)>>,
    /// All keys that were ever used.
    used: Vec<String>,
    /// Keys to be read at the end.
    audit: VecDeque<String>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Writes of unknown outcome.
    pub unknown: u64,
}

impl Account {
    /// For so many keys at a time.
    pub fn new(keys: u64, ballast: u64) -> Account {
        let kind = |slot: u64| [Kind::Register, Kind::Text, Kind::Counter][slot as usize % 3];
        let key = |slot| Key { kind: kind(slot), generation: 0, operations: 0, unknown: 0 };
        let mut account = Account {
            keys: (0..keys).map(key).collect(),
            history: Builder::default(),
            value: 0,
            ballast,
            appended: BTreeMap::new(),
            used: Vec::new(),
            audit: VecDeque::new(),
            acknowledged: 0,
            reads: 0,
            refused: 0,
            unknown: 0,
        };
        account.used = (0..account.keys.len()).map(|slot| account.name(slot)).collect();
        account
    }
    fn name(&self, slot: usize) -> String {
        let letter = match self.keys[slot].kind {
            Kind::Register => 'r',
            Kind::Text => 't',
            Kind::Counter => 'c',
        };
        format!("{letter}{slot}.{}", self.keys[slot].generation)
    }

    /// Writes a client's next command behind `out`.
    pub fn ask(
        &mut self,
        client: &mut Client,
        now: u64,
        reads_of_ten: u64,
        prng: &mut Prng,
        out: &mut Vec<u8>,
    ) {
        let slot = prng.below(self.keys.len() as u64) as usize;
        let name = self.name(slot);
        self.keys[slot].operations += 1;
        if KEY_OPERATIONS_MAX < self.keys[slot].operations {
            self.renew(slot);
        }
        self.value += 1;
        let value = self.value;
        let (verb, words, argument) = if prng.chance(reads_of_ten, 10) {
            (Verb::Read, vec!["GET".to_string(), name.clone()], None)
        } else {
            match self.keys[slot].kind {
                Kind::Register if prng.chance(1, 8) => (Verb::Delete, vec!["DEL".into(), name.clone()], None),
                Kind::Register if 0 < self.ballast && prng.chance(1, 3) => {
                    let text = format!("{value}{}", "-".repeat(self.ballast as usize));
                    let words = vec!["SET".into(), name.clone(), text.clone()];
                    (Verb::Write, words, Some(Literal::Text(text.into())))
                }
                Kind::Register => {
                    let words = vec!["SET".into(), name.clone(), value.to_string()];
                    (Verb::Write, words, Some(Literal::Integer(value as i64)))
                }
                Kind::Text => {
                    let text = format!("{value}.");
                    let words = vec!["APPEND".into(), name.clone(), text.clone()];
                    (Verb::Append, words, Some(Literal::Text(text.into())))
                }
                Kind::Counter => {
                    let words = vec!["INCRBY".into(), name.clone(), value.to_string()];
                    (Verb::Add, words, Some(Literal::Integer(value as i64)))
                }
            }
        };
        encode(&words, out);
        client.asked.push_back(Asked { key: name, slot, verb, argument, start: now });
    }

    /// Lets every key that was ever used be read once more.
    pub fn begin_audit(&mut self) {
        self.audit = self.used.iter().cloned().collect();
    }
    /// Keys that are still to be read.
    pub fn audit_left(&self) -> usize {
        self.audit.len()
    }
    /// Writes a read of the next key that is to be read behind `out`.
    pub fn ask_audit(&mut self, client: &mut Client, now: u64, out: &mut Vec<u8>) {
        let Some(key) = self.audit.pop_front() else { return };
        encode(&["GET".to_string(), key.clone()], out);
        client.asked.push_back(Asked { key, slot: usize::MAX, verb: Verb::Read, argument: None, start: now });
    }

    fn renew(&mut self, slot: usize) {
        let Key { kind, generation, .. } = self.keys[slot];
        self.keys[slot] = Key { kind, generation: generation + 1, operations: 0, unknown: 0 };
        let name = self.name(slot);
        self.used.push(name);
    }

    /// Bytes have come for a client. Gives back the number of writes that are acknowledged with them.
    pub fn hear(&mut self, client: &mut Client, now: u64, bytes: &[u8]) -> u64 {
        client.inbox.extend_from_slice(bytes);
        let before = self.acknowledged;
        while let Some(reply) = take_reply(&mut client.inbox) {
            if matches!(&reply, Reply::Error(text) if text.starts_with("ERR max number of clients")) {
                // Said to a connection that is not taken in; what it has sent is not read.
                self.lose(client, now);
                break;
            }
            let asked = client.asked.pop_front();
            let asked = asked.unwrap_or_else(|| panic!("a reply without a command: {reply:?}"));
            self.told(client.index, asked, reply, now);
        }
        self.acknowledged - before
    }

    fn told(&mut self, client: usize, asked: Asked, reply: Reply, now: u64) {
        let verb = asked.verb;
        let (outcome, result) = match (verb, reply) {
            (_, Reply::Error(text)) if text.starts_with("INDETERMINATE") => (Outcome::Unknown, None),
            (_, Reply::Error(text)) => {
                let known = ["CLUSTERDOWN", "OVERLOADED", "OOM", "LOADING", "TRYAGAIN"];
                assert!(known.iter().any(|k| text.starts_with(k)), "an unexpected error: {text}");
                (Outcome::Fail, None)
            }
            (Verb::Read, Reply::Bulk(None)) => (Outcome::Ok, Some(Literal::Nil)),
            (Verb::Read, Reply::Bulk(Some(bytes))) => {
                let text = String::from_utf8(bytes).expect("clients write text");
                (Outcome::Ok, Some(Literal::text(&text)))
            }
            (Verb::Write, Reply::Simple(text)) if text == "OK" => (Outcome::Ok, None),
            (Verb::Append | Verb::Add | Verb::Delete, Reply::Integer(number)) => {
                (Outcome::Ok, Some(Literal::Integer(number)))
            }
            (verb, reply) => panic!("{verb:?} is answered with {reply:?}"),
        };
        self.record(client, asked, outcome, result, now);
    }

    fn record(&mut self, client: usize, asked: Asked, outcome: Outcome, result: Option<Literal>, now: u64) {
        let Asked { key, slot, verb, argument, start } = asked;
        let is_read = verb == Verb::Read;
        if slot == usize::MAX && outcome != Outcome::Ok {
            self.audit.push_back(key.clone());
        }
        let fate = match outcome {
            Outcome::Ok => Fate::Acknowledged,
            Outcome::Fail => Fate::Refused,
            _ => Fate::Unknown,
        };
        let counter = match fate {
            Fate::Acknowledged if is_read => &mut self.reads,
            Fate::Acknowledged => &mut self.acknowledged,
            Fate::Refused => &mut self.refused,
            Fate::Unknown => &mut self.unknown,
        };
        *counter += 1;
        if fate == Fate::Unknown && !is_read && self.keys.get(slot).is_some() && self.name(slot) == key {
            self.keys[slot].unknown += 1;
            if KEY_UNKNOWN_MAX <= self.keys[slot].unknown {
                self.renew(slot);
            }
        }
        if let (Verb::Append, Some(Literal::Text(text))) = (verb, &argument) {
            self.appended.entry(key.clone()).or_default().push((text.to_string(), fate));
        }
        let args = argument.into_iter().collect();
        let invocation =
            Invocation { client: client as u64, key: &key, verb, args, time: Some(start), line: 0 };
        self.history.whole(invocation, outcome, result, now).expect("our own operations fit");
    }

    /// A client's connection is gone, or it gives up: nobody knows what became of what it asked.
    pub fn lose(&mut self, client: &mut Client, now: u64) {
        client.inbox.clear();
        (client.connection, client.deadline) = (None, None);
        for asked in std::mem::take(&mut client.asked) {
            self.record(client.index, asked, Outcome::Unknown, None, now);
        }
    }

    /// Everything, for the checkers.
    pub fn close(self) -> (History, Appended) {
        (self.history.finish(), Appended(self.appended))
    }
}

/// What was appended to each key.
pub struct Appended(BTreeMap<String, Vec<(String, Fate)>>);

impl Appended {
    /// Exactly once: in the last value that was read of each key every acknowledged text stands once, every unknown one at most once,
    /// a refused one not at all, and nothing else does.
    pub fn check(&self, history: &History) {
        let mut last: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for operation in history.operations.iter().filter(|o| o.verb == Verb::Read) {
            let Some(end) = operation.end else { continue };
            let text = match &operation.result {
                Some(Literal::Text(text)) => text,
                _ => "",
            };
            let key = &history.keys[operation.key as usize];
            if last.get(&**key).is_none_or(|(before, _)| *before < end) {
                last.insert(key, (end, text));
            }
        }
        for (key, texts) in &self.0 {
            let value = last.get(key.as_str()).map_or("", |(_, value)| value);
            let mut left: Vec<&str> = value.split_inclusive('.').collect();
            for (text, fate) in texts {
                let before = left.len();
                left.retain(|part| part != text);
                match (fate, before - left.len()) {
                    (Fate::Acknowledged, 1) | (Fate::Unknown, 0 | 1) | (Fate::Refused, 0) => (),
                    (fate, times) => fail(
                        EXACTLY_ONCE,
                        format_args!("{text} stands {times} times in {key}, told was {fate:?}: {value}"),
                    ),
                }
            }
            hold!(EXACTLY_ONCE, left.is_empty(), "{key} holds {left:?}, which nobody appended");
        }
    }
}

fn encode(words: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::violation::violates;

    #[test]
    fn replies_are_taken_whole() {
        let mut bytes = b"+OK\r\n:-3\r\n$2\r\nab\r\n$-1\r\n-ERR x\r\n$5\r\nabc".to_vec();
        let mut taken = Vec::new();
        while let Some(reply) = take_reply(&mut bytes) {
            taken.push(reply);
        }
        let expected = [
            Reply::Simple("OK".into()),
            Reply::Integer(-3),
            Reply::Bulk(Some(b"ab".to_vec())),
            Reply::Bulk(None),
            Reply::Error("ERR x".into()),
        ];
        assert_eq!(taken, expected);
        assert_eq!(bytes, b"$5\r\nabc");
    }

    fn account(fate: Outcome, value: Option<&str>) -> (History, Appended) {
        let mut account = Account::new(3, 0);
        let asked = |verb, argument| Asked { key: "t1.0".into(), slot: 1, verb, argument, start: 0 };
        account.record(0, asked(Verb::Append, Some(Literal::Text("5.".into()))), fate, None, 1);
        let value = value.map_or(Literal::Nil, Literal::text);
        account.record(0, asked(Verb::Read, None), Outcome::Ok, Some(value), 2);
        account.close()
    }

    #[test]
    fn what_was_appended_stands_once() {
        for (fate, value, holds) in [
            (Outcome::Ok, Some("5."), true),
            (Outcome::Ok, None, false),
            (Outcome::Ok, Some("5.5."), false),
            (Outcome::Unknown, Some("5."), true),
            (Outcome::Unknown, None, true),
            (Outcome::Unknown, Some("5.5."), false),
            (Outcome::Fail, None, true),
            (Outcome::Fail, Some("5."), false),
            (Outcome::Unknown, Some("6."), false),
        ] {
            let (history, appended) = account(fate, value);
            match holds {
                true => appended.check(&history),
                false => violates("exactly once", || appended.check(&history)),
            }
        }
    }
}
