//! Progress: "if a majority of the servers are operational and can communicate with each other" the cluster is available (thesis 2.1,
//! 3.4), and all replicas become equal. Who has no majority may wait: that is no failure (the L1 of Lamport's "safety and liveness" is
//! demanded only where the model grants it). Whatever was asked ends all the same, with an answer or an error.

use crate::sim::host::Host;
use crate::sim::machine::Machine;
use crate::sim::violation::fail;

const PROPERTY: &str = "progress";

/// What may be demanded of nodes that hear each other and nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// There are none.
    Nobody,
    /// They are no majority: they may wait for the others, but must end what clients asked for.
    ToWait,
    /// They are a majority: if they make no progress they are stuck.
    ToProgress,
}

/// What may be demanded of the nodes `part`, as bits, of a cluster in which `quorum` nodes must agree.
pub fn right_of(part: u64, quorum: usize) -> Right {
    match part.count_ones() as usize {
        0 => Right::Nobody,
        some if some < quorum => Right::ToWait,
        _ => Right::ToProgress,
    }
}

/// Whether a node is up and has applied everything in `reference`.
pub fn is_equal(host: &Host, reference: &Machine) -> bool {
    host.is_up && host.machine.applied == reference.applied && host.machine == *reference
}

/// Panics with what every node knows.
pub fn stuck(hosts: &[Host], reference: &Machine, part: impl Iterator<Item = usize>, missing: &str) -> ! {
    let part: Vec<String> = part.map(|node| (node + 1).to_string()).collect();
    let up = hosts.iter().filter(|host| host.is_up);
    let seen: Vec<String> = up.map(|host| format!("\n  {}", host.describe())).collect();
    let (part, applied, seen) = (part.join(" "), reference.applied, seen.concat());
    fail(PROPERTY, format_args!("nodes {part}: {missing}; the history ends at {applied}{seen}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_must_go_on_and_half_may_wait() {
        assert_eq!(right_of(0b000, 2), Right::Nobody);
        assert_eq!(right_of(0b100, 2), Right::ToWait);
        assert_eq!(right_of(0b101, 2), Right::ToProgress);
        assert_eq!(right_of(0b0011, 3), Right::ToWait);
        assert_eq!(right_of(0b1, 1), Right::ToProgress);
    }
}
