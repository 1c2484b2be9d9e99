//! The configurations already visited: which operations are linearized, and the state.
//!
//! G. Lowe, "Testing for linearizability", 2017, section 5, remembers a bit set per configuration. Here known operations below the first
//! that is not linearized are left out of it, so a configuration takes a few words however long the history is. Configurations are
//! found by a hash and then compared in full.

use super::states::{State, mix};
use hashbrown::HashTable;

/// Which operations are linearized. Those with an end and those without are numbered apart, each in the order of their starts.
#[derive(Debug)]
pub struct Taken {
    ended: Vec<u64>,
    open: Vec<u64>,
    /// First word of `ended` with a zero; all before it are ones.
    low: usize,
    /// No word of `ended` from here on has a one.
    high: usize,
    /// Sum (by exclusive or) over what is taken.
    hash: u64,
}

/// The place of an operation among those of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It has an end.
    Ended(u32),
    /// It has none.
    Open(u32),
}

/// What [`Taken::take`] changed besides the bit.
#[derive(Clone, Copy, Debug)]
pub struct Undo {
    low: u32,
    high: u32,
}

impl Taken {
    /// Nothing taken yet.
    pub fn new(ended: usize, open: usize) -> Taken {
        let words = |count: usize| vec![0; count.div_ceil(64)];
        Taken { ended: words(ended), open: words(open), low: 0, high: 0, hash: 0 }
    }
    /// True if it is taken.
    pub fn has(&self, place: Place) -> bool {
        let (words, bit) = match place {
            Place::Ended(bit) => (&self.ended, bit),
            Place::Open(bit) => (&self.open, bit),
        };
        words[bit as usize / 64] >> (bit % 64) & 1 == 1
    }
    /// Takes one more.
    pub fn take(&mut self, place: Place) -> Undo {
        assert!(!self.has(place), "{place:?} takes effect twice");
        let undo = Undo { low: self.low as u32, high: self.high as u32 };
        self.flip(place);
        if let Place::Ended(bit) = place {
            self.high = self.high.max(bit as usize / 64 + 1);
            while self.ended.get(self.low) == Some(&u64::MAX) {
                self.low += 1;
            }
        }
        undo
    }
    /// Gives the last one taken back.
    pub fn give_back(&mut self, place: Place, undo: Undo) {
        assert!(self.has(place), "{place:?} was not taken");
        self.flip(place);
        (self.low, self.high) = (undo.low as usize, undo.high as usize);
    }

    fn flip(&mut self, place: Place) {
        let (words, bit, salt) = match place {
            Place::Ended(bit) => (&mut self.ended, bit, 0),
            Place::Open(bit) => (&mut self.open, bit, 1 << 32),
        };
        words[bit as usize / 64] ^= 1 << (bit % 64);
        self.hash ^= mix(u64::from(bit) | salt);
    }

    fn window(&self) -> &[u64] {
        &self.ended[self.low.min(self.high)..self.high]
    }
}

/// The configurations visited, within a memory limit.
#[derive(Debug)]
pub struct Memo {
    /// Records one after another: hash, state and lengths, low, words of the window, words of the open ones.
    words: Vec<u64>,
    places: HashTable<usize>,
    bytes_max: usize,
    forgotten: u64,
}

/// Words of a record before its bit sets.
const HEAD: usize = 3;

impl Memo {
    /// An empty one that takes at most so much memory.
    pub fn new(bytes_max: usize) -> Memo {
        Memo { words: Vec::new(), places: HashTable::new(), bytes_max, forgotten: 0 }
    }
    /// How many configurations were forgotten for lack of memory. Forgetting costs time, never the verdict.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
    /// Remembers the configuration; true if it is new.
    pub fn visit(&mut self, taken: &Taken, state: State) -> bool {
        let hash = taken.hash ^ mix(u64::from(state.number()) | 1 << 40);
        let (window, open) = (taken.window(), &taken.open);
        let head = [hash, u64::from(state.number()) << 32 | window.len() as u64, taken.low as u64];
        let words = &self.words;
        let same = |at: &usize| {
            let record = &words[*at..];
            record[..HEAD] == head
                && record[HEAD..HEAD + window.len()] == *window
                && record[HEAD + window.len()..][..open.len()] == open[..]
        };
        if self.places.find(hash, same).is_some() {
            return false;
        }
        self.make_room(HEAD + window.len() + open.len());
        let at = self.words.len();
        self.words.extend(head.iter().chain(window).chain(open));
        let words = &self.words;
        self.places.insert_unique(hash, at, |at| words[*at]);
        true
    }

    /// Growing doubles, so that half of the limit is when to forget.
    fn make_room(&mut self, words: usize) {
        let bytes = (self.words.len() + words) * 8 + self.places.len() * 2 * size_of::<usize>();
        if bytes * 2 > self.bytes_max && !self.places.is_empty() {
            self.forgotten += self.places.len() as u64;
            self.words.clear();
            self.places.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_new_once_whatever_the_order() {
        let (mut taken, mut memo) = (Taken::new(200, 3), Memo::new(1 << 20));
        assert!(memo.visit(&taken, State::ABSENT));
        let first = taken.take(Place::Ended(0));
        let second = taken.take(Place::Ended(130));
        assert!(memo.visit(&taken, State::ABSENT));
        taken.give_back(Place::Ended(130), second);
        assert!(memo.visit(&taken, State::ABSENT));
        taken.give_back(Place::Ended(0), first);
        assert!(!memo.visit(&taken, State::ABSENT), "all is given back");
        taken.take(Place::Ended(130));
        taken.take(Place::Ended(0));
        assert!(!memo.visit(&taken, State::ABSENT), "the same set in another order");
        taken.take(Place::Open(0));
        assert!(memo.visit(&taken, State::ABSENT));
    }

    #[test]
    fn what_is_taken_from_the_front_needs_no_words() {
        let mut taken = Taken::new(1 << 12, 0);
        for place in 0..1 << 12 {
            taken.take(Place::Ended(place));
            assert!(taken.window().len() <= 1);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (mut taken, mut memo) = (Taken::new(1 << 16, 0), Memo::new(1 << 16));
        for place in 0..1 << 16 {
            taken.take(Place::Ended(place));
            assert!(memo.visit(&taken, State::ABSENT));
            assert!(memo.words.capacity() * 8 <= 1 << 16);
        }
        assert!(memo.forgotten() > 0);
    }
}
