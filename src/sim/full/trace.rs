//! A run of whole nodes as text: one compact line an input and an effect. What nodes tell each other is read off the connections, in the
//! words of scenario files ([`crate::sim::render`]); of an encrypted one only the lengths can be told.

use super::driver::Connection;
use super::sockets::{Party, Segment, Stream};
use super::world::World;
use crate::sim::render::brief;
use crate::wire::frame::{HEADER_BYTES, Header, MAGIC};
use crate::wire::peek::peek;
use std::collections::BTreeMap;
use std::fmt::Arguments;

/// Longest text of a command or reply.
const TEXT_MAX: usize = 120;

/// Where the lines go.
pub struct Trace {
    line: Box<dyn FnMut(&str)>,
    /// What has been said and heard over each connection, up to the first frame that is not whole; by side, and whether heard.
    streams: BTreeMap<(u64, usize, bool), Vec<u8>>,
    /// How each node stood: term, whether it leads, commit, applied.
    stood: Vec<(u64, bool, u64, u64)>,
}

impl Trace {
    /// Calls `line` with each line.
    pub fn new(line: impl FnMut(&str) + 'static) -> Trace {
        Trace { line: Box::new(line), streams: BTreeMap::new(), stood: Vec::new() }
    }
    fn say(&mut self, now: u64, who: &str, what: Arguments<'_>) {
        let (millis, micros) = (now / 1_000_000, now / 1000 % 1000);
        (self.line)(&format!("{millis:>7}.{micros:03} {who} {what}"));
    }
    /// Whole frames that end with these bytes, and whatever is none.
    fn frames(&mut self, key: (u64, usize, bool), bytes: &[u8]) -> Vec<String> {
        let buffer = self.streams.entry(key).or_default();
        buffer.extend_from_slice(bytes);
        let mut lines = Vec::new();
        loop {
            let magic = MAGIC.to_le_bytes();
            let start = buffer.windows(magic.len()).position(|window| window == magic);
            // The end may be the beginning of a frame.
            let strange = start.unwrap_or(buffer.len().saturating_sub(magic.len() - 1));
            if 0 < strange {
                lines.push(format!("{strange} bytes that are no frame"));
                buffer.drain(..strange);
            }
            let Some(head) = buffer.first_chunk::<HEADER_BYTES>().filter(|_| start.is_some()) else {
                return lines;
            };
            let Ok(header) = Header::parse(head) else {
                buffer.drain(..magic.len());
                continue;
            };
            if buffer.len() < header.length {
                return lines;
            }
            let frame: Vec<u8> = buffer.drain(..header.length).collect();
            match peek(&frame) {
                Some(messages) => lines.extend(messages.iter().map(brief)),
                None => lines.push(format!("a frame of {} bytes that cannot be read", frame.len())),
            }
        }
    }
}

impl World {
    /// Something happens to a node.
    pub(super) fn say_of(&mut self, node: usize, what: Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.say(self.now, &(node + 1).to_string(), what);
        }
    }
    /// Something happens between nodes.
    pub(super) fn say_of_network(&mut self, what: Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.say(self.now, "-", what);
        }
    }

    /// A node says these bytes, or hears them.
    pub(super) fn say_bytes(&mut self, at: Connection, is_heard: bool, bytes: &[u8]) {
        let Some(trace) = &mut self.trace else { return };
        let Some(Stream { parties, .. }) = self.streams.get(at.id) else { return };
        let (own, other) = (parties[at.side], parties[1 - at.side]);
        let Party::Node { index, .. } = own else { return };
        let arrow = if is_heard { "<" } else { ">" };
        let node = (index + 1).to_string();
        match other {
            Party::Client(client) => {
                trace.say(self.now, &node, format_args!("{arrow} client {client}: {}", resp_text(bytes)));
            }
            Party::Node { index: peer, .. } => {
                for line in trace.frames((at.id, at.side, is_heard), bytes) {
                    trace.say(self.now, &node, format_args!("{arrow} {} {line}", peer + 1));
                }
            }
        }
    }
    /// An end of a connection reaches a node.
    pub(super) fn say_end(&mut self, at: Connection, segment: &Segment) {
        let what = match segment {
            Segment::Data(_) => return,
            Segment::End => "ends",
            Segment::Reset => "is reset",
        };
        let Some(Stream { parties, .. }) = self.streams.get(at.id) else { return };
        let (own, other) = (parties[at.side], parties[1 - at.side]);
        if let (Party::Node { index, .. }, Party::Node { index: peer, .. }) = (own, other) {
            self.say_of(index, format_args!("< the connection with {} {what}", peer + 1));
        }
    }

    /// What has become of a node since it was looked at last.
    pub(super) fn say_standing(&mut self, node: usize) {
        let Some(trace) = &mut self.trace else { return };
        let Some(life) = &self.nodes[node].life else { return };
        trace.stood.resize(self.nodes.len(), Default::default());
        let before = trace.stood[node];
        let (leader, term) = (life.told.leader.get(), life.told.term.get());
        let now = (term, leader == node as u64 + 1, life.told.commit.get(), life.store.applied.get());
        if now == before {
            return;
        }
        trace.stood[node] = now;
        let mut news = Vec::new();
        if before.0 != now.0 || before.1 != now.1 {
            news.push(format!("{} term {}", if now.1 { "leads" } else { "follows in" }, now.0));
        }
        if before.2 != now.2 {
            news.push(format!("commits up to {}", now.2));
        }
        if before.3 != now.3 {
            news.push(format!("has applied up to {}", now.3));
        }
        let who = (node + 1).to_string();
        trace.say(self.now, &who, format_args!("> {}", news.join(", ")));
    }
}

/// Commands and replies without their lengths.
fn resp_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_length = |word: &str| word.starts_with(['*', '$']) && word != "$-1";
    let words = text.split("\r\n").filter(|word| !word.is_empty() && !is_length(word));
    let words = words.map(|word| if word == "$-1" { "(nil)" } else { word });
    let words = words.collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}..", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::full::{Swarm, World};
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn who_looks_on_changes_nothing_and_sees_commands_messages_and_writes() {
        let lines: Rc<RefCell<Vec<String>>> = Rc::default();
        let told = lines.clone();
        let traced =
            World::run_traced(2, Swarm::calm(3), 2_000, move |line| told.borrow_mut().push(line.into()));
        assert_eq!(traced, World::run_swarm(2, Swarm::calm(3), 2_000));
        for part in ["< client ", "> client ", "Append term", "> write ", " leads term", "> commits up to"] {
            assert!(lines.borrow().iter().any(|line| line.contains(part)), "no line says {part:?}");
        }
    }

    #[test]
    fn commands_read_as_they_were_typed() {
        assert_eq!(resp_text(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), "GET k");
        assert_eq!(resp_text(b"+OK\r\n:5\r\n$-1\r\n"), "+OK :5 (nil)");
    }
}
