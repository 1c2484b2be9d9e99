//! The house rules (`docs/ARCHITECTURE.md`), held by reading the tree. Each rule is a function from one file to what is wrong with it,
//! and comes with a piece of bad code that it must find: a rule that cannot fail holds nothing.

mod documents;
mod names;
mod properties;
mod shape;
mod source;

use source::{File, tree};

/// One rule.
type Rule = fn(&File) -> Vec<String>;

/// Holds `rule` over the whole tree.
fn hold(rule: Rule) {
    let wrong: Vec<String> = tree().iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `rule` finds something wrong with `bad`, and nothing with `good`, were they in the file `path`.
fn tells_apart(rule: Rule, path: &str, bad: &str, good: &str) {
    assert!(!rule(&File::new(path, bad)).is_empty(), "{path} passes with `{bad}`");
    assert_eq!(rule(&File::new(path, good)), Vec::<String>::new(), "{path} with `{good}`");
}
