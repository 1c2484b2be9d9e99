//! PBFT, as in Miguel Castro and Barbara Liskov, "Practical Byzantine Fault Tolerance and Proactive Recovery", TOCS 20(4), 2002
//! (sections are cited where they are obeyed): a group that stays right while `f` of its `n >= 3f + 1` replicas lie.
//!
//! [`Pbft`] is one replica of one group. It is told facts and writes what it wants into an outbox; it never waits, never fails,
//! never reads a clock. One file a concern:
//!
//! - `quorum`: how many must agree. `slots`: the window of slots under agreement.
//! - `normal`: pre-prepare, prepare, commit, execution (4.3). `speak`: when what it has to say is said, and what it has to write written.
//! - `requests`: what waits to be ordered, a fair share for each node, and since when (4.3, 4.4; Aardvark 4.3).
//! - `tags`: batches of native clients that nobody has signed.
//! - `pace`: what a primary that is slow or unfair is held against (Aardvark 4.3).
//! - `checkpoint`: equal states become stable, and what lies below is forgotten (4.2, 4.3).
//! - `view_change`, `choose`: another primary, and what its view begins with (4.5, figure 4).
//! - `past`, `catch_up`, `transfer`: what a replica has missed, from any other, believed only with `f + 1` voices or a certificate (4.6,
//!   6.2). `peers`: where the others stand, and what each was told already.
//! - `epochs`: members come and go, keys change. `lineage`: the same for whoever is no member.
//! - `evidence`: signed words that contradict each other. `liars`: what a replica that lies would say, for tests.
//! - `recover`: a start from what was stored. `status`: what others see of a replica. `outline`: what a model checker compares.
//!
//! # What waits for durability
//! Everything that speaks of a slot or a view: pre-prepares too, for a primary that forgets one would assign the slot twice. Own votes
//! are counted when they are durable. So a replica that crashes and returns is a slow one, not a liar, and all of them may lose power
//! at once. (As published, PBFT keeps this in memory.)

mod catch_up;
mod checkpoint;
pub mod choose;
mod epochs;
pub mod evidence;
pub mod liars;
pub mod lineage;
mod normal;
pub mod options;
mod outline;
mod pace;
mod past;
mod patience;
mod peers;
pub mod quorum;
pub mod recover;
mod requests;
pub mod slots;
mod speak;
pub mod status;
mod tags;
mod transfer;
mod view_change;

pub use epochs::Anchor;
pub use evidence::Rules;
pub use lineage::Lineage;
pub use options::Options;
pub use quorum::Quorum;
pub use recover::{Replay, Setup};

use crate::base::{Digest, GroupId, Instant, JobId, NodeId, NodeSet, Slot, Stamp, Ticket, View};
use crate::crypto::{ClusterId, Keyring};
use crate::protocol::{Input, Outbox, Protocol, RefusalKind, Room, Target};
use crate::wire::Entry;
use crate::wire::pbft::{Message, NewView, Proposal, Vote};
use checkpoint::Checkpoints;
use epochs::Epochs;
use evidence::Evidence;
use pace::Pace;
use past::Past;
use peers::{Peers, Word};
use requests::Requests;
use slots::Slots;
use speak::Speech;
use std::collections::{BTreeMap, VecDeque};
use tags::Tags;
use transfer::Transfer;
use view_change::Changing;

/// No peer may speak of a view, slot or offset beyond this: so numbers can be added to without overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// The lane of batches that order reads: they carry no commands, and the store never sees their origin.
const READ_LANE: u8 = u8::MAX;

/// Something of the own that counts once it is durable.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spoken {
    Accepted { view: View, vote: Vote },
    Prepared { view: View, vote: Vote },
    Checkpoint { vote: Vote },
}

/// One replica of one group.
#[derive(Clone)]
pub struct Pbft {
    options: Options,
    cluster: ClusterId,
    group: GroupId,
    me: NodeId,
    boot: u64,
    /// Of the present epoch. Rising; the primary of its view number `v` is the one at `v mod n`.
    members: Vec<NodeId>,
    quorum: Quorum,
    keys: Keyring,
    epochs: Epochs,

    /// The view entered, or being changed to. Rises; a record is written in the step that changes it.
    view: View,
    /// Whether it has begun.
    active: bool,
    slots: Slots,
    /// The newest executed slot: handed to the store. Rises.
    executed: Slot,
    /// Its stamp.
    stamp: Stamp,
    past: Past,
    /// Errands to the log for values that have left memory, and for whom: at most one each.
    reading: BTreeMap<JobId, NodeId>,
    /// Decided before this life, for the store to apply again; handed over in the first burst.
    replayed: Option<VecDeque<(Digest, Entry)>>,

    /// The last slot that the present view's own beginning assigned.
    begun: Slot,
    /// Up to here, the high water mark at most, what the view began with was accepted.
    bound: Slot,
    /// While primary: the last slot assigned.
    assigned: Slot,
    /// While primary: the last stamp assigned.
    assigned_stamp: Stamp,
    /// While primary: assigned, but above the high water mark, so not yet said.
    waiting: VecDeque<Proposal>,
    speech: Speech,
    /// Own words on their way to the disk. Invariant: tickets rise.
    unspoken: VecDeque<(Ticket, Spoken)>,

    requests: Requests,
    tags: Tags,
    checkpoints: Checkpoints,
    changing: Changing,
    pace: Pace,
    /// Somebody says that more is executed than this replica can get to know in this view.
    falls_behind: bool,
    /// What the present view began with, for those who missed it.
    new_view: Option<NewView>,
    peers: Peers,
    transfer: Transfer,
    evidence: Evidence,
    /// The wall clock, as last told.
    clock: Stamp,
    draining: bool,
    /// What the own log has room for, and when the own view was left for want of it last.
    room: Room,
    passed_on_at: Option<Instant>,
    /// Votes of views to come: only a canary keeps any.
    ahead: Vec<Vote>,
    next_job: JobId,
}

impl Protocol for Pbft {
    type Message = Message;

    fn step(&mut self, now: Instant, input: Input<Message>, out: &mut Outbox) {
        self.replay(out);
        match input {
            Input::Receive { from, message } => self.receive(now, from, message, out),
            Input::Propose { batch, clock } => {
                self.clock = self.clock.max(clock);
                if let Err(why) = self.propose(batch.clone(), out) {
                    out.refuse(crate::protocol::Refused::Batch(batch), why);
                }
            }
            Input::Heard { from, batch } => self.heard(now, from, batch, out),
            Input::Clock { clock } => self.clock = clock,
            Input::Read { id } => self.read(now, id, out),
            Input::Durable { ticket } => self.durable(now, ticket, out),
            // The store keeps its own pace; the window, which moves with its digests, keeps this core to it.
            Input::Applied { .. } => (),
            Input::Digested { slot, digest } => self.digested(slot, digest, out),
            Input::Fetched { job, found } => match self.reading.remove(&job) {
                Some(to) => self.read_back(now, to, found, out),
                None => self.fetched(job, found, out),
            },
            Input::Snapshotted { slot, .. } => self.snapshotted(slot, out),
            Input::Installed { slot, stamp, members, .. } => {
                self.installed(now, (slot, stamp), &members, out);
            }
            Input::Rewound { slot, next } => self.rewound(now, slot, next, out),
            Input::Wanted { slot, ranges } => self.wanted(now, slot, ranges, out),
            Input::Poisoned { slot } => self.poisoned(now, slot, out),
            Input::Lost { peer } => self.lost(now, peer, out),
            Input::Drain => self.draining = true,
            // Whose turn it is to lead is a matter of the view.
            Input::Transfer { .. } => (),
            Input::Timeout => self.timeout(now, out),
        }
    }

    fn settle(&mut self, now: Instant, out: &mut Outbox) {
        self.replay(out);
        self.cross(now, out);
        if !self.is_member() {
            return self.execute(now, out);
        }
        self.shun(now, out);
        self.resign(now, out);
        self.accept_risen(now, out);
        self.pad();
        self.pump(now, out);
        self.execute(now, out);
        self.pace.waits(now, self.requests.len() != 0);
        self.speak(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let status = Some(self.status_at()).filter(|_| self.is_member());
        let hope = self.changing.hopes_until.filter(|_| self.primary() == self.me);
        let changing = self.changing.deadline;
        [status, self.late_at(), self.suspicion_at(), changing, hope].into_iter().flatten().min()
    }

    fn check(&self) {
        self.slots.check(self.executed);
        assert!(self.checkpoints.stable.slot <= self.slots.low());
        assert_eq!(self.checkpoints.low.slot, self.slots.low());
        assert!(self.boundary().is_none_or(|boundary| self.slots.low() <= boundary));
        assert_eq!((self.slots.fence, self.view.epoch()), (self.boundary(), self.epochs.number));
        self.past.check(self.executed);
        assert!(self.is_primary() || (self.waiting.is_empty() && self.speech.fresh.is_empty()));
        assert!(self.unspoken.iter().zip(self.unspoken.iter().skip(1)).all(|(a, b)| a.0 <= b.0));
        self.requests.check();
        self.tags.check();
        self.changing.check(self.view, self.active);
    }
}

impl Pbft {
    /// Takes a peer's message. What it says is not yet believed.
    fn receive(&mut self, now: Instant, from: NodeId, message: Message, out: &mut Outbox) {
        let is_peer = from != self.me && self.members.contains(&from);
        let message = match message {
            Message::Charter(charter) => return self.on_charter(now, charter, out),
            Message::Status { view, .. }
                if view.epoch() < self.epochs.number && !(is_peer && self.is_member()) =>
            {
                return self.show_charters(now, from, view.epoch(), out);
            }
            message => message,
        };
        // Links know members and clients alone, so whoever is no member here is one of an epoch before or to come.
        if !is_peer || !self.is_member() {
            return;
        }
        match message {
            Message::PrePrepare { view, proposals, signature } => {
                self.on_pre_prepare(now, from, view, proposals, signature, out);
            }
            Message::Shown { words } => self.on_shown(&words, out),
            Message::Accuse { proof } => self.on_accuse(from, proof, out),
            Message::Succession(word) => self.on_succession(from, word, out),
            Message::Charter(_) => unreachable!("taken above"),
            Message::Prepare { view, votes } => self.on_prepare(from, view, votes, out),
            Message::Commit { view, votes } => self.on_commit(now, from, view, votes, out),
            Message::Checkpoint { vote, signature } => self.on_checkpoint(from, vote, signature, out),
            Message::ViewChange(change) => self.on_view_change(now, from, change, out),
            Message::NewView(view) => self.on_new_view(now, view, out),
            Message::Status { view, active, stable, executed, bodies, complains } => {
                let standing = Word { view, active, stable, executed, complains, heard: now, since: now };
                self.on_status(now, from, standing, bodies, out);
            }
            Message::Decided { entries, votes } => self.on_decided(now, from, entries, votes, out),
            Message::Want { votes } => self.on_want(from, votes, out),
            Message::Have { entries } => self.on_have(now, from, entries, out),
            Message::Request { batch } => self.heard(now, from, batch, out),
            Message::PieceWant { slot, offset, round, ranges } => {
                self.on_piece_want(from, (slot, offset, round), ranges, out);
            }
            Message::Piece { round, slot, stamp, offset, total, body } => {
                let piece = transfer::Piece { round, slot, stamp, offset, total, body };
                self.on_piece(now, from, piece, out);
            }
        }
    }

    /// Who leads a view of this epoch: "the primary of a view is the replica p such that p = v mod n" (TOCS 2002, 4.1).
    fn primary_of(&self, view: View) -> NodeId {
        self.members[(view.number() % self.members.len() as u64) as usize]
    }
    fn primary(&self) -> NodeId {
        self.primary_of(self.view)
    }
    /// Whether this replica assigns slots now.
    fn is_primary(&self) -> bool {
        self.active && self.primary() == self.me
    }
    fn others(&self) -> impl Iterator<Item = NodeId> {
        let me = self.me;
        self.members.iter().copied().filter(move |node| *node != me)
    }
    /// A message that waits for everything written so far. Whatever it speaks of is among that.
    fn say(&self, to: Target, message: Message, out: &mut Outbox) {
        let ticket = out.last_ticket();
        out.send_after(ticket, to, message);
    }
    fn job(&mut self) -> JobId {
        self.next_job.0 += 1;
        self.next_job
    }

    /// Own words become durable: they count.
    fn durable(&mut self, now: Instant, ticket: Ticket, out: &mut Outbox) {
        while let Some(&(at, spoken)) = self.unspoken.front()
            && at <= ticket
        {
            self.unspoken.pop_front();
            self.spoken(now, spoken, out);
        }
    }

    fn spoken(&mut self, now: Instant, spoken: Spoken, out: &mut Outbox) {
        match spoken {
            Spoken::Accepted { view, vote } if view == self.view && self.active => {
                if let Some(place) = self.slots.get_mut(vote.slot) {
                    place.prepares.add(self.me, vote.digest);
                }
                self.check_prepared(vote.slot, out);
            }
            Spoken::Prepared { view, vote } if view == self.view && self.active => {
                if let Some(place) = self.slots.get_mut(vote.slot) {
                    place.commits.add(self.me, vote.digest);
                }
                self.check_committed(now, vote.slot, out);
            }
            Spoken::Checkpoint { vote } => {
                self.count_checkpoint(self.me, vote, out);
                self.judge_checkpoint(vote.slot, out);
                self.succeed(vote, out);
            }
            // Of a view that was left meanwhile: what was written still stands in P and Q.
            Spoken::Accepted { .. } | Spoken::Prepared { .. } => (),
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.suspicion_at().is_some_and(|at| at <= now)
            || self.changing.deadline.is_some_and(|at| at <= now)
        {
            self.leave(now, self.view.next(), out);
        }
        if self.changing.hopes_until.is_some_and(|at| at <= now) {
            self.changing.hopes_until = None;
            self.try_begin(now, None, out);
        }
        if self.status_at() <= now {
            self.look_after_requests(now, out);
            self.suspect_tags(now);
            self.say_status(now, out);
            self.ask_again(now, out);
            self.consider_complaints(now, out);
        }
    }
}

/// Whether a proposal may be proposed: what a core answers when it may not.
type Admitted = Result<(), RefusalKind>;

/// Nodes as a set.
fn set(nodes: &[NodeId]) -> NodeSet {
    nodes.iter().copied().collect()
}
