//! Transfer by ranges as the simulated keeper does it: a state's bytes are cut into small ranges, its outline is their digests, and its
//! digest is the outline's. What is checked where, and what is asked of whom after a lie, is as in the real one (`store::gather`).

use super::disk::Snapshot;
use super::machine::Machine;
use crate::base::{Body, Digest};
use crate::wire::hop::{Certified, SnapshotId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes of a range.
const RANGE: usize = 64;
/// Most ranges of one question: few, so that there are several.
const ASKED_MAX: usize = 4;

fn ranges(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(RANGE)
}
fn outline(bytes: &[u8]) -> Vec<u8> {
    ranges(bytes).flat_map(|range| Digest::of(range).0).collect()
}
/// The digest by which a state is certified.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::of(&outline(bytes))
}
/// The whole answer to a question for ranges, or for the outline. `None` when there is no such range.
pub fn answer(bytes: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    if wanted.is_empty() {
        return Some(outline(bytes));
    }
    let (numbers, _) = wanted.as_chunks::<4>();
    let mut whole = Vec::new();
    for number in numbers {
        let range = ranges(bytes).nth(u32::from_le_bytes(*number) as usize)?;
        whole.extend_from_slice(&(range.len() as u32).to_le_bytes());
        whole.extend_from_slice(range);
    }
    Some(whole)
}

/// What a piece has brought.
pub enum Brought {
    /// More is on its way, or it was late.
    Nothing,
    /// These ranges are wanted next.
    Wanted(Body),
    /// It is not what was certified.
    Poisoned,
    /// The state is whole.
    Whole(Snapshot),
}

/// A certified state on its way in.
#[derive(Default)]
pub struct Gathered {
    of: Option<(SnapshotId, Digest)>,
    /// The answer that is coming, and to which question.
    coming: Vec<u8>,
    question: Body,
    /// Digests, once they are certified, and the ranges that have come.
    outline: Option<Vec<Digest>>,
    come: BTreeMap<u32, Bytes>,
}

impl Gathered {
    /// Takes a piece; `own` is the own newest snapshot.
    pub fn take(
        &mut self,
        id: SnapshotId,
        (offset, total, body): (u64, u64, &[u8]),
        certified: &Certified,
        own: &[u8],
    ) -> Brought {
        if self.of != Some((id, certified.digest)) {
            *self = Gathered { of: Some((id, certified.digest)), ..Gathered::default() };
        }
        if offset == 0 && certified.ranges.is_empty() && self.outline.is_some() {
            // Another source: it goes on where it stood.
            return self.next();
        }
        if offset == 0 {
            self.coming.clear();
            self.question = certified.ranges.clone();
        }
        if self.question != certified.ranges || self.coming.len() as u64 != offset {
            return Brought::Nothing;
        }
        self.coming.extend_from_slice(body);
        if (self.coming.len() as u64) < total {
            return Brought::Nothing;
        }
        let whole = std::mem::take(&mut self.coming);
        let fits = match certified.ranges.is_empty() {
            true => self.outlined(&whole, certified.digest, own),
            false => self.ranged(&whole),
        };
        if fits { self.next() } else { Brought::Poisoned }
    }

    fn outlined(&mut self, whole: &[u8], digest: Digest, own: &[u8]) -> bool {
        let (digests, left) = whole.as_chunks::<32>();
        if Digest::of(whole) != digest || !left.is_empty() {
            return false;
        }
        let digests: Vec<Digest> = digests.iter().copied().map(Digest).collect();
        for (number, range) in ranges(own).enumerate() {
            if digests.get(number) == Some(&Digest::of(range)) {
                self.come.insert(number as u32, Bytes::copy_from_slice(range));
            }
        }
        self.outline = Some(digests);
        true
    }

    fn ranged(&mut self, whole: &[u8]) -> bool {
        let Some(outline) = &self.outline else { return false };
        let (numbers, _) = self.question.bytes().as_chunks::<4>();
        let mut rest = whole;
        for number in numbers.iter().map(|number| u32::from_le_bytes(*number)) {
            let Some((length, behind)) = rest.split_first_chunk::<4>() else { return false };
            let Some((range, behind)) = behind.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                return false;
            };
            if outline.get(number as usize) != Some(&Digest::of(range)) {
                return false;
            }
            self.come.insert(number, Bytes::copy_from_slice(range));
            rest = behind;
        }
        rest.is_empty()
    }

    fn next(&mut self) -> Brought {
        let Some(outline) = &self.outline else { return Brought::Nothing };
        let missing = (0..outline.len() as u32).filter(|number| !self.come.contains_key(number));
        let wanted: Vec<u8> = missing.take(ASKED_MAX).flat_map(u32::to_le_bytes).collect();
        if !wanted.is_empty() {
            return Brought::Wanted(Body::new(wanted.into()));
        }
        let bytes: Vec<u8> = self.come.values().flatten().copied().collect();
        let Some((id, _)) = self.of.take() else { return Brought::Nothing };
        *self = Gathered::default();
        // What a piece says beside its bytes nobody has certified. The real one compares it with the state's header.
        if Machine::load(&bytes).id(id.group) != id {
            return Brought::Poisoned;
        }
        Brought::Whole(Snapshot { id, bytes: bytes.into() })
    }
}
