//! Clients that vouch for their batches by tags, one for each replica (`group.client_auth = "mac"`), and what they may try.

use super::clients::{CLIENT, Group, LONG, REPLICAS, batch, key};
use quorate::base::{Body, GROUP_ONE, NodeId, Origin, Prng, Stamp, View};
use quorate::crypto::Signature;
use quorate::protocol::pbft::Options;
use quorate::protocol::{FaultKind, Input, RefusalKind};
use quorate::wire::Batch;
use quorate::wire::pbft::{Message, Proposal, signed_batch};
use std::time::Duration;

fn group() -> Group {
    Group::with(&Options { client_tags: true, ..Options::default() })
}

fn unsigned(sequence: u64) -> Batch {
    Batch { signature: Signature::NONE, ..batch(sequence) }
}

/// A batch of a node's clients: signed in any case.
fn of_node(node: NodeId, sequence: u64) -> Batch {
    let origin = Origin { node, lane: 0, boot: 1 };
    let body = Body::new(b"commands".to_vec().into());
    let mut batch = Batch { origin, sequence, floor: sequence, body, ..Batch::default() };
    batch.signature = key(node).sign(&signed_batch(GROUP_ONE, &batch));
    batch
}

impl Group {
    fn view(&self) -> View {
        self.cores.iter().map(|core| core.view()).max().expect("there are some")
    }
    fn primary(&self) -> u8 {
        (self.view().0 % u64::from(REPLICAS)) as u8 + 1
    }
    fn hear(&mut self, replicas: impl IntoIterator<Item = u8>, batch: &Batch) {
        for replica in replicas {
            self.tell(replica, Input::Heard { from: batch.origin.node, batch: batch.clone() });
        }
    }
    /// The client's link to the primary brings this batch. Why it is not ordered, if it is not.
    fn propose_now(&mut self, batch: &Batch) -> Option<RefusalKind> {
        let primary = self.primary();
        self.tell(primary, Input::Propose { batch: batch.clone(), clock: Stamp(1) });
        self.outs[usize::from(primary) - 1].refuse.pop().map(|refusal| refusal.why)
    }
    fn all_have(&self, batches: &[(NodeId, u64)]) {
        (1..=REPLICAS).for_each(|replica| assert_eq!(self.batches(replica), batches, "replica {replica}"));
    }
}

#[test]
fn what_comes_to_all_with_a_tag_is_ordered_in_whatever_order_it_comes() {
    let mut group = group();
    group.hear(2..=4, &unsigned(1));
    assert_eq!(group.propose_now(&unsigned(1)), None);
    group.run();
    group.all_have(&[(CLIENT, 1)]);
    // The primary was quicker than the client's other frames.
    assert_eq!(group.propose_now(&unsigned(2)), None);
    group.run();
    group.all_have(&[(CLIENT, 1)]);
    group.hear(2..=4, &unsigned(2));
    group.run();
    group.all_have(&[(CLIENT, 1), (CLIENT, 2)]);
    group.wait(LONG);
    assert_eq!((group.view(), group.faults.len()), (View(0), 0));
}

/// Behind the last number there is none, and nobody must look for it.
#[test]
fn a_client_that_begins_with_the_last_number_of_all_harms_only_itself() {
    let mut group = group();
    for last in [unsigned(u64::MAX), batch(u64::MAX)] {
        group.hear(1..=REPLICAS, &last);
        group.run();
        group.all_have(&[(CLIENT, u64::MAX)]);
    }
    group.hear(1..=REPLICAS, &of_node(NodeId(3), 1));
    group.run();
    group.all_have(&[(CLIENT, u64::MAX), (NodeId(3), 1)]);
}

#[test]
fn f_plus_one_that_have_it_are_enough_for_the_others() {
    let mut group = group();
    group.hear([3], &unsigned(1));
    assert_eq!(group.propose_now(&unsigned(1)), None);
    group.run();
    group.all_have(&[(CLIENT, 1)]);
    assert_eq!(group.view(), View(0));
}

#[test]
fn a_signature_that_comes_later_ends_the_doubt_and_costs_no_view() {
    let mut group = group();
    assert_eq!(group.propose_now(&unsigned(1)), None);
    group.run();
    group.wait(Duration::from_millis(200));
    group.all_have(&[]);
    group.hear(2..=4, &batch(1));
    group.run();
    group.all_have(&[(CLIENT, 1)]);
    group.wait(LONG);
    assert_eq!(group.view(), View(0));
}

/// A client tells whoever leads, and nobody else, time and again. How many views that costs.
fn views_of_a_big_mac_client() -> u64 {
    let mut group = group();
    for sequence in 1..=8 {
        group.propose_now(&unsigned(sequence));
        // Others want something as well, so all see that the group stands still.
        let honest = of_node(NodeId(3), sequence);
        group.hear(1..=REPLICAS, &honest);
        group.run();
        // Patience doubles with each view that is lost so soon.
        group.wait(4 * LONG);
        assert!(group.batches(4).contains(&(NodeId(3), sequence)), "round {sequence}");
        assert!(
            !group.batches(4).iter().any(|(node, _)| *node == CLIENT),
            "only the primary ever heard of it"
        );
    }
    group.view().0
}

#[test]
fn a_big_mac_client_costs_one_view_and_must_sign_from_then_on() {
    assert_eq!(views_of_a_big_mac_client(), 1);
    let mut group = group();
    group.propose_now(&unsigned(1));
    group.run();
    group.wait(LONG);
    assert_eq!((group.view(), group.propose_now(&unsigned(2))), (View(1), Some(RefusalKind::Unsigned)));
    assert_eq!(group.propose_now(&batch(2)), None, "signed, it is served like anybody");
    group.run();
    group.all_have(&[(CLIENT, 2)]);
}

#[cfg(feature = "canaries")]
#[test]
fn without_that_a_big_mac_client_costs_a_view_each_time() {
    use quorate::base::canary::{Canary, with};
    assert!(4 <= with(Canary::ProposeUnchecked, views_of_a_big_mac_client));
}

#[test]
fn a_client_whose_other_frames_are_always_late_must_sign_before_a_view_is_lost() {
    let mut group = group();
    assert_eq!(group.propose_now(&unsigned(1)), None);
    group.hear(1..=REPLICAS, &of_node(NodeId(3), 1));
    group.run();
    group.wait(Duration::from_millis(150));
    group.all_have(&[]);
    group.hear(2..=4, &unsigned(1));
    group.run();
    group.all_have(&[(CLIENT, 1), (NodeId(3), 1)]);
    assert_eq!((group.view(), group.propose_now(&unsigned(2))), (View(0), Some(RefusalKind::Unsigned)));
}

#[test]
fn a_primary_cannot_make_up_what_no_client_said() {
    let mut group = group();
    let proposal = |slot: u64, batch: &Batch| {
        let Batch { origin, sequence, floor, ref body, signature, .. } = *batch;
        let kind = quorate::wire::EntryKind::Batch;
        let slot = quorate::base::Slot(slot);
        let entry = quorate::wire::Entry {
            slot,
            kind,
            origin,
            sequence,
            floor,
            body: body.clone(),
            ..Default::default()
        };
        Proposal { entry, signature }
    };
    // What the client did say, to all but replica 4; then other commands under that name.
    group.hear(2..=3, &unsigned(1));
    let forged = Batch { body: Body::new(b"forged!!".to_vec().into()), ..unsigned(1) };
    let proposals = vec![proposal(1, &forged)];
    let votes = vec![quorate::wire::pbft::Vote {
        slot: quorate::base::Slot(1),
        digest: quorate::wire::pbft::digest(&proposals[0].entry),
    }];
    let signature = key(NodeId(1)).sign(&quorate::wire::pbft::signed_proposals(GROUP_ONE, View(0), &votes));
    for backup in 2..=4 {
        let message = Message::PrePrepare { view: View(0), proposals: proposals.clone(), signature };
        group.tell(backup, Input::Receive { from: NodeId(1), message });
    }
    group.run();
    group.wait(LONG);
    (2..=4).for_each(|replica| assert_eq!(group.batches(replica), []));
    assert!(View(1) <= group.view(), "it is replaced");
    // Without tags in use the same is a fault at once.
    let mut strict = Group::new();
    let message = Message::PrePrepare { view: View(0), proposals, signature };
    strict.tell(2, Input::Receive { from: NodeId(1), message });
    strict.run();
    assert_eq!(strict.faults, [(NodeId(1), FaultKind::BadSignature)]);
}

/// Replicas that hear each other badly and a client whose frames come to some, late or never: whatever is executed is what the client
/// said, everywhere in the same order, and once it signs, and nothing is lost any more, all of it is.
#[test]
fn what_some_hear_and_others_do_not_is_executed_by_all_or_by_none() {
    let mut views = 0;
    for seed in 1..=40 {
        let (mut prng, mut group) = (Prng::from_seed(seed), group());
        let mut lost = Prng::from_seed(!seed);
        for sequence in 1..=30 {
            let (batch, heard) = (unsigned(sequence), prng.below(16));
            for replica in (1..=REPLICAS).filter(|replica| heard & (1 << (replica - 1)) != 0) {
                let is_primary = group.primary() == replica;
                match is_primary && prng.chance(9, 10) {
                    true => drop(group.propose_now(&batch)),
                    false => group.hear([replica], &batch),
                }
            }
            if prng.chance(1, 3) {
                group.hear(1..=REPLICAS, &of_node(NodeId(1 + prng.below(4) as u8), sequence));
            }
            group.run_losing(|| lost.chance(1, 20));
            if prng.chance(1, 4) {
                group.wait_losing(Duration::from_millis(prng.below(700)), || lost.chance(1, 20));
            }
        }
        (1..=30).for_each(|sequence| group.hear(1..=REPLICAS, &batch(sequence)));
        group.run();
        group.wait(4 * LONG);
        views += group.view().0;
        let executed = group.batches(1);
        (2..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), executed, "seed {seed}"));
        let last = executed.iter().filter(|(node, _)| *node == CLIENT).map(|(_, sequence)| *sequence).max();
        assert_eq!(last, Some(30), "seed {seed}: {executed:?}");
    }
    assert!(0 < views, "some of it cost views");
}
