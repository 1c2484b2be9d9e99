//! Stories of clusters, each its own transcript. `QUORATE_REWRITE=1` writes what happens now: read the difference before you
//! believe it.

use quorate::sim::Script;
use std::path::{Path, PathBuf};

/// Plays a scenario; panics unless everything happens as its text says.
pub fn play(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario");
    let path: PathBuf = folder.join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let now = Script::run(&text);
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        std::fs::write(&path, now).unwrap();
        return;
    }
    for (line, (expected, found)) in text.lines().zip(now.lines()).enumerate() {
        assert_eq!(expected, found, "{}:{}\n{now}", path.display(), line + 1);
    }
    assert_eq!(text, now, "{}", path.display());
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { play(stringify!($name)); })*

        #[test]
        fn every_scenario_is_played() {
            let names = [$(stringify!($name)),*];
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario");
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
                assert!(stem == "mod" || names.contains(&stem.as_str()), "{stem} is not in the list");
            }
        }
    };
}

scenarios! {
    leader_election_single_candidate,
    snapshot_voids_the_log_after_a_crash,
    split_vote,
    log_replication_basic,
    replication_with_follower_lag,
    leader_failure_and_re_election,
    partition_minority_cannot_commit,
    partition_majority_continues,
    snapshot_compaction,
    concurrent_proposals_linearizable,
    figure_8,
    own_entry_not_durable,
    pre_vote_rejoiner_does_not_disturb,
    leadership_transfer,
    leadership_wish,
    read_index_on_a_deposed_leader_refuses,
    late_vote_of_an_earlier_term,
    late_acknowledgement_of_an_earlier_term,
    vote_outlives_a_restart,
    read_takes_no_earlier_round,
    stale_leader_answers_no_read,
    longer_log_of_an_older_term_loses,
    writes_of_cut_entries_do_not_count,
    window_holds_after_a_reconnection,
    leader_that_hears_nobody_steps_down,
    snapshot_on_its_way_vouches_for_nothing,
    log_waits_for_a_snapshot_on_its_way,
}
