//! hedge
use super::plan::{Flow, Plan, Planned, Settled};
use super::session::{Desk, Identity, Session, Stop};
use super::{Options, View};
use crate::base::Instant;
use crate::base::ring::Producer;
use crate::io::{Agent, Completion, Driver, Fd, Op, Outcome, Token};
use crate::meter::{Metered, Report};
use crate::resp::parse::Parser;
use crate::wire::hop::Demand;
use std::sync::Arc;
/// Ports.
pub struct TakePorts {
    /// a
    pub plans: Producer<Planned>,
    /// b
    pub demands: Producer<Demand>,
    /// c
    pub settled: Settled,
}
struct Seat {
    session: Session,
    parser: Parser,
    fd: Fd,
    partial: Vec<u8>,
    stop: Stop,
    ended: bool,
}
/// Take.
pub struct Take {
    desk: Desk,
    ports: TakePorts,
    seats: Vec<Option<Seat>>,
    slot: u8,
    again: Vec<u32>,
}
impl Take {
    /// new
    pub fn new(options: Options, view: View, ports: TakePorts) -> Take {
        Take { desk: Desk::new(options, view), ports, seats: Vec::new(), slot: 0, again: Vec::new() }
    }
    fn rooms(&mut self) {
        self.desk.plans_room = self.ports.plans.room();
        self.desk.demands_room = self.ports.demands.room();
    }
    fn run(&mut self, index: u32, bytes: Option<&[u8]>) {
        self.rooms();
        let Some(seat) = self.seats[index as usize].as_mut() else { return };
        if let (Some(bytes), true) = (bytes, seat.partial.is_empty()) {
            let ran = seat.session.run(&mut seat.parser, &mut self.desk, bytes);
            seat.partial.extend_from_slice(&bytes[ran.used..]);
            seat.stop = ran.stop;
        } else {
            if let Some(bytes) = bytes {
                seat.partial.extend_from_slice(bytes);
            }
            let partial = std::mem::take(&mut seat.partial);
            let ran = seat.session.run(&mut seat.parser, &mut self.desk, &partial);
            seat.partial = partial;
            seat.partial.drain(..ran.used);
            seat.stop = ran.stop;
        }
        if matches!(seat.stop, Stop::Waiting | Stop::Full | Stop::Budget) {
            self.again.push(index);
        }
        let closing = seat.session.closing;
        for plan in self.desk.plans.drain(..) {
            assert!(self.ports.plans.push(Planned { seat: index, plan }).is_ok());
        }
        if closing && !seat.ended {
            seat.ended = true;
            let _ = self.ports.plans.push(Planned { seat: index, plan: Plan::Close });
        }
    }
}
impl Agent for Take {
    fn name(&self) -> &'static str {
        "take"
    }
    fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> std::io::Result<()> {
        self.slot = slot;
        let listener = driver.listen(&self.desk.options.address)?;
        driver.submit(Op::Accept { listener }, Token { agent: slot, value: u64::MAX });
        Ok(())
    }
    fn complete(&mut self, c: Completion, driver: &mut dyn Driver) {
        match c.outcome {
            Outcome::Accepted(fd) => {
                let index = self.seats.iter().position(|s| s.is_none()).unwrap_or(self.seats.len());
                if index == self.seats.len() {
                    self.seats.push(None);
                    self.desk.directory.push(None);
                }
                let flow = Arc::new(Flow::default());
                self.desk.directory[index] = Some(Identity::default());
                self.seats[index] = Some(Seat {
                    session: Session::new(index as u32, flow.clone(), true),
                    parser: Parser::new(),
                    fd,
                    partial: Vec::new(),
                    stop: Stop::Starved,
                    ended: false,
                });
                let _ = self.ports.plans.push(Planned { seat: index as u32, plan: Plan::Open { fd, flow } });
                driver.submit(Op::Receive { fd }, Token { agent: self.slot, value: index as u64 });
            }
            Outcome::Received { buffer, len } => {
                self.desk.memory = self.desk.view.facts.memory.get();
                let index = c.token.value as u32;
                let bytes = driver.received(buffer, len);
                self.run(index, Some(bytes));
                driver.recycle(buffer);
                if c.last {
                    if let Some(seat) = &self.seats[index as usize] {
                        driver.submit(
                            Op::Receive { fd: seat.fd },
                            Token { agent: self.slot, value: index as u64 },
                        );
                    }
                }
            }
            Outcome::Closed { .. } | Outcome::Failed { .. } => {
                let index = c.token.value as usize;
                if let Some(seat) = self.seats.get_mut(index).and_then(|s| s.as_mut()) {
                    if !seat.ended {
                        seat.ended = true;
                        seat.session.closing = true;
                        let _ = self.ports.plans.push(Planned { seat: index as u32, plan: Plan::Close });
                    }
                }
            }
            _ => {}
        }
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        self.desk.now = driver.now();
        let again = std::mem::take(&mut self.again);
        let mut done = 0;
        for index in again {
            let before = self.desk.counters.commands;
            self.run(index, None);
            done += (self.desk.counters.commands - before) as usize;
        }
        for seat in &mut self.seats {
            if seat.as_ref().is_some_and(|s| s.ended && s.session.flow.is_gone()) {
                *seat = None;
            }
        }
        self.desk.gather.settled(self.ports.settled.writes.get(), self.ports.settled.reads.get());
        let d = std::mem::take(&mut self.desk.demands);
        for demand in
            d.into_iter().chain(self.desk.gather.leave_writes()).chain(self.desk.gather.leave_reads())
        {
            done += 1;
            assert!(self.ports.demands.push(demand).is_ok());
        }
        if self.desk.view.facts.drain.get() == 1 {
            self.desk.view.facts.drained.set(1);
        }
        done
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
impl Metered for Take {
    fn report(&self, to: &mut dyn Report) {
        to.counter("quorate_commands_total", "c", &[], self.desk.counters.commands);
    }
}
