//! Primaries that do their work badly without ever saying anything false: each is replaced, and everybody's clients are served.

use quorate::base::{Instant, NodeId, Prng};
use quorate::sim::adversary::{Adversary, Fate};
use quorate::sim::{Faults, Options, Outcome, ProtocolName, Swarm, World, violation};
use quorate::wire::{Message, forward, pbft};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The primary of the first view.
const PRIMARY: NodeId = NodeId(1);
/// Whose batches an unfair one does not order.
const VICTIM: NodeId = NodeId(3);

/// What becomes of a message from one to another, in a group with this time-out.
type Manner = fn(Duration, NodeId, NodeId, &Message) -> Fate;

/// What the others make of it.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    /// The newest view in which anything was assigned.
    view: u64,
    /// Words of complaint.
    complaints: u64,
}

/// The world, with one primary of that manner in it.
struct Behind {
    manner: Manner,
    request_timeout: Duration,
    seen: Rc<Cell<Seen>>,
}

impl Adversary for Behind {
    fn fate(&mut self, _now: Instant, from: NodeId, to: NodeId, message: &Message) -> Fate {
        let mut seen = self.seen.get();
        match message {
            Message::Pbft(pbft::Message::PrePrepare { view, .. }) => seen.view = seen.view.max(view.0),
            Message::Pbft(pbft::Message::Status { complains: true, .. }) => seen.complaints += 1,
            _ => (),
        }
        self.seen.set(seen);
        (self.manner)(self.request_timeout, from, to, message)
    }
}

/// A run of four nodes.
fn behind(seed: u64, manner: Manner) -> (Outcome, Seen) {
    let (protocol, nodes, faults) = (ProtocolName::Pbft, Some(4), Faults::NONE);
    let options = Options { protocol, nodes, faults, ..Options::of(40_000) };
    let request_timeout = Swarm::draw(&mut Prng::from_seed(seed), &options).common.pbft.request_timeout;
    let seen = Rc::new(Cell::new(Seen::default()));
    let adversary = Box::new(Behind { manner, request_timeout, seen: seen.clone() });
    let ran = violation::catch(|| World::run_against(seed, &options, adversary));
    (ran.unwrap_or_else(|violation| panic!("seed {seed}: {violation}")), seen.get())
}

fn is_assignment(from: NodeId, message: &Message) -> bool {
    from == PRIMARY && matches!(message, Message::Pbft(pbft::Message::PrePrepare { .. }))
}

/// How many runs heard complaints.
fn each_is_replaced(manner: Manner) -> usize {
    let mut complained = 0;
    for seed in 1..=4 {
        let (outcome, seen) = behind(seed, manner);
        assert!(0 < seen.view, "seed {seed}: the primary stays: {outcome:?} {seen:?}");
        assert!(0 < outcome.acknowledged, "seed {seed}: {outcome:?}");
        complained += usize::from(0 < seen.complaints);
    }
    complained
}

#[test]
fn silent_primary() {
    each_is_replaced(|_, from, _, message| match is_assignment(from, message) {
        true => Fate::Lose,
        false => Fate::Pass,
    });
}

/// It delays everything to below the time-out, so that only its pace can be held against it.
#[test]
fn slow_primary() {
    let complained =
        each_is_replaced(|request_timeout, from, _, message| match is_assignment(from, message) {
            true => Fate::Hold(request_timeout * 3 / 4),
            false => Fate::Pass,
        });
    assert!(0 < complained, "time-outs alone have replaced it");
}

/// It is quick with everybody but one.
#[test]
fn unfair_primary() {
    each_is_replaced(|_, _, to, message| {
        let batch = match message {
            Message::Forward(forward::Message::Batch { batch, .. }) => Some(batch),
            Message::Pbft(pbft::Message::Request { batch }) => Some(batch),
            _ => None,
        };
        match to == PRIMARY && batch.is_some_and(|batch| batch.origin.node == VICTIM) {
            true => Fate::Lose,
            false => Fate::Pass,
        }
    });
}
