//! Holds each message that speaks of a write until that write is durable: one rule for all protocols.

use crate::base::Ticket;
use crate::protocol::Send;
use std::collections::VecDeque;

/// Messages that may wait for a write before no more entries of peers are taken: far more than all windows of a leader hold, so only a
/// disk that stands still under a network that repeats and reorders comes to it.
pub const HELD_MAX: usize = 2048;

/// Messages in the order in which they were said, those held back until their tickets are durable.
#[derive(Default)]
pub struct Gate {
    /// Invariant: tickets do not fall from front to back.
    held: VecDeque<(Ticket, Send)>,
    durable: Ticket,
}

impl Gate {
    /// Takes what was said in a burst; what speaks of nothing unwritten passes at once.
    pub fn admit(&mut self, sends: &mut Vec<Send>, free: &mut Vec<Send>) {
        for send in sends.drain(..) {
            match send.after {
                Some(ticket) if self.durable < ticket => {
                    assert!(self.held.back().is_none_or(|(last, _)| *last <= ticket), "tickets rise");
                    self.held.push_back((ticket, send));
                }
                Some(_) | None => free.push(send),
            }
        }
    }

    /// Everything up to `durable` is on stable storage: lets go what waited for it.
    pub fn open(&mut self, durable: Ticket, free: &mut Vec<Send>) {
        assert!(self.durable <= durable, "the watermark never falls");
        self.durable = durable;
        while self.held.front().is_some_and(|(ticket, _)| *ticket <= durable) {
            free.extend(self.held.pop_front().map(|(_, send)| send));
        }
    }

    /// Whether what would add to it should wait.
    pub fn is_full(&self) -> bool {
        HELD_MAX <= self.held.len()
    }

    /// How many messages are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GROUP_ONE, NodeId, Term};
    use crate::protocol::Target;
    use crate::wire::raft::Message;

    fn send(after: Option<u64>) -> Send {
        let message = Message::TimeoutNow { term: Term(after.unwrap_or(0)) }.into();
        Send { group: GROUP_ONE, to: Target::One(NodeId(1)), after: after.map(Ticket), message }
    }

    #[test]
    fn a_message_leaves_when_its_ticket_is_durable_and_not_before() {
        let (mut gate, mut free) = (Gate::default(), Vec::new());
        gate.admit(&mut vec![send(None), send(Some(2)), send(Some(3)), send(None)], &mut free);
        assert_eq!(free.drain(..).map(|s| s.after).collect::<Vec<_>>(), [None, None]);
        gate.open(Ticket(1), &mut free);
        assert_eq!((free.len(), gate.len()), (0, 2));
        gate.open(Ticket(2), &mut free);
        assert_eq!(free.drain(..).map(|s| s.after).collect::<Vec<_>>(), [Some(Ticket(2))]);
        gate.admit(&mut vec![send(Some(2))], &mut free);
        assert_eq!(free.len(), 1, "already durable");
    }
}
