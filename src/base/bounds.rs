//! How large what is stored can be, by the hash of its key: the store keeps it, and a front asks before it hands a command on, so that what
//! the command makes has room.
//!
//! One large value must not make every reply look large, so bounds are kept for cells of keys. They are classes of sizes, four to an octave,
//! so at most a quarter too high; everything small is one class, of which nobody need keep books.

use siphasher::sip::SipHasher13;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// So many bytes are small.
pub const SMALL_MAX: u64 = 1 << SMALL_BITS;
const SMALL_BITS: u32 = 10;
/// Number of classes: sizes are of 64 bits.
pub const CLASSES: usize = 1 + 4 * (64 - SMALL_BITS as usize);

/// A class of sizes; larger ones are of higher classes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Class(pub u8);

impl Class {
    /// That of everything that is small.
    pub const SMALL: Class = Class(0);

    /// The class of so many bytes.
    pub fn of(bytes: u64) -> Class {
        if bytes <= SMALL_MAX {
            return Class::SMALL;
        }
        let octave = (bytes - 1).ilog2();
        let quarter = ((bytes - 1) >> (octave - 2)) as u32 & 3;
        Class((4 * (octave - SMALL_BITS) + quarter + 1) as u8)
    }
    /// The most bytes that are of it.
    pub fn bytes_max(self) -> u64 {
        let Some(above) = self.0.checked_sub(1).map(u32::from) else { return SMALL_MAX };
        let most = (5 + u128::from(above % 4)) << (above / 4 + SMALL_BITS - 2);
        u64::try_from(most).unwrap_or(u64::MAX)
    }
}

/// The larger of two sizes of a record, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes {
    /// Of its longest string: key, value, or a field's name or value.
    pub string: Class,
    /// Of the whole, in logical bytes.
    pub record: Class,
}

impl Classes {
    /// The higher of each.
    pub fn max(self, other: Classes) -> Classes {
        Classes { string: self.string.max(other.string), record: self.record.max(other.record) }
    }
}

/// Bounds by cells. Clones are the same; one agent writes.
#[derive(Clone, Debug, Default)]
pub struct Bounds(Option<Arc<Cells>>);

#[derive(Debug)]
struct Cells {
    hasher: SipHasher13,
    /// By how much a hash is shifted to give its cell.
    shift: u32,
    cells: Box<[AtomicU16]>,
}

impl Bounds {
    /// Of `2^bits` cells, all small, for keys that are hashed with this. The default has none: anything may be of any size there.
    pub fn new(hasher: SipHasher13, bits: u32) -> Bounds {
        assert!((1..=24).contains(&bits), "between 2 and 2^24 cells");
        let cells = (0..1usize << bits).map(|_| AtomicU16::new(0)).collect();
        Bounds(Some(Arc::new(Cells { hasher, shift: 64 - bits, cells })))
    }
    /// Number of cells.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |cells| cells.cells.len())
    }
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
    /// The hash of a key, of which the upper bits are its cell.
    pub fn hash(&self, key: &[u8]) -> Option<u64> {
        self.0.as_ref().map(|cells| cells.hasher.hash(key))
    }
    /// No record with this key's hash has more.
    pub fn of(&self, hash: u64) -> Classes {
        self.0.as_ref().map_or(Classes::default(), |cells| read(&cells.cells[(hash >> cells.shift) as usize]))
    }
    /// What a cell says.
    pub fn get(&self, cell: usize) -> Classes {
        self.0.as_ref().map_or(Classes::default(), |cells| read(&cells.cells[cell]))
    }
    /// Says it from now on.
    pub fn set(&self, cell: usize, classes: Classes) {
        if let Some(cells) = &self.0 {
            let both = u16::from(classes.string.0) << 8 | u16::from(classes.record.0);
            cells.cells[cell].store(both, Ordering::Release);
        }
    }
}

fn read(cell: &AtomicU16) -> Classes {
    let [string, record] = cell.load(Ordering::Acquire).to_be_bytes();
    Classes { string: Class(string), record: Class(record) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_what_is_of_it_and_is_at_most_a_quarter_too_high() {
        let mut last = Class::SMALL;
        for bits in SMALL_BITS..64 {
            for step in 0..8u64 {
                for bytes in [(1u64 << bits) + step * (1 << (bits - 3)), (1u64 << bits) + step + 1] {
                    let class = Class::of(bytes);
                    let most = class.bytes_max();
                    assert!(
                        bytes <= most && u128::from(most) <= u128::from(bytes) * 5 / 4 + 1,
                        "{bytes} {class:?}"
                    );
                    assert_eq!(Class::of(most), class, "{bytes}");
                    assert!(most == u64::MAX || last <= Class::of(most + 1));
                    assert!((class.0 as usize) < CLASSES);
                }
            }
            last = Class::of(1 << bits);
        }
        assert_eq!(
            (Class::of(0), Class::of(SMALL_MAX), Class::of(SMALL_MAX + 1)),
            (Class(0), Class(0), Class(1))
        );
        assert_eq!((Class::of(u64::MAX).bytes_max(), Class::of(1 << 20).bytes_max()), (u64::MAX, 1 << 20));
    }

    #[test]
    fn cells_are_found_by_hash_and_hold_two_classes() {
        let bounds = Bounds::new(SipHasher13::new_with_key(&[7; 16]), 4);
        let hash = bounds.hash(b"key").expect("it can be hashed");
        let classes = Classes { string: Class(9), record: Class(215) };
        bounds.clone().set((hash >> 60) as usize, classes);
        assert_eq!((bounds.of(hash), bounds.of(!hash), bounds.len()), (classes, Classes::default(), 16));
        let unknown = Bounds::default();
        assert_eq!((unknown.hash(b"key"), unknown.len()), (None, 0));
    }
}
