//! What a new view begins with: the decision of Castro and Liskov (TOCS 2002, figure 4), as a function of the view-changes alone.
//!
//! The new primary computes it to know whether it can begin, and every backup computes it again from the same view-changes. A claim
//! that something prepared is believed only if a quorum does not contradict it (A1) and a weak quorum, so a correct replica, had
//! accepted that value in that view or later (A2): prepares are not signed, so the claim alone proves nothing.

use super::quorum::Quorum;
use crate::base::canary::{self, Canary};
use crate::base::{Digest, Slot, View};
use crate::wire::pbft::{Change, NULL, Vote};

/// What a view begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The state to start from; slot 0 for the empty one.
    pub checkpoint: Vote,
    /// A value for every slot above it up to the last that may have been decided: null where nothing was prepared.
    pub values: Vec<Vote>,
}

/// `None` while the view-changes at hand do not decide every slot: more have to come.
///
/// The oldest checkpoint that will do is taken. Above it the new view agrees on every slot once more, so that whoever is behind gets there
/// with a quorum of this view; beyond a later checkpoint, which perhaps `f + 1` alone have reached, it would depend on each of these.
pub fn choose(changes: &[&Change], quorum: Quorum, window: u64) -> Option<Choice> {
    if changes.len() < quorum.strong() {
        return None;
    }
    checkpoints(changes, quorum).into_iter().find_map(|checkpoint| above(checkpoint, changes, quorum, window))
}

/// The oldest checkpoint that a view could begin above if every slot behind it were decided.
pub fn oldest(changes: &[&Change], quorum: Quorum) -> Option<Slot> {
    checkpoints(changes, quorum).first().map(|vote| vote.slot)
}

/// Whether a quorum is known to have been at this checkpoint: among `f + 1` that have forgotten what lies below it one is correct. That a
/// view begins above it says less: there one correct replica has reached it, and with liars nobody else.
pub fn is_certified(checkpoint: Slot, changes: &[&Change], quorum: Quorum) -> bool {
    let beyond = changes.iter().filter(|change| checkpoint <= change.stable).count();
    quorum.weak() <= beyond || canary::on(Canary::StartIsStable)
}

/// What a view that starts from `checkpoint` assigns.
fn above(checkpoint: Vote, changes: &[&Change], quorum: Quorum, window: u64) -> Option<Choice> {
    let high = checkpoint.slot.0.saturating_add(window);
    let claims = || changes.iter().flat_map(|change| &change.prepared);
    let within = |slot: &u64| checkpoint.slot.0 < *slot && *slot <= high;
    let last = claims().map(|p| p.vote.slot.0).filter(within).max().unwrap_or(checkpoint.slot.0);
    let mut values = Vec::new();
    for slot in (checkpoint.slot.0 + 1..=last).map(Slot) {
        values.push(Vote { slot, digest: value(changes, quorum, slot)? });
    }
    if canary::on(Canary::HolesStayEmpty) {
        values.retain(|vote| vote.digest != NULL);
    }
    // Holes at the end assign nothing that a primary could not assign as well. A null that somebody has prepared is no hole: it may be
    // what is decided there.
    let is_hole = |vote: &Vote| vote.digest == NULL && !claims().any(|claim| claim.vote == *vote);
    while values.last().is_some_and(is_hole) {
        values.pop();
    }
    Some(Choice { checkpoint, values })
}

/// The checkpoints that a correct replica holds, and beyond which a quorum has not collected what it knows; so nothing above their window
/// can have been decided either. Rising.
fn checkpoints(changes: &[&Change], quorum: Quorum) -> Vec<Vote> {
    let all = changes.iter().flat_map(|change| &change.checkpoints);
    let vouched =
        |vote: &&Vote| quorum.weak() <= changes.iter().filter(|c| c.checkpoints.contains(vote)).count();
    let reached = |vote: &&Vote| quorum.strong() <= changes.iter().filter(|c| c.stable <= vote.slot).count();
    let mut all: Vec<Vote> = all.filter(vouched).filter(reached).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The value for one slot.
fn value(changes: &[&Change], quorum: Quorum, slot: Slot) -> Option<Digest> {
    let at = |change: &Change| {
        change.prepared.iter().find(|p| p.vote.slot == slot).map(|p| (p.vote.digest, p.view))
    };
    let mut claims: Vec<(View, Digest)> =
        changes.iter().filter_map(|change| at(change)).map(|(digest, view)| (view, digest)).collect();
    // The newest first: a value prepared in a later view has replaced those of earlier ones.
    claims.sort_unstable_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    claims.dedup();
    if canary::on(Canary::OlderPreparedWins) {
        claims.reverse();
    }
    // A1: "2f+1 messages ... have no entry for n, or one of an earlier view, or the same one".
    let unopposed = |(view, digest): &(View, Digest)| {
        let agrees = |change: &&&Change| {
            let same = |(d, v): (Digest, View)| v < *view || (v == *view && d == *digest);
            change.stable < slot && at(change).is_none_or(same)
        };
        canary::on(Canary::OlderPreparedWins) || quorum.strong() <= changes.iter().filter(agrees).count()
    };
    // A2: "f+1 messages have an element of Q for n with the same digest and at least that view".
    let vouched = |(view, digest): &(View, Digest)| {
        let accepted = |change: &&&Change| {
            let same = |v: &Vote| v.slot == slot && v.digest == *digest;
            change.accepted.iter().any(|a| same(&a.vote) && *view <= a.view)
        };
        canary::on(Canary::FabricatedPrepared) || quorum.weak() <= changes.iter().filter(accepted).count()
    };
    if let Some((_, digest)) = claims.iter().find(|claim| unopposed(claim) && vouched(claim)) {
        return Some(*digest);
    }
    // B: "2f+1 messages have no entry for n": nothing was decided there.
    let empty = changes.iter().filter(|change| change.stable < slot && at(change).is_none()).count();
    (quorum.strong() <= empty).then_some(NULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;
    use crate::crypto::Signature;
    use crate::wire::pbft::{Accepted, Prepared};

    fn vote(slot: u64, value: u8) -> Vote {
        Vote { slot: Slot(slot), digest: Digest([value; 32]) }
    }
    fn change(node: u8, stable: u64, p: &[(u64, u8, u64)], q: &[(u64, u8, u64)]) -> Change {
        Change {
            view: View(9),
            node: NodeId(node),
            stable: Slot(stable),
            checkpoints: vec![vote(stable, stable as u8)],
            prepared: p.iter().map(|(s, d, v)| Prepared { vote: vote(*s, *d), view: View(*v) }).collect(),
            accepted: q.iter().map(|(s, d, v)| Accepted { vote: vote(*s, *d), view: View(*v) }).collect(),
            signature: Signature::NONE,
        }
    }
    fn chosen(changes: &[Change]) -> Option<Choice> {
        choose(&changes.iter().collect::<Vec<_>>(), Quorum::most(4), 16)
    }
    fn values(changes: &[Change]) -> Option<Vec<u8>> {
        chosen(changes).map(|choice| choice.values.iter().map(|v| v.digest.0[0]).collect())
    }

    #[test]
    fn nothing_prepared_begins_empty_and_fewer_than_a_quorum_decide_nothing() {
        let changes = [change(1, 0, &[], &[]), change(2, 0, &[], &[(1, 5, 0)]), change(3, 0, &[], &[])];
        assert_eq!(values(&changes), Some(vec![]));
        assert_eq!(values(&changes[..2]), None);
    }

    #[test]
    fn what_may_be_decided_is_chosen_and_holes_are_null() {
        let (p, q) = ([(3, 7, 2)], [(3, 7, 2)]);
        let changes = [change(1, 0, &p, &q), change(2, 0, &[], &q), change(3, 0, &[], &[])];
        assert_eq!(values(&changes), Some(vec![0, 0, 7]));
    }

    #[test]
    fn a_null_that_prepared_stays_null() {
        let (p, q) = ([(1, 7, 2), (2, 0, 2)], [(1, 7, 2), (2, 0, 2)]);
        let changes = [change(1, 0, &p, &q), change(2, 0, &p[..1], &q), change(3, 0, &[], &[])];
        assert_eq!(values(&changes), Some(vec![7, 0]), "slot 2 may be decided: nothing else can stand there");
        let claimed =
            [change(1, 0, &p[..1], &q), change(2, 0, &[(1, 7, 2), (2, 9, 1)], &q), change(3, 0, &[], &[])];
        assert_eq!(values(&claimed), None, "two have no entry there");
    }

    fn fabricated() -> [Change; 3] {
        let honest = [(1, 5, 1)];
        [
            change(1, 0, &honest, &honest),
            change(2, 0, &honest, &honest),
            change(3, 0, &[(1, 9, 8)], &[(1, 9, 8)]),
        ]
    }

    /// A2: one liar claims that its value prepared in a late view.
    #[test]
    fn a_fabricated_claim_is_not_believed_and_the_slot_waits_for_who_can_decide_it() {
        let mut changes = fabricated().to_vec();
        assert_eq!(values(&changes), None, "two honest ones and a liar do not decide");
        changes.push(change(4, 0, &[(1, 5, 1)], &[(1, 5, 1)]));
        assert_eq!(values(&changes), Some(vec![5]));
    }

    #[cfg(feature = "canaries")]
    #[test]
    fn without_a2_the_fabricated_value_wins() {
        let chosen = canary::with(Canary::FabricatedPrepared, || values(&fabricated()));
        assert_eq!(chosen, Some(vec![9]));
    }

    fn replaced() -> [Change; 3] {
        [
            change(1, 0, &[(1, 5, 1)], &[(1, 5, 1), (1, 6, 3)]),
            change(2, 0, &[(1, 6, 3)], &[(1, 5, 1), (1, 6, 3)]),
            change(3, 0, &[], &[]),
        ]
    }

    #[test]
    fn of_two_prepared_values_the_later_view_counts() {
        assert_eq!(values(&replaced()), Some(vec![6]));
    }

    #[cfg(feature = "canaries")]
    #[test]
    fn an_older_prepared_value_must_not_win() {
        let chosen = canary::with(Canary::OlderPreparedWins, || values(&replaced()));
        assert_eq!(chosen, Some(vec![5]), "which may not be what was decided");
    }

    /// The liar, last, contradicts what prepared and vouches for what only one correct replica has come to.
    #[test]
    fn a_fourth_view_change_may_allow_an_older_start_which_alone_makes_nothing_stable() {
        let all = [1, 2, 3, 4].map(|slot| (slot, 5, 1));
        let lies = [1, 2, 3, 4].map(|slot| (slot, 9, 1));
        let [mut ahead, one, other, mut liar] =
            [(1, all), (2, all), (3, all), (4, lies)].map(|(node, said)| change(node, 0, &said, &said));
        ahead.checkpoints.push(vote(4, 4));
        liar.checkpoints.push(vote(4, 4));
        let mut changes = vec![ahead, one, liar];
        assert_eq!(chosen(&changes).map(|c| (c.checkpoint, c.values)), Some((vote(4, 4), vec![])));
        let three: Vec<&Change> = changes.iter().collect();
        assert_eq!(oldest(&three, Quorum::most(4)), Some(Slot(0)));
        assert!(!is_certified(Slot(4), &three, Quorum::most(4)));
        changes.push(other);
        assert_eq!(chosen(&changes).map(|c| c.checkpoint), Some(vote(0, 0)));
        assert_eq!(values(&changes), Some(vec![5; 4]));
    }

    #[test]
    fn a_checkpoint_needs_a_correct_holder_and_a_quorum_that_has_not_gone_beyond() {
        let mut changes =
            [change(1, 8, &[], &[]), change(2, 4, &[], &[]), change(3, 4, &[], &[]), change(4, 99, &[], &[])];
        assert_eq!(chosen(&changes), None, "only one has 8, and only two have not gone beyond 4");
        changes[1].checkpoints.push(vote(8, 8));
        assert_eq!(chosen(&changes).map(|c| c.checkpoint), Some(vote(8, 8)));
        changes[1].checkpoints[1] = vote(8, 77);
        assert_eq!(chosen(&changes), None, "one liar's digest");
        changes[0].stable = Slot(4);
        changes[0].checkpoints.insert(0, vote(4, 4));
        assert_eq!(chosen(&changes).map(|c| c.checkpoint), Some(vote(4, 4)));
    }
}
