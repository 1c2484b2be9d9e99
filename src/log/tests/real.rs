//! The log on a real file system through io_uring.

use super::*;
use crate::io::uring::{Uring, UringOptions};
use crate::log::{Superblock, superblock};

struct Data(PathBuf);
impl Drop for Data {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// One life: superblock, recovery, `count` more entries, then an end without any ceremony.
fn live(data: &Data, count: u64) -> (u64, Vec<Stored>) {
    let mut driver = Uring::new(UringOptions::NODE).unwrap();
    let mut block = Superblock::open(&mut driver, &data.0, identity(), [1; 32]).unwrap();
    let options = Options {
        segment_bytes: 4 << 20,
        ..Options::usual(data.0.join("wal"), identity(), block.generation, block.established)
    };
    let mut recovered = Vec::new();
    let mut log = Log::recover(&mut driver, options, &mut |s| recovered.push(s)).unwrap();
    block.establish(&mut driver, &data.0).unwrap();
    log.start(1, &mut driver).unwrap();
    let first = recovered.iter().filter(|r| r.kind == RecordKind::Entry).count() as u64 + 1;
    let mut next = (1..=count).map(|i| {
        let body = Body::new(Bytes::from(vec![i as u8; if i % 50 == 0 { 1 << 20 } else { 1000 }]));
        let (group, kind, place) = (G1, RecordKind::Entry, Slot(first + i - 1));
        Stored { ticket: Ticket(i), group, kind, place, meta: Meta::new(b"term"), body }
    });
    let mut completions = Vec::new();
    while log.durable() < Ticket(count) {
        log.append(&mut driver, &mut || next.next());
        log.prepare(&mut driver);
        driver.park(log.prepare_at());
        driver.reap(&mut completions);
        completions.drain(..).for_each(|c| log.complete(c, &mut driver));
        assert!(log.failed().is_none());
    }
    (block.generation, recovered)
}

#[test]
fn a_node_lives_three_times_on_a_real_disk() {
    let data = Data(std::env::temp_dir().join(format!("quorate-log-real-{}", std::process::id())));
    superblock::create(&data.0, identity(), 1).unwrap();
    for (life, count) in [(1, 260), (2, 120), (3, 1)] {
        let (generation, recovered) = live(&data, count);
        assert_eq!(generation, life);
        let expected = [0, 0, 260, 380][life as usize];
        assert_eq!(recovered.len(), expected);
        assert!(recovered.iter().zip(1..).all(|(r, place)| r.place == Slot(place)));
        assert_eq!(recovered.iter().filter(|r| r.body.len() == 1 << 20).count(), [0, 0, 5, 7][life as usize]);
    }
}
