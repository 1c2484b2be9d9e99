//! Which room may name what.

use super::source::File;
use super::{hold, tells_apart};

/// Rooms that are told everything: no clock, no file, no thread.
const PURE: &[&str] = &["protocol", "crypto", "wire", "resp", "store"];
/// The store's agent stands between the store, which is pure, and the rings and drivers of its core.
const AGENT_OF_A_PURE_ROOM: &str = "src/store/agent.rs";
/// Rooms that meet only in `node`, through values of `wire::hop`.
const ROLES: &[&str] = &["front", "auth", "net", "log", "store", "replica"];
/// Rooms that may read clocks and wait: they meet the kernel, or are no part of the data plane.
const CLOCKS: &[&str] = &["io", "admin", "load", "cli", "node"];

/// Whether `name` is `path` or lies inside it.
fn within(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Complaints about each name of `file` that `forbidden` says no to.
fn names(file: &File, forbidden: impl Fn(&str) -> bool, why: &str) -> Vec<String> {
    let bad = file.names().into_iter().filter(|name| forbidden(name));
    bad.map(|name| format!("{}: names {name}; {why}", file.path)).collect()
}

fn pure_rooms_are_told_everything(file: &File) -> Vec<String> {
    if !file.room().is_some_and(|room| PURE.contains(&room)) || file.path == AGENT_OF_A_PURE_ROOM {
        return Vec::new();
    }
    let forbidden = |name: &str| {
        let outside = ["time", "net", "fs", "thread", "env", "process", "sync"].map(|m| format!("std::{m}"));
        // A span is a number, and memory that is shared and never changed is a value.
        let is_value = within(name, "std::time::Duration") || within(name, "std::sync::Arc");
        (outside.iter().any(|m| within(name, m)) && !is_value)
            || within(name, "crate::io")
            || within(name, "crate::meter")
    };
    let mut wrong = names(file, forbidden, "a pure room is told what it must know");
    for line in ["println!", "print!", "dbg!"] {
        if file.code.contains(line) {
            wrong.push(format!("{}: writes lines ({line}); counts and answers are values", file.path));
        }
    }
    wrong
}

#[test]
fn rule_1_pure_rooms_name_no_clock_file_thread_or_log_line() {
    tells_apart(
        pure_rooms_are_told_everything,
        "src/wire/x.rs",
        "use std::time::{Duration, Instant};",
        "use std::time::{Duration};",
    );
    tells_apart(
        pure_rooms_are_told_everything,
        "src/protocol/x.rs",
        "use std::{fs, fmt};",
        "use std::{fmt};",
    );
    tells_apart(
        pure_rooms_are_told_everything,
        "src/store/x.rs",
        "use std::sync::{Arc, Mutex};",
        "use std::sync::Arc;",
    );
    tells_apart(pure_rooms_are_told_everything, "src/resp/x.rs", "fn f() { println!() }", "fn f() {}");
    tells_apart(pure_rooms_are_told_everything, "src/store/x.rs", "use crate::io::Driver;", "// crate::io");
    hold(pure_rooms_are_told_everything);
}

fn no_random_order(file: &File) -> Vec<String> {
    let replicated = |room| PURE.contains(&room) || room == "replica";
    if !file.room().is_some_and(replicated) {
        return Vec::new();
    }
    let random = ["HashMap", "HashSet"].map(|map| format!("std::collections::{map}"));
    let forbidden = |name: &str| random.iter().any(|r| within(name, r)) || name.ends_with("RandomState");
    names(file, forbidden, "its order differs between replicas; use BTreeMap, or a hasher with a fixed key")
}

#[test]
fn rule_2_nothing_randomly_ordered_reaches_replicated_state() {
    tells_apart(
        no_random_order,
        "src/store/x.rs",
        "use std::collections::{HashMap};",
        "use std::collections::BTreeMap;",
    );
    hold(no_random_order);
}

fn bytes_know_no_protocol(file: &File) -> Vec<String> {
    match file.room() {
        Some("log" | "net") => names(
            file,
            |n| within(n, "crate::protocol"),
            "a record and a frame are bytes with a group and a kind",
        ),
        _ => Vec::new(),
    }
}

#[test]
fn rule_3_log_and_net_do_not_name_protocol() {
    tells_apart(
        bytes_know_no_protocol,
        "src/log/x.rs",
        "use crate::protocol::Input;",
        "use crate::wire::Entry;",
    );
    hold(bytes_know_no_protocol);
}

fn the_kernel_knows_no_message(file: &File) -> Vec<String> {
    match file.room() {
        Some("io") => {
            names(file, |n| within(n, "crate::wire"), "io knows descriptors, offsets, buffers and tokens")
        }
        _ => Vec::new(),
    }
}

#[test]
fn rule_4_io_does_not_name_wire() {
    tells_apart(
        the_kernel_knows_no_message,
        "src/io/x.rs",
        "fn f() { crate::wire::frame() }",
        "use crate::base::Body;",
    );
    hold(the_kernel_knows_no_message);
}

fn the_ground_stands_alone(file: &File) -> Vec<String> {
    let others =
        ["config", "wire", "resp", "protocol", "io", "store", "log", "net", "front", "auth", "admin", "load"];
    match file.room() {
        Some("base") => names(
            file,
            |n| others.iter().any(|o| within(n, &format!("crate::{o}"))),
            "every room stands on base",
        ),
        _ => Vec::new(),
    }
}

#[test]
fn base_names_no_other_room() {
    tells_apart(the_ground_stands_alone, "src/base/x.rs", "use crate::wire::Entry;", "use super::Slot;");
    hold(the_ground_stands_alone);
}

fn roles_do_not_meet(file: &File) -> Vec<String> {
    let Some(room) = file.room().filter(|room| ROLES.contains(room)) else { return Vec::new() };
    let other =
        |name: &str| ROLES.iter().any(|role| *role != room && within(name, &format!("crate::{role}")));
    names(file, other, "roles meet only in node, through values of wire::hop")
}

#[test]
fn rule_5_roles_do_not_name_each_other() {
    tells_apart(roles_do_not_meet, "src/front/x.rs", "use crate::store::Store;", "use crate::front::take;");
    hold(roles_do_not_meet);
}

fn the_whole_is_named_by_few(file: &File) -> Vec<String> {
    let Some(room) = file.room() else { return Vec::new() };
    let mut wrong = Vec::new();
    if !["sim", "cli"].contains(&room) {
        wrong.extend(names(
            file,
            |n| within(n, "crate::sim"),
            "only tests, benches and cli name the simulator",
        ));
    }
    if !["node", "cli", "sim"].contains(&room) {
        wrong.extend(names(
            file,
            |n| within(n, "crate::node"),
            "only main, cli and sim name the composition",
        ));
    }
    wrong
}

#[test]
fn rule_6_few_name_the_simulator_or_the_composition() {
    tells_apart(the_whole_is_named_by_few, "src/log/x.rs", "use crate::node::run;", "use crate::log::Log;");
    tells_apart(
        the_whole_is_named_by_few,
        "src/node/x.rs",
        "use crate::sim::World;",
        "use crate::node::run;",
    );
    hold(the_whole_is_named_by_few);
}

fn time_is_passed_in(file: &File) -> Vec<String> {
    if file.room().is_none_or(|room| CLOCKS.contains(&room)) {
        return Vec::new();
    }
    let clocks = ["Instant::now", "SystemTime", "thread_rng", "thread::sleep", "rand::rng", "getrandom"];
    let found = clocks.iter().filter_map(|clock| Some((clock, file.line_of(clock)?)));
    found
        .map(|(clock, line)| format!("{}:{line}: {clock}; time and randomness are passed in", file.path))
        .collect()
}

#[test]
fn rule_7_time_and_randomness_are_passed_in() {
    tells_apart(
        time_is_passed_in,
        "src/replica/x.rs",
        "let now = Instant::now();",
        "let now = driver.now();",
    );
    tells_apart(time_is_passed_in, "src/front/x.rs", "fn f() { std::thread::sleep(d) }", "// SystemTime");
    hold(time_is_passed_in);
}

fn unsafe_has_its_rooms(file: &File) -> Vec<String> {
    let allowed = file.path == "src/base/ring.rs" || file.path.starts_with("src/io/");
    if allowed || !file.path.starts_with("src/") {
        return Vec::new();
    }
    let found = ["unsafe {", "unsafe fn", "unsafe impl"].iter().filter_map(|word| file.line_of(word));
    found.map(|line| format!("{}:{line}: unsafe; only base/ring and io may", file.path)).collect()
}

#[test]
fn rule_8_unsafe_stays_in_two_places() {
    tells_apart(
        unsafe_has_its_rooms,
        "src/wire/x.rs",
        "fn f() { unsafe { g() } }",
        "fn f() { g(\"unsafe {\") }",
    );
    hold(unsafe_has_its_rooms);
}
