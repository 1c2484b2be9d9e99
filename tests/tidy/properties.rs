//! A checker that cannot fail holds nothing: of each property of the simulator it is shown that its checker tells when it does not hold,
//! by a canary (`tests/canaries/table.rs`) or by a test beside it that hands it a history that breaks the property (`violates`).

use super::source::{File, root, tree};
use super::{hold, tells_apart};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// The properties that are shown to be told.
fn shown() -> &'static BTreeSet<String> {
    static SHOWN: OnceLock<BTreeSet<String>> = OnceLock::new();
    SHOWN.get_or_init(|| {
        let canaries = std::fs::read_to_string(root().join("tests/canaries/table.rs")).unwrap();
        // Every string of the table: those of properties are among them, of several with " or " between them.
        let strings = canaries.split('"').skip(1).step_by(2).flat_map(|text| text.split(" or "));
        let mut shown: BTreeSet<String> = strings.map(str::to_owned).collect();
        for file in tree().iter().filter(|file| file.path.starts_with("src/sim/")) {
            let calls = file.text.split("violates(").skip(1);
            shown.extend(
                calls.filter_map(|call| {
                    Some(call.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())
                }),
            );
        }
        shown
    })
}

/// What stands first in the parentheses of every `hold!` and `fail` of the code: a constant's name, or nothing where it is a text.
fn names_of(code: &str) -> Vec<String> {
    let dense: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for word in ["hold!(", "fail("] {
        for (at, _) in dense.match_indices(word) {
            if !dense[..at].ends_with(|c| is_word(c) || c == '.') && !dense[..at].ends_with("fn ") {
                names.push(
                    dense[at + word.len()..].trim_start().split(|c| !is_word(c)).next().unwrap().to_owned(),
                );
            }
        }
    }
    names
}

fn every_property_is_shown_to_be_told(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/sim/") || file.path == "src/sim/violation.rs" {
        return Vec::new();
    }
    let wrong = |constant: String| {
        let value = file.text.split_once(&format!("const {constant}: &str = \"")).map(|(_, rest)| rest);
        match value.and_then(|rest| rest.split('"').next()) {
            None => Some(format!("{}: name the property {constant:?} by a constant of this file", file.path)),
            Some(property) if shown().contains(property) => None,
            Some(property) => Some(format!(
                "{}: nothing shows that `{property}` is told when it does not hold; break it in a unit test with `violates`",
                file.path
            )),
        }
    };
    names_of(&file.code).into_iter().filter_map(wrong).collect()
}

#[test]
fn every_checker_is_shown_to_fail() {
    let (known, unknown) = ("const P: &str = \"one-vote\";", "const P: &str = \"no such property\";");
    let look = "fn f() { hold!(\n P, is(), \"\") }";
    tells_apart(
        every_property_is_shown_to_be_told,
        "src/sim/x.rs",
        &format!("{unknown} {look}"),
        &format!("{known} {look}"),
    );
    tells_apart(
        every_property_is_shown_to_be_told,
        "src/sim/x.rs",
        "fn f() { fail(\"one-vote\", format_args!(\"\")) }",
        &format!("{known} fn f() {{ fail(P, format_args!(\"\")) }}"),
    );
    hold(every_property_is_shown_to_be_told);
}
