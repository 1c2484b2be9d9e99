//! A snapshot file in the making: written under a temporary name in large pieces, made durable, then named.
//!
//! Buffered writes with a sync every few megabytes: the page cache never holds much that is dirty, so the sync at the end is short
//! and the log's own writes are not kept waiting behind a flood. glommio's direct files were left alone: they read block device
//! settings with `unwrap`, and a keeper must never end the node.

use super::files::{path_of, temporary_path_of};
use super::pace::Pace;
use crate::wire::hop::SnapshotId;
use glommio::io::{BufferedFile, Directory, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What goes to the kernel in one write.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes between two syncs. A sync of a growing file holds the log's writes up for about as long as it takes: on the virtual disk that we
/// measure on, beside a snapshot of 100 MiB/s, the worst of a thousand 4 KiB writes took 16-20 ms with 8 MiB here and 11 ms with 1 MiB.
const SYNC_BYTES: u64 = 1 << 20;

/// A file that is not yet a snapshot.
pub(super) struct Writer {
    pub(super) id: SnapshotId,
    pub(super) began: Instant,
    file: BufferedFile,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes handed to the kernel.
    written: u64,
    /// Of these, how many were there at the last sync.
    synced: u64,
}

impl Writer {
    /// Begins a file. `total` bytes are set aside when it is known, so that a full disk shows at once.
    pub(super) async fn create(
        directory: &Path,
        id: SnapshotId,
        what: &str,
        total: Option<u64>,
    ) -> io::Result<Writer> {
        let path = temporary_path_of(directory, id.group, id.slot, what);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.buffered_open(&path).await?;
        if let Some(total) = total.filter(|total| 0 < *total)
            && let Err(error) = file.pre_allocate(total, true).await
        {
            let error = io::Error::from(error);
            if error.raw_os_error() == Some(libc::ENOSPC) {
                discard(file, &path).await;
                return Err(error);
            }
            // A file system that cannot set space aside fills as it goes.
        }
        Ok(Writer { id, began: Instant::now(), file, path, buffer: Vec::new(), written: 0, synced: 0 })
    }

    /// How many bytes it has taken.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Takes the next bytes.
    pub(super) async fn append(&mut self, mut bytes: &[u8], pace: &Pace) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = WRITE_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == WRITE_BYTES {
                self.flush(pace).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self, pace: &Pace) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let len = buffer.len();
        pace.spend(len).await;
        let written = self.file.write_at(buffer, self.written).await?;
        if written != len {
            // A regular file takes less than it is given when the disk is full.
            let text = format!("{written} of {len} bytes were written at {}", self.written);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        self.written += len as u64;
        if SYNC_BYTES <= self.written - self.synced {
            self.file.fdatasync().await?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Writes and syncs what is left. The file is whole and durable, but not yet named.
    pub(super) async fn complete(&mut self, pace: &Pace) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.flush(pace).await?;
        }
        self.file.fdatasync().await?;
        Ok(())
    }

    /// Reads back, for the check before the naming.
    pub(super) fn file(&self) -> &BufferedFile {
        &self.file
    }

    /// Gives the complete file its name, durably, and goes on with it for reading.
    pub(super) async fn publish(self, directory: &Path) -> io::Result<(SnapshotId, u64, BufferedFile)> {
        assert!(self.buffer.is_empty(), "a file is complete before it is published");
        let Writer { id, mut file, path, written, .. } = self;
        let named = async {
            file.rename(path_of(directory, id.group, id.slot)).await?;
            let entries = Directory::open(directory).await?;
            entries.sync().await?;
            entries.close().await
        };
        match named.await {
            Ok(()) => Ok((id, written, file)),
            Err(error) => {
                discard(file, &path).await;
                Err(error.into())
            }
        }
    }

    /// Gives up.
    pub(super) async fn discard(self) {
        discard(self.file, &self.path).await;
    }
}

/// What cannot be removed now goes at the next start (`files::sweep`).
async fn discard(file: BufferedFile, path: &Path) {
    let _ = file.close().await;
    let _ = glommio::io::remove(path).await;
}
