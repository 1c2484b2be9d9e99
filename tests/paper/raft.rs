//! Diego Ongaro, "Consensus: Bridging Theory and Practice" (2014), by section. Longer stories are in `scenario`.

use quorate::base::{Instant, NodeId};
use quorate::protocol::Protocol;
use quorate::protocol::raft::{Options, Raft, Setup};
use quorate::sim::Script;
use std::collections::BTreeSet;
use std::time::Duration;

/// Plays a story whose expectations are in its `expect` lines.
fn story(text: &str) -> String {
    Script::run(text)
}

/// Three nodes, node 1 leads term 1, its first entry is committed everywhere.
const LEADER_1: &str = "\
timeout 1
durable 1
deliver 1 2
deliver 1 3
durable 2
durable 3
deliver 2 1
deliver 3 1
durable 1
deliver 1 2
deliver 1 3
durable 2
durable 3
deliver 2 1
deliver 3 1
timeout 1
deliver 1 2
deliver 1 3
deliver 2 1
deliver 3 1
expect 1 role leader term 1 commit 1
expect 2 commit 1
expect 3 commit 1
";

#[test]
fn section_3_3_terms_are_exchanged_whenever_servers_communicate() {
    // "if one server's current term is smaller than the other's, then it updates its current term to the larger value. If a
    // candidate or leader discovers that its term is out of date, it immediately reverts to follower state."
    story(&format!(
        "nodes 3 pre_vote=0 check_quorum=0\n{LEADER_1}
timeout 2
timeout 2
durable 2
deliver 2 1 Vote
expect 1 role follower term 3
expect 2 role candidate term 3"
    ));
}

#[test]
fn section_3_3_a_request_with_a_stale_term_is_rejected() {
    // "If a server receives a request with a stale term number, it rejects the request."
    story(&format!(
        "nodes 3 pre_vote=0 check_quorum=0\n{LEADER_1}
propose 1 late
timeout 2
durable 2
deliver 2 3 Vote
durable 3
deliver 1 3
expect 3 last 1 term 2
deliver 3 1
expect 1 role follower term 2"
    ));
}

#[test]
fn section_3_4_a_server_votes_for_one_candidate_a_term_even_across_a_restart() {
    // "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."
    let both_stand =
        "nodes 3 pre_vote=0\ntimeout 1\ndurable 1\ntimeout 2\ndurable 2\ndeliver 1 3\ndurable 3\n";
    for between in ["", "crash 3\nrestart 3\n"] {
        let text = story(&format!(
            "{both_stand}{between}deliver 2 3\ndurable 3\ndeliver 3 2\nexpect 2 role candidate term 1"
        ));
        assert!(text.contains("3>2 VoteReply term 1 denied"), "{text}");
    }
}

#[test]
fn section_3_4_time_outs_are_drawn_from_a_fixed_interval() {
    // "election timeouts are chosen randomly from a fixed interval (e.g., 150-300 ms)"
    let draw = |seed| {
        let members = (1..=3).map(NodeId).collect();
        let raft =
            Raft::new(Setup { me: NodeId(1), members, options: Options::default(), seed }, Instant::ZERO);
        raft.deadline().unwrap().since(Instant::ZERO)
    };
    let drawn: Vec<Duration> = (0..500).map(draw).collect();
    assert!(drawn.iter().all(|d| Duration::from_millis(150) <= *d && *d < Duration::from_millis(300)));
    let tenths: BTreeSet<u128> = drawn.iter().map(|d| (d.as_millis() - 150) / 15).collect();
    assert_eq!(tenths.len(), 10, "the whole interval is used");
}

#[test]
fn section_3_5_a_follower_applies_what_it_learns_is_committed_in_log_order() {
    // "Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in log order)."
    story(&format!(
        "nodes 3 pre_vote=0\n{LEADER_1}
propose 1 a
propose 1 b
deliver 1 2
durable 2
deliver 2 1
durable 1
expect 1 applied 3
expect 2 applied 1
timeout 1
deliver 1 2
expect 2 applied 3"
    ));
}

#[test]
fn section_3_6_1_a_voter_denies_a_candidate_whose_log_is_behind() {
    // "the voter denies its vote if its own log is more up-to-date than that of the candidate"
    let text = story(&format!(
        "nodes 3 pre_vote=0 check_quorum=0\n{LEADER_1}
propose 1 a
deliver 1 2
durable 2
timeout 3
durable 3
deliver 3 2
durable 2
deliver 2 3
expect 3 role candidate"
    ));
    assert!(text.contains("2>3 VoteReply term 2 denied"), "{text}");
}

#[test]
fn section_3_8_no_vote_leaves_before_it_is_durable() {
    // "Each server also persists its current term and vote" before it answers or asks.
    let text = story(
        "nodes 3 pre_vote=0
timeout 1
deliver 1 2
expect 2 term 0
durable 1
deliver 1 2
deliver 2 1
expect 1 role candidate
durable 2
deliver 2 1
expect 1 role leader",
    );
    assert_eq!(text.matches("Vote term 1").count(), 1, "{text}");
}

#[test]
fn section_4_2_3_who_hears_a_leader_ignores_other_candidates() {
    // "if a server receives a RequestVote request within the minimum election timeout of hearing from a current leader, it does not
    // update its term or grant its vote."
    story(&format!(
        "nodes 3 pre_vote=0\n{LEADER_1}
timeout 3
durable 3
expect 3 role candidate term 2
deliver 3 2 Vote
deliver 3 1 Vote
expect 2 term 1 leader 1
expect 1 term 1 role leader"
    ));
}

#[test]
fn section_6_4_a_read_waits_for_an_entry_of_the_own_term() {
    // "If the leader has not yet marked an entry from its current term committed, it waits until it has done so."
    story(
        "nodes 3 pre_vote=0
timeout 1
durable 1
deliver 1 2
durable 2
deliver 2 1
expect 1 role leader
read 1
expect 1 reads 0
durable 1
deliver 1 2
durable 2
deliver 2 1
expect 1 commit 1 reads 0
deliver 1 2
deliver 2 1
expect 1 reads 1",
    );
}

#[test]
fn section_6_4_a_read_needs_a_round_that_began_after_it() {
    // "The leader needs to make sure it hasn't been superseded by a newer leader of which it is unaware. It issues a new round of
    // heartbeats and waits for their acknowledgments from a majority of the cluster."
    story(&format!(
        "nodes 3 pre_vote=0\n{LEADER_1}
timeout 1
deliver 1 2
read 1
deliver 2 1
expect 1 reads 0
deliver 1 2
deliver 2 1
expect 1 reads 1"
    ));
}

#[test]
fn section_6_4_followers_answer_reads_at_the_leaders_index() {
    // "the follower could issue a request to the leader that just asked for a current readIndex"
    story(&format!(
        "nodes 3 pre_vote=0\n{LEADER_1}
propose 1 a
deliver 1 2
durable 2
deliver 2 1
durable 1
expect 1 commit 2
read 3
deliver 3 1
deliver 1 2
deliver 2 1
deliver 1 3 ReadIndexReply
expect 3 reads 0 applied 1
deliver 1 3
expect 3 reads 1 applied 2"
    ));
}

#[test]
fn section_6_4_an_answer_to_a_question_of_an_earlier_life_is_not_believed() {
    // Not in the thesis, whose questions have no numbers: the read index of an earlier life is older than this life's reads.
    story(&format!(
        "nodes 3 pre_vote=0\n{LEADER_1}
read 3
deliver 3 1
deliver 1 2
deliver 2 1
crash 3
restart 3
propose 1 a
deliver 1 2
durable 2
deliver 2 1
durable 1
expect 1 commit 2
timeout 1
deliver 1 3 Append
read 3
deliver 1 3 ReadIndexReply
expect 3 reads 0
deliver 3 1
deliver 1 2
deliver 2 1
run 60
expect 3 reads 1 applied 2"
    ));
}

#[test]
fn section_9_6_a_candidate_that_could_not_win_keeps_its_term() {
    // "a candidate would only increment its term if it first learned from a majority of the cluster that they would be willing to
    // grant the candidate their votes"
    story(
        "nodes 3
run 400
expect 2 role leader term 1
part 1 2 | 3
run 3000
expect 3 role pre-candidate term 1
expect 2 role leader term 1",
    );
}

#[test]
fn section_10_2_1_a_leader_may_commit_before_its_own_write_is_done() {
    // "The leader may even commit an entry before it has been written to its own disk, if a majority of followers have written it to
    // their disks; this is still safe."
    story(&format!(
        "nodes 3 pre_vote=0\n{LEADER_1}
propose 1 a
deliver 1 2
deliver 1 3
durable 2
durable 3
deliver 2 1
expect 1 commit 1
deliver 3 1
expect 1 commit 2"
    ));
}
