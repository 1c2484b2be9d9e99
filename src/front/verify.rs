//! Answers only what other replicas confirm: the node as a client of its group, for clients that cannot ask several nodes themselves.
//!
//! [`Verifier`] holds back what the own store replied to a batch until `enough` replicas, this one among them, have the same replies: of
//! `f + 1` one is correct. It holds as many batches as the front has under way, and for each at most one word a replica.

use super::order::Outcome;
use crate::base::{Digest, Instant, NodeId, Number};
use crate::client::Tally;
use crate::wire::hop::Failure;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much is asked for.
#[derive(Clone, Debug)]
pub struct Verification {
    /// This node.
    pub me: NodeId,
    /// How many equal replies, the own one among them. From the replica: it moves with the members.
    pub enough: Number,
    /// How long the own reply waits for the others; then its outcome is unknown to the client.
    pub within: Duration,
}

/// A batch that is not answered.
#[derive(Debug, Default)]
struct Unverified {
    /// What the own store replied, its digest, and when.
    own: Option<(Bytes, Vec<u32>, Digest, Instant)>,
    tally: Tally,
}

/// The batches of writes on their way to their clients.
#[derive(Debug)]
pub(super) struct Verifier {
    settings: Verification,
    open: BTreeMap<u64, Unverified>,
    /// Batches whose own reply was not what the others say, and those that too few have confirmed in time.
    pub contradicted: u64,
    /// See `contradicted`.
    pub unconfirmed: u64,
}

impl Verifier {
    pub fn new(settings: Verification) -> Verifier {
        Verifier { settings, open: BTreeMap::new(), contradicted: 0, unconfirmed: 0 }
    }
    /// The own store's replies. Gives back what may be answered now.
    pub fn replied(&mut self, now: Instant, number: u64, replies: Bytes, ends: Vec<u32>) -> Option<Outcome> {
        let digest = Digest::of(&replies);
        let batch = self.open.entry(number).or_default();
        batch.tally.hear(self.settings.me, digest);
        batch.own = Some((replies, ends, digest, now));
        self.judge(number)
    }
    /// Another replica's word about a batch that is not answered. Gives back what may be answered now.
    pub fn vouched(&mut self, number: u64, from: NodeId, digest: Digest) -> Option<Outcome> {
        if from == self.settings.me {
            return None;
        }
        self.open.entry(number).or_default().tally.hear(from, digest);
        self.judge(number)
    }
    /// A batch is answered by other means.
    pub fn forget(&mut self, number: u64) {
        self.open.remove(&number);
    }
    /// Everything up to `number` is.
    pub fn settled(&mut self, number: u64) {
        while self.open.first_key_value().is_some_and(|(first, _)| *first <= number) {
            self.open.pop_first();
        }
    }
    fn judge(&mut self, number: u64) -> Option<Outcome> {
        let batch = self.open.get(&number)?;
        let agreed = batch.tally.agreed(self.settings.enough.get() as usize)?;
        let (replies, ends, digest, _) = self.open.get_mut(&number)?.own.take()?;
        self.open.remove(&number);
        if digest == agreed {
            return Some(Outcome::Replies(replies, ends));
        }
        self.contradicted += 1;
        Some(Outcome::Failed(Failure::Unverified))
    }
    /// A batch whose own reply has waited too long, with its outcome: the others may never have applied it one by one.
    pub fn expire(&mut self, now: Instant) -> Option<(u64, Outcome)> {
        let within = self.settings.within;
        let late = |batch: &Unverified| batch.own.as_ref().is_some_and(|own| within <= now.since(own.3));
        let number = *self.open.iter().find(|(_, batch)| late(batch))?.0;
        self.open.remove(&number);
        self.unconfirmed += 1;
        Some((number, Outcome::Failed(Failure::Indeterminate)))
    }
    /// When `expire` has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        // The store replies to batches in their order, so the first that it replied to has waited longest.
        let oldest = self.open.values().find_map(|batch| batch.own.as_ref());
        oldest.map(|(_, _, _, at)| at.after(self.settings.within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(2);
    const ME: NodeId = NodeId(1);

    fn verifier() -> Verifier {
        Verifier::new(Verification { me: ME, enough: Number::new(2), within: WITHIN })
    }
    fn reply(verifier: &mut Verifier, number: u64) -> Option<Outcome> {
        verifier.replied(Instant::ZERO, number, Bytes::from_static(b"+OK\r\n"), vec![5])
    }
    fn right() -> Digest {
        Digest::of(b"+OK\r\n")
    }
    fn wrong() -> Digest {
        Digest::of(b":7\r\n")
    }
    fn is_answered(outcome: Option<Outcome>) -> bool {
        matches!(outcome, Some(Outcome::Replies(replies, _)) if replies == b"+OK\r\n"[..])
    }

    #[test]
    fn the_client_gets_the_right_answer_although_a_replica_lies() {
        let mut verifier = verifier();
        assert!(verifier.vouched(1, NodeId(4), wrong()).is_none());
        assert!(reply(&mut verifier, 1).is_none());
        assert!(verifier.vouched(1, NodeId(4), right()).is_none(), "who has lied has spoken");
        assert!(is_answered(verifier.vouched(1, NodeId(3), right())));
        assert_eq!((verifier.open.len(), verifier.contradicted), (0, 0));
        // The words may come before the own reply.
        assert!(verifier.vouched(2, NodeId(2), right()).is_none());
        assert!(is_answered(reply(&mut verifier, 2)));
    }

    #[test]
    fn the_own_word_counts_once_and_nobody_can_speak_for_this_node() {
        let mut verifier = verifier();
        assert!(verifier.vouched(1, ME, right()).is_none());
        assert!(reply(&mut verifier, 1).is_none());
        assert_eq!(verifier.deadline(), Some(Instant::ZERO.after(WITHIN)));
    }

    #[test]
    fn a_reply_that_others_contradict_is_never_given() {
        let mut verifier = verifier();
        assert!(reply(&mut verifier, 1).is_none());
        assert!(verifier.vouched(1, NodeId(2), wrong()).is_none());
        let outcome = verifier.vouched(1, NodeId(3), wrong());
        assert!(matches!(outcome, Some(Outcome::Failed(Failure::Unverified))));
        assert_eq!(verifier.contradicted, 1);
    }

    #[test]
    fn a_reply_that_too_few_confirm_ends_as_unknown_and_what_is_answered_is_forgotten() {
        let mut verifier = verifier();
        assert!(verifier.vouched(1, NodeId(2), wrong()).is_none());
        assert!(reply(&mut verifier, 1).is_none());
        assert!(verifier.vouched(5, NodeId(2), wrong()).is_none());
        assert!(verifier.expire(Instant(1)).is_none());
        let expired = verifier.expire(Instant::ZERO.after(WITHIN));
        assert!(matches!(expired, Some((1, Outcome::Failed(Failure::Indeterminate)))));
        assert_eq!((verifier.deadline(), verifier.unconfirmed), (None, 1));
        verifier.settled(5);
        assert!(verifier.open.is_empty());
    }
}
