//! Commands that concern the connection or this node alone: answered here and now, in their place among the others.

use super::session::{Args, Desk, Replies, Session, wrong_number};
use super::{catalogue, client, cluster, help, info};
use crate::resp::command::Local;
use crate::resp::reply::{Version, Writer};

/// Answers a command of the node's own.
pub(super) fn answer(what: Local, session: &mut Session, desk: &mut Desk, args: Args) {
    match what {
        Local::Acl => acl(session, desk, args),
        Local::Auth => auth(session, desk, args),
        Local::Client => client::answer(session, desk, args),
        Local::Cluster => cluster::answer(session, desk, args),
        Local::Command => catalogue::answer(session, desk, args),
        Local::Config => info::config(session, desk, args),
        Local::Echo => session.reply(desk, |out| out.bulk(args.at(1))),
        Local::Hello => hello(session, desk, args),
        Local::Info => info::answer(session, desk, args),
        Local::Latency => latency(session, desk, args),
        Local::Module => module(session, desk, args),
        Local::Ping => ping(session, desk, args),
        Local::Quit => {
            session.reply(desk, |out| out.ok());
            session.closing = true;
        }
        Local::Readonly | Local::Readwrite => session.reply(desk, |out| out.ok()),
        Local::Reset => reset(session, desk),
        Local::Role => info::role(session, desk),
        Local::Select => select(session, desk, args),
        Local::Slowlog => slowlog(session, desk, args),
        Local::Time => time(session, desk),
        Local::Wait => wait(session, desk, args),
    }
}

/// Writes a reply that tells of what is on the desk.
pub(super) fn compose(session: &mut Session, desk: &mut Desk, write: impl FnOnce(&Desk, &mut Writer)) {
    let mut bytes = Vec::new();
    write(desk, &mut Writer::new(&mut bytes, session.version));
    session.reply(desk, |out| out.raw(&bytes));
}

/// HELP, and Redis's text for a subcommand that there is not.
pub(super) fn other_subcommand(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(1, "HELP")
        && args.len() == 2
        && let Some(lines) = help::of(args.at(0))
    {
        return session.reply(desk, |out| {
            out.array(lines.clone().count());
            lines.for_each(|line| out.simple(&line));
        });
    }
    let quoted = |index: usize| {
        let arg = args.at(index);
        String::from_utf8_lossy(&arg[..arg.len().min(128)]).into_owned()
    };
    let text = format!("ERR unknown subcommand '{}'. Try {} HELP.", quoted(1), quoted(0).to_uppercase());
    session.error(desk, &text);
}

/// A decimal number, as Redis reads arguments.
pub(super) fn integer(arg: &[u8]) -> Option<i64> {
    std::str::from_utf8(arg).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD_SET: &str = "ERR AUTH <password> called without any password configured for the default user. Are \
                               you sure your configuration is correct?";
const HELLO_NEEDS_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
                                <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
                                RESP protocol version at the same time";

/// Whether the password opens this port. Digests are compared, in constant time: how long it takes tells nothing of the password.
fn is_password(desk: &mut Desk, user: &[u8], password: &[u8]) -> bool {
    let right = match desk.secret {
        Some(secret) => blake3::hash(password) == secret,
        None => true,
    };
    let right = right && user == b"default";
    desk.counters.authentications_failed += u64::from(!right);
    right
}

fn auth(session: &mut Session, desk: &mut Desk, args: Args) {
    let (user, password) = match args.len() {
        2 if desk.secret.is_none() => return session.error(desk, NO_PASSWORD_SET),
        2 => (&b"default"[..], args.at(1)),
        3 => (args.at(1), args.at(2)),
        _ => return session.error(desk, "ERR syntax error"),
    };
    if is_password(desk, user, password) {
        session.authenticated = true;
        session.reply(desk, |out| out.ok());
    } else {
        session.error(desk, WRONG_PASSWORD);
    }
}

/// What a HELLO asks for, beyond its version.
#[derive(Default)]
struct Greeting<'a> {
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn greeting<'a>(args: Args<'a>) -> Result<Greeting<'a>, usize> {
    let mut greeting = Greeting::default();
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "AUTH") && at + 2 < args.len() {
            greeting.credentials = Some((args.at(at + 1), args.at(at + 2)));
            at += 3;
        } else if args.is(at, "SETNAME") && at + 1 < args.len() {
            greeting.name = Some(args.at(at + 1));
            at += 2;
        } else {
            return Err(at);
        }
    }
    Ok(greeting)
}

fn hello(session: &mut Session, desk: &mut Desk, args: Args) {
    let version = match args.get(1).map(integer) {
        None => session.version,
        Some(Some(2)) => Version::Resp2,
        Some(Some(3)) => Version::Resp3,
        Some(Some(_)) => return session.error(desk, "NOPROTO unsupported protocol version"),
        Some(None) => return session.error(desk, "ERR Protocol version is not an integer or out of range"),
    };
    let greeting = match greeting(args) {
        Ok(greeting) => greeting,
        Err(at) => {
            let option = String::from_utf8_lossy(&args.at(at)[..args.at(at).len().min(128)]).into_owned();
            return session.error(desk, &format!("ERR Syntax error in HELLO option '{option}'"));
        }
    };
    if let Some((user, password)) = greeting.credentials {
        if !is_password(desk, user, password) {
            return session.error(desk, WRONG_PASSWORD);
        }
        session.authenticated = true;
    }
    if !session.authenticated {
        return session.error(desk, HELLO_NEEDS_AUTH);
    }
    if let Some(name) = greeting.name
        && let Err(text) = client::set_name(session, desk, name)
    {
        return session.error(desk, &text);
    }
    session.version = version;
    let id = client::identity(session, desk).map_or(0, |identity| {
        identity.version = version;
        identity.id
    });
    compose(session, desk, |desk, out| {
        out.map(7);
        out.bulk(b"server");
        out.bulk(b"redis");
        out.bulk(b"version");
        out.bulk(super::view::REDIS_VERSION.as_bytes());
        out.bulk(b"proto");
        out.integer(if version == Version::Resp3 { 3 } else { 2 });
        out.bulk(b"id");
        out.integer(id as i64);
        out.bulk(b"mode");
        out.bulk(b"standalone");
        out.bulk(b"role");
        out.bulk(if desk.view.leads() { b"master" } else { b"replica" });
        out.bulk(b"modules");
        out.array(0);
    });
}

fn ping(session: &mut Session, desk: &mut Desk, args: Args) {
    match args.len() {
        1 => session.reply(desk, |out| out.simple("PONG")),
        2 => session.reply(desk, |out| out.bulk(args.at(1))),
        _ => session.error(desk, &wrong_number("ping")),
    }
}

fn reset(session: &mut Session, desk: &mut Desk) {
    session.version = Version::Resp2;
    session.replies = Replies::On;
    session.authenticated = desk.secret.is_none();
    if let Some(identity) = client::identity(session, desk) {
        identity.name.clear();
        identity.version = Version::Resp2;
    }
    session.reply(desk, |out| out.simple("RESET"));
}

fn select(session: &mut Session, desk: &mut Desk, args: Args) {
    match integer(args.at(1)) {
        Some(0) => session.reply(desk, |out| out.ok()),
        Some(_) => session.error(desk, "ERR DB index is out of range"),
        None => session.error(desk, NOT_AN_INTEGER),
    }
}

fn time(session: &mut Session, desk: &mut Desk) {
    let millis = desk.clock.0;
    session.reply(desk, |out| {
        out.array(2);
        out.bulk_integer((millis / 1000) as i64);
        out.bulk_integer((millis % 1000 * 1000) as i64);
    });
}

/// The connection's earlier writes are answered before this reply leaves, and an answer says that a majority has stored them: nothing
/// is left to wait for, and no time-out can make the number larger.
fn wait(session: &mut Session, desk: &mut Desk, args: Args) {
    match (integer(args.at(1)), integer(args.at(2))) {
        (Some(_), Some(timeout)) if timeout < 0 => session.error(desk, "ERR timeout is negative"),
        (Some(_), Some(_)) => {
            let copies = desk.view.replicas_of_a_write();
            session.reply(desk, |out| out.integer(copies));
        }
        (_, None) => session.error(desk, "ERR timeout is not an integer or out of range"),
        (None, _) => session.error(desk, NOT_AN_INTEGER),
    }
}

fn acl(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(1, "WHOAMI") && args.len() == 2 {
        return session.reply(desk, |out| out.bulk(b"default"));
    }
    other_subcommand(session, desk, args);
}

fn module(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(1, "LIST") && args.len() == 2 {
        return session.reply(desk, |out| out.array(0));
    }
    other_subcommand(session, desk, args);
}

fn latency(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(1, "LATEST") || args.is(1, "HISTORY") {
        session.reply(desk, |out| out.array(0));
    } else if args.is(1, "HISTOGRAM") {
        session.reply(desk, |out| out.map(0));
    } else if args.is(1, "RESET") {
        session.reply(desk, |out| out.integer(0));
    } else {
        other_subcommand(session, desk, args);
    }
}

fn slowlog(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.is(1, "GET") {
        session.reply(desk, |out| out.array(0));
    } else if args.is(1, "LEN") {
        session.reply(desk, |out| out.integer(0));
    } else if args.is(1, "RESET") {
        session.reply(desk, |out| out.ok());
    } else {
        other_subcommand(session, desk, args);
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
