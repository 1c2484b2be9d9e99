//! Equal states: replicas that have applied up to the same slot have the same state (Schneider 1990: replicas that start equal and take
//! equal commands in equal order stay equal), whether they came there by applying or by a snapshot. A digest over the whole state is
//! compared, not only the history that led to it: a snapshot may name its slot rightly and hold the wrong state.

use crate::base::Slot;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use std::collections::BTreeMap;

const PROPERTY: &str = "equal-state";
/// Slots whose digests are remembered: a node that lags by more is compared through the slots that follow.
const REMEMBERED_MAX: usize = 4096;

/// The state's digest at each slot at which some node has stood.
#[derive(Default)]
pub struct StateDigest {
    seen: BTreeMap<Slot, u64>,
}

impl StateDigest {
    /// A node's state is up to date with the slot that it says it has applied.
    pub fn applied(&mut self, host: &Host) {
        let (slot, digest) = (host.machine.applied, host.machine.digest());
        let first = *self.seen.entry(slot).or_insert(digest);
        hold!(PROPERTY, first == digest, "node {} has another state at slot {slot}", host.id());
        if REMEMBERED_MAX < self.seen.len() {
            self.seen.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::check::testing::{entry, hosts};
    use crate::sim::options::ProtocolName;
    use crate::sim::violation::violates;

    #[test]
    fn two_states_at_a_slot_are_told() {
        let mut hosts = hosts(ProtocolName::Raft, 3);
        for (host, text) in hosts.iter_mut().zip([b"x", b"x", b"y"]) {
            host.machine.apply(&entry(1, 1, text));
        }
        let mut seen = StateDigest::default();
        hosts[..2].iter().for_each(|host| seen.applied(host));
        violates("equal-state", || seen.applied(&hosts[2]));
    }
}
