//! [`Record`] as a head and a body: what `log` writes without knowing what it is.

use super::Record;
use super::codec::{self, CodecError, EntryHead, Heads};
use super::hop::{META_MAX, Meta, RecordKind, Stored};
use crate::base::{Body, NodeId, Slot, Stamp, Term, Ticket};
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
const _: () = assert!(size_of::<super::codec::ArchivedEntryHead>() <= META_MAX);

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
        match &record {
            Record::Entry { entry, .. } if entry.slot != stored.place => {
                Err(RecordError::Place { ticket: stored.ticket, place: stored.place, slot: entry.slot })
            }
            _ => Ok(record),
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
    };
    if head.is_empty() { Ok(record) } else { Err(CodecError::Trailing(head.len())) }
}
