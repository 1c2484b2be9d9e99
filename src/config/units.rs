//! Durations like `150ms` and sizes like `64MiB`, read and written.

use std::time::Duration;

const DURATIONS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `150ms`, `1.5s`, `2min`. A bare number is refused (except 0): its unit would be a guess.
pub fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS, None).map(Duration::from_nanos)
}

/// Reads `64MiB`, `1GB`, `4096` (bytes).
pub fn parse_size(text: &str) -> Option<u64> {
    scaled(text, &SIZES, Some(1))
}

/// The shortest exact form.
pub fn show_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (unit, scale) =
        DURATIONS.into_iter().find(|(_, s)| nanos.is_multiple_of(*s)).expect("ns divides all");
    if nanos == 0 { "0s".into() } else { format!("{}{unit}", nanos / scale) }
}

/// The shortest exact form in binary units.
pub fn show_size(bytes: u64) -> String {
    let (unit, scale) = SIZES[..3].iter().find(|(_, s)| bytes.is_multiple_of(*s)).unwrap_or(&("B", 1));
    if bytes == 0 { "0B".into() } else { format!("{}{unit}", bytes / scale) }
}

/// `number unit` in the smallest unit; at most nine digits after the point, so that the arithmetic is exact.
fn scaled(text: &str, units: &[(&str, u64)], bare: Option<u64>) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let zero = whole == 0 && fraction.bytes().all(|b| b == b'0');
    let scale = match units.iter().find(|(name, _)| *name == unit) {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => bare.or(zero.then_some(1))?,
        None => return None,
    };
    let parts: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = u128::from(parts) * u128::from(scale) / 10u128.pow(fraction.len() as u32);
    whole.checked_mul(scale)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly_and_written_back() {
        for (text, nanos) in [
            ("150ms", 150_000_000),
            ("1.5s", 1_500_000_000),
            ("2min", 120_000_000_000),
            ("0", 0),
            ("7us", 7_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for bad in ["", "ms", "150", "-1s", "1.s", "1 hour", "1e3s", "99999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for text in ["150ms", "2s", "1min", "0s", "1501us"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_are_read_exactly_and_written_back() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("4096", 4096), ("1 GB", 1_000_000_000), ("0.5KiB", 512), ("12B", 12)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "MiB", "64mib", "1.2.3MB", "18446744073709551616"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        for text in ["64MiB", "4KiB", "1GiB", "1000B", "0B"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }
}
