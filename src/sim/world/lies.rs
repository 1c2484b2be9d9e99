//! What an adversary makes of a run: which words leave, and whose.

use super::World;
use crate::base::NodeId;
use crate::protocol::{Fault, FaultKind};
use crate::sim::adversary::{Adversary, Fate, Word};
use crate::sim::coverage::Reached;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use crate::wire::Message;
use std::time::Duration;

const ACCUSATION: &str = "no-correct-node-is-accused";

impl World {
    /// From now on somebody sees all messages.
    pub(super) fn face(&mut self, adversary: Box<dyn Adversary>) {
        self.corrupted = adversary.corrupted();
        self.checks.corrupt(self.corrupted);
        self.adversary = Some(adversary);
    }

    /// Nodes of which something is demanded.
    pub(super) fn correct(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| !self.corrupted.contains(host.id()))
    }

    pub(super) fn is_corrupted(&self, node: usize) -> bool {
        self.corrupted.contains(self.hosts[node].id())
    }

    /// A correct node accuses another of a misdeed: a liar, or something is wrong with the accuser.
    pub(super) fn accuse(&mut self, node: usize, Fault { peer, kind, .. }: &Fault) {
        // Who is in another epoch signs with another key, or is no member yet: that is no lie.
        let is_of_epochs = matches!(kind, FaultKind::BadSignature | FaultKind::NotMember);
        if self.is_amended() && is_of_epochs && !self.corrupted.contains(*peer) {
            return;
        }
        let is_liar = self.corrupted.contains(*peer);
        hold!(ACCUSATION, is_liar, "node {} accuses {peer} of {kind:?}", node + 1);
        self.accused.insert(*peer);
        self.saw(Reached::Accused);
    }

    /// A message leaves its node.
    pub(super) fn leave(&mut self, node: usize, to: NodeId, message: Message) {
        let from = self.hosts[node].id();
        let Some(mut adversary) = self.adversary.take() else {
            return self.transmit(node, to, message, None);
        };
        let mut words = Vec::new();
        if self.corrupted.contains(from) {
            adversary.instead(self.now, Word { from, to, message, after: Duration::ZERO }, &mut words);
        } else if !self.corrupted.contains(to) || adversary.hears(self.now, from, to, &message) {
            match adversary.fate(self.now, from, to, &message) {
                Fate::Lose => (),
                Fate::Pass => self.transmit(node, to, message, None),
                Fate::Hold(time) => {
                    self.saw(Reached::Held);
                    self.transmit(node, to, message, Some(time));
                }
            }
        }
        adversary.unasked(self.now, &mut words);
        self.adversary = Some(adversary);
        words.into_iter().for_each(|word| self.say(word));
    }

    /// A corrupted node says something. Among themselves they need no network.
    fn say(&mut self, Word { from, to, message, after }: Word) {
        assert!(self.corrupted.contains(from), "links are authentic: nobody speaks as node {from}");
        self.saw(Reached::Lied);
        if from != to {
            self.transmit(from.0 as usize - 1, to, message, Some(after));
        }
    }
}
