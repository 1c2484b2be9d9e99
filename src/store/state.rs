//! What commands work on: the records, and the time by which they expire.

use super::error::CommandError;
use super::fields::Fields;
use super::record::{Record, View};
use super::table::{Place, Table};
use crate::base::{Prng, Stamp};

/// The records at a moment of the log.
pub(super) struct State {
    pub table: Table,
    /// The stamp of the last applied entry: a record whose deadline it has reached cannot be seen.
    pub now: Stamp,
    /// Picks for RANDOMKEY. No part of the state: for reads that ride in the log it begins anew with each entry, as a function of its slot,
    /// so that replicas that carry out an entry pick alike.
    pub prng: Prng,
}

impl State {
    /// The record of `key`, if it can be seen.
    pub fn look(&self, key: &[u8]) -> Option<&Record> {
        self.table.find(self.table.place(key), key).filter(|r| !r.is_expired(self.now))
    }
    /// The string of `key`.
    pub fn look_string(&self, key: &[u8]) -> Result<Option<&[u8]>, CommandError> {
        self.look(key).map(as_string).transpose()
    }
    /// The fields of `key`.
    pub fn look_fields(&self, key: &[u8]) -> Result<Option<&Fields>, CommandError> {
        self.look(key).map(as_fields).transpose()
    }

    /// Where `key` belongs, and its record if it can be seen. One that is expired is gone afterwards, so that what a command makes in
    /// its place inherits nothing.
    pub fn settle(&mut self, key: &[u8]) -> (Place, Option<&Record>) {
        let place = self.table.place(key);
        if self.table.find(place, key).is_some_and(|r| r.is_expired(self.now)) {
            self.table.remove(place, key);
        }
        (place, self.table.find(place, key))
    }
    /// Takes the record of `key` out; whether it could be seen.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let (place, found) = self.settle(key);
        found.is_some() && self.table.remove(place, key)
    }
    /// Makes `key` a string, whatever it was.
    pub fn put_string(&mut self, place: Place, key: &[u8], value: &[u8], deadline: Stamp) {
        let replaced = self.table.update(place, key, |record| {
            record.deadline = deadline;
            record.set_string(key, value)
        });
        match replaced {
            Some(Some(fields)) => self.table.bury(fields),
            Some(None) => {}
            None => self.table.insert(place, Record::string(place.mark, key, value, deadline)),
        }
    }
    /// Changes the deadline of a record that is there.
    pub fn put_deadline(&mut self, place: Place, key: &[u8], deadline: Stamp) {
        self.table.update(place, key, |record| record.deadline = deadline);
    }
}

/// What a string record holds.
pub(super) fn as_string(record: &Record) -> Result<&[u8], CommandError> {
    match record.view() {
        View::String(value) => Ok(value),
        View::Hash(_) => Err(CommandError::WrongType),
    }
}

/// What a hash record holds.
pub(super) fn as_fields(record: &Record) -> Result<&Fields, CommandError> {
    match record.view() {
        View::Hash(fields) => Ok(fields),
        View::String(_) => Err(CommandError::WrongType),
    }
}
