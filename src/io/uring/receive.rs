//! The receive buffers of a core: a ring of provided buffers that the kernel takes from as bytes come in.
//!
//! They are shared by all sockets of the core, so idle connections cost none. They are no registered memory.

use crate::io::driver::{ALIGN, AlignedMemory};
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The only buffer group of a driver's ring.
pub(super) const GROUP: u16 = 0;

pub(super) struct ReceiveBuffers {
    /// Entries that the kernel reads; the tail lies in the first one's spare field.
    ring: AlignedMemory,
    memory: AlignedMemory,
    bytes_each: usize,
    count: u16,
    /// What was published last; the kernel's own head runs behind it.
    tail: u16,
    /// Buffers that agents hold. Invariant: at most `count`.
    lent: u16,
    /// Which buffer stands at each place of the ring: a bundle takes the following places.
    at_place: Vec<u16>,
    /// Where each buffer stands or stood last.
    place_of: Vec<u16>,
    is_lent: Vec<bool>,
    /// Sockets whose receive found no buffer, by the index of their operation, in the order of their hunger.
    pub(super) hungry: VecDeque<u32>,
    /// Lent, but nobody's: they came for sockets that are closed. Recycled at the end of a `reap`.
    pub(super) unwanted: Vec<u16>,
}

impl ReceiveBuffers {
    pub(super) fn new(uring: &IoUring, count: u16, bytes_each: u32) -> io::Result<ReceiveBuffers> {
        assert!(count.is_power_of_two());
        assert!(0 < bytes_each);
        let ring = AlignedMemory::zeroed(usize::from(count) * size_of::<BufRingEntry>());
        assert_eq!(ring.bytes().as_ptr() as usize % ALIGN, 0);
        let bytes_each = bytes_each as usize;
        let mut buffers = ReceiveBuffers {
            ring,
            memory: AlignedMemory::zeroed(usize::from(count) * bytes_each),
            bytes_each,
            count,
            tail: 0,
            lent: 0,
            at_place: vec![0; usize::from(count)],
            place_of: vec![0; usize::from(count)],
            is_lent: vec![true; usize::from(count)],
            hungry: VecDeque::new(),
            unwanted: Vec::new(),
        };
        let address = buffers.ring.bytes().as_ptr() as u64;
        // SAFETY: the ring's memory is page-aligned, large enough for `count` entries, and lives until the driver's drop has
        // unregistered it.
        unsafe { uring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        buffers.lent = count;
        (0..count).for_each(|buffer| buffers.recycle(buffer));
        Ok(buffers)
    }

    /// The kernel has put bytes into this buffer.
    pub(super) fn lend(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        assert!(!self.is_lent[usize::from(buffer)]);
        self.is_lent[usize::from(buffer)] = true;
        self.lent += 1;
    }

    /// The buffer that the kernel takes after this one.
    pub(super) fn next(&self, buffer: u16) -> u16 {
        let place = (self.place_of[usize::from(buffer)] + 1) & (self.count - 1);
        self.at_place[usize::from(place)]
    }

    /// Gives a lent buffer to the kernel again.
    pub(super) fn recycle(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        assert!(self.is_lent[usize::from(buffer)], "buffer {buffer} was given back twice");
        self.is_lent[usize::from(buffer)] = false;
        self.lent -= 1;
        let place = self.tail & (self.count - 1);
        self.at_place[usize::from(place)] = buffer;
        self.place_of[usize::from(buffer)] = place;
        let start = self.memory.bytes().as_ptr() as u64 + usize::from(buffer) as u64 * self.bytes_each as u64;
        let entries = self.ring.bytes_mut().as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: `place` is below the count that `ring` was sized for; the kernel does not read this entry before the tail is
        // published. The setters leave the spare field, where the tail is, alone.
        let entry = unsafe { &mut *entries.add(usize::from(place)) };
        entry.set_addr(start);
        entry.set_len(self.bytes_each as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the first entry of the ring; its tail is a naturally aligned u16 that the kernel only reads.
        let tail = unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Buffers that are not in agents' hands.
    pub(super) fn left(&self) -> u16 {
        self.count - self.lent
    }

    pub(super) fn bytes_each(&self) -> usize {
        self.bytes_each
    }

    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(self.is_lent[usize::from(buffer)], "buffer {buffer} was given back before it was read");
        assert!(len <= self.bytes_each);
        let start = usize::from(buffer) * self.bytes_each;
        &self.memory.bytes()[start..start + len]
    }
}
