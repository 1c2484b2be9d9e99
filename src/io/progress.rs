//! How far a read or a write of a file has come. A kernel may move fewer bytes than it was asked to (read(2), pwritev2(2)); whoever waits
//! for a file operation is told when it is whole, so a driver goes on where the kernel stopped.
//!
//! Pure arithmetic, so that the driver over io_uring and that of the simulated world go on alike.

use super::driver::ALIGN;
use crate::base::canary::{self, Canary};
use std::ops::Range;

/// A file operation under way.
#[derive(Clone, Debug)]
pub struct Progress {
    reads: bool,
    /// Past the page cache: attempts begin at whole blocks.
    direct: bool,
    /// Bytes that are wanted.
    want: usize,
    /// Bytes that are through. Invariant: at most `want`.
    done: usize,
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All is through.
    Whole,
    /// Nothing more will be: a read has come to the end of the file, or a write moves nothing.
    Ended,
    /// The next attempt is for what is `left`.
    Again,
}

impl Progress {
    /// A read of so many bytes.
    pub fn of_read(want: usize, direct: bool) -> Progress {
        Progress { reads: true, direct, want, done: 0 }
    }
    /// A write of so many bytes.
    pub fn of_write(want: usize, direct: bool) -> Progress {
        Progress { reads: false, direct, want, done: 0 }
    }
    /// Bytes that are through.
    pub fn done(&self) -> usize {
        self.done
    }
    /// What the next attempt is for, counted from the operation's first byte. Of a direct file a block that came in part comes again:
    /// no attempt can begin within it.
    pub fn left(&self) -> Range<usize> {
        let from = if self.direct { self.done / ALIGN * ALIGN } else { self.done };
        from..self.want
    }

    /// An attempt has moved so many bytes of what was left. `file_left` tells how many bytes the file holds from the operation's first
    /// one on. It is asked only when a direct read has stopped within a block: that is how such a read ends with its file, and no attempt
    /// behind it could tell an interruption from that.
    pub fn moved(&mut self, bytes: usize, file_left: impl FnOnce() -> u64) -> Step {
        let left = self.left();
        assert!(bytes <= left.len(), "{bytes} bytes of {}", left.len());
        // A block that came again may have come shorter.
        self.done = self.done.max(left.start + bytes);
        if self.done == self.want {
            return Step::Whole;
        }
        let stops_within = self.direct && !self.done.is_multiple_of(ALIGN);
        let is_end = stops_within && self.reads && file_left() <= self.done as u64;
        let is_taken_for_one = self.reads && canary::on(Canary::ShortReadIsTheEnd);
        if bytes == 0 || is_end || is_taken_for_one { Step::Ended } else { Step::Again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole_blocks() -> u64 {
        unreachable!("only a direct read that stops within a block asks")
    }

    #[test]
    fn what_stops_short_goes_on_where_it_stopped() {
        for (direct, next) in [(false, 100), (true, 0)] {
            for mut progress in [Progress::of_read(3 * ALIGN, direct), Progress::of_write(3 * ALIGN, direct)]
            {
                assert_eq!(progress.moved(100, || 9 * ALIGN as u64), Step::Again);
                assert_eq!((progress.done(), progress.left()), (100, next..3 * ALIGN));
                assert_eq!(progress.moved(2 * ALIGN - next, whole_blocks), Step::Again);
                assert_eq!(progress.left(), 2 * ALIGN..3 * ALIGN);
                assert_eq!(progress.moved(ALIGN, whole_blocks), Step::Whole);
            }
        }
    }

    #[test]
    fn the_end_of_a_file_is_told_from_an_interruption() {
        let mut at_the_end = Progress::of_read(2 * ALIGN, true);
        assert_eq!((at_the_end.moved(512, || 512), at_the_end.done()), (Step::Ended, 512));
        let mut direct = Progress::of_read(2 * ALIGN, true);
        assert_eq!(direct.moved(1024, || 1536), Step::Again);
        assert_eq!(direct.moved(512, || 1536), Step::Again, "the block came again, and shorter");
        assert_eq!(direct.done(), 1024, "what has come stays");
        assert_eq!(direct.moved(1536, || 1536), Step::Ended);
        let mut buffered = Progress::of_read(2 * ALIGN, false);
        assert_eq!(buffered.moved(512, whole_blocks), Step::Again);
        assert_eq!(buffered.moved(0, whole_blocks), Step::Ended);
    }

    #[test]
    fn a_write_ends_only_when_nothing_moves() {
        let mut write = Progress::of_write(2 * ALIGN, true);
        assert_eq!(write.moved(512, whole_blocks), Step::Again, "the file grows: its length says nothing");
        assert_eq!(write.left(), 0..2 * ALIGN);
        assert_eq!(write.moved(0, whole_blocks), Step::Ended);
    }
}
