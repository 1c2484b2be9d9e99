//! How far a snapshot has come that goes over in pieces: at the leader, and at the follower that takes it in.

use super::tail::Mark;
use crate::base::{Instant, Slot};

/// A snapshot on its way to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipping {
    /// Which one; the first piece tells.
    pub(super) slot: Option<Slot>,
    /// Its size in bytes.
    pub(super) total: u64,
    /// The next byte to fetch. At most `total`, once that is known.
    pub(super) sent: u64,
    /// The follower has everything below.
    pub(super) acknowledged: u64,
    /// A gap was reported here and answered: further reports of it are echoes.
    pub(super) rewound: Option<u64>,
    /// When something was last acknowledged or begun anew.
    pub(super) moved: Instant,
}

impl Shipping {
    /// Nothing has been sent.
    pub fn new(now: Instant) -> Shipping {
        Shipping { slot: None, total: 0, sent: 0, acknowledged: 0, rewound: None, moved: now }
    }
    /// How far it has come, in three numbers that are no mode's but this one's.
    pub fn outline(&self) -> (u64, u64, u64) {
        (2 + self.slot.map_or(0, |slot| slot.0), self.sent, self.acknowledged)
    }
    /// What was sent and not acknowledged is sent again. When all is acknowledged the last byte is, as a question: a follower that
    /// is still installing has it already, one that has lost all says so.
    pub fn rewind(&mut self) {
        self.sent = self.acknowledged.min(self.total.saturating_sub(1));
    }
    /// Whether what a follower holds durably, up to `slot`, is all that is on its way to it.
    pub fn is_over(&self, slot: Slot) -> bool {
        self.slot.is_some_and(|shipped| shipped <= slot)
    }
    /// Whether the window has room for another piece.
    pub fn has_room(&self, window: u64) -> bool {
        self.slot.is_none() || (self.sent < self.total && self.under_way() < window)
    }
    /// Bytes that were sent and not acknowledged: they are memory until they have left.
    pub fn under_way(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged)
    }
    /// The follower wants to go on at `next`.
    pub fn wants(&mut self, next: u64, now: Instant) {
        match next {
            // Nothing new, or an echo of a gap that was answered.
            next if next == self.acknowledged && (self.sent <= next || self.rewound == Some(next)) => (),
            // What was sent meanwhile fell into a gap.
            next if next == self.acknowledged => {
                self.rewound = Some(next);
                self.sent = next;
            }
            // It goes on, from further than was sent if it had pieces from before, or begins anew.
            next if next <= self.total => {
                let has_begun_anew = next < self.acknowledged;
                self.sent = if has_begun_anew { next } else { self.sent.max(next) };
                self.acknowledged = next;
                self.rewound = None;
                self.moved = now;
            }
            _ => (),
        }
    }
}

/// A leader's snapshot on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staging {
    pub(super) mark: Mark,
    pub(super) total: u64,
    /// Everything below has been handed over. Invariant: at most `total`.
    pub(super) next: u64,
}

impl Staging {
    /// Of which snapshot how much is here.
    pub fn outline(&self) -> (Slot, u64) {
        (self.mark.slot, self.next)
    }
}
