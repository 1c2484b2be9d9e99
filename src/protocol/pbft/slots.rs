//! The window of slots under agreement: what is said of each in the present view, and what earlier views left behind.

use crate::base::canary::{self, Canary};
use crate::base::{Body, Digest, Instant, NodeId, NodeSet, Slot, View};
use crate::wire::pbft::{Accepted, NULL, Prepared, Proposal, Vote};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// Most values that are kept of one slot, and most elements of its Q. Dropping the oldest of Q costs liveness in a run in which more
/// values than this were accepted at one slot, never safety: condition A2 only ever wants more of it (TOCS 2002, 4.5).
pub(super) const VALUES_MAX: usize = 8;

/// Who has said what about one slot in one phase. Only the first word of each counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    voters: NodeSet,
    votes: Vec<(Digest, NodeSet)>,
    /// Words that were counted twice: a canary's.
    repeated: usize,
}

/// What a vote did to a tally.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// It counts.
    New,
    /// It was there.
    Again,
    /// The node had said something else.
    Contradicts,
}

impl Tally {
    /// Counts a vote.
    pub fn add(&mut self, node: NodeId, digest: Digest) -> Counted {
        if !self.voters.insert(node) {
            let same = self.votes.iter().any(|(d, nodes)| *d == digest && nodes.contains(node));
            if same && canary::on(Canary::CountRepeatedVotes) {
                self.repeated += 1;
            }
            return if same { Counted::Again } else { Counted::Contradicts };
        }
        match self.votes.iter_mut().find(|(d, _)| *d == digest) {
            Some((_, nodes)) => {
                nodes.insert(node);
            }
            None => self.votes.push((digest, [node].into_iter().collect())),
        }
        Counted::New
    }
    /// How many nodes say `digest`.
    pub fn count(&self, digest: Digest) -> usize {
        if canary::on(Canary::MixedCertificate) {
            return self.voters.len();
        }
        let found = self.votes.iter().find(|(d, _)| *d == digest);
        found.map_or(0, |(_, nodes)| nodes.len()) + self.repeated
    }
    /// The digest that at least `enough` nodes say.
    pub fn agreed(&self, enough: usize) -> Option<Digest> {
        self.votes.iter().map(|(d, _)| *d).find(|d| enough <= self.count(*d))
    }
    /// See `Pbft::outline`: who says what, in whatever order they said it.
    pub fn outline(&self, to: &mut impl Hasher) {
        let mut votes: Vec<(Digest, u64)> =
            self.votes.iter().map(|(digest, nodes)| (*digest, nodes.0)).collect();
        votes.sort_unstable();
        votes.hash(to);
    }
    /// Whether `node` has voted.
    pub fn has(&self, node: NodeId) -> bool {
        self.voters.contains(node)
    }
}

/// One slot.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// What the present view's primary assigned.
    pub assigned: Option<Digest>,
    /// The own acceptance is written: the value (or that it is null) is stored with the view.
    pub accepted: bool,
    /// A quorum's acceptance is written.
    pub prepared: bool,
    /// When it was assigned here, for the suspicion of a primary that does not bring it to an end.
    pub since: Instant,
    /// Prepares of the present view; the primary's pre-prepare counts as its own.
    pub prepares: Tally,
    /// Commits of the present view.
    pub commits: Tally,
    /// "It is decided", whatever the view.
    pub decided: Tally,
    /// What is decided here. Never changes.
    pub committed: Option<Digest>,
    /// The commits that decided it were counted here: it was decided in this view or an earlier one, not in a later one of which others
    /// tell.
    pub counted: bool,
    /// It is written that it is decided.
    pub noted: bool,
    /// Values that are known, with their origins' signatures where those are known.
    pub values: Vec<(Digest, Proposal)>,
    /// Digests of values that are on the own disk.
    pub stored: Vec<Digest>,
    /// What prepared here last, and in which view: this slot's element of P.
    pub p: Option<(Digest, View)>,
    /// What was accepted here, each with the last view: this slot's elements of Q.
    pub q: Vec<(Digest, View)>,
    /// The primary's signed words that assigned it (`evidence`).
    pub said: Body,
    /// Its batch was assigned in this view on the strength of its client's tags (`tags`).
    pub tagged: bool,
    /// This replica has no reason yet to believe that batch.
    pub doubted: bool,
}

impl Place {
    /// The value with this digest, if it is known. Null is not asked for here.
    pub fn value(&self, digest: Digest) -> Option<&Proposal> {
        self.values.iter().find(|(d, _)| *d == digest).map(|(_, proposal)| proposal)
    }
    /// Whether a value can be executed or accepted.
    pub fn knows(&self, digest: Digest) -> bool {
        digest == NULL || self.value(digest).is_some()
    }
    /// Keeps a value. `wanted` ones find room at the expense of others.
    pub fn keep(&mut self, digest: Digest, proposal: Proposal, wanted: bool) {
        if let Some((_, known)) = self.values.iter_mut().find(|(d, _)| *d == digest) {
            if known.signature == Default::default() {
                known.signature = proposal.signature;
            }
            return;
        }
        if VALUES_MAX <= self.values.len() {
            match self.values.iter().position(|(d, _)| !self.needs(*d)) {
                Some(at) if wanted => {
                    self.values.remove(at);
                }
                _ => return,
            }
        }
        self.values.push((digest, proposal));
    }
    fn needs(&self, digest: Digest) -> bool {
        [self.assigned, self.committed, self.p.map(|(p, _)| p)].contains(&Some(digest))
    }
    /// Bytes of values that were not accepted here and are not known to be decided.
    fn shown_bytes(&self) -> usize {
        let is_shown = |d: Digest| !self.needs(d) && self.q.iter().all(|(q, _)| *q != d);
        let shown = self.values.iter().filter(|(digest, _)| is_shown(*digest));
        shown.map(|(_, proposal)| proposal.entry.body.len()).sum()
    }
    /// The value was accepted in `view`.
    pub fn accept(&mut self, digest: Digest, view: View) {
        self.q.retain(|(d, _)| *d != digest);
        self.q.push((digest, view));
        if VALUES_MAX < self.q.len() {
            let oldest = (0..self.q.len()).min_by_key(|at| self.q[*at].1).expect("it is not empty");
            self.q.remove(oldest);
        }
    }
    /// Whose tags the slot waits for, if it does.
    pub fn held_up_by(&self) -> Option<NodeId> {
        let waits = self.tagged && !self.prepared && self.committed.is_none();
        let digest = self.assigned.filter(|_| waits)?;
        self.value(digest).map(|proposal| proposal.entry.origin.node)
    }
    /// Another view begins: what was said in the last one counts no longer.
    fn leave_view(&mut self) {
        (self.assigned, self.accepted, self.prepared) = (None, false, false);
        (self.tagged, self.doubted) = (false, false);
        self.said = Body::EMPTY;
        if !canary::on(Canary::VotesOutliveTheirView) {
            (self.prepares, self.commits) = (Tally::default(), Tally::default());
        }
    }
}

/// The places above the low water mark.
#[derive(Clone, Debug)]
pub struct Slots {
    /// The low water mark (h): the newest checkpoint that is known to be certified, by a quorum here or by words of a correct replica in
    /// the new-view that began the view. What was said at and below it is forgotten, and nothing else is. Rises.
    low: Slot,
    /// The view agrees on slots above it: the low water mark, or a later checkpoint that the view began with.
    base: Slot,
    window: u64,
    /// The last slot of this epoch, once that is known: nothing beyond it is agreed on here.
    pub fence: Option<Slot>,
    /// Invariant: above the executed slot or `low`, whichever is lower, and at most three windows of them above `base`: two for what others
    /// call decided, one for a view that is about to begin above it.
    places: BTreeMap<Slot, Place>,
}

impl Slots {
    /// No place yet.
    pub fn new(low: Slot, window: u64) -> Slots {
        Slots { low, base: low, window, fence: None, places: BTreeMap::new() }
    }
    /// The low water mark (h).
    pub fn low(&self) -> Slot {
        self.low
    }
    /// The high water mark (H).
    pub fn high(&self) -> Slot {
        Slot(self.low.0 + self.window)
    }
    /// What the view began above, or the low water mark if that is higher.
    pub fn base(&self) -> Slot {
        self.base
    }
    /// "n is between a low water mark h and a high water mark H" (TOCS 2002, 4.2).
    pub fn is_open(&self, slot: Slot) -> bool {
        canary::on(Canary::NoWaterMarks) || (self.low < slot && slot <= self.high() && self.is_before(slot))
    }
    /// Whether this view agrees on it.
    pub fn contains(&self, slot: Slot) -> bool {
        canary::on(Canary::NoWaterMarks) || (self.base < slot && self.is_open(slot))
    }
    /// Other members, other quorums: who said what is decided is to say it again. What `f + 1` of the last epoch had to say, fewer may have
    /// to in this one, and liars who have left must not be among them.
    pub fn forget_voices(&mut self) {
        self.places.values_mut().for_each(|place| place.decided = Tally::default());
    }
    /// Whether the slot belongs to this epoch or an earlier one, as far as is known.
    pub fn is_before(&self, slot: Slot) -> bool {
        self.fence.is_none_or(|fence| slot <= fence)
    }
    /// The place, if anything is known of it.
    pub fn get(&self, slot: Slot) -> Option<&Place> {
        self.places.get(&slot)
    }
    /// See `get`.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Place> {
        self.places.get_mut(&slot)
    }
    /// The place, made if need be. The caller has looked whether it may be there.
    pub fn at(&mut self, slot: Slot) -> &mut Place {
        self.places.entry(slot).or_default()
    }
    /// All of them, rising.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Slot, &Place)> {
        self.places.iter().map(|(slot, place)| (*slot, place))
    }
    /// Those above `slot`.
    pub fn above(&self, slot: Slot) -> impl Iterator<Item = (Slot, &Place)> {
        self.places.range(slot.next()..).map(|(slot, place)| (*slot, place))
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }
    /// Bytes of values that are here because somebody showed them, and that nothing asks for yet.
    pub fn shown_bytes(&self) -> usize {
        self.places.values().map(Place::shown_bytes).sum()
    }
    /// Raises the low water mark.
    pub fn raise(&mut self, low: Slot) {
        self.low = self.low.max(low);
        self.base = self.base.max(self.low);
    }
    /// A view begins above a checkpoint.
    pub fn begin(&mut self, checkpoint: Slot) {
        self.base = self.low.max(checkpoint);
    }
    /// Drops what is executed and stable.
    pub fn collect(&mut self, executed: Slot) {
        self.places = self.places.split_off(&self.low.min(executed).next());
    }
    /// Drops what nobody agrees on any more and is farther ahead than a window: whoever is behind by so much is given a state, or asks
    /// again.
    pub fn drop_far(&mut self, executed: Slot) {
        let (near, low, high, base) = (Slot(executed.0 + self.window), self.low, self.high(), self.base);
        if near < base {
            // What was said within the water marks a view-change still has to tell.
            let stays = |slot: Slot| slot <= near || (low < slot && slot <= high) || base < slot;
            self.places.retain(|slot, _| stays(*slot));
        }
    }
    /// Drops what lies at and below `slot`.
    pub fn forget(&mut self, slot: Slot) {
        self.places = self.places.split_off(&slot.next());
    }
    /// Another view begins.
    pub fn leave_view(&mut self) {
        self.places.values_mut().for_each(Place::leave_view);
    }
    /// P: what prepared above `stable` (TOCS 2002, 4.5).
    pub fn prepared(&self, stable: Slot) -> Vec<Prepared> {
        let one = |(slot, place): (Slot, &Place)| {
            place.p.map(|(digest, view)| Prepared { vote: Vote { slot, digest }, view })
        };
        self.above(stable).filter(|(slot, _)| self.is_open(*slot)).filter_map(one).collect()
    }
    /// Q: what was accepted above `stable`.
    pub fn accepted(&self, stable: Slot) -> Vec<Accepted> {
        let mut all = Vec::new();
        for (slot, place) in self.above(stable).filter(|(slot, _)| self.is_open(*slot)) {
            let one = |(digest, view): &(Digest, View)| Accepted {
                vote: Vote { slot, digest: *digest },
                view: *view,
            };
            all.extend(place.q.iter().map(one));
        }
        all.sort_unstable();
        all
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self, executed: Slot) {
        let first = self.places.keys().next().copied();
        assert!(first.is_none_or(|first| self.low.min(executed) < first));
        assert!(self.low <= self.base);
        let within = self.above(self.base).count() as u64;
        assert!(canary::on(Canary::NoWaterMarks) || within <= 3 * self.window);
        for place in self.places.values() {
            assert!(!place.prepared || place.accepted);
            assert!(!place.accepted || place.assigned.is_some_and(|d| place.knows(d)));
            assert!(!place.doubted || (place.tagged && !place.accepted));
            assert!(place.values.len() <= VALUES_MAX && place.q.len() <= VALUES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[test]
    fn only_the_first_word_of_each_counts() {
        let mut tally = Tally::default();
        assert_eq!(tally.add(NodeId(1), digest(1)), Counted::New);
        assert_eq!(tally.add(NodeId(1), digest(1)), Counted::Again);
        assert_eq!(tally.add(NodeId(1), digest(2)), Counted::Contradicts);
        assert_eq!(tally.add(NodeId(2), digest(2)), Counted::New);
        assert_eq!((tally.count(digest(1)), tally.count(digest(2))), (1, 1));
        assert_eq!(tally.agreed(2), None);
        assert_eq!(tally.add(NodeId(3), digest(2)), Counted::New);
        assert_eq!(tally.agreed(2), Some(digest(2)));
    }

    #[test]
    fn the_window_lies_between_its_marks_and_q_keeps_the_newest() {
        let mut slots = Slots::new(Slot(4), 8);
        assert!(!slots.contains(Slot(4)) && slots.contains(Slot(5)));
        assert!(slots.contains(Slot(12)) && !slots.contains(Slot(13)));
        for view in 0..20 {
            slots.at(Slot(6)).accept(digest(view as u8), View(view));
        }
        let oldest = slots.accepted(Slot(4)).iter().map(|a| a.view).min();
        assert_eq!((slots.get(Slot(6)).map(|p| p.q.len()), oldest), (Some(VALUES_MAX), Some(View(12))));
        slots.raise(Slot(8));
        slots.collect(Slot(5));
        assert_eq!(slots.count(), 1, "not executed yet");
        slots.collect(Slot(6));
        assert_eq!(slots.count(), 0);
    }

    #[test]
    fn a_view_that_begins_higher_makes_nobody_forget_what_lies_below() {
        let mut slots = Slots::new(Slot(4), 8);
        (5..=12).for_each(|slot| slots.at(Slot(slot)).accept(digest(1), View(0)));
        slots.begin(Slot(8));
        assert!(!slots.contains(Slot(8)) && slots.contains(Slot(9)) && slots.is_open(Slot(8)));
        assert!(!slots.contains(Slot(13)), "the high water mark stays where the low one is");
        slots.collect(Slot(10));
        slots.drop_far(Slot(10));
        assert_eq!(slots.accepted(slots.low()).len(), 8);
        slots.begin(Slot(20));
        slots.drop_far(Slot(3));
        slots.at(Slot(24)).accept(digest(1), View(1));
        assert_eq!((slots.count(), slots.accepted(slots.low()).len()), (9, 8));
        slots.begin(Slot(0));
        assert_eq!(slots.base(), Slot(4), "another view may begin lower, but not below the mark");
        slots.raise(Slot(20));
        slots.drop_far(Slot(3));
        assert_eq!((slots.base(), slots.count()), (Slot(20), 8), "what is near, and what is open");
    }
}
