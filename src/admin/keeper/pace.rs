//! A rate limit on bytes, so that snapshots do not take the disk from the log.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How far spending may run ahead of the rate.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Lets so many bytes pass a second.
pub(super) struct Pace {
    /// 0 for no limit.
    bytes_per_second: u64,
    /// When everything spent so far is paid for.
    paid_at: Cell<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second, paid_at: Cell::new(None) }
    }

    /// Spends `bytes`, and waits while spending is too far ahead.
    pub(super) async fn spend(&self, bytes: usize) {
        let wait = self.wait(bytes, Instant::now());
        if !wait.is_zero() {
            glommio::timer::sleep(wait).await;
        }
    }

    fn wait(&self, bytes: usize, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        // A pause earns nothing: after it the rate holds again from the first byte.
        let paid_at = self.paid_at.get().map_or(now, |at| at.max(now)) + cost;
        self.paid_at.set(Some(paid_at));
        let ahead = paid_at.saturating_duration_since(now);
        if ahead <= AHEAD_MAX { Duration::ZERO } else { ahead }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_and_a_pause_earns_nothing() {
        let pace = Pace::new(1_000_000);
        let start = Instant::now();
        assert_eq!(pace.wait(20_000, start), Duration::ZERO);
        assert_eq!(pace.wait(30_000, start), Duration::from_millis(50));
        let later = start + Duration::from_secs(10);
        assert_eq!(pace.wait(20_000, later), Duration::ZERO);
        assert_eq!(pace.wait(100_000, later), Duration::from_millis(120));
        assert_eq!(Pace::new(0).wait(usize::MAX, start), Duration::ZERO);
    }
}
