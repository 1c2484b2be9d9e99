//! Progress: a cluster whose links and nodes are whole again elects a leader, takes writes from every node, and all replicas become
//! equal (thesis 3.4, 9.6: "if a majority can communicate ... the cluster makes progress"; L1 of the hazards list).

use crate::sim::host::Host;
use crate::sim::machine::Machine;

/// Whether all nodes have applied everything in `reference` and nothing is left to do.
pub fn is_equal(hosts: &[Host], reference: &Machine) -> bool {
    hosts.iter().all(|host| host.is_up && host.machine == *reference)
}

/// Panics with what every node knows.
pub fn fail(hosts: &[Host], reference: &Machine, missing: &str) -> ! {
    let mut seen = String::new();
    for host in hosts.iter().filter(|host| host.is_up) {
        let applied = host.machine.applied;
        seen.push_str(&format!("\n  node {} applied {applied} {:?}", host.id(), host.raft().status()));
    }
    panic!("progress: {missing}; the history ends at {}{seen}", reference.applied)
}
