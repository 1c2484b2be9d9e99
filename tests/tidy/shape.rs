//! How long things may be, and what no file may contain.

use super::source::{File, block_end};
use super::{hold, tells_apart};

/// Lines of a file.
const FILE_LINES_MAX: usize = 1000;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that are longer, with their lines. The list only shrinks: who shortens one lowers or removes its row.
const LONGER: &[(&str, &str, usize)] = &[
    // The list of all rings of a node, in the order of the picture: shorter pieces would hide what is connected to what.
    ("src/node/wiring.rs", "wire", 83),
];

fn files_are_about_one_thing(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if !file.path.ends_with(".rs") || lines < FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines; stop below {FILE_LINES_MAX}, and cut by concern", file.path)]
}

#[test]
fn files_stay_below_a_thousand_lines() {
    tells_apart(files_are_about_one_thing, "src/x/y.rs", &"//\n".repeat(1000), &"//\n".repeat(999));
    hold(files_are_about_one_thing);
}

/// Name and lines of every function of the code, without its unit tests.
fn functions(file: &File) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in file.code.match_indices("fn ") {
        let begins = at == 0 || file.code[..at].ends_with(|c: char| c.is_whitespace() || c == '(');
        let tail = &file.code[at..];
        let (open, semicolon) = (tail.find('{'), tail.find(';').unwrap_or(tail.len()));
        let Some(open) = open.filter(|open| begins && *open < semicolon) else { continue };
        let name: String = tail[3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.push((name, tail[..block_end(tail, open)].lines().count()));
    }
    found
}

fn functions_are_short(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let allowed = |name: &str| {
        LONGER
            .iter()
            .find(|(path, long, _)| *path == file.path && *long == name)
            .map_or(FUNCTION_LINES_MAX, |row| row.2)
    };
    let long = functions(file).into_iter().filter(|(name, lines)| allowed(name) < *lines);
    long.map(|(name, lines)| {
        format!("{}: fn {name} has {lines} lines, at most {}", file.path, allowed(&name))
    })
    .collect()
}

#[test]
fn functions_stay_within_seventy_lines() {
    let function = |lines: usize| format!("pub fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    tells_apart(functions_are_short, "src/x/y.rs", &function(71), &function(70));
    hold(functions_are_short);
}

#[test]
fn the_list_of_longer_functions_only_shrinks() {
    let tree = super::tree();
    for (path, name, lines) in LONGER {
        let file = tree
            .iter()
            .find(|file| file.path == *path)
            .unwrap_or_else(|| panic!("{path} is gone: remove its row"));
        let found =
            functions(file).into_iter().find(|(found, _)| found == name).map_or(0, |(_, lines)| lines);
        assert_eq!(found, *lines, "{path}: fn {name} has changed: lower or remove its row");
    }
}

/// This room quotes what it forbids.
fn is_quoting(file: &File) -> bool {
    file.path.starts_with("tests/tidy/")
}

fn nothing_is_left_undone(file: &File) -> Vec<String> {
    if is_quoting(file) || !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let words = ["todo!", "unimplemented!", "#[ignore", "allow(dead_code)", "allow(unused", "FIXME", "XXX"];
    let found = words.iter().filter(|word| file.text.contains(**word));
    found.map(|word| format!("{}: {word}; finish it or leave it out", file.path)).collect()
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    tells_apart(nothing_is_left_undone, "src/x/y.rs", "fn f() { todo!() }", "fn f() {}");
    tells_apart(nothing_is_left_undone, "tests/x.rs", "#[test]\n#[ignore]\nfn f() {}", "#[test]\nfn f() {}");
    hold(nothing_is_left_undone);
}

fn no_machine_is_named(file: &File) -> Vec<String> {
    if is_quoting(file) {
        return Vec::new();
    }
    let places = ["/work/", "/root/", "/home/", "/Users/"];
    let found = places.iter().filter(|place| file.text.contains(**place));
    found.map(|place| format!("{}: names {place}, which is on one machine only", file.path)).collect()
}

#[test]
fn no_path_of_one_machine_is_named() {
    tells_apart(no_machine_is_named, "scripts/x", "cd /home/me", "cd \"$(dirname \"$0\")\"");
    hold(no_machine_is_named);
}

fn rooms_say_what_they_are(file: &File) -> Vec<String> {
    match file.path.ends_with(".rs") && !file.text.starts_with("//! ") {
        true => vec![format!("{}: begins without saying what it is (`//! ..`)", file.path)],
        false => Vec::new(),
    }
}

#[test]
fn every_file_begins_with_what_it_is() {
    tells_apart(rooms_say_what_they_are, "src/x/y.rs", "fn f() {}", "//! F.\nfn f() {}");
    hold(rooms_say_what_they_are);
}
