//! A node's disk: one stream of records, and snapshots. Writes finish in any order; only a rising watermark is told.

use super::ranges;
use crate::base::{Body, Digest, NodeId, Slot, Term, Ticket, View};
use crate::protocol::Fetched;
use crate::protocol::raft::Mark;
use crate::wire::hop::SnapshotId;
use crate::wire::pbft::{Note, Vote, digest};
use crate::wire::{Entry, Record};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Records that were handed over in one burst.
struct Write {
    last: Ticket,
    records: Vec<Record>,
    is_done: bool,
}

/// A durable snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which.
    pub id: SnapshotId,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A value can be read back, the newest of each slot.
fn see_note(seen: &mut BTreeMap<Slot, Entry>, note: &Note) {
    if let Note::PrePrepared { entry, .. } | Note::Learned { entry } = note {
        seen.insert(entry.slot, entry.clone());
    }
}

/// What survives a crash, and what is on its way to that.
#[derive(Default)]
pub struct Disk {
    stored: Vec<Record>,
    /// Invariant: tickets rise.
    writes: VecDeque<Write>,
    /// The log as a fetch sees it, unfinished writes included.
    seen: BTreeMap<Slot, Entry>,
    /// The log as a restart would see it: terms are enough.
    held: BTreeMap<Slot, Term>,
    /// What a PBFT replica has durably said of each slot: view, digest, and whether it prepared.
    said: BTreeMap<Slot, BTreeSet<(View, Digest, bool)>>,
    /// The bodies of values that it holds durably.
    values: BTreeMap<Slot, Vec<Digest>>,
    /// The newest view that it has durably entered or asked for.
    view: View,
    /// The newest durable term and vote.
    vote: (Term, Option<NodeId>),
    /// Oldest first. The newest two stay, and an older one for as long as pieces of it are asked for: else a follower that takes
    /// longer to get one than this node to make two would never get any.
    snapshots: VecDeque<Snapshot>,
    /// The older one that was asked for since the newest came.
    wanted: Option<Slot>,
    /// Proof that others lie.
    pub proofs: Vec<Body>,
}

impl Disk {
    /// Takes a burst's records. Gives back the name of the write, if there is anything to write.
    pub fn write(&mut self, records: Vec<(Ticket, Record)>) -> Option<Ticket> {
        let last = records.last()?.0;
        let records: Vec<Record> = records.into_iter().map(|(_, record)| record).collect();
        for record in &records {
            match record {
                Record::Vote { .. } => (),
                Record::Pbft { note, .. } => see_note(&mut self.seen, note),
                Record::Entry { entry, .. } => {
                    self.seen.split_off(&entry.slot);
                    self.seen.insert(entry.slot, entry.clone());
                }
                Record::Floor { slot, reset: false, .. } => self.seen = self.seen.split_off(&slot.next()),
                Record::Floor { reset: true, .. } => self.seen.clear(),
            }
        }
        self.writes.push_back(Write { last, records, is_done: false });
        Some(last)
    }

    /// A write has finished. Gives back the watermark, if it has risen.
    pub fn finish(&mut self, write: Ticket) -> Option<Ticket> {
        let done = self.writes.iter_mut().find(|w| w.last == write)?;
        done.is_done = true;
        let mut watermark = None;
        while self.writes.front().is_some_and(|w| w.is_done) {
            let write = self.writes.pop_front().expect("there is one");
            write.records.into_iter().for_each(|record| self.keep(record));
            watermark = Some(write.last);
        }
        watermark
    }

    /// Finishes everything that is under way.
    pub fn finish_all(&mut self) -> Option<Ticket> {
        let names: Vec<Ticket> = self.writes.iter().map(|w| w.last).collect();
        names.into_iter().filter_map(|name| self.finish(name)).last()
    }

    /// Number of records under way.
    pub fn unfinished(&self) -> usize {
        self.writes.iter().map(|w| w.records.len()).sum()
    }

    /// Power is lost: of the records under way, the first `keep` survive.
    pub fn crash(&mut self, keep: usize) {
        let records: Vec<Record> = self.writes.drain(..).flat_map(|w| w.records).take(keep).collect();
        records.into_iter().for_each(|record| self.keep(record));
        let mut seen = BTreeMap::new();
        for record in &self.stored {
            if let Record::Entry { entry, .. } = record
                && self.held.get(&entry.slot) == Some(&entry.term)
            {
                seen.insert(entry.slot, entry.clone());
            }
            match record {
                Record::Pbft { note, .. } => see_note(&mut seen, note),
                Record::Floor { slot, reset: false, .. } => seen = seen.split_off(&slot.next()),
                _ => (),
            }
        }
        self.seen = seen;
    }

    /// What a restart reads.
    pub fn records(&self) -> Vec<Record> {
        self.stored.clone()
    }

    /// Drops what the newest floor and vote have made superfluous.
    pub fn compact(&mut self) {
        let floor = self.stored.iter().rposition(|r| matches!(r, Record::Floor { .. }));
        let vote = self.stored.iter().rposition(|r| matches!(r, Record::Vote { .. }));
        let is_view = |r: &Record| matches!(r, Record::Pbft { note: Note::View { .. }, .. });
        let view = self.stored.iter().rposition(is_view);
        let Some((floor, Record::Floor { slot, .. })) = floor.map(|at| (at, self.stored[at].clone())) else {
            return;
        };
        let reset = self.stored.iter().rposition(|r| matches!(r, Record::Floor { reset: true, .. }));
        let mut at = 0;
        self.stored.retain(|record| {
            at += 1;
            match record {
                Record::Vote { .. } => Some(at - 1) == vote,
                Record::Pbft { note: Note::View { .. }, .. } => Some(at - 1) == view,
                Record::Pbft { note, .. } => slot < note.place(),
                Record::Floor { .. } => at - 1 == floor,
                Record::Entry { entry, .. } => slot < entry.slot && reset.is_none_or(|reset| reset < at - 1),
            }
        });
    }

    /// Whether a restart would have the entry `(slot, term)`, in the log or in a snapshot.
    pub fn holds(&self, slot: Slot, term: Term) -> bool {
        self.held.get(&slot) == Some(&term) || self.snapshots.back().is_some_and(|s| slot <= s.id.slot)
    }

    /// Whether a restart would have any entry at `slot`.
    pub fn holds_some(&self, slot: Slot) -> bool {
        let covered = self.snapshots.back().map_or(Slot::ZERO, |s| s.id.slot);
        slot <= covered || self.held.contains_key(&slot)
    }

    /// The term and vote that a restart would have.
    pub fn vote(&self) -> (Term, Option<NodeId>) {
        self.vote
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshots.back()
    }

    /// Where a restart begins.
    pub fn mark(&self) -> Mark {
        let id = self.snapshots.back().map(|s| s.id).unwrap_or_default();
        Mark { slot: id.slot, term: id.term, stamp: id.stamp }
    }

    /// A snapshot has become durable; an older one than is there is of no use.
    pub fn keep_snapshot(&mut self, snapshot: Snapshot) {
        if self.snapshots.back().is_none_or(|newest| newest.id.slot < snapshot.id.slot) {
            self.snapshots.push_back(snapshot);
            let (newest, wanted) = (self.snapshots.len(), self.wanted.take());
            let mut at = 0;
            self.snapshots.retain(|s| {
                at += 1;
                newest < at + 2 || wanted == Some(s.id.slot)
            });
        }
    }

    /// A piece of the newest snapshot, or of the one asked for.
    pub fn piece(&mut self, slot: Option<Slot>, offset: u64, bytes: usize) -> Fetched {
        let wanted = self.snapshots.iter().rev().find(|s| slot.is_none_or(|slot| s.id.slot == slot));
        let Some(Snapshot { id, bytes: whole }) = wanted.filter(|s| offset < s.bytes.len() as u64) else {
            return Fetched::Gone;
        };
        self.wanted = Some(id.slot);
        let start = offset as usize;
        let body = crate::base::Body::new(whole.slice(start..whole.len().min(start + bytes)));
        let total = whole.len() as u64;
        Fetched::Piece { slot: id.slot, term: id.term, stamp: id.stamp, offset, total, body }
    }

    /// A piece of the answer to a question for ranges of a snapshot, or for its outline.
    pub fn range_piece(&mut self, slot: Slot, ranges: &[u8], offset: u64, bytes: usize) -> Fetched {
        let wanted = self.snapshots.iter().find(|s| s.id.slot == slot);
        let answer = wanted.and_then(|s| Some((s.id, ranges::answer(&s.bytes, ranges)?)));
        let Some((id, whole)) = answer.filter(|(_, whole)| offset < whole.len() as u64) else {
            return Fetched::Gone;
        };
        self.wanted = Some(slot);
        let (start, total) = (offset as usize, whole.len() as u64);
        let body = whole[start..whole.len().min(start + bytes)].to_vec();
        let SnapshotId { slot, term, stamp, .. } = id;
        Fetched::Piece { slot, term, stamp, offset, total, body: Body::new(body.into()) }
    }

    /// Consecutive entries from `from` on.
    pub fn entries(&self, from: Slot, count: usize, bytes: usize) -> Fetched {
        let (mut entries, mut sum) = (Vec::<Entry>::new(), 0);
        for (entry, slot) in self.seen.range(from..).map(|(_, e)| e).zip(from.0..).take(count) {
            sum += entry.body.len();
            if entry.slot.0 != slot || (bytes < sum && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        if entries.is_empty() { Fetched::Gone } else { Fetched::Entries(entries) }
    }

    /// Whether a restart would know that it accepted this, or that it prepared.
    pub fn said(&self, view: View, vote: Vote, prepared: bool) -> bool {
        self.said.get(&vote.slot).is_some_and(|said| said.contains(&(view, vote.digest, prepared)))
    }

    /// In which views a restart would know that it prepared which values at `slot`.
    pub fn prepared(&self, slot: Slot) -> impl Iterator<Item = (View, Digest)> + '_ {
        let said = self.said.get(&slot).into_iter().flatten();
        said.filter(|said| said.2).map(|(view, digest, _)| (*view, *digest))
    }

    fn say(&mut self, view: View, vote: Vote, prepared: bool) {
        self.said.entry(vote.slot).or_default().insert((view, vote.digest, prepared));
    }

    /// The view that a restart would know.
    pub fn view(&self) -> View {
        self.view
    }

    /// Whether a restart would have the value, in a note or in a snapshot.
    pub fn holds_value(&self, entry: &Entry) -> bool {
        let covered = self.snapshots.back().is_some_and(|s| entry.slot <= s.id.slot);
        covered || self.values.get(&entry.slot).is_some_and(|all| all.contains(&entry.body.digest()))
    }

    fn keep_note(&mut self, note: &Note) {
        match note {
            Note::View { view, .. } => self.view = *view,
            Note::PrePrepared { view, entry } => {
                self.say(*view, Vote { slot: entry.slot, digest: digest(entry) }, false);
                self.values.entry(entry.slot).or_default().push(entry.body.digest());
            }
            Note::Assigned { view, vote } => self.say(*view, *vote, false),
            Note::Prepared { view, vote } => self.say(*view, *vote, true),
            Note::Learned { entry } => {
                self.values.entry(entry.slot).or_default().push(entry.body.digest());
            }
            Note::Committed { .. } | Note::Checkpoint { .. } | Note::Epoch { .. } => (),
        }
    }

    fn keep(&mut self, record: Record) {
        match &record {
            Record::Vote { term, vote, .. } => self.vote = (*term, *vote),
            Record::Pbft { note, .. } => self.keep_note(note),
            Record::Entry { entry, .. } => {
                self.held.split_off(&entry.slot);
                self.held.insert(entry.slot, entry.term);
            }
            Record::Floor { slot, reset: false, .. } => self.held = self.held.split_off(&slot.next()),
            Record::Floor { reset: true, .. } => self.held.clear(),
        }
        self.stored.push(record);
    }
}
