//! Where each of several RESP replies ends.

/// The ends of `count` replies that stand one after another and fill `bytes`; `None` if they do not.
pub fn ends(bytes: &[u8], count: usize) -> Option<Vec<u32>> {
    // A reply has at least three bytes: what is reserved is bounded by what is there.
    let mut ends = Vec::with_capacity(count.min(bytes.len() / 3 + 1));
    let mut at = 0;
    while at < bytes.len() {
        at = end(bytes, at)?;
        ends.push(u32::try_from(at).ok()?);
    }
    (ends.len() == count).then_some(ends)
}

/// Where the reply that begins at `at` ends. Aggregates are counted, not nested, so no depth of bytes that somebody chose costs stack.
fn end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut values = 1u64;
    while 0 < values {
        let line = at + bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let (kind, head) = bytes.get(at..line)?.split_first()?;
        at = line + 2;
        let number = || std::str::from_utf8(head).ok()?.parse::<i64>().ok();
        values -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => (),
            b'$' | b'=' | b'!' => {
                if let Ok(length) = usize::try_from(number()?) {
                    at = at.checked_add(length)?.checked_add(2)?;
                    if bytes.get(at - 2..at)? != b"\r\n" {
                        return None;
                    }
                }
            }
            b'*' | b'~' | b'>' => values = values.checked_add(u64::try_from(number()?).unwrap_or(0))?,
            // An attribute's value follows it.
            b'%' => values = values.checked_add(u64::try_from(number()?).ok()?.checked_mul(2)?)?,
            _ => return None,
        }
        if 0 < values && bytes.len() <= at {
            return None;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_of_each_kind_end_where_the_next_begins() {
        let replies =
            ["+OK\r\n", ":7\r\n", "$-1\r\n", "$4\r\na\r\nb\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "*-1\r\n"];
        let more = ["%1\r\n+a\r\n:1\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "-ERR no\r\n", "*0\r\n"];
        let all = [replies, more].concat();
        let mut at = 0;
        let should: Vec<u32> = all
            .iter()
            .map(|reply| {
                at += reply.len() as u32;
                at
            })
            .collect();
        assert_eq!(ends(all.concat().as_bytes(), all.len()), Some(should));
        assert_eq!(ends(all.concat().as_bytes(), all.len() - 1), None, "one was not asked for");
        assert_eq!(ends(b"", 0), Some(vec![]));
    }

    #[test]
    fn what_is_cut_or_no_reply_has_no_ends() {
        for bytes in
            ["+OK", "$4\r\nab\r\n", "*2\r\n:1\r\n", "?\r\n", "*9223372036854775807\r\n", "$x\r\n", "\r\n"]
        {
            assert_eq!(ends(bytes.as_bytes(), 1), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(prop::sample::select(b"*$+:%-1290\r\n".to_vec()), 0..60)) {
            for count in 0..4 {
                if let Some(ends) = ends(&bytes, count) {
                    prop_assert_eq!(ends.last().map_or(0, |end| *end as usize), bytes.len());
                }
            }
        }
    }
}
