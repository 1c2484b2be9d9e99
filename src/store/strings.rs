//! Commands on strings.

use super::error::{CommandError, Outcome};
use super::expiry::Unit;
use super::numbers::{DIGITS_MAX, VALUE_BYTES_MAX, decimal, integer, parse_i64};
use super::record::Record;
use super::reply::Reply;
use super::state::{State, as_string};
use crate::base::Stamp;
use crate::resp::Op;
use crate::resp::batch::Args;

/// The next argument. Arity is checked before, so that only damage makes it fail.
pub(super) fn next<'a>(args: &mut Args<'a>) -> Result<&'a [u8], CommandError> {
    args.next().ok_or(CommandError::Syntax)
}

/// GET key.
pub(super) fn get(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk_or_null(state.look_string(next(&mut args)?)?);
    Ok(())
}

/// Options of SET.
#[derive(Default)]
struct SetOptions<'a> {
    only_if_absent: bool,
    only_if_present: bool,
    only_if_equal: Option<&'a [u8]>,
    get: bool,
    keep_deadline: bool,
    deadline: Option<(Unit, &'a [u8])>,
}

impl<'a> SetOptions<'a> {
    fn parse(mut args: Args<'a>) -> Result<SetOptions<'a>, CommandError> {
        let mut options = SetOptions::default();
        while let Some(option) = args.next() {
            let conditional =
                options.only_if_absent || options.only_if_present || options.only_if_equal.is_some();
            let lasting = options.keep_deadline || options.deadline.is_some();
            match () {
                _ if option.eq_ignore_ascii_case(b"NX") && (options.only_if_absent || !conditional) => {
                    options.only_if_absent = true;
                }
                _ if option.eq_ignore_ascii_case(b"XX") && (options.only_if_present || !conditional) => {
                    options.only_if_present = true;
                }
                _ if option.eq_ignore_ascii_case(b"IFEQ") && !conditional => {
                    options.only_if_equal = Some(next(&mut args)?);
                }
                _ if option.eq_ignore_ascii_case(b"GET") => options.get = true,
                _ if option.eq_ignore_ascii_case(b"KEEPTTL") && options.deadline.is_none() => {
                    options.keep_deadline = true;
                }
                _ => {
                    let unit = Unit::named(option).filter(|_| !lasting).ok_or(CommandError::Syntax)?;
                    options.deadline = Some((unit, next(&mut args)?));
                }
            }
        }
        Ok(options)
    }
    fn allow(&self, current: Option<&[u8]>) -> bool {
        !(self.only_if_absent && current.is_some()
            || self.only_if_present && current.is_none()
            || self.only_if_equal.is_some_and(|wanted| current != Some(wanted)))
    }
}

/// SET key value [NX | XX | IFEQ value] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL].
pub(super) fn set(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (next(&mut args)?, next(&mut args)?);
    if args.clone().next().is_none() {
        // What most clients send: no look at what was there.
        let place = state.table.place(key);
        state.put_string(place, key, value, Stamp::ZERO);
        reply.ok();
        return Ok(());
    }
    let options = SetOptions::parse(args)?;
    let deadline = match options.deadline {
        Some((unit, number)) => unit.deadline(number, state.now, "set")?,
        None => Stamp::ZERO,
    };
    let (place, found) = state.settle(key);
    // NX and XX ask for any type; GET and IFEQ for a string.
    let current = match found.map(as_string).transpose() {
        Ok(current) => current,
        Err(_) if !options.get && options.only_if_equal.is_none() => Some(&[][..]),
        Err(wrong_type) => return Err(wrong_type),
    };
    let kept = found.filter(|_| options.keep_deadline).map_or(Stamp::ZERO, |r| r.deadline);
    let allowed = options.allow(current);
    if options.get {
        reply.bulk_or_null(current);
    } else if allowed {
        reply.ok();
    } else {
        reply.null();
    }
    if allowed {
        state.put_string(place, key, value, if options.keep_deadline { kept } else { deadline });
    }
    Ok(())
}

/// GETDEL key.
pub(super) fn getdel(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let (place, found) = state.settle(key);
    let value = found.map(as_string).transpose()?;
    reply.bulk_or_null(value);
    if value.is_some() {
        state.table.remove(place, key);
    }
    Ok(())
}

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST].
pub(super) fn getex(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let (mut persist, mut unit) = (false, None);
    while let Some(option) = args.next() {
        if option.eq_ignore_ascii_case(b"PERSIST") && unit.is_none() {
            persist = true;
        } else {
            let named =
                Unit::named(option).filter(|_| !persist && unit.is_none()).ok_or(CommandError::Syntax)?;
            unit = Some((named, next(&mut args)?));
        }
    }
    let now = state.now;
    let (place, found) = state.settle(key);
    let Some(value) = found.map(as_string).transpose()? else {
        reply.null();
        return Ok(());
    };
    let deadline = unit.map(|(unit, number)| unit.deadline(number, now, "getex")).transpose()?;
    reply.bulk(value);
    match deadline {
        Some(deadline) if deadline <= now => {
            state.table.remove(place, key);
        }
        Some(deadline) => state.put_deadline(place, key, deadline),
        None if persist => state.put_deadline(place, key, Stamp::ZERO),
        None => {}
    }
    Ok(())
}

/// STRLEN key.
pub(super) fn strlen(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(state.look_string(next(&mut args)?)?.map_or(0, <[u8]>::len));
    Ok(())
}

/// APPEND key value.
pub(super) fn append(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, tail) = (next(&mut args)?, next(&mut args)?);
    let (place, found) = state.settle(key);
    let Some(len) = found.map(as_string).transpose()?.map(<[u8]>::len) else {
        state.table.insert(place, Record::string(place.mark, key, tail, Stamp::ZERO));
        reply.count(tail.len());
        return Ok(());
    };
    if VALUE_BYTES_MAX < len + tail.len() {
        return Err(CommandError::TooLong);
    }
    state.table.update(place, key, |record| {
        if let Some((bytes, _)) = record.string_mut() {
            bytes.extend_from_slice(tail);
        }
    });
    reply.count(len + tail.len());
    Ok(())
}

/// GETRANGE key start end: both ends are in it, and count from the end when negative.
pub(super) fn getrange(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let (start, end) = (integer(next(&mut args)?)?, integer(next(&mut args)?)?);
    let value = state.look_string(key)?.unwrap_or_default();
    reply.bulk(range(value, start, end));
    Ok(())
}

fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && end < start {
        return &[];
    }
    let len = value.len() as i64;
    let from_start = |place: i64| if place < 0 { place.saturating_add(len).max(0) } else { place };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if len == 0 || end < start { &[] } else { &value[start as usize..=end as usize] }
}

/// SETRANGE key offset value: what lies between the old end and the offset becomes zero bytes.
pub(super) fn setrange(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, offset, patch) = (next(&mut args)?, integer(next(&mut args)?)?, next(&mut args)?);
    let offset = usize::try_from(offset).map_err(|_| CommandError::Offset)?;
    let (place, found) = state.settle(key);
    let len = found.map(as_string).transpose()?.map(<[u8]>::len);
    if patch.is_empty() {
        reply.count(len.unwrap_or(0));
        return Ok(());
    }
    let end =
        offset.checked_add(patch.len()).filter(|end| *end <= VALUE_BYTES_MAX).ok_or(CommandError::TooLong)?;
    if len.is_none() {
        state.table.insert(place, Record::string(place.mark, key, &[], Stamp::ZERO));
    }
    state.table.update(place, key, |record| {
        if let Some((bytes, head)) = record.string_mut() {
            bytes.resize(bytes.len().max(head + end), 0);
            bytes[head + offset..head + end].copy_from_slice(patch);
        }
    });
    reply.count(len.unwrap_or(0).max(end));
    Ok(())
}

/// MGET key...: null for what is no string.
pub(super) fn mget(state: &State, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(args.clone().count());
    for key in args {
        reply.bulk_or_null(state.look_string(key).unwrap_or(None));
    }
    Ok(())
}

/// MSET key value...
pub(super) fn mset(state: &mut State, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    put_all(state, args);
    reply.ok();
    Ok(())
}

/// MSETNX key value...: all or nothing.
pub(super) fn msetnx(state: &mut State, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let free = args.clone().step_by(2).all(|key| state.look(key).is_none());
    if free {
        put_all(state, args);
    }
    reply.integer(i64::from(free));
    Ok(())
}

fn put_all(state: &mut State, mut args: Args<'_>) {
    while let (Some(key), Some(value)) = (args.next(), args.next()) {
        let place = state.table.place(key);
        state.put_string(place, key, value, Stamp::ZERO);
    }
}

/// INCR key, DECR key, INCRBY key n, DECRBY key n.
pub(super) fn increment(state: &mut State, op: Op, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let by = match op {
        Op::Incr => 1,
        Op::Decr => -1,
        Op::Incrby => integer(next(&mut args)?)?,
        _ => integer(next(&mut args)?)?.checked_neg().ok_or(CommandError::DecrementOverflow)?,
    };
    let (place, found) = state.settle(key);
    let (value, deadline) = match found {
        Some(record) => (parse_i64(as_string(record)?).ok_or(CommandError::NotInteger)?, record.deadline),
        None => (0, Stamp::ZERO),
    };
    let sum = value.checked_add(by).ok_or(CommandError::IncrementOverflow)?;
    state.put_string(place, key, decimal(sum, &mut [0; DIGITS_MAX]), deadline);
    reply.integer(sum);
    Ok(())
}
