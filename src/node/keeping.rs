//! The keeper of snapshots as this node has it: where its files lie, how fast it may be, and how it checks what a leader sends.

use super::boot::{self, evidence, store_options};
use super::sizes::Sizes;
use crate::admin::keeper::{self, Check, Keeper, KeeperBell, Verify};
use crate::admin::{EventSink, Status};
use crate::config::Resolved;
use crate::store;
use crate::store::inspect::Inspection;
use crate::wire::hop::SnapshotId;
use std::path::PathBuf;
use std::sync::Arc;

/// Largest snapshot that is taken from a leader, in bytes.
const RECEIVED_SNAPSHOT_MAX: u64 = 1 << 40;

/// The keeper, ready for the service thread.
pub fn keeper(
    config: &Resolved,
    ports: keeper::Ports,
    bell: KeeperBell,
    snapshots: Vec<(SnapshotId, PathBuf)>,
    status: &Arc<Status>,
    events: &EventSink,
) -> Keeper {
    let options = keeper::Options {
        directory: boot::snapshots(&config.node.dir),
        evidence: evidence(&config.node.dir),
        write_bytes_per_second: config.raft.snapshot_bytes_per_s,
        read_bytes_per_second: config.raft.snapshot_bytes_per_s,
        received_bytes_max: RECEIVED_SNAPSHOT_MAX,
        keep_previous: boot::keeps_previous(config),
    };
    let verify = Arc::new(SnapshotCheck(store_options(config, &Sizes::NODE)));
    Keeper::new(options, ports, bell, snapshots, verify, status.clone(), events.clone())
}

/// Lets the keeper check snapshots as the store knows how.
struct SnapshotCheck(store::Options);

impl Verify for SnapshotCheck {
    fn begin(&self, id: SnapshotId) -> Box<dyn Check> {
        Box::new(Checking(Inspection::of(id, &self.0)))
    }
    fn options(&self) -> store::Options {
        self.0
    }
}

struct Checking(Inspection);

impl Check for Checking {
    fn update(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.feed(bytes).map_err(|damage| damage.to_string())
    }
    fn finish(self: Box<Self>) -> Result<(), String> {
        self.0.finish().map(drop).map_err(|damage| damage.to_string())
    }
}
