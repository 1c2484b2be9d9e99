//! COMMAND: what the table of commands tells clients.

use super::local::{compose, other_subcommand};
use super::session::{Args, Desk, Session, wrong_number};
use crate::resp::command::{Command, Flags, Keys};
use crate::resp::reply::Writer;
use crate::resp::table::{self, COMMANDS};

pub(super) fn answer(session: &mut Session, desk: &mut Desk, args: Args) {
    if args.len() == 1 {
        compose(session, desk, |_, out| all(out));
    } else if args.is(1, "COUNT") || args.is(1, "LIST") {
        if args.len() != 2 {
            let name = if args.is(1, "COUNT") { "command|count" } else { "command|list" };
            return session.error(desk, &wrong_number(name));
        }
        compose(session, desk, |_, out| {
            if args.is(1, "COUNT") { out.integer(COMMANDS.len() as i64) } else { names(out) }
        });
    } else if args.is(1, "INFO") {
        compose(session, desk, |_, out| if args.len() == 2 { all(out) } else { some(args, out) });
    } else if args.is(1, "DOCS") {
        compose(session, desk, |_, out| docs(args, out));
    } else {
        other_subcommand(session, desk, args);
    }
}

fn all(out: &mut Writer) {
    out.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| row(command, out));
}

fn some(args: Args, out: &mut Writer) {
    out.array(args.len() - 2);
    for name in args.from(2) {
        match table::find(name) {
            Some(command) => row(command, out),
            None => out.null_array(),
        }
    }
}

fn names(out: &mut Writer) {
    out.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| out.bulk(command.name.as_bytes()));
}

/// A command's ten elements, of which tips, key specifications and subcommands are left empty.
fn row(command: &Command, out: &mut Writer) {
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(i64::from(command.arity));
    let flags = Flags::NAMES.iter().filter(|(flag, _)| command.flags.has(*flag));
    out.set(flags.clone().count());
    flags.for_each(|(_, name)| out.simple(name));
    let Keys { first, last, step } = command.keys;
    [first, last, step].into_iter().for_each(|place| out.integer(i64::from(place)));
    out.set(1);
    out.simple(&format!("@{}", command.group.name()));
    (0..3).for_each(|_| out.array(0));
}

/// A name that is not known is left out.
fn docs(args: Args, out: &mut Writer) {
    let chosen: Vec<&Command> = match args.len() {
        2 => COMMANDS.iter().collect(),
        _ => args.from(2).filter_map(table::find).collect(),
    };
    out.map(chosen.len());
    for command in chosen {
        out.bulk(command.name.as_bytes());
        out.map(3);
        for (key, value) in
            [("summary", command.summary), ("since", command.since), ("group", command.group.name())]
        {
            out.bulk(key.as_bytes());
            out.bulk(value.as_bytes());
        }
    }
}
