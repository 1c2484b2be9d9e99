//! What waits to be sent over one link: two lanes, of which the urgent one always goes first.
//!
//! Frames of one link share a stream, so an urgent frame waits for what is being sent and for nothing else; what is sent at once is
//! therefore bounded. Nothing is dropped here: `seal` bounds what comes in.

use crate::wire::frame::Lane;
use crate::wire::sealer::Sealed;
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes that one send takes, unless a single frame is longer.
pub const SEND_BYTES_AIM: usize = 256 << 10;
/// Pieces that one send takes, unless a single frame has more: what the kernel takes in one call.
pub const SEND_PARTS_AIM: usize = 1024;

/// The frames of one link.
#[derive(Default)]
pub struct Queue {
    lanes: [VecDeque<Sealed>; 2],
    bytes: usize,
}

impl Queue {
    /// Adds a frame at its lane's end.
    pub fn push(&mut self, lane: Lane, frame: Sealed) {
        self.bytes += frame.bytes;
        self.lanes[lane as usize].push_back(frame);
    }
    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }
    /// Moves what the next send takes to `parts`; says how many bytes that are. At least one frame, if there is any.
    pub fn take(&mut self, parts: &mut Vec<Bytes>) -> usize {
        let mut taken = 0;
        for lane in &mut self.lanes {
            while let Some(next) = lane.front() {
                let fits =
                    taken + next.bytes <= SEND_BYTES_AIM && parts.len() + next.parts.len() <= SEND_PARTS_AIM;
                if !fits && 0 < taken {
                    self.bytes -= taken;
                    return taken;
                }
                let mut frame = lane.pop_front().expect("it was there");
                taken += frame.bytes;
                parts.append(&mut frame.parts);
            }
        }
        self.bytes -= taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize, parts: usize) -> Sealed {
        assert!(parts <= bytes);
        let mut pieces = vec![Bytes::from_static(b"x"); parts - 1];
        pieces.push(vec![0; bytes - (parts - 1)].into());
        Sealed { parts: pieces, bytes, messages: 1 }
    }

    #[test]
    fn urgent_frames_wait_for_one_send_only_and_each_lane_keeps_its_order() {
        let mut queue = Queue::default();
        for bytes in [200 << 10, 100 << 10, 101 << 10] {
            queue.push(Lane::Bulk, frame(bytes, 1));
        }
        let mut parts = Vec::new();
        assert_eq!(queue.take(&mut parts), 200 << 10);
        queue.push(Lane::Urgent, frame(10, 1));
        queue.push(Lane::Urgent, frame(11, 1));
        parts.clear();
        assert_eq!(queue.take(&mut parts), 21 + (201 << 10));
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [10, 11, 100 << 10, 101 << 10]);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn a_frame_longer_than_a_send_goes_alone_and_many_pieces_are_spread_over_sends() {
        let mut queue = Queue::default();
        queue.push(Lane::Bulk, frame(SEND_BYTES_AIM * 2, 1));
        (0..3).for_each(|_| queue.push(Lane::Bulk, frame(1000, 500)));
        let mut sends = Vec::new();
        while !queue.is_empty() {
            let mut parts = Vec::new();
            let bytes = queue.take(&mut parts);
            sends.push((bytes, parts.len()));
        }
        assert_eq!(sends, [(SEND_BYTES_AIM * 2, 1), (2000, 1000), (1000, 500)]);
    }
}
