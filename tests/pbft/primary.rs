//! Primaries that do their work badly without ever saying anything false: each is replaced, and everybody's clients are served.

use quorate::base::{Instant, NodeId};
use quorate::sim::adversary::{Adversary, Fate};
use quorate::sim::{Faults, Options, Outcome, ProtocolName, World, violation};
use quorate::wire::{Message, forward, pbft};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The primary of the first view.
const PRIMARY: NodeId = NodeId(1);
/// Whose batches an unfair one does not order.
const VICTIM: NodeId = NodeId(3);

/// What becomes of a message, at this time of the world, if it is one that the primary deals with in its own way.
type Manner = fn(Duration, NodeId, NodeId, &Message) -> Fate;

/// The world, with one primary of that manner in it.
struct Behind {
    manner: Manner,
    /// The newest view in which anything was assigned.
    view: Rc<Cell<u64>>,
}

impl Adversary for Behind {
    fn fate(&mut self, now: Instant, from: NodeId, to: NodeId, message: &Message) -> Fate {
        if let Message::Pbft(pbft::Message::PrePrepare { view, .. }) = message {
            self.view.set(self.view.get().max(view.0));
        }
        (self.manner)(now.since(Instant::ZERO), from, to, message)
    }
}

/// A run of four nodes; gives back what it came to, and the last view.
fn behind(seed: u64, manner: Manner) -> (Outcome, u64) {
    let options =
        Options { protocol: ProtocolName::Pbft, nodes: Some(4), faults: Faults::NONE, ..Options::of(20_000) };
    let view = Rc::new(Cell::new(0));
    let adversary = Box::new(Behind { manner, view: view.clone() });
    let ran = violation::catch(|| World::run_against(seed, &options, adversary));
    (ran.unwrap_or_else(|violation| panic!("seed {seed}: {violation}")), view.get())
}

fn is_assignment(from: NodeId, message: &Message) -> bool {
    from == PRIMARY && matches!(message, Message::Pbft(pbft::Message::PrePrepare { .. }))
}

fn each_is_replaced(manner: Manner) {
    for seed in 1..=4 {
        let (outcome, view) = behind(seed, manner);
        assert!(0 < view, "seed {seed}: the primary stays: {outcome:?}");
        assert!(0 < outcome.acknowledged, "seed {seed}: {outcome:?}");
    }
}

#[test]
fn silent_primary() {
    each_is_replaced(|_, from, _, message| match is_assignment(from, message) {
        true => Fate::Lose,
        false => Fate::Pass,
    });
}

/// It begins well, and then delays everything to below the time-out.
#[test]
fn slow_primary() {
    each_is_replaced(|now, from, _, message| match is_assignment(from, message) {
        true if Duration::from_secs(4) < now => Fate::Hold(Duration::from_millis(170)),
        _ => Fate::Pass,
    });
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
