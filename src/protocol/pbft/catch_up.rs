//! What a replica has missed: delivery is weak, so everybody says now and then where it stands, and whoever knows more answers
//! (status messages, TOCS 2002, 5.2).
//!
//! That a slot is decided is believed when `f + 1` say so, for one of them is correct; values are believed by their digests.

use super::peers::{Long, Word};
use super::slots::Place;
use super::{NUMBER_MAX, Pbft};
use crate::base::canary::{self, Canary};
use crate::base::{Digest, Instant, NodeId, Slot};
use crate::protocol::{Fetch, Fetched, Outbox, Room, Target};
use crate::wire::Entry;
use crate::wire::pbft::{self, Message, NULL, Proposal, Vote};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most slots in an answer.
const ANSWER_MAX: usize = 256;

/// Why a peer is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// It says where it stands. What is on its way to it need not go again, and what is long and known to many need not come from each.
    Status,
    /// It asks this replica for what is long, and others in turn.
    Bodies,
    /// What was said to it may be lost.
    Lost,
}

impl Pbft {
    /// Something was executed: nobody needs to be asked for now.
    pub(super) fn progressed(&mut self, now: Instant) {
        self.peers.progressed(now, self.options.stall_after);
    }

    /// When to say where this replica stands.
    pub(super) fn status_at(&self) -> Instant {
        let behind = self.executed < self.peers.vouched_executed(self.quorum.weak());
        let unfinished = || self.slots.above(self.executed).next().is_some();
        let waits = self.requests.len() != 0 || self.boundary().is_some();
        let stands = !self.active || behind || waits || unfinished();
        self.peers.status_at(stands)
    }

    /// Says it to all; one of them is asked for bodies.
    pub(super) fn say_status(&mut self, now: Instant, out: &mut Outbox) {
        self.peers.beat(now, self.options.status_every);
        let asked = self.next_in_turn();
        let others: Vec<NodeId> = self.others().collect();
        for node in others {
            self.say_status_to(node, Some(node) == asked, out);
        }
    }

    /// Who is asked for what is long: each in turn, so that one that keeps it back costs a round. `None` of a group of one.
    fn next_in_turn(&mut self) -> Option<NodeId> {
        // Not all begin with the same.
        let turn = self.peers.next_turn() + usize::from(self.me.0);
        self.others().nth(turn % self.others().count().max(1))
    }

    /// Asks somebody for values, or this one. If that does not help, `ask_again` asks the next.
    pub(super) fn want(&mut self, votes: Vec<Vote>, from: Option<NodeId>, out: &mut Outbox) {
        if let Some(from) = from.or_else(|| self.next_in_turn()) {
            self.say(Target::One(from), Message::Want { votes }, out);
        }
    }

    fn say_status_to(&self, node: NodeId, bodies: bool, out: &mut Outbox) {
        let stable = self.checkpoints.stable.slot;
        let (view, active, executed, complains) = (self.view, self.active, self.executed, self.complains());
        let message = Message::Status { view, active, stable, executed, bodies, complains };
        self.say(Target::One(node), message, out);
    }

    /// What was asked and not answered, and what others need for a view to begin.
    pub(super) fn ask_again(&mut self, now: Instant, out: &mut Outbox) {
        if !self.active {
            let others: Vec<NodeId> = self.others().collect();
            others.into_iter().for_each(|to| self.say_change_again(now, to, Asked::Status, out));
        }
        self.try_begin(now, None, out);
        let missing = self.missing_values();
        if !missing.is_empty() {
            self.want(missing, None, out);
        }
        self.consider_transfer(now, out);
    }

    /// Values that are decided or assigned, and not here.
    fn missing_values(&self) -> Vec<Vote> {
        let missing = |(slot, place): (Slot, &Place)| {
            let digest = place.committed.or(place.assigned)?;
            (!place.knows(digest)).then_some(Vote { slot, digest })
        };
        self.slots.iter().filter_map(missing).take(ANSWER_MAX).collect()
    }

    /// What a peer told has brought this replica farther, and there is more: it asks on at once. Where values are large, or messages short,
    /// one standstill for each would be slower than the group is. Of what is known to be decided one peer in turn is asked for the values,
    /// all for what else is decided: only what brings somebody farther is followed by a question, so answers do not multiply.
    fn go_on(&mut self, now: Instant, from: NodeId, before: Slot, out: &mut Outbox) {
        if self.executed == before || self.room == Room::None {
            return;
        }
        let missing = self.missing_values();
        let told = self.peers.word(from).map_or(Slot::ZERO, |word| word.executed);
        if !missing.is_empty() {
            self.want(missing, None, out);
        } else if self.executed < told {
            self.say_status(now, out);
        }
    }

    /// The link to a peer came up anew: asks what was missed, and says again what it may have missed.
    pub(super) fn lost(&mut self, now: Instant, peer: NodeId, out: &mut Outbox) {
        if self.members.contains(&peer) && peer != self.me {
            self.say_status_to(peer, true, out);
            if let Some(word) = self.peers.word(peer) {
                self.answer(now, peer, word, Asked::Lost, out);
            }
        }
    }

    pub(super) fn on_status(
        &mut self,
        now: Instant,
        from: NodeId,
        word: Word,
        bodies: bool,
        out: &mut Outbox,
    ) {
        if [word.view.0, word.stable.0, word.executed.0].iter().any(|number| NUMBER_MAX <= *number) {
            return;
        }
        let word = self.peers.hear(from, word);
        self.follow_checkpoints(out);
        if word.complains {
            self.consider_complaints(now, out);
        }
        if self.peers.may_answer(now, from) {
            self.answer(now, from, word, if bodies { Asked::Bodies } else { Asked::Status }, out);
            if word.active {
                self.warn(now, from, word.view, out);
            }
        }
    }

    /// Tells a peer what it misses, as far as this replica knows.
    fn answer(&mut self, now: Instant, to: NodeId, word: Word, asked: Asked, out: &mut Outbox) {
        let is_behind = word.executed < self.executed || word.stable < self.checkpoints.stable.slot;
        if word.view.epoch() < self.epochs.number {
            self.say_charters(to, word.view.epoch(), out);
        } else {
            self.succeed_again(to, out);
        }
        if word.view < self.view || (word.view == self.view && !word.active) {
            self.answer_view(now, to, asked, out);
        }
        if word.executed < self.executed {
            self.answer_decided(now, to, word.executed, asked == Asked::Bodies, out);
        }
        // Also those that are not stable yet: the words that would make them so may be lost.
        if word.stable < self.executed {
            for vote in self.checkpoints.all().into_iter().filter(|vote| word.stable < vote.slot) {
                self.say_checkpoint(Target::One(to), vote, out);
            }
        }
        if word.view == self.view && word.active && self.active {
            self.answer_votes(now, to, word, asked, out);
        }
        if is_behind {
            self.say_status_to(to, false, out);
        }
    }

    fn answer_view(&mut self, now: Instant, to: NodeId, asked: Asked, out: &mut Outbox) {
        if self.new_view.is_none() {
            self.say_change_again(now, to, asked, out);
        } else if asked != Asked::Status && self.may_tell(now, to, Long::NewView, asked) {
            let new_view = self.new_view.clone().expect("it is there");
            self.say(Target::One(to), Message::NewView(new_view), out);
        }
    }

    fn say_change_again(&mut self, now: Instant, to: NodeId, asked: Asked, out: &mut Outbox) {
        if self.changing.own(self.me).is_some() && self.may_tell(now, to, Long::Change, asked) {
            let change = self.changing.own(self.me).cloned().expect("it is there");
            self.say(Target::One(to), Message::ViewChange(change), out);
        }
    }

    /// Unless something may be lost, nobody is told what is long more often than where this replica stands.
    fn may_tell(&mut self, now: Instant, to: NodeId, what: Long, asked: Asked) -> bool {
        let pause = if asked == Asked::Lost { Duration::ZERO } else { self.options.status_every };
        self.peers.may_tell(now, to, what, pause)
    }

    /// Not before is a peer told again what it may have or what is on its way to it, although it stands still.
    fn repeat_after(&self) -> Duration {
        self.changing.patience.span() / 8
    }

    fn answer_decided(&mut self, now: Instant, to: NodeId, executed: Slot, bodies: bool, out: &mut Outbox) {
        // Perhaps too far behind for single values, at this replica or at another whose voice is needed: a state as a whole. It need not
        // be here; whoever has it needs this voice.
        for vote in self.checkpoints.kept(executed) {
            self.say_checkpoint(Target::One(to), vote, out);
        }
        let first = executed.next();
        let bodies = bodies && self.peers.may_tell_values(now, to, first, self.repeat_after());
        let (mut entries, mut votes, mut bytes, mut shed) = (Vec::<Entry>::new(), Vec::new(), 0, None);
        for (slot, digest, entry) in self.past.from(first).take(self.answer_max()) {
            if bodies && digest != NULL {
                // Behind one that must be read first they are asked for when that has come.
                if let Some(entry) = entry.filter(|_| shed.is_none()) {
                    bytes += entry.body.len();
                    if self.options.message_bytes_max < bytes && !entries.is_empty() {
                        break;
                    }
                    entries.push(entry.clone());
                    continue;
                }
                shed = shed.or(Some(slot));
            }
            votes.push(Vote { slot, digest });
        }
        if let Some(last) = entries.last() {
            self.peers.told_values(now, to, last.slot);
        }
        if self.past.first().is_some() {
            self.say(Target::One(to), Message::Decided { entries, votes }, out);
        }
        if let Some(from) = shed {
            self.ask_log(now, to, from, out);
        }
    }

    /// Most slots in an answer: nobody listens to more than a window.
    fn answer_max(&self) -> usize {
        ANSWER_MAX.min(self.options.window as usize)
    }

    /// Values that have left memory are read back from the own log for a peer, as many at a time as fit into a message.
    fn ask_log(&mut self, now: Instant, to: NodeId, from: Slot, out: &mut Outbox) {
        if self.reading.values().all(|peer| *peer != to) {
            let job = self.job();
            self.reading.insert(job, to);
            // Also if nothing is found.
            self.peers.told_values(now, to, from);
            let (count, bytes) = (self.answer_max(), self.options.message_bytes_max);
            out.ship(job, Fetch::Entries { from, count, bytes });
        }
    }

    /// The log may have had several values of a slot: only what is decided is told as decided. What it no longer has a snapshot holds.
    pub(super) fn read_back(&mut self, now: Instant, to: NodeId, found: Fetched, out: &mut Outbox) {
        let Fetched::Entries(mut entries) = found else { return };
        let first = entries.first().map_or(Slot::ZERO, |entry| entry.slot);
        if let Some(last) = entries.last() {
            self.peers.told_values(now, to, last.slot);
        }
        let decided: BTreeMap<Slot, Digest> =
            self.past.from(first).take(entries.len()).map(|(slot, digest, _)| (slot, digest)).collect();
        entries.retain(|entry| decided.get(&entry.slot) == Some(&pbft::digest(entry)));
        if !entries.is_empty() {
            self.say(Target::One(to), Message::Decided { entries, votes: Vec::new() }, out);
        }
    }

    /// Own votes of the view that a peer shares, on slots that one of the two has not executed: who has may lack prepares, and the other
    /// its commit.
    fn answer_votes(&mut self, now: Instant, to: NodeId, word: Word, asked: Asked, out: &mut Outbox) {
        let (mut proposals, mut prepares, mut commits) = (Vec::<Proposal>::new(), Vec::new(), Vec::new());
        let is_primary = self.is_primary();
        let mut room = self.room_for_proposals(now, to, word, asked);
        for (slot, place) in self.slots.above(word.executed.min(self.executed).max(word.stable)) {
            let Some(digest) = place.assigned.filter(|_| place.accepted) else { continue };
            let vote = Vote { slot, digest };
            // The new view itself has assigned what is null or older than the view.
            match place.value(digest) {
                Some(proposal) if is_primary && 0 < room && (place.tagged || pbft::is_whole(proposal)) => {
                    room = room.saturating_sub(proposal.entry.body.len());
                    proposals.push(proposal.clone());
                }
                _ => (),
            }
            if !is_primary {
                prepares.push(vote);
            }
            if place.prepared {
                commits.push(vote);
            }
        }
        let view = self.view;
        // Those of this burst go to all anyway, after their records; these wait for everything written so far.
        for message in self.pre_prepares(proposals) {
            self.say(Target::One(to), message, out);
        }
        if !prepares.is_empty() {
            self.say(Target::One(to), Message::Prepare { view, votes: prepares }, out);
        }
        if !commits.is_empty() {
            self.say(Target::One(to), Message::Commit { view, votes: commits }, out);
        }
    }

    /// How many bytes of proposals a peer is told again, and one proposal more. It may have them, or they are still on their way: who says
    /// where it stands while a slow group works would else be sent all that is under way, by a primary that is slow because of that.
    fn room_for_proposals(&mut self, now: Instant, to: NodeId, word: Word, asked: Asked) -> usize {
        if asked == Asked::Lost {
            return usize::MAX;
        }
        if now.since(word.since) < self.repeat_after() {
            return 0;
        }
        self.peers.told_proposals(now, to);
        self.options.message_bytes_max
    }

    pub(super) fn on_decided(
        &mut self,
        now: Instant,
        from: NodeId,
        entries: Vec<Entry>,
        votes: Vec<Vote>,
        out: &mut Outbox,
    ) {
        let before = self.executed;
        // A liar may show as many as it likes. What finds no room is asked for once it is known to be decided.
        let mut room = (2 * self.options.message_bytes_max).saturating_sub(self.slots.shown_bytes());
        for entry in entries {
            let vote = Vote { slot: entry.slot, digest: pbft::digest(&entry) };
            self.on_decision(now, from, vote, Some((entry, &mut room)), out);
        }
        for vote in votes {
            self.on_decision(now, from, vote, None, out);
        }
        self.execute(now, out);
        self.go_on(now, from, before, out);
    }

    /// `shown` is the value, with the bytes of values that still find room although one peer alone says that they are decided.
    fn on_decision(
        &mut self,
        now: Instant,
        from: NodeId,
        vote: Vote,
        shown: Option<(Entry, &mut usize)>,
        out: &mut Outbox,
    ) {
        let ahead = vote.slot.0.saturating_sub(self.executed.0);
        let high = self.slots.base().0.saturating_add(2 * self.options.window);
        if ahead == 0 || self.options.window < ahead || high < vote.slot.0 || !self.slots.is_before(vote.slot)
        {
            return;
        }
        let weak = if canary::on(Canary::OneVoiceDecides) { 1 } else { self.quorum.weak() };
        let place = self.slots.at(vote.slot);
        place.decided.add(from, vote.digest);
        let agreed = place.decided.agreed(weak);
        if let Some((entry, room)) = shown {
            let wanted = agreed == Some(vote.digest) || place.committed == Some(vote.digest);
            if wanted || *room != 0 {
                *room -= if wanted { 0 } else { entry.body.len().min(*room) };
                place.keep(vote.digest, Proposal { entry, signature: Default::default() }, wanted);
            }
        }
        match (place.committed, agreed) {
            // Its value is on its way from whom the last status asked for bodies, or is asked for when that has come (`go_on`).
            (None, Some(digest)) => self.commit(now, Vote { slot: vote.slot, digest }, out),
            (Some(digest), _) if digest == vote.digest => self.note_decision(now, vote, out),
            _ => (),
        }
    }

    pub(super) fn on_want(&mut self, from: NodeId, votes: Vec<Vote>, out: &mut Outbox) {
        let (mut entries, mut given, mut bytes) = (Vec::<Entry>::new(), Vec::new(), 0);
        for vote in votes.into_iter().take(ANSWER_MAX).filter(|vote| !self.peers.has_given(from, *vote)) {
            let open = self.slots.get(vote.slot).and_then(|place| place.value(vote.digest));
            let Some(entry) = open.map(|proposal| &proposal.entry).or_else(|| self.past.value(vote)) else {
                continue;
            };
            bytes += entry.body.len();
            if self.options.message_bytes_max < bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
            given.push(vote);
        }
        if !entries.is_empty() {
            self.peers.gave(from, given);
            out.send(Target::One(from), Message::Have { entries });
        }
    }

    pub(super) fn on_have(&mut self, now: Instant, from: NodeId, entries: Vec<Entry>, out: &mut Outbox) {
        let (mut learned, before) = (false, self.executed);
        for entry in entries {
            let vote = Vote { slot: entry.slot, digest: pbft::digest(&entry) };
            let wanted = self.is_wanted(vote);
            let Some(place) = self.slots.get_mut(vote.slot) else {
                // A value that a new view is about to begin with.
                if wanted {
                    learned = true;
                    let proposal = Proposal { entry, signature: Default::default() };
                    self.slots.at(vote.slot).keep(vote.digest, proposal, true);
                }
                continue;
            };
            let is_awaited = place.assigned == Some(vote.digest) && !place.accepted && !place.doubted;
            if !wanted && !is_awaited && place.committed != Some(vote.digest) {
                continue;
            }
            learned |= !place.knows(vote.digest);
            place.keep(vote.digest, Proposal { entry, signature: Default::default() }, true);
            if is_awaited && self.active && self.slots.contains(vote.slot) {
                self.accept(now, vote, None, out);
            }
            self.note_decision(now, vote, out);
        }
        // Only news is followed by a question, and only to whom it came from: else each answer would bring a question to all, and each
        // of those an answer.
        if learned {
            self.try_begin(now, Some(from), out);
        }
        self.execute(now, out);
        self.go_on(now, from, before, out);
    }
}
