//! Someone on the way between two nodes changes what travels there, as no checksum of TCP would notice: bits flip, bytes are lost or come
//! twice, a whole frame comes again, of this connection or of an earlier one (Aublin et al., "RBFT", 2013; RFC 4303, 3.4.3). Whatever it
//! is, nothing of it may be believed, and the connection must end.

use super::driver::Connection;
use super::sockets::{Party, Pipe, Segment};
use super::world::World;
use crate::base::Prng;
use crate::wire::frame::{HEADER_BYTES, Header, MAGIC};
use bytes::Bytes;
use std::collections::VecDeque;

/// A whole frame among what is on its way.
struct Frame {
    bytes: Bytes,
    /// The segment in which it ends.
    segment: usize,
    /// How many bytes of that segment are its own, or lie before it.
    end: usize,
}

impl World {
    /// Perhaps what travels between two nodes is changed: in a way that needs no understanding of it.
    pub(super) fn tamper(&mut self) {
        let Some(link) = self.any_link() else { return };
        let (kind, mut prng) = (self.prng.below(3), Prng::from_seed(self.prng.next_u64()));
        let pipe = self.pipe(link);
        let loaded = |(at, segment): (usize, &Segment)| match segment {
            Segment::Data(bytes) if 1 < bytes.len() => Some((at, bytes.to_vec())),
            _ => None,
        };
        let places: Vec<(usize, Vec<u8>)> = pipe.flight.iter().enumerate().filter_map(loaded).collect();
        let Some((at, mut bytes)) = places.get(prng.below(places.len().max(1) as u64) as usize).cloned()
        else {
            return;
        };
        let place = prng.below(bytes.len() as u64) as usize;
        match kind {
            0 => bytes[place] ^= 1 << prng.below(8),
            1 => drop(bytes.remove(place)),
            _ => bytes.extend_from_within(..),
        }
        put(pipe, at, bytes);
        self.tampered += 1;
        self.say_of_network(format_args!("someone changes what {link:?} says"));
    }

    /// Perhaps a frame comes again: just behind itself, or one of an earlier connection.
    pub(super) fn replay(&mut self) {
        let Some(link) = self.any_link() else { return };
        let wants_old = self.prng.chance(1, 3);
        let recorded = self.recorded.take();
        let pipe = self.pipe(link);
        let Some(frame) = whole_frame(&pipe.flight) else {
            self.recorded = recorded;
            return;
        };
        let again = recorded.filter(|_| wants_old).unwrap_or_else(|| frame.bytes.clone());
        let Segment::Data(bytes) = &pipe.flight[frame.segment] else { unreachable!("frames are of bytes") };
        let changed = [&bytes[..frame.end], &again, &bytes[frame.end..]].concat();
        put(pipe, frame.segment, changed);
        self.recorded = Some(frame.bytes);
        self.replayed += 1;
        self.say_of_network(format_args!("someone repeats a frame of {} bytes to {link:?}", again.len()));
    }

    /// Connections between nodes that go on although somebody has changed what they carry.
    pub(super) fn tampered_links(&self) -> usize {
        let is_alive =
            |party: &Party| matches!(party, Party::Node { index, life } if self.lives(*index, *life));
        let goes_on = |stream: &&super::sockets::Stream| {
            stream.pipes.iter().any(|pipe| pipe.tampered)
                && stream.pipes.iter().all(|pipe| !pipe.closed)
                && stream.parties.iter().all(is_alive)
        };
        self.streams.all().filter(goes_on).count()
    }

    fn any_link(&mut self) -> Option<Connection> {
        let between_nodes = |stream: &super::sockets::Stream| {
            stream.parties.iter().all(|party| matches!(party, Party::Node { .. }))
        };
        let links: Vec<u64> = self.streams.where_so(between_nodes).collect();
        let id = *links.get(self.prng.below(links.len().max(1) as u64) as usize)?;
        Some(Connection { id, side: self.prng.below(2) as usize })
    }
    fn pipe(&mut self, Connection { id, side }: Connection) -> &mut Pipe {
        &mut self.streams.get(id).expect("it was just found").pipes[side]
    }
}

/// Puts changed bytes in a segment's place.
fn put(pipe: &mut Pipe, at: usize, bytes: Vec<u8>) {
    let Segment::Data(before) = &pipe.flight[at] else { unreachable!("bytes take the place of bytes") };
    pipe.outstanding = pipe.outstanding + bytes.len() - before.len();
    pipe.flight[at] = Segment::Data(bytes.into());
    pipe.tampered = true;
}

/// The first whole frame in the bytes that are on their way. Its header is in the clear on every link.
fn whole_frame(flight: &VecDeque<Segment>) -> Option<Frame> {
    let mut ends = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    for segment in flight {
        let Segment::Data(data) = segment else { break };
        bytes.extend_from_slice(data);
        ends.push(bytes.len());
    }
    let magic = MAGIC.to_le_bytes();
    let start = bytes.windows(magic.len()).position(|window| window == magic)?;
    let header = Header::parse(bytes[start..].first_chunk::<HEADER_BYTES>()?).ok()?;
    let end = start + header.length;
    let frame = Bytes::copy_from_slice(bytes.get(start..end)?);
    let segment = ends.partition_point(|of_segment| *of_segment < end);
    let before = segment.checked_sub(1).map_or(0, |before| ends[before]);
    Some(Frame { bytes: frame, segment, end: end - before })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GroupId, NodeId, Term};
    use crate::crypto::DirectionKeys;
    use crate::wire::frame::Lane;
    use crate::wire::raft;
    use crate::wire::sealer::Sealer;

    #[test]
    fn a_frame_is_found_however_it_is_cut() {
        let mut sealer = Sealer::new(NodeId(1), DirectionKeys::derive(&[1; 32], false));
        let message = raft::Message::TimeoutNow { term: Term(5) }.into();
        sealer.push(Lane::Urgent, GroupId(1), &message).expect("it fits");
        let frame = sealer.seal(Lane::Urgent).parts.concat();
        let stream = [b"the end of something", &frame[..], b"and more"].concat();
        for step in [1, 7, 64, stream.len()] {
            let flight = stream.chunks(step).map(|bytes| Segment::Data(Bytes::copy_from_slice(bytes)));
            let found = whole_frame(&flight.collect()).expect("it is there");
            assert_eq!(found.bytes, frame);
            let before: usize = stream.chunks(step).take(found.segment).map(<[u8]>::len).sum();
            assert_eq!(before + found.end, 20 + frame.len(), "cut every {step} bytes");
        }
        let cut: VecDeque<Segment> = [Segment::Data(Bytes::copy_from_slice(&stream[..40]))].into();
        assert!(whole_frame(&cut).is_none());
    }
}
