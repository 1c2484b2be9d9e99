//! The latest of something that rarely changes, for all who must know it: replaced whole by its one writer, read when a number has moved.

use super::Number;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module. Whoever clones it sees the same.
#[derive(Debug)]
pub struct Latest<T> {
    value: Arc<Mutex<Arc<T>>>,
    /// How often it was replaced, and once for the first.
    changes: Number,
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Latest<T> {
        Latest { value: self.value.clone(), changes: self.changes.clone() }
    }
}

impl<T> Latest<T> {
    /// Begins with this one.
    pub fn new(value: T) -> Latest<T> {
        Latest { value: Arc::new(Mutex::new(Arc::new(value))), changes: Number::new(1) }
    }
    /// Another one from now on.
    pub fn put(&self, value: T) {
        // No code runs under the lock that could panic half-way.
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        self.changes.add(1);
    }
    /// The latest.
    pub fn latest(&self) -> Arc<T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The latest, if whoever has seen so many changes (0 at first) has not seen it yet.
    pub fn news(&self, seen: &mut u64) -> Option<Arc<T>> {
        let changes = self.changes.get();
        (std::mem::replace(seen, changes) != changes).then(|| self.latest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_sees_the_latest_once() {
        let (latest, mut seen) = (Latest::new(0), 0);
        assert_eq!(latest.news(&mut seen), Some(Arc::new(0)));
        assert_eq!(latest.news(&mut seen), None);
        let writer = latest.clone();
        writer.put(1);
        writer.put(2);
        assert_eq!((latest.news(&mut seen), latest.news(&mut seen)), (Some(Arc::new(2)), None));
        assert_eq!(*latest.latest(), 2);
    }
}
