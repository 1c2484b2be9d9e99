//! Every maximum of the house, in one place: what bounds memory, and what a peer or client may ask for.
//!
//! Derived limits are sums with a reason a line. Relations that other code relies on are asserted at compile time, below.
//! Limits that both sides of a link must agree on are part of the fingerprint (`Cluster::fingerprint`).

/// 1 KiB.
pub const KIB: usize = 1024;
/// 1 MiB.
pub const MIB: usize = 1024 * KIB;

// ---- cluster ----------------------------------------------------------------------------------------------------------

/// Members of a cluster. Ids are 1 to this, so that a set of nodes is one word (`base::NodeSet`).
pub const NODES_MAX: usize = 63;
/// Peers of a node.
pub const PEERS_MAX: usize = NODES_MAX - 1;
/// Shards of a node, each a core with a log stream of its own.
pub const SHARDS_MAX: usize = 64;

// ---- what travels -------------------------------------------------------------------------------------------------------

/// Bytes of one batch of commands: the body of one entry. A single command must fit, so it also bounds values.
pub const BATCH_BYTES_MAX: usize = 2 * MIB;
/// Commands of one batch.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// Bytes of a flat head in a frame or record (`wire::hop::META_MAX` is the largest).
pub const HEAD_BYTES_MAX: usize = 128;
/// Bytes of a piece of a snapshot.
pub const PIECE_BYTES_MAX: usize = 256 * KIB;
/// Entries in one append, whatever `raft.max_log_entries_per_append` says.
pub const APPEND_ENTRIES_MAX: usize = 1024;
/// Messages in one frame.
pub const FRAME_MESSAGES_MAX: usize = 1024;
/// Bytes of a frame's own header and tag.
pub const FRAME_HEADER_BYTES: usize = 128;
/// Bytes of the bodies of one frame, past which a sender begins the next: the first body may be as large as it likes.
pub const FRAME_BODIES_BYTES_SOFT: usize = 2 * MIB;
/// Bytes of a whole frame; a receiver closes the link on a longer one.
pub const FRAME_BYTES_MAX: usize =
    // its header and tag
    FRAME_HEADER_BYTES
    // the heads of its messages, and those of the entries inside appends
    + HEAD_BYTES_MAX * (FRAME_MESSAGES_MAX + APPEND_ENTRIES_MAX)
    // bodies up to the soft limit, and one more that began below it
    + FRAME_BODIES_BYTES_SOFT + BATCH_BYTES_MAX;

// ---- the log ------------------------------------------------------------------------------------------------------------

/// What direct I/O asks of offsets and lengths, in bytes (`io::driver::ALIGN`).
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of one record on disk.
pub const RECORD_BYTES_MAX: usize =
    // its local head and the entry's head
    2 * HEAD_BYTES_MAX
    // its body
    + BATCH_BYTES_MAX
    // padding at both ends of the write that holds it
    + 2 * BLOCK_BYTES;
/// Smallest segment: a record never spans two.
pub const SEGMENT_BYTES_MIN: usize = 4 * MIB;
/// Largest segment: a position in it is 32 bits.
pub const SEGMENT_BYTES_MAX: usize = 1024 * MIB;
/// Durable writes in flight on one stream.
pub const LOG_WRITES_MAX: usize = 4;

// ---- rings between agents -----------------------------------------------------------------------------------------------

/// Values of a ring between two agents of the data plane. A full ring to `log` or `store` stops the intake; to `seal` or `tx` it drops.
pub const RING_VALUES: usize = 4096;
/// Inputs that one turn of a shard takes before it settles and hands its lanes over.
pub const BURST_MAX: usize = 512;
/// Errands (fetches, judgements) that a shard has outstanding: both rings of that cycle hold as many.
pub const JOBS_MAX: usize = 256;

// ---- peers --------------------------------------------------------------------------------------------------------------

/// Bytes waiting for one peer; past it frames are dropped and counted, and the core hears `Lost`.
pub const PEER_QUEUE_BYTES_MAX: usize = 32 * MIB;
/// Bytes that heartbeats and votes may use beyond that: no data queue can starve them.
pub const PEER_QUEUE_URGENT_BYTES: usize = 64 * KIB;

// ---- clients ------------------------------------------------------------------------------------------------------------

/// Connections of clients to a node, whatever `client.connections_max` says.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Arguments of one command: counted in 16 bits in a batch.
pub const ARGUMENTS_MAX: usize = 65_535;
/// Bytes of one argument, whatever `client.bulk_bytes_max` says.
pub const BULK_BYTES_MAX: usize = BATCH_BYTES_MAX - 64 * KIB;
/// Bytes of an inline command.
pub const INLINE_BYTES_MAX: usize = 64 * KIB;

// ---- registered memory --------------------------------------------------------------------------------------------------

/// Receive buffers lent to the kernel by a core. Larger pools fall out of the second-level cache.
pub const RECEIVE_POOL_BYTES: usize = 256 * KIB;
/// Entries of a core's submission queue; the completion queue has twice as many.
pub const SUBMISSIONS: usize = 256;
/// Registered (locked) memory of a node on one core: 20 nodes must fit the 8 MiB that an unprivileged user may lock.
pub const REGISTERED_BYTES_MAX: usize = 384 * KIB;

// Relations. Each is a fact that some code relies on.
const _: () = assert!(NODES_MAX < 64, "a set of nodes is one word");
const _: () = assert!(RECORD_BYTES_MAX <= SEGMENT_BYTES_MIN, "a record fits the smallest segment");
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as usize, "a position in a segment is 32 bits");
const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(BLOCK_BYTES), "segments are whole blocks");
const _: () = assert!(BULK_BYTES_MAX < BATCH_BYTES_MAX, "a command with one largest argument fits a batch");
const _: () = assert!(ARGUMENTS_MAX <= u16::MAX as usize, "arguments are counted in 16 bits");
const _: () =
    assert!(PIECE_BYTES_MAX <= FRAME_BODIES_BYTES_SOFT, "a piece never makes a frame longer than its limit");
const _: () = assert!(FRAME_BYTES_MAX < PEER_QUEUE_BYTES_MAX, "one whole frame fits the queue of a peer");
const _: () = assert!(BURST_MAX <= RING_VALUES, "what a burst makes fits a ring that was empty");
const _: () = assert!(JOBS_MAX <= RING_VALUES, "errands never fill a ring");
const _: () =
    assert!(RECEIVE_POOL_BYTES < REGISTERED_BYTES_MAX, "the receive pool leaves room for log buffers");
const _: () =
    assert!(20 * REGISTERED_BYTES_MAX <= 8 * MIB, "twenty nodes fit an unprivileged user's memlock");
