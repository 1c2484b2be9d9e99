//! A store that is talked to in words.

use crate::base::{Body, GROUP_ONE, NodeId, Origin, Stamp, Term};
use crate::resp::{Op, batch};
use crate::store::transcript::render;
use crate::store::{HashKey, Options, Replies, Store};
use crate::wire::{Entry, EntryKind};

pub const OPTIONS: Options = Options { group: GROUP_ONE, key: HashKey([7; 16]), bucket_bits: 8 };
pub const ORIGIN: Origin = Origin { node: NodeId(1), lane: 0, boot: 1 };

/// An entry with these commands, of the one origin, that follows `store`'s last.
pub fn entry_after(store: &Store, stamp: Stamp, body: Vec<u8>) -> Entry {
    let sequence = store.last_sequence(ORIGIN) + 1;
    Entry {
        term: Term(1),
        slot: store.applied().next(),
        stamp,
        kind: EntryKind::Batch,
        origin: ORIGIN,
        sequence,
        floor: 1,
        body: Body::new(body.into()),
    }
}

/// Appends a command in words.
pub fn command(body: &mut Vec<u8>, flags: u8, words: &[Vec<u8>]) -> Op {
    let name = String::from_utf8(words[0].to_ascii_uppercase()).unwrap();
    let op = *Op::ALL.iter().find(|op| op.name() == name).unwrap_or_else(|| panic!("{name}"));
    batch::write(body, op, flags, words[1..].iter().map(|w| &w[..]));
    op
}

/// Sends one command through the log, or as a read, and tells its reply.
pub fn call(store: &mut Store, stamp: Stamp, flags: u8, words: &[Vec<u8>]) -> String {
    let (mut body, mut replies) = (Vec::new(), Replies::default());
    if command(&mut body, flags, words).is_read() {
        store.read(&body, &mut replies);
    } else {
        let entry = entry_after(store, stamp, body);
        store.apply(&entry, Some(&mut replies));
    }
    assert_eq!(replies.ends, [replies.bytes.len() as u32]);
    let (text, rest) = render(&replies.bytes).expect("a whole reply");
    assert!(rest.is_empty());
    text
}

/// An entry that only carries a stamp.
pub fn tick(store: &mut Store, stamp: Stamp) {
    let entry = Entry { term: Term(1), slot: store.applied().next(), stamp, ..Entry::default() };
    store.apply(&entry, None);
}
