//! How long the turns of agents take. A turn that is too long starves every other agent of its core: the longest is a gauge, and
//! the run loop makes an event of those above its limit.

use super::{Metered, Report};
use std::time::Duration;

/// The longest turns of the agents of one core. The run loop notes each turn, and begins a new window at each report.
pub struct Turns {
    agents: Vec<Longest>,
}

struct Longest {
    agent: &'static str,
    /// Of the window so far, in nanoseconds.
    window: u64,
    /// Of the node's life. Invariant: `window <= ever`.
    ever: u64,
}

impl Turns {
    /// For these agents, named in the order of their turns.
    pub fn new(agents: &[&'static str]) -> Turns {
        Turns { agents: agents.iter().map(|agent| Longest { agent, window: 0, ever: 0 }).collect() }
    }

    /// The agent at `index` has taken a turn this long. For the hot path: two comparisons.
    pub fn note(&mut self, index: usize, took: Duration) {
        let nanos = took.as_nanos() as u64;
        let longest = &mut self.agents[index];
        longest.window = longest.window.max(nanos);
        longest.ever = longest.ever.max(nanos);
    }

    /// The agent with the longest turn of the window, if any took `limit` or longer.
    pub fn stall(&self, limit: Duration) -> Option<(&'static str, Duration)> {
        let worst = self.agents.iter().max_by_key(|longest| longest.window)?;
        let took = Duration::from_nanos(worst.window);
        (limit <= took).then_some((worst.agent, took))
    }

    /// Begins a new window.
    pub fn begin_window(&mut self) {
        self.agents.iter_mut().for_each(|longest| longest.window = 0);
    }
}

impl Metered for Turns {
    fn report(&self, to: &mut dyn Report) {
        let help = "Longest turn of an agent since the last report.";
        for longest in &self.agents {
            let seconds = longest.window as f64 / 1e9;
            to.gauge("quorate_turn_longest_seconds", help, &[("agent", longest.agent)], seconds);
        }
        let help = "Longest turn of an agent since the start.";
        for longest in &self.agents {
            let seconds = longest.ever as f64 / 1e9;
            to.gauge("quorate_turn_longest_ever_seconds", help, &[("agent", longest.agent)], seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Figures;

    #[test]
    fn the_longest_turn_of_a_window_is_told_and_forgotten_with_it() {
        let mut turns = Turns::new(&["log", "store"]);
        turns.note(0, Duration::from_millis(3));
        turns.note(1, Duration::from_millis(20));
        turns.note(1, Duration::from_millis(1));
        assert_eq!(turns.stall(Duration::from_millis(10)), Some(("store", Duration::from_millis(20))));
        turns.begin_window();
        assert_eq!(turns.stall(Duration::from_millis(10)), None);
        let mut figures = Figures::new(&[]);
        turns.report(&mut figures);
        let text = figures.to_prometheus();
        assert!(text.contains("quorate_turn_longest_seconds{agent=\"store\"} 0\n"), "{text}");
        assert!(text.contains("quorate_turn_longest_ever_seconds{agent=\"store\"} 0.02\n"), "{text}");
    }
}
