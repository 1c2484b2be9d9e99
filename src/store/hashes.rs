//! Commands on hashes.

use super::error::{CommandError, Outcome};
use super::fields::{Field, Fields};
use super::numbers::{DIGITS_MAX, decimal, integer, parse_i64};
use super::record::Record;
use super::reply::Reply;
use super::state::{State, as_fields};
use super::strings::next;
use super::table::Place;
use crate::base::Stamp;
use crate::resp::Op;
use crate::resp::batch::Args;

/// HSET key field value...
pub(super) fn hset(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let place = settle_hash(state, key)?;
    let mut fresh = 0;
    while let (Some(name), Some(value)) = (args.next(), args.next()) {
        fresh += usize::from(put(state, place, key, name, value));
    }
    reply.count(fresh);
    Ok(())
}

/// HSETNX key field value.
pub(super) fn hsetnx(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, name, value) = (next(&mut args)?, next(&mut args)?, next(&mut args)?);
    let place = settle_hash(state, key)?;
    let free = field(state, key, name)?.is_none();
    if free {
        put(state, place, key, name, value);
    }
    reply.integer(i64::from(free));
    Ok(())
}

/// HINCRBY key field n.
pub(super) fn hincrby(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, name, by) = (next(&mut args)?, next(&mut args)?, integer(next(&mut args)?)?);
    let place = settle_hash(state, key)?;
    let value = match field(state, key, name)? {
        Some(text) => parse_i64(text).ok_or(CommandError::HashValueNotInteger)?,
        None => 0,
    };
    let sum = value.checked_add(by).ok_or(CommandError::IncrementOverflow)?;
    put(state, place, key, name, decimal(sum, &mut [0; DIGITS_MAX]));
    reply.integer(sum);
    Ok(())
}

/// HDEL key field...
pub(super) fn hdel(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let place = settle_hash(state, key)?;
    let mut gone = 0;
    for name in args {
        let mark = state.table.field_mark(name);
        let removed = state.table.update(place, key, |record| match record.fields_mut() {
            Some(fields) => (fields.remove(mark, name), fields.len() == 0),
            None => (false, false),
        });
        let (removed, empty) = removed.unwrap_or_default();
        gone += usize::from(removed);
        if empty {
            state.table.remove(place, key);
        }
    }
    reply.count(gone);
    Ok(())
}

/// HGET key field.
pub(super) fn hget(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, name) = (next(&mut args)?, next(&mut args)?);
    reply.bulk_or_null(field(state, key, name)?);
    Ok(())
}

/// HMGET key field...
pub(super) fn hmget(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let fields = state.look_fields(next(&mut args)?)?;
    reply.array(args.clone().count());
    for name in args {
        reply.bulk_or_null(fields.and_then(|f| f.get(state.table.field_mark(name), name)));
    }
    Ok(())
}

/// HEXISTS key field.
pub(super) fn hexists(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, name) = (next(&mut args)?, next(&mut args)?);
    reply.integer(i64::from(field(state, key, name)?.is_some()));
    Ok(())
}

/// HLEN key.
pub(super) fn hlen(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(state.look_fields(next(&mut args)?)?.map_or(0, Fields::len));
    Ok(())
}

/// HGETALL key, HKEYS key, HVALS key.
pub(super) fn all(state: &State, op: Op, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let fields = state.look_fields(next(&mut args)?)?;
    let items = fields.map_or(&[][..], Fields::items);
    if op == Op::Hgetall {
        reply.map(items.len());
    } else {
        reply.array(items.len());
    }
    for item in items {
        if op != Op::Hvals {
            reply.bulk(Field::name(item));
        }
        if op != Op::Hkeys {
            reply.bulk(item.value());
        }
    }
    Ok(())
}

/// Where `key` belongs. It is a hash, or not there.
fn settle_hash(state: &mut State, key: &[u8]) -> Result<Place, CommandError> {
    let (place, found) = state.settle(key);
    found.map(as_fields).transpose()?;
    Ok(place)
}

fn field<'a>(state: &'a State, key: &[u8], name: &[u8]) -> Result<Option<&'a [u8]>, CommandError> {
    let fields = state.look_fields(key)?;
    Ok(fields.and_then(|f| f.get(state.table.field_mark(name), name)))
}

/// Sets a field of a settled hash, which is made if it is not there; true if the field is new.
fn put(state: &mut State, place: Place, key: &[u8], name: &[u8], value: &[u8]) -> bool {
    let mark = state.table.field_mark(name);
    let set = |record: &mut Record| record.fields_mut().is_some_and(|fields| fields.set(mark, name, value));
    match state.table.update(place, key, set) {
        Some(fresh) => fresh,
        None => {
            let mut fields = Fields::default();
            fields.set(mark, name, value);
            state.table.insert(place, Record::hash(place.mark, key, fields, Stamp::ZERO));
            true
        }
    }
}
