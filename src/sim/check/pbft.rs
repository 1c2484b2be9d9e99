//! What a correct PBFT replica promises: it says nothing that its disk would not tell it again (durable before it speaks), it never says
//! two things in one place, whatever its lives (at most one value a view and slot), and equal slots have equal states.

use crate::base::{Digest, NodeId, Slot, View};
use crate::protocol::pbft::{Pbft, Quorum};
use crate::replica::Effects;
use crate::sim::host::Host;
use crate::sim::violation::fail;
use crate::wire::pbft::{Message, Vote, digest};
use crate::wire::{Entry, EntryKind, Message as Any};
use std::collections::BTreeMap;

const DURABLE: &str = "pbft-durable-before-it-speaks";
const ONE_VALUE: &str = "pbft-one-value-a-slot";
const CHECKPOINTS: &str = "pbft-checkpoint-agreement";
const HELD: &str = "pbft-decided-is-held";
const ACCOUNTABLE: &str = "pbft-no-correct-replica-is-convicted";

/// The checkers that know PBFT's words. They hear only correct replicas.
#[derive(Default)]
pub struct PbftChecks {
    accepted: BTreeMap<(NodeId, View, Slot), Digest>,
    assigned: BTreeMap<(View, Slot), Digest>,
    prepared: BTreeMap<(View, Slot), Digest>,
    states: BTreeMap<Slot, Digest>,
    corrupted: bool,
}

impl PbftChecks {
    /// A burst of a correct node has ended.
    pub fn burst(&mut self, host: &Host, core: &Pbft, effects: &Effects) {
        for sent in &effects.outgoing {
            if let Any::Pbft(message) = &sent.message {
                self.said(host, message);
            }
        }
        if !self.corrupted
            && let Some((node, kind, _)) = core.proofs().next()
        {
            fail(ACCOUNTABLE, format_args!("node {} convicts {node} by {kind}", host.id()));
        }
    }

    /// Some nodes lie: proofs are to be expected.
    pub fn expect_proofs(&mut self) {
        self.corrupted = true;
    }

    fn said(&mut self, host: &Host, message: &Message) {
        let id = host.id();
        match message {
            Message::PrePrepare { view, proposals, .. } => {
                for proposal in proposals {
                    let vote = Vote { slot: proposal.entry.slot, digest: digest(&proposal.entry) };
                    self.accepts(host, *view, vote);
                    once(&mut self.assigned, (*view, vote.slot), vote.digest, id);
                }
            }
            Message::Prepare { view, votes } => {
                votes.iter().for_each(|vote| self.accepts(host, *view, *vote))
            }
            Message::Commit { view, votes } => {
                for vote in votes {
                    durable(host, *view, *vote, true);
                    once(&mut self.prepared, (*view, vote.slot), vote.digest, id);
                }
            }
            Message::Checkpoint { vote, .. } => {
                let first = *self.states.entry(vote.slot).or_insert(vote.digest);
                if first != vote.digest {
                    fail(
                        CHECKPOINTS,
                        format_args!("node {id} has another state at {} than others", vote.slot),
                    );
                }
            }
            Message::ViewChange(change) if change.node == id && host.disk.view() < change.view => {
                fail(DURABLE, format_args!("node {id} asks for view {} before it is written", change.view));
            }
            _ => (),
        }
    }

    fn accepts(&mut self, host: &Host, view: View, vote: Vote) {
        durable(host, view, vote, false);
        let first = *self.accepted.entry((host.id(), view, vote.slot)).or_insert(vote.digest);
        if first != vote.digest {
            let (id, slot) = (host.id(), vote.slot);
            fail(ONE_VALUE, format_args!("node {id} accepts two values at slot {slot} of view {view}"));
        }
    }
}

/// Two correct replicas never say different digests there.
fn once<K: Ord + std::fmt::Debug + Copy>(
    seen: &mut BTreeMap<K, Digest>,
    key: K,
    digest: Digest,
    node: NodeId,
) {
    if *seen.entry(key).or_insert(digest) != digest {
        fail(
            ONE_VALUE,
            format_args!("node {node} says another value at {key:?} than a correct replica before it"),
        );
    }
}

fn durable(host: &Host, view: View, vote: Vote, prepared: bool) {
    if !host.disk.said(view, vote, prepared) {
        let (id, slot, what) = (host.id(), vote.slot, if prepared { "prepared" } else { "accepted" });
        fail(
            DURABLE,
            format_args!("node {id} says that slot {slot} is {what} in view {view} before it is written"),
        );
    }
}

/// A decided value is on the disks of so many that all may lose power: of a quorum, less those that may lie.
pub fn is_held(hosts: &[Host], quorum: Quorum, entry: &Entry) {
    if entry.kind != EntryKind::Batch {
        return;
    }
    let holders = hosts.iter().filter(|host| host.disk.holds_value(entry)).count();
    if holders + quorum.f() < quorum.strong() {
        fail(HELD, format_args!("slot {} is decided and on {holders} disks", entry.slot));
    }
}
