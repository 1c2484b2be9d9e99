//! Every maximum of the house, in one place: what bounds memory, and what a peer or client may ask for.
//!
//! Derived limits are sums with a reason a line. Relations that other code relies on are asserted at compile time, below.
//! Limits that both sides of a link must agree on are part of the fingerprint (`Resolved::fingerprint`).

/// 1 KiB.
pub const KIB: usize = 1024;
/// 1 MiB.
pub const MIB: usize = 1024 * KIB;

// ---- cluster ------------------------------------------------------------------------------------------------

/// Members of a cluster. Ids are 1 to this, so that a set of nodes is one word (`base::NodeSet`).
pub const NODES_MAX: usize = 63;
/// Native clients of a cluster. Their ids follow those of the members.
pub const CLIENTS_MAX: usize = 64;
/// Cores of a node's data plane.
pub const CORES_MAX: usize = 64;

// ---- what travels -------------------------------------------------------------------------------------------

/// Bytes of one argument of a command, so of a value, whatever `client.bulk_bytes_max` says.
pub const BULK_BYTES_MAX: usize = MIB;
/// Bytes of one batch of commands: the body of one entry. A command is never cut, so a whole command must fit too.
pub const BATCH_BYTES_MAX: usize =
    // the largest argument
    BULK_BYTES_MAX
    // the command's other arguments: key, options
    + 64 * KIB;
/// Bytes of a message's or record's flat heads, without the entries it lists.
pub const HEAD_BYTES_MAX: usize = 128;
/// Bytes that an entry adds to a frame besides its body: a flat head and a line of the table of bodies.
pub const ENTRY_BYTES_MAX: usize = 144;
/// Bytes of a piece of a snapshot.
pub const PIECE_BYTES_MAX: usize = 256 * KIB;
/// Ranges of a snapshot in one question for them.
pub const RANGES_MAX: usize = 1024;
/// Bytes of bodies in one append past its first entry, whatever `raft.append_bytes_max` says.
pub const APPEND_BYTES_MAX: usize = 768 * KIB;
/// Largest frame in bytes; a receiver closes the link on a longer one.
pub const FRAME_BYTES_MAX: usize = 2 * MIB;
/// Bytes of a PBFT new-view. It is one message, and one record of the log; proof against whoever sends it is a message too.
pub const NEW_VIEW_BYTES_MAX: usize = FRAME_BYTES_MAX - 16 * KIB;
/// A frame that has reached this many bytes takes no more messages: what waits behind it on the link waits for no more than
/// this, unless a single message is larger.
pub const FRAME_BYTES_AIM: usize = 256 * KIB;
/// Messages of a frame.
pub const FRAME_MESSAGES_MAX: usize = 1024;
/// Bodies of a frame, so entries of an append: with the heads they are handed to the kernel in one call, which takes 1,024
/// pieces.
pub const FRAME_BODIES_MAX: usize = 512;
/// The longest message: an append of as many entries as a frame has bodies.
const LARGEST_APPEND_BYTES: usize =
    // the frame's and the message's own heads
    2 * HEAD_BYTES_MAX
    // the entries' heads
    + FRAME_BODIES_MAX * ENTRY_BYTES_MAX
    // the first entry's body may be as large as it likes
    + BATCH_BYTES_MAX
    // the others'
    + APPEND_BYTES_MAX;

// ---- the log ------------------------------------------------------------------------------------------------

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

// ---- clients ------------------------------------------------------------------------------------------------

/// Connections of clients to a node, whatever `client.connections_max` says.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Bytes of the reply to one command; longer ones are errors that say so.
pub const REPLY_BYTES_MAX: usize = 32 * MIB;
/// Bytes of the replies that are being made at a time, for all connections: commands wait for their turn beyond it. The longest reply
/// need not wait until there is no other.
pub const REPLIES_MADE_MAX: usize = 2 * REPLY_BYTES_MAX;
/// Bytes of the replies to one batch. Fronts keep to `REPLIES_MADE_MAX` as far as they can know how long replies will be; a value
/// that grows meanwhile can make them longer, up to here.
pub const BATCH_REPLIES_MAX: usize = REPLIES_MADE_MAX + REPLY_BYTES_MAX;
/// Arguments of one command: counted in 16 bits in a batch.
pub const ARGUMENTS_MAX: usize = 65_535;

// ---- registered memory --------------------------------------------------------------------------------------

/// Registered (locked) memory of a node on one core: 20 nodes must fit the 8 MiB that an unprivileged user may lock.
pub const REGISTERED_BYTES_MAX: usize = 384 * KIB;

// Relations. Each is a fact that some code relies on.
const _: () = assert!(NODES_MAX < 64, "a set of nodes is one word");
const _: () = assert!(LARGEST_APPEND_BYTES <= FRAME_BYTES_MAX, "any append fits a frame of its own");
const _: () = assert!(PIECE_BYTES_MAX + KIB <= FRAME_BYTES_MAX, "any piece fits a frame of its own");
const _: () = assert!(FRAME_BYTES_AIM <= FRAME_BYTES_MAX, "a frame is closed before it is too long");
const _: () = assert!(RECORD_BYTES_MAX <= SEGMENT_BYTES_MIN, "a record fits the smallest segment");
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as usize, "a position in a segment is 32 bits");
const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(BLOCK_BYTES), "segments are whole blocks");
const _: () = assert!(BATCH_REPLIES_MAX <= 1 << 30, "a position in the replies to a batch is 32 bits");
const _: () = assert!(ARGUMENTS_MAX <= u16::MAX as usize, "arguments are counted in 16 bits");
const _: () = assert!(20 * REGISTERED_BYTES_MAX <= 8 * MIB, "twenty nodes fit a user's memlock");
