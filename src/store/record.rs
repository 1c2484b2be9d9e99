//! A key with its value.

use super::fields::{Fields, replace_tail};
use crate::base::Stamp;

/// Logical bytes of a record beside its key and value: what it takes in its bucket, in the allocator and in the deadlines, rounded.
pub(super) const RECORD_OVERHEAD: u64 = 64;

/// A key with its value: one allocation for a string.
pub(super) struct Record {
    /// The low half of the key's hash.
    mark: u32,
    key_len: u32,
    /// When it expires; 0 for never.
    pub deadline: Stamp,
    value: Value,
}

enum Value {
    /// The key, then the string.
    String(Vec<u8>),
    Hash(Box<Hash>),
}

struct Hash {
    key: Box<[u8]>,
    fields: Fields,
}

/// What a record holds, to be read.
pub(super) enum View<'a> {
    String(&'a [u8]),
    Hash(&'a Fields),
}

impl Record {
    pub fn string(mark: u32, key: &[u8], value: &[u8], deadline: Stamp) -> Record {
        let mut bytes = Vec::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Record { mark, key_len: key.len() as u32, deadline, value: Value::String(bytes) }
    }
    pub fn hash(mark: u32, key: &[u8], fields: Fields, deadline: Stamp) -> Record {
        let hash = Hash { key: key.into(), fields };
        Record { mark, key_len: key.len() as u32, deadline, value: Value::Hash(Box::new(hash)) }
    }

    pub fn mark(&self) -> u32 {
        self.mark
    }
    pub fn key(&self) -> &[u8] {
        match &self.value {
            Value::String(bytes) => &bytes[..self.key_len as usize],
            Value::Hash(hash) => &hash.key,
        }
    }
    /// Reads a byte of each of the first cache lines of its key and string.
    pub fn touch(&self) -> usize {
        match &self.value {
            Value::String(bytes) => {
                bytes.iter().step_by(64).take(8).fold(0, |sum, byte| sum ^ usize::from(*byte))
            }
            Value::Hash(hash) => hash.fields.len(),
        }
    }
    pub fn is(&self, mark: u32, key: &[u8]) -> bool {
        self.mark == mark && self.key() == key
    }
    pub fn view(&self) -> View<'_> {
        match &self.value {
            Value::String(bytes) => View::String(&bytes[self.key_len as usize..]),
            Value::Hash(hash) => View::Hash(&hash.fields),
        }
    }
    /// Whether it cannot be seen at `now`.
    pub fn is_expired(&self, now: Stamp) -> bool {
        self.deadline != Stamp::ZERO && self.deadline <= now
    }
    /// Logical bytes.
    pub fn weight(&self) -> u64 {
        let bytes = match &self.value {
            Value::String(bytes) => bytes.len() as u64,
            Value::Hash(hash) => hash.key.len() as u64 + hash.fields.weight(),
        };
        bytes + RECORD_OVERHEAD
    }

    /// At least the length of any string that a reply can take from it.
    pub fn longest(&self) -> usize {
        match &self.value {
            Value::String(bytes) => bytes.len(),
            Value::Hash(hash) => hash.key.len().max(hash.fields.longest()),
        }
    }

    /// Makes it a string; gives back the fields that were there before.
    pub fn set_string(&mut self, key: &[u8], value: &[u8]) -> Option<Fields> {
        match &mut self.value {
            Value::String(bytes) => {
                replace_tail(bytes, self.key_len as usize, value);
                None
            }
            Value::Hash(hash) => {
                let fields = std::mem::take(&mut hash.fields);
                *self = Record::string(self.mark, key, value, self.deadline);
                Some(fields)
            }
        }
    }
    /// The key and the string behind it, to be changed behind `Record::key_len`. `None` if it is no string.
    pub fn string_mut(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        match &mut self.value {
            Value::String(bytes) => Some((bytes, self.key_len as usize)),
            Value::Hash(_) => None,
        }
    }
    pub fn fields_mut(&mut self) -> Option<&mut Fields> {
        match &mut self.value {
            Value::String(_) => None,
            Value::Hash(hash) => Some(&mut hash.fields),
        }
    }
    /// The fields, if it is a hash.
    pub fn into_fields(self) -> Option<Fields> {
        match self.value {
            Value::String(_) => None,
            Value::Hash(hash) => Some(hash.fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Record>() <= 40, "{}", size_of::<Record>());
    }

    #[test]
    fn a_string_replaces_anything() {
        let mut fields = Fields::default();
        fields.set(1, b"f", b"v");
        let mut record = Record::hash(9, b"key", fields, Stamp(5));
        assert_eq!(record.set_string(b"key", b"value").map(|f| f.len()), Some(1));
        assert!(record.set_string(b"key", b"other").is_none());
        assert!(record.is(9, b"key") && matches!(record.view(), View::String(b"other")));
        assert_eq!(record.weight(), RECORD_OVERHEAD + 8);
        assert!(record.is_expired(Stamp(5)) && !record.is_expired(Stamp(4)));
    }
}
