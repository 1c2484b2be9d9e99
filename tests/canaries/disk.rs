//! The log over a disk in memory, for bugs between a write and stable storage: each panics when the log promises what the disk does
//! not hold, or takes for its own what was never wholly written.

use bytes::Bytes;
use quorate::base::{Body, GROUP_ONE, NodeId, Slot, Ticket};
use quorate::io::driver::ALIGN;
use quorate::io::memory::{Disk, MemoryDriver, Order, Survival};
use quorate::io::{Completion, Driver};
use quorate::log::{Identity, Log, LogError, Options, segment};
use quorate::wire::hop::{Meta, RecordKind, Stored};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// Bytes of each entry's body.
const BODY: usize = 3800;

/// A node's disk and its log.
struct Shelf {
    disk: Rc<RefCell<Disk>>,
    driver: MemoryDriver,
    log: Log,
    written: u64,
}

impl Shelf {
    /// With three entries, all durable.
    fn with_three() -> Shelf {
        let disk = Disk::shared();
        let mut driver = MemoryDriver::new(disk.clone());
        let mut log = Log::recover(&mut driver, options(1), &mut |_| panic!("nothing is stored")).unwrap();
        log.start(9, &mut driver).unwrap();
        let mut shelf = Shelf { disk, driver, log, written: 0 };
        for _ in 0..3 {
            shelf.append();
            shelf.reap();
        }
        assert_eq!(shelf.log.durable(), Ticket(3));
        shelf
    }
    /// Hands the next entry over.
    fn append(&mut self) {
        self.written += 1;
        let mut next = Some(entry(self.written));
        self.log.append(&mut self.driver, &mut || next.take());
    }
    fn reap(&mut self) {
        let mut completions: Vec<Completion> = Vec::new();
        self.driver.reap(&mut completions);
        completions.into_iter().for_each(|c| self.log.complete(c, &mut self.driver));
    }
    /// What the node's next life finds: the places of the entries.
    fn restart(self) -> Result<Vec<u64>, LogError> {
        let mut driver = MemoryDriver::new(self.disk);
        let mut found = Vec::new();
        Log::recover(&mut driver, options(2), &mut |stored| {
            assert_eq!(stored.body, entry(stored.place.0).body, "what was recovered was never written");
            found.push(stored.place.0);
        })?;
        Ok(found)
    }
}

fn options(generation: u64) -> Options {
    let identity = Identity { cluster: [7; 16], node: NodeId(3) };
    Options {
        segment_bytes: 256 << 10,
        batch_bytes: 16 << 10,
        body_max: 16 << 10,
        ..Options::usual("wal".into(), identity, generation, 1 < generation)
    }
}
fn entry(place: u64) -> Stored {
    Stored {
        ticket: Ticket(place),
        group: GROUP_ONE,
        kind: RecordKind::Entry,
        place: Slot(place),
        meta: Meta::new(&place.to_le_bytes()),
        body: Body::new(Bytes::from(vec![place as u8; BODY])),
    }
}

/// Power is lost just after three entries were called durable.
pub fn what_is_called_durable_outlives_the_power() {
    let shelf = Shelf::with_three();
    shelf.disk.borrow_mut().lose_power(&mut |_| Survival::Old);
    assert_eq!(shelf.restart().unwrap(), [1, 2, 3]);
}

/// A device reports an error once, and works again afterwards.
pub fn a_write_that_failed_is_not_durable() {
    let mut shelf = Shelf::with_three();
    shelf.disk.borrow_mut().fail_next_write(5);
    shelf.append();
    shelf.reap();
    shelf.append();
    shelf.reap();
    let durable = shelf.log.durable().0;
    shelf.disk.borrow_mut().lose_power(&mut |_| Survival::Old);
    let found = shelf.restart().unwrap().len() as u64;
    assert!(durable <= found, "{durable} entries were called durable, {found} are there");
}

/// Power is lost during a write: its first sectors arrive, the rest becomes what the device makes of it.
pub fn a_torn_write_is_cut() {
    let mut shelf = Shelf::with_three();
    shelf.driver.set_order(Order::Held);
    shelf.append();
    let fate = |index: usize| if index < 4 { Survival::New } else { Survival::Garbage };
    shelf.disk.borrow_mut().lose_power(&mut |sector| fate(sector.index));
    assert_eq!(shelf.restart().unwrap(), [1, 2, 3]);
}

/// A bit rots below the end: a majority may have committed by counting this copy.
pub fn damage_below_the_end_refuses_the_start() {
    let shelf = Shelf::with_three();
    let body = entry(2).body;
    let rot = |content: &mut Vec<u8>| {
        let at = content.windows(BODY).position(|bytes| bytes == body.bytes()).expect("entry 2 is there");
        // Its batch is one block; the header is at the start.
        content[at / ALIGN * ALIGN + 100] ^= 1;
    };
    shelf.disk.borrow_mut().tamper(&segment::path(Path::new("wal"), 1), &mut |content| rot(content));
    let found = shelf.restart();
    assert!(matches!(found, Err(LogError::Damaged { .. })), "a damaged log started with {found:?}");
}
