//! A world of native clients: their real cores and the real stores of the replicas, with an oracle in place of agreement.
//!
//! What replicas agree on is tried elsewhere; here it is one list, from which each applies at its own pace. Tried is what clients make of
//! replies: some replicas lag, `f` of them lie with one voice, and messages are lost, repeated and late; in every other run members come
//! and go, which clients learn by charters. One client counts up, the other reads. What must hold: no increment counts twice or is answered
//! with another's number, no read misses what was acknowledged before it began or what an earlier read showed, and in the end, without
//! faults, everything is answered.

use crate::base::ring::{Consumer, ring};
use crate::base::{
    Body, Digest, GROUP_ONE, Instant, NodeId, NodeSet, Number, Origin, Prng, Slot, Stamp, Term, View,
};
use crate::client::{Auth, Core, Settings};
use crate::crypto::{ClusterId, PublicKey, SigningKey};
use crate::protocol::pbft::lineage::quorum_of;
use crate::protocol::pbft::{Lineage, Quorum};
use crate::resp::{Op, batch};
use crate::store::vouch::Vouching;
use crate::store::{self, Admission, HashKey, Replies, Store};
use crate::wire::forward::{Message, Reply};
use crate::wire::hop::{Answer, Demand, Outgoing};
use crate::wire::members::{Amendment, Member, Membership};
use crate::wire::pbft::{self, Charter, Vote};
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

/// The distance of checkpoints, and half the window: an amendment is in force a few slots after its own.
const CHECKPOINT_EVERY: u64 = 4;
/// Changes of members in a run, and how many steps lie between two of them, about.
const CHANGES_MAX: usize = 5;
const CHANGE_EVERY: u64 = 500;

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
    /// The last epoch that the reader was in.
    pub epoch: u64,
}

struct Replica {
    id: NodeId,
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

/// Replicas of one time, and the last slot before it.
struct Epoch {
    since: Slot,
    membership: Membership,
}

struct World {
    prng: Prng,
    now: Instant,
    replicas: Vec<Replica>,
    /// From the first; rising.
    epochs: Vec<Epoch>,
    changes_left: usize,
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

/// As whom a replica signs.
fn key(id: NodeId) -> SigningKey {
    SigningKey::from_entropy([id.0; 32])
}

fn member(id: NodeId) -> Member {
    let (peer, client, admin) = (String::new(), String::new(), String::new());
    Member { id, key: PublicKey([id.0; 32]), signing_key: key(id).public(), peer, client, admin }
}

fn replica(id: NodeId, first: NodeSet, prng: &mut Prng) -> Replica {
    let options = store::Options { group: GROUP_ONE, key: HashKey::derive(&[1]), bucket_bits: 4 };
    let (to_clients, out) = ring(1024);
    let clients = [WRITER, READER].into_iter();
    let vouching = Vouching::new(GROUP_ONE, to_clients, Number::new(1), (id, first), [].into_iter(), clients);
    Replica { id, store: Store::new(options), vouching, out, is_liar: false, is_slow: prng.chance(1, 3) }
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
        let ids: NodeSet = (1..=quorum.n() as u8).map(NodeId).collect();
        let mut replicas: Vec<Replica> = ids.iter().map(|id| replica(id, ids, &mut prng)).collect();
        let members = ids.iter().map(member).collect();
        let faulty = quorum.f() as u8;
        let membership = Membership { epoch: 0, faulty, retired: NodeSet::default(), members };
        let first = prng.below(quorum.n() as u64) as usize;
        (0..quorum.f()).for_each(|liar| replicas[(first + liar) % quorum.n()].is_liar = true);
        let client = |me: NodeId| {
            let settings = Settings {
                group: GROUP_ONE,
                me,
                boot: 1,
                fast_reads,
                auth: if seed.is_multiple_of(2) { Auth::Sign } else { Auth::Mac },
                retry_after: Duration::from_millis(20),
                answer_within: Duration::from_secs(2),
            };
            Core::new(settings, Lineage::new(GROUP_ONE, membership.clone()), key(me))
        };
        let clients = [client(WRITER), client(READER)];
        let (now, log, network, book) = (Instant::ZERO, Vec::new(), Vec::new(), Book::default());
        let (changes_left, is_healing) = (CHANGES_MAX * usize::from(prng.chance(1, 2)), false);
        let epochs = vec![Epoch { since: Slot::ZERO, membership }];
        World { prng, now, replicas, epochs, changes_left, clients, log, network, is_healing, book }
    }

    fn tale(&self) -> Tale {
        let again = self.clients.iter().map(|client| client.counters().again).sum();
        let unknown = self.clients.iter().map(|client| client.counters().indeterminate).sum();
        let epoch = self.clients[1].lineage().latest().epoch;
        Tale { fast: self.clients[1].counters().fast, again, unknown, epoch, ..self.book.tale }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now = self.now.after(Duration::from_micros(self.prng.below(300)));
        if 0 < self.changes_left && !self.is_healing && self.prng.chance(1, CHANGE_EVERY) {
            self.change_members();
        }
        match self.prng.below(8) {
            0 if !self.is_healing => self.want(),
            1..=3 => self.deliver(),
            _ => self.apply(),
        }
        for client in 0..2 {
            if self.clients[client].deadline() <= self.now {
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
        let client = [WRITER, READER].iter().position(|client| *client == outgoing.to);
        match (client, outgoing.message) {
            (Some(client), wire::Message::Forward(message)) => {
                self.clients[client].receive(self.now, from, message);
            }
            (Some(client), wire::Message::Pbft(pbft::Message::Charter(charter))) => {
                self.clients[client].chartered(self.now, &charter);
            }
            (None, wire::Message::Forward(message)) => {
                self.asked(usize::from(outgoing.to.0) - 1, from, message);
            }
            (None, wire::Message::Pbft(pbft::Message::Status { view, .. })) => {
                self.show(usize::from(outgoing.to.0) - 1, from, view);
            }
            _ => (),
        }
    }

    /// Somebody comes, goes, or both: an amendment, and what is left of the epoch before, which is empty. Nobody lies more than may.
    fn change_members(&mut self) {
        let now = self.epochs.last().expect("there is a first");
        let mut next = now.membership.clone();
        let quorum = quorum_of(&next);
        let (comes, goes) = [(true, true), (true, false), (false, true)][self.prng.below(3) as usize];
        let leaver = next.members[self.prng.below(quorum.n() as u64) as usize].id;
        if !comes && Quorum::new(quorum.n() - 1, quorum.f()).is_none() {
            return;
        }
        self.changes_left -= 1;
        next.epoch += 1;
        if goes {
            next.members.retain(|member| member.id != leaver);
            next.retired.insert(leaver);
        }
        if comes {
            let first = self.epochs[0].membership.nodes();
            let mut newcomer = replica(NodeId(self.replicas.len() as u8 + 1), first, &mut self.prng);
            let was_liar = goes && self.replicas[usize::from(leaver.0) - 1].is_liar;
            newcomer.is_liar = was_liar && self.prng.chance(1, 2);
            next.members.push(member(newcomer.id));
            self.replicas.push(newcomer);
        }
        let (cluster, window) = (ClusterId([1; 16]), 2 * CHECKPOINT_EVERY);
        let amendment =
            Amendment { cluster, window, checkpoint_every: CHECKPOINT_EVERY, membership: next.clone() };
        let batch = amendment.batch(1);
        self.order(EntryKind::Batch, batch);
        let since = Slot((self.log.len() as u64 + window).next_multiple_of(CHECKPOINT_EVERY));
        while (self.log.len() as u64) < since.0 {
            self.order(EntryKind::Empty, wire::Batch::default());
        }
        self.epochs.push(Epoch { since, membership: next });
    }

    /// The next entry of the log.
    fn order(&mut self, kind: EntryKind, batch: wire::Batch) {
        let slot = Slot(self.log.len() as u64 + 1);
        let wire::Batch { origin, sequence, floor, body, .. } = batch;
        let (term, stamp) = (Term(0), Stamp(slot.0));
        self.log.push(Entry { term, slot, stamp, kind, origin, sequence, floor, body });
    }

    /// Who of an epoch's members is at its end: a quorum of them makes the next one's charter.
    fn ended(&self, epoch: usize, end: Slot) -> impl Iterator<Item = &Replica> {
        let members = self.epochs[epoch].membership.nodes();
        self.replicas
            .iter()
            .filter(move |replica| members.contains(replica.id) && end <= replica.store.applied())
    }

    /// How an epoch began, once a quorum of the last one's members has said so.
    fn charter(&self, epoch: usize) -> Option<Charter> {
        let Epoch { since, membership } = &self.epochs[epoch];
        let strong = quorum_of(&self.epochs[epoch - 1].membership).strong();
        let vote = Vote { slot: *since, digest: Digest([epoch as u8; 32]) };
        let mut charter = Charter { vote, membership: membership.clone(), signatures: Vec::new() };
        let signed = charter.signed(GROUP_ONE);
        let signers = self.ended(epoch - 1, *since).take(strong);
        charter.signatures = signers.map(|signer| (signer.id, key(signer.id).sign(&signed))).collect();
        (charter.signatures.len() == strong).then_some(charter)
    }

    /// A replica that has come to later epochs shows how they began.
    fn show(&mut self, at: usize, client: NodeId, view: View) {
        let applied = self.replicas[at].store.applied();
        let later = (1..self.epochs.len()).filter(|epoch| view.epoch() < *epoch as u64);
        let come_to = later.filter(|epoch| self.epochs[*epoch].since <= applied);
        let charters: Vec<Charter> = come_to.map_while(|epoch| self.charter(epoch)).collect();
        for charter in charters {
            let message = pbft::Message::Charter(charter).into();
            let outgoing = Outgoing { to: client, group: GROUP_ONE, message };
            self.network.push((self.replicas[at].id, outgoing));
        }
    }

    /// Whether a replica may apply what comes next: beyond an epoch's end only a member of the next, or one to come, and by its charter.
    fn may_apply(&self, at: usize) -> bool {
        let (id, applied) = (self.replicas[at].id, self.replicas[at].store.applied());
        let begins = (1..self.epochs.len()).find(|epoch| self.epochs[*epoch].since == applied);
        begins.is_none_or(|epoch| {
            !self.epochs[epoch].membership.retired.contains(id) && self.charter(epoch).is_some()
        })
    }

    /// A replica hears a client. What is to be ordered is ordered, again if it is heard again: the stores know what has taken effect.
    fn asked(&mut self, at: usize, client: NodeId, message: Message) {
        let replica = &mut self.replicas[at];
        replica.vouching.heed(replica.store.sessions().members());
        match message {
            Message::Batch { batch, attempt } => {
                if 1 < attempt {
                    let kept = replica.store.sessions().reply(batch.origin, batch.sequence);
                    replica.vouching.again(batch.origin, batch.sequence, kept);
                }
                self.order(EntryKind::Batch, batch);
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
        let may_apply = self.may_apply(at);
        let replica = &mut self.replicas[at];
        if !may_apply || (replica.is_slow && !self.is_healing && !self.prng.chance(1, 40)) {
            return;
        }
        let Some(entry) = self.log.get(replica.store.applied().0 as usize) else { return };
        replica.vouching.heed(replica.store.sessions().members());
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
            self.network.push((replica.id, outgoing));
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
            for seed in 1..=80 {
                let tale = run(seed, fast_reads).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
                all.epoch = all.epoch.max(tale.epoch);
                all.written += tale.written;
                all.read += tale.read;
                all.fast += tale.fast;
                all.again += tale.again;
            }
            assert!(0 < all.written && 0 < all.read && 0 < all.again, "{all:?}");
            assert!(3 < all.epoch, "clients follow their group: {all:?}");
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
