//! What agents of one node hand to each other over rings. Values, not calls: agents never name each other.
//!
//! ```text
//! rx -> open: Incoming       open -> replica: Opened     take -> replica: Demand      replica -> log: Stored
//! replica -> store: Decided  replica, store -> seal: Outgoing   seal -> tx: SealedFrame   store, replica, take -> reply: Answer
//! rx -> seal: SealLink       rx -> tx: SendLink
//! ```

use super::frame::Lane;
use super::sealer::Sealed;
use super::{Entry, Message};
use crate::base::{Body, Digest, GroupId, Instant, JobId, NodeId, Number, Origin, Slot, Stamp, Term, Ticket};
use crate::crypto::DirectionKeys;
use bytes::Bytes;

pub use super::opened::Opened;

/// One life of the connection to a peer. Rises; never reused by a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct LinkId(pub u64);

/// rx -> open: what came in over links.
#[derive(Debug)]
pub enum Incoming {
    /// A link is up: what it brings is opened with these keys.
    Up {
        /// Whose.
        peer: NodeId,
        /// Replaces any earlier one.
        link: LinkId,
        /// For what the peer says.
        keys: DirectionKeys,
    },
    /// A whole frame, of which only the length is checked.
    Frame {
        /// The peer at the other end.
        peer: NodeId,
        /// The link that it came over.
        link: LinkId,
        /// Aligned to 16 bytes.
        frame: Bytes,
    },
    /// The link is gone.
    Down {
        /// Whose.
        peer: NodeId,
        /// Which.
        link: LinkId,
    },
}

/// rx -> seal: to whom something can be said.
#[derive(Debug)]
pub enum SealLink {
    /// A link is up.
    Up {
        /// Whose.
        peer: NodeId,
        /// Replaces any earlier one.
        link: LinkId,
        /// For what this node says.
        keys: DirectionKeys,
    },
    /// The link is gone.
    Down {
        /// Whose.
        peer: NodeId,
        /// Which.
        link: LinkId,
    },
}

/// rx -> tx: where frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendLink {
    /// A link is up, and nothing is being sent over it.
    Up {
        /// Whose.
        peer: NodeId,
        /// Replaces any earlier one.
        link: LinkId,
        /// The driver's name for its socket. Both agents of the network live on one core, since sockets belong to a driver.
        socket: u32,
    },
    /// The link is gone: its socket is about to be closed, nothing may be sent over it.
    Down {
        /// Whose.
        peer: NodeId,
        /// Which.
        link: LinkId,
    },
}

/// seal -> tx: a frame that is ready to leave. It leaves or its link ends: `seal` has counted it.
#[derive(Debug)]
pub struct SealedFrame {
    /// Whom it is for.
    pub peer: NodeId,
    /// The link whose keys sealed it.
    pub link: LinkId,
    /// Which queue it takes.
    pub lane: Lane,
    /// Its bytes.
    pub sealed: Sealed,
}

/// rx -> whoever tells operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// A link is up.
    Up {
        /// Whose.
        peer: NodeId,
        /// The other end.
        address: String,
    },
    /// A link is gone.
    Down {
        /// Whose.
        peer: NodeId,
        /// Why.
        why: String,
    },
    /// A connection came to nothing. Told once until the reason changes.
    Refused {
        /// A peer, or the address of a stranger.
        who: String,
        /// Why, and by whom.
        why: String,
    },
}

/// What flows back from the network, one set a peer. Each is a number whose latest value counts.
#[derive(Clone, Debug, Default)]
pub struct PeerNumbers {
    /// Rises each time the link comes up anew or something for the peer was dropped: what was sent before may be lost. To the replica.
    pub lost: Number,
    /// Bytes of sealed frames that have left `tx`, over all links. To `seal`, which bounds what waits.
    pub left: Number,
    /// The last link that brought a frame that could not be opened. To `rx`, which closes it.
    pub refused: Number,
    /// The last link over which nothing more could be sent. To `rx`, which closes it.
    pub stalled: Number,
}

/// What a leader knows of another member, for whoever tells clients and operators. From the replica; about every 50 ms.
#[derive(Clone, Debug, Default)]
pub struct FollowerNumbers {
    /// Its log agrees, durably, up to this slot.
    pub matched: Number,
    /// When it was last heard, by this node's clock (`base::Instant`).
    pub heard: Number,
    /// 1 while it is sent a snapshot, for the log no longer has what it needs.
    pub restored: Number,
}

/// replica -> seal: a message that is free to leave. Those of one turn for one peer share a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Whom it is for.
    pub to: NodeId,
    /// The group it is about.
    pub group: GroupId,
    /// What it says.
    pub message: Message,
}

/// take -> replica: what clients of this node want.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// Commands that change something, and reads that must follow them on their connection.
    Write {
        /// Numbers the lane's batches, from 1, without holes: it becomes the batch's sequence.
        sequence: u64,
        /// In `resp::batch` form.
        body: Body,
        /// Upper bound of the logical bytes by which the commands can make the store grow.
        growth: u64,
        /// When it left the front. While it is with the front: when its first command came.
        left: Instant,
    },
    /// Commands that only read.
    Read {
        /// Numbers the lane's reads, from 1, without holes.
        id: u64,
        /// In `resp::batch` form.
        body: Bytes,
    },
}

/// replica -> store: what has been decided, in the order of the group's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Decided {
    /// The next entry.
    Commit {
        /// The group.
        group: GroupId,
        /// Its slot is one above the last.
        entry: Entry,
        /// When it was seen to be committed.
        at: Instant,
    },
    /// A native client asks what the store holds now.
    Ask {
        /// The group.
        group: GroupId,
        /// Whose question it is.
        origin: Origin,
        /// What its reply is to name.
        id: u64,
        /// In `resp::batch` form.
        body: Bytes,
    },
    /// A native client has sent a batch again: it may have missed the replies.
    Again {
        /// The group.
        group: GroupId,
        /// Whose.
        origin: Origin,
        /// Which.
        sequence: u64,
    },
    /// The state's digest is wanted as it is after `slot`, the newest of those before: say it as `Digested`.
    Digest {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: Slot,
        /// A snapshot is to be made of this state.
        keep: bool,
    },
    /// Answer these reads as soon as `slot` is applied.
    Read {
        /// The group.
        group: GroupId,
        /// The demand's id.
        id: u64,
        /// The read index.
        slot: Slot,
        /// In `resp::batch` form.
        body: Bytes,
    },
}

/// store -> replica: a digest that was asked for by `Decided::Digest`. The core asks for few at a time, so the ring is never full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digested {
    /// The group.
    pub group: GroupId,
    /// After which slot.
    pub slot: Slot,
    /// Of the whole state, the slot's stamp and the sessions included.
    pub digest: Digest,
}

/// store, replica, take -> reply: something for clients. The sequence and id are those of `Demand`.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The replies to a batch's commands, one after another; `ends[i]` is where the i-th ends.
    Write {
        /// The batch.
        sequence: u64,
        /// RESP.
        replies: Bytes,
        /// One a command.
        ends: Vec<u32>,
        /// When they were made.
        made: Instant,
    },
    /// The replies to reads.
    Read {
        /// The reads.
        id: u64,
        /// RESP.
        replies: Bytes,
        /// One a command.
        ends: Vec<u32>,
    },
    /// No replies will come for this batch: each of its commands gets this error.
    WriteFailed {
        /// The batch.
        sequence: u64,
        /// Why.
        why: Failure,
    },
    /// A leader's snapshot brought the effects of this front's batches up to `sequence`, or went past them, without their replies:
    /// those that have no answer yet are indeterminate.
    Superseded {
        /// The last of them.
        sequence: u64,
    },
    /// What another replica says that the replies to a batch are.
    Vouched {
        /// The batch.
        sequence: u64,
        /// Who says so.
        from: NodeId,
        /// Of the replies.
        digest: Digest,
    },
    /// No replies will come for these reads.
    ReadFailed {
        /// The reads.
        id: u64,
        /// Why.
        why: Failure,
    },
}

/// Why commands have no reply. All but `Indeterminate` say that nothing was appended; a read may be told any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No leader within `write_wait`, or none that could prove that it leads: `-CLUSTERDOWN`.
    NoLeader,
    /// More in flight than the limits allow: `-OVERLOADED`.
    Overloaded,
    /// The memory bound: `-OOM`.
    OutOfMemory,
    /// The disk of the leader's log, or of this node's, is full: `-OVERLOADED`.
    DiskFull,
    /// It may have been appended, and may yet take effect: `-INDETERMINATE`.
    Indeterminate,
    /// A read: what it must see is decided, and did not come to this node within `write_wait`: `-TRYAGAIN`.
    Behind,
    /// Other replicas say, as many as one of which must be correct, that the replies are others than this node's: `-UNVERIFIED`.
    Unverified,
    /// The node is going down and the commands were not appended: `-CLUSTERDOWN`.
    Draining,
}

/// replica -> log: a record as bytes, with a group, a kind and a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its ticket; rises by one a record.
    pub ticket: Ticket,
    /// The group.
    pub group: GroupId,
    /// See `wire::record`.
    pub kind: RecordKind,
    /// The slot, for kinds that have one.
    pub place: Slot,
    /// A flat head, at most `META_MAX` bytes.
    pub meta: Meta,
    /// Bytes that follow.
    pub body: Body,
}

/// Largest head of a record, in bytes.
pub const META_MAX: usize = 80;

/// A short byte string in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    len: u8,
    bytes: [u8; META_MAX],
}
impl Meta {
    /// Copies `bytes`, at most `META_MAX`.
    pub fn new(bytes: &[u8]) -> Meta {
        assert!(bytes.len() <= META_MAX);
        let mut meta = Meta { len: bytes.len() as u8, bytes: [0; META_MAX] };
        meta.bytes[..bytes.len()].copy_from_slice(bytes);
        meta
    }
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}
impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} B]", self.len)
    }
}

/// What a record does to the group's places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// Has no place; the newest of its group and kind counts.
    Vote = 1,
    /// Cuts the group's places at `place` and above, then stands at `place`.
    Entry = 2,
    /// Places at and below `place` are no longer needed.
    Floor = 3,
    /// As `Floor`, and places above are void.
    Reset = 4,
    /// Stands at `place` beside whatever stands there, until a floor reaches it.
    Note = 5,
    /// As `Vote`, for a group whose protocol has views.
    View = 6,
    /// As `Note`; the newest at its place can be read back (`LogFetch`).
    Value = 7,
}

/// replica -> log: old entries are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogFetch {
    /// The errand.
    pub job: JobId,
    /// The group.
    pub group: GroupId,
    /// First place.
    pub from: Slot,
    /// Most entries.
    pub count: usize,
    /// Most bytes of bodies (but at least one entry).
    pub bytes: usize,
}

/// log -> replica: what a `LogFetch` has found.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFetched {
    /// The errand.
    pub job: JobId,
    /// The group.
    pub group: GroupId,
    /// Consecutive records of entries or values from the place asked for; empty when it has left the log.
    pub records: Vec<Stored>,
}

/// Names a snapshot of a group's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotId {
    /// The group.
    pub group: GroupId,
    /// The last slot that it holds.
    pub slot: Slot,
    /// That slot's term.
    pub term: Term,
    /// That slot's stamp.
    pub stamp: Stamp,
}

/// Of which state a piece is, and which part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certified {
    /// The state's digest, which enough replicas have signed.
    pub digest: Digest,
    /// The numbers of the ranges, 32 bits each, little endian; none for the outline.
    pub ranges: Body,
}

/// store, replica -> keeper: snapshots to be kept, pieces of a leader's snapshot, pieces wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Keep {
    /// A snapshot of the own store begins.
    Begin(SnapshotId),
    /// Its next bytes.
    Chunk(Bytes),
    /// It is whole: make it durable, say `Kept::Snapshotted`.
    End,
    /// A piece of a leader's snapshot: stage it; when whole and verified make it durable, hand it to the store, say `Kept::Installed`.
    Piece {
        /// Which snapshot.
        id: SnapshotId,
        /// Where the piece begins, in bytes. 0 starts anew.
        offset: u64,
        /// The snapshot's whole size in bytes.
        total: u64,
        /// The piece.
        body: Body,
    },
    /// A piece of a certified state from a source that is not trusted: of its outline, or of ranges that were wanted. Say `Kept::Wanted`
    /// when it is whole and more is missing, `Kept::Poisoned` when it is not what was certified; when nothing is missing make the
    /// state a durable snapshot, hand it to the store, say `Kept::Installed`.
    Range {
        /// Which state.
        id: SnapshotId,
        /// Where the piece begins, in bytes. 0 starts anew.
        offset: u64,
        /// The whole size of what was wanted, in bytes.
        total: u64,
        /// The piece.
        body: Body,
        /// What vouches for it.
        certified: Certified,
    },
    /// A piece of the outline of a durable snapshot, or of its ranges, is wanted: say `Kept::Fetched`.
    FetchRange {
        /// The errand.
        job: JobId,
        /// The group.
        group: GroupId,
        /// Which snapshot.
        slot: Slot,
        /// Which ranges (`Certified::ranges`).
        ranges: Body,
        /// Where the piece begins.
        offset: u64,
        /// Most bytes.
        bytes: usize,
    },
    /// Proof that a replica lies: make it durable, tell operators.
    Proof {
        /// Who lies.
        accused: NodeId,
        /// The proof's kind, in a word.
        kind: &'static str,
        /// The proof, whole.
        proof: Body,
    },
    /// A piece of the newest durable snapshot is wanted: say `Kept::Fetched`.
    Fetch {
        /// The errand.
        job: JobId,
        /// The group.
        group: GroupId,
        /// Which snapshot; `None` for the newest.
        slot: Option<Slot>,
        /// Where the piece begins.
        offset: u64,
        /// Most bytes.
        bytes: usize,
    },
}

/// keeper -> replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// A snapshot of the own store is durable.
    Snapshotted {
        /// Which.
        id: SnapshotId,
        /// Its size.
        bytes: u64,
    },
    /// A leader's snapshot is durable, and has been handed to the store whole.
    Installed {
        /// Which.
        id: SnapshotId,
        /// Its size.
        bytes: u64,
        /// What it says of the group's members, as [`super::members::Members`] encodes it.
        members: Body,
    },
    /// Pieces of a leader's snapshot did not come to the disk (a full ring, a full disk, damage): they are wanted again from `next`
    /// on, where 0 means anew.
    Rewound {
        /// Which.
        id: SnapshotId,
        /// Everything below is staged, in bytes.
        next: u64,
    },
    /// These ranges of a certified state are wanted next.
    Wanted {
        /// Which state.
        id: SnapshotId,
        /// See `Certified::ranges`.
        ranges: Body,
    },
    /// What came of a certified state is not what was certified: it is wanted again, from another source.
    Poisoned {
        /// Which state.
        id: SnapshotId,
    },
    /// The piece that was wanted; `None` when that snapshot is no longer there.
    Fetched {
        /// The errand.
        job: JobId,
        /// The group.
        group: GroupId,
        /// Which snapshot, its size, where the piece begins, and the piece.
        piece: Option<(SnapshotId, u64, u64, Body)>,
    },
}

/// keeper -> store: the state that a leader's snapshot brings, or that an own one is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// A state begins; the present one stays in force until `End`.
    Begin(SnapshotId),
    /// Its next bytes.
    Chunk(Bytes),
    /// It is whole and verified: it becomes the store's state if it is newer.
    End,
    /// The newest snapshot cannot be read any more: whoever needs one needs another, however little has come since.
    Wanted,
}
