//! All crash points of a short life: after each write, with every combination of old and new sectors of the writes under way.

use super::*;

/// Sectors of a block that a record of the script reaches into; what lies behind is zeros, before and after.
const USED: usize = 2;
/// Writes under way when the power goes.
const UNDER_WAY: usize = 2;

/// Each a write of its own: what a replica stores, an entry that replaces another, a floor and a reset among it.
const SCRIPT: [(RecordKind, u64); 12] = [
    (RecordKind::Vote, 0),
    (RecordKind::Entry, 1),
    (RecordKind::Entry, 2),
    (RecordKind::Entry, 3),
    (RecordKind::Vote, 0),
    (RecordKind::Entry, 2),
    (RecordKind::Entry, 3),
    (RecordKind::Floor, 2),
    (RecordKind::Entry, 4),
    (RecordKind::Reset, 9),
    (RecordKind::Entry, 10),
    (RecordKind::Entry, 11),
];

/// A world after `done` writes of the script, the next ones under way.
fn at(done: usize) -> World {
    let mut world = World::new();
    let push = |world: &mut World, (kind, place): (RecordKind, u64)| {
        world.push(G1, kind, place, vec![place as u8; if kind == RecordKind::Entry { 700 } else { 0 }]);
    };
    for step in &SCRIPT[..done] {
        push(&mut world, *step);
        world.settle();
    }
    world.hold();
    for step in SCRIPT[done..].iter().take(UNDER_WAY) {
        push(&mut world, *step);
        world.append();
    }
    world
}

#[test]
fn every_crash_point_of_a_short_life_recovers_a_prefix_that_holds_what_was_durable() {
    let (mut points, mut lengths) = (0, std::collections::BTreeSet::new());
    for done in 0..=SCRIPT.len() {
        let under_way = at(done).disk.borrow().in_flight();
        assert_eq!(under_way, UNDER_WAY.min(SCRIPT.len() - done));
        for pattern in 0..1usize << (USED * under_way) {
            let mut world = at(done);
            world.lose_power(|sector| {
                let is_old = sector.index < USED && pattern >> (USED * sector.write + sector.index) & 1 == 0;
                if is_old { Survival::Old } else { Survival::New }
            });
            world.restart();
            lengths.insert((done, world.history.len()));
            // The log goes on from there, and what was cut stays cut.
            world.push(G1, RecordKind::Vote, 0, vec![pattern as u8]);
            world.settle();
            let length = world.history.len();
            world.restart();
            assert_eq!(world.history.len(), length);
            points += 1;
        }
    }
    assert_eq!(points, 11 * 16 + 4 + 1);
    // At each point everything, one write or none of what was under way is there.
    assert_eq!(lengths.len(), 11 * 3 + 2 + 1);
}
