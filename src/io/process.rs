//! What the kernel says about processes: their CPU time, and ending them in order. And how this one uses its memory.

use std::time::Duration;

/// CPU time that a process and its threads have used so far, dead threads included. `None` when there is no such process.
pub fn cpu_time(process: u32) -> Option<Duration> {
    let process = libc::pid_t::try_from(process).ok()?;
    let mut clock = 0;
    // SAFETY: `clock` is a valid clock id that outlives the call.
    if unsafe { libc::clock_getcpuclockid(process, &mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return None;
    }
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Asks a process to end (`SIGTERM`). False when there is none.
pub fn terminate(process: u32) -> bool {
    signal(process, libc::SIGTERM)
}

/// Ends a process at once (`SIGKILL`). False when there is none.
pub fn kill(process: u32) -> bool {
    signal(process, libc::SIGKILL)
}

/// Lets a process stand still (`SIGSTOP`). False when there is none.
pub fn pause(process: u32) -> bool {
    signal(process, libc::SIGSTOP)
}

/// Lets one that stands still go on (`SIGCONT`). False when there is none.
pub fn resume(process: u32) -> bool {
    signal(process, libc::SIGCONT)
}

/// Sends the first signal of those without a meaning of their own (`SIGUSR1`). False when there is no such process.
pub fn user_signal_1(process: u32) -> bool {
    signal(process, libc::SIGUSR1)
}

/// Sends the second one (`SIGUSR2`). False when there is no such process.
pub fn user_signal_2(process: u32) -> bool {
    signal(process, libc::SIGUSR2)
}

fn signal(process: u32, signal: i32) -> bool {
    // Zero and negative numbers mean groups of processes: never those.
    let Some(process) = libc::pid_t::try_from(process).ok().filter(|process| 1 < *process) else {
        return false;
    };
    // SAFETY: no pointers are passed.
    unsafe { libc::kill(process, signal) == 0 }
}

/// What any thread has freed, any thread takes again. Else the C library gives each thread an arena of its own, and what one has filled
/// and another frees, as a store that was read back by one thread and lives on another, lies idle. To be called before there are
/// threads.
pub fn share_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers are passed. Failing only leaves the arenas as they were.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Lets the calling thread's timed waits end when they are due, not up to 50 us later.
pub fn sharpen_timers() {
    let slack: libc::c_ulong = 1;
    // SAFETY: no pointers are passed. Failing only leaves the slack as it was.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_rises_with_work() {
        let before = cpu_time(std::process::id()).unwrap();
        let sum =
            (0..3_000_000u64).fold(0u64, |sum, i| sum.wrapping_mul(31).wrapping_add(std::hint::black_box(i)));
        assert_ne!(std::hint::black_box(sum), 1);
        assert!(before < cpu_time(std::process::id()).unwrap());
    }

    #[test]
    fn a_child_can_be_ended_and_groups_cannot() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(terminate(child.id()));
        assert!(!child.wait().unwrap().success());
        assert!(!terminate(0) && !kill(0) && !terminate(u32::MAX));
    }
}
