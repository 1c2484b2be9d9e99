//! What a seed stands for of a PBFT group of whole nodes: its times and tiny windows, and which of its nodes lie. A node that lies runs all
//! that others run; between its replica and the rings to its peers stand the attacks ([`crate::node::liar`]), which have its own
//! keys only: liars of one group do not conspire here, as they do at level 1.

use super::node::Common;
use crate::base::{NodeId, NodeSet, Number, Prng};
use crate::config::{Group, ProtocolKind, Resolved};
use crate::crypto::SecretKey;
use crate::node::liar;
use crate::node::sizes::PbftSizes;
use crate::protocol::pbft::Quorum;
use crate::protocol::pbft::liars::{Attack, Liars};
use crate::sim::options::{Fault, Options};
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug)]
pub struct Pbft {
    /// How many nodes may lie.
    pub faulty: usize,
    /// Nodes answer clients what several stores reply.
    pub verify: bool,
    /// A primary signs what it assigns.
    pub sign_pre_prepares: bool,
    /// After which wait a primary is suspected.
    pub request_timeout: Duration,
    /// Windows, and what passes at a time.
    pub sizes: PbftSizes,
    /// Nodes that lie.
    pub liars: NodeSet,
    /// What each of them does.
    pub attacks: Vec<Attack>,
}

/// The turns of a liar (`node::liar::watch`): as the seed has it, and when everything else is healed.
const LIES: u64 = 1;
const LIES_CALMLY: u64 = 2;

impl Pbft {
    /// Of a group of so many nodes, as far as the options allow.
    pub fn draw(prng: &mut Prng, nodes: usize, options: &Options) -> Pbft {
        let most = Quorum::most(nodes).f();
        let mut often = |chances: &[u64]| chances[prng.below(chances.len() as u64) as usize];
        let faulty = if often(&[0, 0, 0, 1]) == 1 { most.min(1) } else { most };
        let checkpoint_every = often(&[1, 2, 4, 16]);
        let window = checkpoint_every * often(&[2, 3, 8]);
        let sizes = PbftSizes {
            window,
            checkpoint_every,
            snapshot_every: 2 * window * often(&[1, 1, 2]),
            proposals_max: often(&[1, 3, 64]) as usize,
            message_bytes_max: often(&[1, 100, 256 << 10]) as usize,
            origin_batches_max: often(&[2, 40, 512]) as usize,
            // Whoever is behind the newest snapshot but one is given a state, whoever is not is given values.
            cache_entries_max: 10 * window as usize,
        };
        let (verify, sign_pre_prepares) = (often(&[0, 0, 1]) == 1, often(&[0, 1, 1]) == 1);
        let request_timeout = Duration::from_millis(often(&[200, 400, 1000]));
        let (liars, attacks) = (NodeSet::default(), Vec::new());
        let mut pbft = Pbft { faulty, verify, sign_pre_prepares, request_timeout, sizes, liars, attacks };
        pbft.corrupt(prng, nodes, options);
        pbft
    }

    /// Draws who lies, and how.
    fn corrupt(&mut self, prng: &mut Prng, nodes: usize, options: &Options) {
        let is_drawn = prng.chance(2, 3) && options.faults.has(Fault::Liars);
        if !is_drawn || self.faulty == 0 {
            return;
        }
        let count = if prng.chance(2, 3) { self.faulty } else { 1 + prng.below(self.faulty as u64) as usize };
        while self.liars.len() < count {
            self.liars.insert(NodeId(1 + prng.below(nodes as u64) as u8));
        }
        // What the network does is no node's doing.
        let all: Vec<Attack> =
            Attack::ALL.iter().copied().filter(|attack| attack.is_of_a_replica()).collect();
        let count = 1 + prng.below(3);
        self.attacks = (0..count).map(|_| all[prng.below(all.len() as u64) as usize]).collect();
        // Who says nothing tells no other lie.
        self.attacks.sort_unstable();
        self.attacks.dedup();
    }

    /// Writes what is drawn into a configuration.
    pub fn configure(&self, group: &mut Group) {
        *group = Group {
            protocol: ProtocolKind::Pbft,
            faulty: self.faulty,
            verify: self.verify,
            sign_pre_prepares: self.sign_pre_prepares,
            request_timeout: self.request_timeout,
            // Wall clocks are set while nodes run: who relies on them is tested elsewhere.
            clock_skew_max: Duration::from_millis(1 << 40),
            ..*group
        };
    }
    /// Sizes of quorums in a group of so many.
    pub fn quorum(&self, nodes: usize) -> Quorum {
        Quorum::new(nodes, self.faulty).expect("drawn so")
    }
    /// Bytes of the longest new-view.
    pub fn new_view_bytes(&self, nodes: usize) -> usize {
        let PbftSizes { window, checkpoint_every, .. } = self.sizes;
        let options = crate::protocol::pbft::Options { window, checkpoint_every, ..Default::default() };
        options.new_view_bytes(self.quorum(nodes))
    }
}

/// What makes a node lie: its attacks, loud and calm, and which of the two it is now.
pub fn lying(
    common: &Common,
    config: &Resolved,
    secret: &SecretKey,
    turn: &Number,
    seed: u64,
) -> Option<(Vec<Liars>, Number)> {
    let pbft = common.pbft.as_ref().filter(|pbft| pbft.liars.contains(config.node.id))?;
    let liars = || liar::alone(config, &common.sizes, secret, seed, &pbft.attacks);
    let mut calm = liars();
    calm.calm();
    Some((vec![liars(), calm], turn.clone()))
}

/// A turn in which a node lies with all its might.
pub fn loud() -> Number {
    Number::new(LIES)
}
/// From now on it lies, and makes nobody work without end.
pub fn calm(turn: &Number) {
    turn.set(LIES_CALMLY);
}
