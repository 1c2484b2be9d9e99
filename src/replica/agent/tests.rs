//! The replica between rings that are full.

use super::*;
use crate::base::ring::ring;
use crate::base::{JobId, NodeSet};
use crate::io::memory::{Disk, MemoryDriver};
use crate::protocol::Engine;
use crate::protocol::raft::{self, Raft, Setup};
use crate::replica::{reads, route, seat, shard};
use crate::wire::members::Membership;
use crate::wire::pbft::Vote;

struct Silent;
impl Doorbell for Silent {
    fn ring(&self) {}
}

fn shard() -> Shard<Engine> {
    let members: NodeSet = (1..=3).map(NodeId).collect();
    let options = shard::Options {
        me: NodeId(1),
        members,
        lane: 0,
        boot: 1,
        route: route::Options::default(),
        reads: reads::Options::default(),
        guards: seat::Guards::default(),
    };
    let setup = Setup { me: NodeId(1), members, options: raft::Options::default(), seed: 1 };
    let mut shard = Shard::new(options);
    shard.add(GROUP_ONE, Engine::Raft(Box::new(Raft::new(setup, Instant::ZERO))));
    shard
}

/// The keeper waits until this replica has taken its answers, this replica has more errands than the keeper's ring holds: one of them
/// must listen, and it is this one.
#[test]
fn the_keepers_answers_are_taken_although_its_errands_wait() {
    let (mut answer, kept) = ring(4);
    let (keeps, _errands) = ring(4);
    let (_question, questions) = crossbeam::channel::bounded(1);
    let membership = Membership { epoch: 0, faulty: 0, retired: NodeSet::default(), members: Vec::new() };
    let ports = Ports {
        opened: ring(4).1,
        demands: ring(4).1,
        fetched: ring(4).1,
        digested: ring(4).1,
        kept,
        questions,
        outgoing: ring(4).0,
        records: ring(4).0,
        fetches: ring(4).0,
        decided: ring(4).0,
        keeps,
        keeper: Arc::new(Silent),
        answers: ring(4).0,
        roster: Roster::new(Roll::new(membership, Vote::default(), 1, 1)),
    };
    let number = Number::default;
    let heard = Heard {
        durable: number(),
        room: number(),
        applied: number(),
        memory: number(),
        due: number(),
        settled: number(),
        lost: Vec::new(),
        drain: number(),
    };
    heard.room.set(u64::MAX);
    let mut agent = ReplicaAgent::new(shard(), ports, heard, Told::default());
    let mut driver = MemoryDriver::new(Disk::shared());
    let errand = |job| Keep::Fetch { job: JobId(job), group: GROUP_ONE, slot: None, offset: 0, bytes: 1 };
    agent.keeps_waiting.extend((1..=2 * KEEPS_WAITING_MAX as u64).map(errand));
    let gone = |job| Kept::Fetched { job: JobId(job), group: GROUP_ONE, piece: None };
    for job in 1..=40 {
        assert!(answer.push(gone(job)).is_ok(), "the keeper is kept waiting with answer {job}");
        agent.work(&mut driver);
    }
    assert!(KEEPS_WAITING_MAX < agent.keeps_waiting.len(), "no errand was lost");
}
