//! The log of the bare machine: bytes as they come, in whole blocks, into a zero-filled file that is written round and round.

use crate::io::driver::{ALIGN, Buffer, Driver, FileId, Op, OpenOptions, Token, run_alone};
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// The file: small enough to be made quickly, large enough that the host does not merely write the same few pages again and again.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes of a write; more are several writes.
const WRITE_BYTES: usize = 256 * 1024;
/// Writes that the disk has at a time. What comes meanwhile goes together into the next.
const WRITES_MAX: usize = 1;
/// The names of writes count from here.
const WRITES_FROM: u64 = 1 << 48;

pub(super) struct Log {
    file: FileId,
    offset: u64,
    /// Filled from the front; the last is being filled.
    gathering: VecDeque<Buffer>,
    appended: u64,
    /// Where each outstanding write ends, and whether it is done; oldest first.
    writes: VecDeque<(u64, bool)>,
    /// Number of the oldest of them.
    oldest: u64,
    durable: u64,
}

impl Log {
    /// Makes the file and fills it.
    pub(super) fn open(driver: &mut dyn Driver, path: &Path) -> io::Result<Log> {
        let file = driver.open(path, OpenOptions { create: true, write: true, direct: true })?;
        let step = 1 << 20;
        for offset in (0..FILE_BYTES).step_by(step) {
            let mut buffer = Buffer::unregistered(step);
            buffer.len = step;
            run_alone(driver, Op::Write { file, offset, buffer, durable: true })?;
        }
        Ok(Log {
            file,
            offset: 0,
            gathering: VecDeque::new(),
            appended: 0,
            writes: VecDeque::new(),
            oldest: 0,
            durable: 0,
        })
    }

    /// Makes room for `len` bytes.
    pub(super) fn reserve(&mut self, driver: &mut dyn Driver, len: usize) {
        let mut room = self.gathering.back().map_or(0, |buffer| buffer.capacity() - buffer.len);
        while room < len {
            let mut buffer = driver.buffer(WRITE_BYTES);
            buffer.len = 0;
            room += buffer.capacity();
            self.gathering.push_back(buffer);
        }
    }

    /// Appends bytes for which there is room. Buffers that `reserve` has added are empty, so the fill goes on at the first with room.
    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        self.appended += bytes.len() as u64;
        for buffer in &mut self.gathering {
            let at = buffer.len;
            let count = bytes.len().min(buffer.capacity() - at);
            buffer.space()[at..at + count].copy_from_slice(&bytes[..count]);
            buffer.len += count;
            bytes = &bytes[count..];
        }
        assert!(bytes.is_empty());
    }

    /// Whether the disk may take more.
    pub(super) fn is_free(&self) -> bool {
        self.writes.len() < WRITES_MAX
    }

    /// Starts writing what was gathered, if the disk may take more.
    pub(super) fn write(&mut self, driver: &mut dyn Driver) {
        let mut left: u64 = self.gathering.iter().map(|buffer| buffer.len as u64).sum();
        while self.is_free() && 0 < left {
            let mut buffer = self.gathering.pop_front().expect("something is left");
            left -= buffer.len as u64;
            buffer.len = buffer.len.next_multiple_of(ALIGN);
            if FILE_BYTES < self.offset + buffer.len as u64 {
                self.offset = 0;
            }
            let (file, offset) = (self.file, self.offset);
            self.offset += buffer.len as u64;
            let number = WRITES_FROM + self.oldest + self.writes.len() as u64;
            self.writes.push_back((self.appended - left, false));
            driver
                .submit(Op::Write { file, offset, buffer, durable: true }, Token { agent: 0, value: number });
        }
    }

    /// A write is done. Completions come in any order; durable is what has no hole before it.
    pub(super) fn written(&mut self, driver: &mut dyn Driver, number: u64, buffer: Buffer) {
        driver.release(buffer);
        let index = (number - WRITES_FROM - self.oldest) as usize;
        self.writes[index].1 = true;
        while let Some((end, true)) = self.writes.front() {
            self.durable = *end;
            self.writes.pop_front();
            self.oldest += 1;
        }
    }

    /// Bytes that are on the disk.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }
}
