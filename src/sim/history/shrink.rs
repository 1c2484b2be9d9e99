//! The smallest part of a failed key that still has no order.
//!
//! Leaving an operation out of a history may make it fail for another reason (a read of a value whose write is gone), so here
//! history is only ever *weakened*: whatever had an order keeps it, hence a part that fails proves that the whole fails.
//!
//! 1. What starts after the end that no order passes goes; what is under way there need not take effect.
//! 2. What lies before a moment at which nothing is under way is replaced by the states that it can leave.
//! 3. Reads are left out.
//! 4. Changes are freed: they may take effect at any time or never.
//!
//! Weakening is monotone, so trying each operation once leaves a part of which nothing more can be left out or freed.

use super::judge::Budget;
use super::models::Machine;
use super::search::{Found, Item, Limits, find_order, last_states};
use super::states::State;

/// Steps for one attempt, and for all of them.
const TRIAL_STEPS: u64 = 1 << 18;
const TOTAL_STEPS: u64 = 1 << 24;
/// States before the window: more than a person wants to read.
const STATES_MAX: usize = 4;
/// Moments at which to try to begin the window.
const WINDOWS_MAX: usize = 6;
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
    /// The quiet moment at which the window begins; none if it begins with the history.
    pub begins: Option<u64>,
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
    let mut rest = cut(places, items, blocked);
    shrink.begin_late(&mut rest);
    shrink.leave_out_reads(&mut rest);
    shrink.free_changes(&mut rest);
    let mut core: Vec<_> = rest.iter().filter(|r| !r.is_freed).collect();
    core.sort_by_key(|r| (r.item.start, r.place));
    Offence {
        key,
        core: core.iter().map(|r| r.place).collect(),
        freed: rest.iter().filter(|r| r.is_freed).map(|r| r.place).collect(),
        before: shrink.first.iter().map(|s| shrink.machine.states.show(*s, SHOWN_BYTES_MAX)).collect(),
        begins: shrink.begins,
        minimal: shrink.minimal,
    }
}

/// Rule 1.
fn cut(places: &[u32], items: &[Item], blocked: u32) -> Vec<Remnant> {
    let until = items[blocked as usize].end.expect("only an end can be in the way");
    let mut rest = Vec::new();
    for (place, item) in places.iter().zip(items).filter(|(_, item)| item.start <= until) {
        let item = Item { end: item.end.filter(|end| *end <= until), ..item.clone() };
        // Where it need not happen, a read says nothing.
        if item.end.is_some() || !item.step.is_pure() {
            rest.push(Remnant { place: *place, item, is_freed: false });
        }
    }
    rest
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
            let found = self.within(|machine, budget| find_order(machine, items, *state, budget));
            self.minimal &= found != Found::Stopped;
            matches!(found, Found::NoOrder { .. })
        })
    }

    fn within<R>(&mut self, run: impl FnOnce(&mut Machine, &mut Budget<'_>) -> R) -> R {
        let mut budget =
            Budget { outer: self.limits, left: TRIAL_STEPS.min(self.left), used: 0, is_over: false };
        let result = run(self.machine, &mut budget);
        self.left = self.left.saturating_sub(budget.used);
        result
    }

    /// Rule 2: begins at the latest quiet moment that leaves few states.
    fn begin_late(&mut self, rest: &mut Vec<Remnant>) {
        let moments = quiet_moments(rest);
        for back in (0..WINDOWS_MAX).map(|attempt| (1 << attempt) - 1) {
            let Some(moment) = moments.len().checked_sub(back + 1).map(|at| moments[at]) else { return };
            let is_before = |item: &Item| item.start <= moment;
            let ends = |item: &Item| item.end.is_some();
            let all = || rest.iter().map(|r| &r.item);
            let before: Vec<Item> = all().filter(|i| is_before(i)).cloned().collect();
            // What has no end may still take effect in the window, even if it could have before it.
            let stays = |item: &Item| !is_before(item) || !ends(item);
            let window: Vec<Item> = all().filter(|i| stays(i)).cloned().collect();
            let states = self
                .within(|machine, budget| last_states(machine, &before, State::ABSENT, STATES_MAX, budget));
            let Some(states) = states.filter(|states| !states.is_empty()) else { continue };
            if self.fails_from(&window, &states) {
                rest.retain(|r| stays(&r.item));
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

/// Ends after which nothing with an end is under way, in order: each one is a moment between operations.
fn quiet_moments(rest: &[Remnant]) -> Vec<u64> {
    let mut spans: Vec<_> = rest.iter().filter_map(|r| Some((r.item.start, r.item.end?))).collect();
    spans.sort_unstable();
    let (mut moments, mut latest) = (Vec::new(), None);
    for (start, end) in spans {
        moments.extend(latest.filter(|latest| *latest < start));
        latest = latest.max(Some(end));
    }
    moments
}
