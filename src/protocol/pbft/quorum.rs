//! How many replicas must agree. Nothing is hard-coded: `n` need not be `3f + 1`.
//!
//! Two quorums of `q` share at least `2q - n` replicas; for a correct one among them this must be at least `f + 1`, so
//! `q = ceil((n + f + 1) / 2)`. For the live ones to make a quorum alone, `q <= n - f`, so `n >= 3f + 1` (TOCS 2002, 2.1; Malkhi and
//! Reiter 1998 on masking quorums).

use crate::base::canary::{self, Canary};

/// The sizes that count, for a group of `n` of which `f` may lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorum {
    n: usize,
    f: usize,
}

impl Quorum {
    /// `None` when so few replicas cannot bear so many liars.
    pub fn new(n: usize, f: usize) -> Option<Quorum> {
        (3 * f < n).then_some(Quorum { n, f })
    }
    /// The most liars that `n` replicas can bear.
    pub fn most(n: usize) -> Quorum {
        assert!(0 < n);
        Quorum { n, f: (n - 1) / 3 }
    }
    /// Replicas of the group.
    pub fn n(self) -> usize {
        self.n
    }
    /// Those that may lie.
    pub fn f(self) -> usize {
        self.f
    }
    /// Any two sets of so many share a correct replica.
    pub fn strong(self) -> usize {
        if canary::on(Canary::QuorumOfThirds) { 2 * self.f + 1 } else { self.exact() }
    }
    /// As `strong`, for whoever checks that.
    pub fn exact(self) -> usize {
        (self.n + self.f + 1).div_ceil(2)
    }
    /// Any set of so many holds a correct replica.
    pub fn weak(self) -> usize {
        self.f + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_meet_in_a_correct_replica_and_the_live_ones_make_one() {
        for n in 1..=64 {
            for f in 0..=n {
                let Some(quorum) = Quorum::new(n, f) else {
                    assert!(n <= 3 * f);
                    continue;
                };
                let q = quorum.strong();
                assert!(f < 2 * q - n, "two quorums of {q} of {n} share only liars");
                assert!(q <= n - f, "{f} silent replicas of {n} stop a quorum of {q}");
                assert!(2 * (q - 1) <= n + f, "one fewer would not do");
            }
            assert_eq!(Quorum::new(n, Quorum::most(n).f()), Some(Quorum::most(n)));
            assert_eq!(Quorum::new(n, Quorum::most(n).f() + 1), None);
        }
        let known = [(4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (16, 5, 11), (20, 6, 14), (20, 1, 11)];
        for (n, f, q) in known {
            assert_eq!(Quorum::new(n, f).map(Quorum::strong), Some(q));
        }
    }

    #[cfg(feature = "canaries")]
    #[test]
    fn a_quorum_of_two_thirds_is_wrong_where_n_is_not_three_f_and_one() {
        canary::with(Canary::QuorumOfThirds, || {
            let quorum = Quorum::new(6, 1).expect("six bear one");
            assert!(2 * quorum.strong() - 6 <= 1, "two quorums may share only a liar");
        });
    }
}
