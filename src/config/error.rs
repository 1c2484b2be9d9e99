//! What can be wrong with a configuration: each names the place, the value, the limit and the cure.

use super::origin::Origin;
use std::path::PathBuf;

/// One sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: cannot be read ({source}); name another file or mend its permissions", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no TOML.
    #[error("{origin}: not valid TOML: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// A key that is no setting.
    #[error("{origin}: unknown key `{key}`{}", .nearest.map(|k| format!("; did you mean `{k}`?"))
        .unwrap_or_else(|| "; `quorate config show` lists all keys".into()))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// As written.
        key: String,
        /// A key that looks like it.
        nearest: Option<&'static str>,
    },
    /// A value outside its limits or of the wrong kind.
    #[error(transparent)]
    BadValue(#[from] Box<BadValue>),
    /// A value that has no default is lacking.
    #[error("`{key}` is not set; {cure}")]
    Missing {
        /// Which setting.
        key: String,
        /// What helps.
        cure: String,
    },
}

/// A value outside its limits or of the wrong kind.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: `{key}` is {value}, but {limit}; {cure}")]
pub struct BadValue {
    /// Where.
    pub origin: Origin,
    /// Which setting.
    pub key: String,
    /// As written.
    pub value: String,
    /// What it has to obey.
    pub limit: String,
    /// What helps.
    pub cure: String,
}
impl From<BadValue> for ConfigError {
    fn from(bad: BadValue) -> ConfigError {
        ConfigError::BadValue(Box::new(bad))
    }
}
