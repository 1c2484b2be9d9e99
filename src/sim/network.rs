//! Which links are cut, how full they are, and whether they keep an order. What becomes of a single message is drawn where it is sent.

use crate::base::{Instant, Prng};

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_cut: bool,
    /// Messages that were sent and have not been taken in.
    holds: usize,
    /// When the last of them arrives.
    last: Instant,
}

/// The ways in which a network breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// Two sides hear nothing of each other.
    Split,
    /// One node is alone.
    Alone,
    /// Two sides hear nothing of each other, but one node hears both.
    Bridge,
    /// Each node hears its two neighbours only.
    Ring,
    /// Single directions.
    Directions,
}

impl Break {
    /// All of them.
    pub const ALL: [Break; 5] = [Break::Split, Break::Alone, Break::Bridge, Break::Ring, Break::Directions];
}

/// Directed links between nodes.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: usize,
    links: Vec<Link>,
}

impl Network {
    /// All links are up and empty.
    pub fn new(nodes: usize) -> Network {
        Network { nodes, links: vec![Link::default(); nodes * nodes] }
    }

    /// Whether the link from one node to another is up.
    pub fn is_up(&self, from: usize, to: usize) -> bool {
        !self.links[from * self.nodes + to].is_cut
    }
    /// Whether anything is cut.
    pub fn is_broken(&self) -> bool {
        self.links.iter().any(|link| link.is_cut)
    }
    /// Messages on their way over a link.
    pub fn holds(&self, from: usize, to: usize) -> usize {
        self.links[from * self.nodes + to].holds
    }

    /// A message sets out and will arrive at `at`; in a network that keeps the order, not before those that were sent earlier.
    pub fn send(&mut self, from: usize, to: usize, at: Instant, keeps_order: bool) -> Instant {
        let link = &mut self.links[from * self.nodes + to];
        link.holds += 1;
        let at = if keeps_order { at.max(link.last) } else { at };
        link.last = at;
        at
    }
    /// A message has been taken in, or died with its receiver.
    pub fn arrive(&mut self, from: usize, to: usize) {
        self.links[from * self.nodes + to].holds -= 1;
    }

    /// All links are up again. Gives back the pairs between which something was lost.
    pub fn heal(&mut self) -> Vec<(usize, usize)> {
        let pairs = (0..self.nodes).flat_map(|a| (0..a).map(move |b| (a, b)));
        let lost = pairs.filter(|(a, b)| !self.is_up(*a, *b) || !self.is_up(*b, *a)).collect();
        self.cut(|_, _| false);
        lost
    }
    /// Two sides, as bits by node, hear nothing of each other.
    pub fn split(&mut self, side: u64) {
        self.cut(|from, to| side >> from & 1 != side >> to & 1);
    }
    /// Breaks in one of the ways.
    pub fn break_as(&mut self, way: Break, prng: &mut Prng) {
        let nodes = self.nodes as u64;
        match way {
            Break::Split => self.split(prng.below(1 << nodes)),
            Break::Alone => self.split(1 << prng.below(nodes)),
            Break::Bridge => {
                let (side, bridge) = (prng.below(1 << nodes), prng.below(nodes) as usize);
                self.cut(|from, to| from != bridge && to != bridge && side >> from & 1 != side >> to & 1);
            }
            Break::Ring => {
                let nodes = self.nodes;
                self.cut(|from, to| (from + 1) % nodes != to && (to + 1) % nodes != from);
            }
            Break::Directions => self.cut(|from, to| from != to && prng.chance(1, 4)),
        }
    }

    fn cut(&mut self, mut is_cut: impl FnMut(usize, usize) -> bool) {
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                self.links[from * self.nodes + to].is_cut = from != to && is_cut(from, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(network: &Network) -> usize {
        let nodes = network.nodes;
        (0..nodes * nodes).filter(|at| !network.is_up(at / nodes, at % nodes)).count()
    }

    #[test]
    fn a_split_is_symmetric_and_heals() {
        let mut network = Network::new(3);
        network.split(0b001);
        assert!(!network.is_up(0, 1) && !network.is_up(2, 0) && network.is_up(1, 2));
        assert_eq!(network.heal(), [(1, 0), (2, 0)]);
        assert!(!network.is_broken());
    }

    #[test]
    fn each_way_of_breaking_does_what_its_name_says() {
        let mut prng = Prng::from_seed(1);
        let mut network = Network::new(5);
        for _ in 0..50 {
            network.break_as(Break::Alone, &mut prng);
            assert_eq!(cuts(&network), 8, "four links there and four back");
            network.break_as(Break::Ring, &mut prng);
            assert_eq!(cuts(&network), 20 - 10);
            network.break_as(Break::Bridge, &mut prng);
            assert!((0..5).any(|b| (0..5).all(|n| network.is_up(b, n) && network.is_up(n, b))));
            network.break_as(Break::Directions, &mut prng);
            assert!((0..5).all(|n| network.is_up(n, n)));
        }
    }

    #[test]
    fn a_link_that_keeps_the_order_lets_nothing_overtake() {
        let mut network = Network::new(2);
        assert_eq!(network.send(0, 1, Instant(9), true), Instant(9));
        assert_eq!(network.send(0, 1, Instant(5), true), Instant(9));
        assert_eq!(network.send(0, 1, Instant(7), false), Instant(7));
        network.arrive(0, 1);
        assert_eq!((network.holds(0, 1), network.holds(1, 0)), (2, 0));
    }
}
