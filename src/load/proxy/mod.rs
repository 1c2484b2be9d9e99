//! A network that behaves badly on purpose, between real processes: a TCP proxy with a [`Shape`] for each directed link.
//!
//! A [`Detour`] is a port that one node dials instead of another; what goes from the first to the second and what comes back are two
//! directed links, each with its own shape, which may be changed at any time (`control`). One thread, one ring (`relay`). It works
//! on streams: bytes of a link are late, slow, held, cut off or flipped, never lost or reordered within a connection.

pub mod control;
pub mod profile;
pub mod relay;
pub mod shape;
pub mod transit;

#[cfg(test)]
mod tests;

pub use relay::{Relay, RelayOptions};
pub use shape::Shape;

/// A port in front of a node, for one other node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detour {
    /// Who dials it.
    pub from: String,
    /// Who is behind it.
    pub to: String,
    /// Where it listens.
    pub listen: String,
    /// Where the one behind it listens.
    pub target: String,
}

impl Detour {
    /// Reads `FROM,TO=LISTEN,TARGET`.
    pub fn parse(text: &str) -> Result<Detour, String> {
        let parts = || {
            let (names, addresses) = text.split_once('=')?;
            let ((from, to), (listen, target)) = (names.split_once(',')?, addresses.split_once(',')?);
            let is_name =
                |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            (is_name(from) && is_name(to) && from != to).then(|| Detour {
                from: from.to_string(),
                to: to.to_string(),
                listen: listen.to_string(),
                target: target.to_string(),
            })
        };
        parts().ok_or_else(|| {
            format!(
                "{text:?} is no detour; write FROM,TO=LISTEN,TARGET, such as 2,1=127.0.0.1:8001,127.0.0.1:7101"
            )
        })
    }
}

/// Which directed links are meant: `1>2`, `1>*`, `*>2`, or `*` for all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    from: Option<String>,
    to: Option<String>,
}

impl Pattern {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let any = |name: &str| (name != "*").then(|| name.to_string());
        match text.split_once('>') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => {
                Ok(Pattern { from: any(from), to: any(to) })
            }
            None if text == "*" => Ok(Pattern { from: None, to: None }),
            _ => Err(format!("{text:?} names no links; write 1>2, 1>*, *>2 or *")),
        }
    }

    /// Whether the link from one to the other is meant.
    pub fn is(&self, from: &str, to: &str) -> bool {
        let fits = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        fits(&self.from, from) && fits(&self.to, to)
    }
}
