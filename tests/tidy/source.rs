//! What the rules look at: files without comments, strings and tests, and the paths that they name.

use std::path::{Path, PathBuf};

/// A file of the tree.
#[derive(Clone)]
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// As written.
    pub text: String,
    /// Without comments, contents of strings, and unit tests. Lines keep their numbers.
    pub code: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        let code = if path.ends_with(".rs") { without_tests(&blank(text)) } else { String::new() };
        File { path: path.to_owned(), text: text.to_owned(), code }
    }
    /// `src/ROOM/..`, for files of a room that are no tests.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let is_test =
            inside.contains("/tests/") || inside.ends_with("tests.rs") || inside.ends_with("testing.rs");
        let (room, _) = inside.split_once('/')?;
        (!is_test).then_some(room)
    }
    /// Every path that the code names, whole: `use a::{b, c::d}` is `a::b` and `a::c::d`.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = self.code.as_str();
        while let Some(at) = rest.find("use ") {
            let begins = at == 0 || rest[..at].ends_with(|c: char| c.is_whitespace());
            rest = &rest[at + 4..];
            if let (true, Some(end)) = (begins, rest.find(';')) {
                expand("", &rest[..end], &mut names);
            }
        }
        for root in ["std::", "core::", "crate::", "quorate::"] {
            for (at, _) in self.code.match_indices(root) {
                let tail = &self.code[at..];
                let end =
                    tail.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tail.len());
                // A tree in braces was taken apart above.
                if !tail[end..].starts_with('{') {
                    names.push(tail[..end].trim_end_matches(':').to_owned());
                }
            }
        }
        names
    }
    /// The first line of the code with `what` in it.
    pub fn line_of(&self, what: &str) -> Option<usize> {
        self.code.lines().position(|line| line.contains(what)).map(|place| place + 1)
    }
}

/// Adds what a use tree names.
fn expand(prefix: &str, tree: &str, names: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        names.push(format!("{prefix}{name}"));
        return;
    };
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let prefix = format!("{prefix}{}", &tree[..open]);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..at], names);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        expand(&prefix, &inner[start..], names);
    }
}

/// Spaces for comments and for what stands in strings and character literals.
fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let end = skipped(&letters, at);
        if end == at {
            out.push(letters[at]);
            at += 1;
        } else {
            letters[at..end].iter().for_each(|c| out.push(if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment, string or character literal that begins at `at` ends; `at` when none does.
fn skipped(letters: &[char], at: usize) -> usize {
    let next = |place: usize| letters.get(place).copied().unwrap_or('\0');
    let line = |from: usize| (from..letters.len()).find(|i| letters[*i] == '\n').unwrap_or(letters.len());
    let raw = |from: usize| {
        let hashes = (from..letters.len()).take_while(|i| letters[*i] == '#').count();
        let is_raw = next(from + hashes) == '"';
        let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        let body = from + hashes + 1;
        is_raw.then(|| {
            (body..letters.len())
                .find(|i| letters[*i..].starts_with(&close))
                .map_or(letters.len(), |i| i + close.len())
        })
    };
    let word_before = 0 < at && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
    match (letters[at], next(at + 1)) {
        ('/', '/') => line(at),
        ('/', '*') => (at + 2..letters.len())
            .find(|i| letters[*i - 1] == '/' && letters[*i - 2] == '*' && at + 3 < *i)
            .unwrap_or(letters.len()),
        ('r', '"' | '#') if !word_before => raw(at + 1).unwrap_or(at),
        ('b', 'r') if !word_before => raw(at + 2).unwrap_or(at),
        ('"', _) => closed(letters, at + 1, '"'),
        ('\'', '\\') => closed(letters, at + 1, '\''),
        ('\'', _) if next(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

/// Behind the next `quote` that no backslash escapes.
fn closed(letters: &[char], mut at: usize, quote: char) -> usize {
    while at < letters.len() && letters[at] != quote {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(letters.len())
}

/// Blanks what `#[cfg(test)]` guards: the item that follows it, to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(at) = out.find("#[cfg(test)]") {
        let tail = &out[at..];
        let (open, semicolon) = (tail.find('{').unwrap_or(tail.len()), tail.find(';').unwrap_or(tail.len()));
        let end = if semicolon < open { semicolon + 1 } else { block_end(tail, open) };
        let blanked: String = tail[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out = format!("{}{blanked}{}", &out[..at], &tail[end..]);
    }
    out
}

/// Behind the brace that closes the one at `open`.
pub fn block_end(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, letter) in text[open..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files that people wrote.
pub fn tree() -> Vec<File> {
    let mut files = Vec::new();
    for top in ["src", "tests", "benches", "docs", "scripts", "tuning", ".ci", "README.md", "Cargo.toml"] {
        collect(&root().join(top), &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(path: &Path, files: &mut Vec<File>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if let Ok(text) = std::fs::read_to_string(path) {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        files.push(File::new(&name, &text));
    }
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "// std::fs\n/* std::net */ let a = \"std::env\\\"\"; let r = r#\"unsafe \" \"#; let c = '\"';\nfn f<'a>() {}\n\
                #[cfg(test)]\nmod tests { fn g() { std::fs::x(); } }\nlet after = 1;";
    let file = File::new("src/wire/x.rs", text);
    for gone in ["std::", "unsafe"] {
        assert!(!file.code.contains(gone), "{gone}: {}", file.code);
    }
    assert!(file.code.contains("fn f<'a>() {}") && file.code.contains("let after"), "{}", file.code);
    assert_eq!(file.code.lines().count(), text.lines().count());
}

#[test]
fn use_trees_are_named_whole() {
    let file = File::new(
        "src/a/b.rs",
        "use std::{fs, time::{Duration, Instant as I}};\nfn f() { crate::io::clock::now() }",
    );
    for name in ["std::fs", "std::time::Duration", "std::time::Instant", "crate::io::clock::now"] {
        assert!(file.names().iter().any(|n| n == name), "{name}: {:?}", file.names());
    }
}
