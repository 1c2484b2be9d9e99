//! The line protocol by which links are changed while they are used: a line asks, one line of JSON answers.
//!
//! ```text
//! set 1>2 latency=50ms,jitter=50ms      {"changed":1}
//! show                                  {"links":[{"link":"1>2","shape":"latency=50ms,jitter=50ms","connections":1,"bytes":0}]}
//! anything else                         {"error":"..."}
//! ```

use super::Pattern;
use super::shape::Shape;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};

/// Bytes of a line at most.
pub const LINE_MAX: usize = 4096;

/// What a line asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// These links behave so from now on.
    Set(Pattern, Shape),
    /// How do all of them behave?
    Show,
}

impl Request {
    /// Reads a line.
    pub fn parse(line: &str) -> Result<Request, String> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("show"), None, ..) => Ok(Request::Show),
            (Some("set"), Some(links), Some(shape), None) => {
                Ok(Request::Set(Pattern::parse(links)?, Shape::parse(shape)?))
            }
            _ => Err(format!(
                "{line:?} is no request; write `show`, or `set LINKS SHAPE` such as `set 1>* stall`"
            )),
        }
    }
}

/// How a directed link does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// How it behaves.
    pub shape: Shape,
    /// Connections that stand.
    pub connections: usize,
    /// Bytes that it has handed on.
    pub bytes: u64,
}

/// The answer to `show`.
pub fn shown(links: &[LinkState]) -> Value {
    let link = |link: &LinkState| {
        let name = format!("{}>{}", link.from, link.to);
        json!({"link": name, "shape": link.shape.show(), "connections": link.connections, "bytes": link.bytes})
    };
    json!({"links": links.iter().map(link).collect::<Vec<_>>()})
}

/// Asks a proxy one thing; its answer, which may be an `error`.
pub fn ask(control: &str, line: &str) -> std::io::Result<Value> {
    let mut stream = crate::load::ask::connect(control)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_asks_one_thing() {
        assert_eq!(Request::parse(" show "), Ok(Request::Show));
        let Ok(Request::Set(pattern, shape)) = Request::parse("set 1>* stall") else { panic!() };
        assert!(pattern.is("1", "2") && !pattern.is("2", "1") && shape.stall);
        for line in ["", "show me", "set", "set 1>2", "set 1>2 fast", "set 1 stall", "set 1>2 stall cut"] {
            assert!(Request::parse(line).is_err(), "{line:?}");
        }
    }
}
