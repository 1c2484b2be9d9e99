//! Composition: placement, wiring, boot, run.

use crate::config::Resolved;

/// Why a node ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine refused something: a file, a port, the kernel.
    #[error("{what}: {error}; {cure}")]
    Machine {
        /// What was wanted.
        what: String,
        /// Why it was refused.
        error: std::io::Error,
        /// What helps.
        cure: &'static str,
    },
}

/// Runs one node until SIGTERM or SIGINT. Prints one line on standard output when it is ready.
pub fn run(config: Resolved) -> Result<(), RunError> {
    Err(RunError::Machine {
        what: format!("node {}", config.node.id),
        error: std::io::ErrorKind::Unsupported.into(),
        cure: "this build has no data plane",
    })
}
