//! Liars: what corrupted replicas of a PBFT group do, one file an attack. An attack twists what the correct replica of a corrupted node
//! wants to say, keeps things from it, and says what it likes in the name and with the keys of all nodes that are corrupted. Several
//! go together. The simulator (`sim::liars`) and a node of a test (`node::liar`) put the same ones between a replica and everybody else.
//!
//! Their power is that of the adversary of Castro and Liskov (1999, 2): it sees all messages, coordinates the faulty nodes and delays
//! the correct ones, and cannot forge a correct node's tag or signature.

mod changes;
mod checkpoints;
mod decisions;
mod equivocate;
mod flood;
mod mutate;
mod omit_prepared;
mod parting;
mod poison;
mod replay;
mod requests;
mod silent;
mod slow;
mod two_faced;
mod unfair;

pub use mutate::mutate;

use super::{Options, Quorum};
use crate::base::{GROUP_ONE, Instant, NodeId, NodeSet, Prng, View};
use crate::crypto::{Keyring, Signature};
use crate::wire::Message as Any;
use crate::wire::pbft::{Change, Message, Proposal, Vote, digest, signed_checkpoint, signed_proposals};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Makes the list of attacks.
macro_rules! attacks {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal => $make:expr;)+) => {
        /// An attack.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Attack { $($(#[doc = $text])+ $variant),+ }

        impl Attack {
            /// All, in the order of the list.
            pub const ALL: &'static [Attack] = &[$(Attack::$variant),+];
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Attack::$variant => $name),+ }
            }
            fn make(self, scene: &mut Scene) -> Box<dyn Lie> {
                match self { $(Attack::$variant => Box::new($make(scene))),+ }
            }
        }
    };
}

attacks! {
    /// Says nothing at all.
    Silent = "silent" => silent::Silent::to_all;
    /// Says nothing to as many others as may be faulty, or nothing of one kind.
    Omitting = "omitting" => silent::Silent::to_some;
    /// A primary assigns different values to a slot, and its accomplices vote for each with whoever was told it.
    Equivocating = "equivocating" => equivocate::Equivocating::new;
    /// Votes differ from receiver to receiver, come twice, or as if from a backup.
    TwoFaced = "two-faced" => two_faced::TwoFaced::new;
    /// A primary assigns as late as it may.
    Slow = "slow" => slow::Slow::new;
    /// One node's requests are never heard of.
    Unfair = "unfair" => unfair::Unfair::new;
    /// A new-view leaves out, or forges, the view-changes that would bind it.
    OmitsPrepared = "omits-prepared" => omit_prepared::OmitsPrepared::new;
    /// View-changes claim what never prepared, forget what did, or ask for views without a reason.
    FalseChanges = "false-changes" => changes::FalseChanges::new;
    /// Checkpoints and standings are lies.
    FalseCheckpoints = "false-checkpoints" => checkpoints::FalseCheckpoints::new;
    /// Transferred states are not the certified ones.
    PoisonedState = "poisoned-state" => poison::PoisonedState::new;
    /// Slots are called decided that are not, with values of its own.
    FalseDecisions = "false-decisions" => decisions::FalseDecisions::new;
    /// Requests and messages of the past come again.
    Replaying = "replaying" => replay::Replaying::new;
    /// Requests that some can check and some cannot, or that their client never made.
    ForgedRequests = "forged-requests" => requests::ForgedRequests::new;
    /// Votes for far slots and views, without end.
    Flooding = "flooding" => flood::Flooding::new;
    /// Fields of messages are off by a little, or by much.
    Mutating = "mutating" => mutate::Mutating::new;
    /// The network keeps correct nodes apart at the worst moments.
    Parting = "parting" => parting::Parting::new;
}

impl Attack {
    /// Whether a replica does it; else it is the network that does.
    pub fn is_of_a_replica(self) -> bool {
        self != Attack::Parting
    }
    /// Whether it is a lie about views to come: as long as nobody leaves a view it says nothing.
    pub fn is_of_a_new_view(self) -> bool {
        matches!(self, Attack::OmitsPrepared | Attack::FalseChanges)
    }
    /// Whether it is a lie about states: as long as nobody is far behind it says nothing.
    pub fn is_of_a_state(self) -> bool {
        self == Attack::PoisonedState
    }
}

/// What the network makes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// What it would anyway.
    Pass,
    /// It is lost.
    Lose,
    /// It is late by so much.
    Hold(Duration),
}

/// Something that a corrupted node says.
#[derive(Clone, PartialEq, Debug)]
pub struct Word {
    /// Who says it: a corrupted node, since links are authentic.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// What.
    pub message: Any,
    /// It is held back for so long first.
    pub after: Duration,
}

/// What attacks know and may use.
pub struct Scene {
    /// The adversary's dice.
    pub prng: Prng,
    /// When this is.
    pub now: Instant,
    /// How many nodes there are.
    pub nodes: usize,
    /// Whose keys it has.
    pub corrupted: NodeSet,
    /// What the group is tuned by.
    pub options: Options,
    /// Sizes of quorums.
    pub quorum: Quorum,
    /// The newest view that a correct node has spoken of.
    pub view: View,
    keys: BTreeMap<NodeId, Keyring>,
}

impl Scene {
    /// All nodes.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.nodes as u8).map(NodeId)
    }
    /// Those that are not corrupted.
    pub fn correct(&self) -> impl Iterator<Item = NodeId> + use<> {
        let corrupted = self.corrupted;
        self.all().filter(move |node| !corrupted.contains(*node))
    }
    /// Who leads a view.
    pub fn primary_of(&self, view: View) -> NodeId {
        NodeId((view.number() % self.nodes as u64) as u8 + 1)
    }
    /// One of the corrupted.
    pub fn any_liar(&mut self) -> NodeId {
        let at = self.prng.below(self.corrupted.len() as u64) as usize;
        self.corrupted.iter().nth(at).expect("somebody is corrupted")
    }
    /// One of the correct.
    pub fn any_correct(&mut self) -> NodeId {
        let count = (self.nodes - self.corrupted.len()) as u64;
        let at = self.prng.below(count) as usize;
        self.correct().nth(at).expect("somebody is correct")
    }
    /// The message with whatever signature of `from` it needs.
    pub fn signed(&self, from: NodeId, message: Message) -> Message {
        sign(&self.keys[&from], message)
    }
    /// Signs as a corrupted node.
    pub fn sign(&self, from: NodeId, message: &[u8]) -> Signature {
        self.keys[&from].sign(message)
    }
}

/// What an attack does. Whatever it does not say stays as it is.
trait Lie: Send {
    /// A corrupted node's replica, or an attack before this one, wants to say `message`. What is said instead goes into `out`.
    fn twist(&mut self, _scene: &mut Scene, word: Word, out: &mut Vec<Word>) {
        out.push(word);
    }
    /// A correct node says `message`, to whomever. What is said thereupon goes into `out`.
    fn overhear(&mut self, _scene: &mut Scene, _from: NodeId, _message: &Message, _out: &mut Vec<Word>) {}
    /// Whether a corrupted node's replica is to hear of this.
    fn hears(&mut self, _scene: &mut Scene, _from: NodeId, _message: &Any) -> bool {
        true
    }
    /// What becomes of a correct node's message, while the network obeys.
    fn fate(&mut self, _scene: &mut Scene, _from: NodeId, _to: NodeId, _message: &Any) -> Fate {
        Fate::Pass
    }
}

/// A word of PBFT.
fn word(from: NodeId, to: NodeId, message: Message) -> Word {
    Word { from, to, message: message.into(), after: Duration::ZERO }
}

/// Most words that wait to be said.
const WORDS_MAX: usize = 256;
/// Requests that are still made up once the network obeys nobody.
const CALM_REQUESTS_MAX: usize = 200;

/// Corrupted nodes and their attacks.
pub struct Liars {
    scene: Scene,
    attacks: Vec<Box<dyn Lie>>,
    /// Words that the attacks have thought of by themselves.
    waiting: VecDeque<Word>,
    /// Requests that they may still make up.
    requests_left: usize,
    is_calm: bool,
}

impl Liars {
    /// What the nodes do whose `keys` they have, of a group of the nodes 1 to `nodes`.
    ///
    /// # Panics
    /// When more are corrupted than the group endures, or none.
    pub fn new(
        prng: Prng,
        nodes: usize,
        options: Options,
        keys: BTreeMap<NodeId, Keyring>,
        attacks: &[Attack],
    ) -> Liars {
        let quorum = match options.faulty_max {
            Some(f) => Quorum::new(nodes, f).expect("so many endure f liars"),
            None => Quorum::most(nodes),
        };
        let corrupted: NodeSet = keys.keys().copied().collect();
        assert!(!corrupted.is_empty() && corrupted.len() <= quorum.f());
        let (now, view) = (Instant::ZERO, View::ZERO);
        let mut scene = Scene { prng, now, nodes, corrupted, options, quorum, view, keys };
        let attacks = attacks.iter().map(|attack| attack.make(&mut scene)).collect();
        let (waiting, requests_left) = (VecDeque::new(), usize::MAX);
        Liars { scene, attacks, waiting, requests_left, is_calm: false }
    }

    fn wait(&mut self, words: Vec<Word>) {
        for word in words {
            let is_request = matches!(word.message, Any::Pbft(Message::Request { .. }));
            if self.waiting.len() < WORDS_MAX && (!is_request || 0 < self.requests_left) {
                self.requests_left -= usize::from(is_request);
                self.waiting.push_back(word);
            }
        }
    }
}

impl Liars {
    /// The nodes that lie.
    pub fn corrupted(&self) -> NodeSet {
        self.scene.corrupted
    }

    /// A corrupted node's replica wants to say `word`. What is said instead goes into `out`.
    pub fn instead(&mut self, now: Instant, word: Word, out: &mut Vec<Word>) {
        self.scene.now = now;
        let mut words = vec![word];
        for attack in &mut self.attacks {
            let mut next = Vec::new();
            words.into_iter().for_each(|word| attack.twist(&mut self.scene, word, &mut next));
            words = next;
        }
        out.append(&mut words);
    }

    /// Whether a corrupted node's replica is to hear of this.
    pub fn hears(&mut self, now: Instant, from: NodeId, message: &Any) -> bool {
        self.scene.now = now;
        self.attacks.iter_mut().all(|attack| attack.hears(&mut self.scene, from, message))
    }

    /// What they say of their own accord: asked after each message that they heard or said.
    pub fn unasked(&mut self, out: &mut Vec<Word>) {
        // A few at a time: each is a message of which correct nodes may say more.
        out.extend(self.waiting.drain(..self.waiting.len().min(4)));
    }

    /// A correct node's message is overheard. What becomes of it, where the network obeys.
    pub fn fate(&mut self, now: Instant, from: NodeId, to: NodeId, message: &Any) -> Fate {
        self.scene.now = now;
        if let Any::Pbft(said) = message {
            if let Some(view) = view_of(said) {
                self.scene.view = self.scene.view.max(view);
            }
            let mut words = Vec::new();
            let overhear =
                |attack: &mut Box<dyn Lie>| attack.overhear(&mut self.scene, from, said, &mut words);
            self.attacks.iter_mut().for_each(overhear);
            self.wait(words);
        }
        if self.is_calm {
            return Fate::Pass;
        }
        let fates = self.attacks.iter_mut().map(|attack| attack.fate(&mut self.scene, from, to, message));
        fates.fold(Fate::Pass, |first, next| if first == Fate::Pass { next } else { first })
    }

    /// From now on the network obeys nobody. Lies go on, but for floods of requests, which come to an end: each well-signed one is
    /// work that a correct group does, so while they come it is never done.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.requests_left = self.requests_left.min(CALM_REQUESTS_MAX);
    }
}

/// The message with whatever signature it needs, in the order that `wire` asks for.
pub fn sign(keys: &Keyring, message: Message) -> Message {
    match message {
        Message::PrePrepare { view, proposals, signature } => {
            let vote = |p: &Proposal| Vote { slot: p.entry.slot, digest: digest(&p.entry) };
            let votes: Vec<Vote> = proposals.iter().map(vote).collect();
            let is_signed = signature != Signature::NONE;
            let own = || keys.sign(&signed_proposals(GROUP_ONE, view, &votes));
            let signature = if is_signed { own() } else { Signature::NONE };
            Message::PrePrepare { view, proposals, signature }
        }
        Message::Checkpoint { vote, .. } => {
            Message::Checkpoint { vote, signature: keys.sign(&signed_checkpoint(GROUP_ONE, &vote)) }
        }
        Message::ViewChange(mut change) => {
            order(&mut change);
            change.signature = keys.sign(&change.signed(GROUP_ONE));
            Message::ViewChange(change)
        }
        Message::NewView(mut view) => {
            view.changes.iter_mut().for_each(order);
            view.changes.sort_by_key(|change| change.node);
            view.changes.dedup_by_key(|change| change.node);
            view.signature = keys.sign(&view.signed(GROUP_ONE));
            Message::NewView(view)
        }
        Message::Succession(mut word) => {
            word.signature = keys.sign(&word.signed(GROUP_ONE));
            Message::Succession(word)
        }
        other => other,
    }
}

/// Lists out of order are no message at all: `wire` lets none in.
fn order(change: &mut Change) {
    change.checkpoints.sort_unstable();
    change.checkpoints.dedup_by_key(|vote| vote.slot);
    change.prepared.sort_unstable();
    change.prepared.dedup_by_key(|prepared| prepared.vote.slot);
    change.accepted.sort_unstable();
    change.accepted.dedup_by_key(|accepted| accepted.vote);
}

/// The view that a message speaks of.
fn view_of(message: &Message) -> Option<View> {
    match message {
        Message::PrePrepare { view, .. }
        | Message::Prepare { view, .. }
        | Message::Commit { view, .. }
        | Message::Status { view, .. } => Some(*view),
        Message::ViewChange(change) => Some(change.view),
        Message::NewView(view) => Some(view.view),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Slot;

    #[test]
    fn floods_of_requests_end_when_the_network_is_calm() {
        let (members, liar) = ((1..=4).map(NodeId).collect(), NodeId(4));
        let keys = [(liar, Keyring::modelled(liar, members))].into();
        let attacks = [Attack::ForgedRequests, Attack::Flooding];
        let mut liars = Liars::new(Prng::from_seed(1), 4, Options::default(), keys, &attacks);
        let heard = Message::Prepare {
            view: View(1),
            votes: vec![Vote { slot: Slot(1), digest: digest(&Default::default()) }],
        };
        // What they say of so many messages: requests, and the rest.
        let hear = |liars: &mut Liars, count: usize| {
            let mut said = Vec::new();
            for _ in 0..count {
                liars.fate(Instant::ZERO, NodeId(1), liar, &heard.clone().into());
                liars.unasked(&mut said);
            }
            let is_request = |word: &&Word| matches!(word.message, Any::Pbft(Message::Request { .. }));
            let requests = said.iter().filter(is_request).count();
            (requests, said.len() - requests)
        };
        assert!(CALM_REQUESTS_MAX < hear(&mut liars, 50_000).0);
        liars.calm();
        let (requests, others) = hear(&mut liars, 50_000);
        assert!(
            requests <= CALM_REQUESTS_MAX + WORDS_MAX && CALM_REQUESTS_MAX < others,
            "{requests} {others}"
        );
        assert_eq!(hear(&mut liars, 1_000).0, 0);
    }
}
