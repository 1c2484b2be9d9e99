//! The store of one group: entries go in, in the order of the log; replies come out for those whose clients are ours.

use super::error::CommandError;
use super::execute::{execute, refuse};
use super::extents::Extent;
use super::format::Header;
use super::last_replies;
use super::load::{Damage, Loaded, Loader};
use super::saving::Saving;
use super::sessions::{Admission, Sessions};
use super::state::State;
use super::table::{HashKey, Table};
use super::warm::Commands;
use crate::base::bounds::Bounds;
use crate::base::canary::{self, Canary};
use crate::base::{Digest, GroupId, Origin, Prng, Slot, Stamp, Term};
use crate::wire::hop::SnapshotId;
use crate::wire::members::OPERATOR;
use crate::wire::{Entry, EntryKind};
use bytes::Bytes;

/// Expired keys that an entry takes out of memory. More stay invisible until later entries.
const PURGED_PER_ENTRY: usize = 64;

/// What a store is made with. Equal on all replicas of a group.
#[derive(Clone, Copy)]
pub struct Options {
    /// The group whose entries are applied.
    pub group: GroupId,
    /// What keys are hashed with.
    pub key: HashKey,
    /// There are 2^bits buckets.
    pub bucket_bits: u32,
}

impl Options {
    /// Where such a store can publish how large what it holds is.
    pub fn bounds(&self) -> Bounds {
        Bounds::new(self.key.hasher(), self.bucket_bits)
    }
}

/// Buckets of a store, as a power of two: 65,536 of them cost 4.5 MB when empty and hold 15 keys each at a million. A digest hashes a
/// changed record's whole bucket.
pub const BUCKET_BITS: u32 = 16;

/// Replies to the commands of a batch, one after another; `ends[i]` is where the i-th ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replies {
    /// RESP.
    pub bytes: Vec<u8>,
    /// One a command.
    pub ends: Vec<u32>,
}

/// A deterministic state machine: equal entries make equal states, whoever applies them, whenever, after whatever snapshots.
pub struct Store {
    options: Options,
    state: State,
    sessions: Sessions,
    applied: Slot,
    term: Term,
    /// Of the digest in the making: after which slot, and the digest of that state's head.
    digesting: Option<(Slot, Digest)>,
}

impl Store {
    /// The state before the first entry.
    pub fn new(options: Options) -> Store {
        let table = Table::new(options.key, options.bucket_bits);
        let state = State { table, now: Stamp::ZERO, prng: Prng::from_seed(0) };
        Store {
            options,
            state,
            sessions: Sessions::default(),
            applied: Slot::ZERO,
            term: Term::ZERO,
            digesting: None,
        }
    }

    /// Whose entries it applies.
    pub fn group(&self) -> GroupId {
        self.options.group
    }
    /// The last applied slot.
    pub fn applied(&self) -> Slot {
        self.applied
    }
    /// That slot's stamp: what is expired by it cannot be seen.
    pub fn stamp(&self) -> Stamp {
        self.state.now
    }
    /// Number of keys, expired ones that are not yet purged among them.
    pub fn len(&self) -> usize {
        self.state.table.len()
    }
    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Logical bytes: the same on all replicas.
    pub fn memory(&self) -> u64 {
        self.state.table.memory()
    }
    /// Number of keys that expire; those of one moment whose hashes are the same are counted once.
    pub fn expiring(&self) -> usize {
        self.state.table.deadlines().len()
    }
    /// How large what is stored is: what bounds the length of replies.
    pub fn extent(&self) -> Extent {
        self.state.table.extent()
    }
    /// From now on others read there how large it is, by the hash of its key (`Options::bounds`).
    pub fn publish(&mut self, to: Bounds) {
        self.state.table.extents().publish(to);
    }
    /// When the next key expires. An entry with this stamp or a later one makes it so.
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.state.table.deadlines().first().map(|(deadline, _)| deadline)
    }
    /// Which batches have taken effect.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Applies the next entry. With `replies` those of its commands are appended there, and reads among them are carried out too;
    /// without, nobody waits for either.
    pub fn apply(&mut self, entry: &Entry, replies: Option<&mut Replies>) -> Admission {
        assert_eq!(entry.slot, self.applied.next(), "entries come in the order of the log");
        (self.applied, self.term) = (entry.slot, entry.term);
        self.state.now = self.state.now.max(entry.stamp);
        self.state.table.purge(self.state.now, PURGED_PER_ENTRY);
        let admission = self.admitted(entry, replies);
        self.sessions.members_mut().reach(entry.slot);
        admission
    }

    /// What an entry does beside letting time pass.
    fn admitted(&mut self, entry: &Entry, replies: Option<&mut Replies>) -> Admission {
        if entry.kind == EntryKind::Empty {
            return Admission::Applied;
        }
        if entry.origin.node == OPERATOR {
            let is_amended = self.sessions.members_mut().amend(entry.slot, entry.body.bytes());
            return if is_amended { Admission::Applied } else { Admission::Stale };
        }
        let admission = self.sessions.admit(entry.origin, entry.sequence, entry.floor);
        // What a native client is replied is part of the state, whoever waits for it.
        let mut kept = Replies::default();
        let is_kept = last_replies::is_kept(entry.origin);
        let mut replies = if is_kept { replies.or(Some(&mut kept)) } else { replies };
        let before = replies.as_ref().map_or(0, |replies| replies.bytes.len());
        if admission == Admission::Applied {
            // Of replies that are compared, chance too must be a function of the log.
            self.state.prng = Prng::from_seed(entry.slot.0);
            let mut commands = Commands::of(entry.body.bytes());
            while let Some(command) = commands.next(&self.state.table) {
                match &mut replies {
                    Some(replies) => {
                        execute(&mut self.state, &command, Some(&mut replies.bytes));
                        replies.ends.push(replies.bytes.len() as u32);
                    }
                    None if command.op.is_read() => {}
                    None => execute(&mut self.state, &command, None),
                }
            }
            if let Some(replies) = replies.filter(|_| is_kept) {
                self.sessions.keep(entry.origin, entry.sequence, &replies.bytes[before..]);
            }
        }
        admission
    }

    /// Carries out commands that only read.
    pub fn read(&mut self, commands: &[u8], replies: &mut Replies) {
        let mut reads = Commands::of(commands);
        while let Some(command) = reads.next(&self.state.table) {
            if command.op.is_read() {
                execute(&mut self.state, &command, Some(&mut replies.bytes));
            } else {
                refuse(&mut replies.bytes, &command, &CommandError::WriteAmongReads(command.op.name()));
            }
            replies.ends.push(replies.bytes.len() as u32);
        }
    }

    /// Begins a digest of the present state, which is equal on all replicas that have applied the same entries. One that was in the making
    /// has been made.
    pub fn begin_digest(&mut self) {
        assert!(self.digesting.is_none(), "one digest at a time");
        self.digesting = Some((self.applied, head_digest(self.state.now, &self.sessions)));
        self.state.table.begin_digest();
    }
    /// The slot whose state's digest is in the making.
    pub fn digesting(&self) -> Option<Slot> {
        self.digesting.map(|(slot, _)| slot)
    }
    /// How many buckets the digest in the making lacks.
    pub fn digest_lacking(&self) -> usize {
        self.state.table.digest_lacking()
    }
    /// Hashes about `budget` bytes for the digest in the making. The digest and its slot, once it is made.
    pub fn digest_step(&mut self, budget: usize) -> Option<(Slot, Digest)> {
        let (slot, head) = self.digesting?;
        let records = self.state.table.digest_step(budget)?;
        self.digesting = None;
        Some((slot, state_digest(head, records)))
    }
    /// The digest of the present state, whatever it costs. One that was in the making is not made.
    pub fn digest(&mut self) -> Digest {
        self.digest_step(usize::MAX);
        self.begin_digest();
        self.digest_step(usize::MAX).expect("the budget is without limit").1
    }
    /// Drops about `count` things that are no longer part of the state; how many.
    pub fn drop_step(&mut self, count: usize) -> usize {
        self.state.table.drop_step(count)
    }

    /// Begins a snapshot of the present state.
    pub fn begin_snapshot(&mut self) -> SnapshotId {
        let group = self.options.group;
        let id = SnapshotId { group, slot: self.applied, term: self.term, stamp: self.state.now };
        let table = &self.state.table;
        let none = Sessions::default();
        let sessions = if canary::on(Canary::SnapshotWithoutSessions) { &none } else { &self.sessions };
        let (lanes, replies) = (sessions.len() as u32, sessions.last_replies().len() as u32);
        let members = sessions.members().bytes().len() as u32;
        let (bits, key_check) = (table.bits(), table.key_check());
        let header = Header { id, bits, key_check, lanes, replies, members };
        let saving = Saving::new(&header, sessions, table.len(), table.memory());
        self.state.table.begin_saving(saving);
        id
    }
    /// Saves about `budget` bytes; true when the whole snapshot is in chunks.
    pub fn snapshot_step(&mut self, budget: usize) -> bool {
        self.state.table.save_step(budget)
    }
    /// The snapshot's next chunk, if one is ready.
    pub fn snapshot_chunk(&mut self) -> Option<Bytes> {
        self.state.table.saving()?.next_chunk()
    }
    /// Bytes of chunks that are ready: writes run ahead of whoever takes them.
    pub fn snapshot_ready_bytes(&mut self) -> usize {
        self.state.table.saving().map_or(0, |s| s.ready_bytes())
    }
    /// Ends the snapshot in the making, complete or not.
    pub fn end_snapshot(&mut self) {
        self.state.table.abandon_saving();
    }

    /// Begins to read a snapshot of this store's group.
    pub fn loading(&self, id: SnapshotId) -> Loading {
        Loading(Loader::new(id, self.options.key, self.options.bucket_bits))
    }
    /// Takes the state of a snapshot over, if it is newer; whether it was.
    pub fn replace(&mut self, loading: Loading) -> Result<bool, Damage> {
        let Loaded { id, sessions, table } = loading.0.finish()?;
        let newer = self.applied < id.slot || canary::on(Canary::SnapshotOverNewer);
        if newer {
            let mut old = std::mem::replace(&mut self.state.table, table);
            self.state.table.extents().succeed(old.extents());
            self.state.table.inherit(old);
            (self.applied, self.term, self.state.now) = (id.slot, id.term, id.stamp);
            self.sessions = sessions;
            self.digesting = None;
            if canary::on(Canary::LastRepliesForgotten) {
                self.sessions.set_last_replies(Default::default());
            }
        } else {
            self.state.table.inherit(table);
        }
        Ok(newer)
    }
    /// Drops, in later steps, what was read of a snapshot that will not be used.
    pub fn discard(&mut self, loading: Loading) {
        self.state.table.inherit(loading.0.into_table());
    }

    /// The last batch of this origin that took effect.
    pub fn last_sequence(&self, origin: Origin) -> u64 {
        self.sessions.last(origin)
    }
    /// Panics when an invariant does not hold.
    pub fn check(&self) {
        self.state.table.check();
    }
}

/// The digest of what a state has beside records: its stamp and its sessions.
pub(super) fn head_digest(stamp: Stamp, sessions: &Sessions) -> Digest {
    let mut bytes = b"quorate head".to_vec();
    bytes.extend_from_slice(&stamp.0.to_le_bytes());
    sessions.encode(&mut bytes);
    sessions.last_replies().outline(&mut bytes);
    let digest = Digest::of(&bytes);
    if sessions.members().is_empty() {
        return digest;
    }
    let mut bytes = b"quorate state of members".to_vec();
    bytes.extend_from_slice(&digest.0);
    sessions.members().encode(&mut bytes);
    Digest::of(&bytes)
}

/// The digest of a state, of those of its head and its records.
pub(super) fn state_digest(head: Digest, records: Digest) -> Digest {
    let mut bytes = b"quorate state".to_vec();
    bytes.extend_from_slice(&head.0);
    bytes.extend_from_slice(&records.0);
    Digest::of(&bytes)
}

/// A snapshot that is being read.
pub struct Loading(Loader);

impl Loading {
    /// Takes its next bytes, in chunks of any size; the work is bounded by the chunk.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Damage> {
        self.0.feed(chunk)
    }
}
