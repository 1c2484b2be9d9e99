//! Figures on their way out: what agents report is gathered in [`Figures`], laid on the [`Board`], and written as Prometheus text
//! or JSON.
//!
//! A core thread gathers its agents' figures about once a second and swaps them onto the board; the service thread reads the board
//! when somebody asks. The board's lock is held for a swap or a copy, never while text is written, and by nobody on the hot path.

use super::Report;
use hdrhistogram::Histogram;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// Upper bounds of the exported buckets: nanoseconds, and the same in seconds as text. A fixed ladder, so that nodes add up.
const LADDER: [(u64, &str); 22] = [
    (1_000, "0.000001"),
    (2_000, "0.000002"),
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (20_000, "0.00002"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (200_000, "0.0002"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_000_000_000, "2"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// The quantiles of the JSON form, in thousandths.
const QUANTILES: [(u64, &str); 4] = [(500, "p50"), (900, "p90"), (990, "p99"), (999, "p999")];

type Labels = Vec<(&'static str, String)>;

/// A copy of what some agents had to tell: families by name, each with one series a set of labels.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Put before the labels of every series, such as `node` and `group`.
    base: Labels,
    families: BTreeMap<&'static str, Family>,
}

#[derive(Clone, Debug)]
struct Family {
    help: &'static str,
    kind: &'static str,
    /// Invariant: no two have equal labels.
    series: Vec<(Labels, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Latency(Box<Latency>),
}

/// A histogram brought down to the ladder.
#[derive(Clone, Debug, Default)]
struct Latency {
    /// `counts[i]` values are above bound `i - 1` and at most bound `i`; those above the last bound are only in `count`.
    counts: [u64; LADDER.len()],
    count: u64,
    sum_nanos: u128,
    quantile_nanos: [u64; QUANTILES.len()],
    max_nanos: u64,
}

impl Latency {
    /// One pass over the recorded values.
    fn of(nanos: &Histogram<u64>) -> Latency {
        let mut latency = Latency { count: nanos.len(), max_nanos: nanos.max(), ..Latency::default() };
        let (mut rung, mut quantile, mut seen) = (0, 0, 0u64);
        for value in nanos.iter_recorded() {
            let (count, highest) = (value.count_since_last_iteration(), value.value_iterated_to());
            // A value stands for a range of equal precision; its lowest decides the rung, so that a bound counts as reached.
            let lowest = nanos.lowest_equivalent(highest);
            while rung < LADDER.len() && LADDER[rung].0 < lowest {
                rung += 1;
            }
            if rung < LADDER.len() {
                latency.counts[rung] += count;
            }
            latency.sum_nanos += u128::from(nanos.median_equivalent(highest)) * u128::from(count);
            seen += count;
            while quantile < QUANTILES.len() && reached(seen, latency.count, QUANTILES[quantile].0) {
                latency.quantile_nanos[quantile] = highest.min(latency.max_nanos);
                quantile += 1;
            }
        }
        latency
    }

    /// Adds the counts of `other`. Quantiles of a sum cannot be had from quantiles: the larger is told, which errs on the slow side.
    fn add(&mut self, other: &Latency) {
        self.counts.iter_mut().zip(other.counts).for_each(|(mine, its)| *mine += its);
        self.count += other.count;
        self.sum_nanos += other.sum_nanos;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.quantile_nanos
            .iter_mut()
            .zip(other.quantile_nanos)
            .for_each(|(mine, its)| *mine = its.max(*mine));
    }

    fn to_json(&self) -> Json {
        let mut map = Map::new();
        map.insert("count".into(), json!(self.count));
        map.insert("sum".into(), json!(seconds(self.sum_nanos)));
        for ((_, name), nanos) in QUANTILES.iter().zip(self.quantile_nanos) {
            map.insert((*name).into(), json!(seconds(nanos.into())));
        }
        map.insert("max".into(), json!(seconds(self.max_nanos.into())));
        Json::Object(map)
    }
}

/// Whether `seen` of `count` values are at least `thousandths` of them.
fn reached(seen: u64, count: u64, thousandths: u64) -> bool {
    u128::from(count) * u128::from(thousandths) <= u128::from(seen) * 1000
}

fn seconds(nanos: u128) -> f64 {
    nanos as f64 / 1e9
}

impl Figures {
    /// No figures yet; `base` goes before the labels of every series.
    pub fn new(base: &[(&'static str, &str)]) -> Figures {
        Figures { base: owned(base), families: BTreeMap::new() }
    }

    /// Forgets the figures and keeps the base labels.
    pub fn clear(&mut self) {
        self.families.clear();
    }

    /// Takes in what `other` holds. Equal series add up, gauges take the larger.
    pub fn merge(&mut self, other: &Figures) {
        for (name, family) in &other.families {
            for (labels, value) in &family.series {
                self.put(name, family.help, family.kind, labels.clone(), value.clone());
            }
        }
    }

    fn put(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: Labels,
        value: Value,
    ) {
        let family = self.families.entry(name).or_insert_with(|| Family { help, kind, series: Vec::new() });
        assert_eq!(family.kind, kind, "{name} is reported as two kinds of metric");
        match family.series.iter_mut().find(|(known, _)| *known == labels) {
            None => family.series.push((labels, value)),
            Some((_, known)) => match (known, value) {
                (Value::Counter(sum), Value::Counter(more)) => *sum += more,
                (Value::Gauge(largest), Value::Gauge(other)) => *largest = largest.max(other),
                (Value::Latency(sum), Value::Latency(more)) => sum.add(&more),
                _ => unreachable!("values of one kind are of one shape"),
            },
        }
    }

    fn report(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: Value,
    ) {
        let kind = match value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Latency(_) => "histogram",
        };
        let mut all = self.base.clone();
        all.extend(owned(labels));
        self.put(name, help, kind, all, value);
    }

    /// The figures in the Prometheus text format, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        for (name, family) in &self.families {
            let _ = writeln!(out, "# HELP {name} {}", escaped(family.help, false));
            let _ = writeln!(out, "# TYPE {name} {}", family.kind);
            for (labels, value) in &family.series {
                match value {
                    Value::Counter(count) => line(&mut out, name, "", labels, None, &count.to_string()),
                    Value::Gauge(level) => line(&mut out, name, "", labels, None, &float(*level)),
                    Value::Latency(latency) => write_latency(&mut out, name, labels, latency),
                }
            }
        }
        out
    }

    /// The figures as an object of families, each a list of series. Latencies are in seconds, with quantiles.
    pub fn to_json(&self) -> Json {
        let families = self.families.iter().map(|(name, family)| {
            let series = family.series.iter().map(|(labels, value)| {
                let labels = labels.iter().map(|(k, v)| ((*k).to_string(), json!(v)));
                let value = match value {
                    Value::Counter(count) => json!(count),
                    Value::Gauge(level) => json!(level),
                    Value::Latency(latency) => latency.to_json(),
                };
                json!({ "labels": labels.collect::<Map<_, _>>(), "value": value })
            });
            ((*name).to_string(), series.collect::<Json>())
        });
        Json::Object(families.collect())
    }
}

impl Report for Figures {
    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.report(name, help, labels, Value::Counter(value));
    }
    fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.report(name, help, labels, Value::Gauge(value));
    }
    fn latency(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        nanos: &Histogram<u64>,
    ) {
        self.report(name, help, labels, Value::Latency(Box::new(Latency::of(nanos))));
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, (*value).to_string())).collect()
}

fn write_latency(out: &mut String, name: &str, labels: &Labels, latency: &Latency) {
    let mut at_most = 0;
    for ((_, bound), count) in LADDER.iter().zip(latency.counts) {
        at_most += count;
        line(out, name, "_bucket", labels, Some(bound), &at_most.to_string());
    }
    line(out, name, "_bucket", labels, Some("+Inf"), &latency.count.to_string());
    line(out, name, "_sum", labels, None, &float(seconds(latency.sum_nanos)));
    line(out, name, "_count", labels, None, &latency.count.to_string());
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &Labels, bound: Option<&str>, value: &str) {
    out.push_str(name);
    out.push_str(suffix);
    let bound = bound.map(|text| ("le", text));
    let all = labels.iter().map(|(label, text)| (*label, text.as_str())).chain(bound);
    let mut separator = '{';
    for (label, text) in all {
        let _ = write!(out, "{separator}{label}=\"{}\"", escaped(text, true));
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// Backslash and line feed are escaped everywhere, the quotation mark in label values.
fn escaped(text: &str, quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quoted { text.replace('"', "\\\"") } else { text }
}

fn float(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        v => v.to_string(),
    }
}

/// Where core threads lay their figures for whoever asks: one place a core.
pub struct Board {
    places: Vec<Mutex<Figures>>,
}

impl Board {
    /// With so many places.
    pub fn new(places: usize) -> Board {
        Board { places: (0..places).map(|_| Mutex::default()).collect() }
    }

    /// Lays `figures` on a place and gives back what lay there, to be cleared and filled again.
    pub fn publish(&self, place: usize, figures: &mut Figures) {
        std::mem::swap(&mut *lock(&self.places[place]), figures);
    }

    /// All places together.
    pub fn figures(&self) -> Figures {
        let mut all = Figures::default();
        for place in &self.places {
            let copy = lock(place).clone();
            all.merge(&copy);
        }
        all
    }
}

/// Figures are whole after every call, so a thread that died with the lock has left nothing half-done.
fn lock(place: &Mutex<Figures>) -> std::sync::MutexGuard<'_, Figures> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::latencies;
    use std::collections::BTreeSet;

    fn sample() -> Figures {
        let mut figures = Figures::new(&[("node", "3"), ("group", "1")]);
        figures.counter("quorate_commands_total", "Commands taken.", &[("kind", "write")], 7);
        figures.counter("quorate_commands_total", "Commands taken.", &[("kind", "read")], 2);
        figures.gauge("quorate_up", "A \\ and a\nbreak.", &[("why", "said \"no\"\\\n")], 0.25);
        let mut nanos = latencies();
        [2_000u64, 3_000, 700_000, 60_000_000_000].iter().for_each(|v| nanos.saturating_record(*v));
        figures.latency("quorate_stage_seconds", "Time in a stage.", &[("stage", "sync")], &nanos);
        figures
    }

    #[test]
    fn the_text_is_as_the_format_says() {
        let text = sample().to_prometheus();
        let head = "# HELP quorate_commands_total Commands taken.\n\
            # TYPE quorate_commands_total counter\n\
            quorate_commands_total{node=\"3\",group=\"1\",kind=\"write\"} 7\n\
            quorate_commands_total{node=\"3\",group=\"1\",kind=\"read\"} 2\n\
            # HELP quorate_stage_seconds Time in a stage.\n\
            # TYPE quorate_stage_seconds histogram\n\
            quorate_stage_seconds_bucket{node=\"3\",group=\"1\",stage=\"sync\",le=\"0.000001\"} 0\n\
            quorate_stage_seconds_bucket{node=\"3\",group=\"1\",stage=\"sync\",le=\"0.000002\"} 1\n\
            quorate_stage_seconds_bucket{node=\"3\",group=\"1\",stage=\"sync\",le=\"0.000005\"} 2\n";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("le=\"10\"} 3\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 4\n"), "{text}");
        let tail = "# HELP quorate_up A \\\\ and a\\nbreak.\n\
            # TYPE quorate_up gauge\n\
            quorate_up{node=\"3\",group=\"1\",why=\"said \\\"no\\\"\\\\\\n\"} 0.25\n";
        assert!(text.ends_with(tail), "{text}");
        strict(&text);
    }

    #[test]
    fn parts_of_several_cores_add_up() {
        let board = Board::new(2);
        let mut figures = sample();
        board.publish(0, &mut figures);
        figures = sample();
        board.publish(1, &mut figures);
        let all = board.figures();
        let json = all.to_json();
        assert_eq!(json["quorate_commands_total"][0]["value"], 14);
        assert_eq!(json["quorate_up"][0]["value"], 0.25);
        assert_eq!(json["quorate_stage_seconds"][0]["value"]["count"], 8);
        strict(&all.to_prometheus());
    }

    #[test]
    fn quantiles_are_those_of_the_histogram() {
        let mut nanos = latencies();
        (1..=10_000u64).for_each(|i| nanos.saturating_record(i * 1_000));
        let mut figures = Figures::new(&[]);
        figures.latency("quorate_x_seconds", "X.", &[], &nanos);
        let value = figures.to_json()["quorate_x_seconds"][0]["value"].clone();
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            let expected = nanos.value_at_quantile(quantile) as f64 / 1e9;
            assert_eq!(value[name].as_f64().unwrap(), expected, "{name}");
        }
        assert_eq!(value["max"].as_f64().unwrap(), nanos.max() as f64 / 1e9);
        let sum = value["sum"].as_f64().unwrap();
        assert!((49.5..50.5).contains(&sum), "the sum of 1..=10000 us is 50 s, not {sum}");
    }

    /// A second reader of the format, stricter than Prometheus: panics on anything but what we mean to write.
    fn strict(text: &str) {
        assert!(text.ends_with('\n'));
        let (mut family, mut kind, mut seen, mut families) = ("", "", BTreeSet::new(), BTreeSet::new());
        let mut last_bucket = 0u64;
        for text in text.lines() {
            if let Some(rest) = text.strip_prefix("# HELP ") {
                family = rest.split_once(' ').unwrap().0;
                assert!(families.insert(family), "{family} twice");
            } else if let Some(rest) = text.strip_prefix("# TYPE ") {
                let (name, its) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert!(["counter", "gauge", "histogram"].contains(&its));
                assert_eq!(its == "counter", name.ends_with("_total"), "{name}");
                kind = its;
            } else {
                let (series, value) = text.rsplit_once(' ').unwrap();
                assert!(seen.insert(series), "{series} twice");
                let name = series.split('{').next().unwrap();
                assert!(name.starts_with("quorate_") && name.starts_with(family));
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&&name[family.len()..]), "{name}");
                assert!(value.parse::<f64>().is_ok(), "{value}");
                labels(&series[name.len()..]);
                if let Some((_, bound)) = series.split_once("le=\"") {
                    let count = value.parse().unwrap();
                    assert!(last_bucket <= count || bound.starts_with("0.000001"), "buckets are cumulative");
                    last_bucket = count;
                }
            }
        }
    }

    fn labels(text: &str) {
        if text.is_empty() {
            return;
        }
        let mut rest = text.strip_prefix('{').unwrap();
        loop {
            let (name, after) = rest.split_once("=\"").unwrap();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            let mut end = None;
            let mut escape = false;
            for (at, c) in after.char_indices() {
                match (escape, c) {
                    (true, 'n' | '"' | '\\') => escape = false,
                    (true, other) => panic!("\\{other} is no escape"),
                    (false, '\\') => escape = true,
                    (false, '"') => {
                        end = Some(at);
                        break;
                    }
                    _ => {}
                }
            }
            rest = &after[end.unwrap() + 1..];
            if rest == "}" {
                return;
            }
            rest = rest.strip_prefix(',').unwrap();
        }
    }
}
