//! Handing leadership over (thesis 3.10): when the node is shut down in order, when its disk is full, and when an operator wishes it.

use super::{Raft, Role};
use crate::base::{Instant, NodeId, Term};
use crate::protocol::{Cause, Outbox, Room, Target};
use crate::wire::raft::Message;
use std::cmp::Ordering;

/// How far the handing over has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    /// The node goes down: it neither takes proposals nor stands for election any more.
    draining: bool,
    /// Somebody else is wished for as the leader. Only at the leader.
    wish: Option<Wish>,
    room: Room,
    /// The log has come to have less room: so many others are asked to lead instead. Once each, for theirs may have no more.
    offers: u8,
    /// Who was told to stand for election, and when.
    told: Option<(NodeId, Instant)>,
}

/// That another replica leads.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// Which; `None` for whoever is furthest.
    to: Option<NodeId>,
    since: Instant,
}

impl Transfer {
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }
    pub(super) fn set_room(&mut self, room: Room, others: u8) {
        match room.cmp(&self.room) {
            Ordering::Less => self.offers = others,
            Ordering::Equal => (),
            Ordering::Greater => self.offers = 0,
        }
        self.room = room;
    }
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }
    /// Whether this replica, if it leads, is about to lead no more: "the prior leader stops accepting new client requests" (3.10).
    pub(super) fn is_under_way(&self) -> bool {
        self.draining || self.wish.is_some()
    }
    /// Whether somebody waits to hear what becomes of a wish.
    pub(super) fn is_wished(&self) -> bool {
        self.wish.is_some()
    }
    /// This replica no longer leads.
    pub(super) fn cease(&mut self) {
        (self.wish, self.told) = (None, None);
    }
}

impl Raft {
    /// An operator wishes that `to`, or whoever is furthest, leads.
    pub(super) fn wish(&mut self, now: Instant, to: Option<NodeId>) {
        let can = |id: NodeId| self.peers.iter().any(|p| p.id == id);
        if self.role == Role::Leader && to.map_or(!self.peers.is_empty(), can) {
            self.transfer.wish = Some(Wish { to, since: now });
            self.transfer.told = None;
        }
    }

    /// Ends a leader's burst: "the prior leader sends a TimeoutNow request to the target server" once "the target server's log
    /// matches its own" (3.10). A target that does nothing with it is passed over for another after an election time-out.
    pub(super) fn hand_over(&mut self, now: Instant, out: &mut Outbox) {
        self.give_up_wish(now);
        if !self.transfer.is_under_way() && self.transfer.offers == 0 {
            return;
        }
        let told = self.transfer.told;
        if told.is_some_and(|(_, at)| now.since(at) < self.options.election_max) {
            return;
        }
        let last = self.tail.last();
        let alive = |heard: Instant| now.since(heard) < self.options.election_max;
        let wished = self.transfer.wish.and_then(|wish| wish.to);
        let fits = |id: NodeId| wished.is_none_or(|to| to == id);
        let ready = self.peers.iter().filter(|p| p.matched == last && alive(p.heard) && fits(p.id));
        // Who was heard last; who has been told already comes last.
        let target = ready.max_by_key(|p| (told.is_none_or(|(id, _)| id != p.id), p.heard)).map(|p| p.id);
        if let Some(target) = target {
            self.transfer.told = Some((target, now));
            self.transfer.offers = self.transfer.offers.saturating_sub(1);
            out.send(Target::One(target), Message::TimeoutNow { term: self.term });
        }
    }

    /// "If leadership transfer does not complete after about an election timeout, the prior leader aborts the transfer and resumes
    /// accepting client requests" (3.10).
    fn give_up_wish(&mut self, now: Instant) {
        let late = |wish: &mut Wish| self.options.election_max <= now.since(wish.since);
        if self.transfer.wish.take_if(late).is_some() {
            self.transfer.told = None;
        }
    }

    /// "The target server starts an election (as if its election timeout had elapsed)", without asking first, and in a way that
    /// those who still hear the old leader accept (4.2.3).
    pub(super) fn on_timeout_now(&mut self, now: Instant, from: NodeId, term: Term, out: &mut Outbox) {
        if term == self.term && self.leader == Some(from) && !self.transfer.draining {
            self.arm_election(now);
            self.cause = Cause::HandedOver;
            self.campaign(now, true, out);
        }
    }
}
