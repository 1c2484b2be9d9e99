//! How fast a digest is made that others wait for.
//!
//! All replicas of a group are asked for the digest of one slot, and where they share a machine, or clients wait, hashing a large state at
//! once is a pause for everybody. Nobody needs it before the next is asked for, so the work is spread over that time: by slots under load,
//! by the clock when little is written.

use crate::base::{Instant, Slot};
use std::time::Duration;

/// The work is done when so much time has passed,
const WITHIN: Duration = Duration::from_secs(2);
/// or when so many slots were applied: half of what usually lies between two digests.
const WITHIN_SLOTS: u64 = 256;
/// So few buckets are hashed at once.
const AT_ONCE: usize = 512;
/// How often something is done while nothing is applied.
const STEP_EVERY: Duration = Duration::from_millis(10);

/// The pace of the digest in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct DigestPace {
    begun: Instant,
    from: Slot,
    /// Buckets that had to be hashed.
    total: usize,
}

impl DigestPace {
    /// For a digest of `total` buckets that begins now, after slot `from`.
    pub fn new(begun: Instant, from: Slot, total: usize) -> DigestPace {
        DigestPace { begun, from, total }
    }
    /// How many buckets may still lack, now that the store has come to `applied`.
    pub fn may_lack(&self, now: Instant, applied: Slot) -> usize {
        if self.total <= AT_ONCE {
            return 0;
        }
        let left = |done: u128, whole: u128| {
            usize::try_from(self.total as u128 * whole.saturating_sub(done) / whole)
                .expect("at most the total")
        };
        let by_time = left(now.since(self.begun).as_nanos(), WITHIN.as_nanos());
        by_time.min(left(applied.0.saturating_sub(self.from.0).into(), WITHIN_SLOTS.into()))
    }
    /// When there is something to do although nothing is applied.
    pub fn next(&self, now: Instant) -> Instant {
        now.after(STEP_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_spread_over_slots_or_time_whichever_pass_first_and_a_small_one_is_not() {
        let begun = Instant(7);
        let pace = DigestPace::new(begun, Slot(10), 1000);
        assert_eq!(pace.may_lack(begun, Slot(10)), 1000);
        assert_eq!(pace.may_lack(begun.after(WITHIN / 4), Slot(10)), 750);
        assert_eq!(pace.may_lack(begun.after(WITHIN / 4), Slot(10 + WITHIN_SLOTS / 2)), 500);
        assert_eq!(pace.may_lack(begun, Slot(10 + WITHIN_SLOTS)), 0);
        assert_eq!(pace.may_lack(begun.after(WITHIN * 2), Slot(10)), 0);
        assert_eq!(DigestPace::new(begun, Slot(10), AT_ONCE).may_lack(begun, Slot(10)), 0);
    }
}
