//! When to dial again: pauses that double up to a cap, each spread over its upper half, so that nodes that lost the same peer do not
//! return in step.

use crate::base::Prng;
use std::time::Duration;

/// The pauses of one peer.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Backoff {
        assert!(Duration::ZERO < min);
        assert!(min <= max);
        Backoff { min, max, next: min }
    }
    /// The next pause: between half of the present step and all of it.
    pub fn pause(&mut self, prng: &mut Prng) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        let half = step / 2;
        half + Duration::from_nanos(prng.below(half.as_nanos() as u64 + 1))
    }
    /// Begins anew.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_cap_within_their_upper_half_and_begin_anew() {
        let mut prng = Prng::from_seed(1);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        for step in [50, 100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause(&mut prng);
            let step = Duration::from_millis(step);
            assert!(step / 2 <= pause && pause <= step, "{pause:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.pause(&mut prng) <= Duration::from_millis(50));
    }
}
