//! What a bench says in the end: one value, printed as a table for people and as JSON for programs. The names in it are stable.

use super::attack::Endured;
use super::machine::Host;
use super::record::Tick;
use super::words::{duration, grouped};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::path::PathBuf;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the nodes run; `resp` for servers that are not ours.
    pub protocol: String,
    /// How many.
    pub nodes: usize,
    /// What an acknowledgement means: `quorum-sync`, `none`, or `unknown` for servers that are not ours.
    pub durability: String,
    /// Mix, keys and pace in a few words.
    pub workload: String,
    /// How every link between nodes behaves, where a proxy stands between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<String>,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Connections.
    pub connections: usize,
    /// Commands in flight of each.
    pub in_flight: usize,
    /// Commands a second that were offered; none in a closed loop.
    pub offered_per_s: Option<u64>,
    /// Commands a second that were answered without an error.
    pub achieved_per_s: f64,
    /// Commands that were answered with an error.
    pub errors: u64,
    /// Commands whose outcome is unknown.
    pub indeterminate: u64,
    /// Latencies; in an open loop from when a command was due.
    pub latency_us: Latency,
    /// What the bare machine reaches with the same load; none if it was not measured.
    pub limit_per_s: Option<f64>,
    /// `achieved_per_s` as a part of it.
    pub share_of_limit: Option<f64>,
    /// The bare machine's latencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_latency_us: Option<Latency>,
    /// The bare machine's CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_cpu_us_per_op: Option<CpuPerOperation>,
    /// The bare machine's latencies at the rate of an open loop: nothing that writes on this host can do better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_latency_at_rate_us: Option<Latency>,
    /// CPU time.
    pub cpu_us_per_op: CpuPerOperation,
    /// Resident memory at the end of the load, the mean of the nodes; none for nodes of elsewhere.
    pub memory_bytes_per_node: Option<u64>,
    /// How far the cores are apart.
    pub core_round_trip_ns: RoundTrip,
    /// Whether what clients saw is linearizable; none if it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// What was still done while nodes lied; none if none was told to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endured: Option<Endured>,
    /// From the kill of the leader to the first answer to a command sent after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_ms: Option<f64>,
    /// The texts of errors, and how often each came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_texts: Vec<(String, u64)>,
    /// How it went, in tenths of a second.
    pub timeline: Vec<Moment>,
    /// The machine.
    pub host: Host,
    /// What was typed.
    pub command: String,
}

/// What the check of the recorded history said.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// In words.
    pub verdict: String,
    /// None while undecided.
    pub linearizable: Option<bool>,
    /// Operations of the load, before, in and after the measured time, and one read a key at the end.
    pub operations: u64,
    /// Of them, those whose outcome nobody knows.
    pub unknown: u64,
    /// Keys that were used.
    pub keys: u64,
    /// Duration of the check.
    pub seconds: f64,
    /// Where the history is, if it was kept.
    pub history: Option<PathBuf>,
}

impl Verified {
    fn to_text(&self) -> String {
        let Verified { verdict, operations, unknown, keys, seconds, .. } = self;
        let [operations, unknown, keys] = [operations, unknown, keys].map(|count| grouped(*count as f64));
        format!(
            "{verdict}: {operations} operations on {keys} keys, {unknown} with unknown outcome, checked in {seconds:.1} s"
        )
    }
}

/// A tenth of a second of a run.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq)]
pub struct Moment {
    /// Milliseconds since the measured time began.
    pub at_ms: u64,
    /// Commands that were answered without an error.
    pub ok: u64,
    /// Commands that were answered with an error, or not.
    pub bad: u64,
    /// Half of those that were answered took at most this, in microseconds.
    pub p50_us: f64,
    /// 99 of a hundred.
    pub p99_us: f64,
    /// All.
    pub max_us: f64,
}

impl Moment {
    /// Of a point of the recorder's timeline.
    pub fn of(tick: &Tick) -> Moment {
        let us = |nanos: u64| nanos as f64 / 1e3;
        let (p50_us, p99_us, max_us) = (us(tick.p50), us(tick.p99), us(tick.max));
        Moment { at_ms: tick.at.as_millis() as u64, ok: tick.ok, bad: tick.bad, p50_us, p99_us, max_us }
    }
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq)]
pub struct Latency {
    /// Half of the commands took at most this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p999: f64,
    /// All.
    pub max: f64,
}

/// CPU microseconds a command.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq)]
pub struct CpuPerOperation {
    /// All nodes together; none for nodes of elsewhere.
    pub nodes: Option<f64>,
    /// The load generator.
    pub load: f64,
}

/// Before and after the load; none with a single core.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq)]
pub struct RoundTrip {
    /// Nanoseconds.
    pub before: Option<f64>,
    /// Nanoseconds.
    pub after: Option<f64>,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    pub fn of(nanos: &Histogram<u64>) -> Latency {
        if nanos.is_empty() {
            return Latency::default();
        }
        let quantile = |q| nanos.value_at_quantile(q) as f64 / 1000.0;
        Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: nanos.max() as f64 / 1000.0,
        }
    }
}

impl Report {
    /// As `report.json` and `-o json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("names are strings and numbers are finite")
    }

    /// The table for people.
    pub fn to_text(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![
            ("protocol", format!("{}, {} nodes, durability {}", self.protocol, self.nodes, self.durability)),
            ("workload", format!("{}, {} B values", self.workload, self.value_bytes)),
            ("load", format!("{} connections x {} in flight", self.connections, self.in_flight)),
        ];
        if let Some(links) = &self.links {
            rows.push(("links", links.clone()));
        }
        let offered =
            self.offered_per_s.map_or(String::new(), |rate| format!(" of {} offered", grouped(rate as f64)));
        rows.push(("throughput", format!("{}/s{offered}", grouped(self.achieved_per_s))));
        rows.push(("latency", self.latency_us.to_text()));
        if let (Some(limit), Some(share)) = (self.limit_per_s, self.share_of_limit) {
            rows.push((
                "bare machine",
                format!("{}/s; this is {:.1} % of it", grouped(limit), share * 100.0),
            ));
        }
        if let Some(latency) = &self.limit_latency_us {
            rows.push(("  its latency", latency.to_text()));
        }
        if let Some(cpu) = &self.limit_cpu_us_per_op {
            rows.push(("  its CPU", cpu.to_text()));
        }
        if let Some(latency) = &self.limit_latency_at_rate_us {
            rows.push(("  at this rate", latency.to_text()));
        }
        rows.push(("CPU a command", self.cpu_us_per_op.to_text()));
        if let Some(bytes) = self.memory_bytes_per_node {
            rows.push(("memory a node", format!("{:.1} MB", bytes as f64 / 1e6)));
        }
        if let Some(recovery) = self.recovery_ms {
            rows.push(("recovery", format!("{recovery:.0} ms from the leader's end to the next write")));
        }
        if let Some(endured) = &self.endured {
            let Endured { attack, liars, share, calm_per_s, .. } = endured;
            let calm = grouped(*calm_per_s);
            rows.push(("attack", format!("{attack} by {liars}: {:.0} % of {calm}/s", share * 100.0)));
        }
        if let Some(verified) = &self.verified {
            rows.push(("history", verified.to_text()));
        }
        rows.push(("errors", format!("{}, {} with unknown outcome", self.errors, self.indeterminate)));
        for (text, count) in &self.error_texts {
            rows.push(("", format!("{count} x {text}")));
        }
        rows.push(("machine", self.machine()));
        let lines = rows.iter().map(|(name, text)| format!("{name:<14} {text}\n"));
        lines.collect()
    }

    fn machine(&self) -> String {
        let host = &self.host;
        let trip = |nanos: Option<f64>| nanos.map_or("-".to_string(), |nanos| format!("{nanos:.0}"));
        let trips =
            format!("{} / {}", trip(self.core_round_trip_ns.before), trip(self.core_round_trip_ns.after));
        let memory = host.memory_bytes as f64 / f64::from(1u32 << 30);
        let disk = host
            .filesystem
            .as_ref()
            .map_or(String::new(), |found| format!(", {} on {}", found.kind, found.source));
        let sync = host.sync_write_us.map_or(String::new(), |us| format!(" (4 KiB synced in {us:.0} us)"));
        format!(
            "{} x {}, {memory:.0} GiB, Linux {}{disk}{sync}; core to core and back {trips} ns",
            host.cores, host.cpu, host.kernel
        )
    }
}

impl CpuPerOperation {
    fn to_text(self) -> String {
        let nodes = self.nodes.map_or("not measured".to_string(), |us| format!("{us:.2} us"));
        format!("{nodes} over all nodes, {:.2} us for the load", self.load)
    }
}

impl Latency {
    fn to_text(self) -> String {
        let Latency { p50, p90, p99, p999, max } = self;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(duration);
        format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}

/// The mean of the timeline's rates, leaving out ticks in which nothing could be answered; for tests and pages.
pub fn per_second(tick: &Tick) -> f64 {
    tick.ok as f64 / super::record::TICK.as_secs_f64()
}

#[cfg(test)]
pub(super) fn sample() -> Report {
    Report {
        protocol: "raft".into(),
        nodes: 5,
        durability: "quorum-sync".into(),
        workload: "write".into(),
        links: None,
        value_bytes: 256,
        connections: 64,
        in_flight: 16,
        offered_per_s: None,
        achieved_per_s: 1_234_567.8,
        errors: 1,
        indeterminate: 2,
        latency_us: Latency { p50: 1.0, p90: 2.0, p99: 3_000.0, p999: 4_000_000.0, max: 5_000_000.0 },
        limit_per_s: Some(3e6),
        share_of_limit: Some(0.4115),
        limit_latency_us: None,
        limit_cpu_us_per_op: None,
        limit_latency_at_rate_us: None,
        cpu_us_per_op: CpuPerOperation { nodes: Some(4.2), load: 0.25 },
        memory_bytes_per_node: Some(50_000_000),
        core_round_trip_ns: RoundTrip { before: Some(90.0), after: None },
        verified: None,
        endured: None,
        recovery_ms: None,
        error_texts: vec![("ERR no & <why>".into(), 1)],
        timeline: vec![Moment { at_ms: 0, ok: 100_000, bad: 0, p50_us: 1.0, p99_us: 3.0, max_us: 5.0 }],
        host: Host {
            kernel: "6.1".into(),
            cpu: "a cpu".into(),
            cores: 2,
            memory_bytes: 8 << 30,
            filesystem: None,
            sync_write_us: None,
        },
        command: "quorate bench".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_json_are_stable() {
        let json = sample().to_json();
        let names = "protocol nodes durability workload value_bytes connections in_flight offered_per_s achieved_per_s errors \
            indeterminate latency_us limit_per_s share_of_limit cpu_us_per_op memory_bytes_per_node core_round_trip_ns host command timeline";
        for name in names.split_whitespace() {
            assert!(json.get(name).is_some(), "{name}");
        }
        let keys =
            |name: &str| json[name].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(keys("latency_us"), ["max", "p50", "p90", "p99", "p999"]);
        assert_eq!(keys("cpu_us_per_op"), ["load", "nodes"]);
        assert_eq!(keys("core_round_trip_ns"), ["after", "before"]);
    }

    #[test]
    fn the_table_reads_well() {
        let text = sample().to_text();
        assert!(text.contains("throughput     1,234,568/s\n"), "{text}");
        assert!(text.contains("p50 1 us  p90 2 us  p99 3.00 ms  p99.9 4.00 s  max 5.00 s"), "{text}");
        assert!(text.contains("this is 41.1 % of it") || text.contains("this is 41.2 % of it"), "{text}");
        assert_eq!([grouped(0.0), grouped(999.0), grouped(1000.0)], ["0", "999", "1,000"]);
    }

    #[test]
    fn a_verdict_is_in_both_forms() {
        let verified = Verified {
            verdict: "not linearizable".into(),
            linearizable: Some(false),
            operations: 12_345,
            unknown: 6,
            keys: 78,
            seconds: 0.5,
            history: None,
        };
        let report = Report { verified: Some(verified), ..sample() };
        let line = "history        not linearizable: 12,345 operations on 78 keys, 6 with unknown outcome, checked in 0.5 s\n";
        assert!(report.to_text().contains(line), "{}", report.to_text());
        assert_eq!(report.to_json()["verified"]["linearizable"], serde_json::json!(false));
        assert!(sample().to_json().get("verified").is_none());
    }

    #[test]
    fn quantiles_of_nothing_are_zero() {
        assert_eq!(Latency::of(&Histogram::<u64>::new(3).unwrap()), Latency::default());
    }
}
