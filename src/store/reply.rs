//! Where a command's reply goes: to a client, or nowhere on replicas that owe none.

use super::error::CommandError;
use crate::config::limits::{BATCH_REPLIES_MAX, REPLY_BYTES_MAX};
use crate::resp::reply::{Version, Writer};

/// A reply in the making. On a replica that is not the origin of the batch every method returns at once.
pub(super) struct Reply<'a> {
    writer: Option<Writer<'a>>,
    /// Bytes that may still be written.
    room: usize,
    /// Without the batch's other replies there would be more.
    crowded: bool,
    too_long: bool,
}

/// A reply of so few bytes (a number, `OK`, nil) is always made: only what is read can be long.
const SMALL_BYTES: usize = 64;

impl<'a> Reply<'a> {
    /// Writes behind what `out` holds.
    pub fn to(out: &'a mut Vec<u8>, version: Version) -> Reply<'a> {
        let left = BATCH_REPLIES_MAX.saturating_sub(out.len()).max(SMALL_BYTES);
        let (room, crowded) = (left.min(REPLY_BYTES_MAX), left < REPLY_BYTES_MAX);
        Reply { writer: Some(Writer::new(out, version)), room, crowded, too_long: false }
    }
    /// Writes nothing.
    pub fn nowhere() -> Reply<'a> {
        Reply { writer: None, room: REPLY_BYTES_MAX, crowded: false, too_long: false }
    }
    /// Why the reply is incomplete and must be taken back, if it is: it was too long for itself, or for its batch. A command that has
    /// changed something is never told that it has not.
    pub fn excess(&self, is_read: bool) -> Option<CommandError> {
        let error = match (is_read, self.crowded) {
            (true, false) => CommandError::ReplyTooLong { limit: REPLY_BYTES_MAX },
            (true, true) => CommandError::RepliesTooLong { limit: BATCH_REPLIES_MAX },
            (false, _) => CommandError::ReplyLost { limit: BATCH_REPLIES_MAX },
        };
        self.too_long.then_some(error)
    }

    pub fn ok(&mut self) {
        self.write(8, |w| w.ok());
    }
    pub fn simple(&mut self, text: &str) {
        self.write(text.len() + 3, |w| w.simple(text));
    }
    pub fn integer(&mut self, number: i64) {
        self.write(24, |w| w.integer(number));
    }
    pub fn count(&mut self, number: usize) {
        self.integer(number as i64);
    }
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.write(bytes.len() + 24, |w| w.bulk(bytes));
    }
    pub fn null(&mut self) {
        self.write(8, |w| w.null());
    }
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }
    pub fn array(&mut self, len: usize) {
        self.write(24, |w| w.array(len));
    }
    pub fn map(&mut self, pairs: usize) {
        self.write(24, |w| w.map(pairs));
    }

    fn write(&mut self, bytes_max: usize, write: impl FnOnce(&mut Writer<'a>)) {
        let Some(writer) = &mut self.writer else { return };
        match self.room.checked_sub(bytes_max) {
            Some(room) => {
                self.room = room;
                write(writer);
            }
            None => (self.room, self.too_long) = (0, true),
        }
    }
}
