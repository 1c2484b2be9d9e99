//! Cuts a stream into frames. Each frame lands in aligned memory of its own, which everyone later shares.

use crate::wire::codec::Heads;
use crate::wire::frame::{FrameError, HEADER_BYTES, Header};
use bytes::Bytes;

/// What has come of the frame that is on its way.
#[derive(Default)]
pub struct Assembler {
    /// Invariant: shorter than `wanted`.
    frame: Heads,
    /// Length of the whole frame, once its header is there.
    wanted: Option<usize>,
}

impl Assembler {
    /// Whether a part of a frame has come, and not yet the rest.
    pub fn is_amid_frame(&self) -> bool {
        !self.frame.is_empty()
    }
    /// Takes bytes in; hands each whole frame to `take`. After an error the stream is out of step for good.
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(Bytes)) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let wanted = self.wanted.unwrap_or(HEADER_BYTES);
            let (head, rest) = bytes.split_at(bytes.len().min(wanted - self.frame.len()));
            self.frame.extend_from_slice(head);
            bytes = rest;
            if self.wanted.is_none()
                && let Some(header) = self.frame.first_chunk()
            {
                // The length has been checked against the largest frame, so this is a bounded reservation.
                let length = Header::parse(header)?.length;
                self.frame.reserve_exact(length - HEADER_BYTES);
                self.wanted = Some(length);
            }
            if self.wanted == Some(self.frame.len()) {
                self.wanted = None;
                take(Bytes::from_owner(std::mem::take(&mut self.frame)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GroupId, NodeId, Term};
    use crate::crypto::DirectionKeys;
    use crate::wire::frame::Lane;
    use crate::wire::raft;
    use crate::wire::sealer::Sealer;

    fn stream() -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut sealer = Sealer::new(NodeId(1), DirectionKeys::derive(&[1; 32], false));
        let mut frame = |messages: u64| {
            for term in 0..messages {
                let message = raft::Message::TimeoutNow { term: Term(term) }.into();
                sealer.push(Lane::Urgent, GroupId(1), &message).expect("it fits");
            }
            sealer.seal(Lane::Urgent).parts.concat()
        };
        let frames: Vec<_> = [0, 3, 0, 40].map(&mut frame).into();
        let bytes = frames.concat();
        (frames, bytes)
    }

    #[test]
    fn frames_come_out_whole_and_aligned_however_the_stream_is_cut() {
        let (frames, bytes) = stream();
        for step in (1..200).chain([bytes.len()]) {
            let mut assembler = Assembler::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                assembler.push(piece, |frame| seen.push(frame)).expect("a good stream");
            }
            assert!(seen.iter().all(|frame| (frame.as_ptr() as usize).is_multiple_of(16)));
            assert_eq!(seen, frames, "cut every {step} bytes");
        }
    }

    #[test]
    fn a_stream_out_of_step_is_told_at_the_next_header() {
        let (_, bytes) = stream();
        let mut assembler = Assembler::default();
        let mut seen = 0;
        let ended = assembler.push(&bytes[1..], |_| seen += 1);
        assert!(matches!(ended, Err(FrameError::Magic { .. })) && seen == 0);
    }
}
