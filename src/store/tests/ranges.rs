//! Snapshots in ranges: what differs is all that travels, and nothing but what was certified becomes the state.

use super::support::{call, tick};
use crate::base::{Digest, GROUP_ONE, Stamp};
use crate::store::ranges::{Assembly, Index, Indexing, Outline};
use crate::store::{HashKey, Options, Store};
use crate::wire::hop::SnapshotId;

/// As many buckets as records, about.
const OPTIONS: Options = Options { group: GROUP_ONE, key: HashKey([7; 16]), bucket_bits: 12 };
const RECORDS: usize = 4000;

fn put(store: &mut Store, number: usize, value: u8) {
    let words = [b"SET".to_vec(), format!("key-{number}").into_bytes(), vec![value; 1000]];
    call(store, Stamp(5), 0, &words);
}
fn file(store: &mut Store) -> (SnapshotId, Vec<u8>) {
    let id = store.begin_snapshot();
    assert!(store.snapshot_step(usize::MAX));
    let mut bytes = Vec::new();
    while let Some(chunk) = store.snapshot_chunk() {
        bytes.extend_from_slice(&chunk);
    }
    store.end_snapshot();
    (id, bytes)
}
fn index(bytes: &[u8]) -> Index {
    let mut indexing = Indexing::begin();
    bytes.chunks(977).for_each(|chunk| indexing.feed(chunk).expect("it is whole"));
    indexing.finish().expect("it is whole")
}
fn bucket<'a>(index: &Index, file: &'a [u8], number: u32) -> &'a [u8] {
    let (at, length) = index.place(number).expect("it is there");
    &file[at as usize..(at + length) as usize]
}

/// A store and a copy of it from before one record in a hundred changed: files, indexes, the newer state's digest.
struct Pair {
    old: (Vec<u8>, Index),
    new: (Vec<u8>, Index),
    id: SnapshotId,
    digest: Digest,
}

fn pair() -> Pair {
    let mut store = Store::new(OPTIONS);
    (0..RECORDS).for_each(|number| put(&mut store, number, 1));
    let (_, old) = file(&mut store);
    (0..RECORDS).step_by(100).for_each(|number| put(&mut store, number, 2));
    tick(&mut store, Stamp(9));
    let (id, new) = file(&mut store);
    let (old_index, new_index) = (index(&old), index(&new));
    Pair { old: (old, old_index), new: (new, new_index), id, digest: store.digest() }
}

#[test]
fn an_outline_has_the_digest_of_its_state_and_one_encoding() {
    let Pair { new: (_, index), id, digest, .. } = pair();
    let outline = index.outline();
    assert_eq!((outline.id(), outline.digest()), (id, digest));
    let bytes = outline.encode();
    assert_eq!(Outline::decode(&bytes).as_ref(), Ok(outline));
    for cut in [0, 7, 40, bytes.len() - 1] {
        assert!(Outline::decode(&bytes[..cut]).is_err(), "{cut}");
    }
    for at in (0..bytes.len()).step_by(101) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(
            Outline::decode(&bad).map_or(true, |read| read.digest() != digest || &read != outline),
            "{at}"
        );
    }
}

#[test]
fn one_percent_of_difference_costs_a_few_percent_of_the_bytes() {
    let Pair { old: (old, had), new: (new, index), id, digest } = pair();
    let outline = Outline::decode(&index.outline().encode()).expect("just encoded");
    assert_eq!(outline.digest(), digest);
    let missing = outline.missing(|number| had.outline().bucket(number));
    let fetched: usize = missing.iter().map(|number| bucket(&index, &new, *number).len()).sum();
    let travels = fetched + outline.encode().len();
    println!("{} of {} bytes travel ({} of them the outline)", travels, new.len(), travels - fetched);
    assert!(travels * 100 < new.len() * 8, "{travels} of {} bytes", new.len());

    let (mut assembly, mut built) = Assembly::begin(outline.clone()).expect("it was decoded");
    for number in outline.numbers() {
        let bytes = match missing.contains(&number) {
            true => bucket(&index, &new, number),
            false => bucket(&had, &old, number),
        };
        assert!(assembly.fits(number, bytes));
        assembly.bucket(bytes).expect("it fits");
        built.extend_from_slice(bytes);
    }
    built.extend_from_slice(&assembly.finish().expect("all have come"));
    let mut store = Store::new(OPTIONS);
    let mut loading = store.loading(id);
    loading.feed(&built).expect("a whole snapshot");
    assert_eq!(store.replace(loading), Ok(true));
    assert_eq!(store.digest(), digest);
}

#[test]
fn poisoned_state_transfer_fits_no_bucket() {
    let Pair { new: (new, index), .. } = pair();
    let (assembly, _) = Assembly::begin(index.outline().clone()).expect("it was read");
    let number = index.outline().numbers().next().expect("there are some");
    let honest = bucket(&index, &new, number);
    assert!(assembly.fits(number, honest));
    assert!(!assembly.fits(number + 1, honest), "another bucket's place");
    for at in 0..honest.len() {
        let mut poisoned = honest.to_vec();
        poisoned[at] ^= 1;
        assert!(!assembly.fits(number, &poisoned), "byte {at}");
    }
}
