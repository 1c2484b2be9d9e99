//! A start from what was stored (thesis 3.8): the newest durable snapshot, and the records of the log in the order of their writing.

use super::options::Options;
use super::read::Reads;
use super::tail::{Mark, Tail};
use super::transfer::Transfer;
use super::writes::Writes;
use super::{Raft, Role};
use crate::base::{Instant, JobId, NodeId, NodeSet, Prng, Slot, Term};
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

/// What was stored cannot be what this replica wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Hole {
    /// Entries are missing between the newest snapshot and the log.
    #[error(
        "the log goes on at slot {found} where {expected} is missing: entries above the newest snapshot are gone; \
         restore the missing snapshot or log files, or replace this node"
    )]
    Entries {
        /// The slot that should have come.
        expected: Slot,
        /// The slot that came.
        found: Slot,
    },
    /// The log says that a snapshot is durable which is not there.
    #[error(
        "the log was cut at slot {floor} for a snapshot that is not there (the newest is at {snapshot}); \
         restore it, or replace this node"
    )]
    Snapshot {
        /// Where the log begins.
        floor: Slot,
        /// The newest snapshot's slot.
        snapshot: Slot,
    },
}

/// What the records add up to.
struct Replay {
    snapshot: Mark,
    term: Term,
    vote: Option<NodeId>,
    /// What lies above the snapshot.
    tail: Tail,
    /// Whether the log, as far as read, holds the entry that the snapshot ends with.
    agrees: bool,
    /// Whether the log, as far as read, says anything about that.
    tells: bool,
}

impl Replay {
    fn record(&mut self, record: Record) -> Result<(), Hole> {
        match record {
            Record::Vote { term, vote, .. } => {
                assert!(self.term <= term, "terms are written in rising order");
                (self.term, self.vote) = (term, vote);
            }
            Record::Entry { entry, .. } => return self.entry(entry),
            Record::Floor { slot, term, reset, .. } => {
                if self.snapshot.slot < slot {
                    return Err(Hole::Snapshot { floor: slot, snapshot: self.snapshot.slot });
                }
                if reset {
                    self.tail.reset(self.snapshot);
                    self.agrees = false;
                }
                self.agrees |= (slot, term) == (self.snapshot.slot, self.snapshot.term);
                self.tells |= reset || slot == self.snapshot.slot;
            }
        }
        Ok(())
    }

    /// "Cuts every entry at its slot and above, then appends."
    fn entry(&mut self, entry: Entry) -> Result<(), Hole> {
        let end = self.snapshot.slot;
        let fits = self.tells && self.tail.last_mark().term <= entry.term;
        if entry.slot <= end {
            self.tail.reset(self.snapshot);
            self.agrees = (entry.slot, entry.term) == (end, self.snapshot.term);
            self.tells = true;
        } else if entry.slot <= self.tail.last() {
            self.tail.cut(entry.slot);
            self.tail.push(entry);
        } else if entry.slot == self.tail.last().next() && fits {
            self.tail.push(entry);
        } else if self.agrees || !self.tells {
            return Err(Hole::Entries { expected: self.tail.last().next(), found: entry.slot });
        }
        // Otherwise it belongs to a log that the snapshot has replaced.
        Ok(())
    }
}

impl Raft {
    /// A replica that has never run.
    pub fn new(setup: Setup, now: Instant) -> Raft {
        let recovered = Raft::recover(setup, now, Mark::ZERO, std::iter::empty());
        recovered.expect("nothing has no holes")
    }

    /// A replica as it was when its node went down. `snapshot` is the newest durable one (`Mark::ZERO` if there is none), `records`
    /// are all that the log still holds, in order: those at and below the snapshot too, since they tell whether the log agrees
    /// with it.
    pub fn recover(
        setup: Setup,
        now: Instant,
        snapshot: Mark,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Raft, Hole> {
        let none = Slot::ZERO == snapshot.slot;
        let tail = Tail::new(snapshot);
        let mut replay = Replay { snapshot, term: Term::ZERO, vote: None, tail, agrees: none, tells: none };
        for record in records {
            replay.record(record)?;
        }
        // A crash came between the snapshot and what the log says of it: what follows in the log is not known to follow it.
        let owes_reset = !replay.agrees;
        if owes_reset {
            replay.tail.reset(snapshot);
        }
        // A snapshot may be durable before the term of its last entry: no vote of that term has left then.
        if replay.term < snapshot.term {
            (replay.term, replay.vote) = (snapshot.term, None);
        }
        Ok(Raft::start(setup, now, replay, owes_reset))
    }

    fn start(setup: Setup, now: Instant, replay: Replay, owes_reset: bool) -> Raft {
        let Setup { me, members, options, seed } = setup;
        options.check();
        assert!(members.contains(me), "this replica is a member");
        let mut prng = Prng::from_seed(seed);
        // Half of the numbers are left to count on from there.
        let first_question = prng.next_u64() >> 1;
        let Replay { snapshot, term, vote, tail, .. } = replay;
        let mut raft = Raft {
            me,
            members,
            term,
            vote,
            role: Role::Follower,
            leader: None,
            votes: NodeSet::default(),
            elections: 0,
            writes: Writes::new(tail.last()),
            tail,
            commit: snapshot.slot,
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
