//! Short stories of single replicas, told at a table: what each must do at one place of the protocol, and what a classic bug there would
//! do instead (`tests/canaries` switches the bugs on and plays them again).

use quorate::base::{Digest, NodeId, Slot, Stamp, View};
use quorate::crypto::Signature;
use quorate::protocol::pbft::Options;
use quorate::sim::host::keys;
use quorate::sim::liars::sign;
use quorate::sim::table::{Letter, Table};
use quorate::wire::pbft::{Accepted, Change, Message, NULL, NewView, Prepared, Proposal, Vote};
use quorate::wire::{Batch, Entry, EntryKind};
use std::time::Duration;

/// Replicas at the table.
const NODES: usize = 4;

/// Small limits and times.
pub fn options() -> Options {
    Options {
        window: 16,
        checkpoint_every: 4,
        snapshot_every: 32,
        request_timeout: Duration::from_millis(100),
        request_timeout_max: Duration::from_millis(1_600),
        status_every: Duration::from_millis(50),
        ..Options::default()
    }
}

/// Nobody is cut off.
pub fn everybody(_: usize, _: usize) -> bool {
    true
}

/// Everybody but this one.
fn without(seat: usize) -> impl Fn(usize, usize) -> bool {
    move |from, to| from != seat && to != seat
}

fn table() -> Table {
    Table::of(NODES, &options())
}

/// A request is ordered and executed by all.
pub fn order(table: &mut Table, sequence: u64) {
    let batch = table.seats[1].batch(sequence, &[sequence as u8]);
    table.ask(&batch, 0..NODES);
    table.run(everybody);
    assert!(table.seats.iter().all(|seat| seat.machine.last_of(batch.origin) == sequence));
}

/// Time passes while everybody hears everybody, but `read` sees each letter first.
fn pass_with(table: &mut Table, time: Duration, mut read: impl FnMut(usize, Letter) -> Option<Letter>) {
    let end = table.now.after(time);
    while table.now < end {
        table.pass();
        table.run_with(everybody, &mut read);
    }
}

/// Aardvark 4.3: each request has its own time, whatever else comes in meanwhile (B14).
#[test]
pub fn new_requests_do_not_excuse_that_an_old_one_waits() {
    let mut table = table();
    // The primary does not want to hear of any.
    let deaf = |_: usize, letter: Letter| {
        let is_request = matches!(letter.message, Message::Request { .. });
        (!is_request || letter.to != NodeId(1)).then_some(letter)
    };
    for sequence in 1..=8 {
        let batch = table.seats[1].batch(sequence, &[sequence as u8]);
        table.ask(&batch, 1..NODES);
        table.run_with(everybody, deaf);
        pass_with(&mut table, Duration::from_millis(40), deaf);
    }
    let view = table.seats[2].core.view();
    assert!(View(0) < view, "the primary still leads after {:?}", table.now);
}

/// "Doubles its time-out": each view is waited for twice as long when the last brought nothing (TOCS 2002, 4.5.2; B14).
#[test]
pub fn patience_doubles_while_views_bring_nothing() {
    let mut table = table();
    let batch = table.seats[1].batch(1, b"x");
    table.ask(&batch, 1..NODES);
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
    // The first view had done nothing wrong before.
    let doubles = waits[1..].windows(2).all(|pair| longest.min(pair[0] * 19 / 10) <= pair[1]);
    assert!(doubles, "patience of each view: {waits:?}");
}

/// "If a replica receives a set of f+1 valid view-change messages ... it sends a view-change ... even if its timer has not expired"
/// (TOCS 2002, 4.5.2; B14).
#[test]
pub fn whoever_hears_that_f_plus_one_have_left_leaves_too() {
    let mut table = table();
    let batch = table.seats[2].batch(1, b"x");
    // Nodes 3 and 4 lose patience; node 2 has heard of nothing.
    table.ask(&batch, 2..NODES);
    let have_left = |table: &Table| (2..NODES).all(|at| table.seats[at].core.view() == View(1));
    for _ in 0..1_000 {
        if have_left(&table) {
            break;
        }
        table.pass();
        table.run_with(|_, _| false, |_, _| None);
    }
    assert!(have_left(&table), "nobody loses patience");
    // They say it again.
    let only_changes = |_: usize, letter: Letter| {
        let is_change = matches!(letter.message, Message::ViewChange(_));
        (is_change && letter.to == NodeId(2)).then_some(letter)
    };
    pass_with(&mut table, Duration::from_millis(60), only_changes);
    assert_eq!(table.seats[1].core.view(), View(1), "it stays in a view that f + 1 have left");
}

/// What was executed is not ordered again, whoever asks (TOCS 2002, 4.2; B15).
#[test]
pub fn an_executed_request_is_not_ordered_again() {
    let mut table = table();
    order(&mut table, 1);
    let batch = table.seats[1].batch(1, &[1]);
    table.ask(&batch, 0..NODES);
    table.run(everybody);
    table.pass_for(Duration::from_millis(300), everybody);
    assert_eq!(table.seats[0].core.executed(), Slot(1), "it stands in the log twice");
}

/// Votes of a liar.
fn votes(slot: u64) -> Vec<Vote> {
    (0..8).map(|n| Vote { slot: Slot(slot + n), digest: Digest([9; 32]) }).collect()
}

/// What a liar says fills nobody's memory.
fn leaves_no_trace(said: impl Fn(u64) -> Vec<Message>) {
    let mut table = table();
    order(&mut table, 1);
    let before = table.seats[2].core.held();
    for number in 0..50 {
        let now = table.now;
        said(number).into_iter().for_each(|message| table.seats[2].hear(now, NodeId(4), message));
    }
    assert_eq!(table.seats[2].core.held(), before, "a liar fills memory");
}

/// "n is between a low water mark h and a high water mark H" (TOCS 2002, 4.2; B9).
#[test]
pub fn slots_beyond_the_window_leave_no_trace() {
    leaves_no_trace(|far| {
        let view = View(0);
        let decided = Message::Decided { entries: Vec::new(), votes: votes(9_000) };
        let prepare = Message::Prepare { view, votes: votes(1_000 + 8 * far) };
        vec![prepare, Message::Commit { view, votes: votes(1 << 50) }, decided]
    });
}

/// Votes of views that have not begun are asked for when they have (B18).
#[test]
pub fn votes_of_later_views_leave_no_trace() {
    leaves_no_trace(|far| {
        let view = View(1 + far);
        vec![Message::Prepare { view, votes: votes(2) }, Message::Commit { view, votes: votes(2) }]
    });
}

/// "The new primary ... null request" (TOCS 2002, 4.4; B8): what stands behind a hole is executed.
#[test]
pub fn holes_of_a_new_view_are_filled() {
    let mut table = table();
    let lost = table.seats[1].batch(1, b"lost");
    let kept = table.seats[2].batch(1, b"kept");
    // Only the primary ever hears of the first, and nobody of its assignment.
    let hole = |_: usize, letter: Letter| match &letter.message {
        Message::PrePrepare { proposals, .. } if proposals.iter().any(|p| p.entry.slot == Slot(1)) => None,
        _ => Some(letter),
    };
    table.ask(&lost, [0]);
    table.run_with(everybody, hole);
    table.ask(&kept, 0..NODES);
    table.run_with(everybody, hole);
    assert_eq!(table.seats[0].core.executed(), Slot::ZERO, "slot 1 is decided all the same");
    // It falls silent, and its view with it.
    table.pass_for(Duration::from_secs(2), without(0));
    let is_done = |at: usize| table.seats[at].machine.last_of(kept.origin) == 1;
    assert!((1..NODES).all(is_done), "what prepared behind a hole is not executed");
    table.agree(1..NODES);
}

/// A pre-prepare of view 0 for slot 1, signed by its primary.
fn pre_prepare(batch: &Batch) -> Message {
    let Batch { origin, sequence, floor, body, signature, .. } = batch.clone();
    let (slot, stamp, kind) = (Slot(1), Stamp(1), EntryKind::Batch);
    let entry = Entry { slot, stamp, kind, origin, sequence, floor, body, ..Entry::default() };
    let (proposals, is_signed) = (vec![Proposal { entry, signature }], Signature([1; 64]));
    sign(&keys(NodeId(1), NODES), Message::PrePrepare { view: View(0), proposals, signature: is_signed })
}

/// The same as of a primary that does not sign.
fn unsigned(message: Message) -> Message {
    match message {
        Message::PrePrepare { view, proposals, .. } => {
            Message::PrePrepare { view, proposals, signature: Signature::NONE }
        }
        other => other,
    }
}

/// What a backup prepares when its primary says this.
fn prepared_upon(table: &mut Table, message: Message) -> Vec<Vote> {
    let now = table.now;
    table.seats[1].hear(now, NodeId(1), message);
    let said = table.seats[1].mail.drain(..).filter(|letter| letter.to == NodeId(3));
    let votes = said.filter_map(|letter| match letter.message {
        Message::Prepare { votes, .. } => Some(votes),
        _ => None,
    });
    votes.flatten().collect()
}

/// "The signatures in the request and the pre-prepare message are correct" (Castro and Liskov 1999, 4.2; B17).
#[test]
pub fn a_batch_that_its_origin_did_not_sign_is_not_accepted() {
    let mut table = table();
    let batch = table.seats[2].batch(1, b"x");
    let forged = Batch { signature: table.seats[2].batch(2, b"y").signature, ..batch.clone() };
    assert_eq!(prepared_upon(&mut table, pre_prepare(&forged)), [], "nobody asked for it");
    assert_eq!(prepared_upon(&mut table, pre_prepare(&batch)).len(), 1);
}

/// "It has not accepted a pre-prepare message for view v and sequence number n containing a different digest" (TOCS 2002, 4.3; B17).
#[test]
pub fn of_two_pre_prepares_for_a_slot_the_first_counts() {
    let two = |table: &Table| {
        [table.seats[2].batch(1, b"x"), table.seats[3].batch(1, b"y")].map(|b| pre_prepare(&b))
    };
    // Nothing convicts a primary that does not sign.
    let mut table = Table::of(NODES, &Options { sign_pre_prepares: false, ..options() });
    let [first, second] = two(&table).map(unsigned);
    assert_eq!(prepared_upon(&mut table, first).len(), 1);
    assert_eq!(prepared_upon(&mut table, second), [], "it prepares two values at a slot");
    let mut table = self::table();
    let [first, second] = two(&table);
    assert_eq!(prepared_upon(&mut table, first).len(), 1);
    assert_eq!(prepared_upon(&mut table, second), [], "it prepares two values at a slot");
    let proofs: Vec<NodeId> = table.seats[1].core.proofs().map(|(node, ..)| node).collect();
    assert_eq!(proofs, [NodeId(1)], "both are signed");
}

/// "Backups accept a new-view message ... if the view-change messages it contains are valid for view v+1" (TOCS 2002, 4.5.2; B6).
#[test]
pub fn a_new_view_of_forged_view_changes_does_not_begin() {
    let mut table = table();
    order(&mut table, 1);
    let (view, liar) = (View(1), NodeId(2));
    // As if nobody had accepted anything yet.
    let forged = |node: u8| Change {
        view,
        node: NodeId(node),
        stable: Slot::ZERO,
        checkpoints: vec![Vote { slot: Slot::ZERO, digest: NULL }],
        prepared: Vec::new(),
        accepted: Vec::new(),
        signature: Signature([node; 64]),
    };
    let new_view = NewView { view, changes: [1, 2, 4].map(forged).into(), signature: Signature::NONE };
    let (now, said) = (table.now, sign(&keys(liar, NODES), Message::NewView(new_view)));
    table.seats[2].hear(now, liar, said);
    assert_eq!(table.seats[2].core.new_view(), None, "a view has begun that nobody asked for");
    assert_eq!(table.seats[2].core.proofs().map(|(node, ..)| node).next(), Some(liar));
    // It goes on without this primary, and nothing is lost.
    let batch = table.seats[0].batch(1, b"x");
    table.ask(&batch, 0..NODES);
    table.pass_for(Duration::from_secs(2), everybody);
    assert!(table.seats.iter().all(|seat| seat.machine.last_of(batch.origin) == 1), "it goes on");
    table.agree(0..NODES);
}

/// A new-view is one record and one message. Whoever makes its view-change long keeps nobody from beginning a view.
#[test]
fn a_long_view_change_is_left_out_of_a_new_view_that_would_not_fit() {
    let mut table = Table::of(NODES, &Options { new_view_bytes_max: 1_000, ..options() });
    let (view, vote) = (View(1), |slot, value| Vote { slot: Slot(slot), digest: Digest([value; 32]) });
    let change = |node: u8, slots: u64| Change {
        view,
        node: NodeId(node),
        stable: Slot::ZERO,
        checkpoints: vec![Vote { slot: Slot::ZERO, digest: NULL }],
        prepared: (1..=slots).map(|slot| Prepared { vote: vote(slot, 1), view: View(0) }).collect(),
        accepted: (1..=slots).map(|slot| Accepted { vote: vote(slot, 1), view: View(0) }).collect(),
        signature: Signature::NONE,
    };
    let long = change(4, options().window);
    assert_eq!(long.bytes() / 100, 9, "too long for a new-view with two others");
    for said in [long, change(1, 0), change(3, 0)] {
        let (from, now) = (said.node, table.now);
        table.seats[1].hear(now, from, sign(&keys(from, NODES), Message::ViewChange(said)));
    }
    let begun = table.seats[1].core.new_view().expect("three others fit").clone();
    assert_eq!(begun.changes.iter().map(|change| change.node.0).collect::<Vec<_>>(), [1, 2, 3]);
    table.run(everybody);
    assert!(table.seats.iter().all(|seat| seat.core.view() == view && seat.faults.is_empty()));
    // A primary that sends a longer one is no primary.
    let signed = |node: u8| {
        let change = Change { view: View(2), ..change(node, options().window) };
        match sign(&keys(NodeId(node), NODES), Message::ViewChange(change)) {
            Message::ViewChange(change) => change,
            other => unreachable!("{other:?}"),
        }
    };
    let changes = [1, 2, 4].map(signed).to_vec();
    let new_view = NewView { view: View(2), changes, signature: Signature::NONE };
    let (now, said) = (table.now, sign(&keys(NodeId(3), NODES), Message::NewView(new_view)));
    table.seats[0].hear(now, NodeId(3), said);
    assert_eq!((table.seats[0].core.new_view().is_none(), table.seats[0].faults.len()), (true, 1));
}
