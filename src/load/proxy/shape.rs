//! What a directed link does to the bytes on it.

use crate::config::units;
use std::time::Duration;

/// A link's behaviour. What is not said is as if nobody stood between.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Bytes arrive so much later.
    pub latency: Duration,
    /// The latency of each piece lies so much below or above, evenly; bytes stay in order, so a late piece holds back what follows.
    pub jitter: Duration,
    /// Bytes a second at most.
    pub bandwidth: Option<u64>,
    /// Nothing arrives, and nobody is told: what a network does that drops every packet. Set again without it, all arrives.
    pub stall: bool,
    /// Connections end, and new ones are refused. It ends both directions: a connection has two or none.
    pub cut: bool,
    /// Bits that are flipped in a million bytes.
    pub flips: u32,
}

/// What may be late at most.
const LATENCY_MAX: Duration = Duration::from_secs(60);

impl Shape {
    /// Reads words with commas between them, such as `latency=50ms,jitter=50ms,bandwidth=1MiB`, `stall`, `cut`, `flips=10` or `clear`.
    pub fn parse(text: &str) -> Result<Shape, String> {
        let mut shape = Shape::default();
        for word in text.split(',').map(str::trim) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let time = || units::parse_duration(value).filter(|time| *time <= LATENCY_MAX);
            let good = match name {
                "clear" | "stall" | "cut" if !value.is_empty() => None,
                "clear" => Some(()),
                "stall" => {
                    shape.stall = true;
                    Some(())
                }
                "cut" => {
                    shape.cut = true;
                    Some(())
                }
                "latency" => time().map(|time| shape.latency = time),
                "jitter" => time().map(|time| shape.jitter = time),
                "bandwidth" => {
                    units::parse_size(value).filter(|rate| 0 < *rate).map(|rate| shape.bandwidth = Some(rate))
                }
                "flips" => {
                    value.parse().ok().filter(|flips| *flips <= 1_000_000).map(|flips| shape.flips = flips)
                }
                _ => None,
            };
            good.ok_or_else(|| {
                format!("{word:?} is no shape of a link; use latency=50ms, jitter=50ms (up to 60s), bandwidth=1MiB, flips=10 (bits in a million bytes), stall, cut or clear")
            })?;
        }
        Ok(shape)
    }

    /// As it is read.
    pub fn show(&self) -> String {
        let mut words = Vec::new();
        let mut time = |name: &str, time: Duration| {
            if !time.is_zero() {
                words.push(format!("{name}={}", units::show_duration(time)));
            }
        };
        time("latency", self.latency);
        time("jitter", self.jitter);
        words.extend(self.bandwidth.map(|rate| format!("bandwidth={}", units::show_size(rate))));
        words.extend((0 < self.flips).then(|| format!("flips={}", self.flips)));
        words.extend(self.stall.then(|| "stall".to_string()));
        words.extend(self.cut.then(|| "cut".to_string()));
        if words.is_empty() { "clear".to_string() } else { words.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_is_shown() {
        for text in [
            "clear",
            "stall",
            "cut",
            "latency=50ms,jitter=50ms,bandwidth=1MiB,flips=3,stall,cut",
            "bandwidth=1500B",
        ] {
            assert_eq!(Shape::parse(text).unwrap().show(), text);
        }
        let shape = Shape::parse("latency=2s, jitter=1ms").unwrap();
        assert_eq!((shape.latency, shape.jitter), (Duration::from_secs(2), Duration::from_millis(1)));
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        for text in
            ["", "fast", "latency", "latency=5", "latency=61s", "bandwidth=0", "flips=2000000", "cut=1"]
        {
            let error = Shape::parse(text).unwrap_err();
            assert!(error.contains("latency=50ms"), "{text}: {error}");
        }
    }
}
