//! Which faults and limits a seed stands for. Drawn, not fixed: a bug that one mixture hides another shows (swarm testing), and
//! some show only when limits are tiny.

use super::host::Common;
use crate::base::Prng;
use crate::protocol::raft;
use crate::replica::{reads, route};
use std::time::Duration;

/// Chances are per 100,000 events unless said otherwise.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// What the nodes have in common.
    pub common: Common,
    /// Chance of a message to be lost, per 1,000.
    pub drop_per_mille: u64,
    /// Chance of a message to come twice, per 1,000.
    pub repeat_per_mille: u64,
    /// Chance of a message to be late by far, per 1,000.
    pub late_per_mille: u64,
    /// A message takes up to this long, in microseconds.
    pub delay_us_max: u64,
    /// A write takes up to this long, in microseconds.
    pub write_us_max: u64,
    /// The store lags by up to this long, in microseconds.
    pub apply_us_max: u64,
    /// Nodes crash.
    pub crash: u64,
    /// All nodes crash at once.
    pub blackout: u64,
    /// Nodes stand still.
    pub pause: u64,
    /// The network breaks, or heals.
    pub split: u64,
    /// A link comes up anew.
    pub relink: u64,
    /// A node is shut down in order.
    pub drain: u64,
    /// A disk drops what is superfluous.
    pub compact: u64,
    /// Clients want something, per 1,000 events.
    pub demand_per_mille: u64,
    /// Of 10 demands, so many are reads.
    pub reads_of_ten: u64,
    /// Slots between snapshots.
    pub snapshot_every: u64,
    /// Clocks run between this much slower and faster, per 1,000.
    pub drift_per_mille: u64,
}

impl Swarm {
    /// The mixture of a seed.
    pub fn draw(prng: &mut Prng) -> Swarm {
        let nodes = [1, 2, 3, 3, 3, 4, 5, 5, 7][prng.below(9) as usize];
        let mut often = |chances: &[u64]| chances[prng.below(chances.len() as u64) as usize];
        Swarm {
            drop_per_mille: often(&[0, 0, 10, 50, 200]),
            repeat_per_mille: often(&[0, 0, 20, 100]),
            late_per_mille: often(&[0, 0, 5, 30]),
            delay_us_max: often(&[500, 5_000, 20_000]),
            write_us_max: often(&[200, 3_000, 30_000, 100_000]),
            apply_us_max: often(&[100, 2_000, 50_000]),
            crash: often(&[0, 30, 100, 300]),
            blackout: often(&[0, 0, 10, 30]),
            pause: often(&[0, 0, 50]),
            split: often(&[0, 30, 150]),
            relink: often(&[0, 50, 500]),
            drain: often(&[0, 0, 20]),
            compact: often(&[100, 1_000]),
            demand_per_mille: often(&[20, 100, 300]),
            reads_of_ten: often(&[0, 3, 8]),
            snapshot_every: often(&[1, 7, 40, 200, 10_000]),
            drift_per_mille: often(&[0, 0, 50]),
            common: Swarm::common(nodes, prng),
        }
    }

    fn common(nodes: usize, prng: &mut Prng) -> Common {
        let mut often = |chances: &[u64]| chances[prng.below(chances.len() as u64) as usize];
        let raft = raft::Options {
            max_log_entries_per_append: often(&[1, 1, 2, 7, 100]) as usize,
            append_bytes_max: often(&[1, 64, 1 << 20]) as usize,
            window_appends_max: often(&[1, 2, 8, 64]) as usize,
            window_bytes_max: often(&[1, 256, 1 << 20]) as usize,
            cache_entries_max: often(&[0, 1, 8, 64]) as usize,
            cache_bytes_max: often(&[0, 128, 1 << 20]) as usize,
            unapplied_entries_max: often(&[0, 1, 8, 16 << 10]) as usize,
            unapplied_bytes_max: often(&[0, 128, 32 << 20]) as usize,
            catch_up_entries_max: often(&[1, 3, 1024]) as usize,
            catch_up_bytes_max: often(&[1, 64, 1 << 20]) as usize,
            trailing_entries: often(&[1, 3, 20, 1024]),
            piece_bytes_max: often(&[8, 33, 4096]) as usize,
            piece_window_bytes_max: often(&[1, 64, 1 << 20]),
            uncommitted_entries_max: often(&[1, 8, 200]),
            reads_max: often(&[1, 5, 100]) as usize,
            read_rounds_max: often(&[1, 2, 8]) as usize,
            pre_vote: often(&[0, 1, 1]) == 1,
            check_quorum: often(&[0, 1, 1]) == 1,
            ..raft::Options::default()
        };
        let route = route::Options {
            write_wait: Duration::from_millis(often(&[300, 1000])),
            answer_within: Duration::from_millis(often(&[500, 2000])),
            retry_after: Duration::from_millis(often(&[50, 300, 1000])),
            batches_max: often(&[1, 4, 32]) as usize,
            ..route::Options::default()
        };
        Common { nodes, raft, route, reads: reads::Options { demands_max: 16, ..reads::Options::default() } }
    }

    /// The same cluster without faults, and with enough room for a straggler to catch up although clients go on: no protocol makes
    /// progress where the log outruns every snapshot.
    pub fn calm(&mut self) {
        let raft = &mut self.common.raft;
        raft.piece_bytes_max = raft.piece_bytes_max.max(4096);
        raft.trailing_entries = raft.trailing_entries.max(20);
        (self.drop_per_mille, self.repeat_per_mille, self.late_per_mille) = (0, 0, 0);
        (self.crash, self.blackout, self.pause, self.split, self.relink, self.drain) = (0, 0, 0, 0, 0, 0);
        self.delay_us_max = self.delay_us_max.min(5_000);
        self.write_us_max = self.write_us_max.min(10_000);
        self.apply_us_max = self.apply_us_max.min(2_000);
    }
}
