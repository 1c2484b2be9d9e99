//! Reconfiguration, told at a table: members come and go and keys change, in calm and in trouble (`protocol::pbft::epochs`).

use super::stories::{everybody, options};
use bytes::Bytes;
use quorate::base::{Body, Digest, GROUP_ONE, GroupId, NodeId, NodeSet, Slot};
use quorate::crypto::ClusterId;
use quorate::sim::host::{amendment, keys, member};
use quorate::sim::table::{Letter, Table};
use quorate::wire::members::{Amendment, Membership, OPERATOR};
use quorate::wire::pbft::{Charter, Message, Succession, Vote, signed_batch};
use quorate::wire::{Batch, Entry, EntryKind};
use std::time::Duration;

/// Long enough for whatever is asked again now and then.
const LONG: Duration = Duration::from_secs(2);

/// Members with the numbers of their keys.
fn membership(epoch: u64, faulty: u8, members: &[(u8, u8)], retired: &[u8]) -> Membership {
    let retired: NodeSet = retired.iter().copied().map(NodeId).collect();
    let members = members.iter().map(|(id, key)| member(NodeId(*id), *key)).collect();
    Membership { epoch, faulty, retired, members }
}

/// Four members, of which the third has other keys.
fn rotated() -> Membership {
    membership(1, 1, &[(1, 0), (2, 0), (3, 1), (4, 0)], &[])
}

/// Everybody who is there hears of an amendment.
fn amend(table: &mut Table, next: &Membership) {
    let batch = amendment(&options(), next.clone(), 1);
    table.ask(&batch, 0..table.seats.len());
}

/// A request of a seat's clients is executed by these seats.
fn order(table: &mut Table, from: usize, sequence: u64, seats: &[usize]) {
    let batch = table.seats[from].batch(sequence, &[sequence as u8, from as u8]);
    table.ask(&batch, seats.iter().copied());
    table.pass_for(LONG, everybody);
    for at in seats {
        let last = table.seats[*at].machine.last_of(batch.origin);
        assert_eq!(
            last,
            sequence,
            "request {sequence} of seat {from} at seat {at}, epochs {:?}",
            epochs(table)
        );
    }
    table.agree(0..table.seats.len());
}

fn epochs(table: &Table) -> Vec<u64> {
    table.seats.iter().map(|seat| seat.core.epoch()).collect()
}

/// The group goes over to `next`.
fn go_over(table: &mut Table, next: &Membership) {
    amend(table, next);
    table.pass_for(LONG, everybody);
    assert!(epochs(table).iter().all(|epoch| *epoch == next.epoch), "{:?}", epochs(table));
}

fn nobody_is_blamed(table: &Table) {
    for seat in &table.seats {
        assert!(seat.faults.is_empty(), "{:?}", seat.faults);
    }
}

#[test]
fn replace_a_member() {
    let mut table = Table::of(4, &options());
    order(&mut table, 1, 1, &[0, 1, 2, 3]);
    let next = membership(1, 1, &[(1, 0), (2, 0), (3, 0), (5, 7)], &[4]);
    go_over(&mut table, &next);
    assert!(!table.seats[3].core.is_member() && table.seats[3].core.leader().is_none());
    let base = table.seats[0].core.epoch_base();
    table.join(NodeId(5), 4, &options(), (base, &next));
    order(&mut table, 1, 2, &[0, 1, 2, 4]);
    order(&mut table, 4, 1, &[0, 1, 2, 4]);
    // It counts: with another one away, three of four go on.
    let batch = table.seats[1].batch(3, b"x");
    table.ask(&batch, [0, 1, 4]);
    table.pass_for(LONG, |from, to| from != 2 && to != 2);
    assert_eq!(table.seats[4].machine.last_of(batch.origin), 3);
    nobody_is_blamed(&table);
}

#[test]
fn add_a_member() {
    let mut table = Table::of(4, &options());
    let next = membership(1, 1, &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 1)], &[]);
    go_over(&mut table, &next);
    let base = table.seats[2].core.epoch_base();
    table.join(NodeId(5), 4, &options(), (base, &next));
    order(&mut table, 0, 1, &[0, 1, 2, 3, 4]);
    // Four of five must agree now: three do not.
    let (executed, batch) = (table.seats[0].core.executed(), table.seats[0].batch(2, b"x"));
    table.ask(&batch, [0, 1, 2]);
    table.pass_for(LONG, |from, to| from < 3 && to < 3);
    assert_eq!(table.seats[0].core.executed(), executed);
    order(&mut table, 3, 1, &[0, 1, 2, 3, 4]);
}

/// Also: whoever was removed no longer counts.
#[test]
fn remove_a_member() {
    let mut table = Table::of(5, &options());
    order(&mut table, 4, 1, &[0, 1, 2, 3, 4]);
    go_over(&mut table, &membership(1, 1, &[(1, 0), (2, 0), (3, 0), (4, 0)], &[5]));
    order(&mut table, 1, 1, &[0, 1, 2, 3]);
    nobody_is_blamed(&table);
    let (removed, now) = (NodeId(5), table.now);
    let slot = table.seats[0].core.executed().next();
    let view = table.seats[0].core.view();
    // Two of four, and whoever is no member says yes to everything.
    let batch = table.seats[0].batch(1, b"x");
    table.ask(&batch, [0, 1]);
    let pair = |from: usize, to: usize| from < 2 && to < 2;
    let mut assigned = None;
    table.run_with(pair, |_, letter| {
        if let Message::Prepare { votes, .. } = &letter.message {
            assigned = votes.first().map(|vote| vote.digest);
        }
        Some(letter)
    });
    let votes = vec![Vote { slot, digest: assigned.expect("the primary has assigned it") }];
    for seat in &mut table.seats[..2] {
        seat.hear(now, removed, Message::Prepare { view, votes: votes.clone() });
        seat.hear(now, removed, Message::Commit { view, votes: votes.clone() });
    }
    table.run(pair);
    assert!(table.seats[..2].iter().all(|seat| seat.core.executed() < slot), "two of four decide");
}

/// A key of an epoch that is over is worth nothing, whoever has got hold of it.
#[test]
pub fn a_key_of_an_earlier_epoch_signs_nothing() {
    let mut table = Table::of(4, &options());
    go_over(&mut table, &rotated());
    // The owner goes on with its new key.
    order(&mut table, 2, 1, &[0, 1, 2, 3]);
    nobody_is_blamed(&table);
    let mut stolen = table.seats[2].batch(2, b"theft");
    stolen.signature = keys(NodeId(3), 4).sign(&signed_batch(GROUP_ONE, &stolen));
    table.ask(&stolen, [0, 1, 3]);
    table.pass_for(LONG, everybody);
    assert!(table.seats.iter().all(|seat| seat.machine.last_of(stolen.origin) == 1), "a thief is believed");
}

/// Three of seven were a quorum when there were four.
#[test]
pub fn a_quorum_of_an_earlier_epoch_decides_nothing() {
    let mut table = Table::of(4, &options());
    let all = [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (7, 1)];
    let next = membership(1, 2, &all, &[]);
    go_over(&mut table, &next);
    let base = table.seats[0].core.epoch_base();
    (5..=7).for_each(|id| table.join(NodeId(id), 4, &options(), (base, &next)));
    table.pass_for(LONG, everybody);
    let executed = table.seats[0].core.executed();
    let batch = table.seats[1].batch(1, b"x");
    table.ask(&batch, [0, 1, 2]);
    table.pass_for(Duration::from_millis(300), |from, to| from < 3 && to < 3);
    assert!(table.seats[..3].iter().all(|seat| seat.core.executed() == executed), "three of seven decide");
    order(&mut table, 6, 1, &[0, 1, 2, 3, 4, 5, 6]);
    nobody_is_blamed(&table);
}

/// Of seven two may lie, of six one. A replica that has slept is told a lie by two, one of whom then leaves: in the next epoch two voices
/// are enough, but not these.
#[test]
pub fn what_was_said_in_an_earlier_epoch_decides_nothing() {
    const SLEEPER: usize = 4;
    let mut table = Table::of(7, &options());
    let awake = |from: usize, to: usize| from != SLEEPER && to != SLEEPER;
    let batch = table.seats[1].batch(1, b"true");
    table.ask(&batch, [0, 1, 2, 3]);
    table.pass_for(LONG, awake);
    let entry = Entry { slot: Slot(1), body: Body::new(Bytes::from_static(b"a lie")), ..Entry::default() };
    let lie = Message::Decided { entries: vec![entry], votes: Vec::new() };
    let now = table.now;
    [6, 7].into_iter().for_each(|liar| table.seats[SLEEPER].hear(now, NodeId(liar), lie.clone()));
    let next = membership(1, 1, &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)], &[7]);
    table.ask(&amendment(&options(), next, 1), [0, 1, 2, 3]);
    table.pass_for(LONG, awake);
    assert_eq!((table.seats[0].core.epoch(), table.seats[SLEEPER].core.executed()), (1, Slot(0)));
    table.pass_for(LONG, everybody);
    assert!(Slot(1) < table.seats[SLEEPER].core.executed(), "nobody woke it");
    table.agree(0..table.seats.len());
}

#[test]
fn rotate_every_key_one_after_the_other() {
    let mut table = Table::of(4, &options());
    let mut generations = [(1, 0), (2, 0), (3, 0), (4, 0)];
    for at in 0..4 {
        generations[at].1 = 1;
        go_over(&mut table, &membership(1 + at as u64, 1, &generations, &[]));
        order(&mut table, at, 1, &[0, 1, 2, 3]);
    }
    nobody_is_blamed(&table);
    let now = table.now;
    table.seats.iter_mut().for_each(|seat| seat.restart(now));
    order(&mut table, 0, 2, &[0, 1, 2, 3]);
    assert_eq!(epochs(&table), [4; 4], "a restart forgets no epoch");
    nobody_is_blamed(&table);
}

/// The primary is gone when the amendment has been executed: the next one leads the group to its boundary.
#[test]
fn during_a_view_change() {
    let mut table = Table::of(4, &options());
    order(&mut table, 1, 1, &[0, 1, 2, 3]);
    amend(&mut table, &rotated());
    let is_amended = |table: &Table| table.seats[1..].iter().all(|seat| seat.core.boundary().is_some());
    for _ in 0..50 {
        // Nothing but the amendment is assigned before the primary falls silent.
        table.run_with(everybody, |_, letter| match &letter.message {
            Message::PrePrepare { proposals, .. }
                if proposals.iter().any(|p| p.entry.kind == EntryKind::Empty) =>
            {
                None
            }
            _ => Some(letter),
        });
        if is_amended(&table) {
            break;
        }
        table.pass();
    }
    assert!(is_amended(&table) && epochs(&table) == [0; 4]);
    let without_primary = |from: usize, to: usize| from != 0 && to != 0;
    table.pass_for(2 * LONG, without_primary);
    assert_eq!(epochs(&table), [0, 1, 1, 1]);
    assert!(table.seats[1..].iter().all(|seat| seat.core.view().epoch() == 1));
    order(&mut table, 2, 1, &[0, 1, 2, 3]);
    assert_eq!(epochs(&table), [1; 4], "who was away follows");
}

/// A primary that never fills the way to the boundary is replaced.
#[test]
fn a_primary_that_keeps_the_group_in_its_epoch_is_left() {
    let mut table = Table::of(4, &options());
    amend(&mut table, &rotated());
    let stingy = |from: usize, letter: Letter| match &letter.message {
        Message::PrePrepare { proposals, .. } if from == 0 => {
            proposals.iter().all(|p| p.entry.kind == EntryKind::Batch).then_some(letter)
        }
        _ => Some(letter),
    };
    let (end, mut is_left) = (table.now.after(2 * LONG), false);
    while table.now < end {
        table.pass();
        table.run_with(everybody, |from, letter| {
            is_left |= matches!(letter.message, Message::ViewChange(_));
            stingy(from, letter)
        });
    }
    assert_eq!(epochs(&table), [1; 4]);
    assert!(is_left, "nobody has left its view");
}

#[test]
pub fn a_forged_or_repeated_amendment_changes_nothing() {
    let mut table = Table::of(4, &options());
    order(&mut table, 1, 1, &[0, 1, 2, 3]);
    // A member signs what only the operator may.
    let mut forged = amendment(&options(), rotated(), 1);
    forged.signature = keys(NodeId(2), 4).sign(&signed_batch(GROUP_ONE, &forged));
    let mut of_another_pace = options();
    of_another_pace.window *= 2;
    let misfit = amendment(&of_another_pace, rotated(), 1);
    // What the operator signs for another cluster, or for another group of this one, is worth nothing here.
    let signed = |mut batch: Batch, group: GroupId| {
        batch.signature = keys(OPERATOR, 4).sign(&signed_batch(group, &batch));
        batch
    };
    let of_another_group = signed(amendment(&options(), rotated(), 1), GroupId(GROUP_ONE.0 + 1));
    let mut elsewhere = amendment(&options(), rotated(), 1);
    let mut content = Amendment::decode(elsewhere.body.bytes()).expect("it was just made");
    content.cluster = ClusterId([1; 16]);
    elsewhere.body = Body::new(content.encode().into());
    let elsewhere = signed(elsewhere, GROUP_ONE);
    let skips = amendment(&options(), membership(2, 1, &[(1, 0), (2, 0), (3, 0), (4, 0)], &[]), 1);
    // Nobody would be left who has the state.
    let strangers = amendment(&options(), membership(1, 1, &[(4, 0), (6, 0), (7, 0), (8, 0)], &[1, 2, 3]), 1);
    for batch in [&forged, &misfit, &of_another_group, &elsewhere, &skips, &strangers] {
        table.ask(batch, 0..4);
        table.pass_for(LONG, everybody);
    }
    let untouched = |seat: &quorate::sim::table::Seat| seat.machine.members.is_empty();
    assert!(epochs(&table) == [0; 4] && table.seats.iter().all(untouched));
    go_over(&mut table, &rotated());
    let next = membership(2, 1, &[(1, 2), (2, 0), (3, 1), (4, 0)], &[]);
    go_over(&mut table, &next);
    // What was true once is told again.
    amend(&mut table, &rotated());
    table.pass_for(LONG, everybody);
    order(&mut table, 1, 2, &[0, 1, 2, 3]);
    assert_eq!(epochs(&table), [2; 4]);
    assert!(table.seats.iter().all(|seat| seat.machine.members.next().is_none()));
}

/// Of two at once the first that is ordered takes effect.
#[test]
fn one_at_a_time() {
    let mut table = Table::of(4, &options());
    let other = membership(1, 1, &[(1, 5), (2, 0), (3, 0), (4, 0)], &[]);
    table.ask(&amendment(&options(), rotated(), 1), 0..4);
    table.ask(&amendment(&options(), other, 2), 0..4);
    table.pass_for(LONG, everybody);
    assert_eq!(epochs(&table), [1; 4]);
    let now = table.seats[0].machine.members.now().map(|(_, membership)| membership.clone());
    assert_eq!(now, Some(rotated()));
    order(&mut table, 2, 1, &[0, 1, 2, 3]);
}

/// Everybody has come to the boundary and nobody beyond it when the power fails.
#[test]
fn a_crash_at_the_boundary() {
    for crashed in 1..16_u32 {
        let mut table = Table::of(4, &options());
        order(&mut table, 1, 1, &[0, 1, 2, 3]);
        amend(&mut table, &rotated());
        let silent = |_: usize, letter: Letter| {
            let is_word = matches!(letter.message, Message::Succession(_) | Message::Charter(_));
            (!is_word).then_some(letter)
        };
        let end = table.now.after(LONG);
        while table.now < end {
            table.pass();
            table.run_with(everybody, silent);
        }
        let boundary = table.seats[0].core.boundary().expect("it was amended");
        assert!(table.seats.iter().all(|seat| seat.core.executed() == boundary), "to the end and no further");
        let now = table.now;
        table.burn();
        for at in (0..4).filter(|at| crashed >> at & 1 == 1) {
            table.seats[at].restart(now);
        }
        order(&mut table, 1, 2, &[0, 1, 2, 3]);
        assert_eq!(epochs(&table), [1; 4], "case {crashed}");
        nobody_is_blamed(&table);
    }
}

/// The first epoch's record has left the log by then, and the newest snapshot says who is next, not who is in the group.
#[test]
pub fn a_crash_at_a_later_boundary_forgets_no_epoch() {
    let mut table = Table::of(4, &options());
    go_over(&mut table, &rotated());
    amend(&mut table, &membership(2, 1, &[(1, 0), (2, 0), (3, 1), (4, 1)], &[]));
    let end = table.now.after(LONG);
    while table.now < end {
        table.pass();
        table.run_with(everybody, |_, letter| {
            let is_word = matches!(letter.message, Message::Succession(_) | Message::Charter(_));
            (!is_word).then_some(letter)
        });
    }
    let boundary = table.seats[0].core.boundary().expect("it was amended");
    assert!(
        table.seats.iter().all(|seat| seat.machine.members.epoch() == 2 && seat.core.executed() == boundary)
    );
    let now = table.now;
    table.burn();
    table.seats.iter_mut().for_each(|seat| seat.restart(now));
    assert_eq!(epochs(&table), [1; 4]);
    order(&mut table, 1, 1, &[0, 1, 2, 3]);
    assert_eq!(epochs(&table), [2; 4]);
    nobody_is_blamed(&table);
}

/// The only one that stays, of three none of which may lie, crashes before the snapshot that newcomers begin with is whole. It has signed
/// that state, so nobody asks it to again; without the snapshot the newcomers would never come in.
#[test]
pub fn a_crash_ends_the_snapshot_that_newcomers_begin_with() {
    let mut table = Table::of(3, &options());
    order(&mut table, 1, 1, &[0, 1, 2]);
    table.seats[0].snapshots_wait = true;
    go_over(&mut table, &membership(1, 0, &[(1, 0), (4, 1), (5, 1)], &[2, 3]));
    let base = table.seats[0].core.epoch_base().slot;
    assert_eq!([0, 1, 2].map(|at| table.seats[at].snapshot()), [Slot::ZERO, base, base]);
    table.seats[0].snapshots_wait = false;
    let now = table.now;
    table.seats[0].restart(now);
    assert_eq!(table.seats[0].snapshot(), base);
    nobody_is_blamed(&table);
}

/// Who has slept through several epochs follows their charters, each signed by members of the one before.
#[test]
fn a_sleeper_follows_the_chain_of_charters() {
    let mut table = Table::of(4, &options());
    order(&mut table, 1, 1, &[0, 1, 2, 3]);
    let awake = |from: usize, to: usize| from != 3 && to != 3;
    let mut generations = [(1, 0), (2, 0), (3, 0), (4, 0)];
    for at in 0..3 {
        generations[at].1 = 1;
        let batch = amendment(&options(), membership(1 + at as u64, 1, &generations, &[]), 1);
        table.ask(&batch, 0..3);
        table.pass_for(LONG, awake);
        assert_eq!(epochs(&table)[..3], [1 + at as u64; 3]);
    }
    assert_eq!(epochs(&table)[3], 0);
    order(&mut table, 3, 1, &[0, 1, 2, 3]);
    assert_eq!(epochs(&table), [3; 4]);
    nobody_is_blamed(&table);
}

/// A charter that no quorum of the epoch before has signed lets nobody in.
#[test]
fn a_forged_charter_is_not_followed() {
    let mut table = Table::of(4, &options());
    let vote = Vote { slot: Slot(16), digest: Digest([7; 32]) };
    let next = rotated();
    let word = Succession { epoch: 1, vote, members: next.digest(), signature: Default::default() };
    let signed = |node: u8| (NodeId(node), keys(NodeId(node), 4).sign(&word.signed(GROUP_ONE)));
    let charter = |signatures| Message::Charter(Charter { vote, membership: next.clone(), signatures });
    let (now, liar) = (table.now, NodeId(4));
    table.seats[0].hear(now, liar, charter(vec![signed(3), signed(4)]));
    assert_eq!(table.seats[0].core.epoch(), 0, "two of four");
    let mut forged = vec![signed(2), signed(3), signed(4)];
    forged[0].1 = forged[1].1;
    table.seats[0].hear(now, liar, charter(forged));
    assert_eq!(table.seats[0].core.epoch(), 0, "one signature for two");
    let mut stranger = vec![signed(3), signed(4), signed(4)];
    stranger[2].0 = NodeId(9);
    table.seats[0].hear(now, liar, charter(stranger));
    assert_eq!(table.seats[0].core.epoch(), 0, "a stranger's voice");
}
