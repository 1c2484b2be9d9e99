//! What the machine allows a node: locked memory, io_uring.

use super::harness::{Cluster, Reply, quorate};
use super::root::is_root;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The user that owns nothing.
const NOBODY: u32 = 65_534;
/// What a user may lock by default.
const LOCKED_BYTES: u64 = 8 << 20;

/// Makes the process one of a user without rights, who may lock as much memory as users may.
fn as_nobody(command: &mut Command) {
    let limit = || {
        let limit = libc::rlimit { rlim_cur: LOCKED_BYTES, rlim_max: LOCKED_BYTES };
        // SAFETY: plain system call with a valid pointer, between fork and exec.
        if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.uid(NOBODY).gid(NOBODY).pre_exec(limit) };
}

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("we are root");
    if path.is_dir() {
        std::fs::read_dir(path)
            .expect("a directory")
            .for_each(|entry| give_to_nobody(&entry.expect("it").path()));
    }
}

#[test]
fn twenty_nodes_of_one_user_fit_into_what_a_user_may_lock() {
    const NODES: usize = 20;
    let runs = || {
        let mut command = quorate();
        as_nobody(command.arg("version"));
        command.output().is_ok_and(|out| out.status.success())
    };
    if !is_root() || !runs() {
        println!("skipped: another user's processes need root, and a program that other users can run");
        return;
    }
    let mut cluster = Cluster::init("twenty", NODES);
    for node in 1..=NODES {
        // Twenty nodes share a few cores: none must be taken for dead because it waits for its turn.
        cluster.set(node, "raft", "election_min", "2s");
        cluster.set(node, "raft", "election_max", "4s");
    }
    give_to_nobody(&cluster.dir.clone());
    (1..=NODES).for_each(|node| cluster.start_prepared(node, as_nobody));
    let leader = cluster.await_leader();
    for number in 0..50 {
        let mut client = cluster.client(1 + number % NODES);
        let reply = client.command(&["INCR", "count"]).expect("it lives");
        assert_eq!(reply, Reply::Integer(number as i64 + 1), "node {}", 1 + number % NODES);
    }
    let process = cluster.nodes[leader - 1].as_ref().expect("it runs").id();
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("it runs");
    let locked = limits.lines().find(|line| line.starts_with("Max locked memory")).expect("Linux tells it");
    assert!(locked.contains(&format!(" {LOCKED_BYTES} ")), "{locked}");
}

/// Forbids io_uring to the process as containers do.
fn without_io_uring() -> io::Result<()> {
    let load_number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is_setup = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(load_number, 0, 0, 0),
        step(is_setup, 0, 1, libc::SYS_io_uring_setup as u32),
        step(answer, 0, 0, refuse),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain system calls; the program outlives the second, which copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn where_a_filter_refuses_io_uring_a_node_says_so_and_how_to_lift_it() {
    let cluster = Cluster::init("filtered", 1);
    let mut command = quorate();
    command.args(["start", "--config"]).arg(cluster.config_path(1));
    // SAFETY: the closure makes two system calls and allocates nothing.
    let out = unsafe { command.pre_exec(without_io_uring) }.output().expect("quorate runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(6), "{said}");
    assert!(
        said.contains("seccomp") && said.contains("io_uring_setup"),
        "it names the rule and the cure: {said}"
    );
}
