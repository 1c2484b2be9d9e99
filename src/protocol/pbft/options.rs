//! What a PBFT group can be tuned by, with what each knob costs.

use super::quorum::Quorum;
use super::slots::VALUES_MAX;
use crate::config::limits::NEW_VIEW_BYTES_MAX;
use crate::wire::pbft::{Change, NewView};
use std::time::Duration;

/// Times and limits of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many replicas may lie. `None` for as many as the group can bear.
    pub faulty_max: Option<usize>,
    /// Slots between the low and the high water mark (L): what may be undecided or not yet stable. Costs that many places.
    pub window: u64,
    /// Slots between checkpoints (K). Each costs a digest of what the store has changed since the last.
    pub checkpoint_every: u64,
    /// Slots between snapshots, a multiple of `checkpoint_every` and at least two windows, so that at most the newest is not stable yet:
    /// what a replica that was away needs one for.
    pub snapshot_every: u64,
    /// After which wait for the execution of a request the primary is suspected; doubles with each view that fails.
    pub request_timeout: Duration,
    /// Where the doubling ends.
    pub request_timeout_max: Duration,
    /// How often a replica says where it stands. Costs a small message a peer.
    pub status_every: Duration,
    /// After which standstill of something under way it says so earlier.
    pub stall_after: Duration,
    /// How long the record that a slot is decided, for which nobody waits, may wait for another to share a write with.
    pub note_pause: Duration,
    /// How far ahead of the own wall clock a primary's stamp may be, in milliseconds.
    pub clock_skew_max_ms: u64,
    /// The primary signs its pre-prepares: what convicts one that assigns two values to a slot. Costs a signature a message at the
    /// primary and a check at each backup.
    pub sign_pre_prepares: bool,
    /// Native clients may vouch for a batch by the tag of the frame in which they send it to each replica (`tags`), instead of a
    /// signature. Spares both sides the signature; costs the client a copy of the batch for each replica.
    pub client_tags: bool,
    /// Most proposals in one pre-prepare.
    pub proposals_max: usize,
    /// Most bytes of bodies in one message, but at least one body.
    pub message_bytes_max: usize,
    /// Most batches of one node that are assigned and not executed: a fair share for each.
    pub origin_batches_max: usize,
    /// Executed slots whose digests stay in memory for replicas behind, beside all above the newest stable snapshot: whoever is behind
    /// these needs that. Costs 32 bytes each.
    pub cache_entries_max: usize,
    /// Most bytes of the bodies of executed values that stay in memory with them; older ones are read back from the log. Costs that much
    /// memory.
    pub cache_bytes_max: usize,
    /// Most bytes of one piece of a snapshot.
    pub piece_bytes_max: usize,
    /// Most bytes of a new-view, which is one record of the log.
    pub new_view_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            faulty_max: None,
            window: 2048,
            checkpoint_every: 512,
            snapshot_every: 8192,
            request_timeout: Duration::from_millis(400),
            request_timeout_max: Duration::from_secs(8),
            status_every: Duration::from_millis(250),
            stall_after: Duration::from_millis(30),
            note_pause: Duration::ZERO,
            clock_skew_max_ms: 10_000,
            sign_pre_prepares: true,
            client_tags: false,
            proposals_max: 64,
            message_bytes_max: 256 << 10,
            origin_batches_max: 512,
            cache_entries_max: 16 << 10,
            cache_bytes_max: 64 << 20,
            piece_bytes_max: 128 << 10,
            new_view_bytes_max: NEW_VIEW_BYTES_MAX,
        }
    }
}

/// Checkpoints of a view-change at most. Whoever is told what is decided executes up to two windows before that is stable.
pub(super) fn checkpoints_max(window: u64, checkpoint_every: u64) -> usize {
    (2 * window / checkpoint_every + 3) as usize
}

/// Bytes of a view-change at most. Every slot of the window may have prepared. Few have a second value, which only a primary that lies or
/// falls brings about; of more than these the newest are told.
pub(super) fn change_bytes_max(window: u64, checkpoint_every: u64) -> usize {
    let slots = window as usize;
    Change::bytes_max(checkpoints_max(window, checkpoint_every), slots, slots / 4 + VALUES_MAX)
}

impl Options {
    /// Bytes of the new-view of a quorum's view-changes, each as long as a correct replica may send it.
    pub fn new_view_bytes(&self, quorum: Quorum) -> usize {
        let change = change_bytes_max(self.window, self.checkpoint_every);
        NewView::bytes_of(std::iter::repeat_n(change, quorum.exact()))
    }
    /// The same with a window so small that a view can always begin: that new-view fits. Of more than 21 replicas the usual one is
    /// too large.
    #[must_use]
    pub fn fitted(mut self, quorum: Quorum) -> Options {
        while self.new_view_bytes_max < self.new_view_bytes(quorum) && 1 < self.checkpoint_every {
            (self.window, self.checkpoint_every) = (self.window / 2, self.checkpoint_every / 2);
        }
        self
    }
    /// Panics when the options contradict each other. `config` says it more kindly before.
    pub fn check(&self) {
        assert!(1 <= self.checkpoint_every);
        assert!(2 * self.checkpoint_every <= self.window, "the window moves from checkpoint to checkpoint");
        assert!(self.snapshot_every.is_multiple_of(self.checkpoint_every) && 0 < self.snapshot_every);
        assert!(2 * self.window <= self.snapshot_every, "all snapshots but the newest are of stable states");
        assert!(Duration::ZERO < self.request_timeout && self.request_timeout <= self.request_timeout_max);
        assert!(Duration::ZERO < self.stall_after && self.stall_after <= self.status_every);
        assert!(1 <= self.proposals_max && 1 <= self.message_bytes_max);
        assert!(1 <= self.origin_batches_max && 1 <= self.piece_bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::{FRAME_BYTES_MAX, NODES_MAX};

    #[test]
    fn a_view_of_any_group_can_begin_with_a_quorum_of_full_windows() {
        for n in 1..=NODES_MAX {
            for quorum in (0..=Quorum::most(n).f()).filter_map(|f| Quorum::new(n, f)) {
                let options = Options::default().fitted(quorum);
                options.check();
                let bytes = options.new_view_bytes(quorum);
                assert!(bytes <= options.new_view_bytes_max && bytes < FRAME_BYTES_MAX, "{n}: {bytes}");
            }
            let usual = Options::default().fitted(Quorum::most(n)) == Options::default();
            assert_eq!(usual, n <= 21, "{n} replicas");
        }
    }
}
