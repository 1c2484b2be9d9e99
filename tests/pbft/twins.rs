//! A fixed sample of stories of twins; `scripts/sweep` runs them by the hundred thousand. `QUORATE_TWINS` says how many.

use super::setting;
use quorate::base::NodeSet;
use quorate::sim::twins::{NODES, Scenario};
use quorate::sim::violation;

fn stories(numbers: impl Iterator<Item = u64>, nodes: usize) -> (u64, u64, NodeSet) {
    let (mut executed, mut views, mut convicted) = (0, 0, NodeSet::default());
    for number in numbers {
        let story = violation::catch(|| Scenario::numbered(number, nodes).run());
        let story = story.unwrap_or_else(|violation| panic!("story {number} of {nodes}: {violation}"));
        (executed, views) = (executed + story.executed, views + story.view);
        convicted = convicted.iter().chain(story.convicted.iter()).collect();
    }
    (executed, views, convicted)
}

#[test]
fn twins_of_one_in_four_break_nothing() {
    let count = setting("QUORATE_TWINS", 200);
    // Stories of one round first, the drawn ones behind them.
    let numbers = (0..count).map(|n| if n % 2 == 0 { n * 5 } else { 10_000 + n });
    let (executed, views, convicted) = stories(numbers, NODES);
    assert!(0 < executed && 0 < views, "{executed} slots in {views} views");
    println!("{count} stories: {executed} slots, {views} views, convicted {convicted:?}");
}

#[test]
fn twins_of_two_in_seven_break_nothing() {
    let (executed, ..) = stories(20_000..20_020, 7);
    assert!(0 < executed);
}
