//! Durability: "a log entry is committed once the leader that created the entry has replicated it on a majority of the servers"
//! (thesis 3.5), and copies are counted when they are on stable storage (3.8, 10.2.1). So when anyone first says that an entry is
//! committed, a majority would still have it if the power failed now.

use crate::base::{Slot, Term};
use crate::sim::host::Host;
use crate::sim::violation::hold;

const PROPERTY: &str = "durability";

/// Panics if fewer than a majority of disks hold the entry.
pub fn check(hosts: &[Host], slot: Slot, term: Term) {
    let holding = hosts.iter().filter(|host| host.disk.holds(slot, term)).count();
    hold!(
        PROPERTY,
        hosts.len() / 2 < holding,
        "slot {slot} of term {term} is committed and on {holding} of {} disks",
        hosts.len()
    );
}
