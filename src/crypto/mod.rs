//! Keys, keyed tags and their derivation: pure arithmetic.
//!
//! It draws no entropy: whoever makes a key passes 32 random bytes in (`io::entropy`), so a simulated run is a function of its
//! seed. Every derived key names its use in its context string, so no key serves two uses.

pub mod identity;
pub mod keys;
pub mod noise;
pub mod sign;
pub mod tag;

pub use identity::{ClusterId, Fingerprint};
pub use keys::{PublicKey, SecretKey};
pub use noise::{Noise, NoiseError, Side};
pub use sign::{Keyring, Signature, SigningKey, VerifyingKey};
pub use tag::{DirectionKeys, LinkKeys, Tagger};

use thiserror::Error;

/// Why a key or id in a file cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HexError {
    /// Too short or too long.
    #[error("expected {expected} hexadecimal digits, found {found} characters")]
    Length {
        /// Digits that are needed.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Something else than a digit.
    #[error("character {place} is not a hexadecimal digit")]
    Digit {
        /// Counted from 1.
        place: usize,
    },
}

/// Writes bytes as lower-case hexadecimal digits.
fn write_hex(bytes: &[u8], out: &mut impl std::fmt::Write) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Reads exactly `N` bytes from hexadecimal digits, of either case.
fn read_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(HexError::Length { expected: 2 * N, found: digits.len() });
    }
    let mut bytes = [0; N];
    for (place, digit) in digits.iter().enumerate() {
        let value = (*digit as char).to_digit(16).ok_or(HexError::Digit { place: place + 1 })?;
        bytes[place / 2] = bytes[place / 2] << 4 | value as u8;
    }
    Ok(bytes)
}
