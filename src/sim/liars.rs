//! Liars in the simulated world: which nodes of a cluster lie, and how, as a seed draws it or a test says. The attacks themselves are
//! those of [`crate::protocol::pbft::liars`], which real nodes can play too.

pub use crate::protocol::pbft::liars::{Attack, Liars, mutate, sign};

use super::adversary::{Adversary, Fate, Word};
use super::host::{Common, keys};
use super::options::{Fault, Options, ProtocolName};
use crate::base::{Instant, NodeId, NodeSet, Prng};
use crate::wire::Message;

/// `corrupted` nodes of a cluster, and what they do.
///
/// # Panics
/// When more are corrupted than the group endures, or none.
pub fn among(prng: Prng, common: &Common, corrupted: NodeSet, attacks: &[Attack]) -> Liars {
    let keys = corrupted.iter().map(|node| (node, keys(node, common.nodes))).collect();
    Liars::new(prng, common.nodes, common.pbft.clone(), keys, attacks)
}

/// Those that a seed stands for, if any.
pub fn draw(mut prng: Prng, common: &Common, options: &Options) -> Option<Liars> {
    let f = common.pbft.faulty_max.unwrap_or((common.nodes.max(1) - 1) / 3);
    let is_drawn = prng.chance(2, 3) && options.faults.has(Fault::Liars);
    if !is_drawn || f == 0 || common.protocol != ProtocolName::Pbft {
        return None;
    }
    let count = if prng.chance(2, 3) { f } else { 1 + prng.below(f as u64) as usize };
    let mut corrupted = NodeSet::default();
    while corrupted.len() < count {
        corrupted.insert(NodeId(1 + prng.below(common.nodes as u64) as u8));
    }
    let count = 1 + prng.below(3);
    let any = |_| Attack::ALL[prng.below(Attack::ALL.len() as u64) as usize];
    let mut attacks: Vec<Attack> = (0..count).map(any).collect();
    // Who says nothing tells no other lie.
    attacks.sort_unstable();
    attacks.dedup();
    let seed = prng.next_u64();
    Some(among(Prng::from_seed(seed), common, corrupted, &attacks))
}

impl Adversary for Liars {
    fn corrupted(&self) -> NodeSet {
        self.corrupted()
    }
    fn instead(&mut self, now: Instant, word: Word, out: &mut Vec<Word>) {
        self.instead(now, word, out);
    }
    fn hears(&mut self, now: Instant, from: NodeId, _: NodeId, message: &Message) -> bool {
        self.hears(now, from, message)
    }
    fn unasked(&mut self, _: Instant, out: &mut Vec<Word>) {
        self.unasked(out);
    }
    fn fate(&mut self, now: Instant, from: NodeId, to: NodeId, message: &Message) -> Fate {
        self.fate(now, from, to, message)
    }
    fn calm(&mut self) {
        self.calm();
    }
}
