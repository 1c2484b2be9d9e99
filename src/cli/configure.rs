//! `quorate config check|show`.

use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use super::settings::Settings;
use crate::config::Layers;
use crate::config::Origin;
use crate::config::knobs::{Fallback, Kind, Knob};
use crate::config::units;
use clap::Subcommand;
use serde_json::json;
use std::time::Duration;

/// What to do with it.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Say whether a node could start with it; exit 7 when not
    Check(Settings),
    /// Print every setting with its value, where that comes from, its limits and its meaning
    Show(Settings),
}

/// Runs the command.
pub fn run(command: &ConfigCommand, output: Output) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(settings) => check(settings, output),
        ConfigCommand::Show(settings) => {
            let layers = settings.layers()?;
            output.print(|| to_text(&layers), || to_json(&layers));
            Ok(())
        }
    }
}

fn check(settings: &Settings, output: Output) -> Result<(), Failure> {
    let config = settings.resolve().map_err(|failure| match failure.exit {
        Exit::Usage => Failure { exit: Exit::CheckFailed, ..failure },
        _ => failure,
    })?;
    let fingerprint = config.fingerprint();
    output.print(
        || {
            let count = config.cluster.members.len();
            format!(
                "good: node {} of {count}, cluster {}, fingerprint {fingerprint}",
                config.node.id, config.cluster.id
            )
        },
        || {
            json!({
                "good": true, "node": config.node.id.0, "members": config.cluster.members.len(),
                "cluster": config.cluster.id.to_string(), "fingerprint": fingerprint.to_string(),
            })
        },
    );
    Ok(())
}

fn to_text(layers: &Layers) -> String {
    let row = |(knob, value, origin): (&Knob, Option<String>, Origin)| {
        vec![
            knob.key.to_owned(),
            shown(knob, value),
            limits(knob.kind),
            origin.to_string(),
            knob.help.to_owned(),
        ]
    };
    let head = ["KEY", "VALUE", "LIMITS", "FROM", "MEANING"].map(String::from).to_vec();
    let mut text = columns(&std::iter::once(head).chain(layers.all().map(row)).collect::<Vec<_>>());
    text += "\ncluster.members\n";
    for member in &layers.members {
        let keys = member.keys.iter().map(|(key, setting)| format!("{key} = {}", setting.text));
        text += &format!("  {}  ({})\n", keys.collect::<Vec<_>>().join(", "), member.origin);
    }
    text
}

fn to_json(layers: &Layers) -> serde_json::Value {
    let setting = |(knob, value, origin): (&Knob, Option<String>, Origin)| {
        let value = if knob.secret { value.map(|_| "(hidden)".to_owned()) } else { value };
        json!({"key": knob.key, "value": value, "from": origin.to_string(), "limits": limits(knob.kind), "meaning": knob.help})
    };
    let members = layers.members.iter().map(|m| {
        let keys = m.keys.iter().map(|(key, setting)| (key.clone(), setting.text.clone().into()));
        serde_json::Value::Object(keys.collect())
    });
    json!({"settings": layers.all().map(setting).collect::<Vec<_>>(), "members": members.collect::<Vec<_>>()})
}

fn shown(knob: &Knob, value: Option<String>) -> String {
    match (value, knob.fallback) {
        (Some(_), _) if knob.secret => "(hidden)".into(),
        (Some(value), _) => value,
        (None, Fallback::Derived(words)) => format!("({words})"),
        (None, _) => "(not set)".into(),
    }
}

fn limits(kind: Kind) -> String {
    let milliseconds = |ms| units::show_duration(Duration::from_millis(ms));
    match kind {
        Kind::Text => "text".into(),
        Kind::Address => "host:port or path".into(),
        Kind::Path => "path".into(),
        Kind::Boolean => "true, false".into(),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Size { min, max } => format!("{} to {}", units::show_size(min), units::show_size(max)),
        Kind::Duration { min_ms, max_ms } => format!("{} to {}", milliseconds(min_ms), milliseconds(max_ms)),
        Kind::OneOf(words) => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_setting_is_shown_with_its_origin_and_no_password_is() {
        let text = "[client]\npassword = \"sesame\"\n[raft]\nheartbeat = \"20ms\"\n";
        let layers = Layers::from_text(text, Path::new("n.toml")).unwrap();
        let shown = to_text(&layers);
        assert!(!shown.contains("sesame") && !to_json(&layers).to_string().contains("sesame"));
        let heartbeat = shown.lines().find(|l| l.starts_with("raft.heartbeat")).unwrap();
        assert!(
            heartbeat.contains("20ms") && heartbeat.contains("n.toml:4") && heartbeat.contains("1ms to 30s")
        );
        for knob in crate::config::knobs::KNOBS {
            assert!(shown.contains(knob.key), "{}", knob.key);
        }
    }
}
