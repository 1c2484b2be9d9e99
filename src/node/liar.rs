//! A node that lies, for tests: the attacks of [`crate::protocol::pbft::liars`] stand between its replica and everybody else, as they do
//! in the simulated world. Everything else of the node is what it always is: links, tags, log, store.
//!
//! `quorate start` makes one only where the cargo feature `byzantine` is built in.

use super::agent::NodeAgent;
use super::boot;
use super::sizes::Sizes;
use crate::base::ring::{Consumer, Producer, ring};
use crate::base::{GROUP_ONE, Instant, NodeId, NodeSet, Number, Prng};
use crate::config::Resolved;
use crate::crypto::SecretKey;
use crate::io::{Agent, Completion, Driver};
use crate::meter::{Metered, Report};
use crate::protocol::pbft::liars::{Attack, Liars, Word};
use crate::wire::Opened;
use crate::wire::hop::Outgoing;
use signal_hook::consts::{SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a node is to do to its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lies {
    /// One after another.
    pub attacks: Vec<Attack>,
    /// Of the attacks' dice: in which of its ways each goes about it.
    pub seed: u64,
    /// It is honest until it is told to begin ([`watch`]); else it begins at once.
    pub waits: bool,
}

impl Lies {
    /// Each attack as one node plays it.
    pub fn liars(&self, config: &Resolved, secret: &SecretKey) -> Vec<Liars> {
        let liars = |attack: &Attack| alone(config, &Sizes::NODE, secret, self.seed, &[*attack]);
        self.attacks.iter().map(liars).collect()
    }
}

/// What this node says when it plays these attacks together, with its own keys and nobody else's.
pub fn alone(config: &Resolved, sizes: &Sizes, secret: &SecretKey, seed: u64, attacks: &[Attack]) -> Liars {
    let keys = BTreeMap::from([(config.node.id, boot::keyring(config, secret.signing()))]);
    let (dice, nodes) = (Prng::from_seed(seed), config.cluster.members.len());
    Liars::new(dice, nodes, boot::pbft_options(config, sizes), keys, attacks)
}

/// Lets a process say when this node lies: from each SIGUSR1 on it plays the next attack, from SIGUSR2 on none. The number is 0 while it
/// is honest, else the place of the attack, counted from 1.
pub fn watch(lies: &Lies) -> std::io::Result<Number> {
    let (turn, last) = (Number::default(), lies.attacks.len() as u64);
    let mut begun = u64::from(!lies.waits);
    turn.set(begun);
    let mut signals = Signals::new([SIGUSR1, SIGUSR2])?;
    let told = turn.clone();
    let obey = move || {
        for signal in signals.forever() {
            let begins = signal == SIGUSR1;
            begun = if begins { (begun + 1).min(last) } else { begun };
            told.set(if begins { begun } else { 0 });
        }
    };
    std::thread::Builder::new().name("lies".into()).stack_size(128 * 1024).spawn(obey)?;
    Ok(turn)
}

/// Most messages of peers in a turn.
const BURST_MAX: usize = 256;
/// Most words that are held back; what comes beyond that is said at once.
const HELD_MAX: usize = 1 << 14;

/// What stands between a replica and the two rings that connect it with its peers.
pub struct Mouth {
    liars: Vec<Liars>,
    /// Which of them speaks; see [`watch`].
    turn: Number,
    me: NodeId,
    opened: Consumer<Opened>,
    heard: Producer<Opened>,
    said: Consumer<Outgoing>,
    outgoing: Producer<Outgoing>,
    /// Said later, in order of their time.
    held: VecDeque<(Instant, Outgoing)>,
    words: Vec<Word>,
    lies: u64,
}

impl Mouth {
    /// Takes the replica's ends of both rings, and leaves it the ends of its own.
    ///
    /// # Panics
    /// When `liars` are not one node.
    pub fn between(
        liars: Vec<Liars>,
        turn: Number,
        opened: &mut Consumer<Opened>,
        outgoing: &mut Producer<Outgoing>,
    ) -> Mouth {
        let corrupted: NodeSet = liars.iter().flat_map(|liars| liars.corrupted().iter()).collect();
        assert_eq!(corrupted.len(), 1, "a node speaks for itself");
        let me = corrupted.iter().next().expect("there is one");
        let (heard, to_replica) = ring(outgoing.capacity());
        let (from_replica, said) = ring(outgoing.capacity());
        let opened = std::mem::replace(opened, to_replica);
        let outgoing = std::mem::replace(outgoing, from_replica);
        let (held, words) = (VecDeque::new(), Vec::new());
        Mouth { liars, turn, me, opened, heard, said, outgoing, held, words, lies: 0 }
    }

    /// Who speaks now, if not the replica itself.
    fn liars(&mut self) -> Option<&mut Liars> {
        let turn = self.turn.get() as usize;
        turn.checked_sub(1).and_then(|place| self.liars.get_mut(place))
    }

    /// What peers said goes to the replica, if it is to hear of it.
    fn listen(&mut self, now: Instant) -> usize {
        let mut count = 0;
        while count < BURST_MAX && self.heard.room() != 0 {
            let Some(opened) = self.opened.pop() else { break };
            count += 1;
            let me = self.me;
            let hears = self.liars().is_none_or(|liars| {
                let hears = liars.hears(now, opened.from, &opened.message);
                if hears {
                    liars.fate(now, opened.from, me, &opened.message);
                }
                hears
            });
            match hears {
                true => assert!(self.heard.push(opened).is_ok(), "there is room"),
                false => self.lies += 1,
            }
            self.blurt(now);
        }
        count
    }

    /// What the replica wants to say is said otherwise.
    fn speak(&mut self, now: Instant) -> usize {
        let mut count = 0;
        while let Some(outgoing) = self.said.pop() {
            count += 1;
            let (from, mut words) = (self.me, std::mem::take(&mut self.words));
            let Some(liars) = self.liars() else {
                self.send(outgoing);
                continue;
            };
            let Outgoing { to, message, .. } = outgoing;
            let wanted = Word { from, to, message, after: Duration::ZERO };
            liars.instead(now, wanted.clone(), &mut words);
            self.lies += u64::from(words != [wanted]);
            words.drain(..).for_each(|word| self.say(now, word));
            self.words = words;
            self.blurt(now);
        }
        while self.held.front().is_some_and(|(at, _)| *at <= now) {
            let (_, outgoing) = self.held.pop_front().expect("it was there");
            self.send(outgoing);
            count += 1;
        }
        count
    }

    /// What the attacks say of their own accord.
    fn blurt(&mut self, now: Instant) {
        let mut words = std::mem::take(&mut self.words);
        if let Some(liars) = self.liars() {
            liars.unasked(&mut words);
        }
        self.lies += words.len() as u64;
        words.drain(..).for_each(|word| self.say(now, word));
        self.words = words;
    }

    fn say(&mut self, now: Instant, Word { from, to, message, after }: Word) {
        assert_eq!(from, self.me, "links are authentic: nobody speaks as another");
        if to == self.me {
            return;
        }
        let outgoing = Outgoing { to, group: GROUP_ONE, message };
        if after.is_zero() || HELD_MAX <= self.held.len() {
            return self.send(outgoing);
        }
        let at = now.after(after);
        let place = self.held.partition_point(|(other, _)| *other <= at);
        self.held.insert(place, (at, outgoing));
    }

    fn send(&mut self, outgoing: Outgoing) {
        // Delivery is weak by contract, a liar's too.
        let _ = self.outgoing.push(outgoing);
    }
}

/// A replica, and what stands between it and its peers.
struct Liar<R> {
    replica: R,
    mouth: Mouth,
}

/// The replica, behind the mouth if there is one.
pub fn behind<R: NodeAgent + 'static>(mouth: Option<Mouth>, replica: R) -> Box<dyn NodeAgent> {
    match mouth {
        None => Box::new(replica),
        Some(mouth) => Box::new(Liar { replica, mouth }),
    }
}

impl<R: NodeAgent> Agent for Liar<R> {
    fn name(&self) -> &'static str {
        self.replica.name()
    }
    fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> std::io::Result<()> {
        self.replica.start(slot, driver)
    }
    fn complete(&mut self, completion: Completion, driver: &mut dyn Driver) {
        self.replica.complete(completion, driver);
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        let now = driver.now();
        self.mouth.listen(now) + self.replica.work(driver) + self.mouth.speak(now)
    }
    fn deadline(&self) -> Option<Instant> {
        let held = self.mouth.held.front().map(|(at, _)| *at);
        held.into_iter().chain(self.replica.deadline()).min()
    }
    fn failure(&self) -> Option<String> {
        self.replica.failure()
    }
}

impl<R: NodeAgent> Metered for Liar<R> {
    fn report(&self, to: &mut dyn Report) {
        self.replica.report(to);
        let help = "What this node said, kept back or did not want to hear, as a correct one would not: it is part of a test.";
        to.counter("quorate_lies_total", help, &[], self.mouth.lies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, Slot, View};
    use crate::crypto::Keyring;
    use crate::protocol::pbft::Options;
    use crate::wire::Message;
    use crate::wire::pbft::{Message as Said, Vote};

    const ME: NodeId = NodeId(2);

    struct Rig {
        mouth: Mouth,
        turn: Number,
        open: Producer<Opened>,
        to_replica: Consumer<Opened>,
        from_replica: Producer<Outgoing>,
        seal: Consumer<Outgoing>,
    }

    fn rig(attacks: &[Attack]) -> Rig {
        let members: NodeSet = (1..=4).map(NodeId).collect();
        let keys = [(ME, Keyring::modelled(ME, members))].into();
        let liars = Liars::new(Prng::from_seed(1), 4, Options::default(), keys, attacks);
        let ((open, mut to_replica), (mut from_replica, seal)) = (ring(8), ring(8));
        let turn = Number::default();
        turn.set(1);
        let mouth = Mouth::between(vec![liars], turn.clone(), &mut to_replica, &mut from_replica);
        Rig { mouth, turn, open, to_replica, from_replica, seal }
    }
    fn pre_prepare() -> Message {
        let (view, proposals) = (View(1), Vec::new());
        Said::PrePrepare { view, proposals, signature: Default::default() }.into()
    }
    fn prepare() -> Message {
        let vote = Vote { slot: Slot(1), digest: Digest([1; 32]) };
        Said::Prepare { view: View(1), votes: vec![vote] }.into()
    }

    #[test]
    fn who_is_silent_says_nothing_and_hears_all() {
        let mut rig = rig(&[Attack::Silent]);
        rig.open.push(Opened::assumed(NodeId(1), GROUP_ONE, prepare())).expect("room");
        let wanted = Outgoing { to: NodeId(1), group: GROUP_ONE, message: prepare() };
        rig.from_replica.push(wanted).expect("room");
        assert_eq!(rig.mouth.listen(Instant::ZERO), 1);
        assert_eq!(rig.mouth.speak(Instant::ZERO), 1);
        assert_eq!(rig.to_replica.pop().map(|opened| opened.from), Some(NodeId(1)));
        assert_eq!((rig.seal.pop(), rig.mouth.lies), (None, 1));
        // An honest turn: it goes as it is.
        rig.turn.set(0);
        rig.from_replica
            .push(Outgoing { to: NodeId(1), group: GROUP_ONE, message: prepare() })
            .expect("room");
        rig.mouth.speak(Instant::ZERO);
        assert_eq!((rig.seal.pop().map(|o| o.message), rig.mouth.lies), (Some(prepare()), 1));
    }

    #[test]
    fn who_is_slow_says_it_when_its_time_has_come() {
        let mut rig = rig(&[Attack::Slow]);
        for message in [pre_prepare(), prepare()] {
            let wanted = Outgoing { to: NodeId(1), group: GROUP_ONE, message };
            rig.from_replica.push(wanted).expect("room");
        }
        assert_eq!(rig.mouth.speak(Instant::ZERO), 2);
        assert_eq!(rig.seal.pop().map(|o| o.message), Some(prepare()), "only assignments are late");
        let (at, _) = *rig.mouth.held.front().expect("it is held back");
        assert!(Instant::ZERO < at);
        rig.mouth.speak(at);
        assert_eq!(rig.seal.pop().map(|o| o.message), Some(pre_prepare()));
    }
}
