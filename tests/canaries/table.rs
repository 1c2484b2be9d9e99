//! Which canary is found how. How many seeds it typically takes was counted over 100 to 2,000 seeds.

use super::Finder::{self, Liars, Nodes, Room, Scenario, Seeds};
use super::{disk, rooms};
use crate::pbft::{members, starts, stories};
use quorate::base::canary::Canary;
use quorate::sim::full::Swarm;

/// A room test and its name.
macro_rules! room {
    ($module:ident::$name:ident) => {
        Room(concat!(stringify!($module), "::", stringify!($name)), $module::$name)
    };
}

pub const FINDERS: &[(Canary, Finder)] = &[
    (Canary::VoteBeforeDurable, Seeds { typical: 1, property: "promises" }),
    (Canary::VoteForgotten, Scenario("vote_outlives_a_restart")),
    (Canary::TwoVotes, Seeds { typical: 3, property: "promises" }),
    (Canary::VoteWithoutLogCheck, Seeds { typical: 3, property: "leader-completeness" }),
    (Canary::UpToDateByLength, Scenario("longer_log_of_an_older_term_loses")),
    (Canary::UpToDateStrict, Seeds { typical: 1, property: "progress" }),
    (Canary::VoteReplyAnyTerm, Scenario("late_vote_of_an_earlier_term")),
    (Canary::NoPreVote, Scenario("pre_vote_rejoiner_does_not_disturb")),
    (Canary::NoCheckQuorum, Scenario("leader_that_hears_nobody_steps_down")),
    (Canary::AckBeforeDurable, Seeds { typical: 1, property: "promises" }),
    (Canary::CountOwnUndurable, Seeds { typical: 2, property: "durability" }),
    (Canary::SingleNodeUndurable, Seeds { typical: 9, property: "durability" }),
    (Canary::CommitOlderTerm, Scenario("figure_8")),
    (Canary::CommitScanStops, Seeds { typical: 2, property: "progress" }),
    (Canary::CommitFalls, Seeds { typical: 20, property: "monotonic-commit" }),
    (Canary::CommitUnverified, Seeds { typical: 8, property: "state-machine-safety" }),
    (Canary::MatchFalls, Seeds { typical: 3, property: "monotonic" }),
    (Canary::NextBelowMatch, Seeds { typical: 3, property: "assertion" }),
    (Canary::AppendReplyAnyTerm, Scenario("late_acknowledgement_of_an_earlier_term")),
    (Canary::CutMatchingSuffix, Seeds { typical: 5, property: "progress" }),
    (Canary::ConflictCutsCommitted, room!(rooms::committed_entries_stay)),
    (Canary::CutKeepsWrites, Scenario("writes_of_cut_entries_do_not_count")),
    (Canary::WindowOverrun, Scenario("window_holds_after_a_reconnection")),
    (Canary::HeartbeatVouches, room!(rooms::a_heartbeat_vouches_for_nothing)),
    (Canary::ResetUnpaid, Scenario("snapshot_voids_the_log_after_a_crash")),
    (Canary::TermFromSnapshot, Seeds { typical: 9, property: "monotonic" }),
    (Canary::CompactionForgetsFollower, Seeds { typical: 8, property: "assertion" }),
    (Canary::FloorForgetsShipped, Scenario("log_waits_for_a_snapshot_on_its_way")),
    (Canary::SnapshotOverNewer, room!(rooms::an_older_snapshot_changes_nothing)),
    (Canary::ReadBeforeOwnCommit, Seeds { typical: 6, property: "linearizability" }),
    (Canary::ReadJoinsRound, Scenario("read_takes_no_earlier_round")),
    (Canary::ReadWithoutRound, Scenario("stale_leader_answers_no_read")),
    (Canary::ReadLocal, Seeds { typical: 2, property: "linearizability" }),
    (Canary::DuplicateApplied, Seeds { typical: 2, property: "exactly-once" }),
    (Canary::ForwardRenumbered, Seeds { typical: 2, property: "exactly-once" }),
    (Canary::ExpiryByLocalClock, Seeds { typical: 1, property: "state-machine-safety" }),
    (Canary::UnorderedBucket, room!(rooms::equal_states_have_equal_digests)),
    (Canary::SnapshotWithoutSessions, room!(rooms::a_repeated_batch_has_no_effect_after_a_snapshot)),
    (Canary::LastRepliesForgotten, room!(rooms::the_last_replies_outlive_a_snapshot)),
    (Canary::SaveAfterChange, room!(rooms::a_snapshot_holds_its_slot_and_nothing_above)),
    (Canary::DigestAfterChange, room!(rooms::a_digest_is_of_its_slot_and_nothing_above)),
    (Canary::SyncSkipped, room!(disk::what_is_called_durable_outlives_the_power)),
    (Canary::WriteErrorIgnored, room!(disk::a_write_that_failed_is_not_durable)),
    (Canary::TornTailValid, room!(disk::a_torn_write_is_cut)),
    (Canary::DamageCutAsTorn, room!(disk::damage_below_the_end_refuses_the_start)),
    (Canary::ShortReadIsTheEnd, Nodes { typical: 1, property: "sound nodes start", harsher: stutters }),
    (Canary::FrameReplayed, room!(rooms::a_frame_opens_once)),
    (Canary::FastReadWeakQuorum, room!(rooms::fast_reads_are_never_stale)),
    (Canary::ClientCountsOtherEpochs, room!(rooms::a_client_counts_replies_of_one_epoch_only)),
    (Canary::CountRepeatedVotes, Liars { typical: 2, property: "pbft-certificates" }),
    (Canary::MixedCertificate, Liars { typical: 20, property: "no-correct-node-is-accused" }),
    (Canary::VotesOutliveTheirView, Liars { typical: 2, property: "pbft-certificates" }),
    (Canary::QuorumOfThirds, Liars { typical: 2, property: "pbft-certificates" }),
    (Canary::PrimaryPreparesToo, Liars { typical: 1, property: "pbft-certificates" }),
    (Canary::OmitPrepared, Liars { typical: 2, property: "no-correct-node-is-accused" }),
    (Canary::WeakCheckpoint, Liars { typical: 2, property: "pbft-certificates" }),
    (Canary::CollectUnstable, Liars { typical: 2, property: "pbft-certificates" }),
    (Canary::ProposeUnchecked, Liars { typical: 20, property: "no-correct-node-is-accused" }),
    (Canary::OneVoiceDecides, Liars { typical: 30, property: "pbft-certificates" }),
    (Canary::NewViewUnchecked, room!(stories::a_new_view_of_forged_view_changes_does_not_begin)),
    (Canary::HolesStayEmpty, room!(stories::holes_of_a_new_view_are_filled)),
    (Canary::NoWaterMarks, room!(stories::slots_beyond_the_window_leave_no_trace)),
    (Canary::AnyProgressResetsTheWatch, room!(stories::new_requests_do_not_excuse_that_an_old_one_waits)),
    (Canary::PatienceNeverGrows, room!(stories::patience_doubles_while_views_bring_nothing)),
    (Canary::NobodyJoins, room!(stories::whoever_hears_that_f_plus_one_have_left_leaves_too)),
    (Canary::ReplayedRequest, room!(stories::an_executed_request_is_not_ordered_again)),
    (Canary::UncertifiedState, room!(rooms::a_state_that_nobody_certified_is_not_taken_in)),
    (Canary::UnauthenticatedBatch, room!(stories::a_batch_that_its_origin_did_not_sign_is_not_accepted)),
    (Canary::AcceptSecondPrePrepare, room!(stories::of_two_pre_prepares_for_a_slot_the_first_counts)),
    (Canary::KeepFutureViews, room!(stories::votes_of_later_views_leave_no_trace)),
    (Canary::EpochKeepsQuorum, room!(members::a_quorum_of_an_earlier_epoch_decides_nothing)),
    (Canary::EpochKeepsVoices, room!(members::what_was_said_in_an_earlier_epoch_decides_nothing)),
    (Canary::EpochKeepsKeys, room!(members::a_key_of_an_earlier_epoch_signs_nothing)),
    (Canary::StartIsStable, room!(starts::what_a_view_begins_above_is_not_stable_for_that)),
    (Canary::EpochLeavesTheLog, room!(members::a_crash_at_a_later_boundary_forgets_no_epoch)),
    (Canary::LostSnapshotStaysLost, room!(members::a_crash_ends_the_snapshot_that_newcomers_begin_with)),
    (Canary::AmendmentOfAnyCluster, room!(members::a_forged_or_repeated_amendment_changes_nothing)),
    (Canary::ForgetWhatWasSaid, Liars { typical: 2, property: "pbft-one-value-a-slot" }),
];

/// Found by whole nodes too (level 2). Counted over 100 to 250 seeds.
pub const BY_WHOLE_NODES: &[(Canary, Finder)] = &[
    (Canary::SyncSkipped, Nodes { typical: 2, property: "sound nodes start", harsher: |_| () }),
    (Canary::WriteErrorIgnored, Nodes { typical: 12, property: "sound nodes start", harsher: |_| () }),
    (Canary::TornTailValid, Nodes { typical: 10, property: TORN, harsher: loses_power }),
    (Canary::FrameReplayed, Nodes { typical: 24, property: "tampered connections end", harsher: |_| () }),
];

/// What a torn batch that passes for a whole one breaks.
const TORN: &str = "state machine safety or linearizability or sound nodes start";

/// Nodes come back often, and what they read of their files comes in parts.
fn stutters(swarm: &mut Swarm) {
    (swarm.crash, swarm.manners.short_transfers) = (200, 300);
}

/// Power is lost again and again, in the midst of long writes.
fn loses_power(swarm: &mut Swarm) {
    (swarm.crash, swarm.power_of_ten, swarm.ballast, swarm.write_us) = (800, 10, 1000, 20_000);
}

/// Found by unit tests beside their code.
pub const FOUND_AT_HOME: &[Canary] = &[Canary::OlderPreparedWins, Canary::FabricatedPrepared];
