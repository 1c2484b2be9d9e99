//! Where each group's entries lie, and its newest vote and floor: what the records of the log amount to.

use super::record::Flaw;
use crate::base::{GroupId, Slot};
use crate::wire::hop::{RecordKind, Stored};
use std::collections::{BTreeMap, VecDeque};

/// Where a record lies. Orders as the log does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Location {
    /// The segment's sequence.
    pub segment: u32,
    /// Bytes from the segment's start.
    pub position: u32,
}

/// What the log holds of one group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The newest.
    pub vote: Option<Stored>,
    /// The newest, always as `RecordKind::Floor`: what a `Reset` voids lies before it, and goes before it.
    pub floor: Option<Stored>,
    /// The floor as far as it is durable.
    pub floor_durable: Slot,
    /// The place of `entries[0]`.
    first: Slot,
    /// Eight bytes a place.
    entries: VecDeque<Location>,
    /// Where the newest value of each place lies, of a group whose places are not filled in order. All lie above the floor.
    values: BTreeMap<Slot, Location>,
}

impl Group {
    /// Where the entry or value at `place` lies.
    pub fn entry(&self, place: Slot) -> Option<Location> {
        let entry = |index: u64| self.entries.get(usize::try_from(index).ok()?).copied();
        let entry = place.0.checked_sub(self.first.0).and_then(entry);
        entry.or_else(|| self.values.get(&place).copied())
    }
    /// The first place that has an entry, and the one after the last.
    pub fn places(&self) -> std::ops::Range<u64> {
        self.first.0..self.first.0 + self.entries.len() as u64
    }
    /// Up to which place entries are no longer needed.
    pub fn floor_place(&self) -> Slot {
        self.floor.as_ref().map_or(Slot::ZERO, |f| f.place)
    }
    /// Whether the entries begin right above the floor. Holds in a running log, and for a whole recovered one.
    pub fn is_dense(&self) -> bool {
        self.entries.is_empty() || self.first == self.floor_place().next()
    }

    fn put_entry(&mut self, place: Slot, location: Location) -> Result<(), Flaw> {
        if self.entries.is_empty() || place < self.first {
            self.entries.clear();
            self.first = place;
        }
        let index = (place.0 - self.first.0) as usize;
        if self.entries.len() < index {
            return Err(Flaw::Hole);
        }
        self.entries.truncate(index);
        self.entries.push_back(location);
        Ok(())
    }
    fn raise_floor(&mut self, stored: Stored) {
        let floor = stored.place.max(self.floor_place());
        let drop = (floor.0 + 1).saturating_sub(self.first.0).min(self.entries.len() as u64);
        self.entries.drain(..drop as usize);
        self.first = Slot(self.first.0 + drop);
        self.values = self.values.split_off(&floor.next());
        if stored.place == floor {
            self.floor = Some(Stored { kind: RecordKind::Floor, ..stored });
        }
    }
}

/// All groups of the shard, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Index {
    groups: BTreeMap<GroupId, Group>,
}

impl Index {
    /// A group's, if it has any record.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(&group)
    }
    /// All of them.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(id, g)| (*id, g))
    }
    /// Takes a record in, in the order of the log. An error says that the record cannot follow what came before it.
    pub fn take(
        &mut self,
        group: GroupId,
        kind: RecordKind,
        place: Slot,
        location: Location,
        stored: impl FnOnce() -> Result<Stored, Flaw>,
    ) -> Result<(), Flaw> {
        let group = self.groups.entry(group).or_default();
        match kind {
            RecordKind::Vote | RecordKind::View => group.vote = Some(stored()?),
            RecordKind::Entry => group.put_entry(place, location)?,
            // What lies at or below the floor leaves the log with its segment, and nothing may lead there.
            RecordKind::Value if group.floor_place() < place => {
                group.values.insert(place, location);
            }
            // Nothing is looked up by it: it is read once, at the next start.
            RecordKind::Value | RecordKind::Note => (),
            RecordKind::Floor => group.raise_floor(stored()?),
            RecordKind::Reset => {
                group.entries.clear();
                group.values.clear();
                group.raise_floor(stored()?);
            }
        }
        Ok(())
    }
    /// A floor has become durable.
    pub fn floor_durable(&mut self, group: GroupId, place: Slot) {
        let group = self.groups.entry(group).or_default();
        group.floor_durable = place.max(group.floor_durable);
    }
    /// Everything so far has become durable.
    pub fn all_durable(&mut self) {
        self.groups.values_mut().for_each(|g| g.floor_durable = g.floor_place());
    }
    /// What every segment begins with.
    pub fn preamble(&self) -> impl Iterator<Item = Stored> {
        self.groups.values().flat_map(|g| [g.vote.clone(), g.floor.clone()]).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Body, GROUP_ONE, Ticket};
    use crate::wire::hop::Meta;

    /// Its segment goes, and nothing may lead there.
    #[test]
    fn a_value_is_found_above_the_floor_only_and_of_each_place_the_newest() {
        let mut index = Index::default();
        let mut position = 0;
        let mut take = |kind, place| {
            position += 8;
            let location = Location { segment: 1, position };
            let (group, ticket) = (GROUP_ONE, Ticket(0));
            let (meta, body) = (Meta::new(&[]), Body::EMPTY);
            let stored = || Ok(Stored { ticket, group, kind, place, meta, body });
            index.take(GROUP_ONE, kind, place, location, stored).expect("values may come in any order");
        };
        for place in [7, 5, 6, 7] {
            take(RecordKind::Value, Slot(place));
        }
        take(RecordKind::Floor, Slot(5));
        take(RecordKind::Value, Slot(4));
        take(RecordKind::Value, Slot(5));
        let group = index.group(GROUP_ONE).expect("it has records");
        let found: Vec<_> = (4..=8).map(|place| group.entry(Slot(place)).map(|at| at.position)).collect();
        assert_eq!(found, [None, None, Some(24), Some(32), None]);
    }
}
