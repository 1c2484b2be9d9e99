//! Client connections. Two agents on one thread, since both name the same sockets:
//!
//! - [`Take`] accepts, receives, parses, answers what concerns the connection alone (`session`, `local`), and gathers what concerns
//!   the data into batches (`gather`). A `seat` is what it holds of one connection.
//! - [`Reply`] puts what the store, the replica and `Take` answer into the order of each connection (`order`) and sends it.
//!
//! What flows down is a ring of [`plan::Planned`]: for each connection, in its order, where its next replies will come from. What flows
//! back is numbers: how much of a connection is answered and unsent ([`plan::Flow`]), which batches are settled ([`plan::Settled`]).
//!
//! # Why the commands of a connection take effect in the order sent, and reads are linearizable
//!
//! Two roads lead to the store. A *write batch* goes through the log; a *read batch* waits for a read index (thesis 6.4) and is then
//! answered from the own store without touching the log. On either road commands keep their order: the log applies batches of a lane
//! by their sequence, read batches are granted and answered by their id. So order can be lost only between the roads, and three rules
//! (`session`) keep it there:
//!
//! 1. A read of a connection that has an unanswered write goes with the writes, into the log. It takes effect at its place there.
//! 2. A read of a connection that has none takes a read index. The connection's earlier writes have been answered, so they are
//!    committed at or below any index that is asked for from now on, and the read sees them.
//! 3. A write that follows an unanswered read of the other road would overtake it. If that read was parsed in the same burst and has
//!    not left, it is moved into the log's batch, before the write; otherwise the connection waits until the read is answered.
//!
//! By 1 and 2 a read takes effect between its arrival and its reply and after everything that was answered before it came, on any
//! connection of any node: in the log because its place is decided after it came, by the index because the leader proves its
//! leadership after it came. With the log's total order of writes that is linearizability.
//!
//! # Why replies cannot take all memory
//!
//! Nine bytes can ask for a megabyte. A command is handed on only when its reply has room, by an upper bound that is known before
//! (`bound`): within what its connection may have on its way and unsent, and within what may be made for all connections at a time.
//! Otherwise it waits where it is, and its connection is not read from. A batch is closed when the replies to it can be long, so that
//! the store makes them in turns of bounded length.

mod bound;
mod catalogue;
mod client;
mod cluster;
mod gather;
mod help;
mod info;
mod local;
mod order;
pub mod plan;
mod reply;
mod seat;
mod session;
mod take;
mod verify;
mod view;

pub use bound::Extent;
pub use gather::Lingering;
pub use reply::Reply;
pub use take::{Take, TakePorts};
pub use verify::Verification;
pub use view::{Facts, Member, View};

use crate::resp::parse::Limits;
use std::time::Duration;

/// The shard whose front this is, as figures name it: a node has one.
const SHARD: &str = "0";

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
    /// Most bytes of replies of a connection that are made and unsent, or on their way: a command whose reply may not fit waits, and
    /// the connection is not read from meanwhile. A connection with nothing on its way may always have one command.
    pub unsent_bytes_max: u64,
    /// Most unsent bytes of all connections; while there are more, those that have a share wait, and are closed after a second in
    /// which they take none.
    pub unsent_bytes_total_max: u64,
    /// A connection that must wait because of its unsent replies, and takes none of them for so long, is closed.
    pub stall_max: Duration,
    /// Reads go the way of writes, so that every replica answers them: no node's own word is enough.
    pub reads_in_log: bool,
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
            reads_in_log: false,
        }
    }
}

#[cfg(test)]
mod agent_tests;
