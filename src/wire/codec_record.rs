//! [`Record`] as a head and a body: what `log` writes without knowing what it is.

use super::Record;
use super::codec::{self, CodecError, EntryHead, Heads};
use super::hop::{META_MAX, Meta, RecordKind, Stored};
use super::pbft::{Note, Vote};
use crate::base::{Body, Digest, NodeId, Slot, Stamp, Term, Ticket, View};
use rkyv::{Archive, Deserialize, Serialize};
use thiserror::Error;

#[derive(Archive, Serialize, Deserialize)]
struct VoteHead {
    term: u64,
    vote: u8,
    voted: bool,
    zero: [u8; 6],
}
#[derive(Archive, Serialize, Deserialize)]
struct FloorHead {
    term: u64,
    stamp: u64,
}
/// Which note, in the first byte of every note's head.
#[derive(Archive, Serialize, Deserialize, Clone, Copy)]
#[repr(u8)]
enum NoteKind {
    View = 1,
    PrePrepared,
    Assigned,
    Prepared,
    Committed,
    Learned,
    Checkpoint,
    Epoch,
}
/// What every note's head begins with.
#[derive(Archive, Serialize, Deserialize)]
struct NoteHead {
    view: u64,
    kind: NoteKind,
    /// A view has begun; a checkpoint is stable.
    flag: bool,
    zero: [u8; 6],
}
#[derive(Archive, Serialize, Deserialize)]
struct DigestHead {
    digest: [u8; 32],
}
const _: () =
    assert!(size_of::<super::codec::ArchivedEntryHead>() + size_of::<ArchivedNoteHead>() <= META_MAX);

/// Why a stored record cannot be read although its checksum holds: it was written by another version or a faulty one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RecordError {
    /// Its head is malformed.
    #[error(
        "record {ticket} of kind {kind:?} has a malformed head: {why}; it was written by another version or a faulty one"
    )]
    Head {
        /// Which record.
        ticket: Ticket,
        /// Its kind.
        kind: RecordKind,
        /// Why.
        why: CodecError,
    },
    /// Its head and the place under which it is stored disagree.
    #[error("record {ticket} stands at {place} and its head says {slot}")]
    Place {
        /// Which record.
        ticket: Ticket,
        /// Where it stands.
        place: Slot,
        /// What it says.
        slot: Slot,
    },
}

impl Record {
    /// The record as `log` takes it. The body is not copied.
    pub fn store(self, ticket: Ticket) -> Stored {
        let mut head = Heads::with_capacity(META_MAX);
        let (group, kind, place, body) = match self {
            Record::Vote { group, term, vote } => {
                let (voted, vote) = (vote.is_some(), vote.unwrap_or_default().0);
                codec::put(&mut head, &VoteHead { term: term.0, vote, voted, zero: [0; 6] });
                (group, RecordKind::Vote, Slot::ZERO, Body::EMPTY)
            }
            Record::Entry { group, entry } => {
                codec::put(&mut head, &EntryHead::of(&entry));
                (group, RecordKind::Entry, entry.slot, entry.body)
            }
            Record::Floor { group, slot, term, stamp, reset } => {
                codec::put(&mut head, &FloorHead { term: term.0, stamp: stamp.0 });
                (group, if reset { RecordKind::Reset } else { RecordKind::Floor }, slot, Body::EMPTY)
            }
            Record::Pbft { group, note } => {
                let kind = kind_of(&note);
                (group, kind, note.place(), put_note(&mut head, note))
            }
        };
        Stored { ticket, group, kind, place, meta: Meta::new(&head), body }
    }
    /// Reads a record back.
    pub fn load(stored: &Stored) -> Result<Record, RecordError> {
        let mut head = Heads::with_capacity(META_MAX);
        head.extend_from_slice(stored.meta.bytes());
        let record = load(stored, &head).map_err(|why| RecordError::Head {
            ticket: stored.ticket,
            kind: stored.kind,
            why,
        })?;
        let slot = match &record {
            Record::Entry { entry, .. } => entry.slot,
            Record::Pbft { note, .. } => note.place(),
            Record::Vote { .. } | Record::Floor { .. } => stored.place,
        };
        if slot == stored.place {
            Ok(record)
        } else {
            Err(RecordError::Place { ticket: stored.ticket, place: stored.place, slot })
        }
    }
}

fn load(stored: &Stored, mut head: &[u8]) -> Result<Record, CodecError> {
    let group = stored.group;
    let record = match stored.kind {
        RecordKind::Vote => {
            let VoteHead { term, vote, voted, zero } = codec::take(&mut head)?;
            if zero != [0; 6] || (!voted && vote != 0) {
                return Err(CodecError::Malformed);
            }
            Record::Vote { group, term: Term(term), vote: voted.then_some(NodeId(vote)) }
        }
        RecordKind::Entry => {
            let entry: EntryHead = codec::take(&mut head)?;
            if entry.has_body() == stored.body.is_empty() {
                return Err(CodecError::NoBody);
            }
            Record::Entry { group, entry: entry.entry(stored.body.clone())? }
        }
        RecordKind::Floor | RecordKind::Reset => {
            let FloorHead { term, stamp } = codec::take(&mut head)?;
            let reset = stored.kind == RecordKind::Reset;
            Record::Floor { group, slot: stored.place, term: Term(term), stamp: Stamp(stamp), reset }
        }
        RecordKind::Note | RecordKind::View | RecordKind::Value => {
            let note = take_note(&mut head, stored)?;
            if kind_of(&note) != stored.kind {
                return Err(CodecError::Malformed);
            }
            Record::Pbft { group, note }
        }
    };
    if head.is_empty() { Ok(record) } else { Err(CodecError::Trailing(head.len())) }
}

/// What a note does to the places of its group.
fn kind_of(note: &Note) -> RecordKind {
    match note {
        Note::View { .. } => RecordKind::View,
        Note::PrePrepared { .. } | Note::Learned { .. } => RecordKind::Value,
        _ => RecordKind::Note,
    }
}

/// Appends a note's head and gives back its body.
fn put_note(head: &mut Heads, note: Note) -> Body {
    let mut begin = |kind, view: View, flag| {
        codec::put(head, &NoteHead { view: view.0, kind, flag, zero: [0; 6] });
    };
    let vote = match note {
        Note::View { view, active, proof } => {
            begin(NoteKind::View, view, active);
            return proof;
        }
        Note::Epoch { charter, .. } => {
            begin(NoteKind::Epoch, View::ZERO, false);
            return charter;
        }
        Note::PrePrepared { view, entry } => {
            begin(NoteKind::PrePrepared, view, false);
            codec::put(head, &EntryHead::of(&entry));
            return entry.body;
        }
        Note::Learned { entry } => {
            begin(NoteKind::Learned, View::ZERO, false);
            codec::put(head, &EntryHead::of(&entry));
            return entry.body;
        }
        Note::Assigned { view, vote } => {
            begin(NoteKind::Assigned, view, false);
            vote
        }
        Note::Prepared { view, vote } => {
            begin(NoteKind::Prepared, view, false);
            vote
        }
        Note::Committed { vote } => {
            begin(NoteKind::Committed, View::ZERO, false);
            vote
        }
        Note::Checkpoint { vote, stable } => {
            begin(NoteKind::Checkpoint, View::ZERO, stable);
            vote
        }
    };
    codec::put(head, &DigestHead { digest: vote.digest.0 });
    Body::EMPTY
}

fn take_note(head: &mut &[u8], stored: &Stored) -> Result<Note, CodecError> {
    let NoteHead { view, kind, flag, zero } = codec::take(head)?;
    codec::all_zero(&zero)?;
    let view = View(view);
    if !matches!(kind, NoteKind::View | NoteKind::Checkpoint) && flag {
        return Err(CodecError::Malformed);
    }
    if let NoteKind::View = kind {
        return Ok(Note::View { view, active: flag, proof: stored.body.clone() });
    }
    if let NoteKind::Epoch = kind {
        let since = stored.place.0.checked_sub(1).map(Slot).ok_or(CodecError::Malformed)?;
        return Ok(Note::Epoch { since, charter: stored.body.clone() });
    }
    if let NoteKind::PrePrepared | NoteKind::Learned = kind {
        let entry: EntryHead = codec::take(head)?;
        if entry.has_body() == stored.body.is_empty() {
            return Err(CodecError::NoBody);
        }
        let entry = entry.entry(stored.body.clone())?;
        let is_learned = matches!(kind, NoteKind::Learned);
        return Ok(if is_learned { Note::Learned { entry } } else { Note::PrePrepared { view, entry } });
    }
    let DigestHead { digest } = codec::take(head)?;
    let vote = Vote { slot: stored.place, digest: Digest(digest) };
    if let NoteKind::Checkpoint = kind {
        let slot = stored.place.0.checked_sub(1).map(Slot).ok_or(CodecError::Malformed)?;
        return Ok(Note::Checkpoint { vote: Vote { slot, ..vote }, stable: flag });
    }
    Ok(match kind {
        NoteKind::Assigned => Note::Assigned { view, vote },
        NoteKind::Prepared => Note::Prepared { view, vote },
        _ => Note::Committed { vote },
    })
}
