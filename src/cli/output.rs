//! What commands print: for people as aligned columns, for programs as JSON (`-o json`).

use serde_json::Value;
use std::io::Write;

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

impl Output {
    /// Prints a result that has both forms.
    pub fn print(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        match self {
            Output::Text => put(text().trim_end()),
            Output::Json => put(&json().to_string()),
        }
    }
}

/// Prints a line. A closed pipe (`| head`) is no error of ours.
pub fn put(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Columns as wide as their widest cell, two spaces apart.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let rows = [vec!["node".into(), "address".into()], vec!["10".into(), "x".into()]];
        assert_eq!(columns(&rows), "node  address\n10    x\n");
        assert_eq!(columns(&[]), "");
    }
}
