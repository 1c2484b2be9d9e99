//! What happens in a node, as values: [`Event`]. Agents hand them to an [`EventSink`], which never blocks; `log_lines` writes them.

use crate::base::Reign;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Most events that wait to be written. More are dropped and counted.
const WAITING_MAX: usize = 1024;

/// Something that an operator wants to hear of. One line each.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The node is up.
    Start {
        /// The package's version.
        version: &'static str,
        /// Where clients connect.
        clients: String,
        /// Where peers connect.
        peers: String,
        /// Where this plane listens.
        admin: String,
        /// What the kernel offers the data plane.
        kernel: String,
    },
    /// The node goes down in order.
    Stop {
        /// By whose wish.
        why: Cow<'static, str>,
    },
    /// The log was read back.
    Recovered {
        /// The newest slot of the log.
        last: u64,
        /// How long it took.
        took: Duration,
        /// What was wrong with the end that was cut, for it was not wholly written when the node died.
        torn: Option<String>,
    },
    /// This node stands for election, or asks for another view: not one that only votes.
    ElectionStarted {
        /// Of which term.
        reign: Reign,
        /// What moved it.
        cause: Cow<'static, str>,
    },
    /// There is a new leader.
    LeaderElected {
        /// Who.
        leader: u8,
        /// Its term.
        reign: Reign,
    },
    /// There is no leader any more, as far as this node knows.
    LeaderLost {
        /// The term.
        reign: Reign,
        /// Why.
        cause: Cow<'static, str>,
        /// It lets another lead of its own accord: nothing is wrong.
        in_order: bool,
    },
    /// Other members, or others of their keys, are in force.
    MembersChanged {
        /// From now on.
        epoch: u64,
        /// Who they are.
        nodes: String,
        /// How many of them may lie.
        faulty: u8,
    },
    /// A link is up.
    PeerUp {
        /// Whose.
        peer: u8,
        /// Its address.
        address: String,
    },
    /// A link is down.
    PeerDown {
        /// Whose.
        peer: u8,
        /// Why.
        why: Cow<'static, str>,
    },
    /// A snapshot of the own store is durable.
    Snapshotted {
        /// Its last slot.
        slot: u64,
        /// Its size.
        bytes: u64,
        /// From its first byte to its durability.
        took: Duration,
    },
    /// A leader's snapshot is durable and goes to the store.
    SnapshotInstalled {
        /// Its last slot.
        slot: u64,
        /// Its size.
        bytes: u64,
    },
    /// A snapshot came to nothing; the node goes on.
    SnapshotFailed {
        /// Its last slot.
        slot: u64,
        /// Why.
        why: String,
    },
    /// An agent or a core has kept others waiting.
    Stall {
        /// Which.
        agent: Cow<'static, str>,
        /// How long.
        took: Duration,
    },
    /// The disk has failed an operation.
    DiskError {
        /// What was tried.
        operation: Cow<'static, str>,
        /// Why it failed.
        why: String,
    },
    /// The disk of the log has space again: writes are taken.
    DiskRoom,
    /// There is proof that a replica lies: it is no longer followed as a primary.
    Convicted {
        /// Who.
        peer: u8,
        /// Of what, in a word.
        kind: Cow<'static, str>,
    },
    /// Somebody was turned away: a peer with a wrong key, a client over a limit.
    Refused {
        /// Who.
        who: String,
        /// Why.
        why: Cow<'static, str>,
    },
    /// Something that works, but not as wished.
    Warning {
        /// A sentence.
        what: String,
    },
}

/// How urgent a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// As it should be.
    Info,
    /// Somebody should look, soon.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// As it stands in a line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A part of an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Field<'e> {
    /// A number.
    Number(u64),
    /// Milliseconds.
    Millis(f64),
    /// Words.
    Text(&'e str),
}

impl From<u8> for Field<'_> {
    fn from(number: u8) -> Self {
        Field::Number(number.into())
    }
}
impl From<u64> for Field<'_> {
    fn from(number: u64) -> Self {
        Field::Number(number)
    }
}
impl From<Duration> for Field<'_> {
    fn from(took: Duration) -> Self {
        Field::Millis((took.as_secs_f64() * 1e6).round() / 1e3)
    }
}
impl<'e> From<&'e str> for Field<'e> {
    fn from(text: &'e str) -> Self {
        Field::Text(text)
    }
}

/// The epoch stands in a line once there is another than the first.
fn reign_fields<'e>(reign: &Reign) -> impl Iterator<Item = (&'static str, Field<'e>)> + use<'e> {
    let Reign { epoch, term } = *reign;
    let epoch = (epoch != 0).then_some(("epoch", epoch.into()));
    std::iter::once(("term", term.into())).chain(epoch)
}

impl Event {
    /// The event's name in a line; the rate of lines is limited by it.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Start { .. } => "start",
            Event::Stop { .. } => "stop",
            Event::Recovered { .. } => "recovered",
            Event::ElectionStarted { .. } => "election_started",
            Event::LeaderElected { .. } => "leader_elected",
            Event::LeaderLost { .. } => "leader_lost",
            Event::MembersChanged { .. } => "members_changed",
            Event::PeerUp { .. } => "peer_up",
            Event::PeerDown { .. } => "peer_down",
            Event::Snapshotted { .. } => "snapshotted",
            Event::SnapshotInstalled { .. } => "snapshot_installed",
            Event::SnapshotFailed { .. } => "snapshot_failed",
            Event::Stall { .. } => "stall",
            Event::DiskError { .. } => "disk_error",
            Event::DiskRoom => "disk_room",
            Event::Convicted { .. } => "convicted",
            Event::Refused { .. } => "refused",
            Event::Warning { .. } => "warning",
        }
    }

    /// How urgent it is.
    pub fn level(&self) -> Level {
        match self {
            Event::SnapshotFailed { .. } | Event::DiskError { .. } | Event::Convicted { .. } => Level::Error,
            Event::LeaderLost { in_order: true, .. } => Level::Info,
            Event::LeaderLost { .. } | Event::PeerDown { .. } | Event::Stall { .. } => Level::Warn,
            Event::Refused { .. } | Event::Warning { .. } => Level::Warn,
            _ => Level::Info,
        }
    }

    /// Its parts, in the order of the line.
    pub fn fields(&self) -> Vec<(&'static str, Field<'_>)> {
        match self {
            Event::Start { version, clients, peers, admin, kernel } => vec![
                ("version", (*version).into()),
                ("clients", clients.as_str().into()),
                ("peers", peers.as_str().into()),
                ("admin", admin.as_str().into()),
                ("kernel", kernel.as_str().into()),
            ],
            Event::Stop { why } => vec![("why", why.as_ref().into())],
            Event::Recovered { last, took, torn } => {
                let torn = torn.iter().map(|flaw| ("torn", flaw.as_str().into()));
                [("last", (*last).into()), ("ms", (*took).into())].into_iter().chain(torn).collect()
            }
            Event::ElectionStarted { reign, cause } | Event::LeaderLost { reign, cause, .. } => {
                reign_fields(reign).chain([("cause", cause.as_ref().into())]).collect()
            }
            Event::LeaderElected { leader, reign } => {
                std::iter::once(("leader", (*leader).into())).chain(reign_fields(reign)).collect()
            }
            Event::MembersChanged { epoch, nodes, faulty } => {
                vec![("epoch", (*epoch).into()), ("nodes", nodes.as_str().into()), ("f", (*faulty).into())]
            }
            Event::PeerUp { peer, address } => {
                vec![("peer", (*peer).into()), ("address", address.as_str().into())]
            }
            Event::PeerDown { peer, why } => vec![("peer", (*peer).into()), ("why", why.as_ref().into())],
            Event::Snapshotted { slot, bytes, took } => {
                vec![("slot", (*slot).into()), ("bytes", (*bytes).into()), ("ms", (*took).into())]
            }
            Event::SnapshotInstalled { slot, bytes } => {
                vec![("slot", (*slot).into()), ("bytes", (*bytes).into())]
            }
            Event::SnapshotFailed { slot, why } => {
                vec![("slot", (*slot).into()), ("why", why.as_str().into())]
            }
            Event::Stall { agent, took } => {
                vec![("agent", agent.as_ref().into()), ("ms", (*took).into())]
            }
            Event::DiskError { operation, why } => {
                vec![("operation", operation.as_ref().into()), ("why", why.as_str().into())]
            }
            Event::DiskRoom => Vec::new(),
            Event::Convicted { peer, kind } => vec![("peer", (*peer).into()), ("kind", kind.as_ref().into())],
            Event::Refused { who, why } => vec![("who", who.as_str().into()), ("why", why.as_ref().into())],
            Event::Warning { what } => vec![("what", what.as_str().into())],
        }
    }
}

/// An event and when it happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Stamped {
    /// By the wall clock.
    pub at: SystemTime,
    /// What.
    pub event: Event,
}

/// Where events are handed in, from any thread. Never blocks: when the writer is behind, events are dropped and counted.
#[derive(Clone)]
pub struct EventSink {
    sender: Sender<Stamped>,
    dropped: Arc<AtomicU64>,
}

impl EventSink {
    /// A sink, and the end where the events come out.
    pub fn new() -> (EventSink, Receiver<Stamped>) {
        let (sender, receiver) = bounded(WAITING_MAX);
        (EventSink { sender, dropped: Arc::default() }, receiver)
    }

    /// Hands an event in. For rare events: it reads the clock and may wake the writer.
    pub fn emit(&self, event: Event) {
        let stamped = Stamped { at: SystemTime::now(), event };
        if let Err(TrySendError::Full(_)) = self.sender.try_send(stamped) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_sink_drops_and_counts_and_never_blocks() {
        let (sink, receiver) = EventSink::new();
        let elected = |term| Event::LeaderElected { leader: 1, reign: Reign::of(term) };
        (0..WAITING_MAX as u64 + 3).for_each(|term| sink.emit(elected(term)));
        assert_eq!(sink.dropped(), 3);
        let last = receiver.try_iter().last().unwrap();
        let newest = WAITING_MAX as u64 - 1;
        assert_eq!(last.event, elected(newest));
    }
}
