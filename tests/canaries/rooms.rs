//! Directed tests of single rooms, for bugs that no run of cores shows: each panics when the room does what its rules forbid.

use bytes::Bytes;
use quorate::base::{Body, GROUP_ONE, Instant, NodeId, Origin, Slot, Stamp, Term};
use quorate::crypto::DirectionKeys;
use quorate::protocol::raft::{Options, Raft, Setup};
use quorate::protocol::{Input, Outbox, Protocol};
use quorate::resp::{Op, batch};
use quorate::store::gather::{Gathering, Took};
use quorate::store::ranges::Indexing;
use quorate::store::{self, Store};
use quorate::wire::frame::Lane;
use quorate::wire::hop::SnapshotId;
use quorate::wire::opener::Opener;
use quorate::wire::raft::Message;
use quorate::wire::sealer::Sealer;
use quorate::wire::{Entry, EntryKind};

/// A leader of a later term that lacks a committed entry lies, or a quorum was broken: the entry stays whatever it says.
pub fn committed_entries_stay() {
    let members = (1..=3).map(NodeId).collect();
    let setup = Setup { me: NodeId(1), members, options: Options::default(), seed: 1 };
    let mut raft = Raft::new(setup, Instant::ZERO);
    let mut out = Outbox::default();
    let mut hear = |from: u8, term, prev_slot, commit, slots: &[u64]| {
        let entry = |slot: &u64| Entry { term: Term(term), slot: Slot(*slot), ..Entry::default() };
        let message = Message::Append {
            term: Term(term),
            prev_slot: Slot(prev_slot),
            prev_term: Term(u64::from(0 < prev_slot)),
            commit: Slot(commit),
            entries: slots.iter().map(entry).collect(),
            round: 0,
        };
        raft.step(Instant::ZERO, Input::Receive { from: NodeId(from), message }, &mut out);
        raft.settle(Instant::ZERO, &mut out);
        raft.check();
        raft.tail().term_at(Slot(2))
    };
    assert_eq!(hear(2, 1, 0, 2, &[1, 2, 3]), Some(Term(1)));
    assert_eq!(hear(3, 2, 1, 2, &[2]), Some(Term(1)), "a committed entry was replaced");
}

/// A heartbeat of a new leader comes ahead of its first append: nobody knows yet what of the old leader's entries it has.
pub fn a_heartbeat_vouches_for_nothing() {
    let members = (1..=3).map(NodeId).collect();
    let setup = Setup { me: NodeId(1), members, options: Options::default(), seed: 1 };
    let mut raft = Raft::new(setup, Instant::ZERO);
    let mut out = Outbox::default();
    let mut hear = |from: u8, message: Message| {
        raft.step(Instant::ZERO, Input::Receive { from: NodeId(from), message }, &mut out);
        raft.settle(Instant::ZERO, &mut out);
        raft.check();
        raft.commit()
    };
    let entries = (1..=3).map(|slot| Entry { term: Term(1), slot: Slot(slot), ..Entry::default() }).collect();
    let (prev_slot, prev_term) = (Slot::ZERO, Term::ZERO);
    hear(2, Message::Append { term: Term(1), prev_slot, prev_term, commit: Slot(1), entries, round: 0 });
    let commit = hear(3, Message::Heartbeat { term: Term(2), commit: Slot(3), round: 0 });
    assert_eq!(commit, Slot(1), "committed what the new leader may not have");
}

/// A recorder between two nodes plays a frame again.
pub fn a_frame_opens_once() {
    let keys = || DirectionKeys::derive(&[7; 32], false);
    let (mut sealer, mut opener) = (Sealer::new(NodeId(3), keys()), Opener::new(NodeId(3), keys()));
    sealer.push(Lane::Urgent, GROUP_ONE, &Message::TimeoutNow { term: Term(4) }.into()).unwrap();
    let frame = Bytes::from(sealer.seal(Lane::Urgent).parts.concat());
    let mut out = Vec::new();
    opener.open(frame.clone(), &mut out).unwrap();
    assert!(opener.open(frame, &mut out).is_err(), "a frame was let in twice");
}

/// A store and the log that it was made from.
struct Shelf {
    store: Store,
    log: Vec<Entry>,
}

impl Shelf {
    fn new(bucket_bits: u32) -> Shelf {
        let options = store::Options { group: GROUP_ONE, key: store::HashKey([7; 16]), bucket_bits };
        Shelf { store: Store::new(options), log: Vec::new() }
    }
    /// Applies a command as a batch of its own.
    fn call(&mut self, op: Op, words: &[&[u8]]) {
        let mut body = Vec::new();
        batch::write(&mut body, op, 0, words.iter().copied());
        let slot = self.store.applied().next();
        let entry = Entry {
            term: Term(1),
            slot,
            stamp: Stamp(1),
            kind: EntryKind::Batch,
            origin: Origin { node: NodeId(1), lane: 0, boot: 1 },
            sequence: slot.0,
            floor: 1,
            body: Body::new(body.into()),
        };
        self.apply(entry);
    }
    fn apply(&mut self, entry: Entry) {
        self.store.apply(&entry, None);
        self.log.push(entry);
    }
    /// The rest of a snapshot that has begun.
    fn snapshot(&mut self) -> Vec<u8> {
        while !self.store.snapshot_step(usize::MAX) {}
        let mut bytes = Vec::new();
        while let Some(chunk) = self.store.snapshot_chunk() {
            bytes.extend_from_slice(&chunk);
        }
        self.store.end_snapshot();
        bytes
    }
    /// Loads a snapshot; whether it became the state.
    fn load(&mut self, id: SnapshotId, bytes: &[u8]) -> bool {
        let mut loading = self.store.loading(id);
        loading.feed(bytes).unwrap();
        self.store.replace(loading).unwrap()
    }
}

/// A leader's snapshot may be whole only after the log has brought more.
pub fn an_older_snapshot_changes_nothing() {
    let mut shelf = Shelf::new(4);
    shelf.call(Op::Incr, &[b"n"]);
    let id = shelf.store.begin_snapshot();
    let bytes = shelf.snapshot();
    shelf.call(Op::Incr, &[b"n"]);
    let digest = shelf.store.digest();
    assert!(!shelf.load(id, &bytes));
    assert_eq!((shelf.store.applied(), shelf.store.digest()), (Slot(2), digest), "the state went back");
}

/// A batch whose origin saw no answer comes again, to a replica that began with a snapshot.
pub fn a_repeated_batch_has_no_effect_after_a_snapshot() {
    let (mut old, mut new) = (Shelf::new(4), Shelf::new(4));
    old.call(Op::Incr, &[b"n"]);
    let id = old.store.begin_snapshot();
    let bytes = old.snapshot();
    assert!(new.load(id, &bytes));
    let again = Entry { slot: Slot(2), ..old.log[0].clone() };
    old.apply(again.clone());
    new.apply(again);
    assert_eq!(old.store.digest(), new.store.digest(), "a batch took effect twice");
}

/// A native client whose answer was lost asks again, a replica that has its state from others among them.
pub fn the_last_replies_outlive_a_snapshot() {
    let (mut old, mut new) = (Shelf::new(4), Shelf::new(4));
    old.call(Op::Incr, &[b"n"]);
    let origin = Origin { node: NodeId(64), lane: 0, boot: 1 };
    for sequence in 1..=3 {
        let slot = old.store.applied().next();
        let batch = Entry { slot, origin, sequence, floor: 1, ..old.log[0].clone() };
        old.apply(batch);
    }
    let id = old.store.begin_snapshot();
    let bytes = old.snapshot();
    assert!(new.load(id, &bytes));
    for sequence in 1..=3 {
        let kept = new.store.sessions().reply(origin, sequence).cloned();
        let replies = kept.and_then(|kept| kept.replies).map(|replies| replies.to_vec());
        assert_eq!(replies, Some(format!(":{}\r\n", sequence + 1).into_bytes()), "nobody knows the reply");
    }
    assert_eq!(old.store.digest(), new.store.digest());
    let more = Entry { slot: id.slot.next(), origin, sequence: 4, floor: 1, ..old.log[0].clone() };
    old.apply(more.clone());
    assert_ne!(old.store.digest(), new.store.digest());
    new.apply(more);
    assert_eq!(old.store.digest(), new.store.digest(), "whether somebody waits for a reply or not");
}

/// Writes go on beside a snapshot; whoever loads it applies them from the log.
pub fn a_snapshot_holds_its_slot_and_nothing_above() {
    let (mut old, mut new) = (Shelf::new(4), Shelf::new(4));
    let keys: Vec<Vec<u8>> = (0..100).map(|n| format!("key{n}").into_bytes()).collect();
    keys.iter().for_each(|key| old.call(Op::Incr, &[key]));
    let id = old.store.begin_snapshot();
    keys.iter().for_each(|key| old.call(Op::Incr, &[key]));
    let bytes = old.snapshot();
    assert!(new.load(id, &bytes));
    for entry in &old.log[id.slot.0 as usize..] {
        new.apply(entry.clone());
    }
    assert_eq!(old.store.digest(), new.store.digest(), "an entry took effect twice");
}

/// Entries are applied while the digest of a checkpoint is made.
pub fn a_digest_is_of_its_slot_and_nothing_above() {
    let (mut busy, mut quiet) = (Shelf::new(4), Shelf::new(4));
    let keys: Vec<Vec<u8>> = (0..100).map(|n| format!("key{n}").into_bytes()).collect();
    keys.iter().for_each(|key| {
        busy.call(Op::Incr, &[key]);
        quiet.call(Op::Incr, &[key]);
    });
    busy.store.begin_digest();
    assert_eq!(busy.store.digest_step(1), None, "made in steps");
    keys.iter().for_each(|key| busy.call(Op::Incr, &[key]));
    let (slot, digest) = busy.store.digest_step(usize::MAX).unwrap();
    assert_eq!(slot, quiet.store.applied());
    assert_eq!(digest, quiet.store.digest(), "a digest of another state");
}

/// A source offers a state that is whole in itself, and not the one that a quorum has signed.
pub fn a_state_that_nobody_certified_is_not_taken_in() {
    let (mut shelf, mut other) = (Shelf::new(4), Shelf::new(4));
    shelf.call(Op::Incr, &[b"n"]);
    other.call(Op::Incr, &[b"m"]);
    let id = shelf.store.begin_snapshot();
    let certified = shelf.store.digest();
    assert_eq!(other.store.begin_snapshot(), id);
    let options = store::Options { group: GROUP_ONE, key: store::HashKey([7; 16]), bucket_bits: 4 };
    let offer = |bytes: &[u8]| {
        let mut indexing = Indexing::begin();
        indexing.feed(bytes).unwrap();
        let outline = Bytes::from(indexing.finish().unwrap().outline().encode());
        Gathering::new(id, certified, options).take(0, outline.len() as u64, &outline, &Body::EMPTY)
    };
    assert!(matches!(offer(&shelf.snapshot()), Took::Outlined(_)));
    let took = offer(&other.snapshot());
    assert!(matches!(took, Took::Poisoned(_)), "a liar's state is taken in: {took:?}");
}

/// Two replicas may come to one state by different ways: one through a snapshot, say.
pub fn equal_states_have_equal_digests() {
    let (mut up, mut down) = (Shelf::new(1), Shelf::new(1));
    let keys: Vec<Vec<u8>> = (0..200).map(|n| format!("key{n}").into_bytes()).collect();
    keys.iter().for_each(|key| up.call(Op::Incr, &[key]));
    keys.iter().rev().for_each(|key| down.call(Op::Incr, &[key]));
    assert_eq!(up.store.digest(), down.store.digest(), "equal states, different digests");
}

/// One that has left, one that is slow and a liar may say of an epoch that is over what a quorum of the next has acknowledged since. What
/// makes it a stale read is that the words of two epochs are counted together.
pub fn a_client_counts_replies_of_one_epoch_only() {
    use quorate::client::{Auth, Core, Settings};
    use quorate::crypto::{PublicKey, SigningKey};
    use quorate::protocol::pbft::Lineage;
    use quorate::wire::forward::{Message, Reply};
    use quorate::wire::hop::Demand;
    use quorate::wire::members::{Member, Membership};
    let (me, within) = (NodeId(64), std::time::Duration::from_secs(1));
    let (fast_reads, auth, retry_after) = (true, Auth::Sign, within);
    let settings =
        Settings { group: GROUP_ONE, me, boot: 1, fast_reads, auth, retry_after, answer_within: within };
    let key = |id: u8| SigningKey::from_entropy([id; 32]);
    let address = String::new;
    let member = |id: u8| {
        let (key, signing_key) = (PublicKey([id; 32]), key(id).public());
        Member { id: NodeId(id), key, signing_key, peer: address(), client: address(), admin: address() }
    };
    let members = (1..=4).map(member).collect();
    let first = Membership { epoch: 0, faulty: 1, retired: Default::default(), members };
    let mut core = Core::new(settings, Lineage::new(GROUP_ONE, first), key(64));
    let mut commands = Vec::new();
    batch::write(&mut commands, Op::Get, 0, [&b"key"[..]].into_iter());
    core.demand(Instant::ZERO, Demand::Read { id: 1, body: commands.into() });
    for (from, epoch) in [(1, 0), (2, 0), (3, 1)] {
        let (leader, body) = (NodeId(1), Body::new(Bytes::from_static(b"$-1\r\n")));
        let reply = Reply { boot: 1, lane: 2, sequence: 1, leader, epoch, digest: body.digest(), body };
        core.receive(Instant::ZERO, NodeId(from), Message::Replied(reply));
    }
    assert!(core.answers.is_empty(), "two of one epoch and one of the next are no quorum of either");
}

/// A client that reads beside the log sees what was acknowledged before, in every run of the world of clients.
pub fn fast_reads_are_never_stale() {
    for seed in 1..=40 {
        if let Err(why) = quorate::sim::outside::run(seed, true) {
            panic!("seed {seed}: {why}");
        }
    }
}
