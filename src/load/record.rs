//! What a load has seen: latencies as HDR histograms, in all and by interval, and a timeline.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// Latencies are nanoseconds up to a minute, to three digits; longer ones count as a minute.
const NANOS_MAX: u64 = 60_000_000_000;
/// A point of the timeline.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks of an interval of the log.
const TICKS_AN_INTERVAL: usize = 10;
/// Percentile lines of the text form between one and the next halving of the rest.
const TICKS_PER_HALF: u32 = 5;

/// A point of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    /// Since the start of the measured time.
    pub at: Duration,
    /// Commands that were answered without an error.
    pub ok: u64,
    /// Commands that were answered with an error, or not.
    pub bad: u64,
    /// Latencies of commands that were answered in it, in nanoseconds; zero when there were none.
    pub p50: u64,
    /// The same, 99 of a hundred.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// Gathers latencies.
pub struct Recorder {
    tick: Histogram<u64>,
    interval: Histogram<u64>,
    total: Histogram<u64>,
    ticks: Vec<Tick>,
    /// Histograms of whole intervals, in the log's form.
    intervals: Vec<(Duration, Histogram<u64>)>,
    ok: u64,
    bad: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("the bounds are constants that it accepts")
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            tick: histogram(),
            interval: histogram(),
            total: histogram(),
            ticks: Vec::new(),
            intervals: Vec::new(),
            ok: 0,
            bad: 0,
        }
    }
}

impl Recorder {
    /// `count` commands took `nanos` each.
    pub fn latency(&mut self, nanos: u64, count: u64) {
        self.tick.saturating_record_n(nanos.max(1), count);
    }

    /// Counts answers, for the timeline.
    pub fn answered(&mut self, ok: u64, bad: u64) {
        self.ok += ok;
        self.bad += bad;
    }

    /// Ends a point of the timeline.
    pub fn end_tick(&mut self) {
        let at = TICK * self.ticks.len() as u32;
        let quantile = |q| if self.tick.is_empty() { 0 } else { self.tick.value_at_quantile(q) };
        let (p50, p99, max) = (quantile(0.5), quantile(0.99), self.tick.max());
        self.ticks.push(Tick { at, ok: self.ok, bad: self.bad, p50, p99, max });
        (self.ok, self.bad) = (0, 0);
        self.interval.add(&self.tick).expect("equal bounds");
        self.tick.reset();
        if self.ticks.len().is_multiple_of(TICKS_AN_INTERVAL) {
            self.end_interval();
        }
    }

    /// Ends the measurement, with whatever came after the last whole tick.
    pub fn finish(&mut self) {
        self.interval.add(&self.tick).expect("equal bounds");
        self.tick.reset();
        if !self.interval.is_empty() {
            self.end_interval();
        }
    }

    fn end_interval(&mut self) {
        self.total.add(&self.interval).expect("equal bounds");
        let start = self
            .intervals
            .last()
            .map_or(Duration::ZERO, |(start, _)| *start + TICK * TICKS_AN_INTERVAL as u32);
        // A copy of its own size: most intervals need a fraction of the full range.
        let mut kept = Histogram::<u64>::new(3).expect("three digits are accepted");
        kept.add(&self.interval).expect("it resizes itself");
        self.intervals.push((start, kept));
        self.interval.reset();
    }

    /// All latencies.
    pub fn total(&self) -> &Histogram<u64> {
        &self.total
    }

    /// The timeline.
    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// Writes the interval log that HdrHistogram tools read (V2, compressed; values in nanoseconds, the maximum column in milliseconds).
    pub fn write_hlog(&self, start: SystemTime, to: &mut impl Write) -> io::Result<()> {
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment("[Latencies in nanoseconds, logged with quorate bench]");
        builder.with_start_time(start).with_base_time(start).with_max_value_divisor(1_000_000.0);
        let mut log = builder.begin_log_with(to, &mut serializer)?;
        for (at, histogram) in &self.intervals {
            log.write_histogram(histogram, *at, TICK * TICKS_AN_INTERVAL as u32, None)
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        Ok(())
    }

    /// Writes the percentile table that HdrHistogram's plotter reads, in milliseconds.
    pub fn write_hgrm(&self, to: &mut impl Write) -> io::Result<()> {
        let millis = |nanos: f64| nanos / 1e6;
        writeln!(
            to,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut count = 0;
        for step in self.total.iter_quantiles(TICKS_PER_HALF) {
            count += step.count_since_last_iteration();
            let (value, quantile) = (millis(step.value_iterated_to() as f64), step.quantile_iterated_to());
            if quantile < 1.0 {
                let rest = 1.0 / (1.0 - quantile);
                writeln!(to, "{value:>12.5} {quantile:>14.12} {count:>10} {rest:>14.2}")?;
            } else {
                writeln!(to, "{value:>12.5} {quantile:>14.12} {count:>10}")?;
            }
        }
        let (mean, deviation) = (millis(self.total.mean()), millis(self.total.stdev()));
        writeln!(to, "#[Mean    = {mean:>12.5}, StdDeviation   = {deviation:>12.5}]")?;
        let (max, count) = (millis(self.total.max() as f64), self.total.len());
        writeln!(to, "#[Max     = {max:>12.5}, Total count    = {count:>12}]")?;
        let (buckets, sub_buckets) = (self.total.buckets(), 2048);
        writeln!(to, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]")
    }

    /// Points of the percentile curve: the share of commands that took longer, and how long, in nanoseconds.
    pub fn curve(&self) -> Vec<(f64, u64)> {
        let points = self.total.iter_quantiles(TICKS_PER_HALF);
        points.map(|step| (1.0 - step.quantile_iterated_to(), step.value_iterated_to())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn recorded() -> Recorder {
        let mut recorder = Recorder::default();
        for tick in 0..25u64 {
            recorder.latency((tick + 1) * 1_000_000, 10);
            recorder.answered(10, u64::from(tick == 3));
            recorder.end_tick();
        }
        recorder.latency(90_000_000_000, 1);
        recorder.finish();
        recorder
    }

    #[test]
    fn ticks_intervals_and_total_hold_the_same_commands() {
        let recorder = recorded();
        assert_eq!((recorder.ticks().len(), recorder.intervals.len(), recorder.total().len()), (25, 3, 251));
        let third = recorder.ticks()[3];
        assert_eq!((third.at, third.ok, third.bad), (TICK * 3, 10, 1));
        assert!(third.p50.abs_diff(4_000_000) < 4_000 && third.p50 <= third.max);
        assert!(
            recorder.total().max().abs_diff(NANOS_MAX) < NANOS_MAX / 1000,
            "longer than a minute counts as a minute"
        );
    }

    #[test]
    fn the_log_is_read_back_by_the_library() {
        use base64_of_tests::decode;
        let recorder = recorded();
        let mut log = Vec::new();
        recorder.write_hlog(SystemTime::UNIX_EPOCH + Duration::from_secs(1000), &mut log).unwrap();
        let mut counts = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = decode(interval.encoded_histogram());
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                counts.push((interval.start_timestamp().as_secs(), histogram.len()));
            }
        }
        assert_eq!(counts, [(0, 100), (1, 100), (2, 51)]);
    }

    #[test]
    fn the_percentile_table_ends_at_one_with_all_commands() {
        let mut table = Vec::new();
        recorded().write_hgrm(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("1.000000000000        251\n"), "{table}");
        assert!(table.trim_start().starts_with("Value"));
        let curve = recorded().curve();
        assert!(curve.windows(2).all(|pair| pair[1].0 <= pair[0].0 && pair[0].1 <= pair[1].1));
    }

    /// Base 64 by hand, since nothing else here needs it.
    mod base64_of_tests {
        pub fn decode(text: &str) -> Vec<u8> {
            let value = |byte: u8| match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                other => panic!("{other}"),
            };
            let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(value).collect();
            let mut bytes = Vec::new();
            for four in digits.chunks(4) {
                let bits = four
                    .iter()
                    .enumerate()
                    .fold(0u32, |bits, (i, digit)| bits | u32::from(*digit) << (18 - 6 * i));
                bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
            }
            bytes
        }
    }
}
