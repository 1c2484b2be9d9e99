//! The durable snapshots of one group, open for reading: the newest, the one before it where that is asked for, and older ones while
//! somebody still ships them.

use super::files::path_of;
use super::pace::Pace;
use crate::base::{Body, Slot};
use crate::store::Damage;
use crate::store::ranges::{Index, Indexing, Segment};
use crate::wire::hop::SnapshotId;
use bytes::{Bytes, BytesMut};
use glommio::io::BufferedFile;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long an older snapshot stays open after its last piece was asked for.
const SHIP_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Most older snapshots that stay open, each with its space on the disk.
const OLDER_MAX: usize = 2;
/// What is read at a time to find out where ranges lie.
const INDEXED_BYTES: usize = 256 << 10;
/// Largest piece.
pub(super) const PIECE_BYTES_MAX: usize = 1 << 20;

/// A snapshot's file, open.
pub(super) struct Volume {
    pub(super) id: SnapshotId,
    pub(super) bytes: u64,
    file: BufferedFile,
    /// Where its ranges lie, once somebody has asked.
    index: RefCell<Option<Rc<Index>>>,
}

impl Volume {
    pub(super) fn new(id: SnapshotId, bytes: u64, file: BufferedFile) -> Volume {
        Volume { id, bytes, file, index: RefCell::new(None) }
    }

    /// Where its ranges lie. Reads the whole file once, at `pace`.
    pub(super) async fn index(&self, pace: &Pace) -> io::Result<Rc<Index>> {
        if let Some(index) = &*self.index.borrow() {
            return Ok(index.clone());
        }
        let bad = |damage: Damage| io::Error::new(io::ErrorKind::InvalidData, damage.to_string());
        let (mut indexing, mut offset) = (Indexing::begin(), 0);
        while offset < self.bytes {
            pace.spend(INDEXED_BYTES).await;
            let bytes = self.piece(offset, INDEXED_BYTES).await?;
            offset += bytes.len() as u64;
            indexing.feed(&bytes).map_err(bad)?;
        }
        let index = Rc::new(indexing.finish().map_err(bad)?);
        *self.index.borrow_mut() = Some(index.clone());
        Ok(index)
    }

    /// Bytes of an answer, and how long the whole is.
    pub(super) async fn answer(
        &self,
        pace: &Pace,
        ranges: &[u8],
        offset: u64,
        most: usize,
    ) -> io::Result<Option<(u64, Bytes)>> {
        let index = self.index(pace).await?;
        let Some((total, segments)) = index.answer(ranges, offset, most.min(PIECE_BYTES_MAX)) else {
            return Ok(None);
        };
        let mut body = BytesMut::with_capacity(most.min(PIECE_BYTES_MAX));
        for segment in segments {
            match segment {
                Segment::Bytes(bytes) => body.extend_from_slice(&bytes),
                Segment::File { at, length } => {
                    body.extend_from_slice(&read_exactly(&self.file, at, length as usize).await?);
                }
            }
        }
        Ok(Some((total, body.freeze())))
    }

    /// A range, if there is one.
    pub(super) async fn range(&self, index: &Index, number: u32) -> io::Result<Bytes> {
        let (at, length) = index.place(number).unwrap_or_default();
        read_exactly(&self.file, at, length as usize).await
    }

    /// At most `bytes` bytes from `offset`; none at and behind the end.
    pub(super) async fn piece(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let bytes = bytes.min(PIECE_BYTES_MAX) as u64;
        let want = self.bytes.saturating_sub(offset).min(bytes) as usize;
        if want == 0 {
            return Ok(Bytes::new());
        }
        read_exactly(&self.file, offset, want).await
    }
}

/// Reads `want` bytes; fewer are an error, because the file is known to hold them.
pub(super) async fn read_exactly(file: &BufferedFile, offset: u64, want: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(want);
    while bytes.len() < want {
        let read = file.read_at(offset + bytes.len() as u64, want - bytes.len()).await?;
        if read.is_empty() {
            let text = format!(
                "the file ends at {} instead of {}",
                offset + bytes.len() as u64,
                offset + want as u64
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        bytes.extend_from_slice(&read);
    }
    Ok(bytes.into())
}

fn name(directory: &Path, volume: &Volume) -> PathBuf {
    path_of(directory, volume.id.group, volume.id.slot)
}

/// What is on the shelf of one group.
#[derive(Default)]
pub(super) struct Shelf {
    newest: Option<Placed>,
    /// The one before, where the newest may be of no use to others yet. Its file keeps its name, so that a restart has it too.
    previous: Option<Placed>,
    /// Replaced while being shipped. Their files have no name any more; the open descriptor keeps the bytes.
    older: Vec<Placed>,
    /// Names of files that cannot be read any more. They stay until another snapshot is durable: a restart may fare better with them.
    lost: Vec<PathBuf>,
}

struct Placed {
    volume: Rc<Volume>,
    asked_at: Option<Instant>,
}

impl Shelf {
    pub(super) fn newest_slot(&self) -> Slot {
        self.newest.as_ref().map_or(Slot::ZERO, |placed| placed.volume.id.slot)
    }

    /// Puts a newer snapshot on the shelf. Returns the names of the files that it replaces, to be removed.
    pub(super) fn place(
        &mut self,
        volume: Rc<Volume>,
        keep_previous: bool,
        directory: &Path,
        now: Instant,
    ) -> Vec<PathBuf> {
        assert!(self.newest_slot() < volume.id.slot, "snapshots only become newer");
        let own = name(directory, &volume);
        let mut replaced = std::mem::take(&mut self.lost);
        let mut retired = self.newest.replace(Placed { volume, asked_at: None });
        if keep_previous && retired.is_some() {
            retired = std::mem::replace(&mut self.previous, retired);
        }
        if let Some(retired) = retired {
            replaced.push(name(directory, &retired.volume));
            self.older.extend(Some(retired).filter(|placed| placed.asked_at.is_some()));
        }
        self.forget_idle(now);
        // One of the same slot lies under the same name.
        replaced.retain(|path| *path != own);
        replaced
    }

    /// A snapshot cannot be read. True when it was the newest: then there is none, and another of the same slot may come.
    pub(super) fn lose(&mut self, slot: Slot, directory: &Path) -> bool {
        self.older.retain(|placed| placed.volume.id.slot != slot);
        let is_it = |placed: &mut Placed| placed.volume.id.slot == slot;
        let (previous, newest) = (self.previous.take_if(is_it), self.newest.take_if(is_it));
        let named = previous.iter().chain(&newest);
        self.lost.extend(named.map(|placed| name(directory, &placed.volume)));
        newest.is_some()
    }

    /// The snapshot of `slot`, or the newest.
    pub(super) fn ask(&mut self, slot: Option<Slot>, now: Instant) -> Option<Rc<Volume>> {
        let mut all = self.newest.iter_mut().chain(&mut self.previous).chain(&mut self.older);
        let placed = all.find(|placed| slot.is_none_or(|slot| placed.volume.id.slot == slot))?;
        placed.asked_at = Some(now);
        Some(placed.volume.clone())
    }

    /// Closes older snapshots that nobody asks for any more, and those above the limit.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        let idle = |placed: &Placed| placed.asked_at.is_none_or(|at| SHIP_PAUSE_MAX < now.duration_since(at));
        self.older.retain(|placed| !idle(placed));
        if OLDER_MAX < self.older.len() {
            let surplus = self.older.len() - OLDER_MAX;
            self.older.drain(..surplus);
        }
    }
}

/// A piece as the replica wants it.
pub(super) type Piece = Option<(SnapshotId, u64, u64, Body)>;
