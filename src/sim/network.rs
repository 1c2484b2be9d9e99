//! Which links are cut. What a link does to single messages is drawn where they are sent.

use crate::base::Prng;

/// Directed links between nodes.
#[derive(Clone, Debug)]
pub struct Network {
    /// Bit `to` of `cut[from]`: nothing gets through.
    cut: Vec<u64>,
}

impl Network {
    /// All links are up.
    pub fn new(nodes: usize) -> Network {
        Network { cut: vec![0; nodes] }
    }
    /// Whether the link from one node to another is up.
    pub fn is_up(&self, from: usize, to: usize) -> bool {
        self.cut[from] >> to & 1 == 0
    }
    /// All links are up again. Gives back the pairs between which something was lost.
    pub fn heal(&mut self) -> Vec<(usize, usize)> {
        let nodes = self.cut.len();
        let pairs = (0..nodes).flat_map(|a| (0..a).map(move |b| (a, b)));
        let lost = pairs.filter(|(a, b)| !self.is_up(*a, *b) || !self.is_up(*b, *a)).collect();
        self.cut.fill(0);
        lost
    }
    /// Two sides hear nothing of each other.
    pub fn split(&mut self, side: u64) {
        for from in 0..self.cut.len() {
            let mine = side >> from & 1;
            self.cut[from] = (0..self.cut.len()).filter(|to| side >> to & 1 != mine).map(|to| 1 << to).sum();
        }
    }
    /// One of the ways in which networks break: split, a node alone, a bridge between two sides, single directions.
    pub fn break_somehow(&mut self, prng: &mut Prng) {
        let nodes = self.cut.len() as u64;
        match prng.below(4) {
            0 => self.split(prng.below(1 << nodes)),
            1 => self.split(1 << prng.below(nodes)),
            2 => {
                self.split(prng.below(1 << nodes));
                let bridge = prng.below(nodes) as usize;
                self.cut[bridge] = 0;
                self.cut.iter_mut().for_each(|cut| *cut &= !(1 << bridge));
            }
            _ => {
                for from in 0..nodes as usize {
                    self.cut[from] = prng.below(1 << nodes) & prng.below(1 << nodes) & !(1 << from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_symmetric_and_heals() {
        let mut network = Network::new(3);
        network.split(0b001);
        assert!(!network.is_up(0, 1) && !network.is_up(2, 0) && network.is_up(1, 2));
        assert_eq!(network.heal(), [(1, 0), (2, 0)]);
        assert!((0..3).all(|a| (0..3).all(|b| network.is_up(a, b))));
    }
}
