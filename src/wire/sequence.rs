//! The rule by which a batch of an origin takes effect at most once, and in the order of its making (see [`super::Entry`]).

use crate::base::canary::{self, Canary};

/// What becomes of a batch when its entry is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It takes effect, and becomes the origin's last.
    Applied,
    /// It, or a later one, took effect before: nothing happens.
    Duplicate,
    /// A batch that its origin had not yet given up is missing before it: nothing happens, the origin sends both again.
    Gap,
}

/// Judges the batch `sequence`, made when all below `floor` were settled or given up, of an origin whose last applied batch is `last`.
pub fn judge(last: u64, sequence: u64, floor: u64) -> Verdict {
    if sequence <= last && !canary::on(Canary::DuplicateApplied) {
        Verdict::Duplicate
    } else if floor.max(last + 1) < sequence {
        Verdict::Gap
    } else {
        Verdict::Applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_takes_effect_once_and_in_order() {
        assert_eq!(judge(0, 1, 1), Verdict::Applied);
        assert_eq!(judge(1, 1, 1), Verdict::Duplicate);
        assert_eq!(judge(1, 3, 1), Verdict::Gap, "2 may still come");
        assert_eq!(judge(1, 3, 2), Verdict::Gap, "2 is still alive at its origin");
        assert_eq!(judge(1, 3, 3), Verdict::Applied, "2 was given up");
        assert_eq!(judge(3, 2, 2), Verdict::Duplicate, "given up means never after 3");
    }
}
