//! HTTP/1.1 as bytes: a strict reader of requests, a writer of responses. No sockets here (see `server`).
//!
//! Strict means: what RFC 9112 lets a server refuse is refused, because every leniency has been somebody's request smuggling. A
//! hundred lines of our own are less to trust than a crate whose answers we would have to check again.

use std::fmt::Write;

/// Longest head of a request: its first line and its fields.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest body of a request.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most fields of a head.
const FIELDS_MAX: usize = 64;
/// Longest method that anybody has registered, rounded up.
const METHOD_BYTES_MAX: usize = 20;

/// What we serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Tell.
    Get,
    /// Tell without the body.
    Head,
    /// Change.
    Post,
}

/// A request's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// To what: the part of the target before `?`.
    pub path: String,
    /// The part after `?`; empty without one.
    pub query: String,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// How many bytes follow the head.
    pub body_bytes: usize,
    /// They, once they have come.
    pub body: Vec<u8>,
    /// Whether the client wants to go on with this connection.
    pub keep_alive: bool,
}

impl Request {
    /// The value of `name` in the query, `""` when it has none. No percent-decoding: our values need none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

/// Why bytes are no request of ours.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Not HTTP.
    #[error("not a request: {0}")]
    Syntax(&'static str),
    /// The head does not end in time.
    #[error("the head is longer than {HEAD_BYTES_MAX} bytes or {FIELDS_MAX} fields")]
    HeadTooLarge,
    /// The body is too long.
    #[error("the body is longer than {BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    /// A method that is not ours.
    #[error("only GET, HEAD and POST are served")]
    Method,
    /// A body whose length is not told beforehand.
    #[error("transfer codings are not served, send Content-Length")]
    TransferCoding,
    /// Another version.
    #[error("only HTTP/1.0 and HTTP/1.1 are served")]
    Version,
}

impl Malformed {
    /// The status that tells it.
    pub fn status(self) -> u16 {
        match self {
            Malformed::Syntax(_) => 400,
            Malformed::HeadTooLarge => 431,
            Malformed::BodyTooLarge => 413,
            Malformed::Method | Malformed::TransferCoding => 501,
            Malformed::Version => 505,
        }
    }
}

/// Reads a head from the front of `bytes`: the request and the head's length, or nothing while it is not whole.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Malformed> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        if HEAD_BYTES_MAX <= bytes.len() {
            return Err(Malformed::HeadTooLarge);
        }
        // What can never become a request is refused at once, not when the head would be full.
        return early(window).map(|()| None);
    };
    let head = &window[..end];
    let mut lines = Lines { rest: head };
    let first = lines.next().unwrap_or_default();
    let (method, path, query, minor) = request_line(first)?;
    let fields = Fields::read(lines)?;
    if minor == 1 && fields.hosts != 1 || 1 < fields.hosts {
        return Err(Malformed::Syntax("there must be one Host field"));
    }
    let keep_alive = if minor == 1 { !fields.close } else { fields.keep_alive && !fields.close };
    let body_bytes = fields.length.unwrap_or(0);
    let request =
        Request { method, path, query, bearer: fields.bearer, body_bytes, body: Vec::new(), keep_alive };
    Ok(Some((request, end + 4)))
}

/// Checks what is there of the first line: one that names no method of ours will not come to anything.
fn early(bytes: &[u8]) -> Result<(), Malformed> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_uppercase());
    match end.map(|at| (&bytes[..at], bytes[at])) {
        None if bytes.len() <= METHOD_BYTES_MAX => Ok(()),
        Some((b"GET" | b"HEAD" | b"POST", b' ')) => Ok(()),
        Some((method, b' ')) if !method.is_empty() && method.len() <= METHOD_BYTES_MAX => {
            Err(Malformed::Method)
        }
        _ => Err(Malformed::Syntax("the first line names no method")),
    }
}

/// The lines of a head, parted by CR LF; a CR or LF of its own stays inside a line and is refused there.
struct Lines<'h> {
    rest: &'h [u8],
}
impl<'h> Iterator for Lines<'h> {
    type Item = &'h [u8];
    fn next(&mut self) -> Option<&'h [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        match self.rest.windows(2).position(|two| two == b"\r\n") {
            Some(at) => {
                let line = &self.rest[..at];
                self.rest = &self.rest[at + 2..];
                Some(line)
            }
            None => Some(std::mem::take(&mut self.rest)),
        }
    }
}

fn request_line(line: &[u8]) -> Result<(Method, String, String, u8), Malformed> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::Syntax("the first line is not: method, target, version"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed::Syntax("the first line names no method"));
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        other if other.starts_with(b"HTTP/") => return Err(Malformed::Version),
        _ => return Err(Malformed::Syntax("the first line ends in no version")),
    };
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        _ => return Err(Malformed::Method),
    };
    let visible = target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let Some(target) = std::str::from_utf8(target).ok().filter(|t| visible && t.starts_with('/')) else {
        return Err(Malformed::Syntax("the target is not a path"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok((method, path.to_string(), query.to_string(), minor))
}

/// The fields that mean something to us.
#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<usize>,
    close: bool,
    keep_alive: bool,
    bearer: Option<String>,
}

impl Fields {
    fn read(lines: Lines<'_>) -> Result<Fields, Malformed> {
        let mut fields = Fields::default();
        for (count, line) in lines.enumerate() {
            if FIELDS_MAX <= count {
                return Err(Malformed::HeadTooLarge);
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let Some(colon) = colon.filter(|at| 0 < *at && line[..*at].iter().all(|byte| is_token(*byte)))
            else {
                return Err(Malformed::Syntax("a field has no name"));
            };
            let value = line[colon + 1..].trim_ascii();
            // Bytes from 0x80 on are allowed and have no meaning (RFC 9110, 5.5); control characters are not.
            if !value.iter().all(|byte| *byte == b'\t' || (b' '..0x7f).contains(byte) || 0x80 <= *byte) {
                return Err(Malformed::Syntax("a field holds a control character"));
            }
            fields.take(&line[..colon].to_ascii_lowercase(), value)?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        match name {
            b"host" => self.hosts += 1,
            b"content-length" => {
                let length = length(value)?;
                if self.length.replace(length).is_some() {
                    return Err(Malformed::Syntax("there are two Content-Length fields"));
                }
            }
            b"transfer-encoding" => return Err(Malformed::TransferCoding),
            b"connection" => {
                for option in value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            b"authorization" => {
                if self.bearer.is_some() {
                    return Err(Malformed::Syntax("there are two Authorization fields"));
                }
                self.bearer = bearer(value);
            }
            _ => {}
        }
        Ok(())
    }
}

fn length(value: &[u8]) -> Result<usize, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Syntax("Content-Length is no number"));
    }
    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
    // All digits, so what cannot be read is too large for a number, and so for us.
    length.filter(|length| *length <= BODY_BYTES_MAX).ok_or(Malformed::BodyTooLarge)
}

fn bearer(value: &[u8]) -> Option<String> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = std::str::from_utf8(token.trim_ascii_start()).ok()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.to_string())
}

/// A character of a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// Words for a person.
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// A value for a program.
    pub fn json(status: u16, value: &serde_json::Value) -> Response {
        Response { status, content_type: "application/json", body: format!("{value:#}\n") }
    }

    /// As bytes. `Content-Length` tells the body's length even when the body is left out (HEAD).
    pub fn to_bytes(&self, keep_alive: bool, with_body: bool) -> Vec<u8> {
        let mut head = String::with_capacity(256 + self.body.len());
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let _ = write!(
            head,
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
        );
        match self.status {
            401 => head.push_str("WWW-Authenticate: Bearer\r\n"),
            405 => head.push_str("Allow: GET, HEAD, POST\r\n"),
            _ => {}
        }
        head.push_str("\r\n");
        if with_body {
            head.push_str(&self.body);
        }
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Request {
        let (request, used) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(used, text.find("\r\n\r\n").unwrap() + 4);
        request
    }

    #[test]
    fn a_request_is_read_whole() {
        let text = "POST /leader/transfer?to=3&x HTTP/1.1\r\nHost: a\r\nAuthorization: bearer  s3cret\r\n\
                    Content-Length: 5\r\nX-Other:\t ÿ\r\n\r\nhello";
        let request = request(text);
        assert_eq!((request.method, request.path.as_str()), (Method::Post, "/leader/transfer"));
        assert_eq!(request.parameter("to"), Some("3"));
        assert_eq!(request.parameter("x"), Some(""));
        assert_eq!(request.parameter("y"), None);
        assert_eq!(request.bearer.as_deref(), Some("s3cret"));
        assert_eq!((request.body_bytes, request.keep_alive), (5, true));
        for end in 0..text.find("\r\n\r\n").unwrap() + 3 {
            assert_eq!(parse(&text.as_bytes()[..end]), Ok(None), "at {end}");
        }
    }

    #[test]
    fn keep_alive_follows_the_version_and_the_field() {
        assert!(!request("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn what_is_not_quite_a_request_is_refused_with_the_right_status() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX));
        let cases: [(u16, &str); 26] = [
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            (400, "GET /\r\nHost: a\r\n\r\n"),
            (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
            (400, "GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /a\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            (400, "\r\n\r\n"),
            (400, "*3\r\n$3\r\nSET\r\n"),
            (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n"),
            (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
            (431, &long),
            (431, &many),
            (501, "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (501, "BREW /"),
            (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ];
        for (status, text) in cases {
            let refused = parse(text.as_bytes());
            assert_eq!(refused.as_ref().map_err(|why| why.status()), Err(status), "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn a_response_tells_its_length_with_and_without_body() {
        let response = Response::text(200, "hello\n");
        let whole = String::from_utf8(response.to_bytes(true, true)).unwrap();
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"));
        assert!(whole.contains("\r\nContent-Length: 6\r\nConnection: keep-alive\r\n"));
        assert!(whole.ends_with("\r\n\r\nhello\n"));
        let head = String::from_utf8(response.to_bytes(false, false)).unwrap();
        assert!(
            head.contains("\r\nContent-Length: 6\r\nConnection: close\r\n") && head.ends_with("\r\n\r\n")
        );
        let unauthorized = String::from_utf8(Response::text(401, "").to_bytes(true, true)).unwrap();
        assert!(unauthorized.contains("\r\nWWW-Authenticate: Bearer\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Some((request, used))) = parse(&bytes) {
                prop_assert!(used <= bytes.len() && request.path.starts_with('/'));
            }
        }

        #[test]
        fn a_sound_request_with_flipped_bytes_is_survived(
            flips in proptest::collection::vec((0usize..120, any::<u8>()), 1..6)
        ) {
            let text = "POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nAuthorization: Bearer abc\r\n\r\n";
            let mut bytes = text.as_bytes().to_vec();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(Some((request, used))) = parse(&bytes) {
                prop_assert!(used <= bytes.len() && request.body_bytes <= BODY_BYTES_MAX);
            }
        }
    }
}
