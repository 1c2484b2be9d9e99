//! How the members of a group came about, for whoever is none of them: a native client, a newcomer, somebody who judges a proof.
//!
//! A [`Lineage`] begins with members that are known beforehand, those that a configuration lists, and goes on by charters alone, each
//! signed by a quorum of the members before. So it does not matter who shows them: one honest source is enough, a lying one can only keep
//! silent, and whoever has slept through several epochs comes to the present. What `f + 1` members say would do for whoever knows the last
//! epoch and hears that many of it; it would not help where those are gone, and nobody could show it to anyone else.

use super::quorum::Quorum;
use crate::base::{GroupId, NodeSet, Slot};
use crate::crypto::Keyring;
use crate::wire::members::Membership;
use crate::wire::pbft::Charter;

/// See the module. It grows only when an operator changes the members.
#[derive(Clone, Debug)]
pub struct Lineage {
    group: GroupId,
    first: Membership,
    /// How the later epochs began, without a gap.
    charters: Vec<Charter>,
    /// Of the latest.
    keys: Keyring,
}

impl Lineage {
    /// Begins with these members.
    pub fn new(group: GroupId, first: Membership) -> Lineage {
        let keys = Keyring::checking(first.signing_keys());
        Lineage { group, first, charters: Vec::new(), keys }
    }
    /// The latest members that are known.
    pub fn latest(&self) -> &Membership {
        self.charters.last().map_or(&self.first, |charter| &charter.membership)
    }
    /// How many of them must agree.
    pub fn quorum(&self) -> Quorum {
        quorum_of(self.latest())
    }
    /// How all epochs but the first began; rising.
    pub fn charters(&self) -> &[Charter] {
        &self.charters
    }
    /// Goes on to the next epoch, if the members of the latest have signed that this is how it begins.
    pub fn follow(&mut self, charter: &Charter) -> bool {
        let latest = self.latest();
        let since = self.charters.last().map_or(Slot::ZERO, |charter| charter.vote.slot);
        let follows = charter.membership.epoch == latest.epoch + 1 && since < charter.vote.slot;
        let is_next =
            follows && is_signed(charter, self.group, (latest.nodes(), quorum_of(latest)), &self.keys);
        if is_next {
            self.keys = Keyring::checking(charter.membership.signing_keys());
            self.charters.push(charter.clone());
        }
        is_next
    }
    /// Goes on as far as these charters lead, in whatever order they are. Whether it went on at all.
    pub fn follow_all<'a>(&mut self, charters: impl Iterator<Item = &'a Charter> + Clone) -> bool {
        let before = self.charters.len();
        while charters.clone().any(|charter| self.follow(charter)) {}
        before < self.charters.len()
    }
    /// The members of an epoch, where it is known.
    pub fn members_of(&self, epoch: u64) -> Option<&Membership> {
        let later = self.charters.iter().map(|charter| &charter.membership);
        std::iter::once(&self.first).chain(later).find(|membership| membership.epoch == epoch)
    }
    /// In which epoch a slot was decided, as far as they are known.
    pub fn epoch_of(&self, slot: Slot) -> u64 {
        let begun = self.charters.iter().rev().find(|charter| charter.vote.slot < slot);
        begun.map_or(self.first.epoch, |charter| charter.membership.epoch)
    }
}

/// How many members must agree.
pub fn quorum_of(membership: &Membership) -> Quorum {
    Quorum::new(membership.members.len(), membership.faulty.into()).expect("a membership bears its liars")
}

/// Whether a quorum of the members before has signed a charter.
pub(super) fn is_signed(
    charter: &Charter,
    group: GroupId,
    (members, quorum): (NodeSet, Quorum),
    keys: &Keyring,
) -> bool {
    let signed = charter.signed(group);
    // The first that is none ends it: a correct replica shows nothing that it has not checked. Nodes rise, so each counts once.
    quorum.strong() <= charter.signatures.len()
        && charter
            .signatures
            .iter()
            .all(|(node, signature)| members.contains(*node) && keys.verify(*node, &signed, signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, GROUP_ONE, NodeId};
    use crate::crypto::{PublicKey, Signature, SigningKey};
    use crate::wire::members::Member;
    use crate::wire::pbft::Vote;

    fn key(id: u8) -> SigningKey {
        SigningKey::from_entropy([id; 32])
    }
    fn membership(epoch: u64, ids: &[u8], faulty: u8) -> Membership {
        let member = |id: &u8| Member {
            id: NodeId(*id),
            key: PublicKey([*id; 32]),
            signing_key: key(*id).public(),
            peer: String::new(),
            client: String::new(),
            admin: String::new(),
        };
        Membership { epoch, faulty, retired: NodeSet::default(), members: ids.iter().map(member).collect() }
    }
    fn charter(membership: &Membership, slot: u64, signers: &[u8]) -> Charter {
        let vote = Vote { slot: Slot(slot), digest: Digest([slot as u8; 32]) };
        let mut charter = Charter { vote, membership: membership.clone(), signatures: Vec::new() };
        let signed = charter.signed(GROUP_ONE);
        charter.signatures = signers.iter().map(|id| (NodeId(*id), key(*id).sign(&signed))).collect();
        charter
    }

    #[test]
    fn whoever_knows_the_first_members_comes_to_the_present_by_charters_in_any_order() {
        let (second, third) = (membership(1, &[2, 3, 4, 5], 1), membership(2, &[3, 4, 5, 6, 7, 8, 9], 2));
        let mut lineage = Lineage::new(GROUP_ONE, membership(0, &[1, 2, 3, 4], 1));
        let chain = [charter(&third, 128, &[2, 3, 5]), charter(&second, 64, &[1, 2, 4])];
        assert!(!lineage.follow(&chain[0]), "who signed it is not known yet");
        assert!(lineage.follow_all(chain.iter()));
        assert_eq!((lineage.latest(), lineage.charters().len()), (&third, 2));
        assert_eq!((lineage.quorum().weak(), lineage.quorum().strong()), (3, 5));
        assert_eq!(lineage.members_of(1), Some(&second));
        assert_eq!([1, 64, 65, 128, 129].map(|slot| lineage.epoch_of(Slot(slot))), [0, 0, 1, 1, 2]);
        assert!(!lineage.follow_all(chain.iter()), "each once");
    }

    #[test]
    fn what_no_quorum_of_the_members_before_has_signed_is_followed_by_nobody() {
        let (first, next) = (membership(0, &[1, 2, 3, 4], 1), membership(1, &[2, 3, 4, 5], 1));
        let refused = |charter: &Charter| {
            let mut lineage = Lineage::new(GROUP_ONE, first.clone());
            assert!(!lineage.follow(charter), "{charter:?}");
            assert_eq!(lineage.latest(), &first);
        };
        refused(&charter(&next, 64, &[1, 2]));
        refused(&charter(&next, 64, &[2, 3, 5]));
        refused(&charter(&membership(2, &[2, 3, 4, 5], 1), 64, &[1, 2, 3]));
        refused(&charter(&next, 0, &[1, 2, 3]));
        let mut forged = charter(&next, 64, &[1, 2, 3]);
        forged.signatures[1].1 = Signature([7; 64]);
        refused(&forged);
        let other = Charter { membership: membership(1, &[2, 3, 4, 6], 1), ..charter(&next, 64, &[1, 2, 3]) };
        refused(&other);
    }
}
