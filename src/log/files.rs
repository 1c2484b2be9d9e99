//! The segments' files before there are agents: read and written while one waits, with large reads under way ahead of who reads on.

use super::LogError;
use super::scan::{Expected, Source};
use super::segment::{self, MISSING_MAX};
use crate::io::driver::{ALIGN, OpenOptions, run_alone};
use crate::io::{Buffer, Completion, Driver, FileId, Op, Outcome, Token};
use std::collections::VecDeque;
use std::io;

/// Reads are this large when they follow each other.
const AHEAD: usize = 1 << 20;
/// So many are under way while what came is worked on.
const AHEAD_MAX: usize = 4;
/// A read that follows no other.
const GLANCE: usize = 64 << 10;
/// Operations before there are agents; reads ahead are numbered above it.
pub(super) const TOKEN: Token = Token { agent: u8::MAX, value: 0 };

/// A read that was submitted before anybody asked for it.
struct Ahead {
    token: Token,
    offset: u64,
    /// What came of it.
    outcome: Option<Outcome>,
}

/// See the module.
pub(super) struct Files<'a> {
    driver: &'a mut dyn Driver,
    /// By number less one.
    files: Vec<Option<FileId>>,
    sizes: Vec<u64>,
    /// What is at hand of which file, and from where.
    at: (u16, u64),
    bytes: Vec<u8>,
    /// Reads of that file that go on where `bytes` end, in order.
    ahead: VecDeque<Ahead>,
    spares: Vec<Buffer>,
    tokens: u64,
}

impl<'a> Files<'a> {
    pub(super) fn open(driver: &'a mut dyn Driver, expected: &Expected) -> Result<Files<'a>, LogError> {
        let mut files = Files {
            driver,
            files: Vec::new(),
            sizes: Vec::new(),
            at: (0, 0),
            bytes: Vec::new(),
            ahead: VecDeque::new(),
            spares: Vec::new(),
            tokens: TOKEN.value,
        };
        let mut missing = 0;
        while missing < MISSING_MAX {
            let path = segment::path(&expected.directory, files.files.len() as u16 + 1);
            match files.driver.open(&path, OpenOptions { create: false, write: true, direct: true }) {
                Ok(file) => {
                    let size =
                        files.driver.file_len(file).map_err(|error| LogError::Io { file: path, error })?;
                    files.files.push(Some(file));
                    files.sizes.push(size);
                    missing = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    files.files.push(None);
                    files.sizes.push(0);
                    missing += 1;
                }
                Err(error) => return Err(LogError::Io { file: path, error }),
            }
        }
        Ok(files)
    }
    /// Closes them all; tells the highest number.
    pub(super) fn close(mut self) -> u16 {
        self.forget();
        let last = self.files.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        self.files.into_iter().flatten().for_each(|f| self.driver.close_file(f));
        last as u16
    }
    /// Writes durably.
    pub(super) fn write(&mut self, file: u16, position: u32, mut buffer: Buffer, len: u32) -> io::Result<()> {
        buffer.len = len as usize;
        self.forget();
        let file = self.id(file)?;
        run_alone(self.driver, Op::Write { file, offset: u64::from(position), buffer, durable: true })
            .map(drop)
    }

    fn id(&self, file: u16) -> io::Result<FileId> {
        self.files[file as usize - 1].ok_or(io::ErrorKind::NotFound.into())
    }
    /// Forgets what is at hand. Nothing is under way afterwards.
    fn forget(&mut self) {
        self.at = (0, 0);
        self.bytes.clear();
        while !self.ahead.is_empty() {
            // Whether it has failed is of no interest: nobody asked for it.
            if let Ok(buffer) = self.take() {
                self.spares.push(buffer);
            }
        }
    }
    fn submit(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let file = self.id(self.at.0)?;
        let len = len.next_multiple_of(ALIGN);
        let spare = self.spares.iter().position(|b| len <= b.capacity());
        let buffer =
            spare.map_or_else(|| Buffer::unregistered(len.max(AHEAD)), |at| self.spares.swap_remove(at));
        self.tokens += 1;
        let token = Token { value: self.tokens, ..TOKEN };
        self.driver.submit(Op::Read { file, offset, len, buffer }, token);
        self.ahead.push_back(Ahead { token, offset, outcome: None });
        Ok(())
    }
    /// Waits for the oldest read that is under way.
    fn take(&mut self) -> io::Result<Buffer> {
        let mut completions: Vec<Completion> = Vec::new();
        loop {
            if let Some(outcome) = self.ahead.front_mut().and_then(|a| a.outcome.take()) {
                self.ahead.pop_front();
                return outcome.buffer();
            }
            self.driver.reap(&mut completions);
            if completions.is_empty() {
                self.driver.park(None);
            }
            for completion in completions.drain(..) {
                let read = self.ahead.iter_mut().find(|a| a.token == completion.token);
                read.expect("only these reads are outstanding").outcome = Some(completion.outcome);
            }
        }
    }
    /// Puts what was read behind what is at hand.
    fn append(&mut self) -> io::Result<()> {
        let buffer = self.take()?;
        self.bytes.extend_from_slice(buffer.bytes());
        self.spares.push(buffer);
        // A read that came short makes those behind it useless.
        while self.ahead.front().is_some_and(|next| next.offset != self.end()) {
            let buffer = self.take()?;
            self.spares.push(buffer);
        }
        Ok(())
    }
    /// Where the bytes at hand end.
    fn end(&self) -> u64 {
        self.at.1 + self.bytes.len() as u64
    }
    /// Keeps reads under way behind what is at hand.
    fn read_ahead(&mut self) -> io::Result<()> {
        let size = self.size(self.at.0);
        let mut offset = self.ahead.back().map_or(self.end(), |a| a.offset + AHEAD as u64);
        while self.ahead.len() < AHEAD_MAX && offset < size && offset.is_multiple_of(ALIGN as u64) {
            self.submit(offset, AHEAD.min((size - offset) as usize))?;
            offset += AHEAD as u64;
        }
        Ok(())
    }
}

impl Source for Files<'_> {
    fn files(&self) -> Vec<u16> {
        (1..).zip(&self.files).filter(|(_, f)| f.is_some()).map(|(number, _)| number).collect()
    }
    fn size(&self, file: u16) -> u64 {
        self.sizes[file as usize - 1]
    }
    fn read(&mut self, file: u16, offset: u64, len: usize) -> io::Result<&[u8]> {
        let size = self.size(file);
        let len = len.min(size.saturating_sub(offset) as usize);
        let goes_on = self.at.0 == file && (self.at.1..=self.end()).contains(&offset);
        if !goes_on {
            self.forget();
            self.at = (file, offset);
            self.submit(offset, GLANCE.max(len).min(size.saturating_sub(offset) as usize))?;
            self.append()?;
        } else if self.end() < offset + len as u64 {
            self.bytes.drain(..(offset - self.at.1) as usize);
            self.at.1 = offset;
            while self.bytes.len() < len {
                self.read_ahead()?;
                if self.ahead.is_empty() {
                    break;
                }
                self.append()?;
            }
            self.read_ahead()?;
        }
        let from = ((offset - self.at.1) as usize).min(self.bytes.len());
        Ok(&self.bytes[from..(from + len).min(self.bytes.len())])
    }
}
