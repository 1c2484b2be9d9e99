//! `quorate version`: what this program is, and what it can talk to.

use super::Failure;
use super::output::{Output, columns};
use crate::config::FORMAT_VERSION;
use crate::wire::frame;
use serde_json::json;

/// Runs the command.
pub fn run(output: Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    // Set by whoever builds a release: QUORATE_COMMIT=$(git rev-parse --short HEAD) cargo build --release
    let commit = option_env!("QUORATE_COMMIT");
    let built = [("byzantine", cfg!(feature = "byzantine")), ("canaries", cfg!(feature = "canaries"))];
    let features: Vec<&str> = built.into_iter().filter(|(_, with)| *with).map(|(name, _)| name).collect();
    output.print(
        || {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            columns(&[
                row("quorate", version.to_owned()),
                row("commit", commit.unwrap_or("not recorded").to_owned()),
                row("frames", frame::VERSION.to_string()),
                row("files", FORMAT_VERSION.to_string()),
                row("features", if features.is_empty() { "none".into() } else { features.join(", ") }),
                row("built for", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)),
            ])
        },
        || {
            json!({
                "version": version, "commit": commit, "frame_version": frame::VERSION, "format_version": FORMAT_VERSION,
                "features": features, "arch": std::env::consts::ARCH, "os": std::env::consts::OS,
            })
        },
    );
    Ok(())
}
