//! What others see of the log: the agent's rings and numbers, and the offline inspection.

use super::super::inspect::{self, Line};
use super::super::{LogAgent, Rings, Told};
use super::*;
use crate::base::{JobId, Number, ring};
use crate::io::Agent;
use crate::wire::hop::LogFetch;

/// Writes the disk's files below a directory of the real file system, for as long as it lives.
struct Exported(PathBuf);
impl Exported {
    fn of(world: &World, name: &str) -> Exported {
        let data = std::env::temp_dir().join(format!("quorate-inspect-{name}-{}", std::process::id()));
        std::fs::create_dir_all(data.join("wal")).unwrap();
        let disk = world.disk.borrow();
        disk.paths().iter().for_each(|p| std::fs::write(data.join(p), disk.content(p).unwrap()).unwrap());
        Exported(data)
    }
}
impl Drop for Exported {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn inspection_tells_what_recovery_finds_and_fails_where_it_fails() {
    let mut world = World::new();
    world.push(G1, RecordKind::Vote, 0, vec![]);
    world.entries(1, 30, 4500);
    world.push(G1, RecordKind::Floor, 4, vec![]);
    world.settle();
    world.seal();
    let exported = Exported::of(&world, "whole");
    let (mut lines, mut last) = (Vec::new(), (0, 0));
    let tell = &mut |line| lines.push(line);
    let progress = &mut |done, total| {
        assert!(last.0 <= done && done <= total);
        last = (done, total);
    };
    let report = inspect::log(&exported.0, identity(), 0, progress, tell).unwrap();
    assert_eq!(last.0, last.1);
    assert_eq!((report.segments, report.last_batch), (world.log.segment_count() as u64, world.log.number));
    let group = &report.groups[0];
    assert_eq!((group.floor, group.first, group.last, group.vote), (4, 5, 29, true));
    let records = lines.iter().filter(|l| matches!(l, Line::Record { .. })).count() as u64;
    assert_eq!(report.records, records);
    assert!(31 <= records && lines[0].to_string().starts_with("segment 1 in"), "{}", lines[0]);

    let at = world.log.index().group(G1).unwrap().entry(Slot(20)).unwrap();
    let number = world.log.file_of(at.segment).unwrap();
    world.disk.borrow_mut().tamper(&file(number), &mut |c| c[at.position as usize + 700] ^= 1);
    let exported = Exported::of(&world, "damaged");
    let found = inspect::log(&exported.0, identity(), 0, &mut |_, _| {}, &mut |_| {}).unwrap_err();
    let refused = world.recover().unwrap_err();
    for error in [found, refused] {
        match error {
            LogError::Damaged { file: named, offset, .. } => {
                assert!(named.ends_with(file(number)));
                assert_eq!(offset, u64::from(at.position));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_agent_publishes_the_ticket_answers_errands_and_rests() {
    let World { mut driver, log, .. } = World::new();
    let (mut records, taken) = ring::ring(64);
    let (mut fetches, wanted) = ring::ring(8);
    let (found, mut fetched) = ring::ring(1);
    let (durable, told) = (Number::new(0), Told::default());
    let rings = Rings {
        records: taken,
        fetches: wanted,
        fetched: found,
        durable: durable.clone(),
        told: told.clone(),
        doorbell: None,
    };
    let mut agent = LogAgent::new(log, rings);
    agent.start(2, &mut driver).unwrap();
    let turns = |driver: &mut MemoryDriver, agent: &mut LogAgent| {
        let mut idle = 0;
        while idle < 3 {
            let mut completions = Vec::new();
            driver.reap(&mut completions);
            assert!(completions.iter().all(|c| c.token.agent == 2));
            completions.into_iter().for_each(|c| agent.complete(c, driver));
            idle = if agent.work(driver) == 0 { idle + 1 } else { 0 };
            if let Some(at) = agent.deadline() {
                driver.park(Some(at));
                idle = 0;
            }
        }
    };
    turns(&mut driver, &mut agent);
    let mut world = World::new();
    for place in 1..=40 {
        world.entry(G1, place, 900);
    }
    world.history.iter().for_each(|r| records.push(r.clone()).unwrap());
    turns(&mut driver, &mut agent);
    assert_eq!((durable.get(), agent.log().durable()), (40, Ticket(40)));
    assert_eq!(told.room.get(), u64::MAX, "segments can be made: there is always more");
    assert_eq!((told.segments.get(), told.first.get()), (agent.log().segment_count() as u64, 1));
    assert!(agent.failure().is_none() && agent.deadline().is_none(), "at rest nothing is due");

    // Answers wait when nobody takes them, and none is lost.
    for job in 1..=8 {
        let fetch = LogFetch { job: JobId(job), group: G1, from: Slot(job), count: 2, bytes: 9000 };
        fetches.push(fetch).unwrap();
    }
    let mut jobs = Vec::new();
    for _ in 0..8 {
        turns(&mut driver, &mut agent);
        let answer = fetched.pop().unwrap();
        let from = answer.job.0 as usize;
        assert_eq!(answer.records, world.history[from - 1..from + 1]);
        jobs.push(answer.job.0);
    }
    jobs.sort_unstable();
    assert_eq!(jobs, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn the_agent_says_why_the_node_must_end() {
    let World { mut driver, disk, log, .. } = World::new();
    let (mut records, taken) = ring::ring(4);
    let (_fetches, wanted) = ring::ring(1);
    let (found, _fetched) = ring::ring(1);
    let durable = Number::new(0);
    let rings = Rings {
        records: taken,
        fetches: wanted,
        fetched: found,
        durable: durable.clone(),
        told: Told::default(),
        doorbell: None,
    };
    let mut agent = LogAgent::new(log, rings);
    agent.start(0, &mut driver).unwrap();
    let mut world = World::new();
    world.entry(G1, 1, 10);
    records.push(world.history[0].clone()).unwrap();
    disk.borrow_mut().fail_next_write(5);
    agent.work(&mut driver);
    let mut completions = Vec::new();
    driver.reap(&mut completions);
    completions.into_iter().for_each(|c| agent.complete(c, &mut driver));
    assert_eq!((agent.work(&mut driver), durable.get(), agent.deadline()), (0, 0, None));
    assert!(agent.failure().unwrap().contains("Cure: see to the disk"));
}
