//! CLIENT: who is connected, and what this connection is called and sent.

use super::local::{compose, integer, other_subcommand};
use super::session::{Args, Desk, Identity, Replies, Session, wrong_number};
use crate::base::Instant;
use crate::resp::reply::Version;
use std::fmt::Write;

/// Longest name, library name and library version, in bytes: all connections' are kept.
const NAME_BYTES_MAX: usize = 256;

/// What is known of the connection itself.
pub(super) fn identity<'d>(session: &Session, desk: &'d mut Desk) -> Option<&'d mut Identity> {
    desk.directory.get_mut(session.seat as usize)?.as_mut()
}

/// Names the connection; an empty name takes the name away.
pub(super) fn set_name(session: &Session, desk: &mut Desk, name: &[u8]) -> Result<(), String> {
    let name = checked("Client names", name)?;
    if let Some(identity) = identity(session, desk) {
        identity.name = name;
    }
    Ok(())
}

/// Names stand in lines that are split at spaces: letters that would break a line are refused, as in Redis.
fn checked(what: &str, name: &[u8]) -> Result<Vec<u8>, String> {
    if !name.iter().all(|b| b.is_ascii_graphic()) {
        return Err(format!("ERR {what} cannot contain spaces, newlines or special characters."));
    }
    if NAME_BYTES_MAX < name.len() {
        return Err(format!("ERR {what} cannot be longer than {NAME_BYTES_MAX} bytes."));
    }
    Ok(name.to_vec())
}

/// The subcommands that take no more and no fewer than so many arguments, CLIENT and their name included.
const ARITIES: [(&str, usize); 9] = [
    ("GETNAME", 2),
    ("GETREDIR", 2),
    ("ID", 2),
    ("INFO", 2),
    ("NO-EVICT", 3),
    ("NO-TOUCH", 3),
    ("REPLY", 3),
    ("SETINFO", 4),
    ("SETNAME", 3),
];

pub(super) fn answer(session: &mut Session, desk: &mut Desk, args: Args) {
    let now = desk.now;
    if let Some(identity) = identity(session, desk) {
        // Whoever asks is not idle.
        (identity.active, identity.command) = (now, "client");
    }
    let arity = ARITIES.iter().find(|(name, _)| args.is(1, name));
    if let Some((name, _)) = arity.filter(|(_, count)| *count != args.len()) {
        return session.error(desk, &wrong_number(&format!("client|{}", name.to_lowercase())));
    }
    if args.is(1, "SETNAME") {
        done(set_name(session, desk, args.at(2)), session, desk);
    } else if args.is(1, "GETNAME") {
        let name =
            identity(session, desk).map(|identity| identity.name.clone()).filter(|name| !name.is_empty());
        session.reply(desk, |out| out.bulk_or_null(name.as_deref()));
    } else if args.is(1, "SETINFO") {
        done(set_info(session, desk, args), session, desk);
    } else if args.is(1, "ID") {
        let id = identity(session, desk).map_or(0, |identity| identity.id);
        session.reply(desk, |out| out.integer(id as i64));
    } else if args.is(1, "INFO") {
        let line = identity(session, desk).cloned().map(|identity| line(&identity, desk.now));
        session.reply(desk, |out| out.verbatim(&line.unwrap_or_default()));
    } else if args.is(1, "LIST") {
        list(session, desk, args);
    } else if args.is(1, "REPLY") {
        reply(session, desk, args);
    } else if args.is(1, "NO-EVICT") || args.is(1, "NO-TOUCH") {
        let known = args.is(2, "ON") || args.is(2, "OFF");
        done(if known { Ok(()) } else { Err("ERR syntax error".to_string()) }, session, desk);
    } else if args.is(1, "TRACKING") {
        session.error(desk, "ERR client-side caching is not supported by this server");
    } else if args.is(1, "GETREDIR") {
        session.reply(desk, |out| out.integer(-1));
    } else {
        other_subcommand(session, desk, args);
    }
}

fn done(result: Result<(), String>, session: &mut Session, desk: &mut Desk) {
    match result {
        Ok(()) => session.reply(desk, |out| out.ok()),
        Err(text) => session.error(desk, &text),
    }
}

fn set_info(session: &Session, desk: &mut Desk, args: Args) -> Result<(), String> {
    let library = args.is(2, "LIB-NAME");
    if !library && !args.is(2, "LIB-VER") {
        let option = String::from_utf8_lossy(&args.at(2)[..args.at(2).len().min(128)]).into_owned();
        return Err(format!("ERR Unrecognized option '{option}'"));
    }
    let value = checked(if library { "lib-name" } else { "lib-ver" }, args.at(3))?;
    if let Some(identity) = identity(session, desk) {
        *if library { &mut identity.library } else { &mut identity.library_version } = value;
    }
    Ok(())
}

/// ON is answered; OFF and SKIP are not, and SKIP changes nothing while replies are off.
fn reply(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(2, "ON") {
        session.replies = Replies::On;
        session.reply(desk, |out| out.ok());
    } else if args.is(2, "OFF") {
        session.replies = Replies::Off;
        session.no_reply(desk);
    } else if args.is(2, "SKIP") {
        session.no_reply(desk);
        if session.replies == Replies::On {
            session.replies = Replies::SkipNext;
        }
    } else {
        session.error(desk, "ERR syntax error");
    }
}

fn list(session: &mut Session, desk: &mut Desk, args: Args) {
    let mut wanted: Option<Vec<i64>> = None;
    let mut none = false;
    if args.is(2, "TYPE") && args.len() == 4 {
        let kinds = ["NORMAL", "MASTER", "REPLICA", "SLAVE", "PUBSUB"];
        if !kinds.iter().any(|kind| args.is(3, kind)) {
            return session.error(desk, "ERR Unknown client type");
        }
        none = !args.is(3, "NORMAL");
    } else if args.is(2, "ID") && 3 < args.len() {
        let ids: Option<Vec<i64>> = args.from(3).map(integer).collect();
        if ids.is_none() {
            return session.error(desk, "ERR Invalid client ID");
        }
        wanted = ids;
    } else if args.len() != 2 {
        return session.error(desk, "ERR syntax error");
    }
    compose(session, desk, |desk, out| {
        let shown = |i: &&Identity| !none && wanted.as_ref().is_none_or(|ids| ids.contains(&(i.id as i64)));
        let lines = desk.directory.iter().flatten().filter(shown).map(|i| line(i, desk.now));
        out.verbatim(&lines.collect::<String>());
    });
}

/// A line of CLIENT LIST. Its names are graphic ASCII.
fn line(identity: &Identity, now: Instant) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let version = if identity.version == Version::Resp3 { 3 } else { 2 };
    let mut line = String::new();
    let written = writeln!(
        line,
        "id={} addr={} laddr={} name={} age={} idle={} flags=N db=0 sub=0 psub=0 multi=-1 cmd={} user=default redir=-1 \
         resp={} lib-name={} lib-ver={}",
        identity.id,
        identity.peer,
        identity.local,
        text(&identity.name),
        now.since(identity.since).as_secs(),
        now.since(identity.active).as_secs(),
        if identity.command.is_empty() { "NULL" } else { identity.command },
        version,
        text(&identity.library),
        text(&identity.library_version),
    );
    written.expect("a string takes whatever is written");
    line
}
