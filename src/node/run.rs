//! The loop of one core: reap, hand out completions, let each agent work once, park when nothing was done.

use crate::base::{Instant, Number};
use crate::io::driver::Doorbell;
use crate::io::{Agent, Completion, Driver, clock};
use crate::meter::{Metered, Report};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often agents tell their figures.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// An agent that has figures.
pub trait NodeAgent: Agent + Metered {}
impl<T: Agent + Metered> NodeAgent for T {}

/// What one core runs, and what it shares with the rest of the node.
pub struct Core {
    /// In the order of the placement.
    pub agents: Vec<Box<dyn NodeAgent>>,
    /// Wakes the other cores: those that take from rings or read numbers of this one.
    pub neighbours: Vec<Arc<dyn Doorbell>>,
    /// Rises each turn; `/livez` looks at it.
    pub turns: Number,
    /// 1 once the node ends.
    pub stop: Number,
    /// Where the figures go, once a second.
    pub report: Box<dyn FnMut(&[Box<dyn NodeAgent>], &[Duration]) + Send>,
}

/// Runs until `stop` is set.
pub fn run(mut core: Core, driver: &mut dyn Driver) -> io::Result<()> {
    for (slot, agent) in core.agents.iter_mut().enumerate() {
        agent.start(slot as u8, driver)?;
    }
    let mut completions: Vec<Completion> = Vec::new();
    let mut longest = vec![Duration::ZERO; core.agents.len()];
    let mut report_at = Instant::ZERO;
    while core.stop.get() == 0 {
        driver.reap(&mut completions);
        let mut done = completions.len();
        for completion in completions.drain(..) {
            let agent = &mut core.agents[usize::from(completion.token.agent)];
            agent.complete(completion, driver);
        }
        let mut begun = clock::monotonic();
        for (agent, longest) in core.agents.iter_mut().zip(&mut longest) {
            done += agent.work(driver);
            let ended = clock::monotonic();
            *longest = (*longest).max(ended.since(begun));
            begun = ended;
        }
        core.turns.add(1);
        if report_at <= driver.now() {
            report_at = driver.now().after(REPORT_EVERY);
            (core.report)(&core.agents, &longest);
            longest.fill(Duration::ZERO);
        }
        if 0 < done {
            core.neighbours.iter().for_each(|doorbell| doorbell.ring());
        } else {
            let due = core.agents.iter().filter_map(|a| a.deadline()).chain([report_at]).min();
            driver.park(due);
        }
    }
    Ok(())
}

/// Adds what every agent has in common to its own figures.
pub fn report_core(agents: &[Box<dyn NodeAgent>], longest: &[Duration], to: &mut dyn Report) {
    for (agent, longest) in agents.iter().zip(longest) {
        agent.report(to);
        to.gauge(
            "quorate_turn_longest_seconds",
            "Longest turn of an agent within the last second.",
            &[("agent", agent.name())],
            longest.as_secs_f64(),
        );
    }
}
