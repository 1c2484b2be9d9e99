//! A replica that is too far behind for single values gets a state from any other, and believes it by its digest, which `f + 1` have
//! signed: the source may lie, and another is asked then (TOCS 2002, 6.2).
//!
//! First comes the state's outline, the digests of its ranges, which hash to the certified one. Then come the ranges in which the own
//! newest snapshot differs, each checked by its digest in the outline. What has been checked stays whoever sent it, so a transfer goes
//! on with another source where it stood. Checking, comparing and writing are the keeper's; here it is decided whom to ask.

use super::{NUMBER_MAX, Pbft, Spoken};
use crate::base::{Body, Instant, JobId, NodeId, Slot, Stamp, Term};
use crate::config::limits::RANGES_MAX;
use crate::protocol::{FaultKind, Fetch, Fetched, Outbox, Target};
use crate::wire::Record;
use crate::wire::hop::Certified;
use crate::wire::pbft::{Message, Note, Vote};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A state on its way here.
#[derive(Clone, Debug)]
struct Coming {
    /// Which, and its certified digest.
    target: Vote,
    source: NodeId,
    /// Names what is asked for now; other pieces are late.
    round: u64,
    /// Which ranges; none for the outline.
    ranges: Body,
    /// The next byte wanted of them.
    next: u64,
    /// The whole size, once known.
    total: Option<u64>,
    /// When something came last.
    moved_at: Instant,
}

/// A piece of a state, as a peer sends it.
pub(super) struct Piece {
    pub round: u64,
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
    going: BTreeMap<JobId, (NodeId, u64)>,
    round: u64,
    /// Who did not have which state, or gave a false one, or was too slow: others are asked before it is asked again.
    vain: BTreeSet<(Slot, NodeId)>,
}

impl Coming {
    /// Asks for the next piece.
    fn ask(&self, out: &mut Outbox) {
        let (slot, offset, round, ranges) = (self.target.slot, self.next, self.round, self.ranges.clone());
        out.send(Target::One(self.source), Message::PieceWant { slot, offset, round, ranges });
    }
}

impl Transfer {
    fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }
    /// Whether a state is on its way here.
    pub fn is_coming(&self) -> bool {
        self.coming.is_some()
    }
}

impl Pbft {
    /// States above the executed slot that `f + 1` have signed, a correct one among them, and who can be asked for them: the newest first.
    fn certified(&self) -> Vec<(Vote, NodeId)> {
        let said: Vec<(Vote, NodeId)> = self.checkpoints.said_above(self.executed).collect();
        let voices = |vote: &Vote| said.iter().filter(|(other, _)| other == vote).count();
        let mut certified: Vec<(Vote, NodeId)> =
            said.iter().filter(|(vote, _)| self.quorum.weak() <= voices(vote)).copied().collect();
        // The charter of the epoch certifies the state that it begins above, whoever has it.
        let base = self.epochs.base;
        if self.executed < base.slot {
            certified.extend(self.others().map(|node| (base, node)));
        }
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
            Some(coming) if patience <= now.since(coming.moved_at) => self.fetch_state(now, None, out),
            Some(coming) if coming.total.is_none_or(|total| coming.next < total) => coming.ask(out),
            // The keeper has all of it, and will say what is wanted next.
            Some(_) => (),
            None if patience <= now.since(self.peers.executed_at) => self.fetch_state(now, None, out),
            None => (),
        }
    }

    /// Asks the next replica for the newest certified state. The last one gave none, and `has` another at most.
    fn fetch_state(&mut self, now: Instant, has: Option<Slot>, out: &mut Outbox) {
        let certified = self.certified();
        if let Some(coming) = self.transfer.coming.take() {
            self.transfer.vain.insert((coming.target.slot, coming.source));
            let other = |(vote, node): &&(Vote, NodeId)| *node == coming.source && Some(vote.slot) != has;
            self.transfer.vain.extend(certified.iter().filter(other).map(|(vote, node)| (vote.slot, *node)));
        }
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
        // From the outline on, also when ranges of this state have been checked: the keeper knows which, and says what it lacks.
        let (round, ranges) = (self.transfer.next_round(), Body::EMPTY);
        let coming = Coming { target, source, round, ranges, next: 0, total: None, moved_at: now };
        coming.ask(out);
        self.transfer.coming = Some(coming);
    }

    /// These ranges are wanted next, of whoever is the source now.
    pub(super) fn wanted(&mut self, now: Instant, slot: Slot, ranges: Body, out: &mut Outbox) {
        let round = self.transfer.next_round();
        if let Some(coming) = self.transfer.coming.as_mut().filter(|coming| coming.target.slot == slot) {
            (coming.round, coming.ranges, coming.next, coming.total) = (round, ranges, 0, None);
            coming.moved_at = now;
            coming.ask(out);
        }
    }

    /// The source lies, or its disk does: another is asked.
    pub(super) fn poisoned(&mut self, now: Instant, slot: Slot, out: &mut Outbox) {
        let of = self.transfer.coming.as_ref().filter(|coming| coming.target.slot == slot);
        if let Some(source) = of.map(|coming| coming.source) {
            out.fault(source, FaultKind::PoisonedState { slot });
            self.fetch_state(now, None, out);
        }
    }

    pub(super) fn on_piece_want(
        &mut self,
        from: NodeId,
        (slot, offset, round): (Slot, u64, u64),
        ranges: Body,
        out: &mut Outbox,
    ) {
        let is_busy = self.transfer.going.values().any(|(node, _)| *node == from);
        if is_busy || NUMBER_MAX <= offset || RANGES_MAX < ranges.len() / 4 || !ranges.len().is_multiple_of(4)
        {
            return;
        }
        let job = self.job();
        self.transfer.going.insert(job, (from, round));
        out.ship(job, Fetch::Ranges { slot, ranges, offset, bytes: self.options.piece_bytes_max });
    }

    pub(super) fn fetched(&mut self, job: JobId, found: Fetched, out: &mut Outbox) {
        let Some((to, round)) = self.transfer.going.remove(&job) else { return };
        let message = match found {
            Fetched::Piece { slot, stamp, offset, total, body, .. } => {
                Message::Piece { round, slot, stamp, offset, total, body }
            }
            Fetched::Entries(_) | Fetched::Gone => {
                let (slot, stamp) = (self.shippable().unwrap_or_default(), Stamp::ZERO);
                Message::Piece { round, slot, stamp, offset: 0, total: 0, body: Body::EMPTY }
            }
        };
        out.send(Target::One(to), message);
    }

    pub(super) fn on_piece(
        &mut self,
        now: Instant,
        from: NodeId,
        Piece { round, slot, stamp, offset, total, body }: Piece,
        out: &mut Outbox,
    ) {
        let asked = |coming: &&mut Coming| (coming.source, coming.round) == (from, round);
        let Some(coming) = self.transfer.coming.as_mut().filter(asked) else { return };
        if body.is_empty() {
            return self.fetch_state(now, Some(slot), out);
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
        let certified = Certified { digest: coming.target.digest, ranges: coming.ranges.clone() };
        out.install_certified(slot, stamp, offset, total, body, certified);
        if coming.next < total {
            coming.ask(out);
        }
    }

    /// Pieces did not come to the disk.
    pub(super) fn rewound(&mut self, now: Instant, slot: Slot, next: u64, out: &mut Outbox) {
        let Some(coming) = self.transfer.coming.as_mut().filter(|coming| coming.target.slot == slot) else {
            return;
        };
        (coming.next, coming.moved_at) = (next, now);
        coming.ask(out);
    }

    /// The certified state is this replica's. Stable it is only if a quorum has been there, as a correct replica says or a charter: were a
    /// state stable here that `f + 1` have come to, the next view-changes of these would perhaps not do to begin above it, and this
    /// replica's would no more allow an earlier start. Else its own word is one more towards a quorum.
    pub(super) fn installed(
        &mut self,
        now: Instant,
        (slot, stamp): (Slot, Stamp),
        members: &Body,
        out: &mut Outbox,
    ) {
        let Some(coming) = self.transfer.coming.take_if(|coming| coming.target.slot == slot) else { return };
        if slot <= self.executed {
            return;
        }
        self.transfer.vain.clear();
        let vote = coming.target;
        (self.executed, self.stamp) = (slot, self.stamp.max(stamp));
        self.progressed(now);
        self.past.clear();
        self.requests.forget_heard();
        self.checkpoints.know(vote, stamp, self.options.snapshot_every);
        self.learn_members(now, vote, members, out);
        self.checkpoints.snapshot = slot;
        let vouched = self.peers.vouched_stable(self.quorum.weak());
        let stable = slot <= vouched.max(self.epochs.base.slot).max(self.checkpoints.stable.slot);
        let ticket = self.note(Note::Checkpoint { vote, stable }, out);
        if stable {
            self.checkpoints.floor = slot;
            let floor = Record::Floor { group: self.group, slot, term: Term::ZERO, stamp, reset: false };
            out.append(floor);
            if self.checkpoints.stable.slot < slot {
                self.stabilize(vote, out);
            }
        } else {
            self.unspoken.push_back((ticket, Spoken::Checkpoint { vote }));
            self.say_checkpoint(Target::Others, vote, out);
        }
        self.slots.collect(self.executed);
        self.say_status(now, out);
    }
}
