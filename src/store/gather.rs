//! A certified state on its way in, piece by piece: [`Gathering`] checks each range by itself and says what to write and what to ask for
//! next. Whoever drives it owns the file that is written and the snapshot that is had.

use super::Options;
use super::last_replies::ENCODED_BYTES_MAX;
use super::load::Damage;
use super::ranges::{Assembly, BUCKET_BYTES, Index, Outline};
use super::sessions::LANE_BYTES;
use crate::base::{Body, Digest};
use crate::config::limits::RANGES_MAX;
use crate::wire::hop::SnapshotId;
use crate::wire::members::STATE_BYTES_MAX;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest range, in bytes: more than a bucket of any state that fits in memory should have.
const RANGE_BYTES_MAX: usize = 1 << 30;
/// Lanes of fronts that an outline may list.
const LANES_MAX: usize = 1 << 16;

/// What a piece has brought.
#[derive(Debug, PartialEq)]
pub enum Took {
    /// Nothing: it belongs to another question, or came twice.
    Nothing,
    /// Part of something; more of it is on its way.
    Part,
    /// What lies before it is missing: go on from there.
    Again(u64),
    /// The outline is whole and certified. These are the first bytes of the file; then `adopt` what is had already, then `go_on`.
    Outlined(Vec<u8>),
    /// Ranges that fit: the next bytes of the file.
    Ranges(Bytes, Then),
    /// It is not what was certified: ask somebody else.
    Poisoned(String),
}

/// What is so after some ranges.
#[derive(Debug, PartialEq)]
pub enum Then {
    /// More of the answer is on its way.
    Part,
    /// All that were asked for have come: `go_on`.
    Done,
    /// What followed them is not what was certified: ask somebody else.
    Poisoned(&'static str),
}

/// What follows.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Ask for these ranges.
    Wanted(Body),
    /// Nothing is missing: the last bytes of the file.
    Whole(Vec<u8>),
}

/// A certified state on its way in.
pub struct Gathering {
    id: SnapshotId,
    digest: Digest,
    options: Options,
    /// The outline, as far as it has come.
    outline: Vec<u8>,
    stage: Option<Stage>,
}

/// What is known once there is an outline.
struct Stage {
    assembly: Assembly,
    /// Numbers that neither are in the file nor asked for, falling.
    missing: Vec<u32>,
    /// What is asked for.
    asked: Body,
    /// How many of these have come.
    come: usize,
    /// Bytes of the answer that have come.
    offset: u64,
    /// The tail of them that is no whole range yet.
    buffer: BytesMut,
}

impl Gathering {
    /// Of the snapshot `id`, whose state has the certified `digest`, for a store with these options.
    pub fn new(id: SnapshotId, digest: Digest, options: Options) -> Gathering {
        Gathering { id, digest, options, outline: Vec::new(), stage: None }
    }
    /// Of what it is.
    pub fn is_of(&self, id: SnapshotId, digest: Digest) -> bool {
        (self.id, self.digest) == (id, digest)
    }

    /// A piece at `offset` of the answer, `total` bytes long, to the question for `ranges` (none for the outline).
    pub fn take(&mut self, offset: u64, total: u64, body: &Bytes, ranges: &Body) -> Took {
        match (&mut self.stage, ranges.is_empty()) {
            (None, true) => self.outline_piece(offset, total, body),
            // Another source begins anew; what has been checked stays.
            (Some(stage), true) if offset == 0 => {
                stage.restart();
                Took::Ranges(Bytes::new(), Then::Done)
            }
            (Some(stage), false) if stage.asked == *ranges => stage.piece(offset, total, body),
            _ => Took::Nothing,
        }
    }

    fn outline_piece(&mut self, offset: u64, total: u64, body: &Bytes) -> Took {
        let buckets = 1u64 << self.options.bucket_bits;
        let head = LANES_MAX * LANE_BYTES + ENCODED_BYTES_MAX + STATE_BYTES_MAX + 1024;
        if buckets * BUCKET_BYTES as u64 + head as u64 <= total {
            return Took::Poisoned(format!("an outline of {total} bytes is longer than any"));
        }
        if offset == 0 {
            self.outline.clear();
        }
        let have = self.outline.len() as u64;
        if offset != have {
            return if have < offset { Took::Again(have) } else { Took::Nothing };
        }
        self.outline.extend_from_slice(body);
        if (self.outline.len() as u64) < total {
            return Took::Part;
        }
        let bytes = std::mem::take(&mut self.outline);
        match self.begin(&bytes) {
            Ok(head) => Took::Outlined(head),
            Err(damage) => Took::Poisoned(damage.to_string()),
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Damage> {
        let outline = Outline::decode(bytes)?;
        outline.check(&self.id, &self.options, self.digest)?;
        let mut missing: Vec<u32> = outline.numbers().collect();
        missing.reverse();
        let (assembly, head) = Assembly::begin(outline)?;
        let (asked, buffer) = (Body::EMPTY, BytesMut::new());
        self.stage = Some(Stage { assembly, missing, asked, come: 0, offset: 0, buffer });
        Ok(head)
    }

    /// The ranges that a snapshot with this index has as they are wanted.
    pub fn had(&self, own: &Index) -> Vec<u32> {
        let Some(stage) = &self.stage else { return Vec::new() };
        let outline = stage.assembly.outline();
        outline.numbers().filter(|number| own.outline().bucket(*number) == outline.bucket(*number)).collect()
    }
    /// Takes a range from the own snapshot: whether it is as it should be, so that its bytes are the next of the file.
    pub fn adopt(&mut self, number: u32, bytes: &[u8]) -> bool {
        let Some(stage) = &mut self.stage else { return false };
        let Ok(at) = stage.missing.binary_search_by(|other| number.cmp(other)) else { return false };
        if !stage.assembly.fits(number, bytes) || stage.assembly.bucket(bytes).is_err() {
            return false;
        }
        stage.missing.remove(at);
        true
    }

    /// What to ask for now, or that all is there.
    pub fn go_on(&mut self) -> Result<Next, Damage> {
        let Some(stage) = self.stage.take() else { return Err(Damage::Truncated { at: 0 }) };
        if stage.missing.is_empty() && stage.asked.is_empty() {
            return stage.assembly.finish().map(Next::Whole);
        }
        let stage = self.stage.insert(stage);
        if stage.asked.is_empty() {
            let first = stage.missing.len().saturating_sub(RANGES_MAX);
            let mut list = BytesMut::new();
            stage.missing.drain(first..).rev().for_each(|number| list.put_u32_le(number));
            stage.asked = Body::new(list.freeze());
        }
        Ok(Next::Wanted(stage.asked.clone()))
    }
}

impl Stage {
    /// What is asked for and has not come is missing again.
    fn restart(&mut self) {
        let asked: Vec<u32> = numbers(&self.asked).skip(self.come).collect();
        self.missing.extend(asked.into_iter().rev());
        (self.asked, self.come, self.offset) = (Body::EMPTY, 0, 0);
        self.buffer.clear();
    }

    fn piece(&mut self, offset: u64, total: u64, body: &Bytes) -> Took {
        if offset != self.offset {
            return if self.offset < offset { Took::Again(self.offset) } else { Took::Nothing };
        }
        self.offset += body.len() as u64;
        self.buffer.extend_from_slice(body);
        let mut good = BytesMut::new();
        let mut then = self.cut(&mut good);
        if then == Then::Part && self.come == self.asked.len() / 4 {
            then = Then::Done;
            (self.asked, self.come, self.offset) = (Body::EMPTY, 0, 0);
        } else if then == Then::Part && total <= self.offset {
            then = Then::Poisoned("it ends before all that was asked for has come");
        }
        if let Then::Poisoned(_) = then {
            self.restart();
        }
        Took::Ranges(good.freeze(), then)
    }

    /// Takes whole ranges off the buffer, as long as they fit.
    fn cut(&mut self, good: &mut BytesMut) -> Then {
        while let Some(length) = self.buffer.first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some(number) = self.asked.bytes().get(4 * self.come..).and_then(|rest| rest.first_chunk())
            else {
                return Then::Poisoned("it is longer than what was asked for");
            };
            if RANGE_BYTES_MAX < length {
                return Then::Poisoned("a range is longer than any");
            }
            let Some(range) = self.buffer.get(4..4 + length) else { break };
            if !self.assembly.fits(u32::from_le_bytes(*number), range) || self.assembly.bucket(range).is_err()
            {
                return Then::Poisoned("a range is not the one that was certified");
            }
            good.extend_from_slice(range);
            self.buffer.advance(4 + length);
            self.come += 1;
        }
        Then::Part
    }
}

fn numbers(ranges: &Body) -> impl Iterator<Item = u32> {
    let (numbers, _) = ranges.bytes().as_chunks::<4>();
    numbers.iter().map(|bytes| u32::from_le_bytes(*bytes))
}
