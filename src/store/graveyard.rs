//! What is no longer part of the state and still takes memory: dropped in bounded steps, so that FLUSHALL pauses nobody.

use super::deadlines::Deadlines;
use super::fields::Fields;
use super::record::Record;
use super::table::Bucket;
use std::sync::Arc;

/// A hash with more fields than this is dropped in steps.
const FIELDS_AT_ONCE: usize = 64;

/// Things to be dropped.
#[derive(Default)]
pub(super) struct Graveyard {
    fields: Vec<Fields>,
    buckets: Vec<Vec<Bucket>>,
    deadlines: Vec<Deadlines>,
}

impl Graveyard {
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.buckets.is_empty() && self.deadlines.is_empty()
    }
    pub fn bury_record(&mut self, record: Record) {
        if let Some(fields) = record.into_fields() {
            self.bury_fields(fields);
        }
    }
    pub fn bury_fields(&mut self, fields: Fields) {
        if FIELDS_AT_ONCE < fields.len() {
            self.fields.push(fields);
        }
    }
    /// Whoever is the last to need these buckets gives them here.
    pub fn bury_buckets(&mut self, buckets: Arc<Vec<Bucket>>) {
        self.buckets.extend(Arc::into_inner(buckets));
    }
    pub fn bury_deadlines(&mut self, deadlines: Deadlines) {
        self.deadlines.push(deadlines);
    }
    /// Takes over what another holds.
    pub fn join(&mut self, other: Graveyard) {
        self.fields.extend(other.fields);
        self.buckets.extend(other.buckets);
        self.deadlines.extend(other.deadlines);
    }

    /// Drops about `count` things (at least one bucket); how many it did.
    pub fn step(&mut self, count: usize) -> usize {
        let mut done = 0;
        while done < count {
            if let Some(fields) = self.fields.last_mut() {
                done += FIELDS_AT_ONCE;
                if fields.shed(FIELDS_AT_ONCE) == 0 {
                    self.fields.pop();
                }
            } else if let Some(buckets) = self.buckets.last_mut() {
                match buckets.pop() {
                    Some(mut bucket) => {
                        done += 1 + bucket.len();
                        bucket.drain().for_each(|record| self.bury_record(record));
                    }
                    None => {
                        self.buckets.pop();
                    }
                }
            } else if let Some(deadlines) = self.deadlines.last_mut() {
                done += FIELDS_AT_ONCE;
                if !deadlines.shed(FIELDS_AT_ONCE) {
                    self.deadlines.pop();
                }
            } else {
                break;
            }
        }
        done
    }
}
