//! Bounded memory: "put a limit on everything" (TigerBeetle, TIGER_STYLE; hazards L2). Whatever a peer, a client or a slow disk does, no
//! queue of a node grows beyond what its options allow.

use crate::base::{GROUP_ONE, Slot};
use crate::protocol::raft::Raft;
use crate::replica::gate::HELD_MAX;
use crate::sim::host::{Common, Host};
use crate::sim::violation::hold;

const PROPERTY: &str = "bounded-queues";

/// Looks at the queues of a node.
pub fn check(host: &Host, core: &Raft, common: &Common) {
    let id = host.id();
    let seat = host.shard.seat(GROUP_ONE).expect("the group is hosted");
    let (batches, reads) = seat.waiting();
    let Common { raft: options, route, nodes, .. } = common;
    hold!(PROPERTY, batches <= route.batches_max, "node {id}: {batches} batches are outstanding");
    hold!(PROPERTY, reads <= common.reads.demands_max, "node {id}: {reads} reads wait");

    let held = host.shard.held();
    // What answers no entries (votes, probes) is not counted against the gate's limit; it comes by ones, and may come twice.
    let held_max = HELD_MAX + 4 * nodes * options.window_appends_max;
    hold!(PROPERTY, held <= held_max, "node {id}: {held} messages wait for a write, at most {held_max}");

    // By what the core knows: the store may have applied more than the core has been told of.
    let above = |slot: Slot| (core.last().0 - slot.0) as usize;
    let unsettled = above(core.durable().min(core.applied())).max(options.cache_entries_max);
    let undurable = above(core.durable()).max(options.unapplied_entries_max);
    let (cached, cached_max) = (core.tail().len(), unsettled.min(undurable));
    hold!(PROPERTY, cached <= cached_max, "node {id}: {cached} entries in memory, at most {cached_max}");
    for inflight in core.inflight() {
        let most = options.window_appends_max;
        hold!(
            PROPERTY,
            inflight <= most,
            "leader {id}: {inflight} appends on their way to one follower, at most {most}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::check::testing::{Leader, common, hosts};
    use crate::sim::options::ProtocolName;
    use crate::sim::violation::violates;

    #[test]
    fn a_core_that_keeps_more_than_its_limit_is_told() {
        let mut leader = Leader::new();
        (0..4).for_each(|_| leader.append());
        leader.write();
        assert_eq!((leader.core.durable(), leader.core.applied()), (leader.core.last(), leader.core.last()));
        assert_eq!(leader.core.tail().len(), 5);
        let host = hosts(ProtocolName::Raft, 1).remove(0);
        let mut common = common(ProtocolName::Raft, 1);
        common.raft.cache_entries_max = 5;
        check(&host, &leader.core, &common);
        common.raft.cache_entries_max = 4;
        violates("bounded-queues", || check(&host, &leader.core, &common));
    }
}
