//! Counters and HDR histograms. Agents count in plain fields of their own; about once a second each is asked to report.
//!
//! Nothing here is on the hot path: no shared counter, no lock, no allocation while commands flow.

pub mod export;
pub mod stages;
pub mod turn;

pub use export::{Board, Figures};
pub use stages::Stage;
pub use turn::Turns;

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in nanoseconds; longer ones count as this.
pub const LATENCY_NANOS_MAX: u64 = 120_000_000_000;

/// An empty histogram of nanoseconds: 1 us to two minutes at two significant digits, 27 KiB. Record with `saturating_record`.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_NANOS_MAX, 2).expect("the bounds are constants that fit")
}

/// Where an agent's figures go. Names follow Prometheus: `quorate_` prefix, base units, `_total` for counters.
pub trait Report {
    /// A number that only rises.
    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    );
    /// A number that rises and falls.
    fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: f64);
    /// A distribution of nanoseconds, exported in seconds. Cumulative since the start.
    fn latency(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        nanos: &Histogram<u64>,
    );
}

/// Something that has figures.
pub trait Metered {
    /// Tells them all.
    fn report(&self, to: &mut dyn Report);
}
