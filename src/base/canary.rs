//! Classic bugs, each a switch: the test bench must find every one of them, or it proves nothing.
//!
//! A canary stands where the right code is: `if canary::on(Canary::X) { wrong } else { right }`. Without the cargo feature `canaries`,
//! [`on`] is the constant `false` and the wrong code is not built. A switch is on for one thread: the simulator runs a whole cluster on
//! one, so tests of other threads stay sound.

/// Makes the enum, its names and its descriptions from one list.
macro_rules! canaries {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal, $source:literal;)+) => {
        /// A bug that can be switched on. Documentation of each: what goes wrong.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Canary { $($(#[doc = $text])+ $variant),+ }

        impl Canary {
            /// All, in the order of the list.
            pub const ALL: &'static [Canary] = &[$(Canary::$variant),+];
            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Canary::$variant => $name),+ }
            }
            /// Where the bug was met or is warned of.
            pub fn source(self) -> &'static str {
                match self { $(Canary::$variant => $source),+ }
            }
            /// What goes wrong, in a sentence.
            pub fn description(self) -> &'static str {
                match self { $(Canary::$variant => concat!($($text),+).trim_ascii()),+ }
            }
        }
    };
}

canaries! {
    // Raft: elections.
    /// A vote is answered before it is durable.
    VoteBeforeDurable = "vote-before-durable", "hazard R2; Raft thesis 3.8";
    /// A vote is forgotten by a restart within its term.
    VoteForgotten = "vote-forgotten", "hazard R16; Raft thesis 3.8";
    /// A second candidate of a term gets a vote too.
    TwoVotes = "two-votes", "Raft thesis 3.4";
    /// A vote is granted whatever the candidate's log holds.
    VoteWithoutLogCheck = "vote-without-log-check", "Raft thesis 3.6.1";
    /// Logs are compared by their length only.
    UpToDateByLength = "up-to-date-by-length", "hazard R15; Raft thesis 3.6.1";
    /// A log that is equal does not count as up to date.
    UpToDateStrict = "up-to-date-strict", "hazard R15; Raft thesis 3.6.1";
    /// A candidate counts a late vote of an earlier term.
    VoteReplyAnyTerm = "vote-reply-any-term", "hazard R5; Xraft#33";
    /// A node raises its term without asking first whether it could win.
    NoPreVote = "no-pre-vote", "hazard R26; Raft thesis 9.6";
    /// A leader that no majority hears goes on as one.
    NoCheckQuorum = "no-check-quorum", "hazard R26; Raft thesis 6.2";

    // Raft: the log.
    /// Entries are acknowledged before they are durable.
    AckBeforeDurable = "ack-before-durable", "hazard R3; NATS 2.12.1, lazy fsync";
    /// A leader counts its own copy of an entry before it is durable.
    CountOwnUndurable = "count-own-undurable", "Raft thesis 10.2.1";
    /// A group of one node commits what is not durable.
    SingleNodeUndurable = "single-node-undurable", "hazard R4; etcd#14370";
    /// An entry of an older term is committed by counting replicas.
    CommitOlderTerm = "commit-older-term", "hazard R1; Raft thesis 3.6.2, figure 3.7; PySyncObj#169";
    /// A leader's search for what it may commit stops at the first entry of an older term.
    CommitScanStops = "commit-scan-stops", "hazard R14; RaftOS#30";
    /// The commit index is set to what a late message says, though it is lower.
    CommitFalls = "commit-falls", "hazard R7; PySyncObj#166";
    /// A follower commits what its leader has not vouched for.
    CommitUnverified = "commit-unverified", "hazard R11; WRaft#118";
    /// A late acknowledgement lowers what a leader knows of a follower.
    MatchFalls = "match-falls", "hazard R8; RaftOS#25, PySyncObj#167";
    /// After an acknowledgement the next entry to send is one that was acknowledged.
    NextBelowMatch = "next-below-match", "hazard R9; PySyncObj#167";
    /// A leader believes an acknowledgement of an earlier term.
    AppendReplyAnyTerm = "append-reply-any-term", "hazard R6; CCF";
    /// A late, shorter append removes the entries behind it, which agree.
    CutMatchingSuffix = "cut-matching-suffix", "hazard R10; RaftOS#26, CCF";
    /// A leader's append replaces committed entries.
    ConflictCutsCommitted = "conflict-cuts-committed", "Raft thesis 3.5, figure 3.2";
    /// Writes of entries that were cut count for those that replaced them.
    CutKeepsWrites = "cut-keeps-writes", "Raft thesis 3.8, 10.2.1";
    /// What was on its way before a reconnection does not count towards the window.
    WindowOverrun = "window-overrun", "Raft thesis 10.2.1";

    // Raft: snapshots.
    /// A heartbeat, which asks nothing of a follower's log, vouches for the whole of it.
    HeartbeatVouches = "heartbeat-vouches", "hazard R12; WRaft#118";
    /// A log that does not fit the snapshot which a life began with is added to all the same.
    ResetUnpaid = "reset-unpaid", "Raft thesis 5, figure 5.3";
    /// A snapshot takes its last entry's term for the present one.
    TermFromSnapshot = "term-from-snapshot", "hazard R13; WRaft#118";
    /// A follower that needs what has left the log is sent entries all the same.
    CompactionForgetsFollower = "compaction-forgets-follower", "hazard R29; etcd#18055";
    /// The log that follows a snapshot is cut while a follower takes that snapshot.
    FloorForgetsShipped = "floor-forgets-shipped", "Raft thesis 5.1.3; etcd, snapshot catch-up entries";
    /// A snapshot replaces a newer state.
    SnapshotOverNewer = "snapshot-over-newer", "Raft thesis 5, figure 5.3";

    // Raft: reads.
    /// A read index is taken before the leader has committed in its term.
    ReadBeforeOwnCommit = "read-before-own-commit", "hazard R22; Raft thesis 6.4";
    /// A read takes the index of a round that began before it.
    ReadJoinsRound = "read-joins-round", "hazard R23; etcd#20418";
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutRound = "read-without-round", "hazard R23; Raft thesis 6.4";
    /// A follower answers reads from what it has.
    ReadLocal = "read-local", "hazard R25; redis-raft";

    // Exactly once, and replicated state.
    /// A batch that took effect takes effect again.
    DuplicateApplied = "duplicate-applied", "Raft thesis 6.3";
    /// A batch that is handed to another leader gets a new number there.
    ForwardRenumbered = "forward-renumbered", "Raft thesis 6.3";
    /// Each node expires keys by its own clock.
    ExpiryByLocalClock = "expiry-by-local-clock", "hazard R32; Tendermint, differing app hashes";
    /// The order of a hash table reaches replicated bytes.
    UnorderedBucket = "unordered-bucket", "hazard R32; Tendermint, differing app hashes";
    /// A snapshot knows nothing of the batches that took effect.
    SnapshotWithoutSessions = "snapshot-without-sessions", "hazard R27; Raft thesis 6.3";
    /// A state that came as a snapshot knows no last replies: a client that asks again is told nothing.
    LastRepliesForgotten = "last-replies-forgotten", "hazard B15; Berger, Reiser and Bessani, SRDS 2021";
    /// A snapshot holds effects of entries above its slot.
    SaveAfterChange = "save-after-change", "hazard R28; etcd#13766";
    /// The digest of a checkpoint holds effects of entries above its slot.
    DigestAfterChange = "digest-after-change", "hazard R28; Castro and Liskov, TOCS 2002, 4.3 (a checkpoint is the state after its request)";

    // The log on disk.
    /// Batches are written without waiting for stable storage.
    SyncSkipped = "sync-skipped", "Raft thesis 3.8";
    /// A write that failed counts as durable.
    WriteErrorIgnored = "write-error-ignored", "hazard R31; Rebello et al., ATC 2020 (fsync failures)";
    /// A batch that was not wholly written is recovered.
    TornTailValid = "torn-tail-valid", "Pillai et al., OSDI 2014";
    /// Damage in what was durable passes for an end that was never wholly written, and is cut.
    DamageCutAsTorn = "damage-cut-as-torn", "hazard R30; Alagappan et al., FAST 2018 (PAR)";
    /// A read of a file that brings fewer bytes than asked is taken for one that has come to the end of the file.
    ShortReadIsTheEnd = "short-read-is-the-end", "read(2): a smaller number is no error";

    // Between nodes.
    /// A frame that was recorded is let in again.
    FrameReplayed = "frame-replayed", "Aublin et al., EuroSys 2013; RFC 4303, 3.4.3";

    // PBFT.
    /// B1: a vote that comes twice counts twice.
    CountRepeatedVotes = "pbft-count-repeated-votes", "TOCS 2002, 4.3: certificates are of different replicas";
    /// B2: votes for different digests make one certificate.
    MixedCertificate = "pbft-mixed-certificate", "TOCS 2002, 4.3: matching view, number and digest";
    /// B2: votes of an earlier view count in a later one.
    VotesOutliveTheirView = "pbft-votes-outlive-their-view", "TOCS 2002, 4.3: matching view, number and digest";
    /// B3: a quorum is 2f + 1 whatever n is.
    QuorumOfThirds = "pbft-quorum-of-thirds", "TOCS 2002, 2.1; Malkhi and Reiter 1998";
    /// B4: a prepare of the primary counts besides its pre-prepare.
    PrimaryPreparesToo = "pbft-primary-prepares-too", "TOCS 2002, 4.3";
    /// B5: a view-change leaves out what prepared.
    OmitPrepared = "pbft-omit-prepared", "TOCS 2002, 4.5.1";
    /// B6: a new-view is believed without a look at its view-changes.
    NewViewUnchecked = "pbft-new-view-unchecked", "TOCS 2002, 4.5.2";
    /// B7: of two prepared values the one of the older view is chosen.
    OlderPreparedWins = "pbft-older-prepared-wins", "TOCS 2002, figure 4, condition A1";
    /// A claim that something prepared is believed without others that accepted it.
    FabricatedPrepared = "pbft-fabricated-prepared", "TOCS 2002, figure 4, condition A2";
    /// B9: slots beyond the water marks are kept.
    NoWaterMarks = "pbft-no-water-marks", "TOCS 2002, 4.2";
    /// B10: f + 1 equal words make a checkpoint stable.
    WeakCheckpoint = "pbft-weak-checkpoint", "TOCS 2002, 4.3";
    /// B10: the own state is stable as soon as it is there, and what led to it forgotten.
    CollectUnstable = "pbft-collect-unstable", "TOCS 2002, 4.3";
    /// B8: a new view leaves the slots empty at which nothing prepared.
    HolesStayEmpty = "pbft-holes-stay-empty", "TOCS 2002, 4.4";
    /// B11: a primary assigns slots to what no other replica can believe.
    ProposeUnchecked = "pbft-propose-unchecked", "Aardvark, NSDI 2009, 3: the big-MAC attack";
    /// B18: words of views to come are kept until they begin.
    KeepFutureViews = "pbft-keep-future-views", "Castro and Liskov 1999, 4.4; hazard B18";
    /// B14: the watch over the primary begins anew with each request that is heard.
    AnyProgressResetsTheWatch = "pbft-any-progress-resets-the-watch", "Aardvark, NSDI 2009, 3";
    /// B14: views that fail do not lengthen the patience.
    PatienceNeverGrows = "pbft-patience-never-grows", "TOCS 2002, 4.5.2";
    /// B14: nobody joins f + 1 others that left the view.
    NobodyJoins = "pbft-nobody-joins", "TOCS 2002, 4.5.2";
    /// B15: a request that took effect is ordered again.
    ReplayedRequest = "pbft-replayed-request", "TOCS 2002, 4.2";
    /// B16: a state is taken in whatever its digest is.
    UncertifiedState = "pbft-uncertified-state", "TOCS 2002, 6.2.2";
    /// B17: a batch is accepted that its origin did not sign.
    UnauthenticatedBatch = "pbft-unauthenticated-batch", "Aardvark, NSDI 2009, 4.1";
    /// B17: a second pre-prepare for a slot replaces the first.
    AcceptSecondPrePrepare = "pbft-accept-second-pre-prepare", "TOCS 2002, 4.3";
    /// One voice is enough to believe that a slot is decided.
    OneVoiceDecides = "pbft-one-voice-decides", "TOCS 2002, 6.2";
    /// B12: a native client takes f + 1 equal replies for enough although its reads are not ordered.
    FastReadWeakQuorum = "client-fast-read-weak-quorum", "Berger, Reiser and Bessani, SRDS 2021; TOCS 2002, 5.1.3";
    /// A native client counts replies of two epochs together.
    ClientCountsOtherEpochs = "client-counts-other-epochs", "Lamport, Malkhi and Zhou 2010, Reconfiguring a State Machine; SRDS 2021";
    /// B10: what a view begins above is stable at once, although one correct replica may be the only one that has come to it.
    StartIsStable = "pbft-start-is-stable", "TOCS 2002, 4.3 and figure 4: f + 1 vouch for a start, a quorum for what is stable";
    /// As many as were a quorum in the last epoch are one in the next.
    EpochKeepsQuorum = "pbft-epoch-keeps-quorum", "Lamport, Malkhi and Zhou 2010, Reconfiguring a State Machine, 2";
    /// Whoever has left still counts among the `f + 1` who say what is decided, and fewer are enough.
    EpochKeepsVoices = "pbft-epoch-keeps-voices", "Lamport, Malkhi and Zhou 2010, Reconfiguring a State Machine, 2";
    /// What a key of the last epoch has signed is believed in the next.
    EpochKeepsKeys = "pbft-epoch-keeps-keys", "TOCS 2002, 3: keys are refreshed, lest a thief use them";
    /// Nothing says any more which epoch this is, once a snapshot lies above its beginning.
    EpochLeavesTheLog = "pbft-epoch-leaves-the-log", "Bessani and others, USENIX ATC 2013";
    /// A snapshot that a crash has ended is not made again by whoever has signed its state.
    LostSnapshotStaysLost = "pbft-lost-snapshot-stays-lost", "TOCS 2002, 6.2: a checkpoint that was spoken of can be fetched";
    /// What an operator has signed for one cluster is good in another.
    AmendmentOfAnyCluster = "pbft-amendment-of-any-cluster", "Abadi and Needham 1996, Prudent Engineering Practice, principle 1";
    /// A replica that comes back has forgotten what it accepted.
    ForgetWhatWasSaid = "pbft-forget-what-was-said", "Bessani and others, USENIX ATC 2013";
}

impl Canary {
    /// The canary of this name.
    pub fn named(name: &str) -> Option<Canary> {
        Canary::ALL.iter().copied().find(|canary| canary.name() == name)
    }
}

#[cfg(feature = "canaries")]
thread_local! {
    static ON: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Whether this thread runs with that bug.
#[cfg(feature = "canaries")]
#[inline]
pub fn on(canary: Canary) -> bool {
    ON.with(|on| on.get() == Some(canary))
}

/// Whether this thread runs with that bug: never, in a build without the feature `canaries`.
#[cfg(not(feature = "canaries"))]
#[inline(always)]
pub const fn on(_: Canary) -> bool {
    false
}

/// Runs `body` with that bug on this thread; it is off again afterwards, also after a panic.
#[cfg(feature = "canaries")]
pub fn with<T>(canary: Canary, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<Canary>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON.with(|on| on.set(self.0));
        }
    }
    let _restore = Restore(ON.with(|on| on.replace(Some(canary))));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<_> = Canary::ALL.iter().map(|canary| canary.name()).collect();
        assert_eq!(names.len(), Canary::ALL.len());
        for canary in Canary::ALL {
            assert_eq!(Canary::named(canary.name()), Some(*canary));
            assert!(canary.description().ends_with('.') && !canary.source().is_empty());
        }
        assert_eq!(Canary::named("no-such-bug"), None);
    }

    #[cfg(feature = "canaries")]
    #[test]
    fn a_switch_is_off_after_a_panic_too() {
        let inside = std::panic::catch_unwind(|| {
            with(Canary::CommitOlderTerm, || {
                assert!(on(Canary::CommitOlderTerm));
                panic!("found")
            })
        });
        assert!(inside.is_err() && !on(Canary::CommitOlderTerm));
    }
}
