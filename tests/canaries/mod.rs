//! Every canary is found: switched on, its finder fails; switched off, it passes. A canary without a finder fails here, and so does
//! a page `docs/CANARIES.md` that says anything else (`QUORATE_REWRITE=1` writes it).

mod disk;
mod rooms;
mod table;

use crate::scenario;
use quorate::base::Prng;
use quorate::base::canary::{self, Canary};
use quorate::sim::full::{Swarm, World};
use quorate::sim::violation::{self, Violation};
use quorate::sim::{self, Fault, Faults, Options, ProtocolName};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use table::{BY_WHOLE_NODES, FINDERS, FOUND_AT_HOME};

/// Events of a run that looks for a canary.
const EVENTS: u64 = 4000;
/// So many times the seeds that it typically takes are tried: a bug that is found by one seed in `n` is missed by `20 n` with a chance
/// of two in a thousand million.
const PATIENCE: u64 = 20;

/// How a canary is found.
enum Finder {
    /// By random faults in the simulated world: about one seed in `typical` finds it, and the checker of the property says so.
    Seeds { typical: u64, property: &'static str },
    /// The same in a group of PBFT replicas, some of which may lie.
    Liars { typical: u64, property: &'static str },
    /// Likewise, by whole nodes (level 2); where a seed's mixture of faults is too mild, a harsher one.
    Nodes { typical: u64, property: &'static str, harsher: fn(&mut Swarm) },
    /// By a story of `tests/scenario`.
    Scenario(&'static str),
    /// By a directed test of a room here in this folder, or by a story of replicas at a table (`tests/pbft/stories.rs`).
    Room(&'static str, fn()),
}

/// Looks for `canary`. Gives back what told of it.
fn find(canary: Canary, finder: &Finder) -> Result<String, String> {
    match finder {
        Finder::Seeds { typical, property } => {
            search(canary, seeds(*typical), property, |seed| sim::run(seed, &Options::of(EVENTS)).map(|_| ()))
        }
        Finder::Nodes { typical, property, harsher } => search(canary, seeds(*typical), property, |seed| {
            let mut swarm = Swarm::draw(&mut Prng::from_seed(seed));
            harsher(&mut swarm);
            violation::catch(|| World::run_swarm(seed, swarm, EVENTS)).map(|_| ())
        }),
        Finder::Liars { typical, property } => {
            let run = |seed| {
                let faults = Faults::ALL.without(Fault::Reconfigure);
                let options = Options { protocol: ProtocolName::Pbft, faults, ..Options::of(EVENTS) };
                sim::run(seed, &options).map(|_| ())
            };
            // The same seeds for every commit, and of them those that hold without it: a few do not yet (docs/SWEEPS.md, "Open").
            let sound = (1..1 + typical * PATIENCE).filter(|seed| run(*seed).is_ok());
            search(canary, sound, property, run)
        }
        Finder::Scenario(name) => both(canary, || scenario::play(name)),
        Finder::Room(_, test) => both(canary, test),
    }
}

/// The seeds that a finder may try: others for every commit.
fn seeds(typical: u64) -> std::ops::Range<u64> {
    let first = std::env::var("QUORATE_SEED").map_or(1, |text| text.parse().expect("a number"));
    first..first + typical * PATIENCE
}

/// Looks for a seed whose run says that `property` does not hold with the canary (or one of several, with " or " between them), and
/// that all holds without.
fn search(
    canary: Canary,
    mut seeds: impl Iterator<Item = u64>,
    property: &str,
    run: impl Fn(u64) -> Result<(), Violation>,
) -> Result<String, String> {
    let is_named = |v: Violation| property.split(" or ").any(|name| v.property == name);
    let tells = |seed: &u64| canary::with(canary, || run(*seed)).is_err_and(is_named);
    let seed = seeds.find(tells).ok_or("no seed of the budget finds it".to_string())?;
    run(seed).map(|()| format!("seed {seed}")).map_err(|v| format!("seed {seed} without it: {v}"))
}

fn both(canary: Canary, test: impl Fn()) -> Result<String, String> {
    match (violation::catch(&test), violation::catch(|| canary::with(canary, &test))) {
        (Ok(()), Err(found)) => Ok(found.message.lines().next().unwrap_or_default().to_string()),
        (Ok(()), Ok(())) => Err("its finder passes".to_string()),
        (Err(found), _) => Err(format!("its finder fails without it: {found}")),
    }
}

#[test]
fn every_canary_is_found() {
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let all: Vec<&(Canary, Finder)> = BY_WHOLE_NODES.iter().chain(FINDERS).collect();
    let worker = || {
        while let Some((canary, finder)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            let found = find(*canary, finder);
            println!("{} in {:?}: {found:?}", canary.name(), begun.elapsed());
            if let Err(why) = found {
                missed.lock().unwrap().push(format!("{}: {why}", canary.name()));
            }
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(worker))));
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_canary_has_one_finder() {
    let found: BTreeSet<Canary> = FINDERS.iter().map(|(canary, _)| *canary).collect();
    let named = |c: &&Canary| found.contains(c) || FOUND_AT_HOME.contains(c);
    let lost: Vec<&str> = Canary::ALL.iter().filter(|c| !named(c)).map(|c| c.name()).collect();
    assert!(lost.is_empty(), "nothing looks for {lost:?}: add them to tests/canaries/table.rs");
    assert_eq!(found.len() + FOUND_AT_HOME.len(), Canary::ALL.len(), "one place each");
    assert_eq!(found.len(), FINDERS.len());
}

/// The hazards of PBFT, B1 to B18, each have a canary that says so; B13 is tentative execution, of which there is none here.
#[test]
fn every_hazard_of_pbft_has_a_canary() {
    let told = |number: &u32| {
        let word = format!("B{number}: ");
        Canary::ALL.iter().any(|canary| canary.description().starts_with(&word))
    };
    let untold: Vec<u32> = (1..=18).filter(|number| !told(number)).collect();
    assert_eq!(untold, [13]);
}

/// A row of the page.
fn row(canary: Canary, finder: &Finder) -> String {
    let nodes = BY_WHOLE_NODES.iter().filter(|(other, _)| *other == canary).map(|(_, finder)| finder);
    let found_by: Vec<String> = std::iter::once(finder).chain(nodes).map(found_by).collect();
    let found_by = found_by.join("; ");
    format!("| `{}` | {} | {} | {found_by} |\n", canary.name(), canary.description(), canary.source())
}

fn found_by(finder: &Finder) -> String {
    match finder {
        Finder::Seeds { typical: 1, property } => format!("nearly every seed: {property}"),
        Finder::Seeds { typical, property } => format!("one seed in {typical}: {property}"),
        Finder::Nodes { typical, property, .. } => {
            format!("one seed in {typical} of whole nodes: {property}")
        }
        Finder::Liars { typical: 1, property } => format!("PBFT, nearly every seed: {property}"),
        Finder::Liars { typical, property } => format!("PBFT, one seed in {typical}: {property}"),
        Finder::Scenario(name) => format!("scenario `{name}`"),
        Finder::Room(name, _) => format!("room test `{name}`"),
    }
}

#[test]
fn the_page_of_canaries_agrees() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CANARIES.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let rows: String = FINDERS.iter().map(|(canary, finder)| row(*canary, finder)).collect();
    let (head, rest) = text.split_once("| --- |\n").expect("the table's head");
    let head = format!("{head}| --- |\n");
    let tail = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
    let should = format!("{head}{rows}{tail}");
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        std::fs::write(&path, should).unwrap();
        return;
    }
    assert_eq!(text, should, "docs/CANARIES.md is behind: QUORATE_REWRITE=1 writes it");
}
