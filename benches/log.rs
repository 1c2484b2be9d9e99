//! What the log costs: CPU a record on the append path, durable batches a second, recovery's speed.
//!
//! `cargo bench --bench log` runs it in full; without `--bench` it runs small, as a test. The directory is `QUORATE_BENCH_DIR` or the temporary one.

use bytes::Bytes;
use quorate::base::{Body, GROUP_ONE, NodeId, Slot, Ticket};
use quorate::io::Driver;
use quorate::io::memory::{Disk, MemoryDriver};
use quorate::io::uring::{Uring, UringOptions};
use quorate::log::{Identity, Log, Options, Superblock, superblock};
use quorate::wire::hop::{Meta, RecordKind, Stored};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const IDENTITY: Identity = Identity { cluster: [1; 16], node: NodeId(1) };

struct Entries {
    body: Body,
    place: u64,
    ticket: u64,
    left: u64,
}
impl Entries {
    fn next(&mut self) -> Option<Stored> {
        self.left = self.left.checked_sub(1)?;
        (self.place, self.ticket) = (self.place + 1, self.ticket + 1);
        let (ticket, place) = (Ticket(self.ticket), Slot(self.place));
        let meta = Meta::new(&[7; 48]);
        Some(Stored {
            ticket,
            group: GROUP_ONE,
            kind: RecordKind::Entry,
            place,
            meta,
            body: self.body.clone(),
        })
    }
}

/// One turn; returns the time spent in the log itself when `timed`.
fn turn(log: &mut Log, driver: &mut dyn Driver, source: &mut Entries, wait: bool) -> Duration {
    let began = Instant::now();
    log.append(driver, &mut || source.next());
    let spent = began.elapsed();
    log.prepare(driver);
    if wait {
        driver.park(log.prepare_at());
    }
    let mut completions = Vec::new();
    driver.reap(&mut completions);
    let began = Instant::now();
    completions.into_iter().for_each(|c| log.complete(c, driver));
    assert!(log.failed().is_none());
    spent + began.elapsed()
}

fn append_in_memory(records: u64, body: usize) {
    let disk = Disk::shared();
    let mut driver = MemoryDriver::new(disk);
    let options = Options::usual("wal".into(), IDENTITY, 1, false);
    let mut log = Log::recover(&mut driver, options, &mut |_| {}).expect("a fresh log");
    log.start(0, &mut driver).expect("files that exist");
    while log.prepare_at().is_some() {
        driver.advance(Duration::from_millis(2));
        turn(&mut log, &mut driver, &mut Entries { body: Body::EMPTY, place: 0, ticket: 0, left: 0 }, false);
    }
    let body = Body::new(Bytes::from(vec![1; body]));
    let mut source = Entries { body: body.clone(), place: 0, ticket: 0, left: 0 };
    let mut spent = Duration::ZERO;
    let mut done = 0;
    while done < records {
        source.left = 64.min(records - done);
        done += source.left;
        spent += turn(&mut log, &mut driver, &mut source, false);
    }
    let nanos = spent.as_nanos() as u64 / records;
    println!(
        "append, {:>6} B bodies, 64 a burst: {nanos} ns a record (includes the fake driver's submit)",
        body.len()
    );
}

fn durable(
    log: &mut Log,
    driver: &mut Uring,
    body: usize,
    records: u64,
    burst: u64,
    place: u64,
    ticket: u64,
) {
    let body = Body::new(Bytes::from(vec![1; body]));
    let mut source = Entries { body: body.clone(), place, ticket, left: 0 };
    let began = Instant::now();
    let (mut offered, mut turns) = (0, 0u64);
    while log.durable().0 < ticket + records {
        if source.left == 0 && offered < records {
            source.left = burst.min(records - offered);
            offered += source.left;
        }
        turn(log, driver, &mut source, true);
        turns += 1;
    }
    let took = began.elapsed();
    let bytes = records * (body.len() as u64 + 160);
    println!(
        "durable, {:>6} B bodies, {burst} a burst: {:.0} records/s, {:.0} MB/s, {:.1} us a turn",
        body.len(),
        records as f64 / took.as_secs_f64(),
        bytes as f64 / took.as_secs_f64() / 1e6,
        took.as_micros() as f64 / turns as f64,
    );
}

fn main() {
    let full = std::env::args().any(|a| a == "--bench");
    for body in [64, 1024, 16 << 10] {
        append_in_memory(if full { 200_000 } else { 2_000 }, body);
    }
    let parent = std::env::var_os("QUORATE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let data = parent.join(format!("quorate-log-bench-{}", std::process::id()));
    superblock::create(&data, IDENTITY, 1).expect("a directory for the bench");
    let mut driver = Uring::new(UringOptions::NODE).expect("io_uring");
    let mut recover = || {
        let block = Superblock::open(&mut driver, &data, IDENTITY, [1; 32]).expect("a superblock");
        let options = Options::usual(data.join("wal"), IDENTITY, block.generation, false);
        let (mut records, mut bytes) = (0u64, 0u64);
        let began = Instant::now();
        let log = Log::recover(&mut driver, options, &mut |s| {
            records += 1;
            bytes += s.body.len() as u64;
        });
        let took = began.elapsed();
        println!("recovery: {records} records, {} MB of bodies in {took:.1?}", bytes / 1_000_000);
        log.expect("a sound log")
    };
    let mut log = recover();
    let mut driver = Uring::new(UringOptions::NODE).expect("io_uring");
    log.start(0, &mut driver).expect("files that exist");
    let scale = if full { 100 } else { 1 };
    let (mut place, mut ticket) = (0, 0);
    for (body, count, burst) in
        [(256, 200, 1), (256, 10_000, 64), (4096, 500, 8), (16 << 10, 300, 4), (4096, 1000, 64)]
    {
        durable(&mut log, &mut driver, body, count * scale, burst, place, ticket);
        (place, ticket) = (place + count * scale, ticket + count * scale);
    }
    drop(log);
    recover();
    std::fs::remove_dir_all(&data).expect("the bench's own directory");
}
