//! How long a group takes to answer, and so after which silence something is sent again: Paxson and others, "Computing TCP's Retransmission
//! Timer", RFC 6298; Karn and Partridge, "Improving Round-Trip Time Estimates in Reliable Transport Protocols", SIGCOMM 1987.
//!
//! A group of twenty that is short of processors answers after a second. Whoever asks it again after a fifth of that gives it everything
//! twice, signed, at each replica.

use std::time::Duration;

/// The estimate of one kind of question.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    /// Silence is never shorter.
    least: Duration,
    /// Nor longer: by then nobody waits any more.
    most: Duration,
    /// Smoothed latency and smoothed deviation, once something was answered.
    known: Option<(Duration, Duration)>,
    /// How often the silence has doubled since the last sample.
    doublings: u32,
}

impl Latency {
    /// Nothing is known yet.
    pub fn new(least: Duration, most: Duration) -> Latency {
        Latency { least: least.min(most), most, known: None, doublings: 0 }
    }
    /// What was sent once was answered after so long. Of what was sent again nobody can say which time is answered (Karn).
    pub fn sample(&mut self, took: Duration) {
        let known = match self.known {
            None => (took, took / 2),
            Some((smoothed, deviation)) => {
                let deviation = (3 * deviation + smoothed.abs_diff(took)) / 4;
                ((7 * smoothed + took) / 8, deviation)
            }
        };
        (self.known, self.doublings) = (Some(known), 0);
    }
    /// What was sent was not answered in time. The longer silence holds for what is sent from now on, until something that was sent
    /// once is answered: a group that has become slow for good would else be asked everything twice, and never give a sample.
    pub fn back_off(&mut self) {
        if self.silence() < self.most {
            self.doublings += 1;
        }
    }
    /// After which silence something goes again.
    pub fn silence(&self) -> Duration {
        let estimate = self.known.map_or(Duration::ZERO, |(smoothed, deviation)| smoothed + 4 * deviation);
        estimate.max(self.least).saturating_mul(1 << self.doublings.min(31)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(200);
    const MOST: Duration = Duration::from_secs(5);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_figures_of_rfc_6298() {
        let mut latency = Latency::new(Duration::ZERO, MOST);
        latency.sample(ms(100));
        assert_eq!(latency.silence(), ms(100 + 4 * 50), "2.2: SRTT is R, RTTVAR is R/2");
        latency.sample(ms(180));
        // 2.3: RTTVAR is 3/4 of 50 and 1/4 of 80, with the SRTT of before; SRTT is 7/8 of 100 and 1/8 of 180.
        assert_eq!(latency.silence(), Duration::from_micros(110_000 + 4 * 57_500));
        (0..100).for_each(|_| latency.sample(ms(100)));
        assert!((ms(100)..ms(101)).contains(&latency.silence()), "what never varies: {latency:?}");
    }

    #[test]
    fn a_fast_group_is_given_the_least_and_a_slow_one_no_more_than_anybody_waits() {
        let mut latency = Latency::new(LEAST, MOST);
        assert_eq!(latency.silence(), LEAST, "before the first answer");
        (0..10).for_each(|_| latency.sample(ms(3)));
        assert_eq!(latency.silence(), LEAST);
        (0..10).for_each(|_| latency.sample(ms(900)));
        assert!(ms(900) < latency.silence() && latency.silence() < MOST);
        (0..10).for_each(|_| latency.sample(4 * MOST));
        assert_eq!(latency.silence(), MOST);
        assert_eq!(Latency::new(MOST, LEAST).silence(), LEAST, "a client that does not wait that long");
    }

    #[test]
    fn a_group_that_becomes_slow_is_found_out_by_backing_off() {
        let mut latency = Latency::new(LEAST, MOST);
        latency.sample(ms(5));
        // It answers after a second from now on: what is sent again gives no sample, until the silence is long enough.
        let mut vain = 0;
        while latency.silence() < ms(1000) {
            latency.back_off();
            vain += 1;
        }
        assert_eq!(vain, 3);
        latency.sample(ms(1000));
        assert!(ms(1000) < latency.silence() && latency.silence() < ms(2000), "{:?}", latency.silence());
        (0..100).for_each(|_| latency.back_off());
        assert_eq!(latency.silence(), MOST);
        latency.sample(ms(5));
        assert!(latency.silence() < ms(2000), "a sample ends the doubling");
    }
}
