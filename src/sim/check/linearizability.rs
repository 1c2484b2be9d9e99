//! Linearizability (Herlihy and Wing 1990; thesis 6.3, 6.4): each operation takes effect at some instant between its invocation and
//! its response. All state comes from one history and every answer names its slot, so it is enough to compare slots: whatever
//! begins after an answer that showed slot s sees s, and writes above it.

use crate::base::Slot;
use crate::sim::violation::hold;

const PROPERTY: &str = "linearizability";

/// Real time, as the highest slot that any client has been shown.
#[derive(Default)]
pub struct Linearizability {
    shown: Slot,
    /// How many reads were answered.
    pub reads: u64,
}

impl Linearizability {
    /// What an operation that begins now must see.
    pub fn invoked(&self) -> Slot {
        self.shown
    }
    /// A write took effect at `slot` and is answered now.
    pub fn wrote(&mut self, invoked: Slot, slot: Slot) {
        hold!(PROPERTY, invoked < slot, "a write at slot {slot} began after {invoked} was shown");
        self.shown = self.shown.max(slot);
    }
    /// A read is answered now from the state at `slot`.
    pub fn read(&mut self, invoked: Slot, slot: Slot) {
        hold!(PROPERTY, invoked <= slot, "a read of slot {slot} began after {invoked} was shown");
        self.shown = self.shown.max(slot);
        self.reads += 1;
    }
}
