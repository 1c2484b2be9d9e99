//! The value of a hash: fields in the order in which they came.
//!
//! The order is state, because replies show it: it is a function of the log, is kept by snapshots and covered by the digest. Up to
//! [`ORDERED_MAX`] fields are found by their marks one after another, and removal keeps the order, as Redis does for small hashes.
//! Above it an index finds them, and removal puts the last field into the hole.

use hashbrown::HashTable;

/// Most fields that are kept without an index.
pub(super) const ORDERED_MAX: usize = 128;
/// Logical bytes of a field beside its name and value.
pub(super) const FIELD_OVERHEAD: u64 = 48;

/// A field and its value.
pub(super) struct Field {
    mark: u32,
    name_len: u32,
    /// The name, then the value.
    bytes: Vec<u8>,
}

impl Field {
    pub fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len as usize]
    }
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.name_len as usize..]
    }
    fn is(&self, mark: u32, name: &[u8]) -> bool {
        self.mark == mark && self.name() == name
    }
    fn weight(&self) -> u64 {
        self.bytes.len() as u64 + FIELD_OVERHEAD
    }
}

/// All fields of a hash.
#[derive(Default)]
pub(super) struct Fields {
    items: Vec<Field>,
    /// Positions by mark. Invariant: there exactly when `items` is longer than `ORDERED_MAX`.
    index: Option<HashTable<u32>>,
    /// Logical bytes of the items.
    weight: u64,
    /// At least the length of the longest name and value.
    longest: usize,
}

impl Fields {
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// In order.
    pub fn items(&self) -> &[Field] {
        &self.items
    }
    /// Logical bytes.
    pub fn weight(&self) -> u64 {
        self.weight
    }
    /// At least the length of the longest name and value.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The value of `name`, whose mark is `mark`.
    pub fn get(&self, mark: u32, name: &[u8]) -> Option<&[u8]> {
        self.position(mark, name).map(|at| self.items[at].value())
    }

    /// Sets a field; true if it is new.
    pub fn set(&mut self, mark: u32, name: &[u8], value: &[u8]) -> bool {
        self.longest = self.longest.max(name.len()).max(value.len());
        if let Some(at) = self.position(mark, name) {
            let field = &mut self.items[at];
            self.weight -= field.weight();
            replace_tail(&mut field.bytes, name.len(), value);
            self.weight += field.weight();
            return false;
        }
        let mut bytes = Vec::with_capacity(name.len() + value.len());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        let field = Field { mark, name_len: name.len() as u32, bytes };
        self.weight += field.weight();
        self.items.push(field);
        let last = self.items.len() - 1;
        match &mut self.index {
            Some(index) => {
                let items = &self.items;
                index.insert_unique(spread(mark), last as u32, |at| spread(items[*at as usize].mark));
            }
            None if ORDERED_MAX <= last => self.build_index(),
            None => {}
        }
        true
    }

    /// Takes a field out; true if it was there.
    pub fn remove(&mut self, mark: u32, name: &[u8]) -> bool {
        let Some(at) = self.position(mark, name) else { return false };
        let last = self.items.len() - 1;
        let gone = match &mut self.index {
            None => self.items.remove(at),
            Some(index) => {
                let moved = self.items[last].mark;
                find_position(index, mark, at).expect("every field is in the index").remove();
                if at != last {
                    let mut entry = find_position(index, moved, last).expect("every field is in the index");
                    *entry.get_mut() = at as u32;
                }
                self.items.swap_remove(at)
            }
        };
        self.weight -= gone.weight();
        if last <= ORDERED_MAX {
            self.index = None;
        }
        true
    }

    /// Drops up to `count` fields, from the end; how many are left. For burying a large hash in steps: its index goes first.
    pub fn shed(&mut self, count: usize) -> usize {
        self.index = None;
        self.items.truncate(self.items.len().saturating_sub(count));
        self.items.len()
    }

    fn position(&self, mark: u32, name: &[u8]) -> Option<usize> {
        match &self.index {
            None => self.items.iter().position(|f| f.is(mark, name)),
            Some(index) => {
                index.find(spread(mark), |at| self.items[*at as usize].is(mark, name)).map(|at| *at as usize)
            }
        }
    }

    fn build_index(&mut self) {
        let items = &self.items;
        let mut index = HashTable::with_capacity(items.len() + 1);
        for (at, field) in items.iter().enumerate() {
            index.insert_unique(spread(field.mark), at as u32, |at| spread(items[*at as usize].mark));
        }
        self.index = Some(index);
    }
}

fn find_position(
    index: &mut HashTable<u32>,
    mark: u32,
    at: usize,
) -> Option<hashbrown::hash_table::OccupiedEntry<'_, u32>> {
    index.find_entry(spread(mark), |p| *p as usize == at).ok()
}

/// Makes a table's 64-bit hash of the 32 bits that are kept of a key's hash: the table takes its place from the low bits and its
/// tag from the high ones.
pub(super) fn spread(mark: u32) -> u64 {
    u64::from(mark).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Puts `value` behind the first `head` bytes, in place when it fits, and gives memory back when much would lie idle.
pub(super) fn replace_tail(bytes: &mut Vec<u8>, head: usize, value: &[u8]) {
    let len = head + value.len();
    bytes.truncate(head);
    if bytes.capacity() < len {
        bytes.reserve_exact(value.len());
    } else if len + 64 < bytes.capacity() / 2 {
        bytes.shrink_to(len);
    }
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    fn names(fields: &Fields) -> Vec<String> {
        fields.items().iter().map(|f| String::from_utf8(f.name().to_vec()).unwrap()).collect()
    }

    #[test]
    fn small_hashes_keep_their_order() {
        let mut fields = Fields::default();
        for name in ["b", "a", "c", "d"] {
            assert!(fields.set(1, name.as_bytes(), b"v"), "equal marks are told apart by name");
        }
        assert!(!fields.set(1, b"a", b"longer value"));
        assert!(fields.remove(1, b"b") && !fields.remove(1, b"b") && !fields.remove(2, b"a"));
        assert_eq!(names(&fields), ["a", "c", "d"]);
        assert_eq!(fields.get(1, b"a"), Some(&b"longer value"[..]));
        assert_eq!(fields.get(1, b"x"), None);
        assert_eq!(fields.weight(), 3 * FIELD_OVERHEAD + 3 + 14);
    }

    #[test]
    fn a_growing_and_shrinking_hash_equals_a_plain_map() {
        let (mut fields, mut plain) = (Fields::default(), std::collections::BTreeMap::new());
        let mut prng = Prng::from_seed(7);
        for round in 0..20_000 {
            let number = prng.below(400);
            // Few marks: collisions are common.
            let (mark, name) = ((number % 50) as u32, number.to_string().into_bytes());
            // Growth, then decline, across the limit.
            if prng.chance(if (round / 2_000) % 2 == 0 { 7 } else { 2 }, 10) {
                let value = vec![b'v'; prng.below(300) as usize];
                assert_eq!(fields.set(mark, &name, &value), plain.insert(name, value).is_none());
            } else {
                assert_eq!(fields.remove(mark, &name), plain.remove(&name).is_some());
            }
            assert_eq!(fields.index.is_some(), ORDERED_MAX < fields.len());
        }
        assert_eq!(fields.len(), plain.len());
        assert_eq!(fields.weight(), fields.items().iter().map(Field::weight).sum::<u64>());
        for number in 0..400u64 {
            let name = number.to_string().into_bytes();
            assert_eq!(fields.get((number % 50) as u32, &name), plain.get(&name).map(|v| &v[..]));
        }
    }

    #[test]
    fn a_tail_is_replaced_in_place_and_idle_memory_given_back() {
        let mut bytes = b"key".to_vec();
        replace_tail(&mut bytes, 3, &[1; 1000]);
        assert_eq!(bytes.capacity(), 1003);
        let place = bytes.as_ptr();
        replace_tail(&mut bytes, 3, &[2; 800]);
        assert_eq!((bytes.as_ptr(), bytes.len()), (place, 803));
        replace_tail(&mut bytes, 3, &[3; 10]);
        assert!(bytes.capacity() < 100);
        assert_eq!(&bytes[..4], b"key\x03");
    }
}
