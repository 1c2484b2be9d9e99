//! The other side of `server`: a blocking HTTP client for `quorate ctl`. One request a connection, nothing that our server does not
//! speak.

use super::status::Facts;
use super::token::Token;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest response.
const RESPONSE_BYTES_MAX: u64 = 16 << 20;

/// Talks to one node's service plane.
pub struct Client {
    address: String,
    wait: Duration,
    token: Option<Token>,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Why nothing useful came back.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no connection to {address}: {error}; is the node up, and is this its [admin] listen address?")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The connection broke, or took too long.
    #[error("{address} did not answer: {error}")]
    Broken {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The answer to a request that changes something did not come.
    #[error(
        "{address} was asked and did not answer: {error}; it may have been done, ask where the nodes stand"
    )]
    Unknown {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// Something else listens there.
    #[error("{address} does not speak like a Quorate node: {why}")]
    Foreign {
        /// Where.
        address: String,
        /// What was odd.
        why: String,
    },
    /// The node answered that it will not or cannot.
    #[error("{address} answered {status}: {body}")]
    Refused {
        /// Where.
        address: String,
        /// The status code.
        status: u16,
        /// Its words.
        body: String,
    },
}

impl Client {
    /// For `host:port`, with or without `http://` before it. Each step of a request may take `wait`.
    pub fn new(address: &str, wait: Duration, token: Option<Token>) -> Client {
        let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        Client { address: address.to_string(), wait, token }
    }

    /// Where this node stands.
    pub fn status(&self) -> Result<Facts, ClientError> {
        let reply = self.get("/statusz")?;
        serde_json::from_str(&reply.body).map_err(|error| self.foreign(format!("/statusz: {error}")))
    }

    /// `GET path`: its reply, if that is a success.
    pub fn get(&self, path: &str) -> Result<Reply, ClientError> {
        self.accept(self.exchange("GET", path, &[])?)
    }

    /// `GET path`, whatever the status: `/readyz` says why with 503.
    pub fn look(&self, path: &str) -> Result<Reply, ClientError> {
        self.exchange("GET", path, &[])
    }

    /// `POST path` with the token. When the answer is lost, it may have been done.
    pub fn post(&self, path: &str) -> Result<Reply, ClientError> {
        self.post_body(path, &[])
    }

    /// `POST path` with the token and that body. When the answer is lost, it may have been done.
    pub fn post_body(&self, path: &str, body: &[u8]) -> Result<Reply, ClientError> {
        let reply = self.exchange("POST", path, body).map_err(|error| match error {
            ClientError::Broken { address, error } => ClientError::Unknown { address, error },
            other => other,
        });
        self.accept(reply?)
    }

    fn accept(&self, reply: Reply) -> Result<Reply, ClientError> {
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        let body = reply.body.trim_end().to_string();
        Err(ClientError::Refused { address: self.address.clone(), status: reply.status, body })
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, ClientError> {
        let broken = |error| ClientError::Broken { address: self.address.clone(), error };
        let mut stream = self.connect()?;
        let bearer = match &self.token {
            Some(token) if method == "POST" => format!("Authorization: Bearer {}\r\n", token.reveal()),
            _ => String::new(),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{bearer}\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).map_err(broken)?;
        let mut bytes = Vec::new();
        (&mut stream).take(RESPONSE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.is_empty() {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        read_reply(&bytes).map_err(|why| self.foreign(why))
    }

    fn connect(&self) -> Result<TcpStream, ClientError> {
        let failed = |error| ClientError::Connect { address: self.address.clone(), error };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, self.wait) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.wait)).map_err(failed)?;
                    stream.set_write_timeout(Some(self.wait)).map_err(failed)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    fn foreign(&self, why: String) -> ClientError {
        ClientError::Foreign { address: self.address.clone(), why }
    }
}

/// Reads a whole response. The length it tells must be the length it has: a shorter one was cut.
fn read_reply(bytes: &[u8]) -> Result<Reply, String> {
    if RESPONSE_BYTES_MAX < bytes.len() as u64 {
        return Err(format!("its answer is longer than {RESPONSE_BYTES_MAX} bytes"));
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("its answer has no end of head")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "its head is no text")?;
    let body = std::str::from_utf8(&bytes[end + 4..]).map_err(|_| "its body is no text")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status =
        first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| format!("its answer begins with {first:?}"))?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if length == body.len() => Ok(Reply { status, body: body.to_string() }),
        Some(length) => Err(format!("its answer has {} bytes of {length}", body.len())),
        None => Err("its answer tells no length".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_reply_is_one() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(read_reply(whole), Ok(Reply { status: 503, body: "abc".into() }));
        for end in 0..whole.len() {
            assert!(read_reply(&whole[..end]).is_err(), "cut at {end}");
        }
        let odd: [&[u8]; 5] = [
            b"",
            b"-ERR unknown command 'GET'\r\n",
            b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff",
        ];
        for bytes in odd {
            assert!(read_reply(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_change_whose_answer_is_lost_may_have_been_made() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&listener.local_addr().unwrap().to_string(), Duration::from_secs(5), None);
        let reset = std::thread::spawn(move || {
            for _ in 0..2 {
                // Closed with bytes unread: the other side is told that the connection is reset.
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 1]).unwrap();
            }
        });
        assert!(matches!(client.post("/leader/transfer"), Err(ClientError::Unknown { .. })));
        assert!(matches!(client.get("/statusz"), Err(ClientError::Broken { .. })));
        reset.join().unwrap();
    }

    #[test]
    fn nobody_there_is_told_with_the_address() {
        // A port that was free a moment ago and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&format!("http://127.0.0.1:{port}/"), Duration::from_secs(5), None);
        let error = client.get("/statusz").unwrap_err();
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")));
    }
}
