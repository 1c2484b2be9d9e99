//! What happens in a few words, one line each: scenario files and traces of runs read alike.

use crate::protocol::raft::Role;
use crate::wire::forward::Message as Forward;
use crate::wire::hop::Answer;
use crate::wire::raft::{AppendOutcome, Message as Raft};
use crate::wire::{Entry, Message, Record};

/// A role in a word.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

/// An entry as its term and its commands, or what stands for them where they are not text.
pub fn entry_text(entry: &Entry) -> String {
    let Entry { term, origin, sequence, .. } = entry;
    match std::str::from_utf8(entry.body.bytes()) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => format!("{term}:{text}"),
        _ => format!("{term}:{origin}/{sequence}"),
    }
}

/// A message in a few words, its kind first.
pub fn brief(message: &Message) -> String {
    match message {
        Message::Raft(message) => raft_text(message),
        Message::Forward(Forward::Batch { batch, attempt }) => {
            format!("Forward {}/{} floor {} attempt {attempt}", batch.origin, batch.sequence, batch.floor)
        }
        Message::Forward(Forward::Refused { boot, sequence, attempt, why, .. }) => {
            format!("Refused boot {boot} {sequence} attempt {attempt}: {why:?}")
        }
    }
}

fn raft_text(message: &Raft) -> String {
    match message {
        Raft::Vote { term, last_slot, last_term, pre, transfer } => {
            let kind = if *pre { "PreVote" } else { "Vote" };
            let transfer = if *transfer { " by transfer" } else { "" };
            format!("{kind} term {term} last {last_slot}@{last_term}{transfer}")
        }
        Raft::VoteReply { term, granted, pre } => {
            let kind = if *pre { "PreVoteReply" } else { "VoteReply" };
            format!("{kind} term {term} {}", if *granted { "granted" } else { "denied" })
        }
        Raft::Append { term, prev_slot, prev_term, commit, entries, round } => {
            let entries: Vec<String> = entries.iter().map(entry_text).collect();
            let round = if *round == 0 { String::new() } else { format!(" round {round}") };
            let entries = entries.join(" ");
            format!("Append term {term} prev {prev_slot}@{prev_term} commit {commit} [{entries}]{round}")
        }
        Raft::AppendReply { term, outcome, round } => {
            let outcome = match outcome {
                AppendOutcome::Matched { slot } => format!("matched {slot}"),
                AppendOutcome::Conflict { prev_slot, slot, term } => {
                    format!("conflict at {prev_slot}, try {slot}@{term}")
                }
                AppendOutcome::Stale => "stale".to_string(),
            };
            let round = if *round == 0 { String::new() } else { format!(" round {round}") };
            format!("AppendReply term {term} {outcome}{round}")
        }
        Raft::Heartbeat { term, commit, round } => {
            let round = if *round == 0 { String::new() } else { format!(" round {round}") };
            format!("Heartbeat term {term} commit {commit}{round}")
        }
        Raft::HeartbeatReply { term, round, lags } => {
            let round = if *round == 0 { String::new() } else { format!(" round {round}") };
            let lags = if *lags { " lags" } else { "" };
            format!("HeartbeatReply term {term}{round}{lags}")
        }
        Raft::Piece { term, slot, offset, total, body, .. } => {
            format!("Piece term {term} of {slot}: {offset}..{} of {total}", offset + body.len() as u64)
        }
        Raft::PieceReply { term, slot, next, installed } => {
            let what = if *installed { "installed".to_string() } else { format!("next {next}") };
            format!("PieceReply term {term} of {slot}: {what}")
        }
        Raft::ReadIndex { term, .. } => format!("ReadIndex term {term}"),
        Raft::ReadIndexReply { term, slot, .. } => match slot {
            Some(slot) => format!("ReadIndexReply term {term} at {slot}"),
            None => format!("ReadIndexReply term {term} refused"),
        },
        Raft::TimeoutNow { term } => format!("TimeoutNow term {term}"),
    }
}

/// A record in a few words.
pub fn record_text(record: &Record) -> String {
    match record {
        Record::Vote { term, vote, .. } => match vote {
            Some(candidate) => format!("term {term} vote {candidate}"),
            None => format!("term {term}"),
        },
        Record::Entry { entry, .. } => format!("{}={}", entry.slot, entry_text(entry)),
        Record::Floor { slot, reset, .. } => format!("floor {slot}{}", if *reset { " reset" } else { "" }),
    }
}

/// What a client is told, in a few words.
pub fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Write { sequence, .. } => format!("write {sequence} answered"),
        Answer::Read { id, .. } => format!("read {id} answered"),
        Answer::WriteFailed { sequence, why } => format!("write {sequence} fails: {why:?}"),
        Answer::ReadFailed { id, why } => format!("read {id} fails: {why:?}"),
        Answer::Superseded { sequence } => format!("writes up to {sequence} have no answer"),
    }
}
