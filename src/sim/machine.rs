//! A state machine small enough to be seen through: the newest write of each key, what each origin has had applied, and a hash
//! chain over everything, so that two machines at the same slot are equal or a checker says so.

use crate::base::{GroupId, Origin, Slot, Stamp, Term};
use crate::wire::hop::SnapshotId;
use crate::wire::members::{Members, OPERATOR};
use crate::wire::sequence::{Verdict, judge};
use crate::wire::{Entry, EntryKind};
use bytes::Bytes;
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The newest entry applied.
    pub applied: Slot,
    term: Term,
    stamp: Stamp,
    /// Hash of every applied entry, in order.
    pub chain: u64,
    /// The newest boot of each front, and its newest applied sequence.
    sessions: BTreeMap<(u8, u8), (u64, u64)>,
    /// The slot that wrote each key last.
    pub keys: BTreeMap<u8, u64>,
    /// Who is in the group, where that was changed.
    pub members: Members,
}

/// Stands before the members in a saved state, where a key could stand.
const MEMBERS: u64 = u64::MAX;

impl Machine {
    /// Applies the next entry. Tells what became of its batch, if it carries one.
    pub fn apply(&mut self, entry: &Entry) -> Option<Verdict> {
        assert_eq!(entry.slot, self.applied.next(), "entries are applied one by one");
        assert!(self.stamp <= entry.stamp, "stamps never fall");
        (self.applied, self.term, self.stamp) = (entry.slot, entry.term, entry.stamp);
        self.chain = mix(self.chain, digest(entry));
        let verdict = (entry.kind == EntryKind::Batch).then(|| self.batch(entry));
        self.members.reach(entry.slot);
        verdict
    }

    fn batch(&mut self, entry: &Entry) -> Verdict {
        if entry.origin.node == OPERATOR {
            let is_amended = self.members.amend(entry.slot, entry.body.bytes());
            return if is_amended { Verdict::Applied } else { Verdict::Duplicate };
        }
        let Origin { node, lane, boot } = entry.origin;
        let session = self.sessions.entry((node.0, lane)).or_default();
        if boot < session.0 {
            return Verdict::Duplicate;
        }
        if session.0 < boot {
            *session = (boot, 0);
        }
        let verdict = judge(session.1, entry.sequence, entry.floor);
        if verdict == Verdict::Applied {
            session.1 = entry.sequence;
            self.keys.insert(entry.body.bytes().first().copied().unwrap_or(0), entry.slot.0);
        }
        verdict
    }

    /// The newest applied sequence of a front.
    pub fn last_of(&self, origin: Origin) -> u64 {
        let session = self.sessions.get(&(origin.node.0, origin.lane));
        session.filter(|(boot, _)| *boot == origin.boot).map_or(0, |(_, last)| *last)
    }

    /// Names a snapshot of it.
    pub fn id(&self, group: GroupId) -> SnapshotId {
        SnapshotId { group, slot: self.applied, term: self.term, stamp: self.stamp }
    }

    /// Stands for the whole state.
    pub fn digest(&self) -> u64 {
        let head = [self.applied.0, self.term.0, self.stamp.0, self.chain].into_iter().fold(0, mix);
        let sessions =
            self.sessions.iter().flat_map(|(k, v)| [u64::from(k.0) << 8 | u64::from(k.1), v.0, v.1]);
        let keys = self.keys.iter().flat_map(|(k, v)| [u64::from(*k), *v]);
        let members = self.members.bytes();
        sessions.chain(keys).chain(members.into_iter().map(u64::from)).fold(head, mix)
    }

    /// The whole state as bytes.
    pub fn save(&self) -> Bytes {
        let head = [self.applied.0, self.term.0, self.stamp.0, self.chain, self.sessions.len() as u64];
        let sessions = self.sessions.iter().flat_map(|(k, v)| [u64::from(k.0), u64::from(k.1), v.0, v.1]);
        let keys = self.keys.iter().flat_map(|(k, v)| [u64::from(*k), *v]);
        let mut members = self.members.bytes();
        let length = members.len();
        members.resize(length.next_multiple_of(8), 0);
        let mark = [MEMBERS, length as u64].into_iter().filter(|_| 0 < length);
        let words = head.into_iter().chain(sessions).chain(keys).chain(mark);
        words.flat_map(u64::to_le_bytes).chain(members).collect()
    }

    /// The state that was saved; panics when the bytes are others, for the simulated network changes none.
    pub fn load(bytes: &[u8]) -> Machine {
        assert_eq!(bytes.len() % 8, 0);
        let mut words = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes")));
        let mut word = || words.next().expect("a snapshot is whole");
        let (applied, term, stamp) = (Slot(word()), Term(word()), Stamp(word()));
        let (chain, count) = (word(), word());
        let sessions = (0..count).map(|_| ((word() as u8, word() as u8), (word(), word()))).collect();
        let mut machine = Machine { applied, term, stamp, chain, sessions, ..Machine::default() };
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            if key == MEMBERS {
                let members: Vec<u8> = words.by_ref().flat_map(u64::to_le_bytes).collect();
                machine.members = Members::decode(&members[..value as usize]).expect("as it was saved");
                break;
            }
            machine.keys.insert(key as u8, value);
        }
        machine
    }
}

/// Stands for an entry's whole content.
pub fn digest(entry: &Entry) -> u64 {
    let Entry { term, slot, stamp, kind, origin, sequence, floor, body } = entry;
    let words = [
        term.0,
        slot.0,
        stamp.0,
        *kind as u64,
        u64::from(origin.node.0) << 8 | u64::from(origin.lane),
        origin.boot,
        *sequence,
        *floor,
    ];
    let head = words.into_iter().fold(0, mix);
    body.bytes().iter().fold(head, |hash, byte| mix(hash, u64::from(*byte)))
}

/// One step of a hash: not for enemies.
pub fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Body, GROUP_ONE, NodeId};

    #[test]
    fn what_is_saved_is_loaded_and_a_batch_counts_once() {
        let mut machine = Machine::default();
        let origin = Origin { node: NodeId(2), lane: 0, boot: 3 };
        let body = Body::new(Bytes::from_static(b"k"));
        for slot in 1..=2 {
            let entry = Entry {
                term: Term(1),
                slot: Slot(slot),
                kind: EntryKind::Batch,
                origin,
                sequence: 1,
                floor: 1,
                body: body.clone(),
                ..Entry::default()
            };
            let verdict = if slot == 1 { Verdict::Applied } else { Verdict::Duplicate };
            assert_eq!(machine.apply(&entry), Some(verdict));
        }
        assert_eq!((machine.last_of(origin), machine.keys[&b'k']), (1, 1));
        assert_eq!(Machine::load(&machine.save()), machine);
        assert_eq!(machine.id(GROUP_ONE).slot, Slot(2));
    }
}
