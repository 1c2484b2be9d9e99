//! The keeper with real files, driven over its rings by a thread that plays store and replica.

use super::files::{path_of, survey};
use super::*;
use crate::admin::status::{Convicted, Facts};
use crate::admin::testing::Scratch;
use crate::base::ring::ring;
use crate::base::{Body, Digest, GROUP_ONE, JobId, Slot, Stamp, Term};
use bytes::Bytes;
use crossbeam::channel::Receiver;
use glommio::{LocalExecutorBuilder, Placement};
use std::fs;
use std::path::Path;
use std::thread::JoinHandle;

pub(super) const OPTIONS: store::Options =
    store::Options { group: GROUP_ONE, key: store::HashKey([7; 16]), bucket_bits: 6 };

/// Accepts bytes whose last 32 are the digest of those before.
struct Sealed;
struct SealedCheck(Vec<u8>);

impl Verify for Sealed {
    fn begin(&self, _: SnapshotId) -> Box<dyn Check> {
        Box::new(SealedCheck(Vec::new()))
    }
    fn options(&self) -> store::Options {
        OPTIONS
    }
}
impl Check for SealedCheck {
    fn update(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<(), String> {
        let (content, seal) = self.0.split_last_chunk::<32>().ok_or("too short")?;
        if Digest::of(content).0 == *seal { Ok(()) } else { Err("the seal is broken".to_string()) }
    }
}

fn sealed(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = crate::base::Prng::from_seed(seed);
    let mut content: Vec<u8> = (0..bytes).map(|_| random.next_u64() as u8).collect();
    let seal = Digest::of(&content);
    content.extend_from_slice(&seal.0);
    content
}

fn id(slot: u64) -> SnapshotId {
    SnapshotId { group: GROUP_ONE, slot: Slot(slot), term: Term(3), stamp: Stamp(99) }
}

/// Wakes a thread that is parked in `recv`.
struct Knock(crossbeam::channel::Sender<()>);
impl Doorbell for Knock {
    fn ring(&self) {
        let _ = self.0.try_send(());
    }
}

/// The data plane's ends, and the service thread.
pub(super) struct Plane {
    store: Producer<Keep>,
    replica: Producer<Keep>,
    kept: Consumer<Kept>,
    load: Consumer<Load>,
    loading: Vec<Load>,
    bell: KeeperBell,
    knocks: Receiver<()>,
    status: Arc<Status>,
    stop: Bell,
    thread: JoinHandle<()>,
}

pub(super) fn plane(directory: &Path, newest: Vec<(SnapshotId, PathBuf)>) -> Plane {
    plane_that(directory, newest, false)
}

fn plane_that(directory: &Path, newest: Vec<(SnapshotId, PathBuf)>, keep_previous: bool) -> Plane {
    let (store, from_store) = ring(8);
    let (replica, from_replica) = ring(8);
    let (to_replica, kept) = ring(2);
    let (to_store, load) = ring(2);
    let (knock, knocks) = crossbeam::channel::bounded(1);
    let data_plane: Vec<Arc<dyn Doorbell>> = vec![Arc::new(Knock(knock))];
    let ports = Ports { from_store, from_replica, to_replica, to_store, data_plane };
    let options = Options {
        directory: directory.to_path_buf(),
        evidence: directory.to_path_buf(),
        write_bytes_per_second: 0,
        read_bytes_per_second: 0,
        received_bytes_max: 64 << 20,
        keep_previous,
    };
    let status = Arc::new(Status::new(1, Duration::from_secs(3600), Facts::default()));
    let (events, _) = EventSink::new();
    let bell = KeeperBell::default();
    let keeper = Keeper::new(options, ports, bell.clone(), newest, Arc::new(Sealed), status.clone(), events);
    let keeper = keeper.retry_after(Duration::ZERO);
    let stop = Bell::new();
    let until = stop.clone();
    let thread = std::thread::spawn(move || {
        let executor =
            LocalExecutorBuilder::new(Placement::Unbound).io_memory(0).ring_depth(16).make().unwrap();
        executor.run(async move {
            glommio::spawn_local(keeper.run()).detach();
            until.rung().await;
        });
    });
    Plane { store, replica, kept, load, loading: Vec::new(), bell, knocks, status, stop, thread }
}

impl Plane {
    fn put(producer: &mut Producer<Keep>, bell: &KeeperBell, keep: Keep) {
        let mut keep = keep;
        while let Err(back) = producer.push(keep) {
            keep = back;
            std::thread::yield_now();
        }
        bell.ring();
    }
    pub(super) fn store(&mut self, keep: Keep) {
        Plane::put(&mut self.store, &self.bell, keep);
    }
    pub(super) fn replica(&mut self, keep: Keep) {
        Plane::put(&mut self.replica, &self.bell, keep);
    }
    fn own(&mut self, slot: u64, content: &[u8]) {
        self.store(Keep::Begin(id(slot)));
        for chunk in content.chunks(10_000) {
            self.store(Keep::Chunk(Bytes::copy_from_slice(chunk)));
        }
        self.store(Keep::End);
    }
    pub(super) fn kept(&mut self) -> Kept {
        loop {
            match self.kept.pop() {
                Some(kept) => return kept,
                None => self.knocks.recv().unwrap(),
            }
        }
    }
    /// As `kept`, while whatever is brought to the store is taken.
    pub(super) fn next(&mut self) -> Kept {
        loop {
            while let Some(load) = self.load.pop() {
                self.loading.push(load);
            }
            match self.kept.pop() {
                Some(kept) => return kept,
                None => self.knocks.recv().unwrap(),
            }
        }
    }
    /// What was brought meanwhile.
    pub(super) fn taken(&mut self) -> Option<(SnapshotId, Vec<u8>)> {
        while let Some(load) = self.load.pop() {
            self.loading.push(load);
        }
        let (mut began, mut content) = (None, Vec::new());
        for load in self.loading.drain(..) {
            match load {
                Load::Begin(id) => began = Some(id),
                Load::Chunk(bytes) => content.extend_from_slice(&bytes),
                Load::End => {}
                Load::Wanted => panic!("none is lost"),
            }
        }
        began.map(|id| (id, content))
    }
    fn snapshot(&mut self, slot: u64, content: &[u8]) {
        self.own(slot, content);
        assert_eq!(self.kept(), Kept::Snapshotted { id: id(slot), bytes: content.len() as u64 });
    }
    /// Why a snapshot could not be written, once that is told.
    fn trouble(&self) -> String {
        loop {
            if let Some(why) = self.status.facts().snapshot.error {
                return why;
            }
            std::thread::yield_now();
        }
    }
    fn piece(&mut self, slot: u64, content: &[u8], offset: usize, bytes: usize) {
        let end = content.len().min(offset + bytes);
        let body = Body::new(Bytes::copy_from_slice(&content[offset..end]));
        let total = content.len() as u64;
        self.replica(Keep::Piece { id: id(slot), offset: offset as u64, total, body });
    }
    fn pieces(&mut self, slot: u64, content: &[u8]) {
        (0..content.len()).step_by(50_000).for_each(|offset| self.piece(slot, content, offset, 50_000));
    }
    fn fetch(&mut self, slot: Option<u64>, offset: u64, bytes: usize) -> Piece {
        self.replica(Keep::Fetch { job: JobId(5), group: GROUP_ONE, slot: slot.map(Slot), offset, bytes });
        match self.kept() {
            Kept::Fetched { job: JobId(5), group: GROUP_ONE, piece } => piece,
            other => panic!("{other:?}"),
        }
    }
    /// Ships a whole snapshot as a leader would.
    fn ship(&mut self, slot: Option<u64>) -> (SnapshotId, Vec<u8>) {
        let mut all = Vec::new();
        loop {
            let (its, total, offset, body) = self.fetch(slot, all.len() as u64, 70_000).unwrap();
            assert_eq!(offset, all.len() as u64);
            all.extend_from_slice(body.bytes());
            if all.len() as u64 == total {
                return (its, all);
            }
        }
    }
    /// Takes a whole state off the ring to the store.
    fn loaded(&mut self) -> (SnapshotId, Vec<u8>) {
        let (mut began, mut content) = (None, Vec::new());
        loop {
            match self.load.pop() {
                Some(Load::Begin(id)) => began = Some(id),
                Some(Load::Chunk(bytes)) => content.extend_from_slice(&bytes),
                Some(Load::End) => return (began.unwrap(), content),
                Some(Load::Wanted) => panic!("none is lost"),
                None => self.knocks.recv().unwrap(),
            }
        }
    }
    /// Waits until the keeper asks for the snapshot of `slot` again, and tells why.
    fn rewound(&mut self, slot: u64, next: u64) -> Option<String> {
        assert_eq!(self.kept(), Kept::Rewound { id: id(slot), next });
        let mut why = None;
        self.status.update(|facts| why = facts.snapshot.error.take());
        why
    }
    pub(super) fn stop(self) {
        self.stop.ring();
        self.thread.join().unwrap();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_own_snapshot_becomes_a_file_and_can_be_shipped() {
    let scratch = Scratch::new("keeper-own");
    let mut plane = plane(scratch.path(), Vec::new());
    assert_eq!(plane.fetch(None, 0, 100), None);
    let first = sealed(700_001, 1);
    plane.snapshot(10, &first);
    assert_eq!(fs::read(path_of(scratch.path(), GROUP_ONE, Slot(10))).unwrap(), first);
    assert_eq!(plane.ship(None), (id(10), first.clone()));
    let (_, total, _, body) = plane.fetch(Some(10), 1 << 40, 100).unwrap();
    assert_eq!((total, body.len()), (first.len() as u64, 0));

    // A newer one replaces it; what is being shipped goes on to its end.
    let begun = plane.fetch(Some(10), 0, 1000).unwrap();
    let second = sealed(100_000, 2);
    plane.snapshot(20, &second);
    assert_eq!(names(scratch.path()), ["snapshot-1-20.qs"]);
    assert_eq!(begun.3.bytes(), &first[..1000]);
    assert_eq!(plane.ship(Some(10)), (id(10), first));
    assert_eq!(plane.ship(None), (id(20), second));
    assert_eq!(plane.fetch(Some(15), 0, 100), None);
    assert_eq!(plane.status.facts().snapshot.slot, 20);
    plane.stop();
}

#[test]
fn a_snapshot_that_is_begun_anew_or_too_late_leaves_nothing() {
    let scratch = Scratch::new("keeper-anew");
    let mut plane = plane(scratch.path(), Vec::new());
    plane.store(Keep::Begin(id(5)));
    plane.store(Keep::Chunk(Bytes::from(vec![1; 400_000])));
    let content = sealed(300, 3);
    plane.snapshot(6, &content);
    assert_eq!(names(scratch.path()), ["snapshot-1-6.qs"]);
    // Older than what is there, and a chunk and an end that belong to nothing.
    plane.own(6, &content);
    plane.store(Keep::Chunk(Bytes::from_static(b"stray")));
    plane.store(Keep::End);
    plane.snapshot(7, &content);
    assert_eq!(names(scratch.path()), ["snapshot-1-7.qs"]);
    plane.stop();
}

#[test]
fn a_leaders_snapshot_is_staged_checked_and_brought_to_the_store() {
    let scratch = Scratch::new("keeper-install");
    let mut plane = plane(scratch.path(), Vec::new());
    let content = sealed(600_000, 4);
    plane.piece(30, &content, 0, 50_000);
    plane.piece(30, &content, 50_000, 50_000);
    // A new start begins anew; what has come already is let go by.
    plane.piece(30, &content, 0, 20_000);
    for offset in (20_000..content.len()).step_by(40_000) {
        plane.piece(30, &content, offset, 40_000);
        plane.piece(30, &content, offset, 40_000);
    }
    assert_eq!(plane.loaded(), (id(30), content.clone()));
    assert_eq!(
        plane.kept(),
        Kept::Installed { id: id(30), bytes: content.len() as u64, members: Body::EMPTY }
    );
    assert_eq!(names(scratch.path()), ["snapshot-1-30.qs"]);
    assert_eq!(plane.ship(Some(30)), (id(30), content.clone()));
    // A leader that sends it again had not heard of it: the store gets it once more.
    plane.piece(30, &content, 0, 20_000);
    assert_eq!(plane.loaded(), (id(30), content.clone()));
    assert_eq!(
        plane.kept(),
        Kept::Installed { id: id(30), bytes: content.len() as u64, members: Body::EMPTY }
    );
    plane.stop();
}

#[test]
fn pieces_that_were_lost_on_the_way_are_asked_for_again() {
    let scratch = Scratch::new("keeper-lost");
    let mut plane = plane(scratch.path(), Vec::new());
    let content = sealed(300_000, 4);
    plane.piece(30, &content, 50_000, 50_000);
    assert_eq!(plane.rewound(30, 0), None);
    plane.piece(30, &content, 0, 50_000);
    // The flood behind a gap is answered once.
    (2..6).for_each(|piece| plane.piece(30, &content, piece * 50_000, 50_000));
    assert_eq!(plane.rewound(30, 50_000), None);
    for offset in (50_000..content.len()).step_by(50_000) {
        plane.piece(30, &content, offset, 50_000);
    }
    assert_eq!(plane.loaded(), (id(30), content.clone()));
    let mut kept = plane.kept();
    while kept == (Kept::Rewound { id: id(30), next: 50_000 }) {
        // The flood took longer than the pause between two answers.
        kept = plane.kept();
    }
    assert_eq!(kept, Kept::Installed { id: id(30), bytes: content.len() as u64, members: Body::EMPTY });

    // When it was the last pieces that were lost, nothing follows that would tell of the gap.
    plane.piece(40, &content, 0, 50_000);
    let asked = loop {
        plane.bell.ring();
        match plane.kept.pop() {
            Some(kept) => break kept,
            None => drop(plane.knocks.recv_timeout(Duration::from_millis(20))),
        }
    };
    assert_eq!(asked, Kept::Rewound { id: id(40), next: 50_000 });
    plane.stop();
}

#[test]
fn a_damaged_snapshot_is_refused_and_a_sound_one_taken_after_it() {
    let scratch = Scratch::new("keeper-damage");
    let mut plane = plane(scratch.path(), Vec::new());
    let content = sealed(300_000, 5);
    for at in [0, 150_000, content.len() - 1] {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        plane.pieces(40, &damaged);
        assert_eq!(plane.rewound(40, 0).unwrap(), "the seal is broken");
    }
    assert!(plane.load.is_empty(), "nothing of a damaged snapshot reaches the store");
    assert!(names(scratch.path()).is_empty());
    plane.piece(41, &content[..20], 0, 20);
    assert_eq!(plane.rewound(41, 0).unwrap(), "too short");
    plane.pieces(40, &content);
    assert_eq!(plane.loaded(), (id(40), content));
    assert!(matches!(plane.kept(), Kept::Installed { .. }));
    plane.stop();
}

#[test]
fn more_bytes_than_told_or_allowed_are_refused() {
    let scratch = Scratch::new("keeper-size");
    let mut plane = plane(scratch.path(), Vec::new());
    let body = Body::new(Bytes::from(vec![7; 100]));
    plane.replica(Keep::Piece { id: id(3), offset: 0, total: 50, body: body.clone() });
    assert_eq!(plane.rewound(3, 0).unwrap(), "100 bytes have come of a snapshot of 50");
    plane.replica(Keep::Piece { id: id(3), offset: 0, total: u64::MAX, body });
    let why = plane.rewound(3, 0).unwrap();
    assert!(why.starts_with("the leader's snapshot has 18446744073709551615 bytes"), "{why}");
    assert!(names(scratch.path()).is_empty());
    plane.stop();
}

#[test]
fn a_proof_is_durable_and_shown() {
    let scratch = Scratch::new("keeper-proof");
    let mut plane = plane(scratch.path(), Vec::new());
    let proof = Body::new(Bytes::from_static(b"signed words"));
    plane.replica(Keep::Proof { accused: NodeId(3), kind: "two-proposals", proof: proof.clone() });
    // An errand behind it has been done when it is answered.
    plane.replica(Keep::Fetch { job: JobId(1), group: GROUP_ONE, slot: None, offset: 0, bytes: 1 });
    assert!(matches!(plane.kept(), Kept::Fetched { .. }));
    let convicted = Convicted { node: 3, kind: "two-proposals".into() };
    assert_eq!(plane.status.proofs(), [(convicted.clone(), proof.bytes().clone())]);
    assert_eq!(plane.status.facts().convicted, [convicted]);
    let path = scratch.path().join("node-3-two-proposals.proof");
    assert_eq!(proofs::survey(scratch.path()).unwrap(), [(path, proof.bytes().clone())]);
    assert_eq!(names(scratch.path()), ["node-3-two-proposals.proof"], "nothing unfinished is left");
    plane.stop();
}

#[test]
fn the_snapshot_before_the_newest_is_there_for_who_may_not_take_the_newest() {
    let scratch = Scratch::new("keeper-previous");
    let mut plane = plane_that(scratch.path(), Vec::new(), true);
    let contents = [5, 6, 7].map(|seed| sealed(100_000, seed));
    for (slot, content) in [10, 20, 30].into_iter().zip(&contents) {
        plane.snapshot(slot, content);
    }
    assert_eq!(plane.ship(None), (id(30), contents[2].clone()));
    assert_eq!(plane.ship(Some(20)), (id(20), contents[1].clone()));
    assert_eq!(plane.fetch(Some(10), 0, 1), None);
    let kept = ["snapshot-1-20.qs", "snapshot-1-30.qs"];
    assert_eq!(names(scratch.path()), kept, "whoever starts again has both");
    plane.stop();
    let found = [20, 30].map(|slot| (id(slot), path_of(scratch.path(), GROUP_ONE, Slot(slot))));
    let mut plane = plane_that(scratch.path(), found.to_vec(), true);
    assert_eq!(plane.ship(Some(20)), (id(20), contents[1].clone()));
    assert_eq!(plane.ship(None), (id(30), contents[2].clone()));
    plane.snapshot(40, &contents[0]);
    assert_eq!(plane.ship(Some(30)), (id(30), contents[2].clone()));
    assert_eq!(names(scratch.path()), ["snapshot-1-30.qs", "snapshot-1-40.qs"]);
    plane.stop();
}

#[test]
fn two_leaders_snapshots_one_after_the_other_are_both_brought() {
    let scratch = Scratch::new("keeper-two");
    let mut plane = plane(scratch.path(), Vec::new());
    let (first, second) = (sealed(400_000, 21), sealed(500_000, 22));
    // The second is staged while the first waits for the store to take it.
    plane.pieces(50, &first);
    plane.pieces(60, &second);
    assert_eq!(plane.loaded(), (id(50), first.clone()));
    assert_eq!(plane.kept(), Kept::Installed { id: id(50), bytes: first.len() as u64, members: Body::EMPTY });
    assert_eq!(plane.loaded(), (id(60), second.clone()));
    assert_eq!(
        plane.kept(),
        Kept::Installed { id: id(60), bytes: second.len() as u64, members: Body::EMPTY }
    );
    assert_eq!(names(scratch.path()), ["snapshot-1-60.qs"]);
    plane.stop();
}

#[test]
fn a_full_disk_costs_one_snapshot_and_not_the_node() {
    let scratch = Scratch::new("keeper-full");
    let mut plane = plane(scratch.path(), Vec::new());
    // Writing through this name meets a device that is always full.
    std::os::unix::fs::symlink("/dev/full", scratch.path().join("snapshot-1-8.qs.own.tmp")).unwrap();
    let content = sealed(900_000, 6);
    plane.own(8, &content);
    let why = plane.trouble();
    assert!(why.contains("No space left"), "{why}");
    plane.snapshot(9, &content);
    assert_eq!(names(scratch.path()), ["snapshot-1-9.qs"]);
    assert_eq!(plane.status.facts().snapshot.error, None);
    plane.stop();
}

#[test]
fn a_directory_that_is_gone_costs_snapshots_and_not_the_node() {
    let scratch = Scratch::new("keeper-gone");
    let inner = scratch.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let mut plane = plane(&inner, Vec::new());
    let content = sealed(1000, 7);
    fs::remove_dir(&inner).unwrap();
    plane.own(8, &content);
    // Two queues: what the store brings could be met after the pieces, when the directory is there again.
    assert!(plane.trouble().contains("No such file"));
    plane.pieces(9, &content);
    let why = plane.rewound(9, 0).unwrap();
    assert!(why.contains("No such file"), "{why}");
    fs::create_dir(&inner).unwrap();
    plane.snapshot(10, &content);
    plane.stop();
}

#[test]
fn a_restart_goes_on_with_the_newest() {
    let scratch = Scratch::new("keeper-restart");
    let content = sealed(123_456, 8);
    let mut first = plane(scratch.path(), Vec::new());
    first.snapshot(50, &content);
    first.store(Keep::Begin(id(60)));
    first.store(Keep::Chunk(Bytes::from(vec![1; 300_000])));
    while names(scratch.path()).len() < 2 {
        std::thread::yield_now();
    }
    first.stop();
    assert_eq!(names(scratch.path()), ["snapshot-1-50.qs", "snapshot-1-60.qs.own.tmp"]);

    let found = survey(scratch.path(), GROUP_ONE).unwrap();
    assert_eq!((found.len(), found[0].slot), (1, Slot(50)));
    assert_eq!(files::sweep(scratch.path(), GROUP_ONE, Some(Slot(50))).unwrap(), 1);
    let mut second = plane(scratch.path(), vec![(id(50), found[0].path.clone())]);
    assert_eq!(second.ship(None), (id(50), content.clone()));
    second.snapshot(61, &content);
    assert_eq!(names(scratch.path()), ["snapshot-1-61.qs"]);
    second.stop();
}

/// Cuts the end off a snapshot's file, which the keeper has open.
fn cut(directory: &Path, slot: u64) {
    let path = path_of(directory, GROUP_ONE, Slot(slot));
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap();
}

#[test]
fn a_leader_that_cannot_read_its_snapshot_has_its_store_make_another() {
    let scratch = Scratch::new("keeper-unreadable");
    let mut plane = plane(scratch.path(), Vec::new());
    let content = sealed(200_000, 31);
    plane.snapshot(10, &content);
    cut(scratch.path(), 10);
    assert_eq!(plane.fetch(None, 0, 70_000), None);
    assert_eq!(plane.load.pop(), Some(Load::Wanted));
    // Asked again, it has none, and has said so already.
    assert_eq!(plane.fetch(None, 0, 70_000), None);
    assert_eq!(plane.load.pop(), None);
    // Nothing may have been written since: it may be of the same slot.
    plane.snapshot(10, &content);
    assert_eq!(plane.ship(None), (id(10), content.clone()));
    cut(scratch.path(), 10);
    assert_eq!(plane.fetch(None, 0, 70_000), None);
    plane.snapshot(11, &content);
    assert_eq!(names(scratch.path()), ["snapshot-1-11.qs"], "the one that could not be read is gone");
    plane.stop();
}

#[test]
fn a_follower_that_cannot_read_what_it_has_stored_takes_it_again() {
    let scratch = Scratch::new("keeper-again");
    let mut plane = plane(scratch.path(), Vec::new());
    let content = sealed(200_000, 32);
    plane.snapshot(10, &content);
    cut(scratch.path(), 10);
    // The store has not come there, so the leader sends it; what is on the shelf fails first.
    plane.piece(10, &content, 0, 50_000);
    let why = plane.rewound(10, 0).unwrap();
    assert!(why.contains("the file ends at 100"), "{why}");
    while plane.load.pop().is_some() {}
    plane.pieces(10, &content);
    assert_eq!(plane.loaded(), (id(10), content.clone()));
    assert!(matches!(plane.kept(), Kept::Installed { .. }));
    assert_eq!(fs::read(path_of(scratch.path(), GROUP_ONE, Slot(10))).unwrap(), content);
    plane.stop();
}
