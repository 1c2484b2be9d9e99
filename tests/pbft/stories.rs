//! Short stories of single replicas, told with a table: what each must do at one place of the protocol, and what a classic bug there
//! would do instead (`tests/canaries` switches the bugs on).

use quorate::base::{Instant, NodeId, Slot, View};
use quorate::protocol::pbft::Options;
use quorate::sim::table::{Letter, Table};
use quorate::wire::pbft::{Message, Vote};
use std::time::Duration;

fn options() -> Options {
    Options {
        window: 16,
        checkpoint_every: 4,
        snapshot_every: 8,
        request_timeout: Duration::from_millis(100),
        request_timeout_max: Duration::from_millis(1_600),
        status_every: Duration::from_millis(50),
        ..Options::default()
    }
}

fn everybody(_: usize, _: usize) -> bool {
    true
}

/// A request is ordered and executed by all.
fn order(table: &mut Table, sequence: u64) {
    let batch = table.seats[1].batch(sequence, &[sequence as u8]);
    table.ask(&batch, 0..table.seats.len());
    table.run(everybody);
    assert!(table.seats.iter().all(|seat| seat.machine.last_of(batch.origin) == sequence));
}

/// Aardvark 4.3: each request has its own time, whatever else comes in meanwhile.
pub fn a_victim_s_new_requests_do_not_excuse_that_its_old_one_waits() {
    let mut table = Table::of(4, &options());
    for sequence in 1..=8 {
        let batch = table.seats[1].batch(sequence, &[sequence as u8]);
        // The primary does not want to hear of it.
        table.ask(&batch, 1..4);
        let deaf = |_: usize, letter: Letter| {
            let is_request = matches!(letter.message, Message::Request { .. });
            (!is_request || letter.to != NodeId(1)).then_some(letter)
        };
        table.run_with(everybody, deaf);
        let end = table.now.after(Duration::from_millis(40));
        while table.now < end {
            table.pass();
            table.run_with(everybody, deaf);
        }
    }
    let view = table.seats[2].core.view();
    assert!(View(0) < view, "the primary still leads after {:?}", table.now);
}

/// TOCS 2002, 4.5.2: waits for twice as long when a view brought nothing.
pub fn patience_doubles_while_views_bring_nothing() {
    let mut table = Table::of(4, &options());
    let batch = table.seats[1].batch(1, b"x");
    table.ask(&batch, 1..4);
    let (mut changes, mut view) = (vec![table.now], View(0));
    let no_view_begins = |_: usize, letter: Letter| {
        let goes = !matches!(letter.message, Message::NewView(_) | Message::PrePrepare { .. });
        goes.then_some(letter)
    };
    for _ in 0..4_000 {
        table.pass();
        table.run_with(everybody, no_view_begins);
        if view < table.seats[1].core.view() {
            view = table.seats[1].core.view();
            changes.push(table.now);
        }
        if changes.len() == 7 {
            break;
        }
    }
    let waits: Vec<Duration> = changes.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let longest = options().request_timeout_max;
    assert_eq!(waits.len(), 6, "views come to no end");
    let doubles = waits.windows(2).all(|pair| longest.min(pair[0] * 19 / 10) <= pair[1]);
    assert!(doubles, "patience of each view: {waits:?}");
}

/// TOCS 2002, 4.5.2: f + 1 that left are followed at once.
pub fn whoever_hears_that_f_plus_one_have_left_leaves_too() {
    let mut table = Table::of(4, &options());
    let batch = table.seats[2].batch(1, b"x");
    // Nodes 3 and 4 lose patience; node 2 has heard of nothing.
    table.ask(&batch, 2..4);
    let only_changes = |_: usize, letter: Letter| {
        let is_change = matches!(letter.message, Message::ViewChange(_));
        (is_change && letter.to == NodeId(2)).then_some(letter)
    };
    for _ in 0..1_000 {
        if table.seats[2].core.view() == View(1) && table.seats[3].core.view() == View(1) {
            break;
        }
        table.pass();
        table.run_with(|_, _| false, |_, _| None);
    }
    // They say it again.
    let end = table.now.after(Duration::from_millis(60));
    while table.now < end && table.seats[1].core.view() == View(0) {
        table.pass();
        table.run_with(everybody, only_changes);
    }
    assert_eq!(table.seats[1].core.view(), View(1), "it stays in a view that f + 1 have left");
}

/// TOCS 2002, 4.2: what was executed is not ordered again, whoever asks.
pub fn an_executed_request_is_not_ordered_again() {
    let mut table = Table::of(4, &options());
    order(&mut table, 1);
    let batch = table.seats[1].batch(1, &[1]);
    table.ask(&batch, 0..4);
    table.run(everybody);
    table.pass_for(Duration::from_millis(300), everybody);
    assert_eq!(table.seats[0].core.executed(), Slot(1), "it stands in the log twice");
}

/// A vote of a liar about a slot.
fn votes(slot: u64) -> Vec<Vote> {
    (0..8).map(|n| Vote { slot: Slot(slot + n), digest: quorate::base::Digest([9; 32]) }).collect()
}

/// B9, B18: what lies beyond the window or the view leaves no trace.
pub fn far_slots_and_later_views_are_not_kept() {
    let mut table = Table::of(4, &options());
    order(&mut table, 1);
    let before = table.seats[2].core.held();
    for far in 0..50 {
        let (now, liar) = (table.now, NodeId(4));
        let seat = &mut table.seats[2];
        seat.hear(now, liar, Message::Prepare { view: View(0), votes: votes(1_000 + 8 * far) });
        seat.hear(now, liar, Message::Commit { view: View(0), votes: votes(1 << 50) });
        seat.hear(now, liar, Message::Prepare { view: View(1 + far), votes: votes(2) });
        seat.hear(now, liar, Message::Commit { view: View(1 + far), votes: votes(2) });
        let decided = Message::Decided { entries: Vec::new(), votes: votes(9_000) };
        seat.hear(now, liar, decided);
    }
    assert_eq!(table.seats[2].core.held(), before, "a liar fills memory");
}

#[test]
fn requests_have_their_own_time() {
    a_victim_s_new_requests_do_not_excuse_that_its_old_one_waits();
}

#[test]
fn patience_doubles() {
    patience_doubles_while_views_bring_nothing();
}

#[test]
fn a_weak_quorum_is_joined() {
    whoever_hears_that_f_plus_one_have_left_leaves_too();
}

#[test]
fn requests_are_ordered_once() {
    an_executed_request_is_not_ordered_again();
}

#[test]
fn memory_has_an_end() {
    far_slots_and_later_views_are_not_kept();
}

/// Castro and Liskov keep it in memory; here a crash makes a replica slow, and no liar.
#[test]
fn every_replica_may_crash_in_turn_and_all_at_once() {
    let mut table = Table::of(4, &options());
    for round in 1..=40 {
        order(&mut table, round);
        let batch = table.seats[1].batch(round + 1, &[(round + 1) as u8]);
        // One more is under way when the power fails.
        table.ask(&batch, 0..4);
        let now = table.now;
        if round % 5 == 0 {
            table.burn();
            table.seats.iter_mut().for_each(|seat| seat.restart(now));
        } else {
            table.seats[round as usize % 4].restart(now);
        }
        table.ask(&batch, 0..4);
        table.pass_for(Duration::from_millis(400), everybody);
        assert!(
            table.seats.iter().all(|seat| seat.machine.last_of(batch.origin) == round + 1),
            "round {round}"
        );
        table.agree(0..4);
        assert!(table.seats.iter().all(|seat| seat.faults.is_empty() && seat.core.proofs().next().is_none()));
    }
}

/// All lose power with everything that was not written yet: nobody contradicts what it said before.
#[test]
fn a_crash_with_writes_under_way_breaks_no_word() {
    for finished in 0..16_u32 {
        let mut table = Table::of(4, &options());
        order(&mut table, 1);
        table.seats.iter_mut().for_each(|seat| seat.writes_wait = true);
        for step in 0..6 {
            let batch = table.seats[1].batch(2 + step, &[step as u8]);
            table.ask(&batch, 0..4);
            let now = table.now;
            for (at, seat) in table.seats.iter_mut().enumerate() {
                if finished >> at & 1 == 1 || step % 2 == 0 {
                    seat.finish_writes(now);
                }
            }
            table.run(everybody);
        }
        let now = table.now;
        table.burn();
        table.seats.iter_mut().for_each(|seat| {
            seat.writes_wait = false;
            seat.restart(now);
        });
        table.pass_for(Duration::from_millis(400), everybody);
        let batch = table.seats[1].batch(9, b"after");
        table.ask(&batch, 0..4);
        table.pass_for(Duration::from_millis(2_000), everybody);
        assert!(table.seats.iter().all(|seat| seat.machine.last_of(batch.origin) == 9), "case {finished}");
        table.agree(0..4);
        assert!(table.seats.iter().all(|seat| seat.faults.is_empty()), "an honest node was accused");
        assert!(Instant::ZERO < table.now);
    }
}

/// Each letter of a liar's in a recorded run is mutated in turn: no panic, no two values at a slot, nobody honest convicted, and the
/// group goes on.
#[test]
fn every_mutation_of_every_message_of_a_run_is_borne() {
    let (mut letters, mut number, mut choices) = (u64::MAX, 0, 0);
    let step = super::setting("QUORATE_MUTATIONS_STEP", 7);
    while number < letters {
        for choice in (0..96)
            .chain([1 << 33, 1 << 41, u64::MAX, 0x5555_5555_5555])
            .skip(number as usize % step as usize)
        {
            if choice % step != 0 && choice < 96 {
                continue;
            }
            letters = one_mutation(number, choice + number % step);
            choices += 1;
        }
        number += 1;
    }
    assert!(100 < letters && letters < choices, "{letters} letters, {choices} mutations");
}

/// A run with a view change in which the liar's letter of this number is mutated. Gives back how many letters it wrote.
fn one_mutation(number: u64, choice: u64) -> u64 {
    let liar = NodeId(2);
    let mut table = Table::of(4, &options());
    let keys = quorate::sim::host::keys(liar, 4);
    let mut written = 0;
    let mut read = |_: usize, mut letter: Letter| {
        if letter.from == liar {
            if written == number {
                let lie = quorate::sim::liars::mutate(letter.message, choice);
                letter.message = quorate::sim::liars::sign(&keys, lie);
            }
            written += 1;
        }
        Some(letter)
    };
    let honest = [0, 2, 3];
    for sequence in 1..=6 {
        let batch = table.seats[2].batch(sequence, &[sequence as u8]);
        // The first primary is deaf for a while: the liar leads the next view.
        let first = usize::from(sequence == 3);
        table.ask(&batch, first..4);
        let end = table.now.after(Duration::from_millis(if sequence == 3 { 250 } else { 20 }));
        table.run_with(|from, to| sequence != 3 || (from != 0 && to != 0), &mut read);
        while table.now < end {
            table.pass();
            table.run_with(|from, to| sequence != 3 || (from != 0 && to != 0), &mut read);
        }
        table.agree(honest);
    }
    let batch = table.seats[2].batch(7, b"end");
    let is_done = |table: &Table| honest.iter().all(|at| table.seats[*at].machine.last_of(batch.origin) == 7);
    for passed in 0..4_000 {
        if is_done(&table) {
            break;
        }
        if passed % 40 == 0 {
            table.ask(&batch, 0..4);
        }
        table.pass();
        table.run_with(everybody, &mut read);
    }
    assert!(is_done(&table), "mutation {choice} of letter {number}: the group stands still");
    table.agree(honest);
    for seat in honest.iter().map(|at| &table.seats[*at]) {
        assert!(seat.core.proofs().all(|(node, ..)| node == liar), "mutation {choice} of letter {number}");
        assert!(seat.faults.iter().all(|fault| fault.peer == liar), "{:?}", seat.faults);
    }
    written
}
