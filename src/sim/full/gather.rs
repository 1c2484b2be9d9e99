//! Transfer by ranges in the simulated keeper: the real checks (`store::gather`) over bytes in memory.

use crate::base::{Body, Digest};
use crate::store;
use crate::store::gather::{Gathering, Next, Then, Took};
use crate::store::ranges::{Index, Indexing, Segment};
use crate::wire::hop::{Certified, SnapshotId};
use bytes::Bytes;

/// What a piece has brought.
pub enum Brought {
    /// More is on its way, or it was late.
    Nothing,
    /// What lies before it is missing.
    Again(u64),
    /// These ranges are wanted next.
    Wanted(Body),
    /// It is not what was certified.
    Poisoned,
    /// The file is whole.
    Whole(Vec<u8>),
    /// What was certified is no state of this store.
    Failed,
}

/// A certified state on its way in.
pub struct Gathered {
    gathering: Gathering,
    file: Vec<u8>,
}

impl Gathered {
    /// Nothing has come.
    pub fn new(id: SnapshotId, digest: Digest, options: store::Options) -> Gathered {
        Gathered { gathering: Gathering::new(id, digest, options), file: Vec::new() }
    }
    /// Of what it is.
    pub fn is_of(&self, id: SnapshotId, digest: Digest) -> bool {
        self.gathering.is_of(id, digest)
    }

    /// Takes a piece; `own` is the own newest snapshot.
    pub fn take(
        &mut self,
        (offset, total, body): (u64, u64, &Bytes),
        certified: &Certified,
        own: Option<&Bytes>,
    ) -> Brought {
        match self.gathering.take(offset, total, body, &certified.ranges) {
            Took::Nothing | Took::Part => Brought::Nothing,
            Took::Again(next) => Brought::Again(next),
            Took::Poisoned(_) => Brought::Poisoned,
            Took::Outlined(head) => {
                self.file = head;
                self.adopt(own);
                self.next()
            }
            Took::Ranges(bytes, then) => {
                self.file.extend_from_slice(&bytes);
                match then {
                    Then::Part => Brought::Nothing,
                    Then::Poisoned(_) => Brought::Poisoned,
                    Then::Done => self.next(),
                }
            }
        }
    }

    fn adopt(&mut self, own: Option<&Bytes>) {
        let Some((own, index)) = own.and_then(|own| Some((own, index(own)?))) else { return };
        for number in self.gathering.had(&index) {
            let (at, length) = index.place(number).unwrap_or_default();
            let range = own.slice(at as usize..(at + length) as usize);
            if self.gathering.adopt(number, &range) {
                self.file.extend_from_slice(&range);
            }
        }
    }

    fn next(&mut self) -> Brought {
        match self.gathering.go_on() {
            Ok(Next::Wanted(ranges)) => Brought::Wanted(ranges),
            Ok(Next::Whole(trailer)) => {
                self.file.extend_from_slice(&trailer);
                Brought::Whole(std::mem::take(&mut self.file))
            }
            Err(_) => Brought::Failed,
        }
    }
}

fn index(snapshot: &Bytes) -> Option<Index> {
    let mut indexing = Indexing::begin();
    indexing.feed(snapshot).ok()?;
    indexing.finish().ok()
}

/// A piece of the answer to a question for ranges of a snapshot, or for its outline, and how long the whole is.
pub fn answer(snapshot: &Bytes, ranges: &[u8], offset: u64, most: usize) -> Option<(u64, Bytes)> {
    let (total, segments) = index(snapshot)?.answer(ranges, offset, most)?;
    let mut body = Vec::new();
    for segment in segments {
        match segment {
            Segment::Bytes(bytes) => body.extend_from_slice(&bytes),
            Segment::File { at, length } => {
                body.extend_from_slice(&snapshot[at as usize..(at + length) as usize]);
            }
        }
    }
    Some((total, body.into()))
}
