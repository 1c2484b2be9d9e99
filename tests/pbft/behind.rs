//! A replica that was away for longer than the others' memory reaches.

use super::clients::{CLIENT, Group, LONG, batch};
use quorate::base::NodeId;
use quorate::protocol::pbft::Options;

/// Values of eight bytes, of which each replica keeps five in memory, beside those above the newest stable checkpoint.
fn group(message_bytes_max: usize) -> Group {
    let (window, checkpoint_every, snapshot_every) = (16, 4, 1024);
    let (cache_bytes_max, default) = (40, Options::default());
    let marks = Options { window, checkpoint_every, snapshot_every, ..default };
    Group::with(&Options { cache_bytes_max, message_bytes_max, ..marks })
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

#[test]
fn what_is_in_memory_is_not_read() {
    assert_eq!(catches_up(group(1 << 20), 5).reads, 0);
}
