//! Bit rot, misdirected writes, missing and foreign files.

use super::*;
use crate::base::Prng;
use crate::io::driver::ALIGN;

/// Thirty batches over several segments; the last one sealed or not.
fn written(sealed: bool) -> World {
    let mut world = World::new();
    world.push(G1, RecordKind::Vote, 0, vec![]);
    world.entries(1, 30, 4500);
    if sealed {
        world.seal();
    }
    world
}
/// Where each batch that holds records lies: file, offset, used bytes.
fn batches(world: &World) -> Vec<(u16, usize, usize)> {
    let keys = super::super::record::Keys::derive(&identity(), 0);
    let mut found = Vec::new();
    for segment in &world.log.segments {
        let disk = world.disk.borrow();
        let content = disk.content(&file(segment.file)).unwrap();
        for at in (ALIGN..segment.end as usize).step_by(ALIGN) {
            if let Ok((header, _)) = super::super::record::BatchHeader::read(&keys, &content[at..]) {
                found.push((segment.file, at, header.used as usize));
            }
        }
    }
    found
}

#[test]
fn a_flipped_bit_before_the_tail_refuses_the_start_and_names_the_place() {
    let mut prng = Prng::from_seed(1);
    for round in 0..300 {
        let mut world = written(true);
        let batches = batches(&world);
        // The last one is the seal: nothing calls it durable, and nothing is lost with it.
        let (number, at, used) = batches[prng.below(batches.len() as u64 - 1) as usize];
        let byte = if round % 3 == 0 { prng.below(112) } else { prng.below(used as u64) } as usize;
        world.disk.borrow_mut().tamper(&file(number), &mut |c| c[at + byte] ^= 1 << (round % 8));
        match world.recover().unwrap_err() {
            LogError::Damaged { file: named, offset, .. } => {
                assert_eq!(named, file(number));
                assert!((at..=at + byte).contains(&(offset as usize)), "{offset} for {at} + {byte}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_the_unsealed_tail_cuts_it() {
    for byte in (0..128 + 112 + 8 + 4500).step_by(41) {
        let mut world = written(false);
        let (number, at, _) = *batches(&world).last().unwrap();
        world.disk.borrow_mut().tamper(&file(number), &mut |c| c[at + byte] ^= 4);
        let recovered = world.recover().unwrap();
        assert_eq!(fold(&recovered), fold(&world.history[..world.history.len() - 1]));
    }
}

#[test]
fn a_seal_makes_the_last_batch_certain_and_is_written_once() {
    let mut world = written(true);
    let seals = world.log.figures.seals;
    assert!(world.log.is_quiet() && world.log.seal_at().is_none());
    assert!(!world.log.seal(&mut world.driver));
    assert_eq!(world.log.figures.seals, seals);
    let (number, at, _) = batches(&world)[batches(&world).len() - 2];
    world.disk.borrow_mut().tamper(&file(number), &mut |c| c[at + 500] ^= 4);
    assert!(matches!(world.recover(), Err(LogError::Damaged { .. })));
}

#[test]
fn a_misdirected_block_is_found() {
    let mut prng = Prng::from_seed(2);
    for _ in 0..100 {
        let mut world = written(true);
        let batches = batches(&world);
        let (from, to) = (prng.below(29) as usize, prng.below(29) as usize);
        if from == to {
            continue;
        }
        let (source, target) = (batches[from], batches[to]);
        let block =
            world.disk.borrow().content(&file(source.0)).unwrap()[source.1..source.1 + ALIGN].to_vec();
        world
            .disk
            .borrow_mut()
            .tamper(&file(target.0), &mut |c| c[target.1..target.1 + ALIGN].copy_from_slice(&block));
        match world.recover().unwrap_err() {
            LogError::Damaged { file: named, offset, .. } => {
                assert_eq!((named, offset), (file(target.0), target.1 as u64));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_lost_write_in_the_middle_is_damage_and_not_an_end() {
    let mut world = written(false);
    let (number, at, used) = batches(&world)[12];
    world.disk.borrow_mut().tamper(&file(number), &mut |c| c[at..at + used].fill(0));
    assert!(matches!(world.recover(), Err(LogError::Damaged { offset, .. }) if offset == at as u64));
}

#[test]
fn a_damaged_or_missing_segment_refuses_the_start() {
    for number in 1..=3 {
        let mut world = written(true);
        assert!(3 <= world.log.segment_count());
        world.disk.borrow_mut().tamper(&file(number), &mut |c| c[20] ^= 1);
        let error = world.recover().unwrap_err();
        assert!(
            matches!(error, LogError::Missing { sequence, .. } if sequence == u32::from(number)),
            "{error}"
        );

        let mut world = written(true);
        world.disk.borrow_mut().remove(&file(number));
        let error = world.recover().unwrap_err();
        assert!(matches!(&error, LogError::MissingFile { file: f, .. } if *f == file(number)), "{error}");
    }
}

#[test]
fn a_swapped_or_stale_segment_file_is_found() {
    let mut world = written(true);
    let other = world.disk.borrow().content(&file(1)).unwrap().to_vec();
    world.disk.borrow_mut().tamper(&file(2), &mut |c| c.clone_from(&other));
    assert!(matches!(world.recover(), Err(LogError::Missing { sequence: 2, .. })));
}

#[test]
fn an_emptied_directory_refuses_the_start() {
    let mut world = written(true);
    let paths = world.disk.borrow().paths();
    paths.iter().for_each(|p| world.disk.borrow_mut().remove(p));
    let error = world.recover().unwrap_err();
    assert!(matches!(error, LogError::Wiped { .. }));
    assert!(error.to_string().contains("Cure: leave it down"), "{error}");
}

#[test]
fn another_nodes_log_and_an_old_superblock_are_refused() {
    let mut world = written(true);
    world.options.identity.node = NodeId(4);
    let error = world.recover().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("wal/0001.wal belongs to node 3 of cluster 0707") && text.contains("Cure"),
        "{text}"
    );

    let mut world = written(true);
    world.options.generation = 0;
    assert!(matches!(world.recover(), Err(LogError::Generation { log: 1, superblock: 1 })));
}
