//! Whether a node that has just started still brings its store up to what its log holds.

use crate::base::Slot;

/// Slots by which a store may be behind and still be called loaded: it is there before a command that waits would notice.
const BEHIND_MAX: u64 = 1024;

/// From the start of a node until its store has come to what its log held then.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    /// The newest slot of the log at the start. Some of it may never be decided.
    begun_at: Slot,
    done: bool,
}

impl CatchUp {
    /// The log ends at `last`.
    pub fn new(last: Slot) -> CatchUp {
        CatchUp { begun_at: last, done: false }
    }

    /// Whether commands must be told that the node is loading: somebody leads, so that they could be carried out, and the store is far
    /// behind. Without a leader nothing can be loaded, and they are told that. Over once and for all when the store has come up.
    pub fn is_loading(&mut self, has_leader: bool, commit: Slot, last: Slot, applied: Slot) -> bool {
        // What another leader has cut from the log since is not waited for.
        let goal = commit.max(self.begun_at.min(last));
        let behind = applied.0 + BEHIND_MAX < goal.0;
        self.done |= has_leader && !behind;
        !self.done && has_leader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step: does somebody lead, commit, last, applied, and whether the node loads.
    fn check(begun_at: u64, steps: &[(bool, u64, u64, u64, bool)]) {
        let mut catch_up = CatchUp::new(Slot(begun_at));
        for &(leader, commit, last, applied, expected) in steps {
            let loading = catch_up.is_loading(leader, Slot(commit), Slot(last), Slot(applied));
            assert_eq!(loading, expected, "leader {leader} commit {commit} last {last} applied {applied}");
        }
    }

    #[test]
    fn a_node_loads_from_its_first_leader_on_until_the_store_has_come_up_and_never_again() {
        check(
            9_000,
            &[
                (false, 0, 9_000, 0, false),
                (true, 0, 9_000, 0, true),
                (true, 9_001, 9_001, 5_000, true),
                (false, 9_001, 9_001, 6_000, false),
                (true, 9_001, 9_001, 8_000, false),
                (true, 90_000, 90_000, 9_001, false),
            ],
        );
    }

    #[test]
    fn what_was_cut_from_the_log_and_what_is_little_is_not_waited_for() {
        check(9_000, &[(true, 0, 9_000, 0, true), (true, 10, 10, 10, false)]);
        check(500, &[(true, 0, 500, 0, false)]);
        check(0, &[(true, 0, 0, 0, false)]);
    }
}
