//! Signed words that convict whoever signed them, as values and as the bytes that travel, are kept on disk and are shown to operators.
//!
//! Little endian, with exactly one encoding:
//!
//! ```text
//! "quorate proof 1\n" · group u32 · accused u8 · kind u8 · (length u32 · part)...
//! two-proposals     2 parts: view u64 · signature 64 · (slot u64 · digest 32)...
//! two-checkpoints   2 parts: slot u64 · digest 32 · signature 64
//! two-view-changes  2 parts: a view-change
//! bad-new-view      1 part:  a new-view
//! wrong-checkpoint  slot u64 · digest 32 · signature 64, then digest 32 · (node u8 · signature 64)... (nodes rise)
//! ```

use super::pbft::{Change, NewView, Vote};
use crate::base::{Digest, GroupId, NodeId, Slot, View};
use crate::crypto::Signature;
use bytes::{BufMut, Bytes};

/// What a primary signed in one pre-prepare: view, assignments, signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    /// The view.
    pub view: View,
    /// What was assigned.
    pub votes: Vec<Vote>,
    /// Over [`super::pbft::signed_proposals`].
    pub signature: Signature,
}

/// Words of one replica that a correct one would not have signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// Two values for one slot of one view, in two pre-prepares.
    Proposals(Words, Words),
    /// Two states at one slot.
    Checkpoints((Vote, Signature), (Vote, Signature)),
    /// Two view-changes for one view.
    Changes(Box<Change>, Box<Change>),
    /// A new-view whose view-changes do not allow its view to begin.
    NewView(Box<NewView>),
    /// Another state than the one that a quorum has signed.
    Checkpoint {
        /// The word that is false.
        word: (Vote, Signature),
        /// What the others have there.
        digest: Digest,
        /// Their signatures.
        others: Vec<(NodeId, Signature)>,
    },
}

/// Who is convicted of what, in which group.
#[derive(Clone, Debug, PartialEq)]
pub struct Accusation {
    /// The group.
    pub group: GroupId,
    /// Whose words they are.
    pub accused: NodeId,
    /// They.
    pub proof: Proof,
}

const MAGIC: &[u8; 16] = b"quorate proof 1\n";
const VOTE: usize = 40;
const WORD: usize = VOTE + 64;

impl Words {
    /// Their bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(72 + VOTE * self.votes.len());
        bytes.put_u64_le(self.view.0);
        bytes.put_slice(&self.signature.0);
        self.votes.iter().for_each(|vote| put_vote(&mut bytes, vote));
        bytes.into()
    }
    /// Reads them back. `None` when the bytes are not exactly what `encode` gives.
    pub fn decode(bytes: &[u8]) -> Option<Words> {
        let (view, rest) = bytes.split_first_chunk::<8>()?;
        let (signature, rest) = rest.split_first_chunk::<64>()?;
        let (votes, left) = rest.as_chunks::<VOTE>();
        let votes = votes.iter().map(read_vote).collect();
        let view = View(u64::from_le_bytes(*view));
        left.is_empty().then_some(Words { view, votes, signature: Signature(*signature) })
    }
}

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64_le(vote.slot.0);
    out.put_slice(&vote.digest.0);
}
fn read_vote(bytes: &[u8; VOTE]) -> Vote {
    let (slot, digest) = bytes.split_at(8);
    let slot = u64::from_le_bytes(slot.try_into().expect("eight bytes"));
    Vote { slot: Slot(slot), digest: Digest(digest.try_into().expect("the rest")) }
}
fn word((vote, signature): &(Vote, Signature)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(WORD);
    put_vote(&mut bytes, vote);
    bytes.put_slice(&signature.0);
    bytes
}
fn read_word(bytes: &[u8]) -> Option<(Vote, Signature)> {
    let (vote, signature) = bytes.split_first_chunk::<VOTE>()?;
    Some((read_vote(vote), Signature(signature.try_into().ok()?)))
}

impl Proof {
    fn kind(&self) -> u8 {
        match self {
            Proof::Proposals(..) => 1,
            Proof::Checkpoints(..) => 2,
            Proof::Changes(..) => 3,
            Proof::NewView(_) => 4,
            Proof::Checkpoint { .. } => 5,
        }
    }
    /// The view that it is about, where it is about one.
    pub fn view(&self) -> Option<View> {
        match self {
            Proof::Proposals(words, _) => Some(words.view),
            Proof::Changes(change, _) => Some(change.view),
            Proof::NewView(view) => Some(view.view),
            Proof::Checkpoints(..) | Proof::Checkpoint { .. } => None,
        }
    }
    /// A slot that it is about; zero where it is about a view.
    pub fn slot(&self) -> Slot {
        match self {
            Proof::Checkpoints((vote, _), _) | Proof::Checkpoint { word: (vote, _), .. } => vote.slot,
            Proof::Proposals(..) | Proof::Changes(..) | Proof::NewView(_) => Slot::ZERO,
        }
    }
    /// What it is, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Proof::Proposals(..) => "two-proposals",
            Proof::Checkpoints(..) => "two-checkpoints",
            Proof::Changes(..) => "two-view-changes",
            Proof::NewView(_) => "bad-new-view",
            Proof::Checkpoint { .. } => "wrong-checkpoint",
        }
    }
    /// What was done where, for people.
    pub fn describe(&self) -> String {
        match self {
            Proof::Proposals(one, other) => {
                let clash = |a: &&Vote| other.votes.iter().any(|b| a.slot == b.slot && a.digest != b.digest);
                let slot = one.votes.iter().find(clash).map_or(Slot::ZERO, |vote| vote.slot);
                format!("it assigned two values to slot {slot} of view {}", one.view)
            }
            Proof::Checkpoints((one, _), _) => format!("it signed two states at slot {}", one.slot),
            Proof::Changes(one, _) => format!("it asked for view {} with two different pasts", one.view),
            Proof::NewView(view) => {
                format!("it began view {} from view-changes that do not allow it", view.view)
            }
            Proof::Checkpoint { word: (vote, _), others, .. } => {
                let count = others.len();
                format!("it signed another state at slot {} than {count} others have", vote.slot)
            }
        }
    }
    fn parts(&self) -> Vec<Vec<u8>> {
        match self {
            Proof::Proposals(one, other) => vec![one.encode().into(), other.encode().into()],
            Proof::Checkpoints(one, other) => vec![word(one), word(other)],
            Proof::Changes(one, other) => vec![one.encode(), other.encode()],
            Proof::NewView(view) => vec![view.encode()],
            Proof::Checkpoint { word: lie, digest, others } => {
                let mut truth = digest.0.to_vec();
                for (node, signature) in others {
                    truth.put_u8(node.0);
                    truth.put_slice(&signature.0);
                }
                vec![word(lie), truth]
            }
        }
    }
    fn read(kind: u8, parts: &[&[u8]]) -> Option<Proof> {
        match (kind, parts) {
            (1, [one, other]) => Some(Proof::Proposals(Words::decode(one)?, Words::decode(other)?)),
            (2, [one, other]) => Some(Proof::Checkpoints(read_word(one)?, read_word(other)?)),
            (3, [one, other]) => {
                Some(Proof::Changes(Box::new(Change::decode(one)?), Box::new(Change::decode(other)?)))
            }
            (4, [view]) => Some(Proof::NewView(Box::new(NewView::decode(view)?))),
            (5, [lie, truth]) => {
                let (digest, rest) = truth.split_first_chunk::<32>()?;
                let (others, left) = rest.as_chunks::<65>();
                let one = |bytes: &[u8; 65]| {
                    let (node, signature) = bytes.split_first().expect("it has 65 bytes");
                    (NodeId(*node), Signature(signature.try_into().expect("64 are left")))
                };
                let others: Vec<(NodeId, Signature)> = others.iter().map(one).collect();
                let whole = left.is_empty() && others.is_sorted_by(|a, b| a.0 < b.0);
                let (word, digest) = (read_word(lie)?, Digest(*digest));
                whole.then_some(Proof::Checkpoint { word, digest, others })
            }
            _ => None,
        }
    }
}

impl Accusation {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = MAGIC.to_vec();
        out.put_u32_le(self.group.0);
        out.put_slice(&[self.accused.0, self.proof.kind()]);
        for part in self.proof.parts() {
            out.put_u32_le(part.len() as u32);
            out.put_slice(&part);
        }
        out.into()
    }
    /// Reads it back. `None` when the bytes are not exactly what `encode` gives.
    pub fn decode(bytes: &[u8]) -> Option<Accusation> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (group, rest) = rest.split_first_chunk::<4>()?;
        let (&[accused, kind], mut rest) = rest.split_first_chunk::<2>()?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            // No kind has more.
            if 2 <= parts.len() {
                return None;
            }
            parts.push(part);
            rest = behind;
        }
        let proof = Proof::read(kind, &parts)?;
        Some(Accusation { group: GroupId(u32::from_le_bytes(*group)), accused: NodeId(accused), proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::GROUP_ONE;

    fn vote(slot: u64, value: u8) -> Vote {
        Vote { slot: Slot(slot), digest: Digest([value; 32]) }
    }
    fn signature(value: u8) -> Signature {
        Signature([value; 64])
    }

    #[test]
    fn every_kind_survives_its_bytes_and_every_cut_is_noticed() {
        let words = |value| Words {
            view: View(3),
            votes: vec![vote(7, 1), vote(8, value)],
            signature: signature(value),
        };
        let change = |slot| Change {
            view: View(4),
            node: NodeId(2),
            stable: Slot(slot),
            checkpoints: vec![vote(slot, 1)],
            prepared: Vec::new(),
            accepted: Vec::new(),
            signature: signature(9),
        };
        let view = NewView { view: View(4), changes: vec![change(0)], signature: signature(5) };
        let all = [
            (Proof::Proposals(words(2), words(3)), "it assigned two values to slot 8 of view 3"),
            (
                Proof::Checkpoints((vote(8, 1), signature(1)), (vote(8, 2), signature(2))),
                "it signed two states at slot 8",
            ),
            (
                Proof::Changes(Box::new(change(0)), Box::new(change(8))),
                "it asked for view 4 with two different pasts",
            ),
            (Proof::NewView(Box::new(view)), "it began view 4 from view-changes that do not allow it"),
            (
                Proof::Checkpoint {
                    word: (vote(8, 1), signature(1)),
                    digest: Digest([2; 32]),
                    others: vec![(NodeId(1), signature(2)), (NodeId(3), signature(3))],
                },
                "it signed another state at slot 8 than 2 others have",
            ),
        ];
        for (proof, words) in all {
            assert_eq!(proof.describe(), words);
            let accusation = Accusation { group: GROUP_ONE, accused: NodeId(2), proof };
            let bytes = accusation.encode();
            assert_eq!(Accusation::decode(&bytes).as_ref(), Some(&accusation));
            assert!(
                (0..bytes.len()).all(|end| Accusation::decode(&bytes[..end]).as_ref() != Some(&accusation))
            );
            for at in 0..bytes.len() {
                let mut bad = bytes.to_vec();
                bad[at] ^= 1;
                assert!(Accusation::decode(&bad).is_none_or(|read| read.encode() == bad), "byte {at}");
            }
        }
    }
}
