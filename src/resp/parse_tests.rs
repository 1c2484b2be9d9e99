//! The parser against an oracle, against every cut, and against damage.

use super::*;
use crate::base::Prng;
use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

const LIMITS: Limits = Limits { args_max: 1024, bulk_bytes_max: 1 << 20, command_bytes_max: 1 << 21 };

/// All commands of a stream that comes in pieces of `sizes` bytes (the last size repeats), and the error that ended it.
fn commands(stream: &[u8], sizes: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<Error>) {
    let (mut parser, mut found, mut start, mut end) = (Parser::new(), Vec::new(), 0, 0);
    let mut sizes = sizes.iter().copied();
    let mut size = 1;
    while end < stream.len() {
        size = sizes.next().unwrap_or(size).max(1);
        end = (end + size).min(stream.len());
        loop {
            let bytes = &stream[start..end];
            match parser.parse(bytes, &LIMITS) {
                Ok(Parsed::Command { used }) => {
                    assert!(0 < used && used <= bytes.len());
                    if 0 < parser.count() {
                        found.push((0..parser.count()).map(|i| parser.arg(bytes, i).to_vec()).collect());
                    }
                    start += used;
                }
                Ok(Parsed::Partial { needed }) => {
                    assert!(bytes.len() < needed);
                    break;
                }
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn encoded(args: &[Vec<u8>]) -> Vec<u8> {
    let frame = OwnedFrame::Array(args.iter().cloned().map(OwnedFrame::BulkString).collect());
    let mut bytes = vec![0; frame.encode_len(false)];
    redis_protocol::resp2::encode::encode(&mut bytes, &frame, false).unwrap();
    bytes
}

/// What the oracle makes of a stream: the commands up to the first frame that is none.
fn by_oracle(mut stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while let Ok(Some((OwnedFrame::Array(parts), used))) = redis_protocol::resp2::decode::decode(stream) {
        let parts = parts.into_iter().map(|p| match p {
            OwnedFrame::BulkString(bytes) => Some(bytes),
            _ => None,
        });
        match parts.collect::<Option<Vec<_>>>() {
            Some(command) if command.is_empty() => {}
            Some(command) => found.push(command),
            None => break,
        }
        stream = &stream[used..];
    }
    found
}

fn inline(text: &str) -> Result<Vec<String>, Error> {
    match commands(text.as_bytes(), &[text.len()]) {
        (_, Some(error)) => Err(error),
        (found, None) => Ok(found.concat().into_iter().map(|a| String::from_utf8(a).unwrap()).collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_the_oracle_encodes_is_parsed_however_it_is_cut(
        sent in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 1..6),
        sizes in prop::collection::vec(1usize..50, 0..20),
    ) {
        let stream: Vec<u8> = sent.iter().flat_map(|c| encoded(c)).collect();
        prop_assert_eq!(commands(&stream, &sizes), (sent, None));
    }

    #[test]
    fn damage_is_survived_and_what_is_accepted_the_oracle_accepts(
        sent in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..5), 1..5),
        seed: u64,
    ) {
        let mut stream: Vec<u8> = sent.iter().flat_map(|c| encoded(c)).collect();
        let mut prng = Prng::from_seed(seed);
        for _ in 0..1 + prng.below(3) {
            mutate(&mut stream, &mut prng);
        }
        let (found, error) = commands(&stream, &[stream.len().max(1)]);
        prop_assert_eq!((&found, error), (&commands(&stream, &[1]).0, commands(&stream, &[1]).1));
        // The oracle knows no inline commands, so it may stop earlier; up to there both must agree.
        let expected = by_oracle(&stream);
        let common = expected.len().min(found.len());
        prop_assert_eq!(&found[..common], &expected[..common]);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1usize..9, 1..5)) {
        prop_assert_eq!(commands(&bytes, &sizes), commands(&bytes, &[bytes.len().max(1)]));
    }
}

fn mutate(bytes: &mut Vec<u8>, prng: &mut Prng) {
    const TELLING: &[u8] = b"*$\r\n-0123456789 '\"\\x\0\xff";
    let at = prng.below(bytes.len() as u64 + 1) as usize;
    let byte = TELLING[prng.below(TELLING.len() as u64) as usize];
    match prng.below(4) {
        0 => bytes.insert(at, byte),
        1 if at < bytes.len() => bytes[at] = byte,
        2 if at < bytes.len() => drop(bytes.remove(at)),
        _ => bytes.truncate(at),
    }
}

#[test]
fn bad_framing_has_redis_texts() {
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*-0\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1025\r\n", "invalid multibulk length"),
        (b"*1\r\n:5\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$1048577\r\n", "invalid bulk length"),
        (b"*1\r\n$1\r\nabc", "expected CRLF after a bulk string"),
        (b"GET \"a\r\n", "unbalanced quotes in request"),
        (b"GET 'a'b\r\n", "unbalanced quotes in request"),
    ];
    for (stream, text) in cases {
        for sizes in [[1], [stream.len()]] {
            let (found, error) = commands(stream, &sizes);
            assert_eq!(found.len(), 0);
            assert_eq!(error.unwrap().to_string(), format!("ERR Protocol error: {text}"));
        }
    }
}

#[test]
fn lines_and_commands_without_an_end_are_cut_off() {
    let endless = vec![b'a'; INLINE_BYTES_MAX + 1];
    assert_eq!(commands(&endless, &[1000]).1, Some(Error::InlineLength));
    let argument = vec![b'v'; 1 << 20];
    let long = encoded(&[argument.clone(), argument.clone(), argument]);
    assert_eq!(commands(&long, &[4096]).1, Some(Error::CommandLength(LIMITS.command_bytes_max)));
}

#[test]
fn empty_commands_are_passed_over() {
    let stream = b"*0\r\n*-1\r\n\r\n  \r\n\n*1\r\n$4\r\nPING\r\n";
    assert_eq!(commands(stream, &[stream.len()]), (vec![vec![b"PING".to_vec()]], None));
}

#[test]
fn inline_commands_follow_redis_quoting() {
    assert_eq!(inline("SET key  value\r\n").unwrap(), ["SET", "key", "value"]);
    assert_eq!(inline("\tSET \"a b\" 'c d'\n").unwrap(), ["SET", "a b", "c d"]);
    assert_eq!(
        inline("SET \"\\x41\\n\\\"\\q\\xzz\" 'it\\'s \\n'\n").unwrap(),
        ["SET", "A\n\"qxzz", "it's \\n"]
    );
    assert_eq!(inline("SET \"\" ''\n").unwrap(), ["SET", "", ""]);
    assert_eq!(inline("SET a\0b c\n").unwrap(), ["SET", "a"]);
}

#[test]
fn what_was_scanned_is_not_scanned_again() {
    let args: Vec<Vec<u8>> = (0..1000).map(|i| vec![b'x'; i % 200]).collect();
    let stream = encoded(&args);
    let mut parser = Parser::new();
    for cut in 1..stream.len() {
        assert!(matches!(parser.parse(&stream[..cut], &LIMITS), Ok(Parsed::Partial { .. })));
        if let Progress::Array { at, left } = parser.progress {
            // It goes on at the bulk string that is cut.
            assert_eq!(left + parser.count(), args.len());
            assert!(cut - at < 210);
        }
    }
    assert_eq!(parser.parse(&stream, &LIMITS), Ok(Parsed::Command { used: stream.len() }));
    assert_eq!(parser.args(&stream, 0).collect::<Vec<_>>(), args);
    assert!(matches!(parser.parse(b"PING", &LIMITS), Ok(Parsed::Partial { .. })));
    assert_eq!(parser.progress, Progress::Inline { scanned: 4 });
}
