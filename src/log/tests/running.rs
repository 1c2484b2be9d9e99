//! The running log: the watermark, segments that come and go, old entries, a full disk, errors.

use super::*;
use crate::base::{JobId, Prng};
use crate::wire::hop::{LogFetch, LogFetched};

fn fetch(world: &mut World, from: u64, count: usize, bytes: usize) -> LogFetched {
    world.log.fetch(LogFetch { job: JobId(from), group: G1, from: Slot(from), count, bytes });
    loop {
        world.turn();
        if let Some(fetched) = world.log.take_fetched() {
            return fetched;
        }
    }
}

#[test]
fn completions_in_any_order_raise_the_ticket_without_a_gap() {
    let mut world = World::new();
    world.settle();
    world.hold();
    for place in 1..=4 {
        world.entry(G1, place, 10);
        world.append();
    }
    let mut seen = Vec::new();
    // Of what is left: the third, the first, the third (fourth of all), the second.
    for index in [2, 0, 1, 0] {
        world.driver.finish(index);
        world.reap();
        seen.push(world.log.durable().0);
    }
    assert_eq!(seen, [0, 1, 1, 4]);
}

#[test]
fn what_need_not_be_durable_is_granted_while_it_is_on_its_way() {
    for (durable, granted) in [(true, 0), (false, 2)] {
        let mut world = World::with(Options { durable, ..options(1) });
        world.settle();
        world.hold();
        (1..=2).for_each(|place| world.entry(G1, place, 10));
        world.append();
        assert_eq!((world.log.durable(), world.log.granted()), (Ticket(0), Ticket(granted)));
        world.driver.finish(0);
        world.reap();
        assert_eq!((world.log.durable(), world.log.granted()), (Ticket(2), Ticket(2)));
    }
}

#[test]
fn what_comes_while_the_window_is_full_shares_the_next_batch() {
    let mut world = World::new();
    world.settle();
    world.hold();
    for place in 1..=24 {
        world.entry(G1, place, 10);
        world.append();
    }
    assert_eq!(world.driver.outstanding(), 4);
    let batches = world.log.figures.batches;
    world.driver.finish(0);
    world.reap();
    world.append();
    assert_eq!(world.log.figures.batches, batches + 1);
    (0..4).for_each(|_| world.driver.finish(0));
    world.reap();
    assert_eq!(world.log.durable().0, 24);
}

/// A PBFT node whose last view began with long view-changes stood still in its next start: nothing of that length fitted the first batch.
#[test]
fn a_view_longer_than_a_batch_outlives_segments_and_restarts() {
    let mut world = World::with(Options { batch_bytes: 8 << 10, ..options(1) });
    world.settle();
    world.push(G1, RecordKind::View, 0, vec![7; 15 << 10]);
    world.settle();
    for life in 0..4 {
        world.restart();
        world.entries(1 + 8 * life, 9 + 8 * life, 4_000);
    }
    world.restart();
    assert_eq!(world.history.iter().map(|stored| stored.kind).next(), Some(RecordKind::View));
    assert!(2 < world.log.active().sequence, "several segments began with it");
}

#[test]
fn segments_below_the_floor_are_used_again_and_votes_outlive_them() {
    let mut world = World::new();
    world.push(G1, RecordKind::Vote, 0, vec![1]);
    world.push(G2, RecordKind::Vote, 0, vec![2]);
    world.entry(G2, 1, 10);
    world.push(G2, RecordKind::Floor, 1, vec![]);
    for round in 0..40u64 {
        world.entries(10 * round + 1, 10 * round + 11, 3000);
        world.push(G1, RecordKind::Floor, 10 * round + 8, vec![]);
        world.settle();
        world.seal();
    }
    // 400 entries of 8 KiB would take 50 segments.
    assert!(world.disk.borrow().paths().len() < 8, "{:?}", world.disk.borrow().paths());
    assert!(30 < world.log.figures.recycled);
    let whole = world.history.len();
    world.restart();
    assert_eq!(world.history.len(), whole);
    let group = world.log.index().group(G2).unwrap();
    assert_eq!(group.vote.as_ref().unwrap().body.bytes()[..], [2]);
    world.entries(401, 450, 3000);
    world.restart();
    assert_eq!(world.history.len(), whole + 49);
}

#[test]
fn a_segment_that_someone_still_needs_stays() {
    let mut world = World::new();
    world.entry(G2, 1, 10);
    for round in 0..5u64 {
        world.entries(10 * round + 1, 10 * round + 11, 3000);
        world.push(G1, RecordKind::Floor, 10 * round + 8, vec![]);
        world.settle();
        world.seal();
    }
    assert_eq!(world.log.figures.recycled, 0);
    assert_eq!(world.log.segments[0].sequence, 1);
    world.push(G2, RecordKind::Floor, 1, vec![]);
    world.settle();
    assert!(1 < world.log.segments[0].sequence);
}

#[test]
fn a_reset_voids_what_lies_above_it_and_a_cut_what_it_replaces() {
    let mut world = World::new();
    world.entries(1, 9, 100);
    world.push(G1, RecordKind::Entry, 5, b"other".to_vec());
    world.settle();
    world.push(G1, RecordKind::Reset, 100, vec![]);
    world.entries(101, 104, 100);
    world.push(G1, RecordKind::Entry, 102, b"other".to_vec());
    world.settle();
    let group = world.log.index().group(G1).unwrap();
    assert_eq!((group.places(), group.floor_place()), (101..103, Slot(100)));
    world.restart();
    assert_eq!(world.log.index().group(G1).unwrap().places(), 101..103);
}

#[test]
fn old_entries_are_read_back_within_the_bounds_that_were_asked_for() {
    let mut world = World::new();
    for place in 1..60 {
        world.entry(G1, place, 2000);
        world.entry(G2, place, 500);
        world.turn();
    }
    world.settle();
    let places = |f: &LogFetched| f.records.iter().map(|r| r.place.0).collect::<Vec<_>>();
    let mut from = 1;
    while from < 60 {
        let fetched = fetch(&mut world, from, 7, 100_000);
        assert!((1..=7).contains(&fetched.records.len()));
        let want: Vec<Stored> =
            fold(&world.history)[&G1].entries.range(from..).map(|e| e.1.clone()).collect();
        assert_eq!(fetched.records[..], want[..fetched.records.len()]);
        from += fetched.records.len() as u64;
    }
    assert_eq!(places(&fetch(&mut world, 3, 7, 4100)), [3, 4]);
    assert_eq!(places(&fetch(&mut world, 3, 7, 1)), [3]);
    world.push(G1, RecordKind::Floor, 10, vec![]);
    world.settle();
    assert_eq!(places(&fetch(&mut world, 10, 7, 4000)), [0u64; 0]);
    assert_eq!(places(&fetch(&mut world, 11, 1, 4000)), [11]);
    world.restart();
    assert_eq!(places(&fetch(&mut world, 59, 7, 4000)), [59]);
    assert_eq!(places(&fetch(&mut world, 60, 7, 4000)), [0u64; 0]);
}

#[test]
fn an_entry_that_is_not_durable_is_waited_for_and_one_that_was_cut_is_not_answered() {
    let mut world = World::new();
    world.entries(1, 5, 100);
    world.hold();
    world.entry(G1, 5, 100);
    world.append();
    world.log.fetch(LogFetch { job: JobId(1), group: G1, from: Slot(5), count: 1, bytes: 1 });
    assert_eq!(world.log.run_fetches(&mut world.driver), 0);
    world.driver.finish(0);
    world.reap();
    assert_eq!(world.log.run_fetches(&mut world.driver), 1);
    // While the read is under way, the entry is replaced.
    world.push(G1, RecordKind::Entry, 5, b"newer".to_vec());
    world.append();
    world.driver.finish(0);
    world.reap();
    assert_eq!(world.log.take_fetched(), None);
    world.driver.set_order(Order::Submitted);
    while world.log.can_fetch() && world.log.durable() < Ticket(6) {
        world.turn();
    }
    world.turn();
    world.turn();
    let fetched = world.log.take_fetched().unwrap();
    assert_eq!(fetched.records, [world.history[5].clone()]);
}

#[test]
fn a_rotten_old_entry_ends_the_node_and_is_not_answered() {
    let mut world = World::new();
    world.entries(1, 5, 100);
    let at = world.log.index().group(G1).unwrap().entry(Slot(2)).unwrap();
    world.disk.borrow_mut().tamper(&file(1), &mut |c| c[at.position as usize + 150] ^= 1);
    world.log.fetch(LogFetch { job: JobId(1), group: G1, from: Slot(2), count: 1, bytes: 1 });
    world.turns(3);
    assert_eq!(world.log.take_fetched(), None);
    let text = world.log.failed().unwrap().to_string();
    assert!(text.contains("wal/0001.wal is damaged at offset"), "{text}");
}

#[test]
fn a_failed_write_ends_the_log_and_acknowledges_nothing_more() {
    let mut world = World::new();
    world.entries(1, 3, 100);
    world.disk.borrow_mut().fail_next_write(5);
    world.entry(G1, 3, 100);
    world.append();
    world.reap();
    assert_eq!(world.log.durable(), Ticket(2));
    let text = world.log.failed().unwrap().to_string();
    assert!(text.contains("writing wal/0001.wal at offset") && text.contains("error 5"), "{text}");
    // Never tried again: a second sync might say yes to what the kernel has dropped.
    world.entry(G1, 4, 100);
    world.append();
    assert!(!world.log.seal(&mut world.driver) && !world.log.prepare(&mut world.driver));
    assert_eq!(world.driver.outstanding(), 0);
}

#[test]
fn a_full_disk_is_known_before_anything_is_half_written_and_is_survived() {
    let mut world = World::new();
    world.settle();
    let held: usize =
        world.disk.borrow().paths().iter().map(|p| world.disk.borrow().content(p).unwrap().len()).sum();
    world.disk.borrow_mut().limit(Some(held as u64 + 10_000));
    let mut place = 1;
    // The front refuses writes when the room falls below what may be on its way.
    while 20_000 < world.log.room() {
        world.entry(G1, place, 3000);
        place += 1;
        world.turns(3);
    }
    assert!(world.log.is_disk_full() && world.log.failed().is_none());
    assert_eq!(world.log.durable().0, place - 1);
    // More comes all the same: it waits, and is not acknowledged.
    for _ in 0..12 {
        world.entry(G1, place, 3000);
        place += 1;
        world.turn();
    }
    let stuck = world.log.durable();
    assert!(stuck < Ticket(place - 1) && world.log.failed().is_none());
    world.disk.borrow_mut().limit(None);
    world.driver.advance(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.log.durable(), Ticket(place - 1));
    world.restart();
    assert_eq!(world.history.len(), place as usize - 1);
}

#[test]
fn without_direct_io_the_log_says_so_and_works() {
    let disk = Disk::shared();
    disk.borrow_mut().refuse_direct();
    let mut driver = MemoryDriver::new(disk.clone());
    let log = Log::recover(&mut driver, options(1), &mut |_| {}).unwrap();
    assert!(log.is_buffered());
}

#[test]
fn at_rest_nothing_is_due() {
    let mut world = World::new();
    world.entries(1, 5, 100);
    world.seal();
    assert_eq!((world.log.seal_at(), world.log.prepare_at()), (None, None));
    world.driver.set_order(Order::Shuffled(Prng::from_seed(1)));
    assert_eq!(world.turn(), 0);
}
