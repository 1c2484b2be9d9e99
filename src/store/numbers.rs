//! Limits of values, and numbers as text: a string is an integer exactly when Redis says so.

use super::error::CommandError;
pub(super) use crate::resp::reply::DIGITS_MAX;

/// Longest value that APPEND and SETRANGE may make, in bytes: no shorter than what clients can send whole.
pub const VALUE_BYTES_MAX: usize = 2 << 20;

/// The integer that `text` spells: digits without leading zeros, perhaps behind a minus, nothing else.
pub(super) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let canonical = match digits {
        [] => false,
        [b'0'] => !negative,
        [b'0', ..] => false,
        _ => true,
    };
    if !canonical || 19 < digits.len() {
        return None;
    }
    let mut magnitude = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Nineteen digits are below 2^64.
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// A number's text.
pub(super) fn decimal(number: i64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let start = crate::resp::reply::decimal(number, digits);
    &digits[start..]
}

/// An integer argument.
pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NotInteger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_what_the_formatter_writes_and_nothing_else() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN, i64::MAX - 1, 999_999_999_999_999_999] {
            assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
            assert_eq!(decimal(number, &mut [0; DIGITS_MAX]), number.to_string().as_bytes());
        }
        for text in
            ["", "-", "+1", "01", "-0", "-01", "00", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "abc"]
        {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_i64(b"-9223372036854775809"), None);
        assert_eq!(parse_i64(b"99999999999999999999"), None);
    }
}
