//! The log as an agent: records and errands come over rings, a ticket and answers go back.

use super::Log;
use crate::base::ring::{Consumer, Producer};
use crate::base::{GROUP_ONE, Instant, Number};
use crate::io::driver::Doorbell;
use crate::io::{Agent, Completion, Driver};
use crate::meter::stages::Stage;
use crate::meter::{Metered, Report};
use crate::wire::hop::{LogFetch, LogFetched, Stored};
use std::sync::Arc;

/// What connects the log with its shard.
pub struct Rings {
    /// What is to be stored, in the order of tickets.
    pub records: Consumer<Stored>,
    /// Old entries that are wanted.
    pub fetches: Consumer<LogFetch>,
    /// And found.
    pub fetched: Producer<LogFetched>,
    /// The ticket up to which all records are on stable storage, or count as that ([`Log::granted`]).
    pub durable: Number,
    /// What the log says of itself.
    pub told: Told,
    /// Rung when one of these has changed and the shard runs on another core.
    pub doorbell: Option<Arc<dyn Doorbell>>,
}

/// What the log publishes of its space.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// While the disk is full, bytes of batches that fit into prepared segments; else `u64::MAX`. Whoever accepts writes refuses them when
    /// it falls below what may still be on its way: nothing is half written then, and the node goes on when there is space again.
    pub room: Number,
    /// Segments that are needed.
    pub segments: Number,
    /// Their bytes.
    pub bytes: Number,
    /// The oldest place of the first group that they hold; 0 for none.
    pub first: Number,
}

/// The log role of a shard.
pub struct LogAgent {
    log: Log,
    rings: Rings,
}

impl LogAgent {
    /// For a recovered log.
    pub fn new(log: Log, rings: Rings) -> LogAgent {
        rings.durable.set(0);
        rings.told.room.set(log.room_known());
        LogAgent { log, rings }
    }
    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }
    fn fetch(&mut self, driver: &mut dyn Driver) -> usize {
        while self.log.can_fetch()
            && let Some(fetch) = self.rings.fetches.pop()
        {
            self.log.fetch(fetch);
        }
        self.log.run_fetches(driver)
    }
    /// Publishes what has changed. Returns how much did.
    fn tell(&mut self) -> usize {
        let mut told = 0;
        while let Some(fetched) = self.log.take_fetched() {
            if let Err(fetched) = self.rings.fetched.push(fetched) {
                self.log.return_fetched(fetched);
                break;
            }
            told += 1;
        }
        let Told { room, segments, bytes, first } = &self.rings.told;
        segments.set(self.log.segment_count() as u64);
        bytes.set(self.log.needed_bytes());
        first.set(self.log.first(GROUP_ONE).0);
        for (number, value) in [(&self.rings.durable, self.log.granted().0), (room, self.log.room_known())] {
            if number.get() != value {
                number.set(value);
                told += 1;
            }
        }
        if let Some(doorbell) = self.rings.doorbell.as_ref().filter(|_| 0 < told) {
            doorbell.ring();
        }
        told
    }
}

impl Agent for LogAgent {
    fn name(&self) -> &'static str {
        "log"
    }
    fn start(&mut self, slot: u8, driver: &mut dyn Driver) -> std::io::Result<()> {
        self.log.start(slot, driver)
    }
    fn complete(&mut self, completion: Completion, driver: &mut dyn Driver) {
        self.log.complete(completion, driver);
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        if self.log.failed().is_some() {
            return 0;
        }
        let records = &mut self.rings.records;
        let mut done = self.log.append(driver, &mut || records.pop());
        done += self.fetch(driver);
        if self.log.seal_at().is_some_and(|at| at <= driver.now()) {
            done += usize::from(self.log.seal(driver));
        }
        done += usize::from(self.log.prepare(driver));
        done + self.tell()
    }
    fn deadline(&self) -> Option<Instant> {
        if self.log.failed().is_some() {
            return None;
        }
        [self.log.seal_at(), self.log.prepare_at()].into_iter().flatten().min()
    }
    fn failure(&self) -> Option<String> {
        self.log.failed().map(|fatal| fatal.to_string())
    }
}

impl Metered for LogAgent {
    /// The stream is the shard's, and its groups share it: their part in it is what is kept of each.
    fn report(&self, to: &mut dyn Report) {
        let shard = self.log.shard().to_string();
        let labels: &[(&str, &str)] = &[("shard", &shard)];
        let f = &self.log.figures;
        let counters: [(&'static str, &'static str, u64); 9] = [
            ("quorate_log_batches_total", "Durable writes of the shard's log.", f.batches),
            ("quorate_log_records_total", "Records written, of all groups.", f.records),
            ("quorate_log_bytes_total", "Bytes of batches written.", f.bytes),
            ("quorate_log_seals_total", "Empty batches that only say what is durable.", f.seals),
            ("quorate_log_stalls_total", "Times that no prepared segment was there.", f.stalls),
            ("quorate_log_segments_recycled_total", "Segments used again.", f.recycled),
            ("quorate_log_segments_created_total", "Segments made.", f.created),
            ("quorate_log_fetches_total", "Errands for old entries.", f.fetches),
            ("quorate_log_fetched_bytes_total", "Bytes of bodies read back.", f.fetched_bytes),
        ];
        counters.into_iter().for_each(|(name, help, value)| to.counter(name, help, labels, value));
        let flag = |is: bool| f64::from(u8::from(is));
        let gauges = [
            ("quorate_log_room_bytes", "Bytes that fit into prepared segments.", self.log.room() as f64),
            ("quorate_log_segments", "Segments that are needed.", self.log.segment_count() as f64),
            (
                "quorate_log_disk_full",
                "1 while no segment can be made for lack of space.",
                flag(self.log.is_disk_full()),
            ),
            (
                "quorate_log_buffered",
                "1 when the file system refuses direct I/O.",
                flag(self.log.is_buffered()),
            ),
        ];
        gauges.into_iter().for_each(|(name, help, value)| to.gauge(name, help, labels, value));
        for (group, held) in self.log.index().groups() {
            let group = group.to_string();
            let labels: &[(&str, &str)] = &[("group", &group), ("shard", &shard)];
            let entries = held.places().end - held.places().start;
            to.gauge(
                "quorate_log_entries",
                "Entries of the group that the log holds.",
                labels,
                entries as f64,
            );
            let help = "The place up to which the group needs nothing of the log.";
            to.gauge("quorate_log_floor_slot", help, labels, held.floor_place().0 as f64);
        }
        Stage::Append.report(("shard", &shard), &f.append, to);
        Stage::Sync.report(("shard", &shard), &f.sync, to);
    }
}
