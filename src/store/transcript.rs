//! Conversations as text, for tests: `> SET key "a value"` and the reply below it. The same files are held against this store and, where
//! it is installed, against redis-server.
//!
//! `---` begins with an empty store, `resp3` and `resp2` choose the protocol, `@ 1500` sets the clock to so many milliseconds
//! after the conversation's beginning, `#` comments. Replies: `+OK`, `-ERR ...`, `:1`, `"bulk"`, `nil`, `null`, `[array]`, `{map}`.

/// A line that has an effect.
pub enum Line<'a> {
    /// Send these words; the reply is to be this.
    Call(Vec<Vec<u8>>, &'a str),
    /// Begin with an empty store.
    Reset,
    /// Speak RESP3, or RESP2.
    Resp3(bool),
    /// The clock, in milliseconds.
    Clock(u64),
}

/// Reads a file.
pub fn parse(text: &str) -> Vec<Line<'_>> {
    let mut lines = text.lines();
    let mut parsed = Vec::new();
    while let Some(line) = lines.next() {
        parsed.push(match line {
            "---" => Line::Reset,
            "resp3" => Line::Resp3(true),
            "resp2" => Line::Resp3(false),
            _ => match line.split_once(' ') {
                Some((">", call)) => Line::Call(words(call), lines.next().expect("a reply follows")),
                Some(("@", clock)) => Line::Clock(clock.parse().expect("milliseconds")),
                _ => {
                    assert!(line.is_empty() || line.starts_with('#'), "what is {line:?}?");
                    continue;
                }
            },
        });
    }
    parsed
}

/// Splits at spaces; quoted words may hold `\"`, `\\` and `\x00`.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut bytes = line.bytes().peekable();
    let mut words = Vec::new();
    loop {
        while bytes.next_if_eq(&b' ').is_some() {}
        if bytes.peek().is_none() {
            return words;
        }
        let quoted = bytes.next_if_eq(&b'"').is_some();
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|b| *b != if quoted { b'"' } else { b' ' }) {
            word.push(match byte {
                b'\\' if bytes.next_if_eq(&b'x').is_some() => {
                    let digits = [bytes.next(), bytes.next()].map(|d| d.expect("two digits") as char);
                    u8::from_str_radix(&String::from_iter(digits), 16).expect("hexadecimal")
                }
                b'\\' => bytes.next().expect("something is escaped"),
                byte => byte,
            });
        }
        if quoted {
            assert_eq!(bytes.next(), Some(b'"'));
        }
        words.push(word);
    }
}

/// One reply as text, and the bytes after it. `None` when it is not whole.
pub fn render(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(2).position(|w| w == b"\r\n")?;
    let (line, mut rest) = (&bytes[..end], &bytes[end + 2..]);
    let text = std::str::from_utf8(line).expect("lines are text");
    let number = || text[1..].parse::<i64>().expect("a number");
    let text = match line[0] {
        b'+' | b'-' | b':' => text.to_string(),
        b'_' => "null".to_string(),
        b'$' if number() < 0 => "nil".to_string(),
        b'$' => {
            let len = number() as usize;
            let value = rest.get(..len)?;
            rest = rest.get(len + 2..)?;
            quote(value)
        }
        kind @ (b'*' | b'%') => {
            let count = number() * if kind == b'%' { 2 } else { 1 };
            let mut parts = Vec::new();
            for _ in 0..count {
                let (part, after) = render(rest)?;
                parts.push(part);
                rest = after;
            }
            let inside = parts.join(" ");
            if kind == b'%' { format!("{{{inside}}}") } else { format!("[{inside}]") }
        }
        other => panic!("no reply begins with {other}"),
    };
    Some((text, rest))
}

fn quote(bytes: &[u8]) -> String {
    let mut text = String::from('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', *byte as char]),
            32..127 => text.push(*byte as char),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text + "\""
}
