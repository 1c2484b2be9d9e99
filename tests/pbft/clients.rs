//! What clients may try against a PBFT group: four real cores, whose messages arrive at once and whose writes are durable at once.

use quorate::base::{Body, Digest, GROUP_ONE, Instant, NodeId, Origin, Slot, Stamp};
use quorate::crypto::{Keyring, Signature, SigningKey};
use quorate::protocol::pbft::{Options, Pbft, Setup};
use quorate::protocol::{
    DigestAt, FaultKind, Fetch, Fetched, Input, Outbox, Protocol, RefusalKind, Ship, Target,
};
use quorate::wire::pbft::{Message, Note, signed_batch};
use quorate::wire::{self, Batch, Entry, Record};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const REPLICAS: u8 = 4;
pub(super) const CLIENT: NodeId = NodeId(64);

pub(super) fn key(node: NodeId) -> SigningKey {
    SigningKey::from_entropy([node.0; 32])
}

pub(super) struct Group {
    now: Instant,
    pub(super) cores: Vec<Pbft>,
    pub(super) outs: Vec<Outbox>,
    executed: Vec<Vec<Entry>>,
    /// View changes that were said, and accusations.
    changes: usize,
    /// Nobody hears this one, and it hears nobody.
    pub(super) cut: Option<NodeId>,
    /// What stands in the logs, and how often it was read back.
    pub(super) values: Vec<BTreeMap<Slot, Entry>>,
    pub(super) reads: usize,
    pub(super) faults: Vec<(NodeId, FaultKind)>,
}

impl Group {
    pub(super) fn new() -> Group {
        Group::with(&Options::default())
    }

    pub(super) fn of(replicas: u8) -> Group {
        Group::made(replicas, &Options::default())
    }

    pub(super) fn with(options: &Options) -> Group {
        Group::made(REPLICAS, options)
    }

    fn made(replicas: u8, options: &Options) -> Group {
        let members = (1..=replicas).map(NodeId);
        let core = |me: NodeId| {
            let known = (1..=replicas).map(NodeId).chain([CLIENT]).map(|node| (node, key(node).public()));
            let (group, options) = (GROUP_ONE, options.clone());
            let keys = Keyring::new(key(me), known);
            let members = (1..=replicas).map(NodeId).collect();
            let (cluster, anchor, state) = Default::default();
            Pbft::new(
                Setup { cluster, group, me, members, anchor, state, boot: 1, options, keys },
                Instant::ZERO,
            )
        };
        let cores: Vec<Pbft> = members.map(core).collect();
        let outs = cores.iter().map(|_| Outbox::default()).collect();
        let (executed, values) = (vec![Vec::new(); cores.len()], vec![BTreeMap::new(); cores.len()]);
        let (now, cut, faults) = (Instant::ZERO, None, Vec::new());
        Group { now, cores, outs, executed, changes: 0, cut, values, reads: 0, faults }
    }

    pub(super) fn tell(&mut self, replica: u8, input: Input<Message>) {
        let at = usize::from(replica) - 1;
        self.outs[at].enter(GROUP_ONE);
        self.cores[at].step(self.now, input, &mut self.outs[at]);
    }

    /// Until nobody has anything to say.
    pub(super) fn run(&mut self) {
        self.run_losing(|| false);
    }

    /// The same, where `is_lost` says of each message to a replica whether it does not come.
    pub(super) fn run_losing(&mut self, mut is_lost: impl FnMut() -> bool) {
        loop {
            let mut said = Vec::new();
            for at in 0..self.cores.len() {
                let (core, out) = (&mut self.cores[at], &mut self.outs[at]);
                let ticket = out.last_ticket();
                core.step(self.now, Input::Durable { ticket }, out);
                core.settle(self.now, out);
                core.check();
                self.executed[at].extend(out.commits.drain(..).map(|commit| commit.entry));
                self.faults.extend(out.faults.drain(..).map(|fault| (fault.peer, fault.kind)));
                for record in out.records.drain(..) {
                    if let Record::Pbft {
                        note: Note::PrePrepared { entry, .. } | Note::Learned { entry },
                        ..
                    } = record
                    {
                        self.values[at].insert(entry.slot, entry);
                    }
                }
                for DigestAt { slot, .. } in std::mem::take(&mut out.digests) {
                    // Of equal slots equal states.
                    let digest = Digest::of(&slot.0.to_le_bytes());
                    core.step(self.now, Input::Digested { slot, digest }, out);
                }
                for Ship { job, fetch, .. } in std::mem::take(&mut out.ships) {
                    self.reads += 1;
                    let found = entries(&self.values[at], &fetch);
                    core.step(self.now, Input::Fetched { job, found }, out);
                }
                let from = NodeId(at as u8 + 1);
                said.extend(out.sends.drain(..).map(|send| (from, send.to, send.message)));
            }
            if said.is_empty() {
                return;
            }
            for (from, to, message) in said {
                let wire::Message::Pbft(message) = message else { panic!("cores speak PBFT only") };
                self.changes += usize::from(matches!(message, Message::ViewChange(_)));
                let is_cut = |node: NodeId| self.cut == Some(node);
                let to = (1..=self.cores.len() as u8).filter(|node| match to {
                    _ if is_cut(from) || is_cut(NodeId(*node)) => false,
                    Target::One(one) => one.0 == *node,
                    Target::Others => from.0 != *node,
                });
                for node in to.filter(|_| !is_lost()).collect::<Vec<u8>>() {
                    self.tell(node, Input::Receive { from, message: message.clone() });
                }
            }
        }
    }

    /// Lets time go by in steps shorter than any patience.
    pub(super) fn wait(&mut self, time: Duration) {
        self.wait_losing(time, || false);
    }

    /// The same, with losses.
    pub(super) fn wait_losing(&mut self, time: Duration, mut is_lost: impl FnMut() -> bool) {
        let until = self.now.after(time);
        while self.now < until {
            self.now = self.now.after(Duration::from_millis(10));
            for replica in 1..=self.cores.len() as u8 {
                if self.cores[usize::from(replica) - 1].deadline().is_some_and(|at| at <= self.now) {
                    self.tell(replica, Input::Timeout);
                }
            }
            self.run_losing(&mut is_lost);
        }
    }

    pub(super) fn batches(&self, replica: u8) -> Vec<(NodeId, u64)> {
        let batches = self.executed[usize::from(replica) - 1].iter().filter(|e| !e.body.is_empty());
        batches.map(|entry| (entry.origin.node, entry.sequence)).collect()
    }

    /// Everybody hears of a batch.
    pub(super) fn hear_all(&mut self, batch: &Batch) {
        for replica in 1..=REPLICAS {
            self.tell(replica, Input::Heard { from: batch.origin.node, batch: batch.clone() });
        }
    }
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// What the core of the first view's primary says to a batch.
    pub(super) fn propose(&mut self, batch: Batch) -> Option<RefusalKind> {
        self.tell(1, Input::Propose { batch, clock: Stamp(1) });
        let refused = self.outs[0].refuse.pop().map(|refusal| refusal.why);
        self.run();
        refused
    }
}

/// What a log finds of what is wanted.
fn entries(log: &BTreeMap<Slot, Entry>, fetch: &Fetch) -> Fetched {
    let Fetch::Entries { from, count, bytes } = *fetch else { panic!("no state is asked for") };
    let (mut found, mut sum) = (Vec::<Entry>::new(), 0);
    for (place, (slot, entry)) in (from.0..).zip(log.range(from..)).take(count) {
        sum += entry.body.len();
        if slot.0 != place || (bytes < sum && !found.is_empty()) {
            break;
        }
        found.push(entry.clone());
    }
    if found.is_empty() { Fetched::Gone } else { Fetched::Entries(found) }
}

pub(super) fn batch(sequence: u64) -> Batch {
    let origin = Origin { node: CLIENT, lane: 0, boot: 1 };
    let body = Body::new(b"commands".to_vec().into());
    let mut batch = Batch { origin, sequence, floor: sequence, body, ..Batch::default() };
    batch.signature = key(CLIENT).sign(&signed_batch(GROUP_ONE, &batch));
    batch
}

/// As long as several views have patience.
pub(super) const LONG: Duration = Duration::from_secs(3);

#[test]
fn big_mac_client_costs_no_slot_and_no_view() {
    let mut group = Group::new();
    // Nobody can be shown to have been convinced: not the primary, not the backups, whoever gets it.
    for signature in [Signature::NONE, Signature([7; 64]), batch(2).signature] {
        let bad = Batch { signature, ..batch(1) };
        let is_unsigned = signature == Signature::NONE;
        let why = if is_unsigned { RefusalKind::Unsigned } else { RefusalKind::Void };
        assert_eq!(group.propose(bad.clone()), Some(why), "no slot is assigned to it");
        (2..=REPLICAS)
            .for_each(|backup| group.tell(backup, Input::Heard { from: CLIENT, batch: bad.clone() }));
        group.run();
    }
    assert!(!group.faults.is_empty());
    assert!(group.faults.iter().all(|(_, kind)| *kind == FaultKind::BadSignature), "{:?}", group.faults);
    group.wait(LONG);
    assert_eq!(
        (group.changes, group.batches(2)),
        (0, vec![]),
        "no backup waits for what it does not believe"
    );
    // The same client, honest again, is served: one batch that was bad convicts nobody else and blocks nothing.
    assert_eq!(group.propose(batch(1)), None);
    (1..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1)]));
}

#[test]
fn a_request_that_only_one_backup_hears_is_ordered() {
    let mut group = Group::new();
    group.tell(3, Input::Heard { from: CLIENT, batch: batch(1) });
    group.run();
    (1..=REPLICAS)
        .for_each(|replica| assert_eq!(group.batches(replica), [], "the primary may have heard it too"));
    group.wait(Options::default().request_timeout / 2);
    (1..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1)]));
    assert_eq!(group.changes, 0);
}

#[test]
fn replayed_request_is_neither_ordered_nor_waited_for_again() {
    let mut group = Group::new();
    assert_eq!(group.propose(batch(1)), None);
    assert_eq!(group.propose(batch(2)), None);
    for replayed in [batch(1), batch(2), batch(1)] {
        assert_eq!(group.propose(replayed.clone()), Some(RefusalKind::Void));
        (2..=REPLICAS)
            .for_each(|backup| group.tell(backup, Input::Heard { from: CLIENT, batch: replayed.clone() }));
        group.run();
    }
    group.wait(LONG);
    assert_eq!(group.changes, 0, "nobody suspects the primary of what is done");
    (1..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1), (CLIENT, 2)]));
    assert!(group.faults.is_empty(), "{:?}", group.faults);
}
