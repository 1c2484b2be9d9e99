//! When keys expire: the options that set a deadline, and the commands about it.
//!
//! A deadline is wall-clock time in milliseconds, taken from the stamp of the entry that sets it, so all replicas agree. At that
//! stamp the key is gone.

use super::error::{CommandError, Outcome};
use super::numbers::integer;
use super::reply::Reply;
use super::state::State;
use crate::base::Stamp;
use crate::resp::Op;
use crate::resp::batch::Args;

/// How a number in an option gives a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unit {
    /// Milliseconds in one.
    millis: i64,
    /// Counts from now, not from the epoch.
    relative: bool,
}

impl Unit {
    pub const EX: Unit = Unit { millis: 1000, relative: true };
    pub const PX: Unit = Unit { millis: 1, relative: true };
    pub const EXAT: Unit = Unit { millis: 1000, relative: false };
    pub const PXAT: Unit = Unit { millis: 1, relative: false };

    /// The unit of an option's name.
    pub fn named(option: &[u8]) -> Option<Unit> {
        let table = [(&b"EX"[..], Unit::EX), (b"PX", Unit::PX), (b"EXAT", Unit::EXAT), (b"PXAT", Unit::PXAT)];
        table.into_iter().find(|(name, _)| option.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// The moment that `number` of this unit means, which may lie before the epoch.
    fn moment(self, number: i64, now: Stamp) -> Option<i64> {
        let base = if self.relative { now.0 as i64 } else { 0 };
        number.checked_mul(self.millis)?.checked_add(base)
    }

    /// The deadline that an option of SET or GETEX gives: in the unit, above zero.
    pub fn deadline(self, text: &[u8], now: Stamp, command: &'static str) -> Result<Stamp, CommandError> {
        let number = integer(text)?;
        match self.moment(number, now) {
            Some(moment) if 0 < number && moment < DEADLINE_MAX => Ok(Stamp(moment as u64)),
            _ => Err(CommandError::ExpireTime(command)),
        }
    }
}

/// Deadlines are below it.
const DEADLINE_MAX: i64 = i64::MAX;

/// Under which circumstances EXPIRE and its kin have an effect.
#[derive(Default)]
struct Conditions {
    without: bool,
    with: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Conditions, CommandError> {
        let mut conditions = Conditions::default();
        for option in args {
            match () {
                _ if option.eq_ignore_ascii_case(b"NX") => conditions.without = true,
                _ if option.eq_ignore_ascii_case(b"XX") => conditions.with = true,
                _ if option.eq_ignore_ascii_case(b"GT") => conditions.later = true,
                _ if option.eq_ignore_ascii_case(b"LT") => conditions.earlier = true,
                _ => return Err(CommandError::ExpireOption(String::from_utf8_lossy(option).into_owned())),
            }
        }
        if conditions.without && (conditions.with || conditions.later || conditions.earlier) {
            return Err(CommandError::ExpireNxWithOthers);
        }
        if conditions.later && conditions.earlier {
            return Err(CommandError::ExpireGtAndLt);
        }
        Ok(conditions)
    }
    /// No deadline counts as the latest of all.
    fn allow(&self, current: Stamp, moment: i64) -> bool {
        let current = (current != Stamp::ZERO).then_some(current.0 as i64);
        !(self.without && current.is_some()
            || self.with && current.is_none()
            || self.later && current.is_none_or(|c| moment <= c)
            || self.earlier && current.is_some_and(|c| c <= moment))
    }
}

/// EXPIRE key seconds, PEXPIRE key milliseconds, EXPIREAT key seconds-since-the-epoch, each with [NX | XX | GT | LT].
pub(super) fn expire(state: &mut State, op: Op, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (unit, name) = match op {
        Op::Expireat => (Unit::EXAT, "expireat"),
        Op::Pexpire => (Unit::PX, "pexpire"),
        _ => (Unit::EX, "expire"),
    };
    let (Some(key), Some(number)) = (args.next(), args.next()) else { return Err(CommandError::Syntax) };
    let conditions = Conditions::parse(args)?;
    let moment = unit.moment(integer(number)?, state.now).filter(|m| *m < DEADLINE_MAX);
    let moment = moment.ok_or(CommandError::ExpireTime(name))?;
    let now = state.now;
    let (place, found) = state.settle(key);
    let effective = found.is_some_and(|record| conditions.allow(record.deadline, moment));
    if effective && moment <= now.0 as i64 {
        state.table.remove(place, key);
    } else if effective {
        state.put_deadline(place, key, Stamp(moment as u64));
    }
    reply.integer(i64::from(effective));
    Ok(())
}

/// TTL key, PTTL key.
pub(super) fn ttl(state: &State, op: Op, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = args.next().ok_or(CommandError::Syntax)?;
    reply.integer(match state.look(key).map(|r| r.deadline) {
        None => -2,
        Some(Stamp::ZERO) => -1,
        Some(deadline) => {
            let millis = (deadline.0 - state.now.0) as i64;
            if op == Op::Pttl { millis } else { millis.saturating_add(500) / 1000 }
        }
    });
    Ok(())
}

/// PERSIST key.
pub(super) fn persist(state: &mut State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = args.next().ok_or(CommandError::Syntax)?;
    let (place, found) = state.settle(key);
    let had = found.is_some_and(|r| r.deadline != Stamp::ZERO);
    if had {
        state.put_deadline(place, key, Stamp::ZERO);
    }
    reply.integer(i64::from(had));
    Ok(())
}
