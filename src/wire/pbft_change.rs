//! The two signed messages of a view change, as values and as the bytes that are signed (TOCS 2002, 4.4 and 4.5).
//!
//! Lists of their length do not fit flat heads, so each is one body, little endian, with exactly one encoding:
//!
//! ```text
//! change    view u64 · node u8 · stable u64 · checkpoints u32 · prepared u32 · accepted u32
//!           checkpoint: slot u64 · digest 32        (slots rise)
//!           prepared:   slot u64 · digest 32 · view u64   (slots rise)
//!           accepted:   slot u64 · digest 32 · view u64   (rise by slot, then digest)
//!           signature 64
//! new view  view u64 · changes u32 · (length u32 · change)... · signature 64
//! ```

use super::pbft::Vote;
use crate::base::{Body, Digest, GroupId, NodeId, Slot, View};
use crate::crypto::Signature;
use bytes::{BufMut, Bytes};

/// A slot that prepared at the sender, and in which view it did so last: an element of P.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Prepared {
    /// Slot and digest.
    pub vote: Vote,
    /// The view.
    pub view: View,
}

/// A value that the sender accepted at a slot, and in which view it did so last: an element of Q.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Accepted {
    /// Slot and digest.
    pub vote: Vote,
    /// The view.
    pub view: View,
}

/// A view-change: the sender has left its view for `view` and brings along what may have been decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The view that it wants.
    pub view: View,
    /// The sender.
    pub node: NodeId,
    /// Its newest stable checkpoint (h).
    pub stable: Slot,
    /// The checkpoints that it knows from its own state, the stable one among them (C).
    pub checkpoints: Vec<Vote>,
    /// What prepared above `stable` (P).
    pub prepared: Vec<Prepared>,
    /// What was accepted above `stable` (Q).
    pub accepted: Vec<Accepted>,
    /// The sender's, over [`Change::signed`].
    pub signature: Signature,
}

/// A new-view: the view-changes from which every replica computes what the view begins with. The computed choice is not in it, since
/// whoever believes one instead of computing it is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct NewView {
    /// The view that begins.
    pub view: View,
    /// The view-changes, at most one a sender.
    pub changes: Vec<Change>,
    /// The primary's, over [`NewView::signed`].
    pub signature: Signature,
}

/// Reads little-endian values off the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
    /// A count of things of `size` bytes, which are there.
    fn count(&mut self, size: usize) -> Option<usize> {
        let count = u32::from_le_bytes(self.bytes()?) as usize;
        (count.checked_mul(size)? <= self.0.len()).then_some(count)
    }
    fn vote(&mut self) -> Option<Vote> {
        Some(Vote { slot: Slot(self.number()?), digest: Digest(self.bytes()?) })
    }
    fn placed(&mut self) -> Option<(Vote, View)> {
        Some((self.vote()?, View(self.number()?)))
    }
}

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64_le(vote.slot.0);
    out.put_slice(&vote.digest.0);
}

const VOTE: usize = 40;
const PLACED: usize = 48;
const SIGNATURE: usize = 64;
/// A change without lists.
const CHANGE_MIN: usize = 8 + 1 + 8 + 3 * 4 + SIGNATURE;
/// What is said of a prepared value beside itself: that the sender has not accepted it (as only a liar says), that it has, in that view
/// or last in another one, which follows. So the usual element of Q takes a byte or nine, and not as many as one of P.
const NOT_ACCEPTED: u8 = 0;
const ACCEPTED_THEN: u8 = 1;
const ACCEPTED_LATER: u8 = 2;

impl Change {
    /// How many bytes one with so many checkpoints, prepared values, and accepted ones beside those has at most.
    pub const fn bytes_max(checkpoints: usize, prepared: usize, others: usize) -> usize {
        CHANGE_MIN + VOTE * checkpoints + (PLACED + 1 + 8) * prepared + PLACED * others
    }
    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        let of_prepared = |p: &Prepared| {
            let is_later = self.accepted_as(&p.vote).is_some_and(|view| view != p.view);
            PLACED + 1 + if is_later { 8 } else { 0 }
        };
        let prepared: usize = self.prepared.iter().map(of_prepared).sum();
        CHANGE_MIN + VOTE * self.checkpoints.len() + prepared + PLACED * self.others().count()
    }
    /// In which view the value was accepted last.
    fn accepted_as(&self, vote: &Vote) -> Option<View> {
        let at = self.accepted.binary_search_by_key(vote, |accepted| accepted.vote).ok()?;
        Some(self.accepted[at].view)
    }
    /// What was accepted and is not what prepared.
    fn others(&self) -> impl Iterator<Item = &Accepted> {
        let prepared =
            |vote: &Vote| self.prepared.binary_search_by_key(vote, |prepared| prepared.vote).is_ok();
        self.accepted.iter().filter(move |accepted| !prepared(&accepted.vote))
    }
    /// Leaves out values that were accepted and are not what prepared, of the oldest views first, until it is no longer than `most`.
    pub fn shorten(&mut self, most: usize) {
        let surplus = self.bytes().saturating_sub(most).div_ceil(PLACED);
        let mut others: Vec<Accepted> = self.others().copied().collect();
        others.sort_unstable_by_key(|accepted| (accepted.view, accepted.vote));
        others.truncate(surplus);
        others.sort_unstable();
        self.accepted.retain(|accepted| others.binary_search(accepted).is_err());
    }
    fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        out.put_u64_le(self.view.0);
        out.put_u8(self.node.0);
        out.put_u64_le(self.stable.0);
        out.put_u32_le(self.checkpoints.len() as u32);
        out.put_u32_le(self.prepared.len() as u32);
        out.put_u32_le(self.others().count() as u32);
        self.checkpoints.iter().for_each(|vote| put_vote(&mut out, vote));
        for Prepared { vote, view } in &self.prepared {
            put_vote(&mut out, vote);
            out.put_u64_le(view.0);
            match self.accepted_as(vote) {
                None => out.put_u8(NOT_ACCEPTED),
                Some(accepted) if accepted == *view => out.put_u8(ACCEPTED_THEN),
                Some(accepted) => {
                    out.put_u8(ACCEPTED_LATER);
                    out.put_u64_le(accepted.0);
                }
            }
        }
        for Accepted { vote, view } in self.others() {
            put_vote(&mut out, vote);
            out.put_u64_le(view.0);
        }
        out
    }
    /// What the sender signs.
    pub fn signed(&self, group: GroupId) -> [u8; 32] {
        signed("quorate v1 pbft view-change", group, &self.content())
    }
    /// Its bytes, signature included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.content();
        out.put_slice(&self.signature.0);
        out
    }
    /// Reads it back. `None` when the bytes are not exactly what `encode` gives.
    pub fn decode(bytes: &[u8]) -> Option<Change> {
        let mut at = Cursor(bytes);
        let (view, node, stable) = (View(at.number()?), NodeId(at.bytes::<1>()?[0]), Slot(at.number()?));
        let counts = [at.count(VOTE)?, at.count(PLACED)?, at.count(PLACED)?];
        let checkpoints = (0..counts[0]).map(|_| at.vote()).collect::<Option<Vec<_>>>()?;
        let (mut prepared, mut accepted) = (Vec::with_capacity(counts[1]), Vec::with_capacity(counts[1]));
        for _ in 0..counts[1] {
            let (vote, view) = at.placed()?;
            prepared.push(Prepared { vote, view });
            match at.bytes::<1>()? {
                [NOT_ACCEPTED] => (),
                [ACCEPTED_THEN] => accepted.push(Accepted { vote, view }),
                [ACCEPTED_LATER] => {
                    let later = View(at.number()?);
                    if later == view {
                        return None;
                    }
                    accepted.push(Accepted { vote, view: later });
                }
                _ => return None,
            }
        }
        let mut others = Vec::with_capacity(counts[2]);
        for _ in 0..counts[2] {
            let (vote, view) = at.placed()?;
            others.push(Accepted { vote, view });
        }
        let signature = Signature(at.bytes()?);
        let rises = checkpoints.is_sorted_by(|a, b| a.slot < b.slot)
            && prepared.is_sorted_by(|a, b| a.vote.slot < b.vote.slot)
            && others.is_sorted_by(|a, b| a.vote < b.vote);
        let is_prepared = |vote: &Vote| prepared.binary_search_by_key(vote, |prepared| prepared.vote).is_ok();
        if !at.0.is_empty() || !rises || others.iter().any(|other| is_prepared(&other.vote)) {
            return None;
        }
        accepted.extend(others);
        accepted.sort_unstable();
        Some(Change { view, node, stable, checkpoints, prepared, accepted, signature })
    }
    /// As the body of a message or record.
    pub fn body(&self) -> Body {
        Body::new(Bytes::from(self.encode()))
    }
}

impl NewView {
    /// How many bytes one of these view-changes has.
    pub fn bytes_of(changes: impl IntoIterator<Item = usize>) -> usize {
        8 + 4 + SIGNATURE + changes.into_iter().map(|bytes| 4 + bytes).sum::<usize>()
    }
    fn content(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64_le(self.view.0);
        out.put_u32_le(self.changes.len() as u32);
        for change in &self.changes {
            let bytes = change.encode();
            out.put_u32_le(bytes.len() as u32);
            out.put_slice(&bytes);
        }
        out
    }
    /// What the primary signs.
    pub fn signed(&self, group: GroupId) -> [u8; 32] {
        signed("quorate v1 pbft new-view", group, &self.content())
    }
    /// Its bytes, signature included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.content();
        out.put_slice(&self.signature.0);
        out
    }
    /// Reads it back. `None` when the bytes are not exactly what `encode` gives.
    pub fn decode(bytes: &[u8]) -> Option<NewView> {
        let mut at = Cursor(bytes);
        let view = View(at.number()?);
        let count = at.count(CHANGE_MIN)?;
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            let length = at.count(1)?;
            let (change, rest) = at.0.split_at(length);
            changes.push(Change::decode(change)?);
            at.0 = rest;
        }
        let signature = Signature(at.bytes()?);
        let whole = at.0.is_empty() && changes.is_sorted_by(|a, b| a.node < b.node);
        whole.then_some(NewView { view, changes, signature })
    }
    /// As the body of a message or record.
    pub fn body(&self) -> Body {
        Body::new(Bytes::from(self.encode()))
    }
}

fn signed(context: &str, group: GroupId, content: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&group.0.to_le_bytes());
    hasher.update(content);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(node: u8) -> Change {
        let vote = |slot: u64| Vote { slot: Slot(slot), digest: Digest([slot as u8; 32]) };
        Change {
            view: View(3),
            node: NodeId(node),
            stable: Slot(4),
            checkpoints: vec![vote(4), vote(8)],
            prepared: vec![9, 10, 12]
                .into_iter()
                .map(|slot| Prepared { vote: vote(slot), view: View(2) })
                .collect(),
            accepted: vec![
                Accepted { vote: vote(9), view: View(2) },
                Accepted { vote: vote(10), view: View(1) },
                Accepted { vote: vote(11), view: View(1) },
            ],
            signature: Signature([node; 64]),
        }
    }

    #[test]
    fn every_byte_counts_and_every_cut_is_noticed() {
        let view =
            NewView { view: View(3), changes: vec![change(1), change(2)], signature: Signature([9; 64]) };
        let bytes = view.encode();
        assert_eq!(NewView::decode(&bytes), Some(view));
        assert!((0..bytes.len()).all(|end| NewView::decode(&bytes[..end]).is_none()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(NewView::decode(&bad).is_none_or(|read| read.encode() == bad), "byte {at}");
        }
    }

    #[test]
    fn lists_out_of_order_and_lengths_beyond_the_bytes_are_refused() {
        let mut bad = change(1);
        bad.accepted.push(Accepted { vote: change(1).checkpoints[1], view: View(1) });
        assert_eq!(Change::decode(&bad.encode()), None);
        let mut twice = change(1);
        twice.prepared.push(twice.prepared[0]);
        assert_eq!(Change::decode(&twice.encode()), None, "two claims for one slot");
        let mut bytes = change(1).encode();
        bytes[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Change::decode(&bytes), None);
    }

    #[test]
    fn a_signature_is_for_one_group_and_one_content() {
        let one = change(1);
        assert_ne!(one.signed(GroupId(1)), one.signed(GroupId(2)));
        assert_ne!(one.signed(GroupId(1)), change(2).signed(GroupId(1)));
    }
}
