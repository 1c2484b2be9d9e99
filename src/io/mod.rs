//! The only room that meets the kernel: descriptors, offsets, buffers, tokens, clocks, entropy, cores.
//!
//! [`Driver`] is the seam of the data plane: the io_uring driver (`uring`) and the simulator implement it.
//! It knows nothing of frames, records or commands.

pub mod agent;
pub mod driver;
pub mod memory;

pub use agent::Agent;
pub use driver::{Buffer, BufferId, Completion, Driver, Fd, FileId, Op, Outcome, Token};
