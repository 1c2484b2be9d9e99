//! What happens in a few words, one line each: scenario files and traces of runs read alike.

use crate::protocol::raft::Role;
use crate::wire::forward::Message as Forward;
use crate::wire::hop::Answer;
use crate::wire::pbft::{Accusation, Message as Pbft, Note, Proposal, Vote, Words, digest};
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
        Message::Pbft(message) => pbft_text(message),
        Message::Forward(Forward::Batch { batch, attempt }) => {
            format!("Forward {}/{} floor {} attempt {attempt}", batch.origin, batch.sequence, batch.floor)
        }
        Message::Forward(Forward::Refused { boot, sequence, attempt, why, .. }) => {
            format!("Refused boot {boot} {sequence} attempt {attempt}: {why:?}")
        }
        Message::Forward(Forward::Read { boot, id, .. }) => format!("Read boot {boot} {id}"),
        Message::Forward(Forward::Replied(reply)) => {
            format!("Replied boot {} {} with {:?}", reply.boot, reply.sequence, reply.digest)
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

fn votes_text(votes: &[Vote]) -> String {
    let one = |vote: &Vote| format!("{}={:?}", vote.slot, vote.digest);
    votes.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn pbft_text(message: &Pbft) -> String {
    match message {
        Pbft::PrePrepare { view, proposals, .. } => {
            let one = |p: &Proposal| format!("{}={:?}", p.entry.slot, digest(&p.entry));
            let all: Vec<String> = proposals.iter().map(one).collect();
            format!("PrePrepare view {view} [{}]", all.join(" "))
        }
        Pbft::Prepare { view, votes } => format!("Prepare view {view} [{}]", votes_text(votes)),
        Pbft::Commit { view, votes } => format!("Commit view {view} [{}]", votes_text(votes)),
        Pbft::Checkpoint { vote, .. } => format!("Checkpoint {}", votes_text(&[*vote])),
        Pbft::ViewChange(change) => {
            let prepared: Vec<Vote> = change.prepared.iter().map(|p| p.vote).collect();
            format!("ViewChange view {} stable {} P [{}]", change.view, change.stable, votes_text(&prepared))
        }
        Pbft::NewView(view) => format!("NewView view {} of {}", view.view, view.changes.len()),
        Pbft::Status { view, active, stable, executed, bodies, complains } => {
            let (active, bodies) =
                (if *active { "" } else { " changing" }, if *bodies { " bodies" } else { "" });
            let complains = if *complains { " complains" } else { "" };
            format!("Status view {view}{active} stable {stable} executed {executed}{bodies}{complains}")
        }
        Pbft::Decided { entries, votes } => {
            let slots: Vec<u64> =
                entries.iter().map(|e| e.slot.0).chain(votes.iter().map(|v| v.slot.0)).collect();
            format!("Decided {slots:?}")
        }
        Pbft::Want { votes } => format!("Want [{}]", votes_text(votes)),
        Pbft::Have { entries } => format!("Have {:?}", entries.iter().map(|e| e.slot.0).collect::<Vec<_>>()),
        Pbft::Request { batch } => format!("Request {}/{}", batch.origin, batch.sequence),
        Pbft::Shown { words } => match Words::decode(words.bytes()) {
            Some(words) => format!("Shown view {} [{}]", words.view, votes_text(&words.votes)),
            None => "Shown nothing".to_string(),
        },
        Pbft::Accuse { proof } => match Accusation::decode(proof.bytes()) {
            Some(Accusation { accused, proof, .. }) => format!("Accuse {accused}: {}", proof.describe()),
            None => "Accuse of nothing".to_string(),
        },
        Pbft::Succession(word) => {
            format!("Succession epoch {} after {}", word.epoch, votes_text(&[word.vote]))
        }
        Pbft::Charter(charter) => {
            format!("Charter of epoch {} after {}", charter.membership.epoch, votes_text(&[charter.vote]))
        }
        Pbft::PieceWant { slot, offset, ranges, .. } if ranges.is_empty() => {
            format!("PieceWant of the outline of {slot} at {offset}")
        }
        Pbft::PieceWant { slot, offset, ranges, .. } => {
            format!("PieceWant of {} ranges of {slot} at {offset}", ranges.len() / 4)
        }
        Pbft::Piece { slot, offset, total, body, .. } => {
            format!("Piece of {slot}: {offset}..{} of {total}", offset + body.len() as u64)
        }
    }
}

fn note_text(note: &Note) -> String {
    match note {
        Note::View { view, active, .. } => format!("view {view}{}", if *active { "" } else { " changing" }),
        Note::PrePrepared { view, entry } => {
            format!("pre-prepared {}={:?} view {view}", entry.slot, digest(entry))
        }
        Note::Assigned { view, vote } => format!("assigned {} view {view}", votes_text(&[*vote])),
        Note::Prepared { view, vote } => format!("prepared {} view {view}", votes_text(&[*vote])),
        Note::Committed { vote } => format!("committed {}", votes_text(&[*vote])),
        Note::Learned { entry } => format!("learned {}={:?}", entry.slot, digest(entry)),
        Note::Epoch { since, .. } => format!("epoch after {since}"),
        Note::Checkpoint { vote, stable } => {
            format!("checkpoint {}{}", votes_text(&[*vote]), if *stable { " stable" } else { "" })
        }
    }
}

/// A record in a few words.
pub fn record_text(record: &Record) -> String {
    match record {
        Record::Pbft { note, .. } => note_text(note),
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
        Answer::Vouched { sequence, from, digest } => {
            format!("write {sequence} is {digest:?} to node {from}")
        }
        Answer::Superseded { sequence } => format!("writes up to {sequence} have no answer"),
    }
}
