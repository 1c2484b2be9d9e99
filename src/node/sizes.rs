//! Sizes that no operator chooses: what stands between agents, and the largest things that pass. The simulator makes them small, so
//! that every full ring and every full segment is met often.

use crate::config::limits::{BATCH_BYTES_MAX, NEW_VIEW_BYTES_MAX};
use crate::store;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Values that fit between two agents: several bursts, so that a full ring means that the other side is behind.
    pub ring_values: usize,
    /// Errands that wait for disk.
    pub errands_max: usize,
    /// Values of rings of rare values.
    pub few: usize,
    /// Largest body of a log record, so of a batch of commands.
    pub body_max: usize,
    /// Up to how many bytes of records share a write of the log.
    pub log_batch_bytes: usize,
    /// The store's table has two to the power of this many buckets. Equal on all nodes of a cluster.
    pub bucket_bits: u32,
    /// Largest new-view of a PBFT group, which is a record of the log too. Equal on all nodes of a cluster.
    pub new_view_bytes_max: usize,
    /// Of a PBFT group, where they are not those of `pbft::Options::default`. Equal on all nodes of a cluster.
    pub pbft: Option<PbftSizes>,
}

/// What bounds the slots of a PBFT group; [`crate::protocol::pbft::Options`] says what each costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PbftSizes {
    /// Slots between the water marks.
    pub window: u64,
    /// Slots between checkpoints.
    pub checkpoint_every: u64,
    /// Slots between snapshots.
    pub snapshot_every: u64,
    /// Most proposals in one pre-prepare.
    pub proposals_max: usize,
    /// Most bytes of bodies in one message, but at least one body.
    pub message_bytes_max: usize,
    /// Most batches of one node that are assigned and not executed.
    pub origin_batches_max: usize,
    /// Executed values that stay in memory.
    pub cache_entries_max: usize,
}

impl Sizes {
    /// Of a real node.
    pub const NODE: Sizes = Sizes {
        ring_values: 4096,
        errands_max: 256,
        few: 256,
        body_max: BATCH_BYTES_MAX,
        log_batch_bytes: 64 << 10,
        bucket_bits: store::BUCKET_BITS,
        new_view_bytes_max: NEW_VIEW_BYTES_MAX,
        pbft: None,
    };
}
