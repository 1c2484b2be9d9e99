//! Pinning threads to cores.
//!
//! Only when every thread of the machine's Quorate processes can have a core of its own: two pinned threads on one core, with
//! another idle, are worse than none pinned. The caller knows how many there are and says so.

/// The cores that this process may run on, in the kernel's order.
pub fn cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Which core each of `threads` threads gets, the first being the `first`-th of the allowed ones; `None` when cores do not suffice.
pub fn plan(allowed: &[usize], first: usize, threads: usize) -> Option<Vec<usize>> {
    let end = first.checked_add(threads)?;
    allowed.get(first..end).map(<[usize]>::to_vec)
}

/// Pins the calling thread. False when the kernel refuses.
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_pinned_when_threads_exceed_cores() {
        assert_eq!(plan(&[4, 5, 6, 7], 1, 3), Some(vec![5, 6, 7]));
        assert_eq!(plan(&[4, 5, 6, 7], 2, 3), None);
        assert_eq!(plan(&[4], usize::MAX, 1), None);
    }

    #[test]
    fn a_pinned_thread_may_run_on_that_core_only() {
        let core = *cores().last().expect("a process runs somewhere");
        let seen = std::thread::spawn(move || (pin(core), cores())).join().unwrap();
        assert_eq!(seen, (true, vec![core]));
    }
}
