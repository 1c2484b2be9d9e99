//! What a core tells operators: figures once a second, events when something has changed, heartbeats every turn.

use super::agent::NodeAgent;
use crate::admin::status::{Facts, FollowerFacts, PeerFacts};
use crate::admin::{Event, EventSink, Status};
use crate::base::ring::Consumer;
use crate::base::{NodeId, Number};
use crate::front::View;
use crate::log::Told as LogTold;
use crate::meter::turn::Turns;
use crate::meter::{Board, Figures};
use crate::protocol::FollowerStanding;
use crate::replica::agent::Told;
use crate::replica::seat::ROOM_MIN;
use crate::store::agent::Told as StoreTold;
use crate::wire::hop::LinkEvent;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A turn of an agent that is longer is told as an event: it kept every other agent of its core waiting.
const STALL: Duration = Duration::from_millis(50);

/// The changes that one core sees first; cores without them watch their figures only.
#[derive(Default)]
pub struct Sights {
    /// Links that came and went (the core of `net`).
    pub links: Option<Consumer<LinkEvent>>,
    /// Who leads (the core of the replica).
    pub replica: Option<ReplicaSight>,
}

/// What the replica's core shows.
pub struct ReplicaSight {
    /// This node.
    pub me: NodeId,
    /// The replica's numbers.
    pub told: Told,
    /// The store's newest slot.
    pub applied: Number,
    /// The store's logical bytes.
    pub memory: Number,
    /// Client connections.
    pub connections: Number,
    /// What the log says of itself.
    pub log: LogTold,
    /// As last told.
    pub leader: u64,
    /// As last told.
    pub term: u64,
}

/// One core's.
pub struct Watch {
    core: usize,
    status: Arc<Status>,
    board: Arc<Board>,
    events: EventSink,
    figures: Figures,
    turns: Turns,
    sights: Sights,
}

impl Watch {
    /// For the core of that number; `labels` are on every figure.
    pub fn new(
        core: usize,
        status: Arc<Status>,
        board: Arc<Board>,
        events: EventSink,
        agents: &[&'static str],
        labels: &[(&'static str, &str)],
        sights: Sights,
    ) -> Watch {
        let (figures, turns) = (Figures::new(labels), Turns::new(agents));
        // The board gives back what lay there, so both copies need the labels.
        board.publish(core, &mut figures.clone());
        Watch { core, status, board, events, figures, turns, sights }
    }

    /// An agent has taken a turn.
    pub fn turn(&mut self, index: usize, took: Duration) {
        self.turns.note(index, took);
    }

    /// The event loop turns.
    pub fn beat(&self) {
        self.status.beat(self.core);
    }

    /// Something was done: perhaps there is something to tell.
    pub fn look(&mut self) {
        if let Some(links) = &mut self.sights.links {
            while let Some(event) = links.pop() {
                tell_link(&self.status, &self.events, event);
            }
        }
        if let Some(sight) = &mut self.sights.replica
            && sight.look(&self.events)
        {
            // Who asks who leads is not told who led a second ago.
            self.status.update(|facts| sight.fill(facts));
        }
    }

    /// Once a second.
    pub fn report(&mut self, agents: &[Box<dyn NodeAgent>]) {
        use crate::meter::Metered;
        self.figures.clear();
        agents.iter().for_each(|agent| agent.report(&mut self.figures));
        self.turns.report(&mut self.figures);
        self.board.publish(self.core, &mut self.figures);
        if let Some((agent, took)) = self.turns.stall(STALL) {
            self.events.emit(Event::Stall { agent: agent.into(), took });
        }
        self.turns.begin_window();
        if let Some(sight) = &self.sights.replica {
            self.status.update(|facts| sight.fill(facts));
        }
    }
}

impl ReplicaSight {
    /// Nothing has been told yet.
    pub fn new(me: NodeId, told: &Told, store: &StoreTold, view: &View, log: LogTold) -> ReplicaSight {
        ReplicaSight {
            me,
            told: told.clone(),
            applied: store.applied.clone(),
            memory: store.memory.clone(),
            connections: view.facts.connections.clone(),
            log,
            leader: 0,
            term: 0,
        }
    }

    /// Tells of a change of leader. True if there was one.
    fn look(&mut self, events: &EventSink) -> bool {
        let (leader, term) = (self.told.leader.get(), self.told.term.get());
        if (leader, term) == (self.leader, self.term) {
            return false;
        }
        match leader {
            0 if self.leader != 0 => {
                events.emit(Event::LeaderLost { term, cause: "it was not heard, or stepped down".into() });
            }
            0 if self.term < term => {
                events.emit(Event::ElectionStarted { term, cause: "no leader was heard".into() });
            }
            0 => (),
            leader => events.emit(Event::LeaderElected { leader: leader as u8, term }),
        }
        (self.leader, self.term) = (leader, term);
        true
    }

    fn fill(&self, facts: &mut Facts) {
        let leader = self.told.leader.get() as u8;
        facts.leader = (leader != 0).then_some(leader);
        facts.role = match leader {
            0 => "candidate",
            leader if leader == self.me.0 => "leader",
            _ => "follower",
        }
        .to_string();
        facts.term = self.told.term.get();
        facts.commit = self.told.commit.get();
        facts.last = self.told.last.get();
        facts.elections = self.told.elections.get();
        let followers = self.told.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = |f: &FollowerStanding| FollowerFacts {
            node: f.id.0,
            matched: f.matched.0,
            behind: facts.last.saturating_sub(f.matched.0),
            state: f.mode.to_string(),
        };
        facts.followers = followers.iter().map(follower).collect();
        facts.applied = self.applied.get();
        facts.memory.store_bytes = self.memory.get();
        facts.memory.resident_bytes = resident_bytes();
        facts.connections = self.connections.get();
        facts.log.segments = self.log.segments.get();
        facts.log.bytes = self.log.bytes.get();
        facts.log.first = self.log.first.get();
        let room = self.log.room.get();
        let full =
            || format!("full: the log has room for {room} bytes, nothing is written until it has more");
        facts.disk_error = (room < ROOM_MIN).then(full);
    }
}

fn tell_link(status: &Status, events: &EventSink, event: LinkEvent) {
    let set = |peer: NodeId, up: bool, why: Option<String>| {
        status.update(|facts| {
            facts.peers.iter_mut().filter(|p| p.node == peer.0).for_each(|p: &mut PeerFacts| {
                (p.up, p.why) = (up, why.clone());
            });
        });
    };
    match event {
        LinkEvent::Up { peer, address } => {
            set(peer, true, None);
            events.emit(Event::PeerUp { peer: peer.0, address });
        }
        LinkEvent::Down { peer, why } => {
            set(peer, false, Some(why.clone()));
            events.emit(Event::PeerDown { peer: peer.0, why: why.into() });
        }
        LinkEvent::Refused { who, why } => events.emit(Event::Refused { who, why: why.into() }),
    }
}

/// Of this process; 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = status.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    pages * 4096
}
