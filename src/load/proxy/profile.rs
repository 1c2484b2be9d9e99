//! Networks by name, for `bench --wan`.

use super::shape::Shape;
use crate::config::units;
use std::time::Duration;

/// A named network: every link one way.
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    latency_us: u64,
    jitter_us: u64,
    /// Megabits a second, as lines are sold.
    megabits: u64,
    /// What it stands for.
    pub about: &'static str,
}

/// All of them.
pub const PROFILES: &[Profile] = &[
    Profile { name: "rack", latency_us: 100, jitter_us: 50, megabits: 10_000, about: "machines of one room" },
    Profile {
        name: "region",
        latency_us: 500,
        jitter_us: 200,
        megabits: 5_000,
        about: "data centres of one city",
    },
    Profile {
        name: "continent",
        latency_us: 15_000,
        jitter_us: 3_000,
        megabits: 1_000,
        about: "Frankfurt to Madrid",
    },
    Profile {
        name: "world",
        latency_us: 75_000,
        jitter_us: 10_000,
        megabits: 300,
        about: "Frankfurt to Tokyo",
    },
];

/// The shape of every link: of a profile, or of a time such as `50ms`, which means 50 ms more or less by up to 50 ms.
pub fn parse(text: &str) -> Result<Shape, String> {
    if let Some(profile) = PROFILES.iter().find(|profile| profile.name == text) {
        return Ok(Shape {
            latency: Duration::from_micros(profile.latency_us),
            jitter: Duration::from_micros(profile.jitter_us),
            bandwidth: Some(profile.megabits * 1_000_000 / 8),
            ..Shape::default()
        });
    }
    let wild = units::parse_duration(text).map(units::show_duration);
    let shape = wild.and_then(|time| Shape::parse(&format!("latency={time},jitter={time}")).ok());
    shape.ok_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        format!(
            "{text:?} is no network; use {}, or a time up to 60s such as 50ms for 50 ms +- 50 ms",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_a_name_or_is_a_time() {
        assert_eq!(parse("region").unwrap().show(), "latency=500us,jitter=200us,bandwidth=625000000B");
        assert_eq!(parse("50ms").unwrap().show(), "latency=50ms,jitter=50ms");
        assert!(parse("moon").unwrap_err().contains("continent, world"));
        assert!(PROFILES.iter().all(|profile| profile.jitter_us <= profile.latency_us));
    }
}
