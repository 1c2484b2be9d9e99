//! A replica that was away for longer than the others' memory reaches.

use super::clients::{CLIENT, Group, LONG, batch};
use quorate::base::NodeId;
use quorate::protocol::pbft::Options;

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
