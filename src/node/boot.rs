//! What happens before any agent runs: who this node is, what it had stored.

use super::RunError;
use super::keys::Secrets;
use super::members;
use super::sizes::{PbftSizes, Sizes};
use crate::admin::keeper::files::{self, Found};
use crate::admin::keeper::proofs;
use crate::base::{Body, GROUP_ONE, Instant, Origin, Slot, View};
use crate::config::{ClientAuth, Durability, ProtocolKind, Resolved};
use crate::crypto::{Keyring, SigningKey};
use crate::io::{Driver, Entropy};
use crate::log::superblock::Superblock;
use crate::log::{self, Identity, Log};
use crate::protocol::pbft::lineage::quorum_of;
use crate::protocol::pbft::{self, Lineage, Pbft};
use crate::protocol::raft::{self, Mark, Raft, Replay, Setup};
use crate::protocol::{Engine, Hole, Lead};
use crate::store::{self, HashKey, Store};
use crate::wire::Record;
use crate::wire::hop::{SnapshotId, Stored};
use crate::wire::members::OPERATOR;
use crate::wire::pbft::{Accusation, Charter};
use bytes::Bytes;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where snapshots lie within a node's directory.
pub fn snapshots(data: &Path) -> PathBuf {
    data.join("snapshots")
}

/// Where proof lies, within a node's directory, that replicas lie.
pub fn evidence(data: &Path) -> PathBuf {
    data.join("evidence")
}

/// A node's state as it was stored.
pub struct Booted {
    /// Of this life.
    pub origin: Origin,
    /// The log, recovered.
    pub log: Log,
    /// The group's core, as it was.
    pub engine: Engine,
    /// The store, as of the newest snapshot.
    pub store: Store,
    /// That snapshot and its file, and before it the one before, if it was kept.
    pub snapshots: Vec<(SnapshotId, PathBuf)>,
    /// Newer snapshots that could not be used, and why: what the log had was enough all the same.
    pub passed_over: Vec<String>,
    /// How long it all took.
    pub took: Duration,
}

impl Booted {
    /// The newest slot of the log.
    pub fn last(&self) -> Slot {
        self.engine.last()
    }
}

/// The durable snapshots of a node, as a start finds them: files, or what the simulator keeps in their place.
pub trait Snapshots {
    /// Where they lie, for messages.
    fn place(&self) -> PathBuf;
    /// All of the group, newest first.
    fn survey(&mut self) -> io::Result<Vec<Found>>;
    /// All proofs that replicas lie.
    fn proofs(&mut self) -> io::Result<Vec<Bytes>>;
    /// The bytes of one.
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn Read + '_>>;
    /// Removes unfinished ones, and those before `keep`.
    fn sweep(&mut self, keep: Option<Slot>) -> io::Result<()>;
}

/// Snapshots in a directory.
pub struct SnapshotFiles {
    directory: PathBuf,
    evidence: PathBuf,
}

impl SnapshotFiles {
    /// Those of the node whose data lies there.
    pub fn of(data: &Path) -> SnapshotFiles {
        SnapshotFiles { directory: snapshots(data), evidence: evidence(data) }
    }
}

impl Snapshots for SnapshotFiles {
    fn place(&self) -> PathBuf {
        self.directory.clone()
    }
    fn survey(&mut self) -> io::Result<Vec<Found>> {
        std::fs::create_dir_all(&self.directory)?;
        files::survey(&self.directory, GROUP_ONE)
    }
    fn proofs(&mut self) -> io::Result<Vec<Bytes>> {
        std::fs::create_dir_all(&self.evidence)?;
        Ok(proofs::survey(&self.evidence)?.into_iter().map(|(_, proof)| proof).collect())
    }
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(std::fs::File::open(path)?))
    }
    fn sweep(&mut self, keep: Option<Slot>) -> io::Result<()> {
        files::sweep(&self.directory, GROUP_ONE, keep).map(drop)
    }
}

/// Who this node is, before anything else of it is known.
pub struct Known {
    superblock: Superblock,
    identity: Identity,
    /// Of this life.
    pub origin: Origin,
    /// With which members it begins, last, and how they came about.
    charters: Vec<Charter>,
    begun: Instant,
}

impl Known {
    /// With which members it begins.
    pub fn charter(&self) -> &Charter {
        self.charters.last().expect("one at least")
    }
}

/// Looks whose data these are, and begins a new life. Blocks.
pub fn identify(config: &Resolved, driver: &mut dyn Driver) -> Result<Known, RunError> {
    let begun = driver.now();
    let identity = Identity { cluster: config.cluster.id.0, node: config.node.id };
    let superblock = Superblock::open(driver, &config.node.dir, identity, config.membership().0)?;
    let origin = Origin { node: config.node.id, lane: 0, boot: superblock.generation };
    Ok(Known { superblock, identity, origin, charters: members::charters(config)?, begun })
}

/// Reads everything back. Blocks. The driver need not be the one with which the node will run: no file stays open.
pub fn boot(
    known: Known,
    config: &Resolved,
    sizes: &Sizes,
    secrets: &Secrets,
    driver: &mut dyn Driver,
    entropy: &mut dyn Entropy,
    snapshots: &mut dyn Snapshots,
) -> Result<Booted, RunError> {
    let Known { mut superblock, identity, origin, charters, begun } = known;
    let data = &config.node.dir;
    let mut store = Store::new(store_options(config, sizes));
    let Loaded { snapshots: found, mut passed_over } =
        load_snapshot(snapshots, &mut store, keeps_previous(config))?;
    let mut options =
        log::Options::usual(log::directory(data, 0), identity, superblock.generation, superblock.established);
    options.segment_bytes = config.log.segment_bytes as u32;
    options.durable = config.log.durability == Durability::QuorumSync;
    (options.body_max, options.batch_bytes) = (body_max(config, sizes), sizes.log_batch_bytes);
    // The records are replayed while the log is read: it may be longer than memory.
    let mut replay = Ok(Replayed::new(config, sizes));
    let log = Log::recover(driver, options, &mut |stored| {
        if let Ok(replayed) = &mut replay
            && let Err(error) = replayed.record(&stored)
        {
            replay = Err(error);
        }
    })?;
    let replay = replay?;
    superblock.establish(driver, data)?;
    let mark = |(id, _): &(SnapshotId, PathBuf)| Mark { slot: id.slot, term: id.term, stamp: id.stamp };
    let (now, mark) = (driver.now(), found.last().map_or(Mark::ZERO, mark));
    let engine = match replay {
        Replayed::Raft(replay) => {
            let (me, members) = (config.node.id, config.cluster.nodes());
            let setup = Setup { me, members, options: raft_options(config), seed: entropy.seed() };
            Raft::recover(setup, now, mark, replay).map(|raft| Engine::Raft(Box::new(raft)))
        }
        Replayed::Pbft(replay) => {
            let state = store.sessions().members().clone();
            let charter = charters.last().expect("one at least");
            let setup = pbft::Setup { state, ..pbft_setup(config, sizes, secrets, origin.boot, charter) };
            Pbft::recover(setup, now, (mark.slot, mark.stamp), *replay).map(|mut pbft| {
                charters.into_iter().for_each(|charter| pbft.remember(charter));
                Engine::Pbft(Box::new(pbft))
            })
        }
    };
    let mut engine = match engine {
        Ok(engine) => engine,
        // Whoever reads of a hole must hear of the file that would have filled it.
        Err(Hole::Snapshot { .. } | Hole::Entries { .. }) if !passed_over.is_empty() => {
            return Err(passed_over.remove(0).error());
        }
        Err(hole) => return Err(hole.into()),
    };
    if let Engine::Pbft(pbft) = &mut engine {
        recall(snapshots, pbft)?;
    }
    let (took, passed_over) = (now.since(begun), passed_over.iter().map(PassedOver::remark).collect());
    Ok(Booted { origin, log, engine, store, snapshots: found, passed_over, took })
}

/// The largest body of a record.
fn body_max(config: &Resolved, sizes: &Sizes) -> usize {
    match config.group.protocol {
        ProtocolKind::Raft => sizes.body_max,
        ProtocolKind::Pbft => sizes.body_max.max(sizes.new_view_bytes_max),
    }
}

/// What came of judging an accusation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It holds by the keys of that epoch.
    Convicts(u64),
    /// It does not.
    Fails(u64),
    /// It is about an epoch of which nobody has shown how it began.
    Unknown,
}

/// Whether an accusation holds by the keys of the members of its time.
pub fn judge(config: &Resolved, lineage: &Lineage, accusation: &Accusation) -> Verdict {
    let (proof, latest) = (&accusation.proof, lineage.latest());
    // A view names its epoch. A slot does not, and may be of one that begins after all that are known.
    let epoch = proof.view().map_or_else(|| lineage.epoch_of(proof.slot()), View::epoch);
    let Some(members) = lineage.members_of(epoch) else { return Verdict::Unknown };
    let options = pbft_options(config, &Sizes::NODE);
    let rules = pbft::Rules {
        group: GROUP_ONE,
        keys: &Keyring::checking(members.signing_keys()),
        quorum: quorum_of(members),
        window: options.window,
        checkpoint_every: options.checkpoint_every,
    };
    match rules.convict(accusation) {
        true => Verdict::Convicts(epoch),
        false if epoch == latest.epoch && !latest.nodes().contains(accusation.accused) => Verdict::Unknown,
        false => Verdict::Fails(epoch),
    }
}

/// Lets the core know what it has had proof of.
fn recall(snapshots: &mut dyn Snapshots, pbft: &mut Pbft) -> Result<(), RunError> {
    let place = snapshots.place();
    let unreadable = |error| RunError::Unreadable { path: place.with_file_name("evidence"), error };
    let proofs = snapshots.proofs().map_err(unreadable)?;
    proofs.into_iter().for_each(|proof| pbft.recall(&Body::new(proof)));
    Ok(())
}

/// How every store of the cluster is made.
pub fn store_options(config: &Resolved, sizes: &Sizes) -> store::Options {
    store::Options {
        group: GROUP_ONE,
        key: HashKey::derive(&config.cluster.id.0),
        bucket_bits: sizes.bucket_bits,
    }
}

/// Whether the snapshot before the newest is kept: of a PBFT group the newest may not be stable yet, and then nobody may take it.
pub(super) fn keeps_previous(config: &Resolved) -> bool {
    config.group.protocol == ProtocolKind::Pbft
}

/// What became of the snapshots of a node.
struct Loaded {
    /// The newest that passed its check, and before it the one before, if that is to be kept.
    snapshots: Vec<(SnapshotId, PathBuf)>,
    /// Newer ones that could not be used, the newest first.
    passed_over: Vec<PassedOver>,
}

/// A snapshot that could not be used.
struct PassedOver {
    path: PathBuf,
    why: Flaw,
}

enum Flaw {
    /// It is not what was written.
    Damaged(String),
    /// It may be.
    Unreadable(io::Error),
}

impl PassedOver {
    /// Nothing else holds what it held.
    fn error(self) -> RunError {
        let path = self.path;
        match self.why {
            Flaw::Damaged(why) => RunError::Snapshot { path, why },
            Flaw::Unreadable(error) => RunError::Unreadable { path, error },
        }
    }
    /// Something else did.
    fn remark(&self) -> String {
        let (path, kind, why) = match &self.why {
            Flaw::Damaged(why) => (self.path.display(), "is damaged", why.clone()),
            Flaw::Unreadable(error) => (self.path.display(), "cannot be read", error.to_string()),
        };
        format!(
            "the snapshot {path} {kind}: {why}; nothing is lost, for the log reaches below it, but look after the disk"
        )
    }
}

/// Loads the newest snapshot that passes its check; the log may still reach down to it, or to nothing.
fn load_snapshot(
    snapshots: &mut dyn Snapshots,
    store: &mut Store,
    keeps_previous: bool,
) -> Result<Loaded, RunError> {
    let place = snapshots.place();
    let io = |error| RunError::Unreadable { path: place.clone(), error };
    let mut found = snapshots.survey().map_err(io)?.into_iter();
    let (mut loaded, mut passed_over) = (Vec::new(), Vec::new());
    for candidate in found.by_ref() {
        let path = candidate.path;
        let came = snapshots.open(&path).map_err(Flaw::Unreadable);
        match came.and_then(|mut file| load_one(&mut file, store).map_err(Flaw::Damaged)) {
            Ok(id) => {
                loaded.push((id, path));
                break;
            }
            Err(why) => passed_over.push(PassedOver { path, why }),
        }
    }
    // Whoever takes it checks its ranges; here it is enough to know of which slot it is.
    let previous = found.filter(|_| keeps_previous && !loaded.is_empty()).find_map(|candidate| {
        let mut file = snapshots.open(&candidate.path).ok()?;
        Some((beginning(&mut file, &mut vec![0; READ_BYTES]).ok()?.0, candidate.path))
    });
    loaded.splice(0..0, previous);
    snapshots.sweep(loaded.first().map(|(id, _)| id.slot)).map_err(io)?;
    Ok(Loaded { snapshots: loaded, passed_over })
}

/// What is read of a snapshot at a time.
const READ_BYTES: usize = 256 << 10;

/// Of which slot a snapshot is, and how many of its bytes were read for that.
fn beginning(file: &mut dyn Read, chunk: &mut [u8]) -> Result<(SnapshotId, usize), String> {
    let length = fill(file, chunk).map_err(|e| e.to_string())?;
    let mut beginning = store::inspect::Inspection::of_any();
    beginning.feed(&chunk[..length]).map_err(|flaw| format!("{flaw}, as bytes 0 to {length} were read"))?;
    Ok((beginning.header().ok_or("it ends within its header")?.id, length))
}

fn load_one(file: &mut dyn Read, store: &mut Store) -> Result<SnapshotId, String> {
    let mut chunk = vec![0; READ_BYTES];
    let (id, mut length) = beginning(file, &mut chunk)?;
    let (mut loading, mut offset) = (store.loading(id), 0);
    while 0 < length {
        let end = offset + length as u64;
        // Not every flaw has a place of its own.
        let place = |flaw| format!("{flaw}, as bytes {offset} to {end} were read");
        loading.feed(&chunk[..length]).map_err(place)?;
        length = fill(file, &mut chunk).map_err(|e| format!("at byte {end}: {e}"))?;
        offset = end;
    }
    store.replace(loading).map_err(|flaw| format!("{flaw}, in bytes 0 to {offset}"))?;
    Ok(id)
}

/// Reads until `chunk` is full or the file has ended: a single read may bring fewer bytes than either.
fn fill(file: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What the log's records add up to, for the protocol that wrote them.
enum Replayed {
    Raft(Replay),
    Pbft(Box<pbft::Replay>),
}

impl Replayed {
    fn new(config: &Resolved, sizes: &Sizes) -> Replayed {
        match config.group.protocol {
            ProtocolKind::Raft => Replayed::Raft(Replay::new(&raft_options(config))),
            ProtocolKind::Pbft => Replayed::Pbft(Box::new(pbft::Replay::new(&pbft_options(config, sizes)))),
        }
    }
    fn record(&mut self, stored: &Stored) -> Result<(), RunError> {
        let record = Record::load(stored)
            .map_err(|error| RunError::Record { slot: stored.place, why: error.to_string() })?;
        match self {
            Replayed::Raft(replay) => Ok(replay.record(record)?),
            Replayed::Pbft(replay) => Ok(replay.record(record)?),
        }
    }
}

/// See `pbft::Options::note_pause`: a group that has work writes something else sooner.
const NOTE_PAUSE: Duration = Duration::from_millis(20);

/// What a PBFT group is tuned by.
pub(super) fn pbft_options(config: &Resolved, sizes: &Sizes) -> pbft::Options {
    let (group, default) = (&config.group, sized(sizes.pbft));
    pbft::Options {
        faulty_max: Some(group.faulty),
        sign_pre_prepares: group.sign_pre_prepares,
        client_tags: group.client_auth == ClientAuth::Mac,
        clock_skew_max_ms: group.clock_skew_max.as_millis() as u64,
        request_timeout: group.request_timeout,
        request_timeout_max: default.request_timeout_max.max(group.request_timeout),
        piece_bytes_max: config.raft.snapshot_piece_bytes,
        new_view_bytes_max: sizes.new_view_bytes_max,
        note_pause: NOTE_PAUSE,
        ..default
    }
    .fitted(quorum_of(&members::genesis(config)))
}

/// The usual options, or those of other sizes.
fn sized(sizes: Option<PbftSizes>) -> pbft::Options {
    let default = pbft::Options::default();
    sizes.map_or(default.clone(), |sizes| pbft::Options {
        window: sizes.window,
        checkpoint_every: sizes.checkpoint_every,
        snapshot_every: sizes.snapshot_every,
        proposals_max: sizes.proposals_max,
        message_bytes_max: sizes.message_bytes_max,
        origin_batches_max: sizes.origin_batches_max,
        cache_entries_max: sizes.cache_entries_max,
        ..default
    })
}

fn pbft_setup(
    config: &Resolved,
    sizes: &Sizes,
    secrets: &Secrets,
    boot: u64,
    charter: &Charter,
) -> pbft::Setup {
    let (me, membership) = (config.node.id, &charter.membership);
    let keys = keyring(config, secrets.own.signing());
    let keys = secrets.next.iter().fold(keys, |keys, next| keys.with_spare(next.signing()));
    pbft::Setup {
        cluster: config.cluster.id,
        group: GROUP_ONE,
        me,
        members: membership.nodes(),
        anchor: pbft::Anchor { epoch: membership.epoch, base: charter.vote },
        state: Default::default(),
        boot,
        options: pbft::Options { faulty_max: Some(membership.faulty.into()), ..pbft_options(config, sizes) },
        keys: keys.renewed(me, config.cluster.nodes(), membership.signing_keys()),
    }
}

pub(super) fn keyring(config: &Resolved, own: SigningKey) -> Keyring {
    let public = config.cluster.members.iter().filter_map(|m| m.signing_key.map(|key| (m.id, key)));
    let clients = config.cluster.clients.iter().map(|client| (client.id, client.signing_key));
    let operator = config.cluster.operator.map(|key| (OPERATOR, key));
    Keyring::new(own, public.chain(clients).chain(operator))
}

fn raft_options(config: &Resolved) -> raft::Options {
    let raft = &config.raft;
    raft::Options {
        election_min: raft.election_min,
        election_max: raft.election_max,
        heartbeat: raft.heartbeat,
        max_log_entries_per_append: raft.max_log_entries_per_append,
        append_bytes_max: raft.append_bytes_max,
        window_appends_max: raft.window_appends,
        window_bytes_max: raft.window_bytes,
        cache_bytes_max: raft.tail_bytes,
        unapplied_bytes_max: raft.tail_bytes.max(raft::Options::default().unapplied_bytes_max),
        trailing_entries: raft.snapshot_keep.max(1),
        piece_bytes_max: raft.snapshot_piece_bytes,
        ..raft::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Scratch;
    use crate::base::{Stamp, Term};
    use crate::wire::Entry;

    /// A file of which each read brings one byte; the first is interrupted.
    struct ByBytes<'a> {
        bytes: &'a [u8],
        was_interrupted: bool,
    }
    impl Read for ByBytes<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if !std::mem::replace(&mut self.was_interrupted, true) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let one = out.len().min(1);
            self.bytes.read(&mut out[..one])
        }
    }

    #[test]
    fn a_snapshot_is_loaded_however_its_bytes_come() {
        let options = store::Options { group: GROUP_ONE, key: HashKey::derive(&[7; 16]), bucket_bits: 3 };
        let (mut old, mut new) = (Store::new(options), Store::new(options));
        old.apply(&Entry { term: Term(2), slot: Slot(1), stamp: Stamp(5), ..Entry::default() }, None);
        let id = old.begin_snapshot();
        while !old.snapshot_step(usize::MAX) {}
        let mut bytes = Vec::new();
        while let Some(chunk) = old.snapshot_chunk() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(load_one(&mut ByBytes { bytes: &bytes, was_interrupted: false }, &mut new), Ok(id));
        assert_eq!(new.digest(), old.digest());
    }

    fn options() -> store::Options {
        store::Options { group: GROUP_ONE, key: HashKey([7; 16]), bucket_bits: 4 }
    }

    /// Applies entries up to `slot`, and writes a snapshot there.
    fn write_snapshot(store: &mut Store, slot: u64, directory: &Path) {
        while store.applied() < Slot(slot) {
            let entry = Entry { slot: store.applied().next(), stamp: Stamp(slot), ..Entry::default() };
            store.apply(&entry, None);
        }
        store.begin_snapshot();
        assert!(store.snapshot_step(usize::MAX));
        let chunks: Vec<Bytes> = std::iter::from_fn(|| store.snapshot_chunk()).collect();
        store.end_snapshot();
        std::fs::write(files::path_of(directory, GROUP_ONE, Slot(slot)), chunks.concat()).expect("a file");
    }

    #[test]
    fn a_start_loads_the_newest_whole_snapshot_and_keeps_the_one_before_where_that_is_wanted() {
        let scratch = Scratch::new("boot-previous");
        let mut files = SnapshotFiles::of(scratch.path());
        assert!(files.survey().expect("a directory").is_empty());
        let (directory, mut store) = (files.place(), Store::new(options()));
        [10, 20, 30, 40].into_iter().for_each(|slot| write_snapshot(&mut store, slot, &directory));
        let newest = files::path_of(&directory, GROUP_ONE, Slot(40));
        let whole = std::fs::read(&newest).expect("just written");
        std::fs::write(&newest, &whole[..whole.len() - 1]).expect("a file");
        let mut slots = |keeps_previous| {
            let mut fresh = Store::new(options());
            let found = load_snapshot(&mut files, &mut fresh, keeps_previous).expect("one is whole");
            assert_eq!(found.passed_over.len(), 1);
            assert!(found.passed_over[0].remark().contains("snapshot-1-40.qs is damaged: it ends at byte"));
            let found: Vec<u64> = found.snapshots.into_iter().map(|(id, _)| id.slot.0).collect();
            let there: Vec<u64> = files.survey().expect("it is there").iter().map(|f| f.slot.0).collect();
            (fresh.applied().0, found, there)
        };
        assert_eq!(slots(true), (30, vec![20, 30], vec![40, 30, 20]));
        assert_eq!(slots(false), (30, vec![30], vec![40, 30]));
        assert_eq!(slots(true), (30, vec![30], vec![40, 30]), "there is none before it");
        // The log may reach down to nothing: only whoever reads it knows.
        std::fs::remove_file(files::path_of(&directory, GROUP_ONE, Slot(30))).expect("it is there");
        assert_eq!(slots(true), (0, vec![], vec![40]));
    }
}
