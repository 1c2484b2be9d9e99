//! Partitions: each node in a network namespace of its own, and packets dropped between them, under verified load. Clients reach
//! every node all the while, so those of a node that is cut off ask it what it must not answer.

use super::harness::Cluster;
use super::load::Load;
use super::root::Network;
use std::time::Duration;

/// Writes after a fault that show that it is overcome.
const ENOUGH: usize = 200;
/// How fast a network flaps: about as long as an election takes, so that it is often cut in the middle of one.
const FLAP: Duration = Duration::from_millis(150);

#[test]
fn partitions_of_the_leader_and_of_a_minority() {
    let Some(network) = Network::make(5) else { return };
    let cluster = Cluster::start_apart("parted", 5, &network);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    type Cut = fn(&Network, &Cluster, usize);
    let faults: [(&str, Cut); 5] = [
        ("the leader alone, cut off from four", |network, cluster, leader| {
            network.part(&[leader], &cluster.others(leader));
        }),
        ("the leader and a follower, cut off from three", |network, cluster, leader| {
            let others = cluster.others(leader);
            network.part(&[leader, others[0]], &others[1..]);
        }),
        ("two followers, cut off from three", |network, cluster, leader| {
            let others = cluster.others(leader);
            network.part(&others[..2], &[leader, others[2], others[3]]);
        }),
        ("one way: the leader hears nobody", |network, cluster, leader| {
            cluster.others(leader).iter().for_each(|other| network.drop_packets(*other, leader));
        }),
        ("one way: nobody hears the leader", |network, cluster, leader| {
            cluster.others(leader).iter().for_each(|other| network.drop_packets(leader, *other));
        }),
    ];
    for (name, cut) in faults {
        let leader = cluster.await_leader();
        let fault = load.fault(&format!("partition: {name}"));
        cut(&network, &cluster, leader);
        fault.recovered(ENOUGH);
        network.mend();
        cluster.await_all();
    }
    load.finish(&cluster);
}

#[test]
fn a_flapping_partition() {
    let Some(network) = Network::make(5) else { return };
    let cluster = Cluster::start_apart("flapping", 5, &network);
    let load = Load::start(&cluster);
    load.await_more(ENOUGH);
    let leader = cluster.await_leader();
    let mut fault = load.fault("partition: the leader cut off and back, ten times within 3 s; mended");
    for _ in 0..10 {
        network.part(&[leader], &cluster.others(leader));
        std::thread::sleep(FLAP);
        network.mend();
        std::thread::sleep(FLAP);
    }
    fault.majority_is_back();
    fault.recovered(ENOUGH);
    cluster.await_all();
    load.finish(&cluster);
}
