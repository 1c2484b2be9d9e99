//! Asking a node one thing, in the way of any Redis client: who leads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A node that takes longer is not the one to ask.
const PATIENCE: Duration = Duration::from_millis(500);
/// `INFO` is a few kilobytes.
const REPLY_MAX: usize = 1 << 20;

pub(super) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection that waits at most `PATIENCE` for an answer.
pub(super) fn connect(endpoint: &str) -> io::Result<Box<dyn Stream>> {
    if endpoint.contains('/') {
        let stream = UnixStream::connect(endpoint)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        return Ok(Box::new(stream));
    }
    let mut last = io::ErrorKind::NotFound.into();
    for address in endpoint.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The text of `INFO` from an endpoint.
pub fn info(endpoint: &str, password: Option<&str>) -> io::Result<String> {
    let mut stream = connect(endpoint)?;
    if let Some(password) = password {
        write!(stream, "*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len())?;
    }
    stream.write_all(b"*1\r\n$4\r\nINFO\r\n")?;
    let mut reader = BufReader::new(stream);
    if password.is_some() {
        read_line(&mut reader)?;
    }
    let head = read_line(&mut reader)?;
    // RESP2 bulk, or RESP3 verbatim text.
    let len =
        head.strip_prefix('$').or_else(|| head.strip_prefix('=')).and_then(|len| len.parse::<usize>().ok());
    let Some(len) = len.filter(|len| *len <= REPLY_MAX) else { return Err(io::Error::other(head)) };
    let mut text = vec![0; len];
    reader.read_exact(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(REPLY_MAX as u64).read_line(&mut line)?;
    match line.trim_end() {
        "" => Err(io::ErrorKind::UnexpectedEof.into()),
        error if error.starts_with('-') => Err(io::Error::other(error[1..].to_string())),
        line => Ok(line.to_string()),
    }
}

/// Which of the endpoints leads: the first whose `INFO` says `role:master`, and the last answer if none does.
pub fn leader(endpoints: &[String], password: Option<&str>) -> Result<usize, String> {
    let mut last = String::from("nobody was asked");
    for (index, endpoint) in endpoints.iter().enumerate() {
        match info(endpoint, password) {
            Ok(text) if text.lines().any(|line| line.trim_end() == "role:master") => return Ok(index),
            Ok(text) => {
                let role =
                    text.lines().find(|line| line.starts_with("role:")).unwrap_or("no role").trim_end();
                last = format!("{endpoint}: {role}");
            }
            Err(error) => last = format!("{endpoint}: {error}"),
        }
    }
    Err(last)
}
