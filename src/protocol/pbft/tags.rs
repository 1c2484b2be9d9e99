//! Batches of native clients for which no signature stands, but the tags of the frames in which each replica got them
//! (`Options::client_tags`; TOCS 2002, 5.2: authenticators in place of signatures).
//!
//! What a tag proves, it proves to one replica. A backup therefore believes such a batch in a pre-prepare when it got it from the client
//! itself, or when `f + 1` replicas have accepted it, one of which is correct; until then it *doubts* the slot: it has no part in
//! preparing it. A client that tells the primary alone can so hold a slot up, and with it all that come after: the big-MAC attack
//! (Clement and others, "Making Byzantine Fault Tolerant Systems Tolerate Byzantine Faults", NSDI 2009, 3). Whoever is seen to do it
//! once must sign from then on, as everybody's second attempt is signed anyway. Nobody can say whether the client or the primary lied;
//! a client that did not loses no more than the time of its signatures.

use super::Pbft;
use super::slots::Place;
use crate::base::canary::{self, Canary};
use crate::base::{Digest, Instant, NodeId, Origin, Slot};
use crate::crypto::Signature;
use crate::protocol::Outbox;
use crate::wire::members::OPERATOR;
use crate::wire::pbft::{Proposal, Vote, batch_of};
use crate::wire::{Batch, Entry};
use std::collections::{BTreeMap, BTreeSet};

/// Most batches of one lane of a client that are remembered: several times as many as it has under way.
const TOLD_MAX: usize = 128;
/// Lanes of a client that are listened to without a signature: more than it has, and a bound for one that lies.
const LANES_MAX: u8 = 4;

/// What one client has said here, by lane.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// The newest life heard of.
    boot: u64,
    /// Its batches: floor and body, by sequence.
    told: BTreeMap<u64, (u64, Digest)>,
}

/// What clients have told this replica themselves, and whom it does not believe without a signature.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags {
    lanes: BTreeMap<(NodeId, u8), Lane>,
    /// Clients whose tags have held the group up in this life of the replica.
    must_sign: BTreeSet<NodeId>,
    /// Slots of this view whose batches this replica cannot believe yet.
    doubts: BTreeSet<Slot>,
}

impl Tags {
    /// A client has said this itself, or signed it.
    fn tell(&mut self, batch: &Batch) {
        let Origin { node, lane, boot } = batch.origin;
        let lane = self.lanes.entry((node, lane)).or_default();
        if boot < lane.boot {
            return;
        }
        if lane.boot < boot {
            *lane = Lane { boot, told: BTreeMap::new() };
        }
        let (floor, _) = *lane.told.get(&batch.sequence).unwrap_or(&(0, Digest::default()));
        lane.told.insert(batch.sequence, (floor.max(batch.floor), batch.body.digest()));
        if TOLD_MAX < lane.told.len() {
            lane.told.pop_first();
        }
    }
    /// Whether the client wants just this. Under a lower floor than it has said since, it takes effect in fewer cases.
    fn has(&self, batch: &Batch) -> bool {
        let Origin { node, lane, boot } = batch.origin;
        let known = self.lanes.get(&(node, lane)).filter(|lane| lane.boot == boot);
        known
            .and_then(|lane| lane.told.get(&batch.sequence))
            .is_some_and(|(floor, body)| batch.floor <= *floor && *body == batch.body.digest())
    }
    /// What has taken effect, and all before it, needs no belief any more.
    pub fn executed(&mut self, entry: &Entry) {
        let Origin { node, lane, boot } = entry.origin;
        if let Some(lane) = self.lanes.get_mut(&(node, lane)).filter(|lane| lane.boot == boot) {
            lane.told.retain(|sequence, _| entry.sequence < *sequence);
        }
    }
    /// Batches that are remembered, and slots in doubt.
    pub fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.told.len()).sum::<usize>() + self.doubts.len()
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        assert!(self.lanes.values().all(|lane| lane.told.len() <= TOLD_MAX));
    }
}

impl Pbft {
    /// Whether nothing but a native client's tags can stand for this batch.
    pub(super) fn is_by_tags(&self, batch: &Batch) -> bool {
        self.options.client_tags && batch.origin.lane < LANES_MAX && self.is_unsigned(batch)
    }

    fn is_unsigned(&self, batch: &Batch) -> bool {
        let client = batch.origin.node;
        client != OPERATOR
            && batch.signature == Signature::NONE
            && !self.members.contains(&client)
            && self.keys.knows(client)
    }

    /// Whether a native client must sign this batch before it is ordered. It is told so: its configuration may be older than this
    /// replica's.
    pub(super) fn wants_signature(&self, batch: &Batch) -> bool {
        let is_believed = self.is_by_tags(batch) && !self.must_sign(batch.origin.node);
        self.is_unsigned(batch) && !is_believed && !canary::on(Canary::ProposeUnchecked)
    }

    /// Whether the primary may order what a client's tag alone vouches for here.
    pub(super) fn must_sign(&self, client: NodeId) -> bool {
        self.tags.must_sign.contains(&client) && !canary::on(Canary::ProposeUnchecked)
    }

    /// A client itself, or whoever knows what it signed, tells of a batch: slots that wait for just this are believed.
    pub(super) fn told(&mut self, batch: &Batch, out: &mut Outbox) {
        let is_client = batch.origin.node != OPERATOR;
        let is_listened_to =
            is_client && batch.origin.lane < LANES_MAX && !self.members.contains(&batch.origin.node);
        if !self.options.client_tags || !is_listened_to {
            return;
        }
        self.tags.tell(batch);
        for slot in self.tags.doubts.clone() {
            self.reconsider(slot, out);
        }
    }

    /// Takes an assignment whose batch this replica cannot believe yet.
    pub(super) fn doubt(&mut self, now: Instant, vote: Vote, proposal: Proposal, out: &mut Outbox) {
        let primary = self.primary();
        let place = self.slots.at(vote.slot);
        assert!(place.assigned == Some(vote.digest) && !place.accepted);
        place.keep(vote.digest, proposal, true);
        (place.tagged, place.doubted, place.since) = (true, true, now);
        place.prepares.add(primary, vote.digest);
        self.tags.doubts.insert(vote.slot);
        self.reconsider(vote.slot, out);
    }

    /// Whether the client has told this replica the same, or it has no effect whoever made it.
    fn is_believed(&self, batch: &Batch) -> bool {
        self.tags.has(batch) || self.requests.is_settled(batch)
    }

    /// Accepts a doubted assignment once there is reason to believe it.
    pub(super) fn reconsider(&mut self, slot: Slot, out: &mut Outbox) {
        if !self.tags.doubts.contains(&slot) {
            return;
        }
        let doubted = |place: &&Place| place.doubted;
        let Some(place) = self.slots.get(slot).filter(doubted) else {
            self.tags.doubts.remove(&slot);
            return;
        };
        let digest = place.assigned.expect("it is doubted because it was assigned");
        let batch = place.value(digest).and_then(batch_of);
        // "f + 1 replicas have accepted it": the primary's assignment is one voice.
        let vouched = self.quorum.weak() <= place.prepares.count(digest) || place.committed == Some(digest);
        if vouched || batch.is_some_and(|batch| self.is_believed(&batch)) {
            let since = place.since;
            self.tags.doubts.remove(&slot);
            self.slots.at(slot).doubted = false;
            self.accept(since, Vote { slot, digest }, None, out);
        }
    }

    /// Who holds the group up by what only tags vouch for must sign: while a slot waits for its backups' belief, one above it has been
    /// prepared.
    pub(super) fn suspect_tags(&mut self, now: Instant) {
        let highest = self.slots.iter().rev().find(|(_, place)| place.prepared).map(|(slot, _)| slot);
        self.blame(now, |slot, _| highest.is_some_and(|highest| slot < highest));
    }

    /// A view ends: whoever's tags were not believed in it must sign. What the primary says it has assigned, and nobody has brought
    /// further, counts at the primary itself alone.
    pub(super) fn leave_doubts(&mut self, now: Instant) {
        let is_primary = self.is_primary();
        self.blame(now, |_, place| place.doubted || is_primary);
        self.tags.doubts.clear();
    }

    fn blame(&mut self, now: Instant, counts: impl Fn(Slot, &Place) -> bool) {
        let waits = |place: &Place| self.options.stall_after <= now.since(place.since);
        let held =
            self.slots.above(self.executed).filter(|(slot, place)| waits(place) && counts(*slot, place));
        let clients: Vec<NodeId> = held.filter_map(|(_, place)| place.held_up_by()).collect();
        self.tags.must_sign.extend(clients);
    }
}
