//! What load is to be made: an open or a closed loop, how many connections, which commands.

use std::time::Duration;

/// How keys are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Each key as often as any other.
    Uniform,
    /// Few keys often, most rarely (exponent 0.99, as YCSB does).
    Zipf,
}

/// The load. What is not said here is measured elsewhere.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections, spread over the endpoints in turn.
    pub connections: usize,
    /// Commands that a connection sends before it waits for replies.
    pub in_flight: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Number of different keys.
    pub keys: u64,
    /// What a key begins with; the rest is its number.
    pub key_prefix: String,
    /// How they are drawn.
    pub distribution: Distribution,
    /// `GET`s in a hundred commands; the rest are `SET`s.
    pub read_percent: u8,
    /// Open loop: commands a second, each with a time at which it is due; latency counts from then. `None`: closed loop.
    pub rate: Option<u64>,
    /// Open loop: so many commands that fall due one after another go to one connection, then as many to the next.
    pub pipeline: usize,
    /// Load that is not measured.
    pub warm_up: Duration,
    /// Load that is.
    pub duration: Duration,
    /// The same seed draws the same commands.
    pub seed: u64,
    /// Sent in an `AUTH` first.
    pub password: Option<String>,
    /// The servers are etcd's, and every command a `Put`.
    pub etcd: bool,
}

/// What a plan may say at most; more is a mistake, or would measure the generator.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Commands in flight of a connection.
pub const IN_FLIGHT_MAX: usize = 65_536;
/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

impl Plan {
    /// Says what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let limits = [
            ("connections", self.connections as u64, 1, CONNECTIONS_MAX as u64),
            ("in-flight", self.in_flight as u64, 1, IN_FLIGHT_MAX as u64),
            ("pipeline", self.pipeline as u64, 1, IN_FLIGHT_MAX as u64),
            ("value-bytes", self.value_bytes as u64, 0, VALUE_BYTES_MAX as u64),
            ("keys", self.keys, 1, 1_000_000_000_000),
            ("reads", u64::from(self.read_percent), 0, 100),
            ("rate", self.rate.unwrap_or(1), 1, 1_000_000_000),
            ("duration in ms", self.duration.as_millis() as u64, 1, 86_400_000),
        ];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} is {value}; it must lie between {least} and {most}"));
            }
        }
        Ok(())
    }

    /// One word a dimension, for reports.
    pub fn workload(&self) -> String {
        let mix = match self.read_percent {
            0 => "write".to_string(),
            100 => "read".to_string(),
            reads => format!("{reads}% read"),
        };
        let keys = if self.distribution == Distribution::Zipf { "zipf" } else { "uniform" };
        let pace = match self.rate {
            Some(_) => format!("open loop in pipelines of {}", self.pipeline),
            None => "closed loop".to_string(),
        };
        format!("{mix}, {} {keys} keys, {pace}", self.keys)
    }
}
