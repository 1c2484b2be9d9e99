//! Making the ring: a ladder of modes from the best to the oldest kernel that will do, and what came out of it.

use super::error::{DriverError, Machine};
use io_uring::{Builder, IoUring};
use std::fmt;

/// What the node's configuration says about a core's ring. All memory of a driver follows from these.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Submissions that fit before the kernel must be entered; 80 bytes each.
    pub submissions: u32,
    /// Completions that fit; 16 bytes each. More are kept by the kernel, at a cost.
    pub completions: u32,
    /// Receive buffers of the core, a power of two. They bound how many receives are taken up between two turns.
    pub receive_buffers: u16,
    /// Bytes of each. All together should stay in the second-level cache.
    pub receive_bytes: u32,
    /// Buffers for durable writes that are registered with the kernel; they count against `RLIMIT_MEMLOCK`.
    pub write_buffers: u16,
    /// Bytes of each; a multiple of 4096.
    pub write_bytes: usize,
    /// `park` polls instead of sleeping: lower latency for a whole core.
    pub spin: bool,
}

impl UringOptions {
    /// What a node uses unless told otherwise: 256 KiB of receive buffers, 128 KiB of registered memory.
    pub const NODE: UringOptions = UringOptions {
        submissions: 256,
        completions: 2048,
        // Of 16 x 16, 32 x 8 and 64 x 4 KiB these cost least CPU with 64 pipelining connections.
        receive_buffers: 32,
        receive_bytes: 8 * 1024,
        write_buffers: 2,
        write_bytes: 64 * 1024,
        spin: false,
    };
}

// Twenty nodes of one user fit into 8 MiB of lockable memory.
const _: () =
    assert!(UringOptions::NODE.write_buffers as usize * UringOptions::NODE.write_bytes < 384 * 1024);

/// How a ring takes in what has completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Completions are worked out when the thread asks for them, all at once (Linux 6.1).
    Deferred,
    /// The kernel never interrupts the thread for them (Linux 6.0).
    SingleIssuer,
    /// As before, and receives are armed one by one (Linux 5.19).
    Cooperative,
}

/// What this machine's kernel offers; for the line that a node prints at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How completions are taken in.
    pub mode: Mode,
    /// Receives stay armed.
    pub multishot_receive: bool,
    /// One receive may fill several buffers (Linux 6.10).
    pub bundles: bool,
    /// Bytes registered for durable writes; 0 when the kernel refused them.
    pub registered_bytes: usize,
    /// `uname -r`.
    pub kernel: String,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Deferred => "single issuer, deferred task run",
            Mode::SingleIssuer => "single issuer, cooperative task run",
            Mode::Cooperative => "cooperative task run",
        };
        let receive = match (self.multishot_receive, self.bundles) {
            (false, _) => "one-shot receive",
            (true, false) => "multishot receive",
            (true, true) => "multishot receive in bundles",
        };
        let registered = self.registered_bytes / 1024;
        write!(f, "io_uring on Linux {}: {mode}, {receive}, {registered} KiB registered", self.kernel)
    }
}

/// The best ring that the kernel gives.
pub(super) fn build(options: &UringOptions) -> Result<(IoUring, Capabilities), DriverError> {
    let machine = Machine::look();
    let mut refusal = None;
    for mode in [Mode::Deferred, Mode::SingleIssuer, Mode::Cooperative] {
        match builder(mode, options).build(options.submissions) {
            Ok(ring) => {
                let capabilities = Capabilities {
                    mode,
                    multishot_receive: mode != Mode::Cooperative,
                    bundles: ring.params().is_feature_recvsend_bundle(),
                    registered_bytes: 0,
                    kernel: machine.release.clone(),
                };
                return Ok((ring, capabilities));
            }
            // An older kernel refuses flags that it does not know with EINVAL: one rung down.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = Some(error),
            Err(error) => return Err(machine.explain("the ring", error)),
        }
    }
    assert!(refusal.is_some());
    Err(DriverError::Kernel { release: machine.release, need: "io_uring with cooperative task run" })
}

fn builder(mode: Mode, options: &UringOptions) -> Builder {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(options.completions).setup_submit_all();
    // With the flag, an empty ring that has nothing to run costs no system call.
    match mode {
        Mode::Deferred => builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
        Mode::SingleIssuer => builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag(),
        Mode::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
    };
    builder
}
