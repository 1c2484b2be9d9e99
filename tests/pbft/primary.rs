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

/// How long another process has the primary's core, from which message on, and again after how long: more often, and it would be a slow
/// primary.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSED_AT: u64 = 4_000;
const PAUSED_EVERY: Duration = Duration::from_secs(5);

/// The primary stands still now and then: what it says and what it would hear comes when it goes on.
struct StandsStill {
    pause: Duration,
    /// Messages so far, and when the first pause began.
    met: u64,
    paused_at: Option<Instant>,
    /// How often somebody wished for another view, or complained of this one, and how many messages came late.
    seen: Rc<Cell<(u64, u64)>>,
}

impl Adversary for StandsStill {
    fn fate(&mut self, now: Instant, from: NodeId, to: NodeId, message: &Message) -> Fate {
        let (mut unhappy, mut late) = self.seen.get();
        let is_unhappy = match message {
            Message::Pbft(pbft::Message::Status { complains, .. }) => *complains,
            Message::Pbft(message) => matches!(message, pbft::Message::ViewChange(_)),
            _ => false,
        };
        unhappy += u64::from(is_unhappy);
        self.met += 1;
        if self.met == PAUSED_AT {
            self.paused_at = Some(now);
        }
        let since = self.paused_at.map(|at| now.since(at).as_nanos() % PAUSED_EVERY.as_nanos());
        let left = since.map(|since| self.pause.saturating_sub(Duration::from_nanos(since as u64)));
        let left = left.unwrap_or_default();
        let stands = left != Duration::ZERO && [from, to].contains(&PRIMARY);
        late += u64::from(stands);
        self.seen.set((unhappy, late));
        if stands { Fate::Hold(left) } else { Fate::Pass }
    }
}

/// With the time-outs of a node as it is delivered and the widest window that is drawn, for in a narrow one a few requests that come before
/// others look unfair, and what a primary refuses to one node as more than its share comes again when that node's time has run out; and in
/// worlds in which nothing else is slow: disks of some seeds take a tenth of a second a write, several of which
/// a request waits for, so that with a pause on top it may well wait for longer than the time-out.
#[test]
fn a_primary_that_loses_its_core_for_a_tenth_of_a_second_keeps_its_view() {
    let (protocol, nodes, faults) = (ProtocolName::Pbft, Some(4), Faults::NONE);
    let options = Options { protocol, nodes, faults, ..Options::of(40_000) };
    let usual = quorate::protocol::pbft::Options::default().request_timeout;
    let is_usual = |seed: &u64| {
        let swarm = Swarm::draw(&mut Prng::from_seed(*seed), &options);
        let Swarm { write_us_max, delay_us_max, apply_us_max, .. } = swarm;
        let pbft = &swarm.common.pbft;
        let is_swift = write_us_max <= 3_000 && delay_us_max <= 5_000 && apply_us_max <= 2_000;
        let is_roomy = pbft.window == 128 && swarm.common.route.batches_max <= pbft.origin_batches_max;
        is_swift && is_roomy && pbft.request_timeout == usual
    };
    let run = |seed, pause| {
        let seen = Rc::new(Cell::new((0, 0)));
        let adversary = Box::new(StandsStill { pause, met: 0, paused_at: None, seen: seen.clone() });
        let ran = violation::catch(|| World::run_against(seed, &options, adversary));
        let outcome = ran.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        (seen.get(), outcome)
    };
    let seeds: Vec<u64> = (1..6_000).filter(is_usual).take(8).collect();
    assert_eq!(seeds.len(), 8, "few worlds are so: {seeds:?}");
    let mut replaced = 0;
    for seed in seeds {
        let ((unhappy, _), _) = run(seed, Duration::ZERO);
        assert_eq!(unhappy, 0, "seed {seed} without a pause");
        let ((unhappy, late), outcome) = run(seed, PAUSE);
        assert!(0 < late && 0 < outcome.acknowledged, "seed {seed}: {late} {outcome:?}");
        assert_eq!(unhappy, 0, "seed {seed}: {outcome:?}");
        let ((unhappy, _), _) = run(seed, 2 * usual);
        replaced += u64::from(0 < unhappy);
    }
    assert!(0 < replaced, "nobody notices a primary that stands still for two time-outs");
}
