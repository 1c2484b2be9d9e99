//! Small-scope mutations: one field of a message is off by one, zero, the largest, or another message's (ByzzFuzz, Winter and others,
//! OOPSLA 2023: faults close to what a protocol expects find most). What needs the liar's signature is signed again.

use super::{Lie, Scene, Word};
use crate::base::{Body, Digest, NodeId, View};
use crate::crypto::Signature;
use crate::wire::pbft::{Message, Proposal, Vote};
use crate::wire::{Entry, EntryKind, Message as Any};

/// See the module.
pub struct Mutating {
    /// Of ten messages, so many are mutated.
    often: u64,
}

impl Mutating {
    /// Often, or now and then.
    pub fn new(scene: &mut Scene) -> Mutating {
        Mutating { often: [1, 5][scene.prng.below(2) as usize] }
    }
}

impl Lie for Mutating {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        if let Any::Pbft(message) = &mut said.message
            && scene.prng.chance(self.often, 10)
        {
            let choice = scene.prng.next_u64();
            let lie = mutate(message.clone(), choice);
            said.message = scene.signed(said.from, lie).into();
        }
        out.push(said);
    }
}

fn number(n: &mut u64, how: u64) {
    *n = match how % 6 {
        0 => n.wrapping_add(1),
        1 => n.wrapping_sub(1),
        2 => 0,
        3 => u64::MAX,
        4 => (1 << 62) - 1,
        _ => *n ^ 1 << (how >> 8 & 63),
    };
}

fn node(n: &mut NodeId, how: u64) {
    n.0 = [n.0.wrapping_add(1) % 32, n.0.wrapping_sub(1) % 32, 0, 31, (how >> 8 & 7) as u8][how as usize % 5];
}

fn value(d: &mut Digest, how: u64) {
    match how % 3 {
        0 => d.0[0] ^= 1,
        1 => *d = Digest([0; 32]),
        _ => *d = Digest([0xFF; 32]),
    }
}

fn one_vote(v: &mut Vote, how: u64) {
    match how & 1 {
        0 => number(&mut v.slot.0, how >> 1),
        _ => value(&mut v.digest, how >> 1),
    }
}

/// A list: one element changed, left out, repeated, or exchanged with another.
fn list<T: Clone>(all: &mut Vec<T>, how: u64, one: impl Fn(&mut T, u64)) {
    if all.is_empty() {
        return;
    }
    let count = all.len();
    let (at, other) = ((how >> 32) as usize % count, (how >> 40) as usize % count);
    match how % 6 {
        0 => drop(all.remove(at)),
        1 => all.insert(other, all[at].clone()),
        2 => all.swap(at, other),
        _ => one(&mut all[at], how / 6),
    }
}

fn an_entry(e: &mut Entry, how: u64) {
    let rest = how / 10;
    match how % 10 {
        0 => number(&mut e.term.0, rest),
        1 => number(&mut e.slot.0, rest),
        2 => number(&mut e.stamp.0, rest),
        3 => e.kind = if e.kind == EntryKind::Batch { EntryKind::Empty } else { EntryKind::Batch },
        4 => node(&mut e.origin.node, rest),
        5 => e.origin.lane = e.origin.lane.wrapping_add(1),
        6 => number(&mut e.origin.boot, rest),
        7 => number(&mut e.sequence, rest),
        8 => number(&mut e.floor, rest),
        _ => e.body = Body::new(b"mutated".to_vec().into()),
    }
}

fn a_proposal(p: &mut Proposal, how: u64) {
    match how % 4 {
        0 => p.signature = Signature([(how >> 8) as u8; 64]),
        _ => an_entry(&mut p.entry, how / 4),
    }
}

/// The message with one field changed; `choice` says which, and how.
pub fn mutate(mut message: Message, choice: u64) -> Message {
    let how = choice / 8;
    match &mut message {
        Message::PrePrepare { view, proposals, signature } => match choice % 8 {
            0 | 1 => number(&mut view.0, how),
            2 => *signature = Signature::NONE,
            _ => list(proposals, how, a_proposal),
        },
        Message::Prepare { view, votes } | Message::Commit { view, votes } => match choice % 8 {
            0..=2 => number(&mut view.0, how),
            _ => list(votes, how, one_vote),
        },
        Message::Checkpoint { vote, .. } => one_vote(vote, how),
        Message::ViewChange(change) => a_change(change, choice),
        Message::NewView(new_view) => match choice % 8 {
            0 => number(&mut new_view.view.0, how),
            _ => list(&mut new_view.changes, how, a_change),
        },
        Message::Status { view, active, stable, executed, bodies, complains } => match choice % 8 {
            0 | 1 => number(&mut view.0, how),
            2 => *active = !*active,
            3 | 4 => number(&mut stable.0, how),
            5 => number(&mut executed.0, how),
            6 => *complains = !*complains,
            _ => *bodies = !*bodies,
        },
        Message::Decided { entries, votes } => match choice % 2 {
            0 => list(entries, how, an_entry),
            _ => list(votes, how, one_vote),
        },
        Message::Want { votes } => list(votes, how, one_vote),
        Message::Have { entries } => list(entries, how, an_entry),
        Message::Request { batch } => match choice % 8 {
            0 => node(&mut batch.origin.node, how),
            1 => number(&mut batch.origin.boot, how),
            2 => batch.origin.lane = batch.origin.lane.wrapping_sub(1),
            3 => number(&mut batch.sequence, how),
            4 => number(&mut batch.floor, how),
            5 => batch.signature = Signature([(how >> 8) as u8; 64]),
            6 => number(&mut batch.growth, how),
            _ => batch.body = Body::new(b"mutated".to_vec().into()),
        },
        Message::Succession(_) | Message::Charter(_) => an_epoch(&mut message, choice),
        Message::Shown { words: body } | Message::Accuse { proof: body } => {
            let mut bytes = body.bytes().to_vec();
            if !bytes.is_empty() {
                let at = how as usize % bytes.len();
                bytes[at] ^= 1 << (choice % 8);
            }
            *body = Body::new(bytes.into());
        }
        Message::PieceWant { slot, offset, round, ranges } => match choice % 4 {
            0 => number(&mut slot.0, how),
            1 => number(offset, how),
            2 => number(round, how),
            _ => *ranges = Body::new(vec![how as u8; (how >> 8) as usize % 9].into()),
        },
        Message::Piece { round, slot, stamp, offset, total, body } => match choice % 6 {
            0 => number(&mut slot.0, how),
            4 => number(round, how),
            1 => number(&mut stamp.0, how),
            2 => number(offset, how),
            3 => number(total, how),
            _ => *body = Body::new(b"mutated".to_vec().into()),
        },
    }
    message
}

fn an_epoch(message: &mut Message, choice: u64) {
    let how = choice / 8;
    match message {
        Message::Succession(word) => match choice % 3 {
            0 => number(&mut word.epoch, how),
            1 => one_vote(&mut word.vote, how),
            _ => word.members.0[how as usize % 32] ^= 1,
        },
        Message::Charter(charter) => match choice % 4 {
            0 => one_vote(&mut charter.vote, how),
            1 => number(&mut charter.membership.epoch, how),
            2 => charter.membership.faulty ^= 1,
            _ => drop(charter.signatures.pop()),
        },
        _ => unreachable!("the caller has looked"),
    }
}

fn a_change(change: &mut crate::wire::pbft::Change, choice: u64) {
    let how = choice / 8;
    let placed = |vote: &mut Vote, view: &mut View, how: u64| match how % 3 {
        0 => number(&mut view.0, how / 3),
        _ => one_vote(vote, how / 3),
    };
    match choice % 8 {
        0 => number(&mut change.view.0, how),
        1 => node(&mut change.node, how),
        2 => number(&mut change.stable.0, how),
        3 => list(&mut change.checkpoints, how, one_vote),
        4 | 5 => list(&mut change.prepared, how, |p, how| placed(&mut p.vote, &mut p.view, how)),
        _ => list(&mut change.accepted, how, |a, how| placed(&mut a.vote, &mut a.view, how)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Prng, Slot, Stamp};

    #[test]
    fn most_choices_change_something_and_none_panics() {
        let vote = Vote { slot: Slot(4), digest: Digest([1; 32]) };
        let all = [
            Message::Prepare { view: View(1), votes: vec![vote; 2] },
            Message::Status {
                view: View(1),
                active: true,
                stable: Slot(0),
                executed: Slot(3),
                bodies: true,
                complains: false,
            },
            Message::PieceWant { slot: Slot(4), offset: 8, round: 1, ranges: Body::EMPTY },
            Message::Piece {
                round: 1,
                slot: Slot(4),
                stamp: Stamp(1),
                offset: 0,
                total: 9,
                body: Body::EMPTY,
            },
        ];
        for message in all {
            let mut prng = Prng::from_seed(1);
            let mut changes = || mutate(message.clone(), prng.next_u64()) != message;
            let changed = (0..200).filter(|_| changes()).count();
            assert!(100 < changed, "{changed} of 200 for {message:?}");
        }
    }
}
