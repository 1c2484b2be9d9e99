//! Flags that become the topmost layer of a configuration.

use super::exit::Failure;
use crate::config::{Layers, Resolved};
use clap::Args;
use std::path::{Path, PathBuf};

/// Flags that `start` and `config` share.
#[derive(Args, Debug, Clone)]
pub struct Settings {
    /// The node's configuration file
    #[arg(long, short, value_name = "FILE", env = "QUORATE_CONFIG")]
    pub config: PathBuf,
    #[command(flatten)]
    over: Overrides,
}

/// Flags that win over environment and file.
#[derive(Args, Debug, Clone, Default)]
pub struct Overrides {
    /// Sets any key: --set raft.heartbeat=20ms (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Allows a client port beyond loopback without a password
    #[arg(long)]
    insecure: bool,
    /// How lines on stderr look: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// When a write counts as stored: quorum-sync or none
    #[arg(long, value_name = "WHEN")]
    durability: Option<String>,
    /// Threads of the data plane
    #[arg(long, value_name = "N")]
    cores: Option<String>,
    /// Never sleep: lower latency for a whole core a thread
    #[arg(long)]
    spin: bool,
}

impl Settings {
    /// All four layers.
    pub fn layers(&self) -> Result<Layers, Failure> {
        let mut layers = file_and_environment(&self.config)?;
        self.over.add_to(&mut layers)?;
        Ok(layers)
    }
    /// All four layers, resolved.
    pub fn resolve(&self) -> Result<Resolved, Failure> {
        Ok(self.layers()?.resolve()?)
    }
    /// Whether lines on standard error are to be JSON, as far as that can be told of settings that perhaps do not hold.
    pub fn logs_json(&self) -> bool {
        let is_said = |layers: Layers| layers.settings.get("log_lines.format").map(|s| s.text == "json");
        let said = self.layers().ok().and_then(is_said);
        said.unwrap_or_else(|| self.over.log_format.as_deref() == Some("json"))
    }
}

/// All layers but that of flags.
pub fn file_and_environment(config: &Path) -> Result<Layers, Failure> {
    let mut layers = Layers::from_file(config)?;
    layers.add_environment(
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )?;
    Ok(layers)
}

impl Overrides {
    fn add_to(&self, layers: &mut Layers) -> Result<(), Failure> {
        let named = [
            ("--insecure", "client.insecure", self.insecure.then_some("true")),
            ("--log-format", "log_lines.format", self.log_format.as_deref()),
            ("--durability", "log.durability", self.durability.as_deref()),
            ("--cores", "placement.cores", self.cores.as_deref()),
            ("--spin", "placement.spin", self.spin.then_some("true")),
        ];
        for (flag, key, value) in named {
            if let Some(value) = value {
                layers.add_flag(flag, key, value)?;
            }
        }
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                let message = format!("flag --set: `{pair}` has no `=`; write --set raft.heartbeat=20ms");
                return Err(Failure::new(super::Exit::Usage, message));
            };
            layers.add_flag("--set", key.trim(), value.trim())?;
        }
        Ok(())
    }
}

/// A node's configuration as its `start` sees it, but for what only a node that serves clients needs.
pub(super) fn read(path: &Path) -> Result<Resolved, Failure> {
    let mut layers = file_and_environment(path)?;
    layers.add_flag("ctl", "client.insecure", "true")?;
    Ok(layers.resolve()?)
}
