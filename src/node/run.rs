//! The loop of one core: reap, hand out completions, let each agent work once, park when nothing was done.

use super::agent::NodeAgent;
use super::watch::Watch;
use crate::base::{Instant, Number, place};
use crate::io::driver::Doorbell;
use crate::io::patience::patiently;
use crate::io::{Completion, Driver, clock};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often agents tell their figures.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What one core runs, and what it shares with the rest of the node.
pub struct Core {
    /// In the order of the placement.
    pub agents: Vec<Box<dyn NodeAgent>>,
    /// Places of those that have begun already (`ahead`).
    pub begun: Vec<usize>,
    /// Wakes the other cores: those that take from rings or read numbers of this one.
    pub neighbours: Vec<Arc<dyn Doorbell>>,
    /// Tells operators what happens here.
    pub watch: Watch,
    /// 1 once the node ends.
    pub stop: Number,
}

/// Why a core ended otherwise than by `stop`.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// An agent could not begin.
    #[error("{agent}: {error}")]
    Start {
        /// Which.
        agent: &'static str,
        /// Why.
        error: io::Error,
    },
    /// An agent cannot go on: half a node must not live on.
    #[error("{agent}: {why}")]
    Failed {
        /// Which.
        agent: &'static str,
        /// Why, and the cure.
        why: String,
    },
}

/// Begins an agent at its place.
pub(super) fn start(
    slot: usize,
    agent: &mut dyn NodeAgent,
    driver: &mut dyn Driver,
) -> Result<(), CoreError> {
    let name = agent.name();
    place::enter_agent(name);
    patiently(|| agent.start(slot as u8, driver)).map_err(|error| CoreError::Start { agent: name, error })
}

/// Runs until `stop` is set. `started` is called once all agents have begun.
pub fn run(mut core: Core, driver: &mut dyn Driver, started: impl FnOnce()) -> Result<(), CoreError> {
    for (slot, agent) in core.agents.iter_mut().enumerate().filter(|(slot, _)| !core.begun.contains(slot)) {
        start(slot, agent.as_mut(), driver)?;
    }
    started();
    let mut completions: Vec<Completion> = Vec::new();
    let mut report_at = Instant::ZERO;
    while core.stop.get() == 0 {
        driver.reap(&mut completions);
        let mut done = completions.len();
        for completion in completions.drain(..) {
            let agent = &mut core.agents[usize::from(completion.token.agent)];
            place::enter_agent(agent.name());
            agent.complete(completion, driver);
        }
        let mut begun = clock::monotonic();
        for (index, agent) in core.agents.iter_mut().enumerate() {
            place::enter_agent(agent.name());
            done += agent.work(driver);
            let ended = clock::monotonic();
            core.watch.turn(index, ended.since(begun));
            begun = ended;
        }
        core.watch.beat();
        if let Some((agent, why)) = core.agents.iter().find_map(|a| Some((a.name(), a.failure()?))) {
            return Err(CoreError::Failed { agent, why });
        }
        if report_at <= driver.now() {
            report_at = driver.now().after(REPORT_EVERY);
            core.watch.report(&core.agents, driver);
        }
        if 0 < done {
            core.watch.look();
            core.neighbours.iter().for_each(|doorbell| doorbell.ring());
        } else {
            driver.park(core.agents.iter().filter_map(|a| a.deadline()).chain([report_at]).min());
        }
    }
    Ok(())
}
