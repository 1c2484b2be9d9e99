//! Parses commands by hand: arrays of bulk strings, and inline commands with Redis's quoting.
//!
//! [`Parser::parse`] is given the bytes from a command's beginning and finds the command's arguments as spans of them: nothing is
//! copied. When the bytes end too early it remembers how far it came, and the caller asks again with the same bytes and more behind
//! them; what was scanned is not scanned again (but for the number line that was cut, at most 23 bytes), so a command that comes
//! byte by byte costs no more than linear time. It never panics on bytes, whatever they are. Errors are Redis's, and final: the
//! stream has lost its place, so the connection gets the text and is closed.

use thiserror::Error;

/// What a client may ask of memory with one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most arguments of a command, its name included. At most 65,536: a batch counts those after the name in 16 bits.
    pub args_max: usize,
    /// Longest argument in bytes.
    pub bulk_bytes_max: usize,
    /// Longest command in bytes, as received.
    pub command_bytes_max: usize,
}

/// Longest inline command and longest line of a number, in bytes (Redis's PROTO_INLINE_MAX_SIZE).
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

impl Limits {
    /// What a client may ask for before it has authenticated (as in Redis): enough to authenticate.
    pub const UNAUTHENTICATED: Limits =
        Limits { args_max: 10, bulk_bytes_max: 16 * 1024, command_bytes_max: INLINE_BYTES_MAX };
}

/// Why bytes are no command. The texts are Redis's, but for the last two, for which Redis has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Error {
    /// An array's length is no number, or above `args_max`.
    #[error("ERR Protocol error: invalid multibulk length")]
    ArrayLength,
    /// A bulk string's length is no number, negative, or above `bulk_bytes_max`.
    #[error("ERR Protocol error: invalid bulk length")]
    BulkLength,
    /// An array holds something else than bulk strings.
    #[error("ERR Protocol error: expected '$', got '{0}'")]
    NotBulk(char),
    /// An inline command has a quote that is not closed, or closed within a word.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    Quotes,
    /// A line without an end.
    #[error("ERR Protocol error: too big inline request")]
    InlineLength,
    /// A bulk string is longer than it said.
    #[error("ERR Protocol error: expected CRLF after a bulk string")]
    BulkEnd,
    /// The arguments together are too long.
    #[error("ERR Protocol error: command exceeds {0} bytes")]
    CommandLength(usize),
}

/// What the bytes begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A command of `used` bytes; its arguments are `Parser::arg`. None, if it has none: Redis ignores such a command.
    Command {
        /// How many bytes it takes.
        used: usize,
    },
    /// A part of a command of at least `needed` bytes.
    Partial {
        /// How many bytes it takes at least.
        needed: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// How far the parser has come within a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Progress {
    /// At its beginning, or past it.
    #[default]
    Fresh,
    /// No line end in this many bytes of an inline command.
    Inline { scanned: usize },
    /// So many bulk strings are still to come, the next at this offset.
    Array { at: usize, left: usize },
}

/// The place within one connection's stream. Invariant: spans lie within the bytes that were given last (or within `unquoted`).
#[derive(Clone, Debug, Default)]
pub struct Parser {
    progress: Progress,
    spans: Vec<Span>,
    /// The arguments of an inline command, which may have lost quotes and escapes.
    unquoted: Vec<u8>,
    inline: bool,
}

/// Spans kept allocated between commands.
const SPANS_KEPT: usize = 256;

impl Parser {
    /// At the beginning of a stream.
    pub fn new() -> Parser {
        Parser::default()
    }

    /// Number of arguments of the command that was found last, its name included.
    #[inline]
    pub fn count(&self) -> usize {
        self.spans.len()
    }

    /// An argument of the command that was found last. `bytes` are those that it was found in.
    #[inline]
    pub fn arg<'a>(&'a self, bytes: &'a [u8], index: usize) -> &'a [u8] {
        let Span { start, end } = self.spans[index];
        let source = if self.inline { &self.unquoted } else { bytes };
        &source[start as usize..end as usize]
    }

    /// The arguments of the command that was found last, from `first` on.
    #[inline]
    pub fn args<'a>(
        &'a self,
        bytes: &'a [u8],
        first: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let source = if self.inline { &self.unquoted } else { bytes };
        self.spans[first.min(self.spans.len())..]
            .iter()
            .map(move |s| &source[s.start as usize..s.end as usize])
    }

    /// Looks for a command at the beginning of `bytes`. After `Partial`, `bytes` must begin with the same bytes.
    #[inline]
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed, Error> {
        debug_assert!(limits.args_max <= 1 << 16 && limits.command_bytes_max <= u32::MAX as usize / 2);
        let found = match self.progress {
            Progress::Fresh => self.begin(bytes, limits),
            Progress::Inline { scanned } => self.inline(bytes, scanned),
            Progress::Array { at, left } => self.bulks(bytes, at, left, limits),
        };
        if !matches!(found, Ok(Parsed::Partial { .. })) {
            self.progress = Progress::Fresh;
        }
        found
    }

    #[inline]
    fn begin(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed, Error> {
        self.spans.clear();
        if SPANS_KEPT < self.spans.capacity() {
            self.spans.shrink_to(SPANS_KEPT);
        }
        match bytes.first() {
            None => Ok(Parsed::Partial { needed: 1 }),
            Some(b'*') => match number(bytes, 1) {
                Line::Number { value, next } => {
                    if value <= 0 {
                        return Ok(Parsed::Command { used: next });
                    }
                    if limits.args_max < value as usize {
                        return Err(Error::ArrayLength);
                    }
                    self.inline = false;
                    self.bulks(bytes, next, value as usize, limits)
                }
                Line::Cut => Ok(Parsed::Partial { needed: bytes.len() + 1 }),
                Line::Bad => Err(Error::ArrayLength),
            },
            Some(_) => self.inline(bytes, 0),
        }
    }

    #[inline]
    fn bulks(&mut self, bytes: &[u8], mut at: usize, left: usize, limits: &Limits) -> Result<Parsed, Error> {
        for left in (1..=left).rev() {
            // The next bulk string is taken whole or not at all, so that a cut one is found again at its beginning.
            let needed = match bytes.get(at) {
                None => at + left * BULK_BYTES_MIN,
                Some(b'$') => match number(bytes, at + 1) {
                    Line::Number { value, next } => {
                        if value < 0 || limits.bulk_bytes_max < value as usize {
                            return Err(Error::BulkLength);
                        }
                        let end = next + value as usize;
                        if limits.command_bytes_max < end {
                            return Err(Error::CommandLength(limits.command_bytes_max));
                        }
                        match bytes.get(end..end + 2) {
                            Some(b"\r\n") => {
                                self.spans.push(Span { start: next as u32, end: end as u32 });
                                at = end + 2;
                                continue;
                            }
                            Some(_) => return Err(Error::BulkEnd),
                            None => end + 2,
                        }
                    }
                    Line::Cut => bytes.len() + 1,
                    Line::Bad => return Err(Error::BulkLength),
                },
                Some(&other) => return Err(Error::NotBulk(printable(other))),
            };
            self.progress = Progress::Array { at, left };
            return Ok(Parsed::Partial { needed });
        }
        Ok(Parsed::Command { used: at })
    }

    #[cold]
    fn inline(&mut self, bytes: &[u8], scanned: usize) -> Result<Parsed, Error> {
        let Some(end) = bytes[scanned..].iter().position(|b| *b == b'\n').map(|at| scanned + at) else {
            if INLINE_BYTES_MAX < bytes.len() {
                return Err(Error::InlineLength);
            }
            self.progress = Progress::Inline { scanned: bytes.len() };
            return Ok(Parsed::Partial { needed: bytes.len() + 1 });
        };
        if INLINE_BYTES_MAX < end {
            return Err(Error::InlineLength);
        }
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        self.inline = true;
        self.unquoted.clear();
        let mut rest = line;
        while let Some(word) = rest.iter().position(|b| !is_space(*b)) {
            let start = self.unquoted.len() as u32;
            rest = unquote(&rest[word..], &mut self.unquoted).ok_or(Error::Quotes)?;
            self.spans.push(Span { start, end: self.unquoted.len() as u32 });
        }
        Ok(Parsed::Command { used: end + 1 })
    }
}

/// The shortest bulk string, `$0\r\n\r\n`.
const BULK_BYTES_MIN: usize = 6;

enum Line {
    Number { value: i64, next: usize },
    Cut,
    Bad,
}

/// Reads a number and its line end. As Redis reads it: no plus sign, no spaces, no leading zeros, within 64 bits.
#[inline]
fn number(bytes: &[u8], start: usize) -> Line {
    // Nearly all numbers have one to three digits; the loop is for them, the rest is kept out of the way.
    let mut value = 0i64;
    for at in start..bytes.len() {
        let byte = bytes[at];
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 && at - start < 18 {
            value = value * 10 + i64::from(digit);
            continue;
        }
        if byte != b'\r' || at == start || (bytes[start] == b'0' && 1 < at - start) {
            return odd_number(bytes, start);
        }
        return match bytes.get(at + 1) {
            Some(b'\n') => Line::Number { value, next: at + 2 },
            Some(_) => Line::Bad,
            None => Line::Cut,
        };
    }
    Line::Cut
}

/// Negative numbers, numbers of 19 digits, and what is none.
#[cold]
fn odd_number(bytes: &[u8], start: usize) -> Line {
    let rest = &bytes[start..];
    let Some(end) = rest.iter().take(NUMBER_BYTES_MAX + 1).position(|b| *b == b'\r') else {
        let numeric = |(i, b): (usize, &u8)| b.is_ascii_digit() || (i == 0 && *b == b'-');
        let hopeful = rest.len() <= NUMBER_BYTES_MAX && rest.iter().enumerate().all(numeric);
        return if hopeful { Line::Cut } else { Line::Bad };
    };
    let text = &rest[..end];
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && (digits[0] != b'0' || (digits.len() == 1 && digits.len() == text.len()));
    let value = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    match (canonical, value, rest.get(end + 1)) {
        (true, Some(value), Some(b'\n')) => Line::Number { value, next: start + end + 2 },
        (true, Some(_), None) => Line::Cut,
        _ => Line::Bad,
    }
}

/// Sign and digits of the longest 64-bit number.
const NUMBER_BYTES_MAX: usize = 20;

/// C's `isspace`, which Redis splits inline commands by.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() { byte as char } else { '?' }
}

/// Appends the word that `text` begins with, without its quotes and escapes, and returns what follows it. `None` when a quote is
/// not closed, or closed and not followed by a space. (Redis's `sdssplitargs`.)
fn unquote<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return ended(text, double_quoted(text, at + 1, out)?),
            b'\'' => return ended(text, single_quoted(text, at + 1, out)?),
            // Redis's strings end at a zero byte.
            0 => return Some(&[]),
            space if is_space(space) => break,
            other => out.push(other),
        }
        at += 1;
    }
    Some(&text[at..])
}

/// After a closing quote comes a space or nothing.
fn ended(text: &[u8], at: usize) -> Option<&[u8]> {
    text.get(at).is_none_or(|b| is_space(*b)).then(|| &text[at..])
}

/// Takes what stands before the closing quote; returns the place behind it.
fn double_quoted(text: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                let escaped = *text.get(at + 1)?;
                let hex = |i: usize| text.get(i).and_then(|b| (*b as char).to_digit(16));
                if let (b'x', Some(high), Some(low)) = (escaped, hex(at + 2), hex(at + 3)) {
                    out.push((high * 16 + low) as u8);
                    at += 4;
                    continue;
                }
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
}

/// As `double_quoted`; only a quote is escaped here.
fn single_quoted(text: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *text.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' if text.get(at + 1) == Some(&b'\'') => {
                out.push(b'\'');
                at += 2;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
