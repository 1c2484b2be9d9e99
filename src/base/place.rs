//! Where a thread is: which agent works for which group at which slot. A failed assertion tells it before the process ends.

use super::{GroupId, Slot};
use std::cell::Cell;
use std::fmt;

/// What a thread is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The agent's name; empty outside of agents.
    pub agent: &'static str,
    /// The group that was stepped or applied last.
    pub group: GroupId,
    /// The slot that was stepped or applied last.
    pub slot: Slot,
}

thread_local! {
    static HERE: Cell<Place> = const { Cell::new(Place { agent: "", group: GroupId(0), slot: Slot(0) }) };
}

impl Place {
    /// This thread's place.
    pub fn here() -> Place {
        HERE.get()
    }
}
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agent = if self.agent.is_empty() { "none" } else { self.agent };
        write!(f, "agent {agent}, group {}, slot {}", self.group, self.slot)
    }
}

/// The run loop says whose turn it is.
pub fn enter_agent(agent: &'static str) {
    HERE.set(Place { agent, ..HERE.get() });
}

/// An agent says what it is about.
pub fn enter_slot(group: GroupId, slot: Slot) {
    HERE.set(Place { group, slot, ..HERE.get() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_a_place_of_its_own() {
        enter_agent("replica");
        enter_slot(GroupId(1), Slot(7));
        assert_eq!(Place::here().to_string(), "agent replica, group 1, slot 7");
        let other = std::thread::spawn(|| Place::here().to_string()).join().unwrap();
        assert_eq!(other, "agent none, group 0, slot 0");
    }
}
