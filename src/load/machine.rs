//! Facts about the machine that a figure means nothing without: kernel, cores, memory, file system, and how far the cores are apart.

use crate::io::driver::{ALIGN, OpenOptions, run_alone};
use crate::io::{Buffer, Driver, Op, Uring, UringOptions, affinity, clock};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The machine.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// As the processor calls itself.
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
    /// Of the machine.
    pub memory_bytes: u64,
    /// Where the nodes write, if they run here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// Microseconds that a synced write of 4 KiB takes there when nothing else is written (median of 64): a figure for a disk of 15 says
    /// little about one of 150, nor about one of 1,500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_write_us: Option<f64>,
}

/// A file system.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Filesystem {
    /// As `mount` says: ext4, xfs, tmpfs.
    pub kind: String,
    /// The device or other source.
    pub source: String,
    /// Where it is mounted.
    pub mount: PathBuf,
}

impl Filesystem {
    /// Whether it lives in memory: nothing there is durable.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs" | "devtmpfs" | "rootfs")
    }

    /// The file system that `path` lies on; `None` when the kernel does not say.
    pub fn of(path: &Path) -> Option<Filesystem> {
        let path = path.canonicalize().ok()?;
        find_mount(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
    }
}

/// The mount with the longest path above `path`; of equal ones the last, which hides the others (proc(5), mountinfo).
fn find_mount(table: &str, path: &Path) -> Option<Filesystem> {
    let mut best: Option<Filesystem> = None;
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4).map(unescape) else { continue };
        let mut after = after.split(' ');
        let (Some(kind), Some(source)) = (after.next(), after.next()) else { continue };
        let mount = PathBuf::from(mount);
        let longer =
            best.as_ref().is_none_or(|best| best.mount.components().count() <= mount.components().count());
        if path.starts_with(&mount) && longer {
            best = Some(Filesystem { kind: kind.to_string(), source: unescape(source), mount });
        }
    }
    best
}

/// Spaces and the like stand as octal escapes there.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

impl Host {
    /// Looks around. `dir` is where the nodes write.
    pub fn look(dir: Option<&Path>) -> Host {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_string())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Host {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            cpu: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            cores: affinity::cores().len(),
            memory_bytes: memory_kib * 1024,
            filesystem: dir.and_then(Filesystem::of),
            sync_write_us: dir.and_then(sync_write_us),
        }
    }
}

/// Synced writes of the probe, each of a block of its own.
const SYNCED_WRITES: u64 = 64;

/// How long a synced write takes in `dir`: the median of some; `None` where that cannot be tried.
fn sync_write_us(dir: &Path) -> Option<f64> {
    let path = dir.join("sync-probe");
    let mut driver = Uring::new(UringOptions { write_buffers: 0, ..UringOptions::NODE }).ok()?;
    let file = driver.open(&path, OpenOptions { create: true, write: true, direct: true }).ok()?;
    let mut write = |at: u64| {
        let mut buffer = Buffer::unregistered(ALIGN);
        buffer.len = ALIGN;
        let begun = clock::monotonic();
        let op = Op::Write { file, offset: at * ALIGN as u64, buffer, durable: true };
        run_alone(&mut driver, op).ok()?;
        Some(clock::monotonic().since(begun).as_nanos() as f64 / 1000.0)
    };
    let times: Option<Vec<f64>> = (0..SYNCED_WRITES).map(&mut write).collect();
    driver.close_file(file);
    // It goes with its directory at the latest.
    let _ = std::fs::remove_file(&path);
    let mut times = times?;
    times.sort_by(f64::total_cmp);
    Some(times[times.len() / 2].round())
}

/// Round trips of a measurement, and measurements.
const ROUNDS: u64 = 2_000;
const MEASUREMENTS: usize = 15;

/// Nanoseconds that a cache line takes from one core to another and back: the median of a few measurements between two pinned
/// threads. Hosts move virtual cores about, and this figure moves all others. `None` with a single core.
pub fn core_round_trip_ns() -> Option<f64> {
    let cores = affinity::cores();
    let (&first, &last) = (cores.first()?, cores.last()?);
    if first == last {
        return None;
    }
    let (ping, pong) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let mut figures = std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            affinity::pin(last);
            answer(&ping.0, &pong.0);
        });
        let asker = scope.spawn(|| {
            affinity::pin(first);
            (0..MEASUREMENTS as u64)
                .map(|measurement| ask(&ping.0, &pong.0, measurement))
                .collect::<Vec<f64>>()
        });
        let figures = asker.join().expect("asking does not panic");
        echo.join().expect("answering does not panic");
        figures
    });
    figures.sort_by(f64::total_cmp);
    Some(figures[figures.len() / 2].round())
}

/// A cache line, and the next, which processors fetch along.
#[repr(align(128))]
struct Line(AtomicU64);

fn ask(ping: &AtomicU64, pong: &AtomicU64, measurement: u64) -> f64 {
    let base = measurement * ROUNDS;
    let before = clock::monotonic();
    for round in base + 1..=base + ROUNDS {
        ping.store(round, Ordering::Release);
        wait(pong, round);
    }
    clock::monotonic().since(before).as_nanos() as f64 / ROUNDS as f64
}

fn answer(ping: &AtomicU64, pong: &AtomicU64) {
    for round in 1..=MEASUREMENTS as u64 * ROUNDS {
        wait(ping, round);
        pong.store(round, Ordering::Release);
    }
}

fn wait(line: &AtomicU64, round: u64) {
    let mut spins = 0u32;
    while line.load(Ordering::Acquire) != round {
        spins += 1;
        // Somebody else has the other core: let it finish rather than spin its time away.
        if spins.is_multiple_of(1 << 14) {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_and_newest_mount_counts() {
        let table = "22 1 8:1 / / rw - ext4 /dev/vda rw\n\
            30 22 0:20 / /tmp rw - tmpfs tmpfs rw\n\
            31 30 8:2 / /tmp/a\\040b rw,x shared:1 - xfs /dev/vdb rw\n\
            32 22 0:21 / /var rw - tmpfs first rw\n\
            33 22 8:3 / /var rw - btrfs /dev/vdc rw\n\
            nonsense\n";
        let kind = |path: &str| find_mount(table, Path::new(path)).unwrap().kind;
        assert_eq!(
            [kind("/home"), kind("/tmp/x"), kind("/tmp/a b/c"), kind("/tmpfoo"), kind("/var/x")],
            ["ext4", "tmpfs", "xfs", "ext4", "btrfs"]
        );
        assert!(find_mount(table, Path::new("/tmp")).unwrap().is_memory());
    }

    #[test]
    fn this_machine_has_a_kernel_cores_and_memory() {
        let host = Host::look(Some(&std::env::temp_dir()));
        assert!(!host.kernel.is_empty() && 0 < host.cores && 1 << 20 < host.memory_bytes);
        let is_memory = host.filesystem.expect("it lies somewhere").is_memory();
        assert!(is_memory || host.sync_write_us.is_some_and(|us| 0.0 < us), "{:?}", host.sync_write_us);
        assert!(1 << 20 < resident_bytes(std::process::id()).unwrap());
    }

    #[test]
    fn a_round_trip_takes_some_time_when_there_are_two_cores() {
        match core_round_trip_ns() {
            Some(nanos) => assert!(0.0 < nanos),
            None => assert_eq!(affinity::cores().len(), 1),
        }
    }
}
