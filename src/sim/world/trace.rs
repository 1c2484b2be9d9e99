//! A run as text: one compact line an input and an effect. The words are those of scenario files ([`crate::sim::render`]).

use super::Event;
use crate::base::Instant;
use crate::protocol::Fetched;
use crate::replica::Effects;
use crate::sim::render::{answer_text, brief, record_text};
use crate::wire::hop::{Decided, Demand, Keep};

/// Where the lines go.
pub struct Trace(Box<dyn FnMut(&str)>);

impl Trace {
    /// Calls `line` with each line.
    pub fn new(line: impl FnMut(&str) + 'static) -> Trace {
        Trace(Box::new(line))
    }

    fn say(&mut self, now: Instant, node: usize, what: std::fmt::Arguments<'_>) {
        let (millis, micros) = (now.0 / 1_000_000, now.0 / 1000 % 1000);
        (self.0)(&format!("{millis:>7}.{micros:03} {} {what}", node + 1));
    }

    /// Something happens to the network as a whole.
    pub fn network(&mut self, now: Instant, what: &str) {
        let (millis, micros) = (now.0 / 1_000_000, now.0 / 1000 % 1000);
        (self.0)(&format!("{millis:>7}.{micros:03} - {what}"));
    }

    /// A client of a node asks for something.
    pub fn demands(&mut self, now: Instant, node: usize, demand: &Demand) {
        match demand {
            Demand::Write { sequence, .. } => self.say(now, node, format_args!("< write {sequence}")),
            Demand::Read { id, .. } => self.say(now, node, format_args!("< read {id}")),
        }
    }

    /// Something happens to a node.
    pub fn happens(&mut self, now: Instant, node: usize, event: &Event) {
        match event {
            Event::Deliver { from, opened } => {
                self.say(now, node, format_args!("< {} {}", from + 1, brief(&opened.message)));
            }
            Event::Written { ticket } => self.say(now, node, format_args!("< written {ticket}")),
            Event::Fetched { found, .. } => match found {
                Fetched::Entries(entries) => {
                    self.say(now, node, format_args!("< fetched {} entries", entries.len()));
                }
                Fetched::Piece { slot, offset, .. } => {
                    self.say(now, node, format_args!("< fetched piece of {slot}: {offset}.."));
                }
                Fetched::Gone => self.say(now, node, format_args!("< fetched nothing")),
            },
            Event::Snapshotted { snapshot } => {
                self.say(now, node, format_args!("< has a snapshot at {}", snapshot.id.slot));
            }
            Event::Installed { snapshot } => {
                self.say(now, node, format_args!("< installs a snapshot at {}", snapshot.id.slot));
            }
            Event::Poisoned { id } => self.say(now, node, format_args!("< a false snapshot at {}", id.slot)),
            Event::Wanted { id, ranges } => {
                self.say(now, node, format_args!("< lacks {} ranges of {}", ranges.len() / 4, id.slot));
            }
            Event::Lost { peer } => self.say(now, node, format_args!("< lost {peer}")),
            Event::Restart => self.say(now, node, format_args!("restart")),
            Event::Crash => self.say(now, node, format_args!("crash")),
            Event::Resume => self.say(now, node, format_args!("resume")),
            // What they bring about is told as effects.
            Event::Apply | Event::Wake | Event::Turn | Event::Flap { .. } => (),
        }
    }

    /// What a node's burst has brought about.
    pub fn wants(&mut self, now: Instant, node: usize, effects: &Effects) {
        for (ticket, record) in &effects.records {
            self.say(now, node, format_args!("> write {ticket}: {}", record_text(record)));
        }
        for sent in &effects.outgoing {
            self.say(now, node, format_args!("> {} {}", sent.to, brief(&sent.message)));
        }
        for decided in &effects.decided {
            match decided {
                Decided::Ask { origin, id, .. } => self.say(now, node, format_args!("> {origin} asks {id}")),
                Decided::Again { origin, sequence, .. } => {
                    self.say(now, node, format_args!("> {origin}/{sequence} again"));
                }
                Decided::Digest { slot, .. } => self.say(now, node, format_args!("> digest at {slot}")),
                Decided::Commit { entry, .. } => {
                    self.say(now, node, format_args!("> commits {}", entry.slot))
                }
                Decided::Read { id, slot, .. } => self.say(now, node, format_args!("> read {id} at {slot}")),
            }
        }
        for fetch in &effects.fetches {
            self.say(now, node, format_args!("> fetch {}..", fetch.from));
        }
        for keep in &effects.keeps {
            if let Keep::Fetch { offset, .. } = keep {
                self.say(now, node, format_args!("> fetch piece {offset}.."));
            }
        }
        for answer in &effects.answers {
            self.say(now, node, format_args!("> {}", answer_text(answer)));
        }
    }

    /// A client of a node is answered by its store.
    pub fn answers(&mut self, now: Instant, node: usize, what: std::fmt::Arguments<'_>) {
        self.say(now, node, what);
    }
}
