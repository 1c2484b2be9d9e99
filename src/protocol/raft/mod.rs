//! Raft, as in Diego Ongaro's thesis "Consensus: Bridging Theory and Practice" (sections are cited where they are obeyed).
//!
//! [`Raft`] is one replica of one group. It is told facts and writes what it wants into an outbox; it never waits, never fails,
//! never reads a clock. One file a concern:
//!
//! - `tail`, `writes`: the log in memory, and how far it is durable.
//! - `election`, `transfer`: who leads (3.4, 4.2.3, 6.2, 9.6, 3.10).
//! - `append`: what a follower does with a leader's entries (3.5).
//! - `replication`, `progress`: how a leader brings entries to followers (3.5, 10.2.1).
//! - `commit`: what is decided (3.6.2).
//! - `snapshot`: for whom the log no longer has what it needs (5).
//! - `read`: reads without log entries (6.4).
//! - `recover`: a start from what was stored (3.8).
//! - `outline`: what a model checker compares.
//!
//! # What waits for durability
//! Requests and answers of votes, and acknowledgements of entries, leave after the write they speak of; a leader counts its own copy
//! of an entry only when it is durable. `Append` leaves at once, in parallel to the leader's own write (10.2.1).

mod append;
mod commit;
mod election;
pub mod options;
mod outline;
mod progress;
mod read;
pub mod recover;
mod replication;
mod shipping;
mod snapshot;
pub mod status;
pub mod tail;
mod transfer;
mod writes;

#[cfg(test)]
mod tests;

pub use options::Options;
pub use recover::{Replay, Setup};
pub use status::Status;
pub use tail::Mark;

use crate::base::canary::{self, Canary};
use crate::base::{Instant, JobId, NodeId, NodeSet, Prng, Slot, Stamp, Term};
use crate::protocol::{Cause, FaultKind, Fetched, Input, Outbox, Protocol, RefusalKind, Refused};
use crate::wire::raft::Message;
use crate::wire::{Batch, Entry, EntryKind, Record};
use append::Acknowledgement;
use commit::CatchUp;
use progress::Progress;
use read::Reads;
use shipping::Staging;
use std::time::Duration;
use tail::Tail;
use transfer::Transfer;
use writes::Writes;

/// What a replica is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It takes entries from a leader, or waits for one.
    Follower,
    /// It asks whether it could win an election (9.6). Its term is unchanged.
    PreCandidate,
    /// It stands for election in its term.
    Candidate,
    /// It leads its term.
    Leader,
}

/// No peer may speak of a term, slot or offset beyond this: so numbers can be added to without overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// One replica of one group.
#[derive(Clone)]
pub struct Raft {
    options: Options,
    me: NodeId,
    members: NodeSet,
    prng: Prng,

    /// Rises. Persistent, as is `vote`: a record is written in the step that changes it.
    term: Term,
    /// Whom this replica voted for in `term`.
    vote: Option<NodeId>,
    role: Role,
    /// Who leads `term`. Invariant: this replica exactly while `role` is `Leader`.
    leader: Option<NodeId>,
    /// Who granted the vote or trial vote that `role` asks for.
    votes: NodeSet,
    /// Elections stood in since the start.
    elections: u64,
    /// Why there was no leader last, or an election. For operators: nothing is decided by it.
    cause: Cause,

    tail: Tail,
    writes: Writes,
    /// Invariant: at most `tail.last()`. Rises.
    commit: Slot,
    /// What the store was handed. Behind `commit` only while what is between has to be fetched from disk.
    delivered: Slot,
    catch_up: CatchUp,
    /// What the store has applied, as far as this core decided it. Invariant: `applied <= delivered <= commit`.
    applied: Slot,
    /// The own log agrees with the log of `term`'s leader up to here. Invariant: `commit <= verified <= last`.
    verified: Slot,
    /// The log on disk does not fit the snapshot that this life began with: a reset must be written before anything else.
    owes_reset: bool,

    /// Running while not leader: the leader has been silent for too long.
    election_at: Instant,
    /// The time-out drawn last.
    patience: Duration,
    /// When the present leader was heard last.
    heard: Option<Instant>,
    /// Running while leader.
    heartbeat_at: Instant,

    /// Followers, while leader; empty otherwise. In rising order of their ids.
    peers: Vec<Progress>,
    /// A heartbeat is due at the end of the burst.
    beat: bool,
    /// Matched or durable slots moved in this burst.
    recount: bool,
    next_job: JobId,
    reads: Reads,
    transfer: Transfer,
    /// The newest round of confirmation of the present leader that was answered.
    round_echoed: u64,
    /// What the present leader is to be told at the end of the burst.
    acknowledgement: Option<Acknowledgement>,
    /// A leader's snapshot on its way in.
    staging: Option<Staging>,
}

impl Protocol for Raft {
    type Message = Message;

    fn step(&mut self, now: Instant, input: Input<Message>, out: &mut Outbox) {
        self.pay_reset(out);
        match input {
            Input::Receive { from, message } => self.receive(now, from, message, out),
            Input::Propose { batch, clock } => self.propose(batch, clock, out),
            Input::Read { id } => self.read(id, out),
            Input::Durable { ticket } => {
                self.writes.durable(ticket);
                self.recount = true;
                self.count_own_vote(now, out);
            }
            Input::Applied { slot } => self.note_applied(slot),
            Input::Fetched { job, found } => self.fetched(now, job, found, out),
            Input::Snapshotted { slot, .. } => self.snapshotted(now, slot, out),
            Input::Installed { slot, term, stamp, .. } => {
                self.installed(Mark { slot, term, stamp }, out);
            }
            Input::Rewound { slot, next } => self.rewound(slot, next, out),
            // A leader is trusted, and sends whole snapshots.
            Input::Wanted { .. } | Input::Poisoned { .. } => (),
            // A leader is trusted here, and its stamps are.
            Input::Heard { .. } | Input::Clock { .. } | Input::Digested { .. } => (),
            Input::Lost { peer } => self.lost(peer, out),
            Input::Drain => self.transfer.drain(),
            Input::Transfer { to } => self.wish(now, to),
            Input::Timeout => self.timeout(now, out),
        }
    }

    fn settle(&mut self, now: Instant, out: &mut Outbox) {
        self.pay_reset(out);
        self.acknowledge(out);
        if self.role == Role::Leader {
            self.count(out);
            self.confirm_rounds(out);
            self.begin_round();
            self.replicate(now, out);
            // Of a group of one, nobody has to confirm the round that has just begun.
            self.confirm_rounds(out);
            self.hand_over(now, out);
        } else {
            self.ask(out);
        }
        self.deliver(out);
        self.evict();
    }

    fn deadline(&self) -> Option<Instant> {
        Some(match self.role {
            Role::Leader => self.heartbeat_at,
            Role::Follower | Role::PreCandidate | Role::Candidate => self.election_at,
        })
    }

    fn check(&self) {
        self.tail.check();
        self.writes.check(self.tail.last());
        assert!(self.tail.floor().slot <= self.applied && self.applied <= self.delivered);
        assert!(self.delivered <= self.commit);
        assert!(self.commit <= self.verified && self.verified <= self.tail.last());
        assert!(self.tail.last_mark().term <= self.term);
        assert_eq!(self.role == Role::Leader, self.leader == Some(self.me));
        assert_eq!(self.role == Role::Leader && 1 < self.members.len(), !self.peers.is_empty());
        assert!(self.role == Role::Follower || self.role == Role::PreCandidate || self.vote == Some(self.me));
        assert!(self.role != Role::Leader || self.staging.is_none());
        self.peers.iter().for_each(|peer| peer.check(self.tail.last()));
        self.reads.check(self.role);
    }
}

impl Raft {
    /// Takes a peer's message: terms first (3.3), then by kind.
    fn receive(&mut self, now: Instant, from: NodeId, message: Message, out: &mut Outbox) {
        if from == self.me || !self.members.contains(from) {
            out.fault(from, FaultKind::NotMember);
            return;
        }
        if !is_sane(&message) {
            out.fault(from, FaultKind::Disordered { slot: Slot::ZERO });
            return;
        }
        let term = term_of(&message);
        if self.term < term && self.believes_term(now, &message) {
            let is_handed_over = matches!(message, Message::Vote { transfer: true, .. });
            self.cause = if is_handed_over { Cause::HandedOver } else { Cause::LaterTerm };
            self.enter_term(now, term, None, out);
        }
        match message {
            Message::Vote { pre: true, term, last_slot, last_term, .. } => {
                self.on_pre_vote(now, from, term, (last_term, last_slot), out);
            }
            Message::Vote { term, last_slot, last_term, transfer, .. } => {
                self.on_vote(now, from, term, (last_term, last_slot), transfer, out);
            }
            Message::VoteReply { term, granted, pre } => {
                self.on_vote_reply(now, from, term, granted, pre, out)
            }
            Message::Append { term, prev_slot, prev_term, commit, entries, round } => {
                let prev = (prev_slot, prev_term);
                self.on_append(now, from, term, prev, commit, entries, round, out);
            }
            Message::AppendReply { term, outcome, round } => {
                let is_ours = term == self.term || canary::on(Canary::AppendReplyAnyTerm);
                if self.role == Role::Leader && is_ours {
                    self.on_append_reply(now, from, outcome, round, out);
                }
            }
            Message::Heartbeat { term, commit, round } => {
                self.on_heartbeat(now, from, term, commit, round, out)
            }
            Message::HeartbeatReply { term, round, lags } => {
                if self.role == Role::Leader && term == self.term {
                    self.on_heartbeat_reply(now, from, round, lags);
                }
            }
            Message::Piece { term, slot, slot_term, stamp, offset, total, body } => {
                let mark = Mark { slot, term: slot_term, stamp };
                self.on_piece(now, from, term, mark, offset, total, body, out);
            }
            Message::PieceReply { term, slot, next, installed } => {
                if self.role == Role::Leader && term == self.term {
                    self.on_piece_reply(now, from, slot, next, installed, out);
                }
            }
            Message::ReadIndex { id, .. } => self.on_read_index(from, id, out),
            Message::ReadIndexReply { term, id, slot } => self.on_read_index_reply(from, term, id, slot, out),
            Message::TimeoutNow { term } => self.on_timeout_now(now, from, term, out),
        }
    }

    /// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (3.3); but a trial
    /// vote speaks of a term that nobody has entered (9.6), and a disruptive candidate is not believed (4.2.3).
    fn believes_term(&self, now: Instant, message: &Message) -> bool {
        match message {
            Message::Vote { pre: true, .. } | Message::VoteReply { pre: true, granted: true, .. } => false,
            Message::Vote { transfer: false, .. } => !self.is_loyal(now),
            _ => true,
        }
    }

    /// A later term has begun, somewhere or here.
    fn enter_term(&mut self, now: Instant, term: Term, vote: Option<NodeId>, out: &mut Outbox) {
        assert!(self.term < term);
        self.term = term;
        self.vote = vote;
        self.save_vote(out);
        self.verified = self.commit;
        self.follow(now, None, out);
    }

    /// Ceases to lead or to stand, if it does; `leader` leads as far as is known.
    fn follow(&mut self, now: Instant, leader: Option<NodeId>, out: &mut Outbox) {
        assert_ne!(leader, Some(self.me));
        if self.role == Role::Leader {
            self.arm_election(now);
            self.refuse_rounds(out);
            self.peers.clear();
            self.transfer.cease();
            self.beat = false;
        }
        self.role = Role::Follower;
        self.set_leader(leader, out);
    }

    fn set_leader(&mut self, leader: Option<NodeId>, out: &mut Outbox) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.heard = None;
        self.staging = None;
        self.acknowledgement = None;
        // What was asked of another leader will not be answered, or would be answered by one that does not lead.
        self.refuse_asked(out);
    }

    /// Term and vote are written before anything that speaks of them leaves (3.8).
    fn save_vote(&mut self, out: &mut Outbox) {
        let ticket = out.append(Record::Vote { group: out.group(), term: self.term, vote: self.vote });
        self.writes.vote(ticket);
    }

    /// Appends to the own log.
    fn append(&mut self, entry: Entry, out: &mut Outbox) {
        let slot = entry.slot;
        let ticket = out.append(Record::Entry { group: out.group(), entry: entry.clone() });
        self.tail.push(entry);
        self.writes.entry(ticket, slot);
    }

    /// "The leader appends the command to its log as a new entry" (3.5).
    fn propose(&mut self, batch: Batch, clock: Stamp, out: &mut Outbox) {
        let last = self.tail.last_mark();
        let refusal = if self.role != Role::Leader {
            Some(RefusalKind::NotLeader { leader: self.leader })
        } else if self.transfer.is_under_way() {
            Some(RefusalKind::Draining)
        } else if self.options.uncommitted_entries_max <= last.slot.0 - self.commit.0 {
            Some(RefusalKind::Overloaded)
        } else {
            None
        };
        if let Some(why) = refusal {
            out.refuse(Refused::Batch(batch), why);
            return;
        }
        // A batch without commands and without an origin carries the stamp alone.
        let is_empty = batch == Batch::default();
        let kind = if is_empty { EntryKind::Empty } else { EntryKind::Batch };
        let Batch { origin, sequence, floor, body, .. } = batch;
        let (slot, stamp) = (last.slot.next(), last.stamp.max(clock));
        let entry = Entry { term: self.term, slot, stamp, kind, origin, sequence, floor, body };
        self.append(entry, out);
        self.verified = slot;
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) {
        match self.role {
            Role::Leader if self.heartbeat_at <= now => {
                self.heartbeat_at = now.after(self.options.heartbeat);
                self.beat = true;
                self.check_quorum(now, out);
            }
            Role::Follower | Role::PreCandidate | Role::Candidate if self.election_at <= now => {
                self.stand(now, out);
            }
            Role::Leader | Role::Follower | Role::PreCandidate | Role::Candidate => (),
        }
    }

    /// The link to `peer` came up anew: asks what has arrived, and repeats the questions that are still open.
    fn lost(&mut self, peer: NodeId, out: &mut Outbox) {
        match self.role {
            Role::Leader => self.ask_anew(peer),
            Role::Follower if self.leader == Some(peer) => self.repeat_question(out),
            Role::Candidate if self.members.contains(peer) => self.request_vote(peer, out),
            Role::Follower | Role::PreCandidate | Role::Candidate => (),
        }
    }

    fn fetched(&mut self, now: Instant, job: JobId, found: Fetched, out: &mut Outbox) {
        if self.catch_up.job == Some(job) {
            self.catch_up.job = None;
            // What is gone was overtaken by a leader's snapshot; else it is asked for again when the burst ends.
            if let Fetched::Entries(entries) = found {
                self.deliver_fetched(entries, out);
            }
            return;
        }
        // Whoever it was for may be forgotten: this replica no longer leads, or the errand was taken back.
        let Some(peer) = self.peers.iter().position(|p| p.fetch == Some(job)) else { return };
        self.peers[peer].fetch = None;
        match found {
            Fetched::Entries(entries) => self.send_fetched(peer, entries, out),
            Fetched::Piece { slot, term, stamp, offset, total, body } => {
                self.send_piece(peer, Mark { slot, term, stamp }, offset, total, body, out);
            }
            Fetched::Gone => self.peers[peer].ship(now),
        }
    }

    /// Entries that are applied and durable may leave memory, beyond what is kept for followers a little behind; those that are durable
    /// only, beyond a larger bound: they come back from disk.
    fn evict(&mut self) {
        let Options { cache_entries_max, cache_bytes_max, .. } = self.options;
        let Options { unapplied_entries_max, unapplied_bytes_max, .. } = self.options;
        let durable = self.writes.slot();
        self.tail.evict(self.applied.min(durable), cache_entries_max, cache_bytes_max);
        self.tail.evict(durable, unapplied_entries_max, unapplied_bytes_max);
    }

    fn note_applied(&mut self, slot: Slot) {
        // The store may have loaded a leader's snapshot of which this core has not been told.
        self.applied = self.applied.max(slot.min(self.commit));
        self.delivered = self.delivered.max(self.applied);
    }

    fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn peer(&self, id: NodeId) -> Option<usize> {
        self.peers.iter().position(|p| p.id == id)
    }

    fn job(&mut self) -> JobId {
        self.next_job.0 += 1;
        self.next_job
    }
}

/// The term that a message speaks of.
fn term_of(message: &Message) -> Term {
    match message {
        Message::Vote { term, .. }
        | Message::VoteReply { term, .. }
        | Message::Append { term, .. }
        | Message::AppendReply { term, .. }
        | Message::Heartbeat { term, .. }
        | Message::HeartbeatReply { term, .. }
        | Message::Piece { term, .. }
        | Message::PieceReply { term, .. }
        | Message::ReadIndex { term, .. }
        | Message::ReadIndexReply { term, .. }
        | Message::TimeoutNow { term } => *term,
    }
}

/// Whether every number that is added to is small enough for it.
fn is_sane(message: &Message) -> bool {
    let numbers = match message {
        Message::Append { prev_slot, entries, .. } => [prev_slot.0, entries.len() as u64, 0],
        Message::Piece { slot, offset, total, .. } => [slot.0, *offset, *total],
        _ => [0; 3],
    };
    term_of(message).0 < NUMBER_MAX && numbers.into_iter().all(|n| n < NUMBER_MAX)
}
