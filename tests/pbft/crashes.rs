//! Power losses of every replica in turn and of all at once. As published PBFT keeps what it accepted in memory, where a replica that
//! returns without it counts as a liar; here a crash makes a replica slow (Bessani and others, USENIX ATC 2013).

use super::stories::{everybody, options, order};
use quorate::sim::table::Table;
use std::time::Duration;

/// Nobody was accused of anything, or is said to be convicted.
fn nobody_is_blamed(table: &Table) {
    for seat in &table.seats {
        assert!(seat.faults.is_empty(), "{:?}", seat.faults);
        assert_eq!(seat.core.proofs().count(), 0);
    }
}

#[test]
fn crash_of_every_replica_in_turn_and_of_all_at_once() {
    let mut table = Table::of(4, &options());
    for round in (1..=80).step_by(2) {
        order(&mut table, round);
        let batch = table.seats[1].batch(round + 1, &[(round + 1) as u8]);
        // One more is under way when the power fails.
        table.ask(&batch, 0..4);
        let now = table.now;
        if round % 5 == 0 {
            table.burn();
            table.seats.iter_mut().for_each(|seat| seat.restart(now));
        } else {
            table.seats[round as usize / 2 % 4].restart(now);
        }
        table.ask(&batch, 0..4);
        table.pass_for(Duration::from_millis(400), everybody);
        let is_done = |at: usize| table.seats[at].machine.last_of(batch.origin) == round + 1;
        assert!((0..4).all(is_done), "round {round}");
        table.agree(0..4);
        nobody_is_blamed(&table);
    }
}

/// All lose power with everything that was not written yet: nobody contradicts what it said before.
#[test]
fn crash_of_all_with_writes_under_way_breaks_no_word() {
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
        table.pass_for(Duration::from_secs(2), everybody);
        let is_done = |at: usize| table.seats[at].machine.last_of(batch.origin) == 9;
        assert!((0..4).all(is_done), "case {finished}");
        table.agree(0..4);
        nobody_is_blamed(&table);
    }
}
