//! What a replica has to say and to write, until its burst ends: how much shares a message, and how much a write.
//!
//! Votes and assignments of a burst leave as one message a kind. The record that a slot is decided spares a restart the asking, and nobody
//! waits for it: it goes to the disk with the next record, or after [`Options::note_pause`](super::Options::note_pause). So a slot that
//! is alone costs two writes, not three.

use super::{Pbft, Proposal, Vote};
use crate::base::{Instant, Ticket};
use crate::protocol::{Outbox, Target};
use crate::wire::Record;
use crate::wire::pbft::{Message, Note};

/// Most votes in one message.
const VOTES_MAX: usize = 1024;

/// What waits to be said and written.
#[derive(Clone, Debug, Default)]
pub(super) struct Speech {
    /// Assignments, while primary.
    pub fresh: Vec<Proposal>,
    pub prepares: Vec<Vote>,
    pub commits: Vec<Vote>,
    /// Records for which nobody waits, until something else is written, and since when they are here.
    late: Vec<Note>,
    late_since: Instant,
}

impl Speech {
    /// The view that it was about has been left.
    pub fn leave_view(&mut self) {
        self.fresh.clear();
        self.prepares.clear();
        self.commits.clear();
    }
    /// Whether nothing waits, to be said or to be written.
    pub fn is_silent(&self) -> bool {
        self.fresh.is_empty() && self.prepares.is_empty() && self.commits.is_empty() && self.late.is_empty()
    }
}

impl Pbft {
    /// Writes something; what speaks of it waits for the ticket.
    pub(super) fn note(&mut self, note: Note, out: &mut Outbox) -> Ticket {
        self.write_late(out);
        out.append(Record::Pbft { group: self.group, note })
    }
    /// Writes something for which nobody waits: with whatever is written next, or after a while.
    pub(super) fn note_late(&mut self, now: Instant, note: Note) {
        if self.speech.late.is_empty() {
            self.speech.late_since = now;
        }
        self.speech.late.push(note);
    }
    /// What was noted before must stand before what is written now: a checkpoint's record never behind a hole.
    pub(super) fn write_late(&mut self, out: &mut Outbox) {
        for note in self.speech.late.drain(..) {
            out.append(Record::Pbft { group: self.group, note });
        }
    }
    /// When what waits to be written waits no longer.
    pub(super) fn late_at(&self) -> Option<Instant> {
        (!self.speech.late.is_empty()).then(|| self.speech.late_since.after(self.options.note_pause))
    }

    /// Ends the burst: its assignments and votes, one message a kind.
    pub(super) fn speak(&mut self, now: Instant, out: &mut Outbox) {
        let view = self.view;
        let fresh = std::mem::take(&mut self.speech.fresh);
        for message in self.pre_prepares(fresh) {
            self.say(Target::Others, message, out);
        }
        for votes in chunks(&mut self.speech.prepares) {
            self.say(Target::Others, Message::Prepare { view, votes }, out);
        }
        for votes in chunks(&mut self.speech.commits) {
            self.say(Target::Others, Message::Commit { view, votes }, out);
        }
        if self.late_at().is_some_and(|at| at <= now) {
            self.write_late(out);
        }
    }
}

fn chunks(votes: &mut Vec<Vote>) -> Vec<Vec<Vote>> {
    let all = std::mem::take(votes);
    all.chunks(VOTES_MAX).map(<[Vote]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Setup};
    use super::*;
    use crate::base::{Digest, GROUP_ONE, NodeId, Slot, Stamp, View};
    use crate::crypto::{Keyring, Signature, SigningKey};
    use crate::protocol::{Input, Protocol};
    use crate::wire::Entry;
    use crate::wire::pbft::{digest, signed_proposals};
    use std::time::Duration;

    const PAUSE: Duration = Duration::from_millis(10);

    fn key(node: u8) -> SigningKey {
        SigningKey::from_entropy([node; 32])
    }
    /// The second of four, a backup.
    fn backup(options: Options) -> (Pbft, Outbox) {
        let keys = Keyring::new(key(2), (1..=4).map(|node| (NodeId(node), key(node).public())));
        let members = (1..=4).map(NodeId).collect();
        let (cluster, anchor, state) = Default::default();
        let (group, me, boot) = (GROUP_ONE, NodeId(2), 1);
        let setup = Setup { cluster, group, me, members, boot, options, keys, anchor, state };
        let mut out = Outbox::default();
        out.enter(GROUP_ONE);
        (Pbft::new(setup, Instant::ZERO), out)
    }
    fn vote(slot: u64) -> (Entry, Vote) {
        let entry = Entry { slot: Slot(slot), stamp: Stamp(1), ..Entry::default() };
        let vote = Vote { slot: Slot(slot), digest: digest(&entry) };
        (entry, vote)
    }
    /// A burst in which the primary assigns these slots.
    fn assign(backup: &mut Pbft, now: Instant, slots: &[u64], out: &mut Outbox) {
        for slot in slots {
            let (entry, vote) = vote(*slot);
            let signature = key(1).sign(&signed_proposals(GROUP_ONE, View(0), &[vote]));
            let proposals = vec![Proposal { entry, signature: Signature::NONE }];
            let message = Message::PrePrepare { view: View(0), proposals, signature };
            backup.step(now, Input::Receive { from: NodeId(1), message }, out);
        }
        backup.settle(now, out);
        backup.check();
    }
    /// The quorum's words that a slot is decided.
    fn decide(backup: &mut Pbft, slot: u64, out: &mut Outbox) {
        for from in [1, 3, 4] {
            let message = Message::Commit { view: View(0), votes: vec![vote(slot).1] };
            backup.step(Instant::ZERO, Input::Receive { from: NodeId(from), message }, out);
        }
        backup.settle(Instant::ZERO, out);
    }
    fn is_decision(record: &Record) -> bool {
        matches!(record, Record::Pbft { note: Note::Committed { .. }, .. })
    }

    /// The log reads back the last value that it has of a slot.
    #[test]
    fn a_decided_value_that_is_not_the_last_of_its_slot_on_the_disk_is_written_once_more() {
        let (mut backup, mut out) = backup(Options::default());
        assign(&mut backup, Instant::ZERO, &[1, 2], &mut out);
        out.records.clear();
        // As if a later view had assigned another value, which came to nothing.
        backup.slots.at(Slot(1)).stored.push(Digest([9; 32]));
        decide(&mut backup, 1, &mut out);
        decide(&mut backup, 2, &mut out);
        let learned = |record: &Record| match record {
            Record::Pbft { note: Note::Learned { entry }, .. } => Some(entry.slot),
            _ => None,
        };
        assert_eq!(out.records.iter().filter_map(learned).collect::<Vec<_>>(), [Slot(1)]);
        assert_eq!(out.records.iter().filter(|record| is_decision(record)).count(), 1, "of slot 2");
        backup.check();
    }

    /// Others tell what a later view has decided; then an earlier one's primary, whose words were late, is heard.
    #[test]
    fn a_primary_whose_view_another_has_followed_is_not_accused_of_what_that_decided() {
        let (mut backup, mut out) = backup(Options::default());
        for from in [3, 4] {
            let entry = Entry { slot: Slot(1), stamp: Stamp(2), ..Entry::default() };
            let message = Message::Decided {
                entries: Vec::new(),
                votes: vec![Vote { digest: digest(&entry), ..vote(1).1 }],
            };
            backup.step(Instant::ZERO, Input::Receive { from: NodeId(from), message }, &mut out);
        }
        assign(&mut backup, Instant::ZERO, &[1], &mut out);
        assert_eq!((out.faults.len(), backup.slots.at(Slot(1)).assigned), (0, None), "nor is it followed");
        backup.slots.at(Slot(1)).counted = true;
        assign(&mut backup, Instant::ZERO, &[1], &mut out);
        assert_eq!(out.faults.len(), 1, "of what its own view, or one before, has decided it is");
    }

    #[test]
    fn that_a_slot_is_decided_is_written_with_the_next_record_or_after_a_while_and_always_before_it() {
        let (mut backup, mut out) = backup(Options { note_pause: PAUSE, ..Options::default() });
        assign(&mut backup, Instant::ZERO, &[1, 2], &mut out);
        out.records.clear();
        decide(&mut backup, 1, &mut out);
        assert_eq!((out.commits.len(), out.records.len()), (1, 0), "executed all the same");
        assert_eq!(backup.late_at(), Some(Instant::ZERO.after(PAUSE)));
        assign(&mut backup, Instant::ZERO, &[3], &mut out);
        assert_eq!(out.records.iter().map(is_decision).collect::<Vec<_>>(), [true, false]);
        out.records.clear();
        decide(&mut backup, 2, &mut out);
        backup.settle(Instant::ZERO.after(PAUSE), &mut out);
        assert_eq!(out.records.iter().map(is_decision).collect::<Vec<_>>(), [true]);
        assert!(backup.speech.is_silent());
    }
}
