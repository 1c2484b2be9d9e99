//! Why the kernel refuses to give a ring, which limit or rule it is, and how to lift it.

use std::io;

/// The driver could not be made. The node says so and exits with the I/O code.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The system switch.
    #[error(
        "io_uring is switched off on this machine: kernel.io_uring_disabled = {value}; \
         set it to 0 (`sysctl -w kernel.io_uring_disabled=0`){}",
        if *.value == 1 { ", or run as a member of the group kernel.io_uring_group" } else { "" }
    )]
    Disabled {
        /// What the switch reads.
        value: u8,
    },
    /// A container's filter.
    #[error(
        "a seccomp filter of this container or service refuses io_uring ({source}); allow io_uring_setup, io_uring_enter and \
         io_uring_register in its profile (docker, podman: --security-opt seccomp=PROFILE.json; systemd: SystemCallFilter=@aio)"
    )]
    Seccomp {
        /// What the kernel said.
        source: io::Error,
    },
    /// A kernel without it.
    #[error(
        "this kernel ({release}) cannot do what is needed: {need}; Linux 5.19 or newer is, 6.1 or newer is better"
    )]
    Kernel {
        /// `uname -r`.
        release: String,
        /// What is missing.
        need: &'static str,
    },
    /// Not enough memory, of the lockable kind or any.
    #[error(
        "the kernel has no memory for {what} (RLIMIT_MEMLOCK is {memlock}); raise the limit to 8 MiB or more \
         (`ulimit -l 8192`; systemd: LimitMEMLOCK=8M; docker: --ulimit memlock=8388608) or the container's memory limit"
    )]
    Memory {
        /// For what.
        what: &'static str,
        /// The limit, as text.
        memlock: String,
    },
    /// Anything else.
    #[error("cannot set up io_uring: {what}: {source}")]
    Setup {
        /// Doing what.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the machine says about itself, for telling refusals apart.
pub(super) struct Machine {
    /// `kernel.io_uring_disabled`, 0 where the kernel has no such switch.
    pub switch: u8,
    /// Whether a seccomp filter is on for this process.
    pub filtered: bool,
    /// `uname -r`.
    pub release: String,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: String,
}

impl Machine {
    pub(super) fn look() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        Machine {
            switch: read("/proc/sys/kernel/io_uring_disabled").trim().parse().unwrap_or(0),
            filtered: seccomp.is_some_and(|mode| mode.trim() == "2"),
            release: read("/proc/sys/kernel/osrelease").trim().to_string(),
            memlock: memlock(),
        }
    }

    /// Names the reason behind a refusal of `what`.
    pub(super) fn explain(&self, what: &'static str, source: io::Error) -> DriverError {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if 0 < self.switch => {
                DriverError::Disabled { value: self.switch }
            }
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if self.filtered => {
                DriverError::Seccomp { source }
            }
            Some(libc::ENOSYS) => DriverError::Kernel { release: self.release.clone(), need: "io_uring" },
            Some(libc::ENOMEM) => DriverError::Memory { what, memlock: self.memlock.clone() },
            _ => DriverError::Setup { what, source },
        }
    }
}

fn memlock() -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    match (result, limit.rlim_cur) {
        (0, libc::RLIM_INFINITY) => "unlimited".to_string(),
        (0, bytes) => format!("{} KiB", bytes / 1024),
        _ => "unknown".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(switch: u8, filtered: bool, code: i32) -> String {
        let machine = Machine { switch, filtered, release: "5.4.0".into(), memlock: "64 KiB".into() };
        machine.explain("the ring", io::Error::from_raw_os_error(code)).to_string()
    }

    #[test]
    fn each_refusal_names_its_cure() {
        assert!(explain(2, false, libc::EPERM).contains("kernel.io_uring_disabled = 2"));
        assert!(explain(1, false, libc::EPERM).contains("kernel.io_uring_group"));
        assert!(explain(0, true, libc::EPERM).contains("seccomp"));
        assert!(explain(0, true, libc::ENOSYS).contains("seccomp"));
        assert!(explain(0, false, libc::ENOSYS).contains("5.4.0"));
        assert!(explain(0, false, libc::ENOMEM).contains("64 KiB"));
        assert!(explain(0, false, libc::EINVAL).contains("the ring"));
    }
}
