//! A cluster of this machine as if its nodes lay apart: each link of two nodes goes through a proxy of its own.
//!
//! Of each pair the node with the higher id dials, so only its configuration names the proxy's port instead of the other's.

use super::error::LoadError;
use super::lines::lines_of;
use super::proxy::Shape;
use crate::config::units;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The proxy must listen within this time.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The default of `raft.election_min`: enough for all that is near.
const ELECTION_MIN: Duration = Duration::from_millis(150);

/// A node as the proxy must know it.
pub struct Site {
    /// Its id.
    pub id: u8,
    /// Where other nodes reach it.
    pub peer: String,
    /// Its configuration.
    pub config: PathBuf,
}

/// A running proxy between all nodes of a cluster. It ends with its owner.
pub struct Wan {
    child: Child,
    control: String,
}

/// What the proxy says when it listens.
#[derive(Deserialize)]
struct Ready {
    control: String,
    detours: Vec<ReadyDetour>,
}

#[derive(Deserialize)]
struct ReadyDetour {
    from: String,
    to: String,
    listen: String,
}

impl Wan {
    /// Starts a proxy with every link so shaped, and rewrites the configurations to go through it.
    pub fn start(program: &Path, sites: &[Site], shape: &Shape) -> Result<Wan, LoadError> {
        let mut command = Command::new(program);
        command.args(["proxy", "run", "--stop-with-stdin", "-o", "json", "--control", "127.0.0.1:0"]);
        command.arg("--shape").arg(format!("* {}", shape.show()));
        for from in sites {
            for to in sites.iter().filter(|to| to.id < from.id) {
                command.arg("--detour").arg(format!("{},{}=127.0.0.1:0,{}", from.id, to.id, to.peer));
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| LoadError::file(program, "run it", source))?;
        let output = lines_of(&mut child);
        // From here on the child ends with this value, whatever fails.
        let mut wan = Wan { child, control: String::new() };
        let failed = |what: String| LoadError::Child { what, cure: "see its line above".to_string() };
        let line = output.recv_timeout(READY_WITHIN).map_err(|error| {
            failed(format!("the proxy does not listen within {READY_WITHIN:?} ({error})"))
        })?;
        let ready: Ready = serde_json::from_str(&line)
            .map_err(|error| failed(format!("the proxy said {line:?} ({error})")))?;
        wan.control = ready.control;
        for site in sites {
            let via = |to: u8| {
                let names = (site.id.to_string(), to.to_string());
                let mut detours = ready.detours.iter();
                detours
                    .find(|detour| (&detour.from, &detour.to) == (&names.0, &names.1))
                    .map(|detour| detour.listen.clone())
            };
            redirect(&site.config, via)?;
        }
        Ok(wan)
    }

    /// Where links are changed.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// The proxy's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        // It holds nothing that must be saved.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings that such a network asks for, as (key, value): an election must outlast several journeys there and back (thesis, section
/// 3.9: the broadcast time has to be far below the election time-out).
pub fn settings(shape: &Shape) -> Vec<(&'static str, String)> {
    let farthest = shape.latency + shape.jitter;
    let election = (5 * farthest).max(ELECTION_MIN);
    if election == ELECTION_MIN {
        return Vec::new();
    }
    vec![
        ("raft.election_min", units::show_duration(election)),
        ("raft.election_max", units::show_duration(2 * election)),
    ]
}

/// Lets a node dial other members where `via` says, instead of at their own addresses.
pub fn redirect(config: &Path, via: impl Fn(u8) -> Option<String>) -> Result<(), LoadError> {
    let file = |source| LoadError::file(config, "rewrite it", source);
    let text = std::fs::read_to_string(config).map_err(file)?;
    let mut table: toml::Table = text.parse().map_err(|error| file(std::io::Error::other(error)))?;
    let members = table.get_mut("cluster").and_then(|cluster| cluster.get_mut("members")?.as_array_mut());
    for member in members.into_iter().flatten() {
        let id = member.get("id").and_then(toml::Value::as_integer).and_then(|id| u8::try_from(id).ok());
        if let Some(listen) = id.and_then(&via)
            && let Some(member) = member.as_table_mut()
        {
            member.insert("peer".to_string(), toml::Value::String(listen));
        }
    }
    std::fs::write(config, table.to_string()).map_err(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::place::Place;

    #[test]
    fn far_networks_get_patient_elections() {
        let near = Shape::parse("latency=1ms,jitter=1ms").unwrap();
        assert_eq!(settings(&near), []);
        let far = settings(&Shape::parse("latency=50ms,jitter=50ms").unwrap());
        assert_eq!(
            far,
            [("raft.election_min", "500ms".to_string()), ("raft.election_max", "1s".to_string())]
        );
        let default = crate::config::knobs::find("raft.election_min").unwrap().fallback;
        assert_eq!(default, crate::config::knobs::Fallback::Value("150ms"));
    }

    #[test]
    fn only_the_members_that_are_named_are_dialled_elsewhere() {
        let place = Place::choose(None, true).unwrap();
        let config = place.path().join("node-3.toml");
        let member = |id: u8| {
            format!("[[cluster.members]]\nid = {id}\npeer = \"127.0.0.1:{}\"\n", 7100 + u16::from(id))
        };
        let text = format!("[node]\nid = 3\n[cluster]\nid = \"x\"\n{}{}{}", member(1), member(2), member(3));
        std::fs::write(&config, text).unwrap();
        redirect(&config, |to| (to == 2).then(|| "127.0.0.1:9".to_string())).unwrap();
        let table: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
        let peers: Vec<&str> = table["cluster"]["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["peer"].as_str().unwrap())
            .collect();
        assert_eq!(peers, ["127.0.0.1:7101", "127.0.0.1:9", "127.0.0.1:7103"]);
        assert!(redirect(&place.path().join("missing.toml"), |_| None).is_err());
    }
}
