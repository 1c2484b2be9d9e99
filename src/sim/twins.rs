//! Twins (Bano and others, "Twins: BFT Systems Made Robust", OPODIS 2021): a Byzantine replica is imitated by two correct ones with one
//! name and the same keys, of which some replicas hear the one and some the other. Equivocation, double votes, forgotten locks and lies
//! about what prepared come of it without a line of malicious code.
//!
//! A story has a few rounds. In each the table is parted anew, every part's primary is asked for something of its own, letters are read
//! within the parts, and time passes until the part loses patience with its primary or not. So who leads when is enumerated together
//! with who is twinned and how long a round takes: a view's number says who its primary is. At the end everybody hears everybody, and
//! the correct replicas, which never executed two values at a slot, must go on. A story is a function of its number.

use super::table::Table;
use super::violation::hold;
use crate::base::{NodeId, NodeSet, Prng};
use crate::protocol::pbft::{Options, Quorum};
use std::time::Duration;

/// Replicas of a group, unless said otherwise.
pub const NODES: usize = 4;
/// Rounds before everybody hears everybody.
pub const ROUNDS: usize = 4;
/// Every way of parting the seats of four replicas, one of them twinned, into at most three parts, times every length of a round, times
/// everybody who may be twinned: so many stories of one round there are.
pub const STORIES_OF_A_ROUND: u64 = 41 * LENGTHS.len() as u64 * NODES as u64;

const LIVENESS: &str = "twins-liveness";
const ACCOUNTABLE: &str = "twins-no-correct-replica-is-convicted";

/// How often time passes in a round: not at all, until somebody loses patience, until a new view had time.
const LENGTHS: [usize; 3] = [0, 3, 8];
/// At the end time passes at most so often until everything is executed.
const END_MAX: usize = 4_000;

/// One round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The part of each seat.
    pub parts: Vec<u8>,
    /// How often time passes.
    pub length: usize,
}

/// A story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How many replicas there are.
    pub nodes: usize,
    /// Who sits there twice; the second seats come last, in this order.
    pub twinned: Vec<NodeId>,
    /// What happens.
    pub rounds: Vec<Round>,
    /// Slots between checkpoints.
    pub checkpoint_every: u64,
}

/// What a story came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Story {
    /// Stands for what everybody executed, and when.
    pub transcript: u64,
    /// Letters that were read.
    pub letters: u64,
    /// Slots that the correct replicas have executed.
    pub executed: u64,
    /// The highest view.
    pub view: u64,
    /// Who was convicted by a correct replica.
    pub convicted: NodeSet,
}

/// Every way of parting `seats` into at most three parts, as restricted growth strings: each has one form.
fn partings(seats: usize) -> Vec<Vec<u8>> {
    let mut all = vec![vec![0]];
    for _ in 1..seats {
        let longer = |parts: Vec<u8>| {
            let next = parts.iter().max().copied().unwrap_or(0) + 1;
            (0..=next.min(2)).map(move |part| [parts.clone(), vec![part]].concat())
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

impl Scenario {
    /// The story of this number: the first are all stories of one round that repeats itself; after them each number draws its rounds.
    pub fn numbered(number: u64, nodes: usize) -> Scenario {
        let f = Quorum::most(nodes).f();
        let ways = partings(nodes + f);
        let count = ways.len() as u64;
        let mut prng = Prng::from_seed(number ^ 0x7713);
        let is_first = number < count * LENGTHS.len() as u64 * nodes as u64;
        let twinned = match is_first {
            true => (0..f as u64).map(|n| NodeId(((number + n) % nodes as u64) as u8 + 1)).collect(),
            false => {
                let first = prng.below(nodes as u64);
                (0..f as u64).map(|n| NodeId(((first + n) % nodes as u64) as u8 + 1)).collect()
            }
        };
        let draw = |round: u64, prng: &mut Prng| {
            let (way, length) = match is_first && round.is_multiple_of(2) {
                true => (number / nodes as u64 % count, number / (nodes as u64 * count)),
                false => (prng.below(count), prng.below(LENGTHS.len() as u64)),
            };
            Round { parts: ways[way as usize].clone(), length: LENGTHS[length as usize] }
        };
        let rounds = (0..ROUNDS as u64).map(|round| draw(round, &mut prng)).collect();
        Scenario { nodes, twinned, rounds, checkpoint_every: [1, 2, 4][prng.below(3) as usize] }
    }

    fn options(&self) -> Options {
        let (every, window) = (self.checkpoint_every, 2 * self.checkpoint_every.max(2));
        Options {
            window,
            checkpoint_every: every,
            snapshot_every: 2 * window,
            request_timeout: Duration::from_millis(100),
            request_timeout_max: Duration::from_millis(800),
            status_every: Duration::from_millis(50),
            ..Options::default()
        }
    }

    /// Plays it. Panics when a property does not hold.
    pub fn run(&self) -> Story {
        let (table, correct, letters) = self.table();
        self.judge(&table, &correct, letters)
    }

    /// The table at the end, the seats of correct replicas, and how many letters were read.
    fn table(&self) -> (Table, Vec<usize>, u64) {
        let mut ids: Vec<NodeId> = (1..=self.nodes as u8).map(NodeId).collect();
        ids.extend(&self.twinned);
        let mut table = Table::new(&ids, self.nodes, &self.options());
        let correct: Vec<usize> =
            (0..self.nodes).filter(|at| !self.twinned.contains(&NodeId(*at as u8 + 1))).collect();
        let mut letters = 0;
        for (number, round) in (1..).zip(&self.rounds) {
            self.play(&mut table, number, round, &mut letters);
            table.agree(correct.iter().copied());
        }
        self.end(&mut table, &correct, &mut letters);
        (table, correct, letters)
    }

    fn play(&self, table: &mut Table, number: u64, round: &Round, letters: &mut u64) {
        let parts = &round.parts;
        let may = |from: usize, to: usize| parts[from] == parts[to];
        // Each part wants something else, so that a primary that is in two of them says two things.
        for part in 0..=parts.iter().max().copied().unwrap_or(0) {
            let members: Vec<usize> = (0..parts.len()).filter(|at| parts[*at] == part).collect();
            let batch = table.seats[members[0]].batch(number, &[part, number as u8]);
            table.ask(&batch, members);
        }
        read(table, may, letters);
        for _ in 0..round.length {
            table.pass();
            read(table, may, letters);
        }
        // What was for somebody else is lost.
        table.burn();
    }

    /// Everybody hears everybody. Twins go on as they are.
    fn end(&self, table: &mut Table, correct: &[usize], letters: &mut u64) {
        let number = ROUNDS as u64 + 1;
        let wishes: Vec<_> = correct.iter().map(|at| table.seats[*at].batch(number, b"end")).collect();
        let is_done = |table: &Table| {
            let done = |seat: usize| wishes.iter().all(|wish| has(table, seat, wish.origin.node, number));
            correct.iter().all(|seat| done(*seat))
        };
        for passed in 0..END_MAX {
            if is_done(table) {
                return;
            }
            if passed % 40 == 0 {
                wishes.iter().for_each(|wish| table.ask(wish, 0..table.seats.len()));
            }
            read(table, |_, _| true, letters);
            table.pass();
        }
        let seen: Vec<String> =
            table.seats.iter().map(|seat| format!("\n  {:?}", seat.core.standing())).collect();
        hold!(LIVENESS, false, "{self:?}: what was asked for at the end is not executed{}", seen.concat());
    }

    fn judge(&self, table: &Table, correct: &[usize], letters: u64) -> Story {
        table.agree(correct.iter().copied());
        let mut convicted = NodeSet::default();
        for seat in correct.iter().map(|at| &table.seats[*at]) {
            for (node, kind, _) in seat.core.proofs() {
                let is_twin = self.twinned.contains(&node);
                hold!(ACCOUNTABLE, is_twin, "node {} convicts {node} by {kind}", seat.id());
                convicted.insert(node);
            }
        }
        let seats = || correct.iter().map(|at| &table.seats[*at]);
        let words = seats().flat_map(|seat| [seat.machine.digest(), seat.core.view().0]);
        Story {
            transcript: words.chain([table.now.0, letters]).fold(0, super::machine::mix),
            letters,
            executed: seats().map(|seat| seat.machine.applied.0).max().unwrap_or(0),
            view: seats().map(|seat| seat.core.view().0).max().unwrap_or(0),
            convicted,
        }
    }
}

/// Whether a seat's machine has applied a batch of this number of `origin`'s, in whatever way it came to it.
fn has(table: &Table, seat: usize, origin: NodeId, number: u64) -> bool {
    let origin = crate::base::Origin { node: origin, lane: 0, boot: 1 };
    number <= table.seats[seat].machine.last_of(origin)
}

fn read(table: &mut Table, may: impl Fn(usize, usize) -> bool, letters: &mut u64) {
    table.run_with(may, |_, letter| {
        *letters += 1;
        Some(letter)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::violation::violates;
    use std::collections::BTreeSet;

    #[test]
    fn partings_are_all_and_each_is_there_once() {
        // Stirling numbers of the second kind: S(5,1) + S(5,2) + S(5,3).
        let five = partings(5);
        assert_eq!(five.len(), 1 + 15 + 25);
        assert_eq!(five.iter().collect::<BTreeSet<_>>().len(), five.len());
    }

    #[test]
    fn a_story_is_a_function_of_its_number_and_the_first_differ() {
        let story = |number| Scenario::numbered(number, NODES);
        assert_eq!(story(7).run(), story(7).run());
        let first: BTreeSet<String> = (0..STORIES_OF_A_ROUND).map(|n| format!("{:?}", story(n))).collect();
        assert_eq!(first.len() as u64, STORIES_OF_A_ROUND);
    }

    #[test]
    fn proof_against_a_correct_replica_is_told() {
        let mut tables =
            (0..).map(|number| Scenario::numbered(number, NODES)).map(|story| (story.table(), story));
        let ((table, correct, letters), mut story) = tables
            .find(|((table, correct, letters), story)| {
                !story.judge(table, correct, *letters).convicted.is_empty()
            })
            .expect("twins are convicted sooner or later");
        story.twinned.clear();
        violates("twins-no-correct-replica-is-convicted", || {
            story.judge(&table, &correct, letters);
        });
    }

    #[test]
    fn correct_replicas_that_do_not_go_on_are_told() {
        let story = Scenario::numbered(0, NODES);
        // Two of four are no quorum.
        let mut table = Table::new(&[NodeId(1), NodeId(2)], NODES, &story.options());
        violates("twins-liveness", || story.end(&mut table, &[0, 1], &mut 0));
    }
}
