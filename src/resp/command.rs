//! The commands: [`Op`], those that reach the store, and what the [table](super::table) of all that a client may send tells of each.
//!
//! A front looks at existence and number of arguments only; syntax, types and values are judged where the command takes effect.

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

/// A command that the node a client talks to answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Local {
    Acl,
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    Echo,
    Hello,
    Info,
    Latency,
    Module,
    Ping,
    Quit,
    Readonly,
    Readwrite,
    Reset,
    Role,
    Select,
    Slowlog,
    Time,
    Wait,
}

/// Who carries a command out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The store, by way of the log or of a read index.
    Data(Op),
    /// The front.
    Local(Local),
}

/// Where a command's documentation puts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Hashes.
    Hash,
    /// The connection.
    Connection,
    /// The server.
    Server,
    /// The cluster.
    Cluster,
}

impl Group {
    /// As COMMAND DOCS names it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::Hash => "hash",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Cluster => "cluster",
        }
    }
}

/// What a command does, as COMMAND shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u16);

impl Flags {
    /// Changes data.
    pub const WRITE: Flags = Flags(1);
    /// Changes nothing.
    pub const READONLY: Flags = Flags(2);
    /// Can make the store grow: refused when memory is used up.
    pub const DENYOOM: Flags = Flags(4);
    /// In constant or logarithmic time.
    pub const FAST: Flags = Flags(8);
    /// Answered while the node loads its state.
    pub const LOADING: Flags = Flags(16);
    /// Answered before the client has authenticated.
    pub const NO_AUTH: Flags = Flags(32);
    /// For operators.
    pub const ADMIN: Flags = Flags(64);

    /// Each flag with its name in COMMAND.
    pub const NAMES: [(Flags, &'static str); 7] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::FAST, "fast"),
        (Flags::LOADING, "loading"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::ADMIN, "admin"),
    ];

    /// Whether it has all flags of `other`.
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
    /// The flags of both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Which arguments are keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// Place of the first; 0 for none. The name is at place 0.
    pub first: i8,
    /// Place of the last; negative counts from the end.
    pub last: i8,
    /// Distance between keys.
    pub step: i8,
}

/// A command of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Command {
    /// In small letters.
    pub name: &'static str,
    /// Who carries it out.
    pub kind: Kind,
    /// Number of arguments, the name included; negative for at least that many.
    pub arity: i8,
    /// What it does.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: Keys,
    /// Where its documentation belongs.
    pub group: Group,
    /// Since which version of Redis the command is known.
    pub since: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
}

impl Command {
    /// Whether it may have `count` arguments, its name included.
    #[inline]
    pub fn accepts(&self, count: usize) -> bool {
        if self.arity < 0 {
            self.arity.unsigned_abs() as usize <= count
        } else {
            count == self.arity as usize
        }
    }
}
