//! The contract between a consensus core and whatever drives it: production shards, tests, benches and the simulator.
//!
//! A core never waits, never reads a clock, never draws entropy, never touches a file or a socket, and never fails: a bad message
//! from a peer is a [`Fault`], a broken invariant of our own panics.
//!
//! # The driver's duties
//! 1. Call [`Protocol::step`] any number of times in a burst, then [`Protocol::settle`] once, then read [`Protocol::deadline`].
//! 2. Drain the lanes of the [`Outbox`] whole and in order. Between lanes the only order is the one that tickets state.
//! 3. Write records in the order of the lane; say [`Input::Durable`] with a rising, cumulative ticket.
//! 4. Hold a send back until the ticket it names is durable. Sends may be lost, repeated and reordered after that.
//! 5. At start, replay what was stored (see the core's `recover`) before the first `step`.

pub mod amendment;
pub mod engine;
pub mod hole;
pub mod outbox;
pub mod pbft;
pub mod raft;

pub use amendment::Unfit;
pub use engine::Engine;
pub use hole::Hole;
pub use outbox::{
    Commit, Conviction, DigestAt, Fault, FaultKind, Fetch, Install, Outbox, ReadAt, Refusal, RefusalKind,
    Refused, Send, Ship, Target,
};

use crate::base::{Body, Digest, Instant, JobId, NodeId, NodeSet, Slot, Stamp, Term, Ticket};
use crate::crypto::SigningKey;
use crate::wire::members::Membership;
use crate::wire::pbft::{Charter, Vote};
use crate::wire::{Batch, Entry};

/// What the outside tells a core.
#[derive(Clone, Debug)]
pub enum Input<M> {
    /// A message from a peer: authentic, well formed, within limits; not yet believed.
    Receive {
        /// The peer whose key opened the frame.
        from: NodeId,
        /// What it said.
        message: M,
    },
    /// Commands, of this node's clients or forwarded by another's. Refused (`Outbox::refuse`) unless this core leads.
    Propose {
        /// The commands and whose they are.
        batch: Batch,
        /// This node's wall clock; the entry's stamp is the larger of it and the previous entry's stamp.
        clock: Stamp,
    },
    /// A batch of this node's clients is on its way to whoever leads, who must have it ordered soon.
    Heard {
        /// Who tells: this node itself for those of its own clients.
        from: NodeId,
        /// The commands, and whose they are.
        batch: Batch,
    },
    /// This node's wall clock, for a core that judges the stamps of others.
    Clock {
        /// Now.
        clock: Stamp,
    },
    /// The store's digest that the core asked for in `Outbox::digests`.
    Digested {
        /// After this slot.
        slot: Slot,
        /// Of the whole state.
        digest: Digest,
    },
    /// Answer these reads once it is known up to which slot they must see (`Outbox::reads`), or refuse them.
    Read {
        /// Names the reads of a burst; rises by one.
        id: u64,
    },
    /// Every record up to and including `ticket` is on stable storage.
    Durable {
        /// Cumulative; rises.
        ticket: Ticket,
    },
    /// The store has applied everything up to and including `slot`.
    Applied {
        /// Rises.
        slot: Slot,
    },
    /// Old entries or a piece of a snapshot that the core asked for in `Outbox::ships`.
    Fetched {
        /// The errand.
        job: JobId,
        /// What was found.
        found: Fetched,
    },
    /// A snapshot of the own store at `slot` is on stable storage: what lies at and below may leave the log.
    Snapshotted {
        /// The last slot that the snapshot holds.
        slot: Slot,
        /// Its size, for whom it will be shipped to.
        bytes: u64,
    },
    /// A snapshot that came in pieces (`Outbox::installs`) has become the store's state and is on stable storage.
    Installed {
        /// The last slot that it holds.
        slot: Slot,
        /// That slot's term.
        term: Term,
        /// That slot's stamp.
        stamp: Stamp,
        /// Its size.
        bytes: u64,
        /// What it says of the group's members ([`crate::wire::members::Members`]); empty where they were never changed.
        members: Body,
    },
    /// Pieces of a snapshot (`Outbox::installs`) were lost on their way to the disk: they are wanted again from `next` on.
    Rewound {
        /// The last slot that the snapshot holds.
        slot: Slot,
        /// Everything below is staged, in bytes.
        next: u64,
    },
    /// These ranges of the certified state that comes in (`Outbox::installs`) are wanted next.
    Wanted {
        /// The state's slot.
        slot: Slot,
        /// See `Fetch::Ranges`.
        ranges: Body,
    },
    /// What came of a certified state is not what was certified.
    Poisoned {
        /// The state's slot.
        slot: Slot,
    },
    /// The link to this peer came up anew: what was sent before may be lost. Re-send what still matters.
    Lost {
        /// The peer.
        peer: NodeId,
    },
    /// Orderly shutdown: hand leadership over.
    Drain,
    /// An operator wishes that another replica leads. It is given up when it does not come true soon.
    Transfer {
        /// Which; `None` for whoever is furthest.
        to: Option<NodeId>,
    },
    /// The deadline that this core asked for has passed.
    Timeout,
}

/// What an errand brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Consecutive entries from the slot asked for, at least one.
    Entries(Vec<Entry>),
    /// A piece of the snapshot at `slot`.
    Piece {
        /// The snapshot's last slot, its term and stamp.
        slot: Slot,
        /// See `slot`.
        term: Term,
        /// See `slot`.
        stamp: Stamp,
        /// Where the piece begins, in bytes.
        offset: u64,
        /// The snapshot's whole size in bytes.
        total: u64,
        /// The piece.
        body: Body,
    },
    /// It is no longer there (compacted meanwhile): decide anew.
    Gone,
}

/// The rules that every core obeys. Closed by an enum of engines where a node hosts several, open to tests, benches and the simulator.
pub trait Protocol {
    /// What its replicas tell each other.
    type Message;
    /// Takes one fact. Called many times in a burst.
    fn step(&mut self, now: Instant, input: Input<Self::Message>, out: &mut Outbox);
    /// Ends the burst: what was gathered goes out as one message a peer.
    fn settle(&mut self, now: Instant, out: &mut Outbox);
    /// When to be told `Timeout`. Read once a burst, after `settle`.
    fn deadline(&self) -> Option<Instant>;
    /// Panics when an invariant does not hold. Every step in the simulator, sampled in production.
    fn check(&self);
}

/// What a replica's log has room for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Room {
    /// Nothing that carries commands.
    None,
    /// Little: a batch was refused that is larger than what is left.
    Little,
    /// Everything.
    #[default]
    Enough,
}

/// What a host asks of a core beyond the contract: who can order commands now.
pub trait Lead: Protocol<Message = crate::wire::Message> {
    /// Who leads, as far as is known; this replica only while it may append.
    fn leader(&self) -> Option<NodeId>;
    /// Whether this replica leads.
    fn is_leader(&self) -> bool;
    /// Who is in the group, where that is the core's to say.
    fn members(&self) -> Option<NodeSet> {
        None
    }
    /// The epoch that this replica is in, and the last slot of it once an amendment says so.
    fn epoch(&self) -> (u64, Option<Slot>) {
        (0, None)
    }
    /// Who is in the group in that epoch, and the state above which it began; `None` for the members with which this replica was set up.
    fn membership(&self) -> Option<(&Membership, Vote)> {
        None
    }
    /// How the epochs began of which this replica can show it; rising.
    fn charters(&self) -> Vec<Charter> {
        Vec::new()
    }
    /// Why an operator's batch cannot be ordered, if it cannot.
    fn judge(&self, _amendment: &Batch) -> Result<(), Unfit> {
        Err(Unfit::Fixed)
    }
    /// Holds another key, to sign with from the epoch on whose members list it.
    fn hold(&mut self, _key: SigningKey) {}
    /// Whether a leader is not trusted to order what it is given: then the others hear of each batch too (`Input::Heard`), and judge
    /// stamps (`Input::Clock`).
    fn is_watched(&self) -> bool {
        false
    }
    /// Signs a batch of this node's clients, where replicas ask for that.
    fn vouch(&self, _batch: &mut Batch) {}
    /// The newest entry's slot.
    fn last(&self) -> Slot;
    /// The newest decided slot.
    fn commit(&self) -> Slot;
    /// What operators see of it.
    fn standing(&self) -> Standing;
    /// At the leader, how far the others are.
    fn followers(&self) -> Vec<FollowerStanding>;
    /// Replicas that are convicted by proof: who, and of what.
    fn convicted(&self) -> Vec<(NodeId, &'static str)> {
        Vec::new()
    }
    /// Whether this replica leads and is handing that over as `Input::Transfer` wished.
    fn is_transferring(&self) -> bool;
    /// What the own log has room for, said as often as the host likes: whoever leads without room lets another lead, if one can.
    fn set_room(&mut self, _room: Room) {}
    /// Whether leadership, if it was held, has been handed over after `Input::Drain`.
    fn is_drained(&self) -> bool;
}

/// Why a replica last ceased to know who leads, or stood for election.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cause {
    /// It has just started.
    #[default]
    Start,
    /// The leader was silent for an election time-out.
    Silence,
    /// It led, and heard no majority.
    Doubt,
    /// Another replica has begun a later term.
    LaterTerm,
    /// Leadership is handed over in order.
    HandedOver,
    /// The primary is being replaced.
    ViewChange,
}

impl Cause {
    /// All of them, each at the place of its number (`as u64`).
    pub const ALL: [Cause; 6] =
        [Cause::Start, Cause::Silence, Cause::Doubt, Cause::LaterTerm, Cause::HandedOver, Cause::ViewChange];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Start => "the node has just started",
            Cause::Silence => "no leader was heard for an election time-out",
            Cause::Doubt => "this leader heard no majority and stepped down",
            Cause::LaterTerm => "another node has begun a later term",
            Cause::HandedOver => "leadership is handed over in order",
            Cause::ViewChange => "the primary is being replaced",
        }
    }
}

/// Where a replica stands in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
    /// The term, view or ballot.
    pub term: u64,
    /// The newest committed slot.
    pub commit: Slot,
    /// The newest slot of the own log.
    pub last: Slot,
    /// Elections that this replica has stood in since its start.
    pub elections: u64,
    /// What moved the last of them, or the loss of the last leader.
    pub cause: Cause,
}

/// A replica as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerStanding {
    /// Who.
    pub id: NodeId,
    /// Its log agrees, durably, up to here.
    pub matched: Slot,
    /// When it last answered.
    pub heard: Instant,
    /// How it is being served, in a word.
    pub mode: &'static str,
}
