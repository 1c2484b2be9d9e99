//! A primary that goes down in order: the others need no time-out to go on without it.

use super::clients::{CLIENT, Group, LONG, REPLICAS, batch, key};
use quorate::base::{GROUP_ONE, Instant, NodeId, View};
use quorate::protocol::{Input, Room};
use quorate::wire::pbft::{Change, Message};

fn views(group: &Group) -> Vec<(View, bool)> {
    group.cores.iter().map(|core| (core.view(), core.is_active())).collect()
}

#[test]
fn the_next_view_begins_at_once_with_what_was_on_its_way() {
    let mut group = Group::new();
    assert_eq!(group.propose(batch(1)), None);
    // Assigned and said to nobody when the primary is told to go.
    group.hear_all(&batch(2));
    group.tell(1, Input::Drain);
    assert!(!group.cores[0].is_drained(), "somebody must lead first");
    group.run();
    assert_eq!(group.now(), Instant::ZERO, "nobody has waited for anything");
    assert_eq!(views(&group), [(View(1), true); 4]);
    assert!(group.cores[0].is_drained() && group.cores[1].is_leader());
    (1..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1), (CLIENT, 2)]));
}

#[test]
fn a_backup_that_goes_down_is_no_reason_for_another_view_and_leads_none() {
    let mut group = Group::new();
    group.tell(2, Input::Drain);
    group.run();
    assert_eq!((views(&group), group.cores[1].is_drained()), (vec![(View(0), true); 4], true));
    group.tell(1, Input::Drain);
    group.run();
    assert_eq!(views(&group), [(View(2), true); 4], "the turn of the second is passed on");
    assert_eq!((group.now(), group.cores[2].is_leader()), (Instant::ZERO, true));
}

#[test]
fn a_group_of_one_has_nobody_to_wait_for() {
    let mut group = Group::of(1);
    group.tell(1, Input::Drain);
    group.run();
    assert!(group.cores[0].is_drained());
}

#[test]
fn a_primary_that_resigns_towards_one_backup_alone_parts_it_from_nobody() {
    let mut group = Group::new();
    let mut change = Change {
        view: View(1),
        node: NodeId(1),
        stable: Default::default(),
        checkpoints: Vec::new(),
        prepared: Vec::new(),
        accepted: Vec::new(),
        signature: Default::default(),
    };
    change.signature = key(NodeId(1)).sign(&change.signed(GROUP_ONE));
    group.tell(3, Input::Receive { from: NodeId(1), message: Message::ViewChange(change) });
    group.run();
    assert_eq!(views(&group)[1..], [(View(1), true); 3]);
    group.hear_all(&batch(1));
    group.run();
    group.wait(LONG);
    (2..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1)]));
}

#[test]
fn a_primary_without_room_passes_its_view_on_at_once_and_goes_on_as_a_backup() {
    let mut group = Group::new();
    assert_eq!(group.propose(batch(1)), None);
    group.cores[0].set_room(Room::None);
    group.run();
    assert_eq!((views(&group), group.now()), (vec![(View(1), true); 4], Instant::ZERO));
    assert!(!group.cores[0].is_drained(), "it only has no room");
    group.hear_all(&batch(2));
    group.run();
    (1..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1), (CLIENT, 2)]));
}

#[test]
fn a_primary_without_room_orders_nothing_that_it_hears_of() {
    let mut group = Group::new();
    group.cores.iter_mut().for_each(|core| core.set_room(Room::None));
    group.run();
    group.hear_all(&batch(1));
    group.run();
    assert!(group.values.iter().all(|log| log.is_empty()), "what is kept for votes must be left for them");
    group.cores.iter_mut().for_each(|core| core.set_room(Room::Enough));
    group.hear_all(&batch(1));
    group.wait(LONG);
    (1..=REPLICAS).for_each(|replica| assert_eq!(group.batches(replica), [(CLIENT, 1)]));
}

#[test]
fn where_no_disk_has_room_views_do_not_chase_each_other() {
    let mut group = Group::new();
    group.cores.iter_mut().for_each(|core| core.set_room(Room::None));
    group.run();
    assert_eq!(views(&group), [(View(4), true); 4], "each has passed its turn on, once");
    group.wait(LONG);
    assert_eq!(views(&group), [(View(4), true); 4]);
    // With room again a shortage is news.
    let primary = group.cores.iter().position(|core| core.is_leader()).expect("somebody leads");
    group.cores.iter_mut().for_each(|core| core.set_room(Room::Enough));
    let before = views(&group)[0].0;
    group.cores[primary].set_room(Room::None);
    group.run();
    assert_eq!(views(&group), [(before.next(), true); 4]);
}
