//! A state that comes by ranges, from one keeper with real files to another.

use super::tests::{OPTIONS, Plane, plane};
use super::*;
use crate::admin::testing::Scratch;
use crate::base::{Digest, GROUP_ONE, JobId, NodeId, Origin, Stamp};
use crate::resp::{Op, batch};
use crate::store::Store;
use crate::wire::hop::Certified;
use crate::wire::{Entry, EntryKind};
use bytes::Bytes;

/// A store in which some keys are written in turn.
fn put(store: &mut Store, keys: impl Iterator<Item = usize>, value: u8) {
    let origin = Origin { node: NodeId(1), lane: 0, boot: 1 };
    for key in keys {
        let (mut body, name, value) = (Vec::new(), format!("key-{key}"), vec![value; 1000]);
        batch::write(&mut body, Op::Set, 0, [name.as_bytes(), &value].into_iter());
        let (slot, sequence) = (store.applied().next(), store.last_sequence(origin) + 1);
        let body = Body::new(body.into());
        let kind = EntryKind::Batch;
        let entry =
            Entry { slot, stamp: Stamp(5), kind, origin, sequence, floor: 1, body, ..Entry::default() };
        store.apply(&entry, None);
    }
}

/// Lets a keeper have a snapshot of this store.
fn keep(plane: &mut Plane, store: &mut Store) -> SnapshotId {
    let id = store.begin_snapshot();
    assert!(store.snapshot_step(usize::MAX));
    plane.store(Keep::Begin(id));
    while let Some(chunk) = store.snapshot_chunk() {
        plane.store(Keep::Chunk(chunk));
    }
    plane.store(Keep::End);
    store.end_snapshot();
    assert!(matches!(plane.kept(), Kept::Snapshotted { id: its, .. } if its == id));
    id
}

/// What a core would do: asks `source` for what `taker` wants, until that has something else to say. `lie` may change an answer.
fn transfer(
    (source, taker): (&mut Plane, &mut Plane),
    (id, digest): (SnapshotId, Digest),
    lie: impl Fn(&Body, &mut Vec<u8>),
) -> (Kept, usize) {
    let (mut ranges, mut travelled) = (Body::EMPTY, 0);
    loop {
        let (job, group, slot, bytes) = (JobId(5), GROUP_ONE, id.slot, 1 << 20);
        source.replica(Keep::FetchRange { job, group, slot, ranges: ranges.clone(), offset: 0, bytes });
        let Kept::Fetched { piece: Some((its, total, 0, body)), .. } = source.kept() else {
            panic!("it has this snapshot")
        };
        assert_eq!((its, total), (id, body.len() as u64), "one piece is enough here");
        let mut answer = body.bytes().to_vec();
        lie(&ranges, &mut answer);
        travelled += answer.len();
        let certified = Certified { digest, ranges };
        let body = Body::new(answer.into());
        taker.replica(Keep::Range { id, offset: 0, total, body, certified });
        match taker.next() {
            Kept::Wanted { id: its, ranges: wanted } if its == id => ranges = wanted,
            other => return (other, travelled),
        }
    }
}

#[test]
fn poisoned_state_transfer_by_ranges_goes_on_with_another_source_where_it_stood() {
    let scratch = [Scratch::new("gather-source"), Scratch::new("gather-taker")];
    let (mut source, mut taker) =
        (plane(scratch[0].path(), Vec::new()), plane(scratch[1].path(), Vec::new()));
    let mut store = Store::new(OPTIONS);
    put(&mut store, 0..200, 1);
    keep(&mut taker, &mut store);
    put(&mut store, (0..200).step_by(40), 2);
    let id = keep(&mut source, &mut store);
    let digest = store.digest();

    let outline = |ranges: &Body, answer: &mut Vec<u8>| {
        if ranges.is_empty() {
            answer[50] ^= 1;
        }
    };
    let (kept, _) = transfer((&mut source, &mut taker), (id, digest), outline);
    assert_eq!(kept, Kept::Poisoned { id });
    let last = |ranges: &Body, answer: &mut Vec<u8>| {
        if let Some(byte) = answer.last_mut().filter(|_| !ranges.is_empty()) {
            *byte ^= 1;
        }
    };
    let (kept, first) = transfer((&mut source, &mut taker), (id, digest), last);
    assert_eq!(kept, Kept::Poisoned { id });
    let (kept, second) = transfer((&mut source, &mut taker), (id, digest), |_, _| ());
    assert!(matches!(kept, Kept::Installed { id: its, .. } if its == id), "{kept:?}");
    assert!(second < first, "{second} bytes after {first}: what fitted stays");
    let (its, file) = taker.taken().expect("it was brought to the store");
    assert!(first < file.len() / 2, "{first} of {} bytes travelled", file.len());
    let mut other = Store::new(OPTIONS);
    let mut loading = other.loading(its);
    loading.feed(&file).expect("a whole snapshot");
    assert_eq!((other.replace(loading), other.digest()), (Ok(true), digest));
    source.stop();
    taker.stop();
}

#[test]
fn ranges_of_a_snapshot_that_is_not_there_or_has_none_such_are_not_made_up() {
    let scratch = Scratch::new("gather-none");
    let mut plane = plane(scratch.path(), Vec::new());
    let mut store = Store::new(OPTIONS);
    put(&mut store, 0..1, 1);
    let id = keep(&mut plane, &mut store);
    let wanted = Body::new(Bytes::copy_from_slice(&77u32.to_le_bytes()));
    for (slot, ranges) in [(id.slot, wanted), (id.slot.next(), Body::EMPTY)] {
        let (job, group) = (JobId(1), GROUP_ONE);
        plane.replica(Keep::FetchRange { job, group, slot, ranges, offset: 0, bytes: 100 });
        assert_eq!(plane.kept(), Kept::Fetched { job, group, piece: None });
    }
    plane.stop();
}
