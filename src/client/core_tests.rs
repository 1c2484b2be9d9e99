//! The core alone: replies by hand.

use super::*;
use crate::crypto::PublicKey;
use crate::resp::{Op, batch};
use crate::wire::members::{Member, Membership};
use crate::wire::pbft::Vote;

const REPLICAS: usize = 4;
const CLIENT: NodeId = NodeId(64);
const RETRY: Duration = Duration::from_millis(100);
const WITHIN: Duration = Duration::from_secs(2);

fn key(id: u8) -> SigningKey {
    SigningKey::from_entropy([id; 32])
}
fn membership(epoch: u64, ids: impl IntoIterator<Item = u8>) -> Membership {
    let member = |id: u8| Member {
        id: NodeId(id),
        key: PublicKey([id; 32]),
        signing_key: key(id).public(),
        peer: String::new(),
        client: String::new(),
        admin: String::new(),
    };
    let members: Vec<Member> = ids.into_iter().map(member).collect();
    let faulty = Quorum::most(members.len()).f() as u8;
    Membership { epoch, faulty, retired: Default::default(), members }
}
/// How an epoch begins, signed by these.
fn charter(membership: Membership, signers: &[u8]) -> Charter {
    let vote = Vote { slot: Slot(64 * membership.epoch), digest: Digest([1; 32]) };
    let mut charter = Charter { vote, membership, signatures: Vec::new() };
    let signed = charter.signed(crate::base::GROUP_ONE);
    charter.signatures = signers.iter().map(|id| (NodeId(*id), key(*id).sign(&signed))).collect();
    charter
}
fn core(auth: Auth, fast_reads: bool) -> Core {
    let settings = Settings {
        group: crate::base::GROUP_ONE,
        me: CLIENT,
        boot: 7,
        fast_reads,
        auth,
        retry_after: RETRY,
        answer_within: WITHIN,
    };
    let lineage = Lineage::new(settings.group, membership(0, 1..=REPLICAS as u8));
    let mut core = Core::new(settings, lineage, SigningKey::from_entropy([5; 32]));
    core.timeout(Instant::ZERO);
    assert_eq!(std::mem::take(&mut core.outgoing).len(), REPLICAS, "it asks whether these are the members");
    core
}
fn commands(count: usize) -> Bytes {
    let mut bytes = Vec::new();
    (0..count).for_each(|_| batch::write(&mut bytes, Op::Get, 0, [&b"key"[..]].into_iter()));
    bytes.into()
}
fn write(core: &mut Core, now: Instant, sequence: u64) {
    core.demand(now, Demand::Write { sequence, body: Body::new(commands(1)), growth: 0, left: now });
}
fn read(core: &mut Core, now: Instant, id: u64) {
    core.demand(now, Demand::Read { id, body: commands(1) });
}
/// Whom it asked in which epoch the group is, and in which it is itself.
fn asked(core: &mut Core) -> (Vec<u8>, u64) {
    let mut epoch = 0;
    let mut to = Vec::new();
    core.outgoing.retain(|outgoing| {
        let wire::Message::Pbft(pbft::Message::Status { view, .. }) = &outgoing.message else { return true };
        to.push(outgoing.to.0);
        epoch = view.epoch();
        false
    });
    (to, epoch)
}
/// What was sent: to whom, lane, sequence, floor, attempt, whether it was signed.
fn sent(core: &mut Core) -> Vec<(u8, u8, u64, u64, u32, bool)> {
    let one = |outgoing: Outgoing| match outgoing.message {
        wire::Message::Forward(Message::Batch { batch, attempt }) => {
            let signed = batch.signature != Default::default();
            (outgoing.to.0, batch.origin.lane, batch.sequence, batch.floor, attempt, signed)
        }
        wire::Message::Forward(Message::Read { lane, id, .. }) => (outgoing.to.0, lane, id, 0, 0, false),
        other => panic!("a client says nothing else: {other:?}"),
    };
    asked(core);
    core.outgoing.drain(..).map(one).collect()
}
fn reply(core: &mut Core, from: u8, lane: u8, sequence: u64, text: &'static [u8]) {
    reply_of(0, core, from, lane, sequence, text);
}
fn reply_of(epoch: u64, core: &mut Core, from: u8, lane: u8, sequence: u64, text: &'static [u8]) {
    let body = Body::new(Bytes::from_static(text));
    let reply = Reply { boot: 7, lane, sequence, leader: NodeId(2), epoch, digest: body.digest(), body };
    core.receive(Instant::ZERO, NodeId(from), Message::Replied(reply));
}
fn answers(core: &mut Core) -> Vec<(u64, Option<Bytes>)> {
    let one = |answer: Answer| match answer {
        Answer::Write { sequence, replies, .. } => (sequence, Some(replies)),
        Answer::Read { id, replies, .. } => (id, Some(replies)),
        Answer::WriteFailed { sequence, why: Failure::Indeterminate } => (sequence, None),
        Answer::ReadFailed { id, why: Failure::Indeterminate } => (id, None),
        other => panic!("{other:?}"),
    };
    core.answers.drain(..).map(one).collect()
}
const RIGHT: &[u8] = b"+OK\r\n";
const WRONG: &[u8] = b":666\r\n";

#[test]
fn a_signed_batch_goes_to_the_primary_and_is_answered_by_f_plus_one_equal_replies() {
    let mut core = core(Auth::Sign, false);
    write(&mut core, Instant::ZERO, 1);
    assert_eq!(sent(&mut core), [(1, WRITES, 1, 1, 1, true)]);
    reply(&mut core, 4, WRITES, 1, WRONG);
    reply(&mut core, 4, WRITES, 1, WRONG);
    reply(&mut core, 1, WRITES, 1, RIGHT);
    assert_eq!(answers(&mut core), [], "one voice each");
    reply(&mut core, 2, WRITES, 1, RIGHT);
    assert_eq!(answers(&mut core), [(1, Some(Bytes::from_static(RIGHT)))]);
    assert_eq!((core.counters().contradicted, core.primary()), (1, NodeId(2)), "f + 1 say who leads");
    reply(&mut core, 3, WRITES, 1, RIGHT);
    assert_eq!(answers(&mut core), [], "answered once");
}

#[test]
fn strangers_and_earlier_lives_are_not_heard() {
    let mut core = core(Auth::Sign, false);
    write(&mut core, Instant::ZERO, 1);
    for from in [5, 64] {
        reply(&mut core, from, WRITES, 1, RIGHT);
    }
    let body = Body::new(Bytes::from_static(RIGHT));
    for from in 1..=4 {
        let reply = Reply {
            boot: 6,
            lane: WRITES,
            sequence: 1,
            leader: NodeId(1),
            epoch: 0,
            digest: body.digest(),
            body: body.clone(),
        };
        core.receive(Instant::ZERO, NodeId(from), Message::Replied(reply));
    }
    assert!(answers(&mut core).is_empty() && core.len() == 1);
}

#[test]
fn silence_makes_it_go_again_to_all_signed_and_in_the_end_the_outcome_is_unknown() {
    let mut core = core(Auth::Mac, false);
    write(&mut core, Instant::ZERO, 1);
    write(&mut core, Instant::ZERO, 2);
    let first: Vec<_> = (1..=2).flat_map(|s| (1..=4).map(move |to| (to, WRITES, s, 1, 1, false))).collect();
    assert_eq!(sent(&mut core), first, "each replica has its own tag");
    reply(&mut core, 1, WRITES, 2, RIGHT);
    reply(&mut core, 3, WRITES, 2, RIGHT);
    assert_eq!(answers(&mut core).len(), 1);
    let later = Instant::ZERO.after(RETRY);
    assert_eq!(core.deadline(), later);
    core.timeout(later);
    assert_eq!(sent(&mut core), [1, 2, 3, 4].map(|to| (to, WRITES, 1, 1, 2, true)));
    core.timeout(later.after(RETRY));
    assert_eq!(sent(&mut core), [], "the pause grows");
    core.timeout(later.after(RETRY * 2));
    assert_eq!(sent(&mut core), [1, 2, 3, 4].map(|to| (to, WRITES, 1, 1, 3, true)));
    core.timeout(Instant::ZERO.after(WITHIN));
    assert_eq!((answers(&mut core), core.is_empty()), (vec![(1, None)], true));
}

#[test]
fn what_stands_behind_a_lost_batch_goes_again_with_it_however_late_it_was_made() {
    let mut core = core(Auth::Sign, false);
    write(&mut core, Instant::ZERO, 1);
    write(&mut core, Instant::ZERO.after(RETRY / 2), 2);
    sent(&mut core);
    core.timeout(Instant::ZERO.after(RETRY));
    let again: Vec<_> = sent(&mut core).iter().map(|s| (s.2, s.0)).collect();
    assert_eq!(again, [1, 2].map(|sequence| [1, 2, 3, 4].map(|to| (sequence, to))).concat());
    let silent_behind = |core: &mut Core| {
        reply(core, 1, WRITES, 1, RIGHT);
        reply(core, 2, WRITES, 1, RIGHT);
        assert_eq!(answers(core).len(), 1);
        core.timeout(Instant::ZERO.after(RETRY * 3));
        sent(core).iter().map(|s| s.2).collect::<Vec<_>>()
    };
    assert_eq!(silent_behind(&mut core), [2; 4]);
}

#[test]
fn a_replica_that_asks_for_signatures_gets_them_at_once_and_from_then_on() {
    let mut core = core(Auth::Mac, false);
    write(&mut core, Instant::ZERO, 1);
    sent(&mut core);
    let refused = |boot: u64, from: u8, why: Refusal| {
        (NodeId(from), Message::Refused { boot, lane: WRITES, sequence: 1, attempt: 1, why })
    };
    for (from, message) in
        [refused(6, 2, Refusal::Unsigned), refused(7, 9, Refusal::Unsigned), refused(7, 2, Refusal::Draining)]
    {
        core.receive(Instant::ZERO, from, message);
        assert_eq!(sent(&mut core), [], "an earlier life's, a stranger's, another reason");
    }
    let (from, message) = refused(7, 2, Refusal::Unsigned);
    core.receive(Instant::ZERO, from, message.clone());
    assert_eq!(sent(&mut core), [1, 2, 3, 4].map(|to| (to, WRITES, 1, 1, 2, true)));
    core.receive(Instant::ZERO, from, message);
    write(&mut core, Instant::ZERO, 2);
    assert_eq!(sent(&mut core), [(1, WRITES, 2, 1, 1, true)]);
}

#[test]
fn those_behind_one_that_is_given_up_go_again_with_a_higher_floor() {
    let mut core = core(Auth::Sign, false);
    write(&mut core, Instant::ZERO, 1);
    let later = Instant::ZERO.after(WITHIN / 2);
    write(&mut core, later, 2);
    sent(&mut core);
    core.timeout(Instant::ZERO.after(WITHIN));
    assert_eq!(answers(&mut core), [(1, None)]);
    assert_eq!(sent(&mut core), [1, 2, 3, 4].map(|to| (to, WRITES, 2, 2, 2, true)));
}

#[test]
fn a_long_reply_comes_from_one_and_counts_when_others_say_its_digest() {
    let mut core = core(Auth::Sign, false);
    write(&mut core, Instant::ZERO, 1);
    let digest = Digest::of(RIGHT);
    for from in [1, 2] {
        let reply = Reply {
            boot: 7,
            lane: WRITES,
            sequence: 1,
            leader: NodeId(1),
            epoch: 0,
            digest,
            body: Body::EMPTY,
        };
        core.receive(Instant::ZERO, NodeId(from), Message::Replied(reply));
    }
    assert_eq!(answers(&mut core), [], "enough agree, but nobody has said it");
    reply(&mut core, 2, WRITES, 1, RIGHT);
    assert_eq!(answers(&mut core), [(1, Some(Bytes::from_static(RIGHT)))]);
}

#[test]
fn a_long_reply_that_its_sender_keeps_back_is_asked_for_at_once_and_alone() {
    let mut core = core(Auth::Sign, false);
    (1..=2).for_each(|sequence| write(&mut core, Instant::ZERO, sequence));
    sent(&mut core);
    for from in [1, 2] {
        let (leader, digest) = (NodeId(1), Digest::of(RIGHT));
        let reply = Reply { boot: 7, lane: WRITES, sequence: 1, leader, epoch: 0, digest, body: Body::EMPTY };
        core.receive(Instant::ZERO, NodeId(from), Message::Replied(reply));
    }
    let soon = Instant::ZERO.after(BODY_PAUSE);
    assert!(BODY_PAUSE < RETRY && core.deadline() <= soon);
    core.timeout(soon);
    assert_eq!(sent(&mut core), [1, 2, 3, 4].map(|to| (to, WRITES, 1, 1, 2, true)), "the second is not lost");
    reply(&mut core, 2, WRITES, 1, RIGHT);
    assert_eq!(answers(&mut core), [(1, Some(Bytes::from_static(RIGHT)))]);
}

#[test]
fn a_fast_read_asks_all_and_needs_a_strong_quorum_and_so_do_writes_then() {
    let mut core = core(Auth::Sign, true);
    read(&mut core, Instant::ZERO, 1);
    assert_eq!(sent(&mut core), [1, 2, 3, 4].map(|to| (to, FAST_READS, 1, 0, 0, false)));
    write(&mut core, Instant::ZERO, 1);
    for lane in [FAST_READS, WRITES] {
        (1..=2).for_each(|from| reply(&mut core, from, lane, 1, RIGHT));
        assert_eq!(answers(&mut core), [], "f + 1 may all be those that a write has not come to");
        reply(&mut core, 4, lane, 1, RIGHT);
        assert_eq!(answers(&mut core).len(), 1);
    }
    assert_eq!((core.counters().fast, core.counters().fallen_back), (1, 0));
}

#[test]
fn a_fast_read_that_cannot_agree_or_hears_too_little_is_ordered() {
    let mut core = core(Auth::Sign, true);
    read(&mut core, Instant::ZERO, 1);
    read(&mut core, Instant::ZERO, 2);
    sent(&mut core);
    reply(&mut core, 1, FAST_READS, 1, RIGHT);
    reply(&mut core, 2, FAST_READS, 1, WRONG);
    assert_eq!(sent(&mut core), [], "two more may agree with either");
    reply(&mut core, 3, FAST_READS, 1, b":1\r\n");
    assert_eq!(sent(&mut core), [(2, ORDERED_READS, 1, 1, 1, true)]);
    core.timeout(Instant::ZERO.after(RETRY));
    let ordered: Vec<u64> = sent(&mut core).iter().filter(|s| s.1 == ORDERED_READS).map(|s| s.2).collect();
    assert!(ordered.contains(&2), "{ordered:?}");
    (1..=3).for_each(|from| reply(&mut core, from, ORDERED_READS, 2, RIGHT));
    (1..=3).for_each(|from| reply(&mut core, from, ORDERED_READS, 1, RIGHT));
    assert_eq!(answers(&mut core).iter().map(|a| a.0).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(core.counters().fallen_back, 2);
}

#[test]
fn without_fast_reads_a_read_is_ordered_from_the_start_and_f_plus_one_are_enough() {
    let mut core = core(Auth::Sign, false);
    read(&mut core, Instant::ZERO, 9);
    assert_eq!(sent(&mut core), [(1, ORDERED_READS, 1, 1, 1, true)]);
    (3..=4).for_each(|from| reply(&mut core, from, ORDERED_READS, 1, RIGHT));
    assert_eq!(answers(&mut core), [(9, Some(Bytes::from_static(RIGHT)))]);
}

#[test]
fn a_window_of_batches_is_the_most_that_is_under_way() {
    let mut core = core(Auth::Sign, false);
    for sequence in 1..=WINDOW as u64 {
        assert!(core.has_room());
        write(&mut core, Instant::ZERO, sequence);
    }
    assert!(!core.has_room());
    (1..=2).for_each(|from| reply(&mut core, from, WRITES, 1, RIGHT));
    assert!(core.has_room());
}

#[test]
fn with_the_epoch_changes_whom_it_asks_and_believes_and_how_many_and_what_is_open_is_asked_anew() {
    let mut core = core(Auth::Sign, false);
    write(&mut core, Instant::ZERO, 1);
    reply(&mut core, 4, WRITES, 1, RIGHT);
    sent(&mut core);
    core.timeout(Instant::ZERO.after(ASK_EVERY));
    assert_eq!(asked(&mut core), (vec![1, 2, 3, 4], 0));
    let next = membership(1, 3..=9);
    core.chartered(Instant::ZERO, &charter(next.clone(), &[1, 4, 9]));
    assert_eq!((core.lineage().latest().epoch, sent(&mut core).len()), (0, 4), "one of them is no member");
    core.chartered(Instant::ZERO, &charter(next, &[1, 3, 4]));
    let again: Vec<_> = sent(&mut core).iter().map(|s| (s.0, s.2)).collect();
    assert_eq!(again, [3, 4, 5, 6, 7, 8, 9].map(|to| (to, 1)));
    assert_eq!(core.primary(), NodeId(3));
    core.timeout(Instant::ZERO.after(ASK_EVERY));
    assert_eq!(asked(&mut core), (vec![3, 4, 5, 6, 7, 8, 9], 1), "there may be more to follow");
    for from in [1, 2] {
        reply_of(1, &mut core, from, WRITES, 1, RIGHT);
    }
    for from in [5, 6] {
        reply_of(1, &mut core, from, WRITES, 1, RIGHT);
    }
    assert_eq!(answers(&mut core), [], "of seven two may lie, and what the fourth said was of another epoch");
    reply_of(1, &mut core, 9, WRITES, 1, RIGHT);
    assert_eq!(answers(&mut core).len(), 1);
}

#[test]
fn a_word_of_another_epoch_counts_nothing_but_makes_it_ask() {
    let mut core = core(Auth::Sign, true);
    read(&mut core, Instant::ZERO, 1);
    sent(&mut core);
    let soon = Instant::ZERO.after(ASK_PAUSE);
    core.timeout(soon);
    assert_eq!(asked(&mut core).0, Vec::<u8>::new(), "nobody has said anything");
    for from in 1..=4 {
        reply_of(3, &mut core, from, FAST_READS, 1, RIGHT);
    }
    assert_eq!((answers(&mut core), core.deadline()), (vec![], soon));
    core.timeout(soon);
    assert_eq!(asked(&mut core), (vec![1, 2, 3, 4], 0));
    (1..=3).for_each(|from| reply(&mut core, from, FAST_READS, 1, RIGHT));
    assert_eq!((answers(&mut core).len(), core.counters().of_other_epochs), (1, 4));
}

/// A group that takes half a second from some moment on.
#[test]
fn a_group_that_has_become_slow_is_soon_asked_once() {
    let slow = 5 * RETRY;
    let mut core = core(Auth::Sign, false);
    let mut again = Vec::new();
    for sequence in 1..=6 {
        let begun = Instant::ZERO.after(2 * slow * sequence as u32);
        write(&mut core, begun, sequence);
        while core.deadline() < begun.after(slow) {
            core.timeout(core.deadline());
        }
        for from in [1, 2] {
            let body = Body::new(Bytes::from_static(RIGHT));
            let (lane, leader, digest) = (WRITES, NodeId(1), body.digest());
            let reply = Reply { boot: 7, lane, sequence, leader, epoch: 0, digest, body };
            core.receive(begun.after(slow), NodeId(from), Message::Replied(reply));
        }
        assert_eq!(answers(&mut core).len(), 1);
        again.push(core.counters().again);
    }
    assert_eq!(
        again,
        [2, 3, 3, 3, 3, 3],
        "what goes again gives no sample, but the silence stays long until one comes"
    );
}
