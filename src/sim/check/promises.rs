//! Promises: "a server ... persists its current term and vote" and entries "before responding" (thesis 3.8, figure 3.1: "updated on
//! stable storage before responding to RPCs"). So nothing that leaves a node speaks of a vote or an entry that a power failure now
//! would undo.

use crate::base::NodeId;
use crate::protocol::raft::Raft;
use crate::sim::host::Host;
use crate::sim::violation::hold;
use crate::wire::raft::{AppendOutcome, Message};

const PROPERTY: &str = "promises";

/// Looks at a message of `host` that is free to leave for `to`.
pub fn check(host: &Host, core: &Raft, to: NodeId, message: &Message) {
    let promised = match message {
        Message::Vote { term, pre: false, .. } => Some((*term, host.id())),
        Message::VoteReply { term, granted: true, pre: false } => Some((*term, to)),
        // What was acknowledged to the leader of an earlier term was durable then, and may have been cut since: the answer is late,
        // not false.
        Message::AppendReply { term, outcome: AppendOutcome::Matched { slot }, .. }
            if *term == core.term() =>
        {
            hold!(PROPERTY, host.disk.holds_some(*slot), "node {} speaks of slot {slot}", host.id());
            None
        }
        _ => None,
    };
    if let Some((term, candidate)) = promised {
        let (durable, vote) = host.disk.vote();
        let holds = term < durable || (term == durable && vote == Some(candidate));
        hold!(PROPERTY, holds, "node {} speaks of its vote for {candidate} in term {term}", host.id());
    }
}
