//! A replica that is too far behind for single values gets a whole state from any other, and believes it by its digest, which `f + 1`
//! have signed: the source may lie, and another is asked then (TOCS 2002, 6.2).

use super::{NUMBER_MAX, Pbft};
use crate::base::{Body, Instant, JobId, NodeId, Slot, Stamp, Term};
use crate::protocol::{FaultKind, Fetch, Fetched, Outbox, Target};
use crate::wire::Record;
use crate::wire::pbft::{Message, Note, Vote};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A state on its way here.
#[derive(Clone, Debug)]
struct Coming {
    /// Which, and its certified digest.
    target: Vote,
    source: NodeId,
    /// The next byte wanted.
    next: u64,
    /// The whole size, once known.
    total: Option<u64>,
    /// When something came last.
    moved_at: Instant,
}

/// A piece of a state, as a peer sends it.
pub(super) struct Piece {
    pub slot: Slot,
    pub stamp: Stamp,
    pub offset: u64,
    pub total: u64,
    pub body: Body,
}

/// Transfers under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    coming: Option<Coming>,
    /// Pieces that were asked for by others: at most one each.
    going: BTreeMap<JobId, NodeId>,
    /// Who did not have which state, or gave a false one, or was too slow: others are asked before it is asked again.
    vain: BTreeSet<(Slot, NodeId)>,
}

impl Transfer {
    /// Whether a state is on its way here.
    pub fn is_coming(&self) -> bool {
        self.coming.is_some()
    }
}

impl Pbft {
    /// States above the executed slot that `f + 1` have signed, and who can be asked for them: the newest first.
    fn certified(&self) -> Vec<(Vote, NodeId)> {
        let said: Vec<(Vote, NodeId)> = self.checkpoints.said_above(self.executed).collect();
        let voices = |vote: &Vote| said.iter().filter(|(other, _)| other == vote).count();
        let mut certified: Vec<(Vote, NodeId)> =
            said.iter().filter(|(vote, _)| self.quorum.weak() <= voices(vote)).copied().collect();
        // Not all of them ask the same one.
        let turn = |node: NodeId| node.0.wrapping_sub(self.me.0);
        certified.sort_unstable_by_key(|(vote, node)| (Reverse(vote.slot), turn(*node)));
        certified
    }

    /// Begins a transfer when values alone do not help, and goes on with one that stands still.
    pub(super) fn consider_transfer(&mut self, now: Instant, out: &mut Outbox) {
        let patience = 4 * self.options.status_every;
        match &self.transfer.coming {
            Some(coming) if coming.target.slot <= self.executed => self.transfer.coming = None,
            Some(coming) if patience <= now.since(coming.moved_at) => self.fetch_state(now, out),
            Some(coming) => {
                let (slot, offset, source) = (coming.target.slot, coming.next, coming.source);
                if coming.total.is_none_or(|total| offset < total) {
                    out.send(Target::One(source), Message::PieceWant { slot, offset });
                }
            }
            None if patience <= now.since(self.peers.executed_at) => self.fetch_state(now, out),
            None => (),
        }
    }

    /// Asks the next replica for the newest certified state, from its beginning: two replicas' snapshots of one state differ as bytes.
    fn fetch_state(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(coming) = self.transfer.coming.take() {
            self.transfer.vain.insert((coming.target.slot, coming.source));
        }
        let certified = self.certified();
        let is_asked =
            |(slot, node): &(Slot, NodeId)| certified.iter().any(|(v, n)| (v.slot, n) == (*slot, node));
        self.transfer.vain.retain(is_asked);
        let vain = &self.transfer.vain;
        let next = certified.into_iter().find(|(vote, node)| !vain.contains(&(vote.slot, *node)));
        let Some((target, source)) = next else {
            // Again from the first, once something else has been said.
            self.transfer.vain.clear();
            return;
        };
        self.transfer.coming = Some(Coming { target, source, next: 0, total: None, moved_at: now });
        out.send(Target::One(source), Message::PieceWant { slot: target.slot, offset: 0 });
    }

    pub(super) fn on_piece_want(&mut self, from: NodeId, slot: Slot, offset: u64, out: &mut Outbox) {
        if self.transfer.going.values().any(|node| *node == from) || NUMBER_MAX <= offset {
            return;
        }
        let job = self.job();
        self.transfer.going.insert(job, from);
        out.ship(job, Fetch::Piece { slot: Some(slot), offset, bytes: self.options.piece_bytes_max });
    }

    pub(super) fn fetched(&mut self, job: JobId, found: Fetched, out: &mut Outbox) {
        let Some(to) = self.transfer.going.remove(&job) else { return };
        let message = match found {
            Fetched::Piece { slot, stamp, offset, total, body, .. } => {
                Message::Piece { slot, stamp, offset, total, body }
            }
            Fetched::Entries(_) | Fetched::Gone => {
                let (slot, stamp) = (self.shippable().unwrap_or_default(), Stamp::ZERO);
                Message::Piece { slot, stamp, offset: 0, total: 0, body: Body::EMPTY }
            }
        };
        out.send(Target::One(to), message);
    }

    pub(super) fn on_piece(
        &mut self,
        now: Instant,
        from: NodeId,
        Piece { slot, stamp, offset, total, body }: Piece,
        out: &mut Outbox,
    ) {
        let Some(coming) = self.transfer.coming.as_mut().filter(|coming| coming.source == from) else {
            return;
        };
        if body.is_empty() {
            // It no longer has that one.
            return self.fetch_state(now, out);
        }
        let fits = slot == coming.target.slot
            && offset == coming.next
            && coming.total.is_none_or(|known| known == total)
            && total < NUMBER_MAX
            && body.len() as u64 <= total.saturating_sub(offset);
        if !fits {
            // A piece that was asked for twice comes twice.
            return;
        }
        (coming.next, coming.total, coming.moved_at) = (offset + body.len() as u64, Some(total), now);
        let (next, digest) = (coming.next, coming.target.digest);
        out.install_certified(slot, stamp, offset, total, body, digest);
        if next < total {
            out.send(Target::One(from), Message::PieceWant { slot, offset: next });
        }
    }

    /// The pieces did not make the certified state, or did not come to the disk.
    pub(super) fn rewound(&mut self, now: Instant, slot: Slot, next: u64, out: &mut Outbox) {
        let Some(coming) = self.transfer.coming.as_mut().filter(|coming| coming.target.slot == slot) else {
            return;
        };
        let whole = coming.total.is_some_and(|total| coming.next == total);
        if whole && next == 0 {
            out.fault(coming.source, FaultKind::PoisonedState { slot });
            return self.fetch_state(now, out);
        }
        (coming.next, coming.moved_at) = (next, now);
        let source = coming.source;
        out.send(Target::One(source), Message::PieceWant { slot, offset: next });
    }

    /// The certified state is this replica's.
    pub(super) fn installed(&mut self, now: Instant, slot: Slot, stamp: Stamp, out: &mut Outbox) {
        let Some(coming) = self.transfer.coming.take_if(|coming| coming.target.slot == slot) else { return };
        if slot <= self.executed {
            return;
        }
        self.transfer.vain.clear();
        let vote = coming.target;
        (self.executed, self.stamp) = (slot, self.stamp.max(stamp));
        self.progressed(now);
        self.past.clear();
        self.past_bytes = 0;
        self.requests.forget_heard();
        self.checkpoints.know(vote, stamp, self.options.snapshot_every);
        self.checkpoints.snapshot = slot;
        self.checkpoints.floor = slot;
        let floor = Record::Floor { group: self.group, slot, term: Term::ZERO, stamp, reset: false };
        self.note(Note::Checkpoint { vote, stable: true }, out);
        out.append(floor);
        if self.checkpoints.stable.slot < slot {
            self.stabilize(vote, out);
        }
        self.slots.collect(self.executed);
        self.say_status(now, out);
    }
}
