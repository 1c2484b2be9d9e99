//! A replica that was away for longer than the others' memory reaches.

use super::clients::{CLIENT, Group, LONG, batch};
use quorate::base::{Body, NodeId, Slot, View};
use quorate::protocol::Input;
use quorate::protocol::pbft::Options;
use quorate::wire::pbft::{self, Message, Vote};
use quorate::wire::{Entry, Message as Any};
use std::time::Duration;

/// Values of eight bytes, of which each replica keeps five in memory, beside those above the newest stable checkpoint.
fn options(message_bytes_max: usize) -> Options {
    let (window, checkpoint_every, snapshot_every) = (16, 4, 1024);
    let (cache_bytes_max, default) = (40, Options::default());
    let marks = Options { window, checkpoint_every, snapshot_every, ..default };
    Options { cache_bytes_max, message_bytes_max, ..marks }
}

fn group(message_bytes_max: usize) -> Group {
    Group::with(&options(message_bytes_max))
}

fn catches_up(mut group: Group, batches: u64) -> Group {
    group.cut = Some(NodeId(4));
    (1..=batches).for_each(|sequence| assert_eq!(group.propose(batch(sequence)), None));
    assert_eq!((group.batches(1).len() as u64, group.batches(4).len()), (batches, 0));
    group.cut = None;
    group.wait(LONG);
    let all: Vec<_> = (1..=batches).map(|sequence| (CLIENT, sequence)).collect();
    assert_eq!(group.batches(4), all);
    assert_eq!(group.cores[0].view().0, 0, "nobody was suspected");
    group
}

#[test]
fn values_that_have_left_memory_come_from_the_logs_of_the_others() {
    let group = catches_up(group(1 << 20), 300);
    assert!(0 < group.reads);
}

#[test]
fn as_many_come_at_a_time_as_fit_into_a_message() {
    let group = catches_up(group(80), 100);
    assert!(5 < group.reads, "{}", group.reads);
    assert!(group.reads < 100, "{}", group.reads);
}

/// Above the newest stable snapshot nothing else could bring up who is behind, however long the next one is in the making.
#[test]
fn digests_stay_as_long_as_no_snapshot_holds_their_slots() {
    let few = Options { cache_entries_max: 8, ..options(1 << 20) };
    catches_up(Group::with(&few), 300);
}

#[test]
fn what_is_in_memory_is_not_read() {
    assert_eq!(catches_up(group(1 << 20), 5).reads, 0);
}

/// One value a message, and two voices that do not come together: whoever waited for a standstill after each would never catch up with a
/// group that works.
#[test]
fn value_after_value_comes_without_a_standstill() {
    let options = Options { cache_bytes_max: 1 << 20, ..options(1) };
    assert_eq!(catches_up(Group::with(&options), 300).reads, 0);
}

/// A liar that says every few milliseconds where it stands, and what a correct replica does for that in a second.
fn asked_by_a_liar(mut stands: impl FnMut(u64) -> u64) -> Group {
    let mut group = group(1 << 20);
    group.cut = Some(NodeId(4));
    (1..=200).for_each(|sequence| assert_eq!(group.propose(batch(sequence)), None));
    for step in 0..100 {
        let (view, stable, executed) = (View(0), Slot(0), Slot(stands(step)));
        let status = Message::Status { view, active: true, stable, executed, bodies: true, complains: false };
        group.tell(1, Input::Receive { from: NodeId(4), message: status });
        group.wait(Duration::from_millis(10));
    }
    group
}

/// Sixteen slots at a time, it gets all of them once, and again not more often than an eighth of the patience passes.
#[test]
fn who_asks_for_the_same_again_and_again_does_not_make_others_read_it_as_often() {
    let pauses = 1_000 / (Options::default().request_timeout.as_millis() / 8) as usize;
    let same = asked_by_a_liar(|_| 0).reads;
    assert!((2..=pauses + 1).contains(&same), "{same}");
    let rising = asked_by_a_liar(|step| step).reads;
    assert!((2..=200 / 16 + pauses + 1).contains(&rising), "{rising}");
}

#[test]
fn a_value_does_not_go_to_one_peer_as_often_as_that_asks_for_it() {
    let mut group = group(1 << 20);
    group.cut = Some(NodeId(4));
    assert_eq!(group.propose(batch(1)), None);
    let vote = |entry| Vote { slot: Slot(1), digest: pbft::digest(entry) };
    let votes: Vec<Vote> = group.values[0].values().map(vote).collect();
    let mut told = 0;
    for _ in 0..50 {
        let want = Message::Want { votes: votes.clone() };
        group.tell(2, Input::Receive { from: NodeId(4), message: want });
        told += group.outs[1].sends.drain(..).count();
    }
    assert_eq!(told, 1);
    group.wait(2 * Options::default().status_every);
    group.tell(2, Input::Receive { from: NodeId(4), message: Message::Want { votes } });
    assert_eq!(group.outs[1].sends.len(), 1, "that may have been lost");
}

/// What one replica alone calls decided is kept for as long as another may say the same: that a liar shows much costs little memory.
#[test]
fn values_that_one_replica_alone_shows_find_room_for_two_answers() {
    let mut group = group(1_000);
    let entry = |slot: u64, variant: u8| Entry {
        slot: Slot(slot),
        body: Body::new(vec![variant; 300].into()),
        ..Entry::default()
    };
    let shown: Vec<Entry> =
        (0..8).flat_map(|variant| (1..=16).map(move |slot| entry(slot, variant))).collect();
    for entries in shown.chunks(4) {
        let decided = Message::Decided { entries: entries.to_vec(), votes: Vec::new() };
        group.tell(1, Input::Receive { from: NodeId(4), message: decided });
    }
    for entry in &shown {
        let votes = vec![Vote { slot: entry.slot, digest: pbft::digest(entry) }];
        group.tell(1, Input::Receive { from: NodeId(2), message: Message::Want { votes } });
    }
    let kept = group.outs[0]
        .sends
        .iter()
        .filter(|send| matches!(&send.message, Any::Pbft(Message::Have { .. })))
        .count();
    assert!((1..=2 * 1_000 / 300 + 1).contains(&kept), "{kept} of {}", shown.len());
    // It is in nobody's way: what the others decide is executed here.
    assert_eq!(group.propose(batch(1)), None);
    assert_eq!(group.batches(1), [(CLIENT, 1)]);
}
