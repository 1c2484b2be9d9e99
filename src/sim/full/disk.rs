//! A node's disk: it outlives the node's lives, and fails in the ways that disks do.
//!
//! What a reader sees is told apart from what a loss of power leaves. Of writes that were under way, or completed without a sync, each
//! sector is independently old or new after a loss of power; a killed process loses only what the kernel had not taken. Faults at rest
//! (flipped bits, unreadable sectors) and faults of the device (errors, lies, a write in the wrong place) are asked for by the world.

use crate::base::Prng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a disk writes at once, in bytes.
pub const SECTOR: usize = 512;
/// Most completed writes that a lying device holds back; older ones have come to rest by themselves.
const HELD_BACK_MAX: usize = 64;

/// No space left on the device.
pub const ENOSPC: i32 = 28;
/// Input/output error.
pub const EIO: i32 = 5;

/// Names an open or closed file for as long as the disk lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Inode(usize);

/// A write whose bytes may be lost.
#[derive(Debug)]
struct Pending {
    inode: Inode,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct File {
    /// What a reader sees.
    content: Vec<u8>,
    /// What a loss of power leaves when no pending write survives.
    stable: Vec<u8>,
    /// Its directory entry is durable.
    named: bool,
    /// Sectors that cannot be read until they are written again.
    unreadable: BTreeSet<usize>,
    /// When each block of 4 KiB was last written, in milliseconds of the world.
    written_at: Vec<u64>,
}

/// What has gone wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harms {
    /// Writes that failed once.
    pub errors: u64,
    /// Writes that failed for lack of space.
    pub full: u64,
    /// Sectors that a crash left old.
    pub torn: u64,
    /// Reads that met an unreadable sector.
    pub unreadable: u64,
    /// Bits flipped at rest.
    pub flipped: u64,
    /// Sectors that became unreadable.
    pub worn: u64,
    /// Writes that landed elsewhere.
    pub misdirected: u64,
    /// Reads and writes of which the kernel did only a part at once.
    pub short: u64,
    /// Completed and synced writes that a loss of power undid: the device lied.
    pub lies: u64,
}

impl Harms {
    /// Whether something that was durable may not be there any more.
    pub fn has_lost(&self) -> bool {
        0 < self.flipped + self.worn + self.misdirected + self.lies
    }
}

/// See the module.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, Inode>,
    pending: Vec<Pending>,
    /// Bytes that all files together may hold.
    pub capacity: Option<usize>,
    /// So many of the next writes fail with EIO.
    pub errors_due: u32,
    /// The next write lands in another place of its file: one that was written so many milliseconds ago, drawn by this seed.
    pub misdirect: Option<(u64, u64)>,
    /// When a write last did, in milliseconds of the world.
    pub strayed: Option<u64>,
    /// Syncs are acknowledged and not done.
    pub lies: bool,
    /// The world's time, for the age of blocks.
    pub now_ms: u64,
    /// See there.
    pub harms: Harms,
}

impl Disk {
    /// The file of that name; made if `create`.
    pub fn open(&mut self, path: &Path, create: bool) -> io::Result<Inode> {
        if let Some(inode) = self.names.get(path) {
            return Ok(*inode);
        }
        if !create {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = Inode(self.files.len());
        self.files.push(File::default());
        self.names.insert(path.to_path_buf(), inode);
        Ok(inode)
    }
    /// Length in bytes.
    pub fn len(&self, inode: Inode) -> u64 {
        self.files[inode.0].content.len() as u64
    }
    /// Names of a directory's files, in order.
    pub fn names_in<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.names.keys().map(|path| path.as_path()).filter(move |path| path.parent() == Some(directory))
    }
    /// The entries of a directory are durable.
    pub fn sync_directory(&mut self, directory: &Path) {
        for (path, inode) in &self.names {
            if path.parent() == Some(directory) {
                self.files[inode.0].named = true;
            }
        }
    }
    /// Removes a file, durably.
    pub fn remove(&mut self, path: &Path) {
        if let Some(inode) = self.names.remove(path) {
            self.files[inode.0] = File::default();
            self.pending.retain(|p| p.inode != inode);
        }
    }
    /// Puts a whole file there at once, durably: what writing, syncing and renaming come to. Nothing changes when it fails.
    pub fn put_whole(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.fallible(bytes.len())?;
        self.remove(path);
        let inode = self.open(path, true)?;
        let now_ms = self.now_ms;
        let file = &mut self.files[inode.0];
        (file.content, file.stable, file.named) = (bytes.to_vec(), bytes.to_vec(), true);
        file.written(0, bytes.len(), now_ms);
        Ok(())
    }
    /// What lies in a file, if all of it can be read.
    pub fn whole(&mut self, path: &Path) -> io::Result<&[u8]> {
        let inode = self.open(path, false)?;
        let file = &self.files[inode.0];
        if !file.unreadable.is_empty() {
            self.harms.unreadable += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(&file.content)
    }

    /// Bytes of all files.
    pub fn held(&self) -> usize {
        self.files.iter().map(|f| f.content.len()).sum()
    }

    fn fallible(&mut self, grows: usize) -> io::Result<()> {
        if 0 < self.errors_due {
            self.errors_due -= 1;
            self.harms.errors += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if 0 < grows && self.capacity.is_some_and(|most| most < self.held() + grows) {
            self.harms.full += 1;
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    /// Carries a write out.
    pub fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(self.files[inode.0].content.len());
        self.fallible(grows)?;
        let offset = self.landing(inode, offset, bytes.len());
        self.take(inode, offset, bytes);
        if durable && !self.lies {
            self.settle(inode, offset, bytes);
        } else {
            self.pending.push(Pending { inode, offset, bytes: bytes.to_vec() });
            if self.lies && HELD_BACK_MAX < self.pending.len() {
                let oldest = self.pending.remove(0);
                put(&mut self.files[oldest.inode.0].stable, oldest.offset, &oldest.bytes);
            }
        }
        Ok(())
    }
    /// Where a write to `offset` lands: in another old place of its file, if it is to go astray and there is one.
    fn landing(&mut self, inode: Inode, offset: usize, len: usize) -> usize {
        let Some((age_ms, seed)) = self.misdirect.take() else { return offset };
        let content = self.files[inode.0].content.len();
        let is_elsewhere = |block: &usize| {
            let at = block * BLOCK;
            at + len <= content && (at + len <= offset || offset + len <= at)
        };
        let places: Vec<usize> = self.old_blocks(inode, age_ms).filter(is_elsewhere).collect();
        let Some(block) = places.get(Prng::from_seed(seed).below(places.len().max(1) as u64) as usize) else {
            return offset;
        };
        self.harms.misdirected += 1;
        self.strayed = Some(self.now_ms);
        block * BLOCK
    }
    /// A reader sees the bytes from now on.
    fn take(&mut self, inode: Inode, offset: usize, bytes: &[u8]) {
        let now_ms = self.now_ms;
        let file = &mut self.files[inode.0];
        put(&mut file.content, offset, bytes);
        file.written(offset, bytes.len(), now_ms);
        if !file.unreadable.is_empty() {
            let sectors = offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR);
            file.unreadable.retain(|sector| !sectors.contains(sector));
        }
    }
    /// The bytes are on stable storage, and older writes to their place have lost their say.
    fn settle(&mut self, inode: Inode, offset: usize, bytes: &[u8]) {
        put(&mut self.files[inode.0].stable, offset, bytes);
        let end = offset + bytes.len();
        let overlaps = |p: &Pending| p.inode == inode && p.offset < end && offset < p.offset + p.bytes.len();
        if !self.pending.iter().any(overlaps) {
            return;
        }
        for mut older in std::mem::take(&mut self.pending) {
            if !overlaps(&older) {
                self.pending.push(older);
                continue;
            }
            if end < older.offset + older.bytes.len() {
                let bytes = older.bytes[end - older.offset..].to_vec();
                self.pending.push(Pending { inode, offset: end, bytes });
            }
            if older.offset < offset {
                older.bytes.truncate(offset - older.offset);
                self.pending.push(older);
            }
        }
    }

    /// Reads up to `out.len()` bytes; fewer at the end of the file.
    pub fn read(&mut self, inode: Inode, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let file = &self.files[inode.0];
        let from = (offset as usize).min(file.content.len());
        let count = out.len().min(file.content.len() - from);
        if 0 < count && file.unreadable.range(from / SECTOR..(from + count).div_ceil(SECTOR)).next().is_some()
        {
            self.harms.unreadable += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        out[..count].copy_from_slice(&file.content[from..from + count]);
        Ok(count)
    }

    /// The process is killed: of the writes under way the kernel carries some out.
    pub fn kill<'a>(&mut self, under_way: impl Iterator<Item = (Inode, u64, &'a [u8])>, prng: &mut Prng) {
        for (inode, offset, bytes) in under_way {
            if prng.chance(1, 2) {
                self.take(inode, offset as usize, bytes);
                self.pending.push(Pending { inode, offset: offset as usize, bytes: bytes.to_vec() });
            }
        }
    }
    /// Power is lost: each sector of what is not on stable storage is as it was or as it should become.
    pub fn lose_power<'a>(
        &mut self,
        under_way: impl Iterator<Item = (Inode, u64, &'a [u8])>,
        prng: &mut Prng,
    ) {
        let under_way = under_way.map(|(inode, offset, bytes)| Pending {
            inode,
            offset: offset as usize,
            bytes: bytes.to_vec(),
        });
        let lies = if self.lies { self.pending.len() as u64 } else { 0 };
        let mut pending: Vec<Pending> = std::mem::take(&mut self.pending);
        pending.extend(under_way);
        // Of ten writes three are lost and three kept as a whole; two are torn anywhere, and of two the first sectors arrive.
        for write in &pending {
            let (fate, sectors) = (prng.below(10), write.bytes.len().div_ceil(SECTOR) as u64);
            let arrive = if (5..7).contains(&fate) { 1 + prng.below(sectors) } else { sectors };
            for (index, sector) in write.bytes.chunks(SECTOR).enumerate() {
                if fate < 3 || fate < 5 && prng.chance(1, 2) || arrive <= index as u64 {
                    self.harms.torn += 1;
                    continue;
                }
                put(&mut self.files[write.inode.0].stable, write.offset + index * SECTOR, sector);
            }
        }
        self.harms.lies += lies;
        let files = &mut self.files;
        self.names.retain(|_, inode| files[inode.0].named);
        for file in files {
            if file.content != file.stable {
                file.content.clone_from(&file.stable);
            }
        }
    }

    /// Flips a bit at rest, durably, in a block that was written at least `age_ms` ago. Returns whether there was one.
    pub fn flip(&mut self, age_ms: u64, prng: &mut Prng) -> bool {
        let Some((inode, at)) = self.old_place(age_ms, prng) else { return false };
        let bit = 1 << prng.below(8);
        let file = &mut self.files[inode.0];
        file.content[at] ^= bit;
        if let Some(byte) = file.stable.get_mut(at) {
            *byte ^= bit;
        }
        self.harms.flipped += 1;
        true
    }
    /// Makes a sector unreadable in a block that was written at least `age_ms` ago. Returns whether there was one.
    pub fn wear(&mut self, age_ms: u64, prng: &mut Prng) -> bool {
        let Some((inode, at)) = self.old_place(age_ms, prng) else { return false };
        let is_new = self.files[inode.0].unreadable.insert(at / SECTOR);
        self.harms.worn += u64::from(is_new);
        is_new
    }
    fn old_place(&self, age_ms: u64, prng: &mut Prng) -> Option<(Inode, usize)> {
        let files: Vec<Inode> =
            self.names.values().copied().filter(|i| !self.files[i.0].content.is_empty()).collect();
        let inode = *files.get(prng.below(files.len().max(1) as u64) as usize)?;
        let blocks: Vec<usize> = self.old_blocks(inode, age_ms).collect();
        let block = *blocks.get(prng.below(blocks.len().max(1) as u64) as usize)?;
        Some((inode, block * BLOCK + prng.below(BLOCK as u64) as usize))
    }
    /// Blocks of a file that hold something and were written at least `age_ms` ago.
    fn old_blocks(&self, inode: Inode, age_ms: u64) -> impl Iterator<Item = usize> {
        let file = &self.files[inode.0];
        let is_old = move |block: &usize| {
            file.written_at[*block] + age_ms <= self.now_ms
                && file.content[*block * BLOCK..].iter().take(BLOCK).any(|byte| *byte != 0)
        };
        (0..file.content.len() / BLOCK).filter(is_old)
    }
}

/// By how much the age of bytes is told apart.
const BLOCK: usize = 4096;

impl File {
    fn written(&mut self, offset: usize, len: usize, now_ms: u64) {
        let blocks = self.content.len().div_ceil(BLOCK);
        self.written_at.resize(blocks, now_ms);
        if 0 < len {
            self.written_at[offset / BLOCK..(offset + len).div_ceil(BLOCK)].fill(now_ms);
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (Disk, Inode) {
        let mut disk = Disk::default();
        let inode = disk.open(Path::new("d/f"), true).unwrap();
        disk.sync_directory(Path::new("d"));
        (disk, inode)
    }
    fn first_of_each_sector(disk: &mut Disk, inode: Inode) -> Vec<u8> {
        let mut out = vec![0; disk.len(inode) as usize];
        disk.read(inode, 0, &mut out).unwrap();
        out.iter().step_by(SECTOR).copied().collect()
    }

    #[test]
    fn a_synced_write_survives_and_an_unsynced_one_is_torn_by_the_sector() {
        let mut torn = 0;
        for seed in 0..100 {
            let (mut disk, inode) = disk();
            disk.write(inode, 0, &[1; 8 * SECTOR], true).unwrap();
            disk.write(inode, 0, &[2; 8 * SECTOR], false).unwrap();
            assert_eq!(first_of_each_sector(&mut disk, inode), [2; 8]);
            disk.lose_power([].into_iter(), &mut Prng::from_seed(seed));
            let left = first_of_each_sector(&mut disk, inode);
            assert!(left.iter().all(|byte| [1, 2].contains(byte)));
            torn += usize::from(left.contains(&1) && left.contains(&2));
        }
        assert!((5..70).contains(&torn), "{torn} of 100 writes were torn");
    }

    #[test]
    fn a_durable_write_settles_what_it_overwrites() {
        for seed in 0..20 {
            let (mut disk, inode) = disk();
            disk.write(inode, 0, &[1; 4 * SECTOR], false).unwrap();
            disk.write(inode, SECTOR as u64, &[2; 2 * SECTOR], true).unwrap();
            disk.lose_power([].into_iter(), &mut Prng::from_seed(seed));
            assert_eq!(first_of_each_sector(&mut disk, inode)[1..3], [2, 2]);
        }
    }

    #[test]
    fn a_lying_device_forgets_what_it_acknowledged() {
        let (mut disk, inode) = disk();
        disk.lies = true;
        let mut prng = Prng::from_seed(0);
        let forgotten = |byte: &u8| {
            disk.write(inode, 0, &[*byte; SECTOR], true).unwrap();
            disk.lose_power([].into_iter(), &mut prng);
            first_of_each_sector(&mut disk, inode) != [*byte]
        };
        let times = (1..=100).filter(forgotten).count();
        assert!((20..60).contains(&times), "{times} of 100 synced writes were forgotten");
        assert!(0 < disk.harms.lies);
    }

    #[test]
    fn errors_come_once_and_space_ends() {
        let (mut disk, inode) = disk();
        disk.errors_due = 1;
        let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        assert_eq!(errno(disk.write(inode, 0, &[1; SECTOR], true)), Some(EIO));
        assert_eq!(errno(disk.write(inode, 0, &[1; SECTOR], true)), None);
        disk.capacity = Some(SECTOR);
        assert_eq!(errno(disk.write(inode, 0, &[2; SECTOR], true)), None);
        assert_eq!(errno(disk.write(inode, SECTOR as u64, &[2; 1], true)), Some(ENOSPC));
    }

    #[test]
    fn rot_hits_old_blocks_only_and_a_write_heals_a_sector() {
        let (mut disk, inode) = disk();
        let mut prng = Prng::from_seed(1);
        disk.write(inode, 0, &[7; BLOCK], true).unwrap();
        assert!(!disk.flip(10, &mut prng) && !disk.wear(10, &mut prng));
        disk.now_ms = 10;
        assert!(disk.wear(10, &mut prng));
        assert!(disk.read(inode, 0, &mut [0; BLOCK]).is_err());
        disk.write(inode, 0, &[7; BLOCK], true).unwrap();
        disk.now_ms = 20;
        assert!(disk.flip(10, &mut prng));
        let mut out = [0; BLOCK];
        assert_eq!(disk.read(inode, 0, &mut out).unwrap(), BLOCK);
        assert_eq!(out.iter().filter(|byte| **byte != 7).count(), 1);
    }

    #[test]
    fn a_write_that_goes_astray_lands_on_an_old_block_of_its_file() {
        let (mut disk, inode) = disk();
        for block in 0..3 {
            disk.write(inode, block * BLOCK as u64, &[7; BLOCK], true).unwrap();
        }
        disk.misdirect = Some((10, 1));
        disk.write(inode, 0, &[8; BLOCK], true).unwrap();
        assert_eq!((disk.harms.misdirected, disk.strayed), (0, None), "nothing is old yet");
        disk.now_ms = 10;
        disk.misdirect = Some((10, 1));
        disk.write(inode, 0, &[9; BLOCK], true).unwrap();
        disk.lose_power([].into_iter(), &mut Prng::from_seed(0));
        let first = first_of_each_sector(&mut disk, inode);
        let blocks: Vec<u8> = first.into_iter().step_by(BLOCK / SECTOR).collect();
        assert!(blocks == [8, 9, 7] || blocks == [8, 7, 9], "{blocks:?}");
        assert_eq!((disk.harms.misdirected, disk.strayed), (1, Some(10)));
        assert!(disk.harms.has_lost());
    }

    #[test]
    fn a_file_whose_name_was_not_synced_is_lost() {
        let mut disk = Disk::default();
        disk.open(Path::new("d/f"), true).unwrap();
        disk.lose_power([].into_iter(), &mut Prng::from_seed(0));
        assert_eq!(disk.names_in(Path::new("d")).count(), 0);
    }
}
