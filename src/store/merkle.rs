//! One digest over all buckets, kept up to date by rehashing what has changed (Merkle 1987, with a fan-out of 16).
//!
//! A write costs one bit. When somebody wants the digest, what has changed since the last is hashed in bounded steps; leaves may change
//! meanwhile, if whoever changes one that still waits hands in its digest before ([`Tree::is_pending`], [`Tree::settle`]).

use super::bits::Bits;
use crate::base::Digest;

const FAN_OUT: usize = 16;
/// Distinguishes the bytes of a node from those of a leaf.
const NODE: &[u8] = &[1];

/// A tree of digests over a fixed number of leaves.
pub(super) struct Tree {
    /// Leaves first, the root last. All zero stands for nothing below.
    levels: Vec<Vec<Digest>>,
    /// Leaves that have changed since the newest digest was begun.
    changed: Bits,
    /// Leaves whose digest the one in the making still lacks.
    pending: Bits,
    /// By level above the leaves: whose digest must be computed anew.
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
        let dirty = levels[1..].iter().map(|l| Bits::new(l.len())).collect();
        Tree { levels, changed: Bits::new(leaves), pending: Bits::new(leaves), dirty }
    }
    /// A leaf's content will differ.
    pub fn mark(&mut self, leaf: usize) {
        self.changed.insert(leaf);
    }
    /// All leaves are going to be empty.
    pub fn clear(&mut self) {
        for (at, digest) in self.levels[0].iter().enumerate() {
            if *digest != Digest::default() || self.pending.contains(at) {
                self.changed.insert(at);
            }
        }
    }

    /// Begins a digest of the leaves as they are now. The last has been made.
    pub fn begin(&mut self) {
        assert_eq!(self.pending.len(), 0, "one digest at a time");
        std::mem::swap(&mut self.changed, &mut self.pending);
    }
    /// How many leaves' digests the one in the making lacks.
    pub fn lacking(&self) -> usize {
        self.pending.len()
    }
    /// Whether the digest in the making lacks this leaf's.
    pub fn is_pending(&self, leaf: usize) -> bool {
        self.pending.contains(leaf)
    }
    /// A pending leaf's digest.
    pub fn settle(&mut self, leaf: usize, digest: Digest) {
        self.pending.remove(leaf);
        self.set(0, leaf, digest);
    }
    /// Hashes about `budget` bytes of what is pending. The digest over all leaves, as they were when it was begun, once it is done.
    /// `leaf` gives a leaf's digest and how many bytes it cost.
    pub fn step(
        &mut self,
        mut budget: usize,
        mut leaf: impl FnMut(usize) -> (Digest, usize),
    ) -> Option<Digest> {
        while let Some(at) = self.pending.first() {
            if budget == 0 {
                return None;
            }
            let (digest, cost) = leaf(at);
            budget = budget.saturating_sub(cost.max(1));
            self.settle(at, digest);
        }
        for level in 1..self.levels.len() {
            while let Some(at) = self.dirty[level - 1].first() {
                if budget == 0 {
                    return None;
                }
                let (digest, cost) = self.node(level, at);
                budget = budget.saturating_sub(cost.max(1));
                self.dirty[level - 1].remove(at);
                self.set(level, at, digest);
            }
        }
        Some(self.levels[self.levels.len() - 1][0])
    }

    fn set(&mut self, level: usize, at: usize, digest: Digest) {
        let changed = std::mem::replace(&mut self.levels[level][at], digest) != digest;
        if changed && level + 1 < self.levels.len() {
            self.dirty[level].insert(at / FAN_OUT);
        }
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

    fn fresh(leaves: &[u64]) -> Digest {
        let mut tree = Tree::new(leaves.len());
        (0..leaves.len()).for_each(|i| tree.mark(i));
        tree.begin();
        tree.step(usize::MAX, |i| (leaf(leaves[i]), 8)).unwrap()
    }

    #[test]
    fn the_root_is_a_function_of_the_leaves_as_they_were_however_they_came_and_whatever_they_become() {
        let mut prng = Prng::from_seed(3);
        let mut leaves = vec![0u64; 300];
        let (mut tree, mut roots) = (Tree::new(300), std::collections::BTreeMap::new());
        for _ in 0..300 {
            let begun = leaves.clone();
            tree.begin();
            // A budget so small that the leaves change between steps.
            let root = loop {
                if let Some(root) = tree.step(1 + prng.below(64) as usize, |i| (leaf(leaves[i]), 8)) {
                    break root;
                }
                let at = prng.below(300) as usize;
                if tree.is_pending(at) {
                    tree.settle(at, leaf(leaves[at]));
                }
                leaves[at] = prng.below(3);
                tree.mark(at);
            };
            assert_eq!(root, fresh(&begun));
            let before = roots.insert(root.0, begun.clone());
            assert!(before.is_none_or(|b| b == begun), "different leaves, different roots");
            if prng.chance(1, 10) {
                leaves.fill(0);
                tree.clear();
            }
        }
    }

    #[test]
    fn leaves_that_are_emptied_amid_a_digest_are_still_in_it_and_no_more_in_the_next() {
        let leaves = vec![7; 40];
        let mut tree = Tree::new(40);
        (0..40).for_each(|i| tree.mark(i));
        tree.begin();
        assert_eq!(tree.step(8, |i| (leaf(leaves[i]), 8)), None);
        tree.clear();
        assert_eq!(tree.step(usize::MAX, |i| (leaf(leaves[i]), 8)), Some(fresh(&leaves)));
        tree.begin();
        assert_eq!(tree.step(usize::MAX, |_| (leaf(0), 8)), Some(fresh(&[0; 40])));
    }
}
