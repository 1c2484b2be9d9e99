//! Ids, time, randomness, rings and bodies: the only room that every other room may name.
//!
//! It knows nothing of the kernel: time is passed in, randomness is seeded, bytes are in memory.

pub mod body;
pub mod bounds;
pub mod canary;
pub mod hex;
pub mod latest;
pub mod number;
pub mod place;
pub mod prng;
pub mod ring;
pub mod set;
pub mod time;

pub use body::{Body, Digest};
pub use latest::Latest;
pub use number::Number;
pub use prng::Prng;
pub use set::NodeSet;
pub use time::{Instant, Stamp};

use std::fmt;

/// A member of the cluster, from 1 to `limits::NODES_MAX`, or above that a native client. It names a configured identity, never an
/// address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct NodeId(pub u8);

/// A replication group: the unit that has one leader and one log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct GroupId(pub u32);

/// The one group that a node hosts today. Ids are in every record, frame and metric nevertheless.
pub const GROUP_ONE: GroupId = GroupId(1);

/// A place in a group's log, from 1; Raft's *index*, Paxos's *instance*, PBFT's *sequence number*. 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Slot(pub u64);

/// Raft's term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Term(pub u64);

/// A reign of one primary in a Byzantine group. Its upper half is the epoch that it belongs to, so views of a later epoch are later, and
/// whatever names a view names its epoch; the primary is the member number `v mod n` by the lower half `v`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct View(pub u64);

/// A term as operators are told of it: Raft's, or a view within its epoch. Cores and figures number it through (`View`), so that it rises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Reign {
    /// Which membership; 0 while the first members are in force, and in Raft.
    pub epoch: u64,
    /// Its number in that.
    pub term: u64,
}

/// Bits of a view's number within its epoch.
const EPOCH_SHIFT: u32 = 32;

/// Names one write to the shard's log, from 1. Cumulative: durable at `t` means durable at every `u <= t`.
/// A ticket names a write, never a position, so an overwritten entry cannot be mistaken for its successor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Ticket(pub u64);

/// Names an asynchronous errand of a core (a fetch), unique within one life of the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct JobId(pub u64);

impl Slot {
    /// Before the first slot.
    pub const ZERO: Slot = Slot(0);
    /// The slot after this one.
    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }
    /// The slot before this one. Panics at zero.
    pub fn prev(self) -> Slot {
        Slot(self.0.checked_sub(1).expect("slot 0 has no predecessor"))
    }
}
impl Term {
    /// Before the first election.
    pub const ZERO: Term = Term(0);
    /// The term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}
impl View {
    /// The first.
    pub const ZERO: View = View(0);
    /// The view after this one.
    pub fn next(self) -> View {
        View(self.0 + 1)
    }
    /// The first of an epoch.
    pub fn first_of(epoch: u64) -> View {
        View(epoch << EPOCH_SHIFT)
    }
    /// The epoch that it belongs to.
    pub fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }
    /// Its number within its epoch, from 0.
    pub fn number(self) -> u64 {
        self.0 & ((1 << EPOCH_SHIFT) - 1)
    }
}
impl Reign {
    /// What stands behind a core's number.
    pub fn of(number: u64) -> Reign {
        Reign { epoch: View(number).epoch(), term: View(number).number() }
    }
}
impl fmt::Display for Reign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reign { epoch: 0, term } => write!(f, "term {term}"),
            Reign { epoch, term } => write!(f, "term {term} of epoch {epoch}"),
        }
    }
}
impl Ticket {
    /// Before the first write.
    pub const ZERO: Ticket = Ticket(0);
}

/// Who submitted a batch: a front of a node, in one of that node's lives. Sequences count from 1 within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Origin {
    /// The node whose clients sent the commands, or the native client that did.
    pub node: NodeId,
    /// Which of the node's fronts (one a shard).
    pub lane: u8,
    /// The node's generation (superblock), rising by one each start, or when the client began: a later boot supersedes an earlier one.
    pub boot: u64,
}

macro_rules! display_number {
    ($($t:ty),*) => { $(impl fmt::Display for $t {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
    })* };
}
display_number!(NodeId, GroupId, Slot, Term, View, Ticket, JobId);
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.node, self.lane, self.boot)
    }
}
