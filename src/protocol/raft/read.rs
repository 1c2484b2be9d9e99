//! Linearizable reads without log entries (thesis 6.4): a leader notes its commit index, makes sure with one round of
//! heartbeats that it still leads, and lets the read be answered once that index is applied. All reads of a burst share a round.
//! A follower asks its leader for the index and answers from its own store.

use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{NodeId, Slot, Term};
use crate::protocol::{Outbox, RefusalKind, Refused, Target};
use crate::wire::raft::Message;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// Who wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// This node: the id of `Input::Read`.
    Own(u64),
    /// A follower: its question's number.
    Peer(NodeId, u64),
}

/// Reads that wait until a majority has confirmed this leader.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    /// The commit index when the round began.
    slot: Slot,
    askers: Vec<Asker>,
}

/// Reads under way.
#[derive(Clone, Debug)]
pub struct Reads {
    /// At the leader: they share the next round.
    waiting: Vec<Asker>,
    /// At the leader. Invariant: numbers and slots rise.
    rounds: VecDeque<Round>,
    /// The newest round's number. Rises for the life of this core.
    round: u64,
    /// At a follower: they share the next question.
    fresh: Vec<u64>,
    /// At a follower: questions under way, and whose they are. Invariant: numbers rise, and ids within.
    asked: VecDeque<(u64, Vec<u64>)>,
    /// The newest question's number.
    question: u64,
}

impl Reads {
    /// `first` must differ from life to life: a late answer to an earlier life's question is older than this life's reads.
    pub fn new(first: u64) -> Reads {
        Reads {
            waiting: Vec::new(),
            rounds: VecDeque::new(),
            round: 0,
            fresh: Vec::new(),
            asked: VecDeque::new(),
            question: first,
        }
    }
    /// The newest round: every append carries it.
    pub fn round(&self) -> u64 {
        self.round
    }
    /// This replica leads now.
    pub fn start_term(&mut self) {
        assert!(self.waiting.is_empty() && self.rounds.is_empty());
        assert!(self.fresh.is_empty() && self.asked.is_empty());
    }
    /// Who waits for what.
    pub fn outline(&self, to: &mut impl Hasher) {
        (self.round, self.waiting.len(), self.fresh.len(), self.asked.len()).hash(to);
        self.rounds.iter().for_each(|round| (round.number, round.slot, round.askers.len()).hash(to));
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self, role: Role) {
        assert!(role == Role::Leader || (self.waiting.is_empty() && self.rounds.is_empty()));
        assert!(role != Role::Leader || (self.fresh.is_empty() && self.asked.is_empty()));
        assert!(self.rounds.iter().is_sorted_by(|a, b| a.number < b.number && a.slot <= b.slot));
        assert!(self.asked.iter().is_sorted_by(|a, b| a.0 < b.0));
    }
    fn leader_len(&self) -> usize {
        self.waiting.len() + self.rounds.iter().map(|r| r.askers.len()).sum::<usize>()
    }
    fn follower_len(&self) -> usize {
        self.fresh.len() + self.asked.iter().map(|(_, ids)| ids.len()).sum::<usize>()
    }
}

/// At the leader.
impl Raft {
    fn await_round(&mut self, asker: Asker, out: &mut Outbox) {
        assert_eq!(self.role, Role::Leader);
        if self.reads.leader_len() < self.options.reads_max {
            self.reads.waiting.push(asker);
        } else {
            self.refuse_asker(asker, RefusalKind::Overloaded, out);
        }
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, id: u64, out: &mut Outbox) {
        let asker = Asker::Peer(from, id);
        match self.role {
            Role::Leader => self.await_round(asker, out),
            _ => self.refuse_asker(asker, RefusalKind::NotLeader { leader: self.leader }, out),
        }
    }

    /// Near the end of the burst: one round for all that wait. "If the leader has not yet marked an entry from its current term
    /// committed, it waits until it has done so" (6.4): until then it may not know the newest commit index.
    pub(super) fn begin_round(&mut self) {
        let knows_commit =
            self.tail.term_at(self.commit) == Some(self.term) || canary::on(Canary::ReadBeforeOwnCommit);
        let reads = &mut self.reads;
        if canary::on(Canary::ReadJoinsRound)
            && let Some(running) = reads.rounds.back_mut()
        {
            running.askers.append(&mut reads.waiting);
        }
        if reads.waiting.is_empty() || !knows_commit || self.options.read_rounds_max <= reads.rounds.len() {
            return;
        }
        reads.round += 1;
        let askers = std::mem::take(&mut reads.waiting);
        reads.rounds.push_back(Round { number: reads.round, slot: self.commit, askers });
    }

    /// "The leader issues a new round of heartbeats and waits for their acknowledgments from a majority" (6.4).
    pub(super) fn confirm_rounds(&mut self, out: &mut Outbox) {
        while let Some(number) = self.reads.rounds.front().map(|round| round.number) {
            let confirmed = self.peers.iter().filter(|p| number <= p.round).count() + 1;
            if confirmed < self.quorum() && !canary::on(Canary::ReadWithoutRound) {
                return;
            }
            let Some(Round { slot, askers, .. }) = self.reads.rounds.pop_front() else { return };
            askers.into_iter().for_each(|asker| self.grant(asker, slot, out));
        }
    }

    fn grant(&mut self, asker: Asker, slot: Slot, out: &mut Outbox) {
        assert!(slot <= self.commit);
        match asker {
            Asker::Own(id) => out.read_at(id, slot),
            Asker::Peer(to, id) => {
                // It will wait until it knows that this slot is committed.
                if let Some(peer) = self.peer(to) {
                    self.peers[peer].wanted = self.peers[peer].wanted.max(slot);
                }
                let message = Message::ReadIndexReply { term: self.term, id, slot: Some(slot) };
                out.send(Target::One(to), message);
            }
        }
    }

    /// Ceasing to lead: nobody can say any more what has been acknowledged.
    pub(super) fn refuse_rounds(&mut self, out: &mut Outbox) {
        let waiting = std::mem::take(&mut self.reads.waiting);
        let rounds = std::mem::take(&mut self.reads.rounds);
        for asker in rounds.into_iter().flat_map(|round| round.askers).chain(waiting) {
            self.refuse_asker(asker, RefusalKind::NotLeader { leader: None }, out);
        }
    }

    fn refuse_asker(&self, asker: Asker, why: RefusalKind, out: &mut Outbox) {
        match asker {
            Asker::Own(id) => out.refuse(Refused::Reads { id }, why),
            Asker::Peer(to, id) => {
                out.send(Target::One(to), Message::ReadIndexReply { term: self.term, id, slot: None });
            }
        }
    }
}

/// At a follower, and for both.
impl Raft {
    /// Reads of this node's clients.
    pub(super) fn read(&mut self, id: u64, out: &mut Outbox) {
        match self.role {
            Role::Leader => self.await_round(Asker::Own(id), out),
            _ if canary::on(Canary::ReadLocal) => out.read_at(id, self.commit),
            _ if self.leader.is_none() => {
                out.refuse(Refused::Reads { id }, RefusalKind::NotLeader { leader: None });
            }
            _ if self.options.reads_max <= self.reads.follower_len() => {
                out.refuse(Refused::Reads { id }, RefusalKind::Overloaded);
            }
            _ => self.reads.fresh.push(id),
        }
    }

    /// Ends the burst: one question for all its reads.
    pub(super) fn ask(&mut self, out: &mut Outbox) {
        if self.reads.fresh.is_empty() {
            return;
        }
        let leader = self.leader.expect("reads are refused without a leader");
        self.reads.question += 1;
        let ids = std::mem::take(&mut self.reads.fresh);
        self.reads.asked.push_back((self.reads.question, ids));
        let message = Message::ReadIndex { term: self.term, id: self.reads.question };
        out.send(Target::One(leader), message);
    }

    /// The newest question again: its answer serves the earlier ones too.
    pub(super) fn repeat_question(&mut self, out: &mut Outbox) {
        if let (Some((id, _)), Some(leader)) = (self.reads.asked.back(), self.leader) {
            out.send(Target::One(leader), Message::ReadIndex { term: self.term, id: *id });
        }
    }

    /// An index that was confirmed after question `id` was asked is also later than all earlier questions.
    pub(super) fn on_read_index_reply(
        &mut self,
        from: NodeId,
        term: Term,
        id: u64,
        slot: Option<Slot>,
        out: &mut Outbox,
    ) {
        if !self.reads.asked.iter().any(|(question, _)| *question == id) {
            return;
        }
        while let Some((question, ids)) = self.reads.asked.pop_front() {
            if id < question {
                self.reads.asked.push_front((question, ids));
                break;
            }
            for id in ids {
                match slot {
                    Some(slot) => out.read_at(id, slot),
                    None => out.refuse(Refused::Reads { id }, RefusalKind::NotLeader { leader: self.leader }),
                }
            }
        }
        // The answer also tells what is committed; what of it is known to agree is decided here (3.5).
        if let Some(slot) = slot.filter(|_| term == self.term && self.leader == Some(from)) {
            self.commit_to(slot.min(self.verified), out);
        }
    }

    /// The leader has changed: what was asked of the old one is void.
    pub(super) fn refuse_asked(&mut self, out: &mut Outbox) {
        let asked = std::mem::take(&mut self.reads.asked);
        let fresh = std::mem::take(&mut self.reads.fresh);
        for id in asked.into_iter().flat_map(|(_, ids)| ids).chain(fresh) {
            out.refuse(Refused::Reads { id }, RefusalKind::NotLeader { leader: self.leader });
        }
    }
}
