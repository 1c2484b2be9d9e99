//! The native client between the rings of a process: in the place that the replica has in a node.

use super::core::{Core, Counters};
use crate::base::ring::{Consumer, Producer};
use crate::base::{Instant, Number};
use crate::io::{Agent, Driver};
use crate::meter::{Metered, Report};
use crate::protocol::pbft::Lineage;
use crate::wire::hop::{Answer, Demand, Opened, Outgoing};
use crate::wire::roster::{Roll, Roster};
use crate::wire::{Message, pbft};
use std::collections::VecDeque;
use std::time::Duration;

/// Most values of each ring in a turn.
const BURST_MAX: usize = 256;
/// How long to wait when a ring is full: whoever drains it may not wake us.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// The ends of the rings that meet in this agent, and its numbers.
pub struct Ports {
    /// From `front::take`.
    pub demands: Consumer<Demand>,
    /// From `auth::open`.
    pub opened: Consumer<Opened>,
    /// To `auth::seal`.
    pub outgoing: Producer<Outgoing>,
    /// To `front::reply`.
    pub answers: Producer<Answer>,
    /// Heard: 1 once the process is to end.
    pub drain: Number,
    /// Published: 1 when it is to end and everything is answered.
    pub drained: Number,
    /// Published: who is in the group, as far as this client knows.
    pub roster: Roster,
    /// Published: how many they are.
    pub replicas: Number,
}

/// See the module.
pub struct ClientAgent {
    core: Core,
    ports: Ports,
    answers_waiting: VecDeque<Answer>,
    dropped: u64,
    /// Answers found no room then.
    blocked_at: Option<Instant>,
}

impl ClientAgent {
    /// Around a core that has begun nothing.
    pub fn new(core: Core, ports: Ports) -> ClientAgent {
        ports.replicas.set(core.lineage().latest().members.len() as u64);
        ClientAgent { core, ports, answers_waiting: VecDeque::new(), dropped: 0, blocked_at: None }
    }

    /// One bounded turn.
    pub fn turn(&mut self, now: Instant) -> usize {
        let mut count = self.hand_over();
        self.blocked_at = (!self.answers_waiting.is_empty()).then_some(now);
        if self.blocked_at.is_some() {
            return count;
        }
        for _ in 0..BURST_MAX {
            let Some(opened) = self.ports.opened.pop() else { break };
            match opened.message {
                Message::Forward(message) => self.core.receive(now, opened.from, message),
                Message::Pbft(pbft::Message::Charter(charter)) => self.core.chartered(now, &charter),
                _ => (),
            }
            count += 1;
        }
        for _ in 0..BURST_MAX {
            if !self.core.has_room() {
                break;
            }
            let Some(demand) = self.ports.demands.pop() else { break };
            self.core.demand(now, demand);
            count += 1;
        }
        if self.core.deadline() <= now {
            self.core.timeout(now);
            count += 1;
        }
        self.tell_members();
        let is_drained = self.ports.drain.get() != 0 && self.core.is_empty() && self.ports.demands.is_empty();
        self.ports.drained.set(is_drained.into());
        count + self.hand_over()
    }

    /// Lets the other agents know when other members are in force.
    fn tell_members(&mut self) {
        let (lineage, known) = (self.core.lineage(), self.ports.roster.latest());
        if known.membership.epoch != lineage.latest().epoch {
            self.ports.replicas.set(lineage.latest().members.len() as u64);
            self.ports.roster.put(roll(&known, lineage));
        }
    }

    fn hand_over(&mut self) -> usize {
        let mut count = 0;
        for outgoing in self.core.outgoing.drain(..) {
            // Delivery is weak by contract: what is not answered goes again.
            self.dropped += u64::from(self.ports.outgoing.push(outgoing).is_err());
            count += 1;
        }
        self.answers_waiting.extend(self.core.answers.drain(..));
        while let Some(answer) = self.answers_waiting.pop_front() {
            if let Err(answer) = self.ports.answers.push(answer) {
                self.answers_waiting.push_front(answer);
                break;
            }
            count += 1;
        }
        count
    }
}

/// What is known of the group now.
fn roll(before: &Roll, lineage: &Lineage) -> Roll {
    let base = lineage.charters().last().map_or(before.base, |charter| charter.vote);
    Roll { membership: lineage.latest().clone(), base, ..before.clone() }
}

impl Agent for ClientAgent {
    fn name(&self) -> &'static str {
        "client"
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        self.turn(driver.now())
    }
    fn deadline(&self) -> Option<Instant> {
        Some(self.blocked_at.map_or_else(|| self.core.deadline(), |at| at.after(FULL_PAUSE)))
    }
}

impl Metered for ClientAgent {
    fn report(&self, to: &mut dyn Report) {
        let Counters { answered, indeterminate, again, fast, fallen_back, contradicted, of_other_epochs } =
            self.core.counters();
        for (name, help, value) in [
            ("quorate_client_answered_total", "Batches answered by enough equal replies.", answered),
            ("quorate_client_indeterminate_total", "Batches whose outcome is unknown.", indeterminate),
            ("quorate_client_again_total", "Batches that were sent again, to all.", again),
            ("quorate_client_fast_reads_total", "Reads answered without being ordered.", fast),
            ("quorate_client_fallen_back_total", "Reads that had to be ordered after all.", fallen_back),
            (
                "quorate_client_contradicted_total",
                "Replies that were not what enough others said.",
                contradicted,
            ),
            (
                "quorate_client_other_epochs_total",
                "Replies about another epoch than this client was in.",
                of_other_epochs,
            ),
            ("quorate_client_dropped_total", "Messages that found the ring full.", self.dropped),
        ] {
            to.counter(name, help, &[], value);
        }
    }
}
