//! What the tests of checkers share: nodes to which nothing has happened, and cores in a state that a checker is to judge.

use crate::base::{Body, GROUP_ONE, Instant, NodeId, Origin, Slot, Term};
use crate::protocol::raft::{Options, Raft, Replay, Setup};
use crate::protocol::{Input, Outbox, Protocol, pbft};
use crate::replica::{reads, route, seat};
use crate::sim::host::{Common, Host, members};
use crate::sim::options::ProtocolName;
use crate::wire::{Batch, Entry, EntryKind, Record};
use bytes::Bytes;

/// So many nodes that have just been made.
pub fn hosts(protocol: ProtocolName, nodes: usize) -> Vec<Host> {
    (0..nodes).map(|index| Host::new(index, &common(protocol, nodes), Instant::ZERO, 1)).collect()
}

/// What they have in common.
pub fn common(protocol: ProtocolName, nodes: usize) -> Common {
    Common {
        nodes,
        protocol,
        raft: Options::default(),
        pbft: pbft::Options::default(),
        route: route::Options::default(),
        reads: reads::Options::default(),
        guards: seat::Guards::default(),
    }
}

/// A batch as it stands in the log: the first of the clients of node 1.
pub fn entry(term: u64, slot: u64, text: &'static [u8]) -> Entry {
    let origin = Origin { node: NodeId(1), lane: 0, boot: 1 };
    let (term, slot, body) = (Term(term), Slot(slot), Body::new(Bytes::from_static(text)));
    Entry { term, slot, kind: EntryKind::Batch, origin, sequence: 1, floor: 1, body, ..Entry::default() }
}

/// A replica of a group of one after these records.
pub fn recovered(records: impl IntoIterator<Item = Record>) -> Raft {
    let setup = Setup { me: NodeId(1), members: members(1), options: Options::default(), seed: 1 };
    let mut replay = Replay::new(&setup.options);
    records.into_iter().for_each(|record| replay.record(record).expect("they fit together"));
    Raft::recover(setup, Instant::ZERO, Default::default(), replay).expect("they fit together")
}

/// A replica whose log holds an entry of each of these terms.
pub fn with_log(terms: &[u64]) -> Raft {
    let entries = (1..).zip(terms).map(|(slot, term)| entry(*term, slot, b"x"));
    recovered(entries.map(|entry| Record::Entry { group: GROUP_ONE, entry }))
}

/// A replica that leads a group of one.
pub struct Leader {
    /// Its core.
    pub core: Raft,
    out: Outbox,
}

impl Leader {
    /// Of term 1, whose first entry is its only one.
    pub fn new() -> Leader {
        let mut leader = Leader { core: recovered([]), out: Outbox::default() };
        leader.out.enter(GROUP_ONE);
        leader.step(Input::Timeout);
        leader.write();
        assert!(leader.core.is_leader() && leader.core.last() == Slot(1));
        leader
    }
    /// Appends a batch.
    pub fn append(&mut self) {
        self.step(Input::Propose { batch: Batch::default(), clock: Default::default() });
    }
    /// What it has appended is durable and applied.
    pub fn write(&mut self) {
        self.step(Input::Durable { ticket: self.out.last_ticket() });
        self.step(Input::Durable { ticket: self.out.last_ticket() });
        self.step(Input::Applied { slot: self.core.commit() });
    }
    fn step(&mut self, input: Input<crate::wire::raft::Message>) {
        let now = Instant::ZERO.after(std::time::Duration::from_secs(10));
        self.core.step(now, input, &mut self.out);
        self.core.settle(now, &mut self.out);
    }
}
