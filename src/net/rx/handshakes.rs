//! Moving handshakes on, a few a turn, to a link or a refusal.

use super::{FAREWELL, Rx, TURN_HANDSHAKES_MAX};
use crate::base::Instant;
use crate::io::Driver;
use crate::net::connection::{Linked, Stage};
use crate::net::handshake::{Established, HandshakeError};

impl Rx {
    /// Moves some handshakes on.
    pub(super) fn shake_hands(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        while done < TURN_HANDSHAKES_MAX {
            let Some(id) = self.shaking.pop_front() else { break };
            done += usize::from(self.shake_one(id, driver));
        }
        done
    }

    /// Looks at what has come for a handshake; whether there was anything.
    pub(super) fn shake_one(&mut self, id: u64, driver: &mut dyn Driver) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let Stage::Shaking { handshake, inbox, .. } = &mut connection.stage else { return false };
        if inbox.is_empty() {
            return false;
        }
        let bytes = std::mem::take(inbox);
        match handshake.receive(&self.identity, &self.lives, &bytes, &mut connection.outbox) {
            Ok(None) => {}
            Ok(Some(established)) => self.established(id, established, driver),
            Err(error) => self.refused(id, &error, driver.now()),
        }
        self.flush(id, driver);
        true
    }

    pub(super) fn established(&mut self, id: u64, established: Established, driver: &mut dyn Driver) {
        let Established { peer, boot, keys, rest } = established;
        self.lives.insert(peer, boot);
        let older = self.peers[&peer].connection.filter(|older| *older != id);
        if let Some(older) = older {
            self.end(older, "the peer has connected anew", driver);
        }
        let now = driver.now();
        let mut linked = Linked::new(peer, keys, now);
        let taken = linked.take(&rest, now);
        let connection = self.connections.get_mut(&id).expect("it has just shaken hands");
        connection.stage = Stage::Linked(Box::new(linked));
        let state = self.peers.get_mut(&peer).expect("the handshake knows members only");
        (state.connection, state.dial_at) = (Some(id), None);
        self.due_by(now.after(self.settings.silence_max));
        if let Err(error) = taken {
            self.end(id, &error.to_string(), driver);
        }
    }

    pub(super) fn refused(&mut self, id: u64, error: &HandshakeError, now: Instant) {
        let connection = self.connections.get_mut(&id).expect("it has just shaken hands");
        let until = now.after(FAREWELL);
        let shaking = std::mem::replace(&mut connection.stage, Stage::Closing { until });
        self.due_by(until);
        self.counters.refused += 1;
        let Stage::Shaking { handshake, dialled, .. } = shaking else { unreachable!("it was shaking hands") };
        if let Some(peer) = dialled {
            self.peers.get_mut(&peer).expect("only peers are dialled").connection = None;
            self.dial_later(peer, now);
        }
        self.try_other_key(handshake.peer(), error);
        let who = dialled.or(handshake.peer().filter(|peer| self.peers.contains_key(peer)));
        self.tell_refused(who, error.to_string());
    }
}
