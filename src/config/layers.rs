//! The four layers of a configuration: flag over environment over file over default.
//!
//! [`Layers`] holds the winning value of each key with the place it came from. Keys are checked here, values when resolved.

use super::ConfigError;
use super::error::BadValue;
use super::knobs::{self, KNOBS, Knob};
use super::origin::Origin;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as text, and where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// As written, without quotes.
    pub text: String,
    /// Where.
    pub origin: Origin,
}

/// A member or a client as written: its keys, unchecked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenMember {
    /// Key and value.
    pub keys: BTreeMap<String, Setting>,
    /// Where the table begins.
    pub origin: Origin,
}

/// The winning value of every key that somebody set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layers {
    /// By key.
    pub settings: BTreeMap<&'static str, Setting>,
    /// `[[cluster.members]]`, in the order of the file.
    pub members: Vec<WrittenMember>,
    /// `[[cluster.joined]]`.
    pub joined: Vec<WrittenMember>,
    /// `[[cluster.clients]]`, in the order of the file.
    pub clients: Vec<WrittenMember>,
    /// Relative paths start here.
    pub base: PathBuf,
}

/// The prefix of environment variables: `QUORATE_RAFT__HEARTBEAT=20ms`.
const PREFIX: &str = "QUORATE_";

impl Layers {
    /// Reads a file, the lowest layer above the defaults.
    pub fn from_file(path: &Path) -> Result<Layers, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Layers::from_text(&text, path)
    }

    /// Reads the text of a file that is called `path`.
    pub fn from_text(text: &str, path: &Path) -> Result<Layers, ConfigError> {
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        let mut layers = Layers { base, ..Layers::default() };
        let source = Source { text, path };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: source.origin(error.span().unwrap_or(0..0)),
            message: error.message().to_owned(),
        })?;
        for (section, content) in table.get_ref() {
            let DeValue::Table(keys) = content.get_ref() else {
                return Err(source.unknown(section.get_ref().to_string(), section.span()));
            };
            for (name, value) in keys {
                layers.take_from_file(
                    &source,
                    format!("{}.{}", section.get_ref(), name.get_ref()),
                    name.span(),
                    value,
                )?;
            }
        }
        Ok(layers)
    }

    /// Takes the variables that have our prefix and a double underscore; others are somebody else's.
    pub fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let key = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
            self.put(key, text, Origin::Environment(name))?;
        }
        Ok(())
    }

    /// Takes `key = text` from the flag `flag`.
    pub fn add_flag(&mut self, flag: &str, key: &str, text: &str) -> Result<(), ConfigError> {
        self.put(key.to_owned(), text.to_owned(), Origin::Flag(flag.to_owned()))
    }

    /// All settings in the table's order, each with its value (if it has one) and origin.
    pub fn all(&self) -> impl Iterator<Item = (&'static Knob, Option<String>, Origin)> {
        KNOBS.iter().map(|knob| match (self.settings.get(knob.key), knob.fallback) {
            (Some(s), _) => (knob, Some(s.text.clone()), s.origin.clone()),
            (None, knobs::Fallback::Value(text)) => (knob, Some(text.to_owned()), Origin::Default),
            (None, _) => (knob, None, Origin::Default),
        })
    }

    fn put(&mut self, key: String, text: String, origin: Origin) -> Result<(), ConfigError> {
        match knobs::find(&key) {
            Some(knob) => {
                self.settings.insert(knob.key, Setting { text, origin });
                Ok(())
            }
            None => Err(ConfigError::UnknownKey { origin, nearest: knobs::nearest(&key), key }),
        }
    }

    fn take_from_file(
        &mut self,
        source: &Source<'_>,
        key: String,
        name: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        if key == knobs::MEMBERS_KEY {
            self.members = source.tables(knobs::MEMBERS_KEY, knobs::MEMBER_KEYS, value)?;
            return Ok(());
        }
        if key == knobs::JOINED_KEY {
            self.joined = source.tables(knobs::JOINED_KEY, knobs::MEMBER_KEYS, value)?;
            return Ok(());
        }
        if key == knobs::CLIENTS_KEY {
            self.clients = source.tables(knobs::CLIENTS_KEY, knobs::CLIENT_KEYS, value)?;
            return Ok(());
        }
        if knobs::find(&key).is_none() {
            return Err(source.unknown(key, name));
        }
        let text = source.scalar(&key, value)?;
        self.put(key, text, source.origin(name))
    }
}

/// A file that is being read: turns byte offsets into lines.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let line = 1 + self.text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }
    fn unknown(&self, key: String, span: Range<usize>) -> ConfigError {
        ConfigError::UnknownKey { origin: self.origin(span), nearest: knobs::nearest(&key), key }
    }
    /// An array of tables, each with some of `names`.
    fn tables(
        &self,
        array: &str,
        names: &[&'static str],
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<WrittenMember>, ConfigError> {
        let wrong = || -> ConfigError {
            BadValue {
                origin: self.origin(value.span()),
                key: array.into(),
                value: format!("of type {}", value.get_ref().type_str()),
                limit: "each is a table".into(),
                cure: format!("write one [[{array}]] each"),
            }
            .into()
        };
        let mut found = Vec::new();
        for member in value.get_ref().as_array().ok_or_else(wrong)?.iter() {
            let table = member.get_ref().as_table().ok_or_else(wrong)?;
            let mut keys = BTreeMap::new();
            for (name, value) in table {
                let key = name.get_ref().to_string();
                if !names.contains(&key.as_str()) {
                    let near = |known: &&&str| 0.75 <= strsim::jaro_winkler(&key, known);
                    let nearest = names.iter().find(near).copied();
                    let (origin, key) = (self.origin(name.span()), format!("{array}.{key}"));
                    return Err(ConfigError::UnknownKey { origin, nearest, key });
                }
                let text = self.scalar(&format!("{array}.{key}"), value)?;
                keys.insert(key, Setting { text, origin: self.origin(name.span()) });
            }
            found.push(WrittenMember { keys, origin: self.origin(member.span()) });
        }
        Ok(found)
    }
    /// A string, number or truth value as text.
    fn scalar(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Boolean(truth) => Ok(truth.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().replace('_', "")),
            other => Err(BadValue {
                origin: self.origin(value.span()),
                key: key.to_owned(),
                value: format!("of type {}", other.type_str()),
                limit: "a setting is a text, a decimal number, true or false".into(),
                cure: "write it like \"150ms\", 100 or true".into(),
            }
            .into()),
        }
    }
}
