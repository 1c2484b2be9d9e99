//! State Machine Safety: "if a server has applied a log entry at a given index to its state machine, no other server will ever apply
//! a different log entry for the same index" (thesis, figure 3.2). And equal entries make equal states, snapshots included.

use crate::base::Slot;
use crate::sim::host::Host;
use crate::sim::machine::{Machine, digest};
use crate::sim::violation::hold;
use crate::wire::Entry;
use crate::wire::sequence::Verdict;

const PROPERTY: &str = "state-machine-safety";

/// The one history, and a machine that has applied it without ever crashing.
#[derive(Default)]
pub struct StateMachineSafety {
    /// By slot, from 1: the entry's digest and the chain after it.
    history: Vec<(u64, u64)>,
    reference: Machine,
}

impl StateMachineSafety {
    /// A node says that `entry` is committed. `Some` if it is the first to say so.
    pub fn committed(&mut self, entry: &Entry) -> Option<Option<Verdict>> {
        let place = entry.slot.prev().0 as usize;
        hold!(PROPERTY, place <= self.history.len(), "slot {} commits before its predecessor", entry.slot);
        if let Some((known, _)) = self.history.get(place) {
            hold!(PROPERTY, *known == digest(entry), "two histories at slot {}", entry.slot);
            return None;
        }
        let verdict = self.reference.apply(entry);
        self.history.push((digest(entry), self.reference.chain));
        Some(verdict)
    }

    /// A node has applied up to `slot`: its state is the history's.
    pub fn applied(&self, host: &Host, slot: Slot) {
        let Some(place) = slot.0.checked_sub(1) else { return };
        let (_, chain) = self.history[place as usize];
        hold!(PROPERTY, host.machine.chain == chain, "node {} has another history at slot {slot}", host.id());
    }

    /// The machine that never crashed.
    pub fn reference(&self) -> &Machine {
        &self.reference
    }
}
