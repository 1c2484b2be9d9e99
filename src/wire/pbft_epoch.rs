//! What replicas sign at the end of an epoch, as values and as the bytes that are signed.
//!
//! ```text
//! succession  epoch u64 · slot u64 · digest 32 · members 32 · signature 64
//! charter        slot u64 · digest 32 · signatures u8 · (node u8 · signature 64)... · membership      (nodes rise)
//! ```

use super::members::Membership;
use super::pbft::Vote;
use crate::base::{Body, Digest, GroupId, NodeId, Slot};
use crate::crypto::Signature;
use bytes::BufMut;

/// "I have executed everything up to here, this is the state, and these are the members from now on": signed by a member of the epoch
/// that ends, once what it says is on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Succession {
    /// The epoch that begins.
    pub epoch: u64,
    /// The last slot of the one that ends, and the state there.
    pub vote: Vote,
    /// The next membership, by its digest.
    pub members: Digest,
    /// The sender's, over [`Succession::signed`].
    pub signature: Signature,
}

/// A quorum's words that an epoch begins: whoever knows the members of one epoch knows by it those of the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charter {
    /// The last slot before it, and the state there.
    pub vote: Vote,
    /// Who is in it.
    pub membership: Membership,
    /// Of members of the epoch before, over [`Succession::signed`]; rising by node.
    pub signatures: Vec<(NodeId, Signature)>,
}

const SUCCESSION_BYTES: usize = 8 + 40 + 32 + 64;

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

impl Succession {
    fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SUCCESSION_BYTES);
        out.put_u64_le(self.epoch);
        out.put_u64_le(self.vote.slot.0);
        out.put_slice(&self.vote.digest.0);
        out.put_slice(&self.members.0);
        out
    }
    /// What its sender signs.
    pub fn signed(&self, group: GroupId) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("quorate v1 pbft succession");
        hasher.update(&group.0.to_le_bytes());
        hasher.update(&self.content());
        *hasher.finalize().as_bytes()
    }
    /// As the body of a message.
    pub fn body(&self) -> Body {
        let mut out = self.content();
        out.put_slice(&self.signature.0);
        Body::new(out.into())
    }
    /// Reads it back.
    pub fn decode(mut bytes: &[u8]) -> Option<Succession> {
        let epoch = u64::from_le_bytes(take(&mut bytes)?);
        let slot = Slot(u64::from_le_bytes(take(&mut bytes)?));
        let vote = Vote { slot, digest: Digest(take(&mut bytes)?) };
        let (members, signature) = (Digest(take(&mut bytes)?), Signature(take(&mut bytes)?));
        bytes.is_empty().then_some(Succession { epoch, vote, members, signature })
    }
}

impl Charter {
    /// What each of its signers has signed.
    pub fn signed(&self, group: GroupId) -> [u8; 32] {
        let (epoch, members) = (self.membership.epoch, self.membership.digest());
        Succession { epoch, vote: self.vote, members, signature: Signature::NONE }.signed(group)
    }
    /// As the body of a message or record.
    pub fn body(&self) -> Body {
        let mut out = Vec::new();
        out.put_u64_le(self.vote.slot.0);
        out.put_slice(&self.vote.digest.0);
        out.put_u8(self.signatures.len() as u8);
        for (node, signature) in &self.signatures {
            out.put_u8(node.0);
            out.put_slice(&signature.0);
        }
        self.membership.encode(&mut out);
        Body::new(out.into())
    }
    /// Reads it back. `None` when the bytes are not exactly what `body` gives.
    pub fn decode(mut bytes: &[u8]) -> Option<Charter> {
        let slot = Slot(u64::from_le_bytes(take(&mut bytes)?));
        let vote = Vote { slot, digest: Digest(take(&mut bytes)?) };
        let [count] = take(&mut bytes)?;
        let mut one = || Some((NodeId(take::<1>(&mut bytes)?[0]), Signature(take(&mut bytes)?)));
        let signatures = (0..count).map(|_| one()).collect::<Option<Vec<_>>>()?;
        let membership = Membership::take(&mut bytes)?;
        let whole = bytes.is_empty() && signatures.is_sorted_by(|a, b| a.0 < b.0);
        whole.then_some(Charter { vote, membership, signatures })
    }
}

#[cfg(test)]
mod tests {
    use super::super::members::Member;
    use super::*;
    use crate::base::NodeSet;
    use crate::crypto::{PublicKey, VerifyingKey};

    fn charter() -> Charter {
        let member = |id| Member {
            id: NodeId(id),
            key: PublicKey([id; 32]),
            signing_key: VerifyingKey([id; 32]),
            peer: "host:1".into(),
            client: "host:2".into(),
            admin: "host:3".into(),
        };
        let members = (1..=4).map(member).collect();
        let membership = Membership { epoch: 3, faulty: 1, retired: NodeSet(1 << 9), members };
        let signatures = (1..=3).map(|node| (NodeId(node), Signature([node; 64]))).collect();
        Charter { vote: Vote { slot: Slot(64), digest: Digest([7; 32]) }, membership, signatures }
    }

    #[test]
    fn every_byte_counts_and_every_cut_is_noticed() {
        let charter = charter();
        let body = charter.body();
        let bytes = body.bytes();
        assert_eq!(Charter::decode(bytes), Some(charter.clone()));
        assert!((0..bytes.len()).all(|end| Charter::decode(&bytes[..end]).is_none()));
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            let read = Charter::decode(&bad);
            assert!(read.is_none_or(|read| read != charter && *read.body().bytes() == bad), "byte {at}");
        }
        let mut twice = charter.clone();
        twice.signatures.push(twice.signatures[2]);
        assert_eq!(Charter::decode(twice.body().bytes()), None, "one voice is counted once");
    }

    #[test]
    fn a_charter_is_signed_as_the_words_that_it_is_made_of() {
        let charter = charter();
        let (epoch, members) = (3, charter.membership.digest());
        let word = Succession { epoch, vote: charter.vote, members, signature: Signature([5; 64]) };
        assert_eq!(word.signed(GroupId(1)), charter.signed(GroupId(1)));
        assert_ne!(word.signed(GroupId(2)), charter.signed(GroupId(1)));
        assert_eq!(Succession::decode(word.body().bytes()), Some(word));
        let mut other = charter.clone();
        other.membership.faulty = 0;
        assert_ne!(other.signed(GroupId(1)), charter.signed(GroupId(1)));
    }
}
