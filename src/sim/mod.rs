//! The simulated world: real shards and real cores around a network, disks and clocks that obey a seed. A run is a function of its
//! seed, so whatever a run finds can be run again.
//!
//! - [`World`]: many nodes under random faults, then healed; its checkers are in [`check`], one file a property.
//! - [`liars`]: what corrupted replicas do in it. [`twins`]: two replicas with one name, in short stories by the hundred thousand.
//! - [`Script`]: the scenario language, in which everything is explicit.
//! - [`Swarm`]: which faults and limits a seed stands for.
//! - [`history`]: whether what clients saw, here or of a real cluster, is linearizable.
//!
//! The network drops, delays, repeats and reorders; it never forges. A disk finishes writes in any order; a crash keeps what was
//! acknowledged and any prefix of the rest.

pub mod adversary;
pub mod check;
pub mod coverage;
pub mod disk;
pub mod full;
pub mod history;
pub mod host;
pub mod liars;
pub mod machine;
pub mod network;
pub mod options;
pub mod outside;
pub mod ranges;
pub mod render;
pub mod script;
pub mod shrink;
pub mod swarm;
pub mod sweep;
pub mod table;
pub mod twins;
pub mod violation;
pub mod world;

pub use adversary::Adversary;
pub use coverage::{Coverage, Reached};
pub use options::{Fault, Faults, Level, Options, ProtocolName};
pub use script::Script;
pub use swarm::Swarm;
pub use violation::Violation;
pub use world::{Outcome, World};

#[cfg(feature = "canaries")]
use crate::base::canary;
use crate::base::canary::Canary;
use std::time::Duration;

/// One run: what `seed` and `options` stand for, and nothing else.
///
/// # Panics
/// When a canary is asked for in a build without the feature `canaries`.
pub fn run(seed: u64, options: &Options) -> Result<Outcome, Violation> {
    catch(options, || match options.level {
        Level::One if options.twins => a_story_of_twins(seed, options),
        Level::One => World::run(seed, options),
        Level::Two => whole_nodes(seed, options),
    })
}

/// The scenario of this number.
fn a_story_of_twins(number: u64, options: &Options) -> Outcome {
    let story = twins::Scenario::numbered(number, options.nodes.unwrap_or(twins::NODES)).run();
    Outcome {
        transcript: story.transcript,
        events: story.letters,
        committed: story.executed,
        ..Outcome::default()
    }
}

/// A run of level 2.
fn whole_nodes(seed: u64, options: &Options) -> Outcome {
    outcome_of(&full::World::run_swarm(seed, full::Swarm::of(seed, options), options.events))
}
/// What only level 2 counts is left out.
fn outcome_of(came_to: &full::Outcome) -> Outcome {
    Outcome {
        transcript: came_to.transcript,
        events: came_to.events,
        simulated: Duration::from_nanos(came_to.simulated),
        committed: came_to.committed,
        acknowledged: came_to.acknowledged,
        reads: came_to.reads,
        lives: came_to.lives,
        coverage: came_to.coverage,
        ..Outcome::default()
    }
}

/// The same run; `line` is called with each input and each effect.
pub fn run_traced(
    seed: u64,
    options: &Options,
    line: impl FnMut(&str) + 'static,
) -> Result<Outcome, Violation> {
    catch(options, || match options.level {
        Level::One => World::run_traced(seed, options, line),
        Level::Two => {
            let swarm = full::Swarm::of(seed, options);
            outcome_of(&full::World::run_traced(seed, swarm, options.events, line))
        }
    })
}

fn catch(options: &Options, play: impl FnOnce() -> Outcome) -> Result<Outcome, Violation> {
    violation::catch(|| match options.canary {
        None => play(),
        Some(bug) => with(bug, play),
    })
}

#[cfg(feature = "canaries")]
fn with<T>(bug: Canary, body: impl FnOnce() -> T) -> T {
    canary::with(bug, body)
}
#[cfg(not(feature = "canaries"))]
fn with<T>(bug: Canary, _: impl FnOnce() -> T) -> T {
    panic!("{}: this build has no canaries", bug.name())
}
