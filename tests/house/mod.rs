//! The house rules, read off the sources: which way names may point, what no file may hold. Each rule is shown to be able to fail.

use std::path::{Path, PathBuf};

/// Files and functions may not grow beyond these.
const FILE_LINES_MAX: usize = 1000;
/// The longest functions there are may shrink, and no further one may join them.
const FUNCTION_LINES_MAX: usize = 110;

struct Source {
    /// From the package's root, such as `src/log/writer.rs`.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        self.path.strip_prefix("src/").and_then(|p| p.split(['/', '.']).next()).unwrap_or("")
    }
    /// Lines of code: no comments, and nothing from the first test module on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.path.contains("test") || self.path.contains("transcript");
        let lines = self.text.lines().enumerate().map(|(n, line)| (n + 1, line));
        lines
            .take_while(move |(_, line)| !tests && !line.starts_with("#[cfg(test)]"))
            .map(|(n, line)| (n, line.split("//").next().unwrap_or("")))
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of the package").flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    dirs.iter().map(|d| root.join(d)).filter(|d| d.is_dir()).for_each(|d| walk(&d, &mut paths));
    paths.retain(|p| p.extension().is_some_and(|e| e == "rs"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("sources are text");
        let path = path.strip_prefix(root).expect("below the root").display().to_string();
        Source { path, text }
    };
    paths.into_iter().map(read).collect()
}

/// Whether a line names `path` as a whole word.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !word(before) && !word(after)
    })
}

/// Every `(room, path)` where one of `rooms` names one of `paths`.
fn offences(sources: &[Source], rooms: &[&str], paths: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| rooms.contains(&s.room())) {
        for (number, line) in source.code() {
            found.extend(
                paths
                    .iter()
                    .filter(|p| names(line, p))
                    .map(|p| format!("{}:{number} names {p}", source.path)),
            );
        }
    }
    found
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

const PURE: [&str; 5] = ["protocol", "crypto", "wire", "resp", "store"];
const ROLES: [&str; 6] = ["replica", "auth", "net", "front", "log", "store"];

#[test]
fn pure_rooms_meet_no_world() {
    let world = [
        "std::net",
        "std::fs",
        "std::thread",
        "std::env",
        "std::process",
        "println!",
        "eprintln!",
        "SystemTime",
    ];
    let mut found = offences(&sources(&["src"]), &PURE, &world);
    // Agents are where a role meets the driver; what they drive is pure.
    let inner: Vec<Source> =
        sources(&["src"]).into_iter().filter(|s| !s.path.ends_with("/agent.rs")).collect();
    found.extend(offences(&inner, &PURE, &["crate::io", "crate::meter", "std::time::Instant"]));
    assert_none(found);
}

#[test]
fn order_that_reaches_replicated_state_is_never_random() {
    let rooms = ["protocol", "store", "wire", "replica"];
    assert_none(offences(&sources(&["src"]), &rooms, &["HashMap", "HashSet", "RandomState"]));
}

#[test]
fn log_and_net_carry_bytes_of_any_protocol_and_io_knows_no_frames() {
    let all = sources(&["src"]);
    assert_none(offences(&all, &["log", "net"], &["crate::protocol"]));
    assert_none(offences(&all, &["io"], &["crate::wire"]));
    assert_none(offences(&all, &["base"], &["crate::wire", "crate::io", "crate::protocol", "crate::config"]));
}

#[test]
fn roles_meet_only_in_the_wiring() {
    let all = sources(&["src"]);
    for role in ROLES {
        let others: Vec<String> =
            ROLES.iter().filter(|r| **r != role).map(|r| format!("crate::{r}")).collect();
        assert_none(offences(&all, &[role], &others.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

#[test]
fn only_the_top_names_the_composition_and_the_simulator() {
    let all = sources(&["src"]);
    let below = |allowed: &[&str]| -> Vec<&str> {
        let rooms = [
            "base", "config", "crypto", "resp", "wire", "protocol", "replica", "store", "io", "log", "meter",
        ];
        let upper = ["auth", "front", "net", "admin", "load", "node", "sim", "cli"];
        rooms.into_iter().chain(upper).filter(|r| !allowed.contains(r)).collect()
    };
    assert_none(offences(&all, &below(&["node", "cli", "sim"]), &["crate::node"]));
    assert_none(offences(&all, &below(&["sim", "cli"]), &["crate::sim"]));
}

#[test]
fn clocks_are_read_and_threads_sleep_only_at_the_edge() {
    let inner = [
        "base", "config", "crypto", "resp", "wire", "protocol", "replica", "store", "log", "auth", "front",
        "net",
    ];
    let clocks = ["Instant::now", "SystemTime::now", "thread::sleep", "thread_rng"];
    assert_none(offences(&sources(&["src"]), &inner, &clocks));
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let all = sources(&["src"]);
    let found =
        all.iter().filter(|s| s.room() != "io" && !s.path.starts_with("src/base/")).flat_map(|source| {
            let lines = source.code().filter(|(_, line)| names(line, "unsafe") && !line.contains("unsafe_"));
            lines.map(|(n, _)| format!("{}:{n} is unsafe", source.path)).collect::<Vec<_>>()
        });
    assert_none(found.collect());
}

#[test]
fn files_and_functions_stay_small() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let lines = source.text.lines().count();
        if FILE_LINES_MAX < lines {
            found.push(format!(
                "{} has {lines} lines, at most {FILE_LINES_MAX}; split it by concern",
                source.path
            ));
        }
        let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
        found.extend(long_functions(&source.path, &code));
    }
    assert_none(found);
}

/// A function ends where a brace closes at its own indentation: the formatter sees to that.
fn long_functions(path: &str, code: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (start, line) in code.iter().enumerate().filter(|(_, line)| names(line, "fn") && line.contains('(')) {
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let Some(length) = code[start..]
            .iter()
            .position(|l| l.trim_end() == closing || l.trim_end().ends_with(" }") && l == line)
        else {
            continue;
        };
        if FUNCTION_LINES_MAX < length {
            found.push(format!(
                "{path}:{} is a function of {length} lines, at most {FUNCTION_LINES_MAX}",
                start + 1
            ));
        }
    }
    found
}

#[test]
fn nothing_is_left_open_or_tied_to_one_machine() {
    let this = file!();
    let forbidden = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "allow(dead_code", "/work/", "/root/"];
    let found =
        sources(&["src", "tests", "benches"]).into_iter().filter(|s| s.path != this).flat_map(|source| {
            let lines = source.text.lines().enumerate();
            lines
                .flat_map(|(n, line)| {
                    forbidden.iter().filter(move |f| line.contains(**f)).map(move |f| (n + 1, f))
                })
                .map(|(n, f)| format!("{}:{n} holds {f}", source.path))
                .collect::<Vec<_>>()
        });
    assert_none(found.collect());
}

#[test]
fn each_rule_can_fail() {
    let bad = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let log = [bad("src/log/a.rs", "use crate::protocol::Outbox;\n")];
    assert_eq!(offences(&log, &["log"], &["crate::protocol"]).len(), 1);
    let comment = [bad("src/log/a.rs", "// crate::protocol\n#[cfg(test)]\nuse crate::protocol;\n")];
    assert!(offences(&comment, &["log"], &["crate::protocol"]).is_empty(), "comments and tests may");
    assert!(names("let x = HashMap::new();", "HashMap") && !names("MyHashMap", "HashMap"));
    let long: Vec<String> = std::iter::once("fn f() {".to_string())
        .chain((0..FUNCTION_LINES_MAX + 1).map(|i| format!("    g({i});")))
        .chain(["}".to_string()])
        .collect();
    let lines: Vec<&str> = long.iter().map(String::as_str).collect();
    assert_eq!(long_functions("a", &lines).len(), 1);
    assert!(long_functions("a", &lines[..3]).is_empty());
}
