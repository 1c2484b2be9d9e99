//! Replicas of a group of which some lie, told by hand what they hear.

use super::*;
use crate::base::{Digest, GROUP_ONE, Instant, Stamp};
use crate::crypto::{Keyring, SigningKey};
use crate::protocol::pbft::{Options, Setup};
use crate::protocol::{Input, Protocol};
use crate::wire::pbft::{NewView, Proposal, digest};
use crate::wire::{Entry, Message as Any};

fn key(node: u8) -> SigningKey {
    SigningKey::from_entropy([node; 32])
}
fn ring(me: u8, nodes: u8) -> Keyring {
    Keyring::new(key(me), (1..=nodes).map(|node| (NodeId(node), key(node).public())))
}
fn replica(me: u8, nodes: u8) -> Pbft {
    let members = (1..=nodes).map(NodeId).collect();
    let options = Options::default();
    let (cluster, anchor, state) = Default::default();
    let (me, keys) = (NodeId(me), ring(me, nodes));
    let setup = Setup { cluster, group: GROUP_ONE, me, members, anchor, state, boot: 1, options, keys };
    Pbft::new(setup, Instant::ZERO)
}

/// Tells a replica something and ends the burst.
fn tell(replica: &mut Pbft, from: u8, message: Message) -> Outbox {
    let mut out = Outbox::default();
    out.enter(GROUP_ONE);
    replica.step(Instant::ZERO, Input::Receive { from: NodeId(from), message }, &mut out);
    replica.settle(Instant::ZERO, &mut out);
    replica.check();
    out
}
/// What it says to others, of the kind that `of` picks.
fn said<T>(out: &Outbox, of: impl Fn(&Message) -> Option<T>) -> Vec<T> {
    let message = |send: &crate::protocol::Send| match &send.message {
        Any::Pbft(message) => of(message),
        _ => None,
    };
    out.sends.iter().filter_map(message).collect()
}
fn accusation(out: &Outbox) -> Option<Message> {
    said(out, |message| matches!(message, Message::Accuse { .. }).then(|| message.clone())).pop()
}

/// The first primary's assignment of slot 1, where the stamp stands for what it is.
fn pre_prepare(stamp: u64) -> Message {
    let entry = Entry { slot: Slot(1), stamp: Stamp(stamp), ..Entry::default() };
    let votes = [Vote { slot: Slot(1), digest: digest(&entry) }];
    let signature = key(1).sign(&signed_proposals(GROUP_ONE, View(0), &votes));
    let proposals = vec![Proposal { entry, signature: Signature::NONE }];
    Message::PrePrepare { view: View(0), proposals, signature }
}
fn checkpoint(node: u8, value: u8) -> Message {
    let slot = Slot(Options::default().checkpoint_every);
    let vote = Vote { slot, digest: Digest([value; 32]) };
    Message::Checkpoint { vote, signature: key(node).sign(&signed_checkpoint(GROUP_ONE, &vote)) }
}
fn kinds(replica: &Pbft) -> Vec<(u8, &'static str)> {
    replica.proofs().map(|(node, kind, _)| (node.0, kind)).collect()
}

#[test]
fn byzantine_node_detected_by_two_assignments_and_everybody_leaves_its_view() {
    let mut two = replica(2, 4);
    assert_eq!(accusation(&tell(&mut two, 1, pre_prepare(5))), None);
    let out = tell(&mut two, 1, pre_prepare(6));
    assert_eq!(kinds(&two), [(1, "two-proposals")]);
    assert_eq!(out.convictions.len(), 1, "the keeper gets it");
    assert_eq!((two.view(), two.is_active()), (View(1), false));
    let accuse = accusation(&out).expect("the others are told");
    let mut three = replica(3, 4);
    let out = tell(&mut three, 2, accuse.clone());
    assert_eq!((kinds(&three), three.view()), (kinds(&two), View(1)), "it has seen neither assignment");
    assert!(accusation(&out).is_some() && out.faults.is_empty());
    let out = tell(&mut three, 4, accuse);
    assert!(out.convictions.is_empty() && accusation(&out).is_none(), "once is enough");
}

#[test]
fn equivocating_primary_that_tells_each_half_another_story_is_convicted_by_its_own_words() {
    let (mut two, mut three) = (replica(2, 4), replica(3, 4));
    let prepare = |out: &Outbox| {
        let of = |message: &Message| matches!(message, Message::Prepare { .. }).then(|| message.clone());
        said(out, of).pop().expect("it prepares")
    };
    let said_by_two = prepare(&tell(&mut two, 1, pre_prepare(5)));
    tell(&mut three, 1, pre_prepare(6));
    let out = tell(&mut three, 2, said_by_two.clone());
    let shown = said(&out, |m| matches!(m, Message::Shown { .. }).then(|| m.clone()));
    assert_eq!((shown.len(), kinds(&three).len()), (1, 0), "a prepare is not signed: it convicts nobody");
    let again = tell(&mut three, 2, said_by_two);
    assert!(said(&again, |m| matches!(m, Message::Shown { .. }).then_some(())).is_empty());
    tell(&mut two, 3, shown[0].clone());
    assert_eq!(kinds(&two), [(1, "two-proposals")]);
    assert_eq!(two.view(), View(1));
}

#[test]
fn slander_convicts_nobody_and_is_heard_once() {
    let mut two = replica(2, 4);
    let words = |stamp| match pre_prepare(stamp) {
        Message::PrePrepare { view, proposals, signature } => {
            let votes = proposals.iter().map(|p| Vote { slot: p.entry.slot, digest: digest(&p.entry) });
            Words { view, votes: votes.collect(), signature }
        }
        _ => unreachable!("it is one"),
    };
    let accuse = |accused, one, other| {
        let proof = Proof::Proposals(one, other);
        let accusation = Accusation { group: GROUP_ONE, accused: NodeId(accused), proof };
        Message::Accuse { proof: Body::new(accusation.encode()) }
    };
    let forged = Words { signature: words(5).signature, ..words(6) };
    for slander in [accuse(1, words(5), forged), accuse(3, words(5), words(6)), accuse(1, words(5), words(5))]
    {
        let mut one = replica(2, 4);
        let out = tell(&mut one, 4, slander.clone());
        assert_eq!((out.faults[0].peer, &out.faults[0].kind), (NodeId(4), &FaultKind::Slanders));
        assert_eq!((kinds(&one).len(), one.view()), (0, View(0)));
        tell(&mut two, 4, slander);
    }
    let true_one = accuse(1, words(5), words(6));
    tell(&mut two, 4, true_one.clone());
    assert_eq!(kinds(&two), [], "who slandered once is not heard again");
    tell(&mut two, 3, true_one);
    assert_eq!(kinds(&two), [(1, "two-proposals")]);
}

#[test]
fn lying_checkpoint_is_convicted_by_a_quorum_of_others_in_whatever_order_they_come() {
    for order in [[7, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7]] {
        let mut one = replica(1, 7);
        for node in order {
            assert_eq!(kinds(&one).len(), 0);
            tell(&mut one, node, checkpoint(node, if node == 7 { 9 } else { 1 }));
        }
        assert_eq!(kinds(&one), [(7, "wrong-checkpoint")]);
    }
    let mut one = replica(1, 7);
    tell(&mut one, 7, checkpoint(7, 1));
    tell(&mut one, 7, checkpoint(7, 2));
    assert_eq!(kinds(&one), [(7, "two-checkpoints")]);
    let Message::Checkpoint { vote, .. } = checkpoint(6, 1) else { unreachable!("it is one") };
    let out = tell(&mut one, 6, Message::Checkpoint { vote, signature: Signature::NONE });
    assert_eq!(out.faults[0].kind, FaultKind::BadSignature);
}

#[test]
fn a_new_view_that_its_view_changes_do_not_allow_convicts_its_primary() {
    let mut one = replica(1, 4);
    let mut new_view = NewView { view: View(1), changes: Vec::new(), signature: Signature::NONE };
    new_view.signature = key(2).sign(&new_view.signed(GROUP_ONE));
    tell(&mut one, 3, Message::NewView(new_view));
    assert_eq!(kinds(&one), [(2, "bad-new-view")]);
    assert_eq!(one.view(), View(2), "the view of a convict is no view to wait for");
}

#[test]
fn views_of_the_convicted_are_skipped_and_that_survives_a_restart() {
    let mut one = replica(1, 7);
    for value in [1, 2] {
        tell(&mut one, 2, checkpoint(2, value));
    }
    assert_eq!((kinds(&one), one.view()), (vec![(2, "two-checkpoints")], View(0)), "it is not primary now");
    let proofs: Vec<Body> = one.proofs().map(|(.., body)| body.clone()).collect();
    let mut again = replica(1, 7);
    proofs.iter().for_each(|proof| again.recall(proof));
    again.recall(&Body::new(bytes::Bytes::from_static(b"rotten")));
    assert_eq!(kinds(&again), kinds(&one));
    for mut replica in [one, again] {
        let mut out = Outbox::default();
        replica.leave(Instant::ZERO, View(1), &mut out);
        assert_eq!(replica.view(), View(2));
    }
}

#[test]
fn more_convicts_than_the_group_can_bear_are_not_shunned() {
    let mut one = replica(1, 4);
    for node in [2, 3] {
        for value in [1, 2] {
            tell(&mut one, node, checkpoint(node, value));
        }
    }
    assert_eq!(kinds(&one).len(), 2);
    let mut out = Outbox::default();
    one.leave(Instant::ZERO, View(1), &mut out);
    assert_eq!(one.view(), View(1));
}
