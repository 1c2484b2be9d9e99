//! What can be wrong with a log: at start ([`LogError`]) and while it is written ([`Fatal`]). Every message says what cures it.

use super::Identity;
use super::record::Flaw;
use std::io;
use std::path::PathBuf;

/// What every message ends with when the node must not go on under its identity.
pub const REPLACE: &str = "It must not vote with what is left, since it may have acknowledged what is gone. Cure: leave it \
                           down, the others go on as long as enough of them are left; in a PBFT group a fresh node under \
                           another number takes its place (`quorate ctl members replace`), a Raft group cannot change its \
                           members yet";

/// Why a log cannot be recovered. The node refuses to start (exit code 6).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Bytes that were durable no longer verify.
    #[error("{} is damaged at offset {offset}: {flaw}, although a later batch calls it durable. {REPLACE}", file.display())]
    Damaged {
        /// The segment's file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not verify.
        flaw: Flaw,
    },
    /// Segments that are needed are not there.
    #[error("{}: the segment with sequence {sequence} is missing or its header is damaged; the log needs {oldest} to {newest}. {REPLACE}", directory.display())]
    Missing {
        /// Where they should be.
        directory: PathBuf,
        /// The one that is not there.
        sequence: u32,
        /// The oldest that is needed.
        oldest: u32,
        /// The newest that is known of.
        newest: u32,
    },
    /// A file that the log has had is not there.
    #[error("{} is missing; the log had {files} files. {REPLACE}", file.display())]
    MissingFile {
        /// The file.
        file: PathBuf,
        /// So many there were.
        files: u16,
    },
    /// The directory holds no log, although this node had one.
    #[error("{} holds no log, although this node had one: it was emptied or wiped. {REPLACE}", directory.display())]
    Wiped {
        /// Where it should be.
        directory: PathBuf,
    },
    /// The bytes of another node.
    #[error("{} belongs to {found} shard {found_shard}, this is {expected} shard {expected_shard}. Cure: give the node its own data directory", file.display())]
    Foreign {
        /// The segment's file.
        file: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Which shard's.
        found_shard: u16,
        /// Whose it should be.
        expected: Identity,
        /// Which shard's.
        expected_shard: u16,
    },
    /// The bytes of another version of this program.
    #[error("{} has format version {found}, this program knows {known}. Cure: start the version that wrote it", file.display())]
    Format {
        /// The segment's file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The superblock is older than the log.
    #[error(
        "the log was last written in generation {log}, but the superblock says that this is generation {superblock}: the superblock is an old copy. {REPLACE}"
    )]
    Generation {
        /// In the newest batch.
        log: u64,
        /// Of the superblock.
        superblock: u64,
    },
    /// The machine.
    #[error("{}: {error}. Cure: see to the disk or file system, then start again", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The disk failed while recovery wrote.
    #[error("{0}")]
    Fatal(Fatal),
}

/// Why a running log cannot go on: the node ends at once. A failed write or sync is never tried again, since the kernel may have
/// dropped the pages and call the second sync a success (fsyncgate; Rebello et al., ATC '20).
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A write, or its sync.
    #[error("log: writing {} at offset {offset} failed: {error}. What was being written is not acknowledged. Cure: see to the disk, then start again", file.display())]
    Write {
        /// The segment's file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// A read.
    #[error("log: reading {} at offset {offset} failed: {error}. Cure: see to the disk, then start again", file.display())]
    Read {
        /// The segment's file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// A file or directory could not be made.
    #[error("log: {}: {error}. Cure: see to the disk and the directory's permissions, then start again", file.display())]
    Open {
        /// The file or directory.
        file: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// An old entry no longer verifies.
    #[error("log: {} is damaged at offset {offset}: {flaw}. {REPLACE}", file.display())]
    Damaged {
        /// The segment's file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not verify.
        flaw: Flaw,
    },
}
