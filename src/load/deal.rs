//! Which commands of an open loop are whose, and when each is due. A function of their numbers: what is due needs no queue.

use super::plan::Plan;
use crate::base::Instant;

/// Command `i` is due at `i / rate`; `pipeline` commands in a row go to one connection, as many to the next, and so on round.
#[derive(Clone, Copy)]
pub(super) struct Deal {
    /// How many.
    pub connections: u64,
    /// At least 1.
    pub pipeline: u64,
}

impl Deal {
    pub fn of(plan: &Plan) -> Deal {
        Deal { connections: plan.connections as u64, pipeline: plan.pipeline as u64 }
    }
    /// The number of a connection's `nth` command.
    pub fn number(self, connection: u64, nth: u64) -> u64 {
        let round = nth / self.pipeline;
        (round * self.connections + connection) * self.pipeline + nth % self.pipeline
    }
    /// How many commands of a connection have numbers below `due`.
    pub fn fallen(self, connection: u64, due: u64) -> u64 {
        let round = self.connections * self.pipeline;
        let begun = (due % round).saturating_sub(connection * self.pipeline).min(self.pipeline);
        due / round * self.pipeline + begun
    }
}

/// When the command of this number is due.
pub(super) fn intended(start: Instant, number: u64, rate: u64) -> Instant {
    Instant(start.0 + (u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_an_open_loop_is_one_connections() {
        for (connections, pipeline) in [(3, 1), (4, 5), (1, 7), (2, 2)] {
            let deal = Deal { connections, pipeline };
            for due in 0..60 {
                let below = |c| (0..due).filter(move |nth| deal.number(c, *nth) < due);
                let mut numbers: Vec<u64> =
                    (0..connections).flat_map(|c| below(c).map(move |nth| deal.number(c, nth))).collect();
                numbers.sort_unstable();
                assert_eq!(numbers, (0..due).collect::<Vec<_>>());
                (0..connections).for_each(|c| assert_eq!(deal.fallen(c, due), below(c).count() as u64));
            }
        }
    }
}
