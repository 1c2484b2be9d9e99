//! One digest over all buckets, kept up to date by rehashing what has changed (Merkle 1987, with a fan-out of 16).
//!
//! A write costs one bit; the hashing is done in bounded steps when somebody wants the digest.

use super::bits::Bits;
use crate::base::Digest;

const FAN_OUT: usize = 16;
/// Distinguishes the bytes of a node from those of a leaf.
const NODE: &[u8] = &[1];

/// A tree of digests over a fixed number of leaves.
pub(super) struct Tree {
    /// Leaves first, the root last. All zero stands for nothing below.
    levels: Vec<Vec<Digest>>,
    /// By level: whose digest must be computed anew.
    dirty: Vec<Bits>,
}

impl Tree {
    /// A tree over `leaves` empty leaves.
    pub fn new(leaves: usize) -> Tree {
        assert!(0 < leaves);
        let mut levels = vec![vec![Digest::default(); leaves]];
        while 1 < levels[levels.len() - 1].len() {
            let nodes = levels[levels.len() - 1].len().div_ceil(FAN_OUT);
            levels.push(vec![Digest::default(); nodes]);
        }
        let dirty = levels.iter().map(|l| Bits::new(l.len())).collect();
        Tree { levels, dirty }
    }
    /// A leaf's content will differ.
    pub fn mark(&mut self, leaf: usize) {
        self.dirty[0].insert(leaf);
    }
    /// All leaves are empty.
    pub fn clear(&mut self) {
        self.levels.iter_mut().for_each(|l| l.fill(Digest::default()));
        self.dirty.iter_mut().for_each(Bits::clear);
    }
    /// Whether `step` has nothing to do.
    pub fn is_clean(&mut self) -> bool {
        self.dirty.iter_mut().all(|d| d.first().is_none())
    }
    /// The digest over all leaves, as of the last time that `step` said it is done.
    pub fn root(&self) -> Digest {
        self.levels[self.levels.len() - 1][0]
    }

    /// Hashes about `budget` bytes of what is dirty; true when all is done. `leaf` gives a leaf's digest and how many bytes it cost.
    pub fn step(&mut self, mut budget: usize, mut leaf: impl FnMut(usize) -> (Digest, usize)) -> bool {
        for level in 0..self.levels.len() {
            while let Some(at) = self.dirty[level].first() {
                if budget == 0 {
                    return false;
                }
                let (digest, cost) = if level == 0 { leaf(at) } else { self.node(level, at) };
                budget = budget.saturating_sub(cost.max(1));
                self.dirty[level].remove(at);
                let changed = std::mem::replace(&mut self.levels[level][at], digest) != digest;
                if changed && level + 1 < self.levels.len() {
                    self.dirty[level + 1].insert(at / FAN_OUT);
                }
            }
        }
        true
    }

    fn node(&self, level: usize, at: usize) -> (Digest, usize) {
        let below = &self.levels[level - 1];
        let children = &below[at * FAN_OUT..below.len().min((at + 1) * FAN_OUT)];
        if children.iter().all(|c| *c == Digest::default()) {
            return (Digest::default(), 1);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(NODE);
        children.iter().for_each(|c| {
            hasher.update(&c.0);
        });
        (Digest(*hasher.finalize().as_bytes()), children.len() * 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    fn leaf(value: u64) -> Digest {
        if value == 0 { Digest::default() } else { Digest::of(&value.to_le_bytes()) }
    }

    #[test]
    fn the_root_is_a_function_of_the_leaves_however_they_came() {
        let mut prng = Prng::from_seed(3);
        let mut leaves = vec![0u64; 300];
        let (mut tree, mut roots) = (Tree::new(300), std::collections::BTreeMap::new());
        for _ in 0..200 {
            let at = prng.below(300) as usize;
            leaves[at] = prng.below(3);
            tree.mark(at);
            while !tree.step(1 + prng.below(64) as usize, |i| (leaf(leaves[i]), 8)) {}
            assert!(tree.is_clean());
            let mut fresh = Tree::new(300);
            (0..300).for_each(|i| fresh.mark(i));
            assert!(fresh.step(usize::MAX, |i| (leaf(leaves[i]), 8)));
            assert_eq!(tree.root(), fresh.root());
            let before = roots.insert(tree.root().0, leaves.clone());
            assert!(before.is_none_or(|b| b == leaves), "different leaves, different roots");
        }
        tree.clear();
        assert_eq!(tree.root(), Tree::new(300).root());
    }
}
