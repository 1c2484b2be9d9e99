//! The node's two clocks. Both are read here and passed on as values; nothing outside the edge rooms reads a clock of its own.
//!
//! `CLOCK_MONOTONIC` is one clock for all threads of a machine, so instants taken on different cores compare.

use crate::base::{Instant, Stamp};
use std::sync::atomic::{AtomicI64, Ordering};

/// By how many milliseconds this process's wall clock is wrong on purpose; zero unless a test of clocks set it.
static SKEW_MS: AtomicI64 = AtomicI64::new(0);

/// Nanoseconds of the machine's monotonic clock.
pub fn monotonic() -> Instant {
    let time = read(libc::CLOCK_MONOTONIC);
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Milliseconds of the machine's wall clock; it may step in both directions.
pub fn wall() -> Stamp {
    let time = read(libc::CLOCK_REALTIME);
    let right = time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000;
    Stamp(right.saturating_add_signed(SKEW_MS.load(Ordering::Relaxed)))
}

/// Puts this process's wall clock forward by so many milliseconds, or back. The monotonic clock stays right, as it does on a machine
/// whose clock was set wrongly.
pub fn skew_wall(milliseconds: i64) {
    SKEW_MS.store(milliseconds, Ordering::Relaxed);
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clock {clock} cannot be read: {}", std::io::Error::last_os_error());
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_falls_and_is_shared_by_threads() {
        let mut last = monotonic();
        for _ in 0..1_000 {
            let now = monotonic();
            assert!(last <= now);
            last = now;
        }
        let elsewhere = std::thread::spawn(monotonic).join().unwrap();
        assert!(last <= elsewhere);
        assert!(elsewhere <= monotonic());
    }

    #[test]
    fn the_wall_clock_is_milliseconds_since_the_epoch() {
        let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let ours = u128::from(wall().0);
        assert!(ours.abs_diff(system.as_millis()) < 60_000);
    }
}
