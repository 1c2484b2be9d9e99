//! Where a command's reply goes: to a client, or nowhere on replicas that owe none.

use super::numbers::REPLY_BYTES_MAX;
use crate::resp::reply::{Version, Writer};

/// A reply in the making. On a replica that is not the origin of the batch every method returns at once.
pub(super) struct Reply<'a> {
    writer: Option<Writer<'a>>,
    /// Bytes that may still be written.
    room: usize,
    too_long: bool,
}

impl<'a> Reply<'a> {
    /// Writes behind what `out` holds.
    pub fn to(out: &'a mut Vec<u8>, version: Version) -> Reply<'a> {
        let room = REPLY_BYTES_MAX.saturating_sub(out.len());
        Reply { writer: Some(Writer::new(out, version)), room, too_long: false }
    }
    /// Writes nothing.
    pub fn nowhere() -> Reply<'a> {
        Reply { writer: None, room: REPLY_BYTES_MAX, too_long: false }
    }
    /// Whether the reply grew beyond what a batch may have; it is then incomplete, and must be taken back.
    pub fn is_too_long(&self) -> bool {
        self.too_long
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
