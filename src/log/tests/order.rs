//! Directed lives: orders of events that a random walk hardly ever meets, each with the rule that it would break.

use super::*;
use crate::base::Prng;

impl World {
    /// Fills the active segment until less than `bytes` are left in it, with entries of group 1 from `place`; the next place.
    fn fill(&mut self, mut place: u64, bytes: usize) -> u64 {
        while bytes < self.log.active().room() {
            self.entries(place, place + 1, 3000);
            place += 1;
        }
        place
    }
    fn append_one(&mut self, place: u64, bytes: usize) {
        self.entry(G1, place, bytes);
        self.append();
    }
    /// Loses power; of the writes in flight those in `survivors` survive.
    fn lose_power_but(&mut self, survivors: &[usize]) {
        self.lose_power(|s| if survivors.contains(&s.write) { Survival::New } else { Survival::Old });
    }
}

/// Without the generation in the header, the opening batch would equal the lost seal byte for byte, and what chained to the seal
/// would come back to life one start later.
#[test]
fn what_followed_a_lost_seal_stays_dead() {
    let mut world = World::new();
    world.entries(1, 3, 100);
    world.hold();
    assert!(world.log.seal(&mut world.driver));
    world.append_one(3, 100);
    world.lose_power_but(&[1]);
    for _ in 0..3 {
        world.restart();
        assert_eq!(world.history.len(), 2);
    }
}

/// Without chain and last checksum, records of two lives would mix.
#[test]
fn a_batch_torn_over_a_remnant_of_its_own_number_and_place_is_never_a_mixture() {
    let mut prng = Prng::from_seed(3);
    let mut whole = 0;
    for round in 0..150 {
        let mut world = World::new();
        world.entries(1, 3, 100);
        // Each head lies in a sector of its own, and the bodies are the same: only the heads tell the lives apart.
        let several = |world: &mut World| {
            for place in 3..19 {
                world.push(G1, RecordKind::Entry, place, vec![1; 512 - 112 - 8]);
            }
            world.append();
        };
        world.hold();
        assert!(world.log.seal(&mut world.driver));
        several(&mut world);
        world.lose_power_but(&[1]);
        world.restart();
        assert_eq!(world.history.len(), 2);
        world.hold();
        // The opening batch took the lost seal's number and place.
        several(&mut world);
        let torn = round % 5;
        world.lose_power(|_| if prng.chance(torn, 4) { Survival::New } else { Survival::Old });
        world.restart();
        whole += usize::from(world.history.len() == 18);
        assert!([2, 18].contains(&world.history.len()));
    }
    assert!((30..150).contains(&whole));
}

/// A segment goes only after the next one's preamble is durable, or its votes would go with it.
#[test]
fn a_preamble_in_flight_holds_the_old_segment() {
    let mut world = World::new();
    world.push(G1, RecordKind::Vote, 0, vec![1]);
    let place = world.fill(1, 8 << 10);
    world.push(G1, RecordKind::Floor, place - 1, vec![]);
    world.hold();
    world.append();
    // Does not fit: the segment changes, and its first batch is in flight with the preamble.
    world.append_one(place, 9000);
    world.driver.finish(0);
    world.reap();
    assert_eq!(world.log.segment_count(), 2);
    world.append_one(place + 1, 10);
    world.lose_power_but(&[1]);
    world.restart();
    assert_eq!(world.log.index().group(G1).unwrap().vote.as_ref().unwrap().body.bytes()[..], [1]);
}

/// A preamble that was cut in its middle is written whole again, or the votes of the groups behind the cut would be lost with the
/// segment before.
#[test]
fn a_preamble_torn_in_its_middle_is_written_whole_by_the_next_life() {
    for survivors in 0..4usize {
        let mut world = World::new();
        for group in 10..130 {
            world.push(GroupId(group), RecordKind::Vote, 0, vec![group as u8; 200]);
        }
        let place = world.fill(1, 8 << 10);
        world.hold();
        // A batch of the preamble takes sixteen kibibytes of its more than thirty-two.
        world.append_one(place, 9000);
        assert_eq!((world.log.segment_count(), world.disk.borrow().in_flight()), (2, 3));
        world.lose_power(|s| if s.write < survivors { Survival::New } else { Survival::Old });
        world.restart();
        let place = world.history.len() as u64 - 120 + 1;
        world.push(G1, RecordKind::Floor, place - 1, vec![]);
        world.settle();
        world.seal();
        assert_eq!(world.log.segment_count(), 1, "the segments before are gone");
        let length = world.history.len();
        world.restart();
        assert_eq!(world.history.len(), length);
    }
}

/// Makes a log whose first segment is dead and retired, in a world that holds completions, with `flights` to come.
fn with_a_retired_segment(options: Options) -> (World, u64) {
    let mut world = World::with(options);
    let place = world.fill(1, 8 << 10);
    world.entries(place, place + 3, 4000);
    assert_eq!(world.log.segment_count(), 2);
    (world, place + 3)
}

/// A file is overwritten only after a durable batch has said that it is not needed, or recovery would ask for it.
#[test]
fn a_file_is_used_again_only_after_a_durable_batch_said_so() {
    let (mut world, place) = with_a_retired_segment(options(1));
    world.push(G1, RecordKind::Floor, place - 3, vec![]);
    world.settle();
    assert_eq!((world.log.segment_count(), world.log.figures.recycled), (1, 0));
    // The spare is begun, without a batch whose statement could become durable.
    world.hold();
    (place..place + 4).for_each(|p| world.append_one(p, 9000));
    assert_eq!(world.log.segment_count(), 2);
    // Whatever the preparation writes completes; the batches do not.
    for _ in 0..50 {
        world.log.prepare(&mut world.driver);
        world.driver.advance(Duration::from_millis(2));
        if 4 < world.driver.outstanding() {
            world.driver.finish(4);
        }
        world.reap();
    }
    world.lose_power_but(&[]);
    world.restart();
    assert_eq!(world.history.len() as u64, place);
}

/// A floor counts only once it is durable, or a header could say that a segment is not needed although the floor was lost.
#[test]
fn a_floor_in_flight_frees_nothing() {
    let (mut world, place) = with_a_retired_segment(options(1));
    world.hold();
    world.append_one(place, 10);
    world.push(G1, RecordKind::Floor, place - 3, vec![]);
    world.append();
    world.driver.finish(0);
    world.reap();
    world.append_one(place + 1, 10);
    world.lose_power_but(&[1]);
    world.restart();
    assert_eq!(world.history.len() as u64, place);
}

/// What a cut left in the next segment is cleared, or that segment would pass for the newest, and its old statements for the newest.
#[test]
fn a_remnant_in_the_next_segment_does_not_hide_newer_statements() {
    let (mut world, place) = with_a_retired_segment(Options { spares: 2, ..options(1) });
    let place = world.fill(place, 20 << 10);
    world.hold();
    // The last batch of this segment is lost, the first of the next one survives.
    world.append_one(place, 9000);
    world.append_one(place + 1, 12_000);
    assert_eq!(world.log.segment_count(), 3);
    world.lose_power_but(&[1]);
    world.restart();
    assert_eq!(world.history.len() as u64, place - 1);
    world.push(G1, RecordKind::Floor, place - 2, vec![]);
    world.settle();
    world.seal();
    world.settle();
    assert_eq!((world.log.segments[0].sequence, world.log.segment_count()), (2, 1));
    // The freed file has become a spare behind the remnant.
    world.log.options.spares = 3;
    world.settle();
    assert_eq!(world.log.figures.recycled, 1);
    world.restart();
    world.entries(place, place + 30, 3000);
    world.restart();
}
