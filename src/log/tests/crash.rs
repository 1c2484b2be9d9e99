//! Loss of power and killed processes, at every point.

use super::*;
use crate::io::driver::ALIGN;

/// A world whose last batch, at the returned place of the active segment's file, is in flight.
fn with_a_batch_in_flight(bytes: usize) -> (World, u64) {
    let mut world = World::new();
    world.push(G1, RecordKind::Vote, 0, vec![]);
    world.entries(1, 4, 700);
    world.hold();
    let at = u64::from(world.log.active().end);
    world.entry(G1, 4, bytes);
    world.append();
    (world, at)
}

#[test]
fn what_was_written_comes_back_with_bodies_of_one_byte_and_of_a_mebibyte() {
    let large = Options { segment_bytes: 4 << 20, batch_bytes: 64 << 10, body_max: 1 << 20, ..options(1) };
    let mut world = World::with(large);
    for (place, bytes) in [0, 1, 1 << 20, 5, 65_536, 0].into_iter().enumerate() {
        world.entry(G1, place as u64 + 1, bytes);
        world.entry(G2, place as u64 + 1, bytes / 2);
        world.push(G2, RecordKind::Vote, 0, vec![]);
    }
    world.settle();
    let whole = world.history.len();
    world.restart();
    assert_eq!(world.history.len(), whole);
    world.entries(7, 9, 1 << 20);
    world.restart();
    assert_eq!(world.history.len(), whole + 2);
}

#[test]
fn a_log_torn_at_any_byte_of_its_last_record_recovers_what_was_before_it() {
    let (mut world, at) = with_a_batch_in_flight(1000);
    let before = world.disk.borrow().content(&file(1)).unwrap().to_vec();
    world.disk.borrow_mut().kill(&mut |_| true);
    let whole = world.disk.borrow().copy();
    let used = 128 + 112 + 8 + 1000;
    let mut lengths = Vec::new();
    for torn in (0..used + 3).chain([ALIGN - 1, ALIGN]) {
        world.disk = Rc::new(RefCell::new(whole.copy()));
        let cut = at as usize + torn;
        world.disk.borrow_mut().tamper(&file(1), &mut |c| c[cut..].copy_from_slice(&before[cut..]));
        let recovered = world.recover().unwrap();
        assert_eq!(fold(&recovered), fold(&world.history[..recovered.len()]));
        lengths.push(recovered.len());
    }
    // Header, head, meta, body: any byte missing, and the record is gone.
    assert!(
        lengths[..used].iter().all(|l| *l == 4) && lengths[used..].iter().all(|l| *l == 5),
        "{lengths:?}"
    );
}

#[test]
fn any_combination_of_sectors_of_the_last_batch_recovers_a_prefix() {
    let mut whole = 0;
    for pattern in 0..(1 << (ALIGN / 512)) {
        for missing in [Survival::Old, Survival::Garbage] {
            let (mut world, _) = with_a_batch_in_flight(3800);
            world.lose_power(|s| if pattern >> s.index & 1 == 1 { Survival::New } else { missing });
            world.restart();
            whole += usize::from(world.history.len() == 5);
            // What was cut stays cut, and the log goes on where it was cut.
            world.entries(world.history.len() as u64, 6, 100);
            world.restart();
            assert_eq!(world.history.len(), 6);
        }
    }
    assert_eq!(whole, 2);
}

#[test]
fn of_four_batches_in_flight_any_subset_may_survive() {
    for survivors in 0..16usize {
        let mut world = World::new();
        world.entries(1, 3, 100);
        world.hold();
        for place in 3..7 {
            world.entry(G1, place, 100);
            world.append();
        }
        assert_eq!(world.disk.borrow().in_flight(), 4);
        world.lose_power(|s| if survivors >> s.write & 1 == 1 { Survival::New } else { Survival::Old });
        world.restart();
        assert_eq!(world.history.len(), 2 + survivors.trailing_ones() as usize);
        // Batches behind the cut would chain to the one that was cut, were they let.
        for _ in 0..3 {
            world.entries(world.history.len() as u64 + 1, world.history.len() as u64 + 2, 100);
            let length = world.history.len();
            world.restart();
            assert_eq!(world.history.len(), length);
        }
    }
}

#[test]
fn what_a_killed_process_left_to_read_is_durable_once_recovered() {
    let (mut world, _) = with_a_batch_in_flight(100);
    world.disk.borrow_mut().kill(&mut |_| true);
    world.restart();
    assert_eq!(world.history.len(), 5);
    // Nothing was written since; what recovery has reported must survive.
    world.lose_power(|_| Survival::Old);
    world.restart();
    assert_eq!(world.history.len(), 5);
}

#[test]
fn a_crash_at_any_write_of_recovery_changes_nothing() {
    for writes in 0..6 {
        for kept in [Survival::Old, Survival::New, Survival::Garbage] {
            let (mut world, _) = with_a_batch_in_flight(5000);
            world.lose_power(|s| if s.index < 9 { Survival::New } else { Survival::Old });
            // The first recovery fails at its n-th write, which is then torn.
            let mut counted = 0;
            crash_during_recovery(&mut world, writes, &mut |s| {
                counted = counted.max(s.write + 1);
                if s.index % 2 == 0 { kept } else { Survival::Old }
            });
            world.restart();
            assert_eq!(world.history.len(), 4);
            world.entries(4, 6, 10);
            world.restart();
            assert_eq!(world.history.len(), 6);
        }
    }
}

/// Runs a recovery whose write number `writes` never completes.
fn crash_during_recovery(world: &mut World, writes: usize, fate: &mut dyn FnMut(Sector) -> Survival) {
    world.options.generation += 1;
    world.options.established = true;
    let mut driver = MemoryDriver::new(world.disk.clone());
    driver.die_after(writes);
    let done = Log::recover(&mut driver, world.options.clone(), &mut |_| {});
    assert_eq!(done.is_err(), driver.has_died());
    world.disk.borrow_mut().lose_power(fate);
}

#[test]
fn a_crash_while_the_segment_changes_recovers_a_prefix() {
    for survivors in 0..16usize {
        let mut world = World::new();
        let mut place = 1;
        while 3 * (12 << 10) < world.log.active().room() {
            world.entries(place, place + 1, 11 << 10);
            place += 1;
        }
        world.settle();
        world.hold();
        let first = place;
        for _ in 0..4 {
            world.entry(G1, place, 11 << 10);
            world.append();
            place += 1;
        }
        assert_eq!(world.log.segment_count(), 2, "the change lies between the batches in flight");
        world.lose_power(|s| if survivors >> s.write & 1 == 1 { Survival::New } else { Survival::Old });
        world.restart();
        let kept = survivors.trailing_ones() as usize;
        assert_eq!(world.history.len(), first as usize - 1 + kept);
        world.entries(first + kept as u64, place + 4, 11 << 10);
        world.restart();
        assert_eq!(world.history.len(), place as usize + 3);
    }
}

#[test]
fn the_first_start_may_be_cut_short_anywhere() {
    for writes in 0..4 {
        let disk = Disk::shared();
        let mut driver = MemoryDriver::new(disk.clone());
        driver.die_after(writes);
        let done = Log::recover(&mut driver, options(1), &mut |_| {});
        assert_eq!(done.is_err(), driver.has_died());
        disk.borrow_mut().lose_power(&mut |s| if s.index == 0 { Survival::New } else { Survival::Old });
        let mut driver = MemoryDriver::new(disk.clone());
        let again = Options { established: false, ..options(2) };
        let log = Log::recover(&mut driver, again, &mut |_| panic!("nothing is stored"));
        assert_eq!(log.unwrap().segment_count(), 1);
    }
}
