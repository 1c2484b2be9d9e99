//! Who is in a Byzantine group, as part of what the group replicates: an [`Amendment`], which an operator signs and the log orders like
//! any batch, names the whole next [`Membership`]; [`Members`] is what a state holds of it.
//!
//! The store and the protocol core each keep a [`Members`] and come to the same by the same rule, as they do with sequences
//! ([`super::sequence`]). Each membership is an *epoch*, and epochs count from 0, the one that the configuration lists and no state
//! does.
//!
//! ```text
//! amendment   cluster 16 · window u64 · checkpoints u64 · membership
//! membership  epoch u64 · faulty u8 · retired u64 · members u8 · member...
//! member      id u8 · key 32 · signing key 32 · (length u8 · address) for peers, clients and the service plane      (ids rise)
//! state       1 u8 if a membership is in force, else 0 · (slot u64 · length u32 · membership)... · the same for the next one
//! ```

use super::Batch;
use super::pbft::signed_batch;
use crate::base::{Body, Digest, GroupId, NodeId, NodeSet, Origin, Slot};
use crate::crypto::{ClusterId, PublicKey, Signature, SigningKey, VerifyingKey};
use bytes::BufMut;

/// Stands for the operator where batches name the node that they are from. No member and no native client has this id.
pub const OPERATOR: NodeId = NodeId(u8::MAX);

/// Longest address of a member, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Ids of members are below it (`config::limits::NODES_MAX` says the same to people).
const IDS: u8 = 64;

/// Bytes of a state's encoding at most: two memberships of the longest members.
pub const STATE_BYTES_MAX: usize = 2 * (1 + 8 + 4 + 18 + IDS as usize * (68 + 3 * ADDRESS_BYTES_MAX));

/// A replica as the group's own state knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name: used once in the life of a group.
    pub id: NodeId,
    /// Its static key, by which links know it.
    pub key: PublicKey,
    /// The key that it signs with.
    pub signing_key: VerifyingKey,
    /// Where other nodes reach it.
    pub peer: String,
    /// Where clients reach it.
    pub client: String,
    /// Where operators reach it: its service plane. Empty where nobody else is to know.
    pub admin: String,
}

/// The replicas of one epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Rises by one with each.
    pub epoch: u64,
    /// How many of them may lie.
    pub faulty: u8,
    /// Ids that were members' and never are again: what an id has signed or submitted stays its own.
    pub retired: NodeSet,
    /// Rising by id.
    pub members: Vec<Member>,
}

/// What an operator signs to change the members: the next membership whole, so that nobody need know the present one to read it. It is
/// worth something in one place only: the cluster that it names, the group that its batch's signature names, and there as what follows
/// the epoch before its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Amendment {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// The group's window and the distance of its checkpoints, by which the slot is found at which it takes effect. Replicas order
    /// no amendment that names others than theirs, so stores need not know them.
    pub window: u64,
    /// See `window`.
    pub checkpoint_every: u64,
    /// What is to be.
    pub membership: Membership,
}

/// An amendment as its operator hands it in.
///
/// ```text
/// number u64 · signature 64 · amendment
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Of two for one epoch the later has the higher one.
    number: u64,
    signature: Signature,
    amendment: Vec<u8>,
}

/// What a state knows of its members: nothing in epoch 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// In force above this slot.
    now: Option<(Slot, Membership)>,
    /// In force once this slot is behind.
    next: Option<(Slot, Membership)>,
}

impl Membership {
    /// The ids of all members.
    pub fn nodes(&self) -> NodeSet {
        self.members.iter().map(|member| member.id).collect()
    }
    /// The keys that they sign with.
    pub fn signing_keys(&self) -> impl Iterator<Item = (NodeId, VerifyingKey)> {
        self.members.iter().map(|member| (member.id, member.signing_key))
    }
    /// Stands for all of it.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        Digest::of(&bytes)
    }
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.epoch);
        out.put_u8(self.faulty);
        out.put_u64_le(self.retired.0);
        out.put_u8(self.members.len() as u8);
        for member in &self.members {
            out.put_u8(member.id.0);
            out.put_slice(&member.key.0);
            out.put_slice(&member.signing_key.0);
            for address in [&member.peer, &member.client, &member.admin] {
                out.put_u8(address.len() as u8);
                out.put_slice(address.as_bytes());
            }
        }
    }
    /// Reads one off the front. `None` where no encoding could be so, or no group could be: too few members for the liars that it is
    /// to bear, ids that do not rise, an id or a key for two.
    pub fn take(bytes: &mut &[u8]) -> Option<Membership> {
        let (epoch, [faulty]) = (u64::from_le_bytes(array(bytes)?), array(bytes)?);
        let (retired, [count]) = (NodeSet(u64::from_le_bytes(array(bytes)?)), array(bytes)?);
        let members = (0..count).map(|_| Member::take(bytes)).collect::<Option<Vec<Member>>>()?;
        let read = Membership { epoch, faulty, retired, members };
        read.is_sound().then_some(read)
    }
    fn is_sound(&self) -> bool {
        let rises = self.members.is_sorted_by(|a, b| a.id < b.id);
        let known = self.members.iter().all(|m| (1..IDS).contains(&m.id.0) && !self.retired.contains(m.id));
        let mut keys: Vec<_> = self.members.iter().map(|m| m.signing_key).collect();
        let mut links: Vec<_> = self.members.iter().map(|m| m.key).collect();
        keys.sort_unstable();
        links.sort_unstable();
        let differ = keys.is_sorted_by(|a, b| a < b) && links.is_sorted_by(|a, b| a < b);
        rises && known && differ && 0 < self.epoch && 3 * usize::from(self.faulty) < self.members.len()
    }
}

impl Member {
    fn take(bytes: &mut &[u8]) -> Option<Member> {
        let ([id], key, signing_key) = (array(bytes)?, PublicKey(array(bytes)?), VerifyingKey(array(bytes)?));
        let (peer, client, admin) = (text(bytes)?, text(bytes)?, text(bytes)?);
        Some(Member { id: NodeId(id), key, signing_key, peer, client, admin })
    }
}

impl Amendment {
    /// The operator's batch, not signed. Each epoch's amendments count as a life of the operator's own.
    pub fn batch(&self, number: u64) -> Batch {
        let origin = Origin { node: OPERATOR, lane: 0, boot: self.membership.epoch };
        let body = Body::new(self.encode().into());
        Batch { origin, sequence: number, floor: number, body, ..Batch::default() }
    }
    /// Its bytes: the body of the operator's batch.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.cluster.0.to_vec();
        out.put_u64_le(self.window);
        out.put_u64_le(self.checkpoint_every);
        self.membership.encode(&mut out);
        out
    }
    /// Reads it back. `None` when no group could be so.
    pub fn decode(mut bytes: &[u8]) -> Option<Amendment> {
        let cluster = ClusterId(array(&mut bytes)?);
        let window = u64::from_le_bytes(array(&mut bytes)?);
        let checkpoint_every = u64::from_le_bytes(array(&mut bytes)?);
        let membership = Membership::take(&mut bytes)?;
        let whole = bytes.is_empty() && 0 < checkpoint_every;
        whole.then_some(Amendment { cluster, window, checkpoint_every, membership })
    }
    /// The last slot of the old epoch, if it is ordered at `slot`: the first checkpoint a whole window above. Whoever has not executed
    /// the amendment has its window below that, so nobody takes part in a later slot without knowing of it.
    fn boundary(&self, slot: Slot) -> Option<Slot> {
        slot.0.checked_add(self.window)?.checked_next_multiple_of(self.checkpoint_every).map(Slot)
    }
}

impl Signed {
    /// Signs an amendment for a group of the cluster that it names.
    pub fn new(amendment: &Amendment, number: u64, group: GroupId, key: &SigningKey) -> Signed {
        let batch = amendment.batch(number);
        let signature = key.sign(&signed_batch(group, &batch));
        Signed { number, signature, amendment: batch.body.bytes().to_vec() }
    }
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.number.to_le_bytes().to_vec();
        out.put_slice(&self.signature.0);
        out.put_slice(&self.amendment);
        out
    }
    /// Reads the batch that it is to become. `None` when it is no amendment; its signature is not looked at.
    pub fn decode(mut bytes: &[u8]) -> Option<Batch> {
        let number = u64::from_le_bytes(array(&mut bytes)?);
        let signature = Signature(array(&mut bytes)?);
        let batch = Amendment::decode(bytes)?.batch(number);
        // One amendment has one form: what is signed is what was sent.
        (*batch.body.bytes() == *bytes).then_some(Batch { signature, ..batch })
    }
}

impl Members {
    /// The epoch in force after what has been applied.
    pub fn epoch(&self) -> u64 {
        self.now.as_ref().map_or(0, |(_, now)| now.epoch)
    }
    /// The membership in force and the slot above which it is; none in epoch 0.
    pub fn now(&self) -> Option<&(Slot, Membership)> {
        self.now.as_ref()
    }
    /// The next membership and the last slot before it, while one is to come.
    pub fn next(&self) -> Option<&(Slot, Membership)> {
        self.next.as_ref()
    }
    /// Whether nothing was ever changed.
    pub fn is_empty(&self) -> bool {
        *self == Members::default()
    }
    /// Takes an operator's batch that stands at `slot`; whether it has an effect. One for another epoch than the next has none, nor one
    /// while another is to come, nor one that calls back who has left.
    pub fn amend(&mut self, slot: Slot, body: &[u8]) -> bool {
        let Some(amendment) = Amendment::decode(body) else { return false };
        let Some(boundary) = amendment.boundary(slot) else { return false };
        let next = amendment.membership;
        let gone = self.now.as_ref().map_or(0, |(_, now)| (now.nodes().0 & !next.nodes().0) | now.retired.0);
        let follows = next.epoch == self.epoch() + 1 && gone & !next.retired.0 == 0;
        let takes_effect = self.next.is_none() && follows;
        if takes_effect {
            self.next = Some((boundary, next));
        }
        takes_effect
    }
    /// Everything up to `slot` has been applied. Whether another epoch begins above it.
    pub fn reach(&mut self, slot: Slot) -> bool {
        let begins = self.next.as_ref().is_some_and(|(boundary, _)| *boundary == slot);
        if begins {
            self.now = self.next.take();
        }
        begins
    }
    /// Appends its bytes; none for epoch 0.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        for one in [&self.now, &self.next] {
            out.put_u8(one.is_some().into());
            if let Some((slot, membership)) = one {
                let mut bytes = Vec::new();
                membership.encode(&mut bytes);
                out.put_u64_le(slot.0);
                out.put_u32_le(bytes.len() as u32);
                out.put_slice(&bytes);
            }
        }
    }
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
    /// Reads them back.
    pub fn decode(mut bytes: &[u8]) -> Option<Members> {
        if bytes.is_empty() {
            return Some(Members::default());
        }
        let mut one = || -> Option<Option<(Slot, Membership)>> {
            let [is_there] = array(&mut bytes)?;
            if is_there == 0 {
                return Some(None);
            }
            let slot = Slot(u64::from_le_bytes(array(&mut bytes)?));
            let length = u32::from_le_bytes(array(&mut bytes)?) as usize;
            let (mut membership, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            let read = Membership::take(&mut membership)?;
            (is_there == 1 && membership.is_empty()).then_some(Some((slot, read)))
        };
        let members = Members { now: one()?, next: one()? };
        let rises = members.next.as_ref().is_none_or(|(_, next)| next.epoch == members.epoch() + 1);
        (bytes.is_empty() && rises && !members.is_empty()).then_some(members)
    }
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let [length] = array(bytes)?;
    let (text, rest) = bytes.split_at_checked(length.into())?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(epoch: u64, ids: impl IntoIterator<Item = u8>, retired: u64) -> Membership {
        let member = |id| Member {
            id: NodeId(id),
            key: PublicKey([id; 32]),
            signing_key: VerifyingKey([id; 32]),
            peer: format!("10.0.0.{id}:7300"),
            client: String::new(),
            admin: "a".repeat(usize::from(id)),
        };
        let members = ids.into_iter().map(member).collect();
        Membership { epoch, faulty: 1, retired: NodeSet(retired), members }
    }
    fn amendment(membership: Membership) -> Vec<u8> {
        Amendment { cluster: ClusterId([7; 16]), window: 8, checkpoint_every: 4, membership }.encode()
    }

    #[test]
    fn an_amendment_takes_effect_at_the_first_checkpoint_a_window_above_its_slot() {
        let mut members = Members::default();
        let first = membership(1, 1..=5, 0);
        assert!(members.amend(Slot(5), &amendment(first.clone())));
        assert_eq!((members.epoch(), members.next()), (0, Some(&(Slot(16), first.clone()))));
        assert!(!members.reach(Slot(15)) && members.reach(Slot(16)) && !members.reach(Slot(16)));
        assert_eq!((members.now(), members.next()), (Some(&(Slot(16), first)), None));
        assert!(members.amend(Slot(20), &amendment(membership(2, 1..=4, 1 << 5))), "20 + 8 is a checkpoint");
        assert_eq!(members.next().map(|(slot, _)| *slot), Some(Slot(28)));
    }

    #[test]
    fn one_at_a_time_in_order_and_nobody_comes_back() {
        let mut members = Members::default();
        let refused = |members: &mut Members, membership| {
            let before = members.clone();
            assert!(!members.amend(Slot(30), &amendment(membership)));
            assert_eq!(*members, before);
        };
        refused(&mut members, membership(2, 1..=4, 0));
        assert!(members.amend(Slot(1), &amendment(membership(1, 1..=4, 0))));
        refused(&mut members, membership(1, 1..=4, 0));
        refused(&mut members, membership(2, 1..=4, 0));
        members.reach(Slot(12));
        refused(&mut members, membership(1, 1..=4, 0));
        refused(&mut members, membership(2, 2..=5, 0));
        assert!(members.amend(Slot(30), &amendment(membership(2, 2..=5, 1 << 1))));
        members.reach(Slot(40));
        refused(&mut members, membership(3, 2..=5, 0));
        refused(&mut members, membership(3, 1..=5, 1 << 1));
    }

    #[test]
    fn groups_that_cannot_be_are_not_read() {
        let sound = membership(1, 1..=4, 0);
        assert!(Amendment::decode(&amendment(sound.clone())).is_some());
        let bad = |change: &dyn Fn(&mut Membership)| {
            let mut bad = sound.clone();
            change(&mut bad);
            assert_eq!(Amendment::decode(&amendment(bad)), None);
        };
        bad(&|m| m.faulty = 2);
        bad(&|m| m.members.swap(0, 1));
        bad(&|m| m.members[3].id = NodeId(64));
        bad(&|m| m.members[0].id = NodeId(0));
        bad(&|m| m.members[2].signing_key = m.members[1].signing_key);
        bad(&|m| m.members[2].key = m.members[1].key);
        bad(&|m| m.retired = NodeSet(1 << 3));
        bad(&|m| m.members.clear());
        bad(&|m| m.epoch = 0);
    }

    #[test]
    fn what_an_operator_hands_in_is_read_as_it_was_signed_and_in_no_other_form() {
        let (key, number) = (SigningKey::from_entropy([3; 32]), 77);
        let membership = membership(4, 1..=4, 0);
        let amendment = Amendment { cluster: ClusterId([7; 16]), window: 8, checkpoint_every: 4, membership };
        let bytes = Signed::new(&amendment, number, GroupId(1), &key).bytes();
        let batch = Signed::decode(&bytes).expect("it is whole");
        assert_eq!((batch.origin.node, batch.origin.boot, batch.sequence), (OPERATOR, 4, number));
        assert_eq!(Amendment::decode(batch.body.bytes()), Some(amendment));
        let ring = crate::crypto::Keyring::new(key.clone(), [(OPERATOR, key.public())]);
        let holds =
            |group, batch: &Batch| ring.verify(OPERATOR, &signed_batch(group, batch), &batch.signature);
        assert!(holds(GroupId(1), &batch) && !holds(GroupId(2), &batch));
        assert!((0..bytes.len()).all(|end| Signed::decode(&bytes[..end]).is_none()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Signed::decode(&bad).is_none_or(|batch| !holds(GroupId(1), &batch)), "byte {at}");
        }
    }

    #[test]
    fn a_state_survives_its_bytes_and_no_cut_does() {
        let mut members = Members::default();
        assert_eq!((members.bytes(), Members::decode(&[])), (Vec::new(), Some(Members::default())));
        members.amend(Slot(1), &amendment(membership(1, 1..=4, 0)));
        assert_eq!(Members::decode(&members.bytes()), Some(members.clone()));
        members.reach(Slot(12));
        members.amend(Slot(13), &amendment(membership(2, 1..=7, 0)));
        let bytes = members.bytes();
        assert!(bytes.len() <= STATE_BYTES_MAX);
        assert_eq!(Members::decode(&bytes), Some(members));
        assert!((1..bytes.len()).all(|end| Members::decode(&bytes[..end]).is_none()));
    }
}
