//! A replica without times and absolute tickets: what decides what it will do once any time-out may come at any moment. A model checker
//! takes replicas with equal outlines for one.

use super::Pbft;
use super::slots::Place;
use crate::base::Slot;
use crate::wire::pbft::digest;
use std::hash::{Hash, Hasher};

impl Pbft {
    /// Feeds everything that the outline consists of, as long as no whole state travels and no
    /// client vouches by tags. Settled replicas only: what a burst gathers is
    /// not part of it.
    pub fn outline(&self, to: &mut impl Hasher) {
        assert!(self.speech.is_silent(), "between bursts, and nothing waits to be gathered");
        assert!(
            !self.transfer.is_coming() && !self.options.client_tags,
            "no state travels, and nothing is tagged"
        );
        (self.epochs.number, self.boundary()).hash(to);
        (self.view, self.active, self.executed, self.stamp, self.clock).hash(to);
        (self.assigned, self.assigned_stamp, self.draining, self.unspoken.len()).hash(to);
        self.waiting.iter().for_each(|proposal| digest(&proposal.entry).hash(to));
        self.past.from(Slot::ZERO).for_each(|(_, digest, _)| digest.hash(to));
        (self.slots.low(), self.slots.base(), self.slots.count(), self.bound).hash(to);
        for (slot, place) in self.slots.iter() {
            slot.hash(to);
            place.outline(to);
        }
        (self.suspicion_at().is_some(), self.changing.waits(), self.complains()).hash(to);
        self.changing.outline(to);
        self.new_view.as_ref().map(|view| view.signature.0).hash(to);
        self.checkpoints.outline(to);
        self.requests.outline(to);
        self.evidence.outline(to);
    }
}

impl Place {
    /// Also votes of a phase that has come to its end: whoever says something else later contradicts itself.
    fn outline(&self, to: &mut impl Hasher) {
        (self.assigned, self.accepted, self.prepared, self.committed, self.noted, self.p).hash(to);
        [&self.prepares, &self.commits, &self.decided].iter().for_each(|votes| votes.outline(to));
        (self.tagged, self.doubted, self.said.digest()).hash(to);
        let mut values: Vec<_> =
            self.values.iter().map(|(digest, value)| (*digest, value.signature.0)).collect();
        values.sort_unstable();
        let (mut stored, mut q) = (self.stored.clone(), self.q.clone());
        stored.sort_unstable();
        q.sort_unstable();
        (values, self.stored.last(), stored, q).hash(to);
    }
}
