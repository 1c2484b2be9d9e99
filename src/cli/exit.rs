//! Exit codes: stable, so that scripts may rely on them.

use crate::config::ConfigError;
use std::fmt;
use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something failed that has no code of its own.
    Error = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Nobody answers at that address.
    NoConnection = 3,
    /// A node answered with an error.
    ServerError = 4,
    /// Nodes answer, but the cluster cannot serve writes.
    Unhealthy = 5,
    /// A file, the disk, or the kernel refused.
    Io = 6,
    /// What was to be checked does not hold.
    CheckFailed = 7,
    /// It may or may not have taken effect.
    Unknown = 8,
}

impl Exit {
    /// All of them, with what they mean to whoever writes a script.
    pub const ALL: &'static [(Exit, &'static str)] = &[
        (Exit::Ok, "done"),
        (Exit::Error, "error"),
        (Exit::Usage, "wrong command line or configuration"),
        (Exit::NoConnection, "no connection"),
        (Exit::ServerError, "a node answered with an error"),
        (Exit::Unhealthy, "the cluster cannot serve writes"),
        (Exit::Io, "a file, the disk or the kernel refused"),
        (Exit::CheckFailed, "a check failed"),
        (Exit::Unknown, "the outcome is unknown"),
    ];
}
impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// For `--help`.
pub const HELP: &str = "Exit codes:
  0  done
  1  error
  2  wrong command line or configuration
  3  no connection
  4  a node answered with an error
  5  the cluster cannot serve writes
  6  a file, the disk or the kernel refused
  7  a check failed
  8  the outcome is unknown";

/// Why a command failed: one sentence and the code that fits it.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// Value, limit and cure in one sentence.
    pub message: String,
}

impl Failure {
    /// A failure with that code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }
    /// The file system refused something at `path`.
    pub fn io(path: &std::path::Path, what: &str, error: &std::io::Error) -> Failure {
        Failure::new(
            Exit::Io,
            format!("{}: cannot {what} ({error}); check the path, its owner and free space", path.display()),
        )
    }
}
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let exit = if matches!(error, ConfigError::Read { .. }) { Exit::Io } else { Exit::Usage };
        Failure::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code_with_its_meaning() {
        for (place, (exit, meaning)) in Exit::ALL.iter().enumerate() {
            assert_eq!(*exit as usize, place, "codes are dense and never change");
            assert!(HELP.contains(&format!("  {place}  {meaning}")), "{meaning}");
        }
    }
}
