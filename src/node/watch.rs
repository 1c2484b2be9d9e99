//! What a core tells operators: figures once a second, events when something has changed, heartbeats every turn.

use super::agent::NodeAgent;
use crate::admin::status::{Facts, FollowerFacts, PeerFacts};
use crate::admin::{Event, EventSink, Status};
use crate::base::ring::Consumer;
use crate::base::{NodeId, Number, Reign};
use crate::config::limits::NODES_MAX;
use crate::front::View;
use crate::io::Driver;
use crate::log::Told as LogTold;
use crate::meter::turn::Turns;
use crate::meter::{Board, Figures};
use crate::protocol::{Cause, FollowerStanding};
use crate::replica::agent::Told;
use crate::replica::seat::ROOM_MIN;
use crate::store::agent::Told as StoreTold;
use crate::wire::hop::LinkEvent;
use crate::wire::members::Membership;
use crate::wire::roster::Roster;
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
    /// Who is in the group (the core of whoever says so).
    pub members: Option<MembersSight>,
}

/// Who is in the group, as it is told when that changes.
pub struct MembersSight {
    roster: Roster,
    seen: u64,
    epoch: u64,
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
    /// Who is in the group.
    pub roster: Roster,
    /// As last told: how many changes of it.
    pub rolls: u64,
    /// What the log says of itself.
    pub log: LogTold,
    /// As last told.
    pub leader: u64,
    /// As last told.
    pub term: u64,
    /// As last told.
    pub elections: u64,
    /// 1 when a state that came in could not become the store's.
    pub damaged: Number,
    /// As last told.
    pub is_damaged: bool,
    /// As last told: the disk of the log.
    pub is_full: bool,
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
        if let Some(members) = &mut self.sights.members {
            members.look(&self.events);
        }
        if let Some(sight) = &mut self.sights.replica
            && sight.look(&self.events)
        {
            // Who asks who leads is not told who led a second ago.
            self.status.update(|facts| sight.fill(facts));
        }
    }

    /// Once a second.
    pub fn report(&mut self, agents: &[Box<dyn NodeAgent>], driver: &dyn Driver) {
        use crate::meter::Metered;
        self.figures.clear();
        driver.report(&self.core.to_string(), &mut self.figures);
        agents.iter().for_each(|agent| agent.report(&mut self.figures));
        self.turns.report(&mut self.figures);
        self.board.publish(self.core, &mut self.figures);
        if let Some((agent, took)) = self.turns.stall(STALL) {
            self.events.emit(Event::Stall { agent: agent.into(), took });
        }
        self.turns.begin_window();
        if let Some(sight) = &mut self.sights.replica {
            sight.look(&self.events);
            self.status.update(|facts| sight.fill(facts));
        }
    }
}

impl MembersSight {
    /// Who is in it now need not be told.
    pub fn new(roster: Roster) -> MembersSight {
        let epoch = roster.latest().membership.epoch;
        MembersSight { roster, seen: 0, epoch }
    }
    fn look(&mut self, events: &EventSink) {
        let Some(roll) = self.roster.news(&mut self.seen) else { return };
        let Membership { epoch, faulty, members, .. } = &roll.membership;
        if *epoch != self.epoch {
            let ids: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
            let (epoch, faulty) = (*epoch, *faulty);
            events.emit(Event::MembersChanged { epoch, nodes: ids.join(","), faulty });
            self.epoch = epoch;
        }
    }
}

impl ReplicaSight {
    /// Nothing has been told yet.
    pub fn new(
        me: NodeId,
        (told, store): (&Told, &StoreTold),
        view: &View,
        roster: Roster,
        log: LogTold,
    ) -> ReplicaSight {
        ReplicaSight {
            me,
            told: told.clone(),
            applied: store.applied.clone(),
            memory: store.memory.clone(),
            connections: view.facts.connections.clone(),
            roster,
            rolls: 0,
            log,
            leader: 0,
            term: 0,
            elections: 0,
            damaged: store.damaged.clone(),
            is_damaged: false,
            is_full: false,
        }
    }

    /// Tells what has changed. True if it is who leads.
    fn look(&mut self, events: &EventSink) -> bool {
        self.look_at_state(events);
        let (leader, term) = (self.told.leader.get(), self.told.term.get());
        let (elections, reign) = (self.told.elections.get(), Reign::of(term));
        if (leader, term, elections) == (self.leader, self.term, self.elections) {
            return false;
        }
        let cause = Cause::ALL[self.told.cause.get() as usize];
        if leader == 0 && self.leader != 0 {
            let in_order = cause == Cause::HandedOver;
            events.emit(Event::LeaderLost { reign, cause: cause.words().into(), in_order });
        }
        if self.elections < elections {
            events.emit(Event::ElectionStarted { reign, cause: cause.words().into() });
        }
        if leader != 0 && (leader, term) != (self.leader, self.term) {
            events.emit(Event::LeaderElected { leader: leader as u8, reign });
        }
        (self.leader, self.term, self.elections) = (leader, term, elections);
        true
    }

    /// Tells when the log's disk is full, or no longer, and when a state came in that cannot be.
    fn look_at_state(&mut self, events: &EventSink) {
        let full = self.disk_error();
        if full.is_some() != self.is_full {
            self.is_full = full.is_some();
            events
                .emit(full.map_or(Event::DiskRoom, |why| Event::DiskError { operation: "log".into(), why }));
        }
        let damaged = self.damaged.get();
        if self.is_damaged != (damaged != 0) {
            self.is_damaged = damaged != 0;
            if self.is_damaged {
                let why = "a snapshot that was whole on disk could not be loaded: the store stays where it is until another comes";
                events.emit(Event::SnapshotFailed { slot: self.applied.get(), why: why.into() });
            }
        }
    }

    /// Why nothing can be written.
    fn disk_error(&self) -> Option<String> {
        let room = self.log.room.get();
        let full =
            || format!("full: the log has room for {room} bytes, nothing is written until it has more");
        (room < ROOM_MIN).then(full)
    }

    /// The other members, each as its link stands.
    fn fill_peers(&mut self, facts: &mut Facts) {
        let Some(roll) = self.roster.news(&mut self.rolls) else { return };
        let known = std::mem::take(&mut facts.peers);
        let others = roll.membership.members.iter().filter(|member| member.id != self.me);
        facts.peers = others
            .map(|member| {
                let old = known.iter().find(|peer| peer.node == member.id.0).cloned().unwrap_or_default();
                PeerFacts { node: member.id.0, address: member.peer.clone(), ..old }
            })
            .collect();
    }

    fn fill(&mut self, facts: &mut Facts) {
        self.fill_peers(facts);
        let leader = self.told.leader.get() as u8;
        facts.leader = (leader != 0).then_some(leader);
        facts.role = match leader {
            0 => "candidate",
            leader if leader == self.me.0 => "leader",
            _ => "follower",
        }
        .to_string();
        Reign { epoch: facts.epoch, term: facts.term } = Reign::of(self.told.term.get());
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
        facts.disk_error = self.disk_error();
    }
}

fn tell_link(status: &Status, events: &EventSink, event: LinkEvent) {
    let set = |peer: NodeId, up: bool, why: Option<String>| {
        status.update(|facts| {
            // Links learn of a new member before this does; of clients nothing is shown.
            let is_new = facts.peers.iter().all(|p| p.node != peer.0) && usize::from(peer.0) <= NODES_MAX;
            facts.peers.extend(is_new.then(|| PeerFacts { node: peer.0, ..PeerFacts::default() }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::events::Level;
    use crate::wire::roster::Roll;

    fn sight() -> ReplicaSight {
        let membership = Membership { epoch: 0, faulty: 0, retired: Default::default(), members: Vec::new() };
        let sight = ReplicaSight {
            me: NodeId(1),
            told: Told::default(),
            applied: Number::default(),
            memory: Number::default(),
            connections: Number::default(),
            roster: Roster::new(Roll::new(membership, Default::default(), 1, 1)),
            rolls: 0,
            log: LogTold::default(),
            leader: 0,
            term: 0,
            elections: 0,
            damaged: Number::default(),
            is_damaged: false,
            is_full: false,
        };
        sight.log.room.set(u64::MAX);
        sight
    }

    /// What is told once these are the replica's leader, term, elections and cause.
    fn told(sight: &mut ReplicaSight, now: (u64, u64, u64, Cause)) -> Vec<(&'static str, Level)> {
        let (sink, events) = EventSink::new();
        sight.told.leader.set(now.0);
        sight.told.term.set(now.1);
        sight.told.elections.set(now.2);
        sight.told.cause.set(now.3 as u64);
        sight.look(&sink);
        assert!(!sight.look(&sink), "once");
        events.try_iter().map(|stamped| (stamped.event.kind(), stamped.event.level())).collect()
    }

    #[test]
    fn a_lost_leader_is_a_warning_unless_it_handed_over_and_only_who_stands_tells_of_an_election() {
        let mut sight = sight();
        let (start, silence, orderly) = (Cause::Start, Cause::Silence, Cause::HandedOver);
        assert_eq!(told(&mut sight, (2, 1, 0, start)), [("leader_elected", Level::Info)]);
        assert_eq!(told(&mut sight, (0, 1, 0, silence)), [("leader_lost", Level::Warn)]);
        assert_eq!(told(&mut sight, (0, 2, 0, Cause::LaterTerm)), [], "it votes");
        assert_eq!(told(&mut sight, (0, 3, 1, silence)), [("election_started", Level::Info)]);
        assert_eq!(told(&mut sight, (1, 3, 1, silence)), [("leader_elected", Level::Info)]);
        assert_eq!(told(&mut sight, (0, 4, 1, orderly)), [("leader_lost", Level::Info)]);
        let both = [("election_started", Level::Info), ("leader_elected", Level::Info)];
        assert_eq!(told(&mut sight, (1, 5, 2, silence)), both);
    }

    #[test]
    fn members_are_told_when_they_change_and_terms_by_their_epoch() {
        let ((sink, events), mut sight) = (EventSink::new(), sight());
        let mut members = MembersSight::new(sight.roster.clone());
        members.look(&sink);
        assert!(events.try_iter().next().is_none(), "who is in the group at the start is known");
        let mut roll = (*sight.roster.latest()).clone();
        (roll.membership.epoch, roll.membership.faulty) = (2, 1);
        sight.roster.put(roll);
        members.look(&sink);
        members.look(&sink);
        let told: Vec<Event> = events.try_iter().map(|stamped| stamped.event).collect();
        assert_eq!(told, [Event::MembersChanged { epoch: 2, nodes: String::new(), faulty: 1 }]);
        let view = crate::base::View::first_of(2).next();
        sight.told.term.set(view.0);
        let mut facts = Facts::default();
        sight.fill(&mut facts);
        assert_eq!((facts.epoch, facts.term, facts.reign().to_string()), (2, 1, "term 1 of epoch 2".into()));
    }

    #[test]
    fn every_cause_stands_at_its_number() {
        assert!(Cause::ALL.iter().enumerate().all(|(number, cause)| *cause as usize == number));
    }

    #[test]
    fn a_full_disk_and_its_end_and_a_damaged_state_are_told_once_each() {
        let ((sink, events), mut sight) = (EventSink::new(), sight());
        let mut look = |room, damaged| {
            sight.log.room.set(room);
            sight.damaged.set(damaged);
            for _ in 0..2 {
                sight.look(&sink);
            }
            events.try_iter().map(|stamped| stamped.event.kind()).collect::<Vec<_>>()
        };
        assert_eq!(look(ROOM_MIN, 0), Vec::<&str>::new());
        assert_eq!(look(ROOM_MIN - 1, 0), ["disk_error"]);
        assert_eq!(look(u64::MAX, 1), ["disk_room", "snapshot_failed"]);
        assert_eq!(look(u64::MAX, 0), Vec::<&str>::new());
    }
}
