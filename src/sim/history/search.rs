//! The search for a linearization of one key's operations.
//!
//! J. Wing and C. Gong, "Testing and verifying concurrent objects", 1993, with the just-in-time undo list and the memory of
//! configurations of G. Lowe, "Testing for linearizability", 2017. Depth first over a doubly linked list of starts and ends: an
//! operation whose start is before the first end left in the list may take effect next; an end that is reached first is a dead end.
//! The stack is a vector, as deep as there are operations.
//!
//! Five rules cut the search, none of which changes the verdict:
//! 1. An operation that changes nothing (a read) and fits takes effect at once, without an alternative: whatever order comes
//!    later without it stays an order with it in front.
//! 2. An operation without an end does not take effect where it would change nothing: not taking it keeps it for later.
//! 3. Of operations without an end and with equal effect, the one that started first goes first: they can be exchanged.
//! 4. While texts only grow and the longest one read is still to be read, an append must continue towards it.
//! 5. A configuration (what has taken effect, and the state) is explored once.

use super::memo::{Memo, Place, Taken, Undo};
use super::models::{Machine, Step};
use super::states::State;
use std::sync::Arc;

/// One operation for the search.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it does.
    pub step: Step,
    /// When it may take effect first.
    pub start: u64,
    /// When it must have taken effect; none if it need not.
    pub end: Option<u64>,
}

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// There is an order.
    Order,
    /// There is none. No order comes past the end of that item, and some order comes up to it.
    NoOrder {
        /// Its place among the items.
        blocked: u32,
    },
    /// The search was stopped.
    Stopped,
}

/// How far a search may go.
pub trait Limits {
    /// Called now and then with the steps since the last call and how much of the list some order has passed; false stops the search.
    fn go_on(&mut self, steps: u64, passed: f64) -> bool;
    /// Memory that one search may take for what it visited.
    fn memory(&self) -> usize;
    /// A key with so many operations is judged.
    fn judged(&mut self, operations: usize) {
        let _ = operations;
    }
}

/// No limit but memory: for histories that are known to be small.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl Limits for Unlimited {
    fn go_on(&mut self, _: u64, _: f64) -> bool {
        true
    }
    fn memory(&self) -> usize {
        256 << 20
    }
}

/// Steps between two calls of [`Limits::go_on`].
pub const STEPS_BETWEEN: u64 = 4096;

const NONE: u32 = u32::MAX;
/// The list's head; the list ends where it comes back to it.
const HEAD: u32 = 0;

/// Looks for an order of all items with an end that begins in `first`.
pub fn find_order(machine: &mut Machine, items: &[Item], first: State, limits: &mut dyn Limits) -> Found {
    let mut search = Search::new(machine, items, first, limits.memory());
    let found = search.run(machine, items, limits, |_| true);
    search.settle(limits);
    found
}

/// All states in which an order of all items with an end can leave the key, sorted; none if stopped or if there are more than `most`.
pub fn last_states(
    machine: &mut Machine,
    items: &[Item],
    first: State,
    most: usize,
    limits: &mut dyn Limits,
) -> Option<Vec<State>> {
    let mut search = Search::new(machine, items, first, limits.memory());
    let mut states = Vec::new();
    let found = search.run(machine, items, limits, |state| {
        if let Err(place) = states.binary_search(&state) {
            states.insert(place, state);
        }
        states.len() > most
    });
    search.settle(limits);
    matches!(found, Found::NoOrder { .. }).then_some(states)
}

/// What a step of the stack undoes.
struct Frame {
    item: u32,
    before: State,
    undo: Undo,
    /// No alternative needs to be tried (rule 1).
    pure: bool,
}

/// One run: the list, what has taken effect, and what was visited.
struct Search {
    next: Vec<u32>,
    previous: Vec<u32>,
    /// For each node of the list after its head: the item, and whether it is its end.
    events: Vec<(u32, bool)>,
    start_node: Vec<u32>,
    /// `NONE` for items without an end.
    end_node: Vec<u32>,
    places: Vec<Place>,
    /// For items without an end: the one before it with equal effect.
    twins: Vec<u32>,
    pure: Vec<bool>,
    goal: Option<Goal>,
    taken: Taken,
    memo: Memo,
    stack: Vec<Frame>,
    state: State,
    /// Items with an end that have not taken effect.
    left: usize,
    /// The last end that was a dead end.
    blocked: u32,
    steps: u64,
}

impl Search {
    fn new(machine: &Machine, items: &[Item], first: State, memory: usize) -> Search {
        let mut order: Vec<(u64, bool, u32)> = Vec::with_capacity(items.len() * 2);
        for (place, item) in items.iter().enumerate() {
            order.push((item.start, false, place as u32));
            order.extend(item.end.map(|end| (end, true, place as u32)));
        }
        // At equal times starts come first: such operations overlap.
        order.sort_unstable();
        let mut start_node = vec![NONE; items.len()];
        let mut end_node = vec![NONE; items.len()];
        let mut places = vec![Place::Open(NONE); items.len()];
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for (node, (_, is_end, item)) in (1..).zip(&order) {
            let place = *item as usize;
            match (is_end, items[place].end) {
                (true, _) => end_node[place] = node,
                (false, Some(_)) => {
                    start_node[place] = node;
                    places[place] = Place::Ended(ended.len() as u32);
                    ended.push(*item);
                }
                (false, None) => {
                    start_node[place] = node;
                    places[place] = Place::Open(open.len() as u32);
                    open.push(*item);
                }
            }
        }
        let count = order.len() as u32 + 1;
        Search {
            next: (0..count).map(|node| (node + 1) % count).collect(),
            previous: (0..count).map(|node| (node + count - 1) % count).collect(),
            events: order.into_iter().map(|(_, is_end, item)| (item, is_end)).collect(),
            start_node,
            end_node,
            places,
            twins: twins(items, &open),
            pure: items.iter().map(|item| item.step.is_pure()).collect(),
            goal: goal(items, machine),
            taken: Taken::new(ended.len(), open.len()),
            memo: Memo::new(memory),
            stack: Vec::new(),
            state: first,
            left: ended.len(),
            blocked: HEAD,
            steps: 0,
        }
    }

    /// Runs until `done` is content with a last state, or until there is nothing left to try.
    fn run(
        &mut self,
        machine: &mut Machine,
        items: &[Item],
        limits: &mut dyn Limits,
        mut done: impl FnMut(State) -> bool,
    ) -> Found {
        // None: a configuration just reached, where rule 1 comes first.
        let mut cursor = None;
        loop {
            self.steps += 1;
            if self.steps.is_multiple_of(STEPS_BETWEEN) {
                let passed = f64::from(self.blocked) / self.next.len() as f64;
                if machine.states.bytes() > limits.memory() || !limits.go_on(STEPS_BETWEEN, passed) {
                    return Found::Stopped;
                }
            }
            if self.left == 0 {
                if done(self.state) {
                    return Found::Order;
                }
                cursor = match self.step_back() {
                    Some(node) => Some(node),
                    None => return self.exhausted(),
                };
                continue;
            }
            let forward = match cursor {
                None => match self.fitting_pure(machine, items) {
                    Some(item) => self.take(item, self.state, true),
                    None => {
                        cursor = Some(self.next[HEAD as usize]);
                        continue;
                    }
                },
                Some(node) => match self.next_change(machine, items, node) {
                    Some((item, after)) => {
                        if !self.take(item, after, false) {
                            cursor = Some(self.next[self.start_node[item as usize] as usize]);
                            continue;
                        }
                        true
                    }
                    None => false,
                },
            };
            cursor = None;
            if !forward {
                match self.step_back() {
                    Some(node) => cursor = Some(node),
                    None => return self.exhausted(),
                }
            }
        }
    }

    /// Tells the steps that were not told yet; the search is over, so what the answer is does not matter.
    fn settle(&self, limits: &mut dyn Limits) {
        limits.go_on(self.steps % STEPS_BETWEEN, 1.0);
    }

    fn exhausted(&self) -> Found {
        let (blocked, _) =
            if self.blocked == HEAD { (NONE, true) } else { self.events[self.blocked as usize - 1] };
        Found::NoOrder { blocked }
    }

    /// Rule 1: an operation that may take effect now, fits, and changes nothing.
    fn fitting_pure(&mut self, machine: &mut Machine, items: &[Item]) -> Option<u32> {
        let mut node = self.next[HEAD as usize];
        while node != HEAD {
            let (item, is_end) = self.events[node as usize - 1];
            if is_end {
                return None;
            }
            if self.pure[item as usize] {
                let after = machine.step(self.state, &items[item as usize].step);
                if after.is_some() {
                    assert_eq!(after, Some(self.state), "a read changes nothing");
                    return Some(item);
                }
            }
            node = self.next[node as usize];
        }
        None
    }

    /// The next operation from `node` on that may take effect now and changes the state, with the state after it.
    fn next_change(&mut self, machine: &mut Machine, items: &[Item], mut node: u32) -> Option<(u32, State)> {
        while node != HEAD {
            let (item, is_end) = self.events[node as usize - 1];
            if is_end {
                self.blocked = self.blocked.max(node);
                return None;
            }
            if !self.pure[item as usize]
                && self.is_turn(item)
                && self.leads_on(machine, &items[item as usize].step)
                && let Some(after) = machine.step(self.state, &items[item as usize].step)
            {
                // Rule 2.
                let is_open = self.end_node[item as usize] == NONE;
                if !(is_open && after == self.state) {
                    return Some((item, after));
                }
            }
            node = self.next[node as usize];
        }
        None
    }

    /// Rule 3.
    fn is_turn(&self, item: u32) -> bool {
        let twin = self.twins[item as usize];
        twin == NONE || self.taken.has(self.places[twin as usize])
    }

    /// Rule 4.
    fn leads_on(&self, machine: &Machine, step: &Step) -> bool {
        match (&self.goal, step) {
            (Some(goal), Step::Append(piece, _)) if !self.taken.has(self.places[goal.item as usize]) => {
                // A hash takes no append; the step will say so.
                let Some(length) = machine.states.length(self.state) else { return true };
                let there = usize::try_from(length).ok().and_then(|at| goal.text.as_bytes().get(at..));
                there.is_some_and(|rest| rest.starts_with(piece.as_bytes()))
            }
            _ => true,
        }
    }

    /// Lets the item take effect, if that leads to a configuration not visited yet.
    fn take(&mut self, item: u32, after: State, pure: bool) -> bool {
        let place = self.places[item as usize];
        let undo = self.taken.take(place);
        if !self.memo.visit(&self.taken, after) {
            self.taken.give_back(place, undo);
            return false;
        }
        self.stack.push(Frame { item, before: self.state, undo, pure });
        self.state = after;
        self.unlink(self.start_node[item as usize]);
        if self.end_node[item as usize] != NONE {
            self.unlink(self.end_node[item as usize]);
            self.left -= 1;
        }
        true
    }

    /// Undoes steps until one has an alternative; where to look for it, or none if nothing is left.
    fn step_back(&mut self) -> Option<u32> {
        while let Some(Frame { item, before, undo, pure }) = self.stack.pop() {
            self.taken.give_back(self.places[item as usize], undo);
            self.state = before;
            let start = self.start_node[item as usize];
            if self.end_node[item as usize] != NONE {
                self.link_again(self.end_node[item as usize]);
                self.left += 1;
            }
            self.link_again(start);
            if !pure {
                return Some(self.next[start as usize]);
            }
        }
        None
    }

    fn unlink(&mut self, node: u32) {
        let (previous, next) = (self.previous[node as usize], self.next[node as usize]);
        self.next[previous as usize] = next;
        self.previous[next as usize] = previous;
    }

    /// Nodes come back in the opposite order, so a node's own links still say where it belongs.
    fn link_again(&mut self, node: u32) {
        let (previous, next) = (self.previous[node as usize], self.next[node as usize]);
        self.next[previous as usize] = node;
        self.previous[next as usize] = node;
    }
}

/// The longest text that is read, and by which item.
struct Goal {
    item: u32,
    text: Arc<str>,
}

/// The goal of a key that is only appended to and read.
fn goal(items: &[Item], machine: &Machine) -> Option<Goal> {
    let grows = |item: &Item| matches!(item.step, Step::Append(..) | Step::Read(_));
    if !items.iter().all(grows) || items.iter().all(|item| item.step.is_pure()) {
        return None;
    }
    let reads = items.iter().enumerate().filter(|(_, item)| item.end.is_some());
    let reads = reads.filter_map(|(place, item)| match item.step {
        Step::Read(value) => Some((machine.states.length(value)?, place as u32, value)),
        _ => None,
    });
    let (_, item, value) = reads.max()?;
    Some(Goal { item, text: machine.states.whole_text(value)?.into() })
}

/// For each open item the one before it (by start) whose step is equal.
fn twins(items: &[Item], open: &[u32]) -> Vec<u32> {
    let mut twins = vec![NONE; items.len()];
    let mut by_step = open.to_vec();
    let name = |item: u32| format!("{:?}", items[item as usize].step);
    by_step.sort_by_cached_key(|item| name(*item));
    for pair in by_step.windows(2) {
        if items[pair[0] as usize].step == items[pair[1] as usize].step {
            twins[pair[1] as usize] = pair[0];
        }
    }
    twins
}
