//! All states that can be reached, breadth first. Two states are one when their hashes are: among ten million states two differing ones
//! meet in 64 bits with a chance of a few in a million, and only then would something be left out.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// A name, and whether it is so in a state.
pub type Property<M> = (&'static str, fn(&M, &<M as Model>::State) -> bool);

/// What is explored.
pub trait Model: Sized + 'static {
    type State: Hash;
    type Action: Copy + Debug;
    /// What holds in every state.
    const PROPERTIES: &'static [Property<Self>];
    /// What holds in some, or the bounds are too tight to mean anything.
    const SOMETIMES: &'static [Property<Self>];

    /// Where everything begins.
    fn first(&self) -> Self::State;
    /// What can happen in a state.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;
    /// What comes of it; nothing when that is no step of its own.
    fn after(&self, last: &Self::State, action: Self::Action) -> Option<Self::State>;
    /// A state in words.
    fn tell(&self, state: &Self::State) -> String;
}

/// What has been met with.
pub struct Report {
    /// Steps that were taken.
    pub steps: u64,
    /// Distinct states.
    pub states: usize,
    /// The longest way to a state that has no shorter one.
    pub depth: u64,
    /// How long it took.
    pub took: Duration,
    /// The first property that did not hold, and what happened before, action by action.
    pub broken: Option<(&'static str, Vec<String>)>,
    /// Of what may happen ([`Model::SOMETIMES`]), what was met with.
    pub reached: BTreeSet<&'static str>,
}

impl Report {
    /// Panics when a property was broken, or when something was not met with that should have been.
    pub fn assert_safe(&self, meets_with: &[&str]) {
        if let Some((property, way)) = &self.broken {
            panic!("{property} does not hold:\n{}", way.join("\n"));
        }
        let missing: Vec<_> = meets_with.iter().filter(|name| !self.reached.contains(**name)).collect();
        assert!(missing.is_empty(), "it does not happen that {missing:?}: the bounds are too tight");
    }
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Goes everywhere, unless a property ceases to hold.
pub fn explore<M: Model>(model: &M) -> Report {
    let begun = Instant::now();
    let first = model.first();
    // Each state with the one before it.
    let mut seen: HashMap<u64, u64> = HashMap::from([(hash(&first), 0)]);
    let mut report = Report {
        steps: 0,
        states: 0,
        depth: 0,
        took: Duration::ZERO,
        broken: None,
        reached: BTreeSet::new(),
    };
    let mut level = vec![first];
    while !level.is_empty() && report.broken.is_none() {
        let mut next = Vec::new();
        for state in level {
            let before = hash(&state);
            for action in model.actions(&state) {
                report.steps += 1;
                let Some(after) = model.after(&state, action) else { continue };
                let name = hash(&after);
                if seen.contains_key(&name) {
                    continue;
                }
                seen.insert(name, before);
                look(model, &after, &mut report.reached);
                if let Some(broken) = M::PROPERTIES.iter().find(|(_, holds)| !holds(model, &after)) {
                    report.broken = Some((broken.0, way(model, &seen, name)));
                    break;
                }
                next.push(after);
            }
            if report.broken.is_some() {
                break;
            }
        }
        report.depth += u64::from(!next.is_empty());
        level = next;
    }
    (report.states, report.took) = (seen.len(), begun.elapsed());
    report
}

fn look<M: Model>(model: &M, state: &M::State, reached: &mut BTreeSet<&'static str>) {
    let is_news = |(name, is_so): &&Property<M>| !reached.contains(name) && is_so(model, state);
    let news: Vec<&'static str> = M::SOMETIMES.iter().filter(is_news).map(|(name, _)| *name).collect();
    reached.extend(news);
}

/// The actions that lead to a state, found by going the way again.
fn way<M: Model>(model: &M, seen: &HashMap<u64, u64>, last: u64) -> Vec<String> {
    let mut names: Vec<u64> = std::iter::successors(Some(last), |name| seen.get(name).copied()).collect();
    names.reverse();
    let mut state = model.first();
    let mut actions = Vec::new();
    for name in names.into_iter().skip_while(|name| *name != hash(&state)).skip(1).collect::<Vec<_>>() {
        let step = model.actions(&state).into_iter().find_map(|action| {
            let after = model.after(&state, action)?;
            (hash(&after) == name).then_some((action, after))
        });
        let (action, after) = step.expect("it was gone before");
        actions.push(format!("{action:?}\n{}", model.tell(&after)));
        state = after;
    }
    actions
}
