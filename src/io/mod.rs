//! The only room that meets the kernel: descriptors, offsets, buffers, tokens, clocks, entropy, cores.
//!
//! [`Driver`] is the seam of the data plane: the io_uring driver (`uring`) and the simulator implement it.
//! It knows nothing of frames, records or commands.

pub mod affinity;
pub mod agent;
pub mod clock;
pub mod driver;
pub mod entropy;
pub mod listener;
pub mod memory;
pub mod patience;
pub mod process;
pub mod progress;
pub mod uring;

pub use agent::Agent;
pub use driver::{Buffer, BufferId, Completion, Driver, Fd, FileId, Op, Outcome, Token};
pub use entropy::{Entropy, SystemEntropy};
pub use uring::{DriverError, Uring, UringOptions};
