//! A simulated node: the real shard with a real core, a disk, a state machine, and what lies between them.

use super::disk::{Disk, Snapshot};
use super::machine::Machine;
use super::options::ProtocolName;
use super::ranges::{self, Brought, Gathered};
use crate::base::{Digest, GROUP_ONE, Instant, NodeId, NodeSet, Origin, Slot};
use crate::crypto::sign::modelled_key;
use crate::crypto::{ClusterId, Keyring, PublicKey};
use crate::protocol::Engine;
use crate::protocol::pbft::{self, Pbft};
use crate::protocol::raft::{Options, Raft, Replay, Setup};
use crate::replica::{Shard, reads, route, seat, shard};
use crate::wire::Batch;
use crate::wire::hop::{Certified, Decided, SnapshotId};
use crate::wire::members::{Amendment, Member, Membership, OPERATOR};
use crate::wire::pbft::{Vote, signed_batch};
use crate::wire::sequence::Verdict;
use bytes::Bytes;
use std::collections::VecDeque;

/// What all nodes of a simulated cluster have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Nodes have the ids 1 to `nodes`.
    pub nodes: usize,
    /// What they run.
    pub protocol: ProtocolName,
    /// Of the core, where it is Raft.
    pub raft: Options,
    /// Of the core, where it is PBFT.
    pub pbft: pbft::Options,
    /// Of the shard.
    pub route: route::Options,
    /// Of the shard.
    pub reads: reads::Options,
    /// Of the shard.
    pub guards: seat::Guards,
}

/// One node.
pub struct Host {
    /// Its number, from 0.
    pub index: usize,
    /// Counts its lives.
    pub boot: u64,
    /// It came to a group that was there: in which epoch, above which state.
    joined: Option<(Vote, Membership)>,
    /// Whether it runs.
    pub is_up: bool,
    /// The production type.
    pub shard: Shard<Engine>,
    /// What survives.
    pub disk: Disk,
    /// The store.
    pub machine: Machine,
    /// Decided, not yet applied.
    pub decided: VecDeque<Decided>,
    /// Reads that wait for a slot: the demand's id and the slot.
    reads: Vec<(u64, Slot)>,
    /// A leader's snapshot, as far as it has come.
    staging: Option<(SnapshotId, Vec<u8>)>,
    /// A certified state, as far as it has come.
    gathered: Gathered,
}

/// What applying has brought about for this node's clients.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// An entry has been applied.
    Applied(Slot),
    /// A batch of this node's clients took effect.
    Written {
        /// Which.
        sequence: u64,
        /// Where.
        slot: Slot,
    },
    /// The core wanted the state's digest.
    Digested {
        /// After which slot.
        slot: Slot,
        /// Of the state.
        digest: Digest,
        /// The snapshot that is to be made.
        keep: Option<Snapshot>,
    },
    /// Reads of this node's clients are answered from the present state.
    Read {
        /// Which.
        id: u64,
    },
}

impl Host {
    /// A node that has never run.
    pub fn new(index: usize, common: &Common, now: Instant, seed: u64) -> Host {
        let shard = empty_shard(index, 0, common);
        let (disk, machine) = (Disk::default(), Machine::default());
        let (decided, reads) = (VecDeque::new(), Vec::new());
        let mut host = Host {
            index,
            boot: 0,
            joined: None,
            is_up: false,
            shard,
            disk,
            machine,
            decided,
            reads,
            staging: None,
            gathered: Gathered::default(),
        };
        host.start(common, now, seed);
        host
    }

    /// A node that comes to a group that has these members above that state.
    pub fn newcomer(index: usize, common: &Common, now: Instant, of: (Vote, Membership)) -> Host {
        let mut host = Host::new(index, common, now, 0);
        host.is_up = false;
        host.boot = 0;
        host.joined = Some(of);
        host.start(common, now, 0);
        host
    }

    /// Begins a life with what the disk holds.
    pub fn start(&mut self, common: &Common, now: Instant, seed: u64) {
        assert!(!self.is_up);
        self.boot += 1;
        self.is_up = true;
        self.machine = self.disk.snapshot().map_or_else(Machine::default, |s| Machine::load(&s.bytes));
        let members = members(common.nodes);
        let engine = match common.protocol {
            ProtocolName::Raft => {
                let setup = Setup { me: self.id(), members, options: common.raft.clone(), seed };
                let mut replay = Replay::new(&setup.options);
                let replayed = self.disk.records().into_iter().try_for_each(|record| replay.record(record));
                let raft = replayed.and_then(|()| Raft::recover(setup, now, self.disk.mark(), replay));
                Engine::Raft(Box::new(raft.expect("a simulated disk loses nothing that was acknowledged")))
            }
            ProtocolName::Pbft => {
                let setup = self.pbft_setup(common);
                let mut replay = pbft::Replay::new(&setup.options);
                let replayed = self.disk.records().into_iter().try_for_each(|record| replay.record(record));
                let mark = self.disk.mark();
                let pbft = replayed.and_then(|()| Pbft::recover(setup, now, (mark.slot, mark.stamp), replay));
                let mut pbft = pbft.expect("a simulated disk loses nothing that was acknowledged");
                self.disk.proofs.iter().for_each(|proof| pbft.recall(proof));
                Engine::Pbft(Box::new(pbft))
            }
        };
        self.shard = empty_shard(self.index, self.boot, common);
        self.shard.add(GROUP_ONE, engine);
    }

    fn pbft_setup(&self, common: &Common) -> pbft::Setup {
        let mut setup = pbft_setup(self.id(), self.boot, common);
        if let Some((base, membership)) = &self.joined {
            setup.anchor = pbft::Anchor { epoch: membership.epoch, base: *base };
            setup.keys = setup.keys.renewed(setup.me, setup.members, membership.signing_keys());
            setup.options.faulty_max = Some(membership.faulty.into());
            setup.members = membership.nodes();
        }
        setup.state = self.machine.members.clone();
        setup
    }

    /// Ends a life. Of the records under way `keep` survive.
    pub fn crash(&mut self, keep: usize) {
        assert!(self.is_up);
        self.is_up = false;
        self.disk.crash(keep);
        self.decided.clear();
        self.reads.clear();
        self.staging = None;
        self.gathered = Gathered::default();
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        NodeId(self.index as u8 + 1)
    }
    /// Names its front in this life.
    pub fn origin(&self) -> Origin {
        Origin { node: self.id(), lane: 0, boot: self.boot }
    }
    /// The protocol core.
    pub fn engine(&self) -> &Engine {
        &self.shard.seat(GROUP_ONE).expect("the group is hosted").engine
    }
    /// The protocol core, where it is known to be Raft.
    pub fn raft(&self) -> &Raft {
        match self.engine() {
            Engine::Raft(raft) => raft,
            Engine::Pbft(_) => panic!("the caller knows that it is Raft"),
        }
    }
    /// The protocol core, where it is PBFT.
    pub fn pbft(&self) -> Option<&Pbft> {
        match self.engine() {
            Engine::Raft(_) => None,
            Engine::Pbft(pbft) => Some(pbft),
        }
    }
    /// Where it stands, for people.
    pub fn describe(&self) -> String {
        let (id, applied) = (self.id(), self.machine.applied);
        match self.engine() {
            Engine::Raft(raft) => format!("node {id} applied {applied} {:?}", raft.status()),
            Engine::Pbft(pbft) => format!(
                "node {id} applied {applied} {:?} active {} epoch {} stable {} held {:?} {:?}",
                pbft.standing(),
                pbft.is_active(),
                pbft.epoch(),
                pbft.stable().slot,
                pbft.held(),
                pbft.followers()
            ),
        }
    }

    /// Applies at most `count` of what is decided.
    pub fn apply(&mut self, count: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..count {
            match self.decided.pop_front() {
                // A leader's snapshot may have brought it already.
                Some(Decided::Commit { entry, .. }) if self.machine.applied < entry.slot => {
                    let verdict = self.machine.apply(&entry);
                    effects.push(Effect::Applied(entry.slot));
                    if verdict == Some(Verdict::Applied) && entry.origin == self.origin() {
                        effects.push(Effect::Written { sequence: entry.sequence, slot: entry.slot });
                    }
                }
                Some(Decided::Read { id, slot, .. }) => self.reads.push((id, slot)),
                Some(Decided::Digest { slot, keep, .. }) if slot == self.machine.applied => {
                    let (id, bytes) = (self.machine.id(GROUP_ONE), self.machine.save());
                    let digest = ranges::digest(&bytes);
                    effects.push(Effect::Digested {
                        slot,
                        digest,
                        keep: keep.then_some(Snapshot { id, bytes }),
                    });
                }
                // A state that came whole has gone past it.
                Some(Decided::Digest { .. }) => (),
                Some(Decided::Commit { .. } | Decided::Ask { .. } | Decided::Again { .. }) | None => (),
            }
            let applied = self.machine.applied;
            let ready = self.reads.extract_if(.., |(_, slot)| *slot <= applied);
            effects.extend(ready.map(|(id, _)| Effect::Read { id }));
        }
        effects
    }

    /// A piece of a leader's snapshot: gives back the snapshot when it is whole.
    pub fn stage(&mut self, id: SnapshotId, offset: u64, total: u64, body: &[u8]) -> Option<Snapshot> {
        if offset == 0 {
            self.staging = Some((id, Vec::new()));
        }
        let (staged, bytes) = self.staging.as_mut().expect("the first piece came first");
        assert_eq!((*staged, bytes.len() as u64), (id, offset), "pieces join");
        bytes.extend_from_slice(body);
        (bytes.len() as u64 == total).then(|| Snapshot { id, bytes: std::mem::take(bytes).into() })
    }

    /// A piece of a certified state.
    pub fn gather(&mut self, id: SnapshotId, piece: (u64, u64, &[u8]), certified: &Certified) -> Brought {
        let own = self.disk.snapshot().map_or_else(Bytes::new, |snapshot| snapshot.bytes.clone());
        self.gathered.take(id, piece, certified, &own)
    }

    /// A leader's snapshot is durable: it becomes the state if it is newer.
    pub fn install(&mut self, snapshot: &Snapshot) {
        self.disk.keep_snapshot(snapshot.clone());
        if self.machine.applied < snapshot.id.slot {
            self.machine = Machine::load(&snapshot.bytes);
        }
    }
}

/// The signing keys of a simulated node.
pub fn keys(node: NodeId, nodes: usize) -> Keyring {
    Keyring::modelled(node, members(nodes)).with_modelled(OPERATOR)
}

/// An operator's batch by which these are to be the members; of two, the one with the higher number is the later.
pub fn amendment(options: &pbft::Options, membership: Membership, number: u64) -> Batch {
    let (cluster, window, checkpoint_every) =
        (ClusterId::default(), options.window, options.checkpoint_every);
    let mut batch = Amendment { cluster, window, checkpoint_every, membership }.batch(number);
    batch.signature = keys(OPERATOR, 0).sign(&signed_batch(GROUP_ONE, &batch));
    batch
}

/// A simulated member with its key of that number.
pub fn member(id: NodeId, generation: u8) -> Member {
    let signing_key = modelled_key(id, generation);
    let (peer, client, admin) = Default::default();
    Member { id, key: PublicKey([id.0; 32]), signing_key, peer, client, admin }
}

/// What a simulated PBFT replica is made of.
pub fn pbft_setup(me: NodeId, boot: u64, common: &Common) -> pbft::Setup {
    let members = members(common.nodes);
    pbft::Setup {
        cluster: ClusterId::default(),
        group: GROUP_ONE,
        me,
        members,
        anchor: pbft::Anchor::default(),
        state: Default::default(),
        boot,
        options: common.pbft.clone(),
        keys: keys(me, common.nodes),
    }
}

/// Ids 1 to `nodes`.
pub fn members(nodes: usize) -> NodeSet {
    (1..=nodes as u8).map(NodeId).collect()
}

fn empty_shard(index: usize, boot: u64, common: &Common) -> Shard<Engine> {
    Shard::new(shard::Options {
        me: NodeId(index as u8 + 1),
        members: members(common.nodes),
        lane: 0,
        boot,
        route: common.route,
        reads: common.reads,
        guards: common.guards,
    })
}
