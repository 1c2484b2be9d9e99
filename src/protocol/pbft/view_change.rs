//! View changes: a primary that does not do its work is replaced, and what may have been decided is carried over (TOCS 2002, 4.5).

use super::choose::{self, Choice, choose, is_certified};
use super::options::{change_bytes_max, checkpoints_max};
use super::patience::Patience;
use super::peers::Long;
use super::slots::VALUES_MAX;
use super::{Admitted, NUMBER_MAX, Options, Pbft};
use crate::base::canary::{self, Canary};
use crate::base::{Instant, NodeId, Slot, View};
use crate::protocol::{FaultKind, Outbox, Room, Target};
use crate::wire::pbft::{Change, Message, NULL, NewView, Note, Proof, Vote};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// The change of views, as far as it has come.
#[derive(Clone, Debug)]
pub(super) struct Changing {
    /// The newest view-change of each, the own one among them, for views not yet begun.
    changes: BTreeMap<NodeId, Change>,
    /// Running while a quorum wants the view and it has not begun.
    pub deadline: Option<Instant>,
    /// Till then the primary of a view that could begin waits for view-changes that let it begin lower.
    pub hopes_until: Option<Instant>,
    /// How long requests and new views are waited for now.
    pub patience: Patience,
    /// When the present view began here.
    pub entered: Instant,
    /// Views that this replica has asked for since its start.
    pub count: u64,
}

impl Changing {
    /// No change under way.
    pub fn new(now: Instant, patience: Patience) -> Changing {
        let changes = BTreeMap::new();
        Changing { changes, deadline: None, hopes_until: None, patience, entered: now, count: 0 }
    }
    /// An epoch begins with its first view.
    pub fn begin_epoch(&mut self, now: Instant) {
        (self.entered, self.deadline, self.hopes_until) = (now, None, None);
        self.patience.renew(now);
    }
    /// A view-change known from before a restart.
    pub fn restore(&mut self, own: Change) {
        self.changes.insert(own.node, own);
    }
    /// The own view-change, while one is under way.
    pub fn own(&self, me: NodeId) -> Option<&Change> {
        self.changes.get(&me)
    }
    /// Whether a quorum wants the view, and whether its primary may hope for more.
    pub fn waits(&self) -> (bool, bool) {
        (self.deadline.is_some(), self.hopes_until.is_some())
    }
    /// See `Pbft::outline`.
    pub fn outline(&self, to: &mut impl Hasher) {
        self.changes.values().for_each(|change| (change.node, change.view, change.signature.0).hash(to));
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self, view: View, active: bool) {
        assert!(self.changes.values().all(|change| view < change.view || (view == change.view && !active)));
        assert!((self.deadline.is_none() && self.hopes_until.is_none()) || !active);
    }
}

impl Pbft {
    /// "It stops accepting messages (other than checkpoint, view-change, and new-view messages) and multicasts a view-change."
    pub(super) fn leave(&mut self, now: Instant, to: View, out: &mut Outbox) {
        assert!(self.view < to);
        let to = self.fit_view(to);
        self.changing.patience.fail(now);
        self.changing.count += 1;
        (self.changing.deadline, self.changing.hopes_until) = (None, None);
        self.quit_view(now, to);
        let (prepared, accepted) = match canary::on(Canary::OmitPrepared) {
            true => (Vec::new(), Vec::new()),
            false => (self.slots.prepared(self.slots.low()), self.slots.accepted(self.slots.low())),
        };
        let mut change = Change {
            view: to,
            node: self.me,
            stable: self.slots.low(),
            checkpoints: self.checkpoints.all(),
            prepared,
            accepted,
            signature: Default::default(),
        };
        // As with the values of a slot, fewer cost at most liveness: condition A2 only ever wants more.
        change.shorten(change_bytes_max(self.options.window, self.options.checkpoint_every));
        change.signature = self.keys.sign(&change.signed(self.group));
        self.note(Note::View { view: to, active: false, proof: change.body() }, out);
        self.say(Target::Others, Message::ViewChange(change.clone()), out);
        for node in self.members.iter().filter(|node| **node != self.me) {
            self.peers.tell(now, *node, Long::Change);
        }
        self.changing.changes.insert(self.me, change);
        self.gather(now, out);
    }

    /// Whatever belongs to the present view ends with it.
    pub(super) fn quit_view(&mut self, now: Instant, to: View) {
        self.leave_doubts(now);
        (self.view, self.active, self.new_view) = (to, false, None);
        self.waiting.clear();
        self.speech.leave_view();
        self.slots.leave_view();
        self.peers.leave_view();
        self.evidence.leave_view();
        self.requests.leave_view();
        let (view, me) = (self.view, self.me);
        self.changing.changes.retain(|node, change| *node != me && view <= change.view);
    }

    pub(super) fn on_view_change(&mut self, now: Instant, from: NodeId, change: Change, out: &mut Outbox) {
        if change.view.epoch() != self.epochs.number {
            return;
        }
        // It is said again and again, and its signature is checked once.
        let node = change.node;
        if self.changing.changes.get(&node) == Some(&change) {
            return;
        }
        if !self.is_change_sane(&change) || !self.is_signed_change(&change) {
            out.fault(from, FaultKind::BadViewChange { view: change.view });
            return;
        }
        if node == self.me || change.view < self.view || (change.view == self.view && self.active) {
            return;
        }
        match self.changing.changes.get(&node) {
            Some(known) if change.view < known.view => return,
            Some(known) if change.view == known.view => {
                if *known != change {
                    let (one, other) = (Box::new(known.clone()), Box::new(change));
                    self.convict(node, Proof::Changes(one, other), out);
                    out.fault(node, FaultKind::Equivocates { view: self.view, slot: Slot::ZERO });
                }
                return;
            }
            Some(_) | None => (),
        }
        let resigns = self.active && node == self.primary() && self.view < change.view;
        self.changing.changes.insert(node, change.clone());
        if resigns && !canary::on(Canary::NobodyJoins) {
            self.follow_primary(now, change, out);
        }
        self.join(now, out);
        self.gather(now, out);
    }

    /// A primary that goes down in order leaves its view at once, and the others with it. So does one that has no room for values, but
    /// not again before the longest time-out has passed: where no disk has room, views would only chase each other.
    pub(super) fn resign(&mut self, now: Instant, out: &mut Outbox) {
        let pause = self.options.request_timeout_max;
        let passes_on =
            self.room != Room::Enough && self.passed_on_at.is_none_or(|at| pause <= now.since(at));
        if (self.draining || passes_on) && self.is_primary() && 1 < self.members.len() {
            self.passed_on_at = Some(now);
            self.leave(now, self.view.next(), out);
        }
    }

    /// The primary itself has left its view: nobody orders anything there any more, and no time-out need show it. A liar gains nothing by
    /// it, for it could as well order nothing. What it has signed goes on to all, so that it cannot part one backup from the others.
    fn follow_primary(&mut self, now: Instant, change: Change, out: &mut Outbox) {
        self.say(Target::Others, Message::ViewChange(change), out);
        self.leave(now, self.view.next(), out);
    }

    /// "If a replica receives a set of f+1 valid view-change messages from other replicas for views greater than its current view, it
    /// sends a view-change message for the smallest view in the set, even if its timer has not expired" (4.5.2).
    fn join(&mut self, now: Instant, out: &mut Outbox) {
        let later = || self.changing.changes.values().filter(|c| c.node != self.me && self.view < c.view);
        if self.quorum.weak() <= later().count() && !canary::on(Canary::NobodyJoins) {
            let smallest = later().map(|change| change.view).min().expect("there are some");
            self.leave(now, smallest, out);
        }
    }

    /// A quorum wants the view: its primary begins it if it can, the others wait for it.
    fn gather(&mut self, now: Instant, out: &mut Outbox) {
        if self.active {
            return;
        }
        // "It starts its timer when it has received 2f+1 view-change messages": so nobody runs ahead of the others. Whoever has gone on to
        // a later view has left this one too, and says so no more: with its old message lost, the others would wait for it for ever.
        let count = self.changing.changes.values().filter(|change| self.view <= change.view).count();
        if count < self.quorum.strong() {
            return;
        }
        if self.changing.deadline.is_none() {
            let patience = self.changing.patience.span();
            self.changing.deadline = Some(now.after(patience));
            self.changing.hopes_until = Some(now.after(patience / 2));
        }
        self.try_begin(now, None, out);
    }

    /// Begins the own view if the view-changes at hand decide it, and if every value is at hand (A3); else asks for them, whom the caller
    /// thinks best.
    pub(super) fn try_begin(&mut self, now: Instant, ask: Option<NodeId>, out: &mut Outbox) {
        if self.active || self.primary() != self.me || self.changing.own(self.me).is_none() {
            return;
        }
        let Some((changes, choice)) = self.beginning() else { return };
        if self.hopes_for_more(&changes, &choice) {
            return;
        }
        let missing: Vec<Vote> = self.missing(&choice);
        if !missing.is_empty() {
            self.want(missing, ask, out);
            return;
        }
        let changes = changes.into_iter().cloned().collect();
        let mut new_view = NewView { view: self.view, changes, signature: Default::default() };
        new_view.signature = self.keys.sign(&new_view.signed(self.group));
        self.note(Note::View { view: self.view, active: true, proof: new_view.body() }, out);
        self.say(Target::Others, Message::NewView(new_view.clone()), out);
        self.begin(now, new_view, choice, out);
        self.order_heard();
    }

    /// The new primary orders what it has heard of. What it must refuse now, its origin asks for again.
    pub(super) fn order_heard(&mut self) {
        if self.is_primary() {
            for batch in self.requests.all() {
                let _: Admitted = self.assign(batch);
            }
        }
    }

    /// Whether the own view waits for this value.
    pub(super) fn is_wanted(&self, vote: Vote) -> bool {
        if self.active || self.primary() != self.me {
            return false;
        }
        self.beginning().is_some_and(|(_, choice)| self.missing(&choice).contains(&vote))
    }

    /// The view-changes that the own view begins with, and what they decide. All that are at hand, unless together they are longer than a
    /// record may be: then the longest that the decision does not need stay out. A quorum of correct ones always fits (`Options::fitted`).
    fn beginning(&self) -> Option<(Vec<&Change>, Choice)> {
        let choose = |changes: &[&Change]| choose(changes, self.quorum, self.options.window);
        let mut changes: Vec<&Change> =
            self.changing.changes.values().filter(|c| c.view == self.view).collect();
        let mut choice = choose(&changes)?;
        let is_short = |changes: &[&Change]| {
            NewView::bytes_of(changes.iter().map(|change| change.bytes())) <= self.options.new_view_bytes_max
        };
        let mut longest = changes.clone();
        longest.sort_by_key(|change| Reverse(change.bytes()));
        for long in longest {
            if is_short(&changes) {
                break;
            }
            let fewer: Vec<&Change> = changes.iter().copied().filter(|c| c.node != long.node).collect();
            if let Some(same) = choose(&fewer) {
                (changes, choice) = (fewer, same);
            }
        }
        is_short(&changes).then_some((changes, choice))
    }

    /// Whether a view-change that has yet to come may let the view begin lower. Correct replicas that have not gone beyond a checkpoint
    /// decide all that follows it, so what keeps a view from there is a lie that their other words outweigh. Above a later checkpoint,
    /// which perhaps one correct replica alone has reached, the others could not follow. Nobody need come, so hope has its time.
    fn hopes_for_more(&self, changes: &[&Change], choice: &Choice) -> bool {
        let is_oldest = choose::oldest(changes, self.quorum) == Some(choice.checkpoint.slot);
        self.changing.hopes_until.is_some() && !is_oldest && changes.len() < self.members.len()
    }

    /// Values of a choice that are not known here.
    fn missing(&self, choice: &Choice) -> Vec<Vote> {
        let unknown = |vote: &&Vote| {
            let known = self.slots.get(vote.slot).is_some_and(|place| place.knows(vote.digest));
            self.slots.low() < vote.slot && vote.digest != NULL && !known
        };
        choice.values.iter().filter(unknown).copied().collect()
    }

    /// "Backups accept a new-view message if it is signed properly, if the view-change messages it contains are valid for the view, and
    /// if they compute the same choice." The choice is not even asked for: it is computed.
    pub(super) fn on_new_view(&mut self, now: Instant, new_view: NewView, out: &mut Outbox) {
        let (view, primary) = (new_view.view, self.primary_of(new_view.view));
        if NUMBER_MAX <= view.0
            || view.epoch() != self.epochs.number
            || view < self.view
            || (view == self.view && self.active)
            || primary == self.me
            || self.shuns(primary)
        {
            return;
        }
        if !self.keys.verify(primary, &new_view.signed(self.group), &new_view.signature) {
            // From whomever: it proves nothing about the primary.
            return;
        }
        let is_valid = |change: &Change| {
            change.view == view && self.is_change_sane(change) && self.is_signed_change(change)
        };
        let changes: Vec<&Change> = new_view.changes.iter().collect();
        let is_short =
            NewView::bytes_of(changes.iter().map(|change| change.bytes())) <= self.options.new_view_bytes_max;
        let are_valid = is_short && changes.iter().all(|change| is_valid(change));
        let choice = match canary::on(Canary::NewViewUnchecked) || are_valid {
            true => choose(&changes, self.quorum, self.options.window),
            false => None,
        };
        let Some(choice) = choice else {
            out.fault(primary, FaultKind::BadNewView { view });
            self.convict(primary, Proof::NewView(Box::new(new_view)), out);
            if self.view <= view {
                self.leave(now, view.next(), out);
            }
            return;
        };
        self.quit_view(now, view);
        self.note(Note::View { view, active: true, proof: new_view.body() }, out);
        self.begin(now, new_view, choice, out);
    }

    /// The view begins: its window, and what it assigns to the slots that earlier views may have decided.
    fn begin(&mut self, now: Instant, new_view: NewView, choice: Choice, out: &mut Outbox) {
        let changes: Vec<&Change> = new_view.changes.iter().collect();
        let is_certified = is_certified(choice.checkpoint.slot, &changes, self.quorum);
        (self.active, self.new_view) = (true, Some(new_view));
        (self.changing.deadline, self.changing.hopes_until) = (None, None);
        self.changing.entered = now;
        self.changing.patience.begin(now);
        self.falls_behind = false;
        self.pace.begin(now, self.members.len());
        let view = self.view;
        self.changing.changes.retain(|_, change| view < change.view);
        let Choice { checkpoint, values } = choice;
        self.begin_above(checkpoint, is_certified, out);
        self.begun = values.last().map_or(checkpoint.slot, |vote| vote.slot);
        self.bound = self.begun.min(self.slots.high());
        self.assigned = self.begun.max(self.slots.base());
        self.assigned_stamp = self.stamp;
        self.assign_begun(now, values, out);
        self.say_status(now, out);
    }

    /// What the view begins with stands at its slots; of that so much is accepted as is known and within the water marks.
    fn assign_begun(&mut self, now: Instant, values: Vec<Vote>, out: &mut Outbox) {
        let mut missing = Vec::new();
        for vote in values {
            if vote.slot <= self.slots.base() {
                continue;
            }
            let place = self.slots.at(vote.slot);
            if place.committed.is_some_and(|digest| digest != vote.digest) {
                if place.counted {
                    // More than f lie: nothing that this replica could say would be right.
                    let fault = FaultKind::RewritesCommitted { slot: vote.slot, commit: self.executed };
                    out.fault(self.primary(), fault);
                }
                continue;
            }
            place.assigned = Some(vote.digest);
            if !place.knows(vote.digest) {
                missing.push(vote);
                continue;
            }
            if let Some(proposal) = place.value(vote.digest) {
                if self.executed < vote.slot {
                    self.requests.assigned(&proposal.entry);
                }
                self.assigned_stamp = self.assigned_stamp.max(proposal.entry.stamp);
            }
            if self.slots.contains(vote.slot) {
                self.accept(now, vote, None, out);
            }
        }
        if !missing.is_empty() {
            self.want(missing, None, out);
        }
    }

    /// The view agrees on slots above a checkpoint. What lies below may be forgotten only if a quorum has been there: else what this
    /// replica has said of it is perhaps what those need that have not.
    fn begin_above(&mut self, checkpoint: Vote, is_certified: bool, out: &mut Outbox) {
        if is_certified && self.slots.low() < checkpoint.slot {
            self.raise_low(checkpoint);
            let is_here = self.checkpoints.own(checkpoint.slot) == Some(checkpoint.digest);
            if is_here && self.boundary() != Some(checkpoint.slot) {
                self.stabilize(checkpoint, out);
            }
        }
        self.slots.begin(checkpoint.slot);
        self.slots.collect(self.executed);
        self.slots.drop_far(self.executed);
    }

    /// What the view began with above the high water mark is accepted when that has risen.
    pub(super) fn accept_risen(&mut self, now: Instant, out: &mut Outbox) {
        let reach = self.begun.min(self.slots.high());
        if self.active && self.bound < reach {
            self.bound = reach;
            self.accept_the_rest(now, out);
        }
    }

    fn is_change_sane(&self, change: &Change) -> bool {
        let Options { window, checkpoint_every, .. } = self.options;
        self.members.contains(&change.node) && is_change_sane(change, window, checkpoint_every)
    }

    fn is_signed_change(&self, change: &Change) -> bool {
        self.keys.verify(change.node, &change.signed(self.group), &change.signature)
    }
}

/// Views, slots and lists that a correct replica could send.
pub(super) fn is_change_sane(change: &Change, window: u64, checkpoint_every: u64) -> bool {
    let Change { view, stable, checkpoints, prepared, accepted, .. } = change;
    let within = |slot: Slot| *stable < slot && slot.0 - stable.0 <= window;
    let is_checkpoint = |slot: Slot| slot.0 < NUMBER_MAX && slot.0.is_multiple_of(checkpoint_every);
    let few = checkpoints.len() <= checkpoints_max(window, checkpoint_every);
    view.0 < NUMBER_MAX
        && few
        && is_checkpoint(*stable)
        && checkpoints.iter().all(|vote| is_checkpoint(vote.slot))
        && prepared.iter().all(|p| p.view < *view && within(p.vote.slot))
        // A liar's must not be longer than a correct one's could be.
        && change.bytes() <= change_bytes_max(window, checkpoint_every)
        && accepted.chunk_by(|a, b| a.vote.slot == b.vote.slot).all(|one| one.len() <= VALUES_MAX)
        && accepted.iter().all(|a| a.view < *view && within(a.vote.slot))
}
