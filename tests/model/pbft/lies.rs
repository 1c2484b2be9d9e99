//! What a liar may say of the first slot, to each of the others.

use super::book::NODES;
use quorate::base::{NodeId, Slot, View};
use quorate::crypto::Signature;
use quorate::sim::host::keys;
use quorate::sim::liars::sign;
use quorate::sim::table::Letter;
use quorate::wire::pbft::{Accepted, Change, Message, NULL, Prepared, Proposal, Vote, digest};
use quorate::wire::{Batch, Entry, EntryKind};

/// The first slot's value with this batch.
pub fn entry(batch: &Batch) -> Entry {
    let Batch { origin, sequence, floor, ref body, .. } = *batch;
    let (slot, kind) = (Slot(1), EntryKind::Batch);
    Entry { slot, kind, origin, sequence, floor, body: body.clone(), ..Entry::default() }
}

/// Letters of the liar's about either batch, in all views up to this one.
pub fn all(liar: NodeId, batches: &[Batch; 2], views: u64) -> Vec<Letter> {
    let mut said = Vec::new();
    for view in (0..=views).map(View) {
        let leads = view.0 % NODES as u64 + 1 == u64::from(liar.0);
        for batch in batches {
            said.extend(votes(view, leads, batch));
        }
        if View(0) < view {
            said.extend([None, Some(&batches[0]), Some(&batches[1])].map(|p| change(liar, view, p, batches)));
        }
    }
    let entries = batches.iter().map(entry);
    said.extend(entries.map(|entry| Message::Decided { entries: vec![entry], votes: Vec::new() }));
    let others = (1..=NODES as u8).map(NodeId).filter(|node| *node != liar);
    let keys = keys(liar, NODES);
    let letter =
        |to: NodeId, message: &Message| Letter { from: liar, to, message: sign(&keys, message.clone()) };
    others.flat_map(|to| said.iter().map(move |message| letter(to, message)).collect::<Vec<_>>()).collect()
}

fn votes(view: View, leads: bool, batch: &Batch) -> Vec<Message> {
    let entry = entry(batch);
    let votes = vec![Vote { slot: entry.slot, digest: digest(&entry) }];
    let commit = Message::Commit { view, votes: votes.clone() };
    let proposals = vec![Proposal { entry, signature: batch.signature }];
    let accepts = match leads {
        true => Message::PrePrepare { view, proposals, signature: Signature([1; 64]) },
        false => Message::Prepare { view, votes },
    };
    vec![accepts, commit]
}

/// A view-change that claims to have accepted everything, and that this was prepared in the view before.
fn change(node: NodeId, view: View, prepared: Option<&Batch>, accepted: &[Batch; 2]) -> Message {
    let before = View(view.0 - 1);
    let vote = |batch: &Batch| Vote { slot: Slot(1), digest: digest(&entry(batch)) };
    Message::ViewChange(Change {
        view,
        node,
        stable: Slot::ZERO,
        checkpoints: vec![Vote { slot: Slot::ZERO, digest: NULL }],
        prepared: prepared.map(|batch| Prepared { vote: vote(batch), view: before }).into_iter().collect(),
        accepted: accepted.iter().map(|batch| Accepted { vote: vote(batch), view: before }).collect(),
        signature: Signature::NONE,
    })
}
