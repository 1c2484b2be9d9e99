//! Replies that are long.

use super::support::{OPTIONS, call, command, entry_after};
use crate::base::Stamp;
use crate::base::bounds::SMALL_MAX;
use crate::config::limits::{BATCH_REPLIES_MAX, REPLY_BYTES_MAX};
use crate::store::{Extent, Replies, Store};

const VALUE_BYTES: usize = 1 << 20;

/// A store with a long string `long`, and a hash `wide` whose whole would be too long a reply.
fn store() -> Store {
    let mut store = Store::new(OPTIONS);
    let long = vec![b'v'; VALUE_BYTES];
    let mut body = Vec::new();
    command(&mut body, 0, &[b"SET".to_vec(), b"long".to_vec(), long.clone()]);
    for field in 0..REPLY_BYTES_MAX / VALUE_BYTES {
        let name = field.to_string().into_bytes();
        command(&mut body, 0, &[b"HSET".to_vec(), b"wide".to_vec(), name, long.clone()]);
    }
    let entry = entry_after(&store, Stamp(1), body);
    store.apply(&entry, None);
    store
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// The replies to a batch, by the beginning of each.
fn beginnings(replies: &Replies) -> Vec<String> {
    let mut start = 0;
    let ends = replies.ends.iter().map(|end| {
        let reply = &replies.bytes[start..*end as usize];
        start = *end as usize;
        String::from_utf8_lossy(&reply[..reply.len().min(14)]).into_owned()
    });
    ends.collect()
}

#[test]
fn a_reply_that_is_too_long_for_itself_is_an_error_and_the_others_of_its_batch_are_made() {
    let mut store = store();
    let (mut body, mut replies) = (Vec::new(), Replies::default());
    for line in ["GET long", "HGETALL wide", "GET long", "HLEN wide"] {
        command(&mut body, 0, &words(line));
    }
    store.read(&body, &mut replies);
    let found = beginnings(&replies);
    assert_eq!(found[0], "$1048576\r\nvvvv");
    assert!(found[1].starts_with("-ERR the reply"), "{found:?}");
    assert_eq!((&found[2], &found[3]), (&found[0], &":32\r\n".to_string()));
}

/// What took effect is never told as if it had not, whatever becomes of its reply.
#[test]
fn beyond_the_bound_of_a_batch_reads_are_to_be_asked_again_and_writes_say_that_they_took_effect() {
    let mut store = store();
    let mut body = Vec::new();
    let fitting = BATCH_REPLIES_MAX / VALUE_BYTES - 1;
    for _ in 0..fitting {
        command(&mut body, 0, &words("GETEX long"));
    }
    for line in ["GET long", "INCR n", "SET long 1 GET", "GET long", "GETDEL long", "GET n"] {
        command(&mut body, 0, &words(line));
    }
    let (entry, mut replies) = (entry_after(&store, Stamp(2), body), Replies::default());
    store.apply(&entry, Some(&mut replies));
    assert!(replies.bytes.len() <= BATCH_REPLIES_MAX + 4096);
    let found = beginnings(&replies);
    assert!(found[..fitting].iter().all(|reply| reply.starts_with("$1048576")));
    let expected =
        ["-TRYAGAIN the ", ":1\r\n", "-INDETERMINATE", "$1\r\n1\r\n", "$1\r\n1\r\n", "$1\r\n1\r\n"];
    assert_eq!(found[fitting..], expected);
}

/// What is no longer there makes no reply look long.
#[test]
fn the_extent_and_the_bounds_of_keys_fall_when_what_was_large_goes() {
    let mut store = Store::new(OPTIONS);
    let bounds = OPTIONS.bounds();
    let mut at = 0;
    let mut say = |store: &mut Store, words: &[Vec<u8>]| {
        at += 1;
        call(store, Stamp(at), 0, words);
        store.check();
    };
    let of = |key: &str| bounds.of(bounds.hash(key.as_bytes()).expect("it can be hashed")).string.bytes_max();
    let set = |key: &str, bytes: usize| vec![b"SET".to_vec(), key.as_bytes().to_vec(), vec![b'v'; bytes]];
    say(&mut store, &set("early", 5000));
    store.publish(bounds.clone());
    for key in 0..1000 {
        say(&mut store, &set(&key.to_string(), 100));
    }
    for goes in ["DEL long", "SET long 1", "FLUSHALL"] {
        say(&mut store, &set("long", VALUE_BYTES));
        assert_eq!(store.extent().string, VALUE_BYTES as u64 + 4);
        assert!((VALUE_BYTES as u64 + 4..VALUE_BYTES as u64 * 5 / 4 + 5).contains(&of("long")));
        let others = (0..1000).filter(|key| of(&key.to_string()) == SMALL_MAX).count();
        assert!(950 < others, "{others}");
        assert!((5005..=6144).contains(&of("early")), "{}", of("early"));
        say(&mut store, &words(goes));
        assert_eq!(of("long"), SMALL_MAX, "{goes}");
        assert!(store.extent().string <= 6144, "{goes}");
        if goes == "FLUSHALL" {
            assert_eq!((of("early"), store.extent()), (SMALL_MAX, Extent::default()));
        }
    }
}

#[test]
fn the_extent_covers_what_is_stored_and_is_forgotten_with_it() {
    let mut store = store();
    let extent = store.extent();
    assert_eq!((extent.key, extent.string), (4, VALUE_BYTES as u64 + 4));
    assert!(REPLY_BYTES_MAX as u64 <= extent.record && extent.record < 2 * REPLY_BYTES_MAX as u64);
    let mut body = Vec::new();
    command(&mut body, 0, &words("FLUSHALL"));
    let entry = entry_after(&store, Stamp(2), body);
    store.apply(&entry, None);
    assert_eq!(store.extent(), Default::default());
}
