//! The table of all commands, and the way into it.

use super::command::{Command, Flags, Group, Keys, Kind, Local, Op};

const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
const ONE: Keys = Keys { first: 1, last: 1, step: 1 };
const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };

/// All commands, in no order that counts.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "get",
        kind: Kind::Data(Op::Get),
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "1.0.0",
        summary: "Returns the string value of a key.",
    },
    Command {
        name: "set",
        kind: Kind::Data(Op::Set),
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: ONE,
        group: Group::String,
        since: "1.0.0",
        summary: "Sets the string value of a key, whatever it held before.",
    },
    Command {
        name: "append",
        kind: Kind::Data(Op::Append),
        arity: 3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "2.0.0",
        summary: "Appends a string to the value of a key.",
    },
    Command {
        name: "strlen",
        kind: Kind::Data(Op::Strlen),
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "2.2.0",
        summary: "Returns the length of a string value.",
    },
    Command {
        name: "getrange",
        kind: Kind::Data(Op::Getrange),
        arity: 4,
        flags: Flags::READONLY,
        keys: ONE,
        group: Group::String,
        since: "2.4.0",
        summary: "Returns a part of a string value.",
    },
    Command {
        name: "setrange",
        kind: Kind::Data(Op::Setrange),
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: ONE,
        group: Group::String,
        since: "2.2.0",
        summary: "Overwrites a part of a string value from an offset on.",
    },
    Command {
        name: "getdel",
        kind: Kind::Data(Op::Getdel),
        arity: 2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "6.2.0",
        summary: "Returns the string value of a key and deletes the key.",
    },
    Command {
        name: "getex",
        kind: Kind::Data(Op::Getex),
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "6.2.0",
        summary: "Returns the string value of a key and sets its expiry.",
    },
    Command {
        name: "mget",
        kind: Kind::Data(Op::Mget),
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ALL,
        group: Group::String,
        since: "1.0.0",
        summary: "Returns the string values of keys.",
    },
    Command {
        name: "mset",
        kind: Kind::Data(Op::Mset),
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: PAIRS,
        group: Group::String,
        since: "1.0.1",
        summary: "Sets the string values of keys.",
    },
    Command {
        name: "msetnx",
        kind: Kind::Data(Op::Msetnx),
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: PAIRS,
        group: Group::String,
        since: "1.0.1",
        summary: "Sets the string values of keys if none of them exists.",
    },
    Command {
        name: "incr",
        kind: Kind::Data(Op::Incr),
        arity: 2,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "1.0.0",
        summary: "Adds one to the integer value of a key.",
    },
    Command {
        name: "incrby",
        kind: Kind::Data(Op::Incrby),
        arity: 3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "1.0.0",
        summary: "Adds a number to the integer value of a key.",
    },
    Command {
        name: "decr",
        kind: Kind::Data(Op::Decr),
        arity: 2,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "1.0.0",
        summary: "Subtracts one from the integer value of a key.",
    },
    Command {
        name: "decrby",
        kind: Kind::Data(Op::Decrby),
        arity: 3,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::String,
        since: "1.0.0",
        summary: "Subtracts a number from the integer value of a key.",
    },
    Command {
        name: "del",
        kind: Kind::Data(Op::Del),
        arity: -2,
        flags: Flags::WRITE,
        keys: ALL,
        group: Group::Generic,
        since: "1.0.0",
        summary: "Deletes keys.",
    },
    Command {
        name: "unlink",
        kind: Kind::Data(Op::Unlink),
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ALL,
        group: Group::Generic,
        since: "4.0.0",
        summary: "Deletes keys.",
    },
    Command {
        name: "exists",
        kind: Kind::Data(Op::Exists),
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ALL,
        group: Group::Generic,
        since: "1.0.0",
        summary: "Tells how many of the keys exist.",
    },
    Command {
        name: "type",
        kind: Kind::Data(Op::Type),
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "1.0.0",
        summary: "Tells the type of the value of a key.",
    },
    Command {
        name: "expire",
        kind: Kind::Data(Op::Expire),
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "1.0.0",
        summary: "Sets the expiry of a key in seconds from now.",
    },
    Command {
        name: "pexpire",
        kind: Kind::Data(Op::Pexpire),
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "2.6.0",
        summary: "Sets the expiry of a key in milliseconds from now.",
    },
    Command {
        name: "expireat",
        kind: Kind::Data(Op::Expireat),
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "1.2.0",
        summary: "Sets the expiry of a key as a Unix time in seconds.",
    },
    Command {
        name: "ttl",
        kind: Kind::Data(Op::Ttl),
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "1.0.0",
        summary: "Returns the seconds until a key expires.",
    },
    Command {
        name: "pttl",
        kind: Kind::Data(Op::Pttl),
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "2.6.0",
        summary: "Returns the milliseconds until a key expires.",
    },
    Command {
        name: "persist",
        kind: Kind::Data(Op::Persist),
        arity: 2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::Generic,
        since: "2.2.0",
        summary: "Takes the expiry from a key.",
    },
    Command {
        name: "scan",
        kind: Kind::Data(Op::Scan),
        arity: -2,
        flags: Flags::READONLY,
        keys: NONE,
        group: Group::Generic,
        since: "2.8.0",
        summary: "Iterates over the keys.",
    },
    Command {
        name: "randomkey",
        kind: Kind::Data(Op::Randomkey),
        arity: 1,
        flags: Flags::READONLY,
        keys: NONE,
        group: Group::Generic,
        since: "1.0.0",
        summary: "Returns some key.",
    },
    Command {
        name: "dbsize",
        kind: Kind::Data(Op::Dbsize),
        arity: 1,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: NONE,
        group: Group::Server,
        since: "1.0.0",
        summary: "Returns the number of keys.",
    },
    Command {
        name: "flushall",
        kind: Kind::Data(Op::Flushall),
        arity: -1,
        flags: Flags::WRITE,
        keys: NONE,
        group: Group::Server,
        since: "1.0.0",
        summary: "Removes all keys.",
    },
    Command {
        name: "hset",
        kind: Kind::Data(Op::Hset),
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets fields of a hash.",
    },
    Command {
        name: "hsetnx",
        kind: Kind::Data(Op::Hsetnx),
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets a field of a hash if it does not exist.",
    },
    Command {
        name: "hget",
        kind: Kind::Data(Op::Hget),
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns the value of a field of a hash.",
    },
    Command {
        name: "hmget",
        kind: Kind::Data(Op::Hmget),
        arity: -3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns the values of fields of a hash.",
    },
    Command {
        name: "hgetall",
        kind: Kind::Data(Op::Hgetall),
        arity: 2,
        flags: Flags::READONLY,
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns all fields of a hash with their values.",
    },
    Command {
        name: "hdel",
        kind: Kind::Data(Op::Hdel),
        arity: -3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Deletes fields of a hash.",
    },
    Command {
        name: "hexists",
        kind: Kind::Data(Op::Hexists),
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Tells whether a field of a hash exists.",
    },
    Command {
        name: "hkeys",
        kind: Kind::Data(Op::Hkeys),
        arity: 2,
        flags: Flags::READONLY,
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns all fields of a hash.",
    },
    Command {
        name: "hvals",
        kind: Kind::Data(Op::Hvals),
        arity: 2,
        flags: Flags::READONLY,
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns all values of a hash.",
    },
    Command {
        name: "hlen",
        kind: Kind::Data(Op::Hlen),
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns the number of fields of a hash.",
    },
    Command {
        name: "hincrby",
        kind: Kind::Data(Op::Hincrby),
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: ONE,
        group: Group::Hash,
        since: "2.0.0",
        summary: "Adds a number to the integer value of a field of a hash.",
    },
    Command {
        name: "hscan",
        kind: Kind::Data(Op::Hscan),
        arity: -3,
        flags: Flags::READONLY,
        keys: ONE,
        group: Group::Hash,
        since: "2.8.0",
        summary: "Iterates over the fields of a hash.",
    },
    Command {
        name: "acl",
        kind: Kind::Local(Local::Acl),
        arity: -2,
        flags: Flags::LOADING.and(Flags::ADMIN),
        keys: NONE,
        group: Group::Server,
        since: "6.0.0",
        summary: "Tells who the client is.",
    },
    Command {
        name: "auth",
        kind: Kind::Local(Local::Auth),
        arity: -2,
        flags: Flags::LOADING.and(Flags::NO_AUTH).and(Flags::FAST),
        keys: NONE,
        group: Group::Connection,
        since: "1.0.0",
        summary: "Authenticates the connection.",
    },
    Command {
        name: "client",
        kind: Kind::Local(Local::Client),
        arity: -2,
        flags: Flags::LOADING,
        keys: NONE,
        group: Group::Connection,
        since: "2.4.0",
        summary: "Tells about connections, and sets what this one is called and sent.",
    },
    Command {
        name: "cluster",
        kind: Kind::Local(Local::Cluster),
        arity: -2,
        flags: Flags::LOADING,
        keys: NONE,
        group: Group::Cluster,
        since: "3.0.0",
        summary: "Tells about the nodes and the hash slots.",
    },
    Command {
        name: "command",
        kind: Kind::Local(Local::Command),
        arity: -1,
        flags: Flags::LOADING,
        keys: NONE,
        group: Group::Server,
        since: "2.8.13",
        summary: "Tells about the commands.",
    },
    Command {
        name: "config",
        kind: Kind::Local(Local::Config),
        arity: -2,
        flags: Flags::LOADING.and(Flags::ADMIN),
        keys: NONE,
        group: Group::Server,
        since: "2.0.0",
        summary: "Tells the settings that clients ask for.",
    },
    Command {
        name: "echo",
        kind: Kind::Local(Local::Echo),
        arity: 2,
        flags: Flags::LOADING.and(Flags::FAST),
        keys: NONE,
        group: Group::Connection,
        since: "1.0.0",
        summary: "Returns its argument.",
    },
    Command {
        name: "hello",
        kind: Kind::Local(Local::Hello),
        arity: -1,
        flags: Flags::LOADING.and(Flags::NO_AUTH).and(Flags::FAST),
        keys: NONE,
        group: Group::Connection,
        since: "6.0.0",
        summary: "Shakes hands: version of the protocol, authentication, name.",
    },
    Command {
        name: "info",
        kind: Kind::Local(Local::Info),
        arity: -1,
        flags: Flags::LOADING,
        keys: NONE,
        group: Group::Server,
        since: "1.0.0",
        summary: "Returns facts and figures of the server.",
    },
    Command {
        name: "latency",
        kind: Kind::Local(Local::Latency),
        arity: -2,
        flags: Flags::LOADING.and(Flags::ADMIN),
        keys: NONE,
        group: Group::Server,
        since: "2.8.13",
        summary: "Answers as a server that has seen no spike.",
    },
    Command {
        name: "module",
        kind: Kind::Local(Local::Module),
        arity: -2,
        flags: Flags::LOADING.and(Flags::ADMIN),
        keys: NONE,
        group: Group::Server,
        since: "4.0.0",
        summary: "Lists no modules.",
    },
    Command {
        name: "ping",
        kind: Kind::Local(Local::Ping),
        arity: -1,
        flags: Flags::FAST,
        keys: NONE,
        group: Group::Connection,
        since: "1.0.0",
        summary: "Returns PONG, or its argument.",
    },
    Command {
        name: "quit",
        kind: Kind::Local(Local::Quit),
        arity: -1,
        flags: Flags::LOADING.and(Flags::NO_AUTH).and(Flags::FAST),
        keys: NONE,
        group: Group::Connection,
        since: "1.0.0",
        summary: "Closes the connection when what it asked before is answered.",
    },
    Command {
        name: "readonly",
        kind: Kind::Local(Local::Readonly),
        arity: 1,
        flags: Flags::LOADING.and(Flags::FAST),
        keys: NONE,
        group: Group::Cluster,
        since: "3.0.0",
        summary: "Accepted: every node answers every read, and no read is stale.",
    },
    Command {
        name: "readwrite",
        kind: Kind::Local(Local::Readwrite),
        arity: 1,
        flags: Flags::LOADING.and(Flags::FAST),
        keys: NONE,
        group: Group::Cluster,
        since: "3.0.0",
        summary: "Accepted: every node answers every command.",
    },
    Command {
        name: "reset",
        kind: Kind::Local(Local::Reset),
        arity: 1,
        flags: Flags::LOADING.and(Flags::NO_AUTH).and(Flags::FAST),
        keys: NONE,
        group: Group::Connection,
        since: "6.2.0",
        summary: "Puts the connection into the state of a new one.",
    },
    Command {
        name: "role",
        kind: Kind::Local(Local::Role),
        arity: 1,
        flags: Flags::LOADING.and(Flags::FAST),
        keys: NONE,
        group: Group::Server,
        since: "2.8.12",
        summary: "Tells whether this node leads.",
    },
    Command {
        name: "select",
        kind: Kind::Local(Local::Select),
        arity: 2,
        flags: Flags::LOADING.and(Flags::FAST),
        keys: NONE,
        group: Group::Connection,
        since: "1.0.0",
        summary: "Accepts database 0.",
    },
    Command {
        name: "slowlog",
        kind: Kind::Local(Local::Slowlog),
        arity: -2,
        flags: Flags::LOADING.and(Flags::ADMIN),
        keys: NONE,
        group: Group::Server,
        since: "2.2.12",
        summary: "Answers as a server that has seen no slow command.",
    },
    Command {
        name: "time",
        kind: Kind::Local(Local::Time),
        arity: 1,
        flags: Flags::LOADING.and(Flags::FAST),
        keys: NONE,
        group: Group::Server,
        since: "2.6.0",
        summary: "Returns the wall-clock time of this node.",
    },
    Command {
        name: "wait",
        kind: Kind::Local(Local::Wait),
        arity: 3,
        flags: Flags(0),
        keys: NONE,
        group: Group::Generic,
        since: "3.0.0",
        summary: "Returns how many other nodes have made the connection's earlier writes durable.",
    },
];

/// Names that Redis knows and this server does not carry out, so that the error can say so.
static UNSUPPORTED: &str = "\
    asking bgrewriteaof bgsave bitcount bitfield bitop bitpos blmove blpop brpop bzpopmax bzpopmin copy \
    debug discard dump eval evalsha exec expiretime failover fcall flushdb function geoadd geosearch \
    getbit getset hincrbyfloat hmset hrandfield hstrlen incrbyfloat keys lastsave lindex linsert llen \
    lmove lpop lpush lrange lrem lset ltrim memory migrate monitor move multi object pexpireat \
    pexpiretime pfadd pfcount pfmerge psetex psubscribe psync publish pubsub punsubscribe rename \
    renamenx replicaof restore rpop rpush sadd save scard script setbit setex setnx shutdown sinter \
    sismember slaveof smembers sort spop spublish srem sscan ssubscribe subscribe substr sunion swapdb \
    sync touch unsubscribe unwatch waitaof watch xadd xgroup xlen xrange xread xreadgroup zadd zcard \
    zincrby zrange zrangebyscore zrank zrem zscan zscore";

/// Whether Redis knows a command of this name that this server does not carry out. Searches; for errors.
pub fn is_unsupported(name: &[u8]) -> bool {
    UNSUPPORTED.split(' ').any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// A name as two words that differ for different names of the same length. All letters are made capital by clearing a bit; that maps
/// other bytes too, but never to a letter, and the table's names are letters only.
#[inline]
const fn words(name: &[u8]) -> (u64, u64) {
    const CAPITALS: u64 = 0xDFDF_DFDF_DFDF_DFDF;
    // Two loads that overlap cover any length up to sixteen without a loop.
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (u64::from_le_bytes(*first) & CAPITALS, u64::from_le_bytes(*last) & CAPITALS)
    } else if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        let word = u32::from_le_bytes(*first) as u64 | (u32::from_le_bytes(*last) as u64) << 32;
        (word & CAPITALS, 0)
    } else if name.is_empty() {
        (0, 0)
    } else {
        let word = name[0] as u64 | (name[name.len() / 2] as u64) << 8 | (name[name.len() - 1] as u64) << 16;
        (word & CAPITALS, 0)
    }
}

const PLACES: usize = 512;
const NAME_BYTES_MAX: usize = 16;

#[inline]
const fn place((first, last): (u64, u64), len: usize) -> usize {
    let mixed = (first ^ last.rotate_left(29) ^ len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 55) as usize
}

#[derive(Clone, Copy)]
struct Place {
    words: (u64, u64),
    len: u8,
    /// Into `COMMANDS`, plus one; 0 for an empty place.
    command: u8,
}

/// An open table with linear probing, made by the compiler. A sixth full.
static INDEX: [Place; PLACES] = {
    assert!(COMMANDS.len() < u8::MAX as usize && PLACES == 1 << (64 - 55));
    let mut index = [Place { words: (0, 0), len: 0, command: 0 }; PLACES];
    let mut i = 0;
    while i < COMMANDS.len() {
        let name = COMMANDS[i].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX);
        let words = words(name);
        let mut at = place(words, name.len());
        while index[at].command != 0 {
            at = (at + 1) % PLACES;
        }
        index[at] = Place { words, len: name.len() as u8, command: i as u8 + 1 };
        i += 1;
    }
    index
};

/// The command of a name, in letters of either case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    if NAME_BYTES_MAX < name.len() {
        return None;
    }
    let words = words(name);
    let mut at = place(words, name.len());
    loop {
        let found = &INDEX[at];
        if found.command == 0 {
            return None;
        }
        if found.words == words && found.len as usize == name.len() {
            return Some(&COMMANDS[found.command as usize - 1]);
        }
        at = (at + 1) % PLACES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    fn by_search(name: &[u8]) -> Option<&'static Command> {
        COMMANDS.iter().find(|c| c.name.as_bytes().eq_ignore_ascii_case(name))
    }

    #[test]
    fn every_op_has_one_row_that_agrees_with_it() {
        for &op in Op::ALL {
            let rows: Vec<_> = COMMANDS.iter().filter(|c| c.kind == Kind::Data(op)).collect();
            assert_eq!(rows.len(), 1, "{op:?}");
            assert_eq!(rows[0].name.to_ascii_uppercase(), op.name());
            assert_eq!(rows[0].flags.has(Flags::READONLY), op.is_read(), "{op:?}");
            assert_eq!(rows[0].flags.has(Flags::WRITE), !op.is_read(), "{op:?}");
        }
    }

    #[test]
    fn names_are_letters_and_are_found_in_either_case() {
        for command in COMMANDS {
            assert!(command.name.bytes().all(|b| b.is_ascii_lowercase()));
            let mixed: Vec<u8> =
                command.name.bytes().enumerate().map(|(i, b)| if i % 2 == 0 { b - 32 } else { b }).collect();
            for name in [command.name.as_bytes(), command.name.to_ascii_uppercase().as_bytes(), &mixed] {
                assert_eq!(find(name).map(|c| c.name), Some(command.name));
            }
            assert!(!is_unsupported(command.name.as_bytes()));
        }
        assert!(is_unsupported(b"MULTI"));
    }

    #[test]
    fn what_is_close_to_a_name_is_found_only_if_a_search_finds_it() {
        let mut prng = Prng::from_seed(1);
        for command in COMMANDS {
            for _ in 0..2000 {
                let mut name = command.name.as_bytes().to_vec();
                let at = prng.below(name.len() as u64) as usize;
                match prng.below(3) {
                    0 => name[at] = prng.next_u64() as u8,
                    1 => name.insert(at, prng.next_u64() as u8),
                    _ => drop(name.remove(at)),
                }
                assert_eq!(find(&name).map(|c| c.name), by_search(&name).map(|c| c.name), "{name:?}");
            }
        }
        assert_eq!(find(b""), None);
        assert_eq!(find(&[b'g'; 17]), None);
    }

    #[test]
    fn arity_is_exact_or_a_minimum() {
        let accepted = |name: &[u8], count| find(name).unwrap().accepts(count);
        assert!(accepted(b"get", 2) && !accepted(b"get", 1) && !accepted(b"get", 3));
        assert!(accepted(b"mget", 2) && accepted(b"mget", 900) && !accepted(b"mget", 1));
    }
}
