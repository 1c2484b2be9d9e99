//! Random lives of a log: writes of several groups, completions in any order, crashes with any subset of sectors, against the model.

use super::*;
use crate::base::{JobId, Prng};
use crate::wire::hop::LogFetch;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Entries { group: u8, count: u8, bytes: u16, back: u8 },
    Note { group: u8, ahead: u8, is_value: bool },
    Vote { group: u8 },
    Floor { group: u8, keep: u8, reset: bool },
    Turns(u8),
    Rest,
    Fetch { group: u8, back: u8 },
    LosePower { seed: u64, garbage: bool },
    Kill { seed: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..3u8, 1..12u8, 0..5000u16, 0..4u8)
            .prop_map(|(group, count, bytes, back)| Act::Entries { group, count, bytes, back }),
        4 => (0..3u8, 0..6u8, any::<bool>())
            .prop_map(|(group, ahead, is_value)| Act::Note { group, ahead, is_value }),
        2 => (0..3u8).prop_map(|group| Act::Vote { group }),
        3 => (0..3u8, 0..12u8, prop::bool::weighted(0.1))
            .prop_map(|(group, keep, reset)| Act::Floor { group, keep, reset }),
        8 => (1..6u8).prop_map(Act::Turns),
        2 => Just(Act::Rest),
        2 => (0..3u8, 0..20u8).prop_map(|(group, back)| Act::Fetch { group, back }),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(seed, garbage)| Act::LosePower { seed, garbage }),
        1 => any::<u64>().prop_map(|seed| Act::Kill { seed }),
    ];
    prop::collection::vec(act, 1..120)
}

impl World {
    /// The last place of a group in the model, or its floor.
    fn last(&self, group: GroupId) -> (u64, u64) {
        let states = fold(&self.history);
        let state = states.get(&group).cloned().unwrap_or_default();
        let floor = state.floor.map_or(0, |f| f.place.0);
        (floor, state.entries.keys().next_back().copied().unwrap_or(floor))
    }
    fn act(&mut self, act: &Act, seed: u64) {
        match *act {
            Act::Entries { group, count, bytes, back } => {
                let (floor, last) = self.last(GroupId(group.into()));
                let from = last.saturating_sub(u64::from(back / 2)).max(floor) + 1;
                for place in from..from + u64::from(count) {
                    self.entry(GroupId(group.into()), place, bytes.into());
                }
            }
            Act::Note { group, ahead, is_value } => {
                let (floor, last) = self.last(GroupId(group.into()));
                let place = floor.max(last.saturating_sub(3)) + 1 + u64::from(ahead);
                let kind = if is_value { RecordKind::Value } else { RecordKind::Note };
                self.push(GroupId(group.into()), kind, place, vec![ahead; 9]);
            }
            Act::Vote { group } => self.push(GroupId(group.into()), RecordKind::Vote, 0, vec![group]),
            Act::Floor { group, keep, reset } => {
                let (floor, last) = self.last(GroupId(group.into()));
                let place = last.saturating_sub(u64::from(keep)).max(floor) + if reset { 7 } else { 0 };
                let kind = if reset { RecordKind::Reset } else { RecordKind::Floor };
                self.push(GroupId(group.into()), kind, place, vec![]);
            }
            Act::Turns(count) => self.turns(count.into()),
            Act::Rest => {
                self.driver.set_order(Order::Submitted);
                self.settle();
                self.seal();
                self.driver.set_order(Order::Shuffled(Prng::from_seed(seed)));
            }
            Act::Fetch { group, back } => self.check_fetch(GroupId(group.into()), back.into()),
            Act::LosePower { seed, garbage } => {
                let mut prng = Prng::from_seed(seed);
                let fates = [Survival::Old, Survival::New, Survival::Garbage];
                self.lose_power(|_| fates[prng.below(if garbage { 3 } else { 2 }) as usize]);
                self.rise(seed);
            }
            Act::Kill { seed } => {
                let mut prng = Prng::from_seed(seed);
                self.disk.borrow_mut().kill(&mut |_| prng.chance(1, 2));
                self.rise(seed);
            }
        }
        self.driver.advance(Duration::from_millis(3));
    }
    fn rise(&mut self, seed: u64) {
        self.restart();
        self.driver.set_order(Order::Shuffled(Prng::from_seed(seed)));
    }
    fn check_fetch(&mut self, group: GroupId, back: u64) {
        let states = fold(&self.history[..self.taken.saturating_sub(1)]);
        let Some(last) = states.get(&group).and_then(|s| s.entries.keys().next_back().copied()) else {
            return;
        };
        if !self.log.can_fetch() {
            return;
        }
        let from = Slot(last.saturating_sub(back));
        self.log.fetch(LogFetch { job: JobId(0), group, from, count: 5, bytes: 9000 });
        self.turns(20);
        while let Some(fetched) = self.log.take_fetched() {
            // Whatever is answered was once written at that place, and the answer has no holes.
            for pair in fetched.records.windows(2) {
                assert_eq!(pair[0].place.next(), pair[1].place);
            }
            assert!(fetched.records.iter().all(|r| self.history.contains(r)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_life_begins_with_a_prefix_of_what_was_written(acts in acts(), seed in any::<u64>()) {
        let mut world = World::new();
        world.driver.set_order(Order::Shuffled(Prng::from_seed(seed)));
        for act in &acts {
            world.act(act, seed);
            prop_assert!(world.log.failed().is_none());
        }
        world.lose_power(|_| Survival::Old);
        world.restart();
        world.settle();
    }
}
