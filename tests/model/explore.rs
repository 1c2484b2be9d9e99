//! All states that can be reached, breadth first. Two states are one when their hashes are: among ten million states two differing ones
//! meet in 64 bits with a chance of a few in a million, and only then would something be left out.

use super::cluster::{Cluster, PROPERTIES, Property, SOMETIMES, State};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

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
    /// Of [`SOMETIMES`], what was met with.
    pub reached: BTreeSet<&'static str>,
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Goes everywhere, unless a property ceases to hold.
pub fn explore(cluster: &Cluster) -> Report {
    let begun = Instant::now();
    let first = cluster.first();
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
            for action in cluster.actions(&state) {
                report.steps += 1;
                let Some(after) = cluster.after(&state, action) else { continue };
                let name = hash(&after);
                if seen.contains_key(&name) {
                    continue;
                }
                seen.insert(name, before);
                look(cluster, &after, &mut report.reached);
                if let Some(broken) = PROPERTIES.iter().find(|(_, holds)| !holds(cluster, &after)) {
                    report.broken = Some((broken.0, way(cluster, &seen, name)));
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

fn look(cluster: &Cluster, state: &State, reached: &mut BTreeSet<&'static str>) {
    let is_news = |(name, is_so): &&Property| !reached.contains(name) && is_so(cluster, state);
    let news: Vec<&'static str> = SOMETIMES.iter().filter(is_news).map(|(name, _)| *name).collect();
    reached.extend(news);
}

/// The actions that lead to a state, found by going the way again.
fn way(cluster: &Cluster, seen: &HashMap<u64, u64>, last: u64) -> Vec<String> {
    let mut names: Vec<u64> = std::iter::successors(Some(last), |name| seen.get(name).copied()).collect();
    names.reverse();
    let mut state = cluster.first();
    let mut actions = Vec::new();
    for name in names.into_iter().skip_while(|name| *name != hash(&state)).skip(1).collect::<Vec<_>>() {
        let step = cluster.actions(&state).into_iter().find_map(|action| {
            let after = cluster.after(&state, action)?;
            (hash(&after) == name).then_some((action, after))
        });
        let (action, after) = step.expect("it was gone before");
        actions.push(format!("{action:?}\n{after:?}"));
        state = after;
    }
    actions
}
