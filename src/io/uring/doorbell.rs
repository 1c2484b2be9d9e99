//! How other threads wake a parked driver: one word that says whether it sleeps, and an eventfd that the ring polls.
//!
//! An eventfd and not `MSG_RING`, because the caller may be a thread without a ring; waking costs the same (2.5-5.8 us measured).

use crate::io::driver::Doorbell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The driver's thread is at work, and will look at its rings before it parks.
const AWAKE: u32 = 0;
/// Somebody rang since it last looked.
const RUNG: u32 = 1;
/// It sleeps, or is about to.
const PARKED: u32 = 2;

struct Shared {
    state: AtomicU32,
    event: OwnedFd,
}

/// The caller's side.
#[derive(Clone)]
pub(super) struct Bell {
    shared: Arc<Shared>,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        // SAFETY: no pointers are passed.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Bell { shared: Arc::new(Shared { state: AtomicU32::new(AWAKE), event }) })
    }

    /// What the ring polls. It is never read: each write wakes the poll again, and the count cannot overflow in a lifetime.
    pub(super) fn descriptor(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// The driver's thread will now look at everything: rings heard so far are answered. True if there was one.
    pub(super) fn answer(&self) -> bool {
        // The plain load keeps the common case off the bus. Seeing RUNG late only means hearing it at the next turn or at `sleep`.
        self.shared.state.load(Ordering::Relaxed) == RUNG
            && self.shared.state.swap(AWAKE, Ordering::SeqCst) == RUNG
    }

    /// The driver's thread is about to sleep. False if somebody rang since `answer`: then it must not.
    pub(super) fn sleep(&self) -> bool {
        self.shared.state.compare_exchange(AWAKE, PARKED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The driver's thread sleeps no more. A ring that ended the sleep stays to be answered.
    pub(super) fn wake(&self) {
        // Failing means that somebody rang: RUNG stays for `answer`.
        let _ = self.shared.state.compare_exchange(PARKED, AWAKE, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether somebody rang since `answer`; for a driver that spins.
    pub(super) fn heard(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == RUNG
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        // What the caller pushed before must be visible to a driver that does not hear this ring: either we see PARKED and wake it, or
        // it has yet to pass `sleep`, or its `answer` comes after our fence, and it looks at the rings after that.
        fence(Ordering::SeqCst);
        if self.shared.state.load(Ordering::Relaxed) == RUNG {
            return;
        }
        if self.shared.state.swap(RUNG, Ordering::SeqCst) == PARKED {
            let one = 1u64.to_ne_bytes();
            // SAFETY: pointer and length are those of a live array; the descriptor is owned by `shared`.
            // The only error is EAGAIN on a full counter, and then the poll is awake anyway.
            unsafe { libc::write(self.descriptor(), one.as_ptr().cast(), one.len()) };
        }
    }
}
