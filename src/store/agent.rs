//! The store as an agent: the one file of this room that knows of drivers and metrics.
//!
//! A turn applies a bounded number of entries, answers reads whose slot has come, and does a piece of whatever goes on beside the
//! traffic: a snapshot, a load, the dropping of old memory, a digest.

use super::digest_pace::DigestPace;
use super::vouch::Vouching;
use super::{Admission, Loading, Replies, Store};
use crate::base::bounds::Bounds;
use crate::base::ring::{Consumer, Producer};
use crate::base::{GROUP_ONE, Instant, Number, Origin, Slot, place};
use crate::io::driver::Doorbell;
use crate::io::{Agent, Driver};
use crate::meter::stages::Stage;
use crate::meter::{Metered, Report, latencies};
use crate::wire::Entry;
use crate::wire::hop::{Answer, Decided, Digested, Keep, Load, SnapshotId};
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::Duration;

/// Most decisions of a turn.
const DECIDED_PER_TURN: usize = 64;
/// Bytes of bodies after which a turn ends.
const BODY_BYTES_PER_TURN: usize = 256 << 10;
/// Bytes of replies after which a turn ends: making them keeps every other agent of the core waiting.
const REPLY_BYTES_PER_TURN: usize = 2 << 20;
/// Memory that is set aside for replies before they are made, at most.
const REPLIES_HINT_MAX: usize = 256 << 10;
/// Chunks of a load that are read in a turn.
const LOADED_PER_TURN: usize = 2;
/// Bytes of buckets that are saved in a turn, and hashed in one in which nothing is applied.
const SAVED_BYTES_PER_TURN: usize = 64 << 10;
/// Bytes of buckets that are hashed in a turn in which something is applied.
const HASHED_BYTES_PER_TURN: usize = 16 << 10;
/// Things that are dropped in a turn.
const DROPPED_PER_TURN: usize = 1024;
/// For how long nothing is applied before the digest is made.
const DIGEST_AFTER: Duration = Duration::from_secs(1);
/// How long to wait when a ring is full: whoever drains it does not wake us.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// A snapshot is written only when this many times the log's growth since the last outweighs the state: so that a large state under
/// small writes is not written over and over.
const WORTH: u64 = 4;
/// Bytes that an entry adds to a log beside its body, about.
const ENTRY_OVERHEAD: u64 = 128;

/// The ends of the rings that meet in this agent.
pub struct Ports {
    /// From the replica.
    pub decided: Consumer<Decided>,
    /// From the keeper of snapshots.
    pub loads: Consumer<Load>,
    /// To `front::reply`.
    pub answers: Producer<Answer>,
    /// To the replica.
    pub digests: Producer<Digested>,
    /// To the keeper of snapshots.
    pub keeps: Producer<Keep>,
    /// Rung after something was put into `keeps`.
    pub keeper: std::sync::Arc<dyn Doorbell>,
    /// What other nodes are told of the replies to their batches, where they ask for it.
    pub vouching: Option<Vouching>,
}

/// The numbers that this agent publishes. Those that describe a slot are set before `applied` is.
#[derive(Clone, Default)]
pub struct Told {
    /// The newest applied slot.
    pub applied: Number,
    /// Logical bytes.
    pub memory: Number,
    /// When the next key expires, in ms since the epoch; `u64::MAX` for never.
    pub due: Number,
    /// The newest sequence of the own front that has taken effect.
    pub settled: Number,
    /// Number of keys.
    pub keys: Number,
    /// Those of them that expire.
    pub expiring: Number,
    /// What bounds the length of replies (`store::Extent`): the longest key, in bytes,
    pub longest_key: Number,
    /// the longest string, in bytes,
    pub longest_string: Number,
    /// the largest record, in logical bytes,
    pub largest_record: Number,
    /// and how large what is stored under a key can be (`store::Options::bounds`), where somebody asks.
    pub bounds: Bounds,
    /// The first eight bytes of the state's digest, big endian, at `digest_slot`.
    pub digest: Number,
    /// The slot that `digest` belongs to; 0 before the first.
    pub digest_slot: Number,
    /// 1 when a snapshot could not be loaded: the state stays as it was and can only be cured by another snapshot.
    pub damaged: Number,
}

/// When snapshots are made.
#[derive(Clone, Copy, Debug)]
pub struct Triggers {
    /// After so many entries.
    pub entries: u64,
    /// Or after so many bytes of bodies.
    pub bytes: u64,
    /// How far the first snapshot is ahead, in thousandths of both. Nodes differ in it: as all apply the same entries, they would
    /// else all make their snapshots at one moment, and no majority would be free of that work.
    pub ahead: u64,
}

impl Triggers {
    fn head_start(&self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.ahead.min(1000)) / 1000) as u64
    }
}

/// Where the own snapshot stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    None,
    Begin(SnapshotId),
    Running,
    End,
}

#[derive(Default)]
struct Counts {
    entries: u64,
    duplicates: u64,
    gaps: u64,
    stale: u64,
    reads: u64,
    snapshots: u64,
    loads: u64,
    damaged: u64,
}

/// A store between its rings.
pub struct StoreAgent {
    store: Store,
    own: Origin,
    ports: Ports,
    told: Told,
    triggers: Triggers,
    now: Instant,
    /// A decision that leaves a gap after what is applied: a load will fill it.
    held: Option<(Entry, Instant)>,
    /// A digest that was asked for and is not begun: after which slot, and whether a snapshot is to be made of it.
    asked: Option<(Slot, bool)>,
    /// The pace of the digest in the making, if the core waits for it.
    owed: Option<DigestPace>,
    /// Reads whose slot is not yet applied, and those that came behind them: answered in the order in which they came, lest a read
    /// see an older state than one that its connection sent before. Any comes behind the entry that it
    /// waits for, unless a load brings that.
    waiting: VecDeque<(Slot, u64, Bytes)>,
    loading: Option<Loading>,
    snapshot: Snapshot,
    /// The keeper has asked for one: it cannot read the last any more.
    wanted: bool,
    /// A ring was full in this turn.
    full: bool,
    entries_since: u64,
    bytes_since: u64,
    last_change: Instant,
    /// Bytes of replies made in this turn.
    made: usize,
    /// What the last replies took, so that the next need not grow.
    replies_hint: (usize, usize),
    counts: Counts,
    /// Nanoseconds from an entry's commit to the making of its replies.
    apply: Histogram<u64>,
}

/// Where others are told of replies: in the epoch that the store is in.
fn heeding<'a>(ports: &'a mut Ports, store: &Store) -> Option<&'a mut Vouching> {
    let vouching = ports.vouching.as_mut()?;
    vouching.heed(store.sessions().members());
    Some(vouching)
}

impl StoreAgent {
    /// `own` is the origin whose clients wait for replies at this node.
    pub fn new(store: Store, own: Origin, ports: Ports, told: Told, triggers: Triggers) -> StoreAgent {
        let mut agent = StoreAgent {
            store,
            own,
            ports,
            told,
            triggers,
            now: Instant::ZERO,
            held: None,
            asked: None,
            owed: None,
            waiting: VecDeque::new(),
            loading: None,
            snapshot: Snapshot::None,
            wanted: false,
            full: false,
            entries_since: triggers.head_start(triggers.entries),
            bytes_since: triggers.head_start(triggers.bytes),
            last_change: Instant::ZERO,
            made: 0,
            replies_hint: (0, 0),
            counts: Counts::default(),
            apply: latencies(),
        };
        if !agent.told.bounds.is_empty() {
            agent.store.publish(agent.told.bounds.clone());
        }
        agent.tell();
        agent
    }

    /// The state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// One bounded turn at `now`. Returns how much was done.
    pub fn turn(&mut self, now: Instant) -> usize {
        self.turn_timed(now, &|| now)
    }

    /// `fresh` is the clock by which it is told how long applying takes.
    fn turn_timed(&mut self, now: Instant, fresh: &dyn Fn() -> Instant) -> usize {
        (self.now, self.full, self.made) = (now, self.ports.answers.room() == 0, 0);
        let loaded = self.load();
        let applied = self.decide(fresh);
        if 0 < loaded + applied {
            self.last_change = now;
            self.tell();
        }
        let mut done = loaded + applied + self.answer_waiting();
        done += self.ports.vouching.as_mut().map_or(0, Vouching::say);
        done += self.save();
        done += self.digest(if applied == 0 { SAVED_BYTES_PER_TURN } else { HASHED_BYTES_PER_TURN });
        done += self.store.drop_step(DROPPED_PER_TURN);
        if done == 0 { self.begin_idle_digest() } else { done }
    }

    /// When to be called although nothing has come.
    pub fn next_turn(&self) -> Option<Instant> {
        let full = self.full.then(|| self.now.after(FULL_PAUSE));
        let digest = match self.owed {
            Some(pace) => Some(pace.next(self.now)),
            None => self.wants_digest().then(|| self.last_change.after(DIGEST_AFTER)),
        };
        full.into_iter().chain(digest).min()
    }

    /// Takes decisions in, as long as there is room for their answers.
    fn decide(&mut self, fresh: &dyn Fn() -> Instant) -> usize {
        let (mut count, mut bytes) = (0, 0);
        while count < DECIDED_PER_TURN && bytes < BODY_BYTES_PER_TURN && self.may_answer() {
            if let Some((slot, keep)) = self.asked {
                if !self.begin_digest(slot, keep) {
                    break;
                }
                count += 1;
                continue;
            }
            if let Some((entry, at)) = self.held.take() {
                if self.store.applied().next() < entry.slot {
                    self.held = Some((entry, at));
                    break;
                }
                bytes += self.commit(entry, at, fresh);
                count += 1;
                continue;
            }
            match self.ports.decided.pop() {
                Some(Decided::Commit { entry, at, .. }) => self.held = Some((entry, at)),
                Some(Decided::Ask { origin, id, body, .. }) => {
                    count += 1;
                    self.ask(origin, id, &body);
                }
                Some(Decided::Again { origin, sequence, .. }) => {
                    count += 1;
                    let kept = self.store.sessions().reply(origin, sequence);
                    let vouching = heeding(&mut self.ports, &self.store);
                    vouching.into_iter().for_each(|v| v.again(origin, sequence, kept));
                }
                Some(Decided::Digest { slot, keep, .. }) => self.asked = Some((slot, keep)),
                Some(Decided::Read { id, slot, body, .. }) => {
                    count += 1;
                    if slot <= self.store.applied() && self.waiting.is_empty() {
                        self.read(id, &body);
                    } else {
                        self.waiting.push_back((slot, id, body));
                    }
                }
                None => break,
            }
        }
        count
    }

    /// Applies an entry if it is the next. Returns its size.
    fn commit(&mut self, entry: Entry, at: Instant, fresh: &dyn Fn() -> Instant) -> usize {
        let bytes = entry.body.len();
        place::enter_slot(GROUP_ONE, entry.slot);
        if entry.slot <= self.store.applied() {
            // A load has brought its effect.
            return bytes;
        }
        let owed = entry.origin == self.own;
        // The last entry of an epoch is still of it.
        let vouching = heeding(&mut self.ports, &self.store);
        let vouched = !owed && vouching.is_some_and(|v| v.is_owed(entry.origin.node));
        let mut replies = (owed || vouched).then(|| {
            let (bytes, commands) = self.replies_hint;
            Replies { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(commands) }
        });
        let admission = self.store.apply(&entry, replies.as_mut());
        let made = fresh();
        self.apply.saturating_record(made.since(at).as_nanos() as u64);
        self.entries_since += 1;
        self.bytes_since += bytes as u64 + ENTRY_OVERHEAD;
        self.counts.entries += 1;
        match admission {
            Admission::Applied => {}
            Admission::Duplicate => self.counts.duplicates += 1,
            Admission::Gap => self.counts.gaps += 1,
            Admission::Stale => self.counts.stale += 1,
        }
        let batch = entry.kind == crate::wire::EntryKind::Batch;
        if let Some(replies) = replies.filter(|_| admission == Admission::Applied && batch) {
            self.made += replies.bytes.len();
            self.replies_hint = (replies.bytes.len().min(REPLIES_HINT_MAX), replies.ends.len());
            let Replies { bytes, ends } = replies;
            if vouched {
                if let Some(vouching) = &mut self.ports.vouching {
                    vouching.replied(entry.origin, entry.sequence, bytes.into());
                }
                return entry.body.len();
            }
            self.answer(Answer::Write { sequence: entry.sequence, replies: bytes.into(), ends, made });
        }
        bytes
    }

    /// Begins a digest that was asked for, at its slot. False while something has to come before: nothing more is applied till then.
    fn begin_digest(&mut self, slot: Slot, keep: bool) -> bool {
        let applied = self.store.applied();
        // A gap before it, which a load will fill; or the last digest is still being made, and who asks must not run away from it.
        if applied < slot || self.store.digesting().is_some() {
            return false;
        }
        // What newcomers begin with must be there, whatever else is being saved; nothing is decided meanwhile.
        let since = self.store.sessions().members().now().map(|(since, _)| *since);
        if keep && slot == applied && since == Some(slot) && self.snapshot != Snapshot::None {
            return false;
        }
        self.asked = None;
        if slot == applied {
            if keep && self.snapshot == Snapshot::None {
                self.snapshot = Snapshot::Begin(self.store.begin_snapshot());
                (self.entries_since, self.bytes_since) = (0, 0);
            }
            self.store.begin_digest();
            self.owed = Some(DigestPace::new(self.now, slot, self.store.digest_lacking()));
        }
        true
    }

    /// Goes on with the digest in the making.
    fn digest(&mut self, budget: usize) -> usize {
        if self.store.digesting().is_none() || self.is_in_time() {
            return 0;
        }
        if let Some((slot, digest)) = self.store.digest_step(budget) {
            let first = digest.0.first_chunk().expect("32 bytes begin with eight");
            self.told.digest.set(u64::from_be_bytes(*first));
            self.told.digest_slot.set(slot.0);
            if self.owed.take().is_some() {
                let told = self.ports.digests.push(Digested { group: GROUP_ONE, slot, digest });
                assert!(told.is_ok(), "the core asks for fewer digests than the ring holds");
            }
        }
        1
    }

    /// Whether as much of the digest in the making is done as should be. Not when the next is asked for, which keeps everything waiting.
    fn is_in_time(&self) -> bool {
        let (applied, lacking) = (self.store.applied(), self.store.digest_lacking());
        let is_pressing = self.asked.is_some_and(|(slot, _)| slot <= applied);
        let may_lack = self.owed.map_or(0, |pace| pace.may_lack(self.now, applied));
        !is_pressing && 0 < lacking && lacking <= may_lack
    }

    fn read(&mut self, id: u64, commands: &[u8]) {
        let mut replies = Replies::default();
        self.store.read(commands, &mut replies);
        self.counts.reads += 1;
        self.made += replies.bytes.len();
        let Replies { bytes, ends } = replies;
        self.answer(Answer::Read { id, replies: bytes.into(), ends });
    }

    /// Answers a native client from the present state: what is applied is decided, nothing else is shown.
    fn ask(&mut self, origin: Origin, id: u64, commands: &[u8]) {
        let Some(vouching) = heeding(&mut self.ports, &self.store) else { return };
        let mut replies = Replies::default();
        self.store.read(commands, &mut replies);
        self.counts.reads += 1;
        self.made += replies.bytes.len();
        vouching.answered(origin, id, replies.bytes.into());
    }

    /// Answers reads whose slot has come.
    fn answer_waiting(&mut self) -> usize {
        let mut count = 0;
        while self.may_answer() {
            let ready = self.waiting.front().is_some_and(|(slot, ..)| *slot <= self.store.applied());
            let Some((_, id, body)) = ready.then(|| self.waiting.pop_front()).flatten() else { break };
            self.read(id, &body);
            count += 1;
        }
        count
    }

    /// Whether this turn has room for another answer.
    fn may_answer(&mut self) -> bool {
        self.made < REPLY_BYTES_PER_TURN && 0 < self.ports.answers.room()
    }

    /// Puts an answer into the ring, in which the caller has found room.
    fn answer(&mut self, answer: Answer) {
        assert!(self.ports.answers.push(answer).is_ok(), "only this agent takes the ring's room");
    }

    /// Reads pieces of a snapshot that is to become the state.
    fn load(&mut self) -> usize {
        for count in 0..LOADED_PER_TURN {
            // The end of a load may owe an answer.
            if self.ports.answers.room() == 0 {
                return count;
            }
            match self.ports.loads.pop() {
                None => return count,
                Some(Load::Begin(id)) => {
                    self.discard();
                    self.loading = Some(self.store.loading(id));
                }
                Some(Load::Chunk(chunk)) => {
                    if let Some(loading) = &mut self.loading
                        && loading.feed(&chunk).is_err()
                    {
                        self.refuse();
                    }
                }
                Some(Load::End) => self.replace(),
                // Where the core says when, it asks in time.
                Some(Load::Wanted) => self.wanted = self.triggers.entries < u64::MAX,
            }
        }
        LOADED_PER_TURN
    }

    /// A load is whole.
    fn replace(&mut self) {
        let Some(loading) = self.loading.take() else { return };
        let settled = self.store.last_sequence(self.own);
        match self.store.replace(loading) {
            Err(_) => self.refuse(),
            Ok(false) => {}
            Ok(true) => {
                // What was saved so far is of a state that is no more; the keeper drops it at the next `Begin`.
                self.snapshot = Snapshot::None;
                self.owed = None;
                (self.entries_since, self.bytes_since) = (0, 0);
                self.told.damaged.set(0);
                self.counts.loads += 1;
                let sequence = self.store.last_sequence(self.own);
                if settled < sequence {
                    self.answer(Answer::Superseded { sequence });
                }
            }
        }
    }

    /// The keeper has checked what it hands over, so this is a fault of ours or of memory. The state stays, and says so.
    fn refuse(&mut self) {
        self.discard();
        self.told.damaged.set(1);
        self.counts.damaged += 1;
    }
    fn discard(&mut self) {
        if let Some(loading) = self.loading.take() {
            self.store.discard(loading);
        }
    }

    /// Goes on with the own snapshot, or begins one when it is due.
    fn save(&mut self) -> usize {
        let before = self.snapshot;
        let mut done = 0;
        match self.snapshot {
            Snapshot::None => {
                if self.is_snapshot_due() || self.wanted {
                    self.snapshot = Snapshot::Begin(self.store.begin_snapshot());
                    (self.entries_since, self.bytes_since, self.wanted) = (0, 0, false);
                }
            }
            Snapshot::Begin(id) => {
                if self.keep(Keep::Begin(id)).is_none() {
                    self.snapshot = Snapshot::Running;
                }
            }
            Snapshot::Running => done = self.save_piece(),
            Snapshot::End => {
                if self.keep(Keep::End).is_none() {
                    self.snapshot = Snapshot::None;
                    self.counts.snapshots += 1;
                }
            }
        }
        done + usize::from(before != self.snapshot)
    }

    fn is_snapshot_due(&self) -> bool {
        let enough = self.triggers.entries <= self.entries_since || self.triggers.bytes <= self.bytes_since;
        enough && self.store.memory() <= self.bytes_since.saturating_mul(WORTH)
    }

    fn save_piece(&mut self) -> usize {
        let mut done = 0;
        // Writes run ahead of the keeper at most by the state's own size, for each bucket is saved once; steps wait for it.
        let complete = if self.store.snapshot_ready_bytes() < SAVED_BYTES_PER_TURN {
            done += 1;
            self.store.snapshot_step(SAVED_BYTES_PER_TURN)
        } else {
            false
        };
        while 0 < self.ports.keeps.room() {
            let Some(chunk) = self.store.snapshot_chunk() else {
                if complete {
                    self.store.end_snapshot();
                    self.snapshot = Snapshot::End;
                }
                return done;
            };
            self.keep(Keep::Chunk(chunk));
            done += 1;
        }
        self.full = true;
        // A step that found nothing left to save is no work.
        if complete { 0 } else { done }
    }

    /// Hands something to the keeper; gives it back when its ring is full.
    fn keep(&mut self, keep: Keep) -> Option<Keep> {
        match self.ports.keeps.push(keep) {
            Ok(()) => {
                self.ports.keeper.ring();
                None
            }
            Err(keep) => {
                self.full = true;
                Some(keep)
            }
        }
    }

    fn wants_digest(&self) -> bool {
        self.told.digest_slot.get() < self.store.applied().0
    }

    /// Begins a digest once nothing has been applied for a while.
    fn begin_idle_digest(&mut self) -> usize {
        let is_making = self.store.digesting().is_some();
        if is_making || !self.wants_digest() || self.now < self.last_change.after(DIGEST_AFTER) {
            return 0;
        }
        self.store.begin_digest();
        1
    }

    fn tell(&mut self) {
        self.told.memory.set(self.store.memory());
        self.told.due.set(self.store.next_deadline().map_or(u64::MAX, |deadline| deadline.0));
        self.told.settled.set(self.store.last_sequence(self.own));
        self.told.keys.set(self.store.len() as u64);
        self.told.expiring.set(self.store.expiring() as u64);
        let extent = self.store.extent();
        self.told.longest_key.set(extent.key);
        self.told.longest_string.set(extent.string);
        self.told.largest_record.set(extent.record);
        self.told.applied.set(self.store.applied().0);
    }
}

impl Agent for StoreAgent {
    fn name(&self) -> &'static str {
        "store"
    }
    fn start(&mut self, _slot: u8, driver: &mut dyn Driver) -> std::io::Result<()> {
        self.now = driver.now();
        Ok(())
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        self.turn_timed(driver.now(), &|| driver.fresh())
    }
    fn deadline(&self) -> Option<Instant> {
        self.next_turn()
    }
}

impl Metered for StoreAgent {
    fn report(&self, to: &mut dyn Report) {
        let counts = &self.counts;
        let group = self.store.group().to_string();
        let labels: &[(&str, &str)] = &[("group", &group)];
        Stage::Apply.report(("group", &group), &self.apply, to);
        to.counter("quorate_store_entries_total", "Entries applied.", labels, counts.entries);
        let help = "Entries without effect, by the reason.";
        for (why, count) in [("duplicate", counts.duplicates), ("gap", counts.gaps), ("stale", counts.stale)]
        {
            to.counter(
                "quorate_store_entries_ignored_total",
                help,
                &[("group", &group), ("why", why)],
                count,
            );
        }
        to.counter("quorate_store_reads_total", "Batches of reads answered.", labels, counts.reads);
        to.counter(
            "quorate_store_snapshots_total",
            "Snapshots handed to the keeper.",
            labels,
            counts.snapshots,
        );
        to.counter("quorate_store_loads_total", "Snapshots that became the state.", labels, counts.loads);
        let help = "Snapshots that could not be loaded.";
        to.counter("quorate_store_loads_damaged_total", help, labels, counts.damaged);
        to.gauge(
            "quorate_store_applied_slot",
            "The newest applied slot.",
            labels,
            self.store.applied().0 as f64,
        );
        to.gauge("quorate_store_keys", "Keys.", labels, self.store.len() as f64);
        to.gauge("quorate_store_memory_bytes", "Logical bytes.", labels, self.store.memory() as f64);
        let help = "Batches of reads that wait for their slot.";
        to.gauge("quorate_store_reads_waiting", help, labels, self.waiting.len() as f64);
    }
}
