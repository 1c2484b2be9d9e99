//! What travels between nodes and what is written to the log, as values and as bytes.
//!
//! - [`Entry`]: one decided or to-be-decided place of a group's log.
//! - [`Message`]: what a replica tells another; one file a protocol.
//! - `hop`: what agents of one node hand to each other over rings.
//! - [`Record`]: what a core wants stored. `roster`: who is in the group, for all agents of a node.
//! - `frame`, `sealer`, `opener`: the bytes between nodes. `opened`: proof that bytes were authentic and well formed.
//!
//! Heads are flat rkyv archives at 16-byte aligned offsets; bodies are raw bytes, named by their digests.

pub mod codec;
mod codec_forward;
mod codec_pbft;
mod codec_raft;
mod codec_record;
pub mod entry;
pub mod forward;
pub mod frame;
pub mod hello;
pub mod hop;
pub mod members;
pub mod opened;
pub mod opener;
pub mod pbft;
mod pbft_change;
mod pbft_epoch;
mod pbft_proof;
pub mod peek;
pub mod raft;
pub mod record;
pub mod roster;
pub mod sealer;
pub mod sequence;

#[cfg(test)]
mod tests;

pub use codec_record::RecordError;
pub use entry::{Batch, Entry, EntryKind};
pub use opened::Opened;
pub use record::Record;

/// What a replica tells another.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Of a Raft group.
    Raft(raft::Message),
    /// Of a PBFT group.
    Pbft(pbft::Message),
    /// Between fronts and leaders, whatever the protocol.
    Forward(forward::Message),
}
impl Message {
    /// Whether whoever takes it in may have to store much: what it says can be said again when there is room for that.
    pub fn takes_room(&self) -> bool {
        match self {
            Message::Raft(raft::Message::Append { .. }) => true,
            Message::Pbft(message) => match message {
                pbft::Message::PrePrepare { .. } | pbft::Message::Have { .. } => true,
                pbft::Message::Decided { entries, .. } => !entries.is_empty(),
                _ => false,
            },
            Message::Raft(_) | Message::Forward(_) => false,
        }
    }
}
impl From<forward::Message> for Message {
    fn from(m: forward::Message) -> Message {
        Message::Forward(m)
    }
}
impl From<pbft::Message> for Message {
    fn from(m: pbft::Message) -> Message {
        Message::Pbft(m)
    }
}
impl From<raft::Message> for Message {
    fn from(m: raft::Message) -> Message {
        Message::Raft(m)
    }
}
