//! The native client as a state machine: it is told facts and writes what it wants into two lists, which its driver drains.
//!
//! A batch goes to the primary, or to all (`Auth`), and is answered when enough replicas say the same. What is not answered in time goes
//! to all, signed: "if the client does not receive replies soon enough, it broadcasts the request to all replicas" (TOCS 2002, 4.2).
//! Batches of a lane carry rising sequences, so a repetition takes effect once (`wire::sequence`), and each replica keeps the replies to
//! the last [`WINDOW`] of them. How long "in time" is follows from how long the group takes to answer (`latency`).
//!
//! # Fast reads
//! With `fast_reads` a read asks all replicas what stands in their stores now, and is answered when a strong quorum says the same. Then
//! writes too must wait for a strong quorum: any two share a correct replica, so what a write's quorum has executed, some correct one of
//! every read's quorum shows. With `f + 1` on either side a read may miss a write that was acknowledged before it (hazard B12). When too
//! few agree, the read is ordered like a write; stores show what is decided only, nothing tentative. The price in liveness, and its cure
//! (decisions reach every replica, last replies are replicated), are those of Berger, Reiser and Bessani (SRDS 2021).
//!
//! # Members that change
//! The client begins with the members that it is configured with and follows charters ([`Lineage`]). It asks the members for them now and
//! then, more often while something is not answered, and at once when a reply names a later epoch than its own. Whom it asks, whom it
//! believes and how many of them must agree follow the epoch. Every reply names the epoch of the state that it is made of, and counts in
//! that alone: quorums of two epochs need not meet, so a fast read by the one could miss a write that was acknowledged by the other. What
//! is not answered when an epoch begins is asked anew of its members, who each know whether it has taken effect.

use super::latency::Latency;
use super::split;
use super::tally::Tally;
use crate::base::canary::{self, Canary};
use crate::base::{Body, Digest, GroupId, Instant, NodeId, Origin, Slot, View};
use crate::crypto::SigningKey;
use crate::protocol::pbft::{Lineage, Quorum};
use crate::resp::batch::Reader;
use crate::wire::forward::{Message, Refusal, Reply};
use crate::wire::hop::{Answer, Demand, Failure, Outgoing};
use crate::wire::pbft::{self, Charter, signed_batch};
use crate::wire::{self, Batch};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most batches of a lane that are not answered: as many replies as every replica keeps.
pub const WINDOW: usize = 32;

/// The lane of what the front writes, that of reads which are ordered, and that of reads which are not.
const WRITES: u8 = 0;
const ORDERED_READS: u8 = 1;
const FAST_READS: u8 = 2;

/// How often the members are asked whether they still are.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The same while something is not answered: those who do not answer may be members no more.
const ASK_OPEN: Duration = Duration::from_millis(100);
/// The same while somebody says that they are not: a liar may always say so.
const ASK_PAUSE: Duration = Duration::from_millis(20);

/// So long is a long reply waited for once enough replicas agree on its digest: it comes from one, who may be gone. Doubles a few times.
const BODY_PAUSE: Duration = Duration::from_millis(20);

/// Most of these doublings.
const DOUBLINGS_MAX: u32 = 3;

/// How a batch convinces replicas that this client made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth {
    /// By its signature; it goes to the primary first.
    Sign,
    /// By the tag of the frame in which each replica gets it; what is not answered in time goes again, signed. Once a replica asks for
    /// signatures, everything is signed: it may have seen this client's tags fail, whoever's fault that was.
    Mac,
}

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group.
    pub group: GroupId,
    /// This client.
    pub me: NodeId,
    /// Rises from one life of this client to the next.
    pub boot: u64,
    /// Reads need not be ordered; equal at all nodes and clients of the group.
    pub fast_reads: bool,
    /// How replicas are convinced.
    pub auth: Auth,
    /// After which silence at the earliest a batch goes again, to all; later where the group takes longer.
    pub retry_after: Duration,
    /// After which wait the outcome is unknown to whoever asked.
    pub answer_within: Duration,
}

/// What is done with the replies to a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Write(u64),
    Read(u64),
}

/// A batch, or a read that is not ordered, under way.
#[derive(Debug)]
struct Pending {
    asked: Asked,
    body: Body,
    growth: u64,
    submitted: Instant,
    /// When it was sent last; `None` before, and when it must go again at once.
    sent: Option<Instant>,
    attempts: u32,
    /// How long a silence is borne after that.
    patience: Duration,
    tally: Tally,
    /// Replies as they came, one a digest.
    replies: Vec<Body>,
    /// Since when enough agree on a digest whose reply nobody has sent.
    agreed_at: Option<Instant>,
}

impl Pending {
    fn new(now: Instant, asked: Asked, body: Body, growth: u64) -> Pending {
        let (tally, replies) = (Tally::default(), Vec::new());
        let (sent, attempts, patience, agreed_at) = (None, 0, Duration::ZERO, None);
        Pending { asked, body, growth, submitted: now, sent, attempts, patience, tally, replies, agreed_at }
    }
    fn hear(&mut self, from: NodeId, reply: &Reply) {
        self.tally.hear(from, reply.digest);
        // Of liars' replies there is at most one each.
        let is_news =
            self.tally.has(from, reply.digest) && self.replies.iter().all(|r| r.digest() != reply.digest);
        if is_news && !reply.body.is_empty() {
            self.replies.push(reply.body.clone());
        }
    }
    /// What `enough` replicas reply, once it is here.
    fn agreed(&self, enough: usize) -> Option<Bytes> {
        let digest = self.tally.agreed(enough)?;
        if digest == Digest::of(&[]) {
            return Some(Bytes::new());
        }
        self.replies.iter().find(|reply| reply.digest() == digest).map(|reply| reply.bytes().clone())
    }
    /// Whether it was sent, and enough replies should have come.
    fn is_silent(&self, now: Instant, settings: &Settings) -> bool {
        self.sent.is_some() && self.silent_at(settings) <= now
    }
    fn silent_at(&self, settings: &Settings) -> Instant {
        let again = self.sent.map_or(Instant::ZERO, |sent| sent.after(self.patience));
        again.min(self.submitted.after(settings.answer_within))
    }
    /// Whether it is decided, and only the reply itself has not come.
    fn lacks_reply(&self, now: Instant) -> bool {
        self.reply_due().is_some_and(|at| at <= now)
    }
    fn reply_due(&self) -> Option<Instant> {
        let doublings = self.attempts.saturating_sub(1).min(DOUBLINGS_MAX);
        self.agreed_at.map(|at| at.after(BODY_PAUSE * (1 << doublings)))
    }
    /// It goes out now.
    fn send(&mut self, now: Instant, patience: Duration) {
        (self.sent, self.patience) = (Some(now), patience);
        self.attempts += 1;
    }
    /// How long it took, if it is clear which time of sending was answered.
    fn took(&self, now: Instant) -> Option<Duration> {
        self.sent.filter(|_| self.attempts == 1).map(|sent| now.since(sent))
    }
    fn due(&self, settings: &Settings) -> Instant {
        self.reply_due().into_iter().chain([self.silent_at(settings)]).min().expect("one at least")
    }
    fn forget_replies(&mut self) {
        (self.tally, self.replies, self.agreed_at) = (Tally::default(), Vec::new(), None);
    }
}

/// Batches of one sequence.
#[derive(Debug, Default)]
struct Lane {
    last: u64,
    open: BTreeMap<u64, Pending>,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batches and reads answered.
    pub answered: u64,
    /// Those given up.
    pub indeterminate: u64,
    /// Attempts after the first.
    pub again: u64,
    /// Reads that were answered without being ordered.
    pub fast: u64,
    /// Reads that had to be ordered after all.
    pub fallen_back: u64,
    /// Words of replicas that were not what enough others said.
    pub contradicted: u64,
    /// Words about another epoch than this client was in.
    pub of_other_epochs: u64,
}

/// The client. See the module.
pub struct Core {
    settings: Settings,
    key: SigningKey,
    /// How the members came about that are asked, believed and counted.
    lineage: Lineage,
    /// Its latest members; rising.
    members: Vec<NodeId>,
    /// How many of them must agree.
    quorum: Quorum,
    /// When they were asked last whether they still are the members.
    asked: Option<Instant>,
    /// One has named a later epoch since.
    is_behind: bool,
    writes: Lane,
    ordered_reads: Lane,
    fast_reads: Lane,
    /// How long ordered batches take, and reads that are not ordered.
    ordered: Latency,
    unordered: Latency,
    /// Who leads, as each replica last said.
    hints: BTreeMap<NodeId, NodeId>,
    primary: NodeId,
    counters: Counters,
    /// To be sent, in order.
    pub outgoing: Vec<Outgoing>,
    /// To whoever asked.
    pub answers: Vec<Answer>,
}

impl Core {
    /// A client that signs with `key`, of the group whose members came about so.
    pub fn new(settings: Settings, lineage: Lineage, key: SigningKey) -> Core {
        let members: Vec<NodeId> = lineage.latest().nodes().iter().collect();
        assert!(!members.is_empty() && !members.contains(&settings.me));
        let (primary, quorum) = (members[0], lineage.quorum());
        let lane = Lane::default;
        let latency = Latency::new(settings.retry_after, settings.answer_within);
        Core {
            settings,
            key,
            lineage,
            members,
            quorum,
            asked: None,
            is_behind: false,
            writes: lane(),
            ordered_reads: lane(),
            fast_reads: lane(),
            ordered: latency.clone(),
            unordered: latency,
            hints: BTreeMap::new(),
            primary,
            counters: Counters::default(),
            outgoing: Vec::new(),
            answers: Vec::new(),
        }
    }
    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// How the members came about, as far as this client knows.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }
    /// Who leads, as far as this client knows.
    pub fn primary(&self) -> NodeId {
        self.primary
    }
    /// How many batches and reads are not answered.
    pub fn len(&self) -> usize {
        self.writes.open.len() + self.ordered_reads.open.len() + self.fast_reads.open.len()
    }
    /// Whether everything is answered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether more may be demanded.
    pub fn has_room(&self) -> bool {
        let reads = self.ordered_reads.open.len() + self.fast_reads.open.len();
        self.writes.open.len() < WINDOW && reads < WINDOW
    }
    /// Equal replies that answer a write, or a read that is ordered.
    fn enough(&self) -> usize {
        match self.settings.fast_reads && !canary::on(Canary::FastReadWeakQuorum) {
            true => self.quorum.strong(),
            false => self.quorum.weak(),
        }
    }
    /// Equal replies that answer a read that is not.
    fn enough_unordered(&self) -> usize {
        match canary::on(Canary::FastReadWeakQuorum) {
            true => self.quorum.weak(),
            false => self.quorum.strong(),
        }
    }

    /// Somebody wants something. Write sequences rise.
    pub fn demand(&mut self, now: Instant, demand: Demand) {
        match demand {
            Demand::Write { sequence, body, growth, .. } => {
                assert!(self.writes.last < sequence, "sequences rise");
                self.writes.last = sequence;
                let pending = Pending::new(now, Asked::Write(sequence), body, growth);
                self.writes.open.insert(sequence, pending);
            }
            Demand::Read { id, body } => {
                let (fast, body) = (self.settings.fast_reads, Body::new(body));
                let lane = if fast { &mut self.fast_reads } else { &mut self.ordered_reads };
                lane.last += 1;
                lane.open.insert(lane.last, Pending::new(now, Asked::Read(id), body, 0));
            }
        }
        self.flush(now);
    }

    /// A replica speaks, over a link that only it can speak over. What it says is not yet believed.
    pub fn receive(&mut self, now: Instant, from: NodeId, message: Message) {
        let reply = match message {
            Message::Replied(reply) => reply,
            Message::Refused { boot, why: Refusal::Unsigned, .. } => return self.unsigned(now, from, boot),
            Message::Refused { .. } | Message::Batch { .. } | Message::Read { .. } => return,
        };
        if reply.boot != self.settings.boot || !self.members.contains(&from) {
            return;
        }
        let epoch = self.lineage.latest().epoch;
        self.is_behind |= epoch < reply.epoch;
        if reply.epoch != epoch && !canary::on(Canary::ClientCountsOtherEpochs) {
            self.counters.of_other_epochs += 1;
            return;
        }
        self.hear_hint(from, reply.leader);
        let enough = if reply.lane == FAST_READS { self.enough_unordered() } else { self.enough() };
        let (lane, latency) = match reply.lane {
            WRITES => (&mut self.writes, &mut self.ordered),
            ORDERED_READS => (&mut self.ordered_reads, &mut self.ordered),
            FAST_READS => (&mut self.fast_reads, &mut self.unordered),
            _ => return,
        };
        let Some(pending) = lane.open.get_mut(&reply.sequence) else { return };
        pending.hear(from, &reply);
        if let Some(bytes) = pending.agreed(enough) {
            let pending = lane.open.remove(&reply.sequence).expect("it is there");
            if let Some(took) = pending.took(now) {
                latency.sample(took);
            }
            self.counters.contradicted +=
                (pending.tally.len() - pending.tally.count(Digest::of(&bytes))) as u64;
            self.counters.fast += u64::from(reply.lane == FAST_READS);
            self.answer(now, &pending, bytes);
            return;
        }
        if pending.tally.agreed(enough).is_some() {
            pending.agreed_at = pending.agreed_at.or(Some(now));
        }
        if reply.lane == FAST_READS {
            self.fall_back_if_hopeless(now, reply.sequence);
        }
    }

    /// Somebody shows how an epoch began. That its members of the epoch before have signed it is what counts, not who shows it.
    pub fn chartered(&mut self, now: Instant, charter: &Charter) {
        if !self.lineage.follow(charter) {
            return;
        }
        self.members = self.lineage.latest().nodes().iter().collect();
        self.quorum = self.lineage.quorum();
        // An epoch begins in its first view.
        self.primary = self.members[0];
        self.hints.clear();
        // There may be more to follow.
        (self.asked, self.is_behind) = (None, false);
        for lane in [&mut self.writes, &mut self.ordered_reads, &mut self.fast_reads] {
            for pending in lane.open.values_mut() {
                pending.forget_replies();
                pending.sent = None;
            }
        }
        self.flush(now);
    }

    /// When the members are to be asked whether they still are.
    fn ask_at(&self) -> Instant {
        let pause = match self.is_behind {
            true => ASK_PAUSE,
            false if self.is_empty() => ASK_EVERY,
            false => ASK_OPEN,
        };
        self.asked.map_or(Instant::ZERO, |asked| asked.after(pause))
    }

    /// Says in which epoch this client is, as a replica does that may have slept: who knows of a later one shows how it began.
    fn ask_for_charters(&mut self, now: Instant) {
        (self.asked, self.is_behind) = (Some(now), false);
        let (view, none) = (View::first_of(self.lineage.latest().epoch), Slot::ZERO);
        let (stable, executed) = (none, none);
        let status =
            pbft::Message::Status { view, active: true, stable, executed, bodies: false, complains: false };
        let message: wire::Message = status.into();
        let group = self.settings.group;
        let to = self.members.iter();
        self.outgoing.extend(to.map(|to| Outgoing { to: *to, group, message: message.clone() }));
    }

    /// A replica orders nothing of this client that is not signed. A liar's word is as good: a signature costs little.
    fn unsigned(&mut self, now: Instant, from: NodeId, boot: u64) {
        let Settings { auth, boot: mine, .. } = self.settings;
        if auth == Auth::Sign || boot != mine || !self.members.contains(&from) {
            return;
        }
        self.settings.auth = Auth::Sign;
        for lane in [&mut self.writes, &mut self.ordered_reads] {
            lane.open.values_mut().for_each(|pending| pending.sent = None);
        }
        self.flush(now);
    }

    /// A replica's word about who leads counts when a correct one says the same.
    fn hear_hint(&mut self, from: NodeId, leader: NodeId) {
        self.hints.insert(from, leader);
        let voices = self.hints.values().filter(|hint| **hint == leader).count();
        if self.quorum.weak() <= voices && self.members.contains(&leader) {
            self.primary = leader;
        }
    }

    fn answer(&mut self, now: Instant, pending: &Pending, bytes: Bytes) {
        let count = Reader::new(pending.body.bytes()).count();
        let ends = split::ends(&bytes, count);
        self.counters.answered += 1;
        self.answers.push(match (pending.asked, ends) {
            (Asked::Write(sequence), Some(ends)) => {
                Answer::Write { sequence, replies: bytes, ends, made: now }
            }
            (Asked::Read(id), Some(ends)) => Answer::Read { id, replies: bytes, ends },
            // Enough replicas said it, so this client does not know their version's replies.
            (asked, None) => failed(asked, Failure::Indeterminate),
        });
    }

    /// Orders a read whose replies cannot agree any more.
    fn fall_back_if_hopeless(&mut self, now: Instant, sequence: u64) {
        let (enough, members) = (self.enough_unordered(), self.members.len());
        let Some(pending) = self.fast_reads.open.get(&sequence) else { return };
        if pending.tally.most() + members - pending.tally.len() < enough {
            self.fall_back(now, sequence);
        }
    }
    fn fall_back(&mut self, now: Instant, sequence: u64) {
        let Some(read) = self.fast_reads.open.remove(&sequence) else { return };
        self.counters.fallen_back += 1;
        let lane = &mut self.ordered_reads;
        lane.last += 1;
        let pending = Pending { submitted: read.submitted, ..Pending::new(now, read.asked, read.body, 0) };
        lane.open.insert(lane.last, pending);
        self.flush(now);
    }

    /// What was said over the link to `peer` may be lost: what is not answered goes again when it is due, to all.
    pub fn timeout(&mut self, now: Instant) {
        let within = self.settings.answer_within;
        for lane in [&mut self.writes, &mut self.ordered_reads, &mut self.fast_reads] {
            let late = lane.open.iter().filter(|(_, pending)| within <= now.since(pending.submitted));
            let late: Vec<u64> = late.map(|(sequence, _)| *sequence).collect();
            let gone: Vec<Pending> = late.iter().filter_map(|sequence| lane.open.remove(sequence)).collect();
            if !gone.is_empty() {
                // Those behind them were made while they were alive, and would wait for them: they go again.
                lane.open.values_mut().for_each(|pending| pending.sent = None);
            }
            self.counters.indeterminate += gone.len() as u64;
            self.answers.extend(gone.iter().map(|pending| failed(pending.asked, Failure::Indeterminate)));
        }
        self.back_off(now);
        let is_slow = |pending: &Pending| pending.is_silent(now, &self.settings) || pending.lacks_reply(now);
        let slow = self.fast_reads.open.iter().filter(|(_, pending)| is_slow(pending));
        for sequence in slow.map(|(sequence, _)| *sequence).collect::<Vec<u64>>() {
            self.fall_back(now, sequence);
        }
        for lane in [&mut self.writes, &mut self.ordered_reads] {
            // A batch takes effect only behind those before it (`wire::sequence`). Where one is lost, so are all behind it, and if each
            // went again in its own time, those that are sent meanwhile would be lost in turn, for ever.
            let behind = lane.open.values_mut().skip_while(|pending| !pending.is_silent(now, &self.settings));
            behind.for_each(|pending| pending.sent = None);
            // Whoever is asked again replies at length. Nothing is lost, so those behind it need not go again.
            for pending in lane.open.values_mut().filter(|pending| pending.lacks_reply(now)) {
                (pending.sent, pending.agreed_at) = (None, None);
            }
        }
        self.flush(now);
        if self.ask_at() <= now {
            self.ask_for_charters(now);
        }
    }

    /// However much is not answered in time, it is one silence.
    fn back_off(&mut self, now: Instant) {
        let settings = &self.settings;
        let is_silent = |lane: &Lane| lane.open.values().any(|pending| pending.is_silent(now, settings));
        if is_silent(&self.writes) || is_silent(&self.ordered_reads) {
            self.ordered.back_off();
        }
        if is_silent(&self.fast_reads) {
            self.unordered.back_off();
        }
    }

    /// When `timeout` has something to do.
    pub fn deadline(&self) -> Instant {
        let lanes = [&self.writes, &self.ordered_reads, &self.fast_reads];
        let pending = lanes.into_iter().flat_map(|lane| lane.open.values());
        pending.map(|pending| pending.due(&self.settings)).chain([self.ask_at()]).min().expect("one at least")
    }

    /// Sends what is to be sent.
    fn flush(&mut self, now: Instant) {
        let Settings { group, me, boot, auth, .. } = self.settings;
        let patience = self.ordered.silence();
        for (number, lane) in [(WRITES, &mut self.writes), (ORDERED_READS, &mut self.ordered_reads)] {
            let Some(floor) = lane.open.keys().next().copied() else { continue };
            for (&sequence, pending) in lane.open.iter_mut().filter(|(_, pending)| pending.sent.is_none()) {
                pending.send(now, patience);
                let (attempt, growth, body) = (pending.attempts, pending.growth, pending.body.clone());
                self.counters.again += u64::from(1 < attempt);
                let origin = Origin { node: me, lane: number, boot };
                let mut batch = Batch { origin, sequence, floor, growth, body, ..Batch::default() };
                if auth == Auth::Sign || 1 < attempt {
                    batch.signature = self.key.sign(&signed_batch(group, &batch));
                }
                let message: wire::Message = Message::Batch { batch, attempt }.into();
                let to_all = auth == Auth::Mac || 1 < attempt;
                let to = self.members.iter().filter(|to| to_all || **to == self.primary);
                self.outgoing.extend(to.map(|to| Outgoing { to: *to, group, message: message.clone() }));
            }
        }
        for (&id, pending) in self.fast_reads.open.iter_mut().filter(|(_, pending)| pending.sent.is_none()) {
            pending.send(now, self.unordered.silence());
            let message: wire::Message =
                Message::Read { boot, lane: FAST_READS, id, body: pending.body.clone() }.into();
            let to = self.members.iter();
            self.outgoing.extend(to.map(|to| Outgoing { to: *to, group, message: message.clone() }));
        }
    }
}

fn failed(asked: Asked, why: Failure) -> Answer {
    match asked {
        Asked::Write(sequence) => Answer::WriteFailed { sequence, why },
        Asked::Read(id) => Answer::ReadFailed { id, why },
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
