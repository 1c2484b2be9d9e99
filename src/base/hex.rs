//! Bytes as hexadecimal digits, for people and files.

/// Two digits a byte, in small letters.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("four bits are a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reads them back. `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, left) = text.as_bytes().as_chunks::<2>();
    let digit = |c: u8| (c as char).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<Vec<u8>>>().filter(|_| left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_back_and_nothing_else_is() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!((to_hex(&[0, 0xaf]), from_hex("00AF")), ("00af".into(), Some(vec![0, 0xaf])));
        assert!(["0", "0g", "é0", " 00"].iter().all(|bad| from_hex(bad).is_none()));
    }
}
