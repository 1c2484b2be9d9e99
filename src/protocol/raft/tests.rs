//! One core alone, its outbox compared with what the rules say. Whole clusters are in `sim`.

use super::*;
#[cfg(feature = "canaries")]
use crate::base::canary::{self, Canary};
use crate::base::{Body, GROUP_ONE, Origin, Ticket};
use crate::protocol::{Fault, Fetch, Hole, Send, Target};
use crate::wire::raft::AppendOutcome;
use bytes::Bytes;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

struct Bed {
    raft: Raft,
    out: Outbox,
    now: Instant,
}

impl Bed {
    fn of(nodes: u8, options: Options) -> Bed {
        let members = (1..=nodes).map(NodeId).collect();
        let raft = Raft::new(Setup { me: A, members, options, seed: 1 }, Instant::ZERO);
        let mut out = Outbox::default();
        out.enter(GROUP_ONE);
        Bed { raft, out, now: Instant::ZERO }
    }
    fn follower() -> Bed {
        Bed::of(3, Options::default())
    }
    /// Leader of term 1 among three, its no-op at slot 1 durable, nothing acknowledged.
    fn leader(options: Options) -> Bed {
        Bed::leader_of(3, options)
    }
    /// The same among so many.
    fn leader_of(nodes: u8, options: Options) -> Bed {
        let mut bed = Bed::of(nodes, options);
        bed.now = bed.raft.deadline().unwrap();
        bed.input(Input::Timeout);
        let voters = || (2..=1 + nodes / 2).map(NodeId);
        voters()
            .for_each(|from| bed.hear(from, Message::VoteReply { term: Term(1), granted: true, pre: true }));
        bed.durable();
        voters()
            .for_each(|from| bed.hear(from, Message::VoteReply { term: Term(1), granted: true, pre: false }));
        bed.durable();
        assert_eq!((bed.raft.role(), bed.raft.last()), (Role::Leader, Slot(1)));
        bed.clear();
        bed
    }
    fn clear(&mut self) {
        self.out.sends.clear();
        self.out.records.clear();
        self.out.commits.clear();
    }
    fn input(&mut self, input: Input<Message>) {
        self.raft.step(self.now, input, &mut self.out);
        self.raft.settle(self.now, &mut self.out);
        self.raft.check();
    }
    fn hear(&mut self, from: NodeId, message: Message) {
        self.input(Input::Receive { from, message });
    }
    fn durable(&mut self) {
        let ticket = self.out.last_ticket();
        self.input(Input::Durable { ticket });
    }
    fn propose(&mut self, sequence: u64) {
        self.input(Input::Propose { batch: batch(sequence), clock: Stamp(sequence) });
    }
    fn acknowledge(&mut self, from: NodeId, slot: u64, round: u64) {
        let outcome = AppendOutcome::Matched { slot: Slot(slot) };
        self.hear(from, Message::AppendReply { term: self.raft.term(), outcome, round });
    }
    fn append(&mut self, term: u64, prev: (u64, u64), commit: u64, terms: &[u64]) {
        let entries = (prev.0 + 1..).zip(terms).map(|(slot, term)| entry(*term, slot)).collect();
        let message = Message::Append {
            term: Term(term),
            prev_slot: Slot(prev.0),
            prev_term: Term(prev.1),
            commit: Slot(commit),
            entries,
            round: 0,
        };
        self.hear(B, message);
    }
    /// What was sent since, with the ticket that it waits for.
    fn sent(&mut self) -> Vec<(Option<Ticket>, NodeId, Message)> {
        let one = |send: Send| {
            let crate::wire::Message::Raft(message) = send.message else { panic!("only of this protocol") };
            match send.to {
                Target::One(to) => (send.after, to, message),
                Target::Others => (send.after, NodeId(0), message),
            }
        };
        self.out.sends.drain(..).map(one).collect()
    }
    fn committed(&mut self) -> Vec<u64> {
        self.out.commits.drain(..).map(|c| c.entry.slot.0).collect()
    }
    fn terms(&self) -> Vec<u64> {
        (1..=self.raft.last().0).map(|s| self.raft.tail().term_at(Slot(s)).unwrap().0).collect()
    }
}

fn batch(sequence: u64) -> Batch {
    let origin = Origin { node: A, lane: 0, boot: 1 };
    let body = Body::new(Bytes::from(sequence.to_le_bytes().to_vec()));
    Batch { origin, sequence, floor: 1, body, ..Batch::default() }
}
fn entry(term: u64, slot: u64) -> Entry {
    Entry { term: Term(term), slot: Slot(slot), stamp: Stamp(slot), ..Entry::default() }
}
fn reply(term: u64, slot: u64) -> Message {
    Message::AppendReply { term: Term(term), outcome: AppendOutcome::Matched { slot: Slot(slot) }, round: 0 }
}
fn entries_of(message: &Message) -> Vec<u64> {
    match message {
        Message::Append { entries, .. } => entries.iter().map(|e| e.slot.0).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_leader_counts_its_own_copy_only_when_it_is_durable() {
    let mut bed = Bed::leader(Options::default());
    bed.acknowledge(B, 1, 0);
    assert_eq!(bed.committed(), [1]);
    bed.propose(1);
    bed.acknowledge(B, 2, 0);
    assert_eq!(bed.committed(), [0u64; 0], "one durable copy is no majority");
    bed.durable();
    assert_eq!(bed.committed(), [2]);
}

#[test]
fn an_entry_of_an_older_term_does_not_commit_by_being_counted() {
    let mut bed = Bed::follower();
    bed.append(1, (0, 0), 0, &[1]);
    bed.durable();
    bed.now = bed.raft.deadline().unwrap();
    bed.input(Input::Timeout);
    bed.hear(C, Message::VoteReply { term: Term(2), granted: true, pre: true });
    bed.durable();
    bed.hear(C, Message::VoteReply { term: Term(2), granted: true, pre: false });
    bed.durable();
    assert_eq!(bed.terms(), [1, 2]);
    bed.acknowledge(C, 1, 0);
    assert_eq!(bed.committed(), [0u64; 0]);
    bed.acknowledge(C, 2, 0);
    assert_eq!(bed.committed(), [1, 2]);
}

#[test]
fn an_acknowledgement_waits_for_its_write_and_a_heartbeat_does_not() {
    let mut bed = Bed::follower();
    bed.append(1, (0, 0), 0, &[1]);
    bed.durable();
    bed.sent();
    bed.append(1, (1, 1), 0, &[1, 1]);
    let ticket = bed.out.last_ticket();
    assert_eq!(bed.sent(), [(Some(ticket), B, reply(1, 3))]);
    bed.append(1, (3, 1), 0, &[]);
    let (told, sent) = (bed.sent(), [(None, B, reply(1, 1)), (Some(ticket), B, reply(1, 3))]);
    assert_eq!(told, sent, "what is durable at once, the rest when it is");
    bed.durable();
    bed.append(1, (3, 1), 0, &[]);
    assert_eq!(bed.sent(), [(None, B, reply(1, 3))]);
}

#[test]
fn a_follower_commits_only_what_is_known_to_agree() {
    let mut bed = Bed::follower();
    bed.append(1, (0, 0), 0, &[1, 1, 1]);
    // A leader of term 2 speaks of slot 1 only: 2 and 3 may be others than it has.
    bed.append(2, (1, 1), 3, &[]);
    assert_eq!(bed.committed(), [1]);
    bed.append(2, (1, 1), 3, &[2]);
    assert_eq!((bed.committed(), bed.terms()), (vec![2], vec![1, 2]));
}

#[test]
fn a_late_shorter_append_removes_nothing() {
    let mut bed = Bed::follower();
    bed.append(1, (0, 0), 0, &[1, 1, 1]);
    bed.append(1, (0, 0), 0, &[1]);
    assert_eq!(bed.terms(), [1, 1, 1]);
    assert_eq!(bed.sent().last().unwrap().2, reply(1, 3));
}

#[test]
fn a_conflict_is_looked_for_a_term_at_a_time() {
    let mut bed = Bed::follower();
    bed.append(4, (0, 0), 0, &[1, 1, 2, 2, 4, 4]);
    bed.durable();
    bed.sent();
    bed.append(5, (6, 3), 0, &[]);
    let outcome = AppendOutcome::Conflict { prev_slot: Slot(6), slot: Slot(4), term: Term(2) };
    assert!(
        bed.sent()
            .iter()
            .any(|(_, _, m)| matches!(m, Message::AppendReply { outcome: o, .. } if *o == outcome))
    );
}

#[test]
fn what_was_lost_is_found_by_one_question_and_sent_once() {
    let mut bed = Bed::leader(Options { max_log_entries_per_append: 1, ..Options::default() });
    bed.acknowledge(B, 1, 0);
    (1..=3).for_each(|sequence| bed.propose(sequence));
    bed.clear();
    // Slot 2 was lost: 3 and 4 do not match.
    for prev in [2, 3] {
        let outcome = AppendOutcome::Conflict { prev_slot: Slot(prev), slot: Slot(1), term: Term(1) };
        bed.hear(B, Message::AppendReply { term: Term(1), outcome, round: 0 });
    }
    let asked = bed.sent();
    assert_eq!(asked.len(), 1, "the second answer says nothing new: {asked:?}");
    assert!(
        matches!(asked[0].2, Message::Append { prev_slot: Slot(1), .. })
            && entries_of(&asked[0].2).is_empty()
    );
    bed.acknowledge(B, 1, 0);
    assert_eq!(bed.sent().iter().flat_map(|(_, _, m)| entries_of(m)).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn a_window_bounds_what_is_on_its_way_and_heartbeats_pass_it() {
    let options = Options { max_log_entries_per_append: 1, window_appends_max: 2, ..Options::default() };
    let mut bed = Bed::leader(options);
    bed.clear();
    (1..=5).for_each(|sequence| bed.propose(sequence));
    let to_b = |sent: Vec<(Option<Ticket>, NodeId, Message)>| {
        sent.iter().filter(|s| s.1 == B).flat_map(|s| entries_of(&s.2)).collect::<Vec<_>>()
    };
    // The no-op is on its way already.
    assert_eq!(to_b(bed.sent()), [2]);
    bed.now = bed.raft.deadline().unwrap();
    bed.input(Input::Timeout);
    let sent: Vec<_> = bed.sent().into_iter().filter(|s| s.1 == B).map(|s| s.2).collect();
    // The heartbeat passes all that waits; the question whether that has come goes behind it.
    assert!(matches!(sent[0], Message::Heartbeat { term: Term(1), commit: Slot(0), round: 0 }), "{sent:?}");
    assert!(matches!(&sent[1], Message::Append { prev_slot: Slot(2), entries, .. } if entries.is_empty()));
    assert_eq!(sent.len(), 2);
    bed.hear(B, Message::HeartbeatReply { term: Term(1), round: 0, lags: false });
    assert!(bed.sent().is_empty(), "it acknowledges no entry");
    bed.acknowledge(B, 2, 0);
    assert_eq!(to_b(bed.sent()), [3, 4]);
}

#[test]
fn a_heartbeat_ahead_of_data_cuts_nothing_and_commits_only_what_is_known_to_agree() {
    // Three entries of an old leader, of which the new one has said nothing yet.
    let overtaken = || {
        let mut bed = Bed::follower();
        bed.append(1, (0, 0), 0, &[1, 1, 1]);
        bed.durable();
        bed.clear();
        bed.hear(C, Message::Heartbeat { term: Term(2), commit: Slot(2), round: 0 });
        bed
    };
    let mut bed = overtaken();
    assert_eq!((bed.raft.commit(), bed.raft.last(), bed.committed()), (Slot(0), Slot(3), vec![]));
    bed.durable();
    let beat = |commit| Message::Heartbeat { term: Term(2), commit: Slot(commit), round: 4 };
    let append = |prev: (u64, u64), entries: Vec<Entry>| Message::Append {
        term: Term(2),
        prev_slot: Slot(prev.0),
        prev_term: Term(prev.1),
        commit: Slot(0),
        entries,
        round: 0,
    };
    bed.clear();
    bed.hear(C, append((1, 1), vec![entry(2, 2)]));
    bed.hear(C, beat(2));
    assert_eq!((bed.terms(), bed.committed()), (vec![1, 2], vec![1, 2]));
    let answer = Message::HeartbeatReply { term: Term(2), round: 4, lags: false };
    assert!(bed.sent().iter().any(|(after, to, m)| (*after, *to) == (None, C) && *m == answer));
    // One of a leader that was replaced is told so, and changes nothing.
    bed.hear(B, Message::Heartbeat { term: Term(1), commit: Slot(2), round: 9 });
    assert_eq!(bed.sent(), [(None, B, Message::HeartbeatReply { term: Term(2), round: 0, lags: false })]);
    #[cfg(feature = "canaries")]
    {
        let wrong = canary::with(Canary::HeartbeatVouches, overtaken);
        assert_ne!(wrong.raft.commit(), Slot(0), "the canary commits what nobody agreed to");
    }
}

#[test]
fn reads_of_a_burst_share_a_round_and_wait_for_an_entry_of_the_own_term() {
    let mut bed = Bed::leader(Options::default());
    bed.input(Input::Read { id: 1 });
    assert!(bed.sent().is_empty() && bed.out.reads.is_empty(), "the commit index is not known yet");
    bed.raft.step(bed.now, Input::Read { id: 2 }, &mut bed.out);
    bed.acknowledge(B, 1, 0);
    assert_eq!(bed.committed(), [1]);
    let rounds = bed.sent().iter().filter(|s| matches!(s.2, Message::Heartbeat { round: 1, .. })).count();
    assert_eq!((rounds, bed.out.reads.len()), (2, 0));
    bed.acknowledge(C, 1, 1);
    let granted: Vec<_> = bed.out.reads.drain(..).map(|r| (r.id, r.slot)).collect();
    assert_eq!(granted, [(1, Slot(1)), (2, Slot(1))]);
}

#[test]
fn a_leader_that_hears_no_majority_steps_down_and_refuses_its_reads() {
    let mut bed = Bed::leader(Options::default());
    bed.acknowledge(B, 1, 0);
    bed.input(Input::Read { id: 7 });
    while bed.raft.is_leader() {
        bed.now = bed.raft.deadline().unwrap();
        bed.input(Input::Timeout);
    }
    assert!(Duration::from_millis(300) <= bed.now.since(Instant::ZERO));
    assert!(bed.out.refuse.iter().any(|r| r.what == Refused::Reads { id: 7 }) && bed.out.reads.is_empty());
}

#[test]
fn entries_that_left_memory_are_fetched_and_what_left_the_log_is_shipped() {
    let options = Options {
        cache_entries_max: 0,
        trailing_entries: 2,
        max_log_entries_per_append: 3,
        ..Options::default()
    };
    let mut bed = Bed::leader(options);
    (1..=9).for_each(|sequence| bed.propose(sequence));
    bed.durable();
    bed.acknowledge(B, 10, 0);
    assert_eq!(bed.raft.commit(), Slot(10));
    let entries: Vec<Entry> = (1..=10).map(|s| bed.raft.tail().get(Slot(s)).unwrap().clone()).collect();
    bed.input(Input::Applied { slot: Slot(9) });
    bed.clear();
    // C has lost everything but slot 3.
    bed.input(Input::Lost { peer: C });
    let outcome = AppendOutcome::Conflict { prev_slot: Slot(10), slot: Slot(3), term: Term(1) };
    bed.hear(C, Message::AppendReply { term: Term(1), outcome, round: 0 });
    bed.acknowledge(C, 3, 0);
    let ship = bed.out.ships.pop().unwrap();
    assert_eq!(ship.fetch, Fetch::Entries { from: Slot(4), count: 3, bytes: 1 << 20 });
    bed.clear();
    bed.input(Input::Fetched { job: ship.job, found: Fetched::Entries(entries[3..6].to_vec()) });
    assert_eq!(bed.sent().iter().flat_map(|(_, _, m)| entries_of(m)).collect::<Vec<_>>(), [4, 5, 6]);
    let job = bed.out.ships.pop().unwrap().job;
    bed.input(Input::Snapshotted { slot: Slot(9), bytes: 5 });
    assert!(matches!(bed.out.records.last(), Some(Record::Floor { slot: Slot(7), reset: false, .. })));
    bed.input(Input::Fetched { job, found: Fetched::Gone });
    let ship = bed.out.ships.pop().unwrap();
    assert_eq!(ship.fetch, Fetch::Piece { slot: None, offset: 0, bytes: 256 << 10 });
    let piece = Fetched::Piece {
        slot: Slot(9),
        term: Term(1),
        stamp: Stamp(8),
        offset: 0,
        total: 5,
        body: Body::new(Bytes::from_static(b"state")),
    };
    bed.clear();
    bed.input(Input::Fetched { job: ship.job, found: piece });
    assert!(matches!(bed.sent()[..], [(None, C, Message::Piece { slot: Slot(9), total: 5, .. })]));
    bed.hear(C, Message::PieceReply { term: Term(1), slot: Slot(9), next: 5, installed: true });
    assert_eq!(bed.sent().iter().flat_map(|(_, _, m)| entries_of(m)).collect::<Vec<_>>(), [10]);
}

#[test]
fn pieces_on_their_way_to_all_followers_are_bounded_and_each_gets_some() {
    const D: NodeId = NodeId(4);
    const E: NodeId = NodeId(5);
    let options =
        Options { trailing_entries: 1, piece_bytes_max: 4, pieces_bytes_max: 4, ..Options::default() };
    let mut bed = Bed::leader_of(5, options);
    (1..=9).for_each(|sequence| bed.propose(sequence));
    bed.durable();
    bed.acknowledge(B, 10, 0);
    bed.acknowledge(C, 10, 0);
    bed.input(Input::Applied { slot: Slot(9) });
    bed.input(Input::Snapshotted { slot: Slot(9), bytes: 12 });
    // Both have lost all but the first slot.
    for peer in [D, E] {
        bed.input(Input::Lost { peer });
        let outcome = AppendOutcome::Conflict { prev_slot: Slot(10), slot: Slot(1), term: Term(1) };
        bed.hear(peer, Message::AppendReply { term: Term(1), outcome, round: 0 });
    }
    let asked = |bed: &mut Bed| -> Vec<_> {
        let offset =
            |fetch| if let Fetch::Piece { offset, .. } = fetch { offset } else { panic!("{fetch:?}") };
        bed.out.ships.drain(..).map(|ship| (ship.job, offset(ship.fetch))).collect()
    };
    let first = asked(&mut bed);
    assert_eq!(first.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [0, 0], "one for each of two");
    bed.clear();
    for (job, offset) in first {
        let body = Body::new(Bytes::from_static(b"four"));
        let (slot, term, stamp) = (Slot(9), Term(1), Stamp(8));
        bed.input(Input::Fetched {
            job,
            found: Fetched::Piece { slot, term, stamp, offset, total: 12, body },
        });
    }
    let to: Vec<NodeId> =
        bed.sent().into_iter().filter(|(.., m)| matches!(m, Message::Piece { .. })).map(|s| s.1).collect();
    assert_eq!(to, [D, E]);
    assert_eq!(asked(&mut bed), [], "four bytes are on their way to each");
    bed.hear(E, Message::PieceReply { term: Term(1), slot: Slot(9), next: 4, installed: false });
    let more = asked(&mut bed);
    assert_eq!(
        more.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(),
        [4],
        "D, which is silent, is in nobody's way"
    );
}

#[test]
fn a_snapshot_replaces_a_log_that_disagrees_and_spares_one_that_agrees() {
    for (terms, reset) in [(vec![1, 1, 1, 1], true), (vec![1, 1, 2, 2], false)] {
        let mut bed = Bed::follower();
        bed.append(2, (0, 0), 1, &terms);
        let piece = |offset: u64, body: &'static [u8]| Message::Piece {
            term: Term(2),
            slot: Slot(3),
            slot_term: Term(2),
            stamp: Stamp(3),
            offset,
            total: 4,
            body: Body::new(Bytes::from_static(body)),
        };
        bed.hear(B, piece(0, b"ab"));
        bed.hear(B, piece(0, b"ab"));
        bed.hear(B, piece(2, b"cd"));
        assert_eq!(bed.out.installs.iter().map(|i| i.offset).collect::<Vec<_>>(), [0, 2]);
        bed.input(Input::Installed {
            slot: Slot(3),
            term: Term(2),
            stamp: Stamp(3),
            bytes: 4,
            members: Body::EMPTY,
        });
        let floor = bed.out.records.last();
        assert!(matches!(floor, Some(Record::Floor { slot: Slot(3), reset: r, .. }) if *r == reset));
        assert_eq!((bed.raft.commit(), bed.raft.last()), (Slot(3), Slot(if reset { 3 } else { 4 })));
        let (_, _, told) = bed.sent().pop().unwrap();
        assert!(matches!(told, Message::PieceReply { slot: Slot(3), installed: true, .. }));
    }
}

#[test]
fn pieces_that_did_not_come_to_the_disk_are_asked_for_again() {
    let mut bed = Bed::follower();
    let piece = |offset: u64| Message::Piece {
        term: Term(2),
        slot: Slot(3),
        slot_term: Term(2),
        stamp: Stamp(3),
        offset,
        total: 6,
        body: Body::new(Bytes::from_static(b"ab")),
    };
    [0, 2, 4].into_iter().for_each(|offset| bed.hear(B, piece(offset)));
    bed.clear();
    for next in [2, 0] {
        bed.input(Input::Rewound { slot: Slot(9), next });
        bed.input(Input::Rewound { slot: Slot(3), next });
        let asked = Message::PieceReply { term: Term(2), slot: Slot(3), next, installed: false };
        // Only the snapshot that is being staged is asked for.
        let sent: Vec<_> = bed.sent().into_iter().map(|(_, to, message)| (to, message)).collect();
        assert_eq!(sent, [(B, asked)]);
    }
    [4, 0, 2, 4].into_iter().for_each(|offset| bed.hear(B, piece(offset)));
    assert_eq!(bed.out.installs.iter().map(|i| i.offset).collect::<Vec<_>>(), [0, 2, 4, 0, 2, 4]);
}

#[test]
fn records_are_replayed_into_the_state_that_wrote_them() {
    let setup =
        || Setup { me: A, members: (1..=3).map(NodeId).collect(), options: Options::default(), seed: 1 };
    let group = GROUP_ONE;
    let vote = |term| Record::Vote { group, term: Term(term), vote: Some(B) };
    let e = |term, slot| Record::Entry { group, entry: entry(term, slot) };
    let mark = |slot, term| Mark { slot: Slot(slot), term: Term(term), stamp: Stamp(slot) };
    let floor = |slot, term, reset| Record::Floor {
        group,
        slot: Slot(slot),
        term: Term(term),
        stamp: Stamp(slot),
        reset,
    };
    let recover = |snapshot, records: Vec<Record>| {
        let mut replay = Replay::new(&setup().options);
        records.into_iter().try_for_each(|record| replay.record(record))?;
        Raft::recover(setup(), Instant::ZERO, snapshot, replay)
    };

    let raft = recover(Mark::ZERO, vec![vote(1), e(1, 1), e(1, 2), e(1, 3), vote(4), e(4, 2)]).unwrap();
    assert_eq!((raft.term(), raft.vote(), raft.last(), raft.durable()), (Term(4), Some(B), Slot(2), Slot(2)));
    // Entries above a snapshot that the log agrees with stay; others go, and the log is told so.
    let agreeing = recover(mark(2, 1), vec![vote(1), e(1, 1), e(1, 2), e(1, 3)]).unwrap();
    assert_eq!((agreeing.last(), agreeing.commit()), (Slot(3), Slot(2)));
    let mut other = recover(mark(2, 2), vec![vote(1), e(1, 1), e(1, 2), e(1, 3)]).unwrap();
    assert_eq!((other.last(), other.term(), other.vote()), (Slot(2), Term(2), None));
    let mut out = Outbox::default();
    other.step(Instant::ZERO, Input::Timeout, &mut out);
    assert!(matches!(out.records[0], Record::Floor { slot: Slot(2), reset: true, .. }));
    let later =
        recover(mark(2, 2), vec![vote(1), e(1, 1), e(1, 2), e(1, 3), floor(2, 2, true), vote(2), e(2, 3)]);
    assert_eq!(later.unwrap().last(), Slot(3));
    // What cannot have been written is refused.
    assert!(matches!(recover(mark(1, 1), vec![floor(2, 1, false)]), Err(Hole::Snapshot { .. })));
    assert!(matches!(recover(mark(2, 1), vec![e(1, 3)]), Err(Hole::Entries { .. })));
    assert!(matches!(recover(Mark::ZERO, vec![e(1, 1), e(1, 3)]), Err(Hole::Entries { .. })));
}

#[test]
fn nothing_that_a_peer_says_makes_a_core_fail() {
    let mut prng = Prng::from_seed(7);
    let mut faults: Vec<Fault> = Vec::new();
    for round in 0..300u64 {
        let mut bed = if round % 2 == 0 { Bed::follower() } else { Bed::leader(Options::default()) };
        bed.append(1, (0, 0), 1, &[1, 1]);
        for _ in 0..40 {
            let mut n = || match prng.below(8) {
                0 => u64::MAX,
                1 => 1 << 62,
                _ => prng.below(5),
            };
            let slot = Slot(n());
            let entries = (0..n() % 4).map(|_| entry(n(), n())).collect();
            let (flag, body) = (n() % 2 == 0, Body::new(Bytes::from(vec![0; (n() % 4) as usize])));
            let messages = [
                Message::Vote {
                    term: Term(n()),
                    last_slot: slot,
                    last_term: Term(n()),
                    pre: flag,
                    transfer: n() == 1,
                },
                Message::VoteReply { term: Term(n()), granted: true, pre: flag },
                Message::Append {
                    term: Term(n()),
                    prev_slot: slot,
                    prev_term: Term(n()),
                    commit: Slot(n()),
                    entries,
                    round: n(),
                },
                Message::AppendReply {
                    term: Term(n()),
                    outcome: AppendOutcome::Matched { slot },
                    round: n(),
                },
                Message::AppendReply {
                    term: Term(n()),
                    outcome: AppendOutcome::Conflict { prev_slot: Slot(n()), slot, term: Term(n()) },
                    round: n(),
                },
                Message::Piece {
                    term: Term(n()),
                    slot,
                    slot_term: Term(n()),
                    stamp: Stamp(n()),
                    offset: n(),
                    total: n(),
                    body,
                },
                Message::PieceReply { term: Term(n()), slot, next: n(), installed: flag },
                Message::ReadIndex { term: Term(n()), id: n() },
                Message::ReadIndexReply { term: Term(n()), id: n(), slot: Some(slot) },
                Message::TimeoutNow { term: Term(n()) },
            ];
            let from = NodeId(prng.below(5) as u8);
            bed.hear(from, messages[prng.below(10) as usize].clone());
            bed.durable();
        }
        faults.append(&mut bed.out.faults);
    }
    assert!(faults.iter().any(|f| matches!(f.kind, FaultKind::AcknowledgesUnsent { .. })));
    assert!(faults.iter().any(|f| matches!(f.kind, FaultKind::SecondLeader { .. })));
    assert!(faults.iter().any(|f| f.kind == FaultKind::NotMember));
}

/// A follower whose log on disk is longer than what it keeps in memory: `terms` from slot 1, above a snapshot at `snapshot`.
fn recovered(snapshot: Mark, terms: &[u64]) -> Bed {
    let options = Options {
        unapplied_entries_max: 2,
        cache_entries_max: 2,
        catch_up_entries_max: 3,
        ..Options::default()
    };
    let mut bed = Bed::of(3, options.clone());
    let mut replay = Replay::new(&options);
    for (term, slot) in terms.iter().zip(1..) {
        replay.record(Record::Entry { group: GROUP_ONE, entry: entry(*term, slot) }).unwrap();
    }
    let last = Term(*terms.last().unwrap());
    replay.record(Record::Vote { group: GROUP_ONE, term: last, vote: None }).unwrap();
    let setup = Setup { me: A, members: (1..=3).map(NodeId).collect(), options, seed: 1 };
    bed.raft = Raft::recover(setup, Instant::ZERO, snapshot, replay).unwrap();
    bed.raft.check();
    bed
}

impl Bed {
    /// The entries that were asked of the disk since: first slot and count.
    fn fetches(&mut self) -> Vec<(JobId, u64, usize)> {
        let ships = self.out.ships.drain(..).map(|ship| match ship.fetch {
            Fetch::Entries { from, count, .. } => (ship.job, from.0, count),
            Fetch::Piece { .. } | Fetch::Ranges { .. } => panic!("no snapshot is on its way"),
        });
        ships.collect()
    }
    fn fetched(&mut self, job: JobId, entries: &[(u64, u64)]) {
        let found = Fetched::Entries(entries.iter().map(|(term, slot)| entry(*term, *slot)).collect());
        self.input(Input::Fetched { job, found });
    }
}

#[test]
fn a_log_longer_than_memory_is_read_back_as_it_is_applied() {
    let mut bed = recovered(Mark::ZERO, &[1; 10]);
    assert_eq!((bed.raft.tail().base(), bed.raft.last()), (Slot(8), Slot(10)));
    bed.append(1, (10, 1), 9, &[1]);
    let first = bed.fetches();
    assert_eq!(first.iter().map(|f| (f.1, f.2)).collect::<Vec<_>>(), [(1, 3)]);
    bed.fetched(first[0].0, &[(1, 1), (1, 2), (1, 3)]);
    // The next errand leaves at once, the one after it only when the first one's entries are applied.
    let second = bed.fetches();
    assert_eq!((bed.committed(), second[0].1), (vec![1, 2, 3], 4));
    bed.fetched(second[0].0, &[(1, 4), (1, 5), (1, 6), (1, 7)]);
    assert_eq!((bed.committed(), bed.fetches().len()), (vec![4, 5, 6, 7], 0));
    bed.input(Input::Applied { slot: Slot(3) });
    let third = bed.fetches();
    assert_eq!((third[0].1, third[0].2), (8, 2));
    // An answer that is gone, or that came short, is asked for again; behind it memory goes on.
    bed.input(Input::Fetched { job: third[0].0, found: Fetched::Gone });
    let again = bed.fetches();
    assert_eq!(again[0].1, 8);
    bed.fetched(again[0].0, &[(1, 8)]);
    bed.input(Input::Applied { slot: Slot(8) });
    let rest = bed.fetches();
    assert_eq!((bed.committed(), rest[0].1, rest[0].2), (vec![8], 9, 1));
    bed.fetched(rest[0].0, &[(1, 9)]);
    bed.append(1, (11, 1), 11, &[]);
    assert_eq!((bed.committed(), bed.fetches().len()), (vec![9, 10, 11], 0));
}

#[test]
fn a_leaders_snapshot_overtakes_what_is_read_back() {
    let mut bed = recovered(Mark::ZERO, &[1; 10]);
    bed.append(1, (10, 1), 9, &[1]);
    let job = bed.fetches()[0].0;
    bed.input(Input::Installed {
        slot: Slot(20),
        term: Term(1),
        stamp: Stamp(20),
        bytes: 1,
        members: Body::EMPTY,
    });
    bed.fetched(job, &[(1, 1), (1, 2), (1, 3)]);
    assert_eq!((bed.committed(), bed.fetches().len(), bed.raft.commit()), (vec![], 0, Slot(20)));
}

#[test]
fn entries_that_have_left_memory_are_cut_where_they_conflict() {
    let mut bed =
        recovered(Mark { slot: Slot(2), term: Term(1), stamp: Stamp(2) }, &[1, 1, 1, 2, 2, 2, 2, 3]);
    assert_eq!((bed.raft.tail().base(), bed.raft.tail().floor().slot), (Slot(6), Slot(2)));
    bed.append(4, (3, 1), 3, &[4, 4]);
    assert_eq!((bed.raft.last(), bed.raft.commit()), (Slot(5), Slot(3)));
    assert_eq!((3..=5).map(|s| bed.raft.tail().term_at(Slot(s)).unwrap().0).collect::<Vec<_>>(), [1, 4, 4]);
    assert_eq!(bed.fetches().iter().map(|f| (f.1, f.2)).collect::<Vec<_>>(), [(3, 1)]);
}

#[test]
fn what_left_the_log_before_its_first_entry_is_known_by_a_later_floor() {
    let (group, stamp, term) = (GROUP_ONE, Stamp(9), Term(1));
    let floor = |slot| Record::Floor { group, slot: Slot(slot), term, stamp, reset: false };
    let setup =
        || Setup { me: A, members: (1..=3).map(NodeId).collect(), options: Options::default(), seed: 1 };
    let snapshot = Mark { slot: Slot(6), term, stamp: Stamp(6) };
    let recover = |records: &[Record]| {
        let mut replay = Replay::new(&setup().options);
        records.iter().try_for_each(|record| replay.record(record.clone()))?;
        Raft::recover(setup(), Instant::ZERO, snapshot, replay).map(|raft| raft.last())
    };
    let e = |slot| Record::Entry { group, entry: entry(1, slot) };
    // The segment began when the floor was at 2; the entries up to 6 have left the log since.
    assert_eq!(recover(&[floor(2), e(7), e(8), floor(6)]), Ok(Slot(8)));
    assert_eq!(recover(&[floor(2), e(6), e(7), floor(5)]), Ok(Slot(7)));
    let hole = Hole::Entries { expected: Slot(7), found: Slot(8) };
    assert_eq!(recover(&[floor(2), e(8), floor(6)]), Err(hole));
    assert!(matches!(recover(&[floor(2), e(7), floor(5)]), Err(Hole::Entries { .. })));
}

#[test]
fn operators_are_told_why_there_is_no_leader() {
    let cause = |bed: &Bed| bed.raft.standing().cause;
    let heartbeat = |term| Message::Heartbeat { term: Term(term), commit: Slot::ZERO, round: 0 };
    let vote = |term, transfer| Message::Vote {
        term: Term(term),
        last_slot: Slot(9),
        last_term: Term(1),
        pre: false,
        transfer,
    };
    let mut bed = Bed::follower();
    assert_eq!(cause(&bed), Cause::Start);
    bed.hear(B, heartbeat(1));
    bed.hear(C, vote(2, true));
    assert_eq!(
        (cause(&bed), bed.raft.standing().elections),
        (Cause::HandedOver, 0),
        "who votes does not stand"
    );
    bed.now = bed.raft.deadline().unwrap();
    bed.hear(C, vote(3, false));
    assert_eq!(cause(&bed), Cause::LaterTerm);
    bed.now = bed.raft.deadline().unwrap();
    bed.input(Input::Timeout);
    assert_eq!(cause(&bed), Cause::Silence);

    let mut target = Bed::follower();
    target.hear(B, heartbeat(1));
    target.hear(B, Message::TimeoutNow { term: Term(1) });
    assert_eq!((cause(&target), target.raft.standing().elections), (Cause::HandedOver, 1));

    let mut alone = Bed::leader(Options::default());
    for _ in 0..1000 {
        alone.now = alone.raft.deadline().unwrap();
        alone.input(Input::Timeout);
        if !alone.raft.is_leader() {
            break;
        }
    }
    assert_eq!(cause(&alone), Cause::Doubt);
}
