//! How other threads wake a task of the service thread: a [`Bell`] for "there is something", a pair of [`once`] for one value.

use crate::io::driver::Doorbell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Wakes one waiting task. A ring before the wait is not lost; several rings are one.
#[derive(Clone, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rung: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Bell {
    /// A bell that nobody has rung.
    pub fn new() -> Bell {
        Bell::default()
    }

    /// Waits for a ring, and takes it back.
    pub fn rung(&self) -> Rung<'_> {
        Rung { bell: self }
    }
}

impl Doorbell for Bell {
    /// One atomic swap when it is rung already; otherwise a lock that the other side holds for a few instructions.
    fn ring(&self) {
        if self.shared.rung.swap(true, Ordering::SeqCst) {
            return;
        }
        let waker = lock(&self.shared.waiting).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for a ring.
pub struct Rung<'b> {
    bell: &'b Bell,
}

impl Future for Rung<'_> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = &self.bell.shared;
        // The waker is laid down before the flag is read: a ring between the two finds it and wakes.
        *lock(&shared.waiting) = Some(context.waker().clone());
        if shared.rung.swap(false, Ordering::SeqCst) {
            lock(&shared.waiting).take();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

struct Slot<T> {
    value: Option<T>,
    waiting: Option<Waker>,
    /// The giving side is gone.
    closed: bool,
}

/// The giving side of [`once`]. Dropped without a value, the taking side gets `None`.
pub struct Give<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// The taking side of [`once`].
pub struct Take<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// Hands one value from any thread to a task.
pub fn once<T>() -> (Give<T>, Take<T>) {
    let slot = Arc::new(Mutex::new(Slot { value: None, waiting: None, closed: false }));
    (Give { slot: slot.clone() }, Take { slot })
}

impl<T> Give<T> {
    /// Gives the value.
    pub fn give(self, value: T) {
        lock(&self.slot).value = Some(value);
    }
}

impl<T> Drop for Give<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.slot);
            slot.closed = true;
            slot.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Take<T> {
    type Output = Option<T>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.slot);
        if slot.closed {
            return Poll::Ready(slot.value.take());
        }
        slot.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

/// No code runs under these locks that can panic half-way, so a poisoned one is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_ring_before_the_wait_counts_once() {
        let bell = Bell::new();
        bell.ring();
        bell.ring();
        assert_eq!(block_on(poll_once(bell.rung())), Some(()));
        assert_eq!(block_on(poll_once(bell.rung())), None);
    }

    #[test]
    fn no_ring_of_another_thread_is_lost() {
        let (bell, count) = (Bell::new(), 20_000);
        let (mut tx, mut rx) = crate::base::ring::ring(8);
        let ringer = bell.clone();
        let producer = std::thread::spawn(move || {
            for value in 0..count {
                while tx.push(value).is_err() {
                    std::thread::yield_now();
                }
                ringer.ring();
            }
        });
        block_on(async {
            let mut next = 0;
            while next < count {
                match rx.pop() {
                    Some(value) => {
                        assert_eq!(value, next);
                        next += 1;
                    }
                    None => bell.rung().await,
                }
            }
        });
        producer.join().unwrap();
    }

    #[test]
    fn a_value_arrives_and_a_dropped_giver_is_noticed() {
        let (give, take) = once();
        let giver = std::thread::spawn(move || give.give(7));
        assert_eq!(block_on(take), Some(7));
        giver.join().unwrap();
        let (give, take) = once::<u32>();
        drop(give);
        assert_eq!(block_on(take), None);
    }
}
