//! A set of bucket numbers, one bit each.

/// A set of numbers below a fixed bound.
pub(super) struct Bits {
    words: Vec<u64>,
    bound: usize,
    /// Invariant: no word before it has a bit set.
    first: usize,
    count: usize,
}

impl Bits {
    /// The empty set of numbers below `bound`.
    pub fn new(bound: usize) -> Bits {
        let words = vec![0; bound.div_ceil(64)];
        Bits { first: words.len(), words, bound, count: 0 }
    }
    /// Members are below it.
    pub fn bound(&self) -> usize {
        self.bound
    }
    /// Adds a number; true if it was not there.
    pub fn insert(&mut self, number: usize) -> bool {
        let (word, bit) = (number / 64, 1 << (number % 64));
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.first = self.first.min(word);
        self.count += usize::from(fresh);
        fresh
    }
    pub fn contains(&self, number: usize) -> bool {
        self.words[number / 64] & (1 << (number % 64)) != 0
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn remove(&mut self, number: usize) {
        self.count -= usize::from(self.contains(number));
        self.words[number / 64] &= !(1 << (number % 64));
    }
    /// The smallest member.
    pub fn first(&mut self) -> Option<usize> {
        while self.first < self.words.len() {
            match self.words[self.first] {
                0 => self.first += 1,
                word => return Some(self.first * 64 + word.trailing_zeros() as usize),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_in_order() {
        let mut bits = Bits::new(130);
        assert_eq!(bits.first(), None);
        assert!(bits.insert(129) && bits.insert(64) && !bits.insert(64));
        assert_eq!(bits.first(), Some(64));
        bits.remove(64);
        assert_eq!(bits.first(), Some(129));
        assert!(bits.insert(3));
        assert_eq!((bits.first(), bits.len()), (Some(3), 2));
        bits.remove(4);
        assert_eq!(bits.len(), 2, "it was not there");
        assert!(bits.contains(3) && !bits.contains(64));
    }
}
