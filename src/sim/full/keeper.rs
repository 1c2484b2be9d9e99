//! The keeper of snapshots in the simulated world. The real one runs on glommio, which no simulator drives; this one speaks the same
//! `wire::hop` values, keeps snapshots on the node's simulated disk in the same format, and checks a leader's with the same code.
//!
//! What it leaves out: a file appears whole or not at all (writing, syncing and renaming are one step), and there is no rate limit but
//! a delay.

use super::disk::Disk;
use super::gather::{self, Brought, Gathered};
use crate::admin::keeper::Ports;
use crate::admin::keeper::files::{Found, path_of};
use crate::admin::keeper::proofs;
use crate::base::{Body, GROUP_ONE, Instant, NodeId, Prng, Slot};
use crate::node::boot::Snapshots;
use crate::store;
use crate::store::inspect::Inspection;
use crate::wire::hop::{Certified, Keep, Kept, Load, SnapshotId};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Older snapshots that are still served to whoever has begun to take them.
const OLDER_MAX: usize = 2;
/// How long an older one stays after its last piece was asked for.
const SHIP_PAUSE_MAX: Duration = Duration::from_secs(30);
/// What is handed to the store at a time.
const CHUNK_BYTES: usize = 4096;
/// A leader's snapshot that has failed is asked for again after this long.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Pieces that follow a lost one come in a flood; they are answered once in this time.
const ASK_PAUSE: Duration = Duration::from_millis(200);
/// A snapshot that gets no further for so long is asked for again.
const STALL: Duration = Duration::from_secs(1);
/// And one that gets no further for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(20);

/// What the keeper has done in all lives of its node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Own snapshots made durable.
    pub made: u64,
    /// A leader's snapshots made durable and brought to the store.
    pub installed: u64,
    /// Snapshots that came to nothing: no space, an error, damage.
    pub failed: u64,
}

enum Job {
    /// An own snapshot is written.
    Publish(SnapshotId, Vec<u8>),
    /// A leader's is written and checked.
    Install(SnapshotId, Vec<u8>),
    /// What failed is asked for again.
    Again(SnapshotId),
}

struct Staged {
    id: SnapshotId,
    bytes: Vec<u8>,
    moved: Instant,
}

/// See the module.
pub struct SimKeeper {
    ports: Ports,
    directory: PathBuf,
    options: store::Options,
    /// The newest that is durable.
    newest: Option<SnapshotId>,
    /// When a piece of the newest was asked for last.
    newest_asked: Option<Instant>,
    /// Holds the snapshot before the newest too: of a PBFT group the newest may not be stable yet.
    keeps_previous: bool,
    /// It, and when a piece of it was asked for last.
    previous: Option<(SnapshotId, Bytes, Option<Instant>)>,
    /// Replaced while somebody took them; when a piece was asked for last.
    older: VecDeque<(SnapshotId, Bytes, Instant)>,
    own: Option<(SnapshotId, Vec<u8>)>,
    staged: Option<Staged>,
    gathered: Option<Gathered>,
    /// What takes time, by when it is done. Invariant: instants rise.
    jobs: VecDeque<(Instant, Job)>,
    retrying: Option<SnapshotId>,
    asked: Option<(SnapshotId, u64, Instant)>,
    kept: VecDeque<Kept>,
    loads: VecDeque<Load>,
    delay: Duration,
    /// Snapshots that have become durable since the world looked last.
    pub published: Vec<(SnapshotId, Vec<u8>)>,
    /// Of whom proof has come since then.
    pub proven: Vec<NodeId>,
    /// What has been done.
    pub counts: Counts,
}

impl SimKeeper {
    /// A keeper whose jobs take `delay` each.
    pub fn new(
        ports: Ports,
        directory: PathBuf,
        options: store::Options,
        newest: Option<SnapshotId>,
        delay: Duration,
        keeps_previous: bool,
    ) -> SimKeeper {
        SimKeeper {
            ports,
            directory,
            options,
            newest,
            newest_asked: None,
            keeps_previous,
            previous: None,
            older: VecDeque::new(),
            own: None,
            staged: None,
            gathered: None,
            jobs: VecDeque::new(),
            retrying: None,
            asked: None,
            kept: VecDeque::new(),
            loads: VecDeque::new(),
            delay,
            published: Vec::new(),
            proven: Vec::new(),
            counts: Counts::default(),
        }
    }
    /// When it has something to do although nothing has come.
    pub fn deadline(&self) -> Option<Instant> {
        let staged = self.staged.as_ref().map(|s| s.moved.after(STALL));
        let asked = staged.map(|at| self.asked.map_or(at, |(.., asked)| at.max(asked.after(STALL))));
        self.jobs.front().map(|(at, _)| *at).into_iter().chain(asked).min()
    }
    /// Values that wait for room in a ring.
    pub fn waiting(&self) -> usize {
        self.kept.len() + self.loads.len()
    }

    /// How it stands, for people.
    pub fn standing(&self) -> String {
        let staged = self.staged.as_ref().map(|s| (s.id.slot.0, s.bytes.len()));
        let (newest, retrying) = (self.newest.map(|id| id.slot.0), self.retrying.map(|id| id.slot.0));
        let (jobs, asked) = (self.jobs.len(), self.asked.map(|(id, from, _)| (id.slot.0, from)));
        format!(
            "newest {newest:?} staged {staged:?} retrying {retrying:?} asked {asked:?} jobs {jobs} waiting {} {:?}",
            self.waiting(),
            self.counts
        )
    }
    /// One turn. Returns how much was done.
    pub fn work(&mut self, now: Instant, disk: &mut Disk) -> usize {
        let mut done = 0;
        while self.jobs.front().is_some_and(|(at, _)| *at <= now) {
            let (_, job) = self.jobs.pop_front().expect("looked at above");
            self.finish(now, job, disk);
            done += 1;
        }
        while let Some(keep) = self.ports.from_store.pop() {
            self.keep_own(now, keep);
            done += 1;
        }
        while self.kept.is_empty()
            && let Some(keep) = self.ports.from_replica.pop()
        {
            self.serve(now, keep, disk);
            done += 1;
        }
        self.tend(now);
        done + self.hand_over()
    }

    fn plan(&mut self, at: Instant, job: Job) {
        let at = self.jobs.back().map_or(at, |(last, _)| at.max(*last));
        self.jobs.push_back((at, job));
    }
    fn newest_slot(&self) -> Slot {
        self.newest.map_or(Slot::ZERO, |id| id.slot)
    }

    fn keep_own(&mut self, now: Instant, keep: Keep) {
        match keep {
            Keep::Begin(id) => self.own = Some((id, Vec::new())),
            Keep::Chunk(bytes) => {
                if let Some((_, whole)) = &mut self.own {
                    whole.extend_from_slice(&bytes);
                }
            }
            Keep::End => {
                if let Some((id, whole)) = self.own.take() {
                    self.plan(now.after(self.delay), Job::Publish(id, whole));
                }
            }
            Keep::Piece { .. }
            | Keep::Fetch { .. }
            | Keep::Range { .. }
            | Keep::FetchRange { .. }
            | Keep::Proof { .. } => {
                unreachable!("a store says no such thing")
            }
        }
    }

    fn serve(&mut self, now: Instant, keep: Keep, disk: &mut Disk) {
        match keep {
            Keep::Fetch { job, group, slot, offset, bytes } => {
                let piece = self.piece(now, slot, offset, bytes, disk);
                self.kept.push_back(Kept::Fetched { job, group, piece });
            }
            Keep::FetchRange { job, group, slot, ranges, offset, bytes } => {
                let found = self.whole(now, Some(slot), disk);
                let piece = found.and_then(|(id, whole)| {
                    let (total, body) = gather::answer(&whole, ranges.bytes(), offset, bytes)?;
                    Some((id, total, offset, Body::new(body)))
                });
                self.kept.push_back(Kept::Fetched { job, group, piece });
            }
            Keep::Range { id, offset, total, body, certified } => {
                self.gather(now, id, (offset, total, body.bytes()), &certified, disk);
            }
            Keep::Proof { accused, kind, proof } => {
                self.proven.push(accused);
                let path = proofs::path_of(&evidence(&self.directory), accused, kind);
                if disk.put_whole(&path, proof.bytes()).is_err() {
                    self.counts.failed += 1;
                }
            }
            Keep::Piece { id, offset, total, body } => {
                self.stage(now, id, offset, total, &body, disk);
            }
            Keep::Begin(_) | Keep::Chunk(_) | Keep::End => unreachable!("a replica says no such thing"),
        }
    }

    fn piece(
        &mut self,
        now: Instant,
        slot: Option<Slot>,
        offset: u64,
        most: usize,
        disk: &mut Disk,
    ) -> Option<(SnapshotId, u64, u64, Body)> {
        let (id, whole) = self.whole(now, slot, disk)?;
        let from = (offset as usize).min(whole.len());
        let body = Body::new(whole.slice(from..whole.len().min(from + most)));
        Some((id, whole.len() as u64, offset, body))
    }

    /// The snapshot of `slot`, or the newest.
    fn whole(&mut self, now: Instant, slot: Option<Slot>, disk: &mut Disk) -> Option<(SnapshotId, Bytes)> {
        if let Some(id) = self.newest.filter(|id| slot.is_none_or(|slot| slot == id.slot)) {
            self.newest_asked = Some(now);
            let path = path_of(&self.directory, GROUP_ONE, id.slot);
            return Some((id, Bytes::copy_from_slice(disk.whole(&path).ok()?)));
        }
        if let Some((id, whole, asked)) = self.previous.as_mut().filter(|(id, ..)| Some(id.slot) == slot) {
            *asked = Some(now);
            return Some((*id, whole.clone()));
        }
        let (id, whole, asked) = self.older.iter_mut().find(|(id, ..)| Some(id.slot) == slot)?;
        *asked = now;
        Some((*id, whole.clone()))
    }

    /// A piece of a certified state.
    fn gather(
        &mut self,
        now: Instant,
        id: SnapshotId,
        piece: (u64, u64, &Bytes),
        certified: &Certified,
        disk: &mut Disk,
    ) {
        if self.jobs.iter().any(|(_, job)| matches!(job, Job::Install(its, _) if *its == id)) {
            return;
        }
        if id.slot <= self.newest_slot() {
            if self.loads.is_empty() {
                self.bring(disk);
            }
            return;
        }
        let own = self.whole(now, None, disk).map(|(_, own)| own);
        let gathered = self.gathered.take().filter(|known| known.is_of(id, certified.digest));
        let mut gathered = gathered.unwrap_or_else(|| Gathered::new(id, certified.digest, self.options));
        let brought = gathered.take(piece, certified, own.as_ref());
        self.gathered = Some(gathered);
        match brought {
            Brought::Nothing => {}
            Brought::Again(next) => self.ask_again(now, id, next),
            Brought::Wanted(ranges) => self.kept.push_back(Kept::Wanted { id, ranges }),
            Brought::Poisoned => self.kept.push_back(Kept::Poisoned { id }),
            Brought::Failed => {
                self.counts.failed += 1;
                self.gathered = None;
            }
            Brought::Whole(file) => {
                self.gathered = None;
                self.plan(now.after(self.delay), Job::Install(id, file));
            }
        }
    }

    /// A piece of a leader's snapshot.
    fn stage(&mut self, now: Instant, id: SnapshotId, offset: u64, total: u64, body: &Body, disk: &mut Disk) {
        let installing = |job: &Job| matches!(job, Job::Install(its, _) if *its == id);
        if self.retrying == Some(id) || self.jobs.iter().any(|(_, job)| installing(job)) {
            return;
        }
        if id.slot <= self.newest_slot() {
            // The leader sends what is durable here already, so the store has not come there.
            if self.loads.is_empty() {
                self.bring(disk);
            }
            return;
        }
        if offset == 0 {
            self.staged = Some(Staged { id, bytes: Vec::new(), moved: now });
        }
        let Some(staged) = self.staged.as_mut().filter(|staged| staged.id == id) else {
            return self.ask_again(now, id, 0);
        };
        let next = staged.bytes.len() as u64;
        if next != offset {
            return if next < offset {
                self.ask_again(now, id, next)
            };
        }
        staged.bytes.extend_from_slice(body.bytes());
        staged.moved = now;
        let (staged_bytes, at) = (staged.bytes.len() as u64, now.after(self.delay));
        if total <= staged_bytes {
            let Staged { bytes, .. } = self.staged.take().expect("it has just grown");
            self.plan(at, Job::Install(id, bytes));
        }
    }

    fn ask_again(&mut self, now: Instant, id: SnapshotId, next: u64) {
        let is_echo = |(its, from, at): (SnapshotId, u64, Instant)| {
            (its, from) == (id, next) && now.since(at) < ASK_PAUSE
        };
        if !self.asked.is_some_and(is_echo) {
            self.asked = Some((id, next, now));
            self.kept.push_back(Kept::Rewound { id, next });
        }
    }

    /// Looks after a snapshot whose pieces have ceased to come.
    fn tend(&mut self, now: Instant) {
        let Some(staged) = &self.staged else { return };
        let (id, next, still) = (staged.id, staged.bytes.len() as u64, now.since(staged.moved));
        if GIVE_UP <= still {
            self.staged = None;
        } else if STALL <= still && self.asked.is_none_or(|(.., at)| STALL <= now.since(at)) {
            self.asked = None;
            self.ask_again(now, id, next);
        }
    }

    fn finish(&mut self, now: Instant, job: Job, disk: &mut Disk) {
        match job {
            Job::Publish(id, bytes) if self.newest_slot() < id.slot => {
                let len = bytes.len() as u64;
                if self.publish(now, id, bytes, disk) {
                    self.counts.made += 1;
                    self.kept.push_back(Kept::Snapshotted { id, bytes: len });
                }
            }
            Job::Publish(..) => (),
            Job::Install(id, bytes) => {
                let mut check = Inspection::of(id, &self.options);
                let sound = check.feed(&bytes).and_then(|()| check.finish());
                if sound.is_err() {
                    self.counts.failed += 1;
                }
                if id.slot <= self.newest_slot() || sound.is_ok() && self.publish(now, id, bytes, disk) {
                    self.bring(disk);
                    return;
                }
                self.retrying = Some(id);
                self.plan(now.after(RETRY_PAUSE), Job::Again(id));
            }
            Job::Again(id) => {
                self.retrying = self.retrying.filter(|other| *other != id);
                self.kept.push_back(Kept::Rewound { id, next: 0 });
            }
        }
    }

    /// Makes a snapshot durable, in place of the one before.
    fn publish(&mut self, now: Instant, id: SnapshotId, bytes: Vec<u8>, disk: &mut Disk) -> bool {
        let path = path_of(&self.directory, GROUP_ONE, id.slot);
        if disk.put_whole(&path, &bytes).is_err() {
            self.counts.failed += 1;
            return false;
        }
        if let Some(before) = self.newest.replace(id) {
            let path = path_of(&self.directory, GROUP_ONE, before.slot);
            let asked = self.newest_asked.take();
            let before = match disk.whole(&path) {
                Ok(bytes) if self.keeps_previous || asked.is_some() => {
                    Some((before, Bytes::copy_from_slice(bytes), asked))
                }
                _ => None,
            };
            let retired =
                if self.keeps_previous { std::mem::replace(&mut self.previous, before) } else { before };
            let shipped = retired.and_then(|(id, bytes, asked)| Some((id, bytes, asked?)));
            self.older.extend(shipped);
            disk.remove(&path);
            self.older.retain(|(.., asked)| now.since(*asked) <= SHIP_PAUSE_MAX);
            while OLDER_MAX < self.older.len() {
                self.older.pop_front();
            }
        }
        self.published.push((id, bytes));
        true
    }

    /// Streams the newest to the store, and tells the replica.
    fn bring(&mut self, disk: &mut Disk) {
        let Some(id) = self.newest else { return };
        let path = path_of(&self.directory, GROUP_ONE, id.slot);
        let Ok(whole) = disk.whole(&path).map(Bytes::copy_from_slice) else {
            self.counts.failed += 1;
            return;
        };
        let bytes = whole.len() as u64;
        let mut head = Inspection::of_any();
        let members =
            head.feed(&whole).map(|()| Body::new(head.members().bytes().into())).unwrap_or_default();
        self.loads.push_back(Load::Begin(id));
        let chunks = (0..whole.len()).step_by(CHUNK_BYTES);
        self.loads.extend(chunks.map(|at| Load::Chunk(whole.slice(at..whole.len().min(at + CHUNK_BYTES)))));
        self.loads.push_back(Load::End);
        self.kept.push_back(Kept::Installed { id, bytes, members });
        self.counts.installed += 1;
    }

    /// Fills the rings. What the replica is told of a load goes after the load.
    fn hand_over(&mut self) -> usize {
        let mut done = 0;
        while let Some(load) = self.loads.pop_front() {
            if let Err(back) = self.ports.to_store.push(load) {
                self.loads.push_front(back);
                break;
            }
            done += 1;
        }
        while let Some(kept) = self.kept.pop_front() {
            let early = matches!(kept, Kept::Installed { .. }) && !self.loads.is_empty();
            match if early { Err(kept) } else { self.ports.to_replica.push(kept) } {
                Ok(()) => done += 1,
                Err(back) => {
                    self.kept.push_front(back);
                    break;
                }
            }
        }
        done
    }
}

/// Where proofs lie, beside the snapshots.
fn evidence(snapshots: &Path) -> PathBuf {
    snapshots.with_file_name("evidence")
}

/// The snapshots on a simulated disk, for a start.
pub struct SnapshotsOf<'a> {
    /// Where they lie.
    pub directory: PathBuf,
    /// On which disk: not the driver's, which is in use at the same time.
    pub disk: &'a mut Disk,
    /// Chance of a read to bring fewer bytes than it should, per 1,000.
    pub short_transfers: u64,
    /// Which do.
    pub prng: Prng,
}

/// A file's bytes, of which a read may bring only the first.
struct Stuttering<'a> {
    bytes: &'a [u8],
    short_transfers: u64,
    prng: Prng,
}

impl Read for Stuttering<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out.len().min(self.bytes.len());
        let is_short = 1 < most && self.prng.chance(self.short_transfers, 1000);
        let count = if is_short { 1 + self.prng.below(most as u64 - 1) as usize } else { most };
        self.bytes.read(&mut out[..count])
    }
}

impl Snapshots for SnapshotsOf<'_> {
    fn place(&self) -> PathBuf {
        self.directory.clone()
    }
    fn survey(&mut self) -> io::Result<Vec<Found>> {
        let slot_of = |path: &Path| {
            let name = path.file_stem()?.to_str()?;
            name.rsplit_once('-')?.1.parse().ok().map(Slot)
        };
        let found = self.disk.names_in(&self.directory);
        let found = found.filter_map(|path| Some((path.to_path_buf(), slot_of(path)?)));
        let mut found: Vec<Found> = found.map(|(path, slot)| Found { path, slot, bytes: 0 }).collect();
        found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.slot));
        Ok(found)
    }
    fn proofs(&mut self) -> io::Result<Vec<Bytes>> {
        let names: Vec<PathBuf> =
            self.disk.names_in(&evidence(&self.directory)).map(Path::to_path_buf).collect();
        names.iter().map(|path| Ok(Bytes::copy_from_slice(self.disk.whole(path)?))).collect()
    }
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn Read + '_>> {
        let prng = Prng::from_seed(self.prng.next_u64());
        let bytes = self.disk.whole(path)?;
        Ok(Box::new(Stuttering { bytes, short_transfers: self.short_transfers, prng }))
    }
    fn sweep(&mut self, keep: Option<Slot>) -> io::Result<()> {
        let older = |found: &Found| keep.is_some_and(|keep| found.slot < keep);
        for found in self.survey()?.into_iter().filter(older) {
            self.disk.remove(&found.path);
        }
        Ok(())
    }
}
