//! The commands that reach the store. (The table of all commands, with arity and flags, belongs here too.)

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// A command that the store carries out. The number is in every log: never reuse one.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Op { $($name = $number,)* }
        impl Op {
            /// All of them.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];
            /// The op of a number, if there is one.
            pub fn from_u8(number: u8) -> Option<Op> {
                match number { $($number => Some(Op::$name),)* _ => None }
            }
            /// The command's name, in capitals.
            pub fn name(self) -> &'static str {
                match self { $(Op::$name => $text,)* }
            }
        }
    };
}

ops! {
    // Strings
    Get = 1 "GET", Set = 2 "SET", Append = 3 "APPEND", Strlen = 4 "STRLEN", Getrange = 5 "GETRANGE", Setrange = 6 "SETRANGE",
    Getdel = 7 "GETDEL", Getex = 8 "GETEX", Mget = 9 "MGET", Mset = 10 "MSET", Msetnx = 11 "MSETNX",
    Incr = 12 "INCR", Incrby = 13 "INCRBY", Decr = 14 "DECR", Decrby = 15 "DECRBY",
    // Keys
    Del = 20 "DEL", Unlink = 21 "UNLINK", Exists = 22 "EXISTS", Type = 23 "TYPE", Expire = 24 "EXPIRE", Pexpire = 25 "PEXPIRE",
    Expireat = 26 "EXPIREAT", Ttl = 27 "TTL", Pttl = 28 "PTTL", Persist = 29 "PERSIST", Scan = 30 "SCAN",
    Randomkey = 31 "RANDOMKEY", Dbsize = 32 "DBSIZE", Flushall = 33 "FLUSHALL",
    // Hashes
    Hset = 40 "HSET", Hsetnx = 41 "HSETNX", Hget = 42 "HGET", Hmget = 43 "HMGET", Hgetall = 44 "HGETALL", Hdel = 45 "HDEL",
    Hexists = 46 "HEXISTS", Hkeys = 47 "HKEYS", Hvals = 48 "HVALS", Hlen = 49 "HLEN", Hincrby = 50 "HINCRBY", Hscan = 51 "HSCAN",
}

impl Op {
    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        use Op::*;
        matches!(
            self,
            Get | Strlen
                | Getrange
                | Mget
                | Exists
                | Type
                | Ttl
                | Pttl
                | Scan
                | Randomkey
                | Dbsize
                | Hget
                | Hmget
                | Hgetall
                | Hexists
                | Hkeys
                | Hvals
                | Hlen
                | Hscan
        )
    }
}
