//! A number that one agent publishes and others read: the only thing that flows back against the rings. Latest wins, never blocks.

use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared number. Clones name the same number.
#[derive(Clone, Debug, Default)]
pub struct Number(Arc<CachePadded<AtomicU64>>);

impl Number {
    /// A number of its own.
    pub fn new(value: u64) -> Number {
        Number(Arc::new(CachePadded::new(AtomicU64::new(value))))
    }
    /// The latest value; what its writer did before is visible.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
    /// Publishes a value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
    /// Adds, for numbers with several writers. Returns the value before.
    pub fn add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, Ordering::AcqRel)
    }
}
