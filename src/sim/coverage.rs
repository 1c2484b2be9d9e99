//! Sometimes this happens: what a sweep must have met with, or it proves less than it seems to. An assertion that something always
//! holds says nothing about what was never reached (Antithesis and FoundationDB call these "sometimes assertions").

use super::network::Break;
use super::options::{Level, ProtocolName};

/// Makes the enum and its names from one list.
macro_rules! reached {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal;)+) => {
        /// Something that a sweep should meet with.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Reached { $($(#[doc = $text])+ $variant),+ }

        impl Reached {
            /// All, in the order of the list.
            pub const ALL: &'static [Reached] = &[$(Reached::$variant),+];
            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Reached::$variant => $name),+ }
            }
        }
    };
}

reached! {
    /// A node came to lead.
    Elected = "elected";
    /// A leader stopped leading and lived on.
    Deposed = "deposed";
    /// A leader handed over.
    Transferred = "leadership handed over";
    /// Entries were cut from a log.
    Cut = "entries cut";
    /// An entry was committed by a leader of a later term than its own.
    OlderTerm = "entry of an older term committed";
    /// A follower refused an append that did not fit.
    Conflict = "append refused";
    /// A leader fetched old entries from its disk.
    Fetched = "old entries fetched";
    /// A leader's snapshot became a follower's state.
    Installed = "snapshot installed";
    /// A batch of an earlier attempt came to the log twice and took effect once.
    Duplicate = "duplicate batch filtered";
    /// A batch came to the log before an earlier one of its origin.
    Gap = "batch before its turn filtered";
    /// A write was answered.
    Written = "write answered";
    /// A client was told that its write was not appended.
    WriteRefused = "write refused";
    /// A client was told that its write may or may not have been appended.
    WriteUnknown = "write with unknown outcome";
    /// A read was answered.
    Read = "read answered";
    /// A read was answered by a node that does not lead.
    FollowerRead = "read answered by a follower";
    /// A read was refused.
    ReadRefused = "read refused";
    /// Of the unfinished writes of a crashed node some survived and some did not.
    Torn = "writes torn by a crash";
    /// A group came to another epoch.
    Amended = "members changed";
    /// A node came to a group that was there.
    Joined = "newcomer joined";
    /// A node crashed again as soon as it was back.
    Storm = "restart storm";
    /// All nodes crashed at once.
    Blackout = "blackout";
    /// A node stood still.
    Paused = "pause";
    /// A replica took no input because its store was full.
    Stalled = "replica held up by its store";
    /// A node was told to go down in order.
    Drained = "orderly shutdown";
    /// A wall clock was set.
    Jumped = "wall clock set";
    /// Two sides heard nothing of each other.
    Split = "split";
    /// One node was alone.
    Alone = "node alone";
    /// One node heard both sides.
    Bridge = "bridge";
    /// Each node heard its neighbours only.
    Ring = "ring";
    /// Single directions were cut.
    Directions = "single directions cut";
    /// A cut came and went.
    Flapped = "flapping cut";
    /// A link was full.
    Overflow = "link full";
    /// A message was held back on purpose.
    Held = "message held back";
    /// A corrupted node said something. PBFT's, like what follows.
    Lied = "lie";
    /// A correct node accused a liar.
    Accused = "liar accused";
    /// A correct node has proof against a liar.
    Convicted = "liar convicted";
    /// While healing, a side without a majority ended everything that was asked of it.
    RightToWait = "minority ends what it cannot do";
    /// While healing, a side with a majority made progress without the rest.
    CoreProgress = "majority makes progress alone";
    /// A write of a file failed once. Level 2, like all that follow.
    WriteFailed = "failed write";
    /// A disk was full.
    DiskFull = "full disk";
    /// A disk was slow.
    DiskSlow = "slow disk";
    /// A bit flipped at rest.
    BitFlipped = "bit flipped at rest";
    /// A read met a sector that cannot be read.
    Unreadable = "unreadable sector";
    /// A write landed in another place of its file.
    Misdirected = "misdirected write";
    /// A read or write of a file moved fewer bytes at once than it was asked to.
    ShortTransfer = "short read or write of a file";
    /// A connection was reset.
    Reset = "connection reset";
    /// One side of a connection knew nothing of its end.
    HalfOpen = "half-open connection";
    /// What travels between nodes was changed on the way.
    Tampered = "tampered connection";
    /// A frame between nodes came again.
    Replayed = "repeated frame";
    /// A start ended in the midst of its writes.
    CutStart = "start cut short";
    /// A node ended by an error of its own.
    Ended = "node ended by an error";
    /// A node whose disk had lost something did not start.
    Refused = "damaged node refused to start";
    /// A snapshot was made durable.
    Snapshotted = "snapshot made";
}

impl Reached {
    /// What a sweep of this level should meet with.
    pub fn of(level: Level) -> &'static [Reached] {
        let first_of_two = Reached::WriteFailed as usize;
        match level {
            Level::One => &Reached::ALL[..first_of_two],
            Level::Two => OF_LEVEL_TWO,
        }
    }
}

impl Break {
    /// What a sweep has met with when the network breaks so.
    pub fn reached(self) -> Reached {
        match self {
            Break::Split => Reached::Split,
            Break::Alone => Reached::Alone,
            Break::Bridge => Reached::Bridge,
            Break::Ring => Reached::Ring,
            Break::Directions => Reached::Directions,
        }
    }
}

/// At level 2 less is seen of what nodes do inside, and more of what happens to them.
const OF_LEVEL_TWO: &[Reached] = {
    use Reached::*;
    &[
        Elected,
        Installed,
        Written,
        WriteRefused,
        WriteUnknown,
        Read,
        Torn,
        Blackout,
        Paused,
        Drained,
        Jumped,
        Split,
        Alone,
        Bridge,
        Ring,
        Directions,
        WriteFailed,
        DiskFull,
        DiskSlow,
        BitFlipped,
        Unreadable,
        Misdirected,
        ShortTransfer,
        Reset,
        HalfOpen,
        Tampered,
        Replayed,
        Lied,
        Accused,
        Convicted,
        CutStart,
        Ended,
        Refused,
        Snapshotted,
    ]
};
/// What only Raft can meet with.
const OF_RAFT: &[Reached] = &[Reached::Transferred, Reached::Cut, Reached::OlderTerm, Reached::Conflict];
/// What only PBFT can meet with.
const OF_PBFT: &[Reached] =
    &[Reached::Lied, Reached::Accused, Reached::Convicted, Reached::Amended, Reached::Joined];

/// How often each was met with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coverage([u64; Reached::ALL.len()]);

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage([0; Reached::ALL.len()])
    }
}

impl Coverage {
    /// These counts, in the order of [`Reached::ALL`]; `None` when there are not as many.
    pub fn of(counts: &[u64]) -> Option<Coverage> {
        counts.try_into().ok().map(Coverage)
    }
    /// This happens now.
    #[inline]
    pub fn saw(&mut self, what: Reached) {
        self.0[what as usize] += 1;
    }
    /// This has happened so often.
    pub fn saw_times(&mut self, what: Reached, times: u64) {
        self.0[what as usize] += times;
    }
    /// How often it has happened.
    pub fn count(&self, what: Reached) -> u64 {
        self.0[what as usize]
    }
    /// Adds what another run has met with.
    pub fn add(&mut self, other: &Coverage) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
    /// What has never happened, and should in a sweep of this level and protocol.
    pub fn missing(&self, level: Level, protocol: ProtocolName) -> Vec<Reached> {
        let of_another = match protocol {
            ProtocolName::Raft => OF_PBFT,
            ProtocolName::Pbft => OF_RAFT,
        };
        let is_missing = |what: &Reached| self.count(*what) == 0 && !of_another.contains(what);
        Reached::of(level).iter().copied().filter(is_missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_missing() {
        let (mut all, mut one) = (Coverage::default(), Coverage::default());
        one.saw(Reached::Torn);
        one.saw(Reached::Torn);
        all.add(&one);
        assert_eq!(all.count(Reached::Torn), 2);
        for level in [Level::One, Level::Two] {
            let missing = all.missing(level, ProtocolName::Raft);
            let of_raft = Reached::of(level).iter().filter(|what| !OF_PBFT.contains(what)).count();
            assert_eq!(missing.len(), of_raft - 1);
            assert!(!missing.contains(&Reached::Torn));
        }
        let of_any = Reached::ALL
            .iter()
            .filter(|what| [Level::One, Level::Two].iter().any(|l| Reached::of(*l).contains(what)));
        assert_eq!(of_any.count(), Reached::ALL.len(), "what no level should meet with is never missed");
    }
}
