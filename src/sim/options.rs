//! What a run is asked to be, beside its seed: how long, of what, with which faults. Whatever is not said, the seed decides.

use crate::base::canary::Canary;
use std::fmt;

/// Makes the enum and its names from one list.
macro_rules! faults {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal;)+) => {
        /// Something that goes wrong. A seed draws which of those that are allowed happen, and how often.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Fault { $($(#[doc = $text])+ $variant),+ }

        impl Fault {
            /// All, in the order of the list.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant),+];
            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name),+ }
            }
            /// Whether it happens at this level. At level 1 disks and bytes are models; at level 2 links are streams that lose and reorder nothing.
            pub fn happens_at(self, level: Level) -> bool {
                use Fault::*;
                match level {
                    Level::One => self < WriteError,
                    Level::Two => !matches!(self, Drop | Duplicate | Reorder | Hunt | Flap | Queue | Reconfigure),
                }
            }
            /// What goes wrong, in a sentence.
            pub fn description(self) -> &'static str {
                match self { $(Fault::$variant => concat!($($text),+).trim_ascii()),+ }
            }
        }
    };
}

faults! {
    /// A message is lost.
    Drop = "drop";
    /// A message comes twice.
    Duplicate = "duplicate";
    /// A message overtakes an earlier one of the same link.
    Reorder = "reorder";
    /// A message is late by far.
    Delay = "delay";
    /// Someone who sees all messages holds back those of a new leader.
    Hunt = "hunt";
    /// Links are cut: in two sides, around one node, to a bridge, to a ring, in single directions.
    Partition = "partition";
    /// A cut comes and goes many times a second.
    Flap = "flap";
    /// A link holds only so many messages; what comes on top is lost, and the sender hears of it.
    Queue = "queue";
    /// A link comes up anew, and both ends hear that something may be lost.
    Relink = "relink";
    /// A clock runs slower or faster than the others.
    Drift = "drift";
    /// A wall clock is set forward or back while the node runs.
    Jump = "jump";
    /// A node loses power, and of its unfinished writes a random prefix survives.
    Crash = "crash";
    /// All nodes lose power at once.
    Blackout = "blackout";
    /// A node that has come back loses power again at once, some times in a row.
    Storm = "storm";
    /// A node stands still for a while.
    Pause = "pause";
    /// A node is told to go down in order.
    Drain = "drain";
    /// As many nodes lie as the protocol endures. PBFT only.
    Liars = "liars";
    /// The operator changes members and keys. PBFT at level 1 only.
    Reconfigure = "reconfigure";
    /// A write fails once. Level 2, like all that follow: at level 1 disks are models.
    WriteError = "write-error";
    /// A disk is full for a while.
    DiskFull = "disk-full";
    /// A disk is slow for a while.
    DiskSlow = "disk-slow";
    /// Bits flip at rest.
    BitFlip = "bit-flip";
    /// Sectors become unreadable.
    BadSector = "bad-sector";
    /// A write lands in another place of its file.
    Misdirect = "misdirect";
    /// Someone on the way changes what travels between nodes: flips a bit, loses bytes, repeats some.
    Tamper = "tamper";
    /// Someone on the way repeats a whole frame between nodes, of this connection or of an earlier one.
    Replay = "replay";
    /// A read or write of a file moves fewer bytes at once than it was asked to.
    ShortTransfer = "short-transfer";
}

/// A set of faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Faults(u64);

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults(0);
    /// Everything may go wrong.
    pub const ALL: Faults = Faults(u64::MAX >> (64 - Fault::ALL.len()));

    /// Whether this may go wrong.
    pub fn has(self, fault: Fault) -> bool {
        self.0 >> fault as u32 & 1 == 1
    }
    /// With this one too.
    #[must_use]
    pub fn with(self, fault: Fault) -> Faults {
        Faults(self.0 | 1 << fault as u32)
    }
    /// Without this one.
    #[must_use]
    pub fn without(self, fault: Fault) -> Faults {
        Faults(self.0 & !(1 << fault as u32))
    }
    /// Those of them that happen at `level`.
    #[must_use]
    pub fn at(self, level: Level) -> Faults {
        self.iter().filter(|fault| !fault.happens_at(level)).fold(self, Faults::without)
    }
    /// Those in the set, in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |fault| self.has(*fault))
    }
    /// `all`, `none`, or names with commas between them.
    pub fn parse(text: &str) -> Result<Faults, UnknownFault> {
        match text {
            "all" => Ok(Faults::ALL),
            "none" => Ok(Faults::NONE),
            names => names.split(',').try_fold(Faults::NONE, |set, name| {
                let found = Fault::ALL.iter().find(|fault| fault.name() == name.trim());
                found.map(|fault| set.with(*fault)).ok_or_else(|| UnknownFault(name.to_owned()))
            }),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Faults::ALL => f.write_str("all"),
            Faults::NONE => f.write_str("none"),
            some => f.write_str(&some.iter().map(Fault::name).collect::<Vec<_>>().join(",")),
        }
    }
}
impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({self})")
    }
}

/// No fault has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no fault {0:?}; known are all, none and {list}", list = Faults::names())]
pub struct UnknownFault(pub String);

impl Faults {
    fn names() -> String {
        Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ")
    }
}

/// What the nodes run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum ProtocolName {
    /// Crash faults, one leader.
    #[default]
    Raft,
    /// Byzantine faults, a primary that is watched.
    Pbft,
}

/// How much of a node is real.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Level {
    /// The shard and its core; store, log, network and front are models.
    #[default]
    #[value(name = "1")]
    One,
    /// All agents of a node over a simulated driver: frames, handshakes, log files, recovery, client connections.
    #[value(name = "2")]
    Two,
}

/// What a run is asked to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// What the nodes run.
    pub protocol: ProtocolName,
    /// How much of a node is real.
    pub level: Level,
    /// How many events happen under faults, before everything is healed.
    pub events: u64,
    /// What may go wrong.
    pub faults: Faults,
    /// How many nodes; `None`: the seed decides.
    pub nodes: Option<usize>,
    /// Seeds are numbers of stories of twins instead ([`crate::sim::twins`]); of the rest only `nodes` and `canary` count.
    pub twins: bool,
    /// A bug that is put in on purpose. Only builds with the feature `canaries` can.
    pub canary: Option<Canary>,
}

impl ProtocolName {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolName::Raft => "raft",
            ProtocolName::Pbft => "pbft",
        }
    }
}

impl Level {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::One => "1",
            Level::Two => "2",
        }
    }
}

impl Options {
    /// Most nodes of a simulated cluster.
    pub const NODES_MAX: usize = 31;

    /// Everything may go wrong, for so many events.
    pub fn of(events: u64) -> Options {
        Options {
            protocol: ProtocolName::Raft,
            level: Level::One,
            events,
            faults: Faults::ALL,
            nodes: None,
            twins: false,
            canary: None,
        }
    }

    /// The command that runs this seed.
    pub fn command(&self, seed: u64) -> String {
        let Options { protocol, level, events, faults, nodes, twins, canary } = *self;
        let mut text = format!("quorate sim --seed {seed} --events {events}");
        if protocol != ProtocolName::default() {
            text += &format!(" --protocol {}", protocol.name());
        }
        if level != Level::default() {
            text += &format!(" --level {}", level.name());
        }
        if faults != Faults::ALL {
            text += &format!(" --faults {}", faults.at(level));
        }
        if let Some(nodes) = nodes {
            text += &format!(" --nodes {nodes}");
        }
        if twins {
            text += " --twins";
        }
        if let Some(bug) = canary {
            text += &format!(" --canary {}", bug.name());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_as_they_are_read() {
        for text in ["all", "none", "drop", "drop,reorder,crash"] {
            assert_eq!(Faults::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Faults::parse("drop, crash").unwrap(), Faults::NONE.with(Fault::Drop).with(Fault::Crash));
        assert_eq!(Fault::ALL.iter().fold(Faults::ALL, |set, fault| set.without(*fault)), Faults::NONE);
        assert_eq!(Faults::ALL.iter().count(), Fault::ALL.len());
        assert!(Faults::parse("drop,dorp").unwrap_err().to_string().contains("\"dorp\""));
    }
}
