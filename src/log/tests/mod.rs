//! The log over a disk in memory that can lose power, rot and fill up, held against a dumb model.

mod crash;
mod damage;
mod order;
mod outside;
mod points;
mod random;
mod real;
mod running;

use super::{Identity, Log, LogError, Options};
use crate::base::{Body, GroupId, NodeId, Slot, Ticket};
use crate::io::memory::{Disk, MemoryDriver, Order, Sector, Survival};
use crate::io::{Completion, Driver};
use crate::wire::hop::{Meta, RecordKind, Stored};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

const G1: GroupId = GroupId(1);
const G2: GroupId = GroupId(2);

fn identity() -> Identity {
    Identity { cluster: [7; 16], node: NodeId(3) }
}

fn options(generation: u64) -> Options {
    Options {
        segment_bytes: 64 << 10,
        batch_bytes: 16 << 10,
        body_max: 16 << 10,
        ..Options::usual("wal".into(), identity(), generation, 1 < generation)
    }
}

/// What records amount to: the model that the index and recovery are held against.
#[derive(Clone, Default, PartialEq, Debug)]
struct State {
    vote: Option<Stored>,
    floor: Option<Stored>,
    entries: BTreeMap<u64, Stored>,
    /// The newest of each place.
    values: BTreeMap<u64, Stored>,
    /// In the order of the log.
    notes: Vec<Stored>,
}

type States = BTreeMap<GroupId, State>;

fn fold<'a>(records: impl IntoIterator<Item = &'a Stored>) -> States {
    let mut states = States::new();
    for r in records {
        let s = states.entry(r.group).or_default();
        match r.kind {
            RecordKind::Vote | RecordKind::View => s.vote = Some(r.clone()),
            RecordKind::Note => s.notes.push(r.clone()),
            RecordKind::Value => {
                s.values.insert(r.place.0, r.clone());
                s.notes.push(r.clone());
            }
            RecordKind::Entry => {
                s.entries.split_off(&r.place.0);
                s.entries.insert(r.place.0, r.clone());
            }
            RecordKind::Floor | RecordKind::Reset => {
                s.entries = s.entries.split_off(&(r.place.0 + 1));
                s.values = s.values.split_off(&(r.place.0 + 1));
                if r.kind == RecordKind::Reset {
                    s.entries.clear();
                    s.values.clear();
                }
                s.notes.retain(|note| r.place < note.place);
                s.floor = Some(Stored { kind: RecordKind::Floor, ..r.clone() });
            }
        }
    }
    states
}

/// A node's disk, its log in one life after another, and what was written.
struct World {
    disk: Rc<RefCell<Disk>>,
    driver: MemoryDriver,
    options: Options,
    log: Log,
    /// Everything that a perfect disk would hold.
    history: Vec<Stored>,
    /// How much of it the log has taken.
    taken: usize,
    /// History before this life's first record, and the ticket of that record less one is zero.
    before: usize,
}

impl World {
    fn new() -> World {
        World::with(options(1))
    }
    fn with(options: Options) -> World {
        let disk = Disk::shared();
        let mut driver = MemoryDriver::new(disk.clone());
        let mut log =
            Log::recover(&mut driver, options.clone(), &mut |_| panic!("nothing is stored")).unwrap();
        log.start(9, &mut driver).unwrap();
        World { disk, driver, options, log, history: Vec::new(), taken: 0, before: 0 }
    }
    fn next_ticket(&self) -> Ticket {
        Ticket((self.history.len() - self.before) as u64 + 1)
    }
    fn push(&mut self, group: GroupId, kind: RecordKind, place: u64, body: Vec<u8>) {
        let meta = Meta::new(&(self.history.len() as u64).to_le_bytes());
        let body = Body::new(Bytes::from(body));
        let stored = Stored { ticket: self.next_ticket(), group, kind, place: Slot(place), meta, body };
        self.history.push(stored);
    }
    fn entry(&mut self, group: GroupId, place: u64, bytes: usize) {
        self.push(group, RecordKind::Entry, place, vec![place as u8; bytes]);
    }
    /// Entries of group 1 at places `from..to`, each a batch of its own.
    fn entries(&mut self, from: u64, to: u64, bytes: usize) {
        for place in from..to {
            self.entry(G1, place, bytes);
            self.settle();
        }
    }
    /// Lets the log take what fits into its window.
    fn append(&mut self) {
        let (history, taken) = (&self.history, &mut self.taken);
        self.log.append(&mut self.driver, &mut || {
            let next = history.get(*taken).cloned();
            *taken += usize::from(next.is_some());
            next
        });
    }
    fn reap(&mut self) -> usize {
        let mut completions: Vec<Completion> = Vec::new();
        self.driver.reap(&mut completions);
        let count = completions.len();
        completions.into_iter().for_each(|c| self.log.complete(c, &mut self.driver));
        count
    }
    /// A turn of the agent: append, prepare, reap.
    fn turn(&mut self) -> usize {
        self.append();
        self.log.run_fetches(&mut self.driver);
        self.log.prepare(&mut self.driver);
        self.reap()
    }
    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }
    /// Turns until everything is durable and a spare is there.
    fn settle(&mut self) {
        while self.log.durable().0 < (self.history.len() - self.before) as u64
            || self.log.prepare_at().is_some()
        {
            self.driver.advance(Duration::from_millis(2));
            self.turn();
        }
    }
    fn seal(&mut self) {
        while self.log.seal_at().is_some() {
            self.log.seal(&mut self.driver);
            self.reap();
        }
    }
    fn durable(&self) -> usize {
        self.before + self.log.durable().0 as usize
    }
    /// Starts the node anew on what the disk holds. What was recovered must be what some prefix of the history amounts to that is at
    /// least as long as what was durable.
    fn restart(&mut self) {
        let durable = self.durable();
        let recovered = self.recover().unwrap();
        let length = (durable..=self.history.len()).find(|k| fold(&self.history[..*k]) == fold(&recovered));
        let length = length
            .unwrap_or_else(|| panic!("recovered {recovered:?} of {:?}, durable {durable}", self.history));
        self.history.truncate(length);
        (self.before, self.taken) = (length, length);
    }
    fn recover(&mut self) -> Result<Vec<Stored>, LogError> {
        self.options.generation += 1;
        self.options.established = true;
        self.driver = MemoryDriver::new(self.disk.clone());
        let mut recovered = Vec::new();
        self.log = Log::recover(&mut self.driver, self.options.clone(), &mut |s| recovered.push(s))?;
        self.log.start(9, &mut self.driver).unwrap();
        assert_dense(&recovered);
        Ok(recovered)
    }
    fn lose_power(&mut self, mut fate: impl FnMut(Sector) -> Survival) {
        self.disk.borrow_mut().lose_power(&mut fate);
    }
    fn hold(&mut self) {
        self.driver.set_order(Order::Held);
    }
}

/// A core that replays what recovery emits never sees a hole: an entry cuts what is at its place, or follows the last one, or comes first
/// behind a floor.
fn assert_dense(recovered: &[Stored]) {
    let mut last: BTreeMap<GroupId, Option<u64>> = BTreeMap::new();
    for r in recovered {
        let last = last.entry(r.group).or_default();
        match r.kind {
            RecordKind::Vote | RecordKind::View | RecordKind::Note | RecordKind::Value => {}
            RecordKind::Floor => {}
            RecordKind::Reset => *last = None,
            RecordKind::Entry => {
                assert!(last.is_none_or(|last| r.place.0 <= last + 1), "{} follows {last:?}", r.place);
                *last = Some(r.place.0);
            }
        }
    }
}

fn file(number: u16) -> PathBuf {
    super::segment::path(Path::new("wal"), number)
}
