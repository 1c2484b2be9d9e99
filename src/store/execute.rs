//! From a command in a batch to the function that carries it out.

use super::error::{CommandError, Outcome};
use super::reply::Reply;
use super::state::State;
use super::{expiry, hashes, keys, scan, strings};
use crate::resp::Op;
use crate::resp::batch::Command;
use crate::resp::reply::Version;

/// Carries a command out. With `out` its reply is appended there.
pub(super) fn execute(state: &mut State, command: &Command<'_>, out: Option<&mut Vec<u8>>) {
    let Some(out) = out else {
        let _refused_everywhere_alike = run(state, command, &mut Reply::nowhere());
        return;
    };
    let start = out.len();
    let mut reply = Reply::to(out, Version::of_flags(command.flags));
    let outcome = run(state, command, &mut reply);
    let error = match outcome {
        Err(error) => error,
        Ok(()) => match reply.excess(command.op.is_read()) {
            Some(error) => error,
            None => return,
        },
    };
    // A command that fails has written nothing, one whose reply is too long a part of it.
    out.truncate(start);
    refuse(out, command, &error);
}

/// Appends an error.
pub(super) fn refuse(out: &mut Vec<u8>, command: &Command<'_>, error: &CommandError) {
    let mut writer = crate::resp::reply::Writer::new(out, Version::of_flags(command.flags));
    writer.error(&error.to_string());
}

fn run(state: &mut State, command: &Command<'_>, reply: &mut Reply<'_>) -> Outcome {
    use Op::*;
    let (op, args) = (command.op, command.args());
    if !arity_holds(op, usize::from(command.count)) {
        return Err(CommandError::Arity(op.name().to_ascii_lowercase()));
    }
    match op {
        Get => strings::get(state, args, reply),
        Set => strings::set(state, args, reply),
        Append => strings::append(state, args, reply),
        Strlen => strings::strlen(state, args, reply),
        Getrange => strings::getrange(state, args, reply),
        Setrange => strings::setrange(state, args, reply),
        Getdel => strings::getdel(state, args, reply),
        Getex => strings::getex(state, args, reply),
        Mget => strings::mget(state, args, reply),
        Mset => strings::mset(state, args, reply),
        Msetnx => strings::msetnx(state, args, reply),
        Incr | Incrby | Decr | Decrby => strings::increment(state, op, args, reply),
        Del | Unlink => keys::del(state, args, reply),
        Exists => keys::exists(state, args, reply),
        Type => keys::kind(state, args, reply),
        Expire | Pexpire | Expireat => expiry::expire(state, op, args, reply),
        Ttl | Pttl => expiry::ttl(state, op, args, reply),
        Persist => expiry::persist(state, args, reply),
        Scan => scan::scan(state, args, reply),
        Randomkey => keys::randomkey(state, reply),
        Dbsize => keys::dbsize(state, reply),
        Flushall => keys::flushall(state, args, reply),
        Hset => hashes::hset(state, args, reply),
        Hsetnx => hashes::hsetnx(state, args, reply),
        Hget => hashes::hget(state, args, reply),
        Hmget => hashes::hmget(state, args, reply),
        Hgetall | Hkeys | Hvals => hashes::all(state, op, args, reply),
        Hdel => hashes::hdel(state, args, reply),
        Hexists => hashes::hexists(state, args, reply),
        Hlen => hashes::hlen(state, args, reply),
        Hincrby => hashes::hincrby(state, args, reply),
        Hscan => scan::hscan(state, args, reply),
    }
}

/// Whether a command may have so many arguments. Fronts ask too; here it keeps batches of any making harmless.
fn arity_holds(op: Op, count: usize) -> bool {
    use Op::*;
    match op {
        Randomkey | Dbsize => count == 0,
        Get | Strlen | Getdel | Incr | Decr | Type | Ttl | Pttl | Persist | Hgetall | Hkeys | Hvals
        | Hlen => count == 1,
        Append | Incrby | Decrby | Hget | Hexists => count == 2,
        Getrange | Setrange | Hsetnx | Hincrby => count == 3,
        Flushall => true,
        Getex | Mget | Del | Unlink | Exists | Scan => 1 <= count,
        Set | Expire | Pexpire | Expireat | Hmget | Hdel | Hscan => 2 <= count,
        Mset | Msetnx => 2 <= count && count.is_multiple_of(2),
        Hset => 3 <= count && !count.is_multiple_of(2),
    }
}
