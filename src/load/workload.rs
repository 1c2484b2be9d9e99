//! The commands of a load: which key, read or write, and their bytes. A command is a template with its key written over.

use super::plan::{Distribution, Plan};
use crate::base::Prng;
use bytes::{BufMut, BytesMut};

/// What keys begin with, unless a load needs keys of its own.
pub const KEY_PREFIX: &str = "key:";
/// Digits of a key behind its prefix.
const KEY_DIGITS: usize = 12;
/// As YCSB; closer to one means more skew.
const ZIPF_EXPONENT: f64 = 0.99;
/// Bytes of a value that differ from command to command.
pub const FRESH_BYTES: usize = 8;

/// What a command asks: enough to hold its answer against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Of which key.
    pub key: u64,
    /// The number of the write, which its value carries; none for a read.
    pub write: Option<u64>,
}

/// Draws commands and writes them down.
pub struct Workload {
    key_prefix: String,
    random: Prng,
    keys: Keys,
    read_percent: u64,
    set: Template,
    get: Template,
    count: u64,
}

struct Template {
    bytes: Vec<u8>,
    key_at: usize,
    fresh_at: usize,
    fresh: usize,
}

impl Workload {
    /// The commands of a plan. `stream` makes several generators of one plan differ.
    pub fn new(plan: &Plan, stream: u64) -> Workload {
        let mut random = Prng::from_seed(plan.seed.wrapping_add(stream));
        let value: Vec<u8> = (0..plan.value_bytes).map(|_| b'a' + random.below(26) as u8).collect();
        let keys = Keys::new(plan.distribution, plan.keys);
        let prefix = &plan.key_prefix;
        Workload {
            key_prefix: prefix.clone(),
            random,
            keys,
            read_percent: u64::from(plan.read_percent),
            set: Template::set(prefix, &value),
            get: Template::get(prefix),
            count: 0,
        }
    }

    /// Appends the next command; what it asks.
    pub fn write(&mut self, out: &mut BytesMut) -> Asked {
        let key = self.keys.draw(&mut self.random);
        let read = 0 < self.read_percent && self.random.below(100) < self.read_percent;
        self.count += 1;
        let template = if read { &mut self.get } else { &mut self.set };
        template.fill(key, self.count);
        out.put_slice(&template.bytes);
        Asked { key, write: (!read).then_some(self.count) }
    }

    /// Hands the next write over, key and value, to whoever has another way of writing it down.
    pub fn put(&mut self, write: impl FnOnce(&[u8], &[u8])) -> Asked {
        let key = self.keys.draw(&mut self.random);
        self.count += 1;
        self.set.fill(key, self.count);
        write(self.set.key(self.key_prefix.len()), self.set.value());
        Asked { key, write: Some(self.count) }
    }

    /// Bytes of a key.
    pub fn key_bytes(&self) -> usize {
        self.key_prefix.len() + KEY_DIGITS
    }

    /// The name of a key.
    pub fn key_name(&self, key: u64) -> String {
        format!("{}{key:0KEY_DIGITS$}", self.key_prefix)
    }

    /// Appends a read of that key.
    pub fn read(&mut self, key: u64, out: &mut BytesMut) {
        self.get.fill(key, 0);
        out.put_slice(&self.get.bytes);
    }

    /// The bytes by which one write's value differs from all others'.
    pub fn fresh(write: u64) -> [u8; FRESH_BYTES] {
        std::array::from_fn(|place| b'a' + (write >> (4 * place) & 15) as u8)
    }

    /// What of a value tells its write: the fresh bytes, if all others are as they were written; else the whole value, which no write
    /// of ours has.
    pub fn told<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        let written = self.set.value();
        let is_ours =
            value.len() == written.len() && value.get(self.set.fresh..) == written.get(self.set.fresh..);
        if is_ours { &value[..self.set.fresh] } else { value }
    }

    /// Bytes of a write.
    pub fn write_bytes(&self) -> usize {
        self.set.bytes.len()
    }
}

impl Template {
    fn set(prefix: &str, value: &[u8]) -> Template {
        let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{prefix}", prefix.len() + KEY_DIGITS);
        let key_at = head.len();
        let middle = format!("{head}{}\r\n${}\r\n", "0".repeat(KEY_DIGITS), value.len());
        let fresh_at = middle.len();
        let bytes = [middle.as_bytes(), value, b"\r\n"].concat();
        Template { bytes, key_at, fresh_at, fresh: value.len().min(FRESH_BYTES) }
    }

    fn get(prefix: &str) -> Template {
        let head = format!("*2\r\n$3\r\nGET\r\n${}\r\n{prefix}", prefix.len() + KEY_DIGITS);
        let bytes = format!("{head}{}\r\n", "0".repeat(KEY_DIGITS)).into_bytes();
        Template { bytes, key_at: head.len(), fresh_at: 0, fresh: 0 }
    }

    fn fill(&mut self, key: u64, count: u64) {
        let mut rest = key;
        for digit in self.bytes[self.key_at..self.key_at + KEY_DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let fresh = Workload::fresh(count);
        self.bytes[self.fresh_at..self.fresh_at + self.fresh].copy_from_slice(&fresh[..self.fresh]);
    }

    /// The key, whose prefix has that many bytes.
    fn key(&self, prefix: usize) -> &[u8] {
        &self.bytes[self.key_at - prefix..self.key_at + KEY_DIGITS]
    }

    /// The value of a write, fresh bytes and others.
    fn value(&self) -> &[u8] {
        &self.bytes[self.fresh_at..self.bytes.len() - 2]
    }
}

/// Which key is next.
enum Keys {
    Uniform { count: u64 },
    Zipf(Zipf),
}

impl Keys {
    fn new(distribution: Distribution, count: u64) -> Keys {
        match distribution {
            Distribution::Uniform => Keys::Uniform { count },
            Distribution::Zipf => Keys::Zipf(Zipf::new(count)),
        }
    }

    fn draw(&mut self, random: &mut Prng) -> u64 {
        match self {
            Keys::Uniform { count } => random.below(*count),
            // Popular keys do not lie side by side.
            Keys::Zipf(zipf) => Prng::from_seed(zipf.rank(random)).below(zipf.count),
        }
    }
}

/// Ranks by Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, section 3.
struct Zipf {
    count: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Zipf {
        let zeta = zeta(count);
        let alpha = 1.0 / (1.0 - ZIPF_EXPONENT);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - ZIPF_EXPONENT)) / (1.0 - zeta_of_two() / zeta);
        Zipf { count, alpha, zeta, eta }
    }

    fn rank(&self, random: &mut Prng) -> u64 {
        let uniform = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < zeta_of_two() {
            return 1.min(self.count - 1);
        }
        let rank = self.count as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }
}

fn zeta_of_two() -> f64 {
    1.0 + 0.5f64.powf(ZIPF_EXPONENT)
}

/// The sum of `1 / i^s` up to `count`: term by term to a million, by the integral beyond.
fn zeta(count: u64) -> f64 {
    let exact = count.min(1_000_000);
    let sum: f64 = (1..=exact).map(|i| (i as f64).powf(-ZIPF_EXPONENT)).sum();
    let power = 1.0 - ZIPF_EXPONENT;
    sum + ((count as f64).powf(power) - (exact as f64).powf(power)) / power
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::time::Duration;

    fn plan(distribution: Distribution, read_percent: u8) -> Plan {
        Plan {
            connections: 1,
            in_flight: 1,
            pipeline: 1,
            value_bytes: 16,
            keys: 1000,
            key_prefix: KEY_PREFIX.into(),
            distribution,
            read_percent,
            rate: None,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            seed: 7,
            password: None,
            etcd: false,
        }
    }

    fn draw(plan: &Plan, count: usize) -> Vec<String> {
        let mut workload = Workload::new(plan, 0);
        let mut commands = Vec::new();
        for _ in 0..count {
            let mut out = BytesMut::new();
            workload.write(&mut out);
            commands.push(String::from_utf8(out.to_vec()).unwrap());
        }
        commands
    }

    #[test]
    fn commands_are_resp_and_follow_from_the_seed() {
        let plan = plan(Distribution::Uniform, 0);
        let commands = draw(&plan, 2);
        let lines: Vec<&str> = commands[0].split("\r\n").collect();
        assert_eq!((lines[0], lines[1], lines[2], lines[3], lines[5]), ("*3", "$3", "SET", "$16", "$16"));
        assert!(lines[4].starts_with("key:") && lines[4].len() == 16 && lines[6].len() == 16);
        assert_eq!(commands, draw(&plan, 2));
        assert_ne!(commands, draw(&Plan { seed: 8, ..plan }, 2));
    }

    #[test]
    fn a_value_tells_its_write_and_only_whole() {
        let plan = plan(Distribution::Uniform, 0);
        let mut workload = Workload::new(&plan, 0);
        let mut out = BytesMut::new();
        let asked = workload.write(&mut out);
        let command = String::from_utf8(out.to_vec()).unwrap();
        let mut lines = command.split("\r\n").skip(4).step_by(2);
        assert_eq!(lines.next(), Some(workload.key_name(asked.key).as_str()));
        let value = lines.next().unwrap();
        let write = asked.write.unwrap();
        assert_eq!(workload.told(value.as_bytes()), Workload::fresh(write));
        let cut = &value.as_bytes()[..value.len() - 1];
        assert_eq!(workload.told(cut), cut);
        let changed = value.replace(&value[8..], &"?".repeat(value.len() - 8));
        assert_eq!(workload.told(changed.as_bytes()), changed.as_bytes());
        assert_ne!(Workload::fresh(write), Workload::fresh(write + 1));
        workload.read(asked.key, &mut out);
        assert!(out.ends_with(format!("GET\r\n$16\r\n{}\r\n", workload.key_name(asked.key)).as_bytes()));
    }

    #[test]
    fn a_put_is_the_same_write_in_parts() {
        let plan = plan(Distribution::Uniform, 0);
        let mut parts = String::new();
        let asked = Workload::new(&plan, 0).put(|key, value| {
            parts = [key, b"\r\n$16\r\n", value, b"\r\n"].map(String::from_utf8_lossy).concat();
        });
        let mut out = BytesMut::new();
        assert_eq!(Workload::new(&plan, 0).write(&mut out), asked);
        assert!(String::from_utf8_lossy(&out).ends_with(&parts), "{parts}");
        assert_eq!(Workload::new(&plan, 0).key_bytes(), 16);
    }

    #[test]
    fn the_mix_is_as_planned() {
        let commands = draw(&plan(Distribution::Uniform, 30), 10_000);
        let reads = commands.iter().filter(|command| command.contains("GET")).count();
        assert!((2_700..3_300).contains(&reads), "{reads}");
    }

    #[test]
    fn zipf_prefers_few_keys_and_uniform_none() {
        for (distribution, least, most) in
            [(Distribution::Zipf, 1_000, 2_000), (Distribution::Uniform, 10, 60)]
        {
            let mut counts: HashMap<String, u32> = HashMap::new();
            for command in draw(&plan(distribution, 100), 10_000) {
                *counts.entry(command).or_default() += 1;
            }
            let top = counts.values().max().copied().unwrap();
            assert!((least..most).contains(&top), "{distribution:?}: {top}");
        }
    }
}
