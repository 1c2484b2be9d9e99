//! A start from what was stored (thesis 3.8): the newest durable snapshot, and the records of the log in the order of their writing.

use super::commit::CatchUp;
use super::options::Options;
use super::read::Reads;
use super::tail::{Mark, Tail};
use super::transfer::Transfer;
use super::writes::Writes;
use super::{Raft, Role};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, JobId, NodeId, NodeSet, Prng, Slot, Term};
use crate::protocol::{Cause, Hole};
use crate::wire::{Entry, Record};

/// What a replica is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This replica.
    pub me: NodeId,
    /// All replicas of the group, this one among them.
    pub members: NodeSet,
    /// See there.
    pub options: Options,
    /// Must differ from life to life and from replica to replica: time-outs and question numbers are drawn from it.
    pub seed: u64,
}

/// What the records of a log add up to, told one at a time in the order of their writing: those that were cut or voided later too.
/// Of entries only what a running core would keep of them stays in memory, however long the log is.
#[derive(Clone, Debug)]
pub struct Replay {
    term: Term,
    vote: Option<NodeId>,
    /// The log as far as it was read. Its floor is what comes before the first entry, with a term as soon as a record tells it.
    tail: Tail,
    /// The newest record of a floor.
    floor: Option<Mark>,
    entries_max: usize,
    bytes_max: usize,
}

impl Replay {
    /// Nothing has been read yet.
    pub fn new(options: &Options) -> Replay {
        Replay {
            term: Term::ZERO,
            vote: None,
            tail: Tail::new(Mark::ZERO),
            floor: None,
            entries_max: options.unapplied_entries_max,
            bytes_max: options.unapplied_bytes_max,
        }
    }

    /// Takes the next record.
    pub fn record(&mut self, record: Record) -> Result<(), Hole> {
        match record {
            Record::Vote { term, vote, .. } => {
                assert!(self.term <= term, "terms are written in rising order");
                (self.term, self.vote) = (term, vote.filter(|_| !canary::on(Canary::VoteForgotten)));
            }
            Record::Entry { entry, .. } => return self.entry(entry),
            Record::Floor { slot, term, stamp, reset, .. } => self.raise(Mark { slot, term, stamp }, reset),
            Record::Pbft { .. } => return Err(Hole::OtherProtocol),
        }
        Ok(())
    }

    fn raise(&mut self, mark: Mark, reset: bool) {
        self.floor = Some(mark);
        if reset || self.tail.last() < mark.slot {
            self.tail.reset(mark);
        } else if self.tail.floor().slot <= mark.slot {
            self.tail.compact_to(mark);
        }
    }

    /// "Cuts every entry at its slot and above, then appends."
    fn entry(&mut self, entry: Entry) -> Result<(), Hole> {
        // What lay between a floor and the first entry has left the log for a later floor, of which it is yet to be told.
        let begins = self.is_void() && entry.slot != self.tail.last().next();
        if begins || entry.slot <= self.tail.floor().slot {
            self.tail.reset(Mark { slot: entry.slot.prev(), ..Mark::ZERO });
        } else if entry.slot <= self.tail.last() {
            self.tail.cut(entry.slot);
        } else if entry.slot != self.tail.last().next() {
            return Err(Hole::Entries { expected: self.tail.last().next(), found: entry.slot });
        }
        self.tail.push(entry);
        self.tail.evict(self.tail.last(), self.entries_max, self.bytes_max);
        Ok(())
    }

    /// Puts the log on top of the newest durable snapshot. True if they agree; else nothing of the log stays, and it owes a reset.
    fn join(&mut self, snapshot: Mark) -> Result<bool, Hole> {
        if let Some(floor) = self.floor.filter(|floor| snapshot.slot < floor.slot) {
            return Err(Hole::Snapshot { floor: floor.slot, snapshot: snapshot.slot });
        }
        let before = self.tail.floor();
        // An entry that comes first tells nothing of the term before it.
        let is_known = before.slot == Slot::ZERO || self.floor.is_some_and(|floor| floor.slot == before.slot);
        let first = if is_known { before.slot } else { before.slot.next() };
        if snapshot.slot < first && !self.is_void() {
            return Err(Hole::Entries { expected: snapshot.slot.next(), found: before.slot.next() });
        }
        let agrees = self.tail.term_at(snapshot.slot) == Some(snapshot.term);
        if agrees {
            self.tail.compact_to(snapshot);
        } else {
            self.tail.reset(snapshot);
        }
        Ok(agrees)
    }

    fn is_void(&self) -> bool {
        self.tail.floor().slot == self.tail.last()
    }
}

impl Raft {
    /// A replica that has never run.
    pub fn new(setup: Setup, now: Instant) -> Raft {
        let replay = Replay::new(&setup.options);
        let recovered = Raft::recover(setup, now, Mark::ZERO, replay);
        recovered.expect("nothing has no holes")
    }

    /// A replica as it was when its node went down. `snapshot` is the newest durable one (`Mark::ZERO` if there is none); `replay` was
    /// told all that the log still holds: what is at and below the snapshot too, since that tells whether the log agrees with it.
    pub fn recover(setup: Setup, now: Instant, snapshot: Mark, mut replay: Replay) -> Result<Raft, Hole> {
        // A crash may have come between the snapshot and what the log says of it: what follows in the log is not known to follow it.
        let owes_reset = !replay.join(snapshot)?;
        // A snapshot may be durable before the term of its last entry: no vote of that term has left then.
        if replay.term < snapshot.term {
            (replay.term, replay.vote) = (snapshot.term, None);
        }
        Ok(Raft::start(setup, now, snapshot, replay, owes_reset))
    }

    fn start(setup: Setup, now: Instant, snapshot: Mark, replay: Replay, owes_reset: bool) -> Raft {
        let Setup { me, members, options, seed } = setup;
        options.check();
        assert!(members.contains(me), "this replica is a member");
        let mut prng = Prng::from_seed(seed);
        // Half of the numbers are left to count on from there.
        let first_question = prng.next_u64() >> 1;
        let Replay { term, vote, tail, .. } = replay;
        let mut raft = Raft {
            me,
            members,
            term,
            vote,
            role: Role::Follower,
            leader: None,
            votes: NodeSet::default(),
            elections: 0,
            cause: Cause::Start,
            writes: Writes::new(tail.last()),
            tail,
            commit: snapshot.slot,
            delivered: snapshot.slot,
            catch_up: CatchUp::default(),
            applied: snapshot.slot,
            verified: snapshot.slot,
            owes_reset,
            election_at: now,
            patience: options.election_min,
            heard: None,
            heartbeat_at: now,
            peers: Vec::new(),
            beat: false,
            recount: false,
            next_job: JobId::default(),
            reads: Reads::new(first_question),
            transfer: Transfer::default(),
            round_echoed: 0,
            acknowledgement: None,
            staging: None,
            options,
            prng,
        };
        raft.arm_election(now);
        raft
    }
}
