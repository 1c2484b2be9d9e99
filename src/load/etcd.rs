//! As much of etcd's way to be asked as a comparison needs: `Put` over gRPC, which is HTTP/2 (RFC 9113) with protobuf inside.
//!
//! Headers are written as any client of gRPC writes them, in full once a connection and by number thereafter. Those of answers are not
//! read: a `Put` that was carried out answers with a message, one that failed with trailers alone. Answers come in any order and are
//! counted, not matched.

use super::reply::{Errors, NotResp, Replies};
use bytes::{BufMut, BytesMut};
use std::collections::HashSet;

/// What an endpoint begins with that speaks it.
pub const SCHEME: &str = "etcd://";
/// Bytes of a value at most: a stream's first window holds the whole message.
pub const VALUE_BYTES_MAX: usize = 32 << 10;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Bytes of a frame at most, as long as we do not allow more (section 4.2).
const FRAME_MAX: usize = 16_384;
/// What may be sent at first, on a stream and in all (section 6.9.2).
const WINDOW: i64 = 65_535;
/// What the server may send in all: so much that it never waits for us.
const OUR_WINDOW: u32 = (1 << 31) - 1;
/// Numbers of streams end there (section 5.1.1); a load of an hour does not come that far.
const STREAM_MAX: u32 = (1 << 31) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection to etcd.
pub struct Session {
    /// The headers of the next `Put`.
    headers: Vec<u8>,
    next_stream: u32,
    /// Bytes that may be sent in all.
    window: i64,
    /// Streams that were answered with a message and have not ended.
    answered: HashSet<u32>,
    partial: BytesMut,
    /// What the protocol itself has to say: acknowledgements.
    out: BytesMut,
}

impl Session {
    /// A connection that has just been made; `out` gets what is said first.
    pub fn begin(authority: &str, out: &mut BytesMut) -> Session {
        out.put_slice(PREFACE);
        frame(out, SETTINGS, 0, 0, &[]);
        frame(out, WINDOW_UPDATE, 0, 0, &(OUR_WINDOW - WINDOW as u32).to_be_bytes());
        Session {
            headers: first_headers(authority),
            next_stream: 1,
            window: WINDOW,
            answered: HashSet::new(),
            partial: BytesMut::new(),
            out: BytesMut::new(),
        }
    }

    /// How many writes of that many bytes may be sent now.
    pub fn room(&self, key: usize, value: usize) -> usize {
        // Two tags, two lengths of at most three bytes each, and gRPC's own five bytes.
        let each = (key + value + 8 + 5) as i64;
        usize::try_from(self.window / each).unwrap_or(0)
    }

    /// Appends a write.
    pub fn put(&mut self, key: &[u8], value: &[u8], out: &mut BytesMut) {
        assert!(self.next_stream < STREAM_MAX, "a connection has made all its streams");
        let mut message = Vec::with_capacity(key.len() + value.len() + 16);
        field(&mut message, 1, key);
        field(&mut message, 2, value);
        // Not compressed; then its length.
        let mut data = vec![0];
        data.extend_from_slice(&(message.len() as u32).to_be_bytes());
        data.extend_from_slice(&message);
        frame(out, HEADERS, END_HEADERS, self.next_stream, &self.headers);
        if self.next_stream == 1 {
            self.headers = LATER_HEADERS.to_vec();
        }
        let last = data.chunks(FRAME_MAX).count() - 1;
        for (index, chunk) in data.chunks(FRAME_MAX).enumerate() {
            let flags = if index == last { END_STREAM } else { 0 };
            frame(out, DATA, flags, self.next_stream, chunk);
        }
        self.window -= data.len() as i64;
        self.next_stream += 2;
    }

    /// Takes bytes in, and counts the streams that ended in them.
    pub fn take(&mut self, bytes: &[u8], errors: &mut Errors) -> Result<Replies, NotResp> {
        self.partial.put_slice(bytes);
        let mut replies = Replies::default();
        while FRAME_HEAD <= self.partial.len() {
            let len = u32::from_be_bytes([0, self.partial[0], self.partial[1], self.partial[2]]) as usize;
            if FRAME_MAX < len {
                return Err(NotResp { first: self.partial[0] });
            }
            if self.partial.len() < FRAME_HEAD + len {
                break;
            }
            let head = self.partial.split_to(FRAME_HEAD);
            let content = self.partial.split_to(len);
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.frame(head[3], head[4], stream, &content, &mut replies, errors);
        }
        Ok(replies)
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        content: &[u8],
        replies: &mut Replies,
        errors: &mut Errors,
    ) {
        let mut failed = |why: &str, replies: &mut Replies| {
            replies.errors += 1;
            *errors.entry(why.to_string()).or_default() += 1;
        };
        match kind {
            DATA if !content.is_empty() => drop(self.answered.insert(stream)),
            HEADERS if flags & END_STREAM != 0 => match self.answered.remove(&stream) {
                true => replies.ok += 1,
                false => failed("etcd refuses a Put", replies),
            },
            RST_STREAM => failed("etcd resets a stream", replies),
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, content),
            WINDOW_UPDATE if stream == 0 => {
                let more = content.try_into().map_or(0, u32::from_be_bytes);
                self.window += i64::from(more & 0x7fff_ffff);
            }
            // The server closes the connection itself, which is heard.
            GOAWAY => {}
            _ => {}
        }
    }

    /// What the protocol has to say since it was asked last.
    pub fn says(&mut self) -> BytesMut {
        self.out.split()
    }
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    out.put_slice(&(content.len() as u32).to_be_bytes()[1..]);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(content);
}

/// A protobuf field of bytes.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    let mut rest = bytes.len();
    while 0x80 <= rest {
        message.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    message.push(rest as u8);
    message.extend_from_slice(bytes);
}

/// The headers of the first `Put`, which the server is to remember (RFC 7541, section 6.2.1).
fn first_headers(authority: &str) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` are in the static table.
    let mut block = vec![0x83, 0x86];
    let text = |block: &mut Vec<u8>, text: &str| {
        assert!(text.len() < 127, "lengths of one byte");
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    };
    // `:path`, `:authority` and `content-type` by their places in that table, `te` by its name.
    for (place, value) in [(4, "/etcdserverpb.KV/Put"), (1, authority), (31, "application/grpc")] {
        block.push(0x40 | place);
        text(&mut block, value);
    }
    block.push(0x40);
    text(&mut block, "te");
    text(&mut block, "trailers");
    block
}

/// The same headers by their numbers: what was remembered last is the 62nd (section 2.3.3).
const LATER_HEADERS: [u8; 6] = [0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::begin("127.0.0.1:2379", &mut BytesMut::new())
    }

    #[test]
    fn a_put_is_headers_and_a_message_of_two_fields() {
        let mut out = BytesMut::new();
        let mut session = Session::begin("host:1", &mut out);
        assert!(out.starts_with(PREFACE));
        out.clear();
        session.put(b"key", &[b'v'; 200], &mut out);
        let headers = first_headers("host:1");
        assert_eq!(out[..4], [0, 0, headers.len() as u8, HEADERS]);
        assert_eq!(out[FRAME_HEAD..FRAME_HEAD + headers.len()], headers);
        let data = &out[FRAME_HEAD + headers.len()..];
        // 5 of gRPC, 2 + 3 of the key, 3 + 200 of the value.
        assert_eq!(data[..9], [0, 0, 213, DATA, END_STREAM, 0, 0, 0, 1]);
        assert_eq!(data[9..22], [0, 0, 0, 0, 208, 0x0a, 3, b'k', b'e', b'y', 0x12, 0xc8, 0x01]);
        session.put(b"key", b"v", &mut out);
        let second = &out[FRAME_HEAD + headers.len() + FRAME_HEAD + 213..];
        assert_eq!(second[..FRAME_HEAD], [0, 0, 6, HEADERS, END_HEADERS, 0, 0, 0, 3]);
        assert_eq!(second[FRAME_HEAD..FRAME_HEAD + 6], LATER_HEADERS);
        assert_eq!(session.next_stream, 5);
        assert_eq!(session.window, WINDOW - 213 - 13);
        assert_eq!(session.room(3, 200), (session.window / 216) as usize);
    }

    #[test]
    fn answers_are_counted_however_they_are_cut() {
        let mut stream = BytesMut::new();
        frame(&mut stream, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        frame(&mut stream, WINDOW_UPDATE, 0, 0, &1000u32.to_be_bytes());
        frame(&mut stream, PING, 0, 0, b"12345678");
        frame(&mut stream, HEADERS, END_HEADERS, 1, b"??");
        frame(&mut stream, DATA, 0, 1, &[0, 0, 0, 0, 2, 10, 0]);
        frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, 3, b"an error");
        frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, 1, b"??");
        frame(&mut stream, RST_STREAM, 0, 5, &[0, 0, 0, 1]);
        for size in 1..stream.len() {
            let (mut session, mut errors, mut sum) = (session(), Errors::new(), Replies::default());
            for piece in stream.chunks(size) {
                let replies = session.take(piece, &mut errors).unwrap();
                sum.ok += replies.ok;
                sum.errors += replies.errors;
            }
            assert_eq!((sum.ok, sum.errors, errors.len()), (1, 2, 2), "in pieces of {size}");
            assert_eq!(session.window, WINDOW + 1000);
            let mut says = BytesMut::new();
            frame(&mut says, SETTINGS, ACK, 0, &[]);
            frame(&mut says, PING, ACK, 0, b"12345678");
            assert_eq!(session.says(), says);
            assert!(session.says().is_empty());
        }
    }

    #[test]
    fn what_is_no_http_2_is_refused() {
        assert!(session().take(b"HTTP/1.1 400 Bad Request\r\n", &mut Errors::new()).is_err());
    }
}
