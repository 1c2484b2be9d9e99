//! The smallest part of a failed key that still has no order.
//!
//! Leaving an operation out of a history may make it fail for another reason (a read of a value whose write is gone), so here
//! history is only ever *weakened*: whatever had an order keeps it, hence a part that fails proves that the whole fails.
//!
//! 1. What starts after the end that no order passes goes; what is under way there need not take effect.
//! 2. What ends before a late moment is replaced by the states that it can leave; what is under way then need not take effect.
//! 3. Reads are left out.
//! 4. Changes are freed: they may take effect at any time or never.
//!
//! Weakening is monotone, so trying each operation once leaves a part of which nothing more can be left out or freed.

use super::judge::Budget;
use super::models::Machine;
use super::search::{Found, Item, Limits, find_order, last_states};
use super::states::State;
use super::timeline;

/// Steps for one attempt, for the states before a window, and for all together.
const TRIAL_STEPS: u64 = 1 << 18;
const STATES_STEPS: u64 = 1 << 21;
const TOTAL_STEPS: u64 = 1 << 24;
/// States before the window: more than a person wants to read.
const STATES_MAX: usize = 8;
/// Moments at which to try to begin the window, each twice as far back as the one before.
const WINDOWS_MAX: usize = 14;
/// Bytes of a state that are shown.
const SHOWN_BYTES_MAX: usize = 120;

/// Why a key has no order, as small as it gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offence {
    /// The key.
    pub key: u32,
    /// What it can have held before the core.
    pub before: Vec<String>,
    /// Places of the operations that contradict each other, in the order of their starts.
    pub core: Vec<u32>,
    /// Changes that were granted to take effect at any time or never, and are therefore not part of the core.
    pub freed: Vec<u32>,
    /// The moment at which the window begins; none if it begins with the history.
    pub begins: Option<u64>,
    /// The end that no order of the key's operations comes past: what ends later is not needed to see that.
    pub until: u64,
    /// False if an attempt ended at its limit, so that something more might be left out.
    pub minimal: bool,
}

/// A problem that gets weaker.
struct Shrink<'a> {
    machine: &'a mut Machine,
    limits: &'a mut dyn Limits,
    /// States that the key may begin in; it fails if it fails in each.
    first: Vec<State>,
    begins: Option<u64>,
    left: u64,
    minimal: bool,
}

/// What remains of one operation.
#[derive(Clone, Debug)]
struct Remnant {
    /// Its place in the history.
    place: u32,
    item: Item,
    is_freed: bool,
}

/// Shrinks the items of a key that fails; `blocked` is what the search said.
pub fn shrink(
    machine: &mut Machine,
    key: u32,
    places: &[u32],
    items: &[Item],
    blocked: u32,
    limits: &mut dyn Limits,
) -> Offence {
    let mut shrink = Shrink {
        machine,
        limits,
        first: vec![State::ABSENT],
        begins: None,
        left: TOTAL_STEPS,
        minimal: true,
    };
    let (mut rest, until) = shrink.cut_short(places, items, blocked);
    shrink.begin_late(&mut rest);
    shrink.leave_out_reads(&mut rest);
    shrink.free_changes(&mut rest);
    let mut core: Vec<_> = rest.iter().filter(|r| !r.is_freed).collect();
    core.sort_by_key(|r| (r.item.start, r.place));
    Offence {
        key,
        core: core.iter().map(|r| r.place).collect(),
        freed: rest.iter().filter(|r| r.is_freed).map(|r| r.place).collect(),
        before: shrink
            .first
            .iter()
            .map(|s| timeline::cut(&shrink.machine.states.show(*s, SHOWN_BYTES_MAX), SHOWN_BYTES_MAX))
            .collect(),
        begins: shrink.begins,
        until,
        minimal: shrink.minimal,
    }
}

/// Rule 1 for that end.
fn cut(places: &[u32], items: &[Item], until: u64) -> Vec<Remnant> {
    let all = places.iter().zip(items).filter(|(_, item)| item.start <= until);
    let rest = all.map(|(place, item)| Remnant { place: *place, item: item.clone(), is_freed: false });
    rest.filter_map(|remnant| unless(remnant, |end| end > until)).collect()
}

/// The operation, which need not take effect if its end is such; none if it is a read, which then says nothing.
fn unless(mut remnant: Remnant, such: impl Fn(u64) -> bool) -> Option<Remnant> {
    remnant.item.end = remnant.item.end.filter(|end| !such(*end));
    (remnant.item.end.is_some() || !remnant.item.step.is_pure()).then_some(remnant)
}

impl Shrink<'_> {
    /// True if the part certainly has no order.
    fn fails(&mut self, rest: &[Remnant]) -> bool {
        let items: Vec<Item> = rest.iter().map(|r| r.item.clone()).collect();
        let first = self.first.clone();
        self.fails_from(&items, &first)
    }

    fn fails_from(&mut self, items: &[Item], first: &[State]) -> bool {
        first.iter().all(|state| {
            let found = self.within(items.len(), TRIAL_STEPS, |machine, budget| {
                find_order(machine, items, *state, budget)
            });
            self.minimal &= found != Found::Stopped;
            matches!(found, Found::NoOrder { .. })
        })
    }

    /// Rule 1. The search may have seen the dead end before its time, by an answer given later (its rule 4): then the first end with
    /// which the part fails is looked for.
    fn cut_short(&mut self, places: &[u32], items: &[Item], blocked: u32) -> (Vec<Remnant>, u64) {
        let until = items[blocked as usize].end.expect("only an end can be in the way");
        let rest = cut(places, items, until);
        if self.fails(&rest) {
            return (rest, until);
        }
        let mut ends: Vec<u64> =
            items.iter().filter_map(|item| item.end).filter(|end| *end > until).collect();
        ends.sort_unstable();
        // With more ends there are fewer orders, so those that fail come last.
        let first = ends.partition_point(|end| !self.fails(&cut(places, items, *end)));
        let until = ends.get(first).or(ends.last()).map_or(until, |end| *end);
        (cut(places, items, until), until)
    }

    /// Runs a search of so many items within the limits. Making its list counts too.
    fn within<R>(
        &mut self,
        items: usize,
        steps_max: u64,
        run: impl FnOnce(&mut Machine, &mut Budget<'_>) -> R,
    ) -> R {
        let left = steps_max.min(self.left);
        let mut budget = Budget { outer: self.limits, left, used: 0, is_over: false };
        let result = run(self.machine, &mut budget);
        self.left = self.left.saturating_sub(budget.used + items as u64);
        result
    }

    /// Rule 2: begins at the latest moment that leaves few states.
    fn begin_late(&mut self, rest: &mut Vec<Remnant>) {
        let mut moments: Vec<u64> = rest.iter().filter_map(|r| r.item.end).collect();
        moments.sort_unstable();
        // The last end is the one that no order passes.
        for back in (0..WINDOWS_MAX).map(|attempt| 1 << attempt) {
            let Some(moment) = moments.len().checked_sub(back + 1).map(|at| moments[at]) else { return };
            let before = rest.iter().filter(|r| r.item.start <= moment).cloned();
            let before = before.filter_map(|r| Some(unless(r, |end| end > moment)?.item));
            let before: Vec<Item> = before.collect();
            let states = self.within(before.len(), STATES_STEPS, |machine, budget| {
                last_states(machine, &before, State::ABSENT, STATES_MAX, budget)
            });
            let Some(states) = states.filter(|states| !states.is_empty()) else { continue };
            let window: Vec<Remnant> = rest.iter().filter_map(|r| after(r, moment)).collect();
            let items: Vec<Item> = window.iter().map(|r| r.item.clone()).collect();
            if self.fails_from(&items, &states) {
                *rest = window;
                (self.first, self.begins) = (states, Some(moment));
                return;
            }
        }
    }

    /// Rule 3.
    fn leave_out_reads(&mut self, rest: &mut Vec<Remnant>) {
        let is_read = |r: &Remnant| r.item.step.is_pure();
        self.weaken(rest, is_read, |part| part.clear());
    }

    /// Rule 4.
    fn free_changes(&mut self, rest: &mut Vec<Remnant>) {
        let is_change = |r: &Remnant| !r.item.step.is_pure();
        self.weaken(rest, is_change, |part| {
            for remnant in part {
                remnant.item.start = 0;
                remnant.item.end = None;
                remnant.is_freed = true;
            }
        });
    }

    /// Tries `weaker` on ever smaller groups of the operations that `may` be weakened, and keeps what still fails.
    fn weaken(
        &mut self,
        rest: &mut Vec<Remnant>,
        may: impl Fn(&Remnant) -> bool,
        weaker: impl Fn(&mut Vec<Remnant>),
    ) {
        let (mut candidates, mut fixed): (Vec<_>, Vec<_>) = std::mem::take(rest).into_iter().partition(may);
        let mut group = candidates.len();
        while group > 0 {
            let mut kept = Vec::new();
            let mut ahead = candidates;
            while !ahead.is_empty() {
                let tail = ahead.split_off(ahead.len().min(group));
                let mut attempt = ahead.clone();
                weaker(&mut attempt);
                let others = fixed.iter().chain(&kept).chain(&tail);
                let part: Vec<Remnant> = others.chain(&attempt).cloned().collect();
                let goes = self.left > 0 && self.fails(&part);
                self.minimal &= self.left > 0;
                if goes {
                    fixed.append(&mut attempt)
                } else {
                    kept.append(&mut ahead)
                }
                ahead = tail;
            }
            candidates = kept;
            group = if group == 1 { 0 } else { group.min(candidates.len()).div_ceil(2) };
        }
        fixed.append(&mut candidates);
        *rest = fixed;
    }
}

/// What remains of an operation after a moment: under way then, it may have taken effect before.
fn after(remnant: &Remnant, moment: u64) -> Option<Remnant> {
    let is_over = remnant.item.end.is_some_and(|end| end <= moment);
    let was_begun = remnant.item.start <= moment;
    if is_over { None } else { unless(remnant.clone(), |_| was_begun) }
}
