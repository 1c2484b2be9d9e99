//! The load generator: one thread, one ring, many connections. Its principal function is [`generate`].
//!
//! Closed loop: each connection keeps `in_flight` commands outstanding and sends as many as were just answered, in one send.
//! Open loop: command `i` is due at `i / rate`, on connection `i / pipeline mod connections`, and its latency counts from then whether it
//! could be sent or not - a stalled server is charged for what it kept waiting (no coordinated omission). What is due needs no queue:
//! it follows from the clock.

use super::connection::{Connection, State};
use super::deal::{Deal, intended};
use super::etcd::Session;
use super::plan::Plan;
use super::record::{Recorder, TICK};
use super::reply::{Answer, Errors, ReplyReader};
use super::witness::{Testimony, Witness};
use super::workload::Workload;
use crate::base::Instant;
use crate::io::driver::{Completion, Driver, Fd, Op, Outcome, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Connections must stand within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// After the end of the load, answers are waited for this long.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// A lost connection is made anew after this time.
const RECONNECT_AFTER: Duration = Duration::from_millis(10);
/// In an open loop, what falls due within this time is sent together, and the wait is part of its latency: a finer pace would measure
/// the generator's system calls, which take the nodes' cores on a small machine.
const PACE: Duration = Duration::from_micros(200);

/// The name of every operation is its connection; sends have this bit set.
const SENDING: u64 = 1 << 32;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Nobody answers.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        source: std::io::Error,
    },
    /// The password or the command was refused before the load began.
    #[error("{endpoint} refuses the password: {text}")]
    Password {
        /// Who.
        endpoint: String,
        /// What it said.
        text: String,
    },
    /// It is no server of ours.
    #[error("{endpoint}: {source}")]
    Reply {
        /// Who.
        endpoint: String,
        /// What is wrong.
        source: super::reply::NotResp,
    },
    /// Ctrl-C, or the process was told to end.
    #[error("interrupted: there is no result")]
    Interrupted,
}

/// Where a load stands; an observer hears of each once, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// All connections stand.
    WarmUp,
    /// What is sent from now on counts.
    Measure,
    /// Nothing more is sent.
    Drain,
    /// All is answered, or given up.
    Done,
}

/// Hears how a load goes on; on the generator's thread, so it must be quick.
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, phase: Phase);
    /// Part of the measured time is over, in thousandths, and this many commands a second were answered in the last tick.
    fn progress(&mut self, thousandths: u64, per_second: u64);
    /// Whether the user wants it to end: asked at least once a tick.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// When the leader was killed (nanoseconds of the monotonic clock); zero while it lives.
pub type KilledAt = Arc<AtomicU64>;

/// What a load has found.
pub struct Measured {
    /// Latencies and timeline.
    pub recorder: Recorder,
    /// Commands answered without an error within the measured time.
    pub ok: u64,
    /// Commands answered with an error.
    pub errors: u64,
    /// Commands whose outcome is unknown.
    pub indeterminate: u64,
    /// The errors' texts.
    pub texts: Errors,
    /// Connections lost.
    pub lost: u64,
    /// From the kill to the first answer to a command sent after it.
    pub recovery: Option<Duration>,
    /// Keys that anything was asked of, rising; known only where there is a witness.
    pub touched: Vec<u64>,
}

pub(super) struct Generator<'a> {
    pub(super) driver: &'a mut dyn Driver,
    plan: &'a Plan,
    endpoints: &'a [String],
    workload: Workload,
    connections: Vec<Connection>,
    measured: Measured,
    killed_at: KilledAt,
    /// When the load began, and between which times it counts. Known once all connections stand.
    start: Instant,
    measure: Instant,
    end: Instant,
    tick_ends: Instant,
    /// Commands that have fallen due (open loop).
    due: u64,
    ready: usize,
    /// Connections with something to send.
    dirty: Vec<usize>,
    retries: Vec<(Instant, usize)>,
    testimony: Option<Testimony<'a>>,
}

/// Runs `plan` against `endpoints`, on the calling thread. The driver is this load's own: closed connections leave completions in it.
/// A witness hears of every command, also of those that are not measured.
pub fn generate(
    driver: &mut dyn Driver,
    plan: &Plan,
    endpoints: &[String],
    killed_at: KilledAt,
    observer: &mut dyn Observer,
    witness: Option<&mut dyn Witness>,
) -> Result<Measured, GenerateError> {
    assert!(plan.check().is_ok(), "plans are checked where they come from");
    assert!(!endpoints.is_empty());
    let testimony = witness.map(|witness| Testimony::new(witness, plan.connections));
    let mut generator = Generator::new(driver, plan, endpoints, killed_at, testimony);
    let connected = generator.connect();
    if let Err(error) = connected {
        generator.close();
        return Err(error);
    }
    let outcome = generator.run(observer);
    generator.close();
    outcome.map(|()| generator.measured)
}

impl<'a> Generator<'a> {
    fn new(
        driver: &'a mut dyn Driver,
        plan: &'a Plan,
        endpoints: &'a [String],
        killed_at: KilledAt,
        testimony: Option<Testimony<'a>>,
    ) -> Generator<'a> {
        let measured = Measured {
            recorder: Recorder::default(),
            ok: 0,
            errors: 0,
            indeterminate: 0,
            texts: Errors::new(),
            lost: 0,
            recovery: None,
            touched: Vec::new(),
        };
        let mut connections: Vec<Connection> =
            (0..plan.connections).map(|index| Connection::new(index, endpoints.len())).collect();
        connections.iter_mut().for_each(|connection| connection.replies = reader(&testimony));
        Generator {
            driver,
            plan,
            endpoints,
            workload: Workload::new(plan, 0),
            connections,
            measured,
            killed_at,
            start: Instant(u64::MAX),
            measure: Instant(u64::MAX),
            end: Instant(u64::MAX),
            tick_ends: Instant(u64::MAX),
            due: 0,
            ready: 0,
            dirty: Vec::new(),
            retries: Vec::new(),
            testimony,
        }
    }

    /// Makes all connections, and sends the password on them.
    fn connect(&mut self) -> Result<(), GenerateError> {
        (0..self.connections.len()).for_each(|index| self.dial(index));
        let mut completions = Vec::new();
        self.driver.reap(&mut completions);
        let limit = self.driver.now().after(CONNECT_WITHIN);
        loop {
            self.take(&mut completions)?;
            if self.ready == self.connections.len() {
                return Ok(());
            }
            if limit <= self.driver.now() {
                let waiting = self.connections.iter().find(|connection| connection.state != State::Ready);
                let endpoint = waiting.map_or(0, |connection| connection.endpoint);
                let source = std::io::ErrorKind::TimedOut.into();
                return Err(GenerateError::Connect { endpoint: self.endpoints[endpoint].clone(), source });
            }
            self.flush();
            self.driver.park(Some(limit));
            self.driver.reap(&mut completions);
        }
    }

    fn run(&mut self, observer: &mut dyn Observer) -> Result<(), GenerateError> {
        self.start = self.driver.now();
        self.measure = self.start.after(self.plan.warm_up);
        self.end = self.measure.after(self.plan.duration);
        self.tick_ends = self.measure.after(TICK);
        let mut phase = Phase::WarmUp;
        observer.phase(phase);
        (0..self.connections.len()).for_each(|index| self.issue(index));
        let mut completions = Vec::new();
        loop {
            self.flush();
            self.driver.park(Some(self.wake_at(phase)));
            self.driver.reap(&mut completions);
            let now = self.driver.now();
            if observer.is_interrupted() {
                return Err(GenerateError::Interrupted);
            }
            phase = self.advance(phase, now, observer);
            self.take(&mut completions)?;
            match phase {
                Phase::Drain if self.end.after(DRAIN_WITHIN) <= now => break,
                // What fell due before the end is still sent: leaving it out would spare a slow server its worst latencies.
                _ => self.fall_due(now),
            }
            if phase == Phase::Drain && self.is_quiet() {
                break;
            }
            self.redial();
        }
        let unanswered: usize = self.connections.iter().map(|connection| connection.outstanding).sum();
        self.measured.indeterminate += unanswered as u64;
        if let Some(testimony) = &mut self.testimony {
            let now = self.driver.now();
            (0..self.connections.len()).for_each(|index| testimony.lost(&self.workload, index, now));
            self.measured.touched = testimony.touched();
        }
        let unsent: u64 = (0..self.connections.len()).map(|index| self.unsent(index)).sum();
        if 0 < unsent {
            self.measured.errors += unsent;
            self.measured
                .texts
                .insert("fell due and was never sent: the server was too slow".to_string(), unsent);
        }
        self.measured.recorder.finish();
        observer.phase(Phase::Done);
        Ok(())
    }

    /// When to look again although nothing has come.
    fn wake_at(&self, phase: Phase) -> Instant {
        let tick = match phase {
            Phase::WarmUp => self.measure,
            Phase::Measure => self.tick_ends.min(self.end),
            _ => self.end.after(DRAIN_WITHIN),
        };
        let due = match self.plan.rate {
            Some(rate) if phase != Phase::Drain => {
                let paced = self.driver.now().after(PACE);
                intended(self.start, self.due, rate).max(paced)
            }
            _ => tick,
        };
        let retry = self.retries.iter().map(|(at, _)| *at).min().unwrap_or(tick);
        tick.min(due).min(retry).min(self.driver.now().after(TICK))
    }

    /// Ends ticks and phases that are over.
    fn advance(&mut self, phase: Phase, now: Instant, observer: &mut dyn Observer) -> Phase {
        let mut phase = phase;
        if phase == Phase::WarmUp && self.measure <= now {
            phase = Phase::Measure;
            observer.phase(phase);
        }
        while phase == Phase::Measure && self.tick_ends <= now && self.tick_ends <= self.end {
            self.measured.recorder.end_tick();
            let done = self.tick_ends.since(self.measure).as_millis() as u64;
            let last = self.measured.recorder.ticks().last().map_or(0, |tick| tick.ok);
            let thousandths = done * 1000 / self.plan.duration.as_millis().max(1) as u64;
            observer.progress(thousandths.min(1000), last * 1000 / TICK.as_millis() as u64);
            self.tick_ends = self.tick_ends.after(TICK);
        }
        if phase == Phase::Measure && self.end <= now {
            phase = Phase::Drain;
            observer.phase(phase);
        }
        phase
    }

    fn is_quiet(&self) -> bool {
        let mut connections = self.connections.iter().enumerate();
        connections.all(|(index, connection)| connection.outstanding == 0 && self.unsent(index) == 0)
    }

    /// Commands of a connection that have fallen due and were not sent.
    fn unsent(&self, index: usize) -> u64 {
        let deal = Deal::of(self.plan);
        deal.fallen(index as u64, self.due).saturating_sub(self.connections[index].issued)
    }

    fn take(&mut self, completions: &mut Vec<Completion>) -> Result<(), GenerateError> {
        for completion in completions.drain(..) {
            let index = (completion.token.value & (SENDING - 1)) as usize;
            let sending = completion.token.value & SENDING != 0;
            match completion.outcome {
                Outcome::Connected(fd) => self.connected(index, fd),
                Outcome::Received { buffer, len } => {
                    let connection = &mut self.connections[index];
                    let bytes = self.driver.received(buffer, len);
                    let replies = connection.take(bytes, &mut self.measured.texts);
                    self.driver.recycle(buffer);
                    let endpoint = || self.endpoints[connection.endpoint].clone();
                    let replies =
                        replies.map_err(|source| GenerateError::Reply { endpoint: endpoint(), source })?;
                    self.answered(index, replies)?;
                    // The protocol may have something to say of its own.
                    self.soil(index);
                }
                Outcome::Sent { parts, .. } => {
                    let connection = &mut self.connections[index];
                    (connection.sending, connection.parts) = (false, parts);
                    self.soil(index);
                }
                // The receive of a broken connection ends too, and that is what says so. What was written since waits for this.
                Outcome::Failed { .. } if sending => {
                    self.connections[index].sending = false;
                    self.soil(index);
                }
                Outcome::Closed { .. } => self.lost(index, None)?,
                Outcome::Failed { error, .. } => self.lost(index, Some(error))?,
                _ => unreachable!("only sockets are asked for"),
            }
        }
        Ok(())
    }

    /// Writes commands until the connection has as many outstanding as it may, or as are due.
    pub(super) fn issue(&mut self, index: usize) {
        let now = self.driver.now();
        let connection = &mut self.connections[index];
        if connection.state != State::Ready {
            return;
        }
        let (key_bytes, value_bytes) = (self.workload.key_bytes(), self.plan.value_bytes);
        let free = self.plan.in_flight - connection.outstanding;
        let room = connection.etcd.as_ref().map_or(free, |etcd| free.min(etcd.room(key_bytes, value_bytes)));
        let deal = Deal::of(self.plan);
        match self.plan.rate {
            None if self.end <= now => return,
            None => {
                for _ in 0..room {
                    let asked = connection.write(&mut self.workload);
                    if let Some(testimony) = &mut self.testimony {
                        testimony.asks(index, now, asked);
                    }
                }
                connection.expect(now, room);
            }
            Some(rate) => {
                for _ in 0..room {
                    let number = deal.number(index as u64, connection.issued);
                    if self.due <= number {
                        break;
                    }
                    let asked = connection.write(&mut self.workload);
                    if let Some(testimony) = &mut self.testimony {
                        testimony.asks(index, now, asked);
                    }
                    connection.expect(intended(self.start, number, rate), 1);
                    connection.issued += 1;
                }
            }
        }
        self.soil(index);
    }

    /// Open loop: what has fallen due since the last turn is issued.
    fn fall_due(&mut self, now: Instant) {
        let Some(rate) = self.plan.rate else { return };
        // Commands whose time is at or before `now`, and before `end`: `i / rate <= elapsed`.
        let elapsed = now.min(Instant(self.end.0 - 1)).since(self.start).as_nanos();
        let due = (elapsed * u128::from(rate) / 1_000_000_000) as u64 + 1;
        let Deal { connections, pipeline } = Deal::of(self.plan);
        let first = self.due / pipeline;
        self.due = due.max(self.due);
        // Each connection once, however many of its commands are due.
        let last = self.due.div_ceil(pipeline).min(first + connections);
        (first..last).for_each(|turn| self.issue((turn % connections) as usize));
    }

    /// Takes in that replies have come, and sends as many commands anew.
    fn answered(&mut self, index: usize, replies: super::reply::Replies) -> Result<(), GenerateError> {
        let connection = &mut self.connections[index];
        let mut ok = replies.ok;
        let mut answers = connection.replies.answers();
        if connection.state == State::Authenticating && 0 < replies.total() {
            if replies.ok == 0 {
                let text = self.measured.texts.keys().next().cloned().unwrap_or_default();
                return Err(GenerateError::Password {
                    endpoint: self.endpoints[connection.endpoint].clone(),
                    text,
                });
            }
            ok -= 1;
            answers.drain(..answers.len().min(1));
            connection.state = State::Ready;
            self.ready += 1;
        }
        let now = self.driver.now();
        self.testify(index, now, &answers);
        let bad = replies.errors + replies.indeterminate;
        let connection = &mut self.connections[index];
        let measured = &mut self.measured;
        let (measure, end) = (self.measure, self.end);
        if measure <= now && now < end {
            measured.ok += ok as u64;
            measured.recorder.answered(ok as u64, bad as u64);
        }
        let (mut errors, mut indeterminate) = (replies.errors as u64, replies.indeterminate as u64);
        // Where reads are mixed in, only a witness knows which answers are of writes.
        let killed_at = match self.plan.read_percent {
            0 => Instant(self.killed_at.load(Ordering::Relaxed)),
            _ => Instant::ZERO,
        };
        connection.answered(ok + bad, |at, count| {
            if at < measure || end <= at {
                return;
            }
            // Errors are counted, but are no latencies: refusing is quicker than doing.
            let failed = count.min(errors);
            errors -= failed;
            measured.errors += failed;
            let unknown = (count - failed).min(indeterminate);
            indeterminate -= unknown;
            measured.indeterminate += unknown;
            let done = count - failed - unknown;
            if 0 < done {
                measured.recorder.latency(now.since(at).as_nanos() as u64, done);
                if killed_at != Instant::ZERO && killed_at <= at && measured.recovery.is_none() {
                    measured.recovery = Some(now.since(killed_at));
                }
            }
        });
        self.issue(index);
        Ok(())
    }

    /// Tells the witness, if there is one, what these answers answer.
    fn testify(&mut self, index: usize, now: Instant, answers: &[Answer]) {
        let Some(testimony) = &mut self.testimony else { return };
        let killed_at = Instant(self.killed_at.load(Ordering::Relaxed));
        for answer in answers {
            let written = testimony.answered(&self.workload, index, now, answer);
            let after_kill = written.is_some_and(|at| killed_at != Instant::ZERO && killed_at <= at);
            if after_kill && self.measured.recovery.is_none() {
                self.measured.recovery = Some(now.since(killed_at));
            }
        }
    }

    fn connected(&mut self, index: usize, fd: Fd) {
        let connection = &mut self.connections[index];
        connection.fd = Some(fd);
        self.driver.submit(Op::Receive { fd }, Token { agent: 0, value: index as u64 });
        if self.plan.etcd {
            let authority = &self.endpoints[connection.endpoint];
            connection.etcd = Some(Session::begin(authority, &mut connection.out));
        }
        match &self.plan.password {
            Some(password) => {
                connection.authenticate(password);
                self.soil(index);
            }
            None => {
                connection.state = State::Ready;
                self.ready += 1;
                if self.start != Instant(u64::MAX) {
                    self.issue(index);
                }
            }
        }
        self.soil(index);
    }

    /// The connection is gone, or could not be made. Before the load begins that is an error; afterwards another endpoint is tried.
    fn lost(&mut self, index: usize, error: Option<std::io::Error>) -> Result<(), GenerateError> {
        let connection = &mut self.connections[index];
        if self.start == Instant(u64::MAX) {
            let source = error.unwrap_or_else(|| std::io::ErrorKind::ConnectionReset.into());
            return Err(GenerateError::Connect {
                endpoint: self.endpoints[connection.endpoint].clone(),
                source,
            });
        }
        if let Some(fd) = connection.fd.take() {
            self.driver.submit(Op::Close { fd }, Token { agent: 0, value: index as u64 });
            self.measured.lost += 1;
        }
        if connection.state == State::Ready {
            self.ready -= 1;
        }
        let (measure, end) = (self.measure, self.end);
        let mut unknown = 0;
        connection.answered(connection.outstanding, |at, count| {
            if measure <= at && at < end {
                unknown += count;
            }
        });
        self.measured.indeterminate += unknown;
        self.measured.recorder.answered(0, unknown);
        if let Some(testimony) = &mut self.testimony {
            testimony.lost(&self.workload, index, self.driver.now());
        }
        connection.reset(self.endpoints.len(), reader(&self.testimony));
        self.retries.push((self.driver.now().after(RECONNECT_AFTER), index));
        Ok(())
    }

    /// Makes lost connections anew whose time has come.
    fn redial(&mut self) {
        let now = self.driver.now();
        while let Some(place) = self.retries.iter().position(|(at, _)| *at <= now) {
            let (_, index) = self.retries.swap_remove(place);
            self.dial(index);
        }
    }

    fn dial(&mut self, index: usize) {
        let address = self.endpoints[self.connections[index].endpoint].clone();
        self.driver.submit(Op::Connect { address }, Token { agent: 0, value: index as u64 });
    }

    fn soil(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.dirty && !connection.sending && !connection.out.is_empty() {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Sends what was written: one send a connection.
    fn flush(&mut self) {
        for index in self.dirty.drain(..) {
            let connection = &mut self.connections[index];
            connection.dirty = false;
            let Some(fd) = connection.fd else { continue };
            connection.sending = true;
            let mut parts = std::mem::take(&mut connection.parts);
            parts.push(connection.out.split().freeze());
            self.driver.submit(Op::Send { fd, parts }, Token { agent: 0, value: index as u64 | SENDING });
        }
    }

    fn close(&mut self) {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if let Some(fd) = connection.fd.take() {
                self.driver.submit(Op::Close { fd }, Token { agent: 0, value: index as u64 });
            }
        }
        self.driver.reap(&mut Vec::new());
    }
}

/// Answers are kept only for somebody who holds them against what was asked.
fn reader(testimony: &Option<Testimony<'_>>) -> ReplyReader {
    if testimony.is_some() { ReplyReader::keeping() } else { ReplyReader::default() }
}
