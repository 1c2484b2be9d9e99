//! The next time-out over all groups of a shard.

use crate::base::{GroupId, Instant};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A heap with lazy re-arming: a deadline that moves later needs no new entry, since the old one comes up first.
#[derive(Default)]
pub struct Deadlines {
    /// Invariant: every armed group has an entry that is not later than its deadline.
    heap: BinaryHeap<Reverse<(Instant, GroupId)>>,
    /// The armed groups: their deadline, and the earliest entry of theirs in the heap.
    armed: BTreeMap<GroupId, (Instant, Instant)>,
}

impl Deadlines {
    /// Arms, moves or disarms a group's deadline.
    pub fn set(&mut self, group: GroupId, at: Option<Instant>) {
        let Some(at) = at else {
            self.armed.remove(&group);
            return;
        };
        match self.armed.get_mut(&group) {
            Some((deadline, entry)) if *entry <= at => *deadline = at,
            _ => {
                self.armed.insert(group, (at, at));
                self.heap.push(Reverse((at, group)));
            }
        }
    }

    /// A group whose deadline has come; it is disarmed.
    pub fn pop_due(&mut self, now: Instant) -> Option<GroupId> {
        while let Some(&Reverse((at, group))) = self.heap.peek() {
            if now < at {
                return None;
            }
            self.heap.pop();
            match self.armed.get_mut(&group) {
                Some((_, entry)) if *entry != at => (),
                Some((deadline, _)) if *deadline <= now => {
                    self.armed.remove(&group);
                    return Some(group);
                }
                Some((deadline, entry)) => {
                    *entry = *deadline;
                    self.heap.push(Reverse((*deadline, group)));
                }
                None => (),
            }
        }
        None
    }

    /// When to look again. May be early, never late.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_due_at_its_newest_deadline_once() {
        let mut d = Deadlines::default();
        d.set(GroupId(1), Some(Instant(10)));
        d.set(GroupId(1), Some(Instant(30)));
        d.set(GroupId(2), Some(Instant(20)));
        assert_eq!(d.pop_due(Instant(15)), None);
        assert_eq!(d.pop_due(Instant(25)), Some(GroupId(2)));
        assert_eq!(d.pop_due(Instant(25)), None);
        d.set(GroupId(1), Some(Instant(26)));
        assert_eq!(d.next(), Some(Instant(26)));
        assert_eq!(d.pop_due(Instant(40)), Some(GroupId(1)));
        assert_eq!(d.pop_due(Instant(40)), None);
        d.set(GroupId(2), Some(Instant(50)));
        d.set(GroupId(2), None);
        assert_eq!(d.pop_due(Instant(60)), None);
    }
}
