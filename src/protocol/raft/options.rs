//! What a Raft group can be tuned by, with what each knob costs.

use std::time::Duration;

/// Times and limits of a group. Time-outs must obey `heartbeat < election_min < election_max` (thesis 3.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The shortest silence of a leader after which a follower stands for election.
    pub election_min: Duration,
    /// The longest; each time-out is drawn between the two, so that split votes are rare (thesis 3.4).
    pub election_max: Duration,
    /// How often a leader speaks although it has nothing to say.
    pub heartbeat: Duration,
    /// Most entries (batches) in one append.
    pub max_log_entries_per_append: usize,
    /// Most bytes of bodies in one append, but at least one entry.
    pub append_bytes_max: usize,
    /// Most appends with entries on their way to one follower.
    pub window_appends_max: usize,
    /// Most bytes of bodies on their way to one follower, but at least one append.
    pub window_bytes_max: usize,
    /// Applied entries that stay in memory for followers a little behind; costs that many heads.
    pub cache_entries_max: usize,
    /// Their most bytes of bodies; costs that much memory.
    pub cache_bytes_max: usize,
    /// Entries that stay in memory although they are not applied; further ones are on disk only until their turn comes. Costs that many
    /// heads.
    pub unapplied_entries_max: usize,
    /// Their most bytes of bodies; costs that much memory when the store is slow, or after a start.
    pub unapplied_bytes_max: usize,
    /// Most decided entries that are fetched from disk at a time; two times as many are on their way to the store.
    pub catch_up_entries_max: usize,
    /// Their most bytes of bodies, but at least one entry.
    pub catch_up_bytes_max: usize,
    /// Entries below a snapshot that stay in the log for slow followers; costs that much disk. At least 1, so that recovery sees
    /// whether the log agrees with the snapshot.
    pub trailing_entries: u64,
    /// Most bytes of one piece of a snapshot.
    pub piece_bytes_max: usize,
    /// Most bytes of pieces on their way to one follower.
    pub piece_window_bytes_max: u64,
    /// Bytes of pieces on their way to all followers from which on a follower gets another only when it has none on its way. So there
    /// are at most as many, and a piece for each follower.
    pub pieces_bytes_max: u64,
    /// Most entries above the commit index before proposals are refused.
    pub uncommitted_entries_max: u64,
    /// Most reads that wait for a read index, the followers' among them.
    pub reads_max: usize,
    /// Most rounds of confirmation under way; reads that come meanwhile share the next.
    pub read_rounds_max: usize,
    /// Ask whether an election could be won before raising the term (thesis 9.6).
    pub pre_vote: bool,
    /// A leader that hears from no majority within `election_max` steps down (thesis 6.2), and a node that hears its leader
    /// ignores other candidates (thesis 4.2.3).
    pub check_quorum: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            heartbeat: Duration::from_millis(50),
            max_log_entries_per_append: 100,
            append_bytes_max: 1 << 20,
            window_appends_max: 64,
            window_bytes_max: 8 << 20,
            cache_entries_max: 4096,
            cache_bytes_max: 16 << 20,
            unapplied_entries_max: 16 << 10,
            unapplied_bytes_max: 32 << 20,
            catch_up_entries_max: 1024,
            catch_up_bytes_max: 1 << 20,
            trailing_entries: 1024,
            piece_bytes_max: 256 << 10,
            piece_window_bytes_max: 1 << 20,
            pieces_bytes_max: 2 << 20,
            uncommitted_entries_max: 64 << 10,
            reads_max: 16 << 10,
            read_rounds_max: 8,
            pre_vote: true,
            check_quorum: true,
        }
    }
}

impl Options {
    /// Panics when the options contradict each other. `config` says it more kindly before.
    pub fn check(&self) {
        assert!(self.heartbeat < self.election_min, "a heartbeat must come before a follower loses patience");
        assert!(self.election_min < self.election_max, "time-outs are drawn between two different times");
        assert!(1 <= self.max_log_entries_per_append && 1 <= self.append_bytes_max);
        assert!(1 <= self.window_appends_max && 1 <= self.window_bytes_max);
        assert!(1 <= self.catch_up_entries_max && 1 <= self.catch_up_bytes_max);
        assert!(1 <= self.trailing_entries);
        assert!(1 <= self.piece_bytes_max && 1 <= self.piece_window_bytes_max && 1 <= self.pieces_bytes_max);
        assert!(1 <= self.uncommitted_entries_max);
        assert!(1 <= self.reads_max && 1 <= self.read_rounds_max);
    }
}
