//! Documents say what is so: commands, settings, files and words that they name exist.

use super::source::{File, root};
use super::{hold, tells_apart, tree};
use clap::CommandFactory;
use quorate::config::knobs;
use std::collections::BTreeSet;

fn is_document(file: &File) -> bool {
    file.path.ends_with(".md") || file.path.starts_with("scripts/") || file.path.starts_with("tuning/")
}

/// Words and marks that may follow `quorate` where no command is meant.
fn subcommands() -> BTreeSet<String> {
    let command = quorate::cli::Cli::command();
    command.get_subcommands().map(|c| c.get_name().to_owned()).chain(["help".into()]).collect()
}

/// Code in a document: what stands between backticks, and lines of blocks. Text of scripts is all code.
fn code_of(file: &File) -> Vec<&str> {
    if !file.path.ends_with(".md") {
        return file.text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    }
    let mut inside = false;
    let mut code = Vec::new();
    for line in file.text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            code.push(line);
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

fn commands_exist(file: &File) -> Vec<String> {
    if !is_document(file) {
        return Vec::new();
    }
    let known = subcommands();
    let mut wrong = Vec::new();
    for line in code_of(file) {
        let line = line.split('#').next().unwrap_or_default();
        for lead in ["quorate ", "cargo run --release -- "] {
            let Some(rest) =
                line.strip_prefix(lead).or_else(|| line.split_once(&format!(" {lead}")).map(|p| p.1))
            else {
                continue;
            };
            let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if !word.is_empty()
                && !word.starts_with('-')
                && rest[word.len()..].starts_with([' ', '\0']) | (rest == word)
                && !known.contains(&word)
            {
                wrong.push(format!("{}: `{}`: there is no command {word}", file.path, line.trim()));
            }
        }
    }
    wrong
}

#[test]
fn documented_commands_exist() {
    tells_apart(
        commands_exist,
        "README.md",
        "Say `quorate strat --config F`.",
        "Say `quorate start --config F`.",
    );
    tells_apart(
        commands_exist,
        "README.md",
        "```\ncargo run --release -- benhc\n```",
        "```\ncargo run --release -- bench\n```",
    );
    hold(commands_exist);
}

fn settings_exist(file: &File) -> Vec<String> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let sections: BTreeSet<&str> = knobs::KNOBS.iter().filter_map(|k| k.key.split('.').next()).collect();
    let mut wrong = Vec::new();
    for code in code_of(file) {
        for word in code.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c)))
        {
            let Some((section, key)) = word.split_once('.') else { continue };
            // A word like `raft.rs` is a file; `election.rs` is no section.
            let is_file = ["rs", "toml", "md", "txt", "key", "token", "json", "html", "log"].contains(&key);
            if sections.contains(section)
                && !key.is_empty()
                && !is_file
                && knobs::find(word).is_none()
                && word != knobs::MEMBERS_KEY
                && word != knobs::CLIENTS_KEY
                && word != knobs::JOINED_KEY
            {
                wrong.push(format!("{}: there is no setting {word}", file.path));
            }
        }
    }
    wrong
}

#[test]
fn documented_settings_exist() {
    tells_apart(
        settings_exist,
        "docs/X.md",
        "Set `raft.heart_beat`.",
        "Set `raft.heartbeat`, see `raft.rs`.",
    );
    hold(settings_exist);
}

fn files_exist(file: &File) -> Vec<String> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for code in code_of(file) {
        for word in code.split(|c: char| !(c.is_ascii_alphanumeric() || "/._-@*".contains(c))) {
            let of_tree = ["src/", "tests/", "docs/", "scripts/", "benches/", "tuning/"]
                .iter()
                .any(|top| word.starts_with(top));
            if of_tree
                && !word.contains(['*'])
                && !word.contains("NAME")
                && !root().join(word.trim_end_matches('.')).exists()
            {
                wrong.push(format!("{}: there is no {word}", file.path));
            }
        }
    }
    wrong
}

#[test]
fn documented_files_exist() {
    tells_apart(
        files_exist,
        "docs/X.md",
        "See `src/base/rang.rs`.",
        "See `src/base/ring.rs`, `tests/scenario/NAME.txt`.",
    );
    hold(files_exist);
}

/// The words that a glossary explains: the first cells of its tables.
fn terms(text: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" |").next()).filter(|cell| !["word", "---"].contains(cell));
    let words = cells.flat_map(|cell| cell.split([',', '/']));
    words
        .map(|w| w.split('(').next().unwrap_or_default().trim().trim_matches('`').to_lowercase())
        .filter(|w| !w.is_empty())
        .collect()
}

/// Terms of `glossary` that nobody says, whatever the ending.
fn unused(glossary: &str, elsewhere: &str) -> Vec<String> {
    terms(glossary).into_iter().filter(|term| !elsewhere.contains(term.as_str())).collect()
}

#[test]
fn every_word_of_the_glossary_is_used_and_has_one_meaning() {
    assert_eq!(
        unused("| word | means |\n|---|---|\n| slot | x |\n| flurb (a) | y |\n", "a slot is"),
        ["flurb"]
    );
    let tree = tree();
    let glossary = &tree.iter().find(|f| f.path == "docs/GLOSSARY.md").unwrap().text;
    let others = tree.iter().filter(|f| f.path != "docs/GLOSSARY.md");
    let said: String = others.map(|f| f.text.to_lowercase()).collect();
    assert_eq!(unused(glossary, &said), Vec::<String>::new(), "words of the glossary that nothing uses");
    let mut seen = BTreeSet::new();
    let rows = glossary
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|cell| *cell != "word");
    let twice: Vec<&str> = rows.filter(|cell| !seen.insert(*cell)).collect();
    assert_eq!(twice, Vec::<&str>::new(), "words with two rows");
}

#[test]
fn the_readme_lists_every_exit_code_and_every_command() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for (exit, meaning) in quorate::cli::Exit::ALL {
        let code = *exit as u8;
        assert!(
            readme.contains(&format!("| {code} | {meaning}")),
            "README.md does not say: {code} {meaning}"
        );
    }
    let command = quorate::cli::Cli::command();
    for shown in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = shown.get_name();
        // In the table of commands: `start --config F`, `bench`, `check history FILE`, or beside another: `version`.
        let mut cells = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let names = |cell: &str| {
            let parts = cell.split('`').step_by(2);
            parts.flat_map(|part| part.split(' ').next()).any(|first| first == name)
        };
        assert!(cells.any(names), "README.md has no row for `quorate {name}`");
    }
}

#[test]
fn every_file_of_tests_is_part_of_the_one_binary() {
    let list = std::fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for file in tree() {
        let Some(name) = file.path.strip_prefix("tests/").and_then(|p| p.strip_suffix(".rs")) else {
            continue;
        };
        if !name.contains('/') && name != "main" {
            assert!(
                list.contains(&format!("mod {name};")),
                "tests/main.rs does not name {name}: its tests never run"
            );
        }
    }
}
