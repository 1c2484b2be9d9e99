//! The verdict on a whole history: key by key, small ones first, hard ones last.

use super::event::{History, Operation};
use super::models::{Machine, Model, Nonsense};
use super::search::{Found, Item, Limits, find_order};
use super::shrink::{Offence, shrink};
use super::states::State;

/// Steps that every key gets before any gets more, so that one hard key does not keep the others from being judged.
const FIRST_STEPS: u64 = 1 << 20;
/// Offending keys that are shrunk and shown; more of them say nothing new.
const OFFENCES_MAX: usize = 5;

/// What is known about linearizability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every key has an order.
    Linearizable,
    /// A key has none.
    NotLinearizable,
    /// The limits came first, and no key is known to have none.
    Undecided,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Linearizable => "linearizable",
            Verdict::NotLinearizable => "not linearizable",
            Verdict::Undecided => "undecided",
        }
    }
}

/// What the check of a history found.
#[derive(Debug)]
pub struct Report {
    /// About all keys together.
    pub verdict: Verdict,
    /// What the history was held against.
    pub model: Model,
    /// Keys without an order.
    pub failed: Vec<u32>,
    /// Keys about which nothing is known.
    pub undecided: Vec<u32>,
    /// The core of the first few failed keys.
    pub offences: Vec<Offence>,
    /// Steps of all searches.
    pub steps: u64,
}

/// Checks a history against the model: the one given, the one that the file names, or the narrowest that has all its verbs.
pub fn check(history: &History, model: Option<Model>, limits: &mut dyn Limits) -> Result<Report, Nonsense> {
    let model = model.or(history.model).unwrap_or_else(|| Model::guess(&history.operations));
    let refused = history.operations.iter().find(|o| !model.has(o.verb));
    if let Some(Operation { line, verb, .. }) = refused {
        return Err(Nonsense::Verb { line: *line, model, verb: *verb });
    }
    let parts = history.by_key();
    let mut order: Vec<u32> = (0..parts.len() as u32).collect();
    order.sort_by_key(|key| parts[*key as usize].len());
    let verdict = Verdict::Linearizable;
    let mut report = Report { verdict, model, failed: vec![], undecided: vec![], offences: vec![], steps: 0 };
    for steps_max in [FIRST_STEPS, u64::MAX] {
        for key in std::mem::take(&mut order) {
            let mut budget = Budget { outer: limits, left: steps_max, used: 0, is_over: false };
            let found = judge(history, key, &parts[key as usize], &mut report, &mut budget)?;
            let (used, is_over) = (budget.used, budget.is_over);
            report.steps += used;
            match found {
                Found::Stopped if is_over && steps_max == FIRST_STEPS => order.push(key),
                Found::Stopped => report.undecided.push(key),
                Found::NoOrder { .. } => report.failed.push(key),
                Found::Order => {}
            }
            if found != Found::Stopped {
                limits.judged(parts[key as usize].len());
            }
        }
    }
    report.verdict = match (report.failed.is_empty(), report.undecided.is_empty()) {
        (false, _) => Verdict::NotLinearizable,
        (true, false) => Verdict::Undecided,
        (true, true) => Verdict::Linearizable,
    };
    Ok(report)
}

/// Judges one key, and shrinks it to its core if it fails.
fn judge(
    history: &History,
    key: u32,
    part: &[u32],
    report: &mut Report,
    budget: &mut Budget<'_>,
) -> Result<Found, Nonsense> {
    let mut machine = Machine::new(report.model);
    let (places, items) = compile(history, part, &mut machine)?;
    let found = find_order(&mut machine, &items, State::ABSENT, budget);
    if let (Found::NoOrder { blocked }, true) = (&found, report.offences.len() < OFFENCES_MAX) {
        budget.left = u64::MAX;
        report.offences.push(shrink(&mut machine, key, &places, &items, *blocked, budget));
    }
    Ok(found)
}

/// The operations that say something, as items, with their places in the history.
pub(super) fn compile(
    history: &History,
    part: &[u32],
    machine: &mut Machine,
) -> Result<(Vec<u32>, Vec<Item>), Nonsense> {
    let (mut places, mut items) = (Vec::with_capacity(part.len()), Vec::with_capacity(part.len()));
    for place in part {
        let operation = &history.operations[*place as usize];
        if let Some(step) = machine.compile(operation)? {
            places.push(*place);
            items.push(Item { step, start: operation.start, end: operation.end });
        }
    }
    Ok((places, items))
}

/// Limits within limits: a number of steps of one's own.
pub(super) struct Budget<'a> {
    pub outer: &'a mut dyn Limits,
    pub left: u64,
    pub used: u64,
    /// Stopped because nothing was left, not by the outer limits.
    pub is_over: bool,
}

impl Limits for Budget<'_> {
    fn go_on(&mut self, steps: u64, passed: f64) -> bool {
        self.used += steps;
        self.left = self.left.saturating_sub(steps);
        self.is_over = self.left == 0;
        !self.is_over && self.outer.go_on(steps, passed)
    }
    fn memory(&self) -> usize {
        self.outer.memory()
    }
}
