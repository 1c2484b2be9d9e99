//! What is known of the other replicas, each by its own word, and what each was told already.
//!
//! A liar may say as often as it likes that it lacks something. What is long, or costs a read of the log, is therefore not told it again at
//! once: an answer must not cost a correct replica more than the question costs a liar. Whoever does lack it asks others in turn meanwhile.

use crate::base::{Instant, NodeId, NodeSet, Slot, View};
use crate::wire::pbft::Vote;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Not more often than this is one peer told what it misses.
const ANSWER_PAUSE: Duration = Duration::from_millis(5);

/// Where a replica says it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub view: View,
    pub active: bool,
    pub stable: Slot,
    pub executed: Slot,
    /// It finds the view's primary slow or unfair.
    pub complains: bool,
    /// When it was said.
    pub heard: Instant,
    /// Since when it has not executed more, or when it was told again what it may lack for that.
    pub since: Instant,
}

/// What is long, and one thing at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Long {
    /// The own view-change: each check of it costs a signature, and while views change everybody asks everybody.
    Change,
    /// What the view began with.
    NewView,
    /// That the primary is convicted.
    Proof,
}

/// What is known of the others.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    words: BTreeMap<NodeId, Word>,
    answered: BTreeMap<NodeId, Instant>,
    /// When each was told something long last.
    told: BTreeMap<(NodeId, Long), Instant>,
    /// Up to which slot each was told decided values, and when last.
    values: BTreeMap<NodeId, (Slot, Instant)>,
    /// Values that each has asked for by their digests and got since the last own status: no more than there are here.
    given: BTreeMap<NodeId, BTreeSet<Vote>>,
    /// The regular status is due.
    beat_at: Instant,
    /// When something was executed last, or the status was said about its not being so.
    pub moved_at: Instant,
    /// When something was executed last.
    pub executed_at: Instant,
    /// How long a standstill is borne now; doubles up to the regular pause.
    pause: Duration,
    /// Up to where each had executed when a view was left because of it: it may have lied.
    disbelieved: BTreeMap<NodeId, Slot>,
    /// When that was.
    disbelieved_at: Instant,
    /// Whom bodies are asked of: each in turn, so that one that keeps them back costs a round.
    rotor: usize,
}

impl Peers {
    /// Nobody has been heard.
    pub fn new(now: Instant, pause: Duration) -> Peers {
        let (words, answered, disbelieved) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (told, values, given) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (beat_at, moved_at, executed_at, disbelieved_at) = (now, now, now, now);
        Peers {
            words,
            answered,
            told,
            values,
            given,
            beat_at,
            moved_at,
            executed_at,
            pause,
            disbelieved,
            disbelieved_at,
            rotor: 0,
        }
    }
    /// Somebody says where it stands. Gives back the word, with the time since which it stands still.
    pub fn hear(&mut self, from: NodeId, mut word: Word) -> Word {
        if let Some(before) = self.word(from).filter(|before| before.executed == word.executed) {
            word.since = before.since;
        }
        self.words.insert(from, word);
        word
    }
    /// Where one stands, as it says.
    pub fn word(&self, node: NodeId) -> Option<Word> {
        self.words.get(&node).copied()
    }
    /// Something was executed here: a standstill is borne for so long from now on.
    pub fn progressed(&mut self, now: Instant, pause: Duration) {
        (self.moved_at, self.executed_at, self.pause) = (now, now, pause);
    }
    /// When the own status is due, earlier while something `stands` still.
    pub fn status_at(&self, stands: bool) -> Instant {
        let stall = self.moved_at.after(self.pause);
        if stands { self.beat_at.min(stall) } else { self.beat_at }
    }
    /// The own status is said.
    pub fn beat(&mut self, now: Instant, every: Duration) {
        (self.beat_at, self.moved_at) = (now.after(every), now);
        self.pause = (2 * self.pause).min(every);
        self.given.clear();
    }
    /// Counts whose turn it is to be asked for what is long.
    pub fn next_turn(&mut self) -> usize {
        self.rotor += 1;
        self.rotor
    }
    /// The highest slot that at least one correct replica calls stable.
    pub fn vouched_stable(&self, weak: usize) -> Slot {
        self.vouched(weak, |word| word.stable)
    }
    /// The highest slot that at least one correct replica has executed.
    pub fn vouched_executed(&self, weak: usize) -> Slot {
        self.vouched(weak, |word| word.executed)
    }
    fn vouched(&self, weak: usize, of: impl Fn(&Word) -> Slot) -> Slot {
        let mut said: Vec<Slot> = self.words.values().map(of).collect();
        said.sort_unstable_by(|a, b| b.cmp(a));
        said.get(weak - 1).copied().unwrap_or(Slot::ZERO)
    }
    /// Whether somebody says that it has executed more than `executed`, who was not disbelieved within this time.
    pub fn is_ahead(&self, now: Instant, pause: Duration, executed: Slot) -> bool {
        let is_over = pause <= now.since(self.disbelieved_at);
        let known = |node| self.disbelieved.get(node).copied().filter(|_| !is_over).unwrap_or(Slot::ZERO);
        let before = |node| known(node).max(executed);
        self.words.iter().any(|(node, word)| before(node) < word.executed)
    }
    /// A view is left because of what they say: for a while the same claim shall not end the next ones as well, nor one that has shrunk
    /// meanwhile. Not for ever: if it was true, and a liar led the next view astray, this replica would stay behind.
    pub fn disbelieve(&mut self, now: Instant) {
        self.disbelieved_at = now;
        for (node, word) in &self.words {
            let before = self.disbelieved.entry(*node).or_default();
            *before = word.executed.max(*before);
        }
    }
    /// The highest view that at least one correct replica says has begun.
    pub fn vouched_view(&self, weak: usize) -> Option<View> {
        let mut said: Vec<View> = self.words.values().filter(|w| w.active).map(|w| w.view).collect();
        said.sort_unstable_by(|a, b| b.cmp(a));
        said.get(weak - 1).copied()
    }
    /// Another epoch: only words of these count.
    pub fn retain(&mut self, members: NodeSet) {
        self.words.retain(|node, _| members.contains(*node));
        self.answered.retain(|node, _| members.contains(*node));
        self.disbelieved.retain(|node, _| members.contains(*node));
        self.told.retain(|(node, _), _| members.contains(*node));
        self.values.retain(|node, _| members.contains(*node));
        self.given.retain(|node, _| members.contains(*node));
    }
    /// Another view: what there is to tell of its beginning is something else.
    pub fn leave_view(&mut self) {
        self.told.retain(|(_, what), _| *what == Long::Proof);
    }
    /// Whether this one is answered now; then not again for a moment.
    pub fn may_answer(&mut self, now: Instant, to: NodeId) -> bool {
        let may = self.answered.get(&to).is_none_or(|at| ANSWER_PAUSE <= now.since(*at));
        if may {
            self.answered.insert(to, now);
        }
        may
    }
    /// This one is told something long.
    pub fn tell(&mut self, now: Instant, to: NodeId, what: Long) {
        self.told.insert((to, what), now);
    }
    /// Whether it is told that now: not if it was within the pause.
    pub fn may_tell(&mut self, now: Instant, to: NodeId, what: Long, pause: Duration) -> bool {
        let may = self.told.get(&(to, what)).is_none_or(|at| pause <= now.since(*at));
        if may {
            self.tell(now, to, what);
        }
        may
    }
    /// This one was told proposals.
    pub fn told_proposals(&mut self, now: Instant, to: NodeId) {
        if let Some(word) = self.words.get_mut(&to) {
            word.since = now;
        }
    }
    /// Whether this one is told decided values from this slot on: beyond what it was told before at once, others only after a pause.
    pub fn may_tell_values(&self, now: Instant, to: NodeId, from: Slot, pause: Duration) -> bool {
        self.values.get(&to).is_none_or(|(upto, at)| *upto < from || pause <= now.since(*at))
    }
    /// It was told them up to this slot.
    pub fn told_values(&mut self, now: Instant, to: NodeId, upto: Slot) {
        let before = self.values.get(&to).map_or(Slot::ZERO, |(upto, _)| *upto);
        self.values.insert(to, (upto.max(before), now));
    }
    /// Whether it asks again for what it has just been given.
    pub fn has_given(&self, to: NodeId, value: Vote) -> bool {
        self.given.get(&to).is_some_and(|given| given.contains(&value))
    }
    /// It was given these values.
    pub fn gave(&mut self, to: NodeId, values: impl IntoIterator<Item = Vote>) {
        self.given.entry(to).or_default().extend(values);
    }
    /// Where each stands, as it says.
    pub fn words(&self) -> impl Iterator<Item = (NodeId, Word)> {
        self.words.iter().map(|(node, word)| (*node, *word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);
    const PAUSE: Duration = Duration::from_millis(50);

    fn peers() -> Peers {
        Peers::new(Instant::ZERO, PAUSE)
    }

    #[test]
    fn values_beyond_those_that_were_told_are_told_at_once_and_others_after_a_pause() {
        let (mut peers, now) = (peers(), Instant::ZERO);
        let may = |peers: &Peers, at: Instant, slot| peers.may_tell_values(at, PEER, Slot(slot), PAUSE);
        assert!(may(&peers, now, 1));
        peers.told_values(now, PEER, Slot(8));
        assert!(!may(&peers, now, 1) && !may(&peers, now, 8) && may(&peers, now, 9));
        let later = now.after(PAUSE);
        assert!(may(&peers, later, 1));
        peers.told_values(later, PEER, Slot(4));
        assert!(!may(&peers, later, 5), "it was told up to the eighth");
        assert!(peers.may_tell_values(later, NodeId(3), Slot(1), PAUSE));
    }

    #[test]
    fn what_is_long_is_told_again_after_a_pause_or_in_another_view() {
        let (mut peers, now) = (peers(), Instant::ZERO);
        for what in [Long::Change, Long::NewView, Long::Proof] {
            assert!(peers.may_tell(now, PEER, what, PAUSE) && !peers.may_tell(now, PEER, what, PAUSE));
        }
        assert!(peers.may_tell(now, NodeId(3), Long::Change, PAUSE));
        assert!(peers.may_tell(now.after(PAUSE), PEER, Long::Change, PAUSE));
        peers.leave_view();
        let told =
            [Long::Change, Long::NewView, Long::Proof].map(|what| peers.may_tell(now, PEER, what, PAUSE));
        assert_eq!(told, [true, true, false], "who is convicted stays it");
        peers.retain(NodeSet::default());
        assert!(peers.told.is_empty());
    }
}
