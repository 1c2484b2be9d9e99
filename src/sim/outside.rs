//! A world of native clients: their real cores and the real stores of the replicas, with an oracle in place of agreement.
//!
//! What replicas agree on is tried elsewhere; here it is one list, from which each applies at its own pace. Tried is what clients make of
//! replies: some replicas lag, `f` of them lie with one voice, and messages are lost, repeated and late. One client counts up, the
//! other reads. What must hold: no increment counts twice or is answered with another's number, no read misses what was acknowledged
//! before it began or what an earlier read showed, and in the end, without faults, everything is answered.

use crate::base::ring::{Consumer, ring};
use crate::base::{Body, GROUP_ONE, Instant, NodeId, Number, Origin, Prng, Slot, Stamp, Term};
use crate::client::{Auth, Core, Settings};
use crate::crypto::SigningKey;
use crate::protocol::pbft::Quorum;
use crate::resp::{Op, batch};
use crate::store::vouch::Vouching;
use crate::store::{self, Admission, HashKey, Replies, Store};
use crate::wire::forward::{Message, Reply};
use crate::wire::hop::{Answer, Demand, Outgoing};
use crate::wire::{self, Entry, EntryKind};
use std::collections::BTreeMap;
use std::time::Duration;

const WRITER: NodeId = NodeId(64);
const READER: NodeId = NodeId(65);
/// Steps with faults, and how many more may pass until everything is answered.
const STEPS: u64 = 4_000;
const STEPS_TO_HEAL: u64 = 40_000;
/// Demands of a client that are not answered.
const DEMANDS_MAX: usize = 3;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tale {
    /// Increments that were answered.
    pub written: u64,
    /// Reads that were answered.
    pub read: u64,
    /// Those of them that were not ordered.
    pub fast: u64,
    /// Attempts after the first.
    pub again: u64,
    /// Batches whose outcome stayed unknown.
    pub unknown: u64,
}

struct Replica {
    store: Store,
    vouching: Vouching,
    out: Consumer<Outgoing>,
    is_liar: bool,
    is_slow: bool,
}

/// What both clients know and what is demanded of their answers.
#[derive(Default)]
struct Book {
    issued: u64,
    /// The highest number that an answer to an increment or to a read has shown.
    shown: u64,
    /// By sequence: the answers to increments.
    written: BTreeMap<u64, u64>,
    /// By id: what had been shown when the read began.
    reads: BTreeMap<u64, u64>,
    last_read: u64,
    tale: Tale,
}

struct World {
    prng: Prng,
    now: Instant,
    replicas: Vec<Replica>,
    clients: [Core; 2],
    log: Vec<Entry>,
    /// On their way, in no order.
    network: Vec<(NodeId, Outgoing)>,
    is_healing: bool,
    book: Book,
}

/// Runs a seed. What does not hold is said in a sentence.
pub fn run(seed: u64, fast_reads: bool) -> Result<Tale, String> {
    let mut world = World::new(seed, fast_reads);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.is_healing = true;
    for _ in 0..STEPS_TO_HEAL {
        world.step()?;
        if world.clients.iter().all(Core::is_empty) {
            return Ok(world.tale());
        }
    }
    let [writer, reader] = world.clients.each_ref().map(Core::len);
    Err(format!(
        "progress: {writer} increments and {reader} reads have no answer although nothing is lost any more"
    ))
}

fn replica(place: usize, members: usize, prng: &mut Prng) -> Replica {
    let options = store::Options { group: GROUP_ONE, key: HashKey::derive(&[1]), bucket_bits: 4 };
    let (to_clients, out) = ring(1024);
    let clients = [WRITER, READER].into_iter();
    let vouching =
        Vouching::new(GROUP_ONE, to_clients, Number::new(1), (place, members), [].into_iter(), clients);
    Replica { store: Store::new(options), vouching, out, is_liar: false, is_slow: prng.chance(1, 3) }
}

fn commands(op: Op) -> Body {
    let mut bytes = Vec::new();
    batch::write(&mut bytes, op, 0, [&b"count"[..]].into_iter());
    Body::new(bytes.into())
}

/// The number in a reply to INCR or GET.
fn number(replies: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(replies).ok()?;
    match text.split_at_checked(1)? {
        (":", rest) => rest.trim_end().parse().ok(),
        ("$", rest) if rest.starts_with("-1") => Some(0),
        ("$", rest) => rest.split("\r\n").nth(1)?.parse().ok(),
        _ => None,
    }
}

impl World {
    fn new(seed: u64, fast_reads: bool) -> World {
        let mut prng = Prng::from_seed(seed);
        let quorum = Quorum::most([4, 4, 5, 7][prng.below(4) as usize]);
        let mut replicas: Vec<Replica> =
            (0..quorum.n()).map(|at| replica(at, quorum.n(), &mut prng)).collect();
        let first = prng.below(quorum.n() as u64) as usize;
        (0..quorum.f()).for_each(|liar| replicas[(first + liar) % quorum.n()].is_liar = true);
        let client = |me: NodeId| {
            let settings = Settings {
                group: GROUP_ONE,
                me,
                boot: 1,
                members: (1..=quorum.n() as u8).map(NodeId).collect(),
                quorum,
                fast_reads,
                auth: if seed.is_multiple_of(2) { Auth::Sign } else { Auth::Mac },
                retry_after: Duration::from_millis(20),
                answer_within: Duration::from_secs(2),
            };
            Core::new(settings, SigningKey::from_entropy([me.0; 32]))
        };
        let clients = [client(WRITER), client(READER)];
        let (now, log, network, book) = (Instant::ZERO, Vec::new(), Vec::new(), Book::default());
        World { prng, now, replicas, clients, log, network, is_healing: false, book }
    }

    fn tale(&self) -> Tale {
        let again = self.clients.iter().map(|client| client.counters().again).sum();
        let unknown = self.clients.iter().map(|client| client.counters().indeterminate).sum();
        Tale { fast: self.clients[1].counters().fast, again, unknown, ..self.book.tale }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now = self.now.after(Duration::from_micros(self.prng.below(300)));
        match self.prng.below(8) {
            0 if !self.is_healing => self.want(),
            1..=3 => self.deliver(),
            _ => self.apply(),
        }
        for client in 0..2 {
            if self.clients[client].deadline().is_some_and(|at| at <= self.now) {
                self.clients[client].timeout(self.now);
            }
            let from = [WRITER, READER][client];
            self.network.extend(self.clients[client].outgoing.drain(..).map(|outgoing| (from, outgoing)));
            let answers: Vec<Answer> = self.clients[client].answers.drain(..).collect();
            answers.into_iter().try_for_each(|answer| self.book.hear(answer))?;
        }
        Ok(())
    }

    /// A client asks for something.
    fn want(&mut self) {
        let is_write = self.prng.chance(1, 2);
        let client = &mut self.clients[usize::from(!is_write)];
        if DEMANDS_MAX <= client.len() {
            return;
        }
        self.book.issued += u64::from(is_write);
        let demand = if is_write {
            let (sequence, body) = (self.book.issued, commands(Op::Incr));
            Demand::Write { sequence, body, growth: 0, left: self.now }
        } else {
            self.book.last_read += 1;
            self.book.reads.insert(self.book.last_read, self.book.shown);
            Demand::Read { id: self.book.last_read, body: commands(Op::Get).bytes().clone() }
        };
        client.demand(self.now, demand);
    }

    /// A message arrives, or is lost, or arrives and comes again.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.prng.below(self.network.len() as u64) as usize;
        if !self.is_healing && self.prng.chance(1, 10) {
            self.network.swap_remove(at);
            return;
        }
        let is_repeated = !self.is_healing && self.prng.chance(1, 10);
        let (from, outgoing) =
            if is_repeated { self.network[at].clone() } else { self.network.swap_remove(at) };
        let wire::Message::Forward(message) = outgoing.message else { return };
        match [WRITER, READER].iter().position(|client| *client == outgoing.to) {
            Some(client) => self.clients[client].receive(self.now, from, message),
            None => self.asked(usize::from(outgoing.to.0) - 1, from, message),
        }
    }

    /// A replica hears a client. What is to be ordered is ordered, again if it is heard again: the stores know what has taken effect.
    fn asked(&mut self, at: usize, client: NodeId, message: Message) {
        let replica = &mut self.replicas[at];
        match message {
            Message::Batch { batch, attempt } => {
                if 1 < attempt {
                    let kept = replica.store.sessions().reply(batch.origin, batch.sequence);
                    replica.vouching.again(batch.origin, batch.sequence, kept);
                }
                let slot = Slot(self.log.len() as u64 + 1);
                self.log.push(Entry {
                    term: Term(0),
                    slot,
                    stamp: Stamp(slot.0),
                    kind: EntryKind::Batch,
                    origin: batch.origin,
                    sequence: batch.sequence,
                    floor: batch.floor,
                    body: batch.body,
                });
            }
            Message::Read { boot, lane, id, body } => {
                let mut replies = Replies::default();
                replica.store.read(body.bytes(), &mut replies);
                replica.vouching.answered(Origin { node: client, lane, boot }, id, replies.bytes.into());
            }
            Message::Refused { .. } | Message::Replied(_) => (),
        }
        self.say(at);
    }

    /// A replica applies the next of what is decided; slow ones rarely do.
    fn apply(&mut self) {
        let at = self.prng.below(self.replicas.len() as u64) as usize;
        let replica = &mut self.replicas[at];
        if replica.is_slow && !self.is_healing && !self.prng.chance(1, 40) {
            return;
        }
        let Some(entry) = self.log.get(replica.store.applied().0 as usize) else { return };
        let mut replies = Replies::default();
        if replica.store.apply(entry, Some(&mut replies)) == Admission::Applied {
            replica.vouching.replied(entry.origin, entry.sequence, replies.bytes.into());
        }
        self.say(at);
    }

    /// What a replica says to clients. All liars tell one lie: the number as it was long ago.
    fn say(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.vouching.say();
        while let Some(mut outgoing) = replica.out.pop() {
            if replica.is_liar
                && let wire::Message::Forward(Message::Replied(reply)) = &mut outgoing.message
            {
                *reply = lie(reply, self.book.shown);
            }
            self.network.push((NodeId(at as u8 + 1), outgoing));
        }
    }
}

fn lie(reply: &Reply, shown: u64) -> Reply {
    let text = (shown / 2).to_string();
    let is_write = reply.body.bytes().first() == Some(&b':');
    let text = if is_write { format!(":{text}\r\n") } else { format!("${}\r\n{text}\r\n", text.len()) };
    let body = Body::new(text.into_bytes().into());
    Reply { digest: body.digest(), body, ..*reply }
}

impl Book {
    fn hear(&mut self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Write { sequence, replies, .. } => {
                let count = number(&replies).ok_or("an increment was answered with no number")?;
                let before = self.written.range(..sequence).next_back().map_or(0, |(_, count)| *count);
                let after = self.written.range(sequence..).next().map_or(u64::MAX, |(_, count)| *count);
                if !(before < count && count < after && count <= sequence) {
                    return Err(format!(
                        "exactly-once: increment {sequence} was answered {count} after {before}"
                    ));
                }
                self.written.insert(sequence, count);
                self.shown = self.shown.max(count);
                self.tale.written += 1;
            }
            Answer::Read { id, replies, .. } => {
                let count = number(&replies).ok_or("a read was answered with no number")?;
                let least = self.reads.remove(&id).ok_or("a read was answered twice")?;
                if count < least || self.issued < count {
                    let issued = self.issued;
                    return Err(format!("linearizability: read {id} shows {count}, not {least} to {issued}"));
                }
                self.shown = self.shown.max(count);
                self.tale.read += 1;
            }
            // The outcome is unknown, and that is all that is said.
            _ => (),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_right_among_liars_laggards_and_lost_messages() {
        for fast_reads in [false, true] {
            let mut all = Tale::default();
            for seed in 1..=60 {
                let tale = run(seed, fast_reads).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
                all.written += tale.written;
                all.read += tale.read;
                all.fast += tale.fast;
                all.again += tale.again;
            }
            assert!(0 < all.written && 0 < all.read && 0 < all.again, "{all:?}");
            assert_eq!(0 < all.fast, fast_reads, "{all:?}");
        }
    }

    #[cfg(feature = "canaries")]
    #[test]
    fn a_weak_quorum_of_fast_replies_is_found_to_be_stale() {
        use crate::base::canary::{Canary, with};
        let found =
            with(Canary::FastReadWeakQuorum, || (1..=40).filter_map(|seed| run(seed, true).err()).collect());
        let found: Vec<String> = found;
        assert!(found.iter().any(|why| why.starts_with("linearizability")), "{found:?}");
    }

    #[test]
    fn a_run_is_a_function_of_its_seed() {
        assert_eq!(run(7, true), run(7, true));
    }
}
