//! hedge
mod gather;
mod local;
pub mod plan;
mod reply;
mod session;
mod take;
mod view;
use crate::resp::parse::Limits;
pub use reply::Reply;
use std::time::Duration;
pub use take::{Take, TakePorts};
pub use view::{Facts, Member, View};

/// What the client port may use. Each limit has its own error, or holds the client back by not reading from it.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`, or a path (Unix socket).
    pub address: String,
    /// Asked of every client, by AUTH or HELLO; none for an open port.
    pub password: Option<String>,
    /// Of one command. Passing them costs the connection, as in Redis: the stream has lost its place.
    pub limits: Limits,
    /// Most connections; the next gets `-ERR max number of clients reached`.
    pub connections_max: usize,
    /// Most unanswered commands of a connection; it is not read from while it has more (and the client's writes wait).
    pub pipeline_max: u64,
    /// Most commands of a connection in one turn, so that a busy one does not starve the others.
    pub burst_commands_max: usize,
    /// A batch is closed when it has so many bytes. One command may be longer.
    pub batch_bytes_max: usize,
    /// Most bytes of batches that are not answered; beyond it commands get `-OVERLOADED`.
    pub pending_bytes_max: u64,
    /// Most bytes of unfinished commands of all connections; the command that passes it gets `-OVERLOADED`, and its connection is
    /// closed, for the rest of the command could not be told from the next.
    pub partial_bytes_max: usize,
    /// Most unsent bytes of a connection; it is not read from while it has more.
    pub unsent_bytes_max: u64,
    /// Most unsent bytes of all connections; while there are more, those that have a share are not read from.
    pub unsent_bytes_total_max: u64,
    /// A connection over its `unsent_bytes_max` that takes no byte for so long, and has no unanswered command, is closed.
    pub stall_max: Duration,
}

impl Options {
    /// Limits for a node of modest memory, without a password.
    pub fn at(address: &str) -> Options {
        Options {
            address: address.to_string(),
            password: None,
            limits: Limits { args_max: 1 << 16, bulk_bytes_max: 8 << 20, command_bytes_max: 16 << 20 },
            connections_max: 10_000,
            pipeline_max: 64 * 1024,
            burst_commands_max: 1024,
            batch_bytes_max: 256 << 10,
            pending_bytes_max: 64 << 20,
            partial_bytes_max: 64 << 20,
            unsent_bytes_max: 32 << 20,
            unsent_bytes_total_max: 128 << 20,
            stall_max: Duration::from_secs(30),
        }
    }
}
