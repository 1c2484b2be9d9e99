//! The keeper of snapshots: makes them durable, brings a leader's to the store, serves pieces of the newest to followers. It keeps
//! proofs that replicas lie as well (`proofs`).
//!
//! [`Keeper`] lives on the service thread. The store and the replica hand it `hop::Keep` values over rings and ring its bell; it
//! answers with `hop::Kept` and `hop::Load` over rings and rings the data plane's doorbell. It is slow on purpose (a rate limit)
//! and never in anybody's way: a full ring makes the store pause its snapshot, not its work.
//!
//! A failed disk operation ends one snapshot and is told as an event. An own snapshot is tried again when the next is due, a leader's
//! is asked for again. Nothing was promised, because only `Kept` promises.

pub mod files;
mod gather;
#[cfg(test)]
mod gather_tests;
mod install;
mod pace;
pub mod proofs;
mod shelf;
#[cfg(test)]
mod tests;
mod writer;

use super::bell::Bell;
use super::events::{Event, EventSink};
use super::status::{Convicted, Status};
use crate::base::ring::{Consumer, Producer};
use crate::base::{Body, GROUP_ONE, GroupId, NodeId, Slot};
use crate::io::driver::Doorbell;
use crate::meter::{Metered, Report};
use crate::store;
use crate::wire::hop::{Keep, Kept, Load, SnapshotId};
use bytes::Bytes;
use gather::Gathered;
use glommio::io::BufferedFile;
use glommio::sync::Semaphore;
use install::Staged;
use pace::Pace;
use shelf::{Piece, Shelf, Volume};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use writer::Writer;

/// How long to wait before a full ring is tried again. Only while there is something to hand over.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// A leader's snapshot that has failed is asked for again after this long: a full disk does not empty at once.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Checks that bytes are a whole snapshot. The store knows how; the composition brings the two together.
pub trait Verify: Send + Sync {
    /// Begins a check of the snapshot that is said to be `id`.
    fn begin(&self, id: SnapshotId) -> Box<dyn Check>;
    /// How the stores of the cluster are made.
    fn options(&self) -> store::Options;
}

/// A check under way: fed in order, in pieces of any size.
pub trait Check {
    /// The next bytes. Bounded work a byte.
    fn update(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// These were all.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// How the keeper works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where snapshots lie.
    pub directory: PathBuf,
    /// Where proofs lie that replicas lie.
    pub evidence: PathBuf,
    /// Written bytes a second, own and received together; 0 for no limit. More takes the disk from the log.
    pub write_bytes_per_second: u64,
    /// Read bytes a second, to ship, to check and to load; 0 for no limit.
    pub read_bytes_per_second: u64,
    /// Largest snapshot that is taken from a leader, in bytes.
    pub received_bytes_max: u64,
    /// Holds the snapshot before the newest too, at the cost of its space: of a PBFT group the newest may not be stable yet, and then
    /// nobody else may take it.
    pub keep_previous: bool,
}

/// The ends of the rings.
pub struct Ports {
    /// store -> keeper.
    pub from_store: Consumer<Keep>,
    /// replica -> keeper.
    pub from_replica: Consumer<Keep>,
    /// keeper -> replica.
    pub to_replica: Producer<Kept>,
    /// keeper -> store.
    pub to_store: Producer<Load>,
    /// Wakes the core that the replica and the store run on; several, when they run on several.
    pub data_plane: Vec<Arc<dyn Doorbell>>,
}

/// What wakes the keeper. Rung by the data plane after it has put something into one of the rings.
#[derive(Clone, Default)]
pub struct KeeperBell {
    store: Bell,
    replica: Bell,
}

impl Doorbell for KeeperBell {
    fn ring(&self) {
        self.store.ring();
        self.replica.ring();
    }
}

/// The keeper, ready to be moved to the service thread.
pub struct Keeper {
    options: Options,
    ports: Ports,
    newest: Vec<(SnapshotId, PathBuf)>,
    verify: Arc<dyn Verify>,
    status: Arc<Status>,
    events: EventSink,
    bell: KeeperBell,
    counts: Arc<Counts>,
    retry_pause: Duration,
}

/// What the keeper counts, a group. Touched by the service thread alone, so the lock is always free.
pub struct Counts {
    groups: Mutex<BTreeMap<GroupId, Tally>>,
}

/// What it counts of one group.
#[derive(Default)]
struct Tally {
    snapshots: u64,
    installed: u64,
    failed: u64,
    taken_bytes: u64,
    shipped_bytes: u64,
    ranges_fetched_bytes: u64,
    ranges_had_bytes: u64,
    newest_bytes: u64,
    newest_slot: u64,
}

impl Default for Counts {
    /// The group that every node hosts is told of from the start: what has not happened yet is a zero, not a gap.
    fn default() -> Counts {
        Counts { groups: Mutex::new(BTreeMap::from([(GROUP_ONE, Tally::default())])) }
    }
}

impl Counts {
    fn of(&self, group: GroupId, count: impl FnOnce(&mut Tally)) {
        count(self.groups.lock().unwrap_or_else(PoisonError::into_inner).entry(group).or_default());
    }
}

impl Metered for Counts {
    fn report(&self, to: &mut dyn Report) {
        for (group, tally) in &*self.groups.lock().unwrap_or_else(PoisonError::into_inner) {
            tally.report(*group, to);
        }
    }
}

impl Tally {
    fn report(&self, group: GroupId, to: &mut dyn Report) {
        let group = group.to_string();
        let labels: &[(&str, &str)] = &[("group", &group)];
        for (name, help, count) in [
            ("quorate_snapshots_total", "Own snapshots made durable.", self.snapshots),
            ("quorate_snapshots_installed_total", "Snapshots of a leader made durable.", self.installed),
            ("quorate_snapshots_failed_total", "Snapshots that came to nothing.", self.failed),
            (
                "quorate_snapshot_taken_bytes_total",
                "Bytes of snapshots taken from the store and from leaders.",
                self.taken_bytes,
            ),
            (
                "quorate_snapshot_shipped_bytes_total",
                "Bytes of snapshots read for followers.",
                self.shipped_bytes,
            ),
            (
                "quorate_ranges_fetched_bytes_total",
                "Bytes of ranges of a certified state that came from others, outlines included.",
                self.ranges_fetched_bytes,
            ),
            (
                "quorate_ranges_had_bytes_total",
                "Bytes of ranges of a certified state that the own snapshot had.",
                self.ranges_had_bytes,
            ),
        ] {
            to.counter(name, help, labels, count);
        }
        let help = "Size of the newest durable snapshot.";
        to.gauge("quorate_snapshot_bytes", help, labels, self.newest_bytes as f64);
        let help = "Last slot of the newest durable snapshot.";
        to.gauge("quorate_snapshot_slot", help, labels, self.newest_slot as f64);
    }
}

impl Keeper {
    /// A keeper that `bell` wakes. `newest` are the snapshots that the node has started from, of a group the newest and before it, where it
    /// is kept, the one before; `files::sweep` has been called.
    pub fn new(
        options: Options,
        ports: Ports,
        bell: KeeperBell,
        newest: Vec<(SnapshotId, PathBuf)>,
        verify: Arc<dyn Verify>,
        status: Arc<Status>,
        events: EventSink,
    ) -> Keeper {
        let counts = Arc::new(Counts::default());
        Keeper { options, ports, newest, verify, status, events, bell, counts, retry_pause: RETRY_PAUSE }
    }

    /// Changes how long after a failure a leader's snapshot is asked for again.
    pub fn retry_after(mut self, pause: Duration) -> Keeper {
        self.retry_pause = pause;
        self
    }

    /// What the data plane rings after it has put something into a ring.
    pub fn bell(&self) -> KeeperBell {
        self.bell.clone()
    }

    /// What it counts.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Works for ever. On the service thread's executor.
    pub async fn run(self) {
        let Keeper { options, ports, newest, verify, status, events, bell, counts, retry_pause } = self;
        let Ports { from_store, from_replica, to_replica, to_store, data_plane } = ports;
        let core = Rc::new(Core {
            write_pace: Pace::new(options.write_bytes_per_second),
            read_pace: Pace::new(options.read_bytes_per_second),
            options,
            shelves: RefCell::default(),
            installs: RefCell::default(),
            install_turn: Semaphore::new(1),
            retrying: Cell::new(None),
            retry_pause,
            asked: Cell::new(None),
            publishing: Semaphore::new(1),
            to_replica: RefCell::new(to_replica),
            to_store: RefCell::new(to_store),
            data_plane,
            verify,
            status,
            events,
            counts,
        });
        core.open(newest).await;
        let other = core.clone();
        let replica_bell = bell.replica.clone();
        let of_replica = glommio::spawn_local(async move { other.listen(from_replica, replica_bell).await });
        core.listen(from_store, bell.store.clone()).await;
        of_replica.await;
    }
}

/// What both tasks of the keeper share.
struct Core {
    options: Options,
    write_pace: Pace,
    read_pace: Pace,
    shelves: RefCell<BTreeMap<GroupId, Shelf>>,
    /// Received snapshots that are whole and not yet with the store, and the turn that one of them has.
    installs: RefCell<Vec<SnapshotId>>,
    install_turn: Semaphore,
    /// A received snapshot that has failed and is to be asked for again in a moment.
    retrying: Cell<Option<SnapshotId>>,
    retry_pause: Duration,
    /// What was asked for again last, from where and when.
    asked: Cell<Option<(SnapshotId, u64, Instant)>>,
    /// One permit, held from the look at the shelf to the placing on it.
    publishing: Semaphore,
    to_replica: RefCell<Producer<Kept>>,
    to_store: RefCell<Producer<Load>>,
    data_plane: Vec<Arc<dyn Doorbell>>,
    verify: Arc<dyn Verify>,
    status: Arc<Status>,
    events: EventSink,
    counts: Arc<Counts>,
}

/// What has come over one ring and is not finished.
#[derive(Default)]
struct Hand {
    own: Own,
    /// A leader's snapshot, as far as it has come.
    staged: Option<Staged>,
    /// A certified state, as far as it has come.
    gathered: Option<Gathered>,
}

/// A snapshot of the own store.
#[derive(Default)]
enum Own {
    /// None is being made.
    #[default]
    Idle,
    /// It is being written.
    Writing(Writer),
    /// It has failed, or is older than what is there: its bytes are let go by until its end.
    Skipping,
}

impl Core {
    /// Opens the snapshots that the node has started from.
    async fn open(&self, newest: Vec<(SnapshotId, PathBuf)>) {
        for (id, path) in newest {
            match open(&path).await {
                Ok((file, bytes)) => drop(self.place(Volume::new(id, bytes, file)).await),
                Err(error) => self.disk_error("opening a snapshot", &error),
            }
        }
    }

    /// Takes what comes over one ring, for ever.
    async fn listen(self: Rc<Self>, mut ring: Consumer<Keep>, bell: Bell) {
        let mut hand = Hand::default();
        loop {
            match ring.pop() {
                Some(keep) => self.take(keep, &mut hand).await,
                None => {
                    let now = Instant::now();
                    self.shelves.borrow_mut().values_mut().for_each(|shelf| shelf.forget_idle(now));
                    self.tend(&mut hand.staged).await;
                    self.tend_gathered(&mut hand.gathered).await;
                    bell.rung().await;
                }
            }
        }
    }

    async fn take(self: &Rc<Self>, keep: Keep, hand: &mut Hand) {
        match keep {
            Keep::Begin(id) => self.begin(id, &mut hand.own).await,
            Keep::Chunk(bytes) => self.chunk(&bytes, &mut hand.own).await,
            Keep::End => self.end(&mut hand.own).await,
            Keep::Proof { accused, kind, proof } => self.proof(accused, kind, proof.bytes()).await,
            Keep::Piece { id, offset, total, body } => {
                self.piece(id, offset, total, &body, &mut hand.staged).await;
            }
            Keep::Range { id, offset, total, body, certified } => {
                self.range(id, (offset, total, body.bytes()), &certified, &mut hand.gathered).await;
            }
            Keep::FetchRange { job, group, slot, ranges, offset, bytes } => {
                let piece = self.fetch_range(group, slot, ranges.bytes(), offset, bytes).await;
                self.tell(Kept::Fetched { job, group, piece }).await;
            }
            Keep::Fetch { job, group, slot, offset, bytes } => {
                let piece = self.fetch(group, slot, offset, bytes).await;
                self.tell(Kept::Fetched { job, group, piece }).await;
            }
        }
    }

    /// Proof that a replica lies. It is shown also when the disk refuses it: the others have it too.
    async fn proof(&self, accused: NodeId, kind: &'static str, proof: &Bytes) {
        let path = proofs::path_of(&self.options.evidence, accused, kind);
        if let Err(error) = proofs::write(&path, proof).await {
            self.disk_error("keeping a proof", &error);
        }
        self.events.emit(Event::Convicted { peer: accused.0, kind: kind.into() });
        self.status.convict(Convicted { node: accused.0, kind: kind.into() }, proof.clone());
    }

    /// A snapshot of the own store begins. One that was being made has been given up by the store.
    async fn begin(&self, id: SnapshotId, own: &mut Own) {
        if let Own::Writing(given_up) = std::mem::take(own) {
            given_up.discard().await;
        }
        *own = Own::Skipping;
        if id.slot <= self.newest_slot(id.group) {
            return;
        }
        match Writer::create(&self.options.directory, id, "own", None).await {
            Ok(writer) => *own = Own::Writing(writer),
            Err(error) => self.failed(id, &error.to_string()),
        }
    }

    async fn chunk(&self, bytes: &[u8], own: &mut Own) {
        let Own::Writing(writer) = own else { return };
        self.counts.of(writer.id.group, |tally| tally.taken_bytes += bytes.len() as u64);
        if let Err(error) = writer.append(bytes, &self.write_pace).await {
            self.failed(writer.id, &error.to_string());
            if let Own::Writing(writer) = std::mem::replace(own, Own::Skipping) {
                writer.discard().await;
            }
        }
    }

    async fn end(&self, own: &mut Own) {
        let Own::Writing(mut writer) = std::mem::take(own) else { return };
        let (id, began) = (writer.id, writer.began);
        if let Err(error) = writer.complete(&self.write_pace).await {
            self.failed(id, &error.to_string());
            writer.discard().await;
            return;
        }
        match self.publish(writer).await {
            Err(error) => self.failed(id, &error.to_string()),
            // A leader's newer one has come in the meantime.
            Ok(None) => {}
            Ok(Some(volume)) => {
                let bytes = volume.bytes;
                self.counts.of(id.group, |tally| tally.snapshots += 1);
                self.events.emit(Event::Snapshotted { slot: id.slot.0, bytes, took: began.elapsed() });
                self.tell(Kept::Snapshotted { id, bytes }).await;
            }
        }
    }

    /// Names a complete snapshot and puts it on its shelf, unless it is not newer than what is there. One at a time: an own and a
    /// received one may become complete together, and only the newer may stay.
    async fn publish(&self, writer: Writer) -> io::Result<Option<Rc<Volume>>> {
        let _turn = self.publishing.acquire_permit(1).await?;
        if writer.id.slot <= self.newest_slot(writer.id.group) {
            writer.discard().await;
            return Ok(None);
        }
        let (id, bytes, file) = writer.publish(&self.options.directory).await?;
        Ok(Some(self.place(Volume::new(id, bytes, file)).await))
    }

    /// A piece for a follower. No piece when the snapshot is gone or cannot be read: the leader then begins with the newest. When that is
    /// the one that cannot be read, the store is asked for another, for the next may not be due for long.
    async fn fetch(&self, group: GroupId, slot: Option<Slot>, offset: u64, bytes: usize) -> Piece {
        let volume = self.shelves.borrow_mut().get_mut(&group)?.ask(slot, Instant::now())?;
        self.read_pace.spend(bytes.min(shelf::PIECE_BYTES_MAX)).await;
        match volume.piece(offset, bytes).await {
            Ok(piece) => {
                self.counts.of(group, |tally| tally.shipped_bytes += piece.len() as u64);
                Some((volume.id, volume.bytes, offset, Body::new(piece)))
            }
            Err(error) => {
                self.disk_error("reading a snapshot", &error);
                if self.lose(volume.id) {
                    self.hand_over(Load::Wanted).await;
                }
                None
            }
        }
    }

    /// A snapshot cannot be read. True when it was the newest.
    fn lose(&self, id: SnapshotId) -> bool {
        let mut shelves = self.shelves.borrow_mut();
        shelves.get_mut(&id.group).is_some_and(|shelf| shelf.lose(id.slot, &self.options.directory))
    }

    fn newest_slot(&self, group: GroupId) -> Slot {
        self.shelves.borrow().get(&group).map(Shelf::newest_slot).unwrap_or_default()
    }

    /// Puts a durable snapshot on its shelf, and removes the file that it replaces.
    async fn place(&self, volume: Volume) -> Rc<Volume> {
        let (id, bytes, volume) = (volume.id, volume.bytes, Rc::new(volume));
        let replaced = {
            let mut shelves = self.shelves.borrow_mut();
            shelves.entry(id.group).or_default().place(
                volume.clone(),
                self.options.keep_previous,
                &self.options.directory,
                Instant::now(),
            )
        };
        self.counts.of(id.group, |tally| (tally.newest_bytes, tally.newest_slot) = (bytes, id.slot.0));
        self.status.update(|facts| {
            facts.snapshot.slot = id.slot.0;
            facts.snapshot.bytes = bytes;
            facts.snapshot.error = None;
        });
        for path in replaced {
            if let Err(error) = glommio::io::remove(&path).await {
                // It goes at the next start.
                self.disk_error("removing an older snapshot", &error.into());
            }
        }
        volume
    }

    /// Tells the replica. Waits while its ring is full: what is told here is few and must not be lost.
    async fn tell(&self, kept: Kept) {
        let mut kept = kept;
        loop {
            let pushed = self.to_replica.borrow_mut().push(kept);
            match pushed {
                Ok(()) => return self.wake_data_plane(),
                Err(back) => kept = back,
            }
            glommio::timer::sleep(FULL_PAUSE).await;
        }
    }

    fn wake_data_plane(&self) {
        self.data_plane.iter().for_each(|bell| bell.ring());
    }

    fn failed(&self, id: SnapshotId, why: &str) {
        self.counts.of(id.group, |tally| tally.failed += 1);
        self.status.update(|facts| facts.snapshot.error = Some(why.to_string()));
        self.events.emit(Event::SnapshotFailed { slot: id.slot.0, why: why.to_string() });
    }

    fn disk_error(&self, operation: &'static str, error: &io::Error) {
        self.events.emit(Event::DiskError { operation: operation.into(), why: error.to_string() });
    }
}

async fn open(path: &std::path::Path) -> io::Result<(BufferedFile, u64)> {
    let file = BufferedFile::open(path).await?;
    let bytes = file.file_size().await?;
    Ok((file, bytes))
}
