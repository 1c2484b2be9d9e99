//! A node's two clocks: one that only runs, faster or slower than others, and one on the wall that people and daemons set.

use crate::base::{Instant, Stamp};

/// Where a node's clocks stand when the world's stands at some instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Local time is `offset + world * rate / 1000`.
    pub rate: u64,
    /// See `rate`.
    pub offset: u64,
    /// The wall clock is so many milliseconds ahead of the world.
    pub wall_ms: u64,
}

impl Clock {
    /// The node's monotonic clock.
    pub fn local(&self, world: Instant) -> Instant {
        Instant(self.offset + world.0 / 1000 * self.rate)
    }
    /// Its wall clock.
    pub fn stamp(&self, world: Instant) -> Stamp {
        Stamp(self.wall_ms + world.0 / 1_000_000)
    }
    /// When the monotonic clock will have reached `local`, as the world sees it.
    pub fn world(&self, local: Instant) -> Instant {
        Instant(local.0.saturating_sub(self.offset).div_ceil(self.rate) * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_awaited_has_come_when_it_is_said_to() {
        for rate in [950, 1000, 1050] {
            let clock = Clock { rate, offset: 77, wall_ms: 5 };
            for due in [77, 78, 1_000_000, 123_456_789] {
                let at = clock.world(Instant(due));
                assert!(Instant(due) <= clock.local(at), "{rate} {due}");
            }
        }
        let clock = Clock { rate: 1000, offset: 0, wall_ms: 5 };
        assert_eq!(clock.stamp(Instant(3_000_000)), Stamp(8));
    }
}
