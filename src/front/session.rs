//! The state of one connection, and what its bytes become: plans, and commands in the batches of the turn.
//!
//! No socket and no ring is named here: [`Session::run`] is given bytes and the [`Desk`], on which it leaves what is to be handed on.

use super::bound::Largest;
use super::gather::{Cost, Gather, Lingering, Mark};
use super::plan::{Flow, Plan, Range};
use super::{Options, View, local};
use crate::base::{Instant, Stamp};
use crate::config::limits::REPLIES_MADE_MAX;
use crate::resp::command::{Command, Flags, Kind};
use crate::resp::parse::{Limits, Parsed, Parser};
use crate::resp::reply::{Version, Writer};
use crate::resp::{Op, table};
use crate::wire::hop::Demand;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Who a connection says it is: what CLIENT LIST shows. Kept apart from the session, for any connection may ask about all.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// Rises by one a connection.
    pub id: u64,
    pub peer: String,
    pub local: String,
    pub name: Vec<u8>,
    pub library: Vec<u8>,
    pub library_version: Vec<u8>,
    pub since: Instant,
    /// When it last said something, and what its last command was.
    pub active: Instant,
    pub command: &'static str,
    pub version: Version,
}

/// What take has counted since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub connections: u64,
    pub connections_refused: u64,
    pub connections_abandoned: u64,
    pub commands: u64,
    pub writes: u64,
    pub reads: u64,
    pub reads_in_log: u64,
    pub batches: u64,
    pub bytes_in: u64,
    pub protocol_errors: u64,
    pub refused_memory: u64,
    pub refused_overload: u64,
    pub authentications_failed: u64,
}

/// What all sessions of a take share: what they read, and where they leave their work.
pub(super) struct Desk {
    pub options: Options,
    /// Digest of the password, so that comparing takes the same time whatever was sent.
    pub secret: Option<blake3::Hash>,
    pub view: View,
    pub gather: Gather,
    /// By seat.
    pub directory: Vec<Option<Identity>>,
    pub counters: Counters,
    pub now: Instant,
    pub clock: Stamp,
    pub started: Instant,
    pub loading: bool,
    pub draining: bool,
    /// Logical bytes of the store at the beginning of the turn.
    pub memory: u64,
    /// What replies can be long by.
    pub largest: Largest,
    /// Bytes that are made and unsent, of all connections.
    pub unsent: u64,
    /// How many plans and demands the rings take.
    pub plans_room: usize,
    pub demands_room: usize,
    /// Plans of the session that runs. Handed on before `demands`, so that reply knows of a batch before its answer can come.
    pub plans: Vec<Plan>,
    /// Batches that were closed because they are full.
    pub demands: Vec<Demand>,
    /// Local replies that are not yet a plan, and how many commands they answer.
    pub replies: Vec<u8>,
    pub replied: u32,
}

impl Desk {
    pub fn new(options: Options, view: View) -> Desk {
        let largest = Largest::of(&view.facts.extent);
        Desk {
            secret: options.password.as_ref().map(|p| blake3::hash(p.as_bytes())),
            gather: Gather::new(Lingering::of(view.facts.replicas.get())),
            options,
            view,
            directory: Vec::new(),
            counters: Counters::default(),
            now: Instant::ZERO,
            clock: Stamp::ZERO,
            started: Instant::ZERO,
            loading: false,
            draining: false,
            memory: 0,
            largest,
            unsent: 0,
            plans_room: 0,
            demands_room: 0,
            plans: Vec::new(),
            demands: Vec::new(),
            replies: Vec::new(),
            replied: 0,
        }
    }
    /// Whether one more command, which may close a batch, can be handed on.
    #[inline]
    fn has_room(&self) -> bool {
        // Two demands are kept for the batches that are still being gathered, two more for those that one command can close.
        self.plans.len() + 3 <= self.plans_room && self.demands.len() + 4 <= self.demands_room
    }
    /// Makes a plan of the local replies so far.
    pub fn flush_replies(&mut self) {
        if 0 < self.replied {
            let bytes = Bytes::from(std::mem::take(&mut self.replies));
            self.plans.push(Plan::Local { bytes, count: std::mem::take(&mut self.replied) });
        }
    }
    fn leave_writes(&mut self) {
        self.demands.extend(self.gather.leave_writes(self.now));
    }
    fn leave_reads(&mut self) {
        self.demands.extend(self.gather.leave_reads());
    }
}

/// What the client wants to be sent (CLIENT REPLY).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// Not to the next command.
    SkipNext,
}

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The bytes end within a command, or at its end.
    Starved,
    /// The turn's share is used up: run again next turn.
    Budget,
    /// Answers must come first.
    Waiting,
    /// The client must first take what it has been answered, or is about to be.
    Unread,
    /// The rings are full.
    Full,
    /// Nothing more is read from this connection.
    Closing,
}

/// What a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ran {
    /// Bytes that were taken. What is left begins with a command.
    pub used: usize,
    pub commands: usize,
    pub stop: Stop,
}

/// The arguments of a command, its name at 0.
#[derive(Clone, Copy)]
pub(super) struct Args<'a> {
    parser: &'a Parser,
    bytes: &'a [u8],
}

impl<'a> Args<'a> {
    #[inline]
    pub fn len(&self) -> usize {
        self.parser.count()
    }
    /// Panics when there are not so many.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.parser.arg(self.bytes, index)
    }
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.at(index))
    }
    #[inline]
    pub fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        self.parser.args(self.bytes, first)
    }
    /// Whether the argument is this word, in letters of either case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// One connection's place in its protocol.
#[derive(Debug)]
pub(super) struct Session {
    pub seat: u32,
    pub flow: Arc<Flow>,
    pub version: Version,
    pub authenticated: bool,
    pub replies: Replies,
    /// The last command that was known.
    last_command: &'static str,
    /// No further command is taken: QUIT, or the stream has lost its place.
    pub closing: bool,
    /// Its stream has lost its place: more may be on its way.
    pub astray: bool,
    /// Commands planned; `flow` counts those answered. Invariant: `flow.answered() <= planned`.
    pub planned: u64,
    /// For each run whose commands are not all answered: `planned` at its end, and the bytes of the replies to them, at most.
    promises: VecDeque<(u64, u64)>,
    /// Their sum, and that of the present run.
    promised: u64,
    /// `planned` after the newest command that went into the log, and after the newest that took a read index.
    last_write: u64,
    last_read: u64,
}

/// How a burst began: what rule 3 of `front` needs to know.
struct Burst {
    mark: Mark,
    /// Reads of an earlier burst are unanswered.
    reads_before: bool,
}

enum Taken {
    Yes,
    /// It must wait, and nothing has been done.
    Not(Stop),
}

impl Session {
    pub fn new(seat: u32, flow: Arc<Flow>, authenticated: bool) -> Session {
        Session {
            seat,
            flow,
            version: Version::Resp2,
            authenticated,
            replies: Replies::On,
            last_command: "",
            closing: false,
            astray: false,
            planned: 0,
            promises: VecDeque::new(),
            promised: 0,
            last_write: 0,
            last_read: 0,
        }
    }

    /// Takes commands from `bytes`, which begin where the last run left off.
    pub fn run(&mut self, parser: &mut Parser, desk: &mut Desk, bytes: &[u8]) -> Ran {
        // In this order: what is no longer promised has become unsent before.
        let answered = self.flow.answered();
        self.keep_promises(answered);
        let (unsent, before) = (self.flow.unsent(), self.promised);
        let burst = Burst { mark: desk.gather.reads.mark(), reads_before: answered < self.last_read };
        let (mut used, mut commands) = (0, 0);
        let stop = loop {
            if self.closing {
                break Stop::Closing;
            }
            if !desk.has_room() {
                break Stop::Full;
            }
            if desk.options.burst_commands_max <= commands {
                break Stop::Budget;
            }
            if desk.options.pipeline_max <= self.planned - answered {
                break Stop::Waiting;
            }
            if self.is_unread(desk, unsent) {
                break Stop::Unread;
            }
            let limits = if self.authenticated { &desk.options.limits } else { &Limits::UNAUTHENTICATED };
            match parser.parse(&bytes[used..], limits) {
                Ok(Parsed::Command { used: length }) => {
                    let args = Args { parser, bytes: &bytes[used..] };
                    if let Taken::Not(stop) = self.take(desk, args, &burst, answered) {
                        break stop;
                    }
                    used += length;
                    commands += 1;
                }
                Ok(Parsed::Partial { .. }) => break Stop::Starved,
                Err(error) => {
                    desk.counters.protocol_errors += 1;
                    self.give_up(desk, &error.to_string());
                    used = bytes.len();
                    break Stop::Closing;
                }
            }
        };
        desk.counters.commands += commands as u64;
        desk.flush_replies();
        self.note(desk, commands);
        if before < self.promised {
            self.promises.push_back((self.planned, self.promised - before));
        }
        Ran { used, commands, stop }
    }

    /// What CLIENT LIST shows of the run.
    fn note(&self, desk: &mut Desk, commands: usize) {
        if 0 < commands
            && let Some(Some(identity)) = desk.directory.get_mut(self.seat as usize)
        {
            (identity.active, identity.command) = (desk.now, self.last_command);
        }
    }

    /// What is answered is no longer promised.
    fn keep_promises(&mut self, answered: u64) {
        while let Some((planned, bytes)) = self.promises.front()
            && *planned <= answered
        {
            self.promised -= bytes;
            self.promises.pop_front();
        }
    }

    /// Whether nothing more may be made for this connection until it has taken something.
    fn is_unread(&self, desk: &Desk, unsent: u64) -> bool {
        desk.options.unsent_bytes_max <= unsent + self.promised
            || (0 < unsent && desk.options.unsent_bytes_total_max < desk.unsent)
    }

    /// Whether a reply of so many bytes has room: beside the connection's others, and beside all that are being made.
    #[inline]
    fn room_for(&self, desk: &Desk, reply: u64) -> Result<(), Stop> {
        let own = self.flow.unsent() + self.promised;
        if 0 < own && desk.options.unsent_bytes_max < own + reply {
            return Err(Stop::Unread);
        }
        let all = desk.gather.pending_reply();
        if 0 < all && (REPLIES_MADE_MAX as u64) < all + reply { Err(Stop::Full) } else { Ok(()) }
    }

    #[inline]
    fn take(&mut self, desk: &mut Desk, args: Args, burst: &Burst, answered: u64) -> Taken {
        if args.len() == 0 {
            return Taken::Yes;
        }
        let Some(command) = table::find(args.at(0)) else {
            self.error(desk, &unknown(args));
            return Taken::Yes;
        };
        self.last_command = command.name;
        if !command.accepts(args.len()) {
            self.error(desk, &wrong_number(command.name));
            return Taken::Yes;
        }
        if let Some(refusal) = self.refused(desk, command) {
            self.error(desk, refusal);
            return Taken::Yes;
        }
        match command.kind {
            Kind::Data(op) => self.data(desk, op, command, args, burst, answered),
            Kind::Local(what) => {
                local::answer(what, self, desk, args);
                Taken::Yes
            }
        }
    }

    /// Why this connection may not have this command now.
    #[inline]
    fn refused(&self, desk: &Desk, command: &Command) -> Option<&'static str> {
        if !self.authenticated && !command.flags.has(Flags::NO_AUTH) {
            return Some("NOAUTH Authentication required.");
        }
        if desk.loading && !command.flags.has(Flags::LOADING) && !command.flags.has(Flags::NO_AUTH) {
            return Some("LOADING this node is loading the dataset; the command was not carried out");
        }
        (desk.draining && matches!(command.kind, Kind::Data(_))).then_some(DRAINING)
    }

    #[inline]
    fn data(
        &mut self,
        desk: &mut Desk,
        op: Op,
        command: &Command,
        args: Args,
        burst: &Burst,
        answered: u64,
    ) -> Taken {
        let arguments = args.from(1);
        let bytes = arguments.clone().map(<[u8]>::len).sum::<usize>() + 4 * args.len() + 4;
        let is_read = command.flags.has(Flags::READONLY);
        let reply = desk.largest.reply(op, args);
        if let Err(stop) = self.room_for(desk, reply) {
            return Taken::Not(stop);
        }
        if !is_read && answered < self.last_read {
            if burst.reads_before || !desk.gather.reads.holds(&burst.mark) {
                return Taken::Not(Stop::Waiting);
            }
            self.demote(desk, burst);
        }
        if desk.options.pending_bytes_max < desk.gather.pending_bytes() + bytes as u64 {
            desk.counters.refused_overload += 1;
            self.error(desk, "OVERLOADED too many commands are in flight; try again later");
            return Taken::Yes;
        }
        let growth = if command.flags.has(Flags::DENYOOM) { growth_max(op, args, bytes) } else { 0 };
        let memory_max = desk.view.memory_max;
        if 0 < growth && 0 < memory_max && memory_max < desk.memory + desk.gather.pending_growth() + growth {
            desk.counters.refused_memory += 1;
            self.error(desk, OUT_OF_MEMORY);
            return Taken::Yes;
        }
        let silent = self.is_silent();
        let flags = self.version.flags();
        let cost = Cost { growth, reply };
        self.promised += reply;
        if is_read && self.last_write <= answered && !desk.options.reads_in_log {
            if desk.gather.reads.is_full(bytes, reply, desk.options.batch_bytes_max) {
                desk.leave_reads();
            }
            let (batch, first) = desk.gather.reads.place();
            desk.gather.reads.add(op, flags, cost, arguments);
            self.planned += 1;
            self.last_read = self.planned;
            desk.counters.reads += 1;
            plan_read(desk, Range { batch, first, count: 1, silent });
        } else {
            if desk.gather.writes.is_full(bytes, reply, desk.options.batch_bytes_max) {
                desk.leave_writes();
            }
            let (batch, first) = desk.gather.writes.place();
            desk.largest.note(bytes, op, args);
            desk.gather.writes.add(op, flags, cost, arguments);
            self.planned += 1;
            self.last_write = self.planned;
            desk.counters.writes += u64::from(!is_read);
            desk.counters.reads_in_log += u64::from(is_read);
            plan_write(desk, Range { batch, first, count: 1, silent });
        }
        Taken::Yes
    }

    /// Moves this burst's reads into the log's batch (rule 3 of `front`).
    #[cold]
    fn demote(&mut self, desk: &mut Desk, burst: &Burst) {
        let (id, first_moved) = (desk.gather.reads.place().0, burst.mark.count());
        let (bytes, reply) = (desk.gather.reads.len(), desk.gather.reads.reply());
        if desk.gather.writes.is_full(bytes, reply, desk.options.batch_bytes_max) {
            desk.leave_writes();
        }
        let (sequence, first) = desk.gather.writes.place();
        let moved = desk.gather.demote(&burst.mark);
        for plan in &mut desk.plans {
            if let Plan::Read(range) = *plan {
                assert!(range.batch == id && first_moved <= range.first);
                *plan = Plan::Write(Range {
                    batch: sequence,
                    first: first + (range.first - first_moved),
                    ..range
                });
            }
        }
        desk.counters.reads -= u64::from(moved);
        desk.counters.reads_in_log += u64::from(moved);
        self.last_write = self.last_read;
        self.last_read = 0;
    }

    /// Whether the command that is being taken is not to be replied to. Asked once a command.
    #[inline]
    fn is_silent(&mut self) -> bool {
        match self.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::SkipNext => {
                self.replies = Replies::On;
                true
            }
        }
    }

    /// Answers a command here and now, in its place.
    pub fn reply(&mut self, desk: &mut Desk, write: impl FnOnce(&mut Writer)) {
        let start = desk.replies.len();
        write(&mut Writer::new(&mut desk.replies, self.version));
        if self.is_silent() {
            desk.replies.truncate(start);
        }
        self.promised += (desk.replies.len() - start) as u64;
        desk.replied += 1;
        self.planned += 1;
    }

    /// Takes a command that gets no reply at all.
    pub fn no_reply(&mut self, desk: &mut Desk) {
        desk.replied += 1;
        self.planned += 1;
    }

    /// The last thing that the client is told: its stream has lost its place.
    pub fn give_up(&mut self, desk: &mut Desk, text: &str) {
        self.replies = Replies::On;
        self.error(desk, text);
        (self.closing, self.astray) = (true, true);
    }

    /// Answers a command with an error.
    pub fn error(&mut self, desk: &mut Desk, text: &str) {
        self.reply(desk, |out| out.error(text));
    }
}

pub(super) const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const DRAINING: &str = "CLUSTERDOWN this node is shutting down; the command was not carried out";

#[inline]
fn plan_read(desk: &mut Desk, range: Range) {
    desk.flush_replies();
    if let Some(Plan::Read(last)) = desk.plans.last_mut()
        && extend(last, &range)
    {
        return;
    }
    desk.plans.push(Plan::Read(range));
}

#[inline]
fn plan_write(desk: &mut Desk, range: Range) {
    desk.flush_replies();
    if let Some(Plan::Write(last)) = desk.plans.last_mut()
        && extend(last, &range)
    {
        return;
    }
    desk.plans.push(Plan::Write(range));
}

/// Adds `next` to `last` if it stands directly behind it.
#[inline]
fn extend(last: &mut Range, next: &Range) -> bool {
    let joins =
        last.batch == next.batch && last.silent == next.silent && last.first + last.count == next.first;
    last.count += if joins { next.count } else { 0 };
    joins
}

/// Upper bound of the logical bytes that a command can add to the store: every argument may become a record or a field of its own.
fn growth_max(op: Op, args: Args, bytes: usize) -> u64 {
    /// More than the store's own account of a record, a field, or a number in decimal.
    const EACH: u64 = 96;
    let offset = match op {
        // The string is filled with zeros up to the offset. A bad offset is an error later, and adds nothing; neither does one that
        // no value can reach. It is cut here because a client chose it: the sums of many such must not overflow.
        Op::Setrange => std::str::from_utf8(args.at(2)).ok().and_then(|t| t.parse::<u64>().ok()).unwrap_or(0),
        _ => 0,
    };
    bytes as u64 + EACH * args.len() as u64 + offset.min(u64::from(u32::MAX))
}

/// Redis's text for a command that it does not know. Quotes at most 128 bytes of the name, and arguments until 128 bytes are quoted.
#[cold]
fn unknown(args: Args) -> String {
    let cut = |bytes: &[u8], max: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    let name = cut(args.at(0), 128);
    if table::is_unsupported(args.at(0)) {
        return format!("ERR unknown command '{name}', this server does not support it");
    }
    let mut quoted = String::new();
    for arg in args.from(1) {
        if 128 <= quoted.len() {
            break;
        }
        quoted.push_str(&format!("'{}' ", cut(arg, 128 - quoted.len())));
    }
    format!("ERR unknown command '{name}', with args beginning with: {quoted}")
}

/// Redis's text. A subcommand is named `client|id`.
#[cold]
pub(super) fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

#[cfg(test)]
#[path = "session_tests.rs"]
pub(super) mod tests;
