//! What a core does before the node has read its state back: the agents that need none of it run ahead of the others. So a client that
//! comes early finds an open port and is told that the node is loading (`-LOADING`), which it knows how to wait for.

use super::agent::NodeAgent;
use super::run::{Core, CoreError, start};
use crate::base::place;
use crate::io::{Completion, Driver};
use crossbeam::channel::{Receiver, TryRecvError};

/// An agent that runs ahead, and its place on its core.
pub(super) type Ahead = (usize, Box<dyn NodeAgent>);

/// Runs these agents until their core is handed over whole; puts them at their places in it. `None` when the node ends before. Who
/// hands over or ends the node rings this driver's doorbell.
pub(super) fn run(
    mut agents: Vec<Ahead>,
    whole: &Receiver<Core>,
    driver: &mut dyn Driver,
) -> Result<Option<Core>, CoreError> {
    for (slot, agent) in &mut agents {
        start(*slot, agent.as_mut(), driver)?;
    }
    let mut completions: Vec<Completion> = Vec::new();
    loop {
        match whole.try_recv() {
            Ok(core) => return Ok(Some(merge(core, agents))),
            Err(TryRecvError::Disconnected) => return Ok(None),
            Err(TryRecvError::Empty) => {}
        }
        driver.reap(&mut completions);
        let mut done = completions.len();
        for completion in completions.drain(..) {
            let of_it = |(slot, _): &&mut Ahead| *slot == usize::from(completion.token.agent);
            let (_, agent) = agents.iter_mut().find(of_it).expect("only these have asked for anything");
            place::enter_agent(agent.name());
            agent.complete(completion, driver);
        }
        for (_, agent) in &mut agents {
            place::enter_agent(agent.name());
            done += agent.work(driver);
            if let Some(why) = agent.failure() {
                return Err(CoreError::Failed { agent: agent.name(), why });
            }
        }
        if done == 0 {
            driver.park(agents.iter().filter_map(|(_, agent)| agent.deadline()).min());
        }
    }
}

/// What they have begun goes on at the same places: operations under way are named by them.
fn merge(mut core: Core, mut agents: Vec<Ahead>) -> Core {
    agents.sort_by_key(|(slot, _)| *slot);
    for (slot, agent) in agents {
        core.agents.insert(slot, agent);
        core.begun.push(slot);
    }
    core
}
