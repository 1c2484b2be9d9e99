//! Brings what a batch is going to touch into the processor's caches before the first command runs.
//!
//! A command on a large store waits for memory some four times in a row: bucket, slot, record, value. Commands of a batch do not depend on
//! each other's addresses, so asking for all buckets, then for all slots, then for all values lets those waits overlap. Reading
//! is all it does: skipping it changes no result.

use super::record::Record;
use super::table::{Place, Table};
use crate::resp::batch::{Command, Reader};

/// Below so many keys the caches hold what matters, and asking beforehand only costs.
const KEYS_MIN: usize = 32_768;
/// Commands that are looked at together: enough to overlap, few enough not to drive each other out.
const TOGETHER: usize = 32;

/// The commands of a batch, one after another, with what they touch asked for ahead of them.
pub(super) struct Commands<'a> {
    reader: Reader<'a>,
    /// How many of the next commands were looked at.
    ahead: usize,
}

impl<'a> Commands<'a> {
    /// Of a batch's bytes.
    pub fn of(bytes: &'a [u8]) -> Commands<'a> {
        Commands { reader: Reader::new(bytes), ahead: 0 }
    }
    /// The next command.
    pub fn next(&mut self, table: &Table) -> Option<Command<'a>> {
        if self.ahead == 0 && KEYS_MIN <= table.len() {
            self.ahead = ask(table, self.reader.clone());
        }
        self.ahead = self.ahead.saturating_sub(1);
        self.reader.next()
    }
}

/// Touches what the next commands will touch, by their first arguments. How many it looked at.
///
/// Each step is a loop of its own that does nothing but read, for the processor waits for as many lines at once as it can look ahead to.
fn ask(table: &Table, reader: Reader<'_>) -> usize {
    let mut places = [Place { bucket: 0, mark: 0 }; TOGETHER];
    let mut count = 0;
    for (place, command) in places.iter_mut().zip(reader) {
        if let Some(key) = command.args().next() {
            *place = table.place(key);
        }
        count += 1;
    }
    let places = &places[..count];
    let mut touched = places.iter().fold(0, |sum, place| sum ^ table.buckets()[place.bucket as usize].len());
    let mut searches: [Option<_>; TOGETHER] = [const { None }; TOGETHER];
    for (search, place) in searches.iter_mut().zip(places) {
        *search = Some(table.search(*place));
    }
    let mut records: [Option<&Record>; TOGETHER] = [None; TOGETHER];
    for (record, search) in records.iter_mut().zip(&mut searches) {
        *record = search.as_mut().and_then(Iterator::next);
    }
    touched ^= records.iter().flatten().fold(0, |sum, record| sum ^ record.touch());
    std::hint::black_box(touched);
    count
}
