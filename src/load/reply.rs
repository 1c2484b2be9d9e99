//! Reading replies: only where each ends and whether it is an error. Bytes come in any pieces; bulk data is skipped, unless somebody
//! holds answers against what was asked.

use std::collections::BTreeMap;

/// A line longer than this is no reply of a server that we measure.
const LINE_MAX: usize = 64 * 1024;
/// Different error texts that are remembered.
const TEXTS_MAX: usize = 8;

/// What a run of bytes held.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Replies {
    /// Replies that are no errors.
    pub ok: usize,
    /// Errors that say that nothing happened.
    pub errors: usize,
    /// Errors that say that it is unknown what happened.
    pub indeterminate: usize,
}

impl Replies {
    /// All of them.
    pub fn total(&self) -> usize {
        self.ok + self.errors + self.indeterminate
    }
}

/// One reply, where answers are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Answer {
    /// Done, or an answer of many parts, which nobody holds against anything.
    #[default]
    Done,
    /// There is none.
    Nil,
    /// A value.
    Value(Vec<u8>),
    /// An error that says that nothing happened.
    Refused,
    /// An error that says that it is unknown what happened.
    Unknown,
}

/// The bytes are not RESP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server sends what is no RESP reply: first byte {first:#04x}")]
pub struct NotResp {
    /// Of the offending line.
    pub first: u8,
}

/// Counts the replies of one connection.
#[derive(Default)]
pub struct ReplyReader {
    /// Bytes of a bulk (and its line end) still to come.
    skip: usize,
    /// Elements still to come of the reply that has begun; zero between replies.
    elements: usize,
    /// The beginning of a line.
    partial: Vec<u8>,
    /// Whole replies in their order, where they are kept.
    kept: Option<Vec<Answer>>,
    /// The reply that has begun, where they are kept.
    begun: Answer,
}

/// The texts of errors, and how often each came.
pub type Errors = BTreeMap<String, u64>;

impl ReplyReader {
    /// A reader that keeps answers.
    pub fn keeping() -> ReplyReader {
        ReplyReader { kept: Some(Vec::new()), ..ReplyReader::default() }
    }

    /// The answers that ended since it was asked last.
    pub fn answers(&mut self) -> Vec<Answer> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes bytes in. The counts are of replies that ended in them, in order; runs are enough, since an error among a thousand replies
    /// need not be matched to its command.
    pub fn take(&mut self, mut bytes: &[u8], errors: &mut Errors) -> Result<Replies, NotResp> {
        let mut replies = Replies::default();
        while !bytes.is_empty() {
            if 0 < self.skip {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                if let Answer::Value(value) = &mut self.begun {
                    // Without the line's end.
                    let last = step.saturating_sub(2usize.saturating_sub(self.skip));
                    value.extend_from_slice(&bytes[..last]);
                }
                bytes = &bytes[step..];
                if self.skip == 0 {
                    self.end_element(&mut replies);
                }
                continue;
            }
            // The commonest reply, whole and alone.
            if self.partial.is_empty() && self.elements == 0 && bytes.starts_with(b"+OK\r\n") {
                replies.ok += 1;
                if let Some(kept) = &mut self.kept {
                    kept.push(Answer::Done);
                }
                bytes = &bytes[5..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.partial.extend_from_slice(bytes);
                let first = self.partial[0];
                return if self.partial.len() <= LINE_MAX { Ok(replies) } else { Err(NotResp { first }) };
            };
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.partial.is_empty() {
                self.line(line, &mut replies, errors)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, &mut replies, errors)?;
                whole.clear();
                self.partial = whole;
            }
        }
        Ok(replies)
    }

    /// Takes in a line with its end.
    fn line(&mut self, line: &[u8], replies: &mut Replies, errors: &mut Errors) -> Result<(), NotResp> {
        let bad = NotResp { first: line[0] };
        let text = std::str::from_utf8(&line[1..]).map_err(|_| bad)?.trim_end();
        let whole = self.elements == 0;
        self.elements = self.elements.max(1);
        match line[0] {
            b'+' | b':' | b',' | b'#' | b'(' => self.end_element(replies),
            b'_' => self.nil(whole, replies),
            b'-' if whole => self.error(text, replies, errors),
            // An error inside an array is an element; only whole replies are commands that failed.
            b'-' => self.end_element(replies),
            b'$' | b'=' | b'!' => match text.parse::<i64>().map_err(|_| bad)? {
                -1 => self.nil(whole, replies),
                len => {
                    self.skip = usize::try_from(len).map_err(|_| bad)? + 2;
                    if whole && self.kept.is_some() {
                        self.begun = Answer::Value(Vec::new());
                    }
                }
            },
            b'*' | b'~' | b'>' | b'%' => {
                let count = text.parse::<i64>().map_err(|_| bad)?.max(0);
                let each = if line[0] == b'%' { 2 } else { 1 };
                let count = usize::try_from(count).map_err(|_| bad)?.checked_mul(each).ok_or(bad)?;
                self.elements = self.elements.checked_add(count).ok_or(bad)?;
                self.end_element(replies);
            }
            _ => return Err(bad),
        }
        Ok(())
    }

    fn error(&mut self, text: &str, replies: &mut Replies, errors: &mut Errors) {
        if let Some(count) = errors.get_mut(text) {
            *count += 1;
        } else if errors.len() < TEXTS_MAX {
            errors.insert(text.to_string(), 1);
        }
        self.elements = 0;
        let unknown = text.starts_with("INDETERMINATE");
        if unknown {
            replies.indeterminate += 1
        } else {
            replies.errors += 1
        }
        if let Some(kept) = &mut self.kept {
            kept.push(if unknown { Answer::Unknown } else { Answer::Refused });
        }
    }

    fn nil(&mut self, whole: bool, replies: &mut Replies) {
        if whole && self.kept.is_some() {
            self.begun = Answer::Nil;
        }
        self.end_element(replies);
    }

    fn end_element(&mut self, replies: &mut Replies) {
        self.elements -= 1;
        if self.elements == 0 {
            replies.ok += 1;
            if let Some(kept) = &mut self.kept {
                kept.push(std::mem::take(&mut self.begun));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"+OK\r\n$5\r\nhello\r\n$-1\r\n:12\r\n*2\r\n$1\r\na\r\n*2\r\n:1\r\n-inner\r\n*0\r\n-ERR no\r\n-INDETERMINATE gone\r\n\
        %1\r\n+k\r\n$2\r\n\r\n\r\n_\r\n$0\r\n\r\n+OK\r\n";

    #[test]
    fn replies_are_counted_however_they_are_cut() {
        for size in 1..STREAM.len() {
            let (mut reader, mut errors) = (ReplyReader::default(), Errors::new());
            let mut sum = Replies::default();
            for piece in STREAM.chunks(size) {
                let replies = reader.take(piece, &mut errors).unwrap();
                sum.ok += replies.ok;
                sum.errors += replies.errors;
                sum.indeterminate += replies.indeterminate;
            }
            assert_eq!(sum, Replies { ok: 10, errors: 1, indeterminate: 1 }, "in pieces of {size}");
            assert_eq!(
                errors.into_iter().collect::<Vec<_>>(),
                [("ERR no".into(), 1), ("INDETERMINATE gone".into(), 1)]
            );
        }
    }

    #[test]
    fn answers_are_kept_in_their_order_however_they_are_cut() {
        let value = |text: &str| Answer::Value(text.as_bytes().to_vec());
        let (done, nil) = (Answer::Done, Answer::Nil);
        let whole = [done.clone(), value("hello"), nil.clone(), done.clone(), done.clone(), done.clone()];
        let ends = [Answer::Refused, Answer::Unknown, done.clone(), nil, value(""), done];
        for size in 1..STREAM.len() {
            let (mut reader, mut kept) = (ReplyReader::keeping(), Vec::new());
            for piece in STREAM.chunks(size) {
                reader.take(piece, &mut Errors::new()).unwrap();
                kept.extend(reader.answers());
            }
            assert_eq!(kept, [&whole[..], &ends[..]].concat(), "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        let refuse = |bytes: &[u8]| ReplyReader::default().take(bytes, &mut Errors::new()).unwrap_err().first;
        assert_eq!(refuse(b"HTTP/1.1 200 OK\r\n"), b'H');
        assert_eq!(refuse(b"$x\r\n"), b'$');
        assert_eq!(refuse(b"$-7\r\n"), b'$');
        assert_eq!(refuse(&[b'+'; LINE_MAX + 1]), b'+');
    }
}
