//! Which cluster a node belongs to, and whether its configuration fits: the two things that a handshake compares first.

use super::{HexError, read_hex, write_hex};
use std::fmt;

/// Names a cluster. Drawn once by `quorate init`, the same on every member, in every superblock and handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<ClusterId, HexError> {
        read_hex(text).map(ClusterId)
    }
}
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}
impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest of the settings that must be equal on every member and never change in place.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Digests the settings, written one after another in a fixed form.
    pub fn of(settings: &[u8]) -> Fingerprint {
        Fingerprint(blake3::derive_key("quorate v1 configuration fingerprint", settings))
    }
}
impl fmt::Display for Fingerprint {
    /// The first eight bytes: enough for two operators to compare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0[..8], f)
    }
}
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_survives_text_and_bad_text_is_told_apart() {
        let id = ClusterId(std::array::from_fn(|i| i as u8 * 17));
        assert_eq!(ClusterId::parse(&id.to_string()), Ok(id));
        assert_eq!(ClusterId::parse(&id.to_string().to_uppercase()), Ok(id));
        assert_eq!(ClusterId::parse("00"), Err(HexError::Length { expected: 32, found: 2 }));
        let bad = id.to_string().replacen('0', "g", 1);
        assert_eq!(ClusterId::parse(&bad), Err(HexError::Digit { place: 1 }));
        assert_eq!(ClusterId::parse(&"é".repeat(16)), Err(HexError::Digit { place: 1 }));
    }

    #[test]
    fn fingerprints_differ_when_a_setting_does() {
        assert_eq!(Fingerprint::of(b"a=1"), Fingerprint::of(b"a=1"));
        assert_ne!(Fingerprint::of(b"a=1"), Fingerprint::of(b"a=2"));
    }
}
