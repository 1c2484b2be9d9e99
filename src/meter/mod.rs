//! Counters and HDR histograms. Agents count in plain fields of their own; about once a second each is asked to report.
//!
//! Nothing here is on the hot path: no shared counter, no lock, no allocation while commands flow.

use hdrhistogram::Histogram;

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
