//! Small-scope mutations, one at a time (ByzzFuzz: Winter and others, OOPSLA 2023): the letters of a liar's in a short story with a view
//! change, each in turn with one field changed. No panic, no two values at a slot, nobody honest convicted, and the group goes on.
//!
//! `QUORATE_MUTATIONS=N` tries every `N`th choice of a field and a change; 1 tries all of the small ones.

use super::setting;
use super::stories::{everybody, options};
use quorate::base::NodeId;
use quorate::sim::host::keys;
use quorate::sim::liars::{mutate, sign};
use quorate::sim::table::{Letter, Table};
use std::time::Duration;

/// It leads the second view.
const LIAR: NodeId = NodeId(2);
/// The seats of the others.
const HONEST: [usize; 3] = [0, 2, 3];
/// Choices of what is changed in a letter: so many small numbers, and some that reach the ends of lists and high bits.
const CHOICES: u64 = 96;
const FAR_CHOICES: [u64; 4] = [1 << 33, 1 << 41, u64::MAX, 0x5555_5555_5555];
/// Time passes at most so often until the last request is executed.
const END_MAX: usize = 4_000;

#[test]
fn every_mutation_of_every_message_of_a_story_is_borne() {
    let step = setting("QUORATE_MUTATIONS", 2);
    let (mut letters, mut number, mut tried) = (u64::MAX, 0, 0);
    while number < letters {
        // Other choices for each letter, so that all are met with.
        let near = (0..CHOICES).filter(|choice| (choice + number).is_multiple_of(step));
        let far = FAR_CHOICES
            .into_iter()
            .filter(|choice| (u64::from(choice.count_ones()) + number).is_multiple_of(step));
        for choice in near.chain(far) {
            letters = one_mutation(number, choice);
            tried += 1;
        }
        number += 1;
    }
    println!("{tried} mutations of {letters} letters");
    assert!(60 < letters && letters < tried, "{tried} mutations of {letters} letters");
}

/// The story in which the liar's letter of this number is mutated. Gives back how many letters it wrote.
fn one_mutation(number: u64, choice: u64) -> u64 {
    let (mut table, keys, mut written) = (Table::of(4, &options()), keys(LIAR, 4), 0);
    let mut read = |_: usize, mut letter: Letter| {
        if letter.from == LIAR {
            if written == number {
                letter.message = sign(&keys, mutate(letter.message, choice));
            }
            written += 1;
        }
        Some(letter)
    };
    (1..=6).for_each(|sequence| chapter(&mut table, sequence, &mut read));
    let batch = table.seats[2].batch(7, b"end");
    let is_done = |table: &Table| HONEST.iter().all(|at| table.seats[*at].machine.last_of(batch.origin) == 7);
    for passed in 0..END_MAX {
        if is_done(&table) {
            break;
        }
        if passed % 40 == 0 {
            table.ask(&batch, 0..4);
        }
        table.pass();
        table.run_with(everybody, &mut read);
    }
    let of = format!("mutation {choice} of letter {number}");
    assert!(is_done(&table), "{of}: the group stands still");
    table.agree(HONEST);
    for seat in HONEST.iter().map(|at| &table.seats[*at]) {
        assert!(seat.core.proofs().all(|(node, ..)| node == LIAR), "{of}: an honest one is convicted");
        assert!(seat.faults.iter().all(|fault| fault.peer == LIAR), "{of}: {:?}", seat.faults);
    }
    written
}

/// A request is asked for, and ordered but in the third chapter: there the first primary is cut off, so that the liar leads.
fn chapter(table: &mut Table, sequence: u64, read: &mut impl FnMut(usize, Letter) -> Option<Letter>) {
    let is_cut = sequence == 3;
    let may = |from: usize, to: usize| !is_cut || (from != 0 && to != 0);
    let batch = table.seats[2].batch(sequence, &[sequence as u8]);
    table.ask(&batch, usize::from(is_cut)..4);
    let end = table.now.after(Duration::from_millis(if is_cut { 250 } else { 20 }));
    table.run_with(may, &mut *read);
    while table.now < end {
        table.pass();
        table.run_with(may, &mut *read);
    }
    table.agree(HONEST);
}
