//! The store against redis-server, where it is installed: the same commands, the same replies. Without it there is nothing to compare
//! with, and the conversations that `cargo test --lib store` holds the store against, which were made by redis-server 7.0, stand alone.

use quorate::base::{Body, GROUP_ONE, NodeId, Origin, Prng, Stamp, Term};
use quorate::resp::{Op, batch};
use quorate::store::{HashKey, Options, Replies, Store};
use quorate::wire::{Entry, EntryKind};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

#[path = "../src/store/transcript.rs"]
mod transcript;

use transcript::{Line, parse, render, words};

/// A redis-server of our own, ended when dropped.
struct Redis {
    process: Child,
    directory: PathBuf,
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Redis {
    /// `None` when it is not installed.
    fn start(name: &str) -> Option<Redis> {
        let directory = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("socket");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--proto-max-bulk-len", "2mb", "--unixsocket"])
            .arg(&socket);
        command.arg("--dir").arg(&directory).stdout(Stdio::piped());
        let Ok(mut process) = command.spawn() else {
            eprintln!("no redis-server on PATH: nothing to compare with");
            std::fs::remove_dir_all(&directory).unwrap();
            return None;
        };
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("eady to accept connections")), "it ended early");
        // It goes on writing its log: somebody must read it.
        std::thread::spawn(move || lines.count());
        let stream = UnixStream::connect(&socket).unwrap();
        Some(Redis { process, directory, stream, unread: Vec::new() })
    }

    fn call(&mut self, words: &[Vec<u8>]) -> String {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&request).unwrap();
        loop {
            if let Some((text, rest)) = render(&self.unread) {
                self.unread = rest.to_vec();
                return text;
            }
            let mut chunk = [0; 65536];
            let len = self.stream.read(&mut chunk).unwrap();
            assert!(0 < len, "redis-server has gone");
            self.unread.extend_from_slice(&chunk[..len]);
        }
    }
    fn begin(&mut self, resp3: bool) {
        self.call(&words(if resp3 { "HELLO 3" } else { "HELLO 2" }));
        self.call(&words("FLUSHALL"));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// Our store, spoken to like a server.
struct Ours {
    store: Store,
    flags: u8,
}

impl Ours {
    fn begin(resp3: bool) -> Ours {
        let options = Options { group: GROUP_ONE, key: HashKey::derive(b"a cluster"), bucket_bits: 6 };
        Ours { store: Store::new(options), flags: if resp3 { batch::FLAG_RESP3 } else { 0 } }
    }
    fn call(&mut self, words: &[Vec<u8>]) -> String {
        let name = String::from_utf8(words[0].to_ascii_uppercase()).unwrap();
        let op = *Op::ALL.iter().find(|op| op.name() == name).unwrap();
        let mut body = Vec::new();
        batch::write(&mut body, op, self.flags, words[1..].iter().map(|w| &w[..]));
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let slot = self.store.applied().next();
        let entry = Entry {
            term: Term(1),
            slot,
            stamp: Stamp(millis),
            kind: EntryKind::Batch,
            origin: Origin { node: NodeId(1), lane: 0, boot: 1 },
            sequence: slot.0,
            floor: slot.0,
            body: Body::new(body.into()),
        };
        let mut replies = Replies::default();
        self.store.apply(&entry, Some(&mut replies));
        render(&replies.bytes).expect("a whole reply").0
    }
}

#[test]
fn the_conversations_are_what_redis_says() {
    let Some(mut redis) = Redis::start("conversations") else { return };
    for text in [
        include_str!("../src/store/transcripts/strings.txt"),
        include_str!("../src/store/transcripts/keys.txt"),
        include_str!("../src/store/transcripts/hashes.txt"),
    ] {
        redis.begin(false);
        for line in parse(text) {
            match line {
                Line::Reset => drop(redis.call(&words("FLUSHALL"))),
                Line::Resp3(on) => drop(redis.call(&words(if on { "HELLO 3" } else { "HELLO 2" }))),
                Line::Clock(millis) => panic!("real time is not ours to set to {millis}"),
                Line::Call(words, expected) => assert_eq!(redis.call(&words), expected, "{}", shown(&words)),
            }
        }
    }
}

#[test]
fn random_commands_get_the_replies_of_redis() {
    let Some(mut redis) = Redis::start("random") else { return };
    for seed in 0..60 {
        let mut prng = Prng::from_seed(seed);
        let resp3 = seed % 2 == 1;
        redis.begin(resp3);
        let mut ours = Ours::begin(resp3);
        let mut said = Vec::new();
        for _ in 0..400 {
            let words = random_command(&mut prng);
            said.push(shown(&words));
            let (theirs, ours) = (redis.call(&words), ours.call(&words));
            let history = || said[said.len().saturating_sub(30)..].join("\n");
            assert_eq!(comparable(&words, ours), comparable(&words, theirs), "seed {seed}\n{}", history());
        }
    }
}

fn shown(words: &[Vec<u8>]) -> String {
    let word = |w: &Vec<u8>| {
        if w.len() < 60 { String::from_utf8_lossy(w).into_owned() } else { format!("({} B)", w.len()) }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What two servers on two clocks, with two orders of keys, must agree on.
fn comparable(words: &[Vec<u8>], reply: String) -> String {
    let name = words[0].to_ascii_uppercase();
    match (&name[..], reply.as_bytes()) {
        (b"TTL" | b"PTTL", [b':', b'0'..=b'9', ..]) => ":left".to_string(),
        (b"SCAN", [b'[', ..]) => {
            let words = reply.split_whitespace().map(|word| word.trim_matches(['[', ']']));
            let mut keys: Vec<_> = words.collect();
            keys.sort_unstable();
            keys.join(" ")
        }
        _ => reply,
    }
}

fn pick<'a>(prng: &mut Prng, from: &[&'a str]) -> &'a str {
    from[prng.below(from.len() as u64) as usize]
}

const KEYS: &[&str] = &["a", "b", "c", "d", "e", "h1", "h2", "h3"];
const FIELDS: &[&str] = &["f", "g", "h", "i", "j", "k", "", "1"];
const VALUES: &[&str] = &[
    "",
    "x",
    "text",
    "0",
    "1",
    "-1",
    "42",
    "9223372036854775807",
    "-9223372036854775808",
    "3.5",
    " 7",
    "007",
    "\r\n",
    "-0",
];
const OPTIONS: &[&str] = &[
    "NX", "xx", "GET", "KEEPTTL", "PERSIST", "EX", "PX", "EXAT", "GT", "LT", "100000", "0", "MATCH", "COUNT",
];

/// A word that may stand anywhere.
fn any_word(prng: &mut Prng) -> String {
    let pool = [KEYS, FIELDS, VALUES, OPTIONS][prng.below(4) as usize];
    pick(prng, pool).to_string()
}

fn random_command(prng: &mut Prng) -> Vec<Vec<u8>> {
    // What depends on chance, or on how soon an expired key leaves memory, cannot be compared.
    let ops: Vec<_> =
        Op::ALL.iter().filter(|op| !matches!(op, Op::Randomkey | Op::Dbsize | Op::Flushall)).collect();
    let op = *ops[prng.below(ops.len() as u64) as usize];
    let mut words = vec![op.name().to_string()];
    let shape = match op {
        Op::Set => "kvo",
        Op::Append | Op::Incrby | Op::Decrby => "kv",
        Op::Getrange => "knn",
        Op::Setrange => "knv",
        Op::Getex => "ko",
        Op::Mget | Op::Del | Op::Unlink | Op::Exists => "kkk",
        Op::Mset | Op::Msetnx => "kvkv",
        Op::Expire | Op::Pexpire | Op::Expireat => "kdo",
        Op::Hset => "hfvfv",
        Op::Hsetnx | Op::Hincrby => "hfv",
        Op::Hget | Op::Hexists => "hf",
        Op::Hmget | Op::Hdel => "hff",
        Op::Hscan => "h0",
        Op::Scan => "0s",
        Op::Hgetall | Op::Hkeys | Op::Hvals | Op::Hlen => "h",
        _ => "k",
    };
    for kind in shape.chars() {
        let number = || (-3..12i64).map(|n| n.to_string());
        match kind {
            'k' => words.push(pick(prng, KEYS).into()),
            // Mostly hashes. Redis keeps the order of fields while values have at most 64 bytes.
            'h' if prng.chance(1, 10) => words.push(pick(prng, KEYS).into()),
            'h' => words.push(pick(prng, &KEYS[5..]).into()),
            'f' => words.push(pick(prng, FIELDS).into()),
            'v' if prng.chance(1, 8) => words.push("long ".repeat(prng.below(13) as usize)),
            'v' => words.push(pick(prng, VALUES).into()),
            'n' => words.push(number().nth(prng.below(15) as usize).unwrap_or_default()),
            'd' => words.push(pick(prng, &["100000", "200000", "5000000000", "0", "-5"]).into()),
            'o' => (0..prng.below(3)).for_each(|_| words.push(pick(prng, OPTIONS).into())),
            '0' => words.push("0".into()),
            's' => words.extend(
                ["COUNT", "100000", "MATCH", pick(prng, &["*", "?", "[a-d]", "h*"])].map(String::from),
            ),
            _ => unreachable!("shapes are made of these letters"),
        }
    }
    if prng.chance(1, 8) {
        match prng.below(3) {
            0 => words.push(any_word(prng)),
            1 if 1 < words.len() => drop(words.pop()),
            _ => {
                let at = 1 + prng.below(words.len() as u64) as usize;
                let word = any_word(prng);
                if at < words.len() { words[at] = word } else { words.push(word) }
            }
        }
    }
    for word in words.iter_mut().skip(1) {
        // A deadline that is near would be a race between two clocks.
        let near = word.parse::<u64>().is_ok_and(|number| (1..1000).contains(&number));
        if near && matches!(op, Op::Set | Op::Getex | Op::Expire | Op::Pexpire) {
            *word = "100000".to_string();
        }
    }
    words.into_iter().map(String::into_bytes).collect()
}
