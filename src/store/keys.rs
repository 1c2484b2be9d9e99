//! Commands on keys of any type.

use super::error::{CommandError, Outcome};
use super::record::{Record, View};
use super::reply::Reply;
use super::state::State;
use super::strings::next;
use super::table::{Bucket, Table};
use crate::base::{Prng, Stamp};
use crate::resp::batch::Args;

/// DEL key..., UNLINK key...: large values are dropped in later steps either way.
pub(super) fn del(state: &mut State, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut gone = 0;
    for key in args {
        gone += usize::from(state.remove(key));
    }
    reply.count(gone);
    Ok(())
}

/// EXISTS key...: a key that is named twice counts twice.
pub(super) fn exists(state: &State, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(args.filter(|key| state.look(key).is_some()).count());
    Ok(())
}

/// TYPE key.
pub(super) fn kind(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let record = state.look(next(&mut args)?);
    reply.simple(record.map_or("none", |r| kind_name(r.view())));
    Ok(())
}

/// The name that clients know a type by.
pub(super) fn kind_name(view: View<'_>) -> &'static str {
    match view {
        View::String(_) => "string",
        View::Hash(_) => "hash",
    }
}

/// Places that RANDOMKEY draws before it counts.
const DRAWS_MAX: usize = 1024;

/// RANDOMKEY: draws places, as Redis does, until one holds a key to be seen. Where keys are few and buckets many that may take long: then
/// the key of a drawn number is looked for.
pub(super) fn randomkey(state: &mut State, reply: &mut Reply<'_>) -> Outcome {
    let State { table, now, prng } = state;
    let (table, now): (&Table, Stamp) = (table, *now);
    let drawn = (0..DRAWS_MAX).find_map(|_| draw(table, now, prng));
    match drawn.or_else(|| count_off(table, now, prng)) {
        Some(record) => reply.bulk(record.key()),
        None => reply.null(),
    }
    Ok(())
}

/// One try. A bucket has places for three times as many records as buckets hold on average, and some: so a record that has its bucket
/// for itself is drawn no more often than others.
fn draw<'t>(table: &'t Table, now: Stamp, prng: &mut Prng) -> Option<&'t Record> {
    let buckets = table.buckets();
    let bucket = &buckets[prng.below(buckets.len() as u64) as usize];
    let places = (2 + 3 * table.len() / buckets.len()).max(bucket.len());
    let place = prng.below(places as u64) as usize;
    let record = if place < bucket.len() { in_order(bucket)[place] } else { return None };
    (!record.is_expired(now)).then_some(record)
}

/// From the record of a drawn number on, the first that can be seen.
fn count_off<'t>(table: &'t Table, now: Stamp, prng: &mut Prng) -> Option<&'t Record> {
    let buckets = table.buckets();
    let mut left = prng.below(table.len().max(1) as u64) as usize;
    let first = buckets.iter().position(|bucket| {
        let is_here = left < bucket.len();
        left -= if is_here { 0 } else { bucket.len() };
        is_here
    })?;
    let visible = |record: &&Record| !record.is_expired(now);
    let found = in_order(&buckets[first]).into_iter().skip(left).find(visible);
    let mut later = (1..=buckets.len()).map(|step| &buckets[(first + step) % buckets.len()]);
    let least = |bucket: &'t Bucket| bucket.iter().filter(visible).min_by_key(|record| record.key());
    found.or_else(|| later.find_map(least))
}

/// The order of a bucket itself tells of its past, in which replicas with equal states may differ; their replies must not.
fn in_order(bucket: &Bucket) -> Vec<&Record> {
    let mut records: Vec<&Record> = bucket.iter().collect();
    records.sort_unstable_by_key(|record| record.key());
    records
}

/// DBSIZE: as in Redis, keys that are expired count until they are purged.
pub(super) fn dbsize(state: &State, reply: &mut Reply<'_>) -> Outcome {
    reply.count(state.table.len());
    Ok(())
}

/// FLUSHALL [ASYNC | SYNC]: the memory is given back in later steps either way.
pub(super) fn flushall(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let known = |mode: &[u8]| mode.eq_ignore_ascii_case(b"ASYNC") || mode.eq_ignore_ascii_case(b"SYNC");
    if args.next().is_some_and(|mode| !known(mode)) || args.next().is_some() {
        return Err(CommandError::Syntax);
    }
    state.table.clear();
    reply.ok();
    Ok(())
}
