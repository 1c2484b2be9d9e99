//! Files, and the memory for them: a small pool that is registered with the kernel, and a few spare blocks that are not.

use crate::io::driver::{AlignedMemory, Buffer, FileId, OpenOptions};
use io_uring::IoUring;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Unregistered blocks that are kept for their next use, and the largest that is.
const SPARE_MAX: usize = 16;
const SPARE_BYTES_MAX: usize = 1 << 20;

struct Open {
    file: File,
    direct: bool,
}

#[derive(Default)]
pub(super) struct Files {
    places: Vec<Option<Open>>,
}

impl Files {
    /// Opens a file for its owner only: what is in it is nobody else's.
    pub(super) fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<FileId> {
        let mut how = std::fs::OpenOptions::new();
        how.read(true).write(options.write).create(options.create).mode(0o600);
        let direct = options.direct.then(|| how.clone().custom_flags(libc::O_DIRECT).open(path));
        let open = match direct {
            Some(Ok(file)) => Open { file, direct: true },
            // The file system cannot; the caller asks `is_direct` and warns.
            Some(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                Open { file: how.open(path)?, direct: false }
            }
            Some(Err(error)) => return Err(error),
            None => Open { file: how.open(path)?, direct: false },
        };
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(open);
        Ok(FileId(place as u32))
    }

    pub(super) fn close(&mut self, file: FileId) {
        let open = self.places.get_mut(file.0 as usize).and_then(Option::take);
        assert!(open.is_some(), "{file:?} is not open");
    }

    pub(super) fn is_direct(&self, file: FileId) -> bool {
        self.get(file).direct
    }

    pub(super) fn len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.get(file).file.metadata()?.len())
    }

    pub(super) fn descriptor(&self, file: FileId) -> RawFd {
        self.get(file).file.as_raw_fd()
    }

    fn get(&self, file: FileId) -> &Open {
        let open = self.places.get(file.0 as usize).and_then(Option::as_ref);
        open.unwrap_or_else(|| panic!("{file:?} is not open"))
    }
}

pub(super) struct Pool {
    /// Where each registered buffer lies; a buffer of another driver is told by not lying there.
    addresses: Vec<*const u8>,
    bytes_each: usize,
    free: Vec<Buffer>,
    spare: Vec<Buffer>,
}

impl Pool {
    /// Registers `count` buffers, or none if the kernel will not lock so much memory: unregistered ones are only slower.
    pub(super) fn new(uring: &IoUring, count: u16, bytes_each: usize) -> io::Result<Pool> {
        let mut free: Vec<Buffer> = (0..count)
            .map(|index| Buffer {
                memory: AlignedMemory::zeroed(bytes_each),
                len: 0,
                registered: Some(index),
            })
            .collect();
        let blocks: Vec<libc::iovec> = free
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.space().as_mut_ptr().cast(),
                iov_len: buffer.capacity(),
            })
            .collect();
        let registered = if blocks.is_empty() {
            Ok(())
        } else {
            // SAFETY: the blocks are live now, and the kernel pins their pages: should a buffer be dropped before the ring is gone, the
            // pinned pages are only no longer ours.
            unsafe { uring.submitter().register_buffers(&blocks) }
        };
        match registered {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => free.clear(),
            Err(error) => return Err(error),
        }
        let addresses = free.iter().map(|buffer| buffer.memory.bytes().as_ptr()).collect();
        // The first is taken first.
        free.reverse();
        Ok(Pool { addresses, bytes_each, free, spare: Vec::new() })
    }

    pub(super) fn registered_bytes(&self) -> usize {
        self.addresses.len() * self.bytes_each
    }

    pub(super) fn take(&mut self, capacity: usize) -> Buffer {
        if capacity <= self.bytes_each
            && let Some(buffer) = self.free.pop()
        {
            return buffer;
        }
        match self.spare.iter().position(|buffer| capacity <= buffer.capacity()) {
            Some(index) => self.spare.swap_remove(index),
            None => Buffer::unregistered(capacity),
        }
    }

    pub(super) fn give(&mut self, mut buffer: Buffer) {
        buffer.len = 0;
        if self.index(&buffer).is_some() {
            assert!(self.free.len() < self.addresses.len());
            self.free.push(buffer);
        } else if self.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            self.spare.push(buffer);
        }
    }

    /// The kernel's number of a buffer that is registered with this ring.
    pub(super) fn index(&self, buffer: &Buffer) -> Option<u16> {
        let index = buffer.registered?;
        (self.addresses.get(usize::from(index)) == Some(&buffer.memory.bytes().as_ptr())).then_some(index)
    }
}
