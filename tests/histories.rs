//! The checker of histories against recorded histories with known verdicts, and its exit codes.
//!
//! The recorded ones are not part of this repository: `QUORATE_HISTORIES` names the folder that holds them and `verdicts.tsv`.

use quorate::sim::history::search::Unlimited;
use quorate::sim::history::{self, Verdict, formats};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn verdict(path: &Path) -> Verdict {
    let file = BufReader::new(std::fs::File::open(path).unwrap());
    let (history, _) = formats::read(file, None, &mut |_| ()).unwrap();
    let report = history::check(&history, None, &mut Unlimited).unwrap();
    let fails = report.verdict == Verdict::NotLinearizable;
    assert_eq!(fails, !report.offences.is_empty(), "{}: a failure has a core", path.display());
    assert!(report.offences.iter().all(|o| !o.core.is_empty()), "{}", path.display());
    report.verdict
}

#[test]
fn recorded_histories_get_their_known_verdicts() {
    let Some(folder) = std::env::var_os("QUORATE_HISTORIES").map(PathBuf::from) else {
        println!("QUORATE_HISTORIES is not set: no recorded histories are checked");
        return;
    };
    let table = std::fs::read_to_string(folder.join("verdicts.tsv")).unwrap();
    let (mut good, mut bad) = (0, 0);
    for line in table.lines().skip(1) {
        let (file, linearizable) = line.split_once('\t').unwrap();
        let linearizable: bool = linearizable.trim().parse().unwrap();
        let expected = if linearizable { Verdict::Linearizable } else { Verdict::NotLinearizable };
        assert_eq!(verdict(&folder.join(file)), expected, "{file}");
        *(if linearizable { &mut good } else { &mut bad }) += 1;
    }
    println!("{good} linearizable and {bad} other histories were judged right");
    assert!(good > 0 && bad > 0, "verdicts of both kinds: {good} and {bad}");
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);
impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        // A folder left behind is no reason to hide why a test failed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn check(file: &Path, more: &[&str]) -> (Option<i32>, Output) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(["check", "history"]).arg(file).args(more).output().unwrap();
    (output.status.code(), output)
}

const GOOD: &str = r#"{"client":1,"key":"k","op":"write","args":["v"],"start":1,"end":5}
{"client":2,"key":"k","op":"read","result":null,"start":2,"end":3}
"#;
const BAD: &str = r#"{"client":2,"key":"k","op":"read","result":null,"start":6,"end":7}
"#;

#[test]
fn exit_codes_and_json_tell_the_verdict() {
    let folder = Folder::new("verdicts");
    let good = folder.file("good.jsonl", GOOD);
    let bad = folder.file("bad.jsonl", &format!("{GOOD}{BAD}"));
    let json = |output: &Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    let (code, output) = check(&good, &["-o", "json"]);
    assert_eq!((code, &json(&output)["linearizable"]), (Some(0), &true.into()));
    let page = folder.0.join("page.html");
    let (code, output) = check(&bad, &["-o", "json", "--html", page.to_str().unwrap()]);
    let value = json(&output);
    assert_eq!((code, &value["linearizable"], &value["failed"][0]), (Some(7), &false.into(), &"k".into()));
    assert_eq!(value["offending"][0]["operations"][0]["line"], 3);
    assert!(std::fs::read_to_string(page).unwrap().contains("<svg"));
    for (name, text, expected) in [("empty", "", 1), ("odd", "{\"client\":1}", 1)] {
        assert_eq!(check(&folder.file(name, text), &[]).0, Some(expected), "{name}");
    }
    assert_eq!(check(&folder.0.join("none"), &[]).0, Some(6));
    let (code, output) = check(&good, &["--model", "hash"]);
    assert_eq!(code, Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the model hash has no write"));
}

/// Thirty additions at once whose sum is none that a subset has: no search comes to an end of that within a second.
#[test]
fn what_takes_too_long_is_undecided() {
    let folder = Folder::new("undecided");
    let mut text = Vec::new();
    for n in 0..30u64 {
        let by = 3u64.pow(n as u32);
        writeln!(text, r#"{{"client":{n},"op":"add","args":[{by}],"start":{n},"end":100}}"#).unwrap();
    }
    writeln!(text, r#"{{"client":99,"op":"read","result":-1,"start":200,"end":201}}"#).unwrap();
    let file = folder.file("hard.jsonl", std::str::from_utf8(&text).unwrap());
    let (code, output) = check(&file, &["--timeout", "1", "--memory", "16"]);
    assert_eq!(code, Some(8), "{}", String::from_utf8_lossy(&output.stderr));
}
