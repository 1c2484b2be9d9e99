//! The log role: one write-ahead stream a shard, shared by the shard's groups.
//!
//! A record is bytes with a group, a kind and a place (`wire::hop::Stored`); what it says is no business of this room. Records
//! become *batches*, one durable write each; batches lie one after another in *segments*, files of fixed size that are filled with
//! zeros once and overwritten for ever. Durability is one rising number: the ticket of the newest record such that it and all
//! before it are on stable storage.
//!
//! ```text
//! segment   header block | batch | batch | ... | unused          record.rs, segment.rs: the bytes
//! batch     header | record | record | ... | zeros to 4096       writer.rs: what is in flight; compact.rs: segments made and reused
//! record    head | meta | body                                   scan.rs, recover.rs: after a crash; fetch.rs: old entries
//! ```
//!
//! # Why a torn tail can be told from damage
//! Every batch names the checksum of its predecessor, so what is behind a bad batch cannot be reached but by skipping it. Every batch
//! header states facts that were true when it was submitted: up to which batch everything was durable, and which segment is the
//! oldest that is needed. A bad batch that any later header calls durable is damage: this node may have acknowledged what it held,
//! so it must not go on without (protocol-aware recovery, Alagappan et al., FAST '18). A bad batch that no header calls durable is
//! the torn end of the last life: it is cut. After a quiet moment the log says so in an empty batch (*seal*), so that
//! the last acknowledged batch is not ambiguous for longer than that.
//!
//! # Why remnants behind a cut stay dead
//! The batch that takes a cut batch's place carries the generation of the new life, so its checksum differs, so what chained to the
//! cut one chains to nothing. Their headers' statements remain true: none calls a cut batch durable.

pub mod agent;
pub mod compact;
pub mod error;
pub mod fetch;
mod files;
pub mod index;
pub mod inspect;
pub mod record;
pub mod recover;
pub mod scan;
pub mod segment;
pub mod superblock;
pub mod writer;

#[cfg(test)]
mod tests;

pub use agent::{LogAgent, Rings, Told};
pub use error::{Fatal, LogError};
pub use superblock::{Superblock, SuperblockError};
pub use writer::Log;

use crate::base::NodeId;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the bytes on disk: superblock, segments, batches, records.
pub const FORMAT_VERSION: u32 = 1;

/// Whose log this is. It is bound into every header and checksum, so that another node's bytes never verify here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Drawn when the cluster was made.
    pub cluster: [u8; 16],
    /// The member.
    pub node: NodeId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster ", self.node)?;
        self.cluster.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Where a shard's segments are in a node's data directory.
pub fn directory(data: &Path, shard: u16) -> PathBuf {
    data.join(if shard == 0 { "wal".to_string() } else { format!("wal-{shard}") })
}

/// How a shard's log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the segments are. It exists.
    pub directory: PathBuf,
    /// Whose log it is.
    pub identity: Identity,
    /// Which of the node's shards.
    pub shard: u16,
    /// This life of the node (`Superblock::generation`). Above that of every earlier life.
    pub generation: u64,
    /// An earlier life has recovered this log (`Superblock::established`), so an empty directory means that it was wiped.
    pub established: bool,
    /// Size of a segment. Larger ones change less often; a new one costs that many bytes of zeros, once.
    pub segment_bytes: u32,
    /// Up to how many bytes share a write. Beyond the registered buffers' size (64 KiB) each write takes fresh memory.
    pub batch_bytes: usize,
    /// Largest body of a record.
    pub body_max: usize,
    /// How many batches may be in flight. More hide the disk's latency, and lengthen what a crash leaves ambiguous.
    pub window: usize,
    /// How many segments are kept ready ahead of need.
    pub spares: usize,
    /// Batches count as stored when they are on stable storage. Otherwise (`durability = "none"`) as soon as they are on their way there, and
    /// none is synced: a power cut may lose what was acknowledged.
    pub durable: bool,
    /// After how long a quiet the newest batch's durability is written down.
    pub seal_after: Duration,
}

impl Options {
    /// What a node uses unless told otherwise.
    pub fn usual(directory: PathBuf, identity: Identity, generation: u64, established: bool) -> Options {
        Options {
            directory,
            identity,
            shard: 0,
            generation,
            established,
            segment_bytes: 64 << 20,
            batch_bytes: 64 << 10,
            body_max: 1 << 20,
            window: 4,
            spares: 1,
            durable: true,
            seal_after: Duration::from_millis(50),
        }
    }
    /// Panics when the settings contradict each other; `config` has checked them before.
    pub(crate) fn check(&self) {
        let block = crate::io::driver::ALIGN;
        assert!(
            (self.segment_bytes as usize).is_multiple_of(block) && self.batch_bytes.is_multiple_of(block)
        );
        assert!(block + record::batch_bytes(self.body_max) <= self.segment_bytes as usize);
        assert!(2 * block <= self.batch_bytes && self.batch_bytes + block <= self.segment_bytes as usize);
        assert!(0 < self.window && 0 < self.spares && 0 < self.generation);
    }
}

/// Takes the first of a queue if it is of that kind.
fn pop_if<T>(queue: &mut std::collections::VecDeque<T>, is: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(is) { queue.pop_front() } else { None }
}
