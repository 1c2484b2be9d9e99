//! Writes replies: RESP2 or RESP3, appended to a buffer that many replies share.
//!
//! [`Writer`] is what the store and the front write with. It never fails and never looks back: a container's head is written with
//! its number of elements, and the caller writes as many elements after it. What RESP2 lacks is written as Redis writes it there: a
//! map as a flat array of keys and values, a set and a push as an array, a boolean as 0 or 1, a verbatim string as bulk.

/// Which replies a connection understands. RESP2 until it says `HELLO 3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// Five types.
    #[default]
    Resp2,
    /// Typed nulls, maps, sets, booleans, pushes.
    Resp3,
}

impl Version {
    /// The version of a command in a batch (`batch::FLAG_RESP3`).
    pub fn of_flags(flags: u8) -> Version {
        if flags & super::batch::FLAG_RESP3 == 0 { Version::Resp2 } else { Version::Resp3 }
    }
    /// The flag that a command of this version carries in a batch.
    pub fn flags(self) -> u8 {
        if self == Version::Resp3 { super::batch::FLAG_RESP3 } else { 0 }
    }
}

/// Appends replies to a buffer.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Writer<'a> {
    /// Writes behind what `out` holds.
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Writer<'a> {
        Writer { out, version }
    }
    /// The version that is written.
    pub fn version(&self) -> Version {
        self.version
    }
    /// Whether RESP3 is written.
    pub fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }
    /// `+text`: a word of ours, without line ends.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }
    /// `-CODE text`. Line ends, which a client may have put into a name that the text quotes, become spaces.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }
    /// `:n`.
    pub fn integer(&mut self, number: i64) {
        self.head(b':', number);
    }
    /// A byte string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.head(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }
    /// A byte string that holds a number in decimal.
    pub fn bulk_integer(&mut self, number: i64) {
        let mut digits = [0; DIGITS_MAX];
        let start = decimal(number, &mut digits);
        self.bulk(&digits[start..]);
    }
    /// Nothing, where a value could stand.
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }
    /// Nothing, where an array could stand.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }
    /// The value, or null.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }
    /// `len` elements follow.
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }
    /// `pairs` keys follow, each with its value behind it.
    pub fn map(&mut self, pairs: usize) {
        if self.is_resp3() { self.head(b'%', pairs as i64) } else { self.head(b'*', 2 * pairs as i64) }
    }
    /// `len` different elements follow, in no order.
    pub fn set(&mut self, len: usize) {
        self.head(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }
    /// `len` elements follow, which no command asked for.
    pub fn push(&mut self, len: usize) {
        self.head(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }
    /// True or false.
    pub fn boolean(&mut self, value: bool) {
        match (self.version, value) {
            (Version::Resp3, true) => self.out.extend_from_slice(b"#t\r\n"),
            (Version::Resp3, false) => self.out.extend_from_slice(b"#f\r\n"),
            (Version::Resp2, value) => self.integer(i64::from(value)),
        }
    }
    /// Text for people, such as that of INFO.
    pub fn verbatim(&mut self, text: &str) {
        if !self.is_resp3() {
            return self.bulk(text.as_bytes());
        }
        self.head(b'=', text.len() as i64 + 4);
        self.out.extend_from_slice(b"txt:");
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
    /// Replies that were written elsewhere, whole.
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.extend_from_slice(replies);
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.out.reserve(text.len() + 3);
        self.out.push(kind);
        let start = self.out.len();
        self.out.extend_from_slice(text.as_bytes());
        for byte in &mut self.out[start..] {
            if matches!(*byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, number: i64) {
        if let 0..=9 = number {
            return self.out.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
        }
        // One append of a whole line costs a third of four appends of its pieces.
        let mut line = [0; DIGITS_MAX + 3];
        line[DIGITS_MAX + 1..].copy_from_slice(b"\r\n");
        let digits: &mut [u8; DIGITS_MAX] =
            (&mut line[1..=DIGITS_MAX]).try_into().expect("the length is DIGITS_MAX");
        let start = decimal(number, digits);
        line[start] = kind;
        self.out.extend_from_slice(&line[start..]);
    }
}

/// Digits and sign of the longest 64-bit number.
pub const DIGITS_MAX: usize = 20;

/// Writes `number` in decimal to the end of `digits` and tells where it begins.
pub fn decimal(number: i64, digits: &mut [u8; DIGITS_MAX]) -> usize {
    let mut rest = number.unsigned_abs();
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_protocol::resp2::types::OwnedFrame as Frame2;
    use redis_protocol::resp3::types::OwnedFrame as Frame3;

    fn written(version: Version, write: impl FnOnce(&mut Writer)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, version));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_type_in_both_versions() {
        type Case = (fn(&mut Writer), &'static str, &'static str);
        let cases: &[Case] = &[
            (|w| w.ok(), "+OK\r\n", "+OK\r\n"),
            (|w| w.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|w| w.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|w| w.integer(-12), ":-12\r\n", ":-12\r\n"),
            (|w| w.bulk(b"ab"), "$2\r\nab\r\n", "$2\r\nab\r\n"),
            (|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|w| w.bulk_integer(-7), "$2\r\n-7\r\n", "$2\r\n-7\r\n"),
            (|w| w.null(), "$-1\r\n", "_\r\n"),
            (|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (|w| w.bulk_or_null(None), "$-1\r\n", "_\r\n"),
            (|w| w.array(12), "*12\r\n", "*12\r\n"),
            (|w| w.map(6), "*12\r\n", "%6\r\n"),
            (|w| w.set(3), "*3\r\n", "~3\r\n"),
            (|w| w.push(2), "*2\r\n", ">2\r\n"),
            (|w| w.boolean(true), ":1\r\n", "#t\r\n"),
            (|w| w.boolean(false), ":0\r\n", "#f\r\n"),
            (|w| w.verbatim("hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Version::Resp2, write), *resp2);
            assert_eq!(written(Version::Resp3, write), *resp3);
        }
    }

    #[test]
    fn numbers_of_every_length_are_written_as_the_formatter_does() {
        let powers = (0..19).map(|p| 10i64.pow(p));
        for number in powers.flat_map(|p| [p - 1, p, -p, p + 1]).chain([i64::MIN, i64::MAX, 0]) {
            assert_eq!(written(Version::Resp2, |w| w.integer(number)), format!(":{number}\r\n"));
        }
    }

    #[test]
    fn an_independent_decoder_reads_what_was_written() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Version::Resp2);
        writer.map(1);
        writer.bulk(b"k\r\n\0");
        writer.integer(i64::MIN);
        let (frame, used) = redis_protocol::resp2::decode::decode(&out).unwrap().unwrap();
        assert_eq!(used, out.len());
        let expected =
            Frame2::Array(vec![Frame2::BulkString(b"k\r\n\0".to_vec()), Frame2::Integer(i64::MIN)]);
        assert_eq!(frame, expected);

        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Version::Resp3);
        writer.array(2);
        writer.boolean(true);
        writer.null();
        let (frame, used) = redis_protocol::resp3::decode::complete::decode(&out).unwrap().unwrap();
        assert_eq!(used, out.len());
        let boolean = Frame3::Boolean { data: true, attributes: None };
        assert_eq!(frame, Frame3::Array { data: vec![boolean, Frame3::Null], attributes: None });
    }

    #[test]
    fn flags_carry_the_version() {
        for version in [Version::Resp2, Version::Resp3] {
            assert_eq!(Version::of_flags(version.flags()), version);
        }
    }
}
