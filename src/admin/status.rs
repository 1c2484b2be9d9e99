//! What the node says of itself: [`Facts`], refreshed by the cores about once a second or on change, and the heartbeats of their
//! event loops.

use crate::base::Reign;
use bytes::Bytes;
use crossbeam::utils::CachePadded;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What `/statusz` prints, and `quorate ctl` reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// This node's number.
    pub node: u8,
    /// The cluster's name or id.
    pub cluster: String,
    /// The group that the facts below are about.
    pub group: u32,
    /// The protocol that the group runs.
    pub protocol: String,
    /// `leader`, `follower`, `candidate`; empty while the log is recovered.
    pub role: String,
    /// Which membership of the group is in force; 0 for the first, and in Raft.
    pub epoch: u64,
    /// Raft's term, or the view within its epoch.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<u8>,
    /// The newest committed slot.
    pub commit: u64,
    /// The newest slot that the store has applied.
    pub applied: u64,
    /// The newest slot of the own log.
    pub last: u64,
    /// Elections that this node has stood in since its start.
    pub elections: u64,
    /// How far the followers are; filled at the leader.
    pub followers: Vec<FollowerFacts>,
    /// The other members.
    pub peers: Vec<PeerFacts>,
    /// The write-ahead log.
    pub log: LogFacts,
    /// The newest durable snapshot.
    pub snapshot: SnapshotFacts,
    /// Memory.
    pub memory: MemoryFacts,
    /// Client connections.
    pub connections: u64,
    /// What is wrong with the disk, if anything.
    pub disk_error: Option<String>,
    /// Replicas against which there is proof.
    pub convicted: Vec<Convicted>,
    /// The package's version.
    pub version: String,
    /// The protocol version between nodes.
    pub wire_version: u32,
    /// This node's starts, counted in its superblock.
    pub boot: u64,
}

impl Facts {
    /// The term and its epoch.
    pub fn reign(&self) -> Reign {
        Reign { epoch: self.epoch, term: self.term }
    }
}

/// A follower as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowerFacts {
    /// The follower.
    pub node: u8,
    /// The newest slot that it is known to hold durably.
    pub matched: u64,
    /// Slots that the leader has and the follower is not known to have.
    pub behind: u64,
    /// `probe`, `replicate` or `snapshot`.
    pub state: String,
}

/// Another member, as its link stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerFacts {
    /// The member.
    pub node: u8,
    /// Where it listens.
    pub address: String,
    /// Whether the link is up.
    pub up: bool,
    /// Why it is down.
    pub why: Option<String>,
}

/// A replica that lies, and by which kind of proof that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Convicted {
    /// The replica.
    pub node: u8,
    /// What it did, in a word.
    pub kind: String,
}

/// The write-ahead log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFacts {
    /// Segments in use.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The oldest slot it holds.
    pub first: u64,
    /// Whether it writes past the page cache.
    pub direct: bool,
}

/// The newest durable snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotFacts {
    /// Its last slot; 0 for none.
    pub slot: u64,
    /// Its size.
    pub bytes: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryFacts {
    /// Of the process.
    pub resident_bytes: u64,
    /// Logical bytes of the store.
    pub store_bytes: u64,
    /// Their bound; 0 for none.
    pub store_bytes_max: u64,
}

/// Shared between the cores, which write, and the service plane, which reads.
pub struct Status {
    facts: Mutex<Facts>,
    /// The proofs of `Facts::convicted`: one of each kind a replica.
    proofs: Mutex<BTreeMap<Convicted, Bytes>>,
    cores: Vec<CachePadded<AtomicU64>>,
    watched: Mutex<Vec<Watched>>,
    stall_after: Duration,
    started: Instant,
}

/// A core's heartbeat as last seen.
struct Watched {
    beat: u64,
    since: Instant,
}

impl Status {
    /// For `cores` core threads. One that has not beaten for `stall_after` counts as stalled; cores beat at least once a second.
    pub fn new(cores: usize, stall_after: Duration, facts: Facts) -> Status {
        let started = Instant::now();
        Status {
            facts: Mutex::new(facts),
            proofs: Mutex::default(),
            cores: (0..cores).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            watched: Mutex::new((0..cores).map(|_| Watched { beat: 0, since: started }).collect()),
            stall_after,
            started,
        }
    }

    /// The event loop of `core` turns. One store; each core has its own line.
    pub fn beat(&self, core: usize) {
        let beats = &self.cores[core];
        // Only this core writes the number, so a load and a store lose nothing.
        beats.store(beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Changes some facts. For the once-a-second report and for events, never for the hot path.
    pub fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut lock(&self.facts));
    }

    /// There is proof against a replica.
    pub fn convict(&self, convicted: Convicted, proof: Bytes) {
        lock(&self.proofs).insert(convicted.clone(), proof);
        self.update(|facts| {
            if !facts.convicted.contains(&convicted) {
                facts.convicted.push(convicted);
            }
        });
    }

    /// All proofs.
    pub fn proofs(&self) -> Vec<(Convicted, Bytes)> {
        lock(&self.proofs).iter().map(|(convicted, proof)| (convicted.clone(), proof.clone())).collect()
    }

    /// A copy of the facts.
    pub fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Looks at the heartbeats, and tells which cores have been still for too long and for how long. The service thread calls it
    /// once a second, so that a request later judges by what was seen and not by its own first look.
    pub fn stalled(&self) -> Vec<(usize, Duration)> {
        self.stalled_at(Instant::now())
    }

    fn stalled_at(&self, now: Instant) -> Vec<(usize, Duration)> {
        let mut watched = lock(&self.watched);
        let mut stalled = Vec::new();
        for (core, (beats, seen)) in self.cores.iter().zip(watched.iter_mut()).enumerate() {
            let beat = beats.load(Ordering::Relaxed);
            if beat != seen.beat {
                *seen = Watched { beat, since: now };
            }
            let still = now.saturating_duration_since(seen.since);
            if self.stall_after <= still {
                stalled.push((core, still));
            }
        }
        stalled
    }

    /// Since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A change of facts cannot leave them unreadable, so a poisoned lock is no reason to stop telling.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_beats_no_more_is_told_with_its_time() {
        let status = Status::new(2, Duration::from_secs(5), Facts::default());
        let start = status.started;
        assert!(status.stalled_at(start + Duration::from_secs(4)).is_empty());
        status.beat(0);
        let stalled = status.stalled_at(start + Duration::from_secs(6));
        assert_eq!(stalled, [(1, Duration::from_secs(6))]);
        status.beat(1);
        assert!(status.stalled_at(start + Duration::from_secs(7)).is_empty());
        let stalled = status.stalled_at(start + Duration::from_secs(12));
        assert_eq!(stalled, [(0, Duration::from_secs(6)), (1, Duration::from_secs(5))]);
    }

    #[test]
    fn facts_read_back_what_a_newer_node_wrote() {
        let text = r#"{"node":2,"role":"leader","leader":2,"a_later_fact":[1],"followers":[{"node":1}]}"#;
        let facts: Facts = serde_json::from_str(text).unwrap();
        assert_eq!((facts.node, facts.role.as_str(), facts.leader), (2, "leader", Some(2)));
        assert_eq!(facts.followers[0], FollowerFacts { node: 1, ..FollowerFacts::default() });
    }
}
