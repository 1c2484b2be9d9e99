//! Where a view begins when a liar contradicts what prepared: its view-change and two others decide nothing above the old checkpoint, so
//! the view begins above one that a single correct replica has come to, and the liar vouches for. The others must not forget what they know
//! of the slots below, for with a fourth view-change it brings them there.

use super::stories::{everybody, options};
use quorate::base::{Digest, NodeId, Slot, View};
use quorate::protocol::pbft::choose::choose;
use quorate::sim::host::keys;
use quorate::sim::liars::sign;
use quorate::sim::table::{Letter, Table};
use quorate::wire::pbft::{Accepted, Change, Message, NewView, Prepared, Vote};
use std::collections::BTreeMap;
use std::time::Duration;

const LIAR: NodeId = NodeId(2);
/// The only correct replica that has executed the four slots up to the first checkpoint. Seats 2 and 3 have prepared them.
const AHEAD: usize = 0;
const BEHIND: [usize; 2] = [2, 3];

fn without_liar(from: usize, to: usize) -> bool {
    from != 1 && to != 1
}

/// Of what is decided, and of what others have executed, the two hear nothing.
fn kept_from(letter: Letter) -> Option<Letter> {
    let tells = match &letter.message {
        Message::Commit { .. } | Message::Decided { .. } | Message::Status { .. } => letter.from != LIAR,
        _ => false,
    };
    (!tells || letter.to.0 <= 2).then_some(letter)
}

/// Everybody has left the first view. Gives back the view-changes for the second, the liar's own among them.
fn ahead_alone() -> (Table, BTreeMap<NodeId, Change>) {
    let mut table = Table::of(4, &options());
    for sequence in 1..=4 {
        let batch = table.seats[AHEAD].batch(sequence, &[sequence as u8]);
        table.ask(&batch, 0..4);
        table.run_with(everybody, |_, letter| {
            kept_from(letter).filter(|letter| letter.from != LIAR || !is_commit(letter))
        });
    }
    assert_eq!([0, 2, 3].map(|at| table.seats[at].core.executed()), [Slot(4), Slot(0), Slot(0)]);
    let mut changes = BTreeMap::new();
    while [0, 2, 3].iter().any(|at| table.seats[*at].core.view() == View(0)) {
        table.pass();
        table.run_with(without_liar, |_, letter| {
            if let Message::ViewChange(change) = &letter.message {
                changes.insert(change.node, change.clone());
            }
            kept_from(letter)
        });
    }
    (table, changes)
}

fn is_commit(letter: &Letter) -> bool {
    matches!(letter.message, Message::Commit { .. }) && 2 < letter.to.0
}

/// The liar has come to the same checkpoint, as it says, and prepared other values on the way.
fn lie(honest: &Change, view: View) -> Message {
    let other = |vote: Vote| Vote { digest: Digest([9; 32]), ..vote };
    let mut change = Change { node: LIAR, view, ..honest.clone() };
    change.prepared = honest.prepared.iter().map(|p| Prepared { vote: other(p.vote), ..*p }).collect();
    change.accepted =
        honest.prepared.iter().map(|p| Accepted { vote: other(p.vote), view: p.view }).collect();
    sign(&keys(LIAR, 4), Message::ViewChange(change))
}

/// The liar leads the second view and begins it above the checkpoint.
fn led_astray() -> (Table, Change) {
    let (mut table, changes) = ahead_alone();
    let (view, ahead) = (View(1), changes[&NodeId(1)].clone());
    let Message::ViewChange(lie) = lie(&ahead, view) else { unreachable!("it is one") };
    let changes = vec![ahead.clone(), lie, changes[&NodeId(3)].clone()];
    let choice = choose(&changes.iter().collect::<Vec<_>>(), table.seats[0].core.quorum(), options().window);
    assert_eq!(choice.map(|choice| (choice.checkpoint.slot, choice.values)), Some((Slot(4), Vec::new())));
    let new_view = NewView { view, changes, signature: Default::default() };
    let said = sign(&keys(LIAR, 4), Message::NewView(new_view));
    table.burn();
    for at in [0, 2, 3] {
        let now = table.now;
        table.seats[at].hear(now, LIAR, said.clone());
        assert!(table.seats[at].core.is_active(), "seat {at} is in {:?}", table.seats[at].core.view());
    }
    (table, ahead)
}

fn all_are_equal(table: &Table) {
    assert_eq!(BEHIND.map(|at| table.seats[at].core.executed()), [Slot(4); 2], "two stay behind for ever");
    table.agree([0, 2, 3]);
}

/// TOCS 2002, 4.3: only what a quorum has come to is stable, and what lies above it is told in view-changes.
#[test]
pub fn what_a_view_begins_above_is_not_stable_for_that() {
    let (mut table, _) = led_astray();
    assert!([0, 2, 3].iter().all(|at| table.seats[*at].core.stable().slot == Slot(0)));
    table.pass_for(Duration::from_secs(10), without_liar);
    all_are_equal(&table);
}

/// The same after all of them have lost power in that view.
#[test]
fn a_restart_in_such_a_view_forgets_nothing_either() {
    let (mut table, _) = led_astray();
    let now = table.now;
    [0, 2, 3].iter().for_each(|at| table.seats[*at].restart(now));
    table.pass_for(Duration::from_secs(10), without_liar);
    all_are_equal(&table);
}

/// The liar says that it has come as far as the one that is ahead, so that two replicas could tell the others, and tells nothing. Nobody
/// waits for a request.
#[test]
fn whom_nobody_tells_what_two_say_they_have_executed_leaves_the_view() {
    let (mut table, _) = led_astray();
    let now = table.now;
    // What clients wanted is forgotten with this life.
    [0, 2, 3].iter().for_each(|at| table.seats[*at].restart(now));
    let end = table.now.after(Duration::from_secs(20));
    while table.now < end {
        let (now, view) = (table.now, table.seats[2].core.view());
        for at in BEHIND {
            let (stable, executed) = (Slot(0), Slot(4));
            let boast =
                Message::Status { view, active: true, stable, executed, bodies: false, complains: false };
            table.seats[at].hear(now, LIAR, boast);
        }
        table.pass();
        table.run(without_liar);
    }
    all_are_equal(&table);
}

/// The liar's view-change is there first, again and again: the primary waits a little for that of the fourth.
#[test]
fn a_primary_waits_for_the_view_change_that_allows_an_older_start() {
    let (mut table, ahead) = led_astray();
    let mut lied = View(1);
    let end = table.now.after(Duration::from_secs(10));
    while table.now < end {
        let view = table.seats[2].core.view();
        if lied < view {
            lied = view;
            let now = table.now;
            [0, 2, 3].iter().for_each(|at| table.seats[*at].hear(now, LIAR, lie(&ahead, view)));
        }
        table.pass();
        // The fourth is late.
        let late = |_: usize, letter: Letter| {
            let is_change = matches!(letter.message, Message::ViewChange(_));
            (!is_change || letter.from != NodeId(4)).then_some(letter)
        };
        table.run_with(without_liar, late);
        if lied == View(2) {
            break;
        }
    }
    assert_eq!(
        (lied, table.seats[2].core.is_active()),
        (View(2), false),
        "it could begin above the checkpoint"
    );
    table.pass_for(Duration::from_secs(2), without_liar);
    let begun = table.seats[2].core.new_view().expect("it has begun");
    assert_eq!((begun.view, begun.changes.len()), (View(2), 4));
    all_are_equal(&table);
}
