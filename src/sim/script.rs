//! The scenario language: a story of a cluster, one command a line, everything explicit. What happens is written, indented, below
//! the command that made it happen, so a scenario is its own transcript: [`Script::run`] gives the text as it should be.
//!
//! ```text
//! nodes N [KEY=VALUE ...]    first line; keys: append, window, cache, trailing, piece, pre_vote, check_quorum
//! time MS                    all clocks move, nothing else happens
//! timeout A                  A's clock moves to its next election or heartbeat, which happens
//! propose A TEXT             a client of A writes
//! read A                     a client of A reads
//! durable A                  A's writes finish
//! deliver A B [KIND]         what A sent to B arrives (of one kind)
//! drop A B [KIND]            ... is lost
//! run MS                     all of the above happens by itself, as fast as it can, for so long
//! part A B .. | C D ..       while running, messages between the sides are lost; `part` alone heals
//! crash A, restart A         what was not durable is lost
//! snapshot A                 A's store makes a snapshot, which is durable at once
//! drain A                    A is shut down in order
//! transfer A [B]             an operator wishes that B, or anybody, leads instead of A
//! lost A B                   the link from A to B came up anew, as A sees it
//! log A                      prints A's place and log
//! expect A KEY VALUE ...     role, term, commit, last, leader, applied, reads (answered), writes (answered)
//! ```

use super::check::Checks;
use super::disk::Snapshot;
use super::host::{Common, Effect, Host};
use super::options::ProtocolName;
use super::ranges::Brought;
use super::render::{brief, entry_text, role_name};
use crate::base::{Body, GROUP_ONE, Instant, NodeId, Slot, Stamp};
use crate::protocol::raft::{Options, Role};
use crate::protocol::{Engine, Protocol, pbft};
use crate::replica::{Effects, reads, route, seat};
use crate::wire::Message;
use crate::wire::hop::{Demand, Keep, Opened, Outgoing};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Most rounds of deliveries within one instant of `run`: more is a storm.
const ROUNDS_MAX: usize = 1000;
/// Most deadlines within one `run`: more is a deadline that does not move on.
const DEADLINES_MAX: usize = 20_000;

/// A scenario while it is played.
pub struct Script {
    /// Each node has a clock of its own, so that one node's time-out is no other's.
    clocks: Vec<Instant>,
    common: Common,
    hosts: Vec<Host>,
    /// What was sent and has not arrived, by sender and receiver.
    mail: BTreeMap<(usize, usize), Vec<Message>>,
    /// Sides between which nothing passes while running, by node.
    sides: Vec<usize>,
    /// Numbers of each node's front, and how many of its writes and reads were answered.
    sequence: Vec<u64>,
    reads: Vec<u64>,
    answered: Vec<(u64, u64)>,
    /// What was told last of each node.
    told: Vec<(Role, u64)>,
    checks: Checks,
    is_running: bool,
    text: String,
}

impl Script {
    /// Plays a scenario. Gives back its text with what happens below each command; panics when an expectation or a property fails.
    pub fn run(text: &str) -> String {
        let mut script: Option<Script> = None;
        let mut before = String::new();
        for line in text.lines().filter(|line| !line.starts_with(' ')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_command = words.first().is_some_and(|word| !word.starts_with('#'));
            match (&mut script, is_command) {
                (None, true) => {
                    writeln!(before, "{line}").expect("strings grow");
                    script = Some(Script::new(&words, std::mem::take(&mut before)));
                }
                (None, false) => writeln!(before, "{line}").expect("strings grow"),
                (Some(script), is_command) => {
                    writeln!(script.text, "{line}").expect("strings grow");
                    if is_command {
                        script.command(&words);
                    }
                }
            }
        }
        script.map_or(before, |script| script.text)
    }

    fn new(words: &[&str], text: String) -> Script {
        assert_eq!(words[0], "nodes", "a scenario begins with `nodes N`");
        let nodes: usize = number(words[1]) as usize;
        let mut raft = Options::default();
        for setting in &words[2..] {
            let (key, value) = setting.split_once('=').expect("KEY=VALUE");
            let value = number(value);
            match key {
                "append" => raft.max_log_entries_per_append = value as usize,
                "window" => raft.window_appends_max = value as usize,
                "cache" => raft.cache_entries_max = value as usize,
                "trailing" => raft.trailing_entries = value,
                "piece" => raft.piece_bytes_max = value as usize,
                "pre_vote" => raft.pre_vote = value == 1,
                "check_quorum" => raft.check_quorum = value == 1,
                _ => panic!("unknown setting {key}"),
            }
        }
        // The routes are patient: a scenario tells a story of cores.
        let patient = Duration::from_secs(3600);
        let route = route::Options {
            write_wait: patient,
            answer_within: patient,
            retry_after: patient,
            ..route::Options::default()
        };
        let reads = reads::Options { wait: patient, retry_after: patient, ..reads::Options::default() };
        let common = Common {
            pbft: pbft::Options::default(),
            nodes,
            protocol: ProtocolName::Raft,
            raft,
            route,
            reads,
            guards: seat::Guards::default(),
        };
        let hosts = (0..nodes).map(|n| Host::new(n, &common, Instant::ZERO, n as u64 + 1)).collect();
        let checks = Checks::of(&common);
        let mut script = Script {
            clocks: vec![Instant::ZERO; nodes],
            common,
            hosts,
            mail: BTreeMap::new(),
            sides: vec![0; nodes],
            sequence: vec![0; nodes],
            reads: vec![0; nodes],
            answered: vec![(0, 0); nodes],
            told: vec![(Role::Follower, 0); nodes],
            checks,
            is_running: false,
            text,
        };
        (0..nodes).for_each(|node| script.settle(node));
        script
    }

    fn command(&mut self, words: &[&str]) {
        let node = |at: usize| number(words[at]) as usize - 1;
        match words[0] {
            "time" => {
                let time = Duration::from_millis(number(words[1]));
                self.clocks.iter_mut().for_each(|clock| *clock = clock.after(time));
            }
            "timeout" => self.timeout(node(1)),
            "propose" => self.propose(node(1), words[2]),
            "read" => self.read(node(1)),
            "durable" => self.durable(node(1)),
            "deliver" => self.deliver(node(1), node(2), words.get(3).copied()),
            "drop" => drop(self.take_mail(node(1), node(2), words.get(3).copied())),
            "run" => self.run_for(Duration::from_millis(number(words[1]))),
            "part" => self.part(&words[1..]),
            "crash" => self.crash(node(1)),
            "restart" => self.restart(node(1)),
            "snapshot" => self.snapshot(node(1)),
            "transfer" => {
                let to = words.get(2).map(|to| NodeId(number(to) as u8));
                self.touch(node(1), |host, now| host.shard.transfer(now, GROUP_ONE, to));
            }
            "drain" => self.touch(node(1), |host, now| host.shard.drain(now)),
            "lost" => {
                let peer = NodeId(number(words[2]) as u8);
                self.touch(node(1), |host, now| host.shard.lost(now, peer));
            }
            "log" => self.log(node(1)),
            "expect" => self.expect(node(1), &words[2..]),
            other => panic!("unknown command {other}"),
        }
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.text, "  {what}").expect("strings grow");
    }

    fn touch(&mut self, node: usize, act: impl FnOnce(&mut Host, Instant)) {
        assert!(self.hosts[node].is_up, "node {} is down", node + 1);
        act(&mut self.hosts[node], self.clocks[node]);
        self.settle(node);
    }

    fn stamp(&self, node: usize) -> Stamp {
        Stamp(self.clocks[node].0 / 1_000_000)
    }

    fn core_deadline(&self, node: usize) -> Option<Instant> {
        let seat = self.hosts[node].shard.seat(GROUP_ONE).expect("the group is hosted");
        let engine: &Engine = &seat.engine;
        engine.deadline()
    }

    fn timeout(&mut self, node: usize) {
        let due = self.core_deadline(node).expect("a core asks for a deadline");
        self.clocks[node] = self.clocks[node].max(due);
        self.touch(node, |_, _| ());
    }

    fn propose(&mut self, node: usize, text: &str) {
        self.sequence[node] += 1;
        let body = Body::new(Bytes::from(text.to_string()));
        self.checks.validity.asked(self.hosts[node].origin(), body.digest());
        let demand =
            Demand::Write { sequence: self.sequence[node], body, growth: 0, left: self.clocks[node] };
        self.touch(node, |host, now| host.shard.demand(now, GROUP_ONE, demand));
    }

    fn read(&mut self, node: usize) {
        self.reads[node] += 1;
        let demand = Demand::Read { id: self.reads[node], body: Bytes::new() };
        self.touch(node, |host, now| host.shard.demand(now, GROUP_ONE, demand));
    }

    fn durable(&mut self, node: usize) {
        if let Some(watermark) = self.hosts[node].disk.finish_all() {
            self.touch(node, |host, now| host.shard.durable(now, watermark));
        }
    }

    fn take_mail(&mut self, from: usize, to: usize, kind: Option<&str>) -> Vec<Message> {
        let all = self.mail.remove(&(from, to)).unwrap_or_default();
        let (taken, kept): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|m| kind.is_none_or(|kind| brief(m).starts_with(kind)));
        if !kept.is_empty() {
            self.mail.insert((from, to), kept);
        }
        taken
    }

    fn deliver(&mut self, from: usize, to: usize, kind: Option<&str>) {
        let messages = self.take_mail(from, to, kind);
        if !self.hosts[to].is_up || messages.is_empty() {
            return;
        }
        let (now, stamp, id) = (self.clocks[to], self.stamp(to), self.hosts[from].id());
        for message in messages {
            if !self.is_running {
                self.say(format_args!("{}>{} {}", from + 1, to + 1, brief(&message)));
            }
            self.hosts[to].shard.receive(now, stamp, Opened::assumed(id, GROUP_ONE, message));
        }
        self.settle(to);
    }

    fn part(&mut self, words: &[&str]) {
        self.sides.fill(0);
        for (side, words) in words.split(|word| *word == "|").enumerate() {
            words.iter().for_each(|word| self.sides[number(word) as usize - 1] = side);
        }
        if words.is_empty() {
            let nodes = self.hosts.len();
            for (a, b) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b) {
                let peer = self.hosts[b].id();
                if self.hosts[a].is_up {
                    self.touch(a, |host, now| host.shard.lost(now, peer));
                }
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.hosts[node].crash(0);
        self.mail.retain(|(from, _), _| *from != node);
    }

    fn restart(&mut self, node: usize) {
        let seed = (node + 1) as u64 + 100 * self.hosts[node].boot;
        self.hosts[node].start(&self.common, self.clocks[node], seed);
        (self.sequence[node], self.reads[node], self.told[node]) = (0, 0, (Role::Follower, 0));
        self.settle(node);
    }

    fn snapshot(&mut self, node: usize) {
        let machine = &self.hosts[node].machine;
        let snapshot = Snapshot { id: machine.id(GROUP_ONE), bytes: machine.save() };
        let (id, bytes) = (snapshot.id, snapshot.bytes.len() as u64);
        self.say(format_args!("{} has a snapshot at {}", node + 1, id.slot));
        self.touch(node, |host, now| {
            host.disk.keep_snapshot(snapshot);
            host.shard.snapshotted(now, id, bytes);
            host.disk.compact();
        });
    }

    /// Time passes, everything arrives, every write finishes, every deadline is kept.
    fn run_for(&mut self, time: Duration) {
        let mut now = self.clocks.iter().max().copied().expect("there are nodes");
        let end = now.after(time);
        self.is_running = true;
        let mut left = DEADLINES_MAX;
        loop {
            self.clocks.fill(now);
            self.quiesce();
            let due = |node: &usize| self.hosts[*node].shard.deadline();
            let up = (0..self.hosts.len()).filter(|node| self.hosts[*node].is_up);
            let Some(next) = up.filter_map(|node| due(&node).map(|at| (at, node))).min() else { break };
            if end < next.0 {
                break;
            }
            left = left.checked_sub(1).expect("deadlines move on");
            now = next.0.max(Instant(now.0 + 1));
            self.clocks.fill(now);
            self.touch(next.1, |_, _| ());
        }
        self.clocks.fill(end);
        self.is_running = false;
    }

    fn quiesce(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let pairs: Vec<_> = self.mail.keys().copied().collect();
            for (from, to) in &pairs {
                if self.sides[*from] == self.sides[*to] {
                    self.deliver(*from, *to, None);
                } else {
                    self.take_mail(*from, *to, None);
                }
            }
            let mut wrote = false;
            for node in 0..self.hosts.len() {
                if self.hosts[node].is_up && 0 < self.hosts[node].disk.unfinished() {
                    self.durable(node);
                    wrote = true;
                }
            }
            if pairs.is_empty() && !wrote {
                return;
            }
        }
        panic!("a storm of messages\n{}", self.text);
    }

    /// Ends a burst and does what takes no time here: applying, fetching, keeping.
    fn settle(&mut self, node: usize) {
        let (now, stamp) = (self.clocks[node], self.stamp(node));
        let mut effects = Effects::default();
        self.hosts[node].shard.settle(now, stamp, &mut effects);
        self.checks.burst(&self.hosts, node, &effects);
        self.tell(node);
        for Outgoing { to, message, .. } in effects.outgoing {
            self.mail.entry((node, to.0 as usize - 1)).or_default().push(message);
        }
        let host = &mut self.hosts[node];
        host.disk.write(effects.records);
        host.decided.extend(effects.decided);
        let mut again = false;
        for fetch in effects.fetches {
            let found = host.disk.entries(fetch.from, fetch.count, fetch.bytes);
            host.shard.fetched(now, GROUP_ONE, fetch.job, found);
            again = true;
        }
        for keep in effects.keeps {
            again |= self.keep(node, keep);
        }
        again |= self.apply(node);
        if again {
            self.settle(node);
        }
    }

    fn keep(&mut self, node: usize, keep: Keep) -> bool {
        let (now, host) = (self.clocks[node], &mut self.hosts[node]);
        match keep {
            Keep::Fetch { job, slot, offset, bytes, .. } => {
                let found = host.disk.piece(slot, offset, bytes);
                host.shard.fetched(now, GROUP_ONE, job, found);
                true
            }
            Keep::Piece { id, offset, total, body, .. } => {
                match host.stage(id, offset, total, body.bytes()) {
                    Some(snapshot) => {
                        host.install(&snapshot);
                        let last = host.machine.last_of(host.origin());
                        host.shard.installed(now, id, total, Body::EMPTY, last);
                        self.say(format_args!("{} installs a snapshot at {}", node + 1, id.slot));
                        true
                    }
                    None => false,
                }
            }
            Keep::Range { id, offset, total, body, certified } => {
                match host.gather(id, (offset, total, body.bytes()), &certified) {
                    Brought::Nothing => return false,
                    Brought::Wanted(ranges) => host.shard.wanted(now, id, ranges),
                    Brought::Poisoned => host.shard.poisoned(now, id),
                    Brought::Whole(snapshot) => {
                        host.install(&snapshot);
                        let last = host.machine.last_of(host.origin());
                        host.shard.installed(now, id, snapshot.bytes.len() as u64, Body::EMPTY, last);
                        self.say(format_args!("{} gathers the state at {}", node + 1, id.slot));
                    }
                }
                true
            }
            Keep::FetchRange { job, slot, ranges, offset, bytes, .. } => {
                let found = host.disk.range_piece(slot, ranges.bytes(), offset, bytes);
                host.shard.fetched(now, GROUP_ONE, job, found);
                true
            }
            Keep::Proof { accused, kind, proof } => {
                host.disk.proofs.push(proof);
                self.say(format_args!("{} convicts {accused} of {kind}", node + 1));
                false
            }
            Keep::Begin(_) | Keep::Chunk(_) | Keep::End => unreachable!("a shard says no such thing"),
        }
    }

    fn apply(&mut self, node: usize) -> bool {
        let before = self.hosts[node].machine.applied;
        let decided = self.hosts[node].decided.len();
        let effects = self.hosts[node].apply(decided);
        let last = self.hosts[node].machine.applied;
        if before < last {
            self.say(format_args!("{} commits {}..{last}", node + 1, before.next()));
            self.checks.applied(&self.hosts[node], last);
            let now = self.clocks[node];
            self.hosts[node].shard.applied(now, GROUP_ONE, last, 0, None);
        }
        for effect in effects {
            match effect {
                Effect::Applied(_) => (),
                Effect::Written { sequence, slot } => {
                    let origin = self.hosts[node].origin();
                    self.checks.exactly_once.acknowledged(origin, sequence, slot);
                    self.answered[node].0 += 1;
                }
                Effect::Digested { .. } => unreachable!("Raft asks for no digest"),
                Effect::Read { .. } => {
                    self.answered[node].1 += 1;
                    let applied = self.hosts[node].machine.applied;
                    self.say(format_args!("{} answers a read at {applied}", node + 1));
                }
            }
        }
        before < last
    }

    fn tell(&mut self, node: usize) {
        let raft = self.hosts[node].raft();
        let seen = (raft.role(), raft.term().0);
        let (was, _) = std::mem::replace(&mut self.told[node], seen);
        if seen.0 != was {
            let (role, term) = (role_name(seen.0), seen.1);
            self.say(format_args!("{} is {role} in term {term}", node + 1));
        }
    }

    fn log(&mut self, node: usize) {
        let (raft, machine) = (self.hosts[node].raft(), &self.hosts[node].machine);
        let tail = raft.tail();
        let entries: Vec<String> = (tail.floor().slot.0 + 1..=raft.last().0)
            .map(|slot| match (tail.get(Slot(slot)), tail.term_at(Slot(slot))) {
                (Some(entry), _) => entry_text(entry),
                (None, term) => format!("{}:-", term.unwrap_or_default()),
            })
            .collect();
        let line = format!(
            "{} {} term {} floor {} log [{}] durable {} commit {} applied {}",
            node + 1,
            role_name(raft.role()),
            raft.term(),
            tail.floor().slot,
            entries.join(" "),
            raft.durable(),
            raft.commit(),
            machine.applied
        );
        self.say(format_args!("{line}"));
    }

    fn expect(&mut self, node: usize, words: &[&str]) {
        let host = &self.hosts[node];
        let raft = host.raft();
        for pair in words.chunks(2) {
            let found = match pair[0] {
                "role" => role_name(raft.role()).to_string(),
                "term" => raft.term().to_string(),
                "commit" => raft.commit().to_string(),
                "last" => raft.last().to_string(),
                "leader" => raft.leader().map_or("none".to_string(), |leader| leader.to_string()),
                "applied" => host.machine.applied.to_string(),
                "writes" => self.answered[node].0.to_string(),
                "reads" => self.answered[node].1.to_string(),
                other => panic!("unknown key {other}"),
            };
            assert_eq!(found, pair[1], "{} of node {}, after\n{}", pair[0], node + 1, self.text);
        }
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("a number, not {word:?}"))
}
