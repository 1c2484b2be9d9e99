//! Requests that their client never made, and the big-MAC client: one whose request some replicas can check and others cannot (Clement
//! and others, NSDI 2009, 3). Here a request is signed, so what the primary cannot pass on it must not assign either.

use super::{Lie, Scene, Word, word};
use crate::base::{Body, GROUP_ONE, NodeId, Origin};
use crate::crypto::Signature;
use crate::wire::pbft::{Message, Proposal, signed_batch};
use crate::wire::{Batch, Entry, EntryKind, Message as Any, forward};

/// See the module.
pub struct ForgedRequests {
    /// A primary puts words into the mouths of others' clients.
    invents: bool,
    /// Of a hundred messages heard, so many are followed by a forged request.
    often: u64,
    sequence: u64,
}

impl ForgedRequests {
    /// In some ways.
    pub fn new(scene: &mut Scene) -> ForgedRequests {
        let prng = &mut scene.prng;
        ForgedRequests { invents: prng.chance(1, 2), often: [2, 10][prng.below(2) as usize], sequence: 0 }
    }

    /// A batch of a node's clients, whoever makes it.
    fn invent(&mut self, scene: &mut Scene, node: NodeId) -> Batch {
        self.sequence += 1;
        let body = Body::new(scene.prng.next_u64().to_le_bytes().to_vec().into());
        // A lane of its own: what the replica of a corrupted node's own front has sent stays what it was.
        let lane = if scene.corrupted.contains(node) { 7 } else { 0 };
        let origin = Origin { node, lane, boot: 1 };
        let sequence = self.sequence + scene.prng.below(8);
        Batch { origin, sequence, floor: sequence, growth: 1, body, signature: Signature([3; 64]) }
    }
}

impl Lie for ForgedRequests {
    fn twist(&mut self, scene: &mut Scene, mut said: Word, out: &mut Vec<Word>) {
        match &mut said.message {
            Any::Pbft(Message::PrePrepare { proposals, view, signature })
                if self.invents && scene.prng.chance(1, 3) =>
            {
                let victim = scene.any_correct();
                let batch = self.invent(scene, victim);
                let last = proposals.last_mut().expect("a pre-prepare assigns something");
                let Entry { slot, stamp, term, .. } = last.entry;
                let Batch { origin, sequence, floor, body, signature: forged, .. } = batch;
                let kind = EntryKind::Batch;
                let entry = Entry { term, slot, stamp, kind, origin, sequence, floor, body };
                *last = Proposal { entry, signature: forged };
                let (view, proposals, signature) = (*view, proposals.clone(), *signature);
                let lie = Message::PrePrepare { view, proposals, signature };
                out.push(word(said.from, said.to, scene.signed(said.from, lie)));
            }
            // Its own clients' requests: for some receivers the signature is no good.
            Any::Forward(forward::Message::Batch { batch, .. }) => {
                if scene.prng.chance(1, 2) {
                    batch.signature = Signature([9; 64]);
                }
                out.push(said);
            }
            _ => out.push(said),
        }
    }

    fn overhear(&mut self, scene: &mut Scene, _: NodeId, _: &Message, out: &mut Vec<Word>) {
        if !scene.prng.chance(self.often, 100) {
            return;
        }
        let (from, to, is_own) = (scene.any_liar(), scene.any_correct(), scene.prng.chance(1, 2));
        let victim = if is_own { from } else { scene.any_correct() };
        let mut batch = self.invent(scene, victim);
        if is_own && scene.prng.chance(1, 2) {
            // Signed well, and another one for each receiver.
            batch.signature = scene.sign(from, &signed_batch(GROUP_ONE, &batch));
        }
        out.push(word(from, to, Message::Request { batch }));
    }
}
