//! What a core asks of the outside: one lane a room. Data, not a trait: drained lane by lane, compared with `assert_eq!` in tests.

use crate::base::{Body, GroupId, JobId, NodeId, Slot, Stamp, Term, Ticket, View};
use crate::wire::hop::Certified;
use crate::wire::{Batch, Entry, Message, Record};

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// One peer.
    One(NodeId),
    /// Every other member of the group.
    Others,
}

/// A message that wants to leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// The group it is about.
    pub group: GroupId,
    /// Whom it is for.
    pub to: Target,
    /// The write that this message speaks of: it must not leave before that write is durable.
    pub after: Option<Ticket>,
    /// What it says.
    pub message: Message,
}

/// A slot whose content is decided. Dense and rising within a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The group.
    pub group: GroupId,
    /// The decided entry; its `slot` is one above the previous commit's.
    pub entry: Entry,
}

/// A misdeed of a peer. Counted, evidence kept; never an error of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The group.
    pub group: GroupId,
    /// Who did it.
    pub peer: NodeId,
    /// What it did.
    pub kind: FaultKind,
}

/// Proof that a replica lies: to be kept and shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Conviction {
    /// The group.
    pub group: GroupId,
    /// Who lies.
    pub accused: NodeId,
    /// The proof's kind, in a word.
    pub kind: &'static str,
    /// The proof, whole.
    pub proof: Body,
}

/// Kinds of misdeeds, with the numbers that were compared.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// A message of a protocol that the group does not run.
    OtherProtocol,
    /// A message from a node that is no member of the group.
    NotMember,
    /// Two leaders in one term.
    SecondLeader {
        /// The term.
        term: Term,
    },
    /// An append that contradicts a committed entry.
    RewritesCommitted {
        /// The slot that was to be rewritten.
        slot: Slot,
        /// What is committed.
        commit: Slot,
    },
    /// An acknowledgement of an entry that was never sent.
    AcknowledgesUnsent {
        /// What it acknowledged.
        slot: Slot,
        /// The last that could have been sent.
        last: Slot,
    },
    /// Entries that are not consecutive, or whose terms fall.
    Disordered {
        /// The slot where it shows.
        slot: Slot,
    },
    /// A node assigns slots in a view that is not its own.
    NotPrimary {
        /// The view.
        view: View,
    },
    /// A primary votes as if it were a backup.
    NotBackup {
        /// The view.
        view: View,
    },
    /// Something that must be signed and is not, or by another.
    BadSignature,
    /// A primary's stamp is too far ahead of this node's clock.
    StampAhead {
        /// The stamp.
        stamp: Stamp,
        /// This node's clock.
        clock: Stamp,
    },
    /// A primary's stamp is below its predecessor's.
    StampFalls {
        /// The slot where it shows.
        slot: Slot,
    },
    /// A vote or checkpoint that differs from an earlier one of the same node.
    Contradicts {
        /// The slot.
        slot: Slot,
    },
    /// Two signed words of one node in one place.
    Equivocates {
        /// The view.
        view: View,
        /// The slot.
        slot: Slot,
    },
    /// A view-change that a correct replica would not send.
    BadViewChange {
        /// The view.
        view: View,
    },
    /// A new-view whose view-changes do not allow its view to begin.
    BadNewView {
        /// The view.
        view: View,
    },
    /// It accuses another without proof.
    Slanders,
    /// A transferred state that is not the certified one.
    PoisonedState {
        /// Its slot.
        slot: Slot,
    },
    /// This node's state is not the one that a quorum has.
    StateDiverges {
        /// The slot.
        slot: Slot,
    },
    /// A piece of a snapshot that does not fit what came before.
    BadPiece {
        /// Where it begins.
        offset: u64,
        /// What was expected.
        expected: u64,
    },
}

/// Reads whose slot is known: answer them from the store once it has applied `slot`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAt {
    /// The group.
    pub group: GroupId,
    /// The id of `Input::Read`.
    pub id: u64,
    /// The read index (Raft thesis 6.4).
    pub slot: Slot,
}

/// The store's digest is wanted as it is after `slot`, the newest committed; the answer is `Input::Digested`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DigestAt {
    /// The group.
    pub group: GroupId,
    /// The slot.
    pub slot: Slot,
    /// The state at this slot is to be kept as a snapshot too.
    pub keep: bool,
}

/// Something to be read from disk for the core; the answer is `Input::Fetched`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ship {
    /// The group.
    pub group: GroupId,
    /// The errand's name.
    pub job: JobId,
    /// What is wanted.
    pub fetch: Fetch,
}

/// What a core may want from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Entries of the log from `from` on, at most `count` and `bytes` (but at least one).
    Entries {
        /// First slot.
        from: Slot,
        /// Most entries.
        count: usize,
        /// Most bytes of bodies.
        bytes: usize,
    },
    /// A piece of the newest durable snapshot of the store.
    Piece {
        /// Which snapshot; `None` for the newest.
        slot: Option<Slot>,
        /// Where the piece begins, in bytes.
        offset: u64,
        /// Most bytes.
        bytes: usize,
    },
    /// A piece of the outline of a durable snapshot, or of some of its ranges.
    Ranges {
        /// Which snapshot.
        slot: Slot,
        /// Their numbers, 32 bits each, little endian; none for the outline.
        ranges: Body,
        /// Where the piece begins, in bytes of what is wanted.
        offset: u64,
        /// Most bytes.
        bytes: usize,
    },
}

/// A piece of a leader's snapshot, for the store to keep and, when whole and verified, to become its state.
/// The answer to the last piece is `Input::Installed`.
#[derive(Clone, Debug, PartialEq)]
pub struct Install {
    /// The group.
    pub group: GroupId,
    /// The snapshot's last slot.
    pub slot: Slot,
    /// That slot's term.
    pub term: Term,
    /// That slot's stamp.
    pub stamp: Stamp,
    /// Where the piece begins, in bytes. 0 starts anew; otherwise it joins the previous piece.
    pub offset: u64,
    /// The snapshot's whole size in bytes.
    pub total: u64,
    /// The piece.
    pub body: Body,
    /// Where the state is certified and the source not trusted: of what it is a piece.
    pub certified: Option<Certified>,
}

/// Something that this core certainly did not append.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The group.
    pub group: GroupId,
    /// What was refused.
    pub what: Refused,
    /// Why.
    pub why: RefusalKind,
}

/// What can be refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// A batch, of whatever origin.
    Batch(Batch),
    /// The reads of `Input::Read`.
    Reads {
        /// Their id.
        id: u64,
    },
}

/// Why it was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// This core does not lead; ask `leader`, if known.
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    Draining,
    /// More is in flight than `limits` allow.
    Overloaded,
    /// Its origin, a native client, must sign it.
    Unsigned,
    /// There is nothing to do: it is being ordered already, or nobody could believe that it is what it says.
    Void,
}

/// The lanes. One an engine shard, reused for ever.
#[derive(Clone, Default)]
pub struct Outbox {
    group: GroupId,
    /// To the gate, then `auth::seal`, then `net`.
    pub sends: Vec<Send>,
    /// To the log, in this order.
    pub records: Vec<Record>,
    /// To the store.
    pub commits: Vec<Commit>,
    /// To whoever counts misdeeds.
    pub faults: Vec<Fault>,
    /// To the keeper.
    pub convictions: Vec<Conviction>,
    /// To the store.
    pub reads: Vec<ReadAt>,
    /// To the store, each after the commit of its slot.
    pub digests: Vec<DigestAt>,
    /// To the log or the keeper of snapshots.
    pub ships: Vec<Ship>,
    /// To the keeper of snapshots.
    pub installs: Vec<Install>,
    /// Back to the route.
    pub refuse: Vec<Refusal>,
    last_ticket: Ticket,
}

impl Outbox {
    /// Says whose lanes these are until the next call.
    pub fn enter(&mut self, group: GroupId) {
        self.group = group;
    }
    /// The group that is being stepped.
    pub fn group(&self) -> GroupId {
        self.group
    }
    /// A message that speaks of nothing unwritten.
    pub fn send(&mut self, to: Target, message: impl Into<Message>) {
        self.sends.push(Send { group: self.group, to, after: None, message: message.into() });
    }
    /// A message that must not leave before `ticket` is durable.
    pub fn send_after(&mut self, ticket: Ticket, to: Target, message: impl Into<Message>) {
        assert!(ticket <= self.last_ticket);
        self.sends.push(Send { group: self.group, to, after: Some(ticket), message: message.into() });
    }
    /// Something to be written; what speaks of it waits for the ticket.
    pub fn append(&mut self, record: Record) -> Ticket {
        self.records.push(record);
        self.last_ticket.0 += 1;
        self.last_ticket
    }
    /// The ticket of the newest record, of any group.
    pub fn last_ticket(&self) -> Ticket {
        self.last_ticket
    }
    /// A slot is decided.
    pub fn commit(&mut self, entry: Entry) {
        self.commits.push(Commit { group: self.group, entry });
    }
    /// A peer misbehaved.
    pub fn fault(&mut self, peer: NodeId, kind: FaultKind) {
        self.faults.push(Fault { group: self.group, peer, kind });
    }
    /// There is proof that a replica lies.
    pub fn convict(&mut self, conviction: Conviction) {
        self.convictions.push(conviction);
    }
    /// Reads may be answered at `slot`.
    pub fn read_at(&mut self, id: u64, slot: Slot) {
        self.reads.push(ReadAt { group: self.group, id, slot });
    }
    /// The store's digest is wanted after `slot`, and perhaps a snapshot.
    pub fn digest(&mut self, slot: Slot, keep: bool) {
        self.digests.push(DigestAt { group: self.group, slot, keep });
    }
    /// Something is wanted from disk.
    pub fn ship(&mut self, job: JobId, fetch: Fetch) {
        self.ships.push(Ship { group: self.group, job, fetch });
    }
    /// A piece of a snapshot is to be kept.
    pub fn install(&mut self, slot: Slot, term: Term, stamp: Stamp, offset: u64, total: u64, body: Body) {
        let (group, certified) = (self.group, None);
        self.installs.push(Install { group, slot, term, stamp, offset, total, body, certified });
    }
    /// A piece of the outline or of ranges of a state that is believed only if it has a certified digest.
    pub fn install_certified(
        &mut self,
        slot: Slot,
        stamp: Stamp,
        offset: u64,
        total: u64,
        body: Body,
        certified: Certified,
    ) {
        let (group, term, certified) = (self.group, Term::ZERO, Some(certified));
        self.installs.push(Install { group, slot, term, stamp, offset, total, body, certified });
    }
    /// Something was certainly not appended.
    pub fn refuse(&mut self, what: Refused, why: RefusalKind) {
        self.refuse.push(Refusal { group: self.group, what, why });
    }
}
