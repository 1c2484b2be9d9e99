//! Reads a node's files offline, changes nothing, and judges them as a start would: `quorate inspect log|superblock DIR`.
//!
//! It checks more than a start does: the body of every record, not only of those that count.

use super::index::{Index, Location};
use super::record::{BatchHeader, Head, Keys};
use super::scan::{Expected, Source, Step};
use super::segment;
use super::superblock::{self, Copy, Superblock};
use super::{Identity, LogError, SuperblockError};
use crate::base::hex::to_hex;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads are this large.
const WINDOW: usize = 1 << 20;

/// What a superblock says.
#[derive(Clone, Debug, Serialize)]
pub struct SuperblockReport {
    /// The file.
    pub file: PathBuf,
    /// The cluster's id, in hexadecimal.
    pub cluster: String,
    /// The member.
    pub node: u8,
    /// How often the node has started.
    pub generation: u64,
    /// Whether a log has been begun.
    pub established: bool,
    /// What each copy is.
    pub copies: [String; 2],
    /// Which of them this version can start by.
    pub is_valid: [bool; 2],
}

/// One thing in a log, in the order of the log.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// A segment begins.
    Segment {
        /// Its file.
        file: PathBuf,
        /// Its place in the log.
        sequence: u32,
        /// Its size.
        bytes: u32,
        /// The life of the node that prepared it.
        generation: u64,
    },
    /// A batch.
    Batch {
        /// Counts batches.
        number: u64,
        /// The segment that it lies in.
        segment: u32,
        /// Where in it.
        offset: u32,
        /// Its bytes.
        bytes: u32,
        /// Its records.
        records: u32,
        /// Up to which batch all were durable when it was submitted.
        durable_through: u64,
        /// The oldest segment that was needed.
        oldest_segment: u32,
        /// The life of the node that wrote it.
        generation: u64,
    },
    /// A record of that batch.
    Record {
        /// Where in the segment.
        offset: u32,
        /// Its group.
        group: u32,
        /// What it does to the group's places.
        kind: String,
        /// Its place, for kinds that have one.
        place: u64,
        /// Its ticket in the life that wrote it.
        ticket: u64,
        /// Bytes of its head of the protocol.
        meta_bytes: usize,
        /// Bytes of its body.
        body_bytes: u32,
        /// The body's digest, in hexadecimal.
        digest: String,
    },
}

/// What a log amounts to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogReport {
    /// Segment files, those not needed included.
    pub files: usize,
    /// Needed segments.
    pub segments: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the batches.
    pub bytes: u64,
    /// The newest batch that a later one calls durable.
    pub durable_through: u64,
    /// The newest batch.
    pub last_batch: u64,
    /// The life of the node that wrote it.
    pub generation: u64,
    /// What is wrong with the bytes behind the last batch, which a start would cut.
    pub torn: Option<String>,
    /// Each group.
    pub groups: Vec<GroupReport>,
}

/// What a log holds of one group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// The group.
    pub group: u32,
    /// Places at and below it are no longer needed.
    pub floor: u64,
    /// The first place with an entry.
    pub first: u64,
    /// The last; one below the first when there is none.
    pub last: u64,
    /// Whether there is a vote.
    pub vote: bool,
}

/// Reads a data directory's superblock. Fails as a start would, but for whose it is.
pub fn superblock(data: &Path) -> Result<SuperblockReport, SuperblockError> {
    let file = superblock::path(data);
    let bytes = std::fs::read(&file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SuperblockError::Missing { file: file.clone() },
        _ => SuperblockError::Io { file: file.clone(), error },
    })?;
    let Superblock { identity, generation, established, .. } = superblock::judge(&file, &bytes, None)?;
    let found = superblock::copies(&bytes);
    let copies = found.map(|copy| match copy {
        Copy::Valid(s) => format!("valid, generation {}", s.generation),
        Copy::Version(v) => format!("format version {v}"),
        Copy::Damaged => "damaged".to_string(),
    });
    let cluster = to_hex(&identity.cluster);
    let is_valid = found.map(|copy| matches!(copy, Copy::Valid(_)));
    Ok(SuperblockReport { file, cluster, node: identity.node.0, generation, established, copies, is_valid })
}
/// Whose data directory it is.
pub fn identity(data: &Path) -> Result<Identity, SuperblockError> {
    let file = superblock::path(data);
    let bytes = std::fs::read(&file).map_err(|error| SuperblockError::Io { file: file.clone(), error })?;
    superblock::judge(&file, &bytes, None).map(|s| s.identity)
}

/// Reads and checks a shard's log in a data directory. `progress` is told how many bytes of how many are done, `tell` everything that
/// is there. Fails as a start would.
pub fn log(
    data: &Path,
    identity: Identity,
    shard: u16,
    progress: &mut dyn FnMut(u64, u64),
    tell: &mut dyn FnMut(Line),
) -> Result<LogReport, LogError> {
    let directory = super::directory(data, shard);
    let keys = Keys::derive(&identity, shard);
    let expected = Expected { directory, identity, shard };
    let mut files = Files::open(&expected.directory)?;
    let survey = expected.survey(&keys, &mut files)?;
    let total = survey.segments.range(survey.statements.oldest..).map(|(_, h)| u64::from(h.bytes)).sum();
    let mut report = LogReport { files: files.files.len(), ..LogReport::default() };
    let (mut index, mut done, mut began) = (Index::default(), 0, 0);
    let end = expected.walk(&keys, &mut files, &survey, &mut |step| {
        match step {
            Step::Segment(header) => {
                (done, began) = (began, began + u64::from(header.bytes));
                report.segments += 1;
                let file = segment::path(&expected.directory, header.file);
                let (sequence, bytes, generation) = (header.sequence, header.bytes, header.generation);
                tell(Line::Segment { file, sequence, bytes, generation });
            }
            Step::Batch(header) => {
                report.batches += 1;
                report.bytes += u64::from(header.length);
                progress(done + u64::from(header.position + header.length), total);
                tell(Line::batch(header));
            }
            Step::Record(head, body) => {
                report.records += 1;
                let location = Location { segment: head.segment, position: head.position };
                let stored = head.with_body(Bytes::copy_from_slice(body))?;
                index.take(head.group, head.kind, head.place, location, || Ok(stored))?;
                tell(Line::record(head));
            }
        }
        Ok(())
    })?;
    progress(total, total);
    report.durable_through = survey.statements.durable_through;
    report.groups = groups(&index);
    if let Some(end) = end {
        (report.last_batch, report.generation) = (end.number, end.generation);
        report.torn = end.torn.map(|flaw| flaw.to_string());
    }
    Ok(report)
}
fn groups(index: &Index) -> Vec<GroupReport> {
    let report = |(id, group): (crate::base::GroupId, &super::index::Group)| {
        let floor = group.floor_place().0;
        let places = if group.places().is_empty() { floor + 1..floor + 1 } else { group.places() };
        GroupReport {
            group: id.0,
            floor,
            first: places.start,
            last: places.end - 1,
            vote: group.vote.is_some(),
        }
    };
    index.groups().map(report).collect()
}

impl Line {
    fn batch(header: &BatchHeader) -> Line {
        Line::Batch {
            number: header.number,
            segment: header.segment,
            offset: header.position,
            bytes: header.length,
            records: header.records,
            durable_through: header.durable_through,
            oldest_segment: header.oldest,
            generation: header.generation,
        }
    }
    fn record(head: &Head) -> Line {
        Line::Record {
            offset: head.position,
            group: head.group.0,
            kind: format!("{:?}", head.kind).to_lowercase(),
            place: head.place.0,
            ticket: head.ticket.0,
            meta_bytes: head.meta.bytes().len(),
            body_bytes: head.body,
            digest: to_hex(&head.digest.0),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Segment { file, sequence, bytes, generation } => {
                write!(f, "segment {sequence} in {}, {bytes} bytes, generation {generation}", file.display())
            }
            Line::Batch {
                number,
                offset,
                bytes,
                records,
                durable_through,
                oldest_segment,
                generation,
                ..
            } => write!(
                f,
                "  batch {number} at {offset}, {bytes} bytes, {records} records, durable through {durable_through}, \
                 oldest segment {oldest_segment}, generation {generation}"
            ),
            Line::Record { offset, group, kind, place, ticket, body_bytes, digest, .. } => write!(
                f,
                "    {kind} of group {group} at {offset}, place {place}, ticket {ticket}, body {body_bytes} bytes {}",
                &digest[..16]
            ),
        }
    }
}

/// The files, read through the page cache.
struct Files {
    files: BTreeMap<u16, (File, u64)>,
    window: Vec<u8>,
    /// File and offset of the window.
    at: (u16, u64),
}

impl Files {
    fn open(directory: &Path) -> Result<Files, LogError> {
        let io = |error| LogError::Io { file: directory.to_path_buf(), error };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let number = name.to_str().and_then(|n| n.strip_suffix(".wal")).and_then(|n| n.parse().ok());
            let Some(number) = number else { continue };
            let file = File::open(segment::path(directory, number)).map_err(io)?;
            let size = file.metadata().map_err(io)?.len();
            files.insert(number, (file, size));
        }
        Ok(Files { files, window: Vec::new(), at: (0, 0) })
    }
}

impl Source for Files {
    fn files(&self) -> Vec<u16> {
        self.files.keys().copied().collect()
    }
    fn size(&self, file: u16) -> u64 {
        self.files[&file].1
    }
    fn read(&mut self, number: u16, offset: u64, len: usize) -> io::Result<&[u8]> {
        let (file, size) = &self.files[&number];
        let len = len.min(size.saturating_sub(offset) as usize);
        let end = self.at.1 + self.window.len() as u64;
        if self.at.0 != number || offset < self.at.1 || end < offset + len as u64 {
            self.window.resize(WINDOW.max(len).min(size.saturating_sub(offset) as usize), 0);
            self.at = (0, 0);
            file.read_exact_at(&mut self.window, offset)?;
            self.at = (number, offset);
        }
        let from = (offset - self.at.1) as usize;
        Ok(&self.window[from..from + len])
    }
}
