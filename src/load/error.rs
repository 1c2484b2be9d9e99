//! Why there is no result of a bench, and the exit code that says so.

use super::generator::GenerateError;
use std::path::{Path, PathBuf};

/// Nothing was measured, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The load could not be made.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The kernel gives no ring.
    #[error(transparent)]
    Driver(#[from] crate::io::DriverError),
    /// A file or directory.
    #[error("{path}: cannot {what} ({source}); check the path, its owner and free space")]
    File {
        /// Where.
        path: PathBuf,
        /// Doing what.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Only memory to write to.
    #[error(
        "{path} lies on {kind}, which is memory: nothing there is durable, and figures would flatter; choose a disk with --dir, or say \
         --durability none"
    )]
    NoDisk {
        /// Where.
        path: PathBuf,
        /// The file system.
        kind: String,
    },
    /// A child process did not do what it should.
    #[error("{what}; {cure}")]
    Child {
        /// What happened.
        what: String,
        /// What to look at.
        cure: String,
    },
    /// Nobody leads.
    #[error("no node of {endpoints} says that it is the leader ({last}); is a majority of them running?")]
    NoLeader {
        /// Who was asked.
        endpoints: String,
        /// The last answer.
        last: String,
    },
}

impl LoadError {
    /// The process's exit code: 1 interrupted, 2 usage, 3 no connection, 4 the server's error, 5 unhealthy, 6 machine and files.
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadError::Generate(GenerateError::Interrupted) => 1,
            LoadError::Usage(_) | LoadError::NoDisk { .. } => 2,
            LoadError::Generate(GenerateError::Connect { .. }) => 3,
            LoadError::Generate(GenerateError::Password { .. } | GenerateError::Reply { .. }) => 4,
            LoadError::Child { .. } | LoadError::NoLeader { .. } => 5,
            LoadError::Driver(_) | LoadError::File { .. } => 6,
        }
    }

    /// A file system error at `path`.
    pub fn file(path: &Path, what: &'static str, source: std::io::Error) -> LoadError {
        LoadError::File { path: path.to_path_buf(), what, source }
    }
}
