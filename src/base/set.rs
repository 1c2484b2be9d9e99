//! A set of nodes in one word.

use super::NodeId;

/// A set of up to 64 nodes (ids 0 to 63).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeSet(pub u64);

impl NodeSet {
    /// Adds `n`; true if it was not there.
    pub fn insert(&mut self, n: NodeId) -> bool {
        assert!(u32::from(n.0) < u64::BITS, "a set is of members");
        let fresh = !self.contains(n);
        self.0 |= 1 << n.0;
        fresh
    }
    /// Takes `n` out.
    pub fn remove(&mut self, n: NodeId) {
        self.0 &= !1u64.checked_shl(n.0.into()).unwrap_or(0);
    }
    /// Whether `n` is in it; a native client never is.
    pub fn contains(self, n: NodeId) -> bool {
        self.0 & 1u64.checked_shl(n.0.into()).unwrap_or(0) != 0
    }
    /// How many nodes are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    /// Whether no node is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The members, in rising order.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        (0..64).map(NodeId).filter(move |n| self.contains(*n))
    }
}
impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> NodeSet {
        let mut set = NodeSet::default();
        nodes.into_iter().for_each(|n| {
            set.insert(n);
        });
        set
    }
}
