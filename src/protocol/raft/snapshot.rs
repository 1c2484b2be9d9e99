//! For whom the log no longer has what it needs: snapshots in pieces, and what leaves the log when one is taken (thesis 5).

use super::progress::{Kept, Mode, Progress};
use super::shipping::Staging;
use super::tail::Mark;
use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{Body, Instant, NodeId, Slot, Term};
use crate::protocol::{FaultKind, Fetch, Outbox, Target};
use crate::wire::Record;
use crate::wire::raft::Message;

impl Mode {
    /// Bytes of a snapshot that were sent and not acknowledged.
    fn pieces_under_way(&self) -> u64 {
        if let Mode::Snapshot(shipping) = self { shipping.under_way() } else { 0 }
    }
}

/// At the leader.
impl Raft {
    /// Asks for the next piece, one at a time. What is on its way to all followers is bounded too; one that has nothing on its way always
    /// gets a piece, lest some that do not answer keep the others from theirs.
    pub(super) fn fetch_piece(&mut self, peer: usize, out: &mut Outbox) {
        let p = &self.peers[peer];
        let Mode::Snapshot(shipping) = &p.mode else { return };
        let of_all = || self.peers.iter().map(|p| p.mode.pieces_under_way()).sum::<u64>();
        if p.fetch.is_none()
            && shipping.has_room(self.options.piece_window_bytes_max)
            && (shipping.under_way() == 0 || of_all() < self.options.pieces_bytes_max)
        {
            let fetch = Fetch::Piece {
                slot: shipping.slot,
                offset: shipping.sent,
                bytes: self.options.piece_bytes_max,
            };
            let job = self.job();
            self.peers[peer].fetch = Some(job);
            out.ship(job, fetch);
        }
    }

    /// A piece has come from disk.
    pub(super) fn send_piece(
        &mut self,
        peer: usize,
        mark: Mark,
        offset: u64,
        total: u64,
        body: Body,
        out: &mut Outbox,
    ) {
        let (term, worth) = (self.term, total.max(self.options.cache_bytes_max as u64));
        let until = self.tail.grown() + worth;
        let p = &mut self.peers[peer];
        let Mode::Snapshot(shipping) = &mut p.mode else { return };
        if shipping.slot.is_none() {
            (shipping.slot, shipping.total) = (Some(mark.slot), total);
            p.keeps = Some(Kept { above: mark.slot, until });
        }
        if shipping.slot != Some(mark.slot) || shipping.sent != offset {
            return;
        }
        assert!(
            offset + body.len() as u64 <= total && shipping.total == total,
            "the disk holds what was written"
        );
        assert!(!body.is_empty() || total == 0, "a piece has content");
        shipping.sent += body.len() as u64;
        let Mark { slot, term: slot_term, stamp } = mark;
        out.send(Target::One(p.id), Message::Piece { term, slot, slot_term, stamp, offset, total, body });
    }

    pub(super) fn on_piece_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        slot: Slot,
        next: u64,
        installed: bool,
        out: &mut Outbox,
    ) {
        assert_eq!(self.role, Role::Leader);
        let Some(peer) = self.peer(from) else { return };
        self.peers[peer].heard = now;
        if installed && self.tail.last() < slot {
            out.fault(from, FaultKind::AcknowledgesUnsent { slot, last: self.tail.last() });
        } else if installed {
            self.matched(now, peer, slot);
        } else if let Mode::Snapshot(shipping) = &mut self.peers[peer].mode
            && shipping.slot == Some(slot)
        {
            shipping.wants(next, now);
        }
    }

    /// With a heartbeat: what has brought no answer for long is sent again.
    pub(super) fn rewind_stalled(&mut self, now: Instant, peer: usize) {
        let patience = self.options.election_min;
        if let Mode::Snapshot(shipping) = &mut self.peers[peer].mode
            && patience <= now.since(shipping.moved)
        {
            shipping.moved = now;
            shipping.rewind();
        }
    }
}

/// At a follower.
impl Raft {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_piece(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        mark: Mark,
        offset: u64,
        total: u64,
        body: Body,
        out: &mut Outbox,
    ) {
        if !self.accept_leader(now, from, term, out) {
            let message = Message::PieceReply { term: self.term, slot: mark.slot, next: 0, installed: false };
            self.reply(Target::One(from), message, out);
            return;
        }
        let end = offset + body.len() as u64;
        if total < end || (body.is_empty() && 0 < total) || term < mark.term {
            out.fault(from, FaultKind::BadPiece { offset, expected: total });
            return;
        }
        if mark.slot <= self.commit {
            // The log has come as far by itself. It says so when that is durable.
            self.tell_installed(from, mark.slot, out);
            return;
        }
        if offset == 0 && self.staging.as_ref().is_none_or(|s| s.mark != mark || s.total != total) {
            self.staging = Some(Staging { mark, total, next: 0 });
        }
        // A piece of a snapshot whose beginning is unknown here: begin anew.
        let staging = self.staging.as_mut().filter(|s| s.mark == mark && s.total == total);
        let next = staging.map_or(0, |staging| {
            if offset == staging.next && (offset < total || total == 0) {
                out.install(mark.slot, mark.term, mark.stamp, offset, total, body);
                staging.next = end;
            }
            staging.next
        });
        let message = Message::PieceReply { term: self.term, slot: mark.slot, next, installed: false };
        self.reply(Target::One(from), message, out);
    }

    /// Pieces that were handed over did not come to the disk. The leader, for whom they are acknowledged, is told.
    pub(super) fn rewound(&mut self, slot: Slot, next: u64, out: &mut Outbox) {
        let Some(staging) = self.staging.as_mut().filter(|staging| staging.mark.slot == slot) else { return };
        staging.next = staging.next.min(next);
        let next = staging.next;
        if let Some(leader) = self.leader.filter(|leader| *leader != self.me) {
            let message = Message::PieceReply { term: self.term, slot, next, installed: false };
            self.reply(Target::One(leader), message, out);
        }
    }

    /// A snapshot that came in pieces has become the store's state and is durable.
    pub(super) fn installed(&mut self, mark: Mark, out: &mut Outbox) {
        self.staging = None;
        if self.commit < mark.slot || canary::on(Canary::SnapshotOverNewer) {
            // "If existing log entry has same index and term as snapshot's last included entry, retain log entries following it"
            // (5, figure 5.3); else the whole log is void.
            let agrees = self.tail.term_at(mark.slot) == Some(mark.term);
            assert!(agrees || self.role != Role::Leader, "a leader has every committed entry (3.6.3)");
            if agrees {
                self.tail.compact(mark.slot);
                self.writes.snapshot(mark.slot);
            } else {
                self.tail.reset(mark);
                self.writes.reset(mark.slot);
                self.verified = mark.slot;
            }
            self.verified = self.verified.max(mark.slot);
            self.commit = mark.slot;
            self.note_applied(mark.slot);
            if canary::on(Canary::TermFromSnapshot) {
                self.term = mark.term;
            }
            self.write_floor(mark, !agrees, out);
        }
        if let Some(leader) = self.leader.filter(|leader| *leader != self.me) {
            self.tell_installed(leader, mark.slot, out);
        }
    }

    fn tell_installed(&self, leader: NodeId, slot: Slot, out: &mut Outbox) {
        assert!(slot <= self.commit);
        let message = Message::PieceReply { term: self.term, slot, next: 0, installed: true };
        out.send_after(out.last_ticket(), Target::One(leader), message);
    }
}

/// At any replica.
impl Raft {
    /// A snapshot of the own store is durable: all but the newest of what it holds leaves the log. What trails is for followers
    /// that are a little behind, to whom entries are cheaper than a snapshot.
    pub(super) fn snapshotted(&mut self, now: Instant, slot: Slot, out: &mut Outbox) {
        if self.commit < slot {
            // Taken from a state that a leader's snapshot brought, of which this core is yet to be told.
            return;
        }
        self.note_applied(slot);
        self.writes.snapshot(slot);
        self.recount = true;
        let floor = self.kept_above(now, Slot(slot.0.saturating_sub(self.options.trailing_entries)));
        if self.tail.floor().slot < floor {
            self.tail.compact(floor);
            self.write_floor(self.tail.floor(), false, out);
        }
    }

    /// What may leave the log when all up to `floor` could: not what a follower will need that takes a snapshot now. Under steady writes
    /// the log would else outrun it, and a newer snapshot would follow for ever. As much is kept for it as the snapshot has bytes, or
    /// as memory holds: who takes in snapshots faster than the log grows comes to the end of it.
    fn kept_above(&mut self, now: Instant, floor: Slot) -> Slot {
        if canary::on(Canary::FloorForgetsShipped) {
            return floor;
        }
        let (grown, patience) = (self.tail.grown(), self.options.election_max);
        let needs = |p: &mut Progress| p.needs_above(floor, grown, now.since(p.heard) < patience);
        self.peers.iter_mut().filter_map(needs).min().map_or(floor, |kept| kept.min(floor))
    }

    /// The log on disk does not fit the snapshot that this life began with: it is voided before anything is added to it.
    pub(super) fn pay_reset(&mut self, out: &mut Outbox) {
        if std::mem::take(&mut self.owes_reset) && !canary::on(Canary::ResetUnpaid) {
            self.write_floor(self.tail.floor(), true, out);
        }
    }

    fn write_floor(&self, mark: Mark, reset: bool, out: &mut Outbox) {
        let Mark { slot, term, stamp } = mark;
        out.append(Record::Floor { group: out.group(), slot, term, stamp, reset });
    }
}
