//! Who a node is, on its own disk: written by `quorate init`, read and raised by every start.
//!
//! A node that starts on an empty, foreign or damaged directory under its old identity may have promised what it no longer knows
//! (an acceptor with a lost disk must abstain: Chandra et al., "Paxos made live", PODC '07). So a start without a valid
//! superblock is refused, and one is made only together with the identity.
//!
//! The file has two copies, each in a block of its own with its own checksum. A change is written to the first, made durable, then to the
//! second: a crash between leaves the old one, rot of either leaves the other, and both say the same whenever anything was sent.

use super::error::REPLACE;
use super::record::{u32_at, u64_at};
use super::{FORMAT_VERSION, Identity};
use crate::base::NodeId;
use crate::io::driver::{ALIGN, OpenOptions, run_alone};
use crate::io::{Buffer, Driver, FileId, Op};
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: u64 = u64::from_le_bytes(*b"QUOSUPER");

/// What a node knows about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The cluster and the member.
    pub identity: Identity,
    /// Counts the starts, from 1: no two lives of a node share it.
    pub generation: u64,
    /// A log has been begun; from now on an empty directory means that it was wiped.
    pub established: bool,
    /// The group that the node is a member of, as its first start knew it; zeros before.
    pub membership: [u8; 32],
}

/// Why a node may not start under its identity (exit code 6).
#[derive(Debug, thiserror::Error)]
pub enum SuperblockError {
    /// Not there.
    #[error("{} is missing: the data directory is empty or was wiped. If this node has never run, `quorate init` makes the directory; if it has: {REPLACE}", file.display())]
    Missing {
        /// Where it should be.
        file: PathBuf,
    },
    /// Another node's.
    #[error("{} belongs to {found}, the configuration says {expected}. Cure: give the node its own data directory, or correct the configuration", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Whose it should be.
        expected: Identity,
    },
    /// The same node, of another group.
    #[error("{}: this node has been a member of another group: since its first start `group.protocol`, `cluster.operator` or the ids of `[[cluster.members]]` were changed. \
             A node that counts other quorums over the same log loses what was acknowledged. Cure: put them back as they were; `[[cluster.members]]` stays the list of the first members, and `quorate ctl members` changes who is one", file.display())]
    Regrouped {
        /// The file.
        file: PathBuf,
    },
    /// Neither copy verifies.
    #[error("{}: both copies are damaged, so it is unknown who this node is and how often it has started. {REPLACE}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error("{} has format version {found}, this program knows {known}. Cure: start the version that wrote it", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// There is one already.
    #[error("{} exists: this directory belongs to a node already. Cure: choose another directory", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process. Cure: end that process first", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// The machine.
    #[error("{}: {error}. Cure: see to the disk and the file's permissions, then start again", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// What one copy turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copy {
    /// It verifies.
    Valid(Superblock),
    /// It verifies, but another version wrote it.
    Version(u32),
    /// It does not verify.
    Damaged,
}

/// The file's path in a data directory.
pub fn path(data: &Path) -> PathBuf {
    data.join("superblock")
}

/// Makes a node's data directory with a superblock of generation 0 and an empty directory for each shard's log. For `quorate init`.
pub fn create(data: &Path, identity: Identity, shards: u16) -> Result<(), SuperblockError> {
    let file = path(data);
    let io = |error| SuperblockError::Io { file: file.clone(), error };
    for shard in 0..shards {
        std::fs::create_dir_all(super::directory(data, shard)).map_err(io)?;
    }
    let copies = Superblock::fresh(identity);
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&file).and_then(|mut f| {
        io::Write::write_all(&mut f, &copies)?;
        f.sync_all()?;
        std::fs::File::open(data)?.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => SuperblockError::Exists { file: file.clone() },
        _ => io(error),
    })
}

/// Keeps other processes off a data directory until the file is dropped.
pub fn lock(data: &Path) -> Result<std::fs::File, SuperblockError> {
    let file = path(data);
    let opened = std::fs::File::open(&file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SuperblockError::Missing { file: file.clone() },
        _ => SuperblockError::Io { file: file.clone(), error },
    })?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(std::fs::TryLockError::WouldBlock) => Err(SuperblockError::InUse { file }),
        Err(std::fs::TryLockError::Error(error)) => Err(SuperblockError::Io { file, error }),
    }
}

/// Judges the file's bytes: what the node knows, or why it may not start.
pub fn judge(file: &Path, bytes: &[u8], expected: Option<Identity>) -> Result<Superblock, SuperblockError> {
    let file = file.to_path_buf();
    let copies = copies(bytes);
    let valid = copies.iter().filter_map(|c| if let Copy::Valid(s) = c { Some(*s) } else { None });
    let Some(newest) = valid.max_by_key(|s| (s.generation, s.established)) else {
        let version = copies.iter().find_map(|c| if let Copy::Version(v) = c { Some(*v) } else { None });
        return Err(match version {
            Some(found) => SuperblockError::Format { file, found, known: FORMAT_VERSION },
            None => SuperblockError::Damaged { file },
        });
    };
    match expected {
        Some(expected) if expected != newest.identity => {
            Err(SuperblockError::Foreign { file, found: newest.identity, expected })
        }
        _ => Ok(newest),
    }
}
/// Both copies.
pub fn copies(bytes: &[u8]) -> [Copy; 2] {
    [0, ALIGN].map(|at| Superblock::decode(bytes.get(at..).unwrap_or(&[])))
}

impl Superblock {
    /// The bytes of a superblock whose node has never run.
    pub fn fresh(identity: Identity) -> Vec<u8> {
        Superblock { identity, generation: 0, established: false, membership: [0; 32] }.encode().repeat(2)
    }
    /// Begins a life of the node: reads who it is, and raises the generation durably before anything can be sent in it.
    pub fn open(
        driver: &mut dyn Driver,
        data: &Path,
        expected: Identity,
        membership: [u8; 32],
    ) -> Result<Superblock, SuperblockError> {
        let path = path(data);
        with_file(driver, &path, |driver, file| {
            let read = Op::Read { file, offset: 0, len: 2 * ALIGN, buffer: Buffer::unregistered(2 * ALIGN) };
            let io = |error| SuperblockError::Io { file: path.clone(), error };
            let buffer = run_alone(driver, read).map_err(io)?;
            let found = judge(&path, buffer.bytes(), Some(expected))?;
            if found.membership != [0; 32] && found.membership != membership {
                return Err(SuperblockError::Regrouped { file: path.clone() });
            }
            let next = Superblock { generation: found.generation + 1, membership, ..found };
            next.write(driver, file).map_err(io)?;
            Ok(next)
        })
    }
    /// Says that the log has been begun. After `Log::recover`, before anything is sent.
    pub fn establish(&mut self, driver: &mut dyn Driver, data: &Path) -> Result<(), SuperblockError> {
        if self.established {
            return Ok(());
        }
        self.established = true;
        let path = path(data);
        with_file(driver, &path, |driver, file| {
            self.write(driver, file).map_err(|error| SuperblockError::Io { file: path.clone(), error })
        })
    }

    fn write(&self, driver: &mut dyn Driver, file: FileId) -> io::Result<()> {
        for offset in [0, ALIGN] {
            let mut buffer = Buffer::unregistered(ALIGN);
            buffer.space().copy_from_slice(&self.encode());
            buffer.len = ALIGN;
            run_alone(driver, Op::Write { file, offset: offset as u64, buffer, durable: true })?;
        }
        Ok(())
    }
    fn encode(&self) -> [u8; ALIGN] {
        let mut out = [0; ALIGN];
        out[16..24].copy_from_slice(&MAGIC.to_le_bytes());
        out[24..28].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[28] = self.identity.node.0;
        out[29] = u8::from(self.established);
        out[32..48].copy_from_slice(&self.identity.cluster);
        out[48..56].copy_from_slice(&self.generation.to_le_bytes());
        out[56..88].copy_from_slice(&self.membership);
        let checksum = checksum(&out[16..]);
        out[..16].copy_from_slice(&checksum);
        out
    }
    fn decode(bytes: &[u8]) -> Copy {
        let Some(bytes) = bytes.get(..ALIGN) else { return Copy::Damaged };
        if u64_at(bytes, 16) != MAGIC || bytes[..16] != checksum(&bytes[16..]) {
            return Copy::Damaged;
        }
        if u32_at(bytes, 24) != FORMAT_VERSION {
            return Copy::Version(u32_at(bytes, 24));
        }
        let cluster = bytes[32..48].try_into().expect("16 bytes");
        let identity = Identity { cluster, node: NodeId(bytes[28]) };
        Copy::Valid(Superblock {
            identity,
            generation: u64_at(bytes, 48),
            established: bytes[29] != 0,
            membership: bytes[56..88].try_into().expect("32 bytes"),
        })
    }
}

/// Covers the whole block, so that any flipped bit shows. Not keyed with the identity: foreign must be told from damaged.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    let key = blake3::derive_key("quorate log v1 superblock", &[]);
    blake3::keyed_hash(&key, bytes).as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

fn with_file<T>(
    driver: &mut dyn Driver,
    path: &Path,
    use_it: impl FnOnce(&mut dyn Driver, FileId) -> Result<T, SuperblockError>,
) -> Result<T, SuperblockError> {
    let options = OpenOptions { create: false, write: true, direct: true };
    let file = driver.open(path, options).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SuperblockError::Missing { file: path.to_path_buf() },
        _ => SuperblockError::Io { file: path.to_path_buf(), error },
    })?;
    let result = use_it(driver, file);
    driver.close_file(file);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::{Disk, MemoryDriver, Survival};
    use std::cell::RefCell;
    use std::rc::Rc;

    const ME: Identity = Identity { cluster: [5; 16], node: NodeId(2) };
    const GROUP: [u8; 32] = [3; 32];

    fn made() -> Rc<RefCell<Disk>> {
        let disk = Disk::shared();
        let mut driver = MemoryDriver::new(disk.clone());
        let file = path(Path::new("d"));
        driver.open(&file, OpenOptions { create: true, write: true, direct: true }).unwrap();
        driver.sync_directory(Path::new("d")).unwrap();
        disk.borrow_mut().tamper(&file, &mut |c| *c = Superblock::fresh(ME));
        disk
    }
    fn open(disk: &Rc<RefCell<Disk>>, who: Identity) -> Result<Superblock, SuperblockError> {
        Superblock::open(&mut MemoryDriver::new(disk.clone()), Path::new("d"), who, GROUP)
    }

    #[test]
    fn a_node_stays_in_the_group_of_its_first_start() {
        let disk = made();
        open(&disk, ME).unwrap();
        let other = Superblock::open(&mut MemoryDriver::new(disk.clone()), Path::new("d"), ME, [4; 32]);
        assert!(matches!(other, Err(SuperblockError::Regrouped { .. })), "{other:?}");
        assert_eq!(open(&disk, ME).unwrap().generation, 2, "a refused start counts for nothing");
    }

    #[test]
    fn every_start_raises_the_generation_durably() {
        let disk = made();
        for generation in 1..4 {
            assert_eq!(open(&disk, ME).unwrap().generation, generation);
            disk.borrow_mut().lose_power(&mut |_| Survival::Old);
        }
    }

    #[test]
    fn either_copy_suffices_whatever_happens_to_the_other() {
        for at in (0..2 * ALIGN).step_by(97) {
            let disk = made();
            open(&disk, ME).unwrap();
            disk.borrow_mut().tamper(&path(Path::new("d")), &mut |c| c[at] ^= 0x10);
            assert_eq!(open(&disk, ME).unwrap().generation, 2);
        }
    }

    #[test]
    fn a_start_that_is_torn_anywhere_uses_no_generation_twice() {
        for writes in 0..2 {
            for sectors in 0..9 {
                let disk = made();
                open(&disk, ME).unwrap();
                let mut driver = MemoryDriver::new(disk.clone());
                driver.die_after(writes);
                assert!(Superblock::open(&mut driver, Path::new("d"), ME, GROUP).is_err());
                disk.borrow_mut().lose_power(&mut |s| {
                    if s.index < sectors { Survival::New } else { Survival::Garbage }
                });
                assert!((2..=3).contains(&open(&disk, ME).unwrap().generation));
            }
        }
    }

    #[test]
    fn missing_foreign_damaged_and_future_ones_are_refused_with_the_cure() {
        let disk = made();
        let file = path(Path::new("d"));
        let text = |disk: &Rc<RefCell<Disk>>, who| open(disk, who).unwrap_err().to_string();
        let other = Identity { cluster: ME.cluster, node: NodeId(4) };
        assert!(text(&disk, other).contains("belongs to node 2 of cluster 0505"), "{}", text(&disk, other));
        disk.borrow_mut().tamper(&file, &mut |c| {
            for at in [0, ALIGN] {
                c[at + 24] = 9;
                let sum = checksum(&c[at + 16..at + ALIGN]);
                c[at..at + 16].copy_from_slice(&sum);
            }
        });
        assert!(text(&disk, ME).contains("format version 9, this program knows 1"));
        disk.borrow_mut().tamper(&file, &mut |c| (c[24], c[ALIGN + 24]) = (8, 8));
        assert!(
            text(&disk, ME).contains("both copies are damaged") && text(&disk, ME).contains("leave it down")
        );
        disk.borrow_mut().remove(&file);
        assert!(text(&disk, ME).contains("empty or was wiped") && text(&disk, ME).contains("leave it down"));
    }

    #[test]
    fn being_established_is_said_once_and_kept() {
        let disk = made();
        let mut block = open(&disk, ME).unwrap();
        assert!(!block.established);
        block.establish(&mut MemoryDriver::new(disk.clone()), Path::new("d")).unwrap();
        disk.borrow_mut().lose_power(&mut |_| Survival::Old);
        assert_eq!(
            open(&disk, ME).unwrap(),
            Superblock { identity: ME, generation: 2, established: true, membership: GROUP }
        );
    }

    #[test]
    fn init_makes_a_directory_once_and_one_process_uses_it() {
        let data = std::env::temp_dir().join(format!("quorate-superblock-{}", std::process::id()));
        create(&data, ME, 2).unwrap();
        let bytes = std::fs::read(path(&data)).unwrap();
        assert_eq!(judge(&path(&data), &bytes, Some(ME)).unwrap().generation, 0);
        assert!(data.join("wal").is_dir() && data.join("wal-1").is_dir());
        assert!(matches!(create(&data, ME, 1), Err(SuperblockError::Exists { .. })));
        let held = lock(&data).unwrap();
        assert!(matches!(lock(&data), Err(SuperblockError::InUse { .. })));
        drop(held);
        lock(&data).unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        assert!(matches!(lock(&data), Err(SuperblockError::Missing { .. })));
    }
}
