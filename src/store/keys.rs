//! Commands on keys of any type.

use super::error::{CommandError, Outcome};
use super::record::View;
use super::reply::Reply;
use super::state::State;
use super::strings::next;
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

/// RANDOMKEY: from a random bucket on, the first that has a key to be seen.
pub(super) fn randomkey(state: &mut State, reply: &mut Reply<'_>) -> Outcome {
    let count = state.table.buckets().len();
    let (start, pick) = (state.prng.below(count as u64) as usize, state.prng.next_u64() as usize);
    let buckets = (0..count).map(|step| &state.table.buckets()[(start + step) % count]);
    for bucket in buckets.filter(|b| !b.is_empty()) {
        let visible = || bucket.iter().filter(|r| !r.is_expired(state.now));
        if let Some(record) = visible().nth(pick % bucket.len()).or_else(|| visible().next()) {
            reply.bulk(record.key());
            return Ok(());
        }
    }
    reply.null();
    Ok(())
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
