//! What a proposal costs three Raft cores in memory, from `Propose` at the leader to its commit at all three, without network, disk
//! and bodies: nanoseconds of all three together, by how many proposals a burst brings.
//!
//! `cargo bench --bench raft` runs it in full; without `--bench` it runs small, as a test.

use bytes::Bytes;
use quorate::base::{Body, GROUP_ONE, Instant, NodeId, Origin, Stamp};
use quorate::protocol::raft::{Options, Raft, Setup};
use quorate::protocol::{Input, Outbox, Protocol, Send, Target};
use quorate::wire::{Batch, Message};

/// Three cores whose messages arrive and whose writes finish at once.
struct Trio {
    cores: Vec<(Raft, Outbox)>,
    mail: Vec<(NodeId, Send)>,
    now: Instant,
    commits: u64,
    messages: u64,
}

impl Trio {
    fn new() -> Trio {
        let members = (1..=3).map(NodeId).collect();
        let core = |me| {
            let options = Options::default();
            let mut out = Outbox::default();
            out.enter(GROUP_ONE);
            let setup = Setup { me: NodeId(me), members, options, seed: u64::from(me) };
            (Raft::new(setup, Instant::ZERO), out)
        };
        let cores: Vec<_> = (1..=3).map(core).collect();
        let mut trio = Trio { cores, mail: Vec::new(), now: Instant::ZERO, commits: 0, messages: 0 };
        let (core, out) = &mut trio.cores[0];
        trio.now = core.deadline().expect("a time-out");
        core.step(trio.now, Input::Timeout, out);
        trio.settle(0);
        trio.exchange();
        assert!(trio.cores[0].0.is_leader());
        trio
    }

    /// Ends a burst, writes what it wrote, and applies what it decided.
    fn settle(&mut self, at: usize) {
        let (core, out) = &mut self.cores[at];
        core.settle(self.now, out);
        self.mail.extend(out.sends.drain(..).map(|send| (NodeId(at as u8 + 1), send)));
        if !out.records.is_empty() {
            out.records.clear();
            let ticket = out.last_ticket();
            core.step(self.now, Input::Durable { ticket }, out);
            core.settle(self.now, out);
            self.mail.extend(out.sends.drain(..).map(|send| (NodeId(at as u8 + 1), send)));
        }
        if let Some(slot) = out.commits.last().map(|c| c.entry.slot) {
            self.commits += out.commits.drain(..).count() as u64;
            core.step(self.now, Input::Applied { slot }, out);
        }
    }

    fn exchange(&mut self) {
        while !self.mail.is_empty() {
            let mut touched = [false; 3];
            for (from, send) in std::mem::take(&mut self.mail) {
                let Message::Raft(message) = send.message else { unreachable!("only of this protocol") };
                for to in (0..3).filter(|to| NodeId(*to as u8 + 1) != from) {
                    if send.to == Target::Others || send.to == Target::One(NodeId(to as u8 + 1)) {
                        let (core, out) = &mut self.cores[to];
                        core.step(self.now, Input::Receive { from, message: message.clone() }, out);
                        touched[to] = true;
                        self.messages += 1;
                    }
                }
            }
            (0..3).filter(|at| touched[*at]).for_each(|at| self.settle(at));
        }
    }
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let proposals: u64 = if full { 2_000_000 } else { 2_000 };
    for burst in [1u64, 16, 256] {
        let mut trio = Trio::new();
        let (before, body) = (trio.messages, Body::new(Bytes::from_static(b"a command")));
        let origin = Origin { node: NodeId(1), lane: 0, boot: 1 };
        let begun = std::time::Instant::now();
        for first in (1..=proposals).step_by(burst as usize) {
            for sequence in first..first + burst {
                let body = body.clone();
                let batch = Batch { origin, sequence, floor: sequence, body, ..Batch::default() };
                let (core, out) = &mut trio.cores[0];
                core.step(trio.now, Input::Propose { batch, clock: Stamp(sequence) }, out);
            }
            trio.settle(0);
            trio.exchange();
        }
        let done = trio.cores[0].0.commit().0 - 1;
        let nanos = begun.elapsed().as_nanos() as f64 / done as f64;
        assert!(proposals <= done, "everything is committed");
        let messages = (trio.messages - before) as f64 / done as f64;
        println!(
            "burst {burst:>3}: {nanos:>6.0} ns a proposal on three cores together, {messages:.2} messages"
        );
    }
}
