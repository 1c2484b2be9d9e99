//! The agent that hears clients: accepts, receives, has sessions make plans of what came, and hands batches to the replica.
//!
//! A receive buffer is parsed in place; only what is cut or cannot go on yet is copied. A connection that cannot go on is looked at
//! once a turn (`watched`); one that can costs nothing but its own bytes.

use super::gather::Lingering;
use super::plan::{Flow, Plan, Planned, Settled};
use super::seat::{Hold, Seat};
use super::session::{Desk, Identity, Session, Stop};
use super::{Options, SHARD, View};
use crate::base::Instant;
use crate::base::ring::Producer;
use crate::io::driver::listen_for;
use crate::io::{Agent, Completion, Driver, Fd, Op, Outcome, Token};
use crate::meter::stages::Stage;
use crate::meter::{Metered, Report, latencies};
use crate::wire::hop::Demand;
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Where plans and demands go, and what comes back.
pub struct TakePorts {
    /// To reply.
    pub plans: Producer<Planned>,
    /// To the replica.
    pub demands: Producer<Demand>,
    /// From reply.
    pub settled: Settled,
}

/// The agent. See the module.
pub struct Take {
    desk: Desk,
    ports: TakePorts,
    slot: u8,
    listener: Option<Fd>,
    /// Connections that are accepted and not yet seated. With `open` at most `connections_max`.
    arrivals: VecDeque<Fd>,
    seats: Vec<Option<Seat>>,
    free: Vec<u32>,
    /// Number of seats taken.
    open: usize,
    /// Seats that are looked at every turn; each stands here at most once.
    watched: Vec<u32>,
    /// Lives given so far.
    lives: u32,
    /// Bytes of all seats that are not yet commands.
    rest_bytes: usize,
    /// `Settled::broken` when it was last looked at.
    broken: u64,
    /// When the next connection that does not read is given up, or looked for.
    wake: Option<Instant>,
    /// When connections that do not read are looked for again.
    search_at: Instant,
    /// Why no more connections can be accepted.
    deaf: Option<String>,
    /// Nanoseconds from the first command of a write batch to the batch's leaving.
    receive: Histogram<u64>,
}

/// Of the accept.
const LISTEN: u64 = u64::MAX;
/// How long a connection that is given up is still read from.
const LINGER: Duration = Duration::from_secs(1);
/// Of sends to connections that are refused; the socket stands below.
const REFUSAL: u64 = 1 << 63;
const LIVES: u32 = REFUSAL.wrapping_shr(32) as u32 - 1;
/// How often connections are looked for that do not read.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const TOO_MUCH: &str =
    "OVERLOADED too many bytes of unfinished commands; send smaller commands, or fewer at once";

impl Take {
    /// Listens once it is started.
    pub fn new(options: Options, view: View, ports: TakePorts) -> Take {
        Take {
            desk: Desk::new(options, view),
            ports,
            slot: 0,
            listener: None,
            arrivals: VecDeque::new(),
            seats: Vec::new(),
            free: Vec::new(),
            open: 0,
            watched: Vec::new(),
            lives: 0,
            rest_bytes: 0,
            broken: 0,
            wake: None,
            search_at: Instant::ZERO,
            deaf: None,
            receive: latencies(),
        }
    }

    fn token(&self, index: u32, life: u32) -> Token {
        Token { agent: self.slot, value: u64::from(life) << 32 | u64::from(index) }
    }

    /// Reads what others publish. The memory number is read after the settled numbers: growth is never counted too low.
    fn refresh(&mut self, driver: &mut dyn Driver) {
        let (desk, settled) = (&mut self.desk, &self.ports.settled);
        desk.now = driver.now();
        desk.clock = driver.clock();
        let writes = settled.writes.get();
        desk.gather.lingering = Lingering::of(desk.view.facts.replicas.get());
        desk.gather.settled(writes, settled.reads.get());
        desk.unsent = settled.unsent.get();
        let extent = &desk.view.facts.extent;
        desk.memory = extent.memory.get();
        desk.largest.hear(extent, writes, desk.gather.writes.place().0, desk.gather.pending_growth());
        desk.loading = desk.view.facts.loaded.get() == 0;
    }

    // ---- connections come ---------------------------------------------------------------------------------------

    fn arrive(&mut self, fd: Fd, driver: &mut dyn Driver) {
        if self.desk.draining {
            return driver.submit(Op::Close { fd }, Token { agent: self.slot, value: REFUSAL });
        }
        if self.desk.options.connections_max <= self.open + self.arrivals.len() {
            self.desk.counters.connections_refused += 1;
            let token = Token { agent: self.slot, value: REFUSAL | u64::from(fd.0) };
            return driver.submit(Op::Send { fd, parts: vec![Bytes::from_static(TOO_MANY)] }, token);
        }
        self.arrivals.push_back(fd);
    }

    /// Seats those who have come, as far as reply can hear of them.
    fn seat_arrivals(&mut self, driver: &mut dyn Driver) -> usize {
        let mut seated = 0;
        while !self.arrivals.is_empty() && 0 < self.ports.plans.room() {
            if let Some(fd) = self.arrivals.pop_front() {
                self.seat(fd, driver);
                seated += 1;
            }
        }
        seated
    }

    fn seat(&mut self, fd: Fd, driver: &mut dyn Driver) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.desk.directory.push(None);
            self.seats.len() as u32 - 1
        });
        let flow = Arc::new(Flow::default());
        let plan = Plan::Open { fd, flow: flow.clone() };
        assert!(self.ports.plans.push(Planned { seat: index, plan }).is_ok(), "there was room");
        self.desk.counters.connections += 1;
        self.lives = (self.lives + 1) & LIVES;
        let place = index as usize;
        self.desk.directory[place] = Some(Identity {
            id: self.desk.counters.connections,
            peer: driver.peer_address(fd).unwrap_or_default(),
            local: driver.local_address(fd).unwrap_or_default(),
            since: self.desk.now,
            active: self.desk.now,
            ..Identity::default()
        });
        let session = Session::new(index, flow, self.desk.secret.is_none());
        self.seats[place] = Some(Seat::new(session, fd, self.lives));
        self.open += 1;
        self.follow_up(index, driver);
    }

    // ---- their bytes --------------------------------------------------------------------------------------------

    /// Has a session take what it can: of `fresh` bytes in place, or of those that were left, with the fresh ones behind them.
    fn run(&mut self, index: u32, fresh: &[u8]) {
        let Some(seat) = self.seats[index as usize].as_mut() else { return };
        let before = seat.rest.len();
        // Before the run: an answer that comes meanwhile is news.
        (seat.answered, seat.sent) = (seat.session.flow.answered(), seat.session.flow.sent());
        self.desk.plans_room = self.ports.plans.room();
        self.desk.demands_room = self.ports.demands.room();
        let ran = if seat.rest.is_empty() {
            let ran = seat.session.run(&mut seat.parser, &mut self.desk, fresh);
            seat.rest.append(&fresh[ran.used..]);
            ran
        } else {
            seat.rest.append(fresh);
            let ran = seat.session.run(&mut seat.parser, &mut self.desk, seat.rest.bytes());
            seat.rest.consume(ran.used);
            ran
        };
        seat.stop = ran.stop;
        self.rest_bytes = self.rest_bytes + seat.rest.len() - before;
        self.bound_rest(index);
        self.hand_plans(index);
    }

    /// Unfinished commands of all connections together have a bound: whoever passes it is told so and closed.
    fn bound_rest(&mut self, index: u32) {
        let Some(seat) = self.seats[index as usize].as_mut() else { return };
        let passed = self.desk.options.partial_bytes_max < self.rest_bytes && !seat.rest.is_empty();
        if passed && seat.stop == Stop::Starved && self.desk.plans.len() < self.desk.plans_room {
            self.desk.counters.refused_overload += 1;
            seat.session.give_up(&mut self.desk, TOO_MUCH);
            self.desk.flush_replies();
        }
        if seat.session.closing {
            self.rest_bytes -= seat.rest.len();
            seat.rest.clear();
        }
        if seat.session.astray {
            seat.linger.get_or_insert(self.desk.now.after(LINGER));
        }
    }

    fn hand_plans(&mut self, index: u32) {
        for plan in self.desk.plans.drain(..) {
            assert!(
                self.ports.plans.push(Planned { seat: index, plan }).is_ok(),
                "the session keeps to the room"
            );
        }
    }

    // ---- what follows from where a seat stands ------------------------------------------------------------------

    /// After anything has happened to a seat: ends it, reads from it or not, has it watched or not.
    fn follow_up(&mut self, index: u32, driver: &mut dyn Driver) {
        let place = index as usize;
        let Some(seat) = self.seats[place].as_mut() else { return };
        if seat.session.flow.is_broken() && !seat.finished {
            seat.ended = true;
            self.finish(index, Plan::Abandon);
        } else if seat.is_at_its_end(self.desk.now) && !seat.finished {
            self.finish(index, Plan::Close);
        }
        let Some(seat) = self.seats[place].as_mut() else { return };
        let hold = seat.hold(&self.desk.options, self.ports.settled.unsent.get());
        let over = seat.ended || seat.finished;
        let (token_life, fd) = (seat.life, seat.fd);
        if !over && hold.is_none() && !seat.receiving {
            seat.receiving = true;
            let token = self.token(index, token_life);
            driver.submit(Op::Receive { fd }, token);
        } else if (seat.ended || hold.is_some()) && !seat.finished && seat.receiving && !seat.stopping {
            seat.stopping = true;
            let token = self.token(index, token_life);
            driver.submit(Op::StopReceive { fd }, token);
        }
        self.stall(index, hold);
        if let Some(until) =
            self.seats[place].as_ref().and_then(|seat| seat.linger.filter(|_| !seat.finished))
        {
            self.wake_by(until);
        }
        if let Some(seat) = self.seats[place].as_mut()
            && !seat.watched
            && (seat.waits() || hold.is_some())
        {
            seat.watched = true;
            self.watched.push(index);
        }
    }

    /// Plans the end of a connection; later, when the ring is full.
    fn finish(&mut self, index: u32, plan: Plan) {
        let Some(seat) = self.seats[index as usize].as_mut() else { return };
        if self.ports.plans.push(Planned { seat: index, plan }).is_ok() {
            seat.finished = true;
            self.rest_bytes -= seat.rest.len();
            seat.rest.clear();
        }
    }

    /// Gives a connection up that does not take its replies.
    fn stall(&mut self, index: u32, hold: Option<Hold>) {
        let Some(seat) = self.seats[index as usize].as_mut() else { return };
        if seat.finished {
            return;
        }
        match seat.watch_stall(self.desk.now, hold, &self.desk.options, self.ports.settled.unsent.get()) {
            Some(until) if until <= self.desk.now => {
                self.desk.counters.connections_abandoned += 1;
                self.finish(index, Plan::Abandon);
            }
            Some(until) => self.wake_by(until),
            None => {}
        }
    }

    /// Looks at the seats that wait for something. Returns how much was done.
    fn attend(&mut self, driver: &mut dyn Driver) -> usize {
        let before = self.desk.counters.commands;
        let mut freed = 0;
        for position in 0..self.watched.len() {
            let index = self.watched[position];
            let Some(seat) = self.seats[index as usize].as_mut() else { continue };
            if seat.finished && seat.session.flow.is_gone() {
                self.seats[index as usize] = None;
                self.desk.directory[index as usize] = None;
                self.free.push(index);
                self.open -= 1;
                freed += 1;
                continue;
            }
            if !seat.finished && seat.can_go_on() {
                self.run(index, &[]);
            }
            // Stays in the list unless `follow_up` finds nothing to wait for: it stands in line already.
            self.follow_up(index, driver);
        }
        let seats = &mut self.seats;
        let (options, unsent) = (&self.desk.options, self.ports.settled.unsent.get());
        self.watched.retain(|index| {
            let Some(seat) = seats[*index as usize].as_mut() else { return false };
            seat.watched = seat.waits() || seat.hold(options, unsent).is_some();
            seat.watched
        });
        (self.desk.counters.commands - before) as usize + freed
    }

    /// Finds connections that have broken or do not read while they are silent themselves. All are looked at, so only when some must
    /// be there, and those that do not read once in a while.
    fn search(&mut self, driver: &mut dyn Driver) {
        let unread = self.desk.options.unsent_bytes_max < self.ports.settled.unsent.get();
        let due = unread && self.search_at <= self.desk.now;
        let broken = self.ports.settled.broken.get();
        if due || broken != self.broken {
            self.broken = broken;
            self.search_at = self.desk.now.after(SEARCH_EVERY);
            for index in 0..self.seats.len() as u32 {
                if self.seats[index as usize].as_ref().is_some_and(|seat| !seat.finished && !seat.watched) {
                    self.follow_up(index, driver);
                }
            }
        }
        if unread {
            self.wake_by(self.search_at);
        }
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Nothing more is accepted or read; what has come is answered.
    fn begin_drain(&mut self, driver: &mut dyn Driver) {
        self.desk.draining = true;
        let token = Token { agent: self.slot, value: REFUSAL };
        if let Some(fd) = self.listener.take() {
            driver.submit(Op::Close { fd }, token);
        }
        self.arrivals.drain(..).for_each(|fd| driver.submit(Op::Close { fd }, token));
        for index in 0..self.seats.len() as u32 {
            if let Some(seat) = self.seats[index as usize].as_mut() {
                seat.ended = true;
                self.follow_up(index, driver);
            }
        }
    }

    /// Hands the batches to the replica that are to leave.
    fn hand_demands(&mut self, driver: &dyn Driver) -> usize {
        let desk = &mut self.desk;
        desk.demands.extend(desk.gather.leave_due_writes(desk.now));
        desk.demands.extend(desk.gather.leave_reads());
        let count = desk.demands.len();
        desk.counters.batches += count as u64;
        for mut demand in desk.demands.drain(..) {
            if let Demand::Write { left, .. } = &mut demand {
                let came = std::mem::replace(left, driver.fresh());
                self.receive.saturating_record(left.since(came).as_nanos() as u64);
            }
            assert!(self.ports.demands.push(demand).is_ok(), "the session keeps to the room");
        }
        count
    }

    /// A receive has ended, or brought bytes.
    fn received(&mut self, completion: Completion, driver: &mut dyn Driver) {
        let (index, life) = (completion.token.value as u32, (completion.token.value >> 32) as u32);
        let live = |seat: &&mut Seat| seat.life == life && !seat.finished;
        let seat = self.seats.get_mut(index as usize).and_then(|s| s.as_mut()).filter(live);
        let Some(seat) = seat else {
            // Of a connection that is over, or nearly: nobody is interested.
            if let Outcome::Received { buffer, .. } = completion.outcome {
                driver.recycle(buffer);
            }
            return;
        };
        if completion.last {
            seat.receiving = false;
            seat.stopping = false;
        }
        match completion.outcome {
            Outcome::Received { buffer, len } => {
                self.desk.counters.bytes_in += len as u64;
                if !seat.ended {
                    self.take_in(index, driver.received(buffer, len));
                }
                driver.recycle(buffer);
            }
            Outcome::Closed { stopped: true } => {}
            _ => seat.ended = true,
        }
        self.follow_up(index, driver);
    }

    fn take_in(&mut self, index: u32, bytes: &[u8]) {
        let Some(seat) = self.seats[index as usize].as_mut() else { return };
        if seat.stop == Stop::Starved {
            return self.run(index, bytes);
        }
        // Its turn comes with the others that wait.
        seat.rest.append(bytes);
        self.rest_bytes += bytes.len();
    }
}

impl Agent for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> std::io::Result<()> {
        self.slot = slot;
        self.desk.started = driver.now();
        let listener = listen_for("clients", &self.desk.options.address, driver)?;
        self.listener = Some(listener);
        driver.submit(Op::Accept { listener }, Token { agent: slot, value: LISTEN });
        Ok(())
    }

    fn complete(&mut self, completion: Completion, driver: &mut dyn Driver) {
        self.desk.now = driver.now();
        self.desk.clock = driver.clock();
        let value = completion.token.value;
        match completion.outcome {
            Outcome::Accepted(fd) => self.arrive(fd, driver),
            // The driver goes on by itself after whatever passes.
            Outcome::Failed { error, .. } if value == LISTEN && self.listener.is_some() => {
                self.deaf =
                    Some(format!("clients cannot be accepted any more ({error}); start the node anew"));
            }
            _ if value == LISTEN => {}
            _ if value & REFUSAL != 0 => driver.submit(Op::Close { fd: Fd(value as u32) }, completion.token),
            _ => self.received(completion, driver),
        }
    }

    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        self.refresh(driver);
        self.desk.view.follow();
        if !self.desk.draining && self.desk.view.facts.drain.get() == 1 {
            self.begin_drain(driver);
        }
        let seated = self.seat_arrivals(driver);
        self.wake = None;
        self.search(driver);
        let done = self.attend(driver) + self.hand_demands(driver) + seated;
        self.desk.view.facts.connections.set(self.open as u64);
        if self.desk.draining && self.open == 0 && self.desk.gather.is_settled() {
            self.desk.view.facts.drained.set(1);
        }
        done
    }

    fn deadline(&self) -> Option<Instant> {
        self.wake.into_iter().chain(self.desk.gather.due()).min()
    }

    fn failure(&self) -> Option<String> {
        self.deaf.clone()
    }
}

impl Metered for Take {
    fn report(&self, to: &mut dyn Report) {
        let c = &self.desk.counters;
        let counters = [
            ("quorate_client_connections_total", "Client connections accepted.", c.connections),
            (
                "quorate_client_connections_refused_total",
                "Client connections refused: too many.",
                c.connections_refused,
            ),
            (
                "quorate_client_connections_abandoned_total",
                "Client connections closed because they did not take their replies.",
                c.connections_abandoned,
            ),
            ("quorate_commands_total", "Commands taken from clients.", c.commands),
            ("quorate_write_commands_total", "Commands that went into the log.", c.writes),
            ("quorate_read_commands_total", "Commands that were read by a read index.", c.reads),
            (
                "quorate_read_commands_in_log_total",
                "Reads that followed a write of their connection into the log.",
                c.reads_in_log,
            ),
            ("quorate_batches_total", "Batches of commands handed on.", c.batches),
            ("quorate_client_received_bytes_total", "Bytes received from clients.", c.bytes_in),
            (
                "quorate_client_protocol_errors_total",
                "Connections closed for bytes that are no command.",
                c.protocol_errors,
            ),
            (
                "quorate_commands_refused_memory_total",
                "Commands refused with -OOM by the front.",
                c.refused_memory,
            ),
            (
                "quorate_commands_refused_overload_total",
                "Commands refused with -OVERLOADED by the front.",
                c.refused_overload,
            ),
            ("quorate_authentications_failed_total", "Wrong passwords.", c.authentications_failed),
        ];
        for (name, help, value) in counters {
            to.counter(name, help, &[], value);
        }
        Stage::Receive.report(("shard", SHARD), &self.receive, to);
        to.gauge("quorate_client_connections", "Open client connections.", &[], self.open as f64);
        let unfinished = self.rest_bytes as f64;
        to.gauge("quorate_client_unfinished_bytes", "Bytes that are not yet commands.", &[], unfinished);
        let pending = self.desk.gather.pending_bytes() as f64;
        to.gauge("quorate_client_pending_bytes", "Bytes of commands that wait for answers.", &[], pending);
    }
}
