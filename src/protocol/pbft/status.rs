//! What operators, hosts and metrics see of a replica.

use super::{NodeId, Options, Pbft, Quorum, Slot, View};
use crate::base::Body;
use crate::protocol::{Cause, FollowerStanding, Room, Standing};
use crate::wire::Batch;
use crate::wire::pbft::{NewView, Vote, signed_batch};

impl Pbft {
    /// Whether this replica assigns slots, and takes new batches.
    pub fn is_leader(&self) -> bool {
        self.is_primary() && !self.draining
    }
    /// To whom batches go. While the own view is being changed, the primary of the view that others are in: this replica may be the
    /// only one that lost patience. If that is this replica itself, somebody else must hear of the batches, to lose patience as well.
    pub fn leader(&self) -> Option<NodeId> {
        if !self.is_member() {
            return None;
        }
        if self.active {
            return Some(self.primary()).filter(|primary| *primary != self.me || !self.draining);
        }
        let view = self.peers.vouched_view(self.quorum.weak())?;
        [view, self.view, self.view.next()]
            .map(|view| self.primary_of(view))
            .into_iter()
            .find(|id| *id != self.me)
    }
    /// The view entered, or being changed to.
    pub fn view(&self) -> View {
        self.view
    }
    /// What the present view began with, if not with nothing.
    pub fn new_view(&self) -> Option<&NewView> {
        self.new_view.as_ref()
    }
    /// Whether it has begun.
    pub fn is_active(&self) -> bool {
        self.active
    }
    /// The newest executed slot.
    pub fn executed(&self) -> Slot {
        self.executed
    }
    /// The newest stable checkpoint.
    pub fn stable(&self) -> Vote {
        self.checkpoints.stable
    }
    /// The newest slot assigned, while primary; else the newest executed.
    pub fn last(&self) -> Slot {
        if self.is_primary() { self.assigned.max(self.executed) } else { self.executed }
    }
    /// What it is tuned by.
    pub fn options(&self) -> &Options {
        &self.options
    }
    /// How many must agree.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }
    /// Slots of which something is in memory, batches that are waited for: what must stay bounded whatever others do.
    pub fn held(&self) -> (usize, usize) {
        (self.slots.count() + self.ahead.len(), self.requests.len() + self.tags.len())
    }
    /// Proof of misdeeds: whose, of what kind, and the bytes.
    pub fn proofs(&self) -> impl Iterator<Item = (NodeId, &'static str, &Body)> {
        self.evidence.all()
    }
    /// Whether a whole state is on its way here.
    pub fn is_transferring(&self) -> bool {
        self.transfer.is_coming()
    }
    /// Whether somebody else leads after `Input::Drain`.
    pub fn is_drained(&self) -> bool {
        let is_led = (self.active && !self.is_primary()) || !self.is_member();
        self.draining && (is_led || self.members.len() == 1)
    }
    /// What the own log has room for.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
        if room == Room::Enough {
            self.passed_on_at = None;
        }
    }
    /// Signs a batch of this node's clients, so that every replica can check it.
    pub fn vouch(&self, batch: &mut Batch) {
        batch.signature = self.keys.sign(&signed_batch(self.group, batch));
    }
    /// The few figures that every protocol has.
    pub fn standing(&self) -> Standing {
        Standing {
            leader: self.leader(),
            term: self.view.0,
            commit: self.executed,
            last: self.last(),
            elections: self.changing.count,
            cause: Cause::ViewChange,
        }
    }
    /// How far the others say they are.
    pub fn followers(&self) -> Vec<FollowerStanding> {
        let one = |(id, word): (NodeId, super::peers::Word)| {
            let mode = if self.evidence.convicts(id) {
                "convicted"
            } else if word.active && word.view == self.view {
                "active"
            } else {
                "other view"
            };
            FollowerStanding { id, matched: word.executed, heard: word.heard, mode }
        };
        self.peers.words().map(one).collect()
    }
}
