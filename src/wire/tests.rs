//! Frames and records as properties: what is written reads back, what was changed does not, and no bytes panic.

use super::frame::{
    BODIES_MAX, FRAME_BYTES_AIM, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Lane, MESSAGES_MAX,
};
use super::hop::Meta;
use super::members::{Member, Membership};
use super::opener::Opener;
use super::pbft::{self, Charter, Note, Succession, Vote};
use super::raft::{self, AppendOutcome};
use super::sealer::{NotTaken, Sealed, Sealer};
use super::{Batch, Entry, EntryKind, Message, Opened, Record, codec, forward};
use crate::base::{Body, Digest, GroupId, NodeId, Origin, Slot, Stamp, Term, Ticket, View};
use crate::crypto::{DirectionKeys, PublicKey, Signature, VerifyingKey};
use bytes::Bytes;
use proptest::prelude::*;

const SELF: NodeId = NodeId(3);

fn ends(encrypt: bool) -> (Sealer, Opener) {
    let keys = || DirectionKeys::derive(&[7; 32], encrypt);
    (Sealer::new(SELF, keys()), Opener::new(SELF, keys()))
}

fn joined(sealed: &Sealed) -> Vec<u8> {
    let bytes = sealed.parts.concat();
    assert_eq!(bytes.len(), sealed.bytes);
    bytes
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::EMPTY),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|v| Body::new(v.into()))
    ]
}

fn filled() -> impl Strategy<Value = Body> {
    prop::collection::vec(any::<u8>(), 1..200).prop_map(|v| Body::new(v.into()))
}

prop_compose! {
    fn entry()(
        numbers: [u64; 6], node: u8, lane: u8, batch: bool, body in body(),
    ) -> Entry {
        Entry {
            term: Term(numbers[0]),
            slot: Slot(numbers[1]),
            stamp: Stamp(numbers[2]),
            kind: if batch { EntryKind::Batch } else { EntryKind::Empty },
            origin: Origin { node: NodeId(node), lane, boot: numbers[3] },
            sequence: numbers[4],
            floor: numbers[5],
            body,
        }
    }
}

fn outcome() -> impl Strategy<Value = AppendOutcome> {
    prop_oneof![
        any::<u64>().prop_map(|s| AppendOutcome::Matched { slot: Slot(s) }),
        any::<[u64; 3]>().prop_map(|n| AppendOutcome::Conflict {
            prev_slot: Slot(n[0]),
            slot: Slot(n[1]),
            term: Term(n[2])
        }),
        Just(AppendOutcome::Stale),
    ]
}

fn raft_message() -> impl Strategy<Value = raft::Message> {
    use raft::Message as M;
    prop_oneof![
        any::<([u64; 3], bool, bool)>().prop_map(|(n, pre, transfer)| M::Vote {
            term: Term(n[0]),
            last_slot: Slot(n[1]),
            last_term: Term(n[2]),
            pre,
            transfer
        }),
        any::<(u64, bool, bool)>().prop_map(|(t, granted, pre)| M::VoteReply { term: Term(t), granted, pre }),
        (any::<[u64; 5]>(), prop::collection::vec(entry(), 0..8)).prop_map(|(n, entries)| M::Append {
            term: Term(n[0]),
            prev_slot: Slot(n[1]),
            prev_term: Term(n[2]),
            commit: Slot(n[3]),
            entries,
            round: n[4]
        }),
        (any::<[u64; 2]>(), outcome()).prop_map(|(n, outcome)| M::AppendReply {
            term: Term(n[0]),
            outcome,
            round: n[1]
        }),
        any::<[u64; 3]>().prop_map(|n| M::Heartbeat { term: Term(n[0]), commit: Slot(n[1]), round: n[2] }),
        any::<([u64; 2], bool)>().prop_map(|(n, lags)| M::HeartbeatReply {
            term: Term(n[0]),
            round: n[1],
            lags
        }),
        (any::<[u64; 6]>(), body()).prop_map(|(n, body)| M::Piece {
            term: Term(n[0]),
            slot: Slot(n[1]),
            slot_term: Term(n[2]),
            stamp: Stamp(n[3]),
            offset: n[4],
            total: n[5],
            body
        }),
        any::<([u64; 3], bool)>().prop_map(|(n, installed)| M::PieceReply {
            term: Term(n[0]),
            slot: Slot(n[1]),
            next: n[2],
            installed
        }),
        any::<[u64; 2]>().prop_map(|n| M::ReadIndex { term: Term(n[0]), id: n[1] }),
        any::<([u64; 2], Option<u64>)>().prop_map(|(n, slot)| M::ReadIndexReply {
            term: Term(n[0]),
            id: n[1],
            slot: slot.map(Slot)
        }),
        any::<u64>().prop_map(|t| M::TimeoutNow { term: Term(t) }),
    ]
}

/// None for one in four.
fn signature(n: u64) -> Signature {
    if n.is_multiple_of(4) { Signature::NONE } else { Signature([n as u8 | 1; 64]) }
}

fn forward_message() -> impl Strategy<Value = forward::Message> {
    let why = prop_oneof![
        Just(forward::Refusal::NotLeader),
        Just(forward::Refusal::Draining),
        Just(forward::Refusal::Overloaded),
        Just(forward::Refusal::OutOfMemory),
    ];
    prop_oneof![
        (any::<([u64; 4], u8, u8, u32)>(), body()).prop_map(|((n, node, lane, attempt), body)| {
            let origin = Origin { node: NodeId(node), lane, boot: n[0] };
            forward::Message::Batch {
                batch: Batch {
                    origin,
                    sequence: n[1],
                    floor: n[2],
                    growth: n[3],
                    signature: signature(n[3]),
                    body,
                },
                attempt,
            }
        }),
        (any::<([u64; 2], u8, u32)>(), why).prop_map(|((n, lane, attempt), why)| forward::Message::Refused {
            boot: n[0],
            lane,
            sequence: n[1],
            attempt,
            why
        }),
        (any::<([u64; 2], u8)>(), body()).prop_map(|((n, lane), body)| forward::Message::Read {
            boot: n[0],
            lane,
            id: n[1],
            body
        }),
        (any::<([u64; 3], u8, u8, [u8; 32])>(), body()).prop_map(|((n, lane, leader, digest), body)| {
            forward::Message::Replied(forward::Reply {
                boot: n[0],
                lane,
                sequence: n[1],
                leader: NodeId(leader),
                epoch: n[2],
                digest: if body.is_empty() { Digest(digest) } else { body.digest() },
                body,
            })
        }),
    ]
}

fn vote() -> impl Strategy<Value = Vote> {
    any::<(u64, [u8; 32])>().prop_map(|(slot, digest)| Vote { slot: Slot(slot), digest: Digest(digest) })
}

fn view_change() -> impl Strategy<Value = pbft::Change> {
    let sorted = prop::collection::btree_map(any::<u64>(), any::<[u8; 32]>(), 0..5);
    (any::<(u64, u64, u8)>(), sorted).prop_map(|((view, stable, node), slots)| {
        let vote = |(slot, digest): (&u64, &[u8; 32])| Vote { slot: Slot(*slot), digest: Digest(*digest) };
        let checkpoints: Vec<Vote> = slots.iter().map(vote).collect();
        let view = View(view);
        pbft::Change {
            view,
            node: NodeId(node),
            stable: Slot(stable),
            prepared: checkpoints.iter().map(|vote| pbft::Prepared { vote: *vote, view }).collect(),
            accepted: checkpoints.iter().map(|vote| pbft::Accepted { vote: *vote, view }).collect(),
            checkpoints,
            signature: signature(stable),
        }
    })
}

fn pbft_message() -> impl Strategy<Value = pbft::Message> {
    use pbft::Message as M;
    let votes = || prop::collection::vec(vote(), 0..6);
    let entries = || prop::collection::vec(entry(), 0..6);
    let proposal = |(entry, n): (Entry, u64)| pbft::Proposal { entry, signature: signature(n) };
    let proposals = prop::collection::vec((entry(), any::<u64>()).prop_map(proposal), 0..6);
    let new_view = (any::<u64>(), prop::collection::btree_map(any::<u8>(), view_change(), 0..3));
    prop_oneof![
        (any::<[u64; 2]>(), proposals).prop_map(|(n, proposals)| M::PrePrepare {
            view: View(n[0]),
            proposals,
            signature: signature(n[1])
        }),
        (any::<u64>(), votes()).prop_map(|(view, votes)| M::Prepare { view: View(view), votes }),
        (any::<u64>(), votes()).prop_map(|(view, votes)| M::Commit { view: View(view), votes }),
        (vote(), any::<u64>()).prop_map(|(vote, n)| M::Checkpoint { vote, signature: signature(n) }),
        view_change().prop_map(M::ViewChange),
        new_view.prop_map(|(view, changes)| {
            let change = |(node, change)| pbft::Change { node: NodeId(node), ..change };
            let changes = changes.into_iter().map(change).collect();
            M::NewView(pbft::NewView { view: View(view), changes, signature: signature(view) })
        }),
        any::<([u64; 3], bool, bool, bool)>().prop_map(|(n, active, bodies, complains)| M::Status {
            view: View(n[0]),
            active,
            stable: Slot(n[1]),
            executed: Slot(n[2]),
            bodies,
            complains
        }),
        (entries(), votes()).prop_map(|(entries, votes)| M::Decided { entries, votes }),
        votes().prop_map(|votes| M::Want { votes }),
        entries().prop_map(|entries| M::Have { entries }),
        forward_message().prop_filter_map("a batch", |message| match message {
            forward::Message::Batch { batch, .. } => Some(M::Request { batch }),
            _ => None,
        }),
        (any::<[u64; 3]>(), body()).prop_map(|(n, ranges)| M::PieceWant {
            slot: Slot(n[0]),
            offset: n[1],
            round: n[2],
            ranges
        }),
        (any::<[u64; 5]>(), body()).prop_map(|(n, body)| M::Piece {
            round: n[4],
            slot: Slot(n[0]),
            stamp: Stamp(n[1]),
            offset: n[2],
            total: n[3],
            body
        }),
        filled().prop_map(|words| M::Shown { words }),
        filled().prop_map(|proof| M::Accuse { proof }),
        succession().prop_map(M::Succession),
        (succession(), prop::collection::btree_map(1..64_u8, any::<u8>(), 0..5)).prop_map(
            |(word, signers)| {
                let signatures =
                    signers.into_iter().map(|(node, n)| (NodeId(node), Signature([n; 64]))).collect();
                M::Charter(Charter { vote: word.vote, membership: membership(word.epoch), signatures })
            }
        ),
    ]
}

fn succession() -> impl Strategy<Value = Succession> {
    (1..u64::MAX, vote(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(epoch, vote, members, n)| Succession {
        epoch,
        vote,
        members: Digest(members),
        signature: Signature([n; 64]),
    })
}

fn membership(epoch: u64) -> Membership {
    let member = |id| Member {
        id: NodeId(id),
        key: PublicKey([id; 32]),
        signing_key: VerifyingKey([id; 32]),
        peer: format!("node-{id}:7300"),
        client: String::new(),
        admin: "host:3".into(),
    };
    Membership { epoch, faulty: 1, retired: Default::default(), members: (1..=4).map(member).collect() }
}

fn note() -> impl Strategy<Value = Note> {
    let placed = any::<u64>().prop_map(View);
    prop_oneof![
        (any::<(u64, bool)>(), body()).prop_map(|((view, active), proof)| Note::View {
            view: View(view),
            active,
            proof
        }),
        (placed, entry()).prop_map(|(view, entry)| Note::PrePrepared { view, entry }),
        (any::<u64>(), vote()).prop_map(|(view, vote)| Note::Assigned { view: View(view), vote }),
        (any::<u64>(), vote()).prop_map(|(view, vote)| Note::Prepared { view: View(view), vote }),
        vote().prop_map(|vote| Note::Committed { vote }),
        entry().prop_map(|entry| Note::Learned { entry }),
        (any::<u64>(), filled())
            .prop_map(|(since, charter)| Note::Epoch { since: Slot(since >> 1), charter }),
        (vote(), any::<bool>()).prop_map(|(vote, stable)| Note::Checkpoint {
            vote: Vote { slot: Slot(vote.slot.0 >> 1), ..vote },
            stable
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => raft_message().prop_map(Message::from),
        4 => pbft_message().prop_map(Message::from),
        1 => forward_message().prop_map(Message::from),
    ]
}

fn messages() -> impl Strategy<Value = Vec<(GroupId, Message)>> {
    prop::collection::vec((any::<u32>().prop_map(GroupId), message()), 0..6)
}

fn sealed(sealer: &mut Sealer, lane: Lane, messages: &[(GroupId, Message)]) -> Sealed {
    for (group, message) in messages {
        sealer.push(lane, *group, message).expect("a few small messages fit");
    }
    sealer.seal(lane)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_was_sealed_opens_to_the_same_messages(messages in messages(), encrypt: bool, misaligned: bool) {
        let (mut sealer, mut opener) = ends(encrypt);
        let frame = joined(&sealed(&mut sealer, Lane::Bulk, &messages));
        let frame = if misaligned { Bytes::from([&[0], &frame[..]].concat()).slice(1..) } else { frame.into() };
        let mut out = Vec::new();
        let header = opener.open(frame, &mut out).expect("it is authentic");
        prop_assert_eq!(header.messages, messages.len());
        let expected: Vec<_> = messages.into_iter().map(|(group, m)| Opened::new(SELF, group, m)).collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused_and_leaves_nothing(
        messages in messages(), encrypt: bool, place: prop::sample::Index, bit in 0..8u32,
    ) {
        let (mut sealer, mut opener) = ends(encrypt);
        let mut frame = joined(&sealed(&mut sealer, Lane::Urgent, &messages));
        let place = place.index(frame.len());
        frame[place] ^= 1 << bit;
        let mut out = Vec::new();
        prop_assert!(opener.open(frame.into(), &mut out).is_err());
        prop_assert!(out.is_empty());
    }

    #[test]
    fn a_frame_that_was_cut_or_lengthened_is_refused(messages in messages(), place: prop::sample::Index) {
        let (mut sealer, mut opener) = ends(false);
        let mut frame = joined(&sealed(&mut sealer, Lane::Urgent, &messages));
        let cut = frame[..place.index(frame.len())].to_vec();
        prop_assert!(opener.open(cut.into(), &mut Vec::new()).is_err());
        frame.push(0);
        prop_assert!(opener.open(frame.into(), &mut Vec::new()).is_err());
    }

    /// What a peer with good keys and bad intentions could send: heads that pass the tag and are anything.
    #[test]
    fn heads_are_read_without_panic_and_have_one_encoding(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        only_canonical(&bytes)?;
    }

    #[test]
    fn changed_heads_are_read_without_panic_and_have_one_encoding(
        message in message(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut heads = codec::Heads::new();
        codec::encode(&mut heads, GroupId(1), &message);
        for (place, byte) in changes {
            let place = place.index(heads.len());
            heads[place] = byte;
        }
        only_canonical(&heads)?;
    }

    /// The worst peer: it has the keys, so what it changes passes the tag.
    #[test]
    fn a_peer_with_good_keys_can_be_wrong_in_every_byte_without_a_panic(
        messages in messages(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_front: bool,
    ) {
        let (mut sealer, mut opener) = ends(false);
        let sealed = sealed(&mut sealer, Lane::Bulk, &messages);
        let front = sealed.parts[0].len();
        let mut frame = joined(&sealed);
        for (place, byte) in changes {
            let place = place.index(if in_front { front } else { frame.len() });
            frame[place] = byte;
        }
        let mut tagger = DirectionKeys::derive(&[7; 32], false).tagger();
        tagger.add(&frame[..32]);
        tagger.add(&frame[HEADER_BYTES..front]);
        frame[32..HEADER_BYTES].copy_from_slice(&tagger.tag());
        let mut out = Vec::new();
        let opened = opener.open(frame.into(), &mut out);
        prop_assert_eq!(opened.map_or(0, |header| header.messages), out.len());
    }

    #[test]
    fn any_bytes_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(ends(false).1.open(bytes.clone().into(), &mut Vec::new()).is_err());
        prop_assert!(ends(true).1.open(bytes.into(), &mut Vec::new()).is_err());
    }

    #[test]
    fn records_read_back(entry in entry(), note in note(), group: u32, numbers: [u64; 3], vote: Option<u8>, reset: bool) {
        let group = GroupId(group);
        let (term, slot, stamp) = (Term(numbers[0]), Slot(numbers[1]), Stamp(numbers[2]));
        for record in [
            Record::Entry { group, entry },
            Record::Pbft { group, note },
            Record::Vote { group, term, vote: vote.map(NodeId) },
            Record::Floor { group, slot, term, stamp, reset },
        ] {
            let stored = record.clone().store(Ticket(9));
            prop_assert_eq!(stored.ticket, Ticket(9));
            prop_assert_eq!(Record::load(&stored), Ok(record));
        }
    }

    #[test]
    fn damaged_records_are_an_error_and_no_panic(entry in entry(), meta in prop::collection::vec(any::<u8>(), 0..80)) {
        let record = Record::Entry { group: GroupId(1), entry };
        let mut stored = record.clone().store(Ticket(1));
        stored.meta = Meta::new(&meta);
        let loaded = Record::load(&stored);
        prop_assert!(loaded.is_err() || loaded.map(|r| r.store(Ticket(1))) == Ok(stored));
        let mut moved = record.store(Ticket(1));
        moved.place = Slot(moved.place.0 ^ 1);
        prop_assert!(Record::load(&moved).is_err());
    }
}

/// Decodes heads of any content; what is accepted must encode to the same bytes.
fn only_canonical(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut aligned = codec::Heads::new();
    aligned.extend_from_slice(bytes);
    let spare = Body::new(Bytes::from_static(b"spare"));
    let mut rest = &aligned[..];
    if let Ok((group, message)) = codec::decode(&mut rest, &mut std::iter::repeat(spare)) {
        let mut again = codec::Heads::new();
        codec::encode(&mut again, group, &message);
        prop_assert_eq!(&again[..], &aligned[..aligned.len() - rest.len()]);
    }
    Ok(())
}

fn append(bodies: usize, len: usize) -> Message {
    let entry = |i: usize| Entry {
        slot: Slot(i as u64 + 1),
        kind: EntryKind::Batch,
        body: Body::new(Bytes::from(vec![i as u8; len])),
        ..Entry::default()
    };
    let (term, slot) = (Term(1), Slot(0));
    let entries = (0..bodies).map(entry).collect();
    raft::Message::Append { term, prev_slot: slot, prev_term: term, commit: slot, entries, round: 0 }.into()
}

#[test]
fn a_repeated_a_missing_and_an_overtaken_frame_end_the_link_but_lanes_may_overtake() {
    let (mut sealer, mut opener) = ends(false);
    let mut out = Vec::new();
    let mut next = |lane| Bytes::from(joined(&sealed(&mut sealer, lane, &[(GroupId(1), append(1, 10))])));
    let (bulk_0, bulk_1, bulk_2) = (next(Lane::Bulk), next(Lane::Bulk), next(Lane::Bulk));
    let urgent_0 = next(Lane::Urgent);
    assert!(opener.open(urgent_0, &mut out).is_ok(), "urgent overtakes bulk");
    assert!(opener.open(bulk_0.clone(), &mut out).is_ok());
    let counter = |expected, found| Err(FrameError::Counter { expected, found });
    assert_eq!(opener.open(bulk_0, &mut out), counter(1, 0));
    assert_eq!(opener.open(bulk_2, &mut out), counter(1, 2));
    assert!(opener.open(bulk_1, &mut out).is_ok());
    assert_eq!(out.len(), 3);
}

#[test]
fn a_frame_of_another_link_another_node_or_another_mode_is_refused() {
    let frame = |sealer: &mut Sealer| Bytes::from(joined(&sealer.seal(Lane::Urgent)));
    let (mut sealer, _) = ends(false);
    let keys = |split| DirectionKeys::derive(&[split; 32], false);
    assert_eq!(Opener::new(SELF, keys(8)).open(frame(&mut sealer), &mut Vec::new()), Err(FrameError::Tag));
    let sender = Err(FrameError::Field { field: "sender", found: 3 });
    assert_eq!(Opener::new(NodeId(4), keys(7)).open(frame(&mut sealer), &mut Vec::new()), sender);
    let flags = |found| Err(FrameError::Field { field: "flags", found });
    assert_eq!(ends(true).1.open(frame(&mut sealer), &mut Vec::new()), flags(0));
    assert_eq!(ends(false).1.open(frame(&mut ends(true).0), &mut Vec::new()), flags(1));
}

#[test]
fn bodies_are_references_on_the_way_out_and_slices_of_the_frame_on_the_way_in() {
    let (mut sealer, mut opener) = ends(false);
    let message = append(2, 1000);
    let out = sealed(&mut sealer, Lane::Bulk, &[(GroupId(1), message.clone())]);
    let Message::Raft(raft::Message::Append { entries, .. }) = &message else { unreachable!() };
    assert_eq!(out.parts[1].as_ptr(), entries[0].body.bytes().as_ptr());
    let frame = Bytes::from(joined(&out));
    let mut opened = Vec::new();
    opener.open(frame.clone(), &mut opened).expect("authentic");
    let Message::Raft(raft::Message::Append { entries, .. }) = &opened[0].message else { unreachable!() };
    assert!(frame.as_ptr_range().contains(&entries[1].body.bytes().as_ptr()));
}

#[test]
fn a_frame_is_full_at_each_of_its_limits_and_a_message_that_fits_in_none_is_not_taken() {
    let group = GroupId(1);
    let mut sealer = ends(false).0;
    let push = |sealer: &mut Sealer, m: &Message| sealer.push(Lane::Bulk, group, m);
    let half = append(1, FRAME_BYTES_AIM / 2);
    assert_eq!(push(&mut sealer, &half), Ok(()));
    assert_eq!(push(&mut sealer, &half), Err(NotTaken::Full));
    assert_eq!(sealer.seal(Lane::Bulk).messages, 1);
    assert_eq!(push(&mut sealer, &append(1, FRAME_BYTES_AIM * 2)), Ok(()), "alone it may pass the aim");
    assert_eq!(push(&mut sealer, &append(0, 0)), Err(NotTaken::Full));
    sealer.seal(Lane::Bulk);
    let large = push(&mut sealer, &append(1, FRAME_BYTES_MAX));
    assert!(matches!(large, Err(NotTaken::TooLarge { bodies: 1, .. })));
    let many = push(&mut sealer, &append(BODIES_MAX + 1, 1));
    assert!(matches!(many, Err(NotTaken::TooLarge { .. })));
    assert_eq!(push(&mut sealer, &append(BODIES_MAX, 1)), Ok(()));
    assert_eq!(push(&mut sealer, &append(1, 1)), Err(NotTaken::Full));
    sealer.seal(Lane::Bulk);
    (0..MESSAGES_MAX).for_each(|_| assert_eq!(push(&mut sealer, &append(0, 0)), Ok(())));
    assert_eq!(push(&mut sealer, &append(0, 0)), Err(NotTaken::Full));
    assert_eq!(sealer.waiting(Lane::Bulk), MESSAGES_MAX);
}

#[test]
fn an_empty_frame_says_that_its_sender_lives() {
    let (mut sealer, mut opener) = ends(false);
    let alive = sealer.seal(Lane::Urgent);
    assert_eq!(alive.bytes, HEADER_BYTES);
    let mut out = Vec::new();
    assert_eq!(opener.open(joined(&alive).into(), &mut out).expect("authentic").messages, 0);
    assert!(out.is_empty());
}
